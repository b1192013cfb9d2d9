"""A data set on the hub: the parquet files of the requested splits, downloaded once into the hub's cache."""

from __future__ import annotations

from twincar.core.hub import Repository, fetch
from twincar.data.sources.base import SPLIT_WORDS, Source
from twincar.data.sources.parquet import open_parquet

_ALTERNATIVES = "Or download its parquet files elsewhere and give their folder, or start with the embedded 'toycars'."


def open_hub(spec: str, splits: tuple[str, ...], *, allow_untrained: bool = False) -> Source:
    """Download the data set `hub:owner/name[@revision]`, unless it is in the cache; see `open_parquet`.

    Raises:
        UsageError: `spec` has another form.
        HubError: the hub cannot be reached, knows no such data set, denies access, or sends other data.
        DataError: it has other files.
        StorageError: the cache cannot be written.
    """
    repository = Repository.parse(spec, "dataset")
    words = {*splits, *(word for word, split in SPLIT_WORDS.items() if split in splits)}
    folder = fetch(repository, [f"data/{word}-*.parquet" for word in sorted(words)], otherwise=_ALTERNATIVES)
    return open_parquet(
        folder,
        splits,
        description=f"hub:{repository.name}",
        revision=folder.name,
        allow_untrained=allow_untrained,
    )

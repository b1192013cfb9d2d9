"""A hub data set: the parquet files of the splits asked for, fetched once and kept in the hub's cache."""

from __future__ import annotations

from twincar.core.hub import Repository, fetch
from twincar.data.sources.base import SPLIT_WORDS, Source
from twincar.data.sources.parquet import open_parquet

_WAYS_OUT = "Or fetch its parquet files elsewhere and give their folder, or begin with the embedded data set 'toycars'."


def open_hub(spec: str, splits: tuple[str, ...], *, allow_untrained: bool = False) -> Source:
    """Fetch the data set `hub:owner/name[@revision]`, or take it from the cache; see `open_parquet`.

    Raises:
        UsageError: `spec` has another form.
        HubError: the hub cannot be reached, knows no such data set, refuses it, or sends something else.
        DataError: it has other files there.
        StorageError: the cache cannot be written.
    """
    repository = Repository.parse(spec, "dataset")
    words = {*splits, *(word for word, split in SPLIT_WORDS.items() if split in splits)}
    folder = fetch(repository, [f"data/{word}-*.parquet" for word in sorted(words)], otherwise=_WAYS_OUT)
    return open_parquet(
        folder,
        splits,
        description=f"hub:{repository.name}",
        revision=folder.name,
        allow_untrained=allow_untrained,
    )

"""A hub data set: the parquet files of the splits asked for, fetched once and kept in the hub's cache.

`huggingface_hub` does the work: it resumes, shows progress, and honours HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import constants, errors, snapshot_download

from twincar.data.sources.base import SPLIT_WORDS, Source
from twincar.data.sources.parquet import open_parquet
from twincar.errors import DataError, StorageError, UsageError, storage_errors

_SPEC = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s@]+))?")
_WAYS_OUT = "Or fetch its parquet files elsewhere and give their folder, or begin with the embedded data set 'toycars'."


def open_hub(spec: str, splits: tuple[str, ...], *, allow_untrained: bool = False) -> Source:
    """Fetch the data set `owner/name[@revision]`, or take it from the cache; see `open_parquet`.

    Raises:
        UsageError: `spec` has another form.
        DataError: the hub cannot be reached, knows no such data set, refuses it, or has other files there.
        StorageError: the cache cannot be written.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(f"Expected hub:owner/name or hub:owner/name@revision, and found 'hub:{spec}'.")
    folder = _fetch(match["repo"], match["revision"], splits)
    # The library names the folder of a snapshot after its commit.
    return open_parquet(
        folder,
        splits,
        description=f"hub:{match['repo']}",
        revision=folder.name,
        allow_untrained=allow_untrained,
    )


def _fetch(repo: str, revision: str | None, splits: tuple[str, ...]) -> Path:
    words = {*splits, *(word for word, split in SPLIT_WORDS.items() if split in splits)}
    patterns = [f"data/{word}-*.parquet" for word in sorted(words)]
    try:
        with storage_errors(constants.HF_HUB_CACHE):
            return Path(snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except StorageError:
        raise
    except Exception as error:  # which ones differs between versions of the library and of its HTTP client
        raise DataError(_why_not(repo, revision, error)) from error


def _why_not(repo: str, revision: str | None, error: Exception) -> str:
    expected = f"Expected the data set '{repo}' from {constants.ENDPOINT}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{expected} at the revision '{revision}', and it has no such revision. Leave it out, or look it up."
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return (
            f"{expected}, and it is not there or not open to you (HTTP {status}). Check the name; if it is private or "
            f"gated, accept its terms on its page and log in (hf auth login, or HF_TOKEN). {_WAYS_OUT}"
        )
    if constants.HF_HUB_OFFLINE:
        return (
            f"{expected}, but HF_HUB_OFFLINE is set and the cache {constants.HF_HUB_CACHE} does not hold all of it. "
            f"Unset it where there is a network. {_WAYS_OUT}"
        )
    reason = next(iter(str(error).splitlines()), type(error).__name__).removeprefix("Got: ")
    return (
        f"{expected}, and it could not be fetched: {reason}. Check the network and run the same command again; "
        f"what has been fetched is kept. {_WAYS_OUT}"
    )

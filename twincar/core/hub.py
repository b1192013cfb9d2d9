"""Model and data set repositories on a hub: parsing their names, downloading and checking them, publishing.

`huggingface_hub` does the work: it resumes broken downloads, keeps files in its own cache, and honours HF_HOME,
HF_ENDPOINT and HF_HUB_OFFLINE. Tokens come from HF_TOKEN or the hub's own login (`hf auth login`); TwinCar stores none.
The library is imported when it is needed, because its import takes a third of a second.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from twincar.core.errors import HubError, StorageError, UsageError, reason, storage_errors
from twincar.core.files import sha256_of_file
from twincar.core.labels import shorten

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["model", "dataset"]

_SPEC = re.compile(r"(hub:)?(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s@]+))?")
MODEL_SUFFIXES = (".onnx", ".safetensors", ".pth", ".pt")  # taken for files; a repository of such a name needs hub:
_SHA256, _SHA1 = 64, 40  # hexadecimal digits
_NOUNS: dict[Kind, str] = {"model": "model", "dataset": "data set"}
_LOG_IN = "Log in (hf auth login) or set HF_TOKEN to a token that may write; or use --out, which publishes nothing."


@dataclass(frozen=True)
class Repository:
    """A repository on the hub, at one of its revisions."""

    name: str
    """owner/name."""
    kind: Kind
    revision: str | None = None
    """Branch, tag or commit; None is the newest commit of the main branch."""

    @classmethod
    def parse(cls, spec: str, kind: Kind) -> Repository:
        """Parse `owner/name` or `owner/name@revision`, with or without `hub:` before it.

        Raises:
            UsageError: `spec` has another form.
        """
        match = _SPEC.fullmatch(spec)
        if match is None:
            form = "hub:owner/name" if kind == "dataset" else "owner/name"
            raise UsageError(f"Expected {form} or {form}@revision on the hub, but found {spec!r}.")
        return cls(match["name"], kind, match["revision"])

    def __str__(self) -> str:
        """Its name in messages."""
        return f"the {_NOUNS[self.kind]} '{self.name}'"


def find_repository(model: str | Path, revision: str | None = None) -> Repository | None:
    """The repository that the name of a model stands for; None if it is a path on this computer.

    `hub:owner/name[@revision]` is always a repository. `owner/name[@revision]` is one unless such a path or a folder
    `owner` exists, or the suffix is that of a model file: a misspelt path must not be requested over the network.

    Args:
        model: what the user wrote; a `Path` is always a path.
        revision: branch, tag or commit; another way to write `@revision`.

    Raises:
        UsageError: the form is wrong, or a revision is given without a repository or twice.
    """
    found = Repository.parse(str(model), "model") if _is_repository(model) else None
    if revision is None:
        return found
    if found is None:
        raise UsageError(f"Expected a revision with a model on the hub only (owner/name), but {model} is a path.")
    if found.revision not in (None, revision):
        raise UsageError(f"Expected one revision, but found both {found.revision!r} and {revision!r}.")
    return Repository(found.name, found.kind, revision)


def _is_repository(model: str | Path) -> bool:
    if isinstance(model, Path):
        return False
    if model.startswith("hub:"):
        return True
    path = Path(model)
    local = path.exists() or Path(path.parts[0] if path.parts else ".").exists() or path.suffix in MODEL_SUFFIXES
    return not local and _SPEC.fullmatch(model) is not None


def fetch(repository: Repository, patterns: Sequence[str], *, otherwise: str) -> Path:
    """Download the files of a repository that match `patterns`, unless they are in the cache; returns their folder.

    The folder's name is the commit. The library checks sizes; this function also compares each file with the hash that
    the hub gives for it, by which the cache names the file. A file that differs is removed from the cache. If the cache
    cannot hold symbolic links, it does not name files by their hashes, and only sizes are checked.

    Args:
        repository: which one.
        patterns: such as `data/train-*.parquet`; files that match none are not downloaded.
        otherwise: what else the user can do, a sentence for the end of an error message.

    Raises:
        HubError: the hub cannot be reached, knows no such repository or revision, denies access, or sends other data.
        StorageError: the cache cannot be written.
    """
    from huggingface_hub import constants, snapshot_download

    with _hub_errors(repository, otherwise), storage_errors(constants.HF_HUB_CACHE), _safe_etags(repository):
        name = snapshot_download(
            repository.name,
            repo_type=repository.kind,
            revision=_resolved(repository),
            allow_patterns=list(patterns),
        )
    folder = Path(name)
    for pattern in patterns:
        for path in folder.glob(pattern):
            _check(path, path.relative_to(folder).as_posix(), repository)
    return folder


def _resolved(repository: Repository) -> str | None:
    """The revision, resolved to its commit and checked: it becomes part of paths, and the library trusts the hub."""
    from huggingface_hub import HfApi

    resolve = getattr(HfApi(), "resolve_revision", None)  # older versions resolve it during the download
    if resolve is None:
        return repository.revision
    resolved = resolve(repository.name, repo_type=repository.kind, revision=repository.revision)
    if not re.fullmatch(f"[0-9a-f]{{{_SHA1}}}", resolved.resolved):
        raise HubError(
            f"Expected a commit of {repository}, but the hub sent {resolved.resolved[:100]!r}, which is not one."
        )
    revision: str = resolved
    return revision


@contextmanager
def _safe_etags(repository: Repository) -> Iterator[None]:
    """Refuse an ETag that is not a plain name: the library uses it in paths, which could then lead anywhere."""
    from huggingface_hub import get_session

    def check(response: Any) -> None:
        for header in ("etag", "x-linked-etag"):
            etag = response.headers.get(header)
            if etag is not None and not re.fullmatch(r'(W/)?"?\w[\w.-]*"?', etag):
                raise HubError(
                    f"Expected the hash of a file of {repository}, but the hub sent {etag[:100]!r}, which is not one."
                )

    session = get_session()
    before = session.event_hooks
    session.event_hooks = {**before, "response": [*before["response"], check]}
    try:
        yield
    finally:
        session.event_hooks = before


def publish(folder: Path, repository: Repository, *, private: bool, message: str, own_files: Sequence[str]) -> str:
    """Upload the files in `folder` to a repository in one commit; the repository is created if it does not exist.

    Args:
        folder: holds the files, and no folders.
        repository: its main branch is written.
        private: visible to its owner only.
        message: of the commit.
        own_files: names of files that are deleted if `folder` no longer has them; all other files stay.

    Returns:
        The commit.

    Raises:
        HubError: the hub cannot be reached or refuses, or the repository is public but should be private.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, name = HfApi(), repository.name
    with _hub_errors(repository, "Nothing was published."):
        api.create_repo(name, repo_type=repository.kind, private=private or None, exist_ok=True)
        if private:
            _check_private(api, repository)
        there = set(api.list_repo_files(name, repo_type=repository.kind))
        files = {path.name: path for path in sorted(folder.iterdir())}
        commit = api.create_commit(
            name,
            repo_type=repository.kind,
            operations=[
                *(CommitOperationAdd(path_in_repo=file, path_or_fileobj=path) for file, path in files.items()),
                *(
                    CommitOperationDelete(path_in_repo=file)
                    for file in own_files
                    if file in there and file not in files
                ),
            ],
            commit_message=message,
        )
    return str(commit.oid)


def check_publishing(repository: Repository, *, private: bool) -> None:
    """Check, before any work is done, that the user is logged in and may write there.

    Args:
        repository: where to publish; it need not exist yet.
        private: whether it should be visible to its owner only.

    Raises:
        HubError: the token is missing, invalid or may not write there; the network is switched off or fails; or the
            repository is public but should be private.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError("Expected network access to publish, but HF_HUB_OFFLINE is set. Unset it, or use --out.")
    if get_token() is None:
        raise HubError(f"Expected you to be logged in to {constants.ENDPOINT}, but there is no token. {_LOG_IN}")
    api = HfApi()
    with _hub_errors(repository, "Nothing was published."):
        _check_writer(_token_owner(api), repository)
        if private and api.repo_exists(repository.name, repo_type=repository.kind):
            _check_private(api, repository)


def _token_owner(api: HfApi) -> dict[str, Any]:
    """What the hub knows about the token and its owner."""
    try:
        return dict(api.whoami())
    except Exception as error:  # the class differs between versions of the library
        if _status(error) != 401:
            raise
        raise HubError(f"Expected a valid token, but {api.endpoint} does not know it (HTTP 401). {_LOG_IN}") from error


def _check_writer(owner: Mapping[str, Any], repository: Repository) -> None:
    token = (owner.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubError(f"Expected a token that may write, but {owner['name']}'s may only read. {_LOG_IN}")
    names = [str(owner["name"]), *(str(organization["name"]) for organization in owner.get("orgs") or [])]
    wanted = repository.name.partition("/")[0]
    if wanted.casefold() not in {name.casefold() for name in names}:
        raise HubError(
            f"Expected a token of '{wanted}', or of one of its members, but found one that may write for "
            f"{shorten(names)}. Publish as {names[0]}/NAME, or log in as somebody else (hf auth login, or HF_TOKEN)."
        )


def page_of(repository: Repository) -> str:
    """Address of the repository's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.name}"


def _check_private(api: HfApi, repository: Repository) -> None:
    if not api.repo_info(repository.name, repo_type=repository.kind).private:
        raise HubError(
            f"Expected {repository} to be private, but it exists and is public. Nothing was published; make it private "
            f"on its page ({page_of(repository)}), or choose another name."
        )


def _check(path: Path, name: str, repository: Repository) -> None:
    """Compare a file in the cache, `name` in its repository, with its hash; remove it if it differs."""
    if not path.is_symlink():
        return
    blob = path.parent / path.readlink()
    if blob.name in _hashes(path, digits=len(blob.name)):
        return
    for file in (path.resolve(), blob, path):  # the blob may itself be a link, into a store that repositories share
        file.unlink(missing_ok=True)
    raise HubError(
        f"Expected {name} of {repository} as the hub describes it, but the download has another hash. It was removed "
        "from the cache; run the same command again. If that does not help, something between changes the files."
    )


def _hashes(path: Path, *, digits: int) -> set[str]:
    """Names the cache may give a file: SHA-256 of a large one, git's SHA-1 of others (a mirror may use plain SHA-1)."""
    if digits == _SHA256:
        return {sha256_of_file(path)}
    if digits == _SHA1:
        data = path.read_bytes()
        return {hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), hashlib.sha1(data).hexdigest()}
    return {(path.parent / path.readlink()).name}  # an ETag that is not a hash proves nothing


@contextmanager
def _hub_errors(repository: Repository, otherwise: str) -> Iterator[None]:
    """Raise any error of the library as one `HubError`."""
    try:
        yield
    except (HubError, StorageError):
        raise
    except Exception as error:  # the classes differ between versions of the library and of its HTTP client
        raise HubError(f"{_describe_failure(repository, error)} {otherwise}") from error


def _describe_failure(repository: Repository, error: Exception) -> str:
    from huggingface_hub import constants, errors

    expected = f"Expected {repository} from {constants.ENDPOINT}"
    status = _status(error)
    # For an invalid value, such as a licence that the hub does not know, the lines after the first name it.
    whole = " ".join(str(error).split()) if isinstance(error, ValueError) else ""
    message = (whole or reason(error)).removeprefix("Got: ").rstrip(".")
    if isinstance(error, errors.HFValidationError):
        return f"Expected a valid repository name, but found '{repository.name}': {message}."
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{expected} at the revision '{repository.revision}', but it has no such revision. Leave it out, or look "
            "it up on the repository's page."
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return (
            f"{expected}, but it does not exist or you have no access (HTTP {status}). Check the name; if it is "
            "private or gated, accept its terms on its page and log in (hf auth login, or HF_TOKEN)."
        )
    if constants.HF_HUB_OFFLINE:
        return (
            f"{expected}, but HF_HUB_OFFLINE is set and the cache {constants.HF_HUB_CACHE} does not hold all of it. "
            "Unset it where there is a network."
        )
    return (
        f"{expected}, but the transfer failed: {message}. Check the network and run the same command again; files that "
        "were transferred completely are kept."
    )


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of an error, or of the error that it wraps."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__
    return None

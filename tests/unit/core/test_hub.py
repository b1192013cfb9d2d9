"""What comes from the hub is whole or there is one sentence; what goes there goes in one commit."""

from __future__ import annotations

from pathlib import Path

import hub_server
import numpy as np
import pytest
from hub_server import COMMIT, HubClient, HubServer, sha256

from twincar.core.errors import HubError, UsageError
from twincar.core.hub import Repository, check_publishing, fetch, find_repository, publish

CARS = Repository("someone/cars", "model")
BLOCK = 10 * 1024**2  # bytes; the library writes what it gets in such blocks
LARGE = np.random.default_rng(0).bytes(2000)


def get(repository: Repository = CARS, *patterns: str) -> Path:
    return fetch(repository, patterns or ["*"], otherwise="Or walk.")


def refused(repository: Repository = CARS, *patterns: str) -> str:
    with pytest.raises(HubError) as caught:
        get(repository, *patterns)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- which one is meant


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("someone/cars", ("someone/cars", None)),
        ("someone/cars@v1.0", ("someone/cars", "v1.0")),
        ("hub:someone/cars@refs/pr/1", ("someone/cars", "refs/pr/1")),
        ("hub:someone/cars.onnx", ("someone/cars.onnx", None)),
        ("hub:runs/gone", ("runs/gone", None)),
        ("someone/cars.onnx", None),
        ("cars", None),
        ("", None),
        ("a/b/c", None),
        ("/someone/cars", None),
        ("runs/gone", None),
        ("runs/cars", None),
        (Path("someone/cars"), None),
    ],
)
def test_what_a_name_stands_for(
    model: str | Path, expected: tuple[str, str | None] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "cars").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = find_repository(model)
    assert (found and (found.name, found.revision)) == expected


def test_a_path_that_is_there_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_repository("someone/cars") == CARS
    (tmp_path / "someone" / "cars").mkdir(parents=True)
    assert find_repository("someone/cars") is None
    assert find_repository("hub:someone/cars") == CARS


def test_a_revision_goes_with_a_repository_once() -> None:
    pinned = Repository("someone/cars", "model", "v1")
    assert find_repository("someone/cars", "v1") == find_repository("someone/cars@v1", "v1") == pinned
    with pytest.raises(UsageError, match="both 'v2' and 'v1'"):
        find_repository("someone/cars@v2", "v1")
    with pytest.raises(UsageError, match=r"but cars\.onnx is a path"):
        find_repository("cars.onnx", "v1")
    with pytest.raises(UsageError, match="or owner/name@revision on the hub, but found 'hub:cars'"):
        find_repository("hub:cars")


# --- fetching


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_files_come_whole_and_only_those_asked_for(hub_client: HubClient, kind: str) -> None:
    repository = Repository("someone/cars", kind)  # type: ignore[arg-type]
    with HubServer({"a.onnx": LARGE, "b.txt": b"small", "c.txt": b"other"}, kind=f"{kind}s") as hub:
        hub_client.use(hub)
        folder = get(repository, "a.*", "b.txt")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.onnx": LARGE, "b.txt": b"small"}
        assert folder.name == COMMIT
        assert sorted(hub.fetched) == [("a.onnx", ""), ("b.txt", "")]
        assert get(repository, "b.txt") == folder
        assert len(hub.fetched) == 2
    assert get(repository, "a.onnx") == folder  # the network is gone, and nobody has said so
    hub_client.set(HF_HUB_OFFLINE=True)
    assert get(repository, "a.onnx") == folder


def test_a_revision_is_what_it_was(hub_client: HubClient) -> None:
    with HubServer({"a.txt": b"old"}, kind="models") as hub:
        hub_client.use(hub)
        hub.commits["f" * 40] = {"a.txt": b"new"}
        assert (get() / "a.txt").read_bytes() == b"new"
        pinned = get(Repository("someone/cars", "model", COMMIT))
        assert (pinned.name, (pinned / "a.txt").read_bytes()) == (COMMIT, b"old")


@pytest.mark.parametrize("etag", ["{folder}/evil", "../../../../../evil", "..", ""])
def test_an_etag_that_leads_out_of_the_cache_is_refused(
    etag: str, hub_client: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_server, "git_hash", lambda _: etag.format(folder=tmp_path))
    with HubServer({"a.txt": b"bad"}, kind="models") as hub:
        hub_client.use(hub)
        with pytest.raises(HubError, match="Expected the hash of a file"):
            get()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"bad"] == []
    assert not list(tmp_path.glob("evil*"))


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_connection_that_breaks_is_resumed(hub_client: HubClient, kind: str) -> None:
    data = np.random.default_rng(0).bytes(BLOCK + 2000)
    with HubServer({"a.onnx": data}, kind=f"{kind}s", drop_at=BLOCK + 1000) as hub:
        hub_client.use(hub)
        assert (get(Repository("someone/cars", kind)) / "a.onnx").read_bytes() == data  # type: ignore[arg-type]
        assert hub.fetched == [("a.onnx", ""), ("a.onnx", f"bytes={BLOCK}-")]


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize("name", ["a.onnx", "a.txt"])
def test_a_file_that_never_comes_whole_is_not_used(hub_client: HubClient, kind: str, name: str) -> None:
    repository = Repository("someone/cars", kind)  # type: ignore[arg-type]
    with HubServer({name: LARGE}, kind=f"{kind}s", cut_at=1000) as hub:
        hub_client.use(hub)
        message = refused(repository)
        assert "run the same command again" in message
        assert "Or walk." in message
        assert list(hub_client.cache.glob(f"*/snapshots/*/{name}")) == []
        assert [path for path in hub_client.cache.glob("*/blobs/*") if path.stat().st_size] == []
        hub.cut_at = 0
        assert (get(repository) / name).read_bytes() == LARGE


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize("name", ["a.onnx", "a.txt"])
def test_a_file_with_another_hash_is_not_used_nor_kept(hub_client: HubClient, kind: str, name: str) -> None:
    repository = Repository("someone/cars", kind)  # type: ignore[arg-type]
    with HubServer({name: LARGE}, kind=f"{kind}s", changed=name) as hub:
        hub_client.use(hub)
        assert f"Expected {name} of the" in refused(repository)
        assert list(hub_client.cache.glob("*/blobs/*")) == []
        hub.changed = ""
        assert (get(repository) / name).read_bytes() == LARGE


def test_a_file_that_rots_in_the_cache_is_found_and_fetched_again(hub_client: HubClient) -> None:
    with HubServer({"a.onnx": LARGE}, kind="models") as hub:
        hub_client.use(hub)
        (blob,) = (get() / "a.onnx").parents[2].glob("blobs/*")
        assert blob.name == sha256(LARGE)
        blob.write_bytes(LARGE[:-1])
        assert "another hash" in refused()
        assert (get() / "a.onnx").read_bytes() == LARGE


def test_what_is_wrong_is_told_in_one_sentence(hub_client: HubClient) -> None:
    hub_client.set(HF_HUB_OFFLINE=True)
    assert "HF_HUB_OFFLINE is set and the cache" in refused()
    hub_client.set(HF_HUB_OFFLINE=False)
    with HubServer({"a.txt": b""}, kind="models") as hub:
        hub_client.use(hub)
        assert "the model 'someone/else'" in refused(Repository("someone/else", "model"))
        assert "does not exist or you have no access (HTTP 404)" in refused(Repository("someone/else", "model"))
        assert "the data set 'someone/cars'" in refused(Repository("someone/cars", "dataset"))
        assert "revision 'v9', but it has no such" in refused(Repository("someone/cars", "model", "v9"))
        assert "valid repository name, but found 'a--b/c'" in refused(Repository("a--b/c", "model"))
    assert "Check the network" in refused()
    with HubServer({"a.txt": b"mine"}, kind="models", token="secret") as hub:
        hub_client.use(hub)
        assert "no access (HTTP 401)" in refused()
        hub_client.use(hub, token="wrong")
        assert "log in (hf auth login, or HF_TOKEN)" in refused()
        hub_client.use(hub, token="secret")
        assert (get() / "a.txt").read_bytes() == b"mine"


# --- publishing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("---\nlicense: mit\n---\nA card.\n")
    (tmp_path / "out" / "model.onnx").write_bytes(LARGE)
    return tmp_path / "out"


def put(folder: Path, *, private: bool = False, ours: tuple[str, ...] = ()) -> str:
    return publish(folder, CARS, private=private, message="New cars", own_files=ours)


def test_a_folder_is_published_in_one_commit_and_comes_back(hub_client: HubClient, folder: Path) -> None:
    with HubServer(None, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        commit = put(folder)
        assert (commit, hub.messages, hub.private) == (hub.head, ["New cars"], False)
        assert set(hub.files) == {".gitattributes", "README.md", "model.onnx"}
        fetched = get(Repository("someone/cars", "model", commit), "*.onnx", "*.md")
        assert (fetched / "model.onnx").read_bytes() == LARGE
        assert (fetched / "README.md").read_text().endswith("A card.\n")


def test_what_is_ours_and_no_more_there_goes_and_the_rest_stays(hub_client: HubClient, folder: Path) -> None:
    files = {"config.json": b"{}", "notes.txt": b"theirs", "model.onnx": b"old"}
    with HubServer(files, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        put(folder, ours=("config.json", "model.onnx", "never.there"))
        assert set(hub.files) == {"README.md", "notes.txt", "model.onnx"}
        assert hub.files["model.onnx"] == LARGE
        assert hub.commits[COMMIT] == files  # what was there is still to be had


def test_private_is_private_or_nothing_is_published(hub_client: HubClient, folder: Path) -> None:
    with HubServer(None, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        put(folder, private=True)
        assert hub.private
    with HubServer({}, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        with pytest.raises(HubError, match="to be private, but it exists and is public"):
            put(folder, private=True)
        assert hub.commits == {COMMIT: {}}
        assert hub.uploaded == {}


def test_who_may_not_publish_is_told_before_any_work(hub_client: HubClient) -> None:
    with HubServer(None, kind="models", token="secret") as hub:
        hub_client.use(hub)
        with pytest.raises(HubError, match="but there is no token"):
            check_publishing(CARS, private=False)
        hub_client.use(hub, token="wrong")
        with pytest.raises(HubError, match=r"Expected a valid token.*\(HTTP 401\)"):
            check_publishing(CARS, private=False)
        hub_client.use(hub, token="secret")
        check_publishing(CARS, private=True)  # there is no such repository yet
        hub.writer["name"] = "Somebody"
        with pytest.raises(HubError, match=r"a token of 'someone'.*may write for 'Somebody'"):
            check_publishing(CARS, private=False)
        hub.writer["orgs"] = [{"name": "SomeOne"}]
        check_publishing(CARS, private=False)
        hub.writer["auth"] = {"accessToken": {"role": "read"}}
        with pytest.raises(HubError, match="Somebody's may only read"):
            check_publishing(CARS, private=False)
        assert not any(request.startswith("POST") for request in hub.requests)
        hub_client.set(HF_HUB_OFFLINE=True)
        with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
            check_publishing(CARS, private=False)
    with HubServer({}, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        hub_client.set(HF_HUB_OFFLINE=False)
        check_publishing(CARS, private=False)
        with pytest.raises(HubError, match="to be private, but it exists and is public"):
            check_publishing(CARS, private=True)


def test_a_refusal_by_the_hub_is_told(hub_client: HubClient, folder: Path) -> None:
    with HubServer(None, kind="models", token="secret") as hub:
        hub_client.use(hub, token="wrong")
        with pytest.raises(HubError, match=r"no access \(HTTP 401\).*Nothing was published"):
            put(folder)
        assert hub.commits == {}


def test_a_card_the_hub_does_not_take_is_told_with_its_reason(hub_client: HubClient, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: nonsense\n---\nA card.\n")
    with HubServer({}, kind="models", token="secret") as hub:
        hub_client.use(hub, token="secret")
        with pytest.raises(HubError, match=r'"license" must be one of apache-2\.0'):
            put(folder)
        assert hub.commits == {COMMIT: {}}

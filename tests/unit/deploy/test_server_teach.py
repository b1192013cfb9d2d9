"""A server that may be taught: by HTTP, one car at a time, as a whole or not at all, and over a restart."""

from __future__ import annotations

import gc
import http.client
import json
import logging
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from colour_model import BLUE, CLASSES, GREEN, RED, ColourDetector, paint, write_model, write_teachable
from command_line import run
from fastapi.testclient import TestClient
from test_server import form, in_base64, listening, process, refused

from twincar.core.errors import StorageError, UsageError
from twincar.deploy.server import HttpSettings, serve
from twincar.deploy.server.app import create_app
from twincar.deploy.server.limits import Limits
from twincar.deploy.server.schema import ForgetResponse, ModelDescription, Refused, TeachAsJson, TeachResponse
from twincar.inference import new_photos
from twincar.inference.classifier import Classifier
from twincar.inference.crops import CarFinder

NAME, PANDA = "Seat Arona SUV 2018", "Fiat Panda Hatchback 2020"
KEY = {"X-API-Key": "0123456789abcdef"}
SHADES = [(255, 255, 0), (240, 250, 10), (255, 235, 20), (230, 240, 0), (250, 225, 15)]  # of yellow


class HeldClassifier(Classifier):
    """Computes batches only while its gate is open, as do those that it is taught to be."""

    gate, entered = threading.Event(), threading.Semaphore(0)

    def predict_batch(self, *batch: Any) -> Any:
        self.entered.release()
        assert self.gate.wait(20)
        return super().predict_batch(*batch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_teachable(tmp_path / "colours.onnx")


@pytest.fixture
def classifier(model: Path, monkeypatch: pytest.MonkeyPatch) -> HeldClassifier:
    monkeypatch.setattr(HeldClassifier, "gate", threading.Event())
    monkeypatch.setattr(HeldClassifier, "entered", threading.Semaphore(0))
    HeldClassifier.gate.set()
    found = HeldClassifier.load(model)
    assert isinstance(found, HeldClassifier)
    return found


@pytest.fixture
def client(classifier: HeldClassifier) -> Iterator[TestClient]:
    with ask(classifier) as client:
        yield client


def settings(**more: Any) -> HttpSettings:
    return HttpSettings(api_keys=(KEY["X-API-Key"],), allow_teach=True, **more)


def ask(classifier: Classifier, taught: Path | None = None, **limits: float) -> TestClient:
    chosen = Limits(**limits)  # type: ignore[arg-type]
    app = create_app(classifier, name="cars", limits=chosen, settings=settings(taught=taught))
    return TestClient(app, headers=KEY, raise_server_exceptions=False)


def photos(folder: Path, *colours: tuple[int, int, int]) -> list[tuple[str, tuple[str, bytes]]]:
    """Files of a form; their names are those of a client, which must not be in a log."""
    folder.mkdir(exist_ok=True)
    painted = [paint(folder / f"secret{number}.png", colour) for number, colour in enumerate(colours)]
    return [("photos", (path.name, path.read_bytes())) for path in painted]


def teach(client: TestClient, folder: Path, name: str = NAME, colours: Any = SHADES, **options: str) -> Any:
    return client.post("/v1/teach", files=photos(folder, *colours), data={"name": name, **options})


def predict(client: TestClient, folder: Path, colour: tuple[int, int, int] = (245, 245, 5)) -> dict[str, Any]:
    response = client.post("/v1/predict", files=photos(folder, colour), data={"top_k": "100"})
    found: dict[str, Any] = response.json()["predictions"][0]
    return found


def described(client: TestClient) -> ModelDescription:
    return ModelDescription.model_validate(client.get("/v1/model").json())


def test_a_car_is_taught_named_added_to_and_removed(client: TestClient, tmp_path: Path) -> None:
    before = described(client)
    assert (len(before.classes), before.taught, predict(client, tmp_path)["top_k"][0]["class_name"] == NAME) == (
        6,
        [],
        False,
    )
    response = teach(client, tmp_path, colours=SHADES[:4])
    found = TeachResponse.model_validate(response.json())
    assert (response.status_code, found.name, found.photos, found.added, found.classes) == (200, NAME, 4, 4, 7)
    assert (found.repeated, found.named, found.warning) == (0, 1.0, None)
    now = described(client)
    assert [car.name for car in now.classes] == [*CLASSES, NAME]
    assert [(car.name, car.photos) for car in now.taught] == [(NAME, 4)]
    assert now.sha256 == found.sha256 != before.sha256
    answer = predict(client, tmp_path)
    assert (answer["answer"], answer["make"], answer["year"]) == (NAME, "Seat", 2018)
    assert [predict(client, tmp_path, colour)["top_k"][0]["class_name"] for colour in (RED, GREEN)] == [
        "BMW M3 Sedan 2012", "Volvo C30 Hatchback 2012",
    ]  # fmt: skip
    assert "twincar_taught_photos_total 4.0" in client.get("/metrics").text
    added = teach(client, tmp_path, NAME.upper(), SHADES, add="true").json()
    assert (added["name"], added["photos"], added["added"], added["repeated"]) == (NAME, 5, 1, 4)
    assert "twincar_taught_photos_total 5.0" in client.get("/metrics").text
    gone = client.delete("/v1/teach", params={"name": NAME.lower()})
    forgotten = ForgetResponse.model_validate(gone.json())
    assert (gone.status_code, forgotten.classes, described(client).sha256) == (200, 6, forgotten.sha256)
    assert predict(client, tmp_path)["top_k"][0]["class_name"] != NAME
    refused(client.delete("/v1/teach", params={"name": NAME}), 409, "that was taught (none)")
    refused(client.delete("/v1/teach"), 422, "the name of a car in the address")


def test_photos_in_json_teach_as_those_in_a_form(client: TestClient, tmp_path: Path) -> None:
    encoded = [in_base64(data) for _, (_, data) in photos(tmp_path, *SHADES)]
    found = client.post("/v1/teach", json={"photos": encoded, "name": NAME}).json()
    assert (found["photos"], found["classes"]) == (5, 7)
    again = teach(client, tmp_path, add="true")  # by the hashes of the files, it has them all
    refused(again, 409, "taught by all 5 of them already")


def test_only_where_it_is_allowed_and_only_with_the_key(classifier: HeldClassifier, tmp_path: Path) -> None:
    with TestClient(create_app(classifier, name="cars", settings=HttpSettings(api_keys=("k",)))) as client:
        assert client.post("/v1/teach", headers={"X-API-Key": "k"}).status_code == 404
    with ask(classifier) as client:
        for key in ({"X-API-Key": "wrong"}, {"X-API-Key": ""}):
            sent = client.post("/v1/teach", files=photos(tmp_path, *SHADES), data={"name": NAME}, headers=key)
            refused(sent, 401, "API key")
            refused(client.delete("/v1/teach", params={"name": NAME}, headers=key), 401, "API key")
        assert len(described(client).classes) == 6
        assert client.get("/v1/teach").status_code == 405


def test_what_cannot_be_taught_is_refused_when_the_server_starts(model: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--allow-teach",), "Expected an API key with --allow-teach"),
        (("--taught", tmp_path / "kept.onnx"), "Expected --allow-teach with --taught"),
    ):
        said = run("serve", model, *arguments)
        assert (said.returncode, said.stderr.count("\n"), words in said.stderr) == (2, 1, True)
    with pytest.raises(UsageError, match=r"ending in \.onnx for --taught"):
        settings(taught=tmp_path / "kept.bin")
    without = Classifier.load(write_model(tmp_path / "old.onnx"))
    with pytest.raises(UsageError, match="--statistics-from DATA"):
        ask(without)
    without.path = None
    with pytest.raises(UsageError, match=r"an exported \.onnx file to teach"):
        ask(without)


def test_requests_under_way_are_answered_by_the_model_of_before(classifier: HeldClassifier, tmp_path: Path) -> None:
    """One whose batch is being computed while a car is taught, one that waits for the next batch, and a later one."""
    HeldClassifier.gate.clear()
    app = create_app(classifier, name="cars", settings=settings())
    with TestClient(app, headers=KEY) as client, ThreadPoolExecutor(3) as pool:
        computed = pool.submit(predict, client, tmp_path / "a")
        assert HeldClassifier.entered.acquire(timeout=20)
        waiting = pool.submit(predict, client, tmp_path / "b")
        until_in_flight(app, 2)
        assert teach(client, tmp_path / "c").json()["classes"] == 7
        later = pool.submit(predict, client, tmp_path / "d")
        until_in_flight(app, 3)
        HeldClassifier.gate.set()
        found = [future.result(20) for future in (computed, waiting, later)]
    assert [len(answer["top_k"]) for answer in found] == [6, 6, 7]
    assert [answer["top_k"][0]["class_name"] == NAME for answer in found] == [False, False, True]


def test_a_request_that_is_still_arriving_is_under_way(classifier: HeldClassifier, tmp_path: Path) -> None:
    ((_, (_, data)),) = photos(tmp_path, (245, 245, 5))
    body, headers = form(data)
    with listening(classifier, settings=settings()) as address:
        slow = http.client.HTTPConnection(*address, timeout=20)
        slow.putrequest("POST", "/v1/predict")
        for name, value in {**headers, **KEY, "Content-Length": str(len(body)), "Expect": "100-continue"}.items():
            slow.putheader(name, value)
        slow.endheaders()
        assert slow.sock.recv(1000).startswith(b"HTTP/1.1 100")  # it has begun to read
        encoded = [in_base64(data) for _, (_, data) in photos(tmp_path, *SHADES)]
        other = http.client.HTTPConnection(*address, timeout=20)
        sent = json.dumps({"name": NAME, "photos": encoded})
        other.request("POST", "/v1/teach", sent, {"Content-Type": "application/json", **KEY})
        assert other.getresponse().status == 200
        slow.send(body)
        answer = json.loads(slow.getresponse().read())["predictions"][0]
    assert answer["top_k"][0]["class_name"] != NAME


def test_models_of_before_are_not_held(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in memory nor on the disk."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    service, models = client.app.state.service, list[Any]()  # type: ignore[attr-defined]
    for number in range(3):
        assert teach(client, tmp_path, f"Car {number}", [(250, 240, 10 * number)]).status_code == 200
        predict(client, tmp_path)
        models.append(weakref.ref(service.served.classifier))
    gc.collect()
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    assert [model() is None for model in models] == [True, True, False]


def until_in_flight(app: Any, photos: int) -> None:
    """Wait until so many photos are in the queue; the test's own limit ends it."""
    while app.state.service.batching.in_flight < photos:
        threading.Event().wait(0.02)


def test_a_failure_leaves_the_model_as_it_was(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = described(client)
    several = teach(client, tmp_path, colours=(RED, GREEN, BLUE, (9, 9, 9)))
    refused(several, 422, "they seem to show several")
    bad = [*photos(tmp_path, *SHADES), ("photos", ("bad.jpg", b"no photo"))]
    refused(client.post("/v1/teach", files=bad, data={"name": NAME}), 422, "in bad.jpg, but it is not an image")
    refused(teach(client, tmp_path, "volvo c30_hatchback 2012"), 409, "trained on 'Volvo C30 Hatchback 2012'")
    refused(teach(client, tmp_path, "A\x07B"), 422, "control characters")
    refused(teach(client, tmp_path, " "), 422, "to have a name")
    with monkeypatch.context() as patch:
        patch.setattr("twincar.inference.teach.add_classes", lambda *_: 1 / 0)
        refused(teach(client, tmp_path), 500, "its log")
    assert described(client) == before
    assert teach(client, tmp_path).status_code == 200  # and the turn was given back each time
    refused(teach(client, tmp_path), 409, "was taught already. Add photos to it with add=true")
    refused(teach(client, tmp_path, PANDA), 409, f"5 of 5 are also photos of {NAME!r}")
    assert len(described(client).classes) == 7


def test_programs_can_tell_refusals_apart_and_none_speaks_of_a_command_line(client: TestClient, tmp_path: Path) -> None:
    same, other = photos(tmp_path, *SHADES[:3]), photos(tmp_path / "other", RED, GREEN, BLUE, (9, 9, 9))
    post, bad = partial(client.post, "/v1/teach"), [("photos", ("bad.jpg", b"no photo"))]
    assert post(files=same, data={"name": NAME}).status_code == 200
    answers = {
        "name_exists": post(files=other, data={"name": NAME}),
        "name_trained": post(files=other, data={"name": next(iter(CLASSES))}),
        "photos_repeated": post(files=same, data={"name": NAME, "add": "true"}),
        "photos_of_another_car": post(files=same, data={"name": PANDA}),
        "unknown_name": client.delete("/v1/teach", params={"name": PANDA}),
        "several_cars": post(files=other, data={"name": PANDA}),
        "not_an_image": post(files=bad, data={"name": PANDA}),
        "invalid_option": client.delete("/v1/teach"),
    }
    found = {name: answer.json() for name, answer in answers.items()}
    assert [body["code"] for body in found.values()] == list(answers)
    statuses = [409] * 5 + [422] * 3
    assert [answer.status_code for answer in answers.values()] == statuses
    assert not [body["error"] for body in found.values() if "--" in body["error"]]
    assert all(Refused.model_validate(body) for body in found.values())
    metrics = client.get("/metrics").text
    assert all(f'twincar_rejected_requests_total{{code="{code}"}} 1.0' in metrics for code in answers)


def test_a_photo_without_a_car_is_refused_by_its_name(tmp_path: Path) -> None:
    classifier = Classifier.load(write_teachable(tmp_path / "cut.onnx", framing="car"))
    classifier.finder = CarFinder(ColourDetector(), 0.0)  # type: ignore[arg-type]
    with ask(classifier) as client:
        answer = teach(client, tmp_path, colours=(RED, (9, 9, 9)))
        refused(answer, 422, "none is found in 1 of 2: 'secret1.png'. Leave them out.")
        assert (answer.json()["code"], "--" in answer.json()["error"]) == ("no_car", False)
        assert len(described(client).classes) == 6


def test_options_and_limits_of_a_request(classifier: HeldClassifier, tmp_path: Path) -> None:
    sent = photos(tmp_path, *SHADES[:2])
    with ask(classifier, photos=3, photo_bytes=3_000, photo_pixels=10_000, request_bytes=20_000) as client:

        def post(files: Any = sent, **data: Any) -> Any:
            return client.post("/v1/teach", files=files, data=data)

        refused(post(), 422, "the field 'name'")
        refused(post(nam=NAME), 422, "found 'nam'. Did you mean 'name'?")
        refused(post(name=NAME, top_k="3"), 422, "top_k")
        refused(post(name="x" * 201), 422, "at most 200 characters")
        refused(post(name="x" * 1001), 422, "at most 1000 bytes")
        refused(post(name="Citro\xebn C3".encode("latin-1")), 422, "of UTF-8")
        refused(post([("photos", ("a", b"x" * 3_001))], name=NAME), 413, "photo of at most")
        refused(post([("photos", ("a", b"x" * 30_000))], name=NAME), 413, "request of at most")
        refused(post(photos(tmp_path, *SHADES[:4]), name=NAME), 413, "at most 3 photos")
        refused(client.post("/v1/teach?name=A", files=sent), 422, "in the address")
        refused(client.post("/v1/teach", json={"name": NAME, "photos": ["http://x/y"]}), 422, "nothing is fetched")
        assert post(name=NAME).json()["warning"].startswith(f"{NAME} has 2 photos only: expect about eight in ten")
    with ask(classifier, photo_pixels=1_000) as client:
        refused(teach(client, tmp_path), 413, "megapixels")


class Gate:
    """Holds the reading of photos to be taught."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.entered, self.open, self.left = (threading.Event() for _ in range(3))
        real = new_photos.read_cars

        def held(*arguments: Any) -> Any:
            self.entered.set()
            assert self.open.wait(20)
            try:
                return real(*arguments)
            finally:
                self.left.set()

        patch.setattr("twincar.inference.teach.read_cars", held)


def test_one_car_is_taught_at_a_time_and_others_are_predicted_meanwhile(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(teach, client, tmp_path / "a")
        assert gate.entered.wait(20)
        second = teach(client, tmp_path / "b", PANDA, [(200, 200, 200), (190, 191, 190)])
        refused(second, 503, "one car at a time")
        assert second.headers["retry-after"] == "1"
        refused(client.delete("/v1/teach", params={"name": NAME}), 503, "one car at a time")
        assert predict(client, tmp_path / "c", RED)["top_k"][0]["class_name"] == "BMW M3 Sedan 2012"
        assert client.get("/healthz").status_code == 200
        assert 'twincar_rejected_requests_total{code="teaching"} 2.0' in client.get("/metrics").text
        gate.open.set()
        assert first.result(20).status_code == 200
    assert [car.name for car in described(client).taught] == [NAME]


def test_what_takes_too_long_changes_nothing_when_it_is_done(
    classifier: HeldClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, kept = Gate(monkeypatch), tmp_path / "kept.onnx"
    with ask(classifier, kept, response_seconds=0.05) as client:
        refused(teach(client, tmp_path), 504, "The model is as it was")
        gate.open.set()
        assert gate.left.wait(20)
        service = client.app.state.service  # type: ignore[attr-defined]
        service.teaching._thread.shutdown()
        assert (len(described(client).classes), kept.exists(), service.batching.in_flight) == (6, False, 0)


def test_logs_have_no_names_of_files(client: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "twincar"):
        teach(client, tmp_path, colours=SHADES[:2])
        refused(client.post("/v1/teach", files=photos(tmp_path, *SHADES[:1]), data={"name": PANDA}), 409, "secret0.png")
        client.delete("/v1/teach", params={"name": NAME.replace(" ", "\n")})
    assert f"Taught {NAME} by 2 photos: 7 classes." in caplog.messages
    assert f"Forgot {NAME}: 6 classes." in caplog.messages
    assert "secret" not in caplog.text


def test_the_kept_model_outlives_a_restart(classifier: HeldClassifier, model: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "cars.onnx"
    with ask(classifier, kept) as client:
        assert not kept.exists()
        taught = teach(client, tmp_path).json()
        answer = predict(client, tmp_path)
    with ask(Classifier.load(model, min_confidence=0.7), kept) as client:
        assert (described(client).sha256, predict(client, tmp_path)) == (taught["sha256"], answer)
        assert described(client).calibration.confidence == 0.7
        assert client.delete("/v1/teach", params={"name": NAME}).status_code == 200
    with ask(Classifier.load(model), kept) as client:
        assert len(described(client).classes) == 6
    other = Classifier.load(write_teachable(tmp_path / "other.onnx", framing="car"), detection=never())
    with pytest.raises(UsageError, match="it was made from another one"):
        ask(other, kept)


def never() -> Any:
    from twincar.core.options import DetectOptions

    return DetectOptions(detect="never")


@pytest.mark.parametrize("keep", [True, False])
def test_the_log_says_what_is_served_and_whether_it_is_kept(
    model: Path, tmp_path: Path, keep: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended(_: object) -> None: ...

    kept = tmp_path / "kept.onnx" if keep else None
    if kept:
        with ask(Classifier.load(model), kept) as client:
            teach(client, tmp_path)
    monkeypatch.setattr("twincar.deploy.server.server.DrainingServer.main_loop", ended)
    caplog.set_level(logging.INFO, "twincar.deploy.server")
    caplog.clear()
    serve(Classifier.load(model), name="colours.onnx", port=0, settings=settings(taught=kept))
    serving, teaching = caplog.messages[:2]
    served = f"Serving colours.onnx, as it was taught 1 car ({kept}), at" if kept else "Serving colours.onnx at"
    fate = f"are kept in {kept}." if kept else "are lost when it stops: --taught FILE keeps them."
    assert (serving.startswith(served), teaching) == (True, f"Clients with the key can teach it cars, which {fate}")


def test_what_cannot_be_kept_is_not_taught(
    classifier: HeldClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, _: bytes) -> None:
        raise StorageError(f"Could not write {path}: the disk is full.")

    kept = tmp_path / "kept.onnx"
    with ask(classifier, kept) as client:
        with monkeypatch.context() as patch:
            patch.setattr("twincar.deploy.server.teaching.write_bytes", full)
            refused(response := teach(client, tmp_path), 507, "The model is as it was")
            assert str(tmp_path) not in response.text
            assert f"Could not write {kept}" in caplog.text
        assert (len(described(client).classes), kept.exists()) == (6, False)
        assert teach(client, tmp_path).status_code == 200
        shutil.copy(tmp_path / "colours.onnx", kept)
        refused(teach(client, tmp_path, add="true", colours=[(249, 249, 9)]), 409, "another program has changed it")
        assert described(client).taught[0].photos == 5


def test_a_model_file_that_was_exchanged_is_not_taught(classifier: HeldClassifier, model: Path, tmp_path: Path) -> None:
    """The new rows would be those of one network, and the rest of the file that of another."""
    with ask(classifier) as client:
        write_teachable(model, sharper=2.0)
        refused(teach(client, tmp_path), 409, "it has changed since")


def test_its_own_description_is_true(client: TestClient) -> None:
    """The example is taught; what is answered, errors too, fits the schema; the page tells all."""
    api = client.get("/openapi.json").json()
    about = api["paths"]["/v1/teach"]
    content = about["post"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    TeachAsJson.model_validate(example)
    response = client.post("/v1/teach", json=example)
    assert response.status_code == 200, response.text
    TeachResponse.model_validate(response.json())
    statuses = {"200", "400", "401", "408", "409", "413", "415", "421", "422", "500", "503", "504", "507"}
    assert set(about["post"]["responses"]) == statuses
    assert set(about["delete"]["responses"]) == {"200", "401", "409", "421", "422", "500", "503", "504", "507"}
    Refused.model_validate(client.post("/v1/teach", json={}).json())
    (parameter,) = about["delete"]["parameters"]
    assert client.delete("/v1/teach", params={parameter["name"]: example["name"]}).status_code == 200
    page = client.get("/docs").text
    assert "-F name=" in page
    for schema in (kind["schema"] for kind in content.values()):
        assert all(f"<code>{name}</code>" in page for name in schema.get("properties", ()))


@pytest.mark.parametrize("taught", [True, False])
def test_a_page_of_another_origin_may_remove_a_car_where_cars_are_taught(
    classifier: HeldClassifier, taught: bool
) -> None:
    origin = "https://cars.example"
    chosen = replace(settings(allow_origins=(origin,)), allow_teach=taught)
    asked = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
    with TestClient(create_app(classifier, name="cars", settings=chosen)) as client:
        assert (client.options("/v1/teach", headers=asked).status_code == 200) == taught


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documentation asks with curl")
def test_the_commands_of_the_documentation_are_answered(classifier: HeldClassifier, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")
    (tmp_path / "api_key").write_text(KEY["X-API-Key"], encoding="utf-8")
    for number, shade in enumerate(SHADES[:3], start=1):
        paint(tmp_path / f"seat{number}.jpg", shade)
    found = []
    with listening(classifier, settings=settings()) as (host, port):
        for command in re.findall(r"^curl .*/v1/teach$", text, re.MULTILINE):
            shell = ["sh", "-c", command.replace("127.0.0.1:8000", f"{host}:{port}")]
            said = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=True)
            found.append(json.loads(said.stdout)["classes"])
    assert found == [7, 6]


def test_a_process_that_is_killed_still_knows_the_car(model: Path, tmp_path: Path) -> None:
    """By the command line, without torch."""
    kept = tmp_path / "kept.onnx"
    (tmp_path / "key").write_text(KEY["X-API-Key"], encoding="utf-8")
    flags = ("--allow-teach", "--taught", str(kept), "--api-key-file", str(tmp_path / "key"), "--no-access-log")

    def curl(address: tuple[str, int], route: str, *files: Path) -> dict[str, Any]:
        forms = [word for file in files for word in ("-F", f"photos=@{file}")]
        named = ["-F", f"name={NAME}"] if route == "teach" else []
        url = f"http://{address[0]}:{address[1]}/v1/{route}"
        words = ["curl", "-s", "-H", f"X-API-Key: {KEY['X-API-Key']}", *named, *forms, url]
        found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
        return found

    shades = [paint(tmp_path / f"{number}.png", shade) for number, shade in enumerate(SHADES)]
    with process(model, *flags) as (started, address):
        assert curl(address, "teach", *shades[:4])["classes"] == 7
        started.send_signal(signal.SIGKILL)
        started.wait(20)
    with process(model, *flags) as (_, address):
        assert curl(address, "predict", shades[4])["predictions"][0]["answer"] == NAME

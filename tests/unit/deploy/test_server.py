"""The server as its clients meet it: its answers, its limits, how it stops."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import onnx
import pytest
from colour_model import BLUE, GREEN, RED, ColourDetector, paint_street
from conftest import draw_car
from fastapi.testclient import TestClient
from golden_copies import words_of
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

import twincar
from twincar.core.errors import UsageError
from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing
from twincar.deploy.server.app import create_app
from twincar.deploy.server.batching import PhotoCars
from twincar.deploy.server.connection import TimeoutProtocol
from twincar.deploy.server.limits import Limits
from twincar.deploy.server.requests import label_of
from twincar.deploy.server.responses import photo_item
from twincar.deploy.server.schema import ModelDescription, PredictionItem, PredictResponse
from twincar.deploy.server.server import serve, server
from twincar.deploy.server.settings import HttpSettings
from twincar.detection import Detector
from twincar.inference.classifier import Classifier
from twincar.inference.crops import CarFinder
from twincar.inference.photo_options import PhotoOptions
from twincar.inference.results import Explanation, Prediction
from twincar.models.calibration import Calibration
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.engines.base import Engine
from twincar.models.levels import LevelName, levels_of
from twincar.models.spec import HEADER_KEY, ModelSpec

NAMES = ("BMW M3 Sedan 2012", "BMW M3 Coupe 2012", "Audi S4 Sedan 2012", "Audi TT Coupe 2011")


class GatedEngine(Engine):
    """Sees the colour of a photo; computes only while its gate is open, and remembers its batches."""

    name = "onnxruntime"

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.batches: list[int] = []

    @property
    def head(self) -> HeadWeights:  # type: ignore[override]
        return HeadWeights(((np.eye(4, 3, dtype=np.float32), np.zeros(4, np.float32)),))

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(len(images))
        self.entered.release()
        assert self.gate.wait(20)
        features = np.ascontiguousarray(images.transpose(0, 3, 1, 2)[:, :, ::8, ::8], np.float32) / 32
        return features.mean(axis=(2, 3)) @ self.head.layers[0][0].T, features


class NotingClassifier(Classifier):
    """Tells when a photo is decoded."""

    prepared: threading.Semaphore

    def prepare(self, photo: Image.Image, name: str):  # type: ignore[no-untyped-def]
        found = super().prepare(photo, name)
        self.prepared.release()
        return found


@pytest.fixture
def classifier() -> NotingClassifier:
    return colour_classifier()


def colour_classifier() -> NotingClassifier:
    spec = ModelSpec(
        backbone="none",
        head="linear",
        classes=ClassNames(NAMES),
        preprocessing=Preprocessing(height=16, width=24, squash=True),
        calibration=Calibration(photos=100),
        provenance={"recipe": "by hand"},
    )
    made = NotingClassifier(GatedEngine(), spec)
    made.prepared = threading.Semaphore(0)
    return made


@pytest.fixture
def client(classifier: Classifier) -> Iterator[TestClient]:
    with ask_app(classifier) as client:
        yield client


def ask_app(classifier: Classifier, **limits: float) -> TestClient:
    return TestClient(create_app(classifier, name="cars", limits=Limits(**limits)))  # type: ignore[arg-type]


@contextmanager
def listening(
    classifier: Classifier,
    protocol: type[TimeoutProtocol] = TimeoutProtocol,
    settings: HttpSettings | None = None,
    **limits: float,
) -> Iterator[tuple[str, int]]:
    """A real server on a free port of this computer, in a thread."""
    bound = socket.create_server(("127.0.0.1", 0))
    chosen = Limits(**limits)  # type: ignore[arg-type]
    app = create_app(classifier, name="cars", limits=chosen, settings=settings)
    made = server(app, chosen, protocol, settings)
    thread = threading.Thread(target=made.run, args=([bound],))
    thread.start()
    try:
        yield bound.getsockname()
    finally:
        made.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def jpeg(colour: tuple[int, int, int] = (200, 30, 20), size: tuple[int, int] = (48, 32)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG", quality=95)
    return data.getvalue()


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (f"{number}.jpg", photo)) for number, photo in enumerate(photos)]


def refused(response: Any, status: int, words: str) -> None:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert words in response.json()["error"]
    assert "Traceback" not in response.text


def form(photo: bytes) -> tuple[bytes, dict[str, str]]:
    head = b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
    return head + photo + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def post(address: tuple[str, int], photo: bytes) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request("POST", "/v1/predict", *form(photo))
    return connection.getresponse()


def test_forms_and_json_get_the_answers_of_the_classifier(client: TestClient, classifier: Classifier) -> None:
    photos = [jpeg(), jpeg((10, 220, 40)), jpeg((20, 30, 230))]
    answers = [PhotoCars([classifier.predict(photo, top_k=2)], 48, 32) for photo in photos]
    expected = [{**photo_item(answer), "photo": ""} for answer in answers]
    sent = client.post("/v1/predict", files=files(*photos), data={"top_k": "2"})
    as_json = {"photos": [in_base64(photos[0]), *(f"data:image/jpeg;base64,{in_base64(p)}" for p in photos[1:])]}
    for response, labels in (
        (sent, ["0.jpg", "1.jpg", "2.jpg"]),
        (client.post("/v1/predict", json={**as_json, "top_k": 2}), ["photo 1", "photo 2", "photo 3"]),
    ):
        found = response.json()["predictions"]
        assert [item["photo"] for item in found] == labels
        assert [{**item, "photo": ""} for item in found] == expected
        PredictResponse.model_validate(response.json())
    assert len({item["top_k"][0]["class_name"] for item in expected}) == 3


def test_a_question_is_answered_at_the_level_it_asks_for(client: TestClient, classifier: Classifier) -> None:
    classifier.min_confidence = 0.5
    photo = jpeg((200, 190, 20))  # equally like both BMWs
    answers = {
        level: client.post("/v1/predict", files=files(photo), data={"level": level}).json()["predictions"][0]
        for level in get_args(LevelName)
    }
    assert set(answers) == set(levels_of(ClassNames(NAMES)))
    assert answers["make"]["answer"] == "BMW"
    assert answers["make"]["confidence"] == pytest.approx(answers["make"]["levels"]["make"]["probability"])
    assert [answers["make"][part] for part in ("make", "model", "body", "year")] == ["BMW", None, None, None]
    assert [answers["year"][part] for part in ("make", "model", "body", "year")] == [None, None, None, 2012]
    assert answers["year"]["answer"] == "2012"
    assert all(answer["level"] == level for level, answer in answers.items() if answer["status"].startswith("named"))
    classifier.min_confidence = 1.0
    unsure = client.post("/v1/predict", files=files(photo), data={"level": "class"}).json()["predictions"][0]
    assert (unsure["answer"], unsure["level"], unsure["status"]) == (None, None, "not sure")


def test_explanations_are_those_of_the_classifier(client: TestClient, classifier: Classifier) -> None:
    photo = np.zeros((32, 48, 3), np.uint8)
    photo[:16, :24, 0] = 255
    data = io.BytesIO()
    Image.fromarray(photo).save(data, "PNG")
    expected = classifier.explain(data.getvalue())
    found = client.post("/v1/predict", files=files(data.getvalue()), data={"explain": "true"}).json()["predictions"][0]
    assert found["explanation"]["target"] == expected.target == NAMES[0]
    assert np.allclose(found["explanation"]["heatmap"], expected.heatmap, atol=1e-4)
    assert found["explanation"]["heatmap"][0][0] == 1.0
    assert found["explanation"]["heatmap"][1][2] == 0.0
    assert found["explanation"]["visible_box"] == [0, 0, 48, 32]
    PredictionItem.model_validate(found)


def test_each_car_of_a_photo_is_named_with_its_box(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = {GREEN: (20, 20, 60, 50), RED: (100, 60, 300, 180), BLUE: (330, 100, 390, 170)}
    photo = paint_street(tmp_path / "street.png", boxes).read_bytes()
    monkeypatch.setattr(classifier, "finder", CarFinder(cast(Detector, ColourDetector()), 0))
    with TestClient(create_app(classifier, name="colours")) as client:
        response = client.post("/v1/predict", files=files(photo, jpeg((250, 250, 250))), data={"explain": "true"})
        assert client.get("/v1/model").json()["finds_cars"]
        counted = client.get("/metrics").text
        for car, count in (("main", 1), ("other", 2)):
            assert f'twincar_answers_total{{car="{car}",level="class",status="named"}} {count}.0' in counted
        assert 'twincar_answers_total{car="main",level="",status="no_car"} 1.0' in counted
        assert "cars" in client.get("/docs").text
    PredictResponse.model_validate(response.json())
    street, wall = response.json()["predictions"]
    assert [car["box"] for car in street["cars"]] == [list(boxes[colour]) for colour in (RED, BLUE, GREEN)]
    assert [car["top_k"][0]["class_name"] for car in street["cars"]] == [NAMES[0], NAMES[2], NAMES[1]]
    assert [car["explanation"]["visible_box"] for car in street["cars"]] == [car["box"] for car in street["cars"]]
    assert (street["answer"], street["box"], street["car_count"]) == (NAMES[0], list(boxes[RED]), 3)
    assert (wall["status"], wall["box"], wall["car"]) == ("no car found", None, None)
    assert (wall["car_count"], wall["cars"], wall["top_k"], wall["make"]) == (0, [], [], None)


def test_one_batch_holds_photos_with_different_questions(classifier: Classifier) -> None:
    photos = [classifier.prepare(Image.new("RGB", (48, 32), colour), colour)[0] for colour in ("red", "blue")]
    plain, explained = classifier.predict_batch(photos, [PhotoOptions(top_k=1), PhotoOptions(explain=True)])
    assert isinstance(plain, Prediction)
    assert isinstance(explained, Explanation)
    assert (len(plain.topk), plain.photo, explained.prediction.photo) == (1, "red", "blue")
    assert (plain.top1.name, explained.target) == (NAMES[0], NAMES[2])


def test_a_photo_that_cannot_be_read_has_its_error_and_others_are_answered(client: TestClient) -> None:
    response = client.post("/v1/predict", files=files(jpeg(), b"no photo", jpeg()[:-20], b""))
    assert response.status_code == 200
    good, *bad = response.json()["predictions"]
    assert "answer" in good
    assert [list(item) for item in bad] == [["photo", "status", "error", "code"]] * 3
    assert [re.search("not an image|truncated|is empty", item["error"])[0] for item in bad] == [  # type: ignore[index]
        "not an image", "truncated", "is empty",
    ]  # fmt: skip
    assert [item["code"] for item in bad] == ["not_an_image", "truncated", "empty"]
    refused(client.post("/v1/predict", files=files(b"no photo")), 422, "not an image")
    refused(client.post("/v1/predict", files=files(b"no photo", b"none")), 422, "none of these")


def test_nothing_a_client_names_is_opened_or_fetched(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "car.jpg"
    path.write_bytes(jpeg())
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        names = [f"http://127.0.0.1:{trap.getsockname()[1]}/car.jpg", f"file://{path}", str(path), "car.jpg"]
        items = client.post("/v1/predict", json={"photos": names}).json()["predictions"]
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert all("as base64" in item["error"] for item in items)
    assert ["nothing is fetched" in item["error"] for item in items] == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\car.jpg", "car.jpg"),
        ("a\0b\x1b[31m.jpg", "ab[31m.jpg"),
        ("x" * 5000, "x" * 100),
        ("../", "photo 1"),
        ("車.jpg", "車.jpg"),
    ],
)
def test_a_file_name_is_only_a_label(name: str, label: str) -> None:
    assert label_of(name, "photo 1") == label


def test_what_is_not_understood_gets_a_sentence(client: TestClient) -> None:
    def ask(**how: Any) -> Any:
        return client.post("/v1/predict", **how)

    photo = {"files": files(jpeg())}
    as_json, as_form = {"Content-Type": "application/json"}, {"Content-Type": "multipart/form-data; boundary=b"}
    refused(ask(content=b""), 415, "found none")
    refused(ask(content=jpeg(), headers={"Content-Type": "text/plain"}), 415, "found 'text/plain'")
    refused(ask(content=b"", headers=as_json), 400, "body")
    refused(ask(content=b'{"photos": [', headers=as_json), 400, "body")
    refused(ask(content=b"\xff\xfe", headers=as_json), 400, "body")
    refused(ask(content=b"[" * 100_000, headers=as_json), 413, "photos")
    refused(ask(content=b"[" * 100 + b"]" * 100, headers=as_json), 422, "body")
    refused(ask(json={"photos": "abc"}), 422, "photos")
    refused(ask(json={"photos": []}), 422, "at least one photo")
    refused(ask(json={"photos": [1]}), 422, "photos.0")
    refused(ask(json={"photos": ["AAAA"], "topk": 3}), 422, "topk")
    refused(ask(content=b"", headers=as_form), 422, "at least one photo")
    refused(ask(content=b"no form", headers=as_form), 400, "damaged")
    refused(ask(content=b"x", headers={"Content-Type": "multipart/form-data"}), 400, "it has no boundary")
    refused(ask(data={"photos": "http://x/y.jpg"}, files=[("other", ("", b""))]), 422, "as files")
    refused(ask(files=[("image", ("car.jpg", jpeg()))]), 422, "'photos', but found a file in 'image'")
    for values, word in (
        ({"top_k": "0"}, "top_k"),
        ({"top_k": "many"}, "top_k"),
        ({"level": "colour"}, "level"),
        ({"levl": "make"}, "level"),
        ({"cars": "few"}, "cars"),
    ):
        refused(ask(**photo, data=values), 422, word)
    refused(client.post("/v1/predict?top_k=1", **photo), 422, "in the address")
    refused(client.get("/v1/predict"), 405, "Method Not Allowed")
    refused(client.get("/nothing"), 404, "Not Found")
    assert ask(**photo).status_code == 200


def test_limits_on_bytes_photos_and_pixels(classifier: Classifier) -> None:
    photo = jpeg()
    with ask_app(classifier, request_bytes=20_000, photo_bytes=3_000, photos=3, photo_pixels=10_000) as client:
        refused(client.post("/v1/predict", files=files(b"x" * 30_000)), 413, "request of at most")
        refused(client.post("/v1/predict", files=files(b"x" * 3_001)), 413, "photo of at most")
        refused(client.post("/v1/predict", files=files(*[photo] * 4)), 413, "at most 3 photos")
        refused(client.post("/v1/predict", json={"photos": ["AAAA"] * 4}), 413, "at most 3 photos")
        refused(client.post("/v1/predict", files=files(*[b"x"] * 100)), 413, "at most 3 photos")
        refused(client.post("/v1/predict", files=files(jpeg(size=(101, 100)))), 413, "megapixels")
        mixed = client.post("/v1/predict", files=files(photo, b"x" * 3_001, photo))
        assert (mixed.status_code, ["error" in item for item in mixed.json()["predictions"]]) == (200, [0, 1, 0])
    assert 3 not in classifier.engine.batches  # type: ignore[attr-defined]


def test_a_bomb_is_refused_by_its_header(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    refused(client.post("/v1/predict", files=files(bomb)), 413, "50 megapixels")


def test_values_by_the_million_are_refused_before_they_are_in_memory(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twincar.deploy.server.schema.JsonPhotos.model_validate_json", lambda _: pytest.fail("parsed"))
    content = b'{"photos": [' + b"[]," * 1_000_000 + b"[]]}"
    refused(client.post("/v1/predict", content=content, headers={"Content-Type": "application/json"}), 413, "photos")


def test_bytes_of_all_uploads_together_are_bounded(classifier: Classifier) -> None:
    with ask_app(classifier, held_bytes=5_000) as client:
        refused(response := client.post("/v1/predict", files=files(b"x" * 6_000)), 503, "upload")
        assert response.headers["retry-after"] == "1"
        for _ in range(10):  # more than there is room for, but one after the other
            assert client.post("/v1/predict", files=files(jpeg())).status_code == 200


def test_what_takes_too_long_is_given_up(classifier: Classifier) -> None:
    engine: Any = classifier.engine
    engine.gate.clear()
    with ask_app(classifier, response_seconds=0.05) as client:
        refused(client.post("/v1/predict", files=files(jpeg())), 504, "a response within")
        engine.gate.set()
        assert client.app.state.service.batching.in_flight == 0  # type: ignore[attr-defined]
        assert client.post("/v1/predict", files=files(jpeg())).status_code in (200, 504)


def test_an_engine_that_fails_is_told_and_the_next_batch_is_computed(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(classifier, name="cars")
    with TestClient(app, raise_server_exceptions=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(classifier.engine, "logits", lambda _: 1 / 0)
            refused(client.post("/v1/predict", files=files(jpeg())), 500, "its log")
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/predict", files=files(jpeg())).status_code == 200


def test_photos_that_come_together_share_a_batch(classifier: NotingClassifier) -> None:
    engine: Any = classifier.engine
    engine.gate.clear()
    with listening(classifier) as address, ThreadPoolExecutor(5) as pool:
        first = pool.submit(post, address, jpeg())
        assert engine.entered.acquire(timeout=20)
        others = [pool.submit(post, address, jpeg((10, 220, 40))) for _ in range(4)]
        for _ in range(5):
            assert classifier.prepared.acquire(timeout=20)
        engine.gate.set()
        answers = [json.loads(future.result(20).read())["predictions"][0] for future in (first, *others)]
    assert engine.batches == [1, 4]
    assert [answer["top_k"][0]["class_name"] for answer in answers] == [NAMES[0], *[NAMES[1]] * 4]


def test_a_full_queue_turns_away_and_the_server_stays_ready(classifier: NotingClassifier) -> None:
    engine: Any = classifier.engine
    engine.gate.clear()
    with listening(classifier, queue=2) as address, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, address, jpeg()) for _ in range(2)]
        for _ in range(2):
            assert classifier.prepared.acquire(timeout=20)
        turned_away = post(address, jpeg())
        assert (turned_away.status, turned_away.getheader("Retry-After")) == (503, "1")
        assert "2 of 2 places" in json.loads(turned_away.read())["error"]
        assert get(address, "/readyz") == (200, b'{"status":"ready"}')
        assert get(address, "/healthz")[0] == 200
        engine.gate.set()
        assert [future.result(20).status for future in waiting] == [200, 200]
        assert post(address, jpeg()).status == 200
        assert get(address, "/readyz")[0] == 200


def get(address: tuple[str, int], path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def test_a_body_without_a_length_is_cut_off(classifier: Classifier) -> None:
    with listening(classifier, request_bytes=100_000) as address:
        connection = http.client.HTTPConnection(*address, timeout=20)
        body = (b"x" * 10_000 for _ in range(200))
        connection.request("POST", "/v1/predict", body, form(b"")[1], encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, "at most" in json.loads(response.read())["error"]) == (413, True)
        assert post(address, jpeg()).status == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documentation asks with curl")
def test_the_commands_of_the_documentation_are_answered(classifier: Classifier, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")
    plain, raw, with_key, in_container = re.findall(r"^curl .*/v1/predict.*$", text, re.MULTILINE)
    (tmp_path / "more").mkdir()
    for name in ("car.jpg", "more/car.png"):
        (tmp_path / name).write_bytes(jpeg())
    (tmp_path / "api_key").write_text("secret\n", encoding="utf-8")

    def answers(command: str, settings: HttpSettings) -> Any:
        with listening(classifier, settings=settings) as (host, port):
            shell = ["sh", "-c", command.replace("127.0.0.1:8000", f"{host}:{port}")]
            return json.loads(subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)

    found = answers(plain, HttpSettings())["predictions"]
    assert [answer["level"] for answer in found] == ["make", "make"]
    assert [len(answer["top_k"]) for answer in found] == [3, 3]
    (found,) = answers(raw, HttpSettings())["predictions"]
    assert (len(found["top_k"]), found["cars"], found["width"], found["height"]) == (3, None, 48, 32)
    assert len(answers(with_key, HttpSettings(api_keys=("secret",)))["predictions"]) == 1
    assert len(answers(in_container, HttpSettings())["predictions"]) == 1
    assert "API key" in answers(plain, HttpSettings(api_keys=("secret",)))["error"]


def test_slow_clients_are_let_go(classifier: Classifier) -> None:
    class Hasty(TimeoutProtocol):
        head_seconds = 0.05

    with listening(classifier, Hasty, upload_seconds=0.05) as address:
        with socket.create_connection(address, timeout=20) as slow:
            slow.sendall(b"GET /healthz HT")
            assert gone(slow)
        with socket.create_connection(address, timeout=20) as slow:
            assert gone(slow)
        with socket.create_connection(address, timeout=20) as slow:
            slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
            slow.sendall(b"Content-Type: application/json\r\n\r\n{")
            answer = b"".join(iter(lambda: slow.recv(10_000), b""))
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"whole request" in answer
        with socket.create_connection(address, timeout=20) as other:
            other.sendall(b"\x16\x03\x01\x02\r\n\r\n")
            answer = b"".join(iter(lambda: other.recv(10_000), b""))
            assert answer.startswith(b"HTTP/1.1 400")
            assert "valid HTTP request" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert get(address, "/healthz")[0] == 200


def gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def test_connections_are_counted(classifier: Classifier) -> None:
    class Small(TimeoutProtocol):
        most_connections = 1

    with listening(classifier, Small) as address:
        with socket.create_connection(address, timeout=20) as first:
            first.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert first.recv(1000).startswith(b"HTTP/1.1 200")
            with socket.create_connection(address, timeout=20) as second:
                answer = b"".join(iter(lambda: second.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in answer


def test_metrics_count_requests_photos_and_batches(client: TestClient) -> None:
    client.post("/v1/predict", files=files(jpeg(), b"bad"))
    client.post("/v1/predict", content=b"", headers={"Content-Type": "text/plain"})
    client.get("/made/up/by/a/client")
    response = client.get("/metrics")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert response.headers["content-type"].startswith("text/plain")
    assert samples["twincar_requests_total", "/v1/predict", "200", "POST"] == 1
    assert samples["twincar_requests_total", "/v1/predict", "415", "POST"] == 1
    assert samples["twincar_requests_total", "404", "GET", "other"] == 1
    answers = {key[1:]: value for key, value in samples.items() if key[0] == "twincar_answers_total"}
    assert answers.pop(("class", "main", "named")) == 1
    named = {("named" if level == "class" else "named_in_part", level) for level in get_args(LevelName)}
    outcomes = named | {
        ("not_sure", ""),
        ("unknown_car", ""),
        ("too_small", ""),
        ("cut_off", ""),
        ("no_car", ""),
        ("not_calibrated", ""),
    }
    every = {tuple(sorted((*outcome, car))) for outcome in outcomes for car in ("main", "other")}
    assert set(answers) == every - {("class", "main", "named")}
    assert set(answers.values()) == {0}
    assert samples["twincar_failed_photos_total", "not_an_image"] == 1
    assert samples["twincar_failed_photos_total", "truncated"] == 0
    assert samples["twincar_build_info", twincar.__version__, "cars", "onnxruntime"] == 1
    assert samples["twincar_rejected_requests_total", "unsupported_type"] == 1
    assert samples["twincar_request_duration_seconds_count", "/v1/predict"] == 2
    assert (samples["twincar_batch_photos_count",], samples["twincar_queue_photos",]) == (1, 0)


def test_the_model_tells_what_it_is(client: TestClient) -> None:
    about = ModelDescription.model_validate(client.get("/v1/model").json())
    assert [(car.name, car.make, car.body) for car in about.classes][3] == (NAMES[3], "Audi", "Coupe")
    assert (about.name, about.version, about.input.height) == ("cars", twincar.__version__, 16)
    assert (about.provenance, about.calibration.confidence) == ({"recipe": "by hand"}, 0.8)


def test_the_page_asks_nobody_else_and_tells_every_address_and_field(
    client: TestClient, golden: Callable[[str, str], None]
) -> None:
    page = client.get("/", follow_redirects=True).text
    golden("server", words_of(page))
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {"/v1/predict", "/v1/model", "/healthz", "/readyz", "/metrics"}
    content = api["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    for schema in (*(kind["schema"] for kind in content.values()), api["components"]["schemas"]["PredictionItem"]):
        assert all(f"<code>{name}</code>" in page for name in schema.get("properties", ()))
    assert all(f"<code>{path}</code>" in page for path in api["paths"])
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "connect-src 'self'" in page
    hostile = client.get("/docs", headers={"Host": 'x"><script>alert(1)</script>'})
    assert "<script>alert" not in hostile.text


@pytest.fixture
def exported(classifier: Classifier, tmp_path: Path) -> Path:
    """An exported model that sees colours as `GatedEngine` does, made without torch."""
    weights = [onnx.numpy_helper.from_array(array, name) for array, name in (
        (np.eye(4, 3, dtype=np.float32), "weight"), (np.zeros(4, np.float32), "bias"), (np.float32(1 / 32), "scale"),
    )]  # fmt: skip
    node = onnx.helper.make_node
    nodes = [
        node("Cast", ["images"], ["pixels"], to=onnx.TensorProto.FLOAT),
        node("Mul", ["pixels", "scale"], ["scaled"]),
        node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["planes"], ["features"], kernel_shape=[8, 8], strides=[8, 8]),
        node("ReduceMean", ["features"], ["pooled"], axes=[2, 3], keepdims=0),
        node("Gemm", ["pooled", "weight", "bias"], ["logits"], transB=1),
        node("Identity", ["weight"], ["head.0"]),
        node("Identity", ["bias"], ["head.1"]),
    ]
    value = onnx.helper.make_tensor_value_info
    images = value("images", onnx.TensorProto.UINT8, ["N", 16, 24, 3])
    shapes: dict[str, list[str | int]] = {
        "logits": ["N", 4],
        "features": ["N", 3, 2, 3],
        "head.0": [4, 3],
        "head.1": [4],
    }
    outputs = [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = onnx.helper.make_graph(nodes, "colours", [images], outputs, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, {HEADER_KEY: classifier.spec.to_header()})
    onnx.save(model, tmp_path / "colours.onnx")
    return tmp_path / "colours.onnx"


@contextmanager
def process(model: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """`twincar serve` where torch cannot be imported."""
    names = ("torch", "timm", "torchvision", "matplotlib", "pandas", "sklearn", "cv2")
    code = (
        f"import sys\nfor name in {names}: sys.modules[name] = None\n"
        f"sys.argv = ['twincar', 'serve', {str(model)!r}, '--port', '0', *{flags!r}]\n"
        "from twincar.cli import main; main()"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        # Of a shell's background job, as these tests may be, the children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert started.stderr
        lines = ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+) ", lines)):
            line = started.stderr.readline()
            assert line, lines
            lines += line
        yield started, ("127.0.0.1", int(found[1]))
    finally:
        started.kill()


def test_a_process_without_torch_answers_as_predict_does(exported: Path) -> None:
    photos = [draw_car(number % 4, 70 + number) for number in range(3)]
    encoded = []
    for photo in photos:
        data = io.BytesIO()
        photo.save(data, "PNG")
        encoded.append(data.getvalue())
    expected = Classifier.load(exported).predict(encoded)
    with process(exported) as (started, address):
        connection = http.client.HTTPConnection(*address, timeout=20)
        body = json.dumps({"photos": [in_base64(data) for data in encoded], "explain": True})
        connection.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
        found = json.loads(connection.getresponse().read())["predictions"]
        started.send_signal(signal.SIGINT)
        errors = started.communicate(timeout=30)[1]
    for answer, prediction in zip(found, expected, strict=True):
        ours = {candidate["class_name"]: candidate["probability"] for candidate in answer["top_k"]}
        assert ours == pytest.approx({c.name: c.probability for c in prediction.topk}, abs=1e-6)
        assert len(answer["explanation"]["heatmap"]) == 2
    assert (started.returncode, "Traceback" in errors) == (130, False)
    assert errors.endswith("Stopped; every request in progress was finished.\n")


def test_told_to_stop_it_drains_and_finishes_what_is_under_way(exported: Path) -> None:
    """From SIGTERM on `/readyz` is 503 while all is answered; a second one ends the grace period, here a long one."""
    with process(exported, "--grace-period", "600") as (started, address):
        assert get(address, "/readyz")[0] == 200
        data = io.BytesIO()
        draw_car(0, 0).save(data, "JPEG")
        body, headers = form(data.getvalue())
        connection = http.client.HTTPConnection(*address, timeout=20)
        connection.putrequest("POST", "/v1/predict")
        connection.putheader("Content-Type", headers["Content-Type"])
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert connection.sock.recv(1000).startswith(b"HTTP/1.1 100")  # it has begun to read
        started.send_signal(signal.SIGTERM)
        until(lambda: get(address, "/readyz") == (503, b'{"status":"stopping"}'))
        until(lambda: asked_to_close(address))
        assert (get(address, "/healthz")[0], post(address, data.getvalue()).status) == (200, 200)
        assert [post(address, photo).status for photo in (broken_tiff(), b"no photo")] == [422, 422]
        started.send_signal(signal.SIGTERM)
        until(lambda: refuses(address))
        connection.send(body)
        assert connection.getresponse().status == 200
        errors = started.communicate(timeout=30)[1]
    assert started.returncode == 0
    *requests, last = errors.splitlines()
    assert last == "Stopped; every request in progress was finished."
    assert all(re.match(r"\d{4}-\S+ 127\.0\.0\.1 (GET|POST) /", line) for line in requests), errors


def broken_tiff() -> bytes:
    """One of which libtiff writes to standard error by itself."""
    data = io.BytesIO()
    draw_car(0, 0).save(data, "TIFF", compression="tiff_adobe_deflate")
    return data.getvalue()[:8] + data.getvalue()[8:].replace(b"\x78\x9c", b"\x78\x9d", 1)


def until(true: Callable[[], object]) -> None:
    """Look again and again; the test's own limit ends it."""
    while not true():
        threading.Event().wait(0.02)


def asked_to_close(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request("GET", "/healthz")
    return connection.getresponse().getheader("Connection") == "close"


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_port_that_is_taken_or_not_ours(classifier: Classifier) -> None:
    in_use = pytest.raises(UsageError, match=r"Address already in use.*--port")
    with socket.create_server(("127.0.0.1", 0)) as taken, in_use:
        serve(classifier, name="cars", host="127.0.0.1", port=taken.getsockname()[1], queue=8)
    with pytest.raises(UsageError, match="--host"):
        serve(classifier, name="cars", host="192.0.2.1", port=0, queue=8)

"""The server as HTTP sees it: ambiguous requests, HEAD, keys, prefixes, other sites, its log and description."""

from __future__ import annotations

import asyncio
import base64
import gc
import http.client
import io
import json
import logging
import re
import socket
import struct
import urllib.parse
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from test_server import NotingClassifier, colour_classifier, files, in_base64, jpeg, listening, refused, until

import twincar
from twincar.core.errors import UsageError
from twincar.deploy.server import HttpSettings, read_api_keys, serve
from twincar.deploy.server.app import create_app
from twincar.deploy.server.codes import OtherCode, PhotoCode, RefusalCode
from twincar.deploy.server.connection import TimeoutProtocol
from twincar.deploy.server.schema import PhotosAsJson, Refused, State
from twincar.inference.classifier import Classifier
from twincar.inference.teach_errors import TeachCode

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"
GET_ROUTES = ("/v1/model", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/")
JSON_HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def classifier() -> NotingClassifier:
    return colour_classifier()


def ask(classifier: Classifier, **settings: Any) -> TestClient:
    app = create_app(classifier, name="cars", settings=HttpSettings(**settings))
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def client(classifier: Classifier) -> Iterator[TestClient]:
    with ask(classifier) as client:
        yield client


def exchange(address: tuple[str, int], sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("head", "body", "word"),
    [
        (JSON_HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", "both"),
        (JSON_HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n", "both"),
        (JSON_HEAD + b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n", "folded"),
        (JSON_HEAD + b"X-A: b\r\n\tTransfer-Encoding: chunked\r\n", b"", "folded"),
        (JSON_HEAD + b"X-A: b\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", "CRLF"),
        (JSON_HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", "older"),
        (JSON_HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n", b"abcd", "valid HTTP"),
        (JSON_HEAD + b"Content-Length: 4, 5\r\n", b"abcd", "valid HTTP"),
        (JSON_HEAD + b"Content-Length: +4\r\n", b"abcd", "valid HTTP"),
        (JSON_HEAD + b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n", "valid HTTP"),
        (JSON_HEAD + b"Transfer-Encoding: identity, chunked\r\n", b"0\r\n\r\n", "valid HTTP"),
        (JSON_HEAD + b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n", "valid HTTP"),
        (JSON_HEAD + b"X-A: b\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", "valid HTTP"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n", b"", "valid HTTP"),
    ],
)
def test_what_two_programs_may_read_in_two_ways_is_refused_and_the_connection_closed(
    shared_server: tuple[str, int], head: bytes, body: bytes, word: str
) -> None:
    """What follows on the connection, which a proxy may think to be a body, is not answered."""
    answer = exchange(shared_server, head + b"\r\n" + body + NEXT)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"400"]
    assert b"\r\nConnection: close\r\n" in answer
    assert word in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[tuple[str, int]]:
    with listening(colour_classifier()) as address:
        yield address


def test_requests_that_arrive_in_pieces_or_together_are_answered(shared_server: tuple[str, int]) -> None:
    with socket.create_connection(shared_server, timeout=20) as connection:
        for piece in re.findall(rb"(?s).{1,7}", JSON_HEAD + b"Content-Length: 4\r\n\r\n{\n }"):
            connection.sendall(piece)
        last = NEXT.replace(b"Host", b"Connection: close\r\nHost")
        connection.sendall(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + NEXT + last)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"422", b"422", b"200", b"200"]


def test_head_is_answered_as_get_without_a_body(shared_server: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*shared_server, timeout=20)
    for path in GET_ROUTES:
        found = []
        for method in ("GET", "HEAD"):
            connection.request(method, path)
            response = connection.getresponse()
            found.append((response.status, response.getheader("Content-Type"), response.read()))
        assert found[1] == (*found[0][:2], b""), path
    connection.request("HEAD", "/v1/predict")
    assert connection.getresponse().status == 405


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1\r\nConnection: close"])
def test_who_is_refused_while_sending_can_read_why(classifier: Classifier, version: bytes) -> None:
    """As a proxy that speaks HTTP/1.0; a connection that is closed at once is reset, and the response lost."""
    size = 30_000_000
    sent = b"POST /v1/predict %s\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (version, size)
    with listening(classifier, settings=HttpSettings(api_keys=(KEY,))) as address:
        head, _, body = exchange(address, sent + bytes(size)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401")
    assert json.loads(body)["code"] == "unauthorized"


def test_who_is_refused_and_does_not_stop_sending_is_let_go(classifier: Classifier) -> None:
    class Hasty(TimeoutProtocol):
        head_seconds = 0.1

    def cut_off() -> bool:
        try:
            client.sendall(bytes(1_000_000))
        except (BrokenPipeError, ConnectionResetError):
            return True
        return False

    serving = listening(classifier, Hasty, settings=HttpSettings(api_keys=(KEY,)))
    with serving as address, socket.create_connection(address, timeout=20) as client:
        client.sendall(b"POST /v1/predict HTTP/1.0\r\nContent-Length: 99999999999\r\n\r\n")
        until(cut_off)


def test_a_connection_that_has_ended_is_freed_at_once(classifier: Classifier) -> None:
    """The body of a request may be megabytes, which the garbage collector does not see."""

    class Counted(TimeoutProtocol):
        alive: ClassVar[weakref.WeakSet[TimeoutProtocol]] = weakref.WeakSet()

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.alive.add(self)

    with listening(classifier, Counted) as address:
        gc.disable()
        try:
            assert exchange(address, NEXT.replace(b"1.1", b"1.0")).startswith(b"HTTP/1.1 200")
            until(lambda: not Counted.alive)
        finally:
            gc.enable()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("refused", [False, True])
def test_who_leaves_in_the_middle_of_a_request_leaves_nothing(
    classifier: Classifier, refused: bool, reset: bool
) -> None:
    """Whether it was refused or not: the time for which a refused client is waited for ends with its connection."""

    class Patient(TimeoutProtocol):
        head_seconds = 1000.0
        transports: ClassVar[weakref.WeakSet[asyncio.Transport]] = weakref.WeakSet()
        made = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.transports.add(transport)
            Patient.made += 1

    def alive() -> int:
        gc.collect()  # asyncio's transports are cycles
        return len(Patient.transports)

    key = b"wrong" if refused else KEY.encode()
    head = b"POST /v1/predict HTTP/1.0\r\nX-API-Key: %s\r\nContent-Length: 9999\r\n\r\n{" % key
    with listening(classifier, Patient, settings=HttpSettings(api_keys=(KEY,))) as address:
        for _ in range(20):
            with socket.create_connection(address, timeout=20) as client:
                client.sendall(head)
                if refused:
                    assert client.recv(65536).startswith(b"HTTP/1.1 401")
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: Patient.made == 20 and alive() == 0)


def test_base64_in_every_shape_programs_send(client: TestClient) -> None:
    photo = jpeg((250, 251, 252), (60, 41))
    text = in_base64(photo)
    spellings = [
        text,
        base64.encodebytes(photo).decode(),
        text.replace("\n", "").ljust(len(text) + 1, "\n").replace("A", "A\r\n"),
        base64.urlsafe_b64encode(photo).decode(),
        base64.urlsafe_b64encode(photo).decode().rstrip("="),
        f"data:image/jpeg;base64,{text}",
        f"data:image/jpeg;name=a car.jpg;charset=utf-8;base64,{text}",
        f"DATA:;BASE64,{base64.encodebytes(photo).decode()}",
    ]
    assert len({len(photo) % 3, 0}) == 2, "the photo needs padding"
    assert {"+", "/"} & set(text), "the photo needs both alphabets"
    items = client.post("/v1/predict", json={"photos": spellings, "top_k": 1}).json()["predictions"]
    assert {json.dumps({**item, "photo": ""}) for item in items} == {json.dumps({**items[0], "photo": ""})}
    assert items[0]["top_k"][0]["probability"] > 0
    wrong = ["data:image/svg+xml,<svg/>", text[:-3] + "é==", text + "A" * 5, "https://x/y.jpg"]
    items = client.post("/v1/predict", json={"photos": [text, *wrong]}).json()["predictions"]
    assert ["error" in item for item in items] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("header", "label"),
    [
        ("filename*=UTF-8''na%C3%AFve%20car.jpg", "naïve car.jpg"),
        ("filename*=UTF-8'en'..%2F..%2Fcar.jpg; x=y", "car.jpg"),
        ("filename=\"plain.jpg\"; filename*=UTF-8''other.jpg", "plain.jpg"),
        ("filename*=a\0b''%FF", "photo 1"),
    ],
)
def test_a_part_with_only_an_extended_file_name_is_a_photo(client: TestClient, header: str, label: str) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="photos"; {header}\r\n\r\n'.encode()
    body = head + jpeg() + b"\r\n--b--\r\n"
    response = client.post("/v1/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    if "\0" in header:
        assert response.status_code in (200, 400)
    else:
        assert response.json()["predictions"][0]["photo"] == label


def test_every_route_but_probes_asks_for_the_key(classifier: Classifier) -> None:
    with ask(classifier, api_keys=(KEY,), allow_origins=("https://cars.example",)) as client:
        assert [client.get(path).status_code for path in GET_ROUTES] == [401, 200, 200, 401, 401, 401, 401]
        for headers in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": f"Bearer {KEY[:-1]}"},
            {"X-API-Key": KEY + "x"},
            {"X-API-Key": "é".encode("latin-1")},  # type: ignore[dict-item]
            {"Authorization": KEY},
        ):
            refused(response := client.post("/v1/predict", files=files(jpeg()), headers=headers), 401, "API key")
            assert response.headers["www-authenticate"] == 'Basic realm="TwinCar"'
        refused(client.get("/docs", headers={"Authorization": "Basic ???"}), 401, "Unauthorized")
        basic = base64.b64encode(f"anybody:{KEY}".encode()).decode()
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, {"Authorization": f"Basic {basic}"}):
            assert client.post("/v1/predict", files=files(jpeg()), headers=headers).status_code == 200
        # Browsers ask without the key whether they may ask with it.
        preflight = {"Origin": "https://cars.example", "Access-Control-Request-Method": "POST"}
        assert client.options("/v1/predict", headers=preflight).status_code == 200
        api = client.get("/openapi.json", headers={"X-API-Key": KEY}).json()
        page = client.get("/docs", headers={"X-API-Key": KEY}).text
    schemes = api["components"]["securitySchemes"]
    assert {(s["type"], s.get("scheme"), s.get("name")) for s in schemes.values()} == {
        ("http", "bearer", None), ("apiKey", None, "X-API-Key"), ("http", "basic", None),
    }  # fmt: skip
    for path, methods in api["paths"].items():
        (operation,) = methods.values()
        is_open = path in ("/healthz", "/readyz")
        assert is_open == ("security" not in operation) == ("401" not in operation["responses"]), path
    assert "Authorization: Bearer $TWINCAR_API_KEY" in page
    assert KEY not in page


def test_each_of_several_keys_is_accepted_so_that_one_can_be_replaced(classifier: Classifier) -> None:
    with ask(classifier, api_keys=(KEY, OTHER)) as client:
        keys = (KEY, OTHER, KEY + OTHER, f"{KEY}\n{OTHER}".encode().hex())
        assert [client.get("/v1/model", headers={"X-API-Key": key}).status_code for key in keys] == [200, 200, 401, 401]


@pytest.mark.parametrize("root_path", ["", "/cars"])
def test_an_address_with_a_slash_too_many_is_not_redirected(classifier: Classifier, root_path: str) -> None:
    """Behind a proxy the server would name a scheme, a host and a path that are not the client's."""
    with ask(classifier, root_path=root_path) as client:
        for method, path in (("POST", "/v1/predict/"), ("GET", "/docs/"), ("GET", "/v1/model/")):
            response = client.request(method, path)
            refused(response, 404, "Not Found")
            assert (response.json()["code"], "location" in response.headers) == ("not_found", False)


def test_a_photo_may_be_the_body_with_the_options_in_the_address(client: TestClient) -> None:
    headers = {"Content-Type": "image/jpeg"}
    photo = jpeg(size=(60, 40))
    found = client.post("/v1/predict?top_k=2&level=make&cars=main", content=photo, headers=headers).json()
    as_form = client.post(
        "/v1/predict", files=files(photo), data={"top_k": "2", "level": "make", "cars": "main"}
    ).json()
    (item,), (same,) = found["predictions"], as_form["predictions"]
    assert {**item, "photo": ""} == {**same, "photo": ""}
    assert (item["photo"], item["level"], len(item["top_k"]), item["cars"]) == ("photo 1", "make", 2, None)
    assert (item["width"], item["height"]) == (60, 40)
    for query, body, status, code in (
        ("?levl=make", photo, 422, "invalid_option"),
        ("", b"no photo", 422, "not_an_image"),
        ("", b"", 422, "empty"),
    ):
        response = client.post(f"/v1/predict{query}", content=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (status, code)


def test_the_size_of_a_photo_is_that_of_the_upright_one(client: TestClient) -> None:
    data, exif = io.BytesIO(), Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.new("RGB", (60, 40)).save(data, "JPEG", exif=exif)
    (item,) = client.post("/v1/predict", files=files(data.getvalue())).json()["predictions"]
    assert (item["width"], item["height"]) == (40, 60)


def test_the_page_lists_the_codes_of_errors(client: TestClient) -> None:
    listed = client.get("/docs").text.partition("<h2>Errors</h2>")[2]
    codes = [code for kind in (RefusalCode, TeachCode, OtherCode, PhotoCode) for code in get_args(kind)]
    assert sorted(re.findall("<code>([a-z_0-9]+)</code>", listed)) == sorted([*codes, "error", "code"])


def test_errors_have_codes_for_programs(client: TestClient) -> None:
    large = jpeg() + bytes(17 * 2**20)
    asked = [
        (client.post("/v1/predict", json={"photos": [], "levl": "make"}), 422, "no_photos"),
        (client.post("/v1/predict", json={"photos": ["AAAA"], "levl": "make"}), 422, "invalid_option"),
        (client.post("/v1/predict", json={}), 422, "invalid_option"),
        (client.post("/v1/predict", json={"photos": ["?"]}), 422, "invalid_base64"),
        (client.post("/v1/predict", files=files(b"no", b"none")), 422, "unreadable_photos"),
        (client.post("/v1/predict", files=files(large)), 413, "too_many_bytes"),
        (client.post("/v1/predict", files=files(*[b"x"] * 33)), 413, "too_many_photos"),
        (client.post("/v1/predict", content=b"{", headers={"Content-Type": "application/json"}), 400, "malformed_body"),
        (client.get("/v1/predict"), 405, "method_not_allowed"),
    ]
    for response, status, code in asked:
        Refused.model_validate(response.json())
        assert (response.status_code, response.json()["code"]) == (status, code)
    assert "Did you mean 'level'?" in asked[1][0].json()["error"]
    assert "levl" in asked[1][0].json()["error"]
    counted = client.get("/metrics").text
    assert 'twincar_failed_photos_total{code="too_many_bytes"} 1.0' in counted
    assert 'twincar_failed_photos_total{code="too_many_pixels"} 0.0' in counted


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"top_k": "abc"}, "Expected a valid integer in the field 'top_k', but found 'abc'."),
        ({"top_k": 0}, "Expected at least 1 in the field 'top_k', but found '0'."),
        ({"top_k": 1001}, "Expected at most 1000 in the field 'top_k', but found '1001'."),
        ({"cars": "two"}, "Expected 'main' or 'all' in the field 'cars', but found 'two'."),
        ({"explain": "perhaps"}, "Expected a valid boolean in the field 'explain', but found 'perhaps'."),
        ({"photos": "AAAA"}, "Expected a valid array in the field 'photos', but found 'AAAA'."),
        ([], "Expected an object in the body, but found something else."),
    ],
)
def test_a_wrong_value_is_quoted(client: TestClient, sent: Any, said: str) -> None:
    body = {"photos": ["AAAA"], **sent} if isinstance(sent, dict) else sent
    assert client.post("/v1/predict", json=body).json() == {"error": said, "code": "invalid_option"}


def test_an_empty_level_of_a_form_is_none(client: TestClient) -> None:
    assert client.post("/v1/predict", files=files(jpeg()), data={"level": ""}).status_code == 200


def test_the_model_has_its_licence_and_no_scores_of_before_calibration(classifier: Classifier) -> None:
    validation = {"val_acc": 0.9, "val_ece": 0.2, "val_brier": 0.16, "val_loss": 0.5}
    classifier.spec = replace(classifier.spec, license="apache-2.0", provenance={"epoch": 3, "validation": validation})
    with ask(classifier) as client:
        about = client.get("/v1/model").json()
    assert about["provenance"] == {"epoch": 3, "validation": {"val_acc": 0.9}}
    assert about["license"]["id"] == "apache-2.0"


def test_without_a_key_nothing_asks_for_one(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    assert "securitySchemes" not in api["components"]
    assert "API key" not in client.get("/docs").text


def test_a_request_without_the_key_is_refused_before_its_body_is_there(classifier: Classifier) -> None:
    settings = HttpSettings(api_keys=(KEY,))
    with listening(classifier, settings=settings) as address, socket.create_connection(address, 20) as connection:
        connection.sendall(JSON_HEAD + b"Content-Length: 1000000\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 401")


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n", encoding="utf-8")
    assert read_api_keys(path, {"TWINCAR_API_KEY": OTHER}) == (KEY,)
    assert read_api_keys(None, {"TWINCAR_API_KEY": OTHER}) == (OTHER,)
    assert read_api_keys(None, {}) == ()
    for text, words in (
        (" \n", "is empty"),
        ("short", "at least 16 characters"),
        (f"{KEY}\nbad", "at least 16.*line 2"),
        ("é" * 20, "something else"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            read_api_keys(path, {})
    path.write_text(f"{KEY}\n\n{OTHER}\n", encoding="utf-8")
    assert read_api_keys(path, {}) == (KEY, OTHER)
    path.write_bytes(b"k" * 100_000)
    with pytest.raises(UsageError, match="at most 64 KiB"):
        read_api_keys(path, {})
    path.write_bytes(b"k" * 2000)
    with pytest.raises(UsageError, match="at most 1024"):
        read_api_keys(path, {})
    with pytest.raises(UsageError, match="TWINCAR_API_KEY, but it is empty"):
        read_api_keys(None, {"TWINCAR_API_KEY": ""})
    for missing in (tmp_path / "none", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match="there is none"):
            read_api_keys(missing, {})
    assert KEY not in repr(HttpSettings(api_keys=(KEY,)))


def test_a_key_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_text(KEY, encoding="utf-8")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        read_api_keys(path, {})


@pytest.mark.parametrize("strips", [True, False])
def test_behind_a_prefix_every_link_and_call_keeps_it(classifier: Classifier, strips: bool) -> None:
    """Whether or not the proxy strips it on the way."""
    with ask(classifier, root_path="/cars/") as client:
        way = "" if strips else "/cars"
        assert client.get(f"{way}/").headers["location"] == "/cars/docs"
        page = client.get(f"{way}/docs").text
        api = client.get(f"{way}/openapi.json").json()
        assert client.post(f"{way}/v1/predict", files=files(jpeg())).status_code == 200
        assert client.get("/nothing").json()["error"].endswith("/cars/docs")
    assert api["servers"] == [{"url": "/cars"}]
    assert set(api["paths"]) == {"/v1/predict", "/v1/model", "/healthz", "/readyz", "/metrics"}
    assert "http://testserver/cars</span>/v1/predict" in page
    calls = re.findall(r"""href="([^"]*)"|fetch\("([^"]*)\"""", page)
    reached = {urllib.parse.urljoin("https://x/cars/docs", "".join(call)) for call in calls if "data:," not in call}
    assert reached == {"https://x/cars/openapi.json", "https://x/cars/v1/predict"}


def test_a_header_of_a_client_changes_no_prefix(client: TestClient) -> None:
    headers = {"X-Forwarded-Prefix": "//evil.example", "X-Forwarded-Host": "evil.example"}
    assert client.get("/", headers=headers).headers["location"] == "docs"
    assert "evil" not in client.get("/docs", headers=headers).text


@pytest.mark.parametrize("prefix", ["cars", "/a b", "https://x/cars", '/"', "/a//b"])
def test_a_prefix_that_is_none(prefix: str) -> None:
    with pytest.raises(UsageError, match="such as /cars"):
        HttpSettings(root_path=prefix)


def test_pages_of_named_sites_may_ask(classifier: Classifier) -> None:
    def preflight(client: TestClient, origin: str) -> Any:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        return client.options("/v1/predict", headers={"Origin": origin, **asked})

    allowed = "access-control-allow-origin"
    with ask(classifier, allow_origins=("https://cars.example", "http://localhost:3000")) as client:
        for origin in ("https://cars.example", "http://localhost:3000"):
            assert preflight(client, origin).headers[allowed] == origin
            response = client.post("/v1/predict", files=files(b"none"), headers={"Origin": origin})
            assert (response.status_code, response.headers[allowed]) == (422, origin)
        assert allowed not in preflight(client, "https://other.example").headers
        assert allowed not in client.get("/healthz", headers={"Origin": "https://other.example"}).headers
    with ask(classifier) as client:
        assert preflight(client, "https://cars.example").status_code == 405
        assert allowed not in client.get("/healthz", headers={"Origin": "https://cars.example"}).headers
    with ask(classifier, allow_origins=("*",)) as client:
        assert client.get("/healthz", headers={"Origin": "https://any.example"}).headers[allowed] == "*"
    for wrong in ("cars.example", "https://cars.example/", "https://cars.example/page", "https://*.example", "null"):
        with pytest.raises(UsageError, match=r"such as https://cars\.example"):
            HttpSettings(allow_origins=(wrong,))


def test_every_request_is_a_line_of_the_log_with_its_id(
    classifier: Classifier, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "twincar.deploy.server.request_log")
    with ask(classifier, api_keys=(KEY,)) as client:
        client.get("/healthz?api_key=secret", headers={"X-Request-ID": "proxy-42"})
        made = client.get("/nothing", headers={"X-Request-ID": "a b\x1b[31m"}).headers["x-request-id"]
        client.head("/" + "x" * 1000)
        monkeypatch.setattr(classifier.engine, "logits", lambda _: 1 / 0)
        failed = client.post("/v1/predict", files=files(jpeg()), headers={"X-API-Key": KEY, "X-Request-ID": "x" * 129})
    lines = [record.getMessage() for record in caplog.records if record.name == "twincar.deploy.server.request_log"]
    assert len(lines) == 4
    pattern = r"\d{4}-\d\d-\d\dT[\d:.+-]+ testclient (\S+) (\S+) (\d+) (\d+\.\d{3})s (\S+)"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found), lines
    method, path, status, _, request_id = found[0].groups()  # type: ignore[union-attr]
    assert (method, path, status, request_id) == ("GET", "/healthz", "200", "proxy-42")
    assert [match[3] for match in found] == ["200", "404", "404", "500"]  # type: ignore[index]
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert made == found[1][5]  # type: ignore[index]
    assert len(lines[2]) < 350
    assert (failed.status_code, failed.headers["x-request-id"]) == (500, found[3][5])  # type: ignore[index]
    assert not {"secret", KEY} & set(" ".join(lines))
    caplog.clear()
    with ask(classifier, access_log=False) as client:
        assert client.get("/healthz").headers["x-request-id"]
    assert not [record for record in caplog.records if record.name == "twincar.deploy.server.request_log"]


def test_an_error_inside_the_server_has_the_headers_for_other_sites(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier.engine, "logits", lambda _: 1 / 0)
    with ask(classifier, allow_origins=("https://cars.example",)) as client:
        failed = client.post("/v1/predict", files=files(jpeg()), headers={"Origin": "https://cars.example"})
    assert failed.status_code == 500
    assert failed.headers["access-control-allow-origin"] == "https://cars.example"
    assert failed.headers["x-request-id"]


@pytest.mark.parametrize("access_log", [True, False])
def test_a_request_that_is_no_valid_http_has_a_line_in_the_log(
    classifier: Classifier, caplog: pytest.LogCaptureFixture, access_log: bool
) -> None:
    caplog.set_level(logging.INFO, "twincar.deploy.server.request_log")
    with listening(classifier, settings=HttpSettings(access_log=access_log)) as address:
        answer = exchange(address, b"no http\r\n\r\n")
    request_id = re.search(rb"X-Request-ID: ([0-9a-f]{32})\r\n", answer)[1].decode()  # type: ignore[index]
    lines = [record.getMessage() for record in caplog.records if record.name == "twincar.deploy.server.request_log"]
    expected = rf"\d{{4}}-\d\d-\d\dT[\d:.+-]+ 127\.0\.0\.1 - - 400 0\.000s {request_id}"
    assert [bool(re.fullmatch(expected, line)) for line in lines] == [True] * access_log


def test_its_own_description_is_true(client: TestClient) -> None:
    """The example is answered; what is answered, errors too, fits the schema."""
    api = client.get("/openapi.json").json()
    predict = api["paths"]["/v1/predict"]["post"]
    content = predict["requestBody"]["content"]["application/json"]
    PhotosAsJson.model_validate(content["example"])
    response = client.post("/v1/predict", json=content["example"])
    assert response.status_code == 200, response.text
    assert response.json()["predictions"][0]["explanation"]
    statuses = {"200", "400", "408", "413", "415", "421", "422", "500", "503", "504"}
    assert set(predict["responses"]) == statuses
    for path in ("/healthz", "/readyz"):
        assert set(api["paths"][path]["get"]["responses"]) == {"200", "503"}
    Refused.model_validate(client.post("/v1/predict", json={}).json())
    State.model_validate(client.get("/readyz").json())
    assert api["info"]["version"] == twincar.__version__
    operations = [operation["operationId"] for methods in api["paths"].values() for operation in methods.values()]
    assert len(set(operations)) == len(operations) == 5


@pytest.mark.parametrize(("host", "key", "warned"), [("0.0.0.0", "", 1), ("0.0.0.0", KEY, 0), ("localhost", "", 0)])
def test_who_lets_others_in_without_a_key_is_told(
    classifier: Classifier,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    key: str,
    warned: int,
) -> None:
    async def ended(_: object) -> None: ...

    monkeypatch.setattr("twincar.deploy.server.server.DrainingServer.main_loop", ended)
    caplog.set_level(logging.INFO, "twincar.deploy.server.server")
    serve(classifier, name="cars", host=host, port=0, settings=HttpSettings(api_keys=(key,) if key else ()))
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == warned
    assert all("There is no login" in line and "--api-key-file" in line for line in told)


def test_one_photo_is_not_photos(classifier: Classifier) -> None:
    app = create_app(classifier, name="cars")
    with TestClient(app) as client:
        app.state.service.batching.in_flight = 128
        refused(client.post("/v1/predict", files=files(jpeg())), 503, "room for 1 photo, but 128 of 128 places")
        app.state.service.batching.in_flight = 0


def test_libraries_write_no_lines_of_their_own(
    shared_server: tuple[str, int], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    connection = http.client.HTTPConnection(*shared_server, timeout=20)
    connection.request("POST", "/v1/predict", b"no form", {"Content-Type": "multipart/form-data; boundary=b"})
    assert connection.getresponse().status == 400
    names = {record.name.partition(".")[0] for record in caplog.records}
    assert names <= {"twincar", "asyncio"}
    assert capfd.readouterr().err == ""

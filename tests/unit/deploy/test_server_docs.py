"""The examples of docs/deploy.md: the responses that it shows, its Python and JavaScript, nginx, systemd."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from test_server import colour_classifier, jpeg, listening, until

import twincar
from twincar.deploy.server import HttpSettings
from twincar.deploy.server.app import create_app
from twincar.inference.classifier import Classifier

TEXT = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bundled() -> Classifier:
    return twincar.load()


def shown_of(found: Any, shown: Any) -> Any:
    """The part of a response that an example shows: `...` in an object stands for its other fields."""
    if isinstance(shown, dict) and "..." in shown:
        return {**{name: shown_of(found[name], value) for name, value in shown.items() if name != "..."}, "...": 0}
    if isinstance(shown, dict) and isinstance(found, Mapping):
        return {name: shown_of(value, shown.get(name)) for name, value in found.items()}
    if isinstance(shown, list) and isinstance(found, list) and len(shown) == len(found):
        return [shown_of(*pair) for pair in zip(found, shown, strict=True)]
    return found


def in_order(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a response and their places, in their order."""
    if not isinstance(value, (dict, list)) or not value:
        yield path, pytest.approx(value, abs=0.005) if isinstance(value, float) else value
        return
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from in_order(inner, f"{path}/{name}")


def test_the_response_that_is_shown_is_that_of_the_bundled_model(bundled: Classifier) -> None:
    """Its fields in their order, and their values; digits of probabilities may differ from machine to machine."""
    (block,) = re.findall(r'```json\n(\{"predictions".*?)```', TEXT, re.DOTALL)
    shown = json.loads(block.replace("...", '"...": 0'))
    photo = files("twincar") / "assets" / "two_cars.jpg"
    with TestClient(create_app(bundled, name="bundled")) as client:
        sent = {"photos": ("two_cars.jpg", photo.read_bytes())}
        found = client.post("/v1/predict", files=sent, data={"top_k": "1"}).json()
    assert list(in_order(shown)) == list(in_order(shown_of(found, shown)))


def test_the_responses_to_teaching_that_are_shown_have_the_fields_of_real_ones(bundled: Classifier) -> None:
    """In their order, and of the same kinds; the photos of the example are not here."""
    (block,) = re.findall(r'```json\n(\{"name": "Seat.*?)```', TEXT, re.DOTALL)
    taught, end = json.JSONDecoder().raw_decode(block)
    shown = [taught, json.loads(block[end:])]
    picture, key = Image.open(str(files("twincar") / "assets" / "two_cars.jpg")), {"X-API-Key": "0123456789abcdef"}
    sent = []
    for edge in (0, 10, 20):
        data = io.BytesIO()
        picture.crop((edge, 100, 500 - edge, 480)).save(data, "PNG")
        sent.append(("photos", (f"{edge}.png", data.getvalue())))
    chosen = HttpSettings(api_keys=(key["X-API-Key"],), allow_teach=True)
    with TestClient(create_app(bundled, name="bundled", settings=chosen), headers=key) as client:
        name = {"name": taught["name"]}
        found = [client.post("/v1/teach", files=sent, data=name), client.delete("/v1/teach", params=name)]
    for response, example in zip(found, shown, strict=True):
        real = response.json()
        assert [(field, type(value)) for field, value in real.items()] == [
            (field, type(value)) for field, value in example.items()
        ]
        assert (real["classes"], len(real["sha256"])) == (example["classes"], len(example["sha256"]))
    assert found[0].json()["known_similarity"] == pytest.approx(taught["known_similarity"], abs=0.001)


_BROWSER = """
const {readFileSync} = require("fs"), found = [], input = {}, rows = {};
rows.append = item => found.push(item.textContent);
rows.replaceChildren = () => {};
globalThis.document = {
  querySelector: name => name === "input" ? input : rows,
  createElement: () => ({}),
};
%s
(async () => {
  for (const path of process.argv.slice(2)) await input.onchange({target: {files: [new Blob([readFileSync(path)])]}});
  console.log(JSON.stringify(found));
})();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the JavaScript of the documentation")
def test_the_page_in_javascript_names_every_car_and_says_why_there_is_none(bundled: Classifier, tmp_path: Path) -> None:
    (script,) = re.findall(r"```html\n.*?<script>\n(.*?)</script>", TEXT, re.DOTALL)
    photos = [Path(str(files("twincar") / "assets" / "two_cars.jpg")), tmp_path / "empty.jpg", tmp_path / "none.jpg"]
    photos[1].write_bytes(jpeg((250, 250, 250), (320, 200)))
    photos[2].write_bytes(b"no photo")
    with listening(bundled) as (host, port):
        (tmp_path / "page.js").write_text(_BROWSER % script.replace("127.0.0.1:8000", f"{host}:{port}"), "utf-8")
        said = subprocess.run(["node", tmp_path / "page.js", *photos], capture_output=True, text=True, check=True)
    hummer, second, empty, none = json.loads(said.stdout)
    assert (hummer, empty) == ("AM General Hummer SUV 2000, 100%", "no car found")
    assert second == "not sure"
    assert "it is not an image" in none


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the JavaScript of the page")
def test_the_page_of_the_server_writes_rows_of_numbers_in_one_line(tmp_path: Path) -> None:
    """And its canvas can be hidden, which `display: block` alone would prevent."""
    with TestClient(create_app(colour_classifier(), name="cars")) as client:
        page = client.get("/docs").text
    (function,) = re.findall(r"^function written.*?^}", page, re.DOTALL | re.MULTILINE)
    found = {"box": [1, 2, 30, 4], "heatmap": [[0.5, 1e-05], [0, 1]], "cars": [], "answer": "[1,\n 2]"}
    (tmp_path / "page.js").write_text(f"{function}\nconsole.log(written({json.dumps(found)}))", encoding="utf-8")
    said = subprocess.run(["node", tmp_path / "page.js"], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == found
    assert said.splitlines()[1:6] == [' "box": [1, 2, 30, 4],', ' "heatmap": [', "  [0.5, 0.00001],", "  [0, 1]", " ],"]
    assert "canvas[hidden] { display: none; }" in page


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd checks its unit")
def test_the_unit_of_systemd_is_one(tmp_path: Path) -> None:
    (unit,) = re.findall(r"```ini\n(\[Unit\].*?)```", TEXT, re.DOTALL)
    (command,) = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    (tmp_path / "twincar.service").write_text(unit.replace(command, "/bin/true"), encoding="utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "twincar.service"], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)", unit, re.MULTILINE)
    assert f"terminationGracePeriodSeconds: {stop}" in TEXT


def painted_by_the_program(classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    """What the program of the documentation makes of `car.jpg` in a folder."""
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "heatmap" in block]
    monkeypatch.chdir(folder)
    with listening(classifier) as (host, port):
        exec(program.replace("127.0.0.1:8000", f"{host}:{port}"), {})
    return Image.open(folder / "heat.png")


def test_the_heat_map_of_each_car_is_painted_over_it(
    bundled: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a photo that lies on its side; the boxes are in the upright one."""
    upright = Image.open(str(files("twincar") / "assets" / "two_cars.jpg"))
    orientation = Image.Exif()
    orientation[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "car.jpg", exif=orientation, quality=95)
    painted = np.asarray(painted_by_the_program(bundled, tmp_path, monkeypatch), float)
    assert painted.shape == (480, 960, 3)
    less_blue = (np.asarray(upright, float) - painted)[..., 2] > 40  # yellow has none
    assert less_blue[216:434, 37:484].mean() > 0.2
    assert less_blue[169:383, 515:913].mean() > 0.1
    assert less_blue[:160].mean() < 0.001  # the sky


def test_a_photo_without_a_car_is_painted_as_it_is(
    bundled: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "car.jpg").write_bytes(jpeg((250, 250, 250), (320, 200)))
    painted = painted_by_the_program(bundled, tmp_path, monkeypatch)
    assert painted.getextrema() == ((250, 250),) * 3


@contextmanager
def behind_nginx(address: tuple[str, int], folder: Path) -> Iterator[str]:
    """The address of an nginx with the lines of the documentation, before a server."""
    (lines,) = re.findall(r"^```nginx\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; events {{}}\n"
        f"http {{ {kept} log_format ids '$status $request_id'; access_log {folder}/requests ids;\n"
        f"server {{ listen 127.0.0.1:{port};\n{lines.replace('127.0.0.1:8000', '{}:{}'.format(*address))}}} }}\n",
        encoding="utf-8",
    )
    started = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")])
    try:
        until(lambda: connects(port))
        yield f"http://127.0.0.1:{port}/cars"
    finally:
        started.terminate()
        started.wait(20)


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.skipif(shutil.which("nginx") is None, reason="the documentation shows an nginx")
def test_the_nginx_of_the_documentation_passes_requests_and_errors_on(tmp_path: Path) -> None:
    classifier, key, image = colour_classifier(), "0123456789abcdef", {"Content-Type": "image/jpeg"}
    settings = HttpSettings(root_path="/cars", api_keys=(key,))
    with listening(classifier, settings=settings) as address, behind_nginx(address, tmp_path) as nginx:

        def ask(body: bytes, key: str = key, url: str = nginx) -> httpx.Response:
            return httpx.post(f"{url}/v1/predict?explain=true", content=body, headers={**image, "X-API-Key": key})

        answer = ask(jpeg())
        assert (answer.status_code, answer.content) == (200, ask(jpeg(), url="http://{}:{}".format(*address)).content)
        until((tmp_path / "requests").read_text)  # it is written after the response is sent
        assert (tmp_path / "requests").read_text() == f"200 {answer.headers['X-Request-ID']}\n"
        refused = [ask(bytes(20_000_000), "wrong") for _ in range(3)]
        refused += [ask(bytes(2**25 + 1)), ask(bytes(2**24 + 1))]
        found = [(response.status_code, response.json()["code"]) for response in refused]
        assert found == [(401, "unauthorized")] * 3 + [(413, "too_large"), (413, "too_many_bytes")]
        assert httpx.get(f"{nginx}/docs", headers={"X-API-Key": key}).status_code == 200

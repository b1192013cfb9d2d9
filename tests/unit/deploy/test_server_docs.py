"""The examples of docs/deploy.md: the response that it shows, and the program that paints heat maps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from test_server import jpeg, listening

import twincar
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

"""The benchmark of framings: what each frame does to a photo, what is counted, and the command at its smallest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import draw_car
from PIL import Image

import twincar
from benchmarks.quality import framing
from benchmarks.quality.framing import FRAMES, Tally

WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("name", "size", "share"),
    [
        ("tight", (200, 100), 1.0),
        ("sides 15% longer", (230, 115), 1 / 1.15**2),
        ("sides 30% longer", (260, 130), 1 / 1.3**2),
        ("sides 10% shorter", (180, 90), 1.0),
        ("sides 20% shorter", (160, 80), 1.0),
        ("in a grey picture three times as large", (600, 300), 1 / 9),
        ("letterboxed to a square", (200, 200), 1 / 2),
        ("half of the car at the edge", (160, 160), 100 * 100 / 160**2),  # beside 60 pixels of surroundings
        ("a quarter of the car at the edge", (110, 160), 50 * 100 / (110 * 160)),
    ],
)
def test_each_frame_has_its_size_and_shows_as_much_of_the_photo(
    name: str, size: tuple[int, int], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "_blurred", lambda _, size: Image.new("RGB", size))  # so that it can be told apart
    photo = Image.new("RGB", (200, 100), WHITE)
    framed = FRAMES[name](photo, np.random.default_rng(0))
    assert framed.size == size
    assert np.all(np.asarray(framed) == 255, axis=2).mean() == pytest.approx(share, abs=1e-9)


def test_made_up_surroundings_are_blurred_and_hold_no_black() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(60, 200, (100, 200, 3), np.uint8))
    framed = np.asarray(FRAMES["in a blurred picture three times as large"](photo, np.random.default_rng(0)))
    assert framed.shape == (300, 600, 3)
    assert framed.min() >= 60
    corner = framed[:20, :20] if framed[:20, :20].std() < framed[-20:, -20:].std() else framed[-20:, -20:]
    assert corner.std() < 10  # the noise itself has a standard deviation of 40


def test_what_is_right_and_what_is_accepted_are_counted_apart(small_run: Path) -> None:
    prediction = twincar.load(small_run).predict(draw_car(0, 0))
    tally = Tally()
    tally.add(prediction, prediction.top1.name)
    tally.add(prediction, "another car")
    tally.add(None, prediction.top1.name)
    name, number, accuracy, accepted, right = tally.row("cars")
    assert (name, number) == ("cars", "3")
    assert accuracy.startswith("0.333 ")
    assert accepted.startswith("0.667 " if prediction.answer else "0.000 ")
    assert right.startswith("0.500 ") if prediction.answer else right == "-"

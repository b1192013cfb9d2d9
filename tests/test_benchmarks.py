"""What the benchmarks are made of; nothing here is timed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.install import _megabytes
from benchmarks.label_errors import plant
from benchmarks.measuring import FULL, Section, in_turn, ratio, spread
from benchmarks.picture import Bar, draw_ratios, read_ratios
from twincar.data.annotations import Annotation


def test_ways_take_turns_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    seconds = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, warm_up=2)
    assert calls == ["a", "b"] * (FULL.rounds + 2)
    assert [len(times) for times in seconds.values()] == [FULL.rounds] * 2


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    seconds = {"theirs": [4.0, 6.0, 8.0], "ours": [2.0, 1.0, 2.0]}
    assert ratio(seconds, "theirs", "ours") == 3.0
    assert spread(seconds, "theirs", "ours") == "3.0 (2.0 to 6.0)"


def test_the_picture_shows_the_ratios_of_the_tables(tmp_path: Path) -> None:
    header = ["way", "one photo, ms", "times", "many, photos/s", "times"]
    rows = [["yardstick", "10", "1.0 (1.0 to 1.0)", "9", "1.0 (1.0 to 1.0)"]]
    rows += [["ours", "5", "2.0 (1.5 to 2.5)", "27", "3.0 (2.9 to 3.1)"]]
    text = Section("Answers", header, rows, ["One note."]).to_markdown()
    assert read_ratios(text)[2:] == [
        Bar("Answers, one photo: ours", 2.0, 1.5, 2.5),
        Bar("Answers, many: ours", 3.0, 2.9, 3.1),
    ]
    (tmp_path / "results.md").write_text(text)
    draw_ratios(tmp_path / "results.md", tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").stat().st_size > 5000


def test_the_committed_results_have_their_pictures() -> None:
    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    text = (folder / "results.md").read_text(encoding="utf-8")
    for title in ("Training input", "Training step", "Answers"):
        assert f"## {title}" in text
    for name in ("ratios", "growth_photos", "growth_classes"):
        assert f"results/{name}.png" in text
        assert (folder / "results" / f"{name}.png").exists()


def test_planted_labels_are_wrong_and_no_others_change() -> None:
    photos = [
        Annotation(file=str(i), label=i % 4, split="val", width=9, height=9, box=None, sha256="") for i in range(100)
    ]
    wrong, planted = plant(photos, list(range(50, 100)), 4, 0.2, 0)
    assert len(wrong) == 10
    assert wrong == {i for i in range(100) if planted[i].label != photos[i].label}
    assert min(wrong) >= 50
    assert {photo.label for photo in planted} == {0, 1, 2, 3}


def test_a_folder_weighs_what_du_says(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"x" * 3_000_001)
    told = subprocess.run(["du", "-s", "--block-size=1", tmp_path], capture_output=True, text=True, check=True)
    assert _megabytes(tmp_path) * 1e6 == int(told.stdout.split()[0])
    assert _megabytes(tmp_path) > 3

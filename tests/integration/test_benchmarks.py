"""What the benchmarks are made of; nothing here is timed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_model import BLUE, GREEN, RED, SCRIPT, YELLOW, paint, write_teachable
from conftest import draw_car
from detector_files import constant_detector
from PIL import Image
from programs import run

import twincar
from benchmarks.measuring import FULL, Section, in_turn, ratio, spread
from benchmarks.quality.confident_learning import plant
from benchmarks.quality.similar_classes import same_class
from benchmarks.speed import install
from benchmarks.speed.install import _megabytes
from benchmarks.speed.picture import Bar, draw_ratios, read_ratios
from tests.robustness import soak_train
from twincar.data.dataset import Annotation
from twincar.inference.teach import teach
from twincar.models.bundled import MODEL

KNOWN = (("BMW M3 Sedan 2012", RED), ("Volvo C30 Hatchback 2012", GREEN), (SCRIPT, BLUE))
"""Cars of the model of colours, and their colours."""
ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = (*sorted(ROOT.glob("benchmarks/**/*.py")), *sorted(ROOT.glob("tests/robustness/*.py")))
RUN_HERE = {
    *(
        "benchmarks",
        "benchmarks.scale.growth",
        "benchmarks.speed.yardstick",
        "benchmarks.speed.training_step",
        "benchmarks.speed.picture",
    ),
    *(
        "benchmarks.quality.detection",
        "benchmarks.quality.duplicates",
        "benchmarks.quality.confident_learning",
        "benchmarks.quality.framing",
        "benchmarks.quality.teaching",
        "benchmarks.quality.taught_classes",
        "benchmarks.quality.bundled_model",
        "benchmarks.quality.bundled_student",
        "benchmarks.quality.recipes",
        "benchmarks.speed.install",
    ),
    *(
        "benchmarks.speed.browser",
        "benchmarks.speed.serve_load",
        "tests.robustness.soak_server",
        "tests.robustness.soak_train",
    ),
    "benchmarks.quality.similar_classes",
    *("benchmarks.scale.cluster", "benchmarks.speed.similar_search", "tests.robustness.survival"),
}
"""Programs that a test below, or in `tests/slow/test_all_benchmarks.py`, runs at their smallest."""
ELSEWHERE = {
    "tests.robustness.fuzz",
    "benchmarks.quality.bundled_header",
    "benchmarks.quality.bundled_detector",
    "benchmarks.quality.cut_copies",
    "benchmarks.quality.low_quality",
    "benchmarks.quality.rejection",
    "benchmarks.quality.wrong_labels",
}
"""Of `test_fuzz.py`, `test_bundled.py`, `test_bundled_detector.py` and `test_reliability_benchmarks.py`."""
NO_FIGURES = {
    *("benchmarks.scale.growth", "benchmarks.speed.yardstick", "benchmarks.speed.training_step"),
    *("benchmarks.speed.picture", "benchmarks.quality.bundled_header", "benchmarks.quality.bundled_detector"),
}
"""Programs that others start, that draw, or that make a file of the package."""


def test_every_program_is_run_by_a_test() -> None:
    programs = {path for path in PROGRAMS if '__name__ == "__main__"' in path.read_text("utf-8")}
    assert {module_of(path) for path in programs} == RUN_HERE | ELSEWHERE


def test_the_table_of_measurements_names_every_program_and_pages_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `python -m ([\w.]+)[^`]*`.*?\| (.*) \|$", text, re.MULTILINE)
    assert sorted(module for module, _ in rows) == sorted((RUN_HERE | ELSEWHERE) - NO_FIGURES)
    for module, figures in rows:
        pages = re.findall(r"`([\w./]+\.md)`", figures)
        assert pages, module
        assert all((ROOT / page).is_file() for page in pages), module
    assert all(page.name in text for page in ROOT.glob("benchmarks/**/*.md"))


def module_of(path: Path) -> str:
    """What stands after `python -m`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


def test_every_command_that_is_written_down_has_these_flags() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/**/*.md"), *PROGRAMS]
    sources, found = {module_of(path): path for path in PROGRAMS}, 0
    for page in [*pages, MODEL.with_name("CARD.md"), ROOT / "Makefile"]:
        commands = re.findall(
            r"-m ((?:benchmarks|tests\.robustness)[.\w]*)((?: [^`\n#]*)?)", page.read_text(encoding="utf-8")
        )
        for module, rest in commands:
            source = sources[module]
            assert module in RUN_HERE | ELSEWHERE, page
            flags = re.findall(r"--[a-z-]+", rest)
            assert all(f'"{flag}"' in source.read_text(encoding="utf-8") for flag in flags), (page, module, rest)
            found += 1
    assert found > 20


def test_finds_are_counted(tmp_path: Path) -> None:
    """Of five cars the detector finds the three in the same place, of which one is small; of its finds one is wrong.

    Two are second boxes, and right, with an IoU of 0.451 and 0.452.
    """
    detector = tmp_path / "detector.onnx"
    boxes = [[0.1, 0.1, 0.5, 0.5], [0.2, 0.1, 0.55, 0.36], [0.6, 0.6, 0.7, 0.75]]
    detector.write_bytes(constant_detector(boxes, [[0, 0.9], [0, 0.85], [0, 0.55]]))
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (100, 100)).save(tmp_path / "photos" / name)
    rows = ["a.png,car,10,10,50,50", "a.png,car,60,60,70,75", "a.png,car,80,80,90,90", "a.png,bus,0,60,40,99"]
    rows += ["b.png,car,12,10,50,52", "b.png,car,60,10,99,50"]
    (tmp_path / "boxes.csv").write_text("\n".join(["filename,kind,x1,y1,x2,y2", *rows]))
    told = run("benchmarks.quality.detection", tmp_path, "--main-cars", tmp_path, "--detector", detector)
    large, small = (part for part in told.split("## ") if part.startswith("Cars"))
    of_large, of_small = (
        next(line for line in part.splitlines() if "0.5, the default" in line) for part in (large, small)
    )
    assert re.findall(r"\d\.\d{3} \(|\| \d+ \| \d+ \|", of_large) == ["0.667 (", "1.000 (", "| 4 | 2 |"]
    assert re.findall(r"\d\.\d{3} \(|\| \d+ \| \d+ \|", of_small) == ["0.600 (", "0.833 (", "| 6 | 2 |"]
    assert "| 2 | 2 | 0.9" in told.partition("## The main car")[2]


def test_copies_are_looked_for(small_data: Path) -> None:
    told = run("benchmarks.quality.duplicates", small_data, "--photos", 1, "--hashed", 3, "--compared", 50)
    assert "| comparing 50 photos |" in told
    assert "| JPEG quality 30 | 1 of 1 |" in told


def test_an_installation_is_weighed_and_asked(
    colour_model: Path, colour_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(wheel: Path, folder: Path) -> tuple[float, float, float]:
        """Nothing is fetched; the environment that this runs in stands for the new one."""
        assert wheel.suffix == ".whl"
        site = folder / "lib" / "python3" / "site-packages" / "onnxruntime"
        site.mkdir(parents=True)
        (site / "library.so").write_bytes(bytes(5_000_000))
        return 1.0, 2.0, 0.5

    monkeypatch.setattr(install, "_install", pretend)
    monkeypatch.setattr(install, "_build", lambda folder: folder / "twincar.whl")
    asked: list[list[str]] = []
    monkeypatch.setattr(install.subprocess, "run", lambda command, **_: asked.append([str(part) for part in command]))
    out, photo = tmp_path / "install.md", str(colour_photos / "0.png")
    monkeypatch.setattr(sys, "argv", ["install", str(colour_model), "--photo", photo, "--smallest", "--out", str(out)])
    install.main()
    told = out.read_text(encoding="utf-8")
    assert "| size in site-packages, MB | 3 | under 250 |" in told
    assert "Largest: onnxruntime 5 MB." in told
    assert [command[-1] for command in asked[:4]] == [photo, photo, "--help", "info"]


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
    header = ["engine", "one photo, ms", "speed-up", "many, photos/s", "speed-up"]
    rows = [["baseline", "10", "1.0 (1.0 to 1.0)", "9", "1.0 (1.0 to 1.0)"]]
    rows += [["TwinCar", "5", "2.0 (1.5 to 2.5)", "27", "3.0 (2.9 to 3.1)"]]
    text = Section("Inference", header, rows, ["One note."]).to_markdown()
    assert read_ratios(text)[2:] == [
        Bar("Inference, one photo: TwinCar", 2.0, 1.5, 2.5),
        Bar("Inference, many: TwinCar", 3.0, 2.9, 3.1),
    ]
    (tmp_path / "results.md").write_text(text)
    draw_ratios(tmp_path / "results.md", tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").stat().st_size > 5000


def test_the_committed_results_have_their_pictures() -> None:
    folder = ROOT / "benchmarks"
    text = (folder / "results.md").read_text(encoding="utf-8")
    for title in ("Training input", "Training step", "Inference"):
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


def test_framings_are_scored(small_data: Path, small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    draw_car(0, 0).save(tmp_path / "photos" / "car.png")
    (tmp_path / "boxes.csv").write_text("filename,label\ncar.png,nothing known\n", encoding="utf-8")
    arguments = ("--data", small_data, "--split", "val", "--count", 4, "--detect", "always", "--full", tmp_path)
    told = run("benchmarks.quality.framing", small_run, *arguments, "--no-car", tmp_path / "photos")
    assert re.search(r"^\| two cars side by side, each \| 4 \|", told, re.M)
    assert "| full photos | 1 | 0.000" in told


def test_a_training_is_soaked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training itself: `tests/slow/test_soak.py`."""
    seen = [soak_train.Look(memory=900.0, files=30, threads=9, processes=3)] * 10
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(soak_train, "train", lambda *how: asked.append(how) or seen)
    monkeypatch.setattr(
        sys, "argv", ["soak", "data", "--epochs", "11", "--limit", "1", "--out", str(tmp_path / "soak.md")]
    )
    soak_train.main()
    assert asked[0][:3] == (Path("data"), 11, 1)
    assert "| 10 | 900 MiB | 30 | 9 | 3 |" in (tmp_path / "soak.md").read_text(encoding="utf-8")


def test_the_yardstick_answers(tmp_path: Path, colour_photos: Path) -> None:
    import torch

    from benchmarks.speed import yardstick

    torch.save(yardstick.build_network("tf_efficientnetv2_b0").state_dict(), tmp_path / "weights.pth")
    told = run("benchmarks.speed.yardstick", "tf_efficientnetv2_b0", tmp_path / "weights.pth", colour_photos / "0.png")
    assert re.fullmatch(r"\[\[(\d+, ){4}\d+\]\]\n", told)


def test_the_search_of_an_index_finds_what_the_embeddings_rank_first() -> None:
    printed = run("benchmarks.speed.similar_search", "--rows", 2300, "--times", 2)
    assert "2,300 rows of 1280 features" in printed
    found, error = re.search(r"found (\d+) of 24 .* largest error (0\.\d+)", printed).groups()  # type: ignore[union-attr]
    assert int(found) >= 23
    assert float(error) < 0.001


def test_precision_of_similar_cars_by_hand(tmp_path: Path, colour_model: Path) -> None:
    """Three photos of one class, two of another, and one alone: as there are six, all others are compared."""
    for name, colours in {"a": (RED, RED, YELLOW), "b": (YELLOW, YELLOW), "alone": (BLUE,)}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, colour in enumerate(colours):
            paint(tmp_path / "photos" / name / f"{number}.png", colour)
    made = twincar.index(tmp_path / "photos", tmp_path / "cars.parquet", model=colour_model)
    printed = run("benchmarks.quality.similar_classes", made.path).splitlines()
    assert printed[0] == "5 photos of 2 classes, 1 alone in their class"
    assert printed[1].startswith("precision at 1: ")
    # All others of the class are among the five most similar: 2 + 2 + 2 + 1 + 1 of 25.
    assert printed[2] == "precision at 5: 0.320, 1.000 of what is possible"
    assert printed[3] == "at least one of 5 has the class: 1.000"
    vectors = np.array([[1, 0], [0.99, 0.1], [0.6, 0.8], [0, 1], [0.1, 0.99], [-1, 0]], np.float32)
    right = same_class(vectors, np.array([0, 0, 1, 1, 0, 2]))
    assert right[:, 0].tolist() == [True, True, False, False, False, False]


def test_teaching_is_compared(tmp_path: Path) -> None:
    """On cars that differ in colour every way names the new one, and no known car is taken for it."""
    model = write_teachable(tmp_path / "colours.onnx")
    for folder, shades in (("teach", range(4)), ("measure", range(4, 8))):
        (tmp_path / folder).mkdir()
        for shade in shades:
            paint(tmp_path / folder / f"{shade}.png", (250 - shade, 240 + shade, 2 * shade))
    for number, (_, colour) in enumerate(KNOWN):
        paint(tmp_path / f"{number}.png", colour)
    rows = [f"{number}.png,{name}\n" for number, (name, _) in enumerate(KNOWN)]
    (tmp_path / "known.csv").write_text("filename,label\n" + "".join(rows), encoding="utf-8")
    folders = ("--teach", tmp_path / "teach", "--measure", tmp_path / "measure", "--features", tmp_path / "features")
    told = run("benchmarks.quality.teaching", model, "--data", tmp_path / "known.csv", *folders)
    assert told.startswith("before: known cars right 100.0%; new car rejected 0.0%")
    assert "| ridge | 3 | 100.0% | 100.0% | 0.00% | +0.00 points |" in told
    assert len(re.findall(r"^\| (imprinting|LDA|ridge) \| [123] ", told, re.M)) == 9
    assert run("benchmarks.quality.teaching", model, "--data", tmp_path / "known.csv", *folders) == told


def test_classes_are_taught_and_measured(tmp_path: Path) -> None:
    """Two cars whose colours lie between those of the known ones are learnt; a taught model knows all of them."""
    model = write_teachable(tmp_path / "colours.onnx")
    new = {"Evera Swift Hatchback 2024": (240, 240), "Evera Cielo Sedan 2024": (0, 240)}
    rows: dict[str, list[str]] = {"known": [], "photos": [], "test": []}
    for number, (name, colour) in enumerate(KNOWN):
        paint(tmp_path / f"known{number}.png", colour)
        rows["known"].append(f"known{number}.png,{name}\n")
    cars: dict[str, list[Path]] = {name: [] for name in new}
    for name, (red, green) in new.items():
        for shade in range(5):
            photo = tmp_path / f"{name[6]}{shade}.png"
            paint(photo, (red + shade, green - shade, 240 - red + 2 * shade))
            rows["photos" if shade < 3 else "test"].append(f"{photo.name},{name}\n")
            cars[name] += [photo] if shade < 3 else []
    rows["test"] += rows["known"]
    for part, lines in rows.items():
        (tmp_path / f"{part}.csv").write_text("filename,label\n" + "".join(lines), encoding="utf-8")
    teach(twincar.load(model, detect="never"), cars, out=tmp_path / "all.onnx")
    data = [word for part in rows for word in (f"--{part}", tmp_path / f"{part}.csv")]
    options = ("--all-classes", tmp_path / "all.onnx", "--photos-per-class", 1, 3, "--draws", 2)
    told = run("benchmarks.quality.taught_classes", model, *data, *options)
    assert "7 photos, 3 of them of known classes" in told
    assert (
        len(re.findall(r"^\| linear probe \| [13] \| \d", told, re.M)) == 2
    )  # with one photo of a known car, not all right
    for way in ("teach", "nearest photo", "nearest class mean"):
        assert re.search(rf"^\| {way} \| 3 \| 100.0% ± 0.0 \| 100.0% ± 0.0 \| 100.0% ± 0.0 \|", told, re.M), way
    assert re.search(r"^\| trained on all \| all \| 100.0% \| 100.0% \| 100.0% \| 100.0% \| \d", told, re.M)
    assert re.search(r"^\| 3 \| 0.0% ± 0.0 \| 0.0% ± 0.0 \|", told, re.M)

"""The benchmarks that take longer than a second at their smallest."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pytest
import timm
from lite_package import write_lite_package
from parquet_photos import write_parquet
from programs import run
from safetensors.torch import save_file
from small_backbone import BACKBONE
from static_page import runtime_file

import twincar
import twincar.deploy.export
from benchmarks.measuring import SMALLEST, Scale, peak_memory
from benchmarks.speed import serve_load, training_step
from benchmarks.speed.picture import read_ratios
from twincar.core.errors import UsageError
from twincar.core.runs import RunFolder
from twincar.deploy.onnx_graph import to_onnx
from twincar.models.engines.open import open_engine


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started with `python -m` runs here."""
    plain = subprocess.run

    def run_here(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
        python, *rest = map(str, command)
        if python != sys.executable or rest[0] != "-m":
            return plain(command, **options)  # type: ignore[call-overload, no-any-return]
        return subprocess.CompletedProcess(rest, 0, run(*rest[1:]), "")

    monkeypatch.setattr(subprocess, "run", run_here)


class Here:
    """In place of `training_step._Child`: the same steps without a process of their own."""

    def __init__(self, scale: Scale, kind: str, **_: str) -> None:
        self.step = training_step.make_step(kind, scale)

    def end(self) -> int:
        return peak_memory()


@pytest.mark.usefixtures("few_toycars", "no_processes")
def test_all_that_make_benchmark_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[onnx.ModelProto] = []

    def trace_once(*network: Any) -> onnx.ModelProto:
        if not traced:
            traced.append(to_onnx(*network))
        copy = onnx.ModelProto()
        copy.CopyFrom(traced[0])
        return copy

    monkeypatch.setattr(training_step, "_Child", Here)
    monkeypatch.setattr(twincar.deploy.export, "to_onnx", trace_once)
    assert f"Written: {tmp_path / 'results.md'}" in run("benchmarks", "--smallest", "--out", tmp_path)
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert re.findall(r"## (.*)", text) == ["Training input", "Training step", "Inference", "Scaling"]
    ways = {bar.name.partition(": ")[2] for bar in read_ratios(text)}
    assert ways >= {"TwinCar in bf16", "TwinCar with --cache", "onnxruntime", "OpenVINO int8"}
    drawn = {path.name: path.stat().st_size for path in (tmp_path / "results").iterdir()}
    assert drawn.keys() == {"ratios.png", "growth_photos.png", "growth_classes.png"}
    assert min(drawn.values()) > 5000
    before = (tmp_path / "results" / "ratios.png").read_bytes()
    run("benchmarks.speed.picture", tmp_path)
    assert (tmp_path / "results" / "ratios.png").read_bytes() == before


def test_a_process_steps_when_it_is_told_to() -> None:
    child = training_step._Child(SMALLEST, "fp32")
    child.step()
    assert child.end() > 10**8


def test_planted_labels_are_looked_for(small_data: Path, small_run: Path) -> None:
    told = run("benchmarks.quality.confident_learning", small_data, small_run, "--share", 0.2)
    assert "| as many as are wrong |" in told
    assert "by chance precision would be" in told


def test_a_server_is_loaded_and_attacked(
    colour_model: Path, colour_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the clients that stop and wait half a minute: the next test has them."""
    attacks = serve_load.attacks
    monkeypatch.setattr(
        serve_load, "attacks", lambda photo: {name: way for name, way in attacks(photo).items() if "stops" not in name}
    )
    monkeypatch.setattr(serve_load, "CLIENTS", (1, 2))
    out = tmp_path / "serve.md"
    monkeypatch.setattr(
        sys, "argv", ["load", str(colour_model), str(colour_photos), "--seconds", "0.2", "--out", str(out)]
    )
    serve_load.main()
    told = out.read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ") and "---" not in line]
    assert [row[6] for row in rows if len(row) == 9] == ["errors", "0", "0"]
    assert all(row[-1] == "200 |" for row in rows if len(row) == 5 and row[0] != "| input")


def test_a_server_is_soaked(colour_model: Path, colour_photos: Path, tmp_path: Path) -> None:
    with suppress(SystemExit):  # a slope through three seconds says nothing
        run(
            "tests.robustness.soak_server",
            colour_model,
            colour_photos,
            "--minutes",
            0.05,
            "--out",
            tmp_path / "soak.md",
        )
    told = (tmp_path / "soak.md").read_text(encoding="utf-8")
    assert "; 0 got a status they did not deserve" in told
    assert "| waits in its body | 1 | 408: 1 |" in told


def test_a_cluster_that_loses_a_node_answers_all(
    colour_model: Path, colour_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of its workers
    told = run(
        "benchmarks.scale.cluster", colour_model, colour_photos, "--count", 4400, "--out", tmp_path / "cluster.md"
    )
    assert "Every photo has one row, in order: True. Rows of both ways are the same: True." in told


def test_killed_answers_and_exports_end_as_ones_left_in_peace(
    small_data: Path, small_run: Path, colour_photos: Path
) -> None:
    """The other works: `test_more_kills.py` and `tests/robustness/test_survival.py`."""
    works = ("--work", "predict", "export", "--times", 1, "--trained", small_run)
    told = run("tests.robustness.survival", small_data, colour_photos, *works)
    assert re.findall(r"\| (predict|export) \| .* \| 1 \| (\d) \|", told) == [("predict", "1"), ("export", "1")]


def test_the_bundled_model_is_made_again(tmp_path: Path) -> None:
    """From tiny halves, of which the test half repeats photos of the training half, and random weights."""
    hub = write_parquet(tmp_path / "hub", 60)
    whole = pa.array([[0, 0, 96, 64]] * 12, pa.list_(pa.int64()))
    official = write_parquet(tmp_path / "official", 12, whole)
    lite = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    package = write_lite_package(tmp_path, lite.state_dict())
    arguments = (hub, official, package, "--out", tmp_path / "out", "--epochs", 1, "--limit", 1)
    made = json.loads(run("benchmarks.quality.bundled_model", *arguments))
    assert made["official"] is None, "the test half is looked at only when that is asked for"
    with (tmp_path / "out" / "copies.csv").open(encoding="utf-8", newline="") as file:
        left_out = {Path(row["file"]).stem: row["split"] for row in csv.DictReader(file)}
    assert left_out.keys() >= {f"{number:03d}" for number in range(12)} - {"004"}, "those that the test half has too"
    assert "test" not in left_out.values()
    spec = open_engine(tmp_path / "out" / "cars196.onnx")[1]
    assert (spec.framing, spec.margin, spec.license) == ("car", 0.0, "cc-by-nc-4.0")
    again = json.loads(run("benchmarks.quality.bundled_model", *arguments, "--test"))
    assert again["written"] == made["written"], "what is finished is not made again"
    assert {name: look["photos"] for name, look in again["official"].items()} == {
        "cut to the box": 11,
        "with a margin of 16 pixels": 11,
        "with the margin, the car found first": 11,
    }


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH")
def test_the_page_without_a_server_is_measured(colour_model: Path, colour_photos: Path, tmp_path: Path) -> None:
    runtime = runtime_file(tmp_path)
    told = run("benchmarks.speed.browser", colour_photos, "--model", colour_model, "--runtime", runtime, "--smallest")
    assert len(re.findall(r"^\| .* \| \d+(?:\.\d)? \|", told, re.MULTILINE)) == 9


def test_recipes_are_compared_in_the_same_minutes(small_data: Path, tmp_path: Path) -> None:
    """In no time each trains for its fewest steps; what is finished is not trained again."""
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model(BACKBONE).state_dict(), weights)
    common = (small_data, "--pretrained", weights, "--minutes", 0.0001, "--out", tmp_path / "out", "--backbone")
    told = run("benchmarks.quality.recipes", *common, BACKBONE)
    rows = re.findall(r"^\| 0\.0001 \| (\w+) \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \|", told, re.M)
    assert {name: passes for name, *_, passes in rows} == {
        "lite": "4.0",
        "published": "3.6",
        "best": "4.0",
        "timm": "3.6",
        "torchvision": "3.6",
    }, "four parts of a batch each, which is all of the 36 photos, or 32 of them"
    assert [accuracy for _, accuracy, *_ in rows] == sorted((accuracy for _, accuracy, *_ in rows), reverse=True)
    assert all(0 <= float(f1) <= 1 for _, _, f1, _ in rows)
    assert "36 training photos; accuracy and macro-F1 on 12 validation photos" in told
    assert run("benchmarks.quality.recipes", *common, BACKBONE) == told
    with pytest.raises(UsageError, match="from the same start"):
        run("benchmarks.quality.recipes", *common, "tf_efficientnet_lite0")


def test_a_student_is_taught_and_compared(small_data: Path, small_run: Path, tmp_path: Path) -> None:
    """From random weights by one recipe, from others by another; the same command does nothing twice."""
    common = ("--teachers", small_run, "--epochs", 1, "--limit", 1, "--backbone", BACKBONE, "--out")
    told = run("benchmarks.quality.bundled_student", small_data, *common, tmp_path / "random")
    rows = re.findall(r"^\| (\S+) \| ([\d.]*) +\| ([\d.]+) \(", told, re.M)
    assert [name for name, *_ in rows] == ["student.onnx", small_run.name]
    accuracy = twincar.evaluate(small_run, split="val", out=tmp_path / "teacher").accuracy
    assert rows[1][2] == f"{accuracy.value:.3f}"
    config = RunFolder(tmp_path / "random" / "run").read_config()
    assert (config.recipe, config.teachers, config.distill_weight) == ("scratch", (str(small_run),), 0.9)
    assert (config.augment.low_quality, config.augment.box_jitter) == (0.5, (0.1, 0.3))
    written = (tmp_path / "random" / "student.onnx").stat().st_mtime_ns
    assert run("benchmarks.quality.bundled_student", small_data, *common, tmp_path / "random") == told
    assert (tmp_path / "random" / "student.onnx").stat().st_mtime_ns == written
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model(BACKBONE).state_dict(), weights)
    run("benchmarks.quality.bundled_student", small_data, *common, tmp_path / "lite", "--pretrained", weights)
    assert RunFolder(tmp_path / "lite" / "run").read_config().recipe == "lite"

"""The command line: output, exit codes, and error messages of one sentence."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import typer
from colour_model import GREEN, RED, YELLOW, paint, paint_street, write_model
from command_line import Stdin, run
from conftest import REAL_PHOTOS, draw_car, write_class_folders
from detector_files import constant_detector
from PIL import Image
from small_backbone import BACKBONE

import twincar
from tests.robustness.forked import command_line, start
from twincar.cli import app, main
from twincar.cli.evaluation import METRIC_NAMES
from twincar.cli.output import print_csv, progress
from twincar.core.errors import MissingExtraError
from twincar.data.exclusions import read_exclusions

ENVIRONMENT = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}


def refused(code: int, *arguments: object) -> str:
    """The error message of a command that fails with this exit code."""
    result = run(*arguments)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return result.stderr


def test_help_and_version_import_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; from twincar.cli import app; sys.argv = ['twincar', '--help']\n"
        "try: app()\nexcept SystemExit: pass\n"
        "import twincar; assert not {'torch', 'matplotlib', 'numpy', 'pandas'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert run("--version").stdout.strip() == twincar.__version__


def test_public_names_are_frozen() -> None:
    names = [
        *("Classifier", "DetectOptions", "Explanation", "Failure", "PredictOptions", "Prediction", "PrepareOptions"),
        "Thresholds",
        *("TrainConfig", "TwinCarError"),
        *(
            "__version__",
            "audit",
            "calibrate",
            "compare",
            "evaluate",
            "explain",
            "export",
            "find_photos",
            "index",
            "load",
            "predict_many",
            "prepare",
            "pull",
        ),
        *("push", "report", "resume", "similar", "train"),
    ]
    assert sorted(twincar.__all__) == names == dir(twincar)
    assert all(callable(getattr(twincar, name)) for name in names if name != "__version__")
    assert not any(isinstance(getattr(twincar, name), types.ModuleType) for name in names)


def test_a_public_name_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(twincar, "train", raising=False)
    monkeypatch.delitem(sys.modules, "twincar.training.train", raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(MissingExtraError, match=r"twincar.train needs lightning.*pip install 'twincar\[train\]'"):
        _ = twincar.train


FLAGS = {
    "quickstart": "--out",
    "prepare": "--out --split --val-share --seed --classes --labels-from --singletons --open-set --strict --exclude "
    "--crop --margin --detector --test-share",
    "audit": "--deep --model -m --folds --out --detect --classes --labels-from --csv --json",
    "import-weights": "--out",
    "train": "--name --runs --resume --recipe --config --backbone --pretrained --teacher --image-size --epochs "
    "--batch-size --learning-rate --precision --compile --workers --cache --seed --limit --set --tensorboard "
    "--devices --num-nodes",
    "evaluate": "--split --tta --data --detect --detector --out --confidence --false-rejection --corruptions "
    "--open-set --json",
    "calibrate": "--out --data --split --json",
    "explain": "--split --count --score --data --detect --detector --out --json",
    "compare": "--photo --split --count --data --out --json",
    "report": "--split --data --out",
    "export": "--format --precision --out --data --force --json",
    "predict": "--model -m --engine --detect --detector --cars --top-k --tta --confidence --false-rejection --classes "
    "--backbone --draw --out --cluster --json --csv",
    "index": "--out --model -m --detect --detector --cars --json",
    "similar": "--among --count --detect --detector --page --json --csv",
    "teach": "--name --out --add --list --forget --statistics-from --detect --detector --json",
    "serve": "--host --port --engine --detect --detector --max-queue --confidence --false-rejection --api-key-file "
    "--root-path --allow-origin --access-log --grace-period --allow-teach --taught",
    "demo": "--detect --detector --examples --space --static --runtime --title --host --port",
    "push": "--private --license --data --out --json",
    "pull": "--json",
    "info": "--json",
}


def test_csv_contains_no_formulas(tmp_path: Path) -> None:
    """A name that begins like a formula is quoted, and `prepare --exclude` reads the list as it was printed."""
    source = tmp_path / "cars"
    names = {"=cmd|' C calc'!A0": 0, "+1": 1, "-2": 2, "@SUM(1)": 3, "'=quoted": 4, "'plain": 5}
    for name, number in names.items():
        (source / name).mkdir(parents=True)
        draw_car(number % 4, number).save(source / name / "car.png")
        (source / name / "bad.jpg").write_bytes(b"no photo")
    listed = run("audit", source, "--csv").stdout
    files = [row["file"] for row in csv.DictReader(io.StringIO(listed))]
    assert sorted(files) == sorted(f"{'' if name == chr(39) + 'plain' else chr(39)}{name}/bad.jpg" for name in names)
    (tmp_path / "bad.csv").write_text(listed, encoding="utf-8")
    excluded = read_exclusions(tmp_path / "bad.csv")
    assert sorted(excluded) == sorted(f"{name}/bad.jpg" for name in names)
    out = io.StringIO()
    with redirect_stdout(out):
        print_csv(
            [{"photo": "\t=1", "confidence": -0.5, "year": None, "open": ["a=b", "=c"]}],
            ["photo", "confidence", "open", "year"],
        )
    assert out.getvalue() == "photo,confidence,open,year\n'\t=1,-0.500000,a=b; =c,\n"


def test_progress_is_a_line_a_minute_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr("twincar.cli.output.perf_counter", lambda: now)
    with caplog.at_level("INFO", "twincar"), progress("Comparing classes") as on_item:
        assert on_item
        for done in range(1, 6):
            now += 25
            on_item(done, 5)
    assert caplog.messages == ["Comparing classes: 3 of 5"]  # 75 s; the next would come at 135
    with caplog.at_level("ERROR", "twincar"), progress("Comparing classes") as on_item:
        assert on_item is None


def test_the_list_of_verbs_cuts_no_sentence_off() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "..." not in text.partition("Commands:")[2]
    assert "Train a network on a prepared data set, or resume a run; on several devices and hosts by DDP." in text


def test_flags_are_frozen() -> None:
    """A new flag needs a user: before you add one here, state who that is."""
    command = typer.main.get_command(app)
    found = {
        name: [flag for parameter in sub.params for flag in parameter.opts if flag.startswith("-")]
        for name, sub in command.commands.items()  # type: ignore[attr-defined]
    }
    assert {name: sorted(flags) for name, flags in found.items()} == {n: sorted(f.split()) for n, f in FLAGS.items()}


def test_log_lines_of_the_hub_library_are_suppressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_VERBOSITY", raising=False)
    monkeypatch.setattr("sys.argv", ["twincar", "info", "--json"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ.pop("HF_HUB_VERBOSITY") == "error"


def test_compare_and_explain_score_print_json_and_tables(small_run: Path) -> None:
    names = ("Aurora Falcon Sedan 2012", "Aurora Falcon Coupe 2012")
    compared = json.loads(run("compare", small_run, *names, "--split", "test", "--json").stdout)
    assert Path(compared["page"]).is_file()
    assert [(pair["first"], pair["second"]) for pair in compared["pairs"]] == [names]
    scored = json.loads(run("explain", small_run, "--score", "--split", "test", "--count", 2, "--json").stdout)
    assert scored["photos"] == 2
    lines = run("explain", small_run, "--score", "--split", "test", "--count", 2).stdout.splitlines()
    assert lines[1] == "score\tmap\tmean\tbetter"
    assert [line.split("\t")[0] for line in lines[2:-1]] == [row["score"] for row in scored["scores"]]
    assert "similar names are" in refused(1, "compare", small_run, names[0], "Aurora Falcon Cope 2012")
    assert "names of two classes" in refused(2, "compare", small_run, names[0])
    assert "no photos with --score" in refused(2, "explain", small_run, "car.jpg", "--score")
    assert "--json only with --score" in refused(2, "explain", small_run, "--json")


def test_compare_says_how_models_are_compared(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "my second"
    first.mkdir()
    second.mkdir()
    assert f"twincar report {first} '{second}'" in refused(2, "compare", first, second)


def test_audit_deep_prints_json_csv_and_tables(tmp_path: Path) -> None:
    source = tmp_path / "cars"
    for number, name in enumerate(("A", "B")):
        (source / "train" / name).mkdir(parents=True)
        image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)).resize((96, 64))
        image.save(source / "train" / name / "1.png")
        image.save(source / "train" / name / "2.png")
    result = run("audit", source, "--deep", "--out", tmp_path / "out")
    assert (result.returncode, result.stderr) == (1, "")
    assert "exact duplicate\t2\n" in result.stdout
    assert f"Next: twincar prepare {source} --exclude {tmp_path / 'out' / 'findings.csv'} --out FOLDER" in result.stdout
    rows = list(csv.DictReader(io.StringIO(run("audit", source, "--deep", "--csv", "--out", tmp_path / "out").stdout)))
    assert [(row["file"], row["action"]) for row in rows] == [(f"train/{name}/2.png", "exclude") for name in "AB"]
    summary = json.loads(run("audit", source, "--deep", "--json", "--out", tmp_path / "out").stdout)
    assert summary["findings"] == {"exact duplicate": 2}
    assert "Expected --deep" in refused(2, "audit", source, "--folds", 3)
    assert "no config.yaml" in refused(2, "audit", source, "--deep", "--model", tmp_path, "--out", tmp_path / "out")


def test_predict_prints_json_and_csv(small_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        draw_car(number, 0).save(tmp_path / f"{number}.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    result = run("predict", "--model", small_run, tmp_path, "--json", "--top-k", 2)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1  # one of four could not be read
    assert [set(row) >= {"answer", "confidence", "make", "model", "body", "year"} for row in rows] == [True] * 3 + [
        False
    ]
    assert "not an image" in rows[3]["error"]
    assert "4 photos, 3 cars: " in caplog.text
    assert "; 1 photo could not be read." in caplog.text
    caplog.clear()
    result = run("predict", "--model", small_run, tmp_path, "--csv", "--top-k", 2)
    table = list(csv.DictReader(io.StringIO(result.stdout)))
    for rank in (1, 2):
        for column, name in ((f"class_{rank}", "class_name"), (f"probability_{rank}", "probability")):
            expected = [row["topk"][rank - 1][name] for row in rows[:3]]
            found = [row[column] if name == "class_name" else float(row[column]) for row in table[:3]]
            assert found == expected
    for row, line in zip(rows[:3], table[:3], strict=True):
        assert [line[name] for name in ("status", "answer", "make")] == [row["status"], row["answer"], row["make"]]
        assert line["alternatives"] == "; ".join(row["alternatives"])
        assert line["confidence"] == ("" if row["confidence"] is None else f"{row['confidence']:.6f}")
    assert ("not an image" in table[3]["error"], table[3]["status"], table[3]["class_1"]) == (True, "unreadable", "")
    assert rows[3]["status"] == "unreadable"

    piped = run("predict", "--model", small_run, tmp_path / "0.jpg", "--top-k", 2)
    assert (piped.returncode, "1 photo," in caplog.text) == (0, False)
    assert piped.stdout.splitlines() == result.stdout.splitlines()[:2]


def test_predict_names_each_car_of_a_photo(tmp_path: Path) -> None:
    model = write_model(tmp_path / "colours.onnx", framing="car")
    boxes = {GREEN: (25, 25, 50, 50), RED: (100, 50, 300, 175)}  # sixteenths of the photo, which are exact
    street = paint_street(tmp_path / "street.png", boxes)
    shares = [(left / 400, top / 200, right / 400, bottom / 200) for left, top, right, bottom in boxes.values()]
    detector = tmp_path / "detector.onnx"
    detector.write_bytes(constant_detector(shares, [(0, 0.9)] * 2))
    command = ("predict", street, "--model", model, "--detector", detector)

    (row,) = map(json.loads, run(*command, "--json").stdout.splitlines())
    assert [(car["topk"][0]["class_name"], car["box"]) for car in row["cars"]] == [
        ("BMW M3 Sedan 2012", list(boxes[RED])), ("Volvo C30 Hatchback 2012", list(boxes[GREEN])),
    ]  # fmt: skip
    table = list(csv.DictReader(io.StringIO(run(*command, "--csv", "--draw", tmp_path / "drawn").stdout)))
    assert [(line["photo"], line["car"], line["left"], line["bottom"]) for line in table] == [
        (str(street), "1", "100", "175"), (str(street), "2", "25", "50"),
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "drawn").glob("*.jpg")] == ["street.png.jpg"]
    (main,) = csv.DictReader(io.StringIO(run(*command, "--cars", "main", "--csv").stdout))
    assert (main["car"], main["car_count"]) == ("1", "2")
    (whole,) = csv.DictReader(io.StringIO(run(*command[:4], "--detect", "never", "--csv").stdout))
    assert (whole["left"], whole["car_count"]) == ("", "1")

    detector.write_bytes(constant_detector(shares, [(0, 0.01)] * 2))
    (row,) = map(json.loads, run(*command, "--json").stdout.splitlines())
    assert (row["status"], row["box"], row["cars"]) == ("no car found", None, [])
    (empty,) = csv.DictReader(io.StringIO(run(*command, "--csv").stdout))
    assert {name: value for name, value in empty.items() if value} == {
        "photo": str(street), "car_count": "0", "status": "no car found",
    }  # fmt: skip
    assert "new or an empty folder" in refused(2, *command, "--draw", tmp_path)
    assert "without --detect never" in refused(2, *command, "--detect", "never")
    assert "found - for standard input" in refused(2, "predict", "-", "--model", model, "--draw", tmp_path / "more")
    assert "no such file" in refused(2, "predict", street, "--model", model, "--detector", tmp_path / "gone.onnx")


def test_a_photo_in_the_place_of_a_verb_gets_the_command(tmp_path: Path) -> None:
    draw_car(0, 0).save(tmp_path / "my car.jpg")
    assert f"twincar predict '{tmp_path}/my car.jpg'" in refused(2, tmp_path / "my car.jpg")
    assert "No such command" in refused(2, "predikt")


def test_a_table_of_several_photos_is_counted_and_says_how_sure_its_answers_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_model(tmp_path / "colours.onnx")
    photos = [paint(tmp_path / f"{number}.png", colour) for number, colour in enumerate((RED, GREEN, YELLOW))]
    result = run("predict", *photos, "--model", model, "--csv")
    assert "3 photos, 3 cars: 1 named, 1 named in part, 1 not sure." in caplog.text
    red, green, yellow = csv.DictReader(io.StringIO(result.stdout))
    assert (red["level"], red["alternatives"], red["year"]) == ("class", "", "2012")
    assert (green["answer"], green["make"], green["year"]) == ("Volvo C30 Hatchback", "Volvo", "")
    assert green["alternatives"] == "Volvo C30 Hatchback 2012; Volvo C30 Hatchback 2009"
    assert float(green["confidence"]) > float(green["probability_1"])
    assert (yellow["status"], yellow["make"], yellow["confidence"]) == ("not sure", "", "")
    assert all(re.fullmatch(r"0\.\d{6}", row["probability_3"]) for row in (red, green, yellow))  # no exponent


def test_predict_says_which_output_goes_where(tmp_path: Path) -> None:
    photo = tmp_path / "car.jpg"
    draw_car(1, 0).save(photo)
    for arguments, sentence in (
        (("--csv", "--json"), "Expected --json or --csv, but found both"),
        (("--csv", "--out", tmp_path / "out"), "--csv > cars.csv"),
        (("--out", tmp_path / "cars.csv"), f"--csv > {tmp_path / 'cars.csv'}"),
        (("--draw", tmp_path / "drawn", "--out", tmp_path / "out"), "Expected --out without --draw"),
        (("--draw", "--csv"), "Expected a value after --draw, but found the option --csv"),
        (("--detector", "--csv"), "Expected a value after --detector"),
        (("-m", "--csv"), "Expected a value after -m"),
    ):
        assert sentence in refused(2, "predict", photo, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["car.jpg"]
    assert "found both" in refused(2, "similar", photo, "--among", tmp_path, "--csv", "--json")
    assert "Expected photos in" in refused(2, "predict", tmp_path / "*.png", "--csv")  # and no header is printed


def test_predict_reads_standard_input(small_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "car.jpg"
    draw_car(1, 0).save(path)
    names = f"{path}\n".encode()
    for stdin in (path.read_bytes(), names):
        row = json.loads(run("predict", "--model", small_run, "-", "--json", stdin=stdin).stdout)
        assert (row["photo"], len(row["topk"])) == ("standard input" if stdin != names else str(path), 3)
    result = run("predict", "--model", small_run, "-", stdin=b"")
    assert (result.returncode, "it is empty" in result.stderr) == (2, True)


def bytes_written(*arguments: object, encoding: str, stdin: bytes = b"") -> bytes:
    """The bytes that a command writes to a standard output with this encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(sys, "argv", ["twincar", "-q", *map(str, arguments)])
        patch.setattr(sys, "stdin", Stdin(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
    out.flush()
    assert ended.value.code == 0
    return out.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_an_undecodable_file_name_is_printed_as_a_uri_that_can_be_read_back(encoding: str, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xab.png"
    draw_car(0, 0).save(os.fsdecode(path))
    address = f"file://{tmp_path}/caf%E9%20%C3%AB.png"
    (row,) = map(json.loads, bytes_written("predict", tmp_path, "--json", encoding=encoding).decode().splitlines())
    (line,) = csv.DictReader(io.StringIO(bytes_written("predict", tmp_path, "--csv", encoding=encoding).decode()))
    printed = bytes_written("predict", "-", encoding=encoding, stdin=path + b"\n").decode().splitlines()[1]
    assert [row["photo"], line["photo"], printed.split(",")[0]] == [address] * 3
    assert bytes_written("predict", row["photo"], "--json", encoding=encoding).decode() == json.dumps(row) + "\n"


@pytest.mark.parametrize("encoding", ["iso-8859-5", "utf-8"])
def test_a_table_is_utf_8_whatever_the_encoding_of_stdout(encoding: str, tmp_path: Path) -> None:
    draw_car(0, 0).save(tmp_path / "Citroën.png")
    printed = bytes_written("predict", tmp_path / "Citroën.png", encoding=encoding).decode().splitlines()[1]
    assert printed.split(",")[0] == str(tmp_path / "Citroën.png")
    (row,) = bytes_written("predict", tmp_path / "Citroën.png", "--json", encoding=encoding).decode().splitlines()
    assert json.loads(row)["photo"] == str(tmp_path / "Citroën.png")


def test_wrong_usage_of_prepare(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("no car")
    out = tmp_path / "out"
    assert "Expected" in refused(2, "prepare", tmp_path / "gone", "--out", out)
    assert "Expected" in refused(1, "prepare", tmp_path / "empty", "--out", out)
    assert "Expected" in refused(1, "prepare", tmp_path / "texts", "--out", out)
    one = write_class_folders(tmp_path / "one", {"train": 4}, ("Audi A5 Coupe 2012",))
    assert "class" in refused(1, "prepare", one, "--out", out)
    single = write_class_folders(tmp_path / "single", {"train": 1})
    assert "Aurora Falcon" in refused(1, "prepare", single, "--out", out)
    assert not out.exists()


def test_wrong_usage_of_train(
    small_data: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert "no such folder" in refused(2, "train", tmp_path / "gone")
    assert "twincar prepare" in refused(2, "train", tmp_path)
    assert "twincar train DATA" in refused(2, "train")
    options = ("--runs", small_run.parent, "--name", small_run.name, "--pretrained", "none")
    assert "never overwritten" in refused(2, "train", small_data, *options)
    assert "did you mean 'epochs'" in refused(2, "train", small_data, "--set", "epoch=3")
    assert "ConvNeXt" in refused(2, "train", small_data, "--backbone", "test_vit")
    assert "--pretrained none" in refused(1, "train", small_data, "--backbone", "tf_efficientnetv2_b0").lower()
    assert "stanford" in refused(2, "train", small_data, "--recipe", "magic")
    assert "alone" in refused(2, "train", "--resume", small_run, "--epochs", 3)
    assert not (tmp_path / "runs").exists()


def test_wrong_usage_of_the_verbs_on_a_run(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    for verb in ("evaluate", "explain"):
        assert "there is none" in refused(2, verb, tmp_path / "gone")
        assert "config.yaml" in refused(2, verb, small_data)
    assert "there is none" in refused(2, "predict", "--model", "gone.safetensors", "x.jpg")
    assert "found none" in refused(2, "predict", "--model", small_run, tmp_path)
    assert "twincar predict PHOTO" in refused(2, "predict")


def test_a_run_where_photos_are_expected_is_refused_by_every_verb(tmp_path: Path) -> None:
    """Every other verb takes the model first, so this is what people type; nothing is opened or written before."""
    run_folder, photo, made = tmp_path / "run", tmp_path / "car.png", tmp_path / "made"
    run_folder.mkdir()
    for path in (run_folder / "best.safetensors", run_folder / "curve.png", photo):
        path.touch()
    for words in (
        ("predict", run_folder, photo),
        ("predict", photo, run_folder, "--out", made),
        ("index", run_folder, "--out", made),
        ("similar", photo, "--among", run_folder),
        ("teach", "--name", "Car 2012", "--out", made, photo, run_folder),
    ):
        assert f"Did you mean --model {run_folder}?" in refused(2, *words)
    assert not made.exists()


def test_options_are_plain_words_in_messages() -> None:
    """A member of an enumeration would be quoted as <Split.TEST: 'test'>."""
    sources = [path.read_text() for path in Path(twincar.cli.__file__).parent.glob("*.py")]
    assert len(sources) > 10
    assert not any("Enum" in source for source in sources)


def test_audit_prints_issues_of_the_classes_as_notes(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "s", {"train": 2, "val": 1})
    shutil.rmtree(source / "val" / "Aurora Falcon Coupe 2012")
    result = run("audit", source, "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert "Note: val has no photos of 1 of 4 classes, the best epoch is chosen without them" in result.stderr


def test_what_prepare_and_audit_say_of_folders_with_faults(tmp_path: Path) -> None:
    """An empty folder, a name of another form, and one photo in two classes: named with counts, and nothing stops."""
    source = write_class_folders(tmp_path / "my cars", {"train": 4}, ("BMW M3 Coupe 2012", "Mike's FIAT 500")) / "train"
    shutil.copy(source / "Mike's FIAT 500" / "000.jpg", source / "BMW M3 Coupe 2012" / "stray.jpg")
    (source / "Empty Folder").mkdir()
    result = run("prepare", source, "--out", tmp_path / "my data")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert "  note: 1 of 3 class folders without photos, left out: 'Empty Folder'." in lines
    listed = f"'{tmp_path}/my data/contradictions.csv'"
    assert f"  to leave out contradicting labels, prepare into another folder with --exclude {listed}" in lines
    assert any('not of the form Make Model Body Year: "Mike\'s FIAT 500"' in line for line in lines)
    assert any("--test-share 0.1 keeps a tenth to test on" in line for line in lines)
    audited = run("audit", source)
    assert audited.returncode == 1
    assert "2 photos with the same bytes in different classes" in audited.stdout
    assert [line.split("\t")[1] for line in audited.stdout.splitlines()[1:3]] == ["contradicting label"] * 2
    tested = run("prepare", source, "--test-share", 0.25, "--out", tmp_path / "tested")
    assert "photos: 5 train, 2 val, 2 test" in tested.stdout
    assert "--test-share" not in tested.stdout


def test_ambiguous_class_numbers_are_wrong_usage(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "s", {"train": 2})
    (source / "classes.txt").write_text("A\nB\nC\nD\n")
    photos = sorted(path.relative_to(source) for path in source.rglob("*.jpg"))
    table = source / "cars.csv"
    table.write_text("filename,label\n" + "".join(f"{photo},{1 + index // 4}\n" for index, photo in enumerate(photos)))
    for verb in ("prepare", "audit"):
        assert "--labels-from 0 or --labels-from 1" in refused(2, verb, table)
    prepared = run("prepare", table, "--labels-from", "1", "--out", tmp_path / "out")
    assert "2 classes" in prepared.stdout
    assert [row["name"] for row in json.loads((tmp_path / "out" / "classes.json").read_text())] == ["A", "B"]
    assert run("audit", table, "--labels-from", "1").returncode == 0


def test_audit_exits_with_1_if_there_are_findings(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "s", {"train": 2})
    assert run("audit", source).returncode == 0
    bad = next(source.rglob("*.jpg"))
    bad.write_bytes(bad.read_bytes()[:-200])
    result = run("audit", source, "--json")
    assert result.returncode == 1
    assert [json.loads(line)["defect"] for line in result.stdout.splitlines()] == ["truncated"]


def test_evaluate_and_explain_print_paths(small_run: Path) -> None:
    result = run("evaluate", small_run, "--split", "test", "--json")
    assert json.loads(result.stdout)["photos"] == 12
    evaluation = json.loads(result.stdout)
    lines = run("evaluate", small_run, "--split", "test", "--tta").stdout
    first, chance, answers, *_ = lines.splitlines()
    accuracy, f1 = (evaluation[name]["value"] for name in ("accuracy", "macro_f1"))
    assert first.startswith(f"Accuracy {accuracy:.3f} (")
    assert f", macro-F1 {f1:.3f} (" in first
    assert ", on 12 test photos" in first
    assert "Chance: accuracy 0." in chance
    assert answers.startswith("Share of photos with an answer: ")
    assert "%" not in lines.replace("95% intervals", "")  # one unit
    for metric in evaluation["metrics"]:
        assert f"{METRIC_NAMES[metric]}\t" in lines
    assert set(METRIC_NAMES) == set(evaluation["metrics"])
    with (Path(evaluation["folder"]) / "classification_report.csv").open(newline="") as file:
        classes = [row for row in csv.DictReader(file) if not row["class_name"].endswith(" average")]
    wrong = sorted(float(row["recall"]) for row in classes if float(row["recall"]) < 1)
    assert f"Classes with mistakes: {len(wrong)}; the worst" in lines
    shown = lines.partition("most often named\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split("\t")[2] for line in shown] == [f"{recall:.3f}" for recall in wrong[:5]]
    assert "grid.png" in run("explain", small_run, "--count", 2).stdout


def test_a_run_finds_its_data_from_anywhere(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_data.parent)
    options = ("--backbone", BACKBONE, "--pretrained", "none", "--image-size", 64, "--epochs", 1)
    assert run("train", small_data.name, "--runs", tmp_path, "--limit", 1, "--workers", 0, *options).returncode == 0
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", small_data.name).returncode == 0


def test_ctrl_c_exits_with_130_and_prints_how_to_resume(small_data: Path, tmp_path: Path) -> None:
    arguments = [
        "train", small_data, "--runs", tmp_path, "--name", "r", "--pretrained", "none", "--image-size", 64,
        "--backbone", BACKBONE, "--epochs", 1000, "--workers", 0, "--set", "patience=1000",
    ]  # fmt: skip
    process = start(command_line, arguments, environment=ENVIRONMENT)
    try:
        assert any(line.startswith("epoch 1/") for line in iter(process.told.readline, ""))
        os.kill(process.pid, signal.SIGINT)
        code, message = process.finish()
    finally:
        process.process.kill()  # it would train for hours
    assert code == 130
    assert f"twincar train --resume {tmp_path / 'r'}" in message
    assert "Traceback" not in message


@pytest.mark.skipif(not REAL_PHOTOS.is_dir(), reason="no real photos beside the checkout")
def test_audit_of_real_messy_photos() -> None:
    result = run("audit", REAL_PHOTOS / "messy", "--json")
    found = {(row["file"], row["defect"]) for row in map(json.loads, result.stdout.splitlines())}
    truth = json.loads((REAL_PHOTOS / "messy" / "truth.json").read_text())
    names = {
        "truncated": "truncated", "empty": "empty", "not_an_image": "not an image", "missing_file": "missing",
        "outside_root": "outside the data folder", "unknown_label": "unknown label", "repeated_row": "repeated row",
        "decompression_bomb": "too large once decoded", "tiny": "too small",
    }  # fmt: skip
    assert found == {(item["file"], name) for kind, name in names.items() for item in truth[kind]}


def test_pillow_does_not_warn_of_photos_that_are_not_too_large() -> None:
    file = io.BytesIO()
    Image.new("1", (9_600, 9_600)).save(file, "PNG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Image.open(file)
        assert len(caught) == 1
        run("info")
        Image.open(file)
    assert len(caught) == 1

"""Hostile input is answered or refused in a sentence: `fuzz.py` with fixed seeds, and all that it ever found.

`corpus/<reader>/` holds inputs that did harm once, named after it; each is fed again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.io import savemat

from tests.robustness import fuzz_targets
from tests.robustness.fuzz import Fuzzer, inputs, peak, readers, reset_peak
from tests.robustness.fuzz_models import small_onnx, spec_text
from twincar.core.config import TrainConfig, parse_settings
from twincar.core.errors import CheckpointError, Defect, PhotoError, TwinCarError, UsageError
from twincar.core.labels import slug
from twincar.core.photos import MAX_BYTES, read_photo
from twincar.core.preprocess import Preprocessing
from twincar.data.sources.matfile import read_variable
from twincar.deploy.server.limits import Limits, Refusal
from twincar.deploy.server.requests import parse_body
from twincar.deploy.server.schema import RequestOptions
from twincar.models.engines import onnxruntime_engine as engine_onnxruntime
from twincar.models.engines.onnx_external_data import names_other_files
from twincar.models.spec import ModelSpec
from twincar.training.train import resume

CORPUS = Path(__file__).parent / "corpus"
READERS = readers()
APART = ("exported model (.onnx)", "detector (.onnx)", "OpenVINO model", "hub")
"""Libraries that may take the process with them, or that are changed for the test."""
INPUTS = 100

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
"""Whatever YAML or JSON can say."""
FIXED = settings(derandomize=True, deadline=None, max_examples=100)


def told(error: TwinCarError) -> None:
    """A sentence of bearable length."""
    assert str(error).startswith(("Expected", "The setting"))
    assert len(str(error)) < 2100


@pytest.mark.parametrize("name", [name for name in READERS if name not in APART])
def test_hostile_input_is_answered_or_refused(name: str, tmp_path: Path) -> None:
    fuzzer = Fuzzer(name, tmp_path, None)
    known = [path.read_bytes() for path in sorted((CORPUS / slug(name)).glob("*"))]
    faults = [fuzzer.feed(data) for data in (*known, *inputs(fuzzer.target, INPUTS, seed=7))]
    assert [fault for fault in faults if fault] == []
    assert fuzzer.outcome.refused > 0 or name == "audit cache (.npz)"  # which is built anew
    assert fuzzer.outcome.answered > 0 or name == "weights (.safetensors)"  # a sound one has 20 MB


def test_every_file_of_the_corpus_is_fed() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= {slug(name) for name in READERS}
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 300_000


def test_a_fault_is_seen(tmp_path: Path) -> None:
    """The watch is no use if nothing trips it."""

    def run(data: bytes) -> None:
        exec(data)

    fuzzer = Fuzzer("settings", tmp_path, tmp_path)
    fuzzer.target = fuzz_targets.Target(run, [])
    fuzzer.memory = 1 << 20
    assert fuzzer.feed(b"pass") == ""
    assert fuzzer.feed(b"open('/etc/hostname')") == "opened /etc/hostname"
    assert fuzzer.feed(f"open({str(tmp_path / 'secret.jpg')!r}, 'rb')".encode()).startswith("opened")
    assert "socket.getaddrinfo" in fuzzer.feed(
        b"import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    )
    assert "pickle.find_class" in fuzzer.feed(b"import pickle; pickle.loads(pickle.dumps(open))")
    assert fuzzer.feed(b"1 / 0").startswith("ZeroDivisionError at")
    assert "MiB of memory" in fuzzer.feed(b"bytearray(b'x') * (600 << 20)")
    assert fuzzer.feed(b"open('/etc/hostname')") != ""
    assert len(list(tmp_path.glob("settings-*"))) == 6


@FIXED
@given(
    st.lists(
        st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), min_size=1, max_size=12), min_size=1, max_size=5
    ),
    st.integers(-9, 10**6),
    st.booleans(),
)
def test_matlab_files_are_read_as_they_were_written(names: list[str], number: int, compressed: bool) -> None:
    rows = np.array([[(number, name) for name in names]], np.dtype([("bbox_x1", "O"), ("fname", "O")]))
    path = Path("/dev/shm/twincar-test.mat") if Path("/dev/shm").is_dir() else Path("twincar-test.mat")
    try:
        savemat(
            path, {"other": 1.5, "annotations": rows, "names": np.array([names], object)}, do_compression=compressed
        )
        assert read_variable(path, "annotations") == [{"bbox_x1": number, "fname": name} for name in names]
        assert read_variable(path, "names") == names
        assert read_variable(path, "other") == 1.5
    finally:
        path.unlink()


def test_a_matlab_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.mat"
    savemat(path, {"class_names": np.zeros(20_000_000, np.uint8)}, do_compression=True)
    with pytest.raises(ValueError, match="more than 16 MiB"):
        read_variable(path, "class_names")


@FIXED
@given(st.dictionaries(st.sampled_from(["recipe", "epochs", "augment", "seed", "backbone", "x"]), VALUES, max_size=3))
def test_any_settings_make_a_configuration_or_a_sentence(values: dict[str, Any]) -> None:
    try:
        config = TrainConfig.resolve(flags=values)
    except UsageError as error:
        told(error)
    else:
        words = [f"{name}={json.dumps(value)}" for name, value in values.items() if value is not None]
        assert TrainConfig.resolve(flags=parse_settings(words)) == config


@FIXED
@given(
    st.sampled_from(
        ["backbone", "head", "preprocessing", "calibration", "arithmetic", "provenance", "classes", "format"]
    ),
    VALUES,
)
def test_any_header_makes_a_model_or_a_sentence(name: str, value: Any) -> None:
    try:
        spec = ModelSpec.from_header(spec_text(**{name: value}), "the file")
    except TwinCarError as error:
        told(error)
    else:
        assert ModelSpec.from_header(spec.to_header(), "the file") == spec


@FIXED
@given(
    st.dictionaries(
        st.sampled_from(["photos", "top_k", "level", "explain", "x"]), VALUES | st.lists(st.text(), max_size=3)
    )
)
def test_any_json_makes_a_question_or_a_refusal(content: dict[str, Any]) -> None:
    try:
        uploads, question = parse_body("application/json", json.dumps(content).encode(), Limits(), RequestOptions)
    except TwinCarError as error:
        told(error)
    else:
        assert len(uploads) == len(content["photos"])
        assert question.top_k == content.get("top_k", 5)


@pytest.mark.parametrize("place", ["/etc/passwd", "../../secret.bin", "beside.bin"])
def test_weights_in_other_files_are_found_wherever_a_tensor_can_be(place: str) -> None:
    assert not names_other_files(small_onnx(spec_text()))
    assert names_other_files(small_onnx(spec_text(), external=place))
    hidden = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value=place)
    constant = helper.make_node("Constant", [], ["out"], value=hidden)
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])
    branch = helper.make_graph([constant], "branch", [], [output])
    condition = helper.make_tensor_value_info("yes", TensorProto.BOOL, [])
    inside = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    function = helper.make_function("own", "f", [], ["out"], [constant], [helper.make_opsetid("", 20)])
    for nodes, functions in (([constant], []), ([inside], []), ([], [function])):
        graph = helper.make_graph(nodes, "g", [condition], [output])
        assert names_other_files(helper.make_model(graph, functions=functions).SerializeToString())
    with pytest.raises(ValueError, match="truncated"):
        names_other_files(small_onnx(spec_text())[:200])


def test_a_model_whose_weights_lie_elsewhere_is_not_opened(tmp_path: Path) -> None:
    from twincar.inference.classifier import Classifier

    path = tmp_path / "model.onnx"
    (tmp_path / "beside.bin").write_bytes(bytes(1000))
    path.write_bytes(small_onnx(spec_text(), external="beside.bin"))
    onnx.load(path)  # to the library of ONNX's it is a sound model
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(CheckpointError, match="weights are all in"):
            Classifier.load(path, engine=engine)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["exported model (.onnx)", "OpenVINO model"])
def test_weights_from_outside_are_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer is no use if it does not notice what the check is there for."""
    monkeypatch.setattr(engine_onnxruntime, "names_other_files", lambda _: False)
    fuzzer = Fuzzer(name, tmp_path, None)
    model = next(tmp_path.glob("*/beside.bin")).parent / "model.onnx"
    model.write_bytes(small_onnx(spec_text(), external="beside.bin"))
    given = model.read_bytes() if "onnx" in name else b"o" + model.read_bytes()
    assert "weights outside the file were read" in fuzzer.feed(given)


def test_a_form_without_its_end_is_refused() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a"\r\n\r\nhalf of a photo'
    with pytest.raises(Refusal, match="it is truncated") as refused:
        parse_body("multipart/form-data; boundary=b", form, Limits(), RequestOptions)
    assert refused.value.status == 400
    assert len(parse_body("multipart/form-data; boundary=b", form + b"\r\n--b--", Limits(), RequestOptions)[0]) == 1


def test_a_strip_of_a_photo_is_seen_in_its_middle_without_resizing_all_of_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 4, 3), np.uint8).repeat(100, axis=0).repeat(25, axis=1)
    strip, way = Image.fromarray(pixels), Preprocessing(height=32, width=32)
    resized = strip.resize((37, 37 * 300), Image.Resampling.BILINEAR)  # what is done to any other photo
    expected = np.asarray(resized.crop((2, 5534, 34, 5566)), np.int16)
    assert np.abs(way(strip) - expected).max() <= 1
    lying = Image.fromarray(pixels.transpose(1, 0, 2))
    expected = np.asarray(lying.resize((37 * 300, 37), Image.Resampling.BILINEAR).crop((5534, 2, 5566, 34)), np.int16)
    assert np.abs(way(lying) - expected).max() <= 1
    before = reset_peak()
    assert way(Image.new("RGB", (1, 3_000_000))).shape == (32, 32, 3)  # resized whole it would have 4 billion pixels
    assert peak() - before < 100 << 20


def test_a_file_too_large_for_a_photo_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(PhotoError, match="at most 256 MiB") as refused:
        read_photo(tmp_path / "huge.jpg")
    assert refused.value.defect is Defect.TOO_LARGE


def test_a_run_whose_state_is_damaged_is_not_gone_on_with(small_run: Path, tmp_path: Path) -> None:
    def without(place: list[Any]) -> None:
        inner = state
        for step in place[:-1]:
            inner = inner[step]
        del inner[place[-1]]

    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("epochs: 2\n", "epochs: 3\n"))
    damages: list[Callable[[], Any]] = [
        lambda: state.clear(),
        lambda: state.update(state_dict={"network.head.bias": torch.zeros(3)}),
        lambda: state["callbacks"]["Recorder"].update(history=[{"epoch": "first"}]),
        lambda: without(["callbacks", "Recorder", "data_sha256"]),
        lambda: without(["optimizer_states", 0, "state", 0, "exp_avg"]),
        lambda: state["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(2, 2)),
        lambda: state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"].update(ready={}),
    ]
    for damage in damages:
        state = torch.load(small_run / "last.ckpt", weights_only=True)
        damage()
        torch.save(state, run / "last.ckpt")
        with pytest.raises(CheckpointError, match="Expected the state of this run"):
            resume(run)
        assert (run / "metrics.csv").read_bytes() == (small_run / "metrics.csv").read_bytes()
    shutil.copyfile(small_run / "last.ckpt", run / "last.ckpt")
    assert len(resume(run).history) == 3

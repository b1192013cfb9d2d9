"""Exported models beside the network they came from, in processes with and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import draw_car, killed_while_making

import twincar.deploy.export
from twincar.core.errors import CheckpointError, LabelError, MissingExtraError, TwinCarError, UsageError
from twincar.core.options import Arithmetic, ExportFormat
from twincar.data.dataset import PreparedData
from twincar.deploy.export import Exported, export
from twincar.deploy.onnx_graph import sensitive_nodes, to_onnx
from twincar.inference.classifier import Classifier
from twincar.models.cam.gradcam import contrastive_cam
from twincar.models.cam.occlusion import contrastive_occlusion
from twincar.models.engines.open import open_engine
from twincar.models.engines.torch_engine import open_network

PHOTOS = [draw_car(number % 4, 50 + number) for number in range(6)]
BATCH = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def graph(small_run: Path) -> Iterator[onnx.ModelProto]:
    """The graph of the small run; made once, because torch takes seconds to trace a network."""
    network, spec = open_network(small_run)
    made = to_onnx(network, spec.preprocessing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twincar.deploy.export, "to_onnx", lambda *_: copy_of(made))
        yield made


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def with_last_bias(model: onnx.ModelProto, bias: list[float]) -> onnx.ModelProto:
    """A network that answers otherwise."""
    copy = copy_of(model)
    (tensor,) = [tensor for tensor in copy.graph.initializer if list(tensor.dims) == [4]]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(bias, np.float32), tensor.name))
    return copy


@pytest.fixture(scope="module")
def exported(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The small run in the kinds of model file that differ in how they are made."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        "onnx": export(small_run, out=folder / "fp32.onnx"),
        "fp16": export(small_run, precision="fp16", out=folder / "fp16.onnx"),
        "int8": export(small_run, precision="int8", out=folder / "int8.onnx", force=True),
        "int8-weights": export(small_run, precision="int8-weights", out=folder / "weights.onnx", force=True),
        "openvino": export(small_run, format="openvino", out=folder / "openvino"),
        "bf16": export(small_run, format="openvino", precision="bf16", out=folder / "bf16"),
    }


@pytest.mark.parametrize(("kind", "tolerance"), [("onnx", 1e-5), ("fp16", 5e-3), ("openvino", 1e-5), ("bf16", 0.1)])
def test_answers_are_the_networks(exported: dict[str, Exported], small_run: Path, kind: str, tolerance: float) -> None:
    expected = Classifier.load(small_run).predict(PHOTOS, top_k=4)
    found = Classifier.load(exported[kind].path).predict(PHOTOS, top_k=4)
    for ours, theirs in zip(found, expected, strict=True):
        by_name = {candidate.name: candidate.probability for candidate in ours.topk}
        for candidate in theirs.topk:
            assert by_name[candidate.name] == pytest.approx(candidate.probability, abs=tolerance)
    assert exported[kind].comparison.largest_difference <= tolerance


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_heat_maps_without_torch_are_the_networks(exported: dict[str, Exported], small_run: Path, kind: str) -> None:
    network, model = Classifier.load(small_run), Classifier.load(exported[kind].path)
    for photo in PHOTOS:
        for target in (None, "aurora falcon coupe 2012"):
            expected, found = network.explain(photo, target=target), model.explain(photo, target=target)
            np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-4)
            assert found.target == expected.target
    assert expected.target == "Aurora Falcon Coupe 2012"
    assert expected.heatmap.max() == 1


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_contrasts_without_torch_are_the_networks(exported: dict[str, Exported], small_run: Path, kind: str) -> None:
    network, model = Classifier.load(small_run).engine, Classifier.load(exported[kind].path).engine
    first, second = np.array([0, 1, 2]), np.array([3, 2, 0])
    by_cell = [
        contrastive_cam(engine.logits_and_features(BATCH)[1], engine.head, first, second) for engine in (network, model)
    ]
    np.testing.assert_allclose(by_cell[1], by_cell[0], atol=1e-4)
    by_hiding = [contrastive_occlusion(engine.logits, BATCH[0], 0, 3) for engine in (network, model)]
    np.testing.assert_allclose(by_hiding[1], by_hiding[0], atol=1e-4)
    assert abs(by_cell[0]).max() > 1e-3
    assert abs(by_hiding[0]).max() > 1e-3


def test_what_a_killed_export_left_is_cleared_even_where_the_next_is_refused(small_run: Path, tmp_path: Path) -> None:
    left = killed_while_making(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UsageError, match="never overwritten"):
        export(small_run, out=tmp_path / "model.onnx")
    assert not left.exists()


def test_explaining_a_class_the_model_does_not_know_is_told(small_run: Path) -> None:
    with pytest.raises(LabelError, match="similar names are Aurora Falcon"):
        Classifier.load(small_run).explain(PHOTOS[0], target="Aurora Falcon Sedan 2013")


def test_no_path_of_this_computer_is_in_an_exported_model(
    exported: dict[str, Exported], small_run: Path, small_data: Path
) -> None:
    """Neither of the data, nor of the code, which torch notes beside each node."""
    for kind in exported.values():
        files = [kind.path] if kind.path.is_file() else [path for path in kind.path.rglob("*") if path.is_file()]
        for file in files:
            for told in (small_run, small_data.parent, Path.home(), Path(__file__).parents[3]):
                assert str(told).encode() not in file.read_bytes(), (file, told)


@pytest.mark.parametrize("kind", ["onnx", "fp16", "int8", "int8-weights", "openvino", "bf16"])
def test_any_number_of_photos_goes_through(exported: dict[str, Exported], kind: str) -> None:
    engine = Classifier.load(exported[kind].path).engine
    together = engine.logits(BATCH)
    one_by_one = np.concatenate([engine.logits(photo[None]) for photo in BATCH])
    tolerance = {"bf16": 0.05, "int8": 1e-3}.get(kind, 1e-4)
    np.testing.assert_allclose(together, one_by_one, atol=tolerance)
    logits, features = engine.logits_and_features(BATCH)
    np.testing.assert_allclose(logits, together, atol=tolerance)
    assert features.shape == (3, 160, 2, 2)


def test_an_onnx_file_runs_on_openvino_too(exported: dict[str, Exported]) -> None:
    path = exported["onnx"].path
    ours = Classifier.load(path, engine="openvino")
    assert ours.engine.name == "openvino"
    np.testing.assert_allclose(ours.engine.logits(BATCH), Classifier.load(path).engine.logits(BATCH), atol=1e-4)


def test_auto_takes_what_is_quickest_for_the_file(exported: dict[str, Exported], small_run: Path) -> None:
    kinds = {kind: Classifier.load(exported[kind].path).engine.name for kind in exported}
    assert kinds == {
        "onnx": "onnxruntime",
        "fp16": "onnxruntime",
        "int8": "openvino",
        "int8-weights": "onnxruntime",
        "openvino": "openvino",
        "bf16": "openvino",
    }
    assert Classifier.load(small_run).engine.name == "torch"


def test_lower_precision_is_smaller(exported: dict[str, Exported]) -> None:
    whole = exported["onnx"].bytes
    assert exported["fp16"].bytes == pytest.approx(whole / 2, rel=0.1)
    # A quarter, and the graph with its scales, which are much beside a network this small.
    assert exported["int8"].bytes < 0.42 * whole
    assert exported["int8-weights"].bytes < 0.47 * whole
    weights = {kind: (exported[kind].path / "model.bin").stat().st_size for kind in ("bf16", "openvino")}
    assert weights["bf16"] == pytest.approx(weights["openvino"] / 2, rel=0.1)


def test_int8_weights_are_the_networks_to_half_a_step(exported: dict[str, Exported]) -> None:
    """Each is within half a step of its own, a step being a 127th of its output channel's largest."""
    whole, small = (onnx.load(exported[kind].path) for kind in ("onnx", "int8-weights"))
    expected = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    found = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float32) for tensor in small.graph.initializer}
    shrunk = [name.removesuffix(".int8") for name in found if name.endswith(".int8")]
    assert len(shrunk) > 20
    for name in shrunk:
        steps = found[f"{name}.int8"]
        scale = found.get(f"{name}.scale", found.get(f"{name}.scale.fp16"))
        largest = abs(expected[name]).max(axis=(1, 2, 3), keepdims=True)
        np.testing.assert_allclose(scale, largest / 127, rtol=1e-3)
        assert (abs(steps * largest / 127 - expected[name]) <= 0.501 * largest / 127).all()


def test_an_exported_file_tells_nothing_of_the_machine(exported: dict[str, Exported]) -> None:
    here = str(Path(__file__).parents[3]).encode()
    for kind in ("onnx", "fp16", "int8", "int8-weights"):
        content = exported[kind].path.read_bytes()
        assert here not in content
        assert b"stack_trace" not in content


def test_int8_keeps_the_head_for_explaining(exported: dict[str, Exported], small_run: Path) -> None:
    expected, found = Classifier.load(small_run).engine.head, Classifier.load(exported["int8"].path).engine.head
    for (weight, bias), (own_weight, own_bias) in zip(found.layers, expected.layers, strict=True):
        np.testing.assert_allclose(weight, own_weight, atol=1e-3)
        np.testing.assert_allclose(bias, own_bias, atol=1e-3)


def test_the_file_tells_all_there_is_to_know(exported: dict[str, Exported], small_run: Path) -> None:
    network = Classifier.load(small_run).spec
    for kind, item in exported.items():
        spec = Classifier.load(item.path).spec
        assert (spec.classes, spec.preprocessing, spec.head) == (network.classes, network.preprocessing, network.head)
        assert spec.calibration == network.calibration
        assert spec.arithmetic == item.precision
        assert spec.provenance["epoch"] == network.provenance["epoch"]
        assert spec.provenance["export"]["opset"] == 20, kind


def test_prediction_from_an_exported_file_imports_no_torch(
    exported: dict[str, Exported], small_run: Path, tmp_path: Path
) -> None:
    """And it is turned away or named, at the same level, as from the network itself."""
    PHOTOS[0].save(tmp_path / "car.png")
    code = (
        "import sys\n"
        "for name in ('torch', 'timm', 'matplotlib', 'pandas', 'cv2', 'scipy', 'sklearn'): sys.modules[name] = None\n"
        "import twincar\n"
        "classifier = twincar.load(sys.argv[1])\n"
        "explanation = classifier.explain(sys.argv[2])\n"
        "assert explanation.prediction.topk == classifier.predict(sys.argv[2]).topk\n"
        "sys.argv = ['twincar', 'predict', '--model', sys.argv[1], sys.argv[2], '--json']\n"
        "from twincar.cli import main; main()"
    )
    for kind in ("onnx", "openvino"):
        arguments = [sys.executable, "-c", code, str(exported[kind].path), str(tmp_path / "car.png")]
        result = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        expected, found = Classifier.load(small_run).predict(tmp_path / "car.png").to_dict(), json.loads(result.stdout)
        for told in ("status", "answer", "level", "alternatives"):
            assert found[told] == expected[told], told
        assert found["topk"][0]["class_name"] == expected["topk"][0]["class_name"]


def test_without_torch_a_run_says_what_to_do(small_run: Path) -> None:
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "import twincar.models.engines.open as e; e.find_spec = lambda name: None if name == 'torch' else find(name)\n"
        "sys.argv = ['twincar', 'predict', '--model', sys.argv[1], 'x.jpg']\n"
        "from twincar.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code, str(small_run)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "twincar[train]" in result.stderr
    assert "twincar export" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_torch_a_model_that_is_none_needs_no_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error is not answered by five gigabytes of torch."""
    monkeypatch.setattr("twincar.models.engines.open.find_spec", lambda _: None)
    (tmp_path / "cars.csv").touch()
    for name, words in (("foo", "but there is none"), ("cars.csv", "but found"), (".", "no config.yaml")):
        with pytest.raises(UsageError, match=words):
            twincar.load(tmp_path / name)


def test_a_file_that_answers_differently_is_not_written(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: onnx.ModelProto
) -> None:
    monkeypatch.setattr(twincar.deploy.export, "to_onnx", lambda *_: with_last_bias(graph, [3, 0, 0, 0]))
    with pytest.raises(TwinCarError, match="Nothing was written"):
        export(small_run, out=tmp_path / "out" / "model.onnx")
    assert list((tmp_path / "out").iterdir()) == []
    forced = export(small_run, out=tmp_path / "out" / "model.onnx", force=True)
    assert forced.path.is_file()
    assert forced.comparison.largest_difference > 1e-3  # which is what is let through


def test_int8_that_loses_accuracy_is_tried_with_sensitive_layers_kept_and_then_refused(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: onnx.ModelProto
) -> None:
    tries = []

    def spoilt(model: onnx.ModelProto, _: object, kept: list[str]) -> onnx.ModelProto:
        tries.append(kept)
        return with_last_bias(model, [0, 0, 0, 99])

    monkeypatch.setattr(twincar.deploy.export, "quantize", spoilt)
    monkeypatch.setattr(twincar.deploy.export, "_MAX_LOSS", -2.0)  # whatever this run has learnt
    with pytest.raises(TwinCarError, match="Expected int8 to lose at most"):
        export(small_run, precision="int8", out=tmp_path / "model.onnx")
    assert tries == [[], sensitive_nodes(graph)]
    assert list(tmp_path.iterdir()) == []


def test_sensitive_layers_are_the_first_the_gates_and_the_last(small_run: Path, graph: onnx.ModelProto) -> None:
    network, _ = open_network(small_run)
    names = sensitive_nodes(graph)
    gates = sum(module.__class__.__name__ == "SqueezeExcite" for module in network.modules())
    assert len(names) == 2 * gates + 2 + 2  # two layers a gate, first and last convolution, two layers of the head
    order = [node.name for node in graph.graph.node]
    weighted = [node.name for node in graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert sorted(names, key=order.index)[0] == weighted[0]
    assert sorted(names, key=order.index)[-3:] == weighted[-3:]


def test_wrong_usage_is_told_before_any_work(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format openvino"):
        export(small_run, precision="bf16", out=tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=r"ending in \.onnx"):
        export(small_run, out=tmp_path / "model.bin")
    with pytest.raises(UsageError, match="never overwritten"):
        export(small_run, format="openvino", out=small_data)
    with pytest.raises(UsageError, match="--data DATA"):
        export(small_run / "best.safetensors", out=tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="there is none"):
        export(tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "precision", "extra"), [("onnx", "int8", "quantize"), ("openvino", "fp32", "openvino")]
)
def test_an_export_says_which_extra_it_lacks_before_any_work(
    small_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: ExportFormat,
    precision: Arithmetic,
    extra: str,
) -> None:
    monkeypatch.setattr("twincar.deploy.export.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'twincar\[{extra}\]'"):
        export(small_run, format=format, precision=precision, out=tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_lone_weights_file_is_exported_beside_itself(small_run: Path, small_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes((small_run / "best.safetensors").read_bytes())
    assert export(path, data_folder=small_data).path == tmp_path / "model-fp32.onnx"


@pytest.mark.parametrize(("format", "precision"), [("openvino", "fp32"), ("onnx", "fp16"), ("onnx", "int8-weights")])
def test_an_exported_file_is_exported_again(
    exported: dict[str, Exported], small_data: Path, tmp_path: Path, format: Any, precision: Any
) -> None:
    source, out = exported["onnx"].path, tmp_path / ("again.onnx" if format == "onnx" else "again")
    again = export(source, format=format, precision=precision, out=out, data_folder=small_data, force=True)
    assert again.comparison.photos == 12
    (engine, spec), (first, spec_of_first) = open_engine(out), open_engine(source)
    assert replace(spec_of_first, arithmetic=precision, provenance={}) == replace(spec, provenance={})
    assert np.abs(engine.logits(BATCH) - first.logits(BATCH)).max() < 0.1
    assert [weight.shape for weight, _ in engine.head.layers] == [weight.shape for weight, _ in first.head.layers]


def test_an_export_that_cannot_be_made_of_an_exported_file_is_told(
    exported: dict[str, Exported], small_data: Path, tmp_path: Path
) -> None:
    wanted: list[tuple[str, dict[str, Any], str]] = [
        ("onnx", {"precision": "int8"}, "int8 needs the weights of a run"),
        ("onnx", {}, "it has this form already"),
        ("fp16", {"format": "openvino"}, "it is in fp16, which cannot be changed"),
        ("openvino", {}, "an OpenVINO folder cannot be exported"),
    ]
    for kind, options, told in wanted:
        out = tmp_path / ("x" if "format" in options else "x.onnx")
        with pytest.raises(UsageError, match=told):
            export(exported[kind].path, out=out, data_folder=small_data, **options)
    assert list(tmp_path.iterdir()) == []


def test_comparison_is_on_the_validation_photos(exported: dict[str, Exported], small_data: Path) -> None:
    data = PreparedData.open(small_data)
    assert {item.comparison.photos for item in exported.values()} == {len(data.split("val"))}


@pytest.mark.parametrize("damage", ["cut", "other", "header", "gone"])
def test_a_damaged_file_is_refused_in_one_sentence(exported: dict[str, Exported], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load(exported["onnx"].path)
    if damage == "cut":
        path.write_bytes(exported["onnx"].path.read_bytes()[:100_000])
    elif damage == "other":
        onnx.helper.set_model_props(model, {})
        del model.metadata_props[:]
        onnx.save(model, path)
    elif damage == "header":
        onnx.helper.set_model_props(model, {"twincar": '{"format": 1}'})
        onnx.save(model, path)
    expected = {"cut": "whole ONNX", "other": "has no class names", "header": "damaged", "gone": "no such file"}[damage]
    with pytest.raises((CheckpointError, UsageError), match=expected):
        Classifier.load(path)


def test_a_damaged_folder_is_refused_in_one_sentence(exported: dict[str, Exported], tmp_path: Path) -> None:
    for file in exported["openvino"].path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.xml").write_text("<net>")
    with pytest.raises(CheckpointError, match="OpenVINO cannot read it"):
        Classifier.load(tmp_path)
    (tmp_path / "twincar.json").write_text("{")
    with pytest.raises(CheckpointError, match="header is damaged"):
        Classifier.load(tmp_path)
    (tmp_path / "twincar.json").unlink()
    with pytest.raises(UsageError, match=r"twincar\.json"):
        Classifier.load(tmp_path)


def test_an_engine_that_does_not_fit_is_told(exported: dict[str, Exported], small_run: Path) -> None:
    with pytest.raises(UsageError, match="--engine auto or torch"):
        Classifier.load(small_run, engine="openvino")
    with pytest.raises(UsageError, match="--engine auto or onnxruntime or openvino"):
        Classifier.load(exported["onnx"].path, engine="torch")
    with pytest.raises(UsageError, match="--engine auto or openvino"):
        Classifier.load(exported["openvino"].path, engine="onnxruntime")

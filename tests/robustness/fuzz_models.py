"""Targets of `tests.robustness.fuzz` that TwinCar writes itself: models, checkpoints, prepared data, caches."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tests.robustness.fuzz_targets import NAMES, SIDE, Reader, Target, photos
from twincar.core.labels import ClassNames
from twincar.core.preprocess import Preprocessing

CELLS, CHANNELS = 4, 3


def spec_text(**changes: object) -> str:
    """The header of a small model."""
    from twincar.models.calibration import Calibration
    from twincar.models.spec import ModelSpec

    spec = ModelSpec(
        backbone="tf_efficientnetv2_b0",
        head="linear",
        classes=ClassNames(NAMES),
        preprocessing=Preprocessing(height=SIDE, width=SIDE),
        calibration=Calibration(
            temperature=1.5,
            max_logit_quantiles=(0.0, 1.0, 2.0),
            max_logit_zscore_quantiles=(0.0, 1.0),
            min_quantile_quantiles=(0.0, 0.5, 1.0),
            photos=9,
        ),
    )
    return json.dumps({**json.loads(spec.to_header()), **changes})


def hostile_headers() -> list[bytes]:
    """Headers that would cause faults later if they were not checked."""
    sizes: list[dict[str, object]] = [
        {"height": 10**9, "width": 10**9},
        {"height": -1, "width": 5},
        {"height": "5", "width": 5},
        {"height": 0, "width": 0},
        {"height": 32, "width": 32, "crop": 0},
        {"height": 32, "width": 32, "crop": 1e-9},
        {"height": 1.5, "width": 32},
        {"height": 32, "width": 32, "crop": float("nan")},
    ]
    changes: list[dict[str, object]] = [
        *({"preprocessing": size} for size in sizes),
        {"backbone": "hf-hub:someone/evil"},
        {"backbone": "local-dir:/etc"},
        {"backbone": 5},
        {"backbone": [1]},
        {"head": "x"},
        {"arithmetic": "x"},
        {"provenance": [1]},
        {"provenance": None},
        {"calibration": [1]},
        {"calibration": {"temperature": float("inf")}},
        {"calibration": {"temperature": 1e-320}},
        {"calibration": {"min_quantile_quantiles": [1]}},
        {"calibration": {"min_quantile_quantiles": ["a"], "max_logit_quantiles": [1]}},
        {"calibration": {"photos": "x"}},
        {"classes": "abc"},
        {"classes": []},
        {"format": [1]},
        {"framing": 1},
        {"margin": float("nan")},
        {"margin": 1e9},
    ]
    return [spec_text(**change).encode() for change in changes]


def header(_: Path) -> Target:
    """The header of a model file, on which all later code relies."""
    from twincar.models.levels import levels_of
    from twincar.models.spec import ModelSpec

    pictures = [np.zeros(size, np.uint8) for size in ((20, 30, 3), (300, 40, 3))]

    def run(data: bytes) -> None:
        from PIL import Image

        spec = ModelSpec.from_header(data.decode("utf-8", "replace"), "the file")
        logits = np.linspace(-9, 9, 2 * len(spec.classes), dtype=np.float32).reshape(2, -1)
        probabilities = spec.calibration.probabilities(logits)
        assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4), probabilities.sum(axis=1)
        assert np.isfinite(spec.calibration.in_distribution_score(logits)).all()
        for level in levels_of(spec.classes).values():
            level.most_likely(probabilities)
        for picture in pictures:
            size = spec.preprocessing(Image.fromarray(picture)).shape
            assert size == (spec.preprocessing.height, spec.preprocessing.width, 3), size
        assert ModelSpec.from_header(spec.to_header(), "the file") == spec

    return Target(run, [spec_text().encode(), *hostile_headers(), b"[" * 5000, b"1", b"null"])


def safetensors(scratch: Path) -> Target:
    """Weights that hold tensors only."""
    import torch
    from safetensors.torch import save

    from twincar.models.checkpoint import load_model
    from twincar.models.weights import read_state_dict

    path = scratch / "best.safetensors"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read_state_dict(path)
        load_model(path)

    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.ones(4, dtype=torch.bfloat16),
        "c": torch.zeros((), dtype=torch.int64),
    }
    headers = [spec_text().encode(), *hostile_headers()[8:]]
    return Target(run, [save(tensors, metadata={"twincar": text.decode()}) for text in headers] + [save(tensors)])


class Payload:
    """A pickle that writes a file when it is opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return eval, (f"open({str(self.canary)!r}, 'w')",)


def torch_file(scratch: Path) -> Target:
    """Pickled weights: published ones, and the state a run is resumed from."""
    import torch

    from twincar.models.weights import read_state_dict
    from twincar.training.callbacks import AtomicCheckpoints

    path = scratch / "last.ckpt"

    def saved(content: object, **options: Any) -> bytes:
        data = io.BytesIO()
        torch.save(content, data, **options)
        return data.getvalue()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        AtomicCheckpoints().load_checkpoint(path)
        read_state_dict(path)

    weights = {"state_dict": {"a": torch.zeros(2, 3), "b": torch.ones(4)}, "epoch": 3}
    evil = Payload(scratch / "canary")
    return Target(
        run,
        [
            saved(weights),
            saved(weights, _use_new_zipfile_serialization=False),
            saved([1, "a"]),
            saved(evil),
            saved({"a": evil}, _use_new_zipfile_serialization=False),
            pickle.dumps(evil),
            pickle.dumps({"a": 1}),
        ],
    )


def npz(scratch: Path) -> Target:
    """The cache of an audit's signatures."""
    from twincar.auditing.signatures import sign_photos
    from twincar.data.dataset import Annotation

    (scratch / "a.jpg").write_bytes(photos()[0])
    path = scratch / "cache.npz"
    rows = [Annotation(file="a.jpg", label=0, split="train", width=48, height=32, box=None, sha256="0" * 64)]
    expected = sign_photos(rows, scratch, cache=path)
    sound = path.read_bytes()
    pickled = io.BytesIO()
    with np.load(path) as file:
        np.savez(pickled, **{**file, "sha256": np.array([Payload(scratch / "canary")], dtype=object)})

    def run(data: bytes) -> None:
        path.write_bytes(data)
        assert len(sign_photos(rows, scratch, cache=path)) == len(expected)

    return Target(run, [sound, pickled.getvalue()])


def small_onnx(header: str, *, external: str = "", classes: int = len(NAMES), side: int = SIDE) -> bytes:
    """A model with the inputs and outputs of an exported one; `external` is the file it names for its weights."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(classes, CHANNELS)).astype(np.float32), "head.0.weight")
    bias = numpy_helper.from_array(np.zeros(classes, np.float32), "head.0.bias")
    if external:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": external, "offset": "0", "length": str(4 * classes * CHANNELS)}.items():
            weight.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["features"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head.0.weight", "head.0.bias"], ["logits"], transB=1),
        helper.make_node("Identity", ["head.0.weight"], ["head.weight0"]),
        helper.make_node("Identity", ["head.0.bias"], ["head.bias0"]),
    ]
    made = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [made("images", TensorProto.UINT8, ["N", side, side, 3])],
        [
            made("logits", TensorProto.FLOAT, ["N", classes]),
            made("features", TensorProto.FLOAT, ["N", CHANNELS, CELLS, CELLS]),
            made("head.weight0", TensorProto.FLOAT, [classes, CHANNELS]),
            made("head.bias0", TensorProto.FLOAT, [classes]),
        ],
        [weight, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"twincar": header})
    return model.SerializeToString()


def prepared(scratch: Path) -> Target:
    """A prepared data set from elsewhere, whose hashes match whatever its files contain."""
    from twincar.core.files import sha256_of
    from twincar.core.labels import ClassNames
    from twincar.core.photos import read_photo
    from twincar.data.dataset import ANNOTATIONS, CLASSES, MANIFEST, Annotation, PreparedData, write_prepared

    folder = scratch / "prepared"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "a.jpg").write_bytes(photos()[0])
    rows = [
        Annotation(
            file="a.jpg",
            label=0,
            split="train",
            width=48,
            height=32,
            box=(0, 0, 9, 9),
            crop=(1, 0, 40, 30),
            sha256="0" * 64,
        ),
        Annotation(file="a.jpg", label=None, split="test", width=48, height=32, box=None, sha256="0" * 64),
    ]
    write_prepared(folder, ClassNames(NAMES), rows, {"photo_root": "photos", "left_out": {}, "source": "x"})
    names = {b"m": MANIFEST, b"a": ANNOTATIONS, b"c": CLASSES}
    sound = {name: (folder / name).read_bytes() for name in names.values()}

    def run(data: bytes) -> None:
        changed = {**sound, names.get(data[:1], ANNOTATIONS): data[1:]}
        for name, content in changed.items():
            (folder / name).write_bytes(content)
        if data[:1] != b"m":
            manifest = json.loads(sound[MANIFEST])
            manifest["sha256"] = {name: sha256_of(changed[name]) for name in (ANNOTATIONS, CLASSES)}
            (folder / MANIFEST).write_text(json.dumps(manifest))
        opened = PreparedData.open(folder)
        for annotation in opened.annotations[:5]:
            read_photo(opened.photo(annotation))
            assert annotation.label is None or opened.classes[annotation.label]

    seeds = [key + sound[name] for key, name in names.items()]
    for name in ("../../secret.jpg", str(scratch / "secret.jpg"), "..\\..\\secret.jpg"):
        seeds.append(b"a" + sound[ANNOTATIONS].replace(b"a.jpg", name.encode()))
    return Target(run, seeds)


def history(scratch: Path) -> Target:
    """The `metrics.csv` of a run."""
    from twincar.core.runs import RunFolder

    def run(data: bytes) -> None:
        (scratch / "metrics.csv").write_bytes(data)
        RunFolder(scratch).read_history()

    return Target(run, [b"epoch,train_loss,train_acc,val_f1_macro\n1.0,2.5,0.1,0.2\n2.0,2.4,0.2,0.3\n"])


READERS: dict[str, Reader] = {
    "prepared data": Reader(prepared, 5),
    "metrics.csv": Reader(history, 3),
    "model header": Reader(header, 8),
    "weights (.safetensors)": Reader(safetensors, 4),
    "weights (.pth, .ckpt)": Reader(torch_file, 4),
    "audit cache (.npz)": Reader(npz, 3),
}

"""A model that tells cars by their colour, made without torch, and photos for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from twincar.core.labels import ClassNames
from twincar.core.options import Framing
from twincar.core.preprocess import Preprocessing
from twincar.detection import Car
from twincar.detection.header import DetectorHeader
from twincar.models.calibration import Calibration
from twincar.models.spec import HEADER_KEY, ModelSpec

SCRIPT, TEMPLATE = "<script>alert(1)</script>", "${alert(2)} {{value}} <b>bold</b>"
# Each a weight for red, green and blue: a colour is a car.
CLASSES = {
    "BMW M3 Sedan 2012": (20, 0, 0),
    "Audi S4 Sedan 2011": (17, 0, 0),
    "Volvo C30 Hatchback 2012": (0, 20, 0),
    "Volvo C30 Hatchback 2009": (0, 19.8, 0),
    SCRIPT: (0, 0, 20),
    TEMPLATE: (0, 0, 17),
}
RED, GREEN, BLUE, YELLOW, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 0, 0)


def write_model(path: Path, *, sharper: float = 1.0, framing: Framing = "photo") -> Path:
    """A model of ours that tells cars by their colour: mean of 4×4 cells of the photo, and one linear layer."""
    weight = np.array(list(CLASSES.values()), np.float32) * np.float32(sharper)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["floats"], ["channels"], perm=[0, 3, 1, 2]),
            helper.make_node("Div", ["channels", "white"], ["scaled"]),
            helper.make_node("AveragePool", ["scaled"], ["features"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
            helper.make_node("Identity", ["weight"], ["head.0.weight"]),
            helper.make_node("Identity", ["bias"], ["head.0.bias"]),
        ],
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 32, 32, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(CLASSES)]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3, 4, 4]),
            helper.make_tensor_value_info("head.0.weight", TensorProto.FLOAT, weight.shape),
            helper.make_tensor_value_info("head.0.bias", TensorProto.FLOAT, [len(CLASSES)]),
        ],
        [
            numpy_helper.from_array(np.array(255, np.float32), "white"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.zeros(len(CLASSES), np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    spec = ModelSpec(
        backbone="colours",
        head="linear",
        classes=ClassNames(tuple(CLASSES)),
        preprocessing=Preprocessing(height=32, width=32, squash=True),
        framing=framing,
        calibration=Calibration(  # the largest logit of known cars is 5 to 30
            max_logit_quantiles=(5.0, 20.0, 30.0),
            max_logit_zscore_quantiles=(0.0, 0.1, 0.2),
            min_quantile_quantiles=(0.0, 0.5, 1.0),
            photos=100,
        ),
    )
    helper.set_model_props(model, {HEADER_KEY: spec.to_header()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_teachable(path: Path, **options: Any) -> Path:
    """The model of colours, with the statistics of photos of red, green and blue cars."""
    from twincar.models.class_statistics import ClassStatistics
    from twincar.models.engines.onnxruntime_engine import read_onnx_spec
    from twincar.models.onnx_head import ExportedModel

    write_model(path, **options)
    exported = ExportedModel.read(path)
    means = np.array([[1, 0, 0], [0.8, 0, 0], [0, 1, 0], [0, 0.9, 0], [0, 0, 1], [0, 0, 0.8]], np.float32)
    spread = np.full(3, 0.01, np.float32)
    exported.statistics = ClassStatistics(means, np.full(6, 10), np.zeros((1, 3), np.float32), spread)
    exported.write(path, read_onnx_spec(path))
    return path


class ColourDetector:
    """Finds the red, green and blue areas of a photo; stands in for a `Detector`."""

    def __init__(self, probability: float = 0.9, threshold: float = 0.4) -> None:
        self.probability = probability
        self.header = DetectorHeader(classes=("car",), cars=("car",), threshold=threshold, fit="squash")

    def find(self, photo: Image.Image, *, threshold: float | None = None) -> list[Car]:
        pixels = np.asarray(photo)
        cars = []
        for colour in (RED, GREEN, BLUE):
            rows, columns = np.nonzero((pixels == colour).all(axis=2))
            if len(rows):
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                cars.append(Car(*map(float, box), probability=self.probability))
        least = self.header.threshold if threshold is None else threshold
        return sorted((car for car in cars if car.probability >= least), key=lambda car: -car.prominence)

    def find_at(self, photo: Image.Image, thresholds: Iterable[float]) -> Iterator[list[Car]]:
        return (self.find(photo, threshold=least) for least in thresholds)


def paint_street(
    path: Path, cars: dict[tuple[int, int, int], tuple[int, int, int, int]], ground: str = "white"
) -> Path:
    """A photo, 400×200, with a rectangle of each colour."""
    photo = Image.new("RGB", (400, 200), ground)
    for colour, (left, top, right, bottom) in cars.items():
        ImageDraw.Draw(photo).rectangle((left, top, right - 1, bottom - 1), fill=colour)
    photo.save(path)
    return path


def paint(path: Path, colour: tuple[int, int, int], **options: Any) -> Path:
    """A photo of one colour."""
    Image.new("RGB", (120, 80), colour).save(path, **options)
    return path

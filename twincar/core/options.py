"""Choices and defaults that several folders share; imports no other module of the package, so `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Head = Literal["mlp", "linear"]
"""Kinds of classification head: 'mlp' is Linear-ReLU-Dropout-Linear, 'linear' a single layer."""

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Arithmetic of a training run."""

ExportFormat = Literal["onnx", "openvino"]
"""Kinds of exported model: one file, or a folder."""

Arithmetic = Literal["fp32", "fp16", "bf16", "int8", "int8-weights"]
"""Arithmetic of an exported model. 'fp16' stores half as many bytes and 'int8-weights' a quarter, but both compute in
full precision."""

EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
"""Inference engines; 'auto' is the fastest installed one that runs the model."""

Framing = Literal["car", "photo"]
"""What a model is trained on: photos that are cut to the car, or photos as they are."""

Crop = Literal["none", "box", "detect"]
"""How a data set is prepared: photos as they are, cut to the boxes of the source, or to what the detector finds."""

CROP_MARGIN = 0.05
"""Default of the margin around a car that is cut out, a share of its width and height on each side."""
Detect = Literal["auto", "always", "never"]
"""Whether the cars in a photo are found and cut out first; 'auto' does so for a model that was trained on such cuts."""

Split = Literal["train", "val", "test"]
"""Parts of a data set."""

Singletons = Literal["keep", "drop"]
"""What happens to classes that have a single training photo, which leaves none for validation."""

LabelsFrom = Literal["0", "1"]
"""The number of the first class in a table of class numbers."""

Cars = Literal["main", "all"]
"""Which cars of a photo are named: the most prominent one, or each that is found."""

CONFIDENCE = 0.8
"""Default of the least probability with which an answer is given."""

FALSE_REJECTION = 0.05
"""Default share of the photos of known cars that may be rejected as unknown."""


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Whether, and with what, the cars in a photo are found before they are named."""

    detect: Detect = "auto"
    """'auto' finds them for a model that was trained on photos that are cut to the car."""
    detector: str | None = None
    """A detector file; by default the bundled one."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When a prediction is accepted as an answer."""

    min_confidence: float = CONFIDENCE
    """Least probability with which an answer is given."""
    false_rejection: float = FALSE_REJECTION
    """Share of the photos of known cars that may be rejected as unknown."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(DetectOptions, Thresholds):
    """How a model predicts for each of many photos."""

    engine: EngineName = "auto"
    """The inference engine; see `open_engine`."""
    cars: Cars = "all"
    """Whether the most prominent car of a photo is named, or each that is found."""
    top_k: int = 3
    """Number of candidates in a prediction."""
    tta: bool = False
    """Whether to average over the mirror image and a wider view."""

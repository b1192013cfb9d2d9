"""Engines: uint8 photos in, logits and feature maps out; torch, onnxruntime and OpenVINO behind one small interface.

Importing this module imports none of them; opening a model imports the one it takes.

Shapes: N photos with V views each of H×W pixels, K classes, C channels of an h×w feature map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import CheckpointError
from twincar.core.options import EngineName
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.spec import ModelSpec

OPENVINO_MODEL, OPENVINO_HEADER = "model.xml", "twincar.json"
"""The files that make a folder an OpenVINO model of ours."""
HEAD_OUTPUT = "head."
"""How the names of the outputs begin that are the classifier's weights."""


class Engine(ABC):
    """A model on a device."""

    name: ClassVar[EngineName]

    @cached_property
    @abstractmethod
    def head(self) -> HeadWeights:
        """The classifier's weights, for Grad-CAM++."""

    @abstractmethod
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×K, of photos, N×H×W×3."""

    @abstractmethod
    def logits_and_features(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits, N×K, and the feature map before pooling, N×C×h×w, of photos, N×H×W×3."""

    def view_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, N×V×K, of photos in several views, N×V×H×W×3."""
        photos, views = images.shape[:2]
        return self.logits(images.reshape(photos * views, *images.shape[2:])).reshape(photos, views, -1)


@contextmanager
def damaged(path: Path, expected: str = "a whole model", found: str = "it cannot be opened") -> Iterator[None]:
    """Turn whatever an engine raises while it opens a file into one error; each has kinds of its own."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"Expected {expected} in {path}, but {found}: {_reason(error)}") from None


@contextmanager
def engine_errors() -> Iterator[None]:
    """Likewise while it computes: a file may be whole and still not compute what its header says."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"Expected a model that answers as its header says, but it does not: {_reason(error)} Export it again."
        ) from None


def check_shapes(shapes: Mapping[str, Sequence[Any]], spec: ModelSpec) -> None:
    """See that a model's input and outputs are those its header promises, as far as the file tells.

    Raises:
        ValueError: they are not.
    """
    size, classes = [spec.preprocessing.height, spec.preprocessing.width, 3], len(spec.classes)
    expected: dict[str, list[int | None]] = {
        "images": [None, *size],
        "logits": [None, classes],
        "features": [None, None, None, None],
    }
    for name, wanted in expected.items():
        found = shapes.get(name)
        if found is None or len(found) != len(wanted) or (list(found[1:3]) != size[:2] and name == "images"):
            raise ValueError(f"{name} has the shape {found}, not {wanted}")
        if any(isinstance(a, int) and b is not None and a != b for a, b in zip(found, wanted, strict=True)):
            raise ValueError(f"{name} has the shape {found}, not {wanted}")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__

"""The interface of inference engines: from uint8 photos to logits and feature maps.

Importing this module imports no engine; opening a model imports the one that it needs.

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

from twincar.core.errors import CheckpointError, reason
from twincar.core.options import EngineName
from twincar.models.cam.gradcam import HeadWeights
from twincar.models.spec import ModelSpec

OPENVINO_MODEL, OPENVINO_HEADER = "model.xml", "twincar.json"
"""The files of an exported OpenVINO folder."""
HEAD_OUTPUT = "head."
"""Prefix of the outputs of an exported model that are the weights of its head."""


class Engine(ABC):
    """A model on a device."""

    name: ClassVar[EngineName]

    @cached_property
    @abstractmethod
    def head(self) -> HeadWeights:
        """The weights of the classification head, for Grad-CAM++."""

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
    """Raise any error in opening a file as one `CheckpointError`; each engine has its own classes of errors."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"Expected {expected} in {path}, but {found}: {reason(error, last=True)}.") from None


@contextmanager
def engine_errors() -> Iterator[None]:
    """The same for errors in computing: a file may be whole but not compute what its header says."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"Expected a model that computes what its header says, but it failed: {reason(error, last=True)}. "
            "Export it again."
        ) from None


def check_shapes(shapes: Mapping[str, Sequence[Any]], spec: ModelSpec) -> None:
    """Check that a model's input and outputs have the shapes in its header, as far as the file declares them.

    Raises:
        ValueError: they do not.
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

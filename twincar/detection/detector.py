"""Find the cars in a photo with an ONNX detector. Torch-free.

A detector file has the input `images`, uint8 RGB, N×H×W×3 with fixed H and W, and the outputs `boxes`, N×A×4 (left,
top, right, bottom, as shares of the input's width and height), and `scores`, N×A×C (probabilities). Normalisation,
anchors and the decoding of boxes are part of its graph; overlapping boxes are removed here.

Shapes: N = 1 photo, resized to H×W pixels; A boxes before suppression, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twincar.core.errors import CheckpointError
from twincar.core.photo_formats import orientation_of, upright
from twincar.core.photos import read_photo
from twincar.detection.cars import Car, without_parts
from twincar.detection.header import HEADER_KEY, DetectorHeader
from twincar.detection.suppression import suppress
from twincar.models.engines.base import damaged
from twincar.models.engines.onnxruntime_engine import open_session

if TYPE_CHECKING:
    import onnxruntime

BUNDLED = Path(__file__).parent / "bundled" / "cars.onnx"
"""The bundled detector; `CARD.md` beside it describes its origin and its limits."""

_MAX_IOU = 0.5
_COMPETING = 0.5  # share of the threshold from which boxes take part in suppression
_BORDER = 0.5  # of the photo's width and height, added on each side for a second look
_REDUCING_GAP = 2.0  # of Pillow: a large photo is first reduced to twice the size by whole factors, which is fast
_FAR_OUTSIDE = 2  # shares of the input
_MOST_CANDIDATES = 1000  # boxes that are compared with each other, the most probable ones
_MOST_BOXES = 2_000_000  # of a file, A
_LARGEST_INPUT = 4096  # pixels
_GREY = (114, 114, 114)


def load_detector(path: Path | None = None) -> Detector:
    """Open a detector file; by default the bundled one, which is opened once per process.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is damaged, or not a detector file.
    """
    return _bundled() if path is None else Detector(path)


@cache
def _bundled() -> Detector:
    return Detector(BUNDLED)


class _Outputs(NamedTuple):
    """What one run of the network gives."""

    place: tuple[int, int, int, int]
    """Where in the input the photo was: left, top, width, height, pixels."""
    shares: NDArray[np.float32]
    """Boxes, A×4, as shares of the input."""
    scores: NDArray[np.float32]
    """Probabilities of the classes that are cars, A×(their number)."""


class Detector:
    """Finds cars in photos; one can be used by several threads at once."""

    def __init__(self, path: Path) -> None:
        """Open a file; raises the errors of `load_detector`."""
        self._path = path
        self._session = open_session(path, "a detector")
        with damaged(path, "a detector"):
            text = self._session.get_modelmeta().custom_metadata_map.get(HEADER_KEY)
        if text is None:
            raise CheckpointError(
                f"Expected a detector with the metadata {HEADER_KEY!r} in {path}, but it has none. The documentation, "
                "'Find the cars in a photo', says how to add it."
            )
        self.header = DetectorHeader.from_json(text, str(path))
        with damaged(path, "the documented input and outputs of a detector", "they differ"):
            self._height, self._width = _checked_shapes(self._session, len(self.header.classes))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, pixels."""
        return self._height, self._width

    def find(self, photo: Image.Image | NDArray[np.uint8], *, threshold: float | None = None) -> list[Car]:
        """The cars in a photo, the most prominent first (see `Car.prominence`).

        Where none is found, a second look is taken at the photo within a grey border, because a car that reaches from
        edge to edge can be missed.

        Args:
            photo: an image, or an array, height×width×3, uint8.
            threshold: least probability; by default the one in the file.

        Raises:
            PhotoError: it is not a photo.
            CheckpointError: the detector fails, or gives anything but boxes and probabilities.
        """
        return next(self.find_at(photo, [self.header.threshold if threshold is None else threshold]))

    def find_at(self, photo: Image.Image | NDArray[np.uint8], thresholds: Iterable[float]) -> Iterator[list[Car]]:
        """The cars in a photo at each of several thresholds, as `find` gives them, one after the other.

        They share the outputs of the network, which runs at most twice: on the photo, and on the photo within a border.
        """
        image = _upright(photo)
        outputs = cache(partial(self._outputs, image))
        for least in thresholds:
            yield self._look(image, outputs(0), least) or self._look(image, outputs(_BORDER), least)

    def _outputs(self, image: Image.Image, border: float) -> _Outputs:
        """One run of the network."""
        place = self._place(image, border)
        shares, all_scores = self._run(self._input(image, place))
        scores = all_scores[:, [self.header.classes.index(name) for name in self.header.cars]]
        if not ((scores >= 0) & (scores <= 1)).all():
            raise self._wrong("scores that are probabilities, 0 to 1", "others, or NaN")
        return _Outputs(place, shares, scores)

    def _look(self, image: Image.Image, outputs: _Outputs, least: float) -> list[Car]:
        """The cars of at least a probability."""
        # Less probable boxes compete too, and by prominence: a part of a car can be more probable than the whole.
        cars = self._candidates(image, outputs, _COMPETING * least)
        boxes = np.array([(car.left, car.top, car.right, car.bottom) for car in cars], np.float32).reshape(-1, 4)
        kept = suppress(boxes, np.array([car.prominence for car in cars], np.float32), _MAX_IOU)
        return without_parts([cars[k] for k in kept if cars[k].probability >= least])

    def _candidates(self, image: Image.Image, outputs: _Outputs, threshold: float) -> list[Car]:
        """Boxes that may overlap."""
        place, shares, scores = outputs
        best = scores.max(axis=1)
        chosen = np.flatnonzero(best >= threshold)
        chosen = chosen[np.argsort(-best[chosen], kind="stable")[:_MOST_CANDIDATES]]
        if not np.isfinite(shares[chosen]).all():
            raise self._wrong("boxes that are numbers", "NaN or infinity")
        if len(chosen) and (abs(shares[chosen]).max(axis=1) > _FAR_OUTSIDE).all():
            raise self._wrong("boxes in shares of the input, 0 to 1", f"all {len(chosen)} of a photo far outside of it")
        pixels = shares[chosen] * np.tile([self._width, self._height], 2)
        boxes = np.clip((pixels - np.tile(place[:2], 2)) / np.tile(place[2:], 2), 0, 1)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        kept = chosen[inside]
        found = (boxes[inside] * np.tile(image.size, 2)).tolist()
        return [
            Car(left, top, right, bottom, score, self.header.cars[name])
            for (left, top, right, bottom), score, name in zip(
                found, best[kept].tolist(), scores[kept].argmax(axis=1), strict=True
            )
        ]

    def _place(self, image: Image.Image, border: float) -> tuple[int, int, int, int]:
        """Where in the input the photo goes: left, top, width, height, in pixels; `border` is a share of these."""
        width, height = self._width / (1 + 2 * border), self._height / (1 + 2 * border)
        left, top = int((self._width - width) / 2), int((self._height - height) / 2)
        if self.header.fit == "letterbox":
            scale = min(width / image.width, height / image.height)
            width, height = image.width * scale, image.height * scale
        return left, top, max(1, round(width)), max(1, round(height))

    def _input(self, image: Image.Image, place: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        resized = image.resize(place[2:], Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)
        if resized.size != (self._width, self._height):
            canvas = Image.new("RGB", (self._width, self._height), _GREY)
            canvas.paste(resized, place[:2])
            resized = canvas
        return np.asarray(resized)[None]

    def _run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes, A×4, and scores, A×C."""
        with damaged(self._path, "a detector that computes boxes and scores", "it failed"):
            boxes, scores = self._session.run(["boxes", "scores"], {"images": images})
        classes = len(self.header.classes)
        if boxes.shape != (1, boxes.size // 4, 4) or scores.shape != (1, boxes.size // 4, classes):
            raise self._wrong(f"boxes, 1×A×4, and scores, 1×A×{classes}", f"{boxes.shape} and {scores.shape}")
        return boxes[0], scores[0]

    def _wrong(self, expected: str, found: str) -> CheckpointError:
        return CheckpointError(
            f"Expected a detector that computes {expected}, but {self._path} computes {found}. See 'Another detector' "
            "in the documentation."
        )


def _upright(photo: Image.Image | NDArray[np.uint8]) -> Image.Image:
    """An upright RGB image; one that is so already is not copied, which takes as long as resizing it."""
    if isinstance(photo, Image.Image) and photo.mode == "RGB" and not photo.has_transparency_data:
        return upright(photo, orientation_of(photo))
    return read_photo(photo)


def _checked_shapes(session: onnxruntime.InferenceSession, classes: int) -> tuple[int, int]:
    """Height and width of the input, if all names, types and shapes are as documented."""
    inputs, outputs = session.get_inputs(), {output.name: output for output in session.get_outputs()}
    if [(found.name, found.type) for found in inputs] != [("images", "tensor(uint8)")]:
        raise ValueError(f"its inputs are {[(found.name, found.type) for found in inputs]}, not images of uint8")
    shape = inputs[0].shape
    if len(shape) != 4 or shape[3] != 3 or not all(isinstance(n, int) and 1 < n <= _LARGEST_INPUT for n in shape[1:3]):
        raise ValueError(f"images has the shape {shape}, not N×H×W×3 with numbers for H and W up to {_LARGEST_INPUT}")
    for name, last in (("boxes", 4), ("scores", classes)):
        found: Any = outputs.get(name)
        if found is None or found.type != "tensor(float)":
            raise ValueError(f"it has no output {name} of float32")
        if len(found.shape) != 3 or (isinstance(found.shape[2], int) and found.shape[2] != last):
            raise ValueError(f"{name} has the shape {found.shape}, not N×A×{last}")
        if isinstance(found.shape[1], int) and found.shape[1] > _MOST_BOXES:
            raise ValueError(f"{name} has the shape {found.shape}, of more than {_MOST_BOXES} boxes")
    return shape[1], shape[2]

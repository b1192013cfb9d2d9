"""Measures how faithful explanations are, on photos of a split."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twincar.core.files import write_csv, write_json
from twincar.core.photos import read_photo
from twincar.core.progress import Progress
from twincar.core.wording import counted
from twincar.data.dataset import Box
from twincar.data.toy.cars import Part, read_part
from twincar.evaluation import plots
from twincar.evaluation.subject import Subject
from twincar.explanation.explain import CAM
from twincar.explanation.randomised import randomised_engines
from twincar.metrics import saliency as scores
from twincar.metrics.saliency import Better, Mask, Pixels, Score
from twincar.models.cam.gradcam import Floats, contrastive_cam, grad_cam_plus_plus, resize_map
from twincar.models.cam.occlusion import contrastive_occlusion
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

log = logging.getLogger(__name__)

_CURVES: tuple[tuple[str, Callable[..., Floats], Better], ...] = (
    ("deletion", scores.deletion_curve, "lower"),
    ("insertion", scores.insertion_curve, "higher"),
)


@dataclass(frozen=True)
class ExplanationScores:
    """How true the maps are, and where tables and the picture lie."""

    split: str
    photos: int
    scores: list[Score]
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """For `explanation_scores.json` and `--json`."""
        return {"split": self.split, "photos": self.photos, "scores": [score.to_dict() for score in self.scores]}


def score_explanations(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    count: int = 100,
    data_folder: Path | None = None,
    out: Path | None = None,
    on_photo: Progress | None = None,
) -> ExplanationScores:
    """Measure whether the maps are true, and write `explanation_scores` as JSON, CSV and PNG; see
    `Subject.results`.

    Every map is of the class that is answered. Grad-CAM++ and, as baselines, a blob in the middle and random blocks
    are put to deletion, insertion and ROAD; compared with the car's box, where boxes are known; and Grad-CAM++ with its
    own maps once the network's weights are randomised from the classifier down (Adebayo et al., 2018,
    https://arxiv.org/abs/1810.03292). On the drawn cars, of which it is known what tells twins apart, these maps and
    the contrast with the twin are also compared with that part.

    Args:
        model: a run folder, a model file, owner/name on the hub, or earlier results; the bundled model unless given.
        split: 'val', 'test' or 'train'; validation photos unless given, or test photos where there are none.
        count: how many photos, spread evenly over the split.
        data_folder: a prepared data set, class folders, or a CSV; only a run knows its own.
        out: where results go in place of the default.
        on_photo: called with photos done and in all, for a progress bar.

    Raises:
        UsageError: no such model, no data named for one that knows none, or `out` holds something else, or
            `count` is below 1.
        PhotoError: a photo cannot be read.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    data, split = subject.data, subject.split
    chosen = subject.sample(count)
    folder = subject.claim(subject.results)
    judge = _ExplanationScorer(subject.engine, subject.spec, _randomised(subject))
    for done, annotation in enumerate(chosen, start=1):
        car = "" if annotation.label is None else data.classes[annotation.label]
        judge.add(read_photo(data.path(annotation)), annotation.box, read_part(data.folder, annotation.file, car))
        if on_photo:
            on_photo(done, len(chosen))
    result = ExplanationScores(split, len(chosen), judge.scores(), folder)
    write_json(result.folder / "explanation_scores.json", result.to_dict())
    write_csv(result.folder / "explanation_scores.csv", [score.to_dict() for score in result.scores])
    title = f"Does the answer rest on what the maps mark? {counted(len(chosen), f'{split} photo')}"
    plots.save(plots.removal_curves(judge.curves(), title), result.folder / "explanation_scores.png")
    return result


def _randomised(subject: Subject) -> Mapping[str, Engine]:
    """The networks of the sanity check; none of an exported model, whose weights cannot be randomised."""
    if subject.engine.name == "torch":
        return randomised_engines(subject.path)
    log.warning(
        "The sanity check with random weights is left out, because %s is an exported model. It takes the weights that "
        "the model was exported from: a run folder, or a .safetensors file.",
        subject.name,
    )
    return {}


class _ExplanationScorer:
    """Puts the maps of one photo after another to the test."""

    def __init__(self, engine: Engine, spec: ModelSpec, randomised: Mapping[str, Engine]) -> None:
        self._engine, self._spec, self._randomised = engine, spec, randomised
        self._rng = np.random.default_rng(0)
        self._values: defaultdict[tuple[str, str, Better], list[float]] = defaultdict(list)
        self._curves: defaultdict[tuple[str, str], list[Floats]] = defaultdict(list)

    def add(self, photo: Image.Image, box: Box | None, part: Part | None) -> None:
        """Measure one photo; of its car the box may be known, and the part that tells it from its twin."""
        pixels = self._spec.preprocessing(photo)
        logits, features = self._engine.logits_and_features(pixels[None])
        answer = logits.argmax(axis=1)
        cells = grad_cam_plus_plus(features, self._engine.head, answer)[0]
        maps = self._with_baselines(cells, pixels)
        for name, heat in maps.items():
            self._take_away(pixels, name, heat, int(answer[0]))
        for name, engine in self._randomised.items():
            other = grad_cam_plus_plus(engine.logits_and_features(pixels[None])[1], engine.head, answer)[0]
            self._keep(f"rank correlation, random {name}", CAM, "lower", scores.rank_correlation(cells, other))
        if box is not None:
            mask = Image.new("L", photo.size)
            mask.paste(255, box)
            for name, heat in maps.items():
                self._keep("energy in the car's box", name, "higher", scores.energy_within(heat, self._seen(mask)))
        if part is not None:
            self._look_for(part, pixels, features)

    def scores(self) -> list[Score]:
        """Of all photos; an area of each kind of map, then the next."""
        kinds = dict.fromkeys(score for score, _, _ in self._values)
        return [
            Score.over_photos(score, name, values, better)
            for kind in kinds
            for (score, name, better), values in self._values.items()
            if score == kind
        ]

    def curves(self) -> dict[str, dict[str, Floats]]:
        """Mean curves, S + 1, by kind and map."""
        means: defaultdict[str, dict[str, Floats]] = defaultdict(dict)
        for (kind, name), curves in self._curves.items():
            means[kind][name] = np.mean(curves, axis=0)
        return dict(means)

    def _take_away(self, pixels: Pixels, name: str, heat: Floats, answer: int) -> None:
        logits = self._engine.logits
        for kind, curve_of, better in _CURVES:
            curve = curve_of(logits, pixels, heat, answer)
            self._curves[kind, name].append(curve)
            self._keep(kind, name, better, scores.area(curve))
        most, least = scores.road(logits, pixels, heat, answer, self._rng)
        self._keep("ROAD, most relevant first", name, "lower", most)
        self._keep("ROAD, least relevant first", name, "higher", least)

    def _look_for(self, part: Part, pixels: Pixels, features: Floats) -> None:
        """Compare maps of the true class, and of what tells it from its twin, with the part in which the two differ."""
        car, twin = self._spec.classes.find(part.car), self._spec.classes.find(part.twin)
        mask = self._seen(part.mask)
        if car is None or twin is None or not mask.any():
            return
        head = self._engine.head
        height, width = pixels.shape[:2]
        of_car, of_twin = np.array([car]), np.array([twin])
        cells = contrastive_cam(features, head, of_car, of_twin)[0]
        hiding = contrastive_occlusion(self._engine.logits, pixels, car, twin)
        maps = {
            "contrast by hiding": resize_map(hiding, height, width),
            "contrast by cell (Finer-CAM)": resize_map(cells, height, width),
            **self._with_baselines(grad_cam_plus_plus(features, head, of_car)[0], pixels),
        }
        for name, heat in maps.items():
            self._keep("peak in the part that differs", name, "higher", scores.peak_within(heat, mask))
            self._keep("energy in the part that differs", name, "higher", scores.energy_within(heat, mask))

    def _with_baselines(self, cells: Floats, pixels: Pixels) -> dict[str, Floats]:
        height, width = pixels.shape[:2]
        return {
            CAM: resize_map(cells, height, width),
            "centred blob": scores.centred_map(height, width),
            "random blocks": scores.random_map(height, width, self._rng),
        }

    def _seen(self, mask: Image.Image) -> Mask:
        """What the network sees of a mask over the photo, as it sees the photo."""
        preprocessing = self._spec.preprocessing
        left, top, right, bottom = preprocessing.visible_box(mask.width, mask.height)
        box = max(left, 0), max(top, 0), min(right, mask.width), min(bottom, mask.height)
        size = preprocessing.width, preprocessing.height
        return np.asarray(mask.resize(size, Image.Resampling.NEAREST, box=box)) > 0

    def _keep(self, score: str, name: str, better: Better, value: float) -> None:
        self._values[score, name, better].append(value)

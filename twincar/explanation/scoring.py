"""Measure how faithful the heat maps are, on photos of a split.

Shapes: N photos of H×W pixels, S steps of a curve.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from twincar.core.files import write_csv, write_json
from twincar.core.photos import Box, read_photo
from twincar.core.progress import Progress
from twincar.core.wording import counted
from twincar.data.toy.cars import Part, read_part
from twincar.evaluation import plots
from twincar.evaluation.results import EXPLANATION_SCORES, ExplanationScores
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


def score_explanations(
    model: str | Path | None = None,
    *,
    split: str | None = None,
    count: int = 100,
    data_folder: Path | None = None,
    out: Path | None = None,
    on_photo: Progress | None = None,
) -> ExplanationScores:
    """Measure how faithful the maps are and write `explanation_scores` as JSON, CSV and PNG; see `Subject.results`.

    Every map is for the predicted class. Grad-CAM++ and two baselines, a blob in the centre and random blocks, are
    scored by deletion, insertion and ROAD, and compared with the car's box if it is known. The contrast maps of the
    two most likely classes are compared with them by ROAD, on the probability of the first if it is one of the two. As
    a sanity check, Grad-CAM++ is compared with the maps of the network after its weights are randomised from the
    classifier down (Adebayo et al., 2018, https://arxiv.org/abs/1810.03292). On the drawn cars, where the part that
    distinguishes twins is known, all of these maps are also compared with that part.

    Args:
        model: a run folder, a model file, owner/name on the hub, or a folder of results; by default the bundled model.
        split: 'val', 'test' or 'train'; by default 'val', or 'test' if there are no validation photos.
        count: number of photos, spread evenly over the split.
        data_folder: a prepared data set, class folders, or a CSV file; by default the data that a run was trained on.
        out: folder of the results, instead of the default.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Raises:
        UsageError: there is no such model, data is missing for a model that is not a run, `out` holds other files,
            or `count` is below 1.
        PhotoError: a photo cannot be read.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    data, split = subject.data, subject.split
    chosen = subject.sample(count)
    folder = subject.claim(subject.results)
    scorer = _ExplanationScorer(subject.engine, subject.spec, _randomised(subject))
    for done, annotation in enumerate(chosen, start=1):
        car = "" if annotation.label is None else data.classes[annotation.label]
        part = read_part(data.folder, annotation.file, car)
        if part and annotation.crop:
            part = replace(part, mask=part.mask.crop(annotation.crop))
        scorer.add(read_photo(data.photo(annotation)), annotation.box_in_crop, part)
        if on_photo:
            on_photo(done, len(chosen))
    result = ExplanationScores(split, len(chosen), scorer.scores(), folder)
    write_json(result.folder / EXPLANATION_SCORES, result.to_dict())
    write_csv(result.folder / "explanation_scores.csv", [score.to_dict() for score in result.scores])
    title = f"Faithfulness of the heat maps, {counted(len(chosen), f'{split} photo')}"
    plots.save(plots.removal_curves(scorer.curves(), title), result.folder / "explanation_scores.png")
    return result


def _randomised(subject: Subject) -> Mapping[str, Engine]:
    """The networks of the sanity check; none for an exported model, whose weights cannot be randomised."""
    if subject.engine.name == "torch":
        return randomised_engines(subject.path)
    log.warning(
        "The sanity check with random weights is skipped, because %s is an exported model. It needs the weights from "
        "which the model was exported: a run folder or a .safetensors file.",
        subject.name,
    )
    return {}


class _ExplanationScorer:
    """Scores the maps of one photo after another."""

    def __init__(self, engine: Engine, spec: ModelSpec, randomised: Mapping[str, Engine]) -> None:
        self._engine, self._spec, self._randomised = engine, spec, randomised
        self._rng = np.random.default_rng(0)
        self._values: defaultdict[tuple[str, str, Better], list[float]] = defaultdict(list)
        self._curves: defaultdict[tuple[str, str], list[Floats]] = defaultdict(list)

    def add(self, photo: Image.Image, box: Box | None, part: Part | None) -> None:
        """Score the maps of one photo, whose box and whose difference from the twin may be known."""
        pixels = self._spec.preprocessing(photo)
        logits, features = self._engine.logits_and_features(pixels[None])
        target = logits.argmax(axis=1)
        cells = grad_cam_plus_plus(features, self._engine.head, target)[0]
        maps = self._with_baselines(cells, pixels)
        for name, heatmap in maps.items():
            self._score_removal(pixels, name, heatmap, int(target[0]))
        for name, engine in self._randomised.items():
            other = grad_cam_plus_plus(engine.logits_and_features(pixels[None])[1], engine.head, target)[0]
            self._record(f"rank correlation, random {name}", CAM, "lower", scores.rank_correlation(cells, other))
        if box is not None:
            mask = Image.new("L", photo.size)
            mask.paste(255, box)
            visible = self._visible_mask(mask)
            for name, heatmap in maps.items():
                self._record("energy in the car's box", name, "higher", scores.energy_within(heatmap, visible))
        if logits.shape[1] > 1:
            self._score_contrast(pixels, logits, features)
        if part is not None:
            self._score_part(part, pixels, features)

    def scores(self) -> list[Score]:
        """The scores over all photos, grouped by the name of the score."""
        kinds = dict.fromkeys(score for score, _, _ in self._values)
        return [
            Score.over_photos(score, name, values, better)
            for kind in kinds
            for (score, name, better), values in self._values.items()
            if score == kind
        ]

    def curves(self) -> dict[str, dict[str, Floats]]:
        """Mean curves, S + 1, by name and map."""
        means: defaultdict[str, dict[str, Floats]] = defaultdict(dict)
        for (kind, name), curves in self._curves.items():
            means[kind][name] = np.mean(curves, axis=0)
        return dict(means)

    def _score_removal(self, pixels: Pixels, name: str, heatmap: Floats, target: int) -> None:
        logits = self._engine.logits
        for kind, curve_of, better in _CURVES:
            curve = curve_of(logits, pixels, heatmap, target)
            self._curves[kind, name].append(curve)
            self._record(kind, name, better, scores.area(curve))
        most, least = scores.road(logits, pixels, heatmap, target, self._rng)
        self._record("ROAD, most relevant first", name, "lower", most)
        self._record("ROAD, least relevant first", name, "higher", least)

    def _score_contrast(self, pixels: Pixels, logits: Floats, features: Floats) -> None:
        """Score the contrast maps of the two most likely classes by the probability that separates these two."""
        pair = np.argsort(-logits[0], kind="stable")[:2]
        for name, heatmap in self._contrast_maps(pixels, features, *pair.tolist()).items():
            most, least = scores.road(
                lambda photos: self._engine.logits(photos)[:, pair], pixels, heatmap, 0, self._rng
            )
            self._record("contrast under ROAD, most relevant first", name, "lower", most)
            self._record("contrast under ROAD, least relevant first", name, "higher", least)

    def _score_part(self, part: Part, pixels: Pixels, features: Floats) -> None:
        """Compare the maps of the true class and the contrast maps with the part in which the twins differ."""
        car, twin = self._spec.classes.find(part.car), self._spec.classes.find(part.twin)
        mask = self._visible_mask(part.mask)
        if car is None or twin is None or not mask.any():
            return
        for name, heatmap in self._contrast_maps(pixels, features, car, twin).items():
            self._record("peak in the part that differs", name, "higher", scores.peak_within(heatmap, mask))
            self._record("energy in the part that differs", name, "higher", scores.energy_within(heatmap, mask))

    def _contrast_maps(self, pixels: Pixels, features: Floats, target: int, other: int) -> dict[str, Floats]:
        """The contrast maps of two classes, and the maps of the first."""
        head = self._engine.head
        height, width = pixels.shape[:2]
        of_target, of_other = np.array([target]), np.array([other])
        cells = contrastive_cam(features, head, of_target, of_other)[0]
        occlusion = contrastive_occlusion(self._engine.logits, pixels, target, other)
        return {
            "contrast by hiding": resize_map(occlusion, height, width),
            "contrast by cell (Finer-CAM)": resize_map(cells, height, width),
            **self._with_baselines(grad_cam_plus_plus(features, head, of_target)[0], pixels),
        }

    def _with_baselines(self, cells: Floats, pixels: Pixels) -> dict[str, Floats]:
        height, width = pixels.shape[:2]
        return {
            CAM: resize_map(cells, height, width),
            "centred blob": scores.centred_map(height, width),
            "random blocks": scores.random_map(height, width, self._rng),
        }

    def _visible_mask(self, mask: Image.Image) -> Mask:
        """A mask over the photo, cropped and resized like the photo to the network's input, H×W."""
        preprocessing = self._spec.preprocessing
        left, top, right, bottom = preprocessing.visible_box(mask.width, mask.height)
        box = max(left, 0), max(top, 0), min(right, mask.width), min(bottom, mask.height)
        size = preprocessing.width, preprocessing.height
        return np.asarray(mask.resize(size, Image.Resampling.NEAREST, box=box)) > 0

    def _record(self, score: str, name: str, better: Better, value: float) -> None:
        self._values[score, name, better].append(value)

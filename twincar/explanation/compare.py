"""Compare two classes, or the most confused pairs of classes, on one page, with a figure for each pair.

The page shows photos of both classes with contrast maps, which are evidence for the one class or the other, and how
often each class is predicted as the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twincar.core.errors import DataError, UsageError
from twincar.core.files import read_json, write_json, write_text
from twincar.core.html import picture_uri, render
from twincar.core.labels import ClassNames, slug
from twincar.core.photos import PhotoCrop, read_photo
from twincar.core.progress import Progress
from twincar.core.wording import percent
from twincar.evaluation import overlay_figures, plots
from twincar.evaluation.results import COMPARISONS, ComparedPair, PhotoPrediction, confusion_of
from twincar.evaluation.split_predictions import predict_split
from twincar.evaluation.subject import Subject
from twincar.inference.crops import CarFinder
from twincar.metrics.classification import most_confused
from twincar.models.cam.gradcam import contrastive_cam, grad_cam_plus_plus
from twincar.models.cam.occlusion import contrastive_occlusion
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

_EXAMPLES, _MISTAKES = 2, 2  # photos of each class: of the class itself, and predicted as the other class
_USER_PHOTO = "Your photo"


@dataclass(frozen=True)
class Comparison:
    """The compared pairs, and the page about them."""

    split: str
    pairs: list[ComparedPair]
    page: Path

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"split": self.split, "page": str(self.page), "pairs": [asdict(pair) for pair in self.pairs]}


@dataclass(frozen=True)
class _Section:
    """The section of the page about one pair."""

    pair: ComparedPair
    photos: dict[str, list[overlay_figures.ContrastedPhoto]] = field(default_factory=dict)
    """Photos with their maps, by heading."""


def compare(
    model: str | Path | None = None,
    classes: Sequence[str] = (),
    *,
    photo: str | Path | None = None,
    split: str | None = None,
    count: int = 6,
    data_folder: str | Path | None = None,
    out: str | Path | None = None,
    on_photo: Progress | None = None,
) -> Comparison:
    """Compare two classes, or the pairs most often confused, and write a page in `compare/`; see `Subject.reports`.

    Args:
        model: a run folder, a model file, owner/name on the hub, or a folder of results; by default the bundled model.
        classes: names of two classes, in any spelling; by default the pairs most often confused.
        photo: a photo to add; without `classes`, its two most likely classes are compared.
        split: 'val', 'test' or 'train'; by default 'val', or 'test' if there are no validation photos.
        count: number of pairs, if no classes are named.
        data_folder: a prepared data set, class folders, or a CSV file; by default the data that a run was trained on.
        out: folder of the results, instead of the default.
        on_photo: called with the number of finished photos and their total, for a progress bar.

    Returns:
        The path of the page, and the counts of each pair.

    Raises:
        UsageError: there is no such model, data is missing for a model that is not a run, `out` holds other files,
            `classes` are not two different ones, or the model has only one class.
        LabelError: the model has no class of that name, or the data has classes that the model does not know.
        DataError: there is no such split, or it has no labels.
        PhotoError: a photo cannot be read.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    spec = subject.spec
    if len(spec.classes) < 2:
        raise UsageError(f"Expected a model of at least two classes to compare, but found one: {spec.classes[0]!r}.")
    named = _named_pair(spec.classes, classes)
    explainer = _PairExplainer(subject.engine, spec, subject.finder(subject.data))
    photo = Path(photo) if photo else None
    if photo and not named:
        named = [explainer.top_two(photo)]
    split = subject.split
    folder = subject.claim(subject.reports / "compare")
    predictions = predict_split(subject, on_photo)
    pairs = named or [pair[:2] for pair in most_confused(confusion_of(predictions, spec.classes), count)]
    page = _page_name(spec.classes, named, photo)
    sections = []
    for done, pair in enumerate(pairs, start=1):
        sections.append(_compare_pair(explainer, subject, predictions, pair, photo, page))
        if on_photo:
            on_photo(done, len(pairs))
    _save_grids(folder, sections)
    title = " or ".join(spec.classes[index] for index in named[0]) if named else "The most confused pairs of classes"
    shown = [_template_values(section) for section in sections]
    html = render("compare.html.jinja", title=title, run=subject.name, split=split, own=_USER_PHOTO, shown=shown)
    write_text(folder / page, html)
    result = Comparison(split, [section.pair for section in sections], folder / page)
    _update_list(subject.reports / COMPARISONS, page, result.pairs)
    return result


def _save_grids(folder: Path, sections: Sequence[_Section]) -> None:
    """Save a picture of the photos of each pair that has some."""
    for section in sections:
        photos = [item for group in section.photos.values() for item in group]
        if photos:
            title = f"{section.pair.first} (orange) or {section.pair.second} (blue)"
            plots.save(overlay_figures.contrast_grid(photos, title), folder / section.pair.pngs[0])


def _named_pair(classes: ClassNames, names: Sequence[str]) -> list[tuple[int, int]]:
    if not names:
        return []
    if len(names) != 2:
        raise UsageError(f"Expected the names of two classes, or none, but found {len(names)}; quote each name.")
    first, second = (classes.index(name) for name in names)
    if first == second:
        raise UsageError(f"Expected two different classes, but found {classes[first]!r} twice.")
    return [(first, second)]


def _page_name(classes: ClassNames, named: Sequence[tuple[int, int]], photo: Path | None) -> str:
    if not named:
        return "twins.html"
    names = [slug(classes[index]) for index in named[0]]
    return "--".join([*names, *([slug(photo.stem)] if photo else [])]) + ".html"


def _compare_pair(
    explainer: _PairExplainer,
    subject: Subject,
    predictions: Sequence[PhotoPrediction],
    pair: tuple[int, int],
    photo: Path | None,
    page: str,
) -> _Section:
    first, second = (subject.spec.classes[index] for index in pair)
    photos = {_USER_PHOTO: [explainer.explain(photo, pair)]} if photo else {}
    by_file = subject.data.photos()
    for heading, chosen in _choose_photos(predictions, first, second).items():
        photos[heading] = [explainer.explain(by_file[row.file], pair) for row in chosen]
    mistakes = [_most_confident(predictions, *names) for names in ((first, second), (second, first))]
    name = Path(page).stem if photo else f"{slug(first)}--{slug(second)}"
    numbers = ComparedPair(
        first=first,
        second=second,
        split=subject.split,
        photos_first=len(_of_class(predictions, first)),
        photos_second=len(_of_class(predictions, second)),
        right_first=len(_most_confident(predictions, first, first)),
        right_second=len(_most_confident(predictions, second, second)),
        first_as_second=len(mistakes[0]),
        second_as_first=len(mistakes[1]),
        confidence_first_as_second=_mean_confidence(mistakes[0]),
        confidence_second_as_first=_mean_confidence(mistakes[1]),
        page=page,
        pngs=[f"{name}.png"] if photos else [],
    )
    return _Section(numbers, photos)


def _choose_photos(predictions: Sequence[PhotoPrediction], first: str, second: str) -> dict[str, list[PhotoPrediction]]:
    """The photos to show of two classes, by heading; headings without photos are left out."""
    chosen: dict[str, list[PhotoPrediction]] = {}
    for own, other in ((first, second), (second, first)):
        correct = _most_confident(predictions, own, own)
        examples = (correct or _of_class(predictions, own))[:_EXAMPLES]
        chosen[f"{own}: {'most confident correct predictions' if correct else 'never predicted correctly'}"] = examples
        chosen[f"{own} predicted as {other}"] = _most_confident(predictions, own, other)[:_MISTAKES]
    return {heading: rows for heading, rows in chosen.items() if rows}


def _most_confident(predictions: Sequence[PhotoPrediction], truth: str, predicted: str) -> list[PhotoPrediction]:
    """The photos of one class that are predicted as the same or another, most confident first."""
    found = [row for row in _of_class(predictions, truth) if row.predicted == predicted]
    return sorted(found, key=lambda row: -row.confidence)


def _of_class(predictions: Sequence[PhotoPrediction], truth: str) -> list[PhotoPrediction]:
    return [row for row in predictions if row.truth == truth]


def _mean_confidence(predictions: Sequence[PhotoPrediction]) -> float | None:
    return float(np.mean([row.confidence for row in predictions])) if predictions else None


class _PairExplainer:
    """Computes the maps of photos for two classes."""

    def __init__(self, engine: Engine, spec: ModelSpec, finder: CarFinder | None) -> None:
        self._engine, self._spec, self._finder = engine, spec, finder

    def top_two(self, path: Path) -> tuple[int, int]:
        """The two most likely classes of a photo, most likely first."""
        first, second = np.argsort(-self._engine.logits(self._spec.preprocessing(self._read(path))[None])[0])[:2]
        return int(first), int(second)

    def _read(self, path: Path | PhotoCrop) -> Image.Image:
        photo = read_photo(path)
        return self._finder.cut(photo) if self._finder else photo

    def explain(self, path: Path | PhotoCrop, pair: tuple[int, int]) -> overlay_figures.ContrastedPhoto:
        """A photo with the heat map of its predicted class and the contrast maps of two classes."""
        photo = self._read(path)
        pixels = self._spec.preprocessing(photo)
        logits, features = self._engine.logits_and_features(pixels[None])
        probabilities = self._spec.calibration.probabilities(logits)[0]
        predicted = int(probabilities.argmax())
        first, second = pair
        head = self._engine.head
        return overlay_figures.ContrastedPhoto(
            photo=np.asarray(photo),
            caption=f"{path.name}: {self._spec.classes[predicted]} ({percent(float(probabilities[predicted]), 0)})",
            heatmap=grad_cam_plus_plus(features, head, np.array([predicted]))[0],
            cam_contrast=contrastive_cam(features, head, np.array([first]), np.array([second]))[0],
            occlusion_contrast=contrastive_occlusion(self._engine.logits, pixels, first, second),
            visible_box=self._spec.preprocessing.visible_box(photo.width, photo.height),
        )


def _template_values(section: _Section) -> dict[str, Any]:
    """The values of a section for the template, with images as `data:` URIs."""
    groups = {
        heading: [
            {
                "caption": photo.caption,
                "pictures": {title: picture_uri(panel) for title, panel in photo.panels().items()},
            }
            for photo in photos
        ]
        for heading, photos in section.photos.items()
    }
    return {"pair": section.pair, "groups": groups}


def _update_list(path: Path, page: str, pairs: Sequence[ComparedPair]) -> None:
    """Write the pairs of all pages, most confused first; the earlier pairs of this page are replaced."""
    try:
        earlier = [row for row in read_json(path)["pairs"] if row["page"] != page] if path.is_file() else []
        rows = [*earlier, *map(asdict, pairs)]
        rows.sort(key=lambda row: -(row["first_as_second"] + row["second_as_first"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"Expected the pairs of earlier pages in {path}, but it is damaged ({error!r}). Delete it."
        ) from None
    write_json(path, {"pairs": rows})

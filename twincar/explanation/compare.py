"""Why this car and not its twin: one page of two classes, or of the model's twins, and a picture a pair.

Side by side: photos of each, what in them speaks for which, and how often either is taken for the other.

Shapes: N photos of a split, H×W pixels, h×w maps, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twincar.core.errors import DataError, UsageError
from twincar.core.files import read_json, write_json, write_text
from twincar.core.html import picture_uri, render
from twincar.core.labels import ClassNames, slug
from twincar.core.photos import read_photo
from twincar.core.progress import Progress
from twincar.evaluation import overlay_figures, plots
from twincar.evaluation.split_predictions import PhotoPrediction, predict_split
from twincar.evaluation.subject import Subject
from twincar.metrics.classification import confusion_matrix, most_confused
from twincar.models.cam.gradcam import contrastive_cam, grad_cam_plus_plus
from twincar.models.cam.occlusion import contrastive_occlusion
from twincar.models.engines.base import Engine
from twincar.models.spec import ModelSpec

_SUREST, _WORST = 2, 2  # photos shown of each class, and of each class's mistakes
_OWN = "Your photo"


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    """Two classes on one split; of each its photos, how many are right, and how many are taken for the other."""

    first: str
    second: str
    split: str
    photos_first: int
    photos_second: int
    right_first: int
    right_second: int
    first_as_second: int
    second_as_first: int
    confidence_first_as_second: float | None
    """Mean over those photos; None where there are none."""
    confidence_second_as_first: float | None
    page: str
    """Name of the page below `compare/`."""
    pngs: list[str]
    """Names of the pictures beside it."""


@dataclass(frozen=True)
class Comparison:
    """What was compared, and where the page lies."""

    split: str
    pairs: list[ComparedPair]
    page: Path

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"split": self.split, "page": str(self.page), "pairs": [asdict(pair) for pair in self.pairs]}


@dataclass(frozen=True)
class _Shown:
    """A pair with its pictures, in the order of the page."""

    pair: ComparedPair
    exhibits: dict[str, list[overlay_figures.Contrasted]] = field(default_factory=dict)
    """By heading."""


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
    """Compare two classes, or the pairs most often confused: a page in `compare/`, see `Subject.reports`.

    Args:
        model: a run folder, a model file, owner/name on the hub, or earlier results; the bundled model unless given.
        classes: names of two classes, in any spelling, or none.
        photo: also show this one; between the two classes, or, where none are named, its two likeliest.
        split: 'val', 'test' or 'train'; validation photos unless given, or test photos where there are none.
        count: how many pairs, where no class is named.
        data_folder: a prepared data set, class folders, or a CSV; only a run knows its own.
        out: where results go in place of the default.
        on_photo: called with photos done and in all, for a progress bar.

    Returns:
        The path of the page, and the counts of each pair.

    Raises:
        UsageError: no such model, no data named for one that knows none, or `out` holds something else, or
            not two different classes, or a model that knows only one.
        LabelError: the model knows no class of that name, or the data has classes the model does not know.
        DataError: no such split, or one without labels.
        PhotoError: a photo cannot be read.
    """
    subject = Subject.open(model, data_folder=data_folder, split=split, out=out)
    spec = subject.spec
    if len(spec.classes) < 2:
        raise UsageError(f"Expected a model of at least two classes to compare, and found one: {spec.classes[0]!r}.")
    named = _named_pair(spec.classes, classes)
    viewer = _Viewer(subject.engine, spec)
    photo = Path(photo) if photo else None
    if photo and not named:
        named = [viewer.likeliest_two(photo)]
    split = subject.split
    folder = subject.claim(subject.reports / "compare")
    answers = predict_split(subject, on_photo)
    pairs = named or _twins(answers, len(spec.classes), count)
    page = _page_name(spec.classes, named, photo)
    shown = []
    for done, (first, second) in enumerate(pairs, start=1):
        shown.append(_show(viewer, spec.classes, answers, (first, second), photo, split, page))
        if on_photo:
            on_photo(done, len(pairs))
    for item in shown:
        exhibits = [exhibit for group in item.exhibits.values() for exhibit in group]
        if exhibits:
            title = f"{item.pair.first} (orange) or {item.pair.second} (blue)"
            plots.save(overlay_figures.contrast_grid(exhibits, title), folder / item.pair.pngs[0])
    title = " or ".join(spec.classes[index] for index in named[0]) if named else "Twins: why this car, not that"
    html = render("compare.html.jinja", title=title, run=subject.name, split=split, own=_OWN, shown=_rows(shown))
    write_text(folder / page, html)
    result = Comparison(split, [item.pair for item in shown], folder / page)
    _remember(folder / "compare.json", page, result.pairs)
    return result


def _named_pair(classes: ClassNames, names: Sequence[str]) -> list[tuple[int, int]]:
    if not names:
        return []
    if len(names) != 2:
        raise UsageError(f"Expected the names of two classes, or none, and found {len(names)}; quote each name.")
    first, second = (classes.index(name) for name in names)
    if first == second:
        raise UsageError(f"Expected two different classes, and found {classes[first]!r} twice.")
    return [(first, second)]


def _twins(answers: Sequence[PhotoPrediction], num_classes: int, count: int) -> list[tuple[int, int]]:
    """The pairs most often taken for each other, the class that is mistaken more often first."""
    labels, predictions = (np.array([getattr(a, name) for a in answers]) for name in ("truth", "predicted"))
    matrix = confusion_matrix(labels, predictions, num_classes)
    return [(first, second) for first, second, _ in most_confused(matrix, count)]


def _page_name(classes: ClassNames, named: Sequence[tuple[int, int]], photo: Path | None) -> str:
    if not named:
        return "twins.html"
    names = [slug(classes[index]) for index in named[0]]
    return "--".join([*names, *([slug(photo.stem)] if photo else [])]) + ".html"


def _show(
    viewer: _Viewer,
    classes: ClassNames,
    answers: Sequence[PhotoPrediction],
    pair: tuple[int, int],
    photo: Path | None,
    split: str,
    page: str,
) -> _Shown:
    first, second = pair
    chosen: dict[str, list[PhotoPrediction]] = {}
    for own, other in (pair, pair[::-1]):
        right = _surest(answers, own, own)
        chosen[f"{'Surest' if right else 'Never right'}: {classes[own]}"] = (right or _of_class(answers, own))[:_SUREST]
        chosen[f"Worst: {classes[own]} taken for {classes[other]}"] = _surest(answers, own, other)[:_WORST]
    exhibits = {_OWN: [viewer.view(photo, pair)]} if photo else {}
    for heading, found in chosen.items():
        if found:
            exhibits[heading] = [viewer.view(answered.photo, pair) for answered in found]
    numbers = ComparedPair(
        first=classes[first],
        second=classes[second],
        split=split,
        photos_first=len(_of_class(answers, first)),
        photos_second=len(_of_class(answers, second)),
        right_first=len(_surest(answers, first, first)),
        right_second=len(_surest(answers, second, second)),
        first_as_second=len(_surest(answers, first, second)),
        second_as_first=len(_surest(answers, second, first)),
        confidence_first_as_second=_mean_confidence(_surest(answers, first, second)),
        confidence_second_as_first=_mean_confidence(_surest(answers, second, first)),
        page=page,
        pngs=[f"{Path(page).stem if photo else '--'.join(slug(classes[index]) for index in pair)}.png"]
        * bool(exhibits),
    )
    return _Shown(numbers, exhibits)


def _surest(answers: Sequence[PhotoPrediction], truth: int, predicted: int) -> list[PhotoPrediction]:
    """The photos of one class that are answered as one, the surest first."""
    found = [answer for answer in _of_class(answers, truth) if answer.predicted == predicted]
    return sorted(found, key=lambda answer: -answer.confidence)


def _of_class(answers: Sequence[PhotoPrediction], truth: int) -> list[PhotoPrediction]:
    return [answer for answer in answers if answer.truth == truth]


def _mean_confidence(answers: Sequence[PhotoPrediction]) -> float | None:
    return float(np.mean([answer.confidence for answer in answers])) if answers else None


class _Viewer:
    """Looks at photos between two classes."""

    def __init__(self, engine: Engine, spec: ModelSpec) -> None:
        self._engine, self._spec = engine, spec

    def likeliest_two(self, path: Path) -> tuple[int, int]:
        """The classes a photo is most likely of, the likeliest first."""
        first, second = np.argsort(-self._engine.logits(self._spec.preprocessing(read_photo(path))[None])[0])[:2]
        return int(first), int(second)

    def view(self, path: Path, pair: tuple[int, int]) -> overlay_figures.Contrasted:
        """A photo, what its answer rests on, and what in it speaks for which of two classes."""
        photo = read_photo(path)
        pixels = self._spec.preprocessing(photo)
        logits, features = self._engine.logits_and_features(pixels[None])
        probabilities = self._spec.calibration.probabilities(logits)[0]
        answer = int(probabilities.argmax())
        first, second = pair
        head = self._engine.head
        return overlay_figures.Contrasted(
            photo=np.asarray(photo),
            caption=f"{path.name}: {self._spec.classes[answer]} ({probabilities[answer]:.0%})",
            heatmap=grad_cam_plus_plus(features, head, np.array([answer]))[0],
            cells=contrastive_cam(features, head, np.array([first]), np.array([second]))[0],
            hiding=contrastive_occlusion(self._engine.logits, pixels, first, second),
            visible_box=self._spec.preprocessing.visible_box(photo.width, photo.height),
        )


def _rows(shown: Sequence[_Shown]) -> list[dict[str, Any]]:
    """The pairs as the template takes them, pictures inside."""
    return [
        {
            "pair": item.pair,
            "groups": {
                heading: [
                    {
                        "caption": exhibit.caption,
                        "pictures": {name: picture_uri(picture) for name, picture in exhibit.pictures().items()},
                    }
                    for exhibit in exhibits
                ]
                for heading, exhibits in item.exhibits.items()
            },
        }
        for item in shown
    ]


def _remember(path: Path, page: str, pairs: Sequence[ComparedPair]) -> None:
    """Write all pairs that any page shows, the most confused first; what this page showed before makes room."""
    try:
        earlier = [row for row in read_json(path)["pairs"] if row["page"] != page] if path.is_file() else []
        rows = [*earlier, *map(asdict, pairs)]
        rows.sort(key=lambda row: -(row["first_as_second"] + row["second_as_first"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            f"Expected the pairs of earlier pages in {path}, and it is damaged ({error!r}): delete it."
        ) from None
    write_json(path, {"pairs": rows})

"""Write one page about two or three models that were evaluated on the same photos: do they differ by more than chance?

Shapes: N photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twincar.core.errors import UsageError
from twincar.core.html import render
from twincar.core.labels import class_key, shorten
from twincar.core.runs import MONITOR, Epoch, best_epoch
from twincar.core.wording import command, counted
from twincar.evaluation.report.opened import EvaluatedModel, of_split
from twincar.evaluation.report.photos import ImageBudget
from twincar.evaluation.results import PhotoPrediction
from twincar.metrics.paired import PairedTests, compare_predictions, holm

MOST_MODELS = 3
_SHOWN = 12  # photos that only one of two models gets right, and classes that changed most
_BYTES_OF_IMAGES = 8_000_000


@dataclass(frozen=True)
class ModelDifference:
    """What the second of two models scores more than the first, on the same photos."""

    first: str
    second: str
    tests: PairedTests
    """With three models, the p-values are adjusted for three comparisons."""

    @property
    def sentences(self) -> list[str]:
        """Accuracy and macro-F1 in words."""
        return [
            f"{name}: {self.second} scores {shift.difference.value:+.3f} ({shift.difference.low:+.3f} to "
            f"{shift.difference.high:+.3f}) compared with {self.first}, which is "
            f"{'more than chance' if shift.is_significant else 'not more than chance'} (p {p_value(shift.p)})."
            for name, shift in (("Accuracy", self.tests.accuracy), ("Macro-F1", self.tests.macro_f1))
        ]

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True)
class _Rows:
    """One model and its predictions, in the order of the photos of the first model."""

    name: str
    opened: EvaluatedModel
    predictions: list[PhotoPrediction]


def p_value(p: float) -> str:
    """A p-value after its sign, to three digits, but never 0.

    >>> p_value(0.0321), p_value(0.0001), p_value(1)
    ('= 0.032', '< 0.001', '= 1.000')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def render_side_by_side(
    models: Sequence[str | Path], *, split: str | None, data_folder: str | Path | None, out: str | Path | None
) -> tuple[Path, str, str, list[ModelDifference]]:
    """Compare evaluated models; see `report` for the arguments.

    Returns:
        The path of the page, the split, the page, and the difference of each pair.

    Raises:
        UsageError: there are more than three models, one was not evaluated on that split, or the photos differ.
        DataError: a file of the results is damaged.
    """
    if len(models) > MOST_MODELS:
        raise UsageError(f"Expected at most {MOST_MODELS} models side by side, but found {len(models)}.")
    first = EvaluatedModel.open(models[0], split=split, data_folder=data_folder)
    others = [EvaluatedModel.open(model, split=first.split, data_folder=data_folder) for model in models[1:]]
    rows = _align([first, *others])
    differences = _differences(rows)
    images = ImageBudget(first.data.photos() if first.data else {}, _BYTES_OF_IMAGES)
    title = "TwinCar report: " + " beside ".join(row.name for row in rows)
    page = render(
        "side_by_side.html.jinja",
        title=title,
        split=first.split,
        photos=len(first.predictions),
        models=[{"name": row.name, "spec": row.opened.subject.spec, "metrics": row.opened.metrics} for row in rows],
        differences=differences,
        p_value=p_value,
        settings=_changed_settings(rows),
        trainings=[_training(row.opened.subject.history) for row in rows],
        classes=_changed_classes(rows),
        disagreements=[_disagreements(one, other, images) for one, other in combinations(rows, 2)],
        shown=_SHOWN,
    )
    name = "report-beside-" + "-".join(Path(row.name).name for row in rows[1:]) + ".html"
    return Path(out) if out else first.reports / name, first.split, page, differences


def _align(opened: Sequence[EvaluatedModel]) -> list[_Rows]:
    """The predictions of all models in the order of the first.

    Raises:
        UsageError: they are not for the same photos.
    """
    names = _names(opened)
    wanted = _photos(opened[0])
    rows = []
    for name, model in zip(names, opened, strict=True):
        found = _photos(model)
        different = [file for file in wanted.keys() | found.keys() if not _is_same(wanted.get(file), found.get(file))]
        if different:
            first = opened[0].subject
            again = command(
                "evaluate", *of_split(model.subject.path, model.split, first.data_folder or first.data_path)
            )
            raise UsageError(
                f"Expected models that were evaluated on the same photos, but {counted(len(different), 'photo')} of "
                f"{names[0]} ({len(wanted)}) and {name} ({len(found)}) differ: {shorten(sorted(different))}. "
                f"First run: {again}"
            )
        by_file = {row.file: row for row in model.predictions}
        rows.append(_Rows(name, model, [by_file[file] for file in wanted]))
    return rows


def _names(opened: Sequence[EvaluatedModel]) -> list[str]:
    """The names of the models, numbered where two have the same."""
    names = [model.subject.name for model in opened]
    return [name if names.count(name) == 1 else f"{name} ({rank})" for rank, name in enumerate(names, start=1)]


def _photos(model: EvaluatedModel) -> dict[str, tuple[str, str]]:
    """The key of the true class and the SHA-256 of each photo, by file; the hash is empty if it is not known."""
    hashes = {photo.file: photo.sha256 for photo in model.data.annotations} if model.data else {}
    return {row.file: (class_key(row.truth), hashes.get(row.file, "")) for row in model.predictions}


def _is_same(first: tuple[str, str] | None, second: tuple[str, str] | None) -> bool:
    if first is None or second is None:
        return False
    return first[0] == second[0] and (first[1] == second[1] or not (first[1] and second[1]))


def _differences(rows: Sequence[_Rows]) -> list[ModelDifference]:
    labels, *predictions = _as_numbers(rows)
    pairs = list(combinations(range(len(rows)), 2))
    tests = [compare_predictions(labels, predictions[one], predictions[other]) for one, other in pairs]
    accuracy, macro_f1 = (holm([getattr(test, name).p for test in tests]) for name in ("accuracy", "macro_f1"))
    return [
        ModelDifference(
            rows[one].name,
            rows[other].name,
            replace(
                test,
                accuracy=replace(test.accuracy, p=accuracy[index]),
                macro_f1=replace(test.macro_f1, p=macro_f1[index]),
            ),
        )
        for index, ((one, other), test) in enumerate(zip(pairs, tests, strict=True))
    ]


def _as_numbers(rows: Sequence[_Rows]) -> list[NDArray[np.int64]]:
    """The true classes, N, and those that each model predicts, N, as numbers that are the same for all models."""
    columns = [[class_key(row.truth) for row in rows[0].predictions]]
    columns += [[class_key(row.predicted) for row in model.predictions] for model in rows]
    number = {key: index for index, key in enumerate(sorted({key for column in columns for key in column}))}
    return [np.array([number[key] for key in column], np.int64) for column in columns]


def _changed_settings(rows: Sequence[_Rows]) -> dict[str, list[str]] | None:
    """The settings that differ between the runs, a value for each model; None if fewer than two are runs."""
    configs = [row.opened.subject.config for row in rows]
    flat = [config.to_flat() if config else None for config in configs]
    known = [values for values in flat if values is not None]
    if len(known) < 2:
        return None
    different = [name for name in known[0] if any(values[name] != known[0][name] for values in known)]
    return {name: ["–" if values is None else str(values[name]) for values in flat] for name in different}


def _training(history: Sequence[Epoch]) -> str:
    """How a training went, in words: its best epoch and the losses there; a dash for a model that is not a run."""
    if not history:
        return "–"
    best = best_epoch(history)
    losses = f"loss {best['train_loss']:.3f} in training, {best['val_loss']:.3f} in validation"
    return f"{best['epoch']:.0f} of {len(history)}: validation macro-F1 {best[MONITOR]:.3f}, {losses}"


def _changed_classes(rows: Sequence[_Rows]) -> list[dict[str, Any]]:
    """The classes whose F1 differs most between the models."""
    scores = [{class_key(found.name): found for found in row.opened.classes} for row in rows]
    table: list[dict[str, Any]] = [
        {
            "name": found.name,
            "photos": found.photos,
            "f1": [score[key].f1 if key in score else None for score in scores],
        }
        for key, found in scores[0].items()
    ]
    for entry in table:
        known = [value for value in entry["f1"] if value is not None]
        entry["change"] = max(known) - min(known)
    changed = [entry for entry in table if entry["change"]]
    return sorted(changed, key=lambda entry: -entry["change"])[:_SHOWN]


def _disagreements(one: _Rows, other: _Rows, images: ImageBudget) -> list[dict[str, Any]]:
    """The photos that only one of two models gets right, with pictures: those that the other is most confident of."""
    groups = []
    for right, wrong in ((one, other), (other, one)):
        pairs = [
            (good, bad)
            for good, bad in zip(right.predictions, wrong.predictions, strict=True)
            if good.correct and not bad.correct
        ]
        pairs.sort(key=lambda pair: -pair[1].confidence)
        cards = []
        for good, bad in pairs[:_SHOWN]:
            photo = images.read(good.file)
            uris = images.embed(photo) if photo else None
            cards.append({"good": good, "bad": bad, "picture": uris[0] if uris else ""})
        groups.append({"right": right.name, "wrong": wrong.name, "photos": len(pairs), "cards": cards})
    return groups

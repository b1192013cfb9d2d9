"""The photos of each cell of the confusion matrix, for the script of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from twincar.core.labels import ClassNames
from twincar.evaluation.report.photos import ImageBudget
from twincar.evaluation.results import PhotoPrediction

MOST_LISTED = 20_000  # photos whose names are in the page
_EXAMPLES = 4  # pictures of correct predictions of each class
_LONGEST = 160  # pixels of the longer side of such a picture


def photos_by_cell(
    predictions: Sequence[PhotoPrediction], in_gallery: Collection[str], classes: ClassNames, images: ImageBudget
) -> dict[str, Any]:
    """The photos of each cell, with as many pictures as there is room for, mistakes first.

    Args:
        predictions: for all photos.
        in_gallery: files of the mistakes that the page shows anyway, which get no second picture here.
        classes: the classes of the model, by whose indices the cells are named.
        images: budget of the page.

    Returns:
        `names`, the classes that occur, by index; and `cells`, rows of truth, prediction, number of photos, and
        those that are listed: file, confidence, and a `data:` URI or ''.
    """
    counts = Counter((classes.index(row.truth), classes.index(row.predicted)) for row in predictions)
    listed: dict[tuple[int, int], list[tuple[str, float, str]]] = {cell: [] for cell in counts}
    has_room = bool(images.photos)
    for row in _mistakes_then_examples(predictions)[:MOST_LISTED]:
        cell = listed[classes.index(row.truth), classes.index(row.predicted)]
        wanted = has_room and row.file not in in_gallery and (not row.correct or len(cell) < _EXAMPLES)
        photo = images.read(row.file) if wanted else None
        uris = [""] if photo is None else images.embed(photo, longest=_LONGEST)
        has_room = has_room and uris is not None
        cell.append((row.file, row.confidence, uris[0] if uris else ""))
    names = {index: classes[index] for index in sorted({index for cell in counts for index in cell})}
    return {"names": names, "cells": [[*cell, count, listed[cell]] for cell, count in sorted(counts.items())]}


def _mistakes_then_examples(predictions: Sequence[PhotoPrediction]) -> list[PhotoPrediction]:
    """Mistakes, most confident first; then the most confident correct prediction of each class, then the second..."""
    ranks: Counter[str] = Counter()
    ordered = []
    for row in sorted(predictions, key=lambda row: -row.confidence):
        ordered.append((row.correct, ranks[row.truth] if row.correct else 0, row))
        ranks[row.truth] += row.correct
    return [row for *_, row in sorted(ordered, key=lambda entry: entry[:2])]

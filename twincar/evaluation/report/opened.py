"""A model that was evaluated, with its results on one split, as the pages show them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from twincar.core.errors import TwinCarError, UsageError
from twincar.core.wording import command
from twincar.data.dataset import PreparedData
from twincar.evaluation.report import artifacts
from twincar.evaluation.results import METRICS, PREDICTIONS, ClassScores, Evaluation, PhotoPrediction
from twincar.evaluation.subject import Subject

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatedModel:
    """A model and its results on one split."""

    subject: Subject
    data: PreparedData | None
    """The data set; None if it is missing."""
    reports: Path
    """The folder of the results on all splits."""
    metrics: Evaluation
    classes: list[ClassScores]
    predictions: list[PhotoPrediction]

    @classmethod
    def open(
        cls, model: str | Path | None, *, split: str | None = None, data_folder: str | Path | None = None
    ) -> EvaluatedModel:
        """Read what `evaluate` has written; see `report` for the arguments.

        Raises:
            UsageError: there is no such model, or it was not evaluated on that split.
            DataError: a file of the results is damaged.
        """
        subject = Subject.open(model, data_folder=data_folder, split=split)
        data = _open_data(subject)
        reports = subject.reports if data else subject.own_reports
        folder = reports / _evaluated_split(subject, reports)
        return cls(
            subject,
            data,
            reports,
            artifacts.read_metrics(folder),
            artifacts.read_classes(folder),
            artifacts.read_predictions(folder / PREDICTIONS),
        )

    @property
    def split(self) -> str:
        """The evaluated split."""
        return self.metrics.split


def of_split(model: Path, split: str, data_folder: Path | None) -> list[object]:
    """The words that name a model, a split, and other data than its own."""
    return [model, "--split", split, *of_data(data_folder)]


def of_data(data_folder: Path | None) -> list[object]:
    """The words that name other data than that of a run."""
    return ["--data", data_folder] if data_folder else []


def _open_data(subject: Subject) -> PreparedData | None:
    """The data set; None if it is missing, and the page then has no photos."""
    try:
        return subject.data
    except TwinCarError as error:
        if subject.run is None and subject.out is None:  # the folder of its results depends on the data
            raise
        log.warning("The page shows no photos. %s", error)
        return None


def _evaluated_split(subject: Subject, reports: Path) -> str:
    evaluated = [split for split in ("test", "val", "train") if (reports / split / METRICS).exists()]
    requested, other = subject.requested_split, subject.data_folder
    if requested is None and evaluated:
        return evaluated[0]
    if requested is None or requested not in evaluated:
        found = f"on {' and '.join(evaluated)} photos only" if evaluated else "on none"
        raise UsageError(
            f"Expected {subject.path} to be evaluated{f' on {requested} photos' if requested else ''}"
            f"{f' of {other}' if other else ''}, but it was evaluated {found}. "
            f"First run: {command('evaluate', *of_split(subject.path, requested or 'test', other))}"
        )
    return requested

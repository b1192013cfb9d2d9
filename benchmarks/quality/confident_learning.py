"""How well wrong labels are found: makes some labels wrong, lets a run judge them, and counts.

    python -m benchmarks.quality.confident_learning DATA RUN [--share 0.02] [--folds 3] [--seed 0] [--keep FOLDER]

A share of the photos that will be judged gets the label of another class, drawn uniformly. Without --folds those photos
are the ones the run was not trained on; with it they are all, and the folds' networks are trained on the wrong labels.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import Section
from twincar.auditing.duplicates import find_duplicates, group_numbers
from twincar.auditing.label_review import LabelReview, Photos, review_labels
from twincar.auditing.signatures import sign_photos
from twincar.core.files import write_text
from twincar.core.runs import RunFolder
from twincar.data.dataset import SPLITS, Annotation, PreparedData, write_prepared
from twincar.metrics.confident_learning import label_margins


def main() -> None:
    """Make labels wrong, judge them, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.confident_learning", description=__doc__.splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("run", type=Path, help="run trained on it")
    parser.add_argument("--share", type=float, default=0.02, help="of the photos that are judged")
    parser.add_argument("--folds", type=int, default=0, help="judge the training photos too, in so many folds")
    parser.add_argument("--seed", type=int, default=0, help="of what is planted")
    parser.add_argument("--keep", type=Path, help="folder for the networks of the folds, to be used again")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    place = nullcontext(str(arguments.keep)) if arguments.keep else tempfile.TemporaryDirectory()
    with place as folder:
        print(measure(arguments.data, arguments.run, Path(folder), arguments.share, arguments.folds, arguments.seed))


def measure(data_folder: Path, run: Path, folder: Path, share: float, folds: int, seed: int) -> str:
    """The table, as Markdown."""
    data = PreparedData.open(data_folder)
    shown = [annotation for annotation in data.annotations if annotation.split in SPLITS]
    signatures = sign_photos(shown, data.photo_root)
    groups = group_numbers(find_duplicates(signatures, [photo.sha256 for photo in shown]), len(shown))
    judged = [i for i, photo in enumerate(shown) if folds or photo.split != "train"]
    wrong, planted = plant(shown, judged, len(data.classes), share, seed)
    photos = Photos(planted, data.classes, data.photo_root.resolve(), groups)
    review = review_labels(_run_on_planted(run, data, planted, folder), photos, folder / "folds", folds=folds)
    return _table(review, wrong, f"{data_folder.name}, {share:.0%} of {len(judged)} labels wrong").to_markdown()


def plant(
    photos: list[Annotation], judged: list[int], classes: int, share: float, seed: int
) -> tuple[set[int], list[Annotation]]:
    """Indices of `share` of the photos in `judged`, and all photos, with wrong labels at those indices."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(judged, round(share * len(judged)), replace=False).tolist()
    planted = list(photos)
    for place in chosen:
        label = (photos[place].label or 0) + int(rng.integers(1, classes))
        planted[place] = replace(photos[place], label=label % classes)
    return set(chosen), planted


def _run_on_planted(run: Path, data: PreparedData, planted: list[Annotation], folder: Path) -> Path:
    """A copy of the run whose training data is the data set with wrong labels."""
    manifest = {**data.manifest, "photo_root": data.photo_root.resolve().as_posix()}
    write_prepared(folder / "data", data.classes, planted, manifest)
    config = replace(RunFolder.open(run).read_config(), data=str(folder / "data"))
    copy = RunFolder(folder / "run")
    write_text(copy.config, config.to_yaml())
    shutil.copy(RunFolder.open(run).best, copy.best)
    return copy.path


def _table(review: LabelReview, wrong: set[int], title: str) -> Section:
    places = review.photos
    truly: NDArray[np.bool_] = np.isin(places, sorted(wrong))
    suspects = review.errors.photos
    by_margin = np.argsort(label_margins(review.labels, review.probabilities), kind="stable")
    ranked = np.concatenate([suspects, by_margin[~np.isin(by_margin, suspects)]])
    right = float((review.probabilities.argmax(axis=1) == review.labels)[~truly].mean())
    rows = [
        [what, str(len(named)), str(int(truly[named].sum())), f"{truly[named].mean():.3f}" if len(named) else "none",
         f"{truly[named].sum() / max(1, truly.sum()):.3f}"]
        for what, named in (("as many as are wrong", ranked[: truly.sum()]), ("all suspects", suspects))
    ]  # fmt: skip
    notes = [
        f"{int(truly.sum())} wrong labels among {len(places)} judged; the networks' accuracy on the other labels is "
        f"{right:.3f}; estimated share of wrong labels {review.errors.noise:.3f}; by chance precision would be "
        f"{truly.mean():.3f}.",
        " ".join(review.notes),
    ]
    return Section(title, ["named", "photos", "wrong among them", "precision", "recall"], rows, notes)


if __name__ == "__main__":
    main()

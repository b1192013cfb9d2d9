"""How well wrong labels are found among real photos, by the predictions that `twincar evaluate` wrote for them.

python -m benchmarks.quality.wrong_labels PREDICTIONS.csv [--share 0.02] [--times 20] [--out DOUBTED.csv]

PREDICTIONS is the `predictions.csv` of photos that the model was not trained on: five classes for each photo; the rest
of the probability is spread over all others. A share of the photos gets a wrong label, `--times` times: that of any
other class, or that of the most likely class other than its own, which is the hardest to find. Labels that were wrong
before count as right here, so that precision is too low. DOUBTED is the list of the labels that are doubted when none
was planted, the most doubtful first.

Shapes: N photos, K classes.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import Section
from twincar.core.files import write_csv
from twincar.metrics.confident_learning import find_label_errors, label_margins

_LISTED = 5  # classes for each photo in `predictions.csv`


@dataclass(frozen=True, eq=False)
class Predictions:
    """What `predictions.csv` holds."""

    files: list[str]
    classes: list[str]
    labels: NDArray[np.int64]
    """N."""
    probabilities: NDArray[np.float64]
    """N×K."""

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a `predictions.csv`; the classes are those that occur in it."""
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        listed = [[row[f"top{rank}"] for rank in range(1, _LISTED + 1) if row.get(f"top{rank}")] for row in rows]
        classes = sorted({name for names in listed for name in names} | {row["truth"] for row in rows})
        index = {name: number for number, name in enumerate(classes)}
        probabilities = np.zeros((len(rows), len(classes)))
        for photo, (row, names) in enumerate(zip(rows, listed, strict=True)):
            known = [float(row[f"probability{rank}"]) for rank in range(1, len(names) + 1)]
            probabilities[photo] = max(1 - sum(known), 0) / max(len(classes) - len(known), 1)
            probabilities[photo, [index[name] for name in names]] = known
        labels = np.array([index[row["truth"]] for row in rows])
        return cls([row["file"] for row in rows], classes, labels, probabilities)


Wrong = Callable[[Predictions, NDArray[np.int64], np.random.Generator], NDArray[np.int64]]
"""Wrong labels for the photos at these indices."""


def any_other(found: Predictions, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A class that is drawn from all others."""
    steps = rng.integers(1, len(found.classes), len(chosen))
    return (found.labels[chosen] + steps) % len(found.classes)


def most_likely_other(found: Predictions, chosen: NDArray[np.int64], _: np.random.Generator) -> NDArray[np.int64]:
    """The class that the model finds the most likely of the others."""
    others = found.probabilities[chosen].copy()
    others[np.arange(len(chosen)), found.labels[chosen]] = -1
    return np.asarray(others.argmax(axis=1), np.int64)


KINDS: dict[str, Wrong] = {"any other class": any_other, "the most likely other class": most_likely_other}


def planted_section(found: Predictions, share: float, times: int) -> Section:
    """Precision and recall for both kinds of wrong labels, the means over the plantings."""
    rows = []
    for kind, wrong_labels in KINDS.items():
        figures = [_one_planting(found, share, wrong_labels, seed) for seed in range(times)]
        at_number, precision, recall, suspects = np.mean(figures, axis=0)
        rows.append([kind, f"{at_number:.3f}", f"{suspects:.0f}", f"{precision:.3f}", f"{recall:.3f}"])
    header = ["wrong label", "precision at the number planted", "suspects", "precision of these", "recall of these"]
    title = f"{share:.0%} of {len(found.labels)} labels wrong, {times} times"
    return Section(title, header, rows, [f"By chance precision would be {share:.3f}."])


def _one_planting(found: Predictions, share: float, wrong_labels: Wrong, seed: int) -> tuple[float, ...]:
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(found.labels), round(share * len(found.labels)), replace=False)
    labels = found.labels.copy()
    labels[chosen] = wrong_labels(found, chosen, rng)
    planted = np.zeros(len(labels), bool)
    planted[chosen] = True
    suspects = find_label_errors(labels, found.probabilities).photos
    by_margin = np.argsort(label_margins(labels, found.probabilities), kind="stable")
    ranked = np.concatenate([suspects, by_margin[~np.isin(by_margin, suspects)]])
    hits = int(planted[suspects].sum())
    return (
        float(planted[ranked[: len(chosen)]].mean()),
        hits / max(len(suspects), 1),
        hits / max(len(chosen), 1),
        float(len(suspects)),
    )


def write_doubted(found: Predictions, path: Path) -> int:
    """Write the doubted labels, and return their number."""
    errors = find_label_errors(found.labels, found.probabilities)
    write_csv(
        path,
        [
            {
                "photo": found.files[photo],
                "label": found.classes[found.labels[photo]],
                "probability": f"{found.probabilities[photo, found.labels[photo]]:.4f}",
                "suggested": found.classes[suggested],
                "probability_of_suggested": f"{found.probabilities[photo, suggested]:.4f}",
            }
            for photo, suggested in zip(errors.photos.tolist(), errors.suggested.tolist(), strict=True)
        ],
    )
    return len(errors.photos)


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and write the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    found = Predictions.read(asked.predictions)
    print(planted_section(found, asked.share, asked.times).to_markdown())
    if asked.out:
        print(f"{write_doubted(found, asked.out)} of {len(found.labels)} labels are doubted: {asked.out}")


if __name__ == "__main__":
    main()

"""Arrays in, numbers out; scikit-learn computes.

Shapes: N photos, K classes. `labels` are the truth, N; `probabilities` are N×K; `predictions` the likeliest class, N.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]

_RESAMPLES = 2000
_QUANTILE = 1.959963984540054  # of the standard normal distribution, for 95% two-sided


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def classification_metrics(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Accuracy, precision, recall, F1 and the other columns of the published log but the loss.

    All lie in 0 to 1, kappa and Matthews in -1 to 1. Macro averages are over the classes that occur among the labels or
    the predictions; the precision of a class that was never predicted is 0.
    """
    predictions = probabilities.argmax(axis=1)
    result = {"acc": sk.accuracy_score(labels, predictions)}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=0
        )
        result |= {f"precision_{average}": precision, f"recall_{average}": recall, f"f1_{average}": f1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class in a tiny sample: kappa is then undefined, and told as 0
        kappa = np.nan_to_num(sk.cohen_kappa_score(labels, predictions))
        mcc = sk.matthews_corrcoef(labels, predictions)
    result |= {
        "hamming": sk.hamming_loss(labels, predictions),
        "cohen_kappa": kappa,
        "mcc": mcc,
        "jaccard_macro": sk.jaccard_score(labels, predictions, average="macro", zero_division=0),
        "top3": top_k_accuracy(labels, probabilities, 3),
        "top5": top_k_accuracy(labels, probabilities, 5),
    }
    return {name: float(value) for name, value in result.items()}


def top_k_accuracy(labels: Labels, probabilities: Probabilities, k: int) -> float:
    """Share of photos whose true class is among the k likeliest; ties count against the model."""
    of_truth = probabilities[np.arange(len(labels)), labels][:, None]
    others = np.arange(probabilities.shape[1]) != labels[:, None]
    ahead = ((probabilities >= of_truth) & others).sum(axis=1)
    return float((ahead < k).mean())


def negative_log_likelihood(labels: Labels, probabilities: Probabilities) -> float:
    """Mean of -log p(true class), nats."""
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean())


def accuracy_interval(labels: Labels, predictions: Labels) -> Interval:
    """Accuracy with Wilson's score interval (Wilson, 1927)."""
    n = len(labels)
    share = float((labels == predictions).mean())
    spread = _QUANTILE**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = _QUANTILE / (1 + spread) * np.sqrt(share * (1 - share) / n + spread / (4 * n))
    return Interval(share, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def macro_f1_interval(labels: Labels, predictions: Labels, seed: int = 0) -> Interval:
    """Macro-F1 with the percentile bootstrap over photos (Efron, 1979), 2,000 resamples."""
    rng = np.random.default_rng(seed)
    n, classes = len(labels), int(max(labels.max(), predictions.max())) + 1
    resampled = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        chosen = rng.integers(0, n, n)
        resampled[index] = _macro_f1(labels[chosen], predictions[chosen], classes)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(_macro_f1(labels, predictions, classes), float(low), float(high))


def confusion_matrix(labels: Labels, predictions: Labels, num_classes: int) -> NDArray[np.int64]:
    """Counts, K×K: row is the truth, column the prediction."""
    matrix: NDArray[np.int64] = sk.confusion_matrix(labels, predictions, labels=np.arange(num_classes))
    return matrix


def most_confused(matrix: NDArray[np.int64], count: int) -> list[tuple[int, int, int]]:
    """Pairs of classes by how often either is taken for the other: (class, partner, times), most often first.

    The class is the one of the two that is mistaken more often.
    """
    both = np.triu(matrix + matrix.T, k=1)
    order = np.argsort(-both, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(order, both.shape)
    pairs = []
    for first, second in zip(rows.tolist(), columns.tolist(), strict=True):
        if both[first, second]:
            swap = matrix[second, first] > matrix[first, second]
            pairs.append(
                (second, first, int(both[first, second])) if swap else (first, second, int(both[first, second]))
            )
    return pairs


def per_class_report(matrix: NDArray[np.int64], names: tuple[str, ...]) -> list[dict[str, str | float | int]]:
    """One row a class: precision, recall, F1, accuracy, support and the class it is most often taken for.

    The accuracy of a class is the share of its photos that are right, which is its recall; both columns are there
    because people look for either.
    """
    right = matrix.diagonal()
    support, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix - np.diag(right)
    rows: list[dict[str, str | float | int]] = []
    for index, name in enumerate(names):
        precision = right[index] / predicted[index] if predicted[index] else 0.0
        recall = right[index] / support[index] if support[index] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        partner = int(wrong[index].argmax())
        rows.append(
            {
                "class_name": name,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "accuracy": float(recall),
                "support": int(support[index]),
                "most_confused_with": names[partner] if wrong[index, partner] else "",
            }
        )
    return rows


def _macro_f1(labels: Labels, predictions: Labels, classes: int) -> float:
    """Over the classes that occur; the same as scikit-learn's, without its overhead in 2,000 resamples."""
    right = np.bincount(labels[labels == predictions], minlength=classes)
    total = np.bincount(labels, minlength=classes) + np.bincount(predictions, minlength=classes)
    occurs = total > 0
    return float((2 * right[occurs] / total[occurs]).mean())

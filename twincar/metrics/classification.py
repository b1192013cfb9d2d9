"""Classification metrics; scikit-learn computes those that need no K×K array.

Shapes: N photos, K classes. `labels` are the truth, N; `probabilities` are N×K; `predictions` the most likely class, N.
No array has K×K cells, and only `Predictions` are kept of N×K, so that ten thousand classes are possible.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import metrics as sk

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]
ReportRow = dict[str, str | float | int]
"""One class in `per_class_report`."""

_KEPT = 5  # most likely classes that are kept of each photo
BINS = 15  # bins of confidence
_RESAMPLES = 2000
_MOST_SHOWN = 200  # classes; with more, a figure of the matrix shows a part of them
_PART = 100  # classes in that part
QUANTILE = 1.959963984540054  # of the standard normal distribution, for 95% two-sided


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Chance:
    """The chance level: the better of always predicting the most frequent class of these photos and of predicting a
    class of the model at random."""

    accuracy: float
    macro_f1: float

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.3f}, macro-F1 {self.macro_f1:.3f}"

    def describe(self, accuracy: Interval) -> str:
        """A sentence on whether an accuracy is above the chance level."""
        if accuracy.low > self.accuracy:
            return "The model is above chance."
        if accuracy.value > self.accuracy:
            return "The model is not significantly above chance."
        return "The model is no better than chance."


@dataclass(frozen=True)
class Predictions:
    """A summary of the probabilities of N photos: a few numbers per photo, for any number of classes."""

    labels: Labels
    """The truth, N."""
    best: NDArray[np.int64]
    """The five most likely classes (or all, if there are fewer), most likely first, ties by index; N×5."""
    probabilities: Probabilities
    """Probabilities of `best`, N×5."""
    of_truth: Probabilities
    """Probability of the true class, N."""
    ahead: NDArray[np.int64]
    """Number of other classes that are at least as likely as the true one, N."""
    squares: Probabilities
    """Sum of the squares of all probabilities, N."""

    @classmethod
    def from_probabilities(cls, labels: Labels, probabilities: Probabilities) -> Predictions:
        """Summarise probabilities, N×K."""
        rows = np.arange(len(labels))
        of_truth = probabilities[rows, labels]
        left = probabilities.copy()
        best = np.empty((len(labels), min(_KEPT, probabilities.shape[1])), np.int64)
        for rank in range(best.shape[1]):  # faster than sorting all K
            best[:, rank] = left.argmax(axis=1)
            left[rows, best[:, rank]] = -np.inf
        ahead = (probabilities >= of_truth[:, None]).sum(axis=1) - 1  # less the true class itself
        squares = np.einsum("nk,nk->n", probabilities, probabilities)
        return cls(labels, best, np.take_along_axis(probabilities, best, axis=1), of_truth, ahead, squares)

    @classmethod
    def join(cls, parts: Iterable[Predictions]) -> Predictions:
        """Concatenate the predictions for several groups of photos."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))

    @property
    def predicted(self) -> Labels:
        """The most likely class, N."""
        return self.best[:, 0]

    @property
    def confidence(self) -> Probabilities:
        """Probability of the most likely class, N."""
        return self.probabilities[:, 0]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the most likely class is the true one, N."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    @property
    def brier(self) -> float:
        """Mean over photos of the summed squared error of all probabilities (Brier, 1950), 0 to 2."""
        return float((1 - 2 * self.of_truth.astype(np.float64) + self.squares).mean())

    @property
    def loss(self) -> float:
        """Mean of -log p(true class), nats."""
        likely = np.maximum(self.of_truth.astype(np.float64), np.finfo(np.float64).tiny)
        return float(-np.log(likely).mean())


def classification_metrics(predictions: Predictions) -> dict[str, float]:
    """Loss, accuracy, precision, recall, F1 and the other columns of the published log.

    The loss is in nats; kappa and Matthews' coefficient are in -1 to 1, Brier in 0 to 2, all others in 0 to 1. Macro
    averages are over the classes that have photos: a class without photos has no recall, and whether it counts must not
    depend on a single prediction. The precision of a class that was never predicted is 0.
    """
    labels, predicted = predictions.labels, predictions.predicted
    present = np.unique(labels)
    result = {"loss": predictions.loss, "acc": sk.accuracy_score(labels, predicted)}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            labels, predicted, labels=present, average=average, zero_division=0
        )
        result |= {f"precision_{average}": precision, f"recall_{average}": recall, f"f1_{average}": f1}
    kappa, mcc = _agreement(labels, predicted)
    result |= {
        "hamming": sk.hamming_loss(labels, predicted),
        "cohen_kappa": kappa,
        "mcc": mcc,
        "jaccard_macro": sk.jaccard_score(labels, predicted, labels=present, average="macro", zero_division=0),
        "top3": top_k_accuracy(predictions, 3),
        "top5": top_k_accuracy(predictions, 5),
        "ece": expected_calibration_error(predictions.confidence, predictions.right),
        "brier": predictions.brier,
    }
    return {name: float(value) for name, value in result.items()}


def top_k_accuracy(predictions: Predictions, k: int) -> float:
    """Share of photos whose true class is among the k most likely; ties count against the model."""
    return float((predictions.ahead < k).mean())


def expected_calibration_error(confidence: Probabilities, right: NDArray[np.bool_]) -> float:
    """Mean distance of confidence from accuracy over 15 bins of equal width, weighted by photos (Guo et al., 2017).

    Args:
        confidence: probability of each prediction, N.
        right: whether the prediction is right, N.
    """
    gaps = np.bincount(bin_of(confidence), weights=confidence - right.astype(np.float64), minlength=BINS)
    return float(abs(gaps).sum() / len(right))


def bin_of(confidence: Probabilities) -> NDArray[np.int64]:
    """The bin, N, of each confidence: 0 for up to a fifteenth, 14 for above fourteen of them."""
    return np.clip(np.digitize(confidence, np.linspace(0, 1, BINS + 1), right=True) - 1, 0, BINS - 1)


def accuracy_interval(labels: Labels, predictions: Labels) -> Interval:
    """Accuracy with Wilson's score interval (Wilson, 1927)."""
    return wilson(float((labels == predictions).mean()), len(labels))


def wilson(share: float, photos: float) -> Interval:
    """Wilson's score interval of a share among this number of photos."""
    spread = QUANTILE**2 / photos
    centre = (share + spread / 2) / (1 + spread)
    half = QUANTILE / (1 + spread) * np.sqrt(share * (1 - share) / photos + spread / (4 * photos))
    return Interval(share, max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half))))


def variance_of_sum(values: NDArray[np.float64], labels: Labels) -> float:
    """Variance of the sum of one value per photo, N, if the photos are drawn independently within each class.

    The variance of a class with one photo is unknown; all such classes are treated as one class.
    """
    counts = np.bincount(labels)
    drawn = np.where(counts[labels] == 1, len(counts), labels)
    photos = np.bincount(drawn)
    centred = values - (np.bincount(drawn, values) / np.maximum(photos, 1))[drawn]
    several = photos > 1
    return float((np.bincount(drawn, centred**2) * photos)[several] @ (1 / (photos[several] - 1)))


def chance_level(labels: Labels, num_classes: int) -> Chance:
    """The chance level for photos with these labels, N, and a model of K classes; macro-F1 over classes with photos.

    A class with the share p of the photos that is predicted at random, for 1/K of the photos, has a precision of p, a
    recall of 1/K, and so an F1 of 2p / (pK + 1). If it is always predicted, its recall is 1, and the others have 0.
    """
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    shares = shares[shares > 0]
    most = float(shares.max())  # at least 1/K
    at_random = float((2 * shares / (shares * num_classes + 1)).mean())
    always = 2 * most / (1 + most) / len(shares)
    return Chance(most, max(at_random, always))


def mean_interval(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Mean of one value per photo, N, with the percentile bootstrap over photos (Efron, 1979), 2,000 resamples."""
    chosen = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def confusion_matrix(labels: Labels, predictions: Labels, num_classes: int) -> sparse.csr_array:
    """Counts, K×K, sparse: rows are the truth, columns the predictions; at most N cells are not 0."""
    ones = np.ones(len(labels), np.int64)
    return sparse.coo_array((ones, (labels, predictions)), shape=(num_classes, num_classes)).tocsr()


def most_confused(matrix: sparse.csr_array, count: int) -> list[tuple[int, int, int]]:
    """Pairs of classes by how often either is confused with the other: (class, partner, times), most often first.

    The class is the one of the two with more errors.
    """
    both = sparse.triu(matrix + matrix.T, k=1, format="csr").tocoo()  # row by row, which is the order of ties
    pairs = []
    for cell in np.argsort(-both.data, kind="stable")[:count].tolist():
        first, second, times = int(both.row[cell]), int(both.col[cell]), int(both.data[cell])
        swap = matrix[second, first] > matrix[first, second]
        pairs.append((second, first, times) if swap else (first, second, times))
    return pairs


def classes_to_show(matrix: sparse.csr_array) -> tuple[list[int], int]:
    """The classes to show in a figure of the matrix, in their order, and the number of classes that occur.

    These are all classes that occur as truth or prediction; if there are more than 200, the 100 most often confused.
    """
    present = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1)).tolist()
    if len(present) <= _MOST_SHOWN:
        return present, len(present)
    pairs = most_confused(matrix, _PART)
    worst_first = dict.fromkeys([*(index for first, second, _ in pairs for index in (first, second)), *present])
    return sorted(list(worst_first)[:_PART]), len(present)


def per_class_report(matrix: sparse.csr_array, names: tuple[str, ...]) -> list[ReportRow]:
    """One row per class: precision, recall, F1, accuracy, support and the class it is most often confused with.

    The accuracy of a class is the share of its photos that are right, which is its recall; both columns exist because
    people look for either.
    """
    right = matrix.diagonal()
    support, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix - sparse.diags_array(right, dtype=np.int64, format="csr")
    partners, mistakes = wrong.argmax(axis=1), wrong.max(axis=1).toarray()
    rows: list[ReportRow] = []
    for index, name in enumerate(names):
        precision = right[index] / predicted[index] if predicted[index] else 0.0
        recall = right[index] / support[index] if support[index] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        rows.append(
            {
                "class_name": name,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "accuracy": float(recall),
                "support": int(support[index]),
                "most_confused_with": names[partners[index]] if mistakes[index] else "",
            }
        )
    return rows


def _agreement(labels: Labels, predictions: Labels) -> tuple[float, float]:
    """Cohen's kappa and Matthews' coefficient (Gorodkin, 2004) from class counts; scikit-learn's need K×K cells.

    Either is 0 if it is not defined, as for a single class in a tiny sample.
    """
    classes = int(max(labels.max(), predictions.max())) + 1
    truth, predicted = (np.bincount(found, minlength=classes).astype(np.float64) for found in (labels, predictions))
    n, right, chance = len(labels), float((labels == predictions).sum()), float(truth @ predicted)
    covariance = right * n - chance
    spread = np.sqrt((n * n - truth @ truth) * (n * n - predicted @ predicted))
    kappa = covariance / (n * n - chance) if chance < n * n else 0.0
    return kappa, float(covariance / spread) if spread else 0.0

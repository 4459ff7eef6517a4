"""Scores. NumPy only: call them from a notebook too.

Every score is pooled over the rows it is given, never averaged over batches (only `legacy_*` are,
because that is their definition). Tables of predictions are scored by evaluation/predictions.py.

Labels are ids 0..6 in the order of `constants.EMOTIONS`. A score of emotion labels is a function
of a confusion matrix (..., 7, 7), so a thousand resamples are scored in one call.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from constants import EMOTIONS

C = len(EMOTIONS)
VOTES = [f"votes_{emotion}" for emotion in EMOTIONS]  # columns; pandas takes a tuple for one key
PROBABILITIES = tuple(f"p_{i}" for i in range(C))
AVERAGES = ("macro", "weighted", "micro", "none")
LEGACY_BATCH = 64  # rows: the test batch of the 2022 system, whatever --batch_size is now
LEGACY_EPS = 1e-3  # added to P + R in its F1
CONSTANT = 1e-12  # variance / mean square below which float64 sums cannot tell a value varies


class Score(NamedTuple):
    """What one score is."""

    definition: str
    low: float
    high: float
    rows: str  # "emotion": the rows that --ties keeps; "all": every row with a truth
    source: str  # what it is computed from: "confusion", "top" (k), "arousal" or "valence"


_FIXED = "F1, sum over the classes divided by 7: an absent class is 0"
_PRESENT = "mean over the classes in the truth"
_BATCHES = f"computed per batch of {LEGACY_BATCH} rows in file order, mean over batches"
SCORES = {
    "accuracy": Score("share of rows whose label is right", 0, 1, "emotion", "confusion"),
    "uar": Score(f"recall, {_PRESENT}", 0, 1, "emotion", "confusion"),
    "macro_f1": Score(f"F1, {_PRESENT}", 0, 1, "emotion", "confusion"),
    "macro_f1_fixed7": Score(_FIXED, 0, 1, "emotion", "confusion"),
    "weighted_f1": Score("F1, mean weighted by rows of the class", 0, 1, "emotion", "confusion"),
    "precision_at_1": Score("share of the top class that is modal", 0, 1, "all", "top"),
    "recall_at_1": Score("share of the modal labels in the top class", 0, 1, "all", "top"),
    "f1_at_1": Score("2PR / (P + R + 0.001) of the two above", 0, 1, "all", "top"),
    "precision_at_2": Score("share of the top two classes that is modal", 0, 1, "all", "top"),
    "recall_at_2": Score("share of the modal labels in the top two classes", 0, 1, "all", "top"),
    "f1_at_2": Score("2PR / (P + R + 0.001) of the two above", 0, 1, "all", "top"),
    "legacy_p1": Score(f"precision_at_1 {_BATCHES}", 0, 1, "all", "top"),
    "legacy_r1": Score(f"recall_at_1 {_BATCHES}", 0, 1, "all", "top"),
    "legacy_f1": Score(f"f1_at_1 {_BATCHES}", 0, 1, "all", "top"),
    "ccc_arousal": Score("Lin's concordance of arousal", -1, 1, "all", "arousal"),
    "ccc_valence": Score("Lin's concordance of valence", -1, 1, "all", "valence"),
}
LEGACY = ("legacy_p1", "legacy_r1", "legacy_f1")


# --- scores of a confusion matrix -----------------------------------------------------------


def confusion(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None):
    """(N,) ids, (N,) ids, (N,) weights or None -> (7, 7) float counts, rows truth.

    Range: 0 and more. No rows give zeros, of which every score is NaN.

    >>> confusion([0, 0, 6], [0, 6, 6])[[0, 6]][:, [0, 6]]
    array([[1., 1.],
           [0., 1.]])
    """
    truth, predicted = _ids(truth), _ids(predicted)
    weights = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    if len({len(truth), len(predicted), len(weights)}) > 1:
        lengths = f"{len(truth)}, {len(predicted)} and {len(weights)}"
        raise ValueError(f"truth, predicted and weights must be of one length, not {lengths}")
    return np.bincount(truth * C + predicted, weights, minlength=C * C).reshape(C, C)


def accuracy(matrix: ArrayLike) -> np.ndarray:
    """Share of rows whose label is right. (..., 7, 7) -> (...), in [0, 1]; NaN without rows.

    >>> float(accuracy(confusion([0, 0, 6, 6], [0, 6, 6, 6])))
    0.75
    """
    matrix = _matrix(matrix)
    right = np.diagonal(matrix, axis1=-2, axis2=-1).sum(-1)
    return ratio(right, matrix.sum((-2, -1)))


def uar(matrix: ArrayLike) -> np.ndarray:
    """Unweighted average recall over the classes in the truth. (..., 7, 7) -> (...), in [0, 1].

    Chance is 1 / (classes in the truth). NaN without rows.

    >>> float(uar(confusion([0, 0, 0, 6], [0, 0, 0, 0])))
    0.5
    """
    return _average(_matrix(matrix), "recall", "macro")


def macro_f1(matrix: ArrayLike) -> np.ndarray:
    """F1, mean over the classes in the truth. (..., 7, 7) -> (...), in [0, 1]; NaN without rows.

    >>> float(macro_f1(confusion([0, 0, 6, 6], [0, 0, 6, 6])))
    1.0
    """
    return _average(_matrix(matrix), "f1", "macro")


def macro_f1_fixed7(matrix: ArrayLike) -> np.ndarray:
    """F1, sum over the classes in the truth divided by 7. (..., 7, 7) -> (...), in [0, 1].

    A perfect classifier scores k/7 when k classes occur. NaN without rows.

    >>> float(7 * macro_f1_fixed7(confusion([0, 0, 6, 6], [0, 0, 6, 6])))
    2.0
    """
    matrix = _matrix(matrix)
    return macro_f1(matrix) * (matrix.sum(-1) > 0).sum(-1) / C


def weighted_f1(matrix: ArrayLike) -> np.ndarray:
    """F1, mean weighted by the rows of a class. (..., 7, 7) -> (...), in [0, 1]; NaN without rows.

    >>> float(weighted_f1(confusion([0, 0, 0, 6], [0, 0, 0, 6])))
    1.0
    """
    return _average(_matrix(matrix), "f1", "weighted")


def weighted_precision(matrix: ArrayLike) -> np.ndarray:
    """Precision, mean weighted by the rows of a class. (..., 7, 7) -> (...), in [0, 1].

    0 for a class that is never predicted, as in scikit-learn. NaN without rows.

    >>> float(weighted_precision(confusion([0, 0, 0, 6], [0, 0, 6, 6])))
    0.875
    """
    return _average(_matrix(matrix), "precision", "weighted")


def per_class(matrix: ArrayLike) -> list[dict]:
    """(7, 7) -> seven rows: emotion, precision, recall, f1 in [0, 1], support, predicted (counts).

    All three are NaN for a class in neither truth nor predictions, recall for one not in the truth;
    precision is 0, as in scikit-learn, for a class in the truth that is never predicted.

    >>> row = per_class(confusion([0, 0, 6], [0, 6, 6]))[6]
    >>> row["emotion"], row["precision"], row["recall"], row["support"], row["predicted"]
    ('happy', 0.5, 1.0, 1.0, 2.0)
    """
    matrix = _matrix(matrix)
    columns = {kind: _by_class(matrix, kind) for kind in ("precision", "recall", "f1")}
    columns |= {"support": matrix.sum(1), "predicted": matrix.sum(0)}
    return [
        {"emotion": emotion} | {name: float(column[i]) for name, column in columns.items()}
        for i, emotion in enumerate(EMOTIONS)
    ]


POOLED = (accuracy, uar, macro_f1, macro_f1_fixed7, weighted_f1)


# --- scores of labels -----------------------------------------------------------------------


def precision(truth: ArrayLike, predicted: ArrayLike, average: str = "macro"):
    """Right rows of a class / rows predicted as it, pooled. (N,) ids, (N,) ids -> [0, 1].

    `average`: "macro" over the classes in the truth, "weighted" by their rows, "micro" over all
    rows (then it is accuracy), "none": (7,), as in `per_class`. NaN without rows.

    >>> precision([0, 0, 6], [0, 6, 6])
    0.75
    """
    return _label_score(truth, predicted, "precision", average)


def recall(truth: ArrayLike, predicted: ArrayLike, average: str = "macro"):
    """Right rows of a class / rows of that class; "macro" is the UAR. Otherwise as `precision`.

    >>> recall([0, 0, 6], [0, 6, 6])
    0.75
    """
    return _label_score(truth, predicted, "recall", average)


def f1(truth: ArrayLike, predicted: ArrayLike, average: str = "macro"):
    """Harmonic mean of a class's precision and recall, then averaged. Otherwise as `precision`.

    >>> round(f1([0, 0, 6], [0, 6, 6]), 4)
    0.6667
    """
    return _label_score(truth, predicted, "f1", average)


def _label_score(truth: ArrayLike, predicted: ArrayLike, kind: str, average: str):
    if average not in AVERAGES:
        raise ValueError(f"no average {average!r}; there are: {', '.join(AVERAGES)}")
    score = _average(confusion(truth, predicted), kind, average)
    return score if average == "none" else float(score)


def _average(matrix: np.ndarray, kind: str, average: str) -> np.ndarray:
    if average == "micro":  # over all labels, every wrong row is one miss and one false alarm
        return accuracy(matrix)
    values, support = _by_class(matrix, kind), matrix.sum(-1)
    if average == "none":
        return values
    weights = support if average == "weighted" else (support > 0).astype(float)
    return ratio((np.where(support > 0, values, 0) * weights).sum(-1), weights.sum(-1))


def _by_class(matrix: np.ndarray, kind: str) -> np.ndarray:
    """(..., 7, 7) -> (..., 7); NaN where undefined."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    support, predicted = matrix.sum(-1), matrix.sum(-2)
    if kind == "recall":
        return ratio(right, support)
    if kind == "f1":
        return ratio(2 * right, support + predicted)
    never = (support > 0) & (predicted == 0)
    return np.where(never, 0.0, ratio(right, predicted))


def _ids(labels: ArrayLike) -> np.ndarray:
    labels = np.asarray(labels)
    ids = np.zeros(0, int) if labels.size == 0 else labels
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or np.any((ids < 0) | (ids >= C)):
        raise ValueError(f"labels must be a list of integers 0..{C - 1}, got {labels!r:.80}")
    return ids.astype(np.int64)


def _matrix(matrix: ArrayLike) -> np.ndarray:
    matrix = np.asarray(matrix, float)
    if matrix.shape[-2:] != (C, C):
        raise ValueError(f"confusion matrices must be (..., {C}, {C}), got {matrix.shape}")
    return matrix


def ratio(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


# --- top k: several labels may be true ------------------------------------------------------


def precision_at(truth: ArrayLike, probabilities: ArrayLike, k: int) -> float:
    """Mean over rows of |top k and truth| / k. (N, 7) multi-hot, (N, 7) -> [0, 1].

    Equal probabilities rank the higher id first, as in the 2022 code. A row without a label or
    with a missing probability is left out; NaN when none is left. At most g/k for g labels.

    >>> precision_at([[1, 1, 0, 0, 0, 0, 0]], [[0.5, 0.1, 0.2, 0.2, 0, 0, 0]], k=2)
    0.5
    """
    return float(_mean(hits(truth, probabilities, k)[0]))


def recall_at(truth: ArrayLike, probabilities: ArrayLike, k: int) -> float:
    """Mean over rows of |top k and truth| / |truth|. Otherwise as `precision_at`.

    >>> recall_at([[1, 1, 0, 0, 0, 0, 0]], [[0.5, 0.1, 0.2, 0.2, 0, 0, 0]], k=1)
    0.5
    """
    return float(_mean(hits(truth, probabilities, k)[1]))


def f1_at(truth: ArrayLike, probabilities: ArrayLike, k: int) -> float:
    """`f1_of` the two above, so at most 0.9995; NaN where they are.

    >>> round(f1_at([[1, 0, 0, 0, 0, 0, 0]], [[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]], k=1), 4)
    0.9995
    """
    return float(f1_of(*(_mean(part) for part in hits(truth, probabilities, k))))


def legacy_p1(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """`precision_at` 1 per batch of 64 rows in file order, mean over batches: in [0, 1].

    The short last batch weighs as much as a full one. NaN without rows.

    >>> legacy_p1(np.eye(7)[[0] * 64 + [1]], np.eye(7)[[0] * 65])
    0.5
    """
    return legacy(*hits(truth, probabilities, 1))["legacy_p1"]


def legacy_r1(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """`recall_at` 1 per batch. Otherwise as `legacy_p1`.

    >>> legacy_r1([[1, 1, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0, 0]])
    0.5
    """
    return legacy(*hits(truth, probabilities, 1))["legacy_r1"]


def legacy_f1(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """`f1_at` 1 per batch, in [0, 0.9995]. Otherwise as `legacy_p1`.

    This is what the tables of the 2022 system call F1: near accuracy, not a macro F1.

    >>> round(legacy_f1(np.eye(7)[[0] * 64 + [1]], np.eye(7)[[0] * 65]), 4)
    0.4998
    """
    return legacy(*hits(truth, probabilities, 1))["legacy_f1"]


def legacy(precisions: np.ndarray, recalls: np.ndarray) -> dict[str, float]:
    """The three `legacy_*` scores from each row's precision@1 and recall@1, (N,) and (N,).

    >>> legacy(np.array([1.0, 1.0]), np.array([1.0, 0.5]))["legacy_r1"]
    0.75
    """
    if len(precisions) == 0:
        return dict.fromkeys(LEGACY, float("nan"))
    starts = np.arange(0, len(precisions), LEGACY_BATCH)
    rows = np.diff(np.append(starts, len(precisions)))
    p, r = (np.add.reduceat(part, starts) / rows for part in (precisions, recalls))
    return {n: float(s.mean()) for n, s in zip(LEGACY, (p, r, f1_of(p, r)), strict=True)}


def hits(truth: ArrayLike, probabilities: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision@k and recall@k of each row that `has_top`: (M,) and (M,)."""
    truth, probabilities = np.asarray(truth, float), np.asarray(probabilities, float)
    if truth.shape != probabilities.shape or truth.ndim != 2 or not 1 <= k <= truth.shape[1]:
        raise ValueError(
            f"needed truth and probabilities of one shape (N, {C}) and k in 1..{C}, "
            f"got {truth.shape}, {probabilities.shape} and k={k}"
        )
    scored = has_top(truth, probabilities)
    truth, probabilities = truth[scored], probabilities[scored]
    top = np.argsort(probabilities, axis=1, kind="stable")[:, ::-1][:, :k]
    right = np.take_along_axis(truth, top, axis=1).sum(1)
    return right / k, right / truth.sum(1)


def has_top(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) bool: rows with at least one label and no missing probability."""
    return (truth.sum(1) > 0) & np.isfinite(probabilities).all(1)


def f1_of(p: ArrayLike, r: ArrayLike) -> np.ndarray:
    """2PR / (P + R + 0.001), the F1 of the 2022 system."""
    return 2 * p * r / (p + r + LEGACY_EPS)


def _mean(values: np.ndarray) -> np.ndarray:
    return ratio(values.sum(), len(values))


# --- agreement of numbers -------------------------------------------------------------------


def ccc(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Lin's concordance correlation, 2 cov / (var + var + (difference of means)^2): in [-1, 1].

    (N,), (N,) -> float. Population variance; rows with a missing value are dropped. A constant
    prediction scores 0; NaN when truth and prediction are both constant, or no row is left.

    >>> round(ccc([1, 2, 3], [1, 2, 4]), 4)
    0.8571
    """
    return float(ccc_from_moments(moments(truth, predicted).sum(0)))


def moments(truth: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    """(N,) and (N,) -> (N, 6): each row's part of n, sx, sy, sxx, syy, sxy (zeros if incomplete).

    Both are counted from the median of the truth, which leaves the CCC and spares digits.

    >>> moments([1, 2, 3], [1, 2, 4]).sum(0)
    array([3., 0., 1., 2., 5., 3.])
    """
    x, y = np.asarray(truth, float), np.asarray(predicted, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"truth and predicted must be of one shape (N,), got {x.shape}, {y.shape}")
    known = np.isfinite(x) & np.isfinite(y)
    origin = np.median(x[known]) if known.any() else 0.0
    x, y = np.where(known, x - origin, 0.0), np.where(known, y - origin, 0.0)
    return np.stack([known.astype(float), x, y, x * x, y * y, x * y], axis=1)


def ccc_from_moments(sums: ArrayLike) -> np.ndarray:
    """The `ccc` of summed `moments`: (..., 6) -> (...).

    >>> round(float(ccc_from_moments([3, 0, 1, 2, 5, 3])), 4)
    0.8571
    """
    sums = np.asarray(sums, float)
    mx, my, mxx, myy, mxy = (ratio(sums[..., i], sums[..., 0]) for i in range(1, 6))
    var_x, var_y, covariance = mxx - mx**2, myy - my**2, mxy - mx * my
    still_x, still_y = ~(var_x > CONSTANT * mxx), ~(var_y > CONSTANT * myy)
    covariance = np.where(still_x | still_y, 0.0, covariance)
    whole = np.where(still_x & still_y, 0.0, var_x + var_y + (mx - my) ** 2)
    return ratio(2 * covariance, whole)

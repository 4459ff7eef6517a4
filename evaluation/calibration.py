"""Whether a probability can be believed: temperature, calibration error, what rejection buys.

A table of predictions is as in `bootstrap.py`. A temperature is fitted on validation rows only:
without them there is none, and probabilities are judged as the model gave them. Call the parts
from a notebook; `summary_of` gives what result.json holds as "calibration".
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

import metric
from evaluation import alignment
from evaluation.predictions import column, columns, emotion_rows
from utils import plain

BINS = 15  # Guo et al. 2017, "On calibration of modern neural networks"
TEMPERATURES = (0.05, 20.0)  # where one is looked for: beyond, answers are certain or even
FLOOR = 1e-12  # a probability below counts as this, so that no logarithm is infinite
POINTS = 50  # of the coverage-risk curve in result.json
COVERAGES = (0.5, 0.8, 0.9)  # shares of the rows that are answered


# --- temperature ----------------------------------------------------------------------------


def temperature(validation: Mapping) -> float | None:
    """The T of least cross-entropy between the votes' shares and p^(1/T) renormalised.

    Rows count that have votes and a prediction; None where fewer than two do. T is in
    `TEMPERATURES`; above 1 the model was too sure, below 1 not sure enough.
    """
    from scipy.optimize import minimize_scalar

    rows = fitted_rows(validation)
    if len(rows) < 2:
        return None
    p = columns(validation, metric.PROBABILITIES)[rows]
    shares = _shares(validation)[rows]
    found = minimize_scalar(
        lambda log_t: cross_entropy(scaled(p, np.exp(log_t)), shares),
        bounds=np.log(TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(found.x))


def fitted_rows(validation: Mapping) -> np.ndarray:
    """The rows that `temperature` is fitted on: ids (M,)."""
    known = _known(columns(validation, metric.PROBABILITIES))
    return np.flatnonzero(known & np.isfinite(_shares(validation)).all(1))


def _known(p: np.ndarray) -> np.ndarray:
    """(N,) bool: rows of p (N, 7) that can be made to sum to 1."""
    return np.isfinite(p).all(1) & (p >= 0).all(1) & (p > 0).any(1)


def scaled(probabilities: ArrayLike, t: float) -> np.ndarray:
    """p^(1/t) renormalised, as softmax(logits / t): (N, 7), t > 0 -> (N, 7).

    A row with a missing or negative probability is NaN.

    >>> scaled([[0.8, 0.2, 0, 0, 0, 0, 0]], 0.5)[0, :2].round(3)
    array([0.941, 0.059])
    """
    if not 0 < t < np.inf:
        raise ValueError(f"a temperature must be above 0 and finite, got {t}")
    p = np.asarray(probabilities, float)
    p = np.where(_known(p)[:, None], p, np.nan)
    # divided by the greatest first: a small T must not make every power underflow to 0
    powers = (p / p.max(1, keepdims=True)) ** (1 / t)
    return powers / powers.sum(1, keepdims=True)


def confidence(predictions: Mapping, t: float | None = None) -> np.ndarray:
    """Probability of the label given, at temperature t (None: as it was), (N,) in [1/7, 1].

    NaN where the model gave no prediction.
    """
    p = columns(predictions, metric.PROBABILITIES)
    return scaled(p, 1.0 if t is None else t).max(1)


def cross_entropy(p: np.ndarray, shares: np.ndarray, floor: float = FLOOR) -> float:
    """Mean over rows of -sum share x log p, in nats, at least 0; NaN without rows.

    (N, K), (N, K) -> float. A probability below `floor` counts as this.

    >>> round(cross_entropy(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])), 3)
    0.693
    """
    rows = -(shares * np.log(np.maximum(p, floor))).sum(1)
    return float(rows.mean()) if len(rows) else float("nan")


def vote_shares(votes: ArrayLike) -> np.ndarray:
    """What part of the votes each emotion has, (N, 7) -> (N, 7); NaN in a row without votes.

    >>> vote_shares([[3, 1, 0, 0, 0, 0, 0]])[0, :2]
    array([0.75, 0.25])
    """
    votes = np.asarray(votes, float)
    return metric.ratio(votes, np.broadcast_to(votes.sum(1, keepdims=True), votes.shape))


def negative_log_likelihood(predictions: Mapping, t: float | None = None) -> float:
    """The `cross_entropy` of a table at temperature t (None: as it was)."""
    rows = fitted_rows(predictions)
    p = columns(predictions, metric.PROBABILITIES)[rows]
    return cross_entropy(scaled(p, 1.0 if t is None else t), _shares(predictions)[rows])


def _shares(predictions: Mapping) -> np.ndarray:
    return vote_shares(columns(predictions, metric.VOTES))


# --- calibration error ----------------------------------------------------------------------


def correct(predictions: Mapping, ties: str) -> np.ndarray:
    """How right each label is by the emotion scores' truth, (N,) in [0, 1]; NaN: not scored.

    0 or 1, and with `ties` "soft" the share of the raters who gave the predicted label.
    """
    rows, truth, predicted, weights = emotion_rows(predictions, ties)
    size = len(column(predictions, "emotion"))
    found = np.full(size, np.nan)
    found[rows] = np.bincount(rows, weights * (truth == predicted), minlength=size)[rows]
    return found


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, mass: bool = False) -> float:
    """Expected calibration error: mean |accuracy - confidence| of the bins, weighted by rows.

    (N,), (N,) -> [0, 1]; NaN without rows. `mass`: see `reliability`.

    >>> round(ece([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0]), 3)
    0.1
    """
    table = reliability(confidence, correct, bins, mass)
    gaps = [row["n"] * abs(row["accuracy"] - row["confidence"]) for row in table if row["n"]]
    return float(sum(gaps) / sum(row["n"] for row in table)) if gaps else float("nan")


def chance_ece(confidence: ArrayLike, bins: int = BINS) -> float:
    """The `ece` to expect of these confidences if every one were true: what chance alone makes.

    (N,) -> [0, 1]; NaN without rows. Counts of right rows are taken as normal: E|x| is
    sqrt(2 / pi) of a standard deviation. With "soft" ties, which vary less, it is an upper bound.

    >>> round(chance_ece([0.5] * 100), 3)
    0.04
    """
    confidence, _ = _both(confidence, np.zeros(np.shape(confidence)))
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    variances = np.bincount(place, confidence * (1 - confidence))
    rows = np.sqrt(2 / np.pi * variances).sum()
    return float(rows / len(confidence)) if len(confidence) else float("nan")


def reliability(
    confidence: ArrayLike, correct: ArrayLike, bins: int = BINS, mass: bool = False
) -> list[dict]:
    """A dict a bin: low, high (edges), n, confidence and accuracy (means; NaN in an empty bin).

    Bins (low, high] of [0, 1] are of equal width (Guo et al. 2017), or, with `mass`, hold equal
    numbers of rows as far as equal confidences allow; then they end at the rows' own confidences.
    """
    confidence, correct = _both(confidence, correct)
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    edges = np.linspace(0, 1, bins + 1)
    if mass and len(confidence):
        edges = np.quantile(confidence, edges)
    place = np.searchsorted(edges[1:-1], confidence)
    n = np.bincount(place, minlength=bins)
    means = [
        metric.ratio(np.bincount(place, values, minlength=bins), n)
        for values in (confidence, correct)
    ]
    names = ("low", "high", "n", "confidence", "accuracy")
    rows = zip(
        edges[:-1].tolist(),
        edges[1:].tolist(),
        n.tolist(),
        *(mean.tolist() for mean in means),
        strict=True,
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def _both(confidence: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both (N,) in [0, 1], or a ValueError."""
    pair = np.asarray(confidence, float), np.asarray(correct, float)
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
        shapes = f"{pair[0].shape} and {pair[1].shape}"
        raise ValueError(f"confidence and correct must be of one shape (N,), got {shapes}")
    for name, values in zip(("confidence", "correct"), pair, strict=True):
        if not ((values >= 0) & (values <= 1)).all():  # NaN too
            raise ValueError(f"{name} must be in [0, 1] and known in every row, got {values!r:.80}")
    return pair


# --- rejection ------------------------------------------------------------------------------


def coverage_risk(confidence: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Answer the k surest rows, k = 1..N: coverage k / N, and risk, their share of errors.

    (N,), (N,) -> (N,), (N,). Rows of one confidence are in no order: the risk within them is the
    mean over all orders.
    """
    confidence, correct = _both(confidence, correct)
    _, level = np.unique(-confidence, return_inverse=True)
    wrong = metric.ratio(np.bincount(level, 1 - correct), np.bincount(level))[np.sort(level)]
    k = np.arange(1, len(confidence) + 1)
    return k / max(len(k), 1), np.cumsum(wrong) / k


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean risk over all coverages, in [0, 1], lower is better; NaN without rows.

    Area under the risk-coverage curve, Geifman and El-Yaniv 2017. A confidence that tells nothing
    gives 1 - accuracy.
    """
    _, risk = coverage_risk(confidence, correct)
    return float(risk.mean()) if len(risk) else float("nan")


def accuracy_at(confidence: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Accuracy of the surest ceil(coverage x N) rows; NaN without rows."""
    _, risk = coverage_risk(confidence, correct)
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must be in (0, 1], got {coverage}")
    if not len(risk):
        return float("nan")
    return float(1 - risk[int(np.ceil(coverage * len(risk) - 1e-9)) - 1])


# --- the part of result.json ----------------------------------------------------------------


def summary_of(test: Mapping, ties: str, t: float | None, fitted_on: int = 0) -> dict:
    """What result.json holds as "calibration"; undefined numbers are None.

    `t`: the `temperature` of the validation rows, `fitted_on` so many of them; or None.
    Keys n (rows that the emotion scores count), temperature, fitted_on (validation rows), ece,
    ece_equal_mass, nll and the same three ending in _uncalibrated, ece_chance, reliability,
    coverage_risk (pairs), aurc, accuracy_at (coverage -> accuracy). Without a temperature ece,
    ece_equal_mass and nll are None, and the rest is of the probabilities as they are.
    """
    sure = confidence(test, t)
    rows = np.isfinite(sure) & np.isfinite(correct(test, ties))
    test, sure = alignment.select(test, rows), sure[rows]
    right = correct(test, ties)
    found = {"n": len(sure), "temperature": t, "fitted_on": 0 if t is None else fitted_on}
    found |= (
        dict.fromkeys(("ece", "ece_equal_mass", "nll")) if t is None else _errors(test, right, t)
    )
    before = _errors(test, right, None)
    found |= {f"{name}_uncalibrated": value for name, value in before.items()}
    found["ece_chance"] = chance_ece(sure)
    found["reliability"] = reliability(sure, right)
    found["coverage_risk"] = _points(*coverage_risk(sure, right))
    found["aurc"] = aurc(sure, right)
    found["accuracy_at"] = {f"{c:g}": accuracy_at(sure, right, c) for c in COVERAGES}
    return plain(found)


def _errors(test: Mapping, right: np.ndarray, t: float | None) -> dict[str, float]:
    sure = confidence(test, t)
    errors = {"ece": ece(sure, right), "ece_equal_mass": ece(sure, right, mass=True)}
    return errors | {"nll": negative_log_likelihood(test, t)}


def _points(coverage: np.ndarray, risk: np.ndarray) -> list[list[float]]:
    """At most `POINTS` pairs, evenly spread, the first and the last among them."""
    n = len(coverage)
    kept = np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int))
    return np.stack([coverage, risk], axis=1)[kept].tolist()

"""Scores of highlights without a model: everything is one, chance, a fixed part of each video."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from evaluation.highlights.scores import (
    BUDGET,
    Seconds,
    allowed,
    each,
    f1_of,
    mean,
    seconds_of,
    sums_of,
    within_budget,
)
from metric import ratio


def scores(table: Mapping, threshold: float | None = None, budget: float = BUDGET) -> dict:
    """Scores of the same rows without a model: baseline -> score -> {"value", "video_mean"}.

    always_positive  every second is a highlight, all as probable
    random           expected scores of random probabilities; F1 of as many random seconds of each
                     video as the model selects there (hypergeometric: no draws are needed)
    start, middle    the first, or the middle, round(budget x n) seconds of each video
    A score that a baseline has not is missing.
    """
    seconds = seconds_of(table)
    found = {
        "always_positive": _always(seconds),
        "random": _random(seconds, threshold, budget),
        "start": {"f1_budget": _fixed(seconds, budget, lambda rest: 0)},
        "middle": {"f1_budget": _fixed(seconds, budget, lambda rest: rest // 2)},
    }
    return {
        name: {score: _both(*pair) for score, pair in has.items()} for name, has in found.items()
    }


def _both(pooled: ArrayLike, videos: np.ndarray) -> dict[str, float]:
    return {"value": float(pooled), "video_mean": mean(videos)}


def _totals(seconds: Seconds) -> np.ndarray:
    return sums_of(seconds, np.ones(len(seconds.score), bool), seconds.positive)


def _pair(score: Callable, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A score of the summed videos, and of each."""
    return score(sums.sum(0)), score(sums)


def _always(seconds: Seconds) -> dict:
    sums = _totals(seconds)
    rate = _pair(lambda s: np.where(s[..., 2] > 0, ratio(s[..., 2], s[..., 3]), np.nan), sums)
    return {"average_precision": rate, "roc_auc": _pair(_half, sums), "f1": _pair(f1_of, sums)}


def _half(sums: np.ndarray) -> np.ndarray:
    """The ROC-AUC of a score that knows nothing: 0.5, NaN where a class is missing."""
    both = (sums[..., 2] > 0) & (sums[..., 2] < sums[..., 3])
    return np.where(both, 0.5, np.nan)


def _random(seconds: Seconds, threshold: float | None, budget: float) -> dict:
    sums = _totals(seconds)
    found = {
        "average_precision": _pair(lambda s: random_average_precision(s[..., 3], s[..., 2]), sums),
        "roc_auc": _pair(_half, sums),
        "f1_budget": _pair(f1_of, _by_chance(seconds, within_budget(seconds, budget))),
    }
    if threshold is not None:
        found["f1"] = _pair(f1_of, _by_chance(seconds, seconds.score >= threshold))
    return found


def _by_chance(seconds: Seconds, chosen: np.ndarray) -> np.ndarray:
    """(V, 4) as `sums_of`, with the expected number of right ones: F1 is linear in it."""
    sums = sums_of(seconds, chosen, seconds.positive)
    sums[:, 0] = sums[:, 1] * sums[:, 2] / sums[:, 3]
    return sums


def random_average_precision(n: ArrayLike, positives: ArrayLike) -> np.ndarray:
    """Expected average precision of n seconds in random order, above positives / n; NaN without.

    (H + (n - H) (positives - 1) / (n - 1)) / n, H = 1 + 1/2 + .. + 1/n: Bestgen 2015, "Exact
    expected average precision of the random baseline for system evaluation".

    >>> random_average_precision(2, 1).round(3).item()
    0.75
    """
    n, positives = np.asarray(n, float), np.asarray(positives, float)
    harmonic = np.cumsum(1 / np.arange(1, n.max(initial=1) + 1))[np.maximum(n, 1).astype(int) - 1]
    others = (positives - 1) / np.maximum(n - 1, 1)
    found = (harmonic + (n - harmonic) * others) / np.maximum(n, 1)
    return np.where(positives > 0, found, np.nan)


def _fixed(seconds: Seconds, budget: float, first: Callable) -> tuple[np.ndarray, np.ndarray]:
    """F1 of one stretch of each video that begins at `first(seconds left over)`."""

    def stretch(score: np.ndarray) -> np.ndarray:
        place, k = np.arange(len(score)), allowed(len(score), budget)
        start = first(len(score) - k)
        return (place >= start) & (place < start + k)

    return _pair(f1_of, sums_of(seconds, each(seconds, stretch), seconds.positive))

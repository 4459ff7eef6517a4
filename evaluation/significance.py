"""p-values: of bootstrap differences, of flipped signs, and Holm's correction of many."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from utils import rng


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for being looked at together (Holm 1979); None is no test and stays.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    places = sorted((i for i, value in enumerate(p) if value is not None), key=lambda i: p[i])
    adjusted: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, place in enumerate(places):
        least = max(least, min(1.0, (len(places) - rank) * p[place]))
        adjusted[place] = least
    return adjusted


def bootstrap_p(differences: np.ndarray) -> float:
    """Two-sided p of "no difference" from R resampled differences d, NaN left out; NaN if none.

    min(1, 2 (1 + min(#d <= 0, #d >= 0)) / (R + 1)), so never below 2 / (R + 1).

    >>> bootstrap_p(np.array([0.1, 0.2, 0.3]))
    0.5
    """
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return float("nan")
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1, 2 * (1 + beyond) / (len(differences) + 1)))


def sign_flip(differences: np.ndarray, resamples: int, seed: int) -> float:
    """Two-sided p of a mean difference of 0, exact where all sign flips are `resamples` at most.

    (videos,) -> (0, 1]; NaN of fewer than two videos.
    """
    if len(differences) < 2:
        return float("nan")
    test = stats.permutation_test(
        (differences,),
        lambda x, axis: np.mean(x, axis),
        vectorized=True,
        permutation_type="samples",
        n_resamples=resamples,
        rng=rng(seed, "sign flips"),
    )
    return float(test.pvalue)

"""How sure a score is: bootstrap intervals, baselines, paired comparison. NumPy only.

A table of predictions is a DataFrame, or a dict of arrays, with the columns of predictions.csv;
all its rows are scored, so choose the rows (test, val, oof) before. What is resampled is whole
dialogues: utterances of one dialogue are not independent. What a score is stands in `metric.py`,
the part of result.json that all this fills in `result.py`, probabilities in `calibration.py`.
"""

from collections.abc import Mapping

import numpy as np

import metric
from constants import BOOTSTRAP, CONFIDENCE, SEED, TIES
from evaluation.alignment import DIALOGUE, numbered, same_rows
from evaluation.predictions import columns, emotion_rows, modal, scores_of
from utils import UserError, rng

# --- intervals ------------------------------------------------------------------------------


def bootstrap(
    predictions: Mapping, ties: str = TIES, resamples: int = BOOTSTRAP, seed: int = SEED
) -> dict[str, tuple[float, float]]:
    """Percentile interval of every score at `constants.CONFIDENCE`: name -> (low, high).

    Averages stay over the classes of the whole table; a resample that lacks one averages the rest.
    NaN where the score is undefined or fewer than two dialogues have rows for it.
    """
    groups = numbered(predictions, DIALOGUE)
    values = resampled(predictions, ties, draws(groups, resamples, seed), groups)
    return {name: interval(values[name]) for name in metric.SCORES}


def draws(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each of G dialogues is drawn, with replacement, G times: (resamples, G) counts."""
    size = int(groups.max(initial=0)) + 1
    return rng(seed, "bootstrap").multinomial(size, np.full(size, 1 / size), size=resamples)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle `CONFIDENCE` of the defined values, (R,) -> (low, high); NaN if there are none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def resampled(
    predictions: Mapping, ties: str, counts: np.ndarray, groups: np.ndarray
) -> dict[str, np.ndarray]:
    """Every score of every resample: name -> (R,).

    `counts` (R, G) as from `draws`, `groups` (N,) ids of dialogues 0..G-1.
    """
    statistics = {
        name: _with_two(values) for name, values in sums(predictions, ties, groups).items()
    }
    values = from_sums({name: np.tensordot(counts, s, 1) for name, s in statistics.items()})
    return values | _resampled_legacy(predictions, counts, groups, statistics["top"])


def _with_two(sums: np.ndarray) -> np.ndarray:
    """Sums by dialogue, or zeros (all scores NaN) if only one dialogue has any rows."""
    rows = sums[..., 0] if sums.ndim == 2 else sums.sum((1, 2))
    return sums if (rows > 0).sum() > 1 else np.zeros_like(sums)


def _resampled_legacy(
    predictions: Mapping, counts: np.ndarray, groups: np.ndarray, top: np.ndarray
) -> dict[str, np.ndarray]:
    """The legacy scores depend on the order of rows: rows of each drawn dialogue, in file order."""
    rows, hits = _top_hits(predictions)
    hits = hits[np.argsort(groups[rows], kind="stable")]
    length = top[:, 0].astype(int)  # rows of each dialogue; 0 in all if there is but one
    start = np.cumsum(length) - length
    values = np.empty((len(counts), len(metric.LEGACY)))
    for resample, count in enumerate(counts):
        drawn = np.repeat(np.arange(len(count)), count)
        end = np.cumsum(length[drawn])
        shift = np.repeat(start[drawn] - (end - length[drawn]), length[drawn])
        order = shift + np.arange(len(shift))
        values[resample] = list(metric.legacy(hits[order, 1], hits[order, 2]).values())
    return dict(zip(metric.LEGACY, values.T, strict=True))


# --- what scores can be computed from, by dialogue ------------------------------------------


def sums(predictions: Mapping, ties: str, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Sufficient statistics of every score but the legacy ones, added up within each group.

    "confusion" (G, 7, 7); "top" (G, 5): rows, P@1, R@1, P@2, R@2; "arousal" and "valence" (G, 6)
    as in `metric.moments`.
    """
    size = int(groups.max(initial=0)) + 1
    rows, truth, predicted, weights = emotion_rows(predictions, ties)
    result = {"confusion": np.zeros((size, metric.C, metric.C))}
    np.add.at(result["confusion"], (groups[rows], truth, predicted), weights)
    rows, hits = _top_hits(predictions)
    result["top"] = _add_up(hits, groups[rows], size)
    for head in ("arousal", "valence"):
        both = columns(predictions, (f"{head}_true", head))
        result[head] = _add_up(metric.moments(*both.T), groups, size)
    return result


def from_sums(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every score but the legacy ones, from `sums` with any leading shape (...): name -> (...)."""
    result = {score.__name__: score(sums["confusion"]) for score in metric.POOLED}
    n, top = sums["top"][..., 0], sums["top"]
    for k in (1, 2):
        p, r = (metric.ratio(top[..., i], n) for i in (2 * k - 1, 2 * k))
        result |= {f"precision_at_{k}": p, f"recall_at_{k}": r, f"f1_at_{k}": metric.f1_of(p, r)}
    return result | {f"ccc_{h}": metric.ccc_from_moments(sums[h]) for h in ("arousal", "valence")}


def _top_hits(predictions: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Rows (M,) that the scores at k count, and for each (M, 5): 1, P@1, R@1, P@2, R@2."""
    truth, p = modal(predictions), columns(predictions, metric.PROBABILITIES)
    rows = np.flatnonzero(metric.has_top(truth, p))
    parts = [np.ones(len(rows)), *metric.hits(truth, p, 1), *metric.hits(truth, p, 2)]
    return rows, np.stack(parts, axis=1)


def _add_up(values: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """(N, K), (N,) -> (size, K)."""
    return np.stack([np.bincount(groups, v, minlength=size) for v in values.T], axis=1)


# --- baselines: the majority, the prior ------------------------------------------------------


# --- two runs on the same rows --------------------------------------------------------------


def paired(
    a: Mapping,
    b: Mapping,
    score: str,
    ties: str = TIES,
    resamples: int = BOOTSTRAP,
    seed: int = SEED,
) -> dict[str, float]:
    """Difference a - b of one score and its interval: both are scored on the same drawn dialogues.

    Returns "a", "b", "difference", "low", "high", "n". Rows are joined by (corpus, role, segment);
    UserError if the rows, their truth or the number of rows scored differ.
    """
    if score not in metric.SCORES:
        raise UserError(f"no score {score!r}; there are: {', '.join(metric.SCORES)}")
    b = same_rows(a, b)
    groups = numbered(a, DIALOGUE)
    counts = draws(groups, resamples, seed)
    first, second = (scores_of(table, ties)[score] for table in (a, b))
    if first["n"] != second["n"]:
        raise UserError(
            f"{score} needs predictions for the same rows, "
            f"the first has them for {first['n']}, the second for {second['n']}"
        )
    x, y = (resampled(table, ties, counts, groups)[score] for table in (a, b))
    low, high = interval(x - y)
    values = {"a": first["value"], "b": second["value"]}
    values |= {"difference": first["value"] - second["value"], "low": low, "high": high}
    return values | {"n": first["n"]}

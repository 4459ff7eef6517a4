"""How sure a score is: intervals by the bootstrap, of one table or of the difference of two.

What is resampled is whole dialogues (of highlights: whole videos), because rows of one dialogue are
not independent. A score is computed from sums that are added up by dialogue, so a resample costs a
product of matrices. The legacy scores, which depend on the order of rows, have no interval.
Tables are as in `predictions.py`; several finished runs together are in `finished_runs.py`.
"""

import functools
from collections.abc import Mapping

import numpy as np

import metric
from constants import BOOTSTRAP, CONFIDENCE, SEED, TIES
from evaluation import alignment
from evaluation.predictions import columns, emotion_rows, modal, scores_of
from utils import UserError, rng

SCORES = tuple(name for name in metric.SCORES if name not in metric.LEGACY)
# where the sums that each source of a score is computed from lie side by side
PLACES = {
    "confusion": slice(0, 49),  # (7, 7), rows truth
    "top": slice(49, 54),  # rows, P@1, R@1, P@2, R@2
    "arousal": slice(54, 60),  # `metric.moments`
    "valence": slice(60, 66),
}
OF_TABLE = "bootstrap"  # purposes of the random numbers, see `utils.rng`
WITHIN_SESSIONS = "dialogues within sessions"


# --- draws ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)  # rows of a table of runs share their dialogues
def draws(sizes: tuple[int, ...], resamples: int, seed: int, purpose: str = OF_TABLE) -> np.ndarray:
    """How often each of G dialogues is drawn: (resamples, G) counts, read-only.

    The dialogues lie in groups of these `sizes`; as many as a group has are drawn from it, with
    replacement. Where no group has two there is nothing to draw: all counts are 0.
    """
    generator = rng(seed, purpose)
    drawn = [generator.multinomial(n, np.full(n, 1 / n), size=resamples) for n in sizes if n]
    counts = np.concatenate([np.zeros((resamples, 0), int), *drawn], axis=1)
    counts = counts if max(sizes, default=0) > 1 else np.zeros_like(counts)
    counts.flags.writeable = False
    return counts


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle `CONFIDENCE` of the defined values, (R,) -> (low, high); NaN if there are none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


# --- what scores are computed from, by dialogue ---------------------------------------------


def count_of(groups: np.ndarray) -> int:
    """How many groups there are of (N,) ids 0, 1, ...; 1 of no rows."""
    return int(groups.max(initial=0)) + 1


def sums(predictions: Mapping, ties: str, groups: np.ndarray) -> np.ndarray:
    """What `PLACES` names of each group of rows, (G, 66); `groups`: (N,) ids 0..G-1."""
    size = count_of(groups)
    rows, truth, predicted, weights = emotion_rows(predictions, ties)
    confusion = np.zeros((size, metric.C, metric.C))
    np.add.at(confusion, (groups[rows], truth, predicted), weights)
    rows, hits = _top_hits(predictions)
    parts = [confusion.reshape(size, -1), _add_up(hits, groups[rows], size)]
    for head in ("arousal", "valence"):
        both = columns(predictions, (f"{head}_true", head))
        parts.append(_add_up(metric.moments(*both.T), groups, size))
    return np.concatenate(parts, axis=1)


def _top_hits(predictions: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Rows (M,) that the scores at k count, and for each (M, 5): 1, P@1, R@1, P@2, R@2."""
    truth, p = modal(predictions), columns(predictions, metric.PROBABILITIES)
    rows = np.flatnonzero(metric.has_top(truth, p))
    parts = [np.ones(len(rows)), *metric.hits(truth, p, 1), *metric.hits(truth, p, 2)]
    return rows, np.stack(parts, axis=1)


def _add_up(values: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """Rows added up by group: (N, K), (N,) -> (size, K)."""
    return np.stack([np.bincount(groups, v, minlength=size) for v in values.T], axis=1)


def rows_of(sums: np.ndarray, source: str) -> np.ndarray:
    """(..., 66) -> (...): how many rows the scores of this source count."""
    part = sums[..., PLACES[source]]
    return part.sum(-1) if source == "confusion" else part[..., 0]


def from_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Every score but the legacy ones: (..., 66) -> name -> (...)."""
    parts = {source: sums[..., place] for source, place in PLACES.items()}
    matrix, top = parts["confusion"].reshape(*sums.shape[:-1], metric.C, metric.C), parts["top"]
    result = {score.__name__: score(matrix) for score in metric.POOLED}
    for k in (1, 2):
        p, r = (metric.ratio(top[..., i], top[..., 0]) for i in (2 * k - 1, 2 * k))
        result |= {f"precision_at_{k}": p, f"recall_at_{k}": r, f"f1_at_{k}": metric.f1_of(p, r)}
    return result | {f"ccc_{h}": metric.ccc_from_moments(parts[h]) for h in ("arousal", "valence")}


def resampled(sums: np.ndarray, counts: np.ndarray, group: np.ndarray) -> dict[str, np.ndarray]:
    """Every score but the legacy ones of every resample: (..., G, 66) -> name -> (R, ...).

    `counts` (R, G) as from `draws`; `group` (G,) ids of the groups in which they were drawn. NaN
    for scores of which no group has rows of two dialogues.
    """
    sums = sums.copy()
    for source, place in PLACES.items():
        there = rows_of(sums, source).reshape(-1, len(group)).sum(0) > 0
        if np.bincount(group[there], minlength=1).max() < 2:
            sums[..., place] = 0
    return from_sums(np.tensordot(counts.astype(float), sums, (1, sums.ndim - 2)))


# --- one table ------------------------------------------------------------------------------


def bootstrap(
    predictions: Mapping, ties: str = TIES, resamples: int = BOOTSTRAP, seed: int = SEED
) -> dict[str, tuple[float, float]]:
    """Percentile interval of each of SCORES at `constants.CONFIDENCE`: name -> (low, high).

    Averages stay over the classes of the whole table; a resample that lacks one averages the rest.
    NaN where the score is undefined or fewer than two dialogues have rows for it.
    """
    groups = alignment.numbered(predictions, alignment.DIALOGUE)
    values = resampled_table(predictions, ties, draws((count_of(groups),), resamples, seed), groups)
    return {name: interval(values[name]) for name in SCORES}


def resampled_table(
    predictions: Mapping, ties: str, counts: np.ndarray, groups: np.ndarray
) -> dict[str, np.ndarray]:
    """Each of SCORES of every resample of a table's dialogues: name -> (R,).

    `counts` (R, G) as from `draws`, `groups` (N,) ids of dialogues 0..G-1.
    """
    parts = sums(predictions, ties, groups)
    return resampled(parts, counts, np.zeros(len(parts), int))


# --- two tables of the same rows ------------------------------------------------------------


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
    if score not in SCORES:
        raise UserError(f"no score {score!r}; there are: {', '.join(SCORES)}")
    b = _in_order_of(a, b)
    groups = alignment.numbered(a, alignment.DIALOGUE)
    counts = draws((count_of(groups),), resamples, seed)
    first, second = (scores_of(table, ties)[score] for table in (a, b))
    if first["n"] != second["n"]:
        raise UserError(
            f"{score} needs predictions for the same rows, "
            f"the first has them for {first['n']}, the second for {second['n']}"
        )
    x, y = (resampled_table(table, ties, counts, groups)[score] for table in (a, b))
    low, high = interval(x - y)
    values = {"a": first["value"], "b": second["value"]}
    values |= {"difference": first["value"] - second["value"], "low": low, "high": high}
    return values | {"n": first["n"]}


def _in_order_of(a: Mapping, b: Mapping) -> dict[str, np.ndarray]:
    """The rows of b in the order of a; a UserError where rows or truth differ."""
    keys = [alignment.keys(table) for table in (a, b)]
    for name, key in zip(("first", "second"), keys, strict=True):
        if key.has_duplicates:
            again = alignment.some(sorted(set(key[key.duplicated()])))
            raise UserError(f"each row must come once; the {name} run repeats {again}")
    rows = alignment.same_rows(*keys)
    if not rows.are_the_same:
        only = [sorted(side) for side in (rows.only_a, rows.only_b)]
        told = [alignment.some(side) if side else "no row" for side in only]
        raise UserError(
            f"both runs need the same test rows; only the first has {told[0]}, "
            f"only the second has {told[1]}"
        )
    b = alignment.select(b, rows.order)
    same = alignment.same_truth(*(alignment.truth(table) for table in (a, b)))
    if not same.all():
        differing = alignment.some(sorted(keys[0][~same]))
        raise UserError(f"both runs need the same truth; it differs in {differing}")
    return b

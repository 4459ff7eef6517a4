"""A table of seconds of videos, and the scores of highlights. NumPy only.

A row is a second: the columns corpus, role, segment (`<video>#<second>`), dialogue (the video),
`highlight` (the probability a model gave), `highlight_true` (in [0, 1]) and `marks` ("1;0;1", one
of each annotator; "": unknown). Rows without prediction or truth are left out. Every score stands
beside what needs no model, see `baselines.py`. Intervals and comparisons, other annotators and what
result.json holds are in `intervals.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from evaluation import alignment
from evaluation.predictions import column, columns
from metric import Score, ratio
from utils import UserError

BUDGET = 0.15  # share of a video: the middle of the 5..25 % that annotators of AI Hub 616 mark
POSITIVE = 0.5  # `highlight_true` from which a second is one; union and majority give 0 or 1
CELLS = 1 << 20  # seconds x resamples held at once: arrays of 8 MB

_BUDGET = "F1 of the best round(budget x n) seconds of each video, of equal ones the first"
_MEAN = "between the probability and the mean of the annotators"
SCORES = {
    "average_precision": Score("mean precision at the positives, ranked", 0, 1, "all", "rank"),
    "roc_auc": Score("share of pairs (positive, negative) in order", 0, 1, "all", "rank"),
    "f1": Score("F1 of the seconds at or above the threshold", 0, 1, "all", "threshold"),
    "f1_budget": Score(_BUDGET, 0, 1, "all", "budget"),
    "kendall": Score(f"Kendall's tau-b {_MEAN}", -1, 1, "marked", "annotators"),
    "spearman": Score(f"Spearman's rank correlation {_MEAN}", -1, 1, "marked", "annotators"),
    "positive_rate": Score("share of seconds that are highlights", 0, 1, "all", "truth"),
    "selected_rate": Score("share of seconds at or above it", 0, 1, "all", "threshold"),
}
# what the corpus's label rules make of the share of annotators that mark a second
RULES = {
    "union": lambda share: share > 0,
    "majority": lambda share: share > 0.5,
    "mean": lambda share: positive(share),
}


# --- a table ----------------------------------------------------------------------------------


class Seconds(NamedTuple):
    """The rows that count, by video and time, so that their order in a table changes nothing."""

    score: np.ndarray  # (N,) in [0, 1]
    truth: np.ndarray  # (N,) in [0, 1]
    marks: np.ndarray  # (N, annotators) 0 or 1, NaN: no such annotator
    video: np.ndarray  # (N,) ids 0..V-1
    second: np.ndarray  # (N,) s
    names: tuple[str, ...]  # of the V videos

    @property
    def positive(self) -> np.ndarray:
        return positive(self.truth)

    @property
    def share(self) -> np.ndarray:
        """(N,) of the annotators that mark a second; NaN where none is known."""
        return ratio(np.nansum(self.marks, 1), np.isfinite(self.marks).sum(1))


def positive(highlight_true: ArrayLike) -> np.ndarray:
    """Which seconds are highlights: (N,) in [0, 1] -> (N,) bool.

    >>> positive([0, 0.5, 1]).tolist()
    [False, True, True]
    """
    return np.asarray(highlight_true, float) >= POSITIVE


def seconds_of(table: Mapping) -> Seconds:
    """The rows with a prediction and a truth, sorted.

    UserError for a number outside [0, 1], a second that comes twice, or marks that are no 0 and 1.
    """
    numbers = columns(table, ("highlight", "highlight_true"))
    rows = np.flatnonzero(np.isfinite(numbers).all(1))
    segments = column(table, "segment")[rows]
    _within(numbers[rows], segments)
    kept = {name: column(table, name)[rows] for name in alignment.DIALOGUE}
    keys = list(zip(*(kept[name].astype(str).tolist() for name in alignment.DIALOGUE), strict=True))
    ids = {key: number for number, key in enumerate(sorted(set(keys)))}
    video = np.array([ids[key] for key in keys], int)
    second = np.array([_second(segment) for segment in segments], int)
    order = np.lexsort((second, video))
    video, second = video[order], second[order]
    twice = np.flatnonzero((np.diff(video) == 0) & (np.diff(second) == 0))
    if len(twice):
        raise UserError(f"each second must come once, {segments[order[twice[0]]]} comes twice")
    marks = _marks(column(table, "marks")[rows][order], video)
    return Seconds(*numbers[rows[order]].T, marks, video, second, tuple(key[-1] for key in ids))


def _within(numbers: np.ndarray, segments: np.ndarray) -> None:
    for name, values in zip(("highlight", "highlight_true"), numbers.T, strict=True):
        beyond = np.flatnonzero((values < 0) | (values > 1))
        if len(beyond):
            raise UserError(
                f"{name} must be in [0, 1], it is {values[beyond[0]]:g} in {segments[beyond[0]]}"
            )


def _second(segment: str) -> int:
    number = str(segment).rpartition("#")[2]
    if not number.isdecimal():
        raise UserError(f"a segment must be <video>#<second>, got {segment!r:.80}")
    return int(number)


def _marks(texts: np.ndarray, video: np.ndarray) -> np.ndarray:
    """ "1;0;1" of each second -> (N, most annotators of a video), NaN where a video has fewer."""
    texts = [_text(text) for text in texts]
    read = {text: text.split(";") if text else [] for text in set(texts)}
    for text, marks in read.items():
        if not {*marks} <= {"0", "1"}:
            raise UserError(f'marks must be 0 and 1 joined by ";", got {text!r:.80}')
    found = np.full((len(texts), max(map(len, read.values()), default=0)), np.nan)
    for row, text in enumerate(texts):
        found[row, : len(read[text])] = read[text]
    given = np.isfinite(found).sum(1)
    if np.any((np.diff(video) == 0) & (np.diff(given) != 0)):
        raise UserError("marks must be of the same annotators in all seconds of a video")
    return found


def _text(marks: object) -> str:
    """The marks of a second as text; single ones in a csv are numbers, and "" is NaN."""
    if isinstance(marks, str):
        return marks
    return "" if np.isnan(marks) else f"{marks:g}"


def video_of(seconds: Seconds, video: int) -> Seconds:
    """One video by itself."""
    rows = seconds.video == video
    arrays = (values[rows] for values in seconds[:5])
    part = Seconds(*arrays, (seconds.names[video],))
    return part._replace(video=np.zeros(rows.sum(), int))


# --- scores of a ranking ----------------------------------------------------------------------


def _ranking(seconds: Seconds, counts: np.ndarray) -> dict[str, np.ndarray]:
    """The scores that need no selection; counts (R, V): how often each video counts -> (R,) each.

    A row that counts c times is c rows. All of it comes from how many rows of which kind have each
    distinct probability, so nothing is sorted again in a resample.
    """
    order = np.argsort(-seconds.score, kind="stable")
    share, is_positive, video = (
        values[order] for values in (seconds.share, seconds.positive, seconds.video)
    )
    starts = np.flatnonzero(np.append(True, np.diff(seconds.score[order]) != 0)[: len(order)])
    shares = np.unique(share[np.isfinite(share)])
    found = []
    for some in _chunks(counts, len(order)):
        weights = some[:, video].astype(float)
        rows, right = (_by_level(w, starts) for w in (weights, weights * is_positive))
        cells = [_by_level(weights * (share == value), starts) for value in shares]
        cells = np.stack(cells or [np.zeros_like(rows)])
        both = _average_precision(right, rows), _roc_auc(right, rows)
        found.append([*both, *agreement(cells)])
    names = ("average_precision", "roc_auc", "kendall", "spearman")
    return dict(zip(names, np.concatenate(found, axis=1), strict=True))


def _chunks(counts: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    size = max(1, CELLS // max(rows, 1))
    return (counts[start : start + size] for start in range(0, len(counts), size))


def _by_level(weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(R, N) -> (R, L): added up over rows of one probability."""
    if len(starts) == weights.shape[1]:
        return weights
    return np.add.reduceat(weights, starts, axis=1)


def _average_precision(right: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sum of (recall gained x precision) over thresholds, as scikit-learn's; NaN: no positive.

    (R, L) positives and rows of each probability, highest first -> (R,) in [0, 1].
    """
    precision = np.cumsum(right, 1) / np.maximum(np.cumsum(rows, 1), 1)
    return ratio((right * precision).sum(1), right.sum(1))


def _roc_auc(right: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mann-Whitney's U / pairs, a tie counts half: (R,) in [0, 1]; NaN: one class is missing."""
    wrong = rows - right
    above = np.cumsum(right, 1) - right / 2
    return ratio((wrong * above).sum(1), right.sum(1) * wrong.sum(1))


def agreement(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kendall's tau-b and Spearman's rho, (R,) each in [-1, 1]; NaN where a side is constant.

    `cells` (K, R, L): rows of each share of annotators (ascending) and probability (descending).
    """
    rows, size = cells.sum(0), cells.sum(2)
    n = rows.sum(1)
    before = np.cumsum(cells, 2) - cells  # of each share, rows of a higher probability
    higher, lower = before.sum(0) - np.cumsum(before, 0), np.cumsum(before, 0) - before
    surplus = (cells * (higher - lower)).sum((0, 2))  # pairs in order less pairs against it
    untied = [(n**2 - (t**2).sum(axis)) / 2 for t, axis in ((rows, 1), (size, 0))]
    x = before.sum(0) + rows / 2 - n[:, None] / 2  # middle rank less its mean
    y = n / 2 - np.cumsum(size, 0) + size / 2
    together = (y * (cells * x).sum(2)).sum(0)
    spread = (rows * x**2).sum(1), (size * y**2).sum(0)
    return ratio(surplus, np.sqrt(untied[0] * untied[1])), ratio(
        together, np.sqrt(spread[0] * spread[1])
    )


# --- scores of a selection --------------------------------------------------------------------


def allowed(n: int, budget: float) -> int:
    """How many of n seconds may be selected: round(budget x n), a half to the even number.

    >>> allowed(60, 0.15)
    9
    """
    if not 0 < budget <= 1:
        raise UserError(f"a budget must be a share of the video above 0 and up to 1, got {budget}")
    return round(budget * n)


def best(score: ArrayLike, k: int) -> np.ndarray:
    """(N,), k -> (N,) bool: the k highest, of equal ones the first.

    >>> best([0.1, 0.7, 0.7, 0.9], 2).tolist()
    [False, True, False, True]
    """
    chosen = np.zeros(np.shape(score), bool)
    chosen[np.argsort(-np.asarray(score, float), kind="stable")[:k]] = True
    return chosen


def within_budget(seconds: Seconds, budget: float) -> np.ndarray:
    return each(seconds, lambda score: best(score, allowed(len(score), budget)))


def each(seconds: Seconds, choose: Callable) -> np.ndarray:
    """(N,) bool: `choose` of each video's scores."""
    ends = np.cumsum(np.bincount(seconds.video, minlength=len(seconds.names)))
    parts = np.split(seconds.score, ends[:-1]) if len(ends) else []
    return np.concatenate([np.zeros(0, bool), *(choose(part) for part in parts)])


def sums_of(seconds: Seconds, chosen: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """(V, 4): right, selected, positive, all seconds of each video."""
    kinds = (chosen & is_positive, chosen, is_positive, np.ones(len(chosen)))
    size = len(seconds.names)
    return np.stack([np.bincount(seconds.video, kind, minlength=size) for kind in kinds], axis=1)


def f1_of(sums: ArrayLike) -> np.ndarray:
    """2 right / (selected + positive) of summed (..., 4) -> (...), in [0, 1]; NaN: no positive.

    >>> float(f1_of([2, 4, 4, 60]))
    0.5
    """
    right, selected, positives = (np.asarray(sums, float)[..., i] for i in range(3))
    return np.where(positives > 0, ratio(2 * right, selected + positives), np.nan)


def threshold(validation: Mapping | None) -> float | None:
    """The probability from which F1 is best over all validation seconds, of equal ones the highest.

    Give it validation videos only, never tested rows. None: no such rows or no positive one.
    """
    if validation is None or not len(column(validation, "highlight")):
        return None
    seconds = seconds_of(validation)
    if not seconds.positive.any():
        return None
    order = np.argsort(-seconds.score, kind="stable")
    score, right = seconds.score[order], np.cumsum(seconds.positive[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + right[-1])
    last = np.append(np.diff(score) != 0, True)  # equal probabilities are selected together
    return float(score[np.where(last, f1, -1).argmax()])


# --- all scores, pooled and by video ------------------------------------------------------------


def scores(table: Mapping, threshold: float | None = None, budget: float = BUDGET) -> dict:
    """Every score of SCORES: name -> value, n, video_mean, video_n, undefined.

    "value" is pooled over all n seconds (for the annotators' scores those with marks), "video_mean"
    the mean over the video_n videos in which it is defined; "undefined" names the others. NaN: of
    F1 at no threshold, without positives, of AUC also without negatives, of tau and rho where a
    side is constant.
    """
    seconds = seconds_of(table)
    pooled, videos = values(seconds, threshold, budget), of_videos(seconds, threshold, budget)
    n = {"marked": int(np.isfinite(seconds.share).sum()), "all": len(seconds.score)}
    return {
        name: {"value": float(pooled[name][0]), "n": n[score.rows]}
        | _over_videos(videos[name], seconds.names)
        for name, score in SCORES.items()
    }


def _over_videos(values: np.ndarray, names: Sequence[str]) -> dict:
    missing = [names[i] for i in np.flatnonzero(np.isnan(values))]
    return {"video_mean": mean(values), "video_n": len(values) - len(missing), "undefined": missing}


def mean(values: ArrayLike) -> float:
    """The mean of the defined values; NaN if there are none."""
    values = np.asarray(values, float)
    return float(ratio(np.nansum(values), np.isfinite(values).sum()))


def values(
    seconds: Seconds, threshold: float | None, budget: float, counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Pooled scores where each video counts as often as counts (R, V) says: name -> (R,)."""
    counts = np.ones((1, len(seconds.names)), int) if counts is None else counts
    found = _ranking(seconds, counts)
    at_budget = sums_of(seconds, within_budget(seconds, budget), seconds.positive)
    at_threshold = np.full_like(at_budget, np.nan)
    if threshold is not None:
        at_threshold = sums_of(seconds, seconds.score >= threshold, seconds.positive)
    sums = counts @ at_threshold
    found |= {"f1": f1_of(sums), "f1_budget": f1_of(counts @ at_budget)}
    rows = counts @ at_budget[:, 3]
    found["positive_rate"] = ratio(counts @ at_budget[:, 2], rows)
    return found | {"selected_rate": ratio(sums[:, 1], rows)}


def of_videos(seconds: Seconds, threshold: float | None, budget: float) -> dict[str, np.ndarray]:
    """Scores of each video by itself: name -> (V,)."""
    parts = [values(video_of(seconds, i), threshold, budget) for i in range(len(seconds.names))]
    return {name: np.array([part[name][0] for part in parts], float) for name in SCORES}

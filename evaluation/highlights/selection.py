"""Which spans of a video to cut, from its probabilities by the second. NumPy only.

A span is (start, end) in whole seconds, its end exclusive. Scores of highlights are in
`scores.py`; pauses in speech and the cutting itself are in media/.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from evaluation.highlights.scores import allowed
from media.spans import true_spans
from metric import ratio
from utils import UserError

CLIP = 3  # s: a shorter clip cannot be followed
SMOOTHING = 3  # s
GAP = 2  # s: less between two clips is a flicker
DECIMALS = 9  # of a smoothed score, so that equal ones stay equal: 1e-9 is the least that counts
NEVER = -(1 << 62)  # the sum of what cannot be selected

Span = tuple[int, int]


def selected(
    score: ArrayLike,
    budget: float | None = None,
    threshold: float | None = None,
    top: int | None = None,
    clip: int = CLIP,
    smoothing: float = SMOOTHING,
    gap: int = GAP,
) -> list[Span]:
    """The spans to cut, sorted, `gap` or more apart, each `clip` s or more (or the whole video).

    `score` (N,) in [0, 1], one a second, is smoothed first, see `smoothed`. One of:
    budget     of all selections of round(budget x N) s at most, the one with the greatest sum of
               scores; of equal ones the first. Empty where not one clip fits
    threshold  every second at or above it; a shorter run grows to a clip, where scores are higher
    top        so many clips of `clip` s, the best first, fewer where no more fit
    """
    given = [value for value in (budget, threshold, top) if value is not None]
    if len(given) != 1:
        raise UserError(f"one of budget, threshold and top is needed, {len(given)} were given")
    if min(clip, gap) < 1:
        raise UserError(f"clip and gap must be 1 s or more, they are {clip} and {gap}")
    score = smoothed(score, smoothing)
    clip = min(clip, len(score))
    if not len(score):
        return []
    if budget is not None:
        return true_spans(_best_within(_gains(score), allowed(len(score), budget), clip, gap))
    if top is not None:
        return _best_clips(_gains(score), top, clip, gap)
    return true_spans(_from(score, threshold, clip, gap))


def smoothed(score: ArrayLike, smoothing: float = SMOOTHING) -> np.ndarray:
    """Centred moving average over `smoothing` s, at the ends over what is there: (N,) -> (N,).

    An even number of seconds counts the outer two by half; up to 1 s nothing changes.

    >>> smoothed([0, 0, 1, 0, 0], 3).round(2).tolist()
    [0.0, 0.33, 0.33, 0.33, 0.0]
    """
    score = np.asarray(score, float)
    if score.ndim != 1 or not ((score >= 0) & (score <= 1)).all():  # NaN too
        raise ValueError(f"scores must be (N,), known and in [0, 1], got {score!r:.80}")
    side = int(np.ceil((max(smoothing, 1) - 1) / 2))
    kernel = np.ones(2 * side + 1)
    if side:
        kernel[[0, -1]] = (max(smoothing, 1) - (2 * side - 1)) / 2
    padded, known = np.pad(score, side), np.pad(np.ones(len(score)), side)
    means = (np.convolve(part, kernel, "valid") for part in (padded, known))
    return np.round(np.divide(*means), DECIMALS) if len(score) else score


def _gains(score: np.ndarray) -> np.ndarray:
    """Whole numbers, whose sums are exact; above 0, so that a budget is filled."""
    return np.round(score * 10**DECIMALS).astype(np.int64) + 1


# --- a budget -----------------------------------------------------------------------------------


def _best_within(gain: np.ndarray, k: int, clip: int, gap: int) -> np.ndarray:
    """(N,) > 0 -> (N,) bool: runs of `clip` or more, `gap` or more apart, k s at most, best sum.

    By dynamic programming over seconds and what is spent: N x k steps, 2 bits remembered of each.
    """
    n, total = len(gain), np.append(0, np.cumsum(gain))
    none = np.full(k + 1, NEVER)
    runs = deque([none], maxlen=gap)  # best sums with a run that ends here, by seconds spent
    frees = deque([np.where(np.arange(k + 1) == 0, 0, NEVER)], maxlen=clip)  # a run may begin here
    longer, idle = [], []
    for i in range(1, n + 1):
        extended, started = none.copy(), none.copy()
        extended[1:] = runs[-1][:-1] + gain[i - 1]
        if len(frees) == clip <= k:
            started[clip:] = frees[0][: k + 1 - clip] + (total[i] - total[i - clip])
        resumed = runs[0] if len(runs) == gap else none
        longer.append(np.packbits(extended > started))
        idle.append(np.packbits(frees[-1] >= resumed))
        frees.append(np.maximum(frees[-1], resumed))
        runs.append(np.maximum(extended, started))
    ends = np.stack([frees[-1], *runs])  # nothing lies behind the last run: any gap will do
    end, spent = np.unravel_index(ends.argmax(), ends.shape)
    return _back(longer, idle, n if end == 0 else n - len(runs) + end, spent, end > 0, clip, gap)


def _back(
    longer: list, idle: list, i: int, spent: int, running: bool, clip: int, gap: int
) -> np.ndarray:
    """Which seconds were chosen up to second i, (N,) bool, read backwards."""
    chosen = np.zeros(len(idle), bool)
    while i > 0:
        if not running:
            running = not _bit(idle[i - 1], spent)
            i -= gap if running else 1
        else:
            running = _bit(longer[i - 1], spent)
            step = 1 if running else clip
            chosen[i - step : i] = True
            i, spent = i - step, spent - step
    return chosen


def _bit(packed: np.ndarray, place: int) -> bool:
    return bool(packed[place >> 3] >> (7 - (place & 7)) & 1)


# --- a threshold, or so many clips ----------------------------------------------------------------


def _from(score: np.ndarray, threshold: float, clip: int, gap: int) -> np.ndarray:
    chosen = score >= np.round(threshold, DECIMALS)
    sums = np.append(0, np.cumsum(_gains(score)))
    for start, end in true_spans(chosen):
        if end - start < clip:
            starts = np.arange(max(0, end - clip), min(start, len(score) - clip) + 1)
            start = starts[(sums[starts + clip] - sums[starts]).argmax()]
            chosen[start : start + clip] = True
    for (_, end), (start, _) in _pairs(true_spans(chosen)):
        if start - end < gap:
            chosen[end:start] = True
    return chosen


def _pairs(found: list[Span]) -> zip:
    return zip(found[:-1], found[1:], strict=True)


def _best_clips(gain: np.ndarray, top: int, clip: int, gap: int) -> list[Span]:
    if top < 1:
        raise UserError(f"top must be 1 clip or more, got {top}")
    sums = np.append(0, np.cumsum(gain))
    window = sums[clip:] - sums[:-clip]
    found = []
    while len(found) < top and (window >= 0).any():
        start = int(window.argmax())
        found.append((start, start + clip))
        window[max(0, start - clip - gap + 1) : start + clip + gap] = NEVER
    return sorted(found)


# --- spans and seconds ----------------------------------------------------------------------------


def iou(a: Sequence[Span] | np.ndarray, b: Sequence[Span] | np.ndarray) -> float:
    """Seconds in both / seconds in either, in [0, 1]; NaN where both are empty.

    Each is a list of spans or (N,) bool, one a second.

    >>> iou([(0, 4)], [(2, 6)])
    0.3333333333333333
    """
    a, b = (_seconds(side) for side in (a, b))
    return float(ratio(len(a & b), len(a | b)))


def _seconds(side: Sequence[Span] | np.ndarray) -> set[int]:
    if isinstance(side, np.ndarray) and side.dtype == bool:
        side = true_spans(side)
    return {second for start, end in side for second in range(start, end)}

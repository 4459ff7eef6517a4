"""What scores of highlights are worth: intervals, comparisons, annotators; and a report's part.

Tables, scores and baselines are in scores.py, what is cut in selection.py. Seconds of one video
are not independent: what is resampled is whole videos. NumPy and SciPy.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from constants import BOOTSTRAP, SEED
from evaluation import alignment
from evaluation.bootstrap import draws, interval
from evaluation.highlights import baselines, selection
from evaluation.highlights import scores as highlight_scores
from evaluation.highlights.scores import (
    BUDGET,
    RULES,
    SCORES,
    Seconds,
    agreement,
    best,
    f1_of,
    mean,
    of_videos,
    seconds_of,
    sums_of,
    values,
    video_of,
)
from evaluation.predictions import column
from evaluation.significance import bootstrap_p, holm, sign_flip
from metric import ratio
from utils import UserError, plain

RULE = "union"  # the corpus's first
HUMAN = ("f1", "kendall", "spearman")


# --- intervals ----------------------------------------------------------------------------------


class Scored(NamedTuple):
    """One score of one model."""

    value: float  # pooled over all seconds
    many: np.ndarray  # (R,) the same of each resample
    videos: np.ndarray  # (V,) of each video


def _scored(
    seconds: Seconds, threshold: float | None, budget: float, counts: np.ndarray
) -> dict[str, Scored]:
    pooled, many = (values(seconds, threshold, budget, c) for c in (None, counts))
    videos = of_videos(seconds, threshold, budget)
    return {name: Scored(float(pooled[name][0]), many[name], videos[name]) for name in SCORES}


def _intervals(one: Scored, counts: np.ndarray) -> dict[str, float]:
    """The ends of its intervals: pooled over seconds, and (video_*) of its mean over videos."""
    names = ("low", "high", "video_low", "video_high")
    ends = (*interval(one.many), *interval(_means(one.videos, counts)))
    return dict(zip(names, ends, strict=True))


def _means(of_videos: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over the drawn videos that have the score: (V,), (R, V) -> (R,)."""
    return ratio(counts @ np.nan_to_num(of_videos), counts @ np.isfinite(of_videos))


# --- two models on the same seconds ---------------------------------------------------------------


def paired(
    a: Mapping,
    b: Mapping,
    score: str = "average_precision",
    thresholds: tuple[float | None, float | None] = (None, None),
    budget: float = BUDGET,
    resamples: int = BOOTSTRAP,
    seed: int = SEED,
) -> dict:
    """Difference a - b of one score, both on the same drawn videos.

    Returns a, b, difference, low, high and p (`bootstrap_p`) of the pooled score, n seconds,
    and "video": difference (mean over videos), low, high, p (exact to `resamples` sign flips of the
    videos' differences, two-sided), better (videos in which a is) and n (videos that have both).
    Each needs its own threshold for F1. UserError if seconds or truth differ.
    """
    if score not in SCORES:
        raise UserError(f"no score {score!r}; there are: {', '.join(SCORES)}")
    sides = [seconds_of(table) for table in (a, b)]
    _refuse_others(*sides)
    counts = draws((len(sides[0].names),), resamples, seed)
    first, second = (
        _scored(side, own, budget, counts)[score]
        for side, own in zip(sides, thresholds, strict=True)
    )
    found = {"a": first.value, "b": second.value} | _difference(first, second, counts, seed)
    return found | {"n": len(sides[0].score)}


def compared(
    tables: Mapping[str, Mapping],
    score: str = "average_precision",
    pairs: Sequence[tuple[str, str]] | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    budget: float = BUDGET,
    resamples: int = BOOTSTRAP,
    seed: int = SEED,
) -> list[dict]:
    """`paired` of some named tables: a list of {"a", "b" (names), "comparison"}.

    `pairs` to be compared; None: all. Beside each p stands p_holm, corrected over the pairs, for
    the pooled score and for "video" each by itself.
    """
    thresholds = dict.fromkeys(tables) | dict(thresholds or {})
    found = []
    for a, b in itertools.combinations(tables, 2) if pairs is None else pairs:
        own = thresholds[a], thresholds[b]
        comparison = paired(tables[a], tables[b], score, own, budget, resamples, seed)
        found.append({"a": a, "b": b, "comparison": plain(comparison)})
    for tests in (
        [pair["comparison"] for pair in found],
        [pair["comparison"]["video"] for pair in found],
    ):
        for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = p
    return found


def _refuse_others(a: Seconds, b: Seconds) -> None:
    """Raise a UserError where two models judge other seconds, or of another truth."""
    keys = [_keys(side) for side in (a, b)]
    if not alignment.same_rows(*keys).are_the_same:
        raise UserError(
            f"both runs need the same seconds; the first has {len(a.score)} of {len(a.names)} "
            f"videos, the second {len(b.score)} of {len(b.names)}, not all of them the same"
        )
    truths = (pd.DataFrame({"truth": side.truth, "share": side.share}) for side in (a, b))
    differs = np.flatnonzero(~alignment.same_truth(*truths))
    if len(differs):
        place = differs[0]
        raise UserError(
            f"both runs need the same truth; it differs in {len(differs)} seconds, the first is "
            f"{a.names[a.video[place]]}#{a.second[place]:05d}"
        )


def _keys(seconds: Seconds) -> pd.Index:
    """Video, by number and name, and second of each row as one text."""
    places = zip(seconds.video, seconds.second, strict=True)
    return pd.Index([f"{i}\0{seconds.names[i]}\0{second}" for i, second in places], dtype=object)


def _difference(a: Scored, b: Scored, counts: np.ndarray, seed: int) -> dict:
    many, videos = a.many - b.many, a.videos - b.videos
    low, high = interval(many)
    video_low, video_high = interval(_means(videos, counts))
    known = videos[np.isfinite(videos)]
    return {
        "difference": a.value - b.value,
        "low": low,
        "high": high,
        "p": bootstrap_p(many),
        "video": {
            "difference": mean(videos),
            "low": video_low,
            "high": video_high,
            "p": sign_flip(known, len(counts), seed),
            "better": int((known > 0).sum()),
            "n": len(known),
        },
    }


# --- other annotators -----------------------------------------------------------------------------


def human(table: Mapping, rule: str = RULE) -> dict:
    """Agreement of each annotator with the others, and of the model with the same others.

    Leave-one-annotator-out: each annotator's marks are scored as a prediction, pooled over videos:
    "f1" against what the label rule makes of the others' marks, "kendall" and "spearman" against
    their mean. Each has
    "mean", "low" and "high" over annotators (their least and greatest, no interval) and "model",
    the mean of the model against the same others; for F1 it selects as many seconds of each video
    as the annotator did. Annotators are told apart by their place in `marks`. Other keys: rule,
    annotators, videos, undefined (names of the videos with fewer than two annotators). NaN where
    there is no such video, or where the others mark nothing.
    """
    if rule not in RULES:
        raise UserError(f"no label rule {rule!r}; there are: {', '.join(RULES)}")
    seconds = seconds_of(table)
    several = np.isfinite(seconds.marks).sum(1) >= 2
    defined = {*np.unique(seconds.video[several]).tolist()}
    found = {
        "rule": rule,
        "annotators": int(np.isfinite(seconds.marks[several]).any(0).sum()),
        "videos": len(defined),
        "undefined": [name for i, name in enumerate(seconds.names) if i not in defined],
    }
    each = [_left_out(seconds, several, place, rule) for place in range(found["annotators"])]
    return found | {name: _range([one[name] for one in each]) for name in HUMAN}


def _left_out(
    seconds: Seconds, several: np.ndarray, place: int, rule: str
) -> dict[str, tuple[float, float]]:
    """Score -> (of the annotator, of the model), against the other annotators."""
    rows = several & np.isfinite(seconds.marks[:, place])
    part = seconds._replace(**{name: getattr(seconds, name)[rows] for name in Seconds._fields[:5]})
    mark, n = part.marks[:, place] == 1, np.isfinite(part.marks).sum(1)
    others = (np.nansum(part.marks, 1) - mark) / (n - 1)
    truth = RULES[rule](others)
    as_many = np.zeros(len(mark), bool)
    for video in np.unique(part.video):
        own = part.video == video
        as_many[own] = best(part.score[own], int(mark[own].sum()))
    f1 = (float(f1_of(sums_of(part, chosen, truth).sum(0))) for chosen in (mark, as_many))
    taus, rhos = zip(*(_agreement(score, others) for score in (mark, part.score)), strict=True)
    return dict(zip(HUMAN, (tuple(f1), taus, rhos), strict=True))


def _agreement(score: ArrayLike, share: np.ndarray) -> tuple[float, float]:
    """Kendall's tau-b and Spearman's rho of (N,), (N,)."""
    levels, level = np.unique(-np.asarray(score, float), return_inverse=True)
    shares, place = np.unique(share, return_inverse=True)
    cells = np.zeros((len(shares), 1, len(levels)))
    np.add.at(cells, (place, 0, level), 1)
    tau, rho = agreement(cells)
    return float(tau[0]), float(rho[0])


def _range(each: Sequence[tuple[float, float]]) -> dict[str, float]:
    own, model = np.array(each, float).reshape(-1, 2).T
    known = own[np.isfinite(own)]
    low, high = (known.min(), known.max()) if len(known) else (np.nan, np.nan)
    return {"mean": mean(own), "low": float(low), "high": float(high), "model": mean(model)}


# --- what would be cut ----------------------------------------------------------------------------


def overlap(table: Mapping, budget: float | None = None, **how) -> dict[str, float]:
    """`iou` of the spans that `selection.selected` cuts and the true seconds: video -> [0, 1].

    `how`: threshold, top, clip, smoothing, gap. With neither budget, threshold nor top the budget
    is each video's own share of highlights; NaN then where it has none. A second that is not in the
    table has a probability of 0.
    """
    seconds = seconds_of(table)
    own = budget is None and not {"threshold", "top"} & how.keys()
    found = {}
    for video, name in enumerate(seconds.names):
        part = video_of(seconds, video)
        score, truth = np.zeros(part.second.max() + 1), np.zeros(part.second.max() + 1, bool)
        score[part.second], truth[part.second] = part.score, part.positive
        share = truth.mean() if own else budget
        if own and not truth.any():
            found[name] = float("nan")
        else:
            found[name] = selection.iou(selection.selected(score, share, **how), truth)
    return found


# --- the part of result.json ----------------------------------------------------------------------


def summary(
    tested: Mapping,
    threshold: float | None = None,
    budget: float = BUDGET,
    seed: int = SEED,
    rule: str = RULE,
    resamples: int = BOOTSTRAP,
) -> dict:
    """What result.json holds as "highlight"; undefined numbers are None.

    `threshold`: that of the validation videos, or None: then there is no F1 at one.
    Keys n (rows, videos, positive, without: rows without prediction or truth), threshold, budget,
    rule; scores: each as `scores.scores` has it, its percentile interval at `constants.CONFIDENCE`
    pooled (low, high) and by video (video_low, video_high), and "baselines", name -> value and
    video_mean; human; above: average_precision less the positive rate ("video": less what chance
    has in that video, which is above its rate) and f1 less that of "everything is a highlight", as
    in `paired`; interval_excludes_rate and beats_always_positive (is that interval, and is that
    difference, above 0), surely_beats_always_positive (its interval).
    """
    seconds = seconds_of(tested)
    counts = draws((len(seconds.names),), resamples, seed)
    scored = _scored(seconds, threshold, budget, counts)
    found = highlight_scores.scores(tested, threshold, budget)
    without = baselines.scores(tested, threshold, budget)
    for name, one in scored.items():
        found[name] |= _intervals(one, counts)
        found[name]["baselines"] = {b: has[name] for b, has in without.items() if name in has}
    above = _above(seconds, scored, counts, seed)
    return plain(
        {
            "n": _sizes(seconds, tested),
            "threshold": threshold,
            "budget": budget,
            "rule": rule,
            "scores": found,
            "human": human(tested, rule),
            "above": above,
            "interval_excludes_rate": _is_above(above["average_precision"]["low"]),
            "beats_always_positive": _is_above(above["f1"]["difference"]),
            "surely_beats_always_positive": _is_above(above["f1"]["low"]),
        }
    )


def _sizes(seconds: Seconds, tested: Mapping) -> dict[str, int]:
    rows = len(seconds.score)
    return {
        "rows": rows,
        "videos": len(seconds.names),
        "positive": int(seconds.positive.sum()),
        "without": len(column(tested, "segment")) - rows,
    }


def _above(
    seconds: Seconds, scored: Mapping[str, Scored], counts: np.ndarray, seed: int
) -> dict[str, dict]:
    """Differences of the model and of a score that knows nothing: score -> `_difference`."""
    sums = sums_of(seconds, np.ones(len(seconds.score), bool), seconds.positive)
    always = Scored(float(f1_of(sums.sum(0))), f1_of(counts @ sums), f1_of(sums))
    chance = baselines.random_average_precision(sums[:, 3], sums[:, 2])
    rate = scored["positive_rate"]._replace(videos=chance)
    return {
        "average_precision": _difference(scored["average_precision"], rate, counts, seed),
        "f1": _difference(scored["f1"], always, counts, seed),
    }


def _is_above(value: float) -> bool | None:
    return None if np.isnan(value) else bool(value > 0)

"""How sure a score is: bootstrap intervals, baselines, paired comparison. NumPy only.

A table of predictions is a DataFrame, or a dict of arrays, with the columns of predictions.csv;
all its rows are scored, so choose the rows (test, val, oof) before. What is resampled is whole
dialogues: utterances of one dialogue are not independent. What a score is stands in `metric.py`,
the part of result.json that all this fills in `summary.py`, probabilities in `calibration.py`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

import metric
from constants import BOOTSTRAP, CONFIDENCE, EMOTIONS, SEED, TIES
from utils import UserError, rng

KEY = ("corpus", "role", "segment")
DIALOGUE = ("corpus", "role", "dialogue")
TRUTH = (*metric.VOTES, "arousal_true", "valence_true")


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
    rows, truth, predicted, weights = metric.emotion_rows(predictions, ties)
    result = {"confusion": np.zeros((size, metric.C, metric.C))}
    np.add.at(result["confusion"], (groups[rows], truth, predicted), weights)
    rows, hits = _top_hits(predictions)
    result["top"] = _add_up(hits, groups[rows], size)
    for head in ("arousal", "valence"):
        both = metric.columns(predictions, (f"{head}_true", head))
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
    truth, p = metric.modal(predictions), metric.columns(predictions, metric.PROBABILITIES)
    rows = np.flatnonzero(metric.has_top(truth, p))
    parts = [np.ones(len(rows)), *metric.hits(truth, p, 1), *metric.hits(truth, p, 2)]
    return rows, np.stack(parts, axis=1)


def _add_up(values: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """(N, K), (N,) -> (size, K)."""
    return np.stack([np.bincount(groups, v, minlength=size) for v in values.T], axis=1)


def numbered(predictions: Mapping, names: Iterable[str]) -> np.ndarray:
    """(N,) ids 0, 1, ... of the distinct values of some columns, in order of appearance."""
    ids: dict[tuple, int] = {}
    return np.array([ids.setdefault(key, len(ids)) for key in _keys(predictions, names)], int)


def _keys(predictions: Mapping, names: Iterable[str]) -> list[tuple]:
    return list(zip(*(metric.column(predictions, name).tolist() for name in names), strict=True))


# --- baselines: the majority, the prior ------------------------------------------------------


def majority_class(labels: Iterable[str]) -> str:
    """The emotion most rows have ("" if none has one); a tied row counts in equal parts, "a;b".

    Give it the `emotion` column of the training utterances. Equal counts: the lower id.

    >>> majority_class(["sad;angry", "angry", "happy", ""])
    'angry'
    """
    counts = class_counts(labels)
    return EMOTIONS[int(counts.argmax())] if counts.any() else ""


def class_counts(labels: Iterable[str]) -> np.ndarray:
    """Rows of each emotion, (7,); a tied row counts in equal parts, an unlabelled one nowhere.

    >>> class_counts(["sad;angry", "angry", "happy", ""])
    array([0. , 1.5, 0.5, 0. , 0. , 0. , 1. ])
    """
    hot = metric.multi_hot(list(labels))
    labelled = hot[hot.any(1)]
    return (labelled / labelled.sum(1, keepdims=True)).sum(0)


def majority(
    predictions: Mapping,
    emotion: str | None = None,
    arousal: float | None = None,
    valence: float | None = None,
) -> Mapping:
    """The same rows, with one constant answer: a copy of `predictions` to be scored like a model.

    `emotion`: the `majority_class` of the training rows; None takes that of these rows. `arousal`,
    `valence` 1..5: training means; None takes those of these rows (the CCC of a constant is 0).
    Where the model gave no prediction the baseline gives none, so both count the same rows.
    """
    baseline = predictions.copy()
    if emotion is None:
        emotion = majority_class(metric.column(predictions, "emotion_true"))
    ids = metric.label_ids([emotion])[0]
    baseline["emotion"] = _answered(predictions, emotion)
    for i, name in enumerate(metric.PROBABILITIES):
        baseline[name] = _where_given(predictions, name, float(i in ids) if ids else np.nan)
    for head, value in (("arousal", arousal), ("valence", valence)):
        truth = metric.columns(predictions, (f"{head}_true",))
        known = truth[np.isfinite(truth)]
        value = known.mean() if value is None and len(known) else value
        baseline[head] = _where_given(predictions, head, np.nan if value is None else value)
    return baseline


def prior_confusion(predictions: Mapping, ties: str, class_counts: ArrayLike) -> np.ndarray:
    """Expected confusion matrix of answers drawn from the training labels, (7, 7); rows truth.

    `class_counts` (7,) of the training rows, see `class_counts`; not negative, not all 0. The rows
    are those of the model's scores, so its accuracy here is the mean of a random guesser's.
    """
    counts = np.asarray(class_counts, float)
    if counts.shape != (metric.C,) or not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise ValueError(f"class_counts must be {metric.C} counts, not all 0, got {class_counts!r}")
    expected = np.zeros((metric.C, metric.C))
    for emotion, share in zip(EMOTIONS, counts / counts.sum(), strict=True):
        answered = _answered(predictions, emotion)
        counted = metric.emotion_rows({**predictions, "emotion": answered}, ties)[1:]
        expected += share * metric.confusion(*counted)
    return expected


def _answered(predictions: Mapping, emotion: str) -> np.ndarray:
    """The column of an answer that is always the same, where the model gave one."""
    given = [len(label) > 0 for label in metric.label_ids(metric.column(predictions, "emotion"))]
    return np.where(given, emotion, "").astype(object)


def _where_given(predictions: Mapping, name: str, value: float) -> np.ndarray:
    given = metric.columns(predictions, (name,))[:, 0]
    return np.where(np.isfinite(given), value, np.nan)


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
    b = _aligned(a, b)
    groups = numbered(a, DIALOGUE)
    counts = draws(groups, resamples, seed)
    first, second = (metric.scores(table, ties)[score] for table in (a, b))
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


def select(predictions: Mapping, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The given rows (ids or a mask) of a table, as a dict of arrays."""
    return {name: np.asarray(predictions[name])[rows] for name in predictions}


def _aligned(a: Mapping, b: Mapping) -> dict[str, np.ndarray]:
    """The rows of b in the order of a."""
    keys_a, keys_b = _keys(a, KEY), _keys(b, KEY)
    for name, keys in (("first", keys_a), ("second", keys_b)):
        repeated = {key for key, times in Counter(keys).items() if times > 1}
        if repeated:
            raise UserError(f"each row must come once; the {name} run repeats {_some(repeated)}")
    only = (set(keys_a) - set(keys_b), set(keys_b) - set(keys_a))
    if any(only):
        raise UserError(
            f"both runs need the same test rows; only the first has {_some(only[0])}, "
            f"only the second has {_some(only[1])}"
        )
    place = {key: row for row, key in enumerate(keys_b)}
    aligned = select(b, np.array([place[key] for key in keys_a], int))
    _same_truth(a, aligned, keys_a)
    return aligned


def _same_truth(a: Mapping, b: Mapping, keys: list[tuple]) -> None:
    labels = (metric.label_ids(metric.column(table, "emotion_true")) for table in (a, b))
    numbers = (metric.columns(table, TRUTH) for table in (a, b))
    differs = np.array([x != y for x, y in zip(*labels, strict=True)], bool)
    differs |= ~np.isclose(*numbers, equal_nan=True).all(1)
    differs |= np.array(
        [x != y for x, y in zip(_keys(a, DIALOGUE), _keys(b, DIALOGUE), strict=True)]
    )
    if differs.any():
        rows = {keys[row] for row in np.flatnonzero(differs)}
        raise UserError(f"both runs need the same truth; it differs in {_some(rows)}")


def _some(keys: set[tuple], limit: int = 3) -> str:
    """'no row', or how many rows and the first few of them."""
    names = [" ".join(map(str, key)) for key in sorted(keys)]
    more = ", ..." if len(names) > limit else ""
    return f"{len(names)} rows ({', '.join(names[:limit])}{more})" if names else "no row"

"""Several runs beside each other, with evidence: tables of folds and seeds, and paired tests.

A row of a table is a named list of finished runs that differ in fold (test
sessions) and seed only; which runs make a row is the caller's to say. Scores stand in
`metric.py`, intervals of one run in `bootstrap.py`. NumPy, pandas and SciPy only. Undefined
numbers are None, so everything returned can be written as JSON.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

import metric
import utils
from constants import BOOTSTRAP, EMOTIONS, SEED, TIES
from evaluation import alignment, baselines, bootstrap
from evaluation import predictions as tables
from evaluation.bootstrap import PLACES
from evaluation.finished_runs import Pool, Run, pool_of, refuse_other_truth, resampled, table_of
from evaluation.predictions import emotion_rows, scores_of
from evaluation.result import baseline
from evaluation.significance import bootstrap_p, holm
from utils import UserError

COLUMNS = ("speaker", "session", "kind", "role")  # what rows may be told apart `by`
BY = ("accuracy", "uar", "macro_f1", "legacy_f1", "ccc_arousal", "ccc_valence")
COMPARED = ("macro_f1", "uar", "ccc_arousal", "ccc_valence")  # tested by the paired bootstrap
SAME = 1e-9  # two shares of right seeds or votes that differ by less are equal


# --- one row ----------------------------------------------------------------------------------


def row(
    name: str, runs: Sequence[Run], ties: str = TIES, resamples: int = BOOTSTRAP, seed: int = SEED
) -> dict:
    """A row of a table: the scores of some runs together, as comparison.json holds them.

    Keys name, ties, trials, seeds, n, complete, classes, scores.

    Each of `metric.SCORES` has "values" (one a run), "mean" and "sd" (ddof 1) over runs;
    "pooled" over all folds, mean over seeds, its interval "low" and "high", "n" utterances;
    "baseline", "baseline_low", "baseline_high": the same of the majority baseline, each run
    answering its own training majority and training means; "prior": the emotion scores of the
    expected confusion matrix of answers drawn from the training labels, None for other scores.
    A run that tests rows of one corpus knows the labels of that corpus, as `result.known_of`.

    The `legacy_*` scores belong to one test file: "pooled" is the mean of the runs' values, and
    there is no interval. Intervals speak of other dialogues, sd of other seeds and folds. They are
    None where no session has two dialogues, baselines where a configuration does not say what was
    trained on, means where a run has no value. "complete": every seed tests the same rows.
    UserError if two runs test the same utterance with the same seed, or disagree on its truth.
    """
    pool = pool_of(runs, ties)
    singles = [scores_of(run.predictions, ties) for run in runs]
    values = {score: [single[score]["value"] for single in singles] for score in metric.SCORES}
    own = _intervals(pool, values, resamples, seed)
    baseline = _baseline(runs, ties, resamples, seed)
    prior = _prior(runs, ties)
    scores = {
        score: {"values": values[score], "mean": _mean(values[score]), "sd": _sd(values[score])}
        | dict(zip(("pooled", "low", "high"), own[score], strict=True))
        | {"n": len(np.unique(pool.utterance[pool.known[kind.source]]))}
        | dict(zip(("baseline", "baseline_low", "baseline_high"), baseline[score], strict=True))
        | {"prior": prior.get(score)}
        for score, kind in metric.SCORES.items()
    }
    return utils.plain({"name": name, "ties": ties} | _contents(runs, pool) | {"scores": scores})


def _contents(runs: Sequence[Run], pool: Pool) -> dict:
    """The runs, seeds, numbers of rows and classes of a row."""
    per_seed = [set(pool.utterance[pool.seed == seed]) for seed in np.unique(pool.seed)]
    support = pool.sums[:, PLACES["confusion"]].sum(0).reshape(metric.C, metric.C).sum(1)
    return {
        "trials": [
            {
                "folder": str(run.folder),
                "seed": run.configuration.seed,
                "sessions": _sessions(run.predictions),
                "n": len(run.predictions),
            }
            for run in runs
        ],
        "seeds": np.unique(pool.seed).tolist(),
        "n": {
            "trials": len(runs),
            "rows": len(pool.utterances),
            "dialogues": len(pool.dialogues),
            "sessions": len({name[:2] for name in pool.dialogues}),
        },
        "complete": all(rows == per_seed[0] for rows in per_seed),
        "classes": [e for e, n in zip(EMOTIONS, np.ravel(support), strict=True) if n > 0],
    }


def _sessions(predictions: pd.DataFrame) -> list:
    return sorted(map(_number, set(predictions["session"])), key=_order)


def _intervals(
    pool: Pool, values: Mapping[str, list[float]], resamples: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Pooled value, low and high of every score; legacy scores have no interval."""
    found = resampled(pool, np.ones(len(pool.utterance), bool), resamples, seed)
    legacy = {name: (_mean(values[name]), np.nan, np.nan) for name in metric.LEGACY}
    return legacy | {
        name: (found.value[name], *bootstrap.interval(many))
        for name, many in found.resampled.items()
    }


def _baseline(
    runs: Sequence[Run], ties: str, resamples: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """`_intervals` of the majority baseline; NaN if a run does not say what its majority was."""
    if not all(run.configuration.majority for run in runs):
        return dict.fromkeys(metric.SCORES, (np.nan, np.nan, np.nan))
    constant = [run._replace(predictions=_constant(run)) for run in runs]
    singles = [scores_of(run.predictions, ties) for run in constant]
    values = {name: [single[name]["value"] for single in singles] for name in metric.LEGACY}
    return _intervals(pool_of(constant, ties), values, resamples, seed)


def _constant(run: Run) -> pd.DataFrame:
    """The test rows with the constant answers of the majority baseline.

    A head without truth in training gets none: the mean of test rows is not known then.
    """
    majority = run.configuration.majority
    means = {"arousal": majority.arousal, "valence": majority.valence}
    means = {name: np.nan if mean is None else mean for name, mean in means.items()}
    emotion = baseline(run.configuration, run.predictions)[0]
    return baselines.majority(run.predictions, emotion or "", **means)


def _prior(runs: Sequence[Run], ties: str) -> dict[str, float]:
    """Emotion scores of the expected confusion matrix, mean over seeds; {} where undefined."""
    matrices: dict[int, np.ndarray] = {}
    for run in runs:
        counts = baseline(run.configuration, run.predictions)[1]
        if not np.any(counts or 0):
            return {}
        expected = baselines.prior_confusion(run.predictions, ties, counts)
        seed = run.configuration.seed
        matrices[seed] = matrices.get(seed, 0) + expected
    return {
        score.__name__: float(np.mean([score(matrix) for matrix in matrices.values()]))
        for score in metric.POOLED
    }


def sessions_by_corpus(predictions: pd.DataFrame) -> dict[str, list]:
    """The sessions of each corpus, in the order in which the corpora come."""
    return {
        corpus: _sessions(rows)
        for corpus, rows in predictions.groupby("corpus", sort=False)[["session"]]
    }


def by_corpus(
    runs: Sequence[Run], ties: str = TIES, resamples: int = BOOTSTRAP, seed: int = SEED
) -> dict[str, dict]:
    """Of each corpus that is tested: `row` of its rows alone, but for what it is made of.

    "majority": the emotions that the baseline answers there, one if all runs have the same.
    """
    named = dict.fromkeys(name for run in runs for name in run.predictions["corpus"])
    found = {}
    for name in named:
        parts = [part for run in runs if len((part := _only(run, name)).predictions)]
        answers = (baseline(part.configuration, part.predictions)[0] for part in parts)
        alone = row(name, parts, ties, resamples, seed)
        found[name] = {key: alone[key] for key in ("n", "complete", "classes", "scores")}
        found[name]["majority"] = sorted({answer for answer in answers if answer})
    return found


def _only(run: Run, corpus: str) -> Run:
    rows = run.predictions[run.predictions["corpus"] == corpus]
    return run._replace(predictions=rows.reset_index(drop=True))


def by(runs: Sequence[Run], column: str, ties: str = TIES) -> list[dict]:
    """Scores of the speakers, sessions, kinds or roles by themselves, sorted.

    Each: corpus, the column, n (utterances), n_emotion (those in the emotion scores), the scores
    in BY, pooled over folds and averaged over the seeds that test it, and the classes in the
    truth, over which UAR and macro-F1 are means. legacy_f1 takes the pooled rows in file order.
    Rows without a value are left out.
    """
    if column not in COLUMNS:
        raise UserError(
            f"no column {column!r} to tell rows apart by; there are: {', '.join(COLUMNS)}"
        )
    pool_of(runs, ties)  # refuses what must not be pooled
    frame, run = table_of(runs)
    seed = np.array([t.configuration.seed for t in runs])[run]
    named = zip(frame["corpus"], tables.column(frame, column), strict=True)
    keys = [(c, _number(v)) if pd.notna(v) and v != "" else None for c, v in named]
    rows: dict[tuple, list[int]] = {}
    for place, key in enumerate(keys):
        rows.setdefault(key, []).append(place)
    rows.pop(None, None)
    ordered = sorted(rows, key=lambda key: (key[0], _order(key[1])))
    return [
        {"corpus": key[0], column: key[1]} | _group(frame.iloc[rows[key]], seed[rows[key]], ties)
        for key in ordered
    ]


def _group(frame: pd.DataFrame, seed: np.ndarray, ties: str) -> dict:
    found = [scores_of(frame[seed == s], ties) for s in np.unique(seed)]
    rows, truth = emotion_rows(frame, ties)[:2]
    key = list(alignment.KEY)
    result = {"n": len(frame[key].drop_duplicates())}
    result["n_emotion"] = len(frame.iloc[np.unique(rows)][key].drop_duplicates())
    result |= {name: _mean([scores[name]["value"] for scores in found]) for name in BY}
    return utils.plain(result | {"classes": [EMOTIONS[i] for i in np.unique(truth)]})


# --- two rows ---------------------------------------------------------------------------------


def compare(
    a: Sequence[Run],
    b: Sequence[Run],
    ties: str = TIES,
    resamples: int = BOOTSTRAP,
    seed: int = SEED,
) -> dict | None:
    """The differences of two rows, tested; None if their roles differ or no test row is in common.

    Predictions are joined by (corpus, role, segment, seed). If no seed is in common, all seeds of
    a row are averaged instead, on the utterances both rows test. Returns n_common, left_out_a,
    left_out_b (utterances), seeds_a, seeds_b and

    "scores": for each of COMPARED a, b and their difference, pooled, mean over seeds; low, high
    and p of the paired bootstrap over dialogues within sessions, see `bootstrap_p`. None where a
    and b do not predict the same rows.
    "mcnemar": exact McNemar test of the emotion decisions on the rows `ties` keeps: n, a_better,
    b_better (discordant rows), p. With several seeds a row counts for the one that is right in
    the greater share of them, with soft ties for the one that more votes agree with; equal rows
    do not count. It takes utterances as independent, which within a dialogue they are not: where
    it and the bootstrap differ, trust the bootstrap.

    UserError if a and b disagree on the truth of a common row.
    """
    return _compare(pool_of(a, ties), pool_of(b, ties), resamples, seed)


def _compare(a: Pool, b: Pool, resamples: int, seed: int) -> dict | None:
    if _roles(a) != _roles(b):
        return None
    places = a.utterances.get_indexer(b.utterances)  # (U of b,) in a; -1: not there
    common = np.flatnonzero(places >= 0)
    if not len(common):
        return None
    refuse_other_truth(a.truth.iloc[places[common]], b.truth.iloc[common], b.utterances[common])
    joined = _join(a, b, places)
    there = np.unique(a.utterance[joined.used_a])
    return utils.plain(
        {
            "n_common": len(there),
            "left_out_a": len(a.utterances) - len(there),
            "left_out_b": len(b.utterances) - len(there),
            "seeds_a": np.unique(a.seed[joined.used_a]).tolist(),
            "seeds_b": np.unique(b.seed[joined.used_b]).tolist(),
            "scores": _differences(a, b, joined, resamples, seed),
            "mcnemar": _mcnemar(a, b, joined, places),
        }
    )


def _roles(pool: Pool) -> set[str]:
    return {key.split("\0")[1] for key in pool.utterances}


class _Joined(NamedTuple):
    """Which predictions of a and b are compared, (N,) bool, and what they are joined by, (N,)."""

    used_a: np.ndarray
    used_b: np.ndarray
    keys_a: np.ndarray  # equal where a prediction of a and one of b belong together
    keys_b: np.ndarray


def _join(a: Pool, b: Pool, places: np.ndarray) -> _Joined:
    """Join predictions by utterance and seed; by utterance alone if they have no seed in common."""
    seeds = np.unique(np.concatenate([a.seed, b.seed]))
    ids = (a.utterance, places[b.utterance])  # below 0: not in a
    places = (np.searchsorted(seeds, pool.seed) for pool in (a, b))
    keys = [u * len(seeds) + place for u, place in zip(ids, places, strict=True)]
    keys = keys if np.isin(*keys).any() else ids
    return _Joined(np.isin(keys[0], keys[1]), np.isin(keys[1], keys[0]), *keys)


def _differences(a: Pool, b: Pool, joined: _Joined, resamples: int, seed: int) -> dict:
    first = resampled(a, joined.used_a, resamples, seed)
    second = resampled(b, joined.used_b, resamples, seed)
    found = {}
    for name in COMPARED:
        source = metric.SCORES[name].source
        x = np.unique(joined.keys_a[joined.used_a & a.known[source]])
        y = np.unique(joined.keys_b[joined.used_b & b.known[source]])
        found[name] = dict.fromkeys(("a", "b", "difference", "low", "high", "p", "n"))
        if np.array_equal(x, y):
            difference = first.resampled[name] - second.resampled[name]
            found[name] = {"a": first.value[name], "b": second.value[name]}
            found[name]["difference"] = first.value[name] - second.value[name]
            found[name] |= dict(zip(("low", "high"), bootstrap.interval(difference), strict=True))
            found[name]["p"] = bootstrap_p(difference)
            rows = a.utterance[joined.used_a & a.known[source]]
            found[name]["n"] = len(np.unique(rows))
    return found


def _mcnemar(a: Pool, b: Pool, joined: _Joined, places: np.ndarray) -> dict | None:
    """The exact test of the emotion decisions; None where there is no common row."""
    known_a, known_b = joined.used_a & a.known["confusion"], joined.used_b & b.known["confusion"]
    known_a &= np.isin(joined.keys_a, joined.keys_b[known_b])
    known_b &= np.isin(joined.keys_b, joined.keys_a[known_a])
    size = len(a.utterances)
    share_a = _share_right(a.utterance[known_a], a.right[known_a], size)
    share_b = _share_right(places[b.utterance[known_b]], b.right[known_b], size)
    gain = share_a - share_b
    if not (n := int((~np.isnan(gain)).sum())):
        return None
    better = (int((gain > SAME).sum()), int((gain < -SAME).sum()))
    p = float(stats.binomtest(better[0], sum(better)).pvalue) if sum(better) else 1.0
    return {"n": n, "a_better": better[0], "b_better": better[1], "p": p}


def _share_right(utterance: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    """(M,) utterances and how right the seeds are -> (size,) means, NaN without a seed."""
    total = np.bincount(utterance, right, minlength=size)
    return metric.ratio(total, np.bincount(utterance, minlength=size))


# --- a table ----------------------------------------------------------------------------------


def pairs(
    rows: Mapping[str, Sequence[Run]],
    ties: str = TIES,
    resamples: int = BOOTSTRAP,
    seed: int = SEED,
) -> list[dict]:
    """Every pair of rows of a table, in order: "a", "b" (names) and "comparison" as `compare`.

    Each "p" has beside it "p_holm", corrected over all pairs of the table that have one,
    separately for each score's bootstrap and for McNemar's test.
    """
    pools = {name: pool_of(runs, ties) for name, runs in rows.items()}
    found = []
    for a, b in itertools.combinations(pools, 2):
        try:
            comparison = _compare(pools[a], pools[b], resamples, seed)
        except UserError as error:
            raise UserError(f"{a} and {b} cannot be compared: {error}") from error
        found.append({"a": a, "b": b, "comparison": comparison})
    compared = [pair["comparison"] for pair in found if pair["comparison"] is not None]
    for name in COMPARED:
        _correct([comparison["scores"][name] for comparison in compared])
    _correct([c["mcnemar"] for c in compared if c["mcnemar"] is not None])
    return found


def _correct(tests: Sequence[dict]) -> None:
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p


# --- numbers ----------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _number(name: object) -> object:
    """A session as a number, where it is written as one."""
    return int(name) if str(name).isdecimal() else str(name)


def _order(name: object) -> tuple:
    return (0, name, "") if isinstance(name, int) else (1, 0, name)

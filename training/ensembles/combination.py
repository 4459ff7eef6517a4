"""Several predictions of the same rows made one: joined, averaged, voted or stacked.

Call the parts from a notebook; an ensemble as a run, with its folder, is in `ensemble.py`, what
can be learnt in `stacking.py`. Nothing is learnt from rows that are tested: the caller gives rows
of the set "oof" (out-of-fold) or "val". NumPy and pandas, no torch, no files.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

import constants
import metric
from evaluation import alignment
from evaluation.predictions import columns, label_ids
from training.ensembles import stacking
from utils import UserError

TIE = 1e-3  # what mean probabilities weigh in the shares of a vote
METHODS = ("soft", "weighted", "hard", "stack")
FOLDS = 5  # groups of sessions that a stacker is judged on, when there are as many


class Joined(NamedTuple):
    """What M members say of the same N rows; NaN where a member has no such head."""

    table: pd.DataFrame  # (N, ...) the first member's rows: ids and truth
    p: np.ndarray  # (M, N, 7) probabilities, rows sum to 1
    label: np.ndarray  # (M, N) the emotion each answers, -1 for none
    scales: dict[str, np.ndarray]  # "arousal", "valence" -> (M, N), 1..5

    @property
    def votes(self) -> np.ndarray:
        """(N, 7), NaN where there are none."""
        return columns(self.table, metric.VOTES)

    @property
    def emotional(self) -> np.ndarray:
        """Which members predict emotion: (M,) bool."""
        return np.isfinite(self.p).all((1, 2))

    def rows(self, chosen: np.ndarray) -> "Joined":
        """Some of the rows."""
        scales = {name: values[:, chosen] for name, values in self.scales.items()}
        table = self.table.iloc[chosen].reset_index(drop=True)
        return Joined(table, self.p[:, chosen], self.label[:, chosen], scales)


class Combination(NamedTuple):
    """How members become one; JSON holds all of it."""

    method: str
    weights: list[float] | None = None  # one a member, 0 and more, sum 1; None: all alike
    stacker: dict | None = None  # see `stacking.fit`


# --- joining --------------------------------------------------------------------------------------


def join(tables: Mapping[str, pd.DataFrame]) -> Joined:
    """Predictions of several members, by name, joined by (corpus, role, segment).

    Rows come in the order of the first table. UserError where members judge other roles, other
    rows or a row twice, disagree on the truth, or leave some of the rows without a prediction.
    """
    tables = {name: table.reset_index(drop=True) for name, table in tables.items()}
    (first, table), *others = tables.items()
    _check_roles(tables)
    keys = {name: _keys(name, table) for name, table in tables.items()}
    for name, other in others:
        order = _order(first, keys[first], name, keys[name])
        tables[name] = other.iloc[order].reset_index(drop=True)
        _check_truth(first, table, name, tables[name], keys[first])
    p = [_probabilities(name, table) for name, table in tables.items()]
    label = [[ids[0] if ids else -1 for ids in label_ids(t["emotion"])] for t in tables.values()]
    scales = {
        head: np.stack([_scale(name, table, head) for name, table in tables.items()])
        for head in constants.SCALES
    }
    return Joined(table, np.stack(p), np.array(label, int).reshape(len(p), -1), scales)


def _keys(name: str, table: pd.DataFrame) -> pd.Index:
    keys = alignment.keys(table)
    if keys.has_duplicates:
        again = alignment.some(keys[keys.duplicated()])
        raise UserError(f"a member must judge a row once; {name} judges again {again}")
    return keys


def _check_roles(tables: Mapping[str, pd.DataFrame]) -> None:
    roles = {name: sorted(set(table["role"].astype(str))) for name, table in tables.items()}
    if len({tuple(found) for found in roles.values()}) > 1:
        told = "; ".join(f"{name}: {', '.join(found)}" for name, found in roles.items())
        raise UserError(f"members must judge the same role, they judge others ({told})")


def _order(first: str, a: pd.Index, name: str, b: pd.Index) -> np.ndarray:
    """(N,) the place of each row of the first member among those of another."""
    rows = alignment.same_rows(a, b)
    if not rows.are_the_same:
        told = [
            f"{alignment.some(keys)} only in {who}"
            for keys, who in ((rows.only_a, first), (rows.only_b, name))
            if len(keys)
        ]
        raise UserError(
            f"members must judge the same rows, {first} has {len(a)}, {name} "
            f"{len(b)}: {'; '.join(told)}"
        )
    return rows.order


def _check_truth(first: str, a: pd.DataFrame, name: str, b: pd.DataFrame, keys: pd.Index) -> None:
    same = alignment.same_truth(*(alignment.truth(table) for table in (a, b)))
    if not same.all():
        raise UserError(
            f"members must have the same truth; that of {first} and {name} differs in "
            f"{alignment.some(keys[~same])}"
        )


def _probabilities(name: str, table: pd.DataFrame) -> np.ndarray:
    """(N, 7), each row made to sum to 1; all NaN for a member without that head."""
    p = columns(table, metric.PROBABILITIES)
    if not len(p) or np.isnan(p).all():
        return p
    bad = ~(np.isfinite(p).all(1) & (p >= 0).all(1) & (p.sum(1) > 0))
    _refuse(name, table, bad, "a probability of each emotion")
    return p / p.sum(1, keepdims=True)


def _scale(name: str, table: pd.DataFrame, head: str) -> np.ndarray:
    values = columns(table, (head,))[:, 0]
    if not np.isnan(values).all():
        _refuse(name, table, ~np.isfinite(values), head)
    return values


def _refuse(name: str, table: pd.DataFrame, bad: np.ndarray, what: str) -> None:
    if bad.any():
        rows = alignment.some(alignment.keys(table)[bad])
        raise UserError(f"{name} must predict {what} in every row or in none; not so in {rows}")


# --- combining ------------------------------------------------------------------------------------


def combine(joined: Joined, how: Combination) -> pd.DataFrame:
    """The table of the first member with the predictions of all: p_0..p_6, emotion, scales.

    soft: mean of the probabilities. weighted: their mean with weights. hard: probabilities are
    shares of the (weighted) votes; equal shares are decided by the mean probability. stack: what
    the stacker says. Scales: (weighted) means. Members without a head have no say in it.
    """
    table = joined.table.drop(columns="confidence", errors="ignore").copy()
    weights = _weights(how, len(joined.p))
    if (has := joined.emotional).any():
        p, answer = _emotion(joined, how, weights, has)
        table[list(metric.PROBABILITIES)] = p
        table["emotion"] = np.array(constants.EMOTIONS)[answer]
    for head, values in joined.scales.items():
        has = np.isfinite(values).all(1)
        table[head] = _mean(values[has], weights[has]) if has.any() else np.nan
    return table


def _weights(how: Combination, members: int) -> np.ndarray:
    if how.weights is None:
        return np.full(members, 1 / members)
    if len(how.weights) != members:
        raise UserError(f"one weight a member is needed, {members} in all, got {len(how.weights)}")
    return np.array(how.weights)


def _emotion(
    joined: Joined, how: Combination, weights: np.ndarray, has: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, 7) and what is answered, (N,) ids."""
    p = joined.p[has]
    if how.method == "hard":
        return hard(p, joined.label[has], weights[has])
    p = stacking.predict(p, how.stacker) if how.method == "stack" else _mean(p, weights[has])
    return p, p.argmax(1)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(M, N, ...), (M,) -> (N, ...); members of weight 0 alone are all alike."""
    weights = weights if weights.sum() > 0 else np.ones(len(weights))
    return np.tensordot(weights / weights.sum(), values, 1)


def hard(p: np.ndarray, label: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted plurality: (M, N, 7), (M, N) ids, (M,) -> shares of the votes (N, 7), ids (N,).

    The greatest share wins; of equal shares the class of greatest mean probability, of which the
    shares hold TIE, so that they rank as is answered.
    """
    shares, mean = _mean(np.eye(metric.C)[label], weights), p.mean(0)
    best = shares > shares.max(1, keepdims=True) - 1e-9  # 0.2 + 0.3 is 0.5
    return (1 - TIE) * shares + TIE * mean, np.where(best, mean, -1.0).argmax(1)


# --- learning -------------------------------------------------------------------------------------


class Learnt(NamedTuple):
    """A combination, and how it would be learnt of other rows; None where nothing is learnt."""

    how: Combination
    again: Callable[[Joined], Combination] | None = None

    def of(self, rows: Joined) -> pd.DataFrame:
        """The rows it was learnt on, combined as honestly as tested ones."""
        return combine(rows, self.how) if self.again is None else cross_fitted(rows, self.again)


def learn(
    method: str, weights: list[float] | None, rows: Joined | None, kind: str, seed: int
) -> Learnt:
    """How members are combined by `method`, learnt of `rows` where there is anything to learn.

    `weights`: given ones, of any sum. `kind`: of the stacker. UserError without rows to learn of.
    """
    if weights or method in ("soft", "hard"):
        total = sum(weights or [])
        return Learnt(Combination(method, weights and [weight / total for weight in weights]))
    if rows is None:
        given = "--weights, " if method == "weighted" else ""
        raise UserError(
            f"--method {method} needs {given}--oof K, or rows of the set oof or val in "
            f"all members to fit on; test rows are none"
        )
    if method == "weighted":
        return Learnt(_weighted(rows), _weighted)
    if not rows.emotional.any():
        raise UserError("stacking needs a member that predicts emotion; there is none")
    c = 1.0
    if kind == "logistic":
        c = stacking.penalty(rows.p[rows.emotional], rows.votes, held_out(rows.table))
    again = functools.partial(_stacked, kind=kind, seed=seed, c=c)
    return Learnt(again(rows), again)


def _weighted(rows: Joined) -> Combination:
    if not rows.emotional.all():
        raise UserError("weights can be fitted to members that all predict emotion; give --weights")
    return Combination("weighted", stacking.fit_weights(rows.p, rows.votes))


def _stacked(rows: Joined, kind: str, seed: int, c: float) -> Combination:
    p = rows.p[rows.emotional]
    return Combination("stack", None, stacking.fit(p, rows.votes, kind, seed, c))


def held_out(table: pd.DataFrame) -> list[np.ndarray]:
    """Rows in up to `FOLDS` groups of whole sessions, of dialogues if there is one session.

    Each group is (N,) bool and has taught rows of two emotions outside it; [] where that cannot be.
    """
    for names in (("corpus", "session"), alignment.DIALOGUE):
        group = alignment.numbered(table, names)
        parts = np.array_split(np.unique(group), min(FOLDS, len(np.unique(group))))
        folds = [np.isin(group, part) for part in parts]
        if len(folds) > 1 and all(_teaches(table[~fold]) for fold in folds):
            return folds
    return []


def _teaches(table: pd.DataFrame) -> bool:
    votes = np.nan_to_num(columns(table, metric.VOTES))
    return (votes.sum(1) > 0).sum() > 1 and (votes.sum(0) > 0).sum() > 1


def cross_fitted(joined: Joined, learn: Callable[[Joined], Combination]) -> pd.DataFrame:
    """Each group of rows (`held_out`) combined as learnt of the others; in the order they came.

    So the rows that a combination is fitted on are predicted as honestly as tested ones. Where
    they cannot be parted, they are combined as learnt of all of them.
    """
    folds = held_out(joined.table)
    if not folds:
        return combine(joined, learn(joined))
    parts = [combine(joined.rows(fold), learn(joined.rows(~fold))) for fold in folds]
    places = np.concatenate([np.flatnonzero(fold) for fold in folds])
    return pd.concat(parts, ignore_index=True).iloc[np.argsort(places)].reset_index(drop=True)

"""Rows of several tables of predictions put side by side by their key, their truth compared.

What is said where rows or truth differ is the caller's: see `bootstrap.paired`, `finished_runs`,
`highlights/intervals.py` and `training/ensembles/combination.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

import metric
from constants import SCALES
from evaluation.predictions import column, columns, label_ids
from utils import first_few

KEY = ("corpus", "role", "segment")  # what a row is called
DIALOGUE = ("corpus", "role", "dialogue")
TRUTH = (*metric.VOTES, *(f"{head}_true" for head in SCALES))  # numbers


class Rows(NamedTuple):
    """Where the rows of one table are in another."""

    order: np.ndarray  # (N,) the place in b of each row of a, -1: not there
    only_a: pd.Index  # keys that b has not, in the order of a
    only_b: pd.Index

    @property
    def are_the_same(self) -> bool:
        return not len(self.only_a) and not len(self.only_b)


def keys(predictions: Mapping, names: Iterable[str] = KEY) -> pd.Index:
    """(N,) some columns of each row as one text."""
    texts = (map(str, column(predictions, name).tolist()) for name in names)
    return pd.Index(["\0".join(key) for key in zip(*texts, strict=True)], dtype=object)


def numbered(predictions: Mapping, names: Iterable[str]) -> np.ndarray:
    """(N,) ids 0, 1, ... of the distinct values of some columns, in order of appearance."""
    return pd.factorize(keys(predictions, names))[0]


def select(predictions: Mapping, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The given rows (ids or a mask) of a table, as a dict of arrays."""
    return {name: np.asarray(predictions[name])[rows] for name in predictions}


def same_rows(a: pd.Index, b: pd.Index) -> Rows:
    """Where the `keys` of two tables meet; each comes once in a table."""
    return Rows(b.get_indexer(a), a[~a.isin(b)], b[~b.isin(a)])


def truth(predictions: Mapping) -> pd.DataFrame:
    """(N, ...) what `same_truth` compares: session, dialogue, modal labels, votes and scales."""
    found = pd.DataFrame(columns(predictions, TRUTH), columns=list(TRUTH))
    labels = label_ids(column(predictions, "emotion_true"))
    return found.assign(
        dialogue=keys(predictions, ("session", "dialogue")),
        emotion=[";".join(map(str, ids)) for ids in labels],
    )


def same_truth(a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    """(N,) bool: which rows of two tables, side by side, have the same in every column.

    Numbers are the same where they differ by 1e-5 of them at most, or are both missing.
    """
    numbers = list(a.select_dtypes("number"))
    same = np.isclose(a[numbers], b[numbers], equal_nan=True).all(1)
    for name in a.columns.difference(numbers):
        same &= a[name].to_numpy() == b[name].to_numpy()
    return same


def name_of(key: str) -> str:
    """A key as it is shown: "kemdy19 speaker Sess01_script01_F001"."""
    return key.replace("\0", " ")


def some(keys: Sequence[str]) -> str:
    """How many rows, and the first few of them: "4 rows (a, b, c, ...)"."""
    names = [name_of(key) for key in keys]
    return f"{len(names)} rows ({first_few(names, rest=', ...')})"

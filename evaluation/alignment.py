"""Rows of several tables of predictions put side by side by their key, their truth checked."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

import metric
from evaluation.predictions import column, columns, label_ids
from utils import UserError

KEY = ("corpus", "role", "segment")
DIALOGUE = ("corpus", "role", "dialogue")
TRUTH = (*metric.VOTES, "arousal_true", "valence_true")


def numbered(predictions: Mapping, names: Iterable[str]) -> np.ndarray:
    """(N,) ids 0, 1, ... of the distinct values of some columns, in order of appearance."""
    ids: dict[tuple, int] = {}
    return np.array([ids.setdefault(key, len(ids)) for key in _keys(predictions, names)], int)


def _keys(predictions: Mapping, names: Iterable[str]) -> list[tuple]:
    return list(zip(*(column(predictions, name).tolist() for name in names), strict=True))


def select(predictions: Mapping, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The given rows (ids or a mask) of a table, as a dict of arrays."""
    return {name: np.asarray(predictions[name])[rows] for name in predictions}


def same_rows(a: Mapping, b: Mapping) -> dict[str, np.ndarray]:
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
    labels = (label_ids(column(table, "emotion_true")) for table in (a, b))
    numbers = (columns(table, TRUTH) for table in (a, b))
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

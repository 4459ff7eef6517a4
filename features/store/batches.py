"""Extractors that compute many sources at once, those of like lengths together.

For features that a network makes: what is computed of a source is the same alone and among others.
What a feature is stands in contract.py.
"""

from typing import Any

import numpy as np

from features.store.contract import Extractor
from utils import Unusable


class Batched(Extractor):
    """An Extractor by what it reads and what it makes of several such.

    A feature's own holds `read(source)`, an array (T, ...) of the steps that are computed, or
    raises Unusable; `compute(arrays)`, a result or an Unusable for each; and `at_once`, the steps
    in one pass at most, padding included.
    """

    TOGETHER = True
    at_once: int

    def read(self, source: Any) -> np.ndarray:
        raise NotImplementedError

    def compute(self, arrays: list[np.ndarray]) -> list[np.ndarray | Unusable]:
        raise NotImplementedError

    def __call__(self, source: Any, rows: list) -> list[np.ndarray]:
        """The result, once for each of `rows`. Raises Unusable."""
        [result] = self.many([source])
        if isinstance(result, Unusable):
            raise result
        return [result] * len(rows)

    def many(self, sources: list) -> list[np.ndarray | Unusable]:
        """The result of each source, or why it has none."""
        found = [self._read(source) for source in sources]
        rows = np.array([i for i, array in enumerate(found) if isinstance(array, np.ndarray)], int)
        lengths = np.array([len(found[i]) for i in rows], int)
        order = lengths.argsort(kind="stable")
        for batch in cut(rows[order], lengths[order], len(rows), self.at_once):
            results = self.compute([found[i] for i in batch])
            for i, result in zip(batch, results, strict=True):
                found[i] = result
        return found

    def _read(self, source: Any) -> np.ndarray | Unusable:
        try:
            return self.read(source)
        except Unusable as reason:
            return reason


def padded(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(T,) each -> (N, T of the longest) with zeros behind them, (N, T) bool: what is there."""
    lengths = np.array([len(array) for array in arrays])
    block = np.zeros((len(arrays), lengths.max()), arrays[0].dtype)
    lay(arrays, block)
    return block, np.arange(block.shape[1]) < lengths[:, None]


def lay(arrays: list[np.ndarray | None], out: np.ndarray) -> None:
    """Arrays (T, ...) of different lengths into the rows of `out`, which holds zeros."""
    for array, block in zip(arrays, out, strict=True):
        if array is not None:
            block[: len(array)] = array


def cut(
    order: np.ndarray, lengths: np.ndarray, size: int, budget: int = 0, least: int = 1
) -> list[np.ndarray]:
    """Cut `order` (N,), whose `lengths` (N,) rise, into batches of at most `size` and `budget`.

    A batch of B costs B times its longest; `budget` 0: any. Where even `least` cost more than the
    budget, so many stand together.
    """
    batches, start = [], 0
    for end in range(1, len(order) + 1):
        held = end - start
        over = budget and end < len(order) and (held + 1) * lengths[end] > budget and held >= least
        if end == len(order) or held == size or over:
            batches.append(order[start:end])
            start = end
    return batches

"""A store: one feature of many utterances, gathered by row number.

What fills it is in extraction.py; the files it reads, in cache.py.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import utils
from features.store.cache import Entry, mapped
from features.store.contract import Feature


class Store:
    """One feature of some utterances, by row number. `folder`: its cache.

    `available` (N,) bool: the rows that have it; `is_cut` (N,) bool: those longer than a block;
    `troubles`: (segment, reason) of those whose source could not be used; `shape`: of one block;
    `kind`: the column it is made from. Of a ragged feature, `lengths` (N,): steps of each row, 0
    where it has none.
    """

    def __init__(
        self,
        leaf: type[Feature],
        parameters: dict,
        folder: Path,
        entries: dict[str, Entry],
        keys: list[str],
        utterances: pd.DataFrame,
        settings: Any = None,
        data: np.ndarray | None = None,
    ):
        self.leaf, self.parameters, self.folder = leaf, parameters, folder
        self.kind = leaf.source(parameters)
        self.shape = tuple(leaf.shape(parameters))
        self.entries = [entries.get(key) for key in keys]
        self.available = np.array([e is not None and not e.unusable for e in self.entries], bool)
        pairs = zip(utterances["segment"], self.entries, strict=True)
        self.troubles = [(segment, e.unusable) for segment, e in pairs if e and e.unusable]
        there = zip(self.entries, self.available, strict=True)
        self.is_cut = np.array([yes and leaf.is_cut(e.shape, parameters) for e, yes in there], bool)
        self.lengths = np.zeros(len(self), np.int64)
        if self.ragged:
            steps = [e.shape[0] if e and e.shape else 0 for e in self.entries]
            most = leaf.longest(parameters) or max(steps, default=0)
            self.lengths = np.minimum(steps, most) * self.available
        self._data = mapped(folder / "data.bin") if data is None else data
        self._dtype = np.dtype(leaf.DTYPE)
        self._stats = [entry and entry.stats for entry in self.entries]
        self.settle(utterances, settings)

    def __len__(self) -> int:
        return len(self.entries)

    def settle(self, utterances: pd.DataFrame, settings: Any) -> None:
        """Let the feature settle what depends on other rows; `utterances`: all rows."""
        if self.leaf.settled_by(settings):
            arrays = [self.array(row) for row in range(len(self))]
            self._stats = self.leaf.settle(arrays, utterances, settings)

    @property
    def ragged(self) -> bool:
        """Whether rows differ in length."""
        return len(self.shape) > 0 and self.shape[0] is None

    def mask(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers of any shape (-1: padding) -> whether the row has the feature; of a ragged
        one, rows.shape + (T,): whether it has that step, as `gather` lays them."""
        there = (rows >= 0) & self.available[rows]
        if not self.ragged:
            return there
        lengths = np.where(there, self.lengths[rows], 0)
        return np.arange(max(1, lengths.max(initial=0))) < lengths[..., None]

    def __getstate__(self) -> dict:
        return vars(self) | {"_data": None}  # a mapped file cannot be pickled

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._data = mapped(self.folder / "data.bin")

    def array(self, row: int) -> np.ndarray | None:
        """What is stored for a row, as it was extracted (read only); None if it has nothing."""
        if row < 0 or not self.available[row]:
            return None
        entry = self.entries[row]
        end = entry.offset + self._dtype.itemsize * math.prod(entry.shape)
        return self._data[entry.offset : end].view(self._dtype).reshape(entry.shape)

    def extents(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers of any shape -> `extent` of each, 0 where a row has nothing."""
        there = {row for row in np.ravel(rows).tolist() if row >= 0 and self.available[row]}
        of = {row: self.leaf.extent(self.entries[row].shape, self.parameters) for row in there}
        return np.array([of.get(row, 0) for row in np.ravel(rows)], int).reshape(np.shape(rows))

    def gather(
        self, rows: np.ndarray, cut: np.ndarray | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Row numbers of any shape (-1: padding) -> float32 blocks, rows.shape + self.shape; of a
        ragged feature, rows.shape + (T, ...) for the T steps of the longest, int64 of integers.

        Zeros where a row has nothing. `cut`, of the shape of `rows`, each in [0, 1): where a long
        clip is cut; None: in the middle. `out`: a contiguous array to write into.
        """
        rows = np.asarray(rows)
        if cut is not None and (np.shape(cut) != rows.shape or not ((cut >= 0) & (cut < 1)).all()):
            raise ValueError(f"cut needs numbers in [0, 1) of shape {rows.shape}")
        cut = None if cut is None else np.ravel(cut)
        shape = (self.mask(rows).shape[-1], *self.shape[1:]) if self.ragged else self.shape
        if out is None:
            kind = self.leaf.READY or ("int64" if self._dtype.kind == "i" else "float32")
            out = (np.zeros if self.ragged else np.empty)(rows.shape + shape, kind)
        arrays = [self.array(row) for row in rows.ravel()]
        stats = [
            None if array is None else self._stats[row]
            for row, array in zip(rows.ravel(), arrays, strict=True)
        ]
        self.leaf.gather(arrays, stats, self.parameters, cut, out.reshape(-1, *shape))
        return out


def gathered(
    stores: dict[str, Store], rows: np.ndarray, cut: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """(B, W) row numbers, -1: padding -> `mask` and, of each feature, its blocks and its mask."""
    batch = {"mask": rows >= 0}
    for name, store in stores.items():
        batch |= {name: store.gather(rows, cut), f"{name}_mask": store.mask(rows)}
    return batch


def join(stores: list[Store]) -> Store:
    """The same feature of several corpora as one: the rows of the first, of the second, ..."""
    return stores[0] if len(stores) == 1 else _Joined(stores)


class _Joined(Store):
    """Each row stays in the cache of its own corpus."""

    def __init__(self, stores: list[Store]):
        vars(self).update(vars(stores[0]), stores=stores, _data=None)
        self.first = np.cumsum([0, *map(len, stores)])  # row number of each corpus
        for name in ("available", "is_cut", "lengths"):
            setattr(self, name, np.concatenate([getattr(store, name) for store in stores]))
        for name in ("entries", "troubles", "_stats"):
            setattr(self, name, [item for store in stores for item in getattr(store, name)])

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)

    def array(self, row: int) -> np.ndarray | None:
        if row < 0:
            return None
        which = int(np.searchsorted(self.first, row, "right")) - 1
        return self.stores[which].array(row - self.first[which])


def row_keys(kind: str, utterances: pd.DataFrame, by_second: bool = False) -> list[str]:
    """One key a row, equal for equal content; "" for a row that has nothing to extract."""
    present = (utterances["quarantine"] == "") & (utterances[kind] != "")
    if kind == "wav":
        # a video may be without sound: its pictures are not
        present &= by_second | ~utterances["silent"].astype(bool)
        keys = utterances["wav_size"].astype(str) + "-" + utterances["wav_hash"]
        if by_second:
            keys += utterances["start"].map("@{:g}".format)
    else:
        keys = [utils.digest([kind, value], 32) for value in utterances[kind]]
    return [key if there else "" for key, there in zip(keys, present, strict=True)]

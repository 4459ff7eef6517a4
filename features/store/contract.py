"""What a feature is: the base of the class `Feature` that every file of features/ holds.

A feature is computed by its `Extractor` once for each content, kept on disk, and turned into blocks
of a batch by `gather`. Where it is kept is cache.py's affair; no feature knows a cache or a window.
"""

import sys
from typing import Any

import numpy as np
import pandas as pd

from utils import Unusable


class Extractor:
    """What computes a feature: made once, and called from several threads."""

    TOGETHER = False  # whether it is called once for many sources: by `many`

    def __init__(self, parameters: dict):
        """`parameters`: what `Feature.parameters` returned."""

    def __call__(self, source: Any, rows: list) -> list[np.ndarray | Unusable]:
        """One array for each of the `rows` that have this source.

        `source`: a path, or what stands in the column SOURCE. Raises Unusable for one that cannot
        be used.
        """
        raise NotImplementedError

    def many(self, sources: list) -> list[np.ndarray | Unusable]:
        """Of each source an array, or why there is none."""
        raise NotImplementedError


class Feature:
    """What every `Feature` in features/ is. It must have the first four, `parameters`, `shape`."""

    VERSION: int  # raised when the numbers change
    DTYPE: str  # how they are stored, e.g. "float16"
    SOURCE: str  # the column it is made from: "wav", "text" or "segment"
    Extractor: type[Extractor]  # what computes it
    READY: str | None = None  # dtype of the blocks; None: int64 of integers, else float32
    BY = "row"  # "second": rows are seconds of a video, all of which are extracted in one call
    OPTIONS: dict[str, Any] = {}  # settings that a model may lack, and what then stands for them

    @classmethod
    def about(cls) -> str:
        """How it is computed: the words that stand on top of its file."""
        return " ".join((sys.modules[cls.__module__].__doc__ or "").split())

    @staticmethod
    def parameters(settings: Any) -> dict:
        """All that changes the numbers, as JSON."""
        raise NotImplementedError

    @staticmethod
    def shape(parameters: dict) -> tuple[int | None, ...]:
        """Of one block; None first where rows differ in length."""
        raise NotImplementedError

    @staticmethod
    def longest(parameters: dict) -> int:
        """Steps of a block at most, where rows differ in length; 0: any number."""
        return 0

    @classmethod
    def source(cls, parameters: dict) -> str:
        """The column it is made from, where that depends on the parameters."""
        return cls.SOURCE

    @classmethod
    def option(cls, settings: Any, name: str) -> Any:
        """One of OPTIONS: as the settings have it, else its default."""
        return vars(settings).get(name, cls.OPTIONS[name])

    @staticmethod
    def stats(array: np.ndarray, parameters: dict) -> list[float]:
        """What is kept beside each stored array."""
        return []

    @staticmethod
    def settled_by(settings: Any) -> str:
        """The flag by which a block depends on all rows of its speaker, those that are tested too,
        as it stands on the command line; "": it depends on its own row alone."""
        return ""

    @staticmethod
    def settle(arrays: list[np.ndarray | None], utterances: pd.DataFrame, settings: Any) -> list:
        """What `gather` is given as `stats` of each row, where `settled_by` names a flag.

        Called once, when a Store is built, with the stored array of each row (None: it has none).
        Nothing of it is on disk: whatever `settings` says there, the cache is the same.
        """
        raise NotImplementedError

    @staticmethod
    def is_cut(stored: tuple[int, ...], parameters: dict) -> bool:
        """Whether an array of that shape is longer than a block, so that `cut` decides."""
        return False

    @classmethod
    def extent(cls, stored: tuple[int, ...], parameters: dict) -> int:
        """Of a block made from an array of that shape, how much of the last axis is not padding,
        which is the same all along."""
        return min(stored[-1], cls.shape(parameters)[-1])

    @staticmethod
    def gather(
        arrays: list[np.ndarray | None],
        stats: list,
        parameters: dict,
        cut: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Stored arrays (None: there is none) -> blocks, in `out`: as they are, zeros behind them.

        Each block is a function of its own array, its own `stats` and its own number in `cut`, the
        place in the spare length in [0, 1); `cut` None: the middle. Nothing else.
        """
        for array, block in zip(arrays, out, strict=True):
            seen = block[:0] if array is None else array[: len(block)]
            block[: len(seen)] = seen
            block[len(seen) :] = 0

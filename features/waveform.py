"""Waveform: the samples of an utterance as they are, at 16 kHz.

    waveform (B, W, T) float32   in [-1, 1), padded with zeros to the longest of the batch
    waveform_mask (B, W, T)      bool, false in the padding

Stored in 16 bit, which is what the corpora hold; of other rates or depths, rounded to that. Of
clips longer than `--max_seconds` a part is seen: the middle, or in training any.
"""

from pathlib import Path
from typing import Any

import numpy as np

from constants import SAMPLE_RATE  # what the encoders were trained on, whatever --sr is
from features.store import contract
from media.audio import read
from utils import UserError

FULL = 32768  # of 16 bit: 1.0


class Extractor(contract.Extractor):
    """wav -> (T,) int16, the whole clip."""

    def __init__(self, parameters: dict):
        self.rate = parameters["sample_rate"]

    def __call__(self, source: Path, rows: list) -> list[np.ndarray]:
        """The samples, once for each of `rows`. Raises Unusable for what is not sound."""
        wave = np.rint(read(source, self.rate) * FULL).clip(-FULL, FULL - 1)
        return [wave.astype(Feature.DTYPE)] * len(rows)


class Feature(contract.Feature):
    """The samples."""

    VERSION = 1
    DTYPE = "int16"
    SOURCE = "wav"
    READY = "float32"
    OPTIONS = {"max_seconds": 0.0}
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """The rate in Hz, and how many samples are seen at most: `settings.max_seconds`; 0: all."""
        seconds = Feature.option(settings, "max_seconds")
        if not 0 <= seconds < float("inf"):
            raise UserError(f"--max_seconds should be at least 0, it is {seconds}")
        return {"sample_rate": SAMPLE_RATE, "samples": round(seconds * SAMPLE_RATE)}

    @staticmethod
    def shape(parameters: dict) -> tuple[None]:
        """(T,), T as it comes."""
        return (None,)

    @staticmethod
    def longest(parameters: dict) -> int:
        """Samples of a block at most, 0: no limit."""
        return parameters["samples"]

    @staticmethod
    def is_cut(stored: tuple[int], parameters: dict) -> bool:
        """Whether a clip is more than a block."""
        return 0 < Feature.longest(parameters) < stored[0]

    @staticmethod
    def gather(
        arrays: list[np.ndarray | None],
        stats: list,
        parameters: dict,
        cut: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Stored samples -> (N, T) float32 in [-1, 1) in `out`, zeros behind their end."""
        for i, (array, block) in enumerate(zip(arrays, out, strict=True)):
            block[...] = 0
            if array is None:
                continue
            if Feature.is_cut(array.shape, parameters):
                array = _cut(array, Feature.longest(parameters), None if cut is None else cut[i])
            block[: len(array)] = array
            block /= FULL


def _cut(array: np.ndarray, samples: int, cut: float | None) -> np.ndarray:
    """So many samples, at `cut` in [0, 1) of the places they can begin; None: in the middle."""
    spare = len(array) - samples
    start = spare // 2 if cut is None else int(cut * (spare + 1))
    return array[start : start + samples]

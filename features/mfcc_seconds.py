"""MFCC of an utterance by the second: the means of 32 coefficients over each second of a wav.

    mfcc_seconds (B, W, T, 32)   with mfcc_seconds_mask (B, W, T)

The same numbers as the first 32 of features/mfcc_second.py, which has those of a video: a model
that is trained on these hears the other. They are not standardised.
"""

from pathlib import Path
from typing import Any

import numpy as np

from constants import SAMPLE_RATE
from features.signal.mfcc_means import COEFFICIENTS, HOP, PARAMETERS, Means
from features.store import contract
from media.audio import read


class Extractor(contract.Extractor):
    """wav -> (T, 32): its whole seconds, then what is left as a shorter one.

    A rest of less than HOP is left out, unless it is all there is.
    """

    def __init__(self, parameters: dict):
        self.means = Means()

    def __call__(self, source: Path, rows: list) -> list[np.ndarray]:
        """The means of a clip, once for each of `rows`. Raises Unusable for what is not sound."""
        wave = read(source, SAMPLE_RATE)
        parts = [wave[i : i + SAMPLE_RATE] for i in range(0, len(wave), SAMPLE_RATE)]
        if len(parts) > 1 and len(parts[-1]) < HOP:
            parts.pop()
        return [np.stack([self.means(part) for part in parts])] * len(rows)


class Feature(contract.Feature):
    """Mean coefficients of each second of an utterance."""

    VERSION = 1
    DTYPE = "float32"  # the first coefficient reaches -1,131, where float16 has whole numbers
    SOURCE = "wav"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """Nothing of it is a flag: rates in Hz, sizes in samples."""
        return dict(PARAMETERS)

    @staticmethod
    def shape(parameters: dict) -> tuple[None, int]:
        """(any number of seconds, 32)."""
        return None, COEFFICIENTS

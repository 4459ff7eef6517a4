"""Sound of one second of a video: the means of 32 MFCC, the level, and the spectral flux.

    mfcc_second (B, W, 34)   MFCC as in features/mfcc_seconds.py; dB of full scale; 0..2

A second is that of the time stamps: sound that begins late or has gaps is silent there, which is
a value. Seconds after the end of the sound have none. They are not standardised.
"""

from pathlib import Path
from typing import Any

import numpy as np

from constants import SAMPLE_RATE
from features.signal.mfcc_means import COEFFICIENTS, HOP, PARAMETERS, Means
from features.store import contract
from media import video
from utils import Unusable


class Extractor(contract.Extractor):
    """A video and its rows, each a second from `start` on -> (34,) of each, or Unusable."""

    def __init__(self, parameters: dict):
        self.means = Means()

    def __call__(self, source: Path, rows: list) -> list[np.ndarray | Unusable]:
        """The sound is decoded once. Raises Unusable where there is none at all."""
        wanted, found = {round(row.start) for row in rows}, {}
        blocks = video.sound_blocks(source, SAMPLE_RATE, 1.0)
        for second, wave in enumerate(blocks):
            if second in wanted and len(wave) >= HOP:
                found[second] = self.means.with_level_and_flux(wave)
        return [found.get(round(row.start), Unusable("no sound in this second")) for row in rows]


class Feature(contract.Feature):
    """Numbers for the sound of each second of a video."""

    VERSION = 1
    DTYPE = "float32"  # the first coefficient reaches -1,131, where float16 has whole numbers
    SOURCE = "wav"
    BY = "second"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """Nothing of it is a flag: rates in Hz, sizes in samples."""
        return dict(PARAMETERS)

    @staticmethod
    def shape(parameters: dict) -> tuple[int]:
        """(34,)."""
        return (COEFFICIENTS + 2,)

"""Functionals: statistics of a whole utterance, the classical input of a support vector machine.

Contours of 10 ms (signal/contours.py: MFCC and slopes, log-mel bands, spectral shape, level, F0)
are summed up by mean, standard deviation, percentiles, range and slope, much as openSMILE's sets do
it (Eyben et al. 2016, doi 10.1109/TAFFC.2015.2457417).

The cache holds the numbers as they are. Where the settings have `speaker_norm`, `gather` gives
z-scores over all utterances that the speaker has in the table, whatever set they are in: that uses
no label, but it does need more than one utterance of the person who is judged.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.signal.contours import BANDS, COEFFICIENTS, HOP, SHAPES, Listener
from features.store import contract
from media.audio import read

PERCENTILES = (10, 50, 90)
STILL = 1e-6  # relative sd under which a functional does not vary, but for rounding

CONTOUR = ("mean", "sd", "p10", "p50", "p90", "slope")  # the slope: a second
PITCH = (*CONTOUR, "range", "step")

log = logging.getLogger(__name__)


def names() -> list[str]:
    """What each number is, in order: `mfcc3_sd`, `f0_p90`."""
    groups = [(f"mfcc{i}", CONTOUR) for i in range(COEFFICIENTS)]
    groups += [(f"delta{i}", ("sd", "magnitude")) for i in range(COEFFICIENTS)]
    groups += [(f"band{i}", ("mean", "sd")) for i in range(BANDS)]
    groups += [(shape, CONTOUR[:5]) for shape in SHAPES]
    groups += [("level", PITCH), ("f0", PITCH), ("harmonicity", CONTOUR[:5])]
    groups += [("voiced", ("share", "stretch", "rate")), ("speech", ("duration",))]
    return [f"{contour}_{one}" for contour, functionals in groups for one in functionals]


class Extractor(contract.Extractor):
    """wav -> (D,) functionals, as `names` names them."""

    def __init__(self, parameters: dict):
        self.listener = Listener(parameters["sample_rate"])

    def __call__(self, source: Path, rows: list) -> list[np.ndarray]:
        """Of the whole clip, once for each of `rows`. Raises Unusable for what is not sound."""
        return [self.functionals(read(source, self.listener.rate))] * len(rows)

    def functionals(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in [-1, 1], N >= 1 -> (D,) float32."""
        c = self.listener(wave)
        delta = _change(c.mfcc) / HOP  # a second
        parts = [
            _contour(c.mfcc).T,
            np.stack([delta.std(0), abs(delta).mean(0)], 1),
            np.stack([c.bands.mean(0), c.bands.std(0)], 1),
            _contour(c.shapes)[:5].T,
            _moving(c.level, np.ones(len(c.level), bool)),
            _moving(c.f0, c.voiced),
            _contour(c.harmonicity[:, None])[:5],
            _stretches(c.voiced),
            [np.log(c.duration)],
        ]
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


class Feature(contract.Feature):
    """Numbers of a whole utterance."""

    VERSION = 1
    DTYPE = "float32"
    SOURCE = "wav"
    OPTIONS = {"speaker_norm": False}
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """`settings.sr`, Hz: the rate everything is resampled to."""
        return {"sample_rate": settings.sr}

    @staticmethod
    def shape(parameters: dict) -> tuple[int]:
        """(D,) of a block."""
        return (len(names()),)

    @staticmethod
    def settled_by(settings: Any) -> str:
        """Of `--speaker_norm`."""
        return "--speaker_norm" if Feature.option(settings, "speaker_norm") else ""

    @staticmethod
    def settle(
        arrays: list[np.ndarray | None], utterances: pd.DataFrame, settings: Any
    ) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """The mean and 1 / sd (D,) of the speaker of each row; None: no row of it has numbers.

        Rows whose speaker is unknown ("") are one speaker. A functional that does not vary gets 0.
        """
        speakers = utterances["speaker"].to_numpy()
        known = np.array([array is not None for array in arrays], bool)
        rows = {speaker: np.flatnonzero(known & (speakers == speaker)) for speaker in set(speakers)}
        if single := sum(len(own) == 1 for own in rows.values()):
            log.warning(
                "%d of %d speakers have a single utterance: normalised by speaker, all its "
                "functionals are 0",
                single,
                len(rows),
            )
        of = {who: _spread([arrays[row] for row in own]) for who, own in rows.items() if len(own)}
        return [of.get(speaker) for speaker in speakers]

    @staticmethod
    def gather(
        arrays: list[np.ndarray | None],
        stats: list[tuple | None],
        parameters: dict,
        cut: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Functionals -> (N, D) float32 in `out`, as z-scores where `settle` gave them."""
        for array, known, block in zip(arrays, stats, out, strict=True):
            if array is None:
                block[...] = 0
                continue
            mean, scale = known or (0, 1)
            block[...] = (array.astype(np.float64) - mean) * scale


# --- contours -> functionals ---------------------------------------------------------------------


def _change(contours: np.ndarray) -> np.ndarray:
    """(T, K) -> (T, K): the slope over five frames, as HTK's deltas."""
    padded = np.pad(contours, ((2, 2), (0, 0)), mode="edge")
    return (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10


def _contour(contours: np.ndarray) -> np.ndarray:
    """(T, K), T >= 1 -> (6, K): CONTOUR; the slope is a second, 0 for one frame."""
    time = HOP * (np.arange(len(contours)) - (len(contours) - 1) / 2)
    slope = time @ contours / (time @ time or 1)
    percentiles = np.percentile(contours, PERCENTILES, axis=0)
    return np.stack([contours.mean(0), contours.std(0), *percentiles, slope])


def _moving(contour: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(T,), (T,) bool -> (8,): PITCH of the frames that are there; zeros without any.

    The slope runs over the frames that are there, side by side; a step is the mean change between
    frames that follow each other.
    """
    if not there.any():
        return np.zeros(len(PITCH))
    seen = contour[there, None]
    steps = abs(np.diff(contour))[there[1:] & there[:-1]]
    spread = np.subtract(*np.percentile(seen, (95, 5)))
    return np.array([*_contour(seen)[:, 0], spread, steps.mean() if len(steps) else 0.0])


def _stretches(voiced: np.ndarray) -> list[float]:
    """(T,) bool -> share of the frames, mean length of a stretch in s, stretches a second."""
    count = np.count_nonzero(np.diff(voiced.astype(int), prepend=0) == 1)
    length = HOP * voiced.sum() / count if count else 0.0
    return [voiced.mean(), length, count / (HOP * len(voiced))]


# --- normalisation -------------------------------------------------------------------------------


def _spread(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean and 1 / sd (D,), 0 where a functional does not vary."""
    values = np.stack(arrays).astype(np.float64)
    mean, sd = values.mean(0), values.std(0)
    moves = sd > STILL * np.maximum(abs(mean), 1)
    return mean, np.where(moves, 1 / np.where(moves, sd, 1), 0)

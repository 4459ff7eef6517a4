"""A long recording cut into utterances where it is quiet. NumPy and soundfile, a minute at a time.

`levels` listens once, from beginning to end; `spans` says where the utterances are. What is made of
them is in `inference/recordings.py`.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from constants import AMIN, CLIP_SECONDS
from media.spans import true_spans

STEP = 0.02  # s that one level is of
BLOCK = 60  # s held at a time
FLOOR_DB = 10 * math.log10(AMIN)  # of silence: -100
PAUSE = 0.4  # s of quiet that end an utterance; a stop within a word is shorter than 0.2 s
SHORTEST = 0.25  # s; what is shorter is a click
MARGIN = 0.1  # s of quiet that stay at both ends
ABOVE = 0.35  # of the way from quiet to loud: where speech begins
CONTRAST = 8.0  # dB between quiet and loud: with less there are no pauses to be heard
INNER = 9  # levels: 180 ms, averaged where a long utterance has to be cut

Span = tuple[float, float]


def levels(path: Path | str) -> np.ndarray:
    """(N,) dB of every 20 ms, channels averaged; full scale is 0. Raises LibsndfileError."""
    with soundfile.SoundFile(path) as file:
        blocks = file.blocks(BLOCK * file.samplerate, dtype="float32", always_2d=True)
        waves = (block.mean(axis=1).astype(float) for block in blocks)
        return levels_in(waves, file.samplerate)


def levels_in(waves: Iterable[np.ndarray], rate: int) -> np.ndarray:
    """(N,) dB of every 20 ms of a sound that comes in pieces, in their number format; the last
    step may be shorter."""
    parts, rest, size = [], np.zeros(0, np.float32), max(1, round(STEP * rate))
    for wave in waves:
        wave = np.concatenate([rest, wave])
        whole = len(wave) // size * size
        parts.append(_decibels(wave[:whole].reshape(-1, size)))
        rest = wave[whole:]
    if len(rest):
        parts.append(_decibels(rest[None]))
    return np.concatenate(parts) if parts else np.zeros(0)


def _decibels(frames: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum((frames**2).mean(1), AMIN))


def spans(level: np.ndarray, pause: float = PAUSE, longest: float = CLIP_SECONDS) -> list[Span]:
    """(N,) dB of every 20 ms -> (start, end) s of the utterances, in order, none overlapping.

    What is quiet is judged by the recording itself. `pause`: s of quiet that part two utterances.
    One of more than `longest` s is cut at its quietest moment, until none is. [] if all is silence.
    """
    if not len(level):
        return []
    loud = level > _threshold(level)
    gap = max(1, round(pause / STEP))
    runs = [run for run in true_spans(_closed(loud, gap)) if run[1] - run[0] >= SHORTEST / STEP]
    side = min(round(MARGIN / STEP), gap // 2)  # so that two margins never meet
    wide = [(max(0, start - side), min(len(level), end + side)) for start, end in runs]
    smooth = np.convolve(np.pad(level, INNER // 2, "edge"), np.ones(INNER) / INNER, "valid")
    parts = [part for run in wide for part in _short(run, smooth, round(longest / STEP))]
    return [(round(start * STEP, 3), round(end * STEP, 3)) for start, end in parts]


def _threshold(level: np.ndarray) -> float:
    """dB above which somebody is heard."""
    heard = level[level > FLOOR_DB + 1]  # digital silence is not what quiet sounds like
    if not len(heard):
        return 0.0
    quiet, high = np.percentile(heard, (10, 95))
    if len(heard) < len(level):
        quiet = min(quiet, high - 40)
    if high - quiet < CONTRAST:
        return FLOOR_DB
    return quiet + ABOVE * (high - quiet)


def _closed(loud: np.ndarray, gap: int) -> np.ndarray:
    """Quiet of fewer than `gap` steps between two loud ones is loud."""
    loud = loud.copy()
    for start, end in true_spans(~loud):
        if end - start < gap and start > 0 and end < len(loud):
            loud[start:end] = True
    return loud


def _short(run: tuple[int, int], smooth: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """A run of at most `longest` steps as it is; a longer one cut where it is quietest, and again.

    Cut neither in its first nor in its last quarter, so that no cut leaves a crumb.
    """
    start, end = run
    if end - start <= longest:
        return [run]
    low, high = start + (end - start) // 4, end - (end - start) // 4
    cut = low + int(smooth[low:high].argmin())
    return _short((start, cut), smooth, longest) + _short((cut, end), smooth, longest)

"""Sound of a file, as numbers at the rate that is asked for."""

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

import utils
from utils import Unusable, UserError


def read(path: Path, rate: int) -> np.ndarray:
    """(N,) float32 in [-1, 1] at `rate` Hz; channels averaged. Raises Unusable, UserError."""
    try:
        data = utils.read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        wave, came = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise Unusable("not audio") from error
    wave = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1)
    if came != rate:
        wave = soxr.resample(wave, came, rate, quality="HQ")
    if not len(wave):
        raise Unusable("empty wav")
    if not np.isfinite(wave).all():
        raise Unusable("infinite or NaN samples")
    return wave

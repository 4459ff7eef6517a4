"""Mel-frequency cepstral coefficients of a wav, frame by frame, standardised over its time.

The numbers are those of librosa's `feature.mfcc` (128 Slaney bands, 80 dB below the loudest,
orthonormal DCT II, zeros beyond both ends), each coefficient then at mean 0 and variance 1 over all
frames of the clip, as sklearn's `scale` does it. Frame i is centred at i * hop samples. Of a clip
of more than LONGEST the beginning is seen, so a frame's number tells its time.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse

from features.store import contract
from media.audio import read
from utils import UserError

BANDS = 128  # of mel: librosa's number
LONGEST = 30  # s
AMIN, TOP_DB = 1e-10, 80.0  # power floor, and dB below the loudest band: librosa's defaults
FRAMES_AT_ONCE = 4096  # bounds the memory of a long clip
CONSTANT = 10  # times the rounding of its values: an sd below that is rounding, too


class Extractor(contract.Extractor):
    """wav -> (T, n_mfcc), standardised; T = 1 + samples // hop."""

    def __init__(self, parameters: dict):
        import librosa  # here: it takes a second, and reading a cache needs none of it

        p = self.parameters = parameters
        n = p["n_fft"]
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
        self.bank = scipy.sparse.csr_array(_bank(librosa, p["sample_rate"], n))

    def __call__(self, source: Path, rows: list) -> list[np.ndarray]:
        """The whole clip once, for each of `rows`. Raises Unusable for what is not sound."""
        wave = read(source, self.parameters["sample_rate"])
        return [standard(self.coefficients(wave))] * len(rows)

    def coefficients(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in [-1, 1], N >= 1 -> (T, n_mfcc) as librosa has them, transposed."""
        n = self.parameters["n_fft"]
        wave = np.pad(wave, n // 2)
        frames = np.lib.stride_tricks.sliding_window_view(wave, n)[:: self.parameters["hop"]]
        parts = range(0, len(frames), FRAMES_AT_ONCE)
        mel = np.concatenate([self._mel(frames[i : i + FRAMES_AT_ONCE]) for i in parts])
        db = 10 * np.log10(np.maximum(mel, AMIN))
        db = np.maximum(db, db.max() - TOP_DB)
        return scipy.fft.dct(db, axis=1, norm="ortho")[:, : self.parameters["n_mfcc"]]

    def _mel(self, frames: np.ndarray) -> np.ndarray:
        spectrum = scipy.fft.rfft(frames * self.window, axis=1)
        return (self.bank @ (spectrum.real**2 + spectrum.imag**2).T).T


class Feature(contract.Feature):
    """Coefficients frame by frame."""

    VERSION = 1
    DTYPE = "float16"  # standard deviations: at most 0.004 off up to 8
    SOURCE = "wav"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """Rates in Hz, sizes in samples; `settings.sr` is the rate everything is resampled to."""
        n_mfcc, n_fft, hop = settings.n_mfcc, settings.mfcc_fft, settings.mfcc_hop
        if not 1 <= n_mfcc <= BANDS:
            raise UserError(f"--n_mfcc should lie in 1..{BANDS}, the mel bands, it is {n_mfcc}")
        if n_fft < 2 or hop < 1:
            raise UserError(
                f"--mfcc_fft should be at least 2 and --mfcc_hop 1 sample, they are {n_fft} and "
                f"{hop}"
            )
        return {"sample_rate": settings.sr, "n_mfcc": n_mfcc, "n_fft": n_fft, "hop": hop}

    @staticmethod
    def shape(parameters: dict) -> tuple[None, int]:
        """(any number of frames, n_mfcc)."""
        return None, parameters["n_mfcc"]

    @staticmethod
    def longest(parameters: dict) -> int:
        """Frames of a block at most: 3,001 at 16 kHz."""
        return 1 + LONGEST * parameters["sample_rate"] // parameters["hop"]


def _bank(librosa: Any, rate: int, n_fft: int) -> np.ndarray:
    """(BANDS, bins) weights; narrow bands between two bins are empty: they are constant then."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")
        return librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=BANDS).astype(np.float32)


def standard(coefficients: np.ndarray) -> np.ndarray:
    """(T, K) -> (T, K) of mean 0 and population variance 1 over time; a constant one gives 0."""
    values = coefficients.astype(np.float64)
    values -= values.mean(0)
    sd = values.std(0)
    rounding = CONSTANT * np.finfo(coefficients.dtype).eps * np.abs(coefficients).max(0)
    moves = sd > rounding
    return np.where(moves, values / np.where(moves, sd, 1), 0).astype(np.float32)

"""Means of mel-frequency cepstral coefficients, of a second of sound by itself.

The coefficients are librosa's `feature.mfcc` of just these samples (128 Slaney bands, 80 dB below
the loudest, zeros beyond both ends), so a second becomes the same in a clip and in a video, in
training and in use. All at constants.SAMPLE_RATE, whatever the rate of a file.
"""

import warnings

import numpy as np
import scipy.fft
import scipy.sparse

from constants import SAMPLE_RATE

COEFFICIENTS, BANDS = 32, 128  # of EmotionShortForm (2023), librosa's number
N_FFT, HOP = 2048, 512  # samples: 128 ms, 32 ms
AMIN, TOP_DB = 1e-10, 80.0  # power floor, and dB below the loudest band: librosa's defaults
PARAMETERS = {
    "sample_rate": SAMPLE_RATE,
    "n_mfcc": COEFFICIENTS,
    "bands": BANDS,
    "n_fft": N_FFT,
    "hop": HOP,
}


class Means:
    """(N,) float32 in [-1, 1] at SAMPLE_RATE, N >= 1 -> (COEFFICIENTS,)."""

    def __init__(self):
        import librosa  # here: it takes a second, and reading a cache needs none of it

        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Empty filters")
            bank = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=BANDS)
        self.bank = scipy.sparse.csr_array(bank.astype(np.float32))

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        return _coefficients(self._mel(wave))

    def with_level_and_flux(self, wave: np.ndarray) -> np.ndarray:
        """The means, the level in dB of full scale, and the spectral flux, (COEFFICIENTS + 2,).

        Flux: how much of the power changes its band from a frame to the next, 0 (none) to 2 (all),
        the mean over frames; 0 of silence.
        """
        mel = self._mel(wave)
        level = 10 * np.log10(max(float((wave.astype(np.float64) ** 2).mean()), AMIN))
        share = mel + AMIN / BANDS
        share /= share.sum(1, keepdims=True)
        flux = abs(np.diff(share, axis=0)).sum(1)
        return np.append(_coefficients(mel), [level, flux.mean() if len(flux) else 0.0])

    def _mel(self, wave: np.ndarray) -> np.ndarray:
        """(N,) -> (1 + N // HOP, BANDS) power."""
        wave = np.pad(wave, N_FFT // 2)
        frames = np.lib.stride_tricks.sliding_window_view(wave, N_FFT)[::HOP]
        spectrum = scipy.fft.rfft(frames * self.window, axis=1)
        return (self.bank @ (spectrum.real**2 + spectrum.imag**2).T).T


def _coefficients(mel: np.ndarray) -> np.ndarray:
    """(T, BANDS) -> (COEFFICIENTS,): the mean over time."""
    db = 10 * np.log10(np.maximum(mel, AMIN))
    db = np.maximum(db, db.max() - TOP_DB)
    return scipy.fft.dct(db.mean(0), norm="ortho")[:COEFFICIENTS]  # linear: the mean goes first

"""Contours of a wave: what features/functionals.py sums up, a value or a row every HOP.

Silence at both ends is left out. F0 is of YIN (librosa), computed in every frame; which frames are
voiced is told by loudness and by the autocorrelation at the period.
"""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.fft

WINDOW, HOP = 0.032, 0.010  # s
PITCH_WINDOW = 0.064  # s: two periods and more of the lowest F0
F0_MIN, F0_MAX = 60.0, 600.0  # Hz: a low man's voice to a scream
F0_REFERENCE = 27.5  # Hz: semitones are counted from A0, as eGeMAPS counts them
VOICED = 0.45  # least autocorrelation at the period: Praat's voicing threshold
SPEECH_DB = 40.0  # below the loudest frame begins the silence that is trimmed
VOICED_DB = 30.0  # below it nothing is voiced: Praat's silence threshold, 0.03
BANDS, COEFFICIENTS = 26, 13  # mel bands, MFCC: the usual numbers
F_MIN, F_MAX = 20.0, 8000.0  # Hz
AMIN = 1e-10  # power floor of all decibels, -100 dB: the rounding of 16-bit samples is 0.8e-10
ROLLOFF = 0.85  # share of the power that is below the roll-off frequency
SHAPES = ("centroid", "rolloff", "flatness", "tilt", "flux")
FRAMES_AT_ONCE = 1024  # bounds the memory of a long clip


class Contours(NamedTuple):
    """T >= 1 frames of a trimmed clip of `duration` s."""

    duration: float
    bands: np.ndarray  # (T, BANDS) dB
    mfcc: np.ndarray  # (T, COEFFICIENTS)
    shapes: np.ndarray  # (T, 5): SHAPES
    level: np.ndarray  # (T,) dB of full scale
    f0: np.ndarray  # (T,) semitones, of no meaning where not voiced
    harmonicity: np.ndarray  # (T,) autocorrelation at the period, -1..1
    voiced: np.ndarray  # (T,) bool


class Listener:
    """(N,) float32 in [-1, 1] at `rate` Hz, N >= 1 -> Contours."""

    def __init__(self, rate: int):
        import librosa  # here: it takes a second, and reading a cache needs none of it

        self.rate = rate
        self.hop, self.window = round(HOP * rate), round(WINDOW * rate)
        self.n_fft = scipy.fft.next_fast_len(self.window, real=True)
        self.hann = np.hanning(self.window + 1)[:-1].astype(np.float32)
        with warnings.catch_warnings():  # low rates leave bands empty: they are constant then
            warnings.filterwarnings("ignore", "Empty filters")
            self.bank = librosa.filters.mel(
                sr=rate,
                n_fft=self.n_fft,
                n_mels=BANDS,
                fmin=F_MIN,
                fmax=min(F_MAX, rate / 2),
                norm=None,
            )
        self.yin = librosa.yin

    def __call__(self, wave: np.ndarray) -> Contours:
        wave = self._trimmed(wave - wave.mean())  # an offset is the microphone's
        duration = len(wave) / self.rate
        wave = np.pad(wave, (0, max(0, self.window - len(wave))))
        power = self._power(wave)
        bands = 10 * np.log10(np.maximum(power @ self.bank.T, AMIN))
        mfcc = scipy.fft.dct(bands, axis=1, norm="ortho")[:, :COEFFICIENTS]
        level = _decibels(self._frames(wave, self.window))
        f0, harmonicity = self.pitch(wave)
        voiced = _voiced(level, harmonicity)
        shapes = self._spectral(power)
        return Contours(duration, bands, mfcc, shapes, level, f0, harmonicity, voiced)

    def pitch(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) -> (T,) F0 in semitones above A0, (T,) autocorrelation at its period, -1..1."""
        size = round(PITCH_WINDOW * self.rate)
        side = size - self.window  # its middle is that of the spectrum's window
        frames = self._frames(np.pad(wave, (side // 2, side - side // 2)), size)
        found = [
            self._pitch(frames[i : i + FRAMES_AT_ONCE])
            for i in range(0, len(frames), FRAMES_AT_ONCE)
        ]
        f0, harmonicity = np.concatenate(found, axis=1)
        return 12 * np.log2(f0 / F0_REFERENCE), harmonicity

    def _pitch(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T, size) -> (T,) Hz, (T,): see `pitch`. Frames side by side, as YIN then cuts them."""
        size = frames.shape[1]
        f0 = self.yin(
            frames.ravel(),
            fmin=F0_MIN,
            fmax=F0_MAX,
            sr=self.rate,
            frame_length=size,
            hop_length=size,
            center=False,
        )
        lag = np.clip(np.rint(self.rate / f0).astype(int), 1, size // 2)
        at = (size - size // 2 - lag)[:, None] // 2 + np.arange(size // 2)  # both in the middle
        now, later = (np.take_along_axis(frames, i, axis=1) for i in (at, at + lag[:, None]))
        energy = (now**2).sum(1) * (later**2).sum(1)
        return f0, (now * later).sum(1) / np.sqrt(energy + AMIN**2)

    def _frames(self, wave: np.ndarray, size: int) -> np.ndarray:
        """(N,) -> (T, size), a view."""
        return np.lib.stride_tricks.sliding_window_view(wave, size)[:: self.hop]

    def _trimmed(self, wave: np.ndarray) -> np.ndarray:
        """Without the silence at both ends; at least a frame, or the clip where it has no more."""
        if len(wave) <= self.window:
            return wave
        level = _decibels(self._frames(wave, self.window))
        loud = np.flatnonzero(level > level.max() - SPEECH_DB)
        return wave[loud[0] * self.hop : loud[-1] * self.hop + self.window]

    def _power(self, wave: np.ndarray) -> np.ndarray:
        """(N,) -> (T, bins) power; white noise of power p has p in each bin, whatever the rate."""
        frames = self._frames(wave, self.window)
        power = [
            abs(scipy.fft.rfft(frames[i : i + FRAMES_AT_ONCE] * self.hann, self.n_fft)) ** 2
            for i in range(0, len(frames), FRAMES_AT_ONCE)
        ]
        return np.concatenate(power) / (self.hann**2).sum()

    def _spectral(self, power: np.ndarray) -> np.ndarray:
        """(T, bins) -> (T, 5): SHAPES. Hz in thousands; tilt: dB of below over above 1 kHz."""
        hertz = np.linspace(0, self.rate / 2, power.shape[1]) / 1000
        power = power + AMIN / power.shape[1]
        total = power.sum(1)
        share = power / total[:, None]
        below = hertz < 1
        columns = [
            share @ hertz,
            hertz[np.argmax(np.cumsum(share, axis=1) >= ROLLOFF - 1e-6, axis=1)],
            10 * (np.log10(power).mean(1) - np.log10(power.mean(1))),
            10 * np.log10(power[:, below].sum(1) / power[:, ~below].sum(1)),
            abs(np.diff(share, axis=0, prepend=share[:1])).sum(1),
        ]
        return np.stack(columns, 1)


def _voiced(level: np.ndarray, harmonicity: np.ndarray) -> np.ndarray:
    """(T,) bool. What is as quiet as the floor of the decibels is not a voice."""
    loud = (level > level.max() - VOICED_DB) & (level > 10 * np.log10(AMIN) + 1)
    return loud & (harmonicity > VOICED)


def _decibels(frames: np.ndarray) -> np.ndarray:
    """(T, size) -> (T,) mean power."""
    return 10 * np.log10(np.maximum((frames**2).mean(axis=1), AMIN))

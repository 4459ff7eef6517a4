"""Log-mel spectrogram of the first ten seconds of a wav, in dB, standardised as a block.

The numbers are those of torchaudio's MelSpectrogram and AmplitudeToDB on the wave padded with
zeros to ten seconds, without computing the padding: frames beyond the clip are FLOOR_DB.
Longer clips keep all their frames, and are cut to ten seconds when a block is gathered.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse

import constants
from features.store import contract
from media.audio import read

FRAMES_AT_ONCE = 512  # bounds the memory of a long clip: 4 MB of spectrum


class Extractor(contract.Extractor):
    """wav -> (229, T) dB, T = 313 or more only for clips longer than a block."""

    def __init__(self, parameters: dict):
        p = self.parameters = parameters
        n = p["n_fft"]
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
        bank = triangles(p["sample_rate"], n, p["n_mels"], p["f_min"], p["f_max"])
        self.bank = scipy.sparse.csr_array(bank)  # 1 % of it is not zero

    def __call__(self, source: Path, rows: list) -> list[np.ndarray]:
        """The whole clip once, for each of `rows`. Raises Unusable for what is not sound."""
        return [self.decibels(read(source, self.parameters["sample_rate"]))] * len(rows)

    def decibels(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in [-1, 1] -> (229, T) float32 dB."""
        n, samples = self.parameters["n_fft"], self.parameters["samples"]
        # zeros after the clip, as in the padded wave: the last frames that still hear it need
        # them, and up to the end only, where the reflection of the padded wave begins
        wave = np.pad(wave, (0, min(n, max(0, samples - len(wave)))))
        wave = np.pad(wave, n // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(wave, n)[:: self.parameters["hop"]]
        parts = [
            self._mel(frames[i : i + FRAMES_AT_ONCE]) for i in range(0, len(frames), FRAMES_AT_ONCE)
        ]
        mel = np.concatenate(parts, axis=1)
        return 10 * np.log10(np.maximum(mel, self.parameters["amin"]))

    def _mel(self, frames: np.ndarray) -> np.ndarray:
        spectrum = scipy.fft.rfft(frames * self.window, axis=1)
        return self.bank @ (spectrum.real**2 + spectrum.imag**2).T


class Feature(contract.Feature):
    """dB of mel bands, of ten seconds."""

    VERSION = 1
    DTYPE = "float16"  # dB: at most 0.03 off between -100 and 64
    SOURCE = "wav"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """Rates in Hz, sizes in samples; `settings.sr` is the rate everything is resampled to."""
        return {
            "sample_rate": settings.sr,
            "n_fft": constants.N_FFT,
            "hop": constants.HOP,
            "n_mels": constants.N_MELS,
            "f_min": constants.F_MIN,
            "f_max": min(constants.F_MAX, settings.sr / 2),
            "amin": constants.AMIN,
            "samples": constants.CLIP_SECONDS * settings.sr,
        }

    @staticmethod
    def shape(parameters: dict) -> tuple[int, int]:
        """(bands, frames) of a block: (229, 313)."""
        return parameters["n_mels"], 1 + parameters["samples"] // parameters["hop"]

    @staticmethod
    def stats(array: np.ndarray, parameters: dict) -> list[float]:
        """What `standard` says of a stored clip; [] for a long one: it depends on the cut."""
        return [] if Feature.is_cut(array.shape, parameters) else standard(array, parameters)

    @staticmethod
    def is_cut(stored: tuple[int, int], parameters: dict) -> bool:
        """Whether (229, T) frames are more than a block."""
        return stored[1] > Feature.shape(parameters)[1]

    @staticmethod
    def gather(
        arrays: list[np.ndarray | None],
        stats: list[list[float] | None],
        parameters: dict,
        cut: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Stored dB -> standardised (N, 229, 313) float32; zeros where there is nothing."""
        frames = Feature.shape(parameters)[1]
        for i, (array, known, block) in enumerate(zip(arrays, stats, out, strict=True)):
            if array is None:
                block[...] = 0
                continue
            if Feature.is_cut(array.shape, parameters):
                array = _cut(array, frames, None if cut is None else cut[i])
                known = standard(array, parameters)
            mean, scale = known
            block[:, : array.shape[1]] = array
            block[:, array.shape[1] :] = constants.FLOOR_DB
            block -= np.float32(mean)
            block *= np.float32(scale)


def triangles(rate: int, n_fft: int, n_mels: int, low: float, high: float) -> np.ndarray:
    """(n_mels, 1 + n_fft / 2) float32: triangles of height 1, evenly spaced in mel as HTK has it,
    2595 log10(1 + f / 700). As librosa's and torchaudio's, whose imports take seconds."""
    ends = 2595 * np.log10(1 + np.array([low, high]) / 700)
    corners = 700 * (10 ** (np.linspace(*ends, n_mels + 2) / 2595) - 1)  # Hz
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.fft.rfftfreq(n_fft, 1 / rate)
    rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def standard(array: np.ndarray, parameters: dict) -> list[float]:
    """[mean, 1 / sqrt(variance + 1e-5)] of the block a clip fills, its padding included.

    In float64, of the stored, rounded values; the variance is the population's.
    """
    values, cells = array.astype(np.float64), math.prod(Feature.shape(parameters))
    padding = cells - values.size
    mean = (values.sum() + padding * constants.FLOOR_DB) / cells
    spread = ((values - mean) ** 2).sum() + padding * (constants.FLOOR_DB - mean) ** 2
    return [float(mean), float(1 / np.sqrt(spread / cells + constants.STANDARDISE_EPS))]


def _cut(array: np.ndarray, frames: int, cut: float | None) -> np.ndarray:
    """Whole frames, at `cut` in [0, 1) of the places where they can begin; None: in the middle."""
    spare = array.shape[1] - frames
    start = spare // 2 if cut is None else int(cut * (spare + 1))
    return array[:, start : start + frames]

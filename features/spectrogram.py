"""Log power spectrogram of a whole wav, its silence 0: (T, 321), as long as the utterance.

Frames of 40 ms every 20 ms under a Hann window, the power spectral density of SciPy's spectrogram
without detrending, then ln(x + EPS) - ln(EPS). Against Preprocessing.py of the
decision fusion of 2022:

* Amplitudes are floats in [-1, 1], there they were raw 16-bit integers. What is louder than EPS
  lies ln(2^-30 / EPS) = 11.4 higher here, everywhere alike; digital silence is 0 here, -23 there.
* So padding with zeros is padding with silence. There a row of zeros, appended to clips under 100
  frames, was the density of 1, in the midst of speech.
* EPS is about what rounding to 16 bit leaves of silence, so it hides nothing that was recorded.
* A clip shorter than a frame is padded with silence to one frame.

Channels of differences are made by the model: here they would triple a cache of 1.5 GB (KEMDy19)
and every batch, to hold what one subtraction gives, and the axis would be part of the cache.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

from features.store import contract
from media.audio import read

WINDOW, HOP = 0.040, 0.020  # s
EPS = 1e-14  # full scale^2 / Hz; rounding to 16 bit adds 2^-30 / 12 / 8000 Hz = 0.97e-14
SECONDS = 30.0  # KEMDy19 has one clip of 78 s, and without a bound its batch would be as long
FRAMES_AT_ONCE = 512  # bounds the memory of a long clip


class Extractor(contract.Extractor):
    """wav -> (T, 321), T = 1 + (samples - 640) // 320 at 16 kHz."""

    def __init__(self, parameters: dict):
        self.parameters, n = parameters, parameters["window"]
        # in double: float32 puts the quiet bins of a loud frame up to 0.01 off
        self.window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)  # periodic, as SciPy's
        # one side of the spectrum stands for both, but where it is its own mirror image: at 0 Hz
        # and, if n is even, at half the rate
        sides = np.full(n // 2 + 1, 2.0)
        sides[0] = 1
        if n % 2 == 0:
            sides[-1] = 1
        power = parameters["sample_rate"] * (self.window**2).sum()
        self.scale = sides / (power * parameters["eps"])

    def __call__(self, source: Path, rows: list) -> list[np.ndarray]:
        """The whole clip once, for each of `rows`. Raises Unusable for what is not sound."""
        return [self.logarithm(read(source, self.parameters["sample_rate"]))] * len(rows)

    def logarithm(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in [-1, 1] -> (T, 321) float32, 0 (silence) to 32."""
        n = self.parameters["window"]
        wave = np.pad(wave, (0, max(0, n - len(wave))))
        frames = np.lib.stride_tricks.sliding_window_view(wave, n)[:: self.parameters["hop"]]
        starts = range(0, len(frames), FRAMES_AT_ONCE)
        return np.concatenate([self._part(frames[i : i + FRAMES_AT_ONCE]) for i in starts])

    def _part(self, frames: np.ndarray) -> np.ndarray:
        spectrum = scipy.fft.rfft(frames * self.window, axis=1)
        logarithm = np.log1p((spectrum.real**2 + spectrum.imag**2) * self.scale)
        return logarithm.astype(np.float32)


class Feature(contract.Feature):
    """The logarithm of the power, frame by frame."""

    VERSION = 1
    # at most 2^-7 off (0.03 dB): the loudest sound that a wav can hold is under 32
    DTYPE = "float16"
    SOURCE = "wav"
    OPTIONS = {"seconds": SECONDS}
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """Rate in Hz, sizes in samples; `settings.sr` is the rate everything is resampled to, and
        `settings.seconds` how much of a clip is seen at most."""
        return {
            "sample_rate": settings.sr,
            "window": round(WINDOW * settings.sr),
            "hop": round(HOP * settings.sr),
            "eps": EPS,
            "samples": round(Feature.option(settings, "seconds") * settings.sr),
        }

    @staticmethod
    def shape(parameters: dict) -> tuple[None, int]:
        """(frames, bins): (None, 321) at 16 kHz, 0 to 8,000 Hz in steps of 25 Hz."""
        return None, parameters["window"] // 2 + 1

    @staticmethod
    def longest(parameters: dict) -> int:
        """Frames of a block at most: the 1,499 of 30 s at 16 kHz."""
        return max(1, 1 + (parameters["samples"] - parameters["window"]) // parameters["hop"])

    @staticmethod
    def is_cut(stored: tuple[int, int], parameters: dict) -> bool:
        """Whether (T, 321) frames are more than a block."""
        return stored[0] > Feature.longest(parameters)

    @staticmethod
    def gather(
        arrays: list[np.ndarray | None],
        stats: list,
        parameters: dict,
        cut: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Stored frames -> `out` (N, T, 321) float32; zeros, silence, where there is nothing."""
        most = Feature.longest(parameters)
        for i, (array, block) in enumerate(zip(arrays, out, strict=True)):
            block[...] = 0
            if array is None:
                continue
            if Feature.is_cut(array.shape, parameters):
                array = _cut(array, most, None if cut is None else cut[i])
            block[: len(array)] = array


def _cut(array: np.ndarray, frames: int, cut: float | None) -> np.ndarray:
    """`frames` frames, at `cut` in [0, 1) of the places they can begin; None: in the middle."""
    spare = len(array) - frames
    start = spare // 2 if cut is None else int(cut * (spare + 1))
    return array[start : start + frames]

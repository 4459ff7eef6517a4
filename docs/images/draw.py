"""The picture of a log-mel that the READMEs show: `PYTHONPATH=. python docs/images/draw.py`

Writes docs/images/log_mel.png: a synthetic utterance, its wave and the block MATE reads.
docs/images/model.svg is drawn by hand.
"""

from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import constants
from corpora.synthetic import voices
from utils import leaf, rng

TEXT = "우와 진짜 고마워 이렇게 예쁜 꽃은 처음 받아 봐"  # in both READMEs
EMOTION = "happy"
TICKS = (100, 500, 1000, 2000, 4000, 8000)  # Hz


def utterance() -> np.ndarray:
    """(N,) samples in [-1, 1] at 16 kHz."""
    voice = voices.voice("F", rng(1, "docs", "voice"))
    return voices.speak(TEXT, EMOTION, 1.0, voice, rng(1, "docs", "wave"))


def block(wave: np.ndarray) -> np.ndarray:
    """(229, 313): standardised, as it enters the model."""
    log_mel = leaf("features", "log_mel")
    parameters = log_mel.parameters(SimpleNamespace(sr=constants.SAMPLE_RATE))
    stored = log_mel.Extractor(parameters).decibels(wave).astype(log_mel.DTYPE)
    out = np.empty((1, *log_mel.shape(parameters)), np.float32)
    log_mel.gather([stored], [log_mel.stats(stored, parameters)], parameters, None, out)
    return out[0]


def band(hertz: float) -> float:
    """Number of the mel band that a frequency falls into, from 0."""
    low, high, mel = (
        2595 * np.log10(1 + f / 700) for f in (constants.F_MIN, constants.F_MAX, hertz)
    )
    return (mel - low) / (high - low) * (constants.N_MELS + 1) - 1


def draw(wave: np.ndarray) -> Figure:
    """Wave above, block below, on one axis of seconds."""
    seconds, whole = len(wave) / constants.SAMPLE_RATE, constants.CLIP_SECONDS
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(1, 2.6))
    above.plot(np.arange(len(wave)) / constants.SAMPLE_RATE, wave, linewidth=0.4, color="#3b7cb8")
    above.axvspan(seconds, whole, color="0.93")
    above.text((seconds + whole) / 2, 0, "padding", ha="center", va="center", color="0.35")
    above.set(ylabel="wave", yticks=[])
    picture = below.imshow(
        block(wave),
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, whole, -0.5, constants.N_MELS - 0.5),
    )
    below.set_yticks([band(f) for f in TICKS], [f"{f:,}" for f in TICKS])
    below.set(xlabel="time, s", ylabel="mel band, centre in Hz", xlim=(0, whole))
    figure.colorbar(picture, ax=below, label="standardised dB", pad=0.01)
    return figure


def main() -> None:
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        path = Path(__file__).with_name("log_mel.png")
        draw(utterance()).savefig(path, dpi=120, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()

"""Speech layers: the mean over time of every hidden layer of a frozen speech encoder.

    speech_layers (B, W, L + 1, D)   what the first transformer layer is given, what each makes of
                                     it; `--speech_encoder` says whose

The mean of a weighted sum of layers is the weighted sum of their means, so a model learns its
weights from these as well as from the states, and a large encoder is run once for each clip
instead of once for each clip and epoch. Of a clip longer than `--max_seconds` the middle is heard.
Clips go together with others of like lengths; models/encoders/speech.py lets none notice.
"""

from pathlib import Path
from typing import Any

import numpy as np

from constants import SAMPLE_RATE
from features.store import batches, contract
from media.audio import read
from models.encoders import speech
from utils import Unusable, UserError

SAMPLES_AT_ONCE = 60 * SAMPLE_RATE  # in one forward pass, padding included: 3,000 frames


class Extractor(batches.Batched):
    """wav -> (L + 1, D) float32."""

    at_once = SAMPLES_AT_ONCE

    def __init__(self, parameters: dict):
        import torch

        folder = speech.find(parameters["encoder"])
        config = speech.config(folder)
        came = config["num_hidden_layers"] + 1, config["hidden_size"]
        if came != Feature.shape(parameters):
            raise UserError(
                f"needed {Feature.shape(parameters)} layers and numbers of each, the encoder "
                f"in {folder} has {came}"
            )
        self.torch, self.config = torch, config
        self.reverse, self.samples = parameters["reverse"], parameters["samples"]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = speech.encoder(config)
        speech.load(self.model, folder)
        self.model.to(self.device).eval()

    def read(self, source: Path) -> np.ndarray:
        """The samples that are heard, in the order in which they are. Raises Unusable."""
        wave = read(source, SAMPLE_RATE)
        if self.samples:
            start = max(0, len(wave) - self.samples) // 2
            wave = wave[start : start + self.samples]
        if not speech.frames(self.config, self.torch.tensor(len(wave))):
            raise Unusable("too short for the speech encoder")
        return wave[::-1] if self.reverse else wave

    def compute(self, waves: list[np.ndarray]) -> list[np.ndarray]:
        """(T,) each -> (L + 1, D) each."""
        wave, mask = (self.torch.from_numpy(a).to(self.device) for a in batches.padded(waves))
        with self.torch.inference_mode():
            means, _ = speech.means(self.model, wave, mask)
        return list(means.transpose(0, 1).cpu().numpy())


class Feature(contract.Feature):
    """The mean of every layer of a speech encoder."""

    VERSION = 1
    # what a large encoder has between its layers is not normalised: a few channels of it are so
    # large that they could leave the range of float16
    DTYPE = "float32"
    SOURCE = "wav"
    OPTIONS = {"max_seconds": 0.0, "speech": None, "reverse": False}
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """The encoder (of `settings.speech_encoder`), whether it hears clips backwards
        (`settings.reverse`), and `settings.max_seconds` in samples; 0: all."""
        seconds = Feature.option(settings, "max_seconds")
        if not 0 <= seconds < float("inf"):
            raise UserError(f"--max_seconds should be at least 0, it is {seconds}")
        found = speech.identify(settings.speech_encoder)
        about = Feature.option(settings, "speech")
        about = about or speech.config(speech.find(found["encoder"]))
        return found | {
            "layers": about["num_hidden_layers"] + 1,
            "dim": about["hidden_size"],
            "reverse": bool(Feature.option(settings, "reverse")),
            "samples": round(seconds * SAMPLE_RATE),
        }

    @staticmethod
    def shape(parameters: dict) -> tuple[int, int]:
        """(L + 1, D): (25, 1024) of a large encoder."""
        return parameters["layers"], parameters["dim"]

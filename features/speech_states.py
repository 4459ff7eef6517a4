"""States of a sound: the last hidden layer of a frozen speech encoder, a row every 20 ms.

    speech_states (B, W, F, D) float32   zeros in the padding
    speech_states_mask (B, W, F)         bool, false in the padding

Of a longer wav the beginning is kept, as in MMM: of the sound `--max_seconds`, so that what one
clip costs is bounded, and of its states `--frames`. (MMM let the encoder hear the whole of it.)
"""

from pathlib import Path
from typing import Any

import numpy as np

import constants
from features.store import batches, contract
from media.audio import read
from models.encoders import speech
from utils import Unusable, UserError

FRAMES = 512  # 10.26 s
SAMPLES_AT_ONCE = 160 * constants.SAMPLE_RATE  # padding included, in one forward pass


class Extractor(batches.Batched):
    """wav -> (F, D) float16, 1 <= F <= frames; samples // 320 of them, or one less."""

    at_once = SAMPLES_AT_ONCE

    def __init__(self, parameters: dict):
        import torch

        self.torch, self.parameters = torch, parameters
        folder = speech.find(parameters["encoder"])
        config = speech.config(folder)
        if config["hidden_size"] != parameters["dim"]:
            raise UserError(
                f"needed states of {parameters['dim']} numbers, the encoder in "
                f"{folder} makes {config['hidden_size']}"
            )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = speech.encoder(config)
        speech.load(self.model, folder)
        self.model.to(self.device).eval()

    def read(self, source: Path) -> np.ndarray:
        """The samples that are heard. Raises Unusable."""
        wave = read(source, constants.SAMPLE_RATE)[: self.parameters["samples"] or None]
        if not len(wave):
            raise Unusable("shorter than a frame")
        return wave

    def compute(self, waves: list[np.ndarray]) -> list[np.ndarray | Unusable]:
        """Several clips -> (F, D) float16 of each."""
        wave, mask = (self.torch.from_numpy(a).to(self.device) for a in batches.padded(waves))
        with self.torch.inference_mode():
            states, there = speech.hidden(self.model, wave, mask)
        kept = there.sum(1).clamp(max=self.parameters["frames"]).tolist()
        states = states.half().cpu().numpy()
        short = Unusable("shorter than a frame")
        return [row[:n] if n else short for row, n in zip(states, kept, strict=True)]


class Feature(contract.Feature):
    """The last states of a speech encoder, frame by frame."""

    VERSION = 1
    DTYPE = "float16"  # states of wav2vec2 are within 30: at most 0.008 off
    SOURCE = "wav"
    OPTIONS = {"frames": FRAMES}
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """The encoder with its weights (of `settings.speech_encoder`), how many numbers a state has
        and what is kept: of the sound `settings.max_seconds` (0: all), of its states
        `settings.frames`."""
        return speech.identify(settings.speech_encoder) | {
            "dim": settings.speech["hidden_size"],
            "samples": round(settings.max_seconds * constants.SAMPLE_RATE),
            "frames": Feature.option(settings, "frames"),
        }

    @staticmethod
    def shape(parameters: dict) -> tuple[None, int]:
        """(F, D), F as it comes."""
        return None, parameters["dim"]

    @staticmethod
    def longest(parameters: dict) -> int:
        """States of a block at most."""
        return parameters["frames"]

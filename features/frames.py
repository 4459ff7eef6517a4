"""Picture of one second of a video: what a Vision Transformer makes of the frame in its middle.

    frames (B, W, D)   the pooled output of `--vision_encoder`; 768 numbers of a base ViT

The frame is the one shown half a second after `start`, by time stamps, and of sound that is longer
than the picture, the last one, for a second. `--vision_encoder colour-motion` needs no weights: its
32 numbers of colour, brightness and motion are those of features/signal/colour_motion.py.
Frames are decoded as they come, AT_ONCE are held.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from features.signal import colour_motion
from features.store import contract
from media import video
from models.encoders import loading
from models.encoders.vision import KIND, input_pixels, prepared, vision_config
from utils import Unusable

NO_WEIGHTS = "colour-motion"
LONG = 600  # s: of a video of that length it is told how far it is
AT_ONCE = 32  # frames in one forward pass


# --- which encoder -------------------------------------------------------------------------------


# --- extraction ----------------------------------------------------------------------------------


class Extractor(contract.Extractor):
    """A video and its rows, each a second from `start` on -> (D,) of each, or Unusable."""

    def __init__(self, parameters: dict):
        colour = parameters["encoder"] == NO_WEIGHTS
        self.seconds = colour_motion.seconds if colour else _Vision(parameters).seconds

    def __call__(self, source: Path, rows: list) -> list[np.ndarray | Unusable]:
        """The pictures are decoded once. Raises Unusable where there are none at all."""
        wanted = sorted({round(row.start) for row in rows})
        short = {"disable": True} if len(wanted) < LONG else {}
        bar = tqdm(self.seconds(source, wanted), "watching", len(wanted), False, unit="s", **short)
        found = dict(bar)
        return [found.get(round(row.start), Unusable("no picture in this second")) for row in rows]


class Feature(contract.Feature):
    """A vector for the picture of each second."""

    VERSION = 1
    DTYPE = "float16"  # a pooled output lies in -1..1
    SOURCE = "wav"
    BY = "second"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """The encoder (of `settings.vision_encoder`), its size, and what it takes pictures as."""
        encoder = settings.vision_encoder
        if encoder == NO_WEIGHTS:
            return {"encoder": encoder, "dim": colour_motion.SIZE}
        found = loading.identify(encoder, kind=KIND)
        folder = loading.find(found["encoder"], KIND, f", or {KIND.flag} {NO_WEIGHTS}")
        return found | {"dim": vision_config(folder)["hidden_size"], "pixels": input_pixels(folder)}

    @staticmethod
    def shape(parameters: dict) -> tuple[int]:
        """(768,) of a base ViT."""
        return (parameters["dim"],)


class _Vision:
    """A ViT, loaded."""

    def __init__(self, parameters: dict):
        import torch

        folder = loading.find(parameters["encoder"], kind=KIND)
        self.torch, self.pixels = torch, parameters["pixels"]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = loading.encoder(vision_config(folder), pooler=True, kind=KIND)
        self.pooled = not loading.load(self.model, folder, KIND)
        self.model.to(self.device).eval()

    def seconds(self, source: Path, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(second, (D,) float32) of those that have a picture."""
        seconds, images = [], []
        for time, picture in video.frames(source, [second + 0.5 for second in wanted]):
            seconds.append(int(time))
            images.append(prepared(picture, self.pixels))
            if len(images) == AT_ONCE:
                yield from zip(seconds, self._states(images), strict=True)
                seconds, images = [], []
        if images:
            yield from zip(seconds, self._states(images), strict=True)

    def _states(self, images: list[np.ndarray]) -> np.ndarray:
        """(3, S, S) each -> (N, D): pooled; of an encoder without pooler, the state of [CLS]."""
        batch = self.torch.from_numpy(np.stack(images)).to(self.device)
        with self.torch.inference_mode():
            out = self.model(pixel_values=batch)
        states = out.pooler_output if self.pooled else out.last_hidden_state[:, 0]
        return states.float().cpu().numpy()

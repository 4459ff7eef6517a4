"""Picture of one second of a video: what a Vision Transformer makes of the frame in its middle.

    frames (B, W, D)   the pooled output of `--vision_encoder`; 768 numbers of a base ViT

The frame is the one shown half a second after `start`, by time stamps, and of sound that is longer
than the picture, the last one, for a second. `--vision_encoder colour-motion` needs no weights: its
32 numbers of colour, brightness and motion are those of features/_colour_motion.py.
Frames are decoded as they come, AT_ONCE are held.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import pretrained
import utils
from features import _colour_motion as colour_motion
from media import video
from pretrained import Kind
from utils import Unusable, UserError

VERSION = 1
DTYPE = "float16"  # a pooled output lies in -1..1
SOURCE = "wav"
BY = "second"
NO_WEIGHTS = "colour-motion"
LONG = 600  # s: of a video of that length it is told how far it is
AT_ONCE = 32  # frames in one forward pass
TYPES = ("vit",)
PREPROCESSING = "preprocessor_config.json"
# how transformers 5 calls what checkpoints call otherwise
RENAMED = (
    ("encoder.layer.", "layers."),
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
POOLER = ("pooler.dense.weight", "pooler.dense.bias")  # a classifier's checkpoint has none
KIND = Kind(
    "vision encoder",
    "ViT",
    "--vision_encoder",
    (PREPROCESSING,),
    ("hidden_size", "image_size", "num_attention_heads", "intermediate_size"),
    spare=POOLER,
    renamed=RENAMED,
)


# --- which encoder -------------------------------------------------------------------------------


def parameters(settings: Any) -> dict:
    """The encoder (of `settings.vision_encoder`), its size, and what it takes pictures as."""
    encoder = settings.vision_encoder
    if encoder == NO_WEIGHTS:
        return {"encoder": encoder, "dim": colour_motion.SIZE}
    found = pretrained.identify(encoder, kind=KIND)
    folder = pretrained.find(found["encoder"], f", or {KIND.flag} {NO_WEIGHTS}", KIND)
    return found | {"dim": _config(folder)["hidden_size"], "pixels": _pixels(folder)}


def _config(folder: Path) -> dict:
    about = pretrained.config(folder, KIND)
    if about["model_type"] not in TYPES:
        raise UserError(
            f"no {KIND.like} in {folder}: model_type is {about['model_type']!r}; "
            f"those there are: {', '.join(TYPES)}"
        )
    return about


def _pixels(folder: Path) -> dict:
    """What becomes of a picture, of its preprocessor_config.json. Raises UserError."""
    said, own = utils.read_json(folder / PREPROCESSING), _config(folder)["image_size"]
    try:
        side = said["size"]
        sides = (side["height"], side["width"]) if isinstance(side, dict) else (side, side)
        mean, sd = ([float(x) for x in said[name]] for name in ("image_mean", "image_std"))
        scale, resample = float(said.get("rescale_factor", 1 / 255)), int(said.get("resample", 2))
        plain = all(said.get(f"do_{name}", True) for name in ("resize", "rescale", "normalize"))
        right = sides == (own, own) and plain and not said.get("do_center_crop", False)
        right = right and len(mean) == len(sd) == 3 and 0 not in sd and 0 <= resample <= 5
    except (LookupError, TypeError, ValueError):
        right = False
    if not right:
        raise UserError(
            f"{folder / PREPROCESSING} should say how pictures are resized to "
            f"{own} x {own} pixels, rescaled, and normalised by image_mean and "
            "image_std"
        )
    return {"side": own, "scale": scale, "mean": mean, "sd": sd, "resample": resample}


def shape(parameters: dict) -> tuple[int]:
    """(768,) of a base ViT."""
    return (parameters["dim"],)


# --- extraction ----------------------------------------------------------------------------------


class Extractor:
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


class _Vision:
    """A ViT, loaded."""

    def __init__(self, parameters: dict):
        import torch

        folder = pretrained.find(parameters["encoder"], kind=KIND)
        self.torch, self.pixels = torch, parameters["pixels"]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = pretrained.encoder(_config(folder), pooler=True, kind=KIND)
        self.pooled = not pretrained.load(self.model, folder, KIND)
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


def prepared(picture: np.ndarray, pixels: dict) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> (3, S, S) float32, as transformers' ViTImageProcessor makes it."""
    from PIL import Image

    side = pixels["side"]
    image = Image.fromarray(picture).resize((side, side), pixels["resample"])
    values = np.asarray(image, np.float32) * np.float32(pixels["scale"])
    values = (values - np.float32(pixels["mean"])) / np.float32(pixels["sd"])
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def gather(
    arrays: list[np.ndarray | None], stats: list, parameters: dict, cut: None, out: np.ndarray
) -> None:
    """Stored seconds -> (N, D) float32 in `out`; zeros where there is nothing."""
    for array, block in zip(arrays, out, strict=True):
        block[...] = 0 if array is None else array

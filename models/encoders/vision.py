"""Vision encoders: ViT, and how it wants its pictures.

Finding, reading and checking one is in loading.py; its vectors are cached by features/frames.py.
"""

from pathlib import Path

import numpy as np

import utils
from models.encoders import loading
from models.encoders.loading import Kind
from utils import UserError

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


def vision_config(folder: Path) -> dict:
    about = loading.config(folder, KIND)
    if about["model_type"] not in TYPES:
        raise UserError(
            f"no {KIND.like} in {folder}: model_type is {about['model_type']!r}; "
            f"those there are: {', '.join(TYPES)}"
        )
    return about


def input_pixels(folder: Path) -> dict:
    """What becomes of a picture, of its preprocessor_config.json. Raises UserError."""
    chosen = utils.read_json(folder / PREPROCESSING)
    own = vision_config(folder)["image_size"]
    try:
        side = chosen["size"]
        sides = (side["height"], side["width"]) if isinstance(side, dict) else (side, side)
        mean, sd = ([float(x) for x in chosen[name]] for name in ("image_mean", "image_std"))
        scale = float(chosen.get("rescale_factor", 1 / 255))
        resample = int(chosen.get("resample", 2))
        plain = all(chosen.get(f"do_{name}", True) for name in ("resize", "rescale", "normalize"))
        right = sides == (own, own) and plain and not chosen.get("do_center_crop", False)
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


def prepared(picture: np.ndarray, pixels: dict) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> (3, S, S) float32, as transformers' ViTImageProcessor makes it."""
    from PIL import Image

    side = pixels["side"]
    image = Image.fromarray(picture).resize((side, side), pixels["resample"])
    values = np.asarray(image, np.float32) * np.float32(pixels["scale"])
    values = (values - np.float32(pixels["mean"])) / np.float32(pixels["sd"])
    return np.ascontiguousarray(values.transpose(2, 0, 1))

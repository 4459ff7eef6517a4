"""A tiny Vision Transformer, untrained, for tests and trials without a network:

    PYTHONPATH=. python benchmarks/tiny_vit.py FOLDER

2 layers of 32 numbers, drawn from a seed. `--vision_encoder FOLDER` then takes the same way as a
ViT of the hub. `--image 224` is what those look at.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers

from utils import UserError, make_folder, write_json

LAYERS, HIDDEN, HEADS = 2, 32, 2
PATCHES = 4  # along each side of a picture
IMAGE = 32  # pixels


def write(folder: Path, image: int = IMAGE, seed: int = 0, **more) -> None:
    """Lay an encoder into `folder` as those of the hub lie: config.json, preprocessor_config.json
    and model.safetensors. `more`: entries of its config."""
    folder = make_folder(folder)
    encoder(image, seed, **more).save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "ViTImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": image, "width": image},
        },
    )


def encoder(image: int = IMAGE, seed: int = 0, **more) -> transformers.PreTrainedModel:
    """A model with random weights; torch's own generator stays as it was."""
    sizes = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * HIDDEN,
        "image_size": image,
        "patch_size": image // PATCHES,
    }
    config = transformers.AutoConfig.for_model("vit", **(sizes | more))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transformers.AutoModel.from_config(config)


def main() -> int:
    """Exit code 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=int, default=IMAGE, help="pixels of a side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    try:
        write(options.folder, options.image, options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"--vision_encoder {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

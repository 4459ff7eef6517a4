"""A tiny wav2vec2, HuBERT or WavLM, untrained, for tests and trials without a network:

    PYTHONPATH=. python benchmarks/tiny_wav2vec2.py FOLDER --norm layer

2 layers of 64 numbers, drawn from a seed, a frame every 320 samples as in the real ones.
`--speech_encoder FOLDER` then takes the same way as theirs. `--norm group` is what base models are
like (their feature encoder averages over a clip), `--norm layer` the large ones.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers

from models.encoders.speech import TYPES
from utils import UserError, make_folder, write_json

LAYERS, HIDDEN, HEADS = 2, 64, 4
CHANNELS = 32  # of each convolution; a real one has 512
NORMS = ("group", "layer")


def write(folder: Path, kind: str = "wav2vec2", norm: str = "layer", seed: int = 0, **more) -> None:
    """Lay an encoder into `folder` as those of the hub lie: config.json, preprocessor_config.json
    and model.safetensors. `more`: entries of its config."""
    folder = make_folder(folder)
    encoder(kind, norm, seed, **more).save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": norm == "layer",
            "sampling_rate": 16000,
        },
    )


def encoder(
    kind: str = "wav2vec2", norm: str = "layer", seed: int = 0, **more
) -> transformers.PreTrainedModel:
    """A model with random weights; torch's own generator stays as it was."""
    config = transformers.AutoConfig.for_model(kind, **(_sizes(norm) | more))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transformers.AutoModel.from_config(config)


def _sizes(norm: str) -> dict:
    """As in the real ones: layer norm in the convolutions goes with layer norm before attention,
    and with biases."""
    return {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * HIDDEN,
        "conv_dim": [CHANNELS] * 7,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
        "conv_bias": norm == "layer",
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "layerdrop": 0.0,
    }


def main() -> int:
    """Exit code 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=TYPES, default="wav2vec2")
    parser.add_argument("--norm", choices=NORMS, default="layer", help="of the feature encoder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    try:
        write(options.folder, options.kind, options.norm, options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"--speech_encoder {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

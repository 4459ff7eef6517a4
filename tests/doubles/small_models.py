"""Every model made small, its batches, and damaged weights."""

import dataclasses
import io
import pickle

import numpy as np
import torch

import model
import utils

W, TEXT_DIM, ROWS = 3, 12, 3


SMALL = {"hidden_size": 8, "ws": W, "text_dim": TEXT_DIM}


TINY = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


SPEECH = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "group",
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "do_normalize": True,
}


NEEDED = {  # by models that have such a setting
    "encoder": TINY,
    "special": {"cls": 2, "sep": 3, "pad": 1},
    "max_length": 40,
    "heads": "emotion,arousal,valence",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "speech": SPEECH,
    "frames": 20,
}


FUNCTIONALS = utils.leaf("features", "functionals").shape({})


SHAPES = {
    "log_mel": (229, 313),
    "sentence": (TEXT_DIM,),
    "functionals": FUNCTIONALS,
    "speech_layers": (3, 16),
}


STEPS = 12  # of a ragged feature that is new
RAGGED = {  # steps, and of each
    "tokens": (9,),
    "mfcc": (30, 100),
    "spectrogram": (120, 321),
    "waveform": (2400,),
    "text_states": (9, 16),
    "speech_states": (20, 16),
    "mfcc_seconds": (12, 32),
}


def small(name):
    """A configuration of that model with which it is built in no time."""
    fields = {field.name for field in dataclasses.fields(utils.leaf("models", name).Settings)}
    return SMALL | {key: value for key, value in NEEDED.items() if key in fields}


# those that judge each second of a video: tests/models/test_highlight.py
LEAVES = [name for name in utils.leaves("models") if not utils.leaf("models", name).SEQUENCE]


def windows(name, configuration, seed=0, rows=ROWS):
    """A random batch for that model: the window of row i starts with i slots of padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(W) >= torch.arange(rows).clamp(max=W - 1).unsqueeze(-1)
    batch = {"mask": mask}
    for feature in model.inputs(name, configuration):
        shape = shape_of(feature, name, configuration)
        if feature in RAGGED or shape[0] is None:
            batch |= ragged(feature, shape, mask, generator)
        else:
            batch[feature] = torch.randn(rows, W, *shape, generator=generator)
    batch["emotion"] = torch.rand(rows, 7, generator=generator).softmax(-1)
    for head in ("arousal", "valence"):
        batch[head] = 1 + 4 * torch.rand(rows, generator=generator)
    return batch


def shape_of(feature, name, configuration):
    """Of one block: as it stands above, or of a feature that is new, as it says itself."""
    if known := SHAPES.get(feature) or RAGGED.get(feature):
        return known
    own = utils.leaf("features", feature)
    return own.shape(own.parameters(model.settings(name, configuration)))


def ragged(feature, shape, mask, generator):
    """A ragged feature of random lengths, at least two thirds of the longest; and its mask."""
    steps, *shape = shape
    steps = steps or STEPS
    lengths = torch.randint(2 * steps // 3, steps + 1, mask.shape, generator=generator)
    there = mask.unsqueeze(-1) & (torch.arange(steps) < lengths.unsqueeze(-1))
    if feature == "tokens":
        values = torch.randint(5, TINY["vocab_size"], (*mask.shape, steps), generator=generator)
        values[..., 0] = NEEDED["special"]["cls"]
        values[torch.arange(steps) == lengths.unsqueeze(-1) - 1] = NEEDED["special"]["sep"]
    else:
        values = torch.randn(*mask.shape, steps, *shape, generator=generator)
    return {feature: values, f"{feature}_mask": there}


@torch.no_grad()
def predict(built, batch):
    return built(batch)


def torch_bytes(value):
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


DAMAGES = {
    "empty": lambda data: b"",
    "text": lambda data: b"not a model\n",
    "half": lambda data: data[: len(data) // 2],
    "end cut": lambda data: data[:-1000],
    "start cut": lambda data: data[100:],
    "zeros": lambda data: bytes(1000),
    "array": lambda data: pickle.dumps({"weight": np.ones(3)}, protocol=2),
    "list": lambda data: torch_bytes([1, 2]),
    "numbers": lambda data: torch_bytes({"weight": 3}),
    "module": lambda data: torch_bytes(torch.nn.Linear(2, 2)),
}


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")

"""A small mixer of sound and words and batches for it."""

import pytest
import torch

import model
from models.layers import fusions

CLS, SEP, PAD, PIECES = 2, 3, 1, 40
TEXT, SOUND = 16, 24  # numbers of a state
LONGEST, FRAMES = 12, 10
CONFIG = {
    "model_type": "bert",
    "hidden_size": TEXT,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": PIECES,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SPEECH = {
    "model_type": "wav2vec2",
    "hidden_size": SOUND,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 4],
    "conv_stride": [5, 4],
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "conv_bias": True,
    "num_feat_extract_layers": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}
SPECIAL = {"cls": CLS, "sep": SEP, "pad": PAD}
FLAGS = {
    "encoder": CONFIG,
    "special": SPECIAL,
    "speech": SPEECH,
    "max_length": LONGEST,
    "frames": FRAMES,
    "dropout": 0.0,
}
KINDS = [{"fusion": name} for name in fusions.FUSIONS] + [{"fusion": "mixer", "legacy": True}]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k.values())))


def build(seed=7, **changed):
    """A model whose predictions differ between rows: its weights are large."""
    built = model.build("mixer", FLAGS | changed, seed=seed)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.startswith("encoder") and parameter.ndim > 1:
                parameter.mul_(8)
        for output in built.outputs.values():
            output.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    return built.eval()


def states(seed, pieces=5, frames=7):
    """States of a text (T, TEXT) and of a sound (F, SOUND); none of either where it is 0."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(pieces, TEXT, generator=generator)
    return text, torch.randn(frames, SOUND, generator=generator)


def ragged(rows, more, filler):
    """Windows of ragged arrays -> (B, W, T, ...) padded by `more` beyond the longest, its mask."""
    longest = max(1, *(len(one) for window in rows for one in window)) + more
    shape = rows[0][-1].shape[1:]
    out = torch.full((len(rows), len(rows[0]), longest, *shape), filler, dtype=rows[0][-1].dtype)
    mask = torch.zeros(out.shape[:3]).bool()
    for i, window in enumerate(rows):
        for j, one in enumerate(window):
            out[i, j, : len(one)], mask[i, j, : len(one)] = one, True
    return out, mask


def batch_of(windows, more=(0, 0), names=("text_states", "speech_states")):
    """Windows of (text, sound) -> a batch, noise in the padding."""
    batch = {"mask": torch.ones(len(windows), len(windows[0])).bool()}
    for i, (name, extra) in enumerate(zip(names, more, strict=True)):
        rows = [[utterance[i] for utterance in window] for window in windows]
        filler = torch.nan if rows[0][0].is_floating_point() else 17
        batch[name], batch[f"{name}_mask"] = ragged(rows, extra, filler)
    return batch


def heard(windows, **more):
    """The same of ids and samples, for a model that is fine-tuned."""
    return batch_of(windows, names=("tokens", "waveform"), **more)


def spoken(seed, pieces=4, samples=300):
    """Ids (T,) and samples (N,): [CLS], `pieces` of them, [SEP]; none of either where it is 0."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, PIECES, (pieces,), generator=generator).tolist()
    ids = torch.tensor([CLS, *ids, SEP] if ids else [], dtype=torch.long)
    return ids, 0.1 * torch.randn(samples, generator=generator)


@torch.no_grad()
def predict(built, batch):
    return built(batch)


def assert_equal(one, other, atol=1e-5):
    assert set(one) == set(other)
    for head in one:
        torch.testing.assert_close(one[head], other[head], atol=atol, rtol=0)


def differ(one, other):
    return max((one[head] - other[head]).abs().max() for head in one) > 1e-3


def row(prediction, i):
    return {head: value[i : i + 1] for head, value in prediction.items()}


def truth(rows):
    generator = torch.Generator().manual_seed(3)
    return {
        "emotion": torch.rand(rows, 7, generator=generator).softmax(-1),
        "arousal": 1 + 4 * torch.rand(rows, generator=generator),
        "valence": 1 + 4 * torch.rand(rows, generator=generator),
    }

"""A small CM-BERT and batches for it."""

import pytest
import torch

import model
from constants import HEADS

CLS, SEP, PAD, PIECES, COEFFICIENTS = 2, 3, 1, 40, 5
CONFIG = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": PIECES,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
}
FLAGS = {
    "encoder": CONFIG,
    "special": {"cls": CLS, "sep": SEP, "pad": PAD},
    "max_length": 64,
    "n_mfcc": COEFFICIENTS,
    "attention_size": 6,
    "heads": ",".join(HEADS),
}
VARIANTS = pytest.mark.parametrize("legacy", [False, True], ids=["ours", "legacy"])


def build(seed=7, **changed):
    """A model whose predictions differ between rows: its weights are large."""
    built = model.build("cm_bert", FLAGS | changed, seed=seed)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if parameter.ndim > 1 and "embeddings" not in name:
                parameter.mul_(8 if name.startswith("encoder") else 3)
            elif "embeddings" in name and parameter.ndim > 1:
                parameter.mul_(40)  # BERT's are 0.02: words would be alike
        for output in built.outputs.values():
            output.weight.normal_(std=1.0, generator=torch.Generator().manual_seed(1))
    return built.eval()


def utterance(seed, words=4, frames=9):
    """Ids (T,) and sound (F, n): [CLS], `words` pieces, [SEP]; none of either where it is 0."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, PIECES, (words,), generator=generator)
    ids = torch.cat([torch.tensor([CLS]), ids, torch.tensor([SEP])]) if words else ids
    return ids, torch.randn(frames, COEFFICIENTS, generator=generator)


def batch_of(utterances, more=(0, 0), ws=1):
    """A batch of them, padded to the longest and by `more` tokens and frames, noise in it."""
    rows = len(utterances)
    tokens_long = max(1, *(len(ids) for ids, _ in utterances)) + more[0]
    frames_long = max(1, *(len(sound) for _, sound in utterances)) + more[1]
    batch = {
        "tokens": torch.full((rows, ws, tokens_long), 17),
        "tokens_mask": torch.zeros(rows, ws, tokens_long).bool(),
        "mfcc": torch.full((rows, ws, frames_long, utterances[0][1].shape[1]), torch.nan),
        "mfcc_mask": torch.zeros(rows, ws, frames_long).bool(),
        "mask": torch.arange(ws).expand(rows, ws) == ws - 1,
    }
    for row, (ids, sound) in enumerate(utterances):
        batch["tokens"][row, -1, : len(ids)] = ids
        batch["tokens_mask"][row, -1, : len(ids)] = True
        batch["mfcc"][row, -1, : len(sound)] = sound
        batch["mfcc_mask"][row, -1, : len(sound)] = True
    return batch


def several():
    return [utterance(seed, 2 + seed, 5 + 3 * seed) for seed in range(5)]


@torch.no_grad()
def predict(built, batch):
    return built(batch)


def assert_equal(one, other, atol=1e-5):
    assert set(one) == set(other)
    for head in one:
        torch.testing.assert_close(one[head], other[head], atol=atol, rtol=0)

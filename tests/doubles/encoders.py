"""Tiny encoders of every kind, clips and texts for them, and what transformers makes of a clip."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from benchmarks import tiny_wav2vec2
from models.encoders import speech

KINDS = {
    "group": ("wav2vec2", "group", {}),
    "layer": ("wav2vec2", "layer", {}),
    "mixed": ("wav2vec2", "group", {"do_stable_layer_norm": True}),
    "hubert": ("hubert", "group", {}),
    "hubert-layer": ("hubert", "layer", {"feat_proj_layer_norm": False}),
    "hubert-batch-norm": ("hubert", "group", {"conv_pos_batch_norm": True}),
    "wavlm": ("wavlm", "group", {}),
    "wavlm-layer": ("wavlm", "layer", {}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
LENGTHS = [9000, 4003, 6400, 400, 9000, 1234]
TEXTS = [
    "오늘 날씨가 정말 좋네요.",
    "나는 너무 화가 나서 참을 수 없었어.",
    "왜 그렇게 말하는 거야?",
    "괜찮아, 다 잘 될 거야.",
    "무서워서 잠을 잘 수가 없어.",
    "어.",
    "ABC 3,000원",
]


def lively(tensors: dict) -> dict:
    """Other numbers for biases and LayerNorms, which start as 0 and 1 everywhere."""
    generator = torch.Generator().manual_seed(3)

    def drawn(name: str, old: torch.Tensor) -> torch.Tensor:
        if not old.is_floating_point() or name.endswith("running_var"):
            return old
        if old.ndim == 1:
            return old + 0.3 * torch.randn(old.shape, generator=generator)
        return old * (2 if "proj" in name or "dense" in name else 1)

    return {name: drawn(name, old) for name, old in tensors.items()}


def rewrite(folder: Path, change) -> None:
    """Change the dict of tensors in model.safetensors."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def loaded(folder: Path, **more) -> torch.nn.Module:
    module = speech.encoder(speech.config(folder) | more)
    speech.load(module, folder)
    return module.eval()


def clips(lengths: list[int], padding: int = 0, filler: float = 0.0, seed: int = 0) -> tuple:
    """Noise of these lengths, each drawn by itself, around another mean and loudness -> a batch."""
    wave = torch.full((len(lengths), max(lengths) + padding), filler)
    mask = torch.zeros(wave.shape, dtype=torch.bool)
    for i, n in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + n)
        wave[i, :n] = 0.1 + 0.02 * (1 + n % 7) * torch.randn(n, generator=generator)
        mask[i, :n] = True
    return wave, mask


def theirs(folder: Path, wave: torch.Tensor) -> list[torch.Tensor]:
    """What transformers makes of one clip (T,) by itself: the states of each layer, (F, D)."""
    prepared = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    values = prepared(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    module = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        out = module(values, output_hidden_states=True)
    return [state[0] for state in (*out.hidden_states[:-1], out.last_hidden_state)]


COUNTER = tiny_wav2vec2.encoder()

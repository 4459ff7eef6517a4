"""A small KoBERT and batches for it."""

import numpy as np
import torch

import model as models
from benchmarks import tiny_bert
from models import kobert

TEXTS = [
    "오늘 날씨가 정말 좋네요.",
    "나는 너무 화가 나서 참을 수 없었어.",
    "왜 그렇게 말하는 거야?",
    "괜찮아, 다 잘 될 거야.",
    "무서워서 잠을 잘 수가 없어.",
    "어.",
    "ABC 3,000원",
]
ALL = "emotion,arousal,valence"
PIECES = 60  # of the models that are made here without files
SPECIAL = {"cls": 2, "sep": 3, "pad": 1}


def build(seed: int = 1, **more) -> kobert.Model:
    """A model with random weights that are large enough for its inputs to matter."""
    config = tiny_bert.bert(PIECES).config.to_diff_dict()
    given = {"model": "kobert", "encoder": config, "special": SPECIAL, "heads": ALL} | more
    model = models.build("kobert", given, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.encoder.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(std=0.15, generator=generator)
    return model


def collate(windows: list[list[list[int]]], padding: int = 0, filler: int = 0) -> dict:
    """Pieces of each utterance of each window (none: nothing was said) -> a batch."""
    longest = max(len(line) for window in windows for line in window) + 2 + padding
    ids = torch.full((len(windows), len(windows[0]), longest), filler)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, window in enumerate(windows):
        for j, line in enumerate(window):
            if line:
                ids[i, j, : len(line) + 2] = torch.tensor([2, *line, 3])
                mask[i, j, : len(line) + 2] = True
    return {"tokens": ids, "tokens_mask": mask, "mask": mask.any(-1)}


def predict(model: kobert.Model, *batch, **more) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: out.numpy() for name, out in model(collate(*batch, **more)).items()}

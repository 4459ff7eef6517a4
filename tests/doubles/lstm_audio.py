"""A small LSTM of audio and batches for it."""

import numpy as np
import torch

from models import lstm_audio

SECONDS = "mfcc_seconds"
D = lstm_audio.COEFFICIENTS


def sound(seconds: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seconds, seed]).standard_normal((seconds, D)).astype(np.float32)


def collate(utterances: list[np.ndarray], padding: int = 0, filler: float = 0.0) -> dict:
    longest = max(1, *map(len, utterances)) + padding
    values = torch.full((len(utterances), 1, longest, D), filler)
    mask = torch.zeros(len(utterances), 1, longest, dtype=torch.bool)
    for i, utterance in enumerate(utterances):
        values[i, 0, : len(utterance)] = torch.from_numpy(utterance)
        mask[i, 0, : len(utterance)] = True
    return {SECONDS: values, f"{SECONDS}_mask": mask, "mask": torch.ones(len(mask), 1).bool()}


@torch.no_grad()
def predict(model, batch) -> dict[str, np.ndarray]:
    batch = batch if isinstance(batch, dict) else collate(batch)
    return {name: out.numpy() for name, out in model(batch).items()}

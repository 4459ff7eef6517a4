"""A small wav2vec 2.0 and batches for it."""

import json
from pathlib import Path

import numpy as np
import torch

import model as models
from benchmarks import tiny_wav2vec2
from doubles.settings import settings_with
from models import wav2vec2
from training.settings import flat

ALL = "emotion,arousal,valence"


def config(norm: str = "group", kind: str = "wav2vec2", **more) -> dict:
    about = tiny_wav2vec2.encoder(kind, norm, **more).config.to_diff_dict()
    return about | {"do_normalize": True}


def build(seed: int = 1, about: dict | None = None, **more) -> wav2vec2.Model:
    """A model with random weights that are large enough for its inputs to matter."""
    given = {"model": "wav2vec2", "speech": about or config(), "heads": ALL, "dropout": 0.0} | more
    model = models.build("wav2vec2", given, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(std=0.2, generator=generator)
    return model


def sound(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([samples, seed])
    wave = np.cumsum(rng.standard_normal(samples)) / 300 + 0.01 * rng.standard_normal(samples)
    return wave.astype(np.float32)


def collate(windows: list[list[np.ndarray]], padding: int = 0, filler: float = 0.0) -> dict:
    """Samples of each utterance of each window (none: no sound) -> a batch."""
    longest = max(1, *(len(wave) for window in windows for wave in window)) + padding
    waves = torch.full((len(windows), len(windows[0]), longest), filler)
    mask = torch.zeros(waves.shape, dtype=torch.bool)
    for i, window in enumerate(windows):
        for j, wave in enumerate(window):
            waves[i, j, : len(wave)] = torch.from_numpy(wave.copy())
            mask[i, j, : len(wave)] = True
    return {"waveform": waves, "waveform_mask": mask, "mask": mask.any(-1)}


def predict(model: wav2vec2.Model, batch) -> dict[str, np.ndarray]:
    batch = batch if isinstance(batch, dict) else collate(batch)
    with torch.no_grad():
        return {name: out.numpy() for name, out in model(batch).items()}


def configured(folder: Path, **more) -> dict:
    """What training writes down of a model, before it is built."""
    given = {"frozen": False} | more
    settings = settings_with("wav2vec2", speech_encoder=str(folder), **given)
    return json.loads(json.dumps(flat(models.complete(settings))))

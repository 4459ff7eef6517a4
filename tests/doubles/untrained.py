"""Runs of models that were never trained but tell rows apart, made in no time."""

from pathlib import Path

import torch

import constants
import model as models
import utils
from training import flags as training_flags

LARGE = 2.5  # times the weights that torch starts with


def run(folder: Path, name: str = "mate", *flags: str, **configured) -> Path:
    """A folder that `model.load` reads; `flags` as on the command line of training."""
    parsed = training_flags.parse(["--model", name, *map(str, flags)])
    assert not parsed.rest
    said = models.complete(parsed.settings)
    built = models.build(name, vars(said), seed=7)
    generator = torch.Generator().manual_seed(3)
    if built.FITTED:
        size = utils.leaf("features", "functionals").shape({})[0]
        heard = {
            "functionals": torch.randn(40, said.ws, size, generator=generator),
            "mask": torch.ones(40, said.ws, dtype=torch.bool),
        }
        known = {f"{head}_mask": torch.ones(40, dtype=torch.bool) for head in constants.HEADS}
        truth = {"emotion": torch.rand(40, 7, generator=generator).softmax(-1)}
        truth |= {n: 1 + 4 * torch.rand(40, generator=generator) for n in ("arousal", "valence")}
        built.fit(heard | known | truth)
    for parameter in built.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(LARGE)
    for buffer_name, buffer in built.named_buffers():  # BatchNorm that has seen something
        if buffer_name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
    models.save(folder, built, vars(said) | {"majority": {"emotion": "neutral"}} | configured)
    return folder

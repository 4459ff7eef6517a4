"""The audio model of the decision fusion, "ModifiedAlexNet": convolutions over a spectrogram.

    spectrogram (B, T, F)   of the last utterance, standardised over its own cells
    base, delta, delta-delta          (B, 3, T, F), differences along time
    conv 11 stride 4  ReLU  pool 3/2  (B,  64, ...)
    conv 5            ReLU  pool 3/2  (B, 192, ...)
    conv 3            ReLU            (B, 384, ...)
    conv 3            ReLU            (B, 256, ...)
    conv 3            ReLU  pool 3/2  (B, 256, t, f)  2 x 9 of 100 x 321
    mean over positions     (B, 256)  batch normalisation, dropout 0.5, a linear layer per head

An utterance of 100 frames or more is given what the network without masks gives it alone: after
each layer, what lies beyond the positions that the utterance has alone is set to zero, as is the
padding of a convolution. A shorter one counts as 100 frames, with its mean after its end (silence
with `--no_standardise`), and positions that see nothing of it are zero and not counted. So neither
padding nor the rest of a batch changes a prediction.

As published: `--delta_axis frequency --pool sum --no_standardise --no_batchnorm --target hard`, but
for its batches of one: `--batch_size` is at least 2. AdamW, 2e-4, decaying linearly, gradients
clipped at 1, 16 epochs as there.
Neither normalisation is in the original: it saw raw logarithms, and pooled numbers that differ
between utterances by a tenth of their mean, from which it learns little in some hundred steps.
Convolutions start as He et al. (2015) start them: torch's own start shrinks the sound to nothing
in five layers. No weights are pretrained: the original downloaded some and never loaded them.
`python main.py --model alexnet`
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import constants
from constants import HEADS
from model import Batch, EmotionModel, at_least_float32, heads_of, judged, mask_of, masked
from utils import setting

FEATURE = "spectrogram"
LAYERS = (  # AlexNet's: (channels out, kernel, stride, padding, pool after it)
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
POOL, POOL_STRIDE = 3, 2
DROPOUT = 0.5
LEAST = 100  # frames: 2 s


@dataclass(frozen=True)
class Settings:
    """The flags of AlexNet."""

    ws: int = setting(1, "utterances in a window; the last one alone is heard", least=1)
    sr: int = setting(constants.SAMPLE_RATE, "sample rate of the sound, Hz", least=4000)
    seconds: float = setting(30.0, "heard of an utterance at most; a longer one is cut", least=1)
    delta_axis: str = setting(
        "time", "what the differences run along", choices=("time", "frequency")
    )
    pool: str = setting("mean", "over positions; sum grows with length", choices=("mean", "sum"))
    standardise: bool = setting(True, "mean 0 and sd 1 over the cells of an utterance")
    batchnorm: bool = setting(True, "batch normalisation of the pooled numbers")
    heads: str = setting("emotion", "what is predicted, separated by commas")


class Model(EmotionModel):
    """A batch of windows -> `{head: output}` for each of `heads`.

    The batch holds `spectrogram` (B, W, T, F) and `spectrogram_mask` (B, W, T), frames first and
    then padding.
    """

    Settings = Settings
    DEFAULTS = {
        "optim": "adamw",
        "lr": 2e-4,
        "weight_decay": 0.0,
        "batch_size": 16,
        "epochs": 16,
        "schedule": "linear",
        "warmup": 0.0,
        "clip": 1.0,
    }

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads."""
        return (FEATURE,)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.heads = heads_of(settings.heads)
        widths = (3, *(layer[0] for layer in LAYERS))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, out, kernel, stride, padding)
            for width, (out, kernel, stride, padding, _) in zip(widths, LAYERS, strict=False)
        ).to(memory_format=torch.channels_last)  # training takes half the time on a CPU
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
        self.normalise = nn.BatchNorm1d(widths[-1]) if settings.batchnorm else nn.Identity()
        self.dropout = nn.Dropout(DROPOUT)
        self.outputs = nn.ModuleDict({h: nn.Linear(widths[-1], HEADS[h].size) for h in self.heads})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance."""
        spectrogram = masked(batch, FEATURE)[:, -1]
        length = mask_of(batch, FEATURE)[:, -1].sum(-1)  # (B,) frames
        spectrogram = _at_least(spectrogram, LEAST)
        if self.settings.standardise:
            spectrogram = standardised(spectrogram, length)
        x = _kept(channels(spectrogram, self.settings.delta_axis), length)
        x = x.contiguous(memory_format=torch.channels_last)
        pooled = at_least_float32(self._pooled(x, length))
        with torch.autocast(pooled.device.type, enabled=False):
            return self._judged(self.dropout(self.normalise(pooled)))

    def _pooled(self, x: Tensor, length: Tensor) -> Tensor:
        """(B, 3, T, F), (B,) -> (B, 256), over the positions that see the utterance."""
        alone, seen = length.clamp(min=LEAST), length
        for convolution, (_, kernel, stride, padding, pool) in zip(
            self.convolutions, LAYERS, strict=True
        ):
            alone, seen = _after(alone, seen, kernel, stride, padding)
            x = _kept(convolution(x).relu(), seen)
            if pool:
                alone, seen = _after(alone, seen, POOL, POOL_STRIDE, 0)
                x = _kept(nn.functional.max_pool2d(x, POOL, POOL_STRIDE), seen)
        total = at_least_float32(x).sum((2, 3))
        if self.settings.pool == "sum":
            return total
        return total / (seen.clamp(min=1) * x.shape[3]).unsqueeze(1)

    def _judged(self, pooled: Tensor) -> dict[str, Tensor]:
        """(B, 256) -> log-probabilities (B, 7), a number in SCALE (B,)."""
        return {name: judged(name, output(pooled)) for name, output in self.outputs.items()}


# --- the input ---------------------------------------------------------------------------------


def _at_least(spectrogram: Tensor, frames: int) -> Tensor:
    """(B, T, F) -> (B, T or `frames`, F), with zeros: silence."""
    lacking = max(0, frames - spectrogram.shape[1])
    return nn.functional.pad(spectrogram, (0, 0, 0, lacking))


def standardised(spectrogram: Tensor, length: Tensor) -> Tensor:
    """(B, T, F), (B,) frames -> (B, T, F): mean 0, variance 1 over the frames of each utterance.

    The variance is the population's, STANDARDISE_EPS added. What follows the end is left as zeros.
    """
    cells = (length.clamp(min=1) * spectrogram.shape[2]).view(-1, 1, 1)
    there = torch.arange(spectrogram.shape[1], device=length.device) < length.unsqueeze(1)
    there = there.unsqueeze(2)
    mean = spectrogram.sum((1, 2), keepdim=True) / cells
    centred = torch.where(there, spectrogram - mean, 0)
    variance = centred.square().sum((1, 2), keepdim=True) / cells
    return centred / (variance + constants.STANDARDISE_EPS).sqrt()


def channels(spectrogram: Tensor, axis: str) -> Tensor:
    """(B, T, F) -> (B, 3, T, F): itself, its differences, and theirs, along "time" or "frequency".

    The first difference stands twice, as in the original.
    """
    dimension = {"time": 1, "frequency": 2}[axis]
    planes = [spectrogram]
    for _ in range(2):
        change = planes[-1].diff(dim=dimension)
        planes.append(torch.cat([change.narrow(dimension, 0, 1), change], dimension))
    return torch.stack(planes, 1)


# --- masks between layers ------------------------------------------------------------------------


def _after(
    alone: Tensor, seen: Tensor, kernel: int, stride: int, padding: int
) -> tuple[Tensor, Tensor]:
    """(B,), (B,) positions along time before a layer -> after it.

    `alone`: how many an utterance has when no other is in its batch. `seen`: how many of them see
    something of it, none for one that has no frames: the last begins before its end.
    """
    alone = (alone + 2 * padding - kernel) // stride + 1
    begun = (seen + padding + stride - 1) // stride
    return alone, torch.minimum(alone, begun) * (seen > 0)


def _kept(x: Tensor, seen: Tensor) -> Tensor:
    """(B, C, T, F), (B,) -> the same, zeros from position `seen` on."""
    there = torch.arange(x.shape[2], device=x.device) < seen.unsqueeze(1)
    return torch.where(there[:, None, :, None], x, 0)

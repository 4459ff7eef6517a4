"""The fast model against the plain one on the same tensors; `speed.py --only parity` at full size.

test_parity.py does it with a smaller spectrogram. In float64, because training in float32
is chaotic here: normalisation over nearly constant outputs of the LSTM magnifies rounding. Even in
float64 the first step of Adam does, by a million where gradients are smaller than its epsilon: with
a new batch at each of five steps the plain model itself, computed with one and with two threads,
differs by 4e-6. So all five steps train on one batch.
"""

import copy
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

import constants
import loss as losses
import model as models
from benchmarks import measure, reference
from benchmarks.measure import Row
from dataset import Windows
from training import loop
from utils import leaf

DOUBLE_ROWS, DOUBLE_STEPS = 8, 5

Batch = dict[str, Tensor]


def frames_of(sr: int) -> int:
    """Frames of ten seconds at `sr` Hz: a lower rate makes a smaller model."""
    return 1 + constants.CLIP_SECONDS * sr // constants.HOP


def twins(
    seed: int, sr: int = constants.SAMPLE_RATE, hidden: int = constants.HIDDEN_SIZE
) -> tuple[nn.Module, nn.Module]:
    """The plain and the fast model with the same random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = reference.Plain(hidden, frames=frames_of(sr))
    state, configuration = upgraded(plain, hidden)
    fast = models.build("mate", configuration | {"sr": sr})
    fast.load_state_dict(state)
    return plain, fast


def upgraded(plain: nn.Module, hidden: int = constants.HIDDEN_SIZE) -> tuple[dict, dict]:
    """A copy of the plain model's weights under today's names, and their configuration."""
    said = reference.CONFIGURATION | {"hidden_size": hidden}
    return leaf("models", "mate").upgrade(copy.deepcopy(plain.state_dict()), said)


def noise(
    rows: int, seed: int, sr: int = constants.SAMPLE_RATE, dtype: torch.dtype = torch.float32
) -> Batch:
    """A batch of the plain loader's shape; each utterance has a loudness, so windows differ."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=generator, dtype=dtype)

    ws, bands = constants.WINDOW, constants.N_MELS
    scales = {name: 3 + normal().clamp(-2, 2) for name in ("arousal", "valence")}
    return {
        "audio": normal(ws, 1, 1) + normal(ws, bands, frames_of(sr)),
        "text": normal(ws, constants.TEXT_DIM),
        "emotion": (2 * normal(len(constants.EMOTIONS))).softmax(1),
        **scales,
    }


def as_ours(batch: Batch) -> Batch:
    """The plain loader's batch under the names of ours; nothing is masked."""
    renamed = {"audio": "log_mel", "text": "sentence"}
    seen = torch.ones(batch["audio"].shape[:2], dtype=torch.bool)
    return {renamed.get(name, name): value for name, value in batch.items()} | {"mask": seen}


def plain_losses(model: nn.Module, batches: list[Batch]) -> Tensor:
    """(steps, 4): total, emotion, arousal, valence at each step of training."""
    optimizer = reference.adam(model.train())
    steps = [reference.train_step(model, optimizer, batch) for batch in batches]
    return torch.tensor(
        [[step[name] for name in reference.LOSSES] for step in steps], dtype=torch.float64
    )


def fast_losses(model: nn.Module, batches: Iterable[Batch], precision: str | None = None) -> Tensor:
    """(steps, 4) in the way of training/loop.py, of batches under our names.

    `precision`: "bf16" or "float32"; None: that of the batch.
    """
    optimizer = torch.optim.Adam(
        model.train().parameters(),
        lr=constants.LEARNING_RATE,
        weight_decay=constants.WEIGHT_DECAY,
        fused=True,
    )
    criterion = losses.EmotionLoss(constants.LAMBDA)
    steps = []
    for batch in batches:
        if precision is None:
            values = criterion(model(batch), batch)
        else:
            values = loop.losses_of(model, criterion, batch, precision == "bf16")
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        optimizer.step()
        steps.append([values[name].item() for name in reference.LOSSES])
    return torch.tensor(steps, dtype=torch.float64)


def rows(windows: Windows, batch_size: int, steps: int, sr: int) -> list[Row]:
    """Five steps in float64 on noise, of so many frames as `sr` Hz give; and `steps` steps in bf16
    and float32 on `windows`."""
    batch = noise(DOUBLE_ROWS, 0, sr, torch.float64)
    plain, fast = (model.double() for model in twins(0, sr))
    again = copy.deepcopy(plain)
    expected = plain_losses(plain, [batch] * DOUBLE_STEPS)
    found = fast_losses(fast, [as_ours(batch)] * DOUBLE_STEPS)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))  # one where there are more, else two
    itself = plain_losses(again, [batch] * DOUBLE_STEPS)
    torch.set_num_threads(threads)
    apart = (found - expected).abs().max().item()
    other = (itself - expected).abs().max().item()
    what = f"losses of {DOUBLE_STEPS} float64 steps, batch {DOUBLE_ROWS}: largest difference"
    double = measure.alone(
        what, f"{apart:.0e}", "<= 1e-06", apart <= 1e-6, f"{other:.0e} (itself, other threads)"
    )
    return [double, _bf16(windows, batch_size, steps)]


def _bf16(windows: Windows, batch_size: int, steps: int) -> Row:
    """Mean loss under bf16 against float32: same weights, same batches."""
    means = {}
    for precision in ("float32", "bf16"):
        model = models.build("mate", {}, seed=0)
        random = np.random.default_rng(0)
        drawn = (random.choice(len(windows), batch_size, replace=False) for _ in range(steps))
        each = fast_losses(model, (windows.batch(indices) for indices in drawn), precision)
        means[precision] = each[:, 0].mean().item()
    ratio = means["bf16"] / means["float32"]
    return Row(
        f"mean loss of {steps} steps, bf16 (ours) against float32 (reference)",
        f"{means['float32']:.4f}",
        f"{means['bf16']:.4f}",
        f"{ratio:.3f} x",
        "<= 1.05 x",
        measure.yes(ratio <= 1.05),
    )

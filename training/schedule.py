"""Which windows a step learns from, and how fast: orders, batches and learning rates."""

import math
from collections.abc import Iterator

import numpy as np

from features.store.batches import cut
from training.settings import TrainingSettings
from utils import rng

POOL = 32  # batches' worth of windows that are sorted by length together


def rate_factor(settings: TrainingSettings, epoch: int, step: int = 0, steps: int = 1) -> float:
    """Factor on the learning rates in step 0.. of the `steps` of epoch 1..

    "step": times `lr_decay` once 1/3, and again once 1/2, of the epochs are done. "cosine" and
    "linear" fall to 0 at the end, after a rise from 0 over the share `warmup` of all steps.
    """
    if settings.schedule == "step":
        return settings.lr_decay ** sum(epoch > max(1, settings.epochs // p) for p in (3, 2))
    now, total = (epoch - 1) * steps + step, settings.epochs * steps
    rise = int(settings.warmup * total)
    if now < rise:
        return now / rise
    done = (now - rise) / max(1, total - rise)
    return 1 - done if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def learning_rate(settings: TrainingSettings, epoch: int, step: int = 0, steps: int = 1) -> float:
    """The rate of `--lr` in that step, see `rate_factor`."""
    return settings.lr * rate_factor(settings, epoch, step, steps)


def training_batches(
    n: int,
    settings: TrainingSettings,
    epoch: int,
    processes: int = 1,
    lengths: np.ndarray | None = None,
    least: int = 2,
) -> Iterator[np.ndarray]:
    """Window numbers in the order of this epoch. A last batch of one is dropped (BatchNorm), and
    one with fewer windows than processes. With `lengths` (n,), batches are of like lengths, and of
    `max_tokens` steps at most, padding included, unless it takes more to have `least` windows."""
    draw, size = rng(settings.seed, "order", epoch), settings.batch_size
    order = draw.permutation(n)
    batches = [order[at : at + size] for at in range(0, n, size)]
    least = max(least, processes)
    if lengths is not None:
        batches = _of_like_lengths(order, lengths, size, draw, settings.max_tokens, least)
    return (indices for indices in batches if len(indices) >= least)


def _of_like_lengths(
    order: np.ndarray,
    lengths: np.ndarray,
    size: int,
    draw: np.random.Generator,
    budget: int,
    least: int,
) -> list[np.ndarray]:
    """Sorted by length within pools of many batches, cut into batches, and these shuffled."""
    pools = [order[at : at + POOL * size] for at in range(0, len(order), POOL * size)]
    ordered = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    batches = [batch for pool in ordered for batch in cut(pool, lengths[pool], size, budget, least)]
    return [batches[i] for i in draw.permutation(len(batches))]

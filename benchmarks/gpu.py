"""The CUDA section of `speed.py`: an epoch on one GPU, how much of the card, and what bounds it.

With the device "cpu" all of it runs as a dry run, so that it can be tried without a card.
"""

import argparse
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure, reference, sides
from benchmarks.measure import Row, Side
from training import devices

PEAK = 989e12  # FLOP/s: NVIDIA H200, bf16 without sparsity, by its data sheet
EPOCHS = 4  # of the run that is timed; the first one is left out
REFERENCE_STEPS = 6
PROFILED = 10  # steps
SHOWN = 12  # operations in the table
# what the names of operations that multiply matrices contain
MULTIPLIES = ("convolution", "mm", "rnn", "lstm", "linear")
COUNTED = 2  # windows that FLOP are counted for


class Profile(NamedTuple):
    """What one training step of a batch takes, gathering included."""

    seconds: float
    flops: float
    operations: dict[str, float]  # s on the device a step, the longest first
    resident: bool  # whether the features lay on the device


def rows(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Lines of the table and notes under it, measured on the corpus in the working folder."""
    name, windows, size = options.gpu, options.gpu_windows, options.batch_size
    epoch = sides.our_epoch(size, "bf16", EPOCHS, gpu_id=0 if name == "cuda" else -1)
    with Side(plain_steps, size, name) as plain:
        loaded, ready = plain()
    with Side(our_profile, size, name) as ours:
        found: Profile = ours()
    steps = -(-windows // size)
    ratio = loaded * steps / epoch
    share = found.flops / size * windows / epoch / options.peak
    what = f"epoch of {windows:,} windows, {name}"
    table = [
        Row(
            what,
            f"{loaded * steps:,.1f} s",
            f"{epoch:.2f} s",
            f"{epoch / loaded / steps:.4f} x",
            "<= 4 s",
            measure.yes(epoch <= 4),
        ),
        Row(
            f"{what}: times faster",
            f"{loaded:.3f} s a step, {ready:.3f} s without loading",
            f"{epoch / steps:.4f} s a step",
            f"{ratio:.1f} x",
            ">= 50 x",
            measure.yes(ratio >= 50),
        ),
        measure.alone(
            "share of the card's bf16 peak", f"{share:.1%} of {options.peak / 1e12:,.0f} TFLOP/s"
        ),
    ]
    return table, _notes(found, size)


def _notes(found: Profile, batch_size: int) -> list[str]:
    """What bounds a step, and its longest operations."""
    busy = sum(found.operations.values())
    products = sum(s for name, s in found.operations.items() if multiplies(name))
    where = "on the device" if found.resident else "on the host"
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU, a dry run"
    verdict = (
        f"{card}. One step of {batch_size} windows, gathered {where}: "
        f"{found.seconds * 1e3:.1f} ms, {found.flops / 1e12:.3f} TFLOP. The device computes "
        f"{busy / found.seconds:.0%} of that time, {products / busy:.0%} of it in convolutions, "
        f"matrix products and the LSTM (arithmetic), {1 - products / busy:.0%} in operations that "
        f"move memory."
    )
    lines = [
        (
            name,
            f"{seconds * 1e3:.2f}",
            f"{seconds / busy:.1%}",
            "arithmetic" if multiplies(name) else "memory",
        )
        for name, seconds in itertools.islice(found.operations.items(), SHOWN)
    ]
    return [verdict, measure.markdown(("operation", "ms a step", "share", "bound by"), lines)]


def multiplies(operation: str) -> bool:
    """Whether an operation of torch is a product of matrices, by its name."""
    return any(part in operation for part in MULTIPLIES)


def plain_steps(batch_size: int, name: str) -> Callable[[], tuple[float, float]]:
    """-> seconds a step of the reference with its loader, and with the batch on the device."""
    device = torch.device(name)
    torch.manual_seed(0)
    batches = sides.plain_loader(batch_size, shuffle=True)
    model = reference.Plain().to(device).train()
    optimizer = reference.adam(model)

    def work() -> tuple[float, float]:
        times = []
        for batch in itertools.islice(batches, REFERENCE_STEPS + 1):
            batch = {key: value.to(device) for key, value in batch.items()}
            reference.train_step(model, optimizer, batch)  # its losses are read: it has ended
            times.append(time.perf_counter())
        step = functools.partial(reference.train_step, model, optimizer, batch)
        return float(np.diff(times).mean()), sides.timed(step, REFERENCE_STEPS)

    return work


def our_profile(batch_size: int, name: str) -> Callable[[], Profile]:
    """-> a step of ours, timed, counted and profiled."""
    device = torch.device(name)
    devices.settle_arithmetic(deterministic=False)
    settings, _, windows = sides.opened(batch_size)
    settings = dataclasses.replace(settings, precision="bf16")
    flops = counted(settings, windows.batch(np.arange(COUNTED))) * batch_size / COUNTED
    resident = windows.keep_on(device)
    train = sides.trainer(settings, device)
    random = np.random.default_rng(0)

    def steps() -> None:
        for _ in range(PROFILED):
            batch = windows.batch(random.integers(len(windows), size=batch_size))
            train({key: value.to(device) for key, value in batch.items()})
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def work() -> Profile:
        steps()  # warm
        seconds = sides.timed(steps, 3) / PROFILED
        kinds = [ProfilerActivity.CPU]
        if device.type == "cuda":
            kinds.append(ProfilerActivity.CUDA)
        with profile(activities=kinds) as found:
            steps()
        return Profile(seconds, flops, operations(found, device), resident)

    return work


def operations(found: profile, device: torch.device) -> dict[str, float]:
    """Seconds a step that each operation computes on the device by itself, the longest first."""
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = {
        event.key: getattr(event, own) / 1e6 / PROFILED
        for event in found.key_averages()
        if event.device_type.name == "CPU"  # the kernels that it started count to an operation
    }
    return dict(sorted(((k, s) for k, s in times.items() if s), key=lambda pair: -pair[1]))


def counted(settings: argparse.Namespace, batch: dict[str, torch.Tensor]) -> float:
    """FLOP of one training step, from the shapes of all its matrix products.

    On the CPU, in float32 and without oneDNN: only so the products of the LSTM are seen apart.
    """
    exact = dataclasses.replace(settings, precision="float32")
    train = sides.trainer(exact, torch.device("cpu"))
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        train(batch)
    return float(counter.get_total_flops())

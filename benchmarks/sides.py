"""Both sides of every comparison in `speed.py`: what is opened, and what is timed.

Each `plain_...` and `our_...` is called once in a process of its own and returns the work, which is
timed there as often as wanted. Reference: `reference.py`; ours: the project, or main.py itself.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import constants
import dataset
import loss as losses
import model as models
import utils
from benchmarks import reference
from corpora import preparation
from features.store import extraction
from training import devices, loop, testing
from training import flags as training_flags

CORPUS, LONG = "corpus", "long"  # folders: windows to train on; hours of sound to extract
LOADED = 4  # batches the reference's loader is timed over
HEARD = 300  # wavs the reference's transform is timed over
FIRST_STEP = """
import os, runpy, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
def stop(*_):
    print("\\nfirst step", flush=True)
    os._exit(0)
register_optimizer_step_post_hook(stop)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # a program that ends after the first training step of the one it is given

# --- what is opened ------------------------------------------------------------------------------


def flags(batch_size: int = constants.BATCH_SIZE, gpu_id: int = -1) -> list[str]:
    """The command line of every run here; what it does not name has its default."""
    return [
        "--data",
        CORPUS,
        "--text_encoder",
        "char-ngram",
        "--batch_size",
        str(batch_size),
        "--gpu_id",
        str(gpu_id),
    ]


def opened(
    batch_size: int = constants.BATCH_SIZE,
) -> tuple[argparse.Namespace, dataset.Material, dataset.Windows]:
    """Settings, material and training windows, as a run has them."""
    settings, _, _ = training_flags.parse(flags(batch_size))
    material = dataset.open_material(settings, models.inputs(settings.model, vars(settings)))
    return settings, material, dataset.Windows(material, "train", settings.ws)


def plain_loader(batch_size: int, shuffle: bool = False) -> torch.utils.data.DataLoader:
    """The reference's loader of the same windows."""
    _, material, windows = opened(batch_size)
    return reference.loader(reference.plain_windows(material, windows), batch_size, shuffle)


def precisions() -> tuple[str, ...]:
    """bf16 where this processor computes in it, and float32."""
    return ("bf16", "float32") if devices.use_bf16("auto", torch.device("cpu")) else ("float32",)


# --- extraction ----------------------------------------------------------------------------------


def plain_transform() -> Callable[[], float]:
    """-> times real time of the reference's worker: decode and transform, one thread, no cache."""
    _, material, windows = opened()
    plain = reference.plain_windows(material, windows)
    torch.set_num_threads(1)  # as torch does in a DataLoader's worker
    rows = material.utterances.head(HEARD)

    def work() -> float:
        start = time.perf_counter()
        for name in rows["wav"]:
            plain.log_mel(material.corpus.folder / name)
        return rows["duration"].sum() / (time.perf_counter() - start)

    return work


def our_extraction(hours: float, threads: int) -> Callable:
    """-> (times real time, hours of sound) of extracting that much into an empty cache."""
    settings, _, _ = training_flags.parse(flags())
    corpus = preparation.open_corpus("long")
    rows = corpus.role(settings.SorL)
    rows = rows[rows["duration"].cumsum() <= hours * 3600].reset_index(drop=True)
    place = Path(tempfile.mkdtemp(dir="."))

    def work() -> tuple[float, float]:
        start = time.perf_counter()
        extraction.extract("log_mel", rows, corpus.folder, place, settings, threads, progress=False)
        seconds = time.perf_counter() - start
        shutil.rmtree(place)
        return rows["duration"].sum() / seconds, rows["duration"].sum() / 3600

    return work


# --- delivery ------------------------------------------------------------------------------------


def plain_delivery(batch_size: int) -> Callable[[], float]:
    """-> windows a second, once the first batch is there."""
    batches = plain_loader(batch_size, shuffle=True)

    def work() -> float:
        came, start = 0, None
        for batch in itertools.islice(batches, LOADED + 1):
            if start is None:
                start = time.perf_counter()
            else:
                came += len(batch["audio"])
        return came / (time.perf_counter() - start)

    return work


def our_delivery(batch_size: int) -> Callable[[], float]:
    """-> windows a second, over all windows in random order."""
    _, _, windows = opened(batch_size)
    order = np.random.default_rng(0).permutation(len(windows))

    def work() -> float:
        start = time.perf_counter()
        for at in range(0, len(order), batch_size):
            windows.batch(order[at : at + batch_size])
        return len(order) / (time.perf_counter() - start)

    return work


# --- training ------------------------------------------------------------------------------------


def plain_step(batch_size: int, steps: int) -> Callable[[], float]:
    """-> seconds a step of the reference, float32."""
    torch.manual_seed(0)
    batch = next(iter(plain_loader(batch_size, shuffle=True)))
    model = reference.Plain().train()
    optimizer = reference.adam(model)
    return functools.partial(
        timed, functools.partial(reference.train_step, model, optimizer, batch), steps
    )


def our_step(batch_size: int, precision: str, steps: int) -> Callable[[], float]:
    """-> seconds a step as training/loop.py makes it."""
    utils.keep_freed_memory()
    settings, _, windows = opened(batch_size)
    settings = dataclasses.replace(settings, precision=precision)
    batch = windows.batch(np.random.default_rng(0).permutation(len(windows))[:batch_size])
    work = trainer(settings, torch.device("cpu"))
    return functools.partial(timed, functools.partial(work, batch), steps)


def trainer(
    settings: argparse.Namespace, device: torch.device
) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """One training step on a batch that is on the device -> its loss."""
    model = models.build(settings.model, vars(settings), settings.seed).to(device).train()
    criterion, bf16 = losses.EmotionLoss(settings.lam), devices.use_bf16(settings.precision, device)
    optimizer = loop.OPTIMIZERS[settings.optim](
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )

    def work(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        values = loop.losses_of(model, criterion, batch, bf16)
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        optimizer.step()
        return values["loss"].detach()

    return work


def timed(work: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def plain_epoch(batch_size: int) -> Callable[[], float]:
    """-> seconds of the reference's epoch: its loader and its steps."""
    torch.manual_seed(0)
    batches = plain_loader(batch_size, shuffle=True)
    model = reference.Plain().train()
    optimizer = reference.adam(model)

    def work() -> float:
        start = time.perf_counter()
        for batch in batches:
            reference.train_step(model, optimizer, batch)
        return time.perf_counter() - start

    return work


def our_epoch(batch_size: int, precision: str, epochs: int = 1, gpu_id: int = -1) -> float:
    """Seconds of an epoch of a new run of main.py; the median of several, without the first."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        subprocess.run(
            [
                sys.executable,
                utils.ROOT / "main.py",
                *flags(batch_size, gpu_id),
                "--epochs",
                str(epochs),
                "--precision",
                precision,
                "--save_path",
                place,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = told_seconds(Path(place))
    return float(np.median(seconds[1:] or seconds))


def told_seconds(place: Path) -> list[float]:
    """Seconds of each epoch, from the events of the one run in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [weights] = place.glob("*/model.pth")
    events = EventAccumulator(str(weights.parent)).Reload()
    return [told.value for told in events.Scalars("seconds")]


def until_first_step(options: argparse.Namespace) -> float:
    """Seconds, imports included."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        begun = time.perf_counter()
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                FIRST_STEP,
                utils.ROOT / "main.py",
                *flags(options.batch_size),
                "--epochs",
                "1",
                "--save_path",
                place,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(utils.ROOT)},
        ) as process:
            said = []
            for line in process.stdout:
                if line == "first step\n":
                    return time.perf_counter() - begun
                said.append(line)
    raise RuntimeError(f"main.py ended without a step: {''.join(said[-5:])}")


# --- testing -------------------------------------------------------------------------------------


def plain_test(batch_size: int) -> Callable[[], float]:
    """-> windows a second of the reference's test loop."""
    batches, model = plain_loader(batch_size), reference.Plain()

    def work() -> float:
        begun = time.perf_counter()
        return len(reference.predict(model, batches)) / (time.perf_counter() - begun)

    return work


def our_test(batch_size: int) -> Callable[[], float]:
    """-> windows a second of training.testing.predict."""
    utils.keep_freed_memory()
    settings, _, windows = opened(batch_size)
    model = models.build(settings.model, vars(settings), settings.seed)
    alone = devices.Processes(-1)

    def work() -> float:
        begun = time.perf_counter()
        table = testing.predict(model, windows, batch_size, "train", alone)
        return len(table) / (time.perf_counter() - begun)

    return work

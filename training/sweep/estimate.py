"""How long a grid will train: two steps of each kind of model, measured on its own data."""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import loss as losses
import model as models
from dataset import Windows, open_material
from training.devices import Processes
from training.loop import Training
from training.settings import flat
from training.sweep.grid import GridPoint

STEPS = 2  # timed; the first of three is slow
PASSIVE = (
    "lam",
    "beta",
    "loss",
    "cb_counts",
    "seed",
    "lr",
    "lr_decay",
    "weight_decay",
    "epochs",
    "SorL",
    "test_split",
    "val_split",
    "ties",
    "select",
    "disjoint",
)


class Kind(NamedTuple):
    """What a point costs: seconds a step, steps an epoch."""

    step: float
    steps: int


def seconds(grid: list[GridPoint]) -> float | None:
    """Training time of all points one after the other; None where a model learns without steps.

    Points that differ in what costs nothing (losses, folds, seeds) are measured once: the folds
    of a corpus have about as many windows. Extraction, testing and imports are not in it.
    """
    kinds: dict[str, Kind | None] = {}
    total = 0.0
    for point in grid:
        said = flat(point.settings)
        key = repr(sorted((name, value) for name, value in said.items() if name not in PASSIVE))
        if key not in kinds:
            kinds[key] = _measured(point)
        if kinds[key] is None:
            return None
        total += kinds[key].step * kinds[key].steps * said["epochs"]
    return total


def _measured(point: GridPoint) -> Kind | None:
    said = models.complete(point.settings)
    model = models.build(said.model, vars(said), said.seed)
    if model.FITTED:
        return None
    processes = Processes(said.gpu_id)
    material = open_material(said, models.inputs(said.model, vars(said)))
    windows = Windows(material, "train", said.ws)
    criterion = losses.build(said.loss, said.lam, said.beta, windows.class_counts(), said.cb_counts)
    criterion = criterion.to(processes.device)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            model.to(processes.device), criterion, windows, None, said, processes, Path(folder)
        )
        batches = list(training.batches(1))
        return Kind(_step(training, batches[: STEPS + 1]), len(batches))


def _step(training: Training, batches: list) -> float:
    """Seconds of one step, but for the first."""
    training.parallel = training.model.train()
    starts = []
    for indices in batches:
        starts.append(time.perf_counter())
        float(training.one_step(indices)[0])  # waits for a GPU
    end = time.perf_counter()
    return (end - starts[-1]) if len(starts) == 1 else (end - starts[1]) / (len(starts) - 1)

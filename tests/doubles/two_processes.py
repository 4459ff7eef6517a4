"""Five training steps in float64, alone or as one of several processes; not a test itself.

    OUT=FILE python tests/doubles/two_processes.py FLAGS...
    OUT=FILE torchrun --nproc_per_node 2 tests/doubles/two_processes.py FLAGS...

FLAGS as of main.py. The first process saves what all of them found. With the environment variable
FAIL the second process fails before its third step.
"""

import os
import sys
from pathlib import Path

from training.flags import parse

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

import loss
import main
import model
from dataset import Windows, open_material
from training.devices import GlobalBatchNorm, Processes
from training.loop import Training
from training.testing import outputs
from utils import UserError

STEPS = 5


class Double(Training):
    """Training in float64."""

    def batch(self, *which):
        batch = super().batch(*which)
        return {n: v.double() if v.is_floating_point() else v for n, v in batch.items()}


def train(flags: list[str]) -> None:
    processes = Processes(-1)
    with processes.together():
        found = steps(parse(flags).settings, processes)
        if processes.is_main:
            torch.save(found, os.environ["OUT"])
        processes.leave()


def steps(settings, processes: Processes) -> dict:
    """Losses and gradients of each step, averages of BatchNorm, and predictions."""
    material = open_material(settings, model.inputs("mate", vars(settings)))
    # heads know different numbers of rows, and one process may know none
    material.utterances.loc[material.utterances.index % 3 == 0, "arousal"] = float("nan")
    windows = Windows(material, "train", settings.ws)
    network = model.build("mate", vars(settings), settings.seed).double()
    criterion = loss.build("normal", settings.lam, settings.beta, windows.class_counts())
    training = Double(network, criterion, windows, None, settings, processes, Path("none"))
    training.parallel = processes.wrap(training.model)
    found = {"losses": [], "gradients": [], "count": processes.count}
    found["rows"] = [len(indices) for indices in training.batches(1)]
    while len(found["losses"]) < STEPS:
        for indices in training.batches(training.progress.epoch):
            if os.environ.get("FAIL") and processes.rank == 1 and training.progress.step == 2:
                raise UserError("the second process has had enough")
            found["losses"].append(processes.total(training.one_step(indices)))
            gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
            found["gradients"].append(gradients)
            training.progress.step += 1
        training.progress.epoch, training.progress.step = training.progress.epoch + 1, 0
    found["running"] = {name: value.clone() for name, value in network.named_buffers()}
    training.settle_batchnorm()
    found["recomputed"] = {name: value.clone() for name, value in network.named_buffers()}
    found["weights"] = {name: value.float() for name, value in network.state_dict().items()}
    if "FROM" in os.environ:
        network.load_state_dict(torch.load(os.environ["FROM"])["weights"])
    found["predictions"] = outputs(
        network.float(), Windows(material, "test", settings.ws), 5, "test", processes
    )  # from the same weights: those of the file FROM, where it is given
    found["shared"] = sum(isinstance(m, GlobalBatchNorm) for m in network.modules())
    return found


if __name__ == "__main__":
    main.train_or_test = train
    sys.exit(main.main(sys.argv[1:]))

"""The one training loop: on one device or many, and safe to kill at any moment.

Everything random is drawn from (seed, purpose, epoch, step), so weights, optimizer and how far
the run is are all that has to be kept to go on as if nothing had happened. Checkpoints are written
by checkpoints.py, processes joined by devices.py; no model, loss or score is named here.
"""

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

import loss as losses
import model as models
from dataset import Windows
from evaluation.highlights import scores as highlight_scores
from evaluation.predictions import scores_of
from training import checkpoints, console
from training.devices import Processes, share_batchnorm, use_bf16
from training.modality_dropout import drop_modality
from training.schedule import learning_rate, rate_factor, training_batches
from training.settings import TrainingSettings
from training.testing import frame, outputs, to
from utils import UserError, rng, seed_of

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
    "adamw": torch.optim.AdamW,
}
SELECT = {
    "macro_f1": ("macro_f1",),
    "uar": ("uar",),
    "ccc": ("ccc_arousal", "ccc_valence"),
    "loss": ("loss",),
    "ap": ("average_precision",),
}
UNREAD = 16  # steps whose losses may wait on a GPU: reading them waits for all that was begun


@dataclass
class Progress:
    """How far a run is; with the weights and the optimizer, all there is to keep."""

    epoch: int = 1  # the one under way
    step: int = 0  # steps of it that are done
    totals: list[float] = field(default_factory=list)  # of the losses of these steps
    seen: int = 0  # windows in them
    history: list[dict[str, float]] = field(default_factory=list)  # the lines of the log
    best: float = -math.inf  # validation score so far, and the weights that reached it
    kept: dict[str, Tensor] | None = None


class Training:
    """One model being trained. `fit` leaves it as it is to be tested."""

    def __init__(
        self,
        model: torch.nn.Module,
        criterion: losses.EmotionLoss,
        windows: Windows,
        validation: Windows | None,
        settings: TrainingSettings,
        processes: Processes,
        folder: Path,
    ):
        self.settings, self.processes, self.folder = settings, processes, folder
        self.model, self.criterion = share_batchnorm(model, processes), criterion
        self.windows, self.validation = windows, validation
        self.losses = ("loss", *(f"loss/{head}" for head in models.heads(model)))
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = OPTIMIZERS[settings.optim](
            model.parameter_groups(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.progress = Progress()
        self.bf16 = use_bf16(settings.precision, processes.device)
        self.stop, self.saved = checkpoints.Stop(), time.monotonic()
        self.to_come = console.TimeToCome()

    # --- epochs ------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the last epoch, from where a killed run was. Ctrl-C saves and ends it."""
        self.restore()
        self.parallel = self.processes.wrap(self.model)
        self._say_what_comes()
        with self.stop, self._keeping() as keeper, self._logging() as log:
            while self.progress.epoch <= self.settings.epochs:
                start = time.perf_counter()
                self.one_epoch(keeper)
                line = self._line() | (self.validate() if self.validation is not None else {})
                log(line, time.perf_counter() - start)
                self.progress.history.append(line)
                self._next_epoch()
                self.save(keeper)
        self._finish()

    def one_epoch(self, keeper: checkpoints.Keeper | None) -> None:
        """The steps of this epoch that are not done yet."""
        progress, settings = self.progress, self.settings
        self.parallel.train()
        batches = list(self.batches(progress.epoch))
        unread: list[Tensor] = []
        title = f"epoch {progress.epoch}/{settings.epochs}"
        done, n = progress.step, len(batches)
        with tqdm(total=n, desc=title, initial=done, leave=False, unit="step") as bar:
            for indices in batches[done:]:
                self._set_rates(n)
                unread.append(self.one_step(indices))
                progress.step += 1
                bar.update()
                if len(unread) == self._wait_for or progress.step == n:
                    self._read(unread, batches, keeper)
                    if progress.step < n and self._is_due():
                        self.save(keeper)

    def one_step(self, indices: np.ndarray) -> Tensor:
        """Learn from one batch; returns this process's part of its losses, in order of `losses`."""
        epoch, step = self.progress.epoch, self.progress.step
        torch.manual_seed(seed_of(self.settings.seed, "model", epoch, step, self.processes.rank))
        batch = self.batch(indices, epoch, step)
        values = losses_of(self.parallel, self.criterion, batch, self.bf16, self.counts(indices))
        self.optimizer.zero_grad(set_to_none=True)
        self.processes.backward(values["loss"])
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        self.optimizer.step()
        return torch.stack([values[name].detach() for name in self.losses])

    def _set_rates(self, steps: int) -> None:
        """The learning rates of the step to come, one of `steps` of the epoch."""
        factor = rate_factor(self.settings, self.progress.epoch, self.progress.step, steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Window numbers of each step of an epoch, for all processes together."""
        windows, count = self.windows, self.processes.count
        # BatchNorm needs two rows; without it a long window may be a batch
        normed = any(
            isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in self.model.modules()
        )
        least = 1 if self.settings.max_tokens and not normed else 2
        return training_batches(len(windows), self.settings, epoch, count, windows.lengths, least)

    def batch(self, indices: np.ndarray, epoch: int, step: int) -> dict[str, Tensor]:
        """This process's share of a batch, cut and masked as drawn for that step."""
        settings, share = self.settings, self.processes.share(len(indices))
        cut = rng(settings.seed, "crop", epoch, step).random((len(indices), settings.ws))
        batch = to(self.windows.batch(indices[share], cut[share]), self.processes.device)
        if settings.modality_dropout:
            draw = rng(settings.seed, "modality", epoch, step)
            batch |= drop_modality(
                batch,
                tuple(self.windows.stores),
                settings.modality_dropout,
                draw,
                len(indices),
                share,
            )
        return batch

    def counts(self, indices: np.ndarray) -> dict[str, int]:
        """How many windows of a batch have a truth for each head."""
        return self.windows.known(indices)

    def settle_batchnorm(self) -> None:
        """Give BatchNorm the averages of the weights as they now are, over all training windows.

        Its running averages belong to weights of the last dozens of steps. The recurrent outputs
        of MATE are nearly constant, so their mean moves by many standard deviations meanwhile, and
        a model that fits its training data answers one class when tested (exp/LOG.md, 2026-11-21).
        Averages over the training set: Wu and Johnson 2021, arXiv:2105.07576, section 3.
        """
        if self.settings.bn == "recomputed":
            steps = enumerate(self.batches(0))
            batches = (self.batch(indices, 0, step) for step, indices in steps)
            torch.optim.swa_utils.update_bn(batches, self.model)  # float32, as in testing

    def validate(self) -> dict[str, float]:
        """The scores of the validation sessions; weights that reached the best one are kept."""
        self.settle_batchnorm()
        scores = validate(
            self.model, self.criterion, self.validation, self.settings, self.processes
        )
        select = self.settings.select
        value = scores[select] * (-1 if select == "loss" else 1)
        if value > self.progress.best:
            self.progress.best, self.progress.kept = value, copy.deepcopy(self.model.state_dict())
        return {f"val/{name}": number for name, number in scores.items()}

    def _line(self) -> dict[str, float]:
        progress = self.progress
        rate = learning_rate(
            self.settings, progress.epoch, max(0, progress.step - 1), progress.step
        )
        means = [total / progress.seen for total in progress.totals]
        return {"epoch": progress.epoch, **dict(zip(self.losses, means, strict=True)), "lr": rate}

    def _next_epoch(self) -> None:
        fresh = Progress(self.progress.epoch + 1)
        self.progress.epoch, self.progress.step = fresh.epoch, fresh.step
        self.progress.totals, self.progress.seen = fresh.totals, fresh.seen

    def _finish(self) -> None:
        if self.progress.kept is not None:
            self.model.load_state_dict(self.progress.kept)
        else:
            if self.validation is not None:
                console.warn(
                    f"--select {self.settings.select} was undefined in every epoch: the last "
                    f"one is kept"
                )
            self.settle_batchnorm()

    # --- steps, read and kept ----------------------------------------------------------------

    @property
    def _wait_for(self) -> int:
        return 1 if self.processes.device.type == "cpu" else UNREAD

    def _read(self, unread: list[Tensor], batches: list, keeper: checkpoints.Keeper | None) -> None:
        """Add up the losses of all processes; stop on one that is no number, or when asked to."""
        asked = torch.tensor([float(self.stop.asked)], dtype=torch.float64)
        mine = torch.cat([torch.stack(unread).double().flatten(), asked.to(unread[0].device)])
        *values, stop = self.processes.total(mine).tolist()
        first, size = self.progress.step - len(unread), len(self.losses)
        unread.clear()
        self.progress.totals = self.progress.totals or [0.0] * size
        for at in range(0, len(values), size):
            step = first + at // size
            self._check_finite(values[at], step, batches[step])
            for i, value in enumerate(values[at : at + size]):
                self.progress.totals[i] += value * len(batches[step])
            self.progress.seen += len(batches[step])
        left = (self.settings.epochs - self.progress.epoch + 1) * len(batches) - self.progress.step
        self.to_come.after(self.progress.step, left)
        if stop:
            self.save(keeper)
            if keeper is not None:
                keeper.wait()  # it is about to be said that it is saved
            where = f"epoch {self.progress.epoch}, step {self.progress.step} of {len(batches)}"
            raise KeyboardInterrupt(f"in {where}; saved")

    def _check_finite(self, value: float, step: int, indices: np.ndarray) -> None:
        if not math.isfinite(value):
            segments = self.windows.utterances["segment"].iloc[self.windows.rows[indices]]
            raise UserError(
                f"the loss became {value} in epoch {self.progress.epoch}, step {step + 1} "
                f"(segments {', '.join(segments[:3])}, ...); try a smaller --lr"
            )

    def _is_due(self) -> bool:
        return time.monotonic() - self.saved >= 60 * self.settings.save_minutes

    def save(self, keeper: checkpoints.Keeper | None) -> None:
        """Keep where the run is, unless a weight is no number; the main process does."""
        self.saved = time.monotonic()
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise UserError(
                f"weights are infinite or NaN after {self.progress.epoch - 1} epochs and "
                f"{self.progress.step} steps; try a smaller --lr"
            )
        if keeper is not None:
            keeper.save(self.progress.epoch - 1, self.progress.step, self.state())

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
        }

    def restore(self) -> None:
        """Go on from the newest whole checkpoint of the folder, if it has any."""
        state, damaged = checkpoints.read(self.folder)
        for line in damaged:
            console.warn(line)
        if state is not None:
            try:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.progress = Progress(**state["progress"])
            except (RuntimeError, ValueError, TypeError, LookupError) as error:
                raise UserError(f"the checkpoint in {self.folder} is another model's") from error
            _lay_out_like_the_weights(self.optimizer)
        self.processes.agree(f"{self.progress.epoch}/{self.progress.step}", "the checkpoint")

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[checkpoints.Keeper | None]:
        if not self.processes.is_main:
            yield None
            return
        with checkpoints.Keeper(self.folder) as keeper:
            yield keeper

    # --- what is told ------------------------------------------------------------------------

    def _say_what_comes(self) -> None:
        steps = sum(1 for _ in self.batches(1)) * self.settings.epochs
        kind = "bfloat16" if self.bf16 else "float32"
        many = f"{self.processes.count} x " if self.processes.count > 1 else ""
        where = f"{many}{self.processes.device} in {kind}"
        progress = self.progress
        console.say_what_comes(
            steps, self.settings.batch_size, where, progress.epoch, progress.step
        )

    @contextlib.contextmanager
    def _logging(self) -> Iterator[Any]:
        """A function that tells and keeps the line of an epoch; of one process alone."""
        if not self.processes.is_main:
            yield lambda *_: None
            return
        with console.logging(self.folder, self.progress.history, self.settings.epochs) as tell:
            yield tell


# --- parts of a step, for tests and benchmarks too ------------------------------------------------


def losses_of(
    model: torch.nn.Module,
    criterion: losses.EmotionLoss,
    batch: dict[str, Tensor],
    bf16: bool,
    counts: dict[str, int] | None = None,
) -> dict[str, Tensor]:
    """Forward under autocast where that pays; losses in float32 at least."""
    with torch.autocast(batch["mask"].device.type, torch.bfloat16, enabled=bf16):
        prediction = model(batch)
    prediction = {head: models.at_least_float32(value) for head, value in prediction.items()}
    return criterion(prediction, batch, counts)


def validate(
    model: torch.nn.Module,
    criterion: losses.EmotionLoss,
    windows: Windows,
    settings: TrainingSettings,
    processes: Processes,
) -> dict[str, float]:
    """The scores that `--select` can choose by."""
    output = outputs(model, windows, settings.batch_size, "val", processes, settings.max_tokens)
    table = frame(windows, output, "val")
    values = {name: score["value"] for name, score in scores_of(table, settings.ties).items()}
    values["average_precision"] = average_precision(table)
    truth = to(windows.answers(np.arange(len(windows))), processes.device)
    values["loss"] = criterion(output, truth)["loss"].item()
    return {key: float(np.mean([values[n] for n in names])) for key, names in SELECT.items()}


def average_precision(table: pd.DataFrame) -> float:
    """Of highlights, over all seconds; NaN of a model that predicts none."""
    if "highlight" not in table:
        return math.nan

    return highlight_scores.scores(table)["average_precision"]["value"]


def _lay_out_like_the_weights(optimizer: torch.optim.Optimizer) -> None:
    """Fused optimizers take memory as it lies: moments must lie as their weights do."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.ndim:
                state[name] = torch.empty_like(weight).copy_(value)

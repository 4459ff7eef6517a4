"""What a training says on the way: what comes, how long it takes, a line for each epoch."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from utils import UserError, write_atomic

TIMED = 3  # steps after which the time to come is told; the first one is slow
LOG = "train_loss.log"


def say_what_comes(steps: int, batch_size: int, where: str, epoch: int, done: int) -> None:
    """Print how many steps there are, and from where a killed run goes on."""
    print(f"{steps} steps of {batch_size} windows on {where}")
    if epoch > 1 or done:
        print(f"going on in epoch {epoch}, after {done} steps of it")


class TimeToCome:
    """Says once, when a few steps are done, how long the others will take."""

    def __init__(self) -> None:
        self.begun: tuple[float, int] | None = None  # time and step from which steps are timed
        self.told = False

    def after(self, step: int, left: int) -> None:
        """A step of an epoch is done, `left` of the training are not."""
        now = time.perf_counter()
        if self.begun is None:
            self.begun = (now, step)
        done = step - self.begun[1]
        if not self.told and done >= TIMED - 1:
            self.told, seconds = True, (now - self.begun[0]) / done
            minutes = max(1, round(seconds * left / 60))
            tqdm.write(f"{seconds:.2g} s a step: about {minutes} min", file=sys.stdout)


@contextlib.contextmanager
def logging(
    folder: Path, history: list[dict[str, float]], epochs: int
) -> Iterator[Callable[[dict[str, float], float], None]]:
    """A function that prints and keeps the line of an epoch.

    `history`: the lines so far; those of a future that was lost in a kill are cut off first.
    """
    from torch.utils.tensorboard import SummaryWriter  # two seconds testing need not pay

    path = folder / LOG
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in history))
    events = SummaryWriter(folder, purge_step=len(history) + 1)
    with _written(path), events, open(path, "a") as log:

        def tell(line: dict[str, float], seconds: float) -> None:
            log.write(json.dumps(line) + "\n")
            log.flush()
            for name, value in (line | {"seconds": seconds}).items():
                events.add_scalar(name, value, line["epoch"])
            print(epoch_line(line, seconds, epochs))

        yield tell


def epoch_line(line: dict[str, float], seconds: float, epochs: int) -> str:
    """Losses and the validation score of an epoch, as text."""
    losses = [name for name in line if name.split("/")[0] == "loss"]
    parts = [f"{name.split('/')[-1]} {line[name]:.3f}" for name in losses]
    defined = (n for n in ("macro_f1", "ap") if math.isfinite(line.get(f"val/{n}", math.nan)))
    parts += [f"val {line[f'val/{n}']:.3f} {n}" for n in defined]
    return f"epoch {line['epoch']}/{epochs}  {'  '.join(parts)}  {seconds:.0f} s"


def warn(line: str) -> None:
    """Print a warning, apart from what is told."""
    print(f"warning: {line}", file=sys.stderr)


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error

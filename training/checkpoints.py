"""Where a run stands, on disk: safe to kill at any moment, and never trusted unread.

`last-<epochs done>-<steps done>.ckpt` and the one before it, each with its checksum beside it. What
a state holds is the affair of loop.py.
"""

import contextlib
import io
import re
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

import model as models
from utils import UserError, read_sealed, remove_sealed, write_sealed

KEPT = 2


class Keeper:
    """Writes states of one run, in the background: the next step need not wait for the disk.

    with Keeper(folder) as keeper:
        keeper.save(epochs, steps, state)   # raises what befell the save before it
    """

    def __init__(self, folder: Path):
        self.folder, self.pool = folder, ThreadPoolExecutor(1)
        self.last: Future | None = None

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        with contextlib.suppress(UserError) if error else contextlib.nullcontext():
            self.wait()
        self.pool.shutdown()

    def save(self, epochs: int, steps: int, state: dict[str, Any]) -> None:
        """Keep this state; it is copied before this returns. Raises UserError: disk full."""
        self.wait()
        data = models.serialise(state)
        self.last = self.pool.submit(write, self.folder, epochs, steps, data)

    def wait(self) -> None:
        """Until the last state is on disk."""
        last, self.last = self.last, None
        if last is not None:
            last.result()


def write(folder: Path, epochs: int, steps: int, data: bytes | memoryview) -> None:
    """Keep `data`, after `epochs` and `steps` of the next one; once it is sound, drop the oldest.

    Killed anywhere in between, the checkpoints before it are there, each with its checksum.
    """
    path = folder / f"last-{epochs:04d}-{steps:06d}.ckpt"
    write_sealed(path, data)
    others = [other for other in found(folder) if other != path]
    for other in others[KEPT - 1 :]:
        remove_sealed(other)


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    paths = [p for p in folder.glob("last-*.ckpt") if re.fullmatch(r"last-\d+-\d+", p.stem)]
    return sorted(paths, key=lambda p: tuple(map(int, p.stem.split("-")[1:])), reverse=True)


def read(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole state, None if there is none, and a line for each that is damaged.

    Raises UserError when every checkpoint there is is damaged.
    """
    damaged = []
    for path in found(folder):
        try:
            return _load(path), damaged
        except UserError as error:
            damaged.append(str(error))
    if damaged:
        raise UserError(f"no whole checkpoint is left in {folder}: {'; '.join(damaged)}")
    return None, []


def _load(path: Path) -> dict[str, Any]:
    data = read_sealed(path)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails in too many ways to list
        raise UserError(f"{path} is no checkpoint ({type(error).__name__})") from error


def remove(folder: Path) -> None:
    """The run is finished: what only served to go on is deleted."""
    for path in found(folder):
        remove_sealed(path)


class Stop:
    """Ctrl-C and SIGTERM ask for an end after the step under way; the second one ends at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked, self.before = False, {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # others get no signals
            self.before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _ask(self, *_: object) -> None:
        self.asked = True
        self.__exit__()

"""Hostile corpora, and calls that are watched: time, memory, files."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from utils import ROOT

OUT = "it leads out of the corpus folder"


PREPARE = ["prepare", "--data", "corpus", "--max_bad", "0.9"]


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """What does not end in time fails, rather than going on for ever."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def small_place(workplace: Path, folder: Path) -> Iterator[Path]:
    """A folder of its own to work in: `corpus`, without its sensors, and an empty `outside`."""
    without = shutil.ignore_patterns("ECG", "EDA", "TEMP")
    shutil.copytree(workplace / "corpus", folder / "corpus", ignore=without)
    (folder / "outside").mkdir()
    with contextlib.chdir(folder):
        yield folder


opened: list[str] | None = None


def _hook(event: str, arguments: tuple) -> None:
    if event == "open" and opened is not None and isinstance(arguments[0], str):
        opened.append(os.path.realpath(arguments[0]))


sys.addaudithook(_hook)  # it cannot be taken away again: `opened` turns it on


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """The real paths of all files that Python opens meanwhile."""
    global opened
    opened = paths = []
    try:
        yield paths
    finally:
        opened = None


def table(name: str = "annotation.csv") -> pd.DataFrame:
    """A prepared table of the one corpus that was prepared here."""
    [path] = Path("data/prepared").glob(f"*/{name}")
    return pd.read_csv(path, keep_default_na=False)


def replaced(name: str, make) -> None:
    Path("corpus", name).unlink()
    make(Path("corpus", name))


def prepare_apart() -> subprocess.CompletedProcess:
    """In a process of its own, with 30 s: a reader that waits for a pipe cannot be interrupted."""
    command = [sys.executable, str(ROOT / "main.py"), *PREPARE]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


SMALL = {"model": "mate", "hidden_size": 4, "modality": "text", "text_dim": 8, "ws": 2}

"""Kill a training run at random moments and go on with it, again and again.

    PYTHONPATH=. python benchmarks/kill.py --kills 50

The same command is run once undisturbed and then in a process that is killed (SIGKILL) at a random
moment, started again, killed, ... until it ends; then another such run begins, in a folder without
prepared tables and features. Every file that holds a result must equal the undisturbed one, byte
for byte. Exit code 1 and the names of those that do not. A checkpoint is written after every step,
so many kills fall into the writing of one.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch  # here, so that the forked processes need not

import main
from training import (
    checkpoints,
    run,  # noqa: F401 (as above)
    run_folder,
)
from utils import leaf

RESULTS = ("model.pth", "predictions.csv", "train_loss.log", "training.csv", "confusion.csv")
COMMAND = [
    "--data",
    "corpus",
    "--test_split",
    "[3,4]",
    "--val_split",
    "[2]",
    "--text_encoder",
    "char-ngram",
    "--modality_dropout",
    "0.3",
    "--hidden_size",
    "8",
    "--batch_size",
    "4",
    "--ws",
    "2",
    "--precision",
    "float32",
    "--gpu_id",
    "-1",
    "--save_minutes",
    "0",
]


def furnish(folder: Path, corpus: Path) -> Path:
    """A folder to work in: the corpus, and nothing prepared."""
    folder.mkdir()
    (folder / "corpus").symlink_to(corpus)
    return folder


def begin(place: Path, arguments: list[str]) -> int:
    """Start the command in a process of its own; returns its id."""
    if pid := os.fork():
        return pid
    os.chdir(place)
    with open("log.txt", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os._exit(main.main([*arguments, "--save_name", "run"]))


def end(pid: int, seconds: float) -> int | None:
    """Wait that long, then kill: the exit code of one that ended by itself, None if killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def undisturbed(place: Path, arguments: list[str]) -> float:
    """Run to the end; the seconds it took."""
    start = time.monotonic()
    if code := end(begin(place, arguments), 3600):
        sys.exit(f"the undisturbed run ended with {code}:\n{(place / 'log.txt').read_text()}")
    return time.monotonic() - start


def moment(place: Path) -> str:
    """Where a killed run stood."""
    folder = place / "exp" / "run"
    states = [path.stem for path in checkpoints.found(folder)]
    if states:
        return "scoring" if (folder / "model.pth").exists() else "training"
    return "first step" if (folder / "training.csv").exists() else "preparation"


def check(place: Path, whole: Path) -> None:
    """Exit with code 1 and the names of the files that differ."""
    pairs = [(name, place / "exp/run" / name, whole / "exp/run" / name) for name in RESULTS]
    if odd := [name for name, own, other in pairs if own.read_bytes() != other.read_bytes()]:
        sys.exit(f"not the bytes of the undisturbed run: {', '.join(odd)} in {place}")


def report() -> None:
    """Kill, go on, compare; print how often and where."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--modality", default="text", help="as of main.py")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process with threads cannot be forked
    words = [*COMMAND, "--epochs", str(options.epochs), "--modality", options.modality]
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        leaf("corpora", "sample").write(where / "c", sessions=4, dialogues=2, utterances=3)
        whole = furnish(where / "whole", where / "c")
        seconds = undisturbed(whole, words)
        kills, ended = kill_and_go_on(where, words, options.kills, 0.6 * seconds, options.seed)
    places = ", ".join(f"{n} in {place}" for place, n in kills.most_common())
    print(
        f"{sum(kills.values())} kills ({places}); {ended} runs ended, all equal byte for byte to "
        f"one never killed ({', '.join(RESULTS)}; {seconds:.1f} s)"
    )


def kill_and_go_on(
    where: Path, words: list[str], wanted: int, longest: float, seed: int
) -> tuple[collections.Counter, int]:
    """Where the kills fell, and how many runs came to their end in spite of them."""
    draw, kills, ended = random.Random(seed), collections.Counter(), 0
    while sum(kills.values()) < wanted:
        place = furnish(where / f"killed{ended}", where / "c")
        while not run_folder.is_finished(place / "exp" / "run"):
            more = sum(kills.values()) < wanted
            code = end(begin(place, words), draw.uniform(0, longest) if more else 3600)
            if code:
                sys.exit(f"a run that was gone on with: {code}\n{(place / 'log.txt').read_text()}")
            if code is None:
                kills[moment(place)] += 1
        check(place, where / "whole")
        shutil.rmtree(place)
        ended += 1
    return kills, ended


if __name__ == "__main__":
    report()

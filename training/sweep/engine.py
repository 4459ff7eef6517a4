"""Points of a grid, trained side by side under Ray, or one after the other without it.

On a CPU each run has one thread either way, so both give the same bytes. Finished runs are
left as they are and begun ones go on, so a sweep that was killed is finished by running it again.
"""

import contextlib
import dataclasses
import functools
import os
import shlex
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from threadpoolctl import threadpool_limits

import model as models
from corpora.preparation.corpus import open_corpus
from dataset import open_material, with_text_encoder
from training import flags, run, run_folder
from training.sweep.grid import GridPoint
from training.sweep.progress import Board
from utils import ROOT, UserError, cores, first_few, leaf, lock, make_folder, read_json

MEMORY = 8 << 30  # bytes a run: MATE at its defaults keeps 7.5 GB
GRACE = 60  # seconds that runs get to save what they have when a sweep is interrupted


class Place(NamedTuple):
    """Where points are trained: the folder of runs, that of their logs, and the working folder."""

    runs: str
    logs: str
    here: str


def train_all(
    grid: list[GridPoint], place: Place, jobs: int | None, gpus: float | None, address: str | None
) -> dict[str, str]:
    """Train what is not finished; the points that failed, by name, and why."""
    finished = [point for point in grid if run_folder.is_finished(Path(place.runs, point.name))]
    _refuse_stale(finished, place)
    todo = [point for point in grid if point not in finished]
    if not todo:
        return {}
    make_folder(place.logs)
    _extract(todo)
    ray = _ray(jobs, address)
    if ray is None:
        print(f"{len(todo)} trials to train, one after the other, in this process")
    with Board(grid, Path(place.runs)) as board:
        if ray is None:
            return _one_by_one(todo, place, board)
        return _side_by_side(ray, todo, place, gpus, board)


def _refuse_stale(finished: list[GridPoint], place: Place) -> None:
    """A UserError for points that were trained on another state of their corpora than they have."""
    stale, state = [], functools.cache(_state)
    for point in finished:
        folder = Path(place.runs, point.name)
        begun = read_json(folder / "configuration.json")
        said, parts = point.settings, [begun["corpus"], *begun.get("extra", [])]
        read = [(said.data, said.tables), *((data, "raw") for data in said.train_extra)]
        states = [
            (state(*corpus), part["fingerprint"]) for corpus, part in zip(read, parts, strict=True)
        ]
        if any(now not in (None, then) for now, then in states):
            stale.append(str(folder))
    if stale:
        raise UserError(
            f"{first_few(stale, 1)} was trained on another state of the corpus than now; "
            f"delete it to train it again, or take another --save_path"
        )


def _state(data: str, tables: str) -> str | None:
    """The fingerprint of a corpus; None where it is gone: what was trained on it still stands."""
    with contextlib.suppress(UserError):
        return open_corpus(data, tables, max_bad=1.0).fingerprint
    return None


def _extract(todo: list[GridPoint]) -> None:
    """Extract what the points read, once and with all cores; what is wrong, each tells later."""
    done = set()
    for point in todo:
        with contextlib.suppress(UserError):
            settings = with_text_encoder(models.complete(point.settings))
            inputs = models.inputs(settings.model, vars(settings))
            wanted = [(name, leaf("features", name).parameters(settings)) for name in inputs]
            corpora = [settings.data, settings.tables, settings.train_extra, settings.SorL]
            if (key := repr([corpora, wanted])) not in done:
                done.add(key)
                open_material(settings, inputs)


# --- one point ------------------------------------------------------------------------------


def train_one(words: tuple[str, ...], name: str, place: Place) -> str:
    """Train one point, its output in `<logs>/<name>.log`; "" or, in one line, what went wrong."""
    os.chdir(place.here)
    path = Path(place.logs, f"{name}.log")
    with open(path, "a", encoding="utf-8") as file, _quiet(_Log(file)), one_thread():
        try:
            settings = flags.trained(list(words))
            settings = dataclasses.replace(settings, save_path=place.runs, save_name=name)
            _train(settings, shlex.join(["python", "main.py", *words]))
        except UserError as error:
            return str(error)
        except Exception as error:  # whatever it is, the other points go on
            file.write(traceback.format_exc())
            return f"{type(error).__name__}: {error}".partition("\n")[0] + f"; see {path}"
    return ""


def _train(settings, command: str) -> None:
    """One process at a time: two sweeps may hold the same point."""
    guard = Path(make_folder(settings.save_path), f".{settings.save_name}.lock")
    folder = Path(settings.save_path, settings.save_name)
    with lock(guard, f"training {settings.save_name}"):
        if not run_folder.is_finished(folder):
            run.train(settings, command)
        guard.unlink(missing_ok=True)  # whoever still waits for it finds a finished run


class _Log:
    """A text file without the progress bars, which rewrite lines of a terminal, and empty lines."""

    def __init__(self, file):
        self.file, self.fresh = file, True

    def write(self, text: str) -> int:
        if text and not text.startswith(("\r", "\x1b")) and not (self.fresh and text == "\n"):
            self.file.write(text)
            self.fresh = text.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self.file.flush()

    def isatty(self) -> bool:
        return False


@contextlib.contextmanager
def _quiet(file: _Log) -> Iterator[None]:
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


# --- the engines ----------------------------------------------------------------------------


def _one_by_one(todo: list[GridPoint], place: Place, board: Board) -> dict[str, str]:
    for point in todo:
        board.running = 1
        board.ended(point.name, train_one(point.words, point.name, place))
    return board.failed


def _ray(jobs: int | None, address: str | None):
    """Ray, begun or joined; None where it is not installed or one is to be trained at a time."""
    jobs = jobs or side_by_side()
    if address is None and jobs == 1:
        return None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        if address is not None:
            raise UserError("--address needs Ray: pip install -r requirements/extra.txt") from None
        print("Ray is not installed (pip install -r requirements/extra.txt): one trial at a time")
        return None
    # where a worker, which starts elsewhere, finds this program
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    quiet = {"logging_level": "error", "log_to_driver": False}
    quiet["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
    try:
        if address is None:
            quiet |= {"include_dashboard": False, "num_cpus": jobs}
        ray.init(address=address or "local", **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"no Ray at --address {address}: {reason} (where the cluster asks for a "
            f"token: RAY_AUTH_MODE=token in the environment)"
        ) from error
    return ray


def side_by_side() -> int:
    """How many runs this machine has the cores and the free memory for."""
    return max(1, min(cores(), psutil.virtual_memory().available // MEMORY))


def _side_by_side(ray, todo: list[GridPoint], place: Place, gpus: float | None, board: Board):
    gpus = float(torch.cuda.is_available()) if gpus is None else gpus
    there = ray.cluster_resources().get("GPU", 0)
    if gpus > there or (gpus > 1 and gpus % 1):
        ray.shutdown()
        raise UserError(
            f"--gpus {gpus:g} should be a share of one GPU or a whole number of the "
            f"{there:g} that there are"
        )
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(train_one)
    begun = {task.remote(point.words, point.name, place): point.name for point in todo}
    waiting = list(begun)
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=1.0)
            board.running = min(len(waiting), int(ray.cluster_resources().get("CPU", 1)))
            for task in ended:
                board.ended(begun[task], _answer(ray, task))
    except KeyboardInterrupt:
        for task in waiting:
            ray.cancel(task)  # as Ctrl-C would: a training saves first
        ray.wait(waiting, num_returns=len(waiting), timeout=GRACE)
        raise
    finally:
        ray.shutdown()
    return board.failed


def _answer(ray, task) -> str:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:  # the process is gone: killed, or out of memory
        return f"{type(error).__name__}: " + str(error).strip().splitlines()[-1]

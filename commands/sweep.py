"""Train every trial of a grid of flags, and set their scores beside each other with evidence.

    python main.py sweep exp/tables/3.2.txt --dry_run          what would be trained, and how long
    python main.py sweep exp/tables/3.2.txt                    train and compare
    python main.py sweep exp/tables/3.2.txt --data sample --epochs 2 --seeds 1 2 --jobs 2

Flags of training may follow, with alternatives in braces and quotes: they are added to the grid's.
Killed or interrupted, the same command trains what is missing. Tables: `<save_path>/sweep_.../`.
"""

import functools
import itertools
import shlex
from dataclasses import dataclass
from pathlib import Path

from commands import Subcommand
from corpora import preparation
from evaluation import finished_runs
from reporting import highlight_tables, tables
from reporting.formatting import sessions
from training import run_folder
from training.sweep import engine, estimate
from training.sweep import grid as grids
from utils import UserError, digest, make_folder, setting, write_json


@dataclass(frozen=True)
class Settings(grids.GridSettings):
    """The grid, and how it is trained."""

    grid: str = setting(
        "", "a file of flags that may list alternatives, {a,b}", position=True, required=True
    )
    dry_run: bool = setting(False, "show the trials and about how long they take")
    jobs: int | None = setting(
        None,
        "trials at once (default: as many as cores and memory allow); 1: without Ray",
        least=1,
        metavar="N",
    )
    gpus: float | None = setting(
        None,
        "GPUs a trial; 0.25: four share one (default: 1 where there is any)",
        least=0,
        metavar="SHARE",
    )
    address: str | None = setting(
        None, "a Ray cluster to train on (default: this machine)", metavar="HOST:PORT"
    )
    flags: tuple[str, ...] = setting((), "flags of training, which follow", flag=False)


class Command(Subcommand):
    """Train a grid of runs."""

    Settings = Settings
    FLAGS = True

    @staticmethod
    def main(settings: Settings) -> None:
        """Expand, say what comes, train what is missing, write the tables."""
        grid = grids.points(_lines(settings), _sessions)
        runs = _one({point.settings.save_path for point in grid}, "--save_path")
        _one({point.settings.ties for point in grid}, "--ties")
        grids.refuse_overlap(grid)
        print(_expansion(grid, runs))
        if settings.dry_run:
            print(_time(grid, runs, settings.jobs))
            return
        title = Path(settings.grid).stem
        folder = make_folder(Path(runs, f"sweep_{title}_{digest([point.name for point in grid])}"))
        place = engine.Place(
            str(Path(runs).resolve()), str((folder / "logs").resolve()), str(Path.cwd())
        )
        try:
            failed = engine.train_all(grid, place, settings.jobs, settings.gpus, settings.address)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the sweep; the same command goes on with it") from None
        write_json(folder / "sweep.json", _record(settings, grid, failed))
        finished = [point for point in grid if point.name not in failed]
        if finished:
            _write_tables((title, _about(settings)), finished, failed, runs, folder)
        if failed:
            named = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:3])
            raise UserError(f"{len(failed)} of {len(grid)} trials failed: {named}")


def _lines(settings: Settings) -> list[str]:
    """The grid's lines, and what was said on the command line after them."""
    lines = [" ".join(word if "{" in word else shlex.quote(word) for word in settings.flags)]
    lines += [f"--folds {shlex.quote(settings.folds)}"] if settings.folds else []
    lines += [f"--seeds {' '.join(map(str, settings.seeds))}"] if settings.seeds else []
    return grids.read(Path(settings.grid)) + lines


@functools.cache
def _sessions(data: str, tables: str) -> list[int]:
    corpus = preparation.open_corpus(data, tables, max_bad=1.0)  # each run judges that
    return sorted(set(corpus.utterances["session"]))


def _one(values: set, flag: str):
    if len(values) > 1:
        raise UserError(f"a sweep needs one {flag} for all trials, it has {sorted(values)}")
    return values.pop()


def _record(settings: Settings, grid: list[grids.GridPoint], failed: dict) -> dict:
    trials = [
        {
            "name": point.name,
            "command": shlex.join(["python", "main.py", *point.words]),
            "failed": failed.get(point.name),
        }
        for point in grid
    ]
    return {"grid": _lines(settings), "trials": trials}


# --- what comes -----------------------------------------------------------------------------


def _expansion(grid: list[grids.GridPoint], runs: str) -> str:
    """A line for each point: its state, role, test sessions, seed and what sets it apart."""
    names = grids.differing(grid)
    lines = [f"{len(grid)} trials"]
    for point in grid:
        own, state = point.settings, _state(point, runs)
        line = f"{point.name:<32} {state:<6} {own.SorL:<8} test {sessions(own.test_split):<8} "
        lines.append(f"{line}seed {own.seed:<4} {grids.variant(point, names)}".rstrip())
    return "\n".join(lines)


def _state(point: grids.GridPoint, runs: str) -> str:
    folder = Path(runs, point.name)
    if run_folder.is_finished(folder):
        return "done"
    return "begun" if folder.exists() else "to do"


def _time(grid: list[grids.GridPoint], runs: str, jobs: int | None) -> str:
    todo = [point for point in grid if _state(point, runs) != "done"]
    if not todo:
        return "nothing to train"
    with engine.one_thread():
        seconds = estimate.seconds(todo)
    if seconds is None:
        return "no estimate: a model among them learns without steps"
    jobs = min(jobs or engine.side_by_side(), max(1, len(todo)))
    return (
        f"{len(todo)} to train: about {_told(seconds)} with one thread each, so "
        f"{_told(seconds / jobs)} with {jobs} at a time (from {estimate.STEPS} steps of each kind)"
    )


def _told(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 3600 else f"{max(1, round(seconds / 60))} min"


# --- what came ------------------------------------------------------------------------------


def _about(settings: Settings) -> str:
    """The comments at the top of a grid, but for the first line, which is its command."""
    top = itertools.takewhile(lambda line: line.startswith("#"), grids.read(Path(settings.grid)))
    return " ".join(line.lstrip("# ") for line in list(top)[1:])


def _write_tables(
    head: tuple[str, str],
    grid: list[grids.GridPoint],
    failed: dict[str, str],
    runs: str,
    folder: Path,
) -> None:
    title, about = head
    names = grids.differing(grid)
    rows: dict[str, list[finished_runs.Run]] = {}
    for point in grid:
        parts = (point.settings.SorL, grids.variant(point, names))
        row = rows.setdefault(", ".join(part for part in parts if part), [])
        row.append(finished_runs.read(Path(runs, point.name)))
    kind = highlight_tables if highlight_tables.judges(rows) else tables
    result = kind.compared(title, rows, grid[0].settings.ties, folder, about) | {"failed": failed}
    page = kind.write(folder, result)
    print(kind.console(result))
    print(f"report: {page}")

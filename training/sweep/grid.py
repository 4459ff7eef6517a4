"""Grid files: flags of training, any of which may list alternatives in braces.

    --SorL {speaker,listener}
    --test_split {[1,2,3,4],[5,6,7,8]}           a comma within brackets separates nothing
    {,--bidirectional}                           without and with it
    {--lam 0.75,--loss cbloss --lam 0.9}         alternatives of several flags; braces may nest
    --folds loso                                 a split for each fold: see evaluation/splits.py
    --seeds 1 2 3                                the same as --seed {1,2,3}

Every combination is one point of the grid, the first line varying slowest.
"""

import itertools
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evaluation import splits as session_splits
from training import flags, run_folder
from training.settings import TrainingSettings, flat
from utils import UserError, digest, setting

FOLD = ("SorL", "test_split", "val_split", "seed")  # what points of one row of a table differ in
OPEN, CLOSE = "{[", "}]"


class GridPoint(NamedTuple):
    """One training of a grid: its flags, and what they say."""

    words: tuple[str, ...]
    settings: TrainingSettings

    @property
    def name(self) -> str:
        """Of its run folder: equal for points that would train the same."""
        said = {n: v for n, v in flat(self.settings).items() if n not in run_folder.FREE}
        return f"{said['model']}_{said['SorL']}_{digest(said, 12)}"


def read(path: Path) -> list[str]:
    """The lines of a grid file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the grid {path}: {error}; it is a file of flags, the first "
            f"thing after `sweep`"
        ) from error


def points(lines: list[str], sessions: Callable[[str, str], list[int]]) -> list[GridPoint]:
    """Every point of a grid, each once, in order.

    `sessions(data, tables)` are those of a corpus; it is asked only where --folds needs it.
    """
    found: dict[str, GridPoint] = {}
    for words in _product([alternatives(line) for line in lines]):
        for whole in _folded(words, sessions):
            point = GridPoint(tuple(whole), flags.trained(whole))
            found.setdefault(point.name, point)
    return list(found.values())


def alternatives(line: str) -> list[list[str]]:
    """One line -> the words of each of its alternatives; [[]] for a comment.

    >>> alternatives("--lam {0.5,0.66}  # two")
    [['--lam', '0.5'], ['--lam', '0.66']]
    """
    try:
        return [shlex.split(text, comments=True) for text in _expanded(line)]
    except ValueError as error:
        raise UserError(f"cannot read the line {line!r} of the grid: {error}") from error


def _product(lines: list[list[list[str]]]) -> Iterator[list[str]]:
    for chosen in itertools.product(*lines):
        yield [word for words in chosen for word in words]


def _expanded(text: str) -> list[str]:
    """Without braces: each combination of what the outermost ones list."""
    start = text.partition("#")[0].find("{")
    if start < 0:
        return [text]
    end, parts = _parts(text, start)
    rest = _expanded(text[end + 1 :])
    return [
        text[:start] + choice + tail
        for part in parts
        for choice in _expanded(part)
        for tail in rest
    ]


def _parts(text: str, start: int) -> tuple[int, list[str]]:
    """Where the brace at `start` closes, and what stands between its commas."""
    depth, begin, parts = 0, start + 1, []
    for at in range(start, len(text)):
        depth += (text[at] in OPEN) - (text[at] in CLOSE)
        if depth == 0 or (depth == 1 and text[at] == ","):
            parts.append(text[begin:at])
            begin = at + 1
        if depth == 0:
            return at, parts
    raise UserError(f"a brace is not closed in the line {text!r} of the grid")


@dataclass(frozen=True)
class GridSettings:
    """The flags of a grid that one training does not have."""

    folds: str | None = setting(
        None, "folds5, loso or shuffled12: a trial for each fold", metavar="NAME"
    )
    seeds: tuple[int, ...] = setting(
        (), "a trial for each seed", least=0, words="+", metavar="SEED"
    )


def _folded(words: list[str], sessions: Callable) -> Iterator[list[str]]:
    """A command line for every fold and seed that --folds and --seeds name."""
    own, rest = flags.read(GridSettings, words)
    splits = [[]]
    if own.folds:
        said = flags.trained(rest)
        there = [s for s in sessions(said.data, said.tables) if s not in said.leave_out]
        splits = [_flags(fold) for fold in session_splits.folds(own.folds, there)]
    for split in splits:
        for seed in own.seeds or [None]:
            yield [*rest, *split, *([] if seed is None else ["--seed", str(seed)])]


def _flags(fold: session_splits.Fold) -> list[str]:
    val = ["--val_split", *map(str, fold.val)] if fold.val else []
    return ["--test_split", *map(str, fold.test), *val]


# --- what differs between points ------------------------------------------------------------


def differing(grid: list[GridPoint]) -> dict[str, list[str]]:
    """Names of the settings by which rows of each model differ; folds and seeds apart.

    With several models: the model, and what differs among the points of that one.
    """
    models = dict.fromkeys(point.settings.model for point in grid)
    every = _varying(grid)
    within = {
        model: _varying([point for point in grid if point.settings.model == model])
        for model in models
    }
    return {
        model: [name for name in every if name == "model" or name in within[model]]
        for model in models
    }


def refuse_overlap(grid: list[GridPoint]) -> None:
    """A UserError where two points of one row of the table would test a session with one seed."""
    names, seen = differing(grid), {}
    for point in grid:
        said = point.settings
        for session in said.test_split:
            key = said.SorL, variant(point, names), said.seed, session
            if (other := seen.setdefault(key, point)) is not point:
                raise UserError(
                    f"{other.name} and {point.name} are of one row of the table "
                    f"and both test session {session}; part them"
                )


def _varying(grid: list[GridPoint]) -> list[str]:
    names = dict.fromkeys(name for point in grid for name in flat(point.settings))
    return [
        name
        for name in names
        if name not in (*FOLD, *run_folder.FREE)
        and len({repr(flat(point.settings).get(name)) for point in grid}) > 1
    ]


def variant(point: GridPoint, names: dict[str, list[str]]) -> str:
    """What sets a point apart from others, as text: "lam 0.5, beta 0.9"; `names`: `differing`."""
    said = flat(point.settings)
    return ", ".join(_told(name, said[name]) for name in names[said["model"]] if name in said)


def _told(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {'none' if value is None else value}"

"""Set finished runs beside each other: pooled scores with intervals, and every two of them paired.

    python main.py compare RUN RUN                      each run a row
    python main.py compare both=RUN,RUN text=RUN,RUN    a row of several folds or seeds, by a name

Tables: `<save_path>/compare_<hash>/`. Runs of one row may differ in fold and seed.
"""

import argparse
from pathlib import Path

import constants
from evaluation import finished_runs
from reporting import highlight_tables, tables
from training import run_folder
from utils import UserError, digest, make_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The rows of the table."""
    add = parser.add_argument
    add("rows", nargs="+", metavar="RUN|NAME=RUN,RUN", help="finished runs, by name or folder")
    add("--save_path", default=constants.SAVE_PATH, help="where the runs are")
    add(
        "--ties",
        choices=constants.TIE_POLICIES,
        default=constants.TIES,
        help="which test rows the emotion scores count",
    )


def main(settings: argparse.Namespace) -> None:
    """Read the runs, write the tables, print the main one."""
    rows = {}
    for word in settings.rows:
        name, runs = _row(word)
        if name in rows:
            raise UserError(f"two rows are called {name!r}; give each a name: NAME=RUN,RUN")
        folders = [run_folder.find(run, settings.save_path) for run in runs]
        rows[name] = [finished_runs.read(folder) for folder in folders]
    names = {name: [str(trial.folder.resolve()) for trial in row] for name, row in rows.items()}
    folder = make_folder(Path(settings.save_path, f"compare_{digest([names, settings.ties])}"))
    kind = highlight_tables if highlight_tables.judges(rows) else tables
    result = kind.compared("Comparison", rows, settings.ties, folder)
    page = kind.write(folder, result)
    print(kind.console(result))
    print(f"report: {page}")


def _row(word: str) -> tuple[str, list[str]]:
    name, equals, runs = word.partition("=")
    return (name, runs.split(",")) if equals else (Path(word).name, [word])

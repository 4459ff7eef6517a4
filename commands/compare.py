"""Set finished runs beside each other: pooled scores with intervals, and every two of them paired.

    python main.py compare RUN RUN                      each run a row
    python main.py compare both=RUN,RUN text=RUN,RUN    a row of several folds or seeds, by a name

Tables: `<save_path>/compare_<hash>/`. Runs of one row may differ in fold and seed.
"""

from dataclasses import dataclass
from pathlib import Path

import constants
from commands import Subcommand
from evaluation import finished_runs
from reporting import highlight_tables, tables
from training import run_folder
from utils import UserError, digest, make_folder, setting


@dataclass(frozen=True)
class Settings:
    """The rows of the table."""

    rows: tuple[str, ...] = setting(
        (), "finished runs, by name or folder", position=True, words="+", metavar="RUN|NAME=RUN,RUN"
    )
    save_path: str = setting(constants.SAVE_PATH, "where the runs are")
    ties: str = setting(
        constants.TIES, "which test rows the emotion scores count", choices=constants.TIE_POLICIES
    )


class Command(Subcommand):
    """Set finished runs beside each other."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
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

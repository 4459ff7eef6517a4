"""What a corpus is: the base of the class `Reader` that every file of corpora/ holds.

A reader turns a folder into a table of utterances and one of troubles (columns: columns.py), and
writes nothing into it. That it is read once, heard and kept is the affair of corpus.py.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

SIGNALS = ["session", "subject", "signal", "time", "value", "timestamp", "segment"]


class Reader:
    """What every `Reader` in corpora/ is. It must have `matches`, `sources` and `read`."""

    TABLES = "raw"  # "2022" for the tables of that year, which --tables names
    COLUMNS: tuple[str, ...] = ()  # of its own, behind those of columns.py; words, all of them
    LABELS: tuple[str, ...] = ()  # rules by which `labelled` tells emotions; the first is used
    MADE = False  # whether the corpus is made, by `write`, where it is not there
    SAMPLE_SIZES: dict[str, int] = {}  # at most, of a sample in its layout; {}: there is none

    @staticmethod
    def matches(folder: Path) -> bool:
        """Whether the folder is laid out as this corpus; no other corpus may say yes to it."""
        raise NotImplementedError

    @staticmethod
    def sources(folder: Path) -> list[Path]:
        """The files that its tables are made from: when one changes, they are made again."""
        raise NotImplementedError

    @staticmethod
    def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Utterances in spoken order, and troubles. A bad row is quarantined and raises nothing.

        Raises UserError where the folder cannot be read at all.
        """
        raise NotImplementedError

    @staticmethod
    def grouped(utterances: pd.DataFrame) -> pd.DataFrame:
        """The utterances, once every wav was heard: `session` set, more in quarantine."""
        return utterances

    @staticmethod
    def labelled(utterances: pd.DataFrame, rule: str) -> pd.DataFrame:
        """The utterances with emotion and votes by one of LABELS."""
        raise NotImplementedError

    @staticmethod
    def signals(
        folder: Path, kinds: Iterable[str] = (), sessions: Iterable[int] | None = None
    ) -> pd.DataFrame:
        """Samples of the sensors that people wore, with the columns SIGNALS; none by default."""
        return pd.DataFrame(columns=SIGNALS)

    # --- made-up corpora ---------------------------------------------------------------------

    @staticmethod
    def write(folder: Path) -> None:
        """Make the corpus, of a reader that is MADE; corpus.MARK is written last."""
        raise NotImplementedError

    @staticmethod
    def plan_sample(
        sessions: int, dialogues: int, utterances: int, seed: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What is said in a sample, and the ratings of it: see corpora/sample.py."""
        raise NotImplementedError

    @staticmethod
    def write_sample(folder: Path, table: pd.DataFrame, waves: Callable) -> None:
        """Lay a sample into `folder` as the corpus lies; `waves(i)`: samples of utterance i."""
        raise NotImplementedError

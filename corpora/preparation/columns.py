"""Columns of the tables of utterances and of troubles."""

from collections.abc import Sequence

import pandas as pd

from metric import VOTES

COLUMNS = [
    "corpus",
    "role",
    "segment",
    "session",
    "dialogue",
    "speaker",
    "kind",
    "start",
    "end",
    "wav",
    "text",
    "emotion",
    *VOTES,
    "valence",
    "arousal",
    "quarantine",
]


TROUBLES = ["treatment", "reason", "role", "segment", "detail"]

NO_PATTERN = "Segment ID fits no pattern"
NO_FILES = "neither wav nor txt"


def troubles(rows: Sequence[tuple]) -> pd.DataFrame:
    """(treatment, reason, role, segment, detail) tuples as a table, also when there are none.

    treatment: converted, masked, quarantined or reported. A trouble of a file that belongs to no
    row has role "".
    """
    return pd.DataFrame(list(rows), columns=TROUBLES, dtype=str)


def printable(segment: str) -> str:
    """An id that fits no pattern, made harmless: ASCII, one line, at most 80 characters."""
    return ascii(segment)[1:-1][:80] or "(empty)"

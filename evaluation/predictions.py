"""Reading predictions.csv: its columns, and what each may hold."""

from pathlib import Path

import pandas as pd

import constants
import metric
from constants import SCALES
from corpora.preparation import columns, files
from utils import UserError

TEXTS = (
    "corpus",
    "role",
    "segment",
    "session",
    "dialogue",
    "kind",
    "set",
    "emotion",
    "emotion_true",
)


NUMBERS = (*metric.PROBABILITIES, *SCALES, *(f"{head}_true" for head in SCALES), *metric.VOTES)
OF_EVENTS = [f"{name}{end}" for name in constants.EVENTS for end in ("", "_true")]  # if any


def read_predictions(path: Path) -> pd.DataFrame:
    """predictions.csv: texts ("" where empty), the columns of NUMBERS as floats."""
    rows, _ = files.read_rows(path)  # all as wide as the first: none was cut short
    header = rows[0] if rows else []
    if missing := [name for name in (*TEXTS, *NUMBERS) if header.count(name) != 1]:
        have = ", ".join(map(columns.printable, header))
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; it has {have}")
    table = pd.DataFrame([row for row in rows[1:] if any(row)], columns=header, dtype=str)
    try:
        numbers = (*NUMBERS, *(name for name in OF_EVENTS if name in table))
        return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})
    except ValueError as error:
        reason = ascii(str(error))[1:-1]
        raise UserError(f"{path} needs numbers in {', '.join(NUMBERS)}: {reason}") from error

"""Who is trained on, who is tested, and which utterances a window holds. Pandas and NumPy only.

Intervals and significance are in `evidence.py`.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils import UserError


class Split(NamedTuple):
    """Sessions of each set, sorted; nothing is in two of them."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def of(self, sessions: pd.Series) -> np.ndarray:
        """The set of each row: "train", "val" or "test"."""
        name = np.full(len(sessions), "train", dtype=object)
        name[sessions.isin(self.val).to_numpy()] = "val"
        name[sessions.isin(self.test).to_numpy()] = "test"
        return name


def parse_sessions(words: Iterable[str], flag: str = "--test_split") -> tuple[int, ...]:
    """`[13,14]`, `[13, 14]`, `13 14` and `13,14` -> (13, 14); anything else is a UserError."""
    text = " ".join(words).strip()
    if not re.fullmatch(r"\[?[\d\s,]*\]?", text):
        raise UserError(f"{flag} needs session numbers such as [13,14,15,16], got {text!r}")
    return tuple(sorted({int(number) for number in re.findall(r"\d+", text)}))


def split(
    sessions: Iterable[int], test: Iterable[int], val: Iterable[int] = (), must_train: bool = True
) -> Split:
    """Sessions not named are trained on; a UserError for an impossible split says what there is.

    `must_train`: no session left to train on is impossible, too.
    """
    there, test, val = sorted(set(sessions)), tuple(test), tuple(val)
    known = f"the sessions there are: {', '.join(map(str, there))}"
    if not test:
        raise UserError(f"--test_split names no session; {known}")
    for flag, wanted in (("--test_split", test), ("--val_split", val)):
        if unknown := sorted(set(wanted) - set(there)):
            raise UserError(f"{flag} names sessions {unknown} that do not exist; {known}")
    if both := sorted(set(test) & set(val)):
        raise UserError(f"sessions {both} are in both --test_split and --val_split; {known}")
    train = tuple(s for s in there if s not in {*test, *val})
    if must_train and not train:
        raise UserError(f"--test_split {list(test)} leaves no session to train on; {known}")
    return Split(train, tuple(sorted(val)), tuple(sorted(test)))


def windows(dialogues: pd.Series, ws: int) -> np.ndarray:
    """(N,) dialogue of each row, in spoken order -> (N, ws) row numbers, -1 where there is none.

    Row n holds the utterance n at its end and the ones spoken before it in the same dialogue,
    left-padded. Utterances of a dialogue need not lie next to each other.
    """
    index = np.full((len(dialogues), ws), -1, dtype=np.int64)
    for rows in dialogues.reset_index(drop=True).groupby(dialogues.to_numpy()).indices.values():
        for back in range(min(ws, len(rows))):
            index[rows[back:], ws - 1 - back] = rows[: len(rows) - back]
    return index


def is_target(utterances: pd.DataFrame) -> np.ndarray:
    """(N,) bool: rows that may be predicted and scored: not quarantined, and with some truth."""
    labelled = (utterances["emotion"] != "") | utterances["arousal"].notna()
    return ((utterances["quarantine"] == "") & labelled).to_numpy()


def guard(utterances: pd.DataFrame, split: Split) -> list[str]:
    """Refuse a split that leaks; return a line for each thing that is only worth knowing.

    Speakers, dialogues and identical sound must not stand on both sides (UserError with the
    rows). Equal transcripts may, and are counted: actors of KEMDy19 read the same scripts.
    """
    sets = split.of(utterances["session"])
    held_out = sets != "train"
    for column in ("speaker", "dialogue", "wav_hash"):
        if crossing := _crossing(utterances, column, held_out):
            raise UserError(
                f"the split leaks: {len(crossing)} values of {column} are both trained on and "
                f"held out, e.g. {'; '.join(crossing[:3])}"
            )
    return _shared_text(utterances, sets)


def _crossing(utterances: pd.DataFrame, column: str, held_out: np.ndarray) -> list[str]:
    """Values of a column on both sides, each with a segment of either side."""
    heard = ~utterances["silent"].to_numpy(bool) if column == "wav_hash" else True
    real = (utterances[column] != "").to_numpy() & heard
    train, other = utterances[real & ~held_out], utterances[real & held_out]
    first, second = (t.drop_duplicates(column).set_index(column)["segment"] for t in (train, other))
    both = first.index.intersection(second.index)
    return [f"{first[value]} and {second[value]}" for value in both]


def _shared_text(utterances: pd.DataFrame, sets: np.ndarray) -> list[str]:
    plain = utterances["text"].str.replace(r"\W+", "", regex=True)
    test = plain[(sets == "test") & (plain != "").to_numpy()]
    known = test.isin(set(plain[sets == "train"]))
    if not known.any():
        return []
    return [f"{known.sum()} of {len(test)} test lines have the words of a training line"]

"""Who says what in a synthetic KEMDy20: improvised talk, nearly all of it neutral.

The dialogues and raters are those of the sample corpus; of many more utterances than are wanted,
so many of each label are kept that their shares are those of the corpus.
"""

import math
import re

import numpy as np
import pandas as pd

from corpora import _sample_plan, _sample_raters
from utils import rng

SIZES = {"sessions": 40, "dialogues": 6, "utterances": 99}  # at most
TIE = "tie"
COUNTS = {
    "neutral": 11_120,
    "happy": 1_183,
    "surprise": 156,
    "angry": 144,
    "sad": 121,
    "disgust": 61,
    "fear": 43,
    TIE: 634,
}  # of the 13,462 rows of the corpus
# share of the sample plan's utterances that its raters find neutral is 0.35, here 0.83 are wanted
SURPLUS = 3.2
LATE_USERS = {12: (81, 82), 17: (83, 84)}  # the others are 2k - 1 and 2k; both pairs are women
PAIRS = ["MM"] * 15 + ["FF"] * 11 + ["FM"] * 12  # of the other 38 sessions
FOLD = 8  # sessions: each of the five folds of the corpus's protocol hears every emotion
SILENT = 3  # wavs of zeros


def plan(
    sessions: int, dialogues: int, utterances: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is said (as _sample_plan.plan) and the ratings of it (_sample_raters.rate), row by row.

    Speaker rows alone: there are no others. `utterances` is the mean of
    a dialogue: some have more, some fewer.
    """
    free = math.floor(2.5 * dialogues + 0.5)  # two in five of a plan are improvised
    spoken = _sample_plan.plan(sessions, free, math.ceil(SURPLUS * utterances), seed)
    spoken = spoken[spoken["kind"] == "impro"].reset_index(drop=True)
    table = _sample_raters.rate(spoken, seed)
    table = table[table["role"] == "speaker"].reset_index(drop=True)
    kept = _keep(table, sessions * dialogues * utterances, rng(seed, "labels"))
    spoken, table = (rows.loc[kept].reset_index(drop=True) for rows in (spoken, table))
    spoken = _named(_timed(spoken), seed)
    spoken["transcript"] = [mark(line) for line in spoken["transcript"].fillna("")]
    empty = spoken["transcript"] == ""  # every txt of the corpus has words
    spoken["transcript"] = spoken["transcript"].mask(empty, spoken["line"])
    first = (spoken["speaker"] == spoken["speaker"].iloc[0]) & (table["emotion"] == "neutral")
    spoken["silent"] = spoken.index.isin(spoken.index[first][-SILENT:])
    shared = ["session", "dialogue", "kind", "segment", "speaker", "start", "end", "transcript"]
    return spoken, table.assign(**spoken[shared])


def mark(transcript: str) -> str:
    """A transcript of the sample plan with the marks of KEMDy20 alone.

    No o/, s/ or overlapping words, and no c/ at the end.

    >>> mark("o/ 나 (왜+응) b/ 가 c/")
    '나 왜 b/ 가'
    """
    words = re.sub(r"[os]/|\(|\+[^)]*\)|\)", "", transcript).split()
    return " ".join(words[:-1] if words[-1:] == ["c/"] else words)


def _keep(table: pd.DataFrame, number: int, random: np.random.Generator) -> np.ndarray:
    """Sorted row numbers: of each label its share of `number`, spread over folds and dialogues."""
    label = table["emotion"].where(table["emotion"].isin(list(COUNTS)), TIE)
    fold = (table["session"] - 1) // FOLD
    shuffled = (
        table[["dialogue"]].assign(label=label, fold=fold).loc[random.permutation(table.index)]
    )
    for group in ("dialogue", "fold"):  # the last is the first to be even
        rank = shuffled.groupby(["label", group]).cumcount()
        shuffled = shuffled.loc[rank.sort_values(kind="stable").index]
    total, kept = sum(COUNTS.values()), []
    for name, count in COUNTS.items():
        kept += shuffled.index[shuffled["label"] == name][: round(number * count / total)].tolist()
    return np.sort(kept)


def _timed(spoken: pd.DataFrame) -> pd.DataFrame:
    """The rows that are left, one after the other."""
    seconds = spoken["end"] - spoken["start"]
    end = seconds.groupby(spoken["dialogue"]).cumsum()
    return spoken.assign(start=(end - seconds).round(3), end=end.round(3))


def _named(spoken: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Dialogues, users and Segment IDs of KEMDy20 in place of those of the plan."""
    others = [session for session in range(1, 41) if session not in LATE_USERS]
    pairs = dict(zip(others, rng(seed, "pairs").permutation(PAIRS), strict=True))
    users = {
        (session, sex): f"User{LATE_USERS.get(session, (2 * session - 1, 2 * session))[place]:03d}"
        + pairs.get(session, "FF")[place]
        for session in spoken["session"].unique()
        for place, sex in enumerate("FM")
    }
    sexes = spoken["speaker"].str[-1]
    user = [users[key] for key in zip(spoken["session"], sexes, strict=True)]
    session = spoken["session"].map("Sess{:02d}".format)
    dialogue = session + "_script" + spoken["dialogue"].str[-2:]
    number = spoken.groupby([dialogue, sexes]).cumcount() + 1
    segment = dialogue + "_" + user + "_" + number.map("{:03d}".format)
    return spoken.assign(
        dialogue=dialogue, kind="talk", speaker=session + "_" + user, segment=segment
    )

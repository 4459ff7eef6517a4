"""Who says what in a synthetic KEMDy20: improvised talk, nearly all of it neutral.

The dialogues and raters are those of the sample corpus; of many more utterances than are wanted,
so many of each label are kept that their shares are those of the corpus.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import constants
from corpora.layouts.kemdy20 import BIO, HEADER, NO_SIGNALS, recording
from corpora.synthetic import dialogues as dialogue_plan
from corpora.synthetic import raters, writing
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
    """What is said (as dialogues.plan) and the ratings of it (raters.rate), row by row.

    Speaker rows alone: there are no others. `utterances` is the mean of
    a dialogue: some have more, some fewer.
    """
    free = math.floor(2.5 * dialogues + 0.5)  # two in five of a plan are improvised
    spoken = dialogue_plan.plan(sessions, free, math.ceil(SURPLUS * utterances), seed)
    spoken = spoken[spoken["kind"] == "impro"].reset_index(drop=True)
    table = raters.rate(spoken, seed)
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


TIE_ORDER = "happy surprise angry neutral disgust fear sad".split()  # of a;b in Total Evaluation


E4_RATE = 4  # Hz, EDA and TEMP


BEGUN = np.datetime64("2020-09-01T10:00")  # of the first session


CRLF_EVERY = 2  # one txt in two


EMPTY_IBI_EVERY = 50  # one file in fifty


LEAST_DECIMALS, MOST_DECIMALS = 2, 7  # of start and end


def write_sample(
    folder: Path,
    utterances: pd.DataFrame,
    waves: Callable[[int], np.ndarray | None],
    sample_rate: int = constants.SAMPLE_RATE,
) -> None:
    """Lay speaker rows down as KEMDy20 lies; the same input gives the same bytes.

    `utterances`: preparation.COLUMNS with this corpus's Segment IDs (rows of another role are left
    out); optional `transcript` (with markup, else `text`; None: no txt) and `rater_emotion` (10
    labels), `rater_valence`, `rater_arousal` (10 integers 1..5), else made from votes and means.
    `waves(i)`: (T,) float in [-1, 1] of the i-th row, or None: no wav. An end is the start and the
    length of the wave, as in the corpus.
    """
    talk = utterances[utterances["role"] == "speaker"].reset_index(drop=True)
    for i, row in talk.iterrows():
        samples, transcript = waves(i), row["transcript" if "transcript" in row else "text"]
        if samples is not None:
            talk.loc[i, "end"] = row["start"] + len(samples) / sample_rate
            data = writing.wav_bytes(samples, sample_rate)
            writing.write_file(folder / recording(row["segment"], "wav"), data)
        if isinstance(transcript, str):  # pandas turns None into NaN
            end = "\r\n" if i % CRLF_EVERY == CRLF_EVERY - 1 else "\n"
            data = (transcript + end).encode("cp949")
            writing.write_file(folder / recording(row["segment"], "txt"), data)
    for session, rows in talk.groupby("session"):
        _write_annotation(folder, session, rows)
        _write_signals(folder, session, rows)


def _write_annotation(folder: Path, session: int, rows: pd.DataFrame) -> None:
    lines = [[cell or " " for cell in cells] for cells in HEADER]
    for numb, row in enumerate(rows.to_dict("records"), 1):
        total, *rest = writing.rating_cells(*writing.raters_of(row), TIE_ORDER)
        total = total.replace("disgust", "disqust")  # in this column alone
        times = [_seconds(row[name]) for name in ("start", "end")]
        lines.append([str(numb), *times, row["segment"], total, *rest])
    path = folder / f"annotation/Sess{session:02d}_eval.csv"
    writing.write_file(path, writing.table_bytes(lines, "\n"))


def _seconds(value: float) -> str:
    text = f"{value:.{MOST_DECIMALS}f}".rstrip("0")
    return text + "0" * (LEAST_DECIMALS - len(text.partition(".")[2]))


def _write_signals(folder: Path, session: int, rows: pd.DataFrame) -> None:
    """What either user wore during each script, but for those whose recordings are missing."""
    for number, (dialogue, said) in enumerate(rows.groupby("dialogue")):
        begun = BEGUN + np.timedelta64(session, "D") + np.timedelta64(10 * number, "m")
        for place, speaker in enumerate(sorted(rows["speaker"].unique())):
            person = f"{dialogue}_{speaker.partition('_')[2]}"
            if person in NO_SIGNALS:
                continue
            mine = said[said["speaker"] == speaker]
            empty = (12 * session + 2 * number + place) % EMPTY_IBI_EVERY == 0
            for kind in BIO:
                lines = [] if kind == "IBI" and empty else _signal(kind, begun, said, mine)
                path = folder / kind / f"Session{session:02d}/{person}.csv"
                writing.write_file(path, "".join(line + "\n" for line in lines).encode())


def _signal(kind: str, begun: np.datetime64, said: pd.DataFrame, mine: pd.DataFrame) -> list[str]:
    """Lines of one file: header, then samples; a Segment ID only while its user talks."""
    last = said["end"].max() + 2.0  # s: sensors run on
    t = np.arange(0, last, 0.8 if kind == "IBI" else 1 / E4_RATE)
    stamps = np.datetime_as_string(begun + np.round(t * 1000).astype("m8[ms]"))
    seconds = f"{begun.astype('M8[s]').astype(int)}.000000"
    names = np.full(len(t), "", object)
    for row in mine.itertuples():
        names[(row.start <= t) & (t < row.end)] = f",{row.segment}"
    names[4::5] = np.where(names[4::5] == "", ",", names[4::5])  # a comma too many, as there
    values = {
        "EDA": 0.3 + 0.1 * np.sin(t / 20),
        "TEMP": 33 + 0.2 * np.sin(t / 60),
        "IBI": 0.8 + 0.05 * np.sin(t / 3),
    }[kind]  # uS, degrees C, s
    before = [f"{second:.6f}," if kind == "IBI" else "" for second in t]
    cells = zip(before, values, stamps, names, strict=True)
    head = [f"{seconds},IBI"] if kind == "IBI" else [seconds, f"{E4_RATE}.000000"]
    return head + [f"{start}{value:.6f},{stamp}{name}" for start, value, stamp, name in cells]

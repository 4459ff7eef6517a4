"""A synthetic KEMDy19 written to disk as the real one lies: annotations, sound, signals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import constants
from corpora.layouts.kemdy19 import BIO, HEADER, recording
from corpora.synthetic import dialogues as dialogue_plan
from corpora.synthetic import raters, writing

TIE_ORDER = "neutral happy sad angry fear disgust surprise".split()  # of a;b in Total Evaluation
PAUSE = 5.0  # s between two dialogues, when the sensors run on
E4_RATE = 4  # Hz, EDA and TEMP


ECG_RATE, ECG_SECONDS = 250, 1.0  # the ECG is kept for the first second of a dialogue: small files
CRLF_EVERY = 4  # one txt in four, about as in the corpus
DECIMALS = {"ECG": 6, "EDA": 4, "TEMP": 2}


SIZES = {"sessions": 20, "dialogues": 10, "utterances": 99}  # at most


def plan(
    sessions: int, dialogues: int, utterances: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is said, and the ratings of it in both roles."""
    spoken = dialogue_plan.plan(sessions, dialogues, utterances, seed)
    return spoken, raters.rate(spoken, seed)


def write_sample(
    folder: Path,
    utterances: pd.DataFrame,
    waves: Callable[[int], np.ndarray | None],
    sample_rate: int = constants.SAMPLE_RATE,
) -> None:
    """Lay utterances of both roles down as KEMDy19 lies; the same input gives the same bytes.

    `utterances`: preparation.COLUMNS; optional `transcript` (with markup, else `text`; None: no
    txt) and `rater_emotion` (10 labels), `rater_valence`, `rater_arousal` (10 integers 1..5), else
    made from votes and means. `waves(i)`: (T,) float in [-1, 1] of the i-th speaker row, or None:
    no wav. The totals written are those of the raters.
    """
    talk = utterances[utterances["role"] == "speaker"].reset_index(drop=True)
    heard = utterances[utterances["role"] == "listener"].set_index("segment")
    heard = heard.loc[talk["segment"]].reset_index()
    for session, rows in talk.groupby("session").groups.items():
        clock = _clock(talk.loc[rows])
        for letter in "FM":
            mine = talk["segment"].str[-4] == letter
            rated = talk.loc[rows].where(mine[rows], heard.loc[rows])
            _write_annotation(folder, session, letter, rated, clock)
            _write_signals(folder, session, letter, talk.loc[rows], clock)
    for i, row in talk.iterrows():
        samples, transcript = waves(i), row["transcript" if "transcript" in row else "text"]
        if samples is not None:
            data = writing.wav_bytes(samples, sample_rate)
            writing.write_file(folder / recording(row["segment"], "wav"), data)
        if isinstance(transcript, str):  # pandas turns None into NaN
            data = (transcript + ("\r\n" if i % CRLF_EVERY == CRLF_EVERY - 1 else "\n")).encode()
            writing.write_file(folder / recording(row["segment"], "txt"), data)


def _write_annotation(
    folder: Path, session: int, letter: str, rated: pd.DataFrame, clock: np.ndarray
) -> None:
    """One gender's file: CRLF in odd sessions, LF in even ones."""
    rows = []
    for numb, (begin, row) in enumerate(zip(clock, rated.to_dict("records"), strict=True), 1):
        times = np.array([row["start"], row["end"]])
        bio = [
            writing.number(_bio(kind, begin + t - times[0], letter), DECIMALS[kind])
            for kind in BIO
            for t in times
        ]
        emotions, scores = writing.raters_of(row)
        rows.append(
            [
                str(numb),
                *(writing.number(t, 3) for t in times),
                *bio,
                row["segment"],
                *writing.rating_cells(emotions, scores, TIE_ORDER),
            ]
        )
    data = writing.table_bytes([*HEADER, *rows], "\r\n" if session % 2 else "\n")
    writing.write_file(folder / f"annotation/Session{session:02d}_{letter}_res.csv", data)


def _clock(rows: pd.DataFrame) -> np.ndarray:
    """(N,) seconds from the session's beginning to each start: dialogues follow each other."""
    ends = rows.groupby("dialogue", sort=False)["end"].max() + PAUSE
    return (rows["dialogue"].map(ends.cumsum() - ends) + rows["start"]).to_numpy(float)


def _bio(kind: str, t: np.ndarray | float, letter: str) -> np.ndarray:
    """Something like ECG (mV), EDA (uS) or skin temperature (degrees C) at t seconds."""
    shift = 0.3 if letter == "F" else 0.0
    if kind == "ECG":  # 75 beats a minute
        beat = np.exp(-((((t + shift) % 0.8) - 0.4) ** 2) / 0.0008)
        return 0.3 + 1.5 * beat + 0.1 * np.sin(9 * t)  # never 0: that means not recorded
    if kind == "EDA":
        return 3.0 + shift + np.sin(t / 40 + shift)
    return 32.5 + shift + 0.5 * np.sin(t / 300 + shift)


def _write_signals(
    folder: Path, session: int, letter: str, rows: pd.DataFrame, clock: np.ndarray
) -> None:
    """EDA and TEMP of the whole session, ECG of the first second of each dialogue."""
    ends = clock + (rows["end"] - rows["start"]).to_numpy(float)
    e4 = np.arange(0, ends.max() + PAUSE, 1 / E4_RATE)
    firsts = clock[~rows["dialogue"].duplicated().to_numpy()]
    beats = firsts[:, None] + np.arange(0, ECG_SECONDS, 1 / ECG_RATE)
    for kind, t in (("ECG", beats.ravel()), ("EDA", e4), ("TEMP", e4)):
        at = np.searchsorted(clock, t, side="right") - 1
        inside = (at >= 0) & (t < ends[at])
        names = np.where(inside, rows["segment"].to_numpy(str)[at], "")
        values = [writing.number(v, DECIMALS[kind]) for v in _bio(kind, t, letter)]
        moments = np.datetime64("2019-07-01T10:00") + np.round(t * 1000).astype("m8[ms]")
        stamps = np.datetime_as_string(moments)
        before = [writing.number(second, 3) for second in t]
        lines = [
            [b, v, stamp] if kind == "ECG" else [v, "", stamp]
            for b, v, stamp in zip(before, values, stamps, strict=True)
        ]
        lines = [line + [name] if name else line for line, name in zip(lines, names, strict=True)]
        path = folder / kind / f"Session{session:02d}/Original/Sess{session:02d}{letter}.csv"
        writing.write_file(path, writing.table_bytes(lines, "\n"))

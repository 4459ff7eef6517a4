"""Tables that were made of KEMDy19 in 2022: annotation.csv, or df_speaker.csv and df_listener.csv.

Read where the raw annotation/ is absent, or with --tables 2022. The corpus is named kemdy19, so
what was trained on either is comparable row by row.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

import constants
from corpora import preparation
from corpora.preparation import columns, files, transcripts
from utils import UserError

ROLES = ("speaker", "listener")

FILES = {"speaker": "df_speaker.csv", "listener": "df_listener.csv"}
BOTH = "annotation.csv"  # both roles, told apart by its column `role`
RATINGS = ["Emotion", "Valence", "Arousal"] + [
    f"{name}.{rater}"
    for rater in range(1, constants.RATERS + 1)
    for name in ("Emotion", "Valence", "Arousal")
]
NEEDED = ["start", "end", "Segment ID", *RATINGS, "text"]
WAVS = ("audio/*.wav", "wav/*/*/*.wav")
PLACES = ("audio/{0}.wav", "wav/Session{1}/{2}/{0}.wav")  # where a wav may be; the first wins
_SEGMENT = re.compile(r"(Sess([0-9]{2})_([a-z]+)[0-9]{2})_([FM])[0-9]{3}")


class Reader(preparation.Reader):
    """Of the tables of 2022."""

    TABLES = "2022"

    @staticmethod
    def matches(folder: Path) -> bool:
        """Is there a table of 2022? (Those that are written today have no column "Segment ID".)"""
        there = _tables(folder)
        return any(file.bad or "Segment ID" in _first_line(folder / file.path) for file in there)

    @staticmethod
    def sources(folder: Path) -> list[Path]:
        """The tables, and the wav files in audio/ and wav/."""
        return [folder / file.path for file in (*_tables(folder), *_wavs(folder).values())]

    @staticmethod
    def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Utterances of the roles that there are, in the order of the files, and troubles.

        Raises UserError for a table that lacks a column. Of repeated rows the first is used.
        """
        raw, notes = [], []
        for path in [files.allowed(folder, file) for file in _tables(folder)]:
            table, converted = _table(path)
            notes += [("converted", f"table {how}", "", "", path.name) for how in converted]
            raw.append(table)
        if not raw:
            raise UserError(f"{folder} needs {BOTH}, {' or '.join(FILES.values())}; it has none")
        table = pd.concat(raw, ignore_index=True)
        repeated = table.duplicated(["role", "Segment ID"])
        for name, role in table.loc[repeated, ["Segment ID", "role"]].itertuples(index=False):
            segment = columns.printable(name)
            notes.append(("reported", "repeated row left out", role, segment, ""))
        table = table[~repeated].reset_index(drop=True)
        rows, row_notes = _rows(table, _wavs(folder))
        ratings, rated = preparation.read_ratings(table[RATINGS].to_numpy(object))
        for what, reason, i, detail in rated:
            if rows["quarantine"][i] == "":
                notes.append((what, reason, rows["role"][i], rows["segment"][i], detail))
        utterances = preparation.rate(rows, ratings, np.arange(len(rows)))
        return utterances[columns.COLUMNS], columns.troubles(notes + row_notes)


def _tables(folder: Path) -> list[files.File]:
    """The two tables of one role each, else the one of both."""
    there = {
        name: file
        for name, file in files.find_files(folder, "*.csv").items()
        if file.bad == files.OUTSIDE or (folder / file.path).is_file()
    }
    single = [there[name] for name in FILES.values() if name in there]
    return single or [there[name] for name in [BOTH] if name in there]


def _wavs(folder: Path) -> dict[str, files.File]:
    return {name: file for place in WAVS for name, file in files.find_files(folder, place).items()}


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.readline(10_000).decode("utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _table(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Every cell as text; a table of one role gets the column `role`."""
    rows, converted = files.read_rows(path)
    if not rows:
        raise UserError(f"{path} needs a header, it is empty")
    header = _numbered(rows[0])
    table = pd.DataFrame([row for row in rows[1:] if any(row)], columns=header, dtype=object)
    roles = [role for role, name in FILES.items() if name == path.name]
    needed = NEEDED + ([] if roles else ["role"])
    if missing := [name for name in needed if name not in table]:
        have = ", ".join(columns.printable(name) for name in header[:8])
        raise UserError(f"{path} needs the columns {', '.join(missing)}; it has {have}, ...")
    if repeated := [name for name in needed if header.count(name) > 1]:
        raise UserError(f"{path} needs each column once; it repeats {', '.join(repeated)}")
    table = table.assign(role=roles[0]) if roles else table
    if odd := sorted(set(table["role"]) - set(ROLES)):
        raise UserError(f"{path} needs the roles {' and '.join(ROLES)}, it has {odd[0][:80]!r}")
    return table, converted


def _numbered(names: list[str]) -> list[str]:
    """Emotion, Emotion.1, ...: how the code of 2022 told columns of one name apart."""
    before: Counter = Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}.{before[name]}" if before[name] else name)
        before[name] += 1
    return numbered


def _rows(table: pd.DataFrame, wavs: dict[str, files.File]) -> tuple[pd.DataFrame, list[tuple]]:
    """Everything but the ratings, and troubles of it."""
    rows, notes = [], []
    for name, role, text in table[["Segment ID", "role", "text"]].itertuples(index=False):
        match = _SEGMENT.fullmatch(name)
        dialogue, number, kind, letter = match.groups() if match else ("", "0", "", "")
        places = [place.format(name, number, dialogue) for place in PLACES] if match else []
        file = next((wavs[place] for place in places if place in wavs), files.File(""))
        wav = "" if file.bad else file.path
        clean = transcripts.clean_transcript(text)
        fault = "" if match else columns.NO_PATTERN
        fault = fault or ("" if file.path or clean else columns.NO_FILES)
        fault = fault or (file.bad and f"wav {file.bad}")
        segment = name if match else columns.printable(name)
        what = [("quarantined", fault)] if fault else []
        what += [] if wav or fault else [("masked", "wav missing")]
        what += [] if clean or fault else [("masked", "txt without words")]
        notes += [(*trouble, role, segment, "") for trouble in what]
        speaker = f"Sess{number}_{letter}" if match else ""
        rows.append((role, segment, int(number), dialogue, speaker, kind, wav, clean, fault))
    names = "role segment session dialogue speaker kind wav text quarantine".split()
    frame = pd.DataFrame(rows, columns=names).assign(corpus="kemdy19")
    for name in ("start", "end"):
        frame[name] = pd.to_numeric(table[name], errors="coerce")
    return _neighbourly(frame), notes


def _neighbourly(rows: pd.DataFrame) -> pd.DataFrame:
    """A row whose ID fits no pattern belongs to the dialogue and session of the row before it."""
    lost = rows["dialogue"] == ""
    by_role = rows[["session", "dialogue", "kind"]].mask(lost).groupby(rows["role"])
    filled = (
        by_role.ffill().fillna(by_role.bfill()).fillna({"session": 0, "dialogue": "", "kind": ""})
    )
    return rows.assign(
        session=filled["session"].astype(int), dialogue=filled["dialogue"], kind=filled["kind"]
    )

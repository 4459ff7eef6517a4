"""Tables that were made of KEMDy19 in 2022: annotation.csv, or df_speaker.csv and df_listener.csv.

Read where the raw annotation/ is absent, or with --tables 2022. The corpus is named kemdy19, so
what was trained on either is comparable row by row.
"""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

import annotation
import constants
from utils import UserError

ROLES = ("speaker", "listener")
SYNTHETIC = False
TABLES = "2022"

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


def matches(folder: Path) -> bool:
    """Is there a table of 2022? (Those that are written today have no column "Segment ID".)"""
    return any("Segment ID" in _first_line(path) for path in _tables(folder))


def sources(folder: Path) -> list[Path]:
    """The tables, and the wav files in audio/ and wav/."""
    return _tables(folder) + [p for g in WAVS for p in sorted(folder.glob(g))]


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Utterances of the roles that there are, in the order of the files, and troubles.

    Raises UserError for a table that lacks a column. A repeated row is left out, the first stays.
    """
    raw, notes = [], []
    for path in _tables(folder):
        table, converted = _table(path)
        notes += [("converted", f"table {how}", "", "", path.name) for how in converted]
        raw.append(table)
    if not raw:
        raise UserError(f"{folder} needs {BOTH}, {' or '.join(FILES.values())}; it has none")
    table = pd.concat(raw, ignore_index=True)
    repeated = table.duplicated(["role", "Segment ID"])
    for name, role in table.loc[repeated, ["Segment ID", "role"]].itertuples(index=False):
        notes.append(("reported", "repeated row left out", role, name, ""))
    table = table[~repeated].reset_index(drop=True)
    rows, of_rows = _rows(table, {p.relative_to(folder).as_posix() for p in sources(folder)})
    ratings, rated = annotation.ratings(table[RATINGS].to_numpy(object))
    for what, reason, i, detail in rated:
        if rows["quarantine"][i] == "":
            notes.append((what, reason, rows["role"][i], rows["segment"][i], detail))
    utterances = annotation.rate(rows, ratings, np.arange(len(rows)))
    return utterances[annotation.COLUMNS], annotation.troubles(notes + of_rows)


def _tables(folder: Path) -> list[Path]:
    """The two tables of one role each, else the one of both."""
    single = [folder / name for name in FILES.values() if (folder / name).is_file()]
    return single or [path for path in [folder / BOTH] if path.is_file()]


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(10_000).decode("utf-8", errors="replace")


def _table(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Every cell as text; a table of one role gets the column `role`."""
    file = annotation.read_text(path)
    if file.bad:
        raise UserError(f"{path} should be UTF-8 or CP949 text; it is {file.bad}")
    try:
        table = pd.read_csv(io.StringIO(file.text), dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} should be comma-separated: {error}") from error
    roles = [role for role, name in FILES.items() if name == path.name]
    needed = NEEDED + ([] if roles else ["role"])
    if missing := [name for name in needed if name not in table]:
        raise UserError(f"{path} needs the columns {', '.join(missing)}; "
                        f"it has {', '.join(table.columns[:8])}, ...")  # fmt: skip
    table = table.assign(role=roles[0]) if roles else table
    if odd := sorted(set(table["role"]) - set(ROLES)):
        raise UserError(f"{path} needs the roles {' and '.join(ROLES)}, it has {odd[0]!r}")
    return table, file.converted


def _rows(table: pd.DataFrame, wavs: set[str]) -> tuple[pd.DataFrame, list[tuple]]:
    """Everything but the ratings, and troubles of it."""
    rows, notes = [], []
    for name, role, text in table[["Segment ID", "role", "text"]].itertuples(index=False):
        match = _SEGMENT.fullmatch(name)
        dialogue, number, kind, letter = match.groups() if match else ("", "0", "", "")
        places = [place.format(name, number, dialogue) for place in PLACES] if match else []
        wav = next((place for place in places if place in wavs), "")
        clean = annotation.clean_transcript(text)
        fault = "" if match else annotation.NO_PATTERN
        fault = fault or ("" if wav or clean else annotation.NO_FILES)
        segment = name if match else annotation.printable(name)
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
    return rows.assign(session=filled["session"].astype(int), dialogue=filled["dialogue"],
                       kind=filled["kind"])  # fmt: skip

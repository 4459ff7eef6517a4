"""KEMDy19 as ETRI delivers it: annotation/, wav/, ECG/, EDA/, TEMP/ -> tables.

The file of the woman and the file of the man both rate every segment of a session. A segment's
speaker label is in the file of the one who talks, its listener label in the other file. How it
lies on disk is in layouts/kemdy19.py, how a sample is laid down like it in synthetic/kemdy19.py.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from corpora import preparation
from corpora.layouts import kemdy19 as layout
from corpora.layouts import slots as slot_rows
from corpora.layouts.kemdy19 import parse, recording
from corpora.preparation import transcripts
from corpora.synthetic import kemdy19 as synthetic
from utils import UserError

ROLES = ("speaker", "listener")

_OTHER = {"F": "M", "M": "F"}


class Reader(preparation.Reader):
    """Of KEMDy19."""

    SAMPLE_SIZES = synthetic.SIZES
    plan_sample = staticmethod(synthetic.plan)
    write_sample = staticmethod(synthetic.write_sample)

    @staticmethod
    def matches(folder: Path) -> bool:
        """Is there an annotation/SessionNN_F_res.csv or its like?"""
        return bool(layout.annotations(folder))

    @staticmethod
    def sources(folder: Path) -> list[Path]:
        """Annotation, wav and txt files."""
        tables = [file for pair in layout.annotations(folder).values() for file in pair.values()]
        return [folder / file.path for file in (*tables, *layout.recordings(folder).values())]

    @staticmethod
    def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Utterances in spoken order, all speaker rows first, and troubles (columns: columns.py).

        Raises UserError for a session without both files, another header or number of columns.
        """
        pairs, files = layout.pairs(folder), layout.recordings(folder)
        segments, tables, notes = [], {}, []
        for session, pair in pairs.items():
            for letter, path in pair.items():
                tables[session, letter], converted = preparation.read_table(path, layout.HEADER)
                notes += [("converted", f"annotation {h}", "", "", path.name) for h in converted]
            here, left_out = _session(session, tables[session, "F"], tables[session, "M"], files)
            segments += here
            notes += left_out
        if not segments:
            raise UserError(f"the files in {folder / 'annotation'} list no segment")
        notes += layout.orphans(files, tables)
        spoken, file_notes = _spoken(folder, segments, files)
        utterances, row_notes = _rated(segments, spoken, tables)
        return utterances, preparation.troubles(notes + file_notes + row_notes)

    @staticmethod
    def signals(
        folder: Path,
        kinds: Iterable[str] = tuple(layout.BIO),
        sessions: Iterable[int] | None = None,
    ) -> pd.DataFrame:
        """Bio signals: session, subject, signal, time, value, timestamp, segment.

        `subject` wears the sensor ("Sess01_F"); `segment` is what is said meanwhile, by either, ""
        between utterances. ECG has a `time`, the others a `timestamp` only (NaN there). The whole
        ECG is tens of millions of rows: name the `kinds` and the `sessions` that are wanted.
        """
        tables = []
        for kind in kinds:
            names = ["time", "value"] if kind == "ECG" else ["value", "time"]
            place = f"{kind}/Session*/Original/Sess[0-9][0-9][FM].csv"
            there = preparation.find_files(folder, place)
            for path in (preparation.allowed(folder, file) for file in there.values()):
                if sessions is not None and int(path.stem[4:6]) not in sessions:
                    continue
                table = preparation.read_signal(path, [*names, "timestamp", "segment"])
                subject = f"{path.stem[:6]}_{path.stem[6]}"
                table = table.assign(session=int(path.stem[4:6]), subject=subject, signal=kind)
                tables.append(table if kind == "ECG" else table.assign(time=np.nan))
        if not tables:
            return pd.DataFrame(columns=preparation.SIGNALS)
        return pd.concat(tables, ignore_index=True)[preparation.SIGNALS]


# --- rows ----------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """One slot of a session, and the place it has in the file of either gender, if any."""

    name: str
    session: int
    dialogue: str
    talker: str  # "F", "M", or "" where the Segment ID does not say
    places: dict[str, slot_rows.Place]

    def rated(self, role: str) -> tuple[str, slot_rows.Place | None]:
        """The file that has this role's ratings, and the place there."""
        letter = self.talker or "F"
        letter = letter if role == "speaker" else _OTHER[letter]
        return letter, self.places.get(letter)


def _session(
    session: int, women: np.ndarray, men: np.ndarray, files: dict[str, preparation.File]
) -> tuple[list[Segment], list[tuple]]:
    """Both tables of a session as one sequence of segments, and the rows that were left out."""

    def here(segment: str) -> tuple[str, str, int] | None:
        return parse(segment) if segment.startswith(f"Sess{session:02d}_") else None

    found = {Path(file).stem for file in files if file.startswith(f"wav/Session{session:02d}/")}
    ids = {"F": list(women[:, layout.SEGMENT]), "M": list(men[:, layout.SEGMENT])}
    places, notes = {}, []
    for letter, other in _OTHER.items():
        slots, left_out = slot_rows.settle(ids[letter], ids[other], found, here)
        places[letter] = {slot.segment: slot for slot in slots}
        for reason, row, detail in left_out:
            name = ids[letter][row]
            role = ROLES[parse(name)[1] != letter]
            where = f"Session{session:02d}_{letter}_res.csv row {row} {detail}".strip()
            notes.append(("reported", reason, role, name, where))
    order = slot_rows.merge(list(places["F"]), list(places["M"]))
    segments = []
    for name, dialogue in zip(order, slot_rows.dialogues(order, here), strict=True):
        listed = {letter: slots[name] for letter, slots in places.items() if name in slots}
        segments.append(Segment(name, session, dialogue, _talker(name), listed))
    return segments, notes


def _talker(name: str) -> str:
    match = re.search(r"_([FM])[^_]*$", name)
    return match[1] if match else ""


def _spoken(
    folder: Path, segments: list[Segment], files: dict[str, preparation.File]
) -> tuple[pd.DataFrame, list[tuple]]:
    """What both roles share: a row a segment, and troubles of its wav and txt."""
    rows, notes, nothing = [], [], preparation.File("")
    for name, session, dialogue, talker, _ in segments:
        fits = parse(name) is not None and parse(name)[0] == dialogue
        wav, txt = (
            files.get(recording(name, ending), nothing) if fits else nothing
            for ending in ("wav", "txt")
        )
        text = preparation.read_words(folder, txt)
        clean = transcripts.clean_transcript(text.text)
        fault = preparation.NO_PATTERN if not fits else ""
        fault = fault or ("" if wav.path or txt.path else preparation.NO_FILES)
        fault = fault or (wav.bad and f"wav {wav.bad}") or (text.bad and f"txt {text.bad}")
        what = [("converted", f"txt {how}") for how in text.converted]
        if not fault:
            empty = "txt without words" if txt.path else "txt missing"
            what += [] if wav.path else [("masked", "wav missing")]
            what += [] if clean else [("masked", empty)]
        notes += [(*trouble, role, name, "") for role in ROLES for trouble in what]
        speaker = f"Sess{session:02d}_{talker}" if talker else ""
        kind = dialogue[7:-2]
        path = "" if wav.bad else wav.path
        rows.append((name, session, dialogue, speaker, kind, path, clean, fault))
    names = ["segment", "session", "dialogue", "speaker", "kind", "wav", "text", "quarantine"]
    return pd.DataFrame(rows, columns=names), notes


def _rated(
    segments: list[Segment], spoken: pd.DataFrame, tables: dict[tuple[int, str], np.ndarray]
) -> tuple[pd.DataFrame, list[tuple]]:
    """Speaker rows, then listener rows, each with the ratings of its row, and troubles of rows."""
    cells = np.concatenate(list(tables.values()))
    first = dict(zip(tables, np.cumsum([0, *map(len, tables.values())]), strict=False))
    ratings, rated = preparation.read_ratings(cells[:, layout.TOTAL :])
    clock = cells[:, layout.START : layout.START + 2]
    clock = pd.DataFrame(clock).apply(pd.to_numeric, errors="coerce")
    rows, halves, notes, owner = {}, [], [], {}
    for role in ROLES:
        half = spoken.assign(corpus="kemdy19", role=role)
        rows[role], half["quarantine"], more = _placed(half, segments, first)
        notes += more
        fine = (rows[role] >= 0) & (half["quarantine"] == "")
        owner |= {row: (role, half["segment"][i]) for i, row in enumerate(rows[role]) if fine[i]}
        halves.append(preparation.rate(half, ratings, rows[role]))
    for half, role, other in zip(halves, ROLES, reversed(ROLES), strict=True):
        timed = np.where(rows[role] >= 0, rows[role], rows[other])
        half[["start", "end"]] = clock.reindex(timed).to_numpy()
    for treatment, reason, row, detail in rated + _without_bio(cells):
        if row in owner:
            notes.append((treatment, reason, *owner[row], detail))
    return pd.concat(halves, ignore_index=True)[preparation.COLUMNS], notes


def _placed(
    half: pd.DataFrame, segments: list[Segment], first: dict[tuple[int, str], int]
) -> tuple[np.ndarray, list[str], list[tuple]]:
    """(N,) row of all tables that rates each segment (-1: none), why it is bad, troubles."""
    rows, faults, notes = [], [], []
    for segment, role, fault in zip(segments, half["role"], half["quarantine"], strict=True):
        letter, place = segment.rated(role)
        place = place or slot_rows.Place(segment.name, -1)
        fault = fault or place.fault
        rows.append(first[segment.session, letter] + place.row if place.row >= 0 else -1)
        faults.append(fault)
        if fault:
            notes.append(("quarantined", fault, role, segment.name, place.detail))
        elif place.row < 0:
            notes.append(("reported", "no row: context without label", role, segment.name, ""))
    return np.array(rows), faults, notes


def _without_bio(cells: np.ndarray) -> list[tuple]:
    """Cells of a sensor that are empty, or a bare 0 (TEMP has no such): not recorded."""
    notes = []
    for kind, column in layout.BIO.items():
        empty = ["", "0"] if kind != "TEMP" else [""]
        bare = np.isin(cells[:, column : column + 2].astype(str), empty).any(axis=1)
        notes += [("reported", f"no {kind} value", int(i), "") for i in np.flatnonzero(bare)]
    return notes

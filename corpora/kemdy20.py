"""KEMDy20 as ETRI delivers it: annotation/, wav/, EDA/, IBI/, TEMP/ -> tables.

Two users of a session talk freely about six topics; who they are says the user's number, not the
gender. The raters judge the one who talks, there are no listener labels. How it lies on disk is in
layouts/kemdy20.py, how a sample is laid down like it in synthetic/kemdy20.py.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from corpora import preparation
from corpora.layouts import kemdy20 as layout
from corpora.layouts import slots as slot_rows
from corpora.preparation import transcripts
from corpora.synthetic import kemdy20 as synthetic
from utils import UserError

ROLES = ("speaker",)
KIND = "talk"  # a "script" of this corpus is a topic, no text that recurs


class Reader(preparation.Reader):
    """Of KEMDy20."""

    SAMPLE_SIZES = synthetic.SIZES
    plan_sample = staticmethod(synthetic.plan)
    write_sample = staticmethod(synthetic.write_sample)

    @staticmethod
    def matches(folder: Path) -> bool:
        """Is there an annotation/SessNN_eval.csv?"""
        return bool(layout.annotations(folder))

    @staticmethod
    def sources(folder: Path) -> list[Path]:
        """Annotation, wav and txt files."""
        files = (*layout.annotations(folder).values(), *layout.recordings(folder).values())
        return [folder / file.path for file in files]

    @staticmethod
    def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Utterances in spoken order and troubles (columns: corpora/preparation/files.py).

        Raises UserError for an annotation with another header or number of columns.
        """
        files, segments, tables, notes, listed = layout.recordings(folder), [], [], [], set()
        for session, path in layout.tables(folder).items():
            cells, converted = preparation.read_table(path, layout.HEADER)
            notes += [("converted", f"annotation {how}", "", "", path.name) for how in converted]
            ids = [layout.of_session(written, session) for written in cells[:, layout.SEGMENT]]
            here, left_out = _session(session, ids, files, sum(map(len, tables)))
            segments += here
            notes += left_out + _of_another_session(ids, cells[:, layout.SEGMENT])
            tables.append(cells)
            listed |= {*ids}
        if not segments:
            raise UserError(f"the files in {folder / 'annotation'} list no segment")
        notes += layout.orphans(files, listed)
        spoken, file_notes = _spoken(folder, segments, files)
        utterances, row_notes = _rated(segments, spoken, np.concatenate(tables))
        order, moved = _in_time(utterances)
        utterances = utterances.iloc[order].reset_index(drop=True)
        return utterances, preparation.troubles(notes + file_notes + row_notes + moved)

    @staticmethod
    def signals(
        folder: Path,
        kinds: Iterable[str] = tuple(layout.BIO),
        sessions: Iterable[int] | None = None,
    ) -> pd.DataFrame:
        """Bio signals: session, subject, signal, time, value, timestamp, segment.

        `subject` wears the sensor ("Sess01_User001F"); `segment` is what is said meanwhile, ""
        between utterances. IBI has a `time` (s since the first beat), the others a `timestamp` only
        (NaN there). What is missing for a topic, or empty, has no rows. Raises UserError for a file
        that holds something else, unless it is known to be unusable (layout.NO_SIGNALS).
        """
        tables = []
        for kind in kinds:
            for session, person, file in layout.sensors(folder, kind):
                if sessions is not None and session not in sessions:
                    continue
                path = preparation.allowed(folder, file)
                table = _samples(path, kind, person in layout.NO_SIGNALS)
                names = table["segment"].unique()
                mended = {name: layout.of_session(name, session) for name in names}
                subject = f"{person[:6]}_{person[-8:]}"
                table = table.assign(session=session, subject=subject, signal=kind)
                tables.append(table.assign(segment=table["segment"].map(mended)))
        tables = [table[preparation.SIGNALS] for table in tables if len(table)]
        return (
            pd.concat(tables, ignore_index=True)
            if tables
            else pd.DataFrame(columns=preparation.SIGNALS)
        )


def _samples(path: Path, kind: str, unusable: bool) -> pd.DataFrame:
    """Samples of one file; a line may end in a comma too many, and files may be empty."""
    file, skip = preparation.read_text(path), layout.BIO[kind]
    nothing = pd.DataFrame(columns=["time", "value", "timestamp", "segment"])
    if not file.bad and len(file.text.splitlines()) <= skip:
        return nothing
    ending = ["timestamp", "segment"]
    try:
        if kind == "IBI":
            return preparation.read_signal(path, ["time", "value", *ending, "rest"], skip)
        table = preparation.read_signal(path, ["value", *ending, "time"], skip)
        return table.assign(time=np.nan)
    except UserError:
        if unusable:
            return nothing
        raise


# --- rows ----------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """One slot of a session, and the row of all tables that rates it (-1: none)."""

    name: str
    session: int
    dialogue: str
    row: int
    fault: str
    detail: str


def _session(
    session: int, ids: list[str], files: dict[tuple[str, str], preparation.File], first: int
) -> tuple[list[Segment], list[tuple]]:
    """The table of a session as a sequence of segments, and the rows that were left out.

    `first`: the number of its first row among those of all tables.
    """
    prefix = f"Sess{session:02d}_"
    found = {segment for segment, _ in files if segment.startswith(prefix)}
    slots, left_out = slot_rows.settle(ids, [], found, layout.parse)
    names = [slot.segment for slot in slots]
    segments = [
        Segment(slot.segment, session, dialogue, row, slot.fault, slot.detail)
        for slot, dialogue in zip(slots, slot_rows.dialogues(names, layout.parse), strict=True)
        for row in (first + slot.row if slot.row >= 0 else -1,)
    ]
    notes = []
    for reason, row, detail in left_out:
        where = f"{prefix}eval.csv row {row} {detail}".strip()
        notes.append(("reported", reason, "speaker", ids[row], where))
    return segments, notes


def _of_another_session(ids: list[str], written: Iterable[str]) -> list[tuple]:
    """Troubles: Segment IDs that named another session than their file does."""
    return [
        ("converted", "session of a Segment ID", "speaker", name, was)
        for name, was in zip(ids, written, strict=True)
        if name != was
    ]


def _spoken(
    folder: Path, segments: list[Segment], files: dict[tuple[str, str], preparation.File]
) -> tuple[pd.DataFrame, list[tuple]]:
    """What is said: a row a segment, and troubles of its wav and txt."""
    rows, notes, nothing = [], [], preparation.File("")
    for segment in segments:
        name, dialogue = segment.name, segment.dialogue
        fits = layout.parse(name) is not None
        wav, txt = (files.get((name, ending), nothing) for ending in ("wav", "txt"))
        text = layout.read_words(folder, txt)
        clean = transcripts.clean_transcript(text.text)
        fault = "" if fits else preparation.NO_PATTERN
        fault = fault or ("" if wav.path or txt.path else preparation.NO_FILES)
        fault = fault or (wav.bad and f"wav {wav.bad}") or (text.bad and f"txt {text.bad}")
        what = [("converted", f"txt {how}") for how in text.converted]
        what += [
            ("converted", f"session of a {ending} file")
            for ending, file in (("wav", wav), ("txt", txt))
            if file.path and name not in file.path
        ]
        if not fault:
            empty = "txt without words" if txt.path else "txt missing"
            what += [] if wav.path else [("masked", "wav missing")]
            what += [] if clean else [("masked", empty)]
        notes += [(*trouble, "speaker", name, "") for trouble in what]
        user = re.search(r"User[0-9]{3}[FM]", name)
        speaker = f"Sess{segment.session:02d}_{user[0]}" if user else ""
        path = "" if wav.bad else wav.path
        rows.append((name, segment.session, dialogue, speaker, path, clean, fault))
    names = ["segment", "session", "dialogue", "speaker", "wav", "text", "quarantine"]
    return pd.DataFrame(rows, columns=names), notes


def _rated(
    segments: list[Segment], spoken: pd.DataFrame, cells: np.ndarray
) -> tuple[pd.DataFrame, list[tuple]]:
    """Rows with the ratings of their row in `cells`, and troubles of rows."""
    ratings, cell_notes = preparation.read_ratings(cells[:, layout.TOTAL :])
    clock = pd.DataFrame(cells[:, layout.START : layout.START + 2])
    clock = clock.apply(pd.to_numeric, errors="coerce")
    rows, notes = np.array([segment.row for segment in segments]), []
    faults = spoken["quarantine"].mask(spoken["quarantine"] == "", [s.fault for s in segments])
    for segment, fault in zip(segments, faults, strict=True):
        if fault:
            notes.append(("quarantined", fault, "speaker", segment.name, segment.detail))
        elif segment.row < 0:
            reason = "no row: context without label"
            notes.append(("reported", reason, "speaker", segment.name, ""))
    owner = {s.row: s.name for s, fault in zip(segments, faults, strict=True) if not fault}
    for treatment, reason, row, detail in cell_notes:
        if row in owner:
            notes.append((treatment, reason, "speaker", owner[row], detail))
    spoken = spoken.assign(corpus="kemdy20", role="speaker", kind=KIND, quarantine=faults)
    utterances = preparation.rate(spoken, ratings, rows)
    utterances[["start", "end"]] = clock.reindex(rows).to_numpy()
    return utterances[preparation.COLUMNS], notes


def _in_time(utterances: pd.DataFrame) -> tuple[np.ndarray, list[tuple]]:
    """(N,) row numbers, each dialogue by its starts, and a trouble for each that was not.

    Users may talk at once, so a row need not end before the next begins. A row without a start
    stays behind the one before it.
    """
    groups = utterances.groupby(["session", "dialogue"], sort=False)
    dialogue, start = groups.ngroup(), groups["start"].ffill().fillna(-np.inf)
    order = np.lexsort((start, dialogue))  # stable
    late = start < start.groupby(dialogue).cummax()
    names = utterances.loc[late, "dialogue"].unique()
    reason = "dialogue out of time order: sorted by start"
    return order, [("reported", reason, "speaker", "", name) for name in names]

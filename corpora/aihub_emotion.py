"""AI Hub 263 as it is downloaded: X.csv and X.zip of up to three releases -> tables.

People say what a situation asks for, and five raters say what they hear: LABELS says whose word is
taken. Nobody is known, so there are no speakers, no dialogues, and groups in place of sessions
(`grouped`). How it lies on disk, and how a sample is laid down like it, is in
layouts/aihub_emotion.py and synthetic/; what makes a label, in labels/aihub_emotion.py.
"""

from collections import ChainMap
from pathlib import Path

import numpy as np
import pandas as pd

from corpora import preparation
from corpora.labels import aihub_emotion as labels
from corpora.layouts import aihub_emotion as layout
from corpora.preparation import transcripts
from corpora.preparation.transcripts import normalised
from corpora.synthetic import aihub_emotion as synthetic
from utils import UserError, seed_of

ROLES = ("speaker",)
KIND = "prompted"
GROUPS = 20  # as many as KEMDy19 has sessions
BAD = "known to be bad"
NOTHING = "neither wav nor words"
LONGEST = 20  # characters of an age or a gender that are kept


class Reader(preparation.Reader):
    """Of AI Hub 263."""

    COLUMNS = ("situation", "rater_emotion", "rater_intensity", "age", "gender", "release")
    LABELS = labels.RULES
    SAMPLE_SIZES = synthetic.SIZES
    labelled = staticmethod(labels.labelled)
    plan_sample = staticmethod(synthetic.plan)
    write_sample = staticmethod(synthetic.write_sample)

    @staticmethod
    def matches(folder: Path) -> bool:
        """Is there the table of a release, at the top or in annotation/?"""
        return bool(layout.tables(folder))

    @staticmethod
    def sources(folder: Path) -> list[Path]:
        """Tables, zips, and wavs that are in no zip."""
        releases = layout.tables(folder)
        zips = layout.archives(folder, releases).values()
        wavs = layout.loose(folder, releases).values()
        files = {file.path for files in wavs for file in files.values()}
        return [folder / path for path in (*(f.path for f in (*releases.values(), *zips)), *files)]

    @staticmethod
    def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Utterances by release and row, with COLUMNS too, and troubles (columns: files.py).

        The emotion is that of the first of LABELS. Of rows with one id, be it in two releases, the
        first is used. Raises UserError for a table with another header or number of columns.
        """
        releases, notes, tables = layout.there(folder), [], []
        for release, path in releases.items():
            cells, converted = preparation.read_table(path, layout.HEADER)
            notes += [("converted", f"annotation {how}", "", "", path.name) for how in converted]
            tables.append(pd.DataFrame(cells).assign(release=release, row=range(1, len(cells) + 1)))
        if not any(map(len, tables)):
            raise UserError(f"the tables in {folder} ({', '.join(releases)}) list no wav")
        found = layout.recordings(folder, releases)
        rows, repeated = _once(pd.concat(tables, ignore_index=True))
        spoken, file_notes = _spoken(rows, found)
        utterances, row_notes = _rated(spoken, rows)
        orphans = sorted({*ChainMap(*found.values())} - {*rows["segment"]})
        lost = [("reported", "wav without row", "", name, "") for name in orphans]
        utterances = labels.labelled(utterances, labels.RULES[0])
        utterances = utterances[[*preparation.COLUMNS, *Reader.COLUMNS]]
        return utterances, preparation.troubles(notes + repeated + lost + file_notes + row_notes)

    @staticmethod
    def grouped(utterances: pd.DataFrame) -> pd.DataFrame:
        """The utterances with groups 1..20 in `session`, for there are no speakers to keep apart.

        Rows with the same words (`normalised`) or the same audio, and all that hang together so,
        are one group's: of which, says a hash of the first of their texts in the order of code
        points. Neither the order of rows nor another release changes it, unless that joins two
        texts by audio.
        """
        words, audio = normalised(utterances["text"]), utterances["wav_hash"].fillna("")
        # silence is the same in every file
        audio = audio.mask(utterances["silent"].astype(bool), "")
        above: dict[tuple, tuple] = {}  # each key -> a smaller one of its part, the least -> itself

        def least(key: tuple) -> tuple:
            while above.setdefault(key, key) != key:
                above[key] = key = above[above[key]]  # halves the way for the next time
            return key

        first = []
        for name, *shared in zip(utterances["segment"], words, audio, strict=True):
            keys = [(kind, key) for kind, key in enumerate(shared) if key] or [(len(shared), name)]
            ends = sorted(map(least, keys))
            above |= dict.fromkeys(ends, ends[0])
            first.append(ends[0])
        groups = [seed_of(0, "group", *least(key)) % GROUPS + 1 for key in first]  # by BLAKE2b
        return utterances.assign(session=groups)


# --- rows ----------------------------------------------------------------------------------------


def _once(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple]]:
    """The first row of each id, which is its `segment`, and troubles: the rows left out.

    An id that fits no pattern is made printable, and is no other row's.
    """
    names = [
        name if layout.is_id(name) else f"{preparation.printable(name)}§{row}"
        for row, name in enumerate(rows[layout.ID])
    ]
    rows = rows.assign(segment=names)
    first = rows.drop_duplicates("segment")
    kept = first.set_index("segment")
    notes = []
    for row in rows.drop(first.index).to_dict("records"):
        other, columns = kept.loc[row["segment"]], range(len(layout.HEADER[0]))
        like = "as" if all(row[column] == other[column] for column in columns) else "unlike"
        detail = f"{row['release']}.csv row {row['row']}, {like} {other['release']}.csv row "
        detail += str(other["row"])
        notes.append(("reported", "repeated row left out", "speaker", row["segment"], detail))
    return first.reset_index(drop=True), notes


def _spoken(
    rows: pd.DataFrame, found: dict[str, dict[str, preparation.File]]
) -> tuple[pd.DataFrame, list[tuple]]:
    """What is said: a row each, and troubles of wavs and texts."""
    places = {name: ChainMap(files, *found.values()) for name, files in found.items()}
    nothing, spoken, notes = preparation.File(""), [], []
    for name, release, words in zip(
        rows["segment"], rows["release"], rows[layout.WORDS], strict=True
    ):
        wav, text = places[release].get(name, nothing), transcripts.clean_transcript(words)
        fault = "" if layout.is_id(name) else preparation.NO_PATTERN
        fault = fault or (BAD if name in layout.BAD else wav.bad and f"wav {wav.bad}")
        fault = fault or ("" if wav.path or text else NOTHING)
        masked = [] if wav.path else ["wav missing"]
        masked += [] if text else ["no words"]
        notes += [] if fault else [("masked", how, "speaker", name, "") for how in masked]
        spoken.append((name, name, "" if wav.bad else wav.path, text, fault))
    return pd.DataFrame(spoken, columns=["segment", "dialogue", "wav", "text", "quarantine"]), notes


def _rated(spoken: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple]]:
    """Utterances but for their label, and troubles of rows."""
    cells = rows[range(layout.SITUATION, layout.AGE)].to_numpy(object)
    table, cell_notes = labels.ratings(cells)
    bad = spoken["quarantine"] != ""
    notes = [
        ("quarantined", row["quarantine"], "speaker", row["segment"], "")
        for row in spoken[bad].to_dict("records")
    ]
    notes += [
        (treatment, reason, "speaker", spoken["segment"][row], detail)
        for treatment, reason, row, detail in cell_notes
        if not bad[row]
    ]
    table[bad] = ""
    table["quarantine"] = spoken["quarantine"].where(bad, table["quarantine"])
    people = {
        name: rows[column].map(_word)
        for name, column in (("age", layout.AGE), ("gender", layout.GENDER))
    }
    return spoken.assign(
        corpus="aihub_emotion",
        role="speaker",
        session=0,
        speaker="",
        kind=KIND,
        start=np.nan,
        end=np.nan,
        valence=np.nan,
        arousal=np.nan,
        release=rows["release"],
        **table,
        **people,
    ), notes


def _word(cell: str) -> str:
    return "".join(c for c in cell if c.isprintable())[:LONGEST]

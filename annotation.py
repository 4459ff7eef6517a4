"""What annotation folders have in common: files, tables, transcripts, ratings, troubles.

Every corpus leaf returns a table of COLUMNS and a table of troubles. Which files a corpus has, and
what its names mean, stands in its leaf, which finds them with `files` alone; sound is opened
elsewhere.
"""

import codecs
import csv
import io
import os
import re
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import constants
from utils import UserError

VOTES = [f"votes_{emotion}" for emotion in constants.EMOTIONS]
COLUMNS = [
    "corpus",
    "role",
    "segment",
    "session",
    "dialogue",
    "speaker",
    "kind",
    "start",
    "end",
    "wav",
    "text",
    "emotion",
    *VOTES,
    "valence",
    "arousal",
    "quarantine",
]
TROUBLES = ["treatment", "reason", "role", "segment", "detail"]
SPELLINGS = {"disqust": "disgust"}  # as KEMDy20 spells it

NO_PATTERN = "Segment ID fits no pattern"
NO_FILES = "neither wav nor txt"
OUTSIDE = "unreadable: it leads out of the corpus folder"
NO_FILE = "unreadable: not a regular file"


def troubles(rows: Sequence[tuple]) -> pd.DataFrame:
    """(treatment, reason, role, segment, detail) tuples as a table, also when there are none.

    treatment: converted, masked, quarantined or reported. A trouble of a file that belongs to no
    row has role "".
    """
    return pd.DataFrame(list(rows), columns=TROUBLES, dtype=str)


def printable(segment: str) -> str:
    """An id that fits no pattern, made harmless: ASCII, one line, at most 80 characters."""
    return ascii(segment)[1:-1][:80] or "(empty)"


# --- files ---------------------------------------------------------------------------------------


class File(NamedTuple):
    """A file of a corpus: its `path` from the corpus folder, spelt as on disk ("": there is none),
    and why it must not be opened."""

    path: str
    bad: str = ""


def files(folder: Path, pattern: str) -> dict[str, File]:
    """What stands at a pattern such as "wav/*/*/*.wav", by its name in NFC; nothing is opened.

    What a table says never becomes a path: a leaf looks its names up here. A link may lead anywhere
    in the corpus folder, which may be a link itself; what it leads to outside is bad, as are pipes,
    devices and folders. A name that is not UTF-8 is left out, since no table can say it. Where two
    names differ in normal form alone, the one in NFC is taken. Raises UserError for a folder that
    cannot be listed.
    """
    root, (*folders, last) = Path(os.path.realpath(folder)), pattern.split("/")
    places = [("", "")]
    for part in folders:
        places = [
            (f"{name}{composed}/", f"{path}{entry.name}/")
            for name, path in places
            for composed, entry in _entries(folder / path, part)
        ]
    found: dict[str, File] = {}
    for name, path in places:
        inside = _is_inside(folder / path, root)
        for composed, entry in _entries(folder / path, last):
            file = File(path + entry.name, _fault(entry, root) if inside else OUTSIDE)
            found.setdefault(name + composed, file)
    return found


def _entries(folder: Path, pattern: str) -> list[tuple[str, os.DirEntry]]:
    """Names in NFC and entries that match, in order; none where `folder` is no folder."""
    try:
        with os.scandir(folder) as entries:
            named = [(unicodedata.normalize("NFC", entry.name), entry) for entry in entries]
    except NotADirectoryError:
        return []
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}") from error
    fits = [pair for pair in named if fnmatchcase(pair[0], pattern) and _is_utf8(pair[0])]
    return sorted(fits, key=lambda pair: (pair[0], pair[1].name != pair[0]))


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)


def _fault(entry: os.DirEntry, root: Path) -> str:
    """Why an entry of a folder that is inside must not be opened; "" for a link to nowhere."""
    if entry.is_file(follow_symlinks=False):
        return ""
    if entry.is_symlink() and not _is_inside(entry.path, root):
        return OUTSIDE
    return NO_FILE if os.path.exists(entry.path) and not os.path.isfile(entry.path) else ""


def _is_inside(path: Path | str, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def allowed(folder: Path, file: File) -> Path:
    """The path of a file that stands for no row; a UserError where it must not be opened."""
    if file.bad:
        raise UserError(f"{folder / file.path} is {file.bad}; put the file itself there")
    return folder / file.path


class Text(NamedTuple):
    """A decoded file: how it was `converted`, or why it is `bad` (then `text` is empty)."""

    text: str
    converted: tuple[str, ...] = ()
    bad: str = ""


def decode(data: bytes, usual: str = "utf-8") -> Text:
    """Strict UTF-8, then CP949. UTF-16 and anything else are bad.

    `usual` "cp949", of a corpus that is written so: bytes that could be either are CP949, unless
    they are ASCII or Hangul in UTF-8. A few syllables in CP949 (such as those of "크크" or "청")
    are also two-byte UTF-8: of Latin, Greek, ... letters, which are in no transcript.
    """
    crlf = ("with CRLF line ends",) if b"\r\n" in data else ()
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    zeros = data.count(0)
    if not marked and zeros <= len(data) // 5:  # UTF-16 has one in every ASCII character
        try:
            text = data.decode("utf-8-sig")
            if usual == "utf-8" or not _by_chance(data, text):
                return Text(text, crlf)
        except UnicodeDecodeError:
            pass
    if marked or zeros:
        return Text("", bad="in UTF-16" if marked or len(data) % 2 == 0 else "not text")
    try:
        return Text(data.decode("cp949"), ("in CP949", *crlf))
    except UnicodeDecodeError:
        return Text("", bad="neither UTF-8 nor CP949")


def _by_chance(data: bytes, text: str) -> bool:
    """Is what reads as `text` in UTF-8 two-byte letters and no more, and CP949 as well?"""
    if text.isascii() or max(text) >= "\u0800" or data.startswith(codecs.BOM_UTF8):
        return False
    try:
        return bool(data.decode("cp949"))
    except UnicodeDecodeError:
        return False


def read_text(path: Path, usual: str = "utf-8") -> Text:
    """`decode` of a file; a file that cannot be read is bad too."""
    try:
        return decode(path.read_bytes(), usual)
    except OSError as error:
        return Text("", bad=f"unreadable: {error.strerror}")


def read_words(folder: Path, file: File, usual: str = "utf-8") -> Text:
    """`read_text` of a file of a corpus, unless it must not be opened; "" if there is none."""
    if file.bad or not file.path:
        return Text("", bad=file.bad)
    return read_text(folder / file.path, usual)


def read_rows(path: Path, width: int | None = None) -> tuple[list[list[str]], tuple[str, ...]]:
    """Stripped cells of a comma-separated file, and how it was converted.

    Raises UserError where a row that is not empty has not `width` cells, or as many as the first.
    """
    file = read_text(path)
    if file.bad:
        raise UserError(f"{path} should be UTF-8 or CP949 text; it is {file.bad}")
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(file.text, ""))]
    except csv.Error as error:
        raise UserError(f"{path} should be comma-separated; {error}") from error
    width = len(rows[0]) if rows and width is None else width
    for line, row in enumerate(rows, start=1):
        if any(row) and len(row) != width:
            raise UserError(f"{path} needs {width} columns, line {line} has {len(row)}")
    return rows, file.converted


def read_table(path: Path, header: Sequence[Sequence[str]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N, columns) cells under the header rows, stripped, and how the file was converted.

    The header is compared cell by cell after stripping: it is the only proof that positions mean
    what they should. Raises UserError for another header or number of columns.
    """
    width = len(header[0])
    rows, converted = read_rows(path, width)
    if len(rows) < len(header):
        raise UserError(f"{path} needs {len(header)} header rows, it has {len(rows)} lines")
    for line, (wanted, came) in enumerate(zip(header, rows, strict=False), start=1):
        for column, (want, have) in enumerate(zip(wanted, came, strict=False), start=1):
            if want != have:
                where = f"line {line} column {column}"
                raise UserError(f"{path} needs {want!r} at {where} (header), it has {have[:80]!r}")
    body = [row for row in rows[len(header) :] if any(row)]
    return np.array(body, dtype=object).reshape(len(body), width), converted


def read_signal(path: Path, names: Sequence[str], skip: int = 0) -> pd.DataFrame:
    """Ragged comma-separated samples of a sensor: `time` and `value` as float, the rest as text."""
    try:
        table = pd.read_csv(
            path, header=None, names=list(names), skiprows=skip, dtype=str, keep_default_na=False
        )
        table["value"] = pd.to_numeric(table["value"])
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(
            f"{path} needs at most {len(names)} fields a line: {printable(str(error))}"
        ) from error
    time = pd.to_numeric(table["time"], errors="coerce")
    return table.assign(time=time, segment=table["segment"].fillna(""))


# --- transcripts ---------------------------------------------------------------------------------

MARKUP = {
    "b/": "breath or cough",
    "c/": "goes on after a pause under 0.3 s",
    "l/": "filler sound",
    "n/": "noise",
    "N/": "noise over half of the utterance or more",
    "u/": "not understood",
    "o/": "in KEMDy19, not explained there",
    "s/": "in KEMDy19, not explained there",
    "*": "understood in part",
    "+": "between two voices that overlap (KEMDy19), stutter (the legend)",
    "(": "two voices at once, (A+B); the words of both are kept",
    ")": "see (",
    "/": "filler",
}
# A letter is markup only where no Latin letter precedes it; "u/." is a way to write "u/".
_MARKUP = re.compile(r"(?<![A-Za-z])(?:u/\.*|[bclnNos]/)|[/*+()]")


def clean_transcript(text: str) -> str:
    """The words alone: no MARKUP or control characters, one space between; "" if none are left.

    >>> clean_transcript("b/ 아 (왜+뭐) l/ 그래 u/.")
    '아 왜 뭐 그래'
    """
    visible = "".join(c if c.isprintable() else " " for c in text)
    words = " ".join(_MARKUP.sub(" ", visible).split())
    return words if any(c.isalnum() for c in words) else ""


# --- ratings -------------------------------------------------------------------------------------


def ratings(cells: np.ndarray) -> tuple[pd.DataFrame, list[tuple[str, str, int, str]]]:
    """(N, 33) cells, Emotion Valence Arousal of the total and of ten raters -> table, notes.

    The table has emotion (as written, spelling mended), votes, valence, arousal and quarantine,
    and no numbers in a quarantined row. A note is (treatment, reason, row, detail): a row in
    quarantine, a mended spelling, or a total that its raters do not give (the file's is used).
    """
    cells = cells.reshape(len(cells), 1 + constants.RATERS, 3)
    written = pd.Series(cells[:, 0, 0], dtype=object)
    labels = written.map({cell: _labels(cell) for cell in written.unique()})
    raters = pd.Series(cells[:, 1:, 0].ravel(), dtype=object)
    codes = raters.map({cell: _code(cell) for cell in raters.unique()})
    codes = codes.to_numpy(np.int64).reshape(len(cells), -1)
    votes = (codes[..., None] == np.arange(len(constants.EMOTIONS))).sum(axis=1)
    scores = pd.to_numeric(pd.Series(cells[..., 1:].ravel(), dtype=object), errors="coerce")
    scores = scores.to_numpy(float).reshape(len(cells), -1, 2)
    table = pd.DataFrame({"emotion": labels.map(";".join)})
    table[VOTES] = votes.astype(float)
    table[["valence", "arousal"]] = scores[:, 0]
    table["quarantine"] = _faults(labels, codes, scores)
    bad = table["quarantine"] != ""
    notes = _mended(written, cells) + _disagreements(labels, votes, scores)
    notes = [note for note in notes if not bad[note[2]]]
    for row in np.flatnonzero(bad):
        detail = " ".join(dict.fromkeys(cells[row].ravel()))  # each different cell once
        notes.append(("quarantined", table["quarantine"][row], int(row), printable(detail)))
    table.loc[bad, "emotion"] = ""
    table.loc[bad, [*VOTES, "valence", "arousal"]] = np.nan
    return table, notes


def _labels(cell: str) -> tuple[str, ...]:
    names = (name.strip() for name in cell.split(";"))
    return tuple(dict.fromkeys(SPELLINGS.get(name, name) for name in names))


def _code(cell: str) -> int:
    name = SPELLINGS.get(cell, cell)
    return constants.EMOTIONS.index(name) if name in constants.EMOTIONS else -1


def _faults(labels: pd.Series, codes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,) why a row of ratings cannot be used, "" where it can."""
    known = {names: set(names) <= set(constants.EMOTIONS) for names in labels.unique()}
    low, high = constants.SCALE
    scores = scores.reshape(len(scores), -1)
    unreadable = ~np.isfinite(scores).all(axis=1)
    outside = ((scores < low) | (scores > high)).any(axis=1)
    reasons = [
        (~labels.map(known).to_numpy(bool) | (codes < 0).any(axis=1), "unknown emotion"),
        (unreadable, "score is not a number"),
        (outside, f"score outside {low:g}..{high:g}"),
    ]
    return np.select([where for where, _ in reasons], [name for _, name in reasons], default="")


def _mended(written: pd.Series, cells: np.ndarray) -> list[tuple]:
    wrong = np.isin(cells[:, 1:, 0].astype(str), list(SPELLINGS)).any(axis=1)
    wrong |= [any(name in cell for name in SPELLINGS) for cell in written]
    return [("converted", "spelling of an emotion", int(i), written[i]) for i in wrong.nonzero()[0]]


def _disagreements(labels: pd.Series, votes: np.ndarray, scores: np.ndarray) -> list[tuple]:
    """Where the total is not all modal labels, or not the mean rounded to 0.1."""
    notes, names = [], np.array(constants.EMOTIONS)
    modal = votes == votes.max(axis=1, keepdims=True)
    for i, row in enumerate(modal):
        if set(names[row]) != set(labels[i]):
            detail = f"{';'.join(labels[i])}, raters {';'.join(names[row])}"
            notes.append(("reported", "emotion differs from its raters", i, detail))
    means = np.round(scores[:, 1:].mean(axis=1), 1)
    for column, name in enumerate(("valence", "arousal")):
        have, mean = scores[:, 0, column], means[:, column]
        for i in np.flatnonzero(np.abs(have - mean) > 1e-6):
            detail = f"{have[i]:g}, raters {mean[i]:g}"
            notes.append(("reported", f"{name} differs from its raters", int(i), detail))
    return notes


def rate(rows: pd.DataFrame, table: pd.DataFrame, index: np.ndarray) -> pd.DataFrame:
    """Rows with the ratings in `table` (of `ratings`) at `index`; -1 is no rating at all.

    A row that is in quarantine already keeps its reason and gets no numbers.
    """
    rated = table.reindex(np.where(rows["quarantine"] == "", index, -1)).set_index(rows.index)
    faults = rows["quarantine"].where(rows["quarantine"] != "", rated["quarantine"].fillna(""))
    rated["emotion"] = rated["emotion"].fillna("")
    return pd.concat([rows.drop(columns="quarantine"), rated.assign(quarantine=faults)], axis=1)

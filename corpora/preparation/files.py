"""What annotation folders have in common: files, tables, transcripts, ratings, troubles.

Every plugin returns a table of COLUMNS and a table of troubles. Which files a corpus has, and
what its names mean, stands in that plugin, which finds them with `files` alone; sound is opened
elsewhere.
"""

import codecs
import csv
import io
import os
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from corpora.preparation.columns import printable
from utils import UserError, is_utf8

OUTSIDE = "unreadable: it leads out of the corpus folder"
NO_FILE = "unreadable: not a regular file"


# --- files ---------------------------------------------------------------------------------------


class File(NamedTuple):
    """A file of a corpus: its `path` from the corpus folder, spelt as on disk ("": there is none),
    and why it must not be opened."""

    path: str
    bad: str = ""


def find_files(folder: Path, pattern: str) -> dict[str, File]:
    """What stands at a pattern such as "wav/*/*/*.wav", by its name in NFC; nothing is opened.

    What a table says never becomes a path: a plugin looks names up here. A link may lead anywhere
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
    fits = [pair for pair in named if fnmatchcase(pair[0], pattern) and is_utf8(pair[0])]
    return sorted(fits, key=lambda pair: (pair[0], pair[1].name != pair[0]))


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


# --- ratings -------------------------------------------------------------------------------------

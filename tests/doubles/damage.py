"""Damage done to files and tables, drawn by hypothesis, and what a command answers."""

import contextlib
import csv
import io
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import main
from doubles.hostile import within
from utils import UserError

TIMES = int(os.environ.get("FUZZ_EXAMPLES", "1"))


MEMORY = 2 << 30  # bytes that one example may take on top


SECONDS = 20.0  # for one example; the slowest takes about one


PREPARE = ["prepare", "--data", "corpus", "--max_bad", "1"]


def examples(count: int) -> Callable:
    """The settings of a test: the same `count` examples each time, or TIMES as many."""
    return settings(
        derandomize=True,
        max_examples=count * TIMES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """In SECONDS, and in MEMORY more than what the process has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.name == "posix" else 0
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    try:
        with within(SECONDS):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def command(*words: str) -> int:
    """The exit code of a command line: 0, or 2 after one line that begins with "error: "."""
    out, err = io.StringIO(), io.StringIO()
    with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.main(list(words))
    *_, last = re.split(r"(?:^|\r|\n)error: ", err.getvalue())
    assert code in (0, 2)
    assert err.getvalue().count("error: ") == (code == 2) or code == 2
    if code == 2:
        assert last.strip() and "\n" not in last.strip(), last
    return code


def answers(call: Callable, *arguments: object) -> object:
    """What a call returns; None if it was a UserError of one line."""
    with bounded():
        try:
            return call(*arguments)
        except UserError as error:
            assert str(error) and "\n" not in str(error), str(error)
            return None


place = st.floats(0, 1, exclude_max=True)  # in a file or a list, as a share of its length


TOKENS = [
    b"",
    b"\0",
    b"\0" * 64,
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xff" * 9,
    b"\r",
    b"\n\n",
    b'"',
    b",",
    b";",
    b"\xb0\xa1",
    b"\xed\xa0\x80",
    b"-1",
    b"1e999",
    b"../",
    b"PK\5\6",
    b"RIFF",
    b"data",
    b"\x7f\xff\xff\xff",
    b"\x80",
    b"\x00\x00\x00\x80",
]


bytes_changed = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "drop", "twice", "insert", "over"]),
        place,
        st.integers(0, 255),
        st.sampled_from(TOKENS),
    ),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, changes: list[tuple], part: float = 1.0) -> bytes:
    """Bytes with each change made, all within the first `part` of them."""
    data = bytearray(data)
    for kind, where, value, token in changes:
        at = int(where * part * len(data))
        if kind == "flip" and data:
            data[at] ^= 1 << value % 8
        elif kind == "set" and data:
            data[at] = value
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + value]
        elif kind == "twice":
            data[at:at] = data[at : at + value]
        elif kind in ("insert", "over"):
            data[at : at + (len(token) if kind == "over" else 0)] = token
    return bytes(data)


WORDS = [
    "",
    " ",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "1e400",
    "9" * 400,
    "-0",
    "0x1f",
    "1,5",
    "１",
    "true",
    "1e-320",
    "\0",
    "\ufeff",
    "\u202e",
    "가",
    "\u1100\u1161",
    '"',
    'a"b',
    "a\nb",
    "a\rb",
    "angry;sad",
    ";",
    "angry;",
    "disqust",
    "joy",
    "../../x",
    "/etc/passwd",
    "=1+1",
    "x" * 140_000,
    "Sess01_script01_M001",
    "Sess99_impro01_F001",
    "Sess01_script01_F٠٠١",
    "speaker",
    "5.0000001",
]


rows_changed = st.lists(
    st.tuples(
        st.sampled_from(["cell"] * 20 + ["less", "more", "gone", "twice", "last", "swap"]),
        place,
        place,
        st.sampled_from(WORDS) | st.text(max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def table_damaged(rows: list[list[str]], changes: list[tuple]) -> bytes:
    """A table as CSV after each change: of a cell, of the number of cells, or of whole rows."""
    rows = [list(row) for row in rows]
    for kind, down, across, word in changes:
        at = int(down * len(rows))
        row = rows[at] if rows else []
        cell = int(across * len(row))
        if kind == "cell" and row:
            row[cell] = word
        elif kind == "less" and row:
            del row[cell]
        elif kind == "more":
            row.insert(cell, word)
        elif kind == "gone":
            rows[at : at + 1] = []
        elif kind in ("twice", "last"):
            rows.insert(at if kind == "twice" else len(rows), list(row))
        elif kind == "swap" and rows:
            rows[at], rows[0 - at] = rows[0 - at], rows[at]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    """A file with other bytes, for a while."""
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)

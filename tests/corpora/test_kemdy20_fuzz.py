"""Damaged KEMDy20 and AI Hub 263: a result, a quarantined row or one line, no more.

What is done to KEMDy19 in test_fuzz.py, with the same tools; the examples are the same at every
run, FUZZ_EXAMPLES=20 makes twenty times as many.
"""

import contextlib
import csv
import io
from pathlib import Path

import pytest
from doubles import corpus_kemdy20 as kemdy
from doubles.damage import (
    PREPARE,
    answers,
    bytes_changed,
    changed,
    command,
    damaged,
    examples,
    rows_changed,
    table_damaged,
)
from doubles.two_layouts import RELEASE, TABLES, check_tables, lay
from hypothesis import given
from hypothesis import strategies as st

from corpora import kemdy20, preparation
from corpora.preparation import transcripts


@pytest.fixture(scope="module")
def laid(tmp_path_factory) -> dict[str, Path]:
    """A folder to work in for each corpus; what is prepared stays for the next example."""
    folders = {name: tmp_path_factory.mktemp(name) for name in TABLES}
    for name, folder in folders.items():
        lay(name, folder / "corpus")
    return folders


def prepared(folder: Path) -> None:
    with contextlib.chdir(folder):
        if command(*PREPARE) == 0:
            check_tables()


@pytest.mark.parametrize("corpus", TABLES)
@given(rows=rows_changed, data=st.none() | bytes_changed, korean=st.booleans())
@examples(60)
def test_a_damaged_table(corpus, rows, data, korean, laid):
    path = laid[corpus] / "corpus" / TABLES[corpus]
    cells = list(csv.reader(io.StringIO(preparation.read_text(path).text, "")))
    text = table_damaged(cells, rows)
    if korean:
        text = text.decode("utf-8", "replace").encode("cp949", "replace")
    with changed(path, damaged(text, data) if data else text):
        prepared(laid[corpus])


@given(
    said=st.sampled_from(["b/ 안녕 c/", "크크", "", "a\r\nb"]),
    changes=bytes_changed,
    encoding=st.sampled_from(["cp949", "utf-8", "utf-16", "utf-8-sig"]),
)
@examples(150)
def test_a_damaged_transcript(said, changes, encoding, tmp_path_factory):
    data = damaged(said.encode(encoding), changes)
    for usual in ("utf-8", "cp949"):
        text = preparation.decode(data, usual)
        assert text.text == "" or not text.bad
        assert transcripts.clean_transcript(text.text).isprintable()


@pytest.mark.parametrize("text", ["b/ o/", "안녕 °", "Ω≈ç", "크크", ""])
@pytest.mark.parametrize("usual", ["utf-8", "cp949"])
def test_real_utf8_stays_what_it_is(text, usual):
    assert preparation.decode(text.encode(), usual) == preparation.Text(text)
    marked = b"\xef\xbb\xbf" + "A°".encode()
    assert marked.decode("cp949")  # it could be that, too
    assert preparation.decode(marked, usual) == preparation.Text("A°")


@pytest.mark.parametrize("text", ["째", "크크", "청 커"])
def test_bytes_that_are_both_are_read_as_the_corpus_is_written(text):
    data = text.encode("cp949")
    assert preparation.decode(data) == preparation.Text(data.decode())  # as KEMDy19 always was
    assert preparation.decode(data, "cp949") == preparation.Text(text, ("in CP949",))
    assert preparation.decode(data + b"\r\n", "cp949").converted[1] == "with CRLF line ends"


@given(kind=st.sampled_from(["EDA", "IBI", "TEMP"]), changes=bytes_changed)
@examples(100)
def test_a_damaged_sensor(kind, changes, laid):
    folder = laid["kemdy20"] / "corpus"
    lines = "1.0\n4.0\n" + "0.3,2020-09-01,Sess01_script01_User001F_001\n0.2,2020-09-01,\n" * 3
    path = kemdy.wear(folder, kind, "Sess01_script05_User002F", lines)
    with changed(path, damaged(lines.encode(), changes)):
        table = answers(kemdy20.Reader.signals, folder, [kind])
    assert table is None or "value" in table


@given(changes=bytes_changed, part=st.sampled_from([0.05, 1.0]), end=st.booleans())
@examples(150)
def test_a_damaged_zip(changes, part, end, laid):
    """Anywhere, in the first header, or (`end`) in the directory at the end of the file."""
    path = laid["aihub_emotion"] / "corpus" / f"{RELEASE}.zip"
    data = path.read_bytes()
    at = data.index(b"PK\1\2") if end else 0
    with changed(path, data[:at] + damaged(data[at:], changes, part)):
        prepared(laid["aihub_emotion"])

"""Damaged files by the hundred: what comes out is a result or one line, in time and in memory.

Real files of the synthetic corpus are changed as damage and mistakes change them. The examples are
the same at every run; FUZZ_EXAMPLES=20 makes twenty times as many:
`FUZZ_EXAMPLES=20 python -m pytest tests/corpora/test_fuzz.py`
"""

import contextlib
import csv
import io
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.damage import (
    PREPARE,
    bounded,
    bytes_changed,
    changed,
    command,
    damaged,
    examples,
    rows_changed,
    table_damaged,
)
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import strategies as st

import constants
from corpora import kemdy19, kemdy19_2022, preparation
from corpora.preparation import files, transcripts
from features.store import extraction
from utils import UserError

FEMALE = "annotation/Session01_F_res.csv"
SPOILT = "wav/Session01/Sess01_script01/Sess01_script01_M001"


# --- a corpus ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(workplace, tmp_path_factory) -> Path:
    """A folder with a small corpus: session 1 alone, no sensors."""
    folder = tmp_path_factory.mktemp("fuzz")
    without = shutil.ignore_patterns("ECG", "EDA", "TEMP", "Session0[234]*")
    shutil.copytree(workplace / "corpus", folder / "corpus", ignore=without)
    return folder


@pytest.fixture
def corpus(session) -> Iterator[Path]:
    """The small corpus, in a folder to work in; what is prepared stays for the next test."""
    with contextlib.chdir(session):
        yield session / "corpus"


def check_tables() -> None:
    """What was prepared holds labels, scores and paths that can be used, or says why not."""
    [path] = Path("data/prepared").glob("*/annotation.csv")
    rows = pd.read_csv(path, keep_default_na=False, dtype={"text": str})
    good = rows[(rows["quarantine"] == "") & (rows["emotion"] != "")]
    labels = {label for cell in good["emotion"] for label in cell.split(";")}
    assert labels <= set(constants.EMOTIONS)
    scores = good[["valence", "arousal"]].astype(float).to_numpy()
    assert ((scores >= 1) & (scores <= 5)).all()
    assert all(
        re.fullmatch(r"|(wav/Session01/\w+|audio)/Sess01_\w+\.wav", wav) for wav in rows["wav"]
    )
    assert all(name.isprintable() and len(name) < 100 for name in rows["segment"])
    assert all(text.isprintable() for text in rows["text"])


@given(rows=rows_changed, data=st.none() | bytes_changed)
@examples(150)
def test_an_annotation_file(rows, data, corpus):
    table = list(csv.reader(io.StringIO((corpus / FEMALE).read_bytes().decode(), "")))
    text = table_damaged(table, rows)
    with changed(corpus / FEMALE, damaged(text, data) if data else text):
        if command(*PREPARE) == 0:
            check_tables()


@given(rows=rows_changed, data=st.none() | bytes_changed, role=st.sampled_from(["speaker", "both"]))
@examples(80)
def test_a_table_of_2022(rows, data, role, corpus):
    utterances, _ = kemdy19.Reader.read(corpus)
    header = [*kemdy19_2022.NEEDED, "role"]
    table = [header]
    for row in utterances.to_dict("records")[:5]:
        ratings = [row["emotion"], str(row["valence"]), str(row["arousal"])] + [
            "sad",
            "2",
            "3",
        ] * 10
        cells = [
            str(row["start"]),
            str(row["end"]),
            row["segment"],
            *ratings,
            row["text"],
            "speaker",
        ]
        table.append(cells)
    text = table_damaged(table, rows)
    name = "df_speaker.csv" if role == "speaker" else "annotation.csv"
    with changed(corpus / name, damaged(text, data) if data else text):
        if command(*PREPARE[:2], "kemdy19_2022:corpus", *PREPARE[3:]) == 0:
            shutil.rmtree("data/prepared")


def test_a_table_of_2022_with_a_column_twice_is_refused(corpus):
    header = [*kemdy19_2022.NEEDED, "Emotion"]  # which becomes Emotion.1, as pandas numbers them
    with changed(corpus / "df_speaker.csv", table_damaged([header], [])):
        with pytest.raises(UserError, match="needs each column once; it repeats Emotion.1"):
            kemdy19_2022.Reader.read(corpus)


SAID = ["안녕하세요 b/ (왜+뭐) l/", "", "a\r\nb\r\n", "가나다" * 50]


@given(
    said=st.sampled_from(SAID),
    encoding=st.sampled_from(["utf-8", "cp949", "utf-16", "utf-8-sig"]),
    changes=bytes_changed,
)
@examples(200)
def test_a_transcript(said, encoding, changes):
    text = files.decode(damaged(said.encode(encoding), changes))
    assert text.text == "" or not text.bad
    clean = transcripts.clean_transcript(text.text)
    assert clean.isprintable() and clean == clean.strip()


@given(changes=bytes_changed)
@examples(10)
def test_a_transcript_of_a_corpus(changes, corpus):
    path = corpus / f"{SPOILT}.txt"
    with changed(path, damaged(path.read_bytes(), changes)):
        assert command(*PREPARE) == 0
        check_tables()


# --- sound ---------------------------------------------------------------------------------------


NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    255,
    256,
    4000,
    16000,
    65534,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
]


@st.composite
def waves(draw) -> bytes:
    """A wav whose header says what it wants: format, channels, rate, width and sizes."""
    kind = draw(st.sampled_from([b"RIFF", b"RIFF", b"RF64", b"RIFX", b"FORM"]))
    code = draw(st.sampled_from([1, 1, 3, 3, 6, 7, 2, 0x11, 0x55, 0xFFFE, 0]))
    channels = draw(st.sampled_from([1, 1, 1, 2, *NUMBERS])) & 0xFFFF
    rate = draw(st.sampled_from([16_000, 16_000, *NUMBERS, 10**6, 192_000]))
    bits = draw(st.sampled_from([16, 16, 8, 24, 32, 64, 0, 1, 12, 65535]))
    align = draw(st.sampled_from([channels * bits // 8, 0, 1, 65535])) & 0xFFFF
    body = draw(st.sampled_from([b"", b"\1\0" * 800, b"\xff" * 3200, b"\x00\x00\xc0\x7f" * 400]))
    size = draw(st.sampled_from([len(body)] * 3 + NUMBERS))
    head = struct.pack("<HHIIHH", code, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    if code == 0xFFFE:
        guid = draw(st.sampled_from([1, 3, 0])).to_bytes(2, "little")
        head += (
            struct.pack("<HHI", 22, bits, 4) + guid + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
        )
    extra = b"ds64" + struct.pack("<IQQQI", 28, 2**62, 2**62, 2**62, 0) if kind == b"RF64" else b""
    parts = extra + b"fmt " + struct.pack("<I", len(head)) + head
    return (
        kind
        + struct.pack("<I", 36 + len(body))
        + b"WAVE"
        + parts
        + b"data"
        + struct.pack("<I", size)
        + body
    )


def heard(corpus: Path, data: bytes) -> None:
    with changed(corpus / f"{SPOILT}.wav", data):
        assert command(*PREPARE) == 0
        check_tables()
        found = preparation.open_corpus("corpus", max_bad=1)
        rows = found.role("speaker")
        settings = settings_with()
        with bounded():
            store = extraction.extract(
                "log_mel", rows, corpus, found.prepared, settings, progress=False
            )
            assert np.isfinite(store.gather(np.arange(len(rows)))).all()


@given(data=waves(), changes=st.none() | bytes_changed)
@examples(50)
def test_a_wav_of_any_header(data, changes, corpus):
    heard(corpus, damaged(data, changes, part=0.05) if changes else data)


@given(changes=bytes_changed)
@examples(20)
def test_a_damaged_wav(changes, corpus):
    heard(corpus, damaged((corpus / f"{SPOILT}.wav").read_bytes(), changes, part=0.002))

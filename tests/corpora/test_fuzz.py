"""Damaged files by the hundred: what comes out is a result or one line, in time and in memory.

Real files of the synthetic corpus and of a run are changed as damage and mistakes change them. The
examples are the same at every run; FUZZ_EXAMPLES=20 makes twenty times as many:
`FUZZ_EXAMPLES=20 python -m pytest tests/corpora/test_fuzz.py`
"""

import contextlib
import copy
import csv
import io
import json
import pickle
import re
import shutil
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from doubles.damage import (
    PREPARE,
    answers,
    bounded,
    bytes_changed,
    changed,
    command,
    damaged,
    examples,
    place,
    rows_changed,
    table_damaged,
)
from doubles.hostile import SMALL
from doubles.run_folders import log_lines, make_run, predictions
from doubles.settings import settings_with
from hypothesis import example, given
from hypothesis import strategies as st

import constants
import model
from corpora import kemdy19, kemdy19_2022, preparation
from corpora.preparation import files, transcripts
from evaluation import bootstrap, result
from evaluation.predictions import read_predictions
from features.signal import vectors_2022
from features.store import extraction
from reporting import figures, page
from utils import UserError

FEMALE = "annotation/Session01_F_res.csv"
SPOILT = "wav/Session01/Sess01_script01/Sess01_script01_M001"


# --- how things are damaged ----------------------------------------------------------------------


class Deep(NamedTuple):
    """A list in a list in a list ..., made where it is used."""

    depth: int

    def value(self) -> list:
        value: list = []
        for _ in range(self.depth):
            value = [value]
        return value


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.5,
    10**9,
    10**19,
    10**300,
    -(10**19),
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "1",
    "9" * 5000,
    "\ud800",
    "../..",
    "/",
    "\0",
    "a\nb",
    "char-ngram",
    "[1]",
    [],
    [[]],
    [0],
    ["x"],
    [None],
    [10**19],
    [1e308],
    {},
    {"a": {}},
    {"x": [1]},
    Deep(400),
    Deep(3000),
]
KEYS = ["", "self", "model", "x", "data", "text_encoder", "loss", "\ud800", "a\nb"]
json_changed = st.lists(
    st.tuples(
        st.sampled_from(["value"] * 5 + ["gone", "key", "wrap", "half"]),
        st.lists(place, min_size=1, max_size=4),
        st.sampled_from(VALUES),
        st.sampled_from(KEYS),
    ),
    min_size=1,
    max_size=3,
)


def json_damaged(value: object, changes: list[tuple]) -> str:
    """JSON with values of other types, sizes and depths, and keys gone or new."""
    value = copy.deepcopy(value)
    for kind, way, new, key in changes:
        at: object = value
        for where in way[:-1]:
            inner = list(at.values()) if isinstance(at, dict) else at
            step = inner[int(where * len(inner))] if inner else None
            at = step if isinstance(step, dict | list) and step else at
        if not at:
            continue
        names = list(at) if isinstance(at, dict) else range(len(at))
        name = names[int(way[-1] * len(names))]
        new = new.value() if isinstance(new, Deep) else copy.deepcopy(new)
        if kind == "gone":
            del at[name]
        elif kind == "key" and isinstance(at, dict):
            at[key] = new
        elif kind == "half" and isinstance(at[name], list | str):
            at[name] = at[name][: len(at[name]) // 2]
        else:
            at[name] = [at[name]] if kind == "wrap" else new
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # json.dumps is recursive, too
    try:
        return json.dumps(value)
    finally:
        sys.setrecursionlimit(before)


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
    utterances, _ = kemdy19.read(corpus)
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
            kemdy19_2022.read(corpus)


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


@pytest.fixture
def hasty(monkeypatch) -> None:
    """No pictures, and few resamples: they take longer than all the rest."""
    draws = bootstrap.draws
    monkeypatch.setattr(bootstrap, "draws", lambda groups, resamples, seed: draws(groups, 10, seed))
    monkeypatch.setattr(figures, "png", lambda draw, inches, **grid: b"")


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tested(run_folder, workplace, tmp_path_factory) -> Path:
    """A folder with a run that reads text alone, and a link to the corpus it is tested on."""
    folder = tmp_path_factory.mktemp("tested")
    written = json.loads((run_folder / "configuration.json").read_text())
    written |= {"modality": "text", "hidden_size": 4, "text_dim": 8, "seed": 1}
    model.save(folder / "exp/run", model.build("mate", written, seed=1), written)
    shutil.copy(run_folder / "training.csv", folder / "exp/run")
    (folder / "corpus").symlink_to(workplace / "corpus")
    return folder


@pytest.fixture
def run(tested) -> Iterator[Path]:
    """That run, in its folder."""
    with contextlib.chdir(tested):
        yield tested / "exp/run"


@given(changes=json_changed, data=st.none() | bytes_changed)
@examples(20)
def test_a_configuration(changes, data, run, hasty):
    path = run / "configuration.json"
    text = json_damaged(json.loads(path.read_text()), changes).encode("utf-8", "surrogatepass")
    with changed(path, damaged(text, data) if data else text):
        command("--test_only", "run", "--data", "corpus")
    for folder in run.glob("test_*"):
        shutil.rmtree(folder)


UNUSABLE = [
    ("self", 1),
    ("max_bad", "x"),
    ("test_split", 1),
    ("text_encoder", 1),
    ("batch_size", 0),
    ("batch_size", "x"),
    ("corpus", {}),
    ("corpus", {"folder": "\0"}),
    ("split", {}),
    ("majority", 1),
    ("majority", {"emotion": 1}),
]


@pytest.mark.parametrize(("name", "value"), UNUSABLE)
def test_a_configuration_that_testing_cannot_use_is_refused(name, value, run, hasty):
    path = run / "configuration.json"
    with changed(path, json.dumps(json.loads(path.read_text()) | {name: value}).encode()):
        assert command("--test_only", "run", "--data", "corpus") == 2


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A run of three small tensors, which fit no model: reading them is all that can go well."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "configuration.json").write_text(json.dumps(SMALL))
    state = {f"a.{i}": torch.arange(4.0) + i for i in range(3)}
    torch.save(state | {"n": torch.tensor(3)}, folder / "model.pth")
    return folder


def unloadable(folder: Path, data: bytes) -> None:
    with changed(folder / "model.pth", data), bounded(), pytest.raises(UserError) as caught:
        model.load(folder)
    assert "\n" not in str(caught.value)


@given(changes=bytes_changed)
@examples(60)
def test_weights(changes, weights):
    unloadable(weights, damaged((weights / "model.pth").read_bytes(), changes))


@given(name=st.sampled_from(["data.pkl", "data/0", "version", "byteorder"]), changes=bytes_changed)
@examples(80)
def test_weights_in_an_archive_that_is_whole(name, changes, weights):
    buffer = io.BytesIO()
    with zipfile.ZipFile(weights / "model.pth") as old, zipfile.ZipFile(buffer, "w") as new:
        for part in old.namelist():
            data = old.read(part)
            new.writestr(part, damaged(data, changes) if part.endswith(name) else data)
    unloadable(weights, buffer.getvalue())


VECTORS = {f"Sess01_script01_F{i:03d}.txt": np.full(4, i, np.float32) for i in range(3)}


@given(protocol=st.sampled_from([3, 4]), changes=bytes_changed)
@examples(300)
def test_a_file_of_vectors(protocol, changes, tmp_path_factory):
    buffer = io.BytesIO()
    array = np.array(VECTORS, dtype=object)
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(damaged(buffer.getvalue() + pickle.dumps(array, protocol), changes))
    found = answers(vectors_2022.read_vectors, path)
    assert found is None or all(vector.dtype == np.float32 for vector in found.values())


# --- what a report is made from ------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("scored") / "run", predictions(30), epochs=2)


@given(rows=rows_changed, data=st.none() | bytes_changed)
@examples(100)
def test_predictions(rows, data, scored):
    path = scored / "predictions.csv"
    table = list(csv.reader(io.StringIO(path.read_text(), "")))
    text = table_damaged(table[:8], rows)
    with changed(path, damaged(text, data) if data else text):
        found = answers(read_predictions, path)
    if found is not None:
        answers(lambda: result.summarise(found, "drop", None, 1, 10))
        answers(lambda: result.summarise(found, "soft", None, 1, 10))


def test_predictions_that_lack_cells_or_have_more_are_refused(scored):
    path = scored / "predictions.csv"
    for data in (path.read_bytes()[:-40], path.read_bytes() + b"x," * 40 + b"\n"):
        with changed(path, data), pytest.raises(UserError, match="needs 28 columns"):
            read_predictions(path)


@given(name=st.sampled_from(["result.json", "configuration.json"]), changes=json_changed)
@examples(80)
def test_the_files_of_a_report(name, changes, scored, hasty):
    path = scored / name
    text = json_damaged(json.loads(path.read_text()), changes).encode("utf-8", "surrogatepass")
    with changed(path, text):
        answers(page.write, scored)


@given(changes=json_changed, data=st.none() | bytes_changed)
@example(changes=[("value", [0.0], Deep(3000), "")], data=None)
@examples(20)
def test_a_log_of_losses(changes, data, scored):
    lines = [json_damaged(log_lines(1)[0], changes).encode(), json.dumps(log_lines(2)[1]).encode()]
    text = b"\n".join(lines)
    with changed(scored / "train_loss.log", damaged(text, data) if data else text):
        answers(page.write, scored)

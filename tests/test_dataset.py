"""Materials: what survives damage, what windows hold, what may be learnt."""

import contextlib
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from doubles.prepared import INPUTS, SETTINGS, SIZE, written
from doubles.settings import settings_with

import constants
import dataset
import utils
from corpora.preparation import corpus, tables
from features.store import resident
from media import listening
from utils import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """12 utterances; a silent one, two without words, one quarantined, one of 10.5 s, one of 13."""
    folder = tmp_path_factory.mktemp("made") / "corpus"
    utils.leaf("corpora", "sample").write(folder, **SIZE, progress=lambda **_: quiet())
    wavs = sorted(folder.glob("wav/*/*/*.wav"))
    wavs[0].write_bytes(b"")
    for wav, seconds in ((wavs[2], 10.5), (wavs[6], 13)):
        noise = np.random.default_rng(round(10 * seconds)).standard_normal(round(16_000 * seconds))
        soundfile.write(wav, noise / 20, 16_000, "PCM_16")
    return folder


@contextlib.contextmanager
def quiet():
    yield SimpleNamespace(update=lambda: None)


@pytest.fixture
def place(made, tmp_path):
    """A folder to work in, with the corpus in it."""
    shutil.copytree(made, tmp_path / "corpus")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def material(**changes) -> dataset.Material:
    return dataset.open_material(settings_with(**SETTINGS | changes), INPUTS)


# --- tables --------------------------------------------------------------------------------------


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]


DAMAGE = {"truncated": half, "flipped": flipped, "emptied": lambda data: b"", "deleted": None}
MARKS = {
    "cut": half,
    "emptied": lambda data: b"",
    "a list": lambda data: b"[]",
    "null": lambda data: b"null",
    "binary": lambda data: bytes(range(256)),
    "deep": lambda data: b"[" * 100_000,
    "tables in a list": lambda data: data.replace(b"{\n    ", b'["').replace(b"\n  }", b"]"),
    "no tables": lambda data: json.dumps({**json.loads(data), "tables": None}).encode(),
    "fewer tables": lambda data: json.dumps({**json.loads(data), "tables": {}}).encode(),
    "a table elsewhere": lambda data: data.replace(b"quarantine.csv", b"../\\u0000.csv"),
    "a number": lambda data: json.dumps(
        {**json.loads(data), "tables": dict.fromkeys(tables.TABLES, 3)}
    ).encode(),
}


@pytest.fixture
def mends(place, caplog):
    """`mends(name, change)`: a prepared file is damaged, that is said, and all is as it was."""
    before = corpus.open_corpus("corpus", max_bad=0.5)
    files = written(place)

    def check(name: str, change) -> str:
        """The line that is said."""
        path = before.prepared / name
        path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
        with caplog.at_level(logging.WARNING):
            again = corpus.open_corpus("corpus", max_bad=0.5)
        [line] = [r.getMessage() for r in caplog.records]
        assert str(path.parent) in line and line.endswith("; prepared again") and "\n" not in line
        assert again.utterances.equals(before.utterances)
        assert again.troubles.equals(before.troubles)
        assert written(place) == files
        return line

    return check


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", tables.TABLES)
def test_a_damaged_table_is_named_and_prepared_again(name, damage, mends):
    assert f"/{name}" in mends(name, DAMAGE[damage])


@pytest.mark.parametrize("damage", MARKS)
def test_a_damaged_fingerprint_is_named_and_the_corpus_prepared_again(damage, mends):
    mends("fingerprint.json", MARKS[damage])


def test_a_table_changed_by_hand_is_not_taken_for_the_corpus(mends):
    mends("annotation.csv", lambda data: data.replace(b"angry", b"happy", 1))


def test_what_is_prepared_is_neither_heard_nor_written_nor_locked_again(place, monkeypatch):
    before = material()
    stamps = {p: p.stat().st_mtime_ns for p in place.glob("data/**/*")}
    monkeypatch.setattr(listening, "listen", lambda path: pytest.fail("listened"))
    monkeypatch.setattr(corpus, "lock", lambda *_: pytest.fail("locked"))
    monkeypatch.setattr(utils, "lock", lambda *_: pytest.fail("locked"))
    assert material().utterances.equals(before.utterances)
    assert {p: p.stat().st_mtime_ns for p in place.glob("data/**/*")} == stamps


def test_tables_of_an_older_program_are_prepared_again_without_complaint(
    place, monkeypatch, caplog
):
    monkeypatch.setattr(corpus, "VERSION", corpus.VERSION - 1)
    corpus.open_corpus("corpus", max_bad=0.5)
    monkeypatch.undo()
    with contextlib.chdir(place):
        again = corpus.open_corpus("corpus", max_bad=0.5)
    assert caplog.records == []
    assert utils.read_json(again.prepared / "fingerprint.json")["fingerprint"] == again.fingerprint


# --- sounds --------------------------------------------------------------------------------------


def riff(rate: int, samples: bytes) -> bytes:
    """A wave file of one channel and 16 bits, field by field."""
    numbers = [(1, 2), (1, 2), (rate, 4), (2 * rate % 2**32, 4), (2, 2), (16, 2)]
    form = b"".join(number.to_bytes(size, "little") for number, size in numbers)
    body = b"WAVEfmt \x10\0\0\0" + form + b"data" + len(samples).to_bytes(4, "little") + samples
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("rate", "bad"),
    [
        (1, "not audio: 1 Hz"),
        (1999, "not audio: 1999 Hz"),
        (2000, ""),
        (16_000, ""),
        (768_000, ""),
        (768_001, "not audio: 768001 Hz"),
        (2**31 - 1, f"not audio: {2**31 - 1} Hz"),
    ],
)
def test_a_rate_that_no_recorder_has_is_no_sound(tmp_path, rate, bad):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(rate, b"\1\2" * 1000))
    heard = listening.listen(path)
    assert heard.bad == bad
    assert heard.duration == pytest.approx(1000 / rate, nan_ok=True) or bad


def test_a_sound_that_claims_more_than_memory_holds_is_no_sound(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(4000), 16_000, format="FLAC")
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # the upper bits of the number of samples: 2**36 of them
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)
    heard = listening.listen(path)
    assert heard.bad or heard.duration < 1


# --- windows -------------------------------------------------------------------------------------


def equal(one: dict, other: dict) -> bool:
    """Whether two batches are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture
def opened(place) -> dataset.Material:
    return material()


def test_what_a_window_holds_depends_on_its_own_number_and_cuts_alone(opened):
    windows = dataset.Windows(opened, "train", 4)
    assert opened.stores["log_mel"].is_cut[windows.index[windows.index >= 0]].any()
    cut = np.random.default_rng(3).random((len(windows), 4))
    together = windows.batch(np.arange(len(windows)), cut)
    for indices in ([0], [2, 1], [1, 1, 2]):
        alone = windows.batch(np.array(indices), cut[indices])
        assert equal(alone, {name: value[indices] for name, value in together.items()})
    middle = windows.batch(np.arange(len(windows)))
    assert not torch.equal(middle["log_mel"], together["log_mel"])
    assert torch.equal(middle["sentence"], together["sentence"])


def test_a_cut_that_is_none_is_an_error(opened):
    windows = dataset.Windows(opened, "train", 4)
    for cut in (np.ones((1, 4)), -np.ones((1, 4)) / 9, np.full((1, 4), np.nan), np.zeros((1, 3))):
        with pytest.raises(ValueError, match=r"cut needs numbers in \[0, 1\) of shape \(1, 4\)"):
            windows.batch(np.array([0]), cut)


@pytest.mark.parametrize("chunk", [1, 10**9])
def test_batches_of_a_device_are_those_of_the_cache(opened, monkeypatch, chunk):
    monkeypatch.setattr(resident, "CHUNK", chunk)
    rows = opened.utterances
    kinds = [
        rows["quarantine"] != "",
        rows["silent"],
        rows["text"] == "",
        opened.stores["log_mel"].is_cut,
    ]
    assert [int(np.sum(kind)) for kind in kinds] == [1, 1, 2, 2]
    draw, seen = np.random.default_rng(4), set()
    for name in ("train", "val", "test"):
        host, kept = (dataset.Windows(opened, name, 3) for _ in range(2))
        assert kept.keep_on(CPU, room=10**9)
        order = draw.permutation(len(host))
        for cut in (None, draw.random((len(host), 3)), draw.random((len(host), 3))):
            assert equal(kept.batch(order, cut), host.batch(order, cut))
        assert equal(kept[0], host[0])
        seen |= set(host.index.ravel())
    assert seen == {-1, *range(len(rows))}  # padding, and rows of every kind


def test_windows_of_one_material_share_what_a_device_holds(opened, monkeypatch):
    train, test = (dataset.Windows(opened, name, 2) for name in ("train", "test"))
    assert train.keep_on(CPU, room=10**9)
    monkeypatch.setattr(dataset.Resident, "__init__", lambda *_: pytest.fail("held twice"))
    assert test.resident is None  # it did not ask
    assert test.keep_on(CPU, room=0)
    assert test.resident is train.resident


def test_on_a_device_nothing_is_read_from_the_cache_but_what_is_cut(opened, monkeypatch):
    windows = dataset.Windows(opened, "train", 4)
    windows.keep_on(CPU, room=10**9)
    gathered = []
    real = type(opened.stores["log_mel"]).gather
    monkeypatch.setattr(
        type(opened.stores["log_mel"]),
        "gather",
        lambda self, rows, cut: gathered.append(rows) or real(self, rows, cut),
    )
    every = np.arange(len(windows))
    windows.batch(every)
    assert gathered == []
    windows.batch(every, np.zeros((len(windows), 4)))
    assert opened.stores["log_mel"].is_cut[np.concatenate(gathered)].all()


def test_what_does_not_fit_stays_where_it_is(opened):
    windows = dataset.Windows(opened, "train", 2)
    blocks = 4 * (229 * 313 + 32) * (len(opened.utterances) + 1)
    assert not windows.keep_on(CPU, room=blocks - 1)
    assert not windows.keep_on(CPU)  # the cache is there anyway
    assert windows.resident is None and opened.resident == {}
    assert windows.keep_on(CPU, room=blocks)


def test_on_a_gpu_half_of_what_is_free_may_be_taken(opened, monkeypatch):
    windows, asked = dataset.Windows(opened, "train", 2), []
    blocks = dataset.Resident.size(opened.stores)
    for free, fits in ((2 * blocks - 2, False), (2 * blocks, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        monkeypatch.setattr(dataset, "Resident", Held)
        Held.asked = asked
        assert windows.keep_on(torch.device("cuda", 0)) is fits
    assert asked == [torch.device("cuda", 0)]


class Held(dataset.Resident):
    """Notes the device it is asked for, where there is none."""

    def __init__(self, stores, truth, device):
        self.asked.append(device)


# --- what may be learnt, and from whom -----------------------------------------------------------


def test_a_hard_target_is_the_label_written_first(place):
    soft, hard = material(target="votes"), material(target="hard")
    windows = dataset.Windows(hard, "train", 2)
    batch = windows.batch(np.arange(len(windows)))
    first = hard.utterances["emotion"].str.split(";").str[0].iloc[windows.rows]
    assert [constants.EMOTIONS[i] for i in batch["emotion"].argmax(1)] == first.tolist()
    assert (batch["emotion"].sum(1) == 1).all() and ((batch["emotion"] % 1) == 0).all()
    other = dataset.Windows(soft, "train", 2).batch(np.arange(len(windows)))
    assert not torch.equal(other["emotion"], batch["emotion"])
    assert torch.equal(other["arousal"], batch["arousal"])


def test_sessions_that_are_left_out_are_in_no_set(place):
    found = material(test_split=(3,), val_split=(), leave_out=(2,))
    assert found.sets == ((1,), (), (3,))
    assert set(found.utterances["session"]) == {1, 3}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"leave_out": (9,)}, r"--leave_out names sessions \[9\] that do not exist"),
        ({"leave_out": (3,)}, r"sessions \[3\] are in --leave_out and in --test_split"),
        ({"leave_out": (1,)}, "leaves no session to train on"),
    ],
)
def test_sessions_that_cannot_be_left_out_are_named(place, changes, said):
    with pytest.raises(UserError, match=said):
        material(**changes)

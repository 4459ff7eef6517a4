"""What is extracted and kept of features, and what survives a kill, a full disk, a flipped bit."""

import errno
import json
import logging
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import filelock
import numpy as np
import pytest
import soundfile
from doubles.counting import contents, counting, several, table
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import utils
from features.store import cache, contract, extraction
from features.store.store import Store


@pytest.fixture
def calls(monkeypatch) -> list:
    """The sources that were extracted, by the leaf that takes the place of every feature."""
    calls: list = []
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting(calls))
    return calls


ROOT = Path(__file__).resolve().parents[2]
SETTINGS = SimpleNamespace(sr=16_000, factor=1.0)


def extract(utterances, tmp_path, **more) -> Store:
    options = {"progress": False, "settings": SETTINGS, **more}
    return extraction.extract("bytes", utterances, tmp_path / "corpus", tmp_path, **options)


def names(calls: list) -> list[str]:
    return [source.name for source in calls]


# --- what is extracted --------------------------------------------------------------------------


def test_each_row_gets_the_array_of_its_own_file(tmp_path, calls):
    held = several()
    store = extract(table(tmp_path / "corpus", held), tmp_path)
    assert contents(store) == held
    assert store.available.all() and store.available.dtype == bool and store.troubles == []
    assert store.array(3).dtype == np.float16 and store.array(3).shape == (1, len(held[3]))


def test_equal_content_is_extracted_once(tmp_path, calls):
    store = extract(table(tmp_path / "corpus", [b"aa", b"bb", b"aa", b"aa"]), tmp_path)
    assert sorted(names(calls)) == ["0.wav", "1.wav"]
    assert contents(store) == [b"aa", b"bb", b"aa", b"aa"]


def test_what_is_there_is_not_extracted_again(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several())
    before = contents(extract(utterances, tmp_path))
    calls.clear()
    assert contents(extract(utterances, tmp_path)) == before
    assert calls == []


def test_the_other_role_shares_the_cache(tmp_path, calls):
    speaker = table(tmp_path / "corpus", several(6))
    listener = table(tmp_path / "corpus", several(8)).assign(role="listener")
    first = extract(speaker, tmp_path)
    calls.clear()
    second = extract(listener, tmp_path)
    assert sorted(names(calls)) == ["6.wav", "7.wav"]
    assert contents(second) == several(8) and second.folder == first.folder
    assert contents(first) == several(6)  # a store opened before goes on reading


def test_a_changed_wav_is_noticed(tmp_path, calls):
    extract(table(tmp_path / "corpus", [b"one", b"two", b"six"]), tmp_path)
    calls.clear()
    store = extract(table(tmp_path / "corpus", [b"one", b"ten", b"six"]), tmp_path)
    assert names(calls) == ["1.wav"]
    assert contents(store) == [b"one", b"ten", b"six"]


def test_other_parameters_have_another_folder(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several())
    one = extract(utterances, tmp_path)
    two = extract(utterances, tmp_path, settings=SimpleNamespace(factor=2.0))
    assert one.folder != two.folder
    np.testing.assert_array_equal(two.array(2), 2 * one.array(2))
    assert json.loads((two.folder / "parameters.json").read_text())["parameters"] == {"factor": 2}


@pytest.mark.parametrize("change", [{"VERSION": 2}, {"DTYPE": "float32"}])
def test_another_version_or_dtype_has_another_folder(tmp_path, monkeypatch, change):
    utterances = table(tmp_path / "corpus", several())
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([]))
    one = extract(utterances, tmp_path)
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([], **change))
    assert extract(utterances, tmp_path).folder != one.folder


def test_the_number_of_workers_does_not_change_a_byte(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several(60))
    files = {}
    for workers in (1, 4):
        (tmp_path / str(workers)).mkdir()
        store = extraction.extract(
            "bytes",
            utterances,
            tmp_path / "corpus",
            tmp_path / str(workers),
            SETTINGS,
            workers,
            progress=False,
        )
        files[workers] = [(store.folder / f).read_bytes() for f in ("data.bin", "index.jsonl")]
    assert files[1] == files[4]


def test_a_leaf_may_take_many_sources_at_once(tmp_path, monkeypatch):
    sizes = []

    class Extractor(contract.Extractor):
        def __init__(self, parameters):
            pass

        TOGETHER = True

        def many(self, sources):
            sizes.append(len(sources))
            return [
                utils.Unusable("a seven") if s == "line 7" else np.array([int(s[5:])])
                for s in sources
            ]

    leaf = counting([], SOURCE="text", Extractor=Extractor, DTYPE="int32")
    monkeypatch.setattr(utils, "leaf", lambda folder, name: leaf)
    store = extract(table(tmp_path / "corpus", [b""] * 510), tmp_path)
    arrays = [store.array(i) for i in range(9)]
    assert [None if array is None else int(array[0]) for array in arrays] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        None,
        8,
    ]
    assert store.troubles == [("Sess01_F007", "a seven")]
    assert sizes == [256, 254]


# --- what is masked -----------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"quarantine": "empty wav"}, {"wav": ""}, {"silent": True}])
def test_a_row_without_sound_is_masked(tmp_path, calls, change):
    utterances = table(tmp_path / "corpus", several(3))
    for column, value in change.items():
        utterances.loc[1, column] = value
    store = extract(utterances, tmp_path)
    assert store.available.tolist() == [True, False, True]
    assert sorted(names(calls)) == ["0.wav", "2.wav"]
    assert store.array(1) is None and store.troubles == []


def test_a_row_without_text_is_masked_and_equal_texts_are_one(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting(calls, SOURCE="text"))
    utterances = table(tmp_path / "corpus", several(4)).assign(text=["yes", "", "no", "yes"])
    store = extract(utterances, tmp_path)
    assert contents(store) == [b"yes", None, b"no", b"yes"]
    assert sorted(calls) == ["no", "yes"]


def test_an_unusable_source_is_masked_named_and_not_tried_again(tmp_path, calls):
    utterances = table(tmp_path / "corpus", [b"good", b"bad one", b"fine"])
    store = extract(utterances, tmp_path)
    assert store.available.tolist() == [True, False, True]
    assert store.troubles == [("Sess01_F001", "begins with bad")]
    calls.clear()
    again = extract(utterances, tmp_path)
    assert calls == [] and again.troubles == store.troubles
    assert again.available.tolist() == [True, False, True]
    assert not again.gather(np.array([1])).any()


def test_numbers_that_are_not_finite_are_masked_not_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([]))
    utterances = table(tmp_path / "corpus", [b"a", b"b"])
    store = extract(utterances, tmp_path, settings=SimpleNamespace(factor=1e9))  # over float16
    assert not store.available.any()
    assert store.troubles == [("Sess01_F000", "not finite"), ("Sess01_F001", "not finite")]


def test_no_rows_are_no_error(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several(2)).iloc[:0]
    store = extract(utterances, tmp_path)
    assert len(store) == 0 and store.gather(np.zeros((0, 8), int)).shape == (0, 8, 3)


# --- gathering ----------------------------------------------------------------------------------


def test_rows_of_any_shape_are_gathered_with_zeros_for_padding(tmp_path, calls):
    held = several(5)
    store = extract(table(tmp_path / "corpus", held), tmp_path)
    rows = np.array([[-1, 0, 3], [3, 3, 4]])
    expected = [
        [[0, 0, 0] if r < 0 else [len(held[r]), sum(held[r]), max(held[r])] for r in line]
        for line in rows
    ]
    got = store.gather(rows)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array(expected, np.float32))
    out = np.full((2, 3, 3), np.nan, np.float32)
    assert store.gather(rows, out=out) is out
    np.testing.assert_array_equal(out, got)
    np.testing.assert_array_equal(store.gather(np.int64(4)), expected[1][2])


@pytest.mark.parametrize("longer", [None, lambda shape, parameters: shape[1] > 20])
def test_a_feature_is_told_where_to_cut_and_says_what_is_cut(tmp_path, monkeypatch, longer):
    told = []

    def gather(arrays, stats, parameters, cut, out):
        told.append(cut if cut is None else cut.tolist())

    more = {} if longer is None else {"is_cut": longer}
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([], gather=gather, **more))
    held = several(6) + [b"bad one"]
    store = extract(table(tmp_path / "corpus", held), tmp_path)
    assert store.is_cut.tolist() == [bool(longer) and len(content) > 20 for content in held]
    again = extract(table(tmp_path / "corpus", held), tmp_path)  # as read from the index
    assert again.is_cut.tolist() == store.is_cut.tolist() and again.is_cut.dtype == bool
    store.gather(np.array([[-1, 0], [1, 2]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    store.gather(np.array([[-1, 0], [1, 2]]))
    assert told == [[0.1, 0.2, 0.3, 0.4], None]


def test_a_row_that_does_not_exist_is_an_error(tmp_path, calls):
    store = extract(table(tmp_path / "corpus", several(5)), tmp_path)
    with pytest.raises(IndexError):
        store.gather(np.array([5]))


# --- interruption -------------------------------------------------------------------------------


def cut(path: Path, size: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(size)


@examples(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.floats(0, 1), index=st.floats(0, 1), rest=st.binary(max_size=30), mark=st.booleans())
def test_extraction_goes_on_from_any_cut(tmp_path, calls, data, index, rest, mark):
    held = several()
    utterances = table(tmp_path / "corpus", held)
    store = extract(utterances, tmp_path)
    shutil.rmtree(store.folder)
    whole = extract(utterances, tmp_path)
    files = [whole.folder / "data.bin", whole.folder / "index.jsonl"]
    bytes_before = [file.read_bytes() for file in files]
    for file, part in zip(files, (data, index), strict=True):
        cut(file, round(part * file.stat().st_size))
    with files[1].open("ab") as file:
        file.write(rest)  # of a line that was being written, or of nothing
    if not mark:
        (whole.folder / "complete.json").unlink()
    calls.clear()
    again = extract(utterances, tmp_path)
    assert contents(again) == held
    assert [file.read_bytes() for file in files] == bytes_before
    assert len(calls) <= len(held)
    if data == index == 1:
        assert calls == []


def test_only_what_was_lost_is_extracted_again(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several())
    store = extract(utterances, tmp_path)
    lines = (store.folder / "index.jsonl").read_bytes().splitlines(keepends=True)
    (store.folder / "index.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:-1])
    calls.clear()
    extract(utterances, tmp_path)
    assert sorted(names(calls)) == sorted(f"{i}.wav" for i in range(7, 12))


SLOW = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path[:0] = [{root!r}, {tests!r}]
import utils
from features.store import cache, extraction
from doubles.counting import counting, table, several

def log(line):
    with open(work / "calls", "a") as file:
        file.write(line + "\\n")

class Calls(list):
    def append(self, source):
        time.sleep({pause})
        log(source.name)

work = Path({work!r})
utils.leaf = lambda folder, name: counting(Calls())
cache.FLUSH = 1, 0.0
utterances = table(work / "corpus", several({rows}))
(work / {ready!r}).touch()
extraction.extract("bytes", utterances, work / "corpus", work,
                   SimpleNamespace(factor=1.0), 2, False)
"""


def start(work: Path, pause: float, rows: int, ready: str = "ready") -> subprocess.Popen:
    """Another process that extracts, `pause` seconds a row, and logs each row in work/calls."""
    code = SLOW.format(
        root=str(ROOT),
        tests=str(ROOT / "tests"),
        work=str(work),
        pause=pause,
        rows=rows,
        ready=ready,
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_a_killed_extraction_goes_on_where_it_stopped(tmp_path, calls):
    process = start(tmp_path, 0.02, 100)
    log = tmp_path / "calls"
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 20)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    utterances = table(tmp_path / "corpus", several(100))
    store = extract(utterances, tmp_path)  # and the lock of the dead process is free
    assert contents(store) == several(100)
    assert 0 < len(calls) <= 100 - 10
    killed = [(store.folder / f).read_bytes() for f in ("data.bin", "index.jsonl")]
    shutil.rmtree(store.folder)
    store = extract(utterances, tmp_path)
    assert [(store.folder / f).read_bytes() for f in ("data.bin", "index.jsonl")] == killed


def test_two_processes_share_the_work_of_one(tmp_path, calls):
    table(tmp_path / "corpus", several(40))
    processes = [start(tmp_path, 0.01, 40, f"ready{i}") for i in range(2)]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sorted((tmp_path / "calls").read_text().split()) == sorted(f"{i}.wav" for i in range(40))
    assert contents(extract(table(tmp_path / "corpus", several(40)), tmp_path)) == several(40)
    assert calls == []


def test_waiting_for_another_process_is_said(tmp_path, calls, caplog, monkeypatch):
    utterances = table(tmp_path / "corpus", several())
    store = extract(utterances, tmp_path)
    (store.folder / "complete.json").unlink()
    real = filelock.FileLock.acquire

    def busy_once(self, timeout=None, **options):
        if timeout == 0:
            raise filelock.Timeout(self.lock_file)
        return real(self, **options)

    monkeypatch.setattr(filelock.FileLock, "acquire", busy_once)
    with caplog.at_level(logging.WARNING):
        extract(utterances, tmp_path)
    assert f"another process is extracting into {store.folder}; waiting for it" in caplog.text


def test_a_finished_cache_is_read_without_a_lock_or_a_write(tmp_path, calls, monkeypatch):
    utterances = table(tmp_path / "corpus", several())
    store = extract(utterances, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in store.folder.iterdir()}
    monkeypatch.setattr(filelock, "FileLock", lambda path: pytest.fail("took the lock"))
    assert contents(extract(utterances, tmp_path)) == several()
    assert {p: p.stat().st_mtime_ns for p in store.folder.iterdir()} == before


# --- damage -------------------------------------------------------------------------------------


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_is_found_named_and_extracted_again(tmp_path, calls, caplog):
    utterances = table(tmp_path / "corpus", several())
    store = extract(utterances, tmp_path)
    flip(store.folder / "data.bin", store.entries[4].offset + 3)
    calls.clear()
    with caplog.at_level(logging.WARNING):
        again = extract(utterances, tmp_path)
    assert names(calls) == ["4.wav"] and contents(again) == several()
    assert ": damaged: Sess01_F004; extracting 1 again\n" in caplog.text
    calls.clear()
    assert contents(extract(utterances, tmp_path)) == several() and calls == []


def test_a_changed_statistic_in_the_index_is_found(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several())
    store = extract(utterances, tmp_path)
    index = store.folder / "index.jsonl"
    index.write_text(index.read_text().replace('"stats": [5.0]', '"stats": [6.0]'))
    calls.clear()
    again = extract(utterances, tmp_path)
    assert names(calls) == ["4.wav"] and again.entries[4].stats == [5.0]


@examples(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.floats(0, 0.9999), name=st.sampled_from(["data.bin", "index.jsonl"]))
def test_no_single_flipped_bit_is_ever_read(tmp_path, calls, position, name):
    utterances = table(tmp_path / "corpus", several())
    path = extract(utterances, tmp_path).folder / name
    flip(path, int(position * path.stat().st_size))
    store = extract(utterances, tmp_path)
    assert contents(store) == several()
    assert [e.stats for e in store.entries] == [[float(i + 1)] for i in range(12)]


FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 100))  # more: 3000 take two minutes
NONSENSE = [  # in place of a value of an index line
    -1,
    0,
    1,
    1.5,
    7.0,
    10**30,
    -(10**30),
    2**63,
    True,
    None,
    "",
    "x",
    "\ud800",
    [],
    {},
    {"a": 1},
    [0],
    [-1],
    [1.5],
    [True],
    [None],
    ["1"],
    [[1]],
    [10**12] * 9,
    math.nan,
    math.inf,
    [math.nan],
]
LINES = [  # in place of an index line
    b"",
    b"\n",
    b"\r",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b"5\n",
    b'"key"\n',
    b"NaN\n",
    b"{\n",
    b"\xff\n",
    b"[" * 100_000 + b"\n",
    b'{"key":' * 100_000 + b"\n",
    b"9" * 5000 + b"\n",
    b"\0" * 200,
    b'{"key": "a", "offset": 0, "shape": [1], "crc32": 0, "stats": [], "unusable": ""}\n',
    b'{"key": "a", "offset": 0, "shape": [], "crc32": 0, "stats": [], "unusable": "x"}\n',
]


@st.composite
def damages(draw) -> tuple[str, tuple]:
    """A file of a cache and what happens to it: see `damaged`."""
    name = draw(st.sampled_from(["data.bin", "index.jsonl", "complete.json", "parameters.json"]))
    kinds = {
        "cut": st.none(),
        "flip": st.integers(1, 255),
        "all": st.sampled_from(LINES),
        "insert": st.binary(min_size=1, max_size=40),
    }
    if name == "index.jsonl":
        field = st.sampled_from(["key", "offset", "shape", "crc32", "stats", "unusable", "more"])
        kinds |= {
            "field": st.tuples(field, st.sampled_from(NONSENSE)),
            "again": st.none(),
            "line": st.sampled_from(LINES),
            "swap": field,
            "without": field,
        }
    kind = draw(st.sampled_from(sorted(kinds)))
    return name, (kind, draw(st.floats(0, 0.9999)), draw(kinds[kind]))


def damaged(data: bytes, kind: str, where: float, value) -> bytes:
    at, lines = int(where * len(data)), data.splitlines(keepends=True)
    line = int(where * len(lines))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]
    if kind == "insert":
        return data[:at] + value + data[at:]
    if kind == "all":
        return value
    if kind != "line":
        value = json.dumps(changed(kind, lines[line], lines[line - 1], value)).encode() + b"\n"
    return b"".join([*lines[:line], value, *lines[line + (kind != "again") :]])


def changed(kind: str, line: bytes, other: bytes, value) -> dict:
    """The object of an index line, spoilt."""
    entry = json.loads(line)
    if kind == "field":
        entry |= dict([value])
    elif kind == "swap":
        entry[value] = json.loads(other).get(value)
    elif kind == "without":
        entry.pop(value, None)
    return entry


def same(name: str, one: bytes, other: bytes) -> bool:
    """Whether two contents of a file say the same; a tab for a space in an index is no damage."""
    if one == other or name != "index.jsonl" or len(one) != len(other):
        return one == other
    try:
        lines = [[json.loads(line) for line in data.splitlines()] for data in (one, other)]
    except (ValueError, RecursionError):
        return False
    return lines[0] == lines[1]


def test_a_cache_damaged_in_any_way_is_named_mended_and_read_as_before(tmp_path, calls, caplog):
    utterances = table(tmp_path / "corpus", several())
    store = extract(utterances, tmp_path)
    pristine = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    rows = np.arange(-1, 12)
    blocks, seen = store.gather(rows), []

    @examples(max_examples=FUZZ_EXAMPLES, deadline=10_000, derandomize=True, database=None)
    @given(st.lists(damages(), min_size=1, max_size=3))
    @example([("index.jsonl", ("line", 0.5, b"[" * 100_000 + b"\n"))])
    @example([("complete.json", ("all", 0, b"[" * 100_000 + b"\n"))])
    def check(changes):
        for name, data in pristine.items():
            (store.folder / name).write_bytes(data)
        for name, change in dict(changes).items():
            (store.folder / name).write_bytes(damaged(pristine[name], *change))
        wrong = {
            n for n, data in pristine.items() if not same(n, (store.folder / n).read_bytes(), data)
        }
        caplog.clear()
        again = extract(utterances, tmp_path)
        assert contents(again) == several()
        assert again.gather(rows).tobytes() == blocks.tobytes()
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == bool(wrong), (said, wrong)
        assert all("\n" not in line for line in said)
        if len(wrong) == 1:
            assert any(word in said[0] for word in (*wrong, "Sess01_F", "1 of other")), said
        calls.clear()
        caplog.clear()
        third = extract(utterances, tmp_path)
        assert contents(third) == several() and calls == [] and not caplog.records
        seen.append(frozenset(wrong))

    check()
    assert len(set(seen)) > 8, "too tame"


def test_a_line_spoilt_in_the_middle_is_damage_with_or_without_a_mark(tmp_path, calls, caplog):
    utterances = table(tmp_path / "corpus", several())
    folder = extract(utterances, tmp_path).folder
    (folder / "complete.json").unlink()
    lines = (folder / "index.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "index.jsonl").write_bytes(b"".join([*lines[:5], b"\n", *lines[6:]]))
    calls.clear()
    assert contents(extract(utterances, tmp_path)) == several()
    assert names(calls) == ["5.wav"]
    assert caplog.messages == [f"{folder}: damaged: index.jsonl; extracting 1 again"]


def test_an_interruption_is_no_damage(tmp_path, monkeypatch, caplog):
    class Interrupted(list):
        def append(self, source):
            if source.name == "8.wav":
                raise KeyboardInterrupt

    monkeypatch.setattr(cache, "FLUSH", (1, 0.0))
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting(Interrupted()))
    table(tmp_path / "corpus", several())
    extract(table(tmp_path / "corpus", several(6)), tmp_path)  # whole, and then there are more
    with pytest.raises(KeyboardInterrupt):
        extract(table(tmp_path / "corpus", several()), tmp_path, workers=1)
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([]))
    store = extract(table(tmp_path / "corpus", several()), tmp_path)
    assert contents(store) == several()
    assert caplog.messages == []


def test_a_cache_that_cannot_be_read_is_one_line(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several())
    folder = extract(utterances, tmp_path).folder
    for name in ("data.bin", "index.jsonl", "complete.json", "parameters.json"):
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).mkdir()
        with pytest.raises(utils.UserError, match=rf"^cannot \w+ {folder}.*: Is a directory$"):
            extract(utterances, tmp_path)
        (folder / name).rmdir()
        (folder / name).write_bytes(data)
    assert contents(extract(utterances, tmp_path)) == several()


def test_a_full_disk_is_one_line_and_leaves_nothing_false(tmp_path, calls, monkeypatch):
    utterances = table(tmp_path / "corpus", several())
    real, written = os.fsync, []

    def full(handle):
        written.append(handle)
        if len(written) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(cache, "FLUSH", (1, 0.0))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(utils.UserError, match=r"^cannot write .*: No space left on device$"):
        extract(utterances, tmp_path)
    monkeypatch.setattr(os, "fsync", real)
    calls.clear()
    assert contents(extract(utterances, tmp_path)) == several()
    assert 0 < len(calls) < 12


def test_a_leaf_that_fails_at_once_leaves_no_files(tmp_path, monkeypatch):
    class Extractor(contract.Extractor):
        def __init__(self, parameters):
            raise utils.UserError("no encoder")

    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([], Extractor=Extractor))
    with pytest.raises(utils.UserError, match="no encoder"):
        extract(table(tmp_path / "corpus", several(3)), tmp_path)
    assert [p.name for p in tmp_path.glob("features/*/*") if p.name != "lock"] == []


def test_memory_stays_flat_however_much_is_extracted(tmp_path, monkeypatch):
    class Extractor(contract.Extractor):
        def __init__(self, parameters):
            pass

        def __call__(self, source, rows):
            return [np.zeros(500_000, np.float16)]  # 1 MB

    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([], Extractor=Extractor))
    monkeypatch.setattr(cache, "FLUSH", (8 << 20, 60.0))
    utterances = table(tmp_path / "corpus", [str(i).encode() for i in range(200)])
    tracemalloc.start()
    store = extract(utterances, tmp_path, workers=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.available.sum() == 200
    assert (store.folder / "data.bin").stat().st_size == 200_000_000
    assert peak < 60e6  # what waits, joined once for writing, and what is in flight


# --- together with a real leaf ------------------------------------------------------------------


def test_log_mel_of_wavs_on_disk_comes_back_standardised(tmp_path):
    rng = np.random.default_rng(0)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    waves = [rng.standard_normal(n) / 10 for n in (4000, 60_000, 200_000)]
    for i, wave in enumerate(waves):
        soundfile.write(corpus / f"{i}.wav", wave, 16_000)
    files = [(corpus / f"{i}.wav").read_bytes() for i in range(3)]
    store = extraction.extract(
        "log_mel", table(corpus, files), corpus, tmp_path, SETTINGS, progress=False
    )
    blocks = store.gather(np.array([0, 1, 2, -1]))
    assert blocks.shape == (4, 229, 313) and store.shape == (229, 313)
    np.testing.assert_allclose(blocks[:3].mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(blocks[:3].std((1, 2)), 1, atol=1e-4)
    assert not blocks[3].any()
    elsewhere = pickle.loads(pickle.dumps(store))  # as a DataLoader's worker gets it
    assert elsewhere.gather(np.array([0, 1, 2, -1])).tobytes() == blocks.tobytes()
    assert len(pickle.dumps(store)) < 10_000


# --- rows of different lengths ------------------------------------------------------------------


def ragged_gather(arrays, stats, parameters, cut, out):
    for array, block in zip(arrays, out, strict=True):
        if array is not None:
            block[: len(array)] = array[: len(block)]


@pytest.fixture
def ragged(monkeypatch, tmp_path):
    """A store of bytes as steps in time, (T, 1); the third file is bad."""
    held = several(5)
    held[2] = b"bad"

    def open_store(**more) -> Store:
        leaf = counting([], shape=lambda parameters: (None, 1), gather=ragged_gather, **more)

        class Turned(leaf.Extractor):
            def __call__(self, source, rows):
                return [array.T for array in super().__call__(source, rows)]

        leaf.Extractor = Turned
        monkeypatch.setattr(utils, "leaf", lambda folder, name: leaf)
        return extract(table(tmp_path / "corpus", held), tmp_path)

    return held, open_store


def test_ragged_rows_are_padded_to_the_longest_of_a_batch_and_masked(ragged):
    held, open_store = ragged
    store = open_store()
    rows = np.array([[0, 2], [-1, 1]])
    block, mask = store.gather(rows), store.mask(rows)
    longest = max(len(held[0]), len(held[1]))
    assert block.shape == (2, 2, longest, 1) and mask.shape == (2, 2, longest)
    assert block.dtype == np.float32
    for place in np.ndindex(2, 2):
        content = held[rows[place]] if rows[place] in (0, 1) else b""
        assert block[place][mask[place], 0].astype(np.uint8).tobytes() == content
        assert not block[place][~mask[place]].any()
    assert store.lengths.tolist() == [len(c) if c != b"bad" else 0 for c in held]


def test_a_ragged_block_has_at_least_one_step_and_at_most_the_longest_allowed(ragged):
    held, open_store = ragged
    store = open_store(longest=lambda parameters: 7)
    assert store.gather(np.array([1])).shape == (1, 7, 1)
    assert store.lengths.max() == 7
    assert store.gather(np.array([2, -1])).shape == (2, 1, 1)
    assert not store.mask(np.array([2, -1])).any()


def test_ragged_integers_come_out_as_int64(ragged):
    _, open_store = ragged
    assert (
        open_store(DTYPE="int32", stats=lambda array, parameters: []).gather(np.array([0])).dtype
        == np.int64
    )

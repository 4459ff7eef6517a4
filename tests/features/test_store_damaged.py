"""Blocks and files of the store that are damaged: noticed, named, made again."""

import errno
import json
import logging
import math
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from doubles.counting import contents, counting, extract, names, several, table
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import utils
from features.store import cache, contract


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

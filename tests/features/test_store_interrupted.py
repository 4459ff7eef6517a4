"""Extraction that is interrupted goes on where it was."""

import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
from doubles.counting import contents, extract, names, several, table
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]


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

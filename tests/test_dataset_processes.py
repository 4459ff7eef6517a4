"""Several processes prepare one corpus, and none of them is safe."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from doubles.prepared import INPUTS, SETTINGS, SIZE, written

from corpora.preparation import tables

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = """
import os, random, signal, sys, time
sys.path.insert(0, {root!r})
import dataset
from corpora.preparation import audit
from features.store import cache
from training.settings import settings_class
import librosa.filters, sklearn.feature_extraction.text
from corpora import sample

librosa.filters.mel(sr=16000, n_fft=512)  # a second of imports, once for all children
settings = settings_class("mate")(**{settings})  # it imports the model: the same
cache.FLUSH = 1, 0.0
write, hear = sample.Reader.write, audit.audit

def note(what):
    with open("notes", "a") as file:
        file.write(what + "\\n")

def write_noted(folder):
    note("write")
    write(folder, **{size})

def audit_noted(*tables):
    note("audit")
    return hear(*tables)

sample.Reader.write, audit.audit = write_noted, audit_noted

def work():
    dataset.open_material(settings, {inputs})

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_writing():
    sample.Reader.write = die
    work()

def die_listening():
    audit.audit = die
    work()

def begin(place, work):
    "A child that does `work` in a folder, what it says in `said`; -> its process id."
    os.makedirs(place, exist_ok=True)
    child = os.fork()
    if child:
        return child
    os.chdir(place)
    os.dup2(os.open("said", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    try:
        work()
    except BaseException as problem:
        print(repr(problem), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

def status(child):
    return os.waitpid(child, 0)[1]

start = time.monotonic()
assert status(begin("alone", work)) == 0
seconds, draw = time.monotonic() - start, random.Random(5)

together = [begin("together", work) for _ in range(3)]
assert [status(child) for child in together] == [0, 0, 0]

assert status(begin("dead", die_writing)) == signal.SIGKILL
assert os.path.exists("dead/.corpus.lock") and not os.path.exists("dead/corpus/annotation")
assert status(begin("dead", die_listening)) == signal.SIGKILL
assert status(begin("dead", work)) == 0

ends = []
for _ in range(6):
    child = begin("killed", work)
    time.sleep(draw.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    ends.append(status(child))
assert signal.SIGKILL in ends and set(ends) <= {{0, signal.SIGKILL}}, ends
assert status(begin("killed", work)) == 0
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """Folders in which processes prepared the same corpus: alone, together, dying, killed.

    They are forks of one that has imported everything and has no threads yet.
    """
    place = tmp_path_factory.mktemp("processes")
    settings = SETTINGS | {"data": "sample:corpus"}
    code = PROCESSES.format(root=str(ROOT), size=SIZE, settings=settings, inputs=INPUTS)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=place, timeout=240, env=environment
    )
    return place


def whole(place: Path) -> dict[str, bytes]:
    """What was prepared, without what differs from folder to folder: places and times of files."""
    [prepared] = place.glob("data/prepared/*")
    files = {name.split("/", 3)[3]: data for name, data in written(place).items()}
    mark = json.loads(files.pop("fingerprint.json"))
    feature = {"data.bin", "index.jsonl", "parameters.json", "complete.json", "lock"}
    assert Counter(Path(name).name for name in files) == Counter(
        [*tables.TABLES, "lock", *feature, *feature]
    )
    return files | {"sums": json.dumps(mark["tables"]).encode()}


def test_processes_that_prepare_at_once_do_it_once_and_are_told(places):
    assert (places / "together/notes").read_text().split() == ["write", "audit"]
    assert whole(places / "together") == whole(places / "alone")
    said = (places / "together/said").read_text()
    assert "another process is writing corpus; waiting for it (.corpus.lock)" in said


def test_a_process_killed_while_it_holds_a_lock_blocks_nobody(places):
    assert whole(places / "dead") == whole(places / "alone")
    assert "another process" not in (places / "dead/said").read_text()


def test_killed_again_and_again_it_ends_with_the_bytes_of_one_never_killed(places):
    assert whole(places / "killed") == whole(places / "alone")
    assert "damaged" not in (places / "killed/said").read_text()

"""A disk that is full or cannot be written: one line, and nothing that looks whole."""

import errno
import os
import re
import resource
from pathlib import Path

import pytest
from doubles.command_line import TEXT, files

from training import console


@pytest.mark.parametrize("name", ["data", "data/prepared"])
def test_a_file_where_a_folder_should_be_is_refused(name, own_corpus, refused):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("mine\n")
    refused(rf"cannot make the folder .*{name}", *TEXT)
    assert Path(name).read_text() == "mine\n"


@pytest.mark.parametrize("path", ["runs", "runs/of/mine"])
def test_a_save_path_that_is_no_folder_is_known_before_the_corpus_is_read(
    path, own_corpus, refused
):
    Path("runs").write_text("mine\n")
    refused(
        rf"cannot make a folder for runs, --save_path {path}: .*runs is no folder",
        *TEXT,
        "--save_path",
        path,
    )
    assert Path("runs").read_text() == "mine\n"
    assert not list(own_corpus.glob("data/prepared/*"))


def test_a_read_only_save_path_is_known_before_the_corpus_is_read(own_corpus, refused, monkeypatch):
    Path("runs").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "runs")
    refused(r"--save_path runs: .*runs cannot be written", *TEXT, "--save_path", "runs")
    assert not list(own_corpus.glob("data/prepared/*"))


DESTINATIONS = [
    "quarantine.csv",
    "annotation.csv",
    "troubles.csv",
    "fingerprint.json",
    "parameters.json",
    "complete.json",
    "configuration.json",
    "training.csv",
    "model.pth",
    "predictions.csv",
    "result.json",
    "report.html",
]
LATER = {  # what is there only when it and all before it were written
    "fingerprint.json": "data/prepared/*/fingerprint.json",
    "complete.json": "data/prepared/*/features/*/complete.json",
    "configuration.json": "exp/*",
    "result.json": "exp/*/result.json",
}


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_read_only_disk_leaves_nothing_that_looks_whole(
    destination, say, own_corpus, monkeypatch
):
    replace = os.replace

    def refuse(source, target):
        if Path(target).name == destination:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    corpus = files(own_corpus / "corpus")
    code, _, lines = say(*TEXT)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search(rf"^error: cannot write .*{destination}: Read-only file system", lines[0])
    for mark, pattern in LATER.items():
        if DESTINATIONS.index(destination) <= DESTINATIONS.index(mark):
            assert not list(own_corpus.glob(pattern)), f"{mark} says that something is whole"
    assert not list(own_corpus.rglob("*.tmp"))
    assert files(own_corpus / "corpus") == corpus
    monkeypatch.undo()
    if DESTINATIONS.index(destination) < DESTINATIONS.index("configuration.json"):
        assert say(*TEXT).code == 0, "it does not mend itself"


@pytest.mark.parametrize("number", [0, 3, 11, 13])
def test_a_full_disk_is_one_line_whatever_it_interrupts(number, say, own_corpus, monkeypatch):
    calls, fsync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    code, _, lines = say(*TEXT)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search("^error: cannot write .*No space left on device", lines[0]), lines
    assert not list(own_corpus.rglob("*.tmp"))
    assert not list(own_corpus.glob("exp/*/result.json"))


@pytest.mark.parametrize("size", [0, 10_000, 1_000_000])
def test_a_disk_that_fills_up_in_training_is_one_line(size, say, ready):
    """Files cannot grow beyond `size` bytes, a real limit: configuration or weights meet it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        code, _, lines = say(*TEXT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search("^error: cannot write .*File too large", lines[0]), lines
    assert not list(ready.glob("exp/*/model.pth"))
    assert not list(ready.rglob("*.tmp"))


def test_a_disk_that_is_full_when_an_epoch_is_logged_is_one_line(say, ready, monkeypatch):
    def opened(path, *how):
        return open("/dev/full" if Path(path).name == "train_loss.log" else path, *how)

    monkeypatch.setattr(console, "open", opened, raising=False)
    code, _, lines = say(*TEXT)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search("^error: cannot write .*train_loss.log: No space left", lines[0]), lines
    assert not list(ready.glob("exp/*/model.pth"))

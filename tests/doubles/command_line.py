"""The command line run within a test: what it printed, and that a refusal leaves nothing behind."""

import contextlib
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

import main
from doubles.small_runs import files, furnished

TEXT = (
    "--data corpus --test_split [1,2] --text_encoder char-ngram --modality text --hidden_size 8 "
    "--epochs 1 --batch_size 8 --precision float32 --gpu_id -1"
).split()
BAR = re.compile(r"\d+%\||\b0it \[")


class Outcome(NamedTuple):
    """Exit code, what was printed, and the lines on stderr (no progress bars; warnings too)."""

    code: int
    out: str
    lines: list[str]


@pytest.fixture
def own_corpus(workplace, tmp_path):
    """A folder of its own to work in, with the corpus (without its sensors) to be spoilt."""
    without = shutil.ignore_patterns("ECG", "EDA", "TEMP")
    shutil.copytree(workplace / "corpus", tmp_path / "corpus", ignore=without)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def ready(workplace, run_folder, tmp_path):
    """A folder of its own to work in, with a link to the corpus, and its tables and features."""
    with contextlib.chdir(furnished(tmp_path, workplace)):
        yield tmp_path


@pytest.fixture
def say(capsys):
    """`say(*words)`: the command line, run here."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            warnings.simplefilter("ignore", DeprecationWarning)  # as Python does
            code = main.main(list(words))
        out, err = capsys.readouterr()
        pieces = (piece.rstrip() for piece in re.split(r"[\r\n]", err))
        lines = [piece for piece in pieces if piece and not BAR.search(piece)]
        return Outcome(code, out, lines + [str(warning.message) for warning in warned])

    return run


def whole(place: Path) -> list[Path]:
    """Tables, features and runs that claim to be whole, and anything that a write left over."""
    tables = "data/prepared/*"
    marks = (f"{tables}/fingerprint.json", f"{tables}/features/sentence-*/complete.json", "exp/*")
    return [path for mark in (*marks, "**/.*.tmp") for path in place.glob(mark)]


@pytest.fixture
def refused(say):
    """`refused(match, *words)`: one line that matches, exit code 2, and nothing is changed."""

    def check(match: str, *words: str) -> None:
        place = Path.cwd()
        corpus, before = files(place / "corpus"), whole(place)
        code, _, lines = say(*words)
        assert (code, len(lines)) == (2, 1), lines
        assert lines[0].startswith("error: ")
        assert re.search(match, lines[0]), lines[0]
        assert files(place / "corpus") == corpus, "the corpus was touched"
        assert whole(place) == before, "something half-written looks whole"

    return check


class Code:
    """What runs a command when it is unpickled by a reader that believes what it reads."""

    def __reduce__(self):
        return os.system, ("touch executed",)

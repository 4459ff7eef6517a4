"""Two small corpora that are trained on together, and a run on both."""

import contextlib
import shutil
from pathlib import Path

import pytest

import main
from utils import leaf

BOTH = ["--data", "corpus", "--train_extra", "kemdy20:talk", "--test_split", "4"]
TEXT = (
    "--text_encoder char-ngram --hidden_size 8 --batch_size 8 --modality text --precision float32 "
    "--gpu_id -1 --epochs 1"
).split()


@pytest.fixture(scope="session")
def two_corpora(tmp_path_factory) -> Path:
    """KEMDy19's layout in `corpus`, KEMDy20's in `talk`: dialogues of both share names."""
    folder = tmp_path_factory.mktemp("several")
    write = leaf("corpora", "sample").write
    write(folder / "corpus", sessions=4, dialogues=2, utterances=3)
    write(folder / "talk", layout="kemdy20", sessions=3, dialogues=2, utterances=4)
    return folder


@pytest.fixture(scope="session")
def joint_run(two_corpora) -> Path:
    """A run that is trained on both, and tested on a session of each."""
    with contextlib.chdir(two_corpora):
        assert main.main([*BOTH, "--test_extra", "3", *TEXT, "--save_name", "both"]) == 0
    return two_corpora / "exp" / "both"


@pytest.fixture
def copied(two_corpora, joint_run, tmp_path):
    """A copy of both corpora and of that run, to work in."""
    shutil.copytree(two_corpora, tmp_path / "w")
    with contextlib.chdir(tmp_path / "w"):
        yield tmp_path / "w"

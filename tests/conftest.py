"""A small synthetic corpus and one run on it, made once for all tests that read them."""

import contextlib
import os
from pathlib import Path

import hypothesis
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from doubles.shared import FLAGS

import main
from utils import leaf

pytest_plugins = ["doubles.two_corpora", "doubles.command_line"]
# EXAMPLES=1000 make test looks longer; a test that says how many it wants is not asked
EXAMPLES = int(os.environ.get("EXAMPLES", 40))
hypothesis.settings.register_profile("suite", max_examples=EXAMPLES, deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder to work in, with the synthetic corpus in `corpus`: 4 sessions, 24 utterances."""
    place = tmp_path_factory.mktemp("work")
    leaf("corpora", "sample").write(place / "corpus", sessions=4, dialogues=2, utterances=3)
    return place


@pytest.fixture(scope="session")
def run_folder(workplace) -> Path:
    """One finished run in `workplace/exp`, trained on sessions 1 and 2, tested on 3 and 4."""
    before = set(workplace.glob("exp/*"))  # other tests may have been here first
    with contextlib.chdir(workplace):
        assert main.main(["--data", "corpus", "--test_split", "[3,4]", *FLAGS]) == 0
    [folder] = set(workplace.glob("exp/*")) - before
    return folder

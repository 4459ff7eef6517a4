"""Two small corpora that are trained on together."""

from pathlib import Path

import pytest

from utils import leaf


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """KEMDy19's layout in `corpus`, KEMDy20's in `talk`: dialogues of both share names."""
    folder = tmp_path_factory.mktemp("several")
    write = leaf("corpora", "sample").write
    write(folder / "corpus", sessions=4, dialogues=2, utterances=3)
    write(folder / "talk", layout="kemdy20", sessions=3, dialogues=2, utterances=4)
    return folder

"""Where runs are trained and tested."""

import contextlib

import pytest
from doubles.small_runs import furnished


@pytest.fixture
def place(workplace, run_folder, tmp_path):
    """A folder of its own to work in, with a link to the corpus, its tables and features."""
    with contextlib.chdir(furnished(tmp_path, workplace)):
        yield tmp_path

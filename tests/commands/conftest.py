"""The run of the suite, published; and what it says of itself."""

from pathlib import Path

import pytest
from doubles.published import published

from utils import read_json


@pytest.fixture(scope="session")
def configuration(run_folder) -> dict:
    """What a run of MATE wrote."""
    return read_json(run_folder / "configuration.json")


@pytest.fixture(scope="session")
def published_run(run_folder, tmp_path_factory) -> Path:
    """The one run of the suite, published."""
    return published(run_folder, tmp_path_factory.mktemp("hub") / "felt")

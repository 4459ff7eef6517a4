"""The run of the suite, published; and its page, served."""

from pathlib import Path

import pytest
from doubles.dialogue import judge, lines, predicted
from doubles.published import published
from doubles.served import Server

from utils import read_json

__all__ = ["judge", "lines", "predicted"]  # fixtures


@pytest.fixture(scope="session")
def configuration(run_folder) -> dict:
    """What a run of MATE wrote."""
    return read_json(run_folder / "configuration.json")


@pytest.fixture(scope="session")
def published_run(run_folder, tmp_path_factory) -> Path:
    """The one run of the suite, published."""
    return published(run_folder, tmp_path_factory.mktemp("hub") / "felt")


@pytest.fixture(scope="session")
def server(run_folder, workplace):
    """The page, served to all who ask for it."""
    pytest.importorskip("gradio", reason="the page needs gradio, see requirements/extra.txt")
    flags = ("--max_mb", "1", "--max_seconds", "30", "--max_turns", "6")
    server = Server(run_folder, workplace, *flags)
    try:
        yield server
    finally:
        code = server.stop()
    assert code == 0 and server.said.rstrip().endswith("ended"), server.said
    assert "Traceback" not in server.said, server.said
    assert not any(path.parents[1].exists() for path in server.uploads)

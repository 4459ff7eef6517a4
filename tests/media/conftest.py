"""A video that tests share; none of them changes it."""

from pathlib import Path

import pytest
from doubles.videos import TENTHS, noise, write


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """4 s, 10 pictures a second, 44.1 kHz stereo, its index at the beginning."""
    path = tmp_path_factory.mktemp("videos") / "plain.mp4"
    options = {"movflags": "+faststart"}
    return write(path, TENTHS, noise(4, 44_100, 2), 44_100, options=options)

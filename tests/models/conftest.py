"""A tiny encoder of speech, on disk."""

from pathlib import Path

import pytest

from benchmarks import tiny_wav2vec2


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory) -> Path:
    """A tiny encoder with group norm, as the base models of the hub have."""
    place = tmp_path_factory.mktemp("encoder")
    tiny_wav2vec2.write(place, norm="group")
    return place

"""Tiny encoders that tests share, and copies of them to be changed."""

import shutil
from pathlib import Path

import pytest
from doubles.encoders import KINDS, TEXTS, lively, rewrite

from benchmarks import tiny_bert, tiny_wav2vec2


@pytest.fixture(scope="session")
def places(tmp_path_factory) -> dict[str, Path]:
    """A tiny checkpoint of each kind, whose numbers are large enough to matter."""
    folders = {}
    for name, (kind, norm, more) in KINDS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        tiny_wav2vec2.write(folders[name], kind, norm, **more)
        rewrite(folders[name], lively)
    return folders


@pytest.fixture
def own_speech(places, tmp_path) -> Path:
    """A copy of the one with layer norm, to be changed."""
    return Path(shutil.copytree(places["layer"], tmp_path / "own"))


@pytest.fixture(scope="session")
def kobert(tmp_path_factory) -> Path:
    """A tiny encoder whose files are those of KoBERT."""
    folder = tmp_path_factory.mktemp("kobert")
    tiny_bert.write(folder, TEXTS)
    return folder


@pytest.fixture
def own(kobert, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(kobert, tmp_path / "own"))

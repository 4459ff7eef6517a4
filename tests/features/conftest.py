"""Fixtures that several files of this room ask for."""

import pytest
from doubles.counting import counting

import utils


@pytest.fixture
def calls(monkeypatch) -> list:
    """The sources that were extracted, by the leaf that takes the place of every feature."""
    calls: list = []
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting(calls))
    return calls

"""Damaged files that a report is made from: an answer or one line, no more."""

import csv
import io
import json
from pathlib import Path

import pytest
from doubles.damage import (
    answers,
    bytes_changed,
    changed,
    damaged,
    examples,
    rows_changed,
    table_damaged,
)
from doubles.damaged_json import Deep, json_changed, json_damaged
from doubles.run_folders import log_lines, make_run, predictions
from hypothesis import example, given
from hypothesis import strategies as st

from evaluation import bootstrap, result
from evaluation.predictions import read_predictions
from reporting import figures, page
from utils import UserError


@pytest.fixture
def hasty(monkeypatch) -> None:
    """No pictures, and few resamples: they take longer than all the rest."""
    draws = bootstrap.draws
    monkeypatch.setattr(bootstrap, "draws", lambda sizes, resamples, *how: draws(sizes, 10, *how))
    monkeypatch.setattr(figures, "png", lambda draw, inches, **grid: b"")


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("scored") / "run", predictions(30), epochs=2)


@given(rows=rows_changed, data=st.none() | bytes_changed)
@examples(100)
def test_predictions(rows, data, scored):
    path = scored / "predictions.csv"
    table = list(csv.reader(io.StringIO(path.read_text(), "")))
    text = table_damaged(table[:8], rows)
    with changed(path, damaged(text, data) if data else text):
        found = answers(read_predictions, path)
    if found is not None:
        answers(lambda: result.summarise(found, "drop", None, 1, 10))
        answers(lambda: result.summarise(found, "soft", None, 1, 10))


def test_predictions_that_lack_cells_or_have_more_are_refused(scored):
    path = scored / "predictions.csv"
    for data in (path.read_bytes()[:-40], path.read_bytes() + b"x," * 40 + b"\n"):
        with changed(path, data), pytest.raises(UserError, match="needs 28 columns"):
            read_predictions(path)


@given(name=st.sampled_from(["result.json", "configuration.json"]), changes=json_changed)
@examples(80)
def test_the_files_of_a_report(name, changes, scored, hasty):
    path = scored / name
    text = json_damaged(json.loads(path.read_text()), changes).encode("utf-8", "surrogatepass")
    with changed(path, text):
        answers(page.write, scored)


@given(changes=json_changed, data=st.none() | bytes_changed)
@example(changes=[("value", [0.0], Deep(3000), "")], data=None)
@examples(20)
def test_a_log_of_losses(changes, data, scored):
    lines = [json_damaged(log_lines(1)[0], changes).encode(), json.dumps(log_lines(2)[1]).encode()]
    text = b"\n".join(lines)
    with changed(scored / "train_loss.log", damaged(text, data) if data else text):
        answers(page.write, scored)

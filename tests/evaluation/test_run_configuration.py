"""configuration.json and result.json are read through one dataclass each, or refused in a line."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.run_configuration import Majority, RunConfiguration, RunResult
from evaluation.splits import Split
from utils import UserError

NAMES = [field.name for field in dataclasses.fields(RunConfiguration)][2:]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", NAMES)
@given(value=JSON)
def test_any_value_is_read_or_refused_in_one_line(name, value):
    try:
        found = RunConfiguration.of({name: value}, "exp/a/configuration.json")
    except UserError as error:
        assert str(error).startswith(f"exp/a/configuration.json: {name} should be ")
        assert "\n" not in str(error)
    else:
        assert found.values == {name: value}


def test_what_training_writes_is_read_back(run_folder):
    said = json.loads((run_folder / "configuration.json").read_text(encoding="utf-8"))
    found = RunConfiguration.read(run_folder)
    assert found.values == said and found.path == run_folder / "configuration.json"
    assert found.split == Split((1, 2), (), (3, 4)) and found.test_split == (3, 4)
    assert (found.model, found.SorL, found.seed) == ("mate", "speaker", 42)
    assert isinstance(found.majority, Majority) and found.majority.emotion
    assert found.majority.arousal == pytest.approx(said["majority"]["arousal"])
    [corpus] = found.corpora
    assert (corpus.name, corpus.synthetic, corpus.split) == ("kemdy19", True, found.split)
    assert corpus.fingerprint == said["corpus"]["fingerprint"]


def test_what_is_lacking_is_named():
    with pytest.raises(UserError, match="configuration.json needs split, corpus; it has none"):
        RunConfiguration.of({"seed": 1}).require("seed", "split", "corpus")


@pytest.mark.parametrize(
    ("result", "wrong"),
    [
        ({"calibration": {"temperature": "warm"}}, "temperature should be a number or null"),
        ({"highlight": {"threshold": [1]}}, "threshold should be a number or null"),
        ({"calibration": {"fitted_on": -1}}, "fitted_on should be a whole number"),
    ],
)
def test_what_was_fitted_is_a_number(tmp_path, result, wrong):
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match=wrong):
        RunResult.read(tmp_path)


def test_what_was_fitted_is_read_and_nothing_where_nothing_was(tmp_path):
    assert RunResult.read(tmp_path) == RunResult(None, 0, None)
    said = {"calibration": {"temperature": 1.5, "fitted_on": 7}, "highlight": {"threshold": 0.25}}
    (tmp_path / "result.json").write_text(json.dumps(said))
    assert RunResult.read(tmp_path) == RunResult(1.5, 7, 0.25)

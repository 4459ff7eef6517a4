"""The part of result.json that scores fill."""

import json

import numpy as np
import pandas as pd
import pytest
from doubles.tables import with_dialogues as drawn
from hypothesis import strategies as st

import constants
import metric
from constants import EMOTIONS
from evaluation.result import summarise

SEEDS = st.integers(0, 2**32)
NAMES = list(metric.SCORES)


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_the_summary_has_the_parts_of_result_json_and_is_valid_json(ties):
    frame = drawn(16, classes=5, rows=100)
    found = summarise(frame, ties, "sad", seed=1, resamples=50)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"ties", "n", "classes", "scores", "per_class", "confusion", "by_kind"}
    assert (
        found["n"]["rows"] == 100 and found["n"]["dialogues"] == 5 and found["n"]["sessions"] == 3
    )
    assert found["classes"]["absent"][-2:] == ["neutral", "happy"]
    assert sorted(found["classes"]["present"] + found["classes"]["absent"]) == sorted(EMOTIONS)
    parts = {"value", "low", "high", "n", "baseline", "baseline_low", "baseline_high"}
    assert list(found["scores"]) == NAMES
    assert all(set(score) == parts for score in found["scores"].values())
    assert [row["emotion"] for row in found["per_class"]] == list(EMOTIONS)
    assert found["per_class"][6]["recall"] is None
    total = sum(map(sum, found["confusion"]))
    assert total == pytest.approx(found["n"]["emotion"]) == found["scores"]["uar"]["n"]
    assert ties == "soft" or all(
        isinstance(cell, int) for row in found["confusion"] for cell in row
    )
    kinds = found["by_kind"]
    assert set(kinds) == {"script", "impro"}
    assert sum(kind["n"] for kind in kinds.values()) == found["n"]["emotion"]


def test_the_summary_is_the_same_from_a_csv_and_from_a_dict(tmp_path):
    frame = drawn(17).assign(valence=np.nan)
    frame.to_csv(tmp_path / "predictions.csv", index=False)
    read = pd.read_csv(tmp_path / "predictions.csv")
    arrays = {name: frame[name].to_numpy() for name in frame}
    expected = summarise(frame, "first", resamples=30)
    assert summarise(read, "first", resamples=30) == expected
    assert summarise(arrays, "first", resamples=30) == expected


def test_undefined_numbers_of_the_summary_are_none():
    frame = drawn(18).assign(kind="", valence=np.nan)
    found = summarise(frame, "drop", resamples=20)
    nothing = dict.fromkeys(("value", "low", "high", "baseline", "baseline_low", "baseline_high"))
    assert found["scores"]["ccc_valence"] == nothing | {"n": 0}
    assert found["by_kind"] == {}
    assert found["scores"]["ccc_arousal"]["baseline"] == 0


def test_the_legacy_scores_of_the_summary_have_a_value_but_no_interval():
    scores = summarise(drawn(19), "drop", resamples=20)["scores"]
    ends = ("low", "high", "baseline_low", "baseline_high")
    for name in metric.LEGACY:
        assert scores[name]["value"] is not None and scores[name]["baseline"] is not None
        assert {scores[name][end] for end in ends} == {None}
    assert scores["uar"]["low"] < scores["uar"]["high"]

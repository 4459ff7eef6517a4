"""Scores of a table of predictions: which rows count, as what, and the laws of their scores."""

import doctest
import math

import audmetric
import numpy as np
import pytest
import sklearn.metrics as sk
from doubles.tables import drawn, table
from hypothesis import given, settings
from hypothesis import strategies as st

import constants
import metric
from constants import EMOTIONS
from evaluation import predictions as tables
from evaluation.predictions import emotion_rows, label_ids, scores_of
from utils import UserError

examples = settings(deadline=None, max_examples=60)


def test_the_examples_run():
    result = doctest.testmod(tables)
    assert result.attempted and not result.failed


# --- ties -----------------------------------------------------------------------------------

#        disgust angry sad fear surprise neutral happy
TIED = table(
    modal=["sad;angry", "sad", "neutral;happy", "", "fear", "angry"],
    votes=[
        [0, 4, 4, 0, 0, 2, 0],
        [0, 0, 9, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 5, 5],
        [np.nan] * 7,
        [0, 0, 0, 10, 0, 0, 0],
        [0, 6, 4, 0, 0, 0, 0],
    ],
    predicted=["angry", "sad", "sad", "happy", "", "sad"],
)


@pytest.mark.parametrize(
    ("ties", "rows", "truth"),
    [
        ("drop", [1, 5], [2, 1]),
        ("first", [0, 1, 2, 5], [2, 2, 5, 1]),
        ("any", [0, 1, 2, 5], [1, 2, 5, 1]),
    ],
)
def test_a_ties_policy_decides_which_rows_count_and_as_what(ties, rows, truth):
    found = emotion_rows(TIED, ties)
    assert found[0].tolist() == rows and found[1].tolist() == truth
    assert found[2].tolist() == [[1, 2, 2, 6, -1, 2][row] for row in rows]
    assert found[3].tolist() == [1] * len(rows)


def test_soft_ties_count_each_row_to_every_class_by_its_share_of_the_votes():
    rows, truth, predicted, weights = emotion_rows(TIED, "soft")
    assert np.bincount(rows, weights).tolist() == pytest.approx([1, 1, 1, 0, 0, 1])
    found = metric.confusion(truth, predicted, weights)
    expected = np.zeros((7, 7))
    expected[[1, 2, 5], 1] = [0.4, 0.4, 0.2]
    expected[[1, 2, 3, 5, 6], 2] = [0.6, 0.9 + 0.4, 0.1, 0.5, 0.5]
    assert found == pytest.approx(expected)
    assert scores_of(TIED, "soft")["accuracy"]["n"] == 4


def test_the_order_as_written_wins_over_the_order_of_ids():
    assert label_ids(["happy;disgust"]) == [(6, 0)]


@pytest.mark.parametrize("label", ["disqust", "sad; angry", "sad;"])
def test_an_unknown_label_or_policy_is_refused_by_name(label):
    with pytest.raises(UserError, match="there are: disgust, angry"):
        label_ids([label])
    with pytest.raises(UserError, match="'keep'; there are: drop, first, any, soft"):
        emotion_rows(TIED, "keep")


# --- a table --------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_the_table_of_scores_has_every_score_inside_its_range_with_its_rows(ties):
    predictions = drawn(7)
    found = scores_of(predictions, ties)
    assert list(found) == list(metric.SCORES)
    single = sum(";" not in label for label in predictions["emotion_true"])
    assert 0 < single < 150
    for name, score in metric.SCORES.items():
        if name != "ccc_valence":
            assert score.low <= found[name]["value"] <= score.high
            dropped = ties == "drop" and score.rows == "emotion"
            assert found[name]["n"] == (single if dropped else 150)


@examples
@given(st.integers(0, 2**32), st.sampled_from(constants.TIE_POLICIES))
def test_the_order_of_rows_changes_no_score_but_the_legacy_ones(seed, ties):
    predictions = drawn(seed)
    order = np.random.default_rng(seed).permutation(150)
    shuffled = {name: values[order] for name, values in predictions.items()}
    before, after = scores_of(predictions, ties), scores_of(shuffled, ties)
    for name in set(metric.SCORES) - set(metric.LEGACY):
        expected = pytest.approx(before[name]["value"], abs=1e-9, nan_ok=True)
        assert after[name]["value"] == expected and after[name]["n"] == before[name]["n"]


def test_scores_of_a_table_are_those_of_the_functions():
    predictions = drawn(2)
    found = scores_of(predictions, "first")
    truth = [EMOTIONS.index(label.split(";")[0]) for label in predictions["emotion_true"]]
    predicted = [EMOTIONS.index(label) for label in predictions["emotion"]]
    assert found["uar"]["value"] == pytest.approx(
        sk.recall_score(truth, predicted, average="macro", labels=sorted(set(truth)))
    )
    lenient = [
        label in modal.split(";")
        for label, modal in zip(predictions["emotion"], predictions["emotion_true"], strict=True)
    ]
    assert found["precision_at_1"]["value"] == pytest.approx(np.mean(lenient))
    assert scores_of(predictions, "any")["accuracy"]["value"] == pytest.approx(np.mean(lenient))
    expected = audmetric.concordance_cc(predictions["arousal_true"], predictions["arousal"])
    assert found["ccc_arousal"]["value"] == pytest.approx(expected)


def test_a_head_that_was_not_trained_has_no_score_and_no_rows():
    predictions = drawn(4) | {"emotion": np.full(150, np.nan)}
    predictions |= {name: np.full(150, np.nan) for name in metric.PROBABILITIES}
    for ties in constants.TIE_POLICIES:
        found = scores_of(predictions, ties)
        assert found["ccc_arousal"]["n"] == 150 and found["ccc_valence"]["n"] == 0
        for name in set(metric.SCORES) - {"ccc_arousal"}:
            assert math.isnan(found[name]["value"]) and found[name]["n"] == 0


def test_a_row_without_votes_is_unlabelled_for_every_emotion_score():
    predictions = drawn(6)
    for name in metric.VOTES:
        predictions[name] = np.append(np.nan, predictions[name][1:])
    for ties in ("first", "any", "soft"):
        found = scores_of(predictions, ties)
        assert {
            found[name]["n"] for name in set(metric.SCORES) - {"ccc_arousal", "ccc_valence"}
        } == {149}


def test_a_missing_column_is_named():
    predictions = drawn(4)
    del predictions["votes_sad"]
    with pytest.raises(UserError, match="'votes_sad'; they have: emotion_true"):
        scores_of(predictions, "drop")


def test_scoring_a_table_changes_nothing_in_it():
    predictions = drawn(3)
    before = {name: values.copy() for name, values in predictions.items()}
    for array in predictions.values():
        array.flags.writeable = False
    for ties in constants.TIE_POLICIES:
        scores_of(predictions, ties)
    for name, values in predictions.items():
        assert np.array_equal(values, before[name], equal_nan=values.dtype.kind == "f")

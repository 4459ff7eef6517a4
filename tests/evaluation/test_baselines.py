"""The majority and the label prior against what the constant answer must score."""

import doctest
import math

import numpy as np
import pandas as pd
import pytest
from doubles.tables import with_dialogues as drawn
from hypothesis import strategies as st

import constants
import metric
from constants import EMOTIONS
from evaluation import baselines
from evaluation.predictions import emotion_rows, scores_of
from evaluation.result import summarise

SEEDS = st.integers(0, 2**32)
NAMES = list(metric.SCORES)


def test_the_examples_run():
    result = doctest.testmod(baselines)
    assert result.attempted and not result.failed


# --- the majority baseline ------------------------------------------------------------------


def test_the_majority_class_counts_tied_rows_in_parts_and_breaks_equality_to_the_lower_id():
    assert baselines.majority_class(["sad", "angry;happy", "happy;fear", "sad;happy"]) == "sad"
    assert baselines.majority_class(["happy", "angry"]) == "angry"
    assert baselines.majority_class(["", np.nan]) == ""


def test_the_baseline_scores_as_a_constant_answer_must():
    frame = drawn(7, rows=200)
    before = frame.copy()
    answer = baselines.majority_class(frame.emotion_true)
    baseline = baselines.majority(frame, answer, arousal=3.1, valence=2.7)
    found = {name: s["value"] for name, s in scores_of(baseline, "drop").items()}
    single = frame[(frame.emotion_true != "") & ~frame.emotion_true.str.contains(";")]
    share = (single.emotion_true == answer).mean()
    classes = single.emotion_true.nunique()
    assert found["accuracy"] == pytest.approx(share)
    assert found["uar"] == pytest.approx(1 / classes)
    assert found["macro_f1"] == pytest.approx(2 * share / (1 + share) / classes)
    assert found["ccc_arousal"] == found["ccc_valence"] == 0
    lenient = frame[frame.emotion_true != ""].emotion_true.str.contains(answer).mean()
    assert found["precision_at_1"] == pytest.approx(lenient)
    pd.testing.assert_frame_equal(frame, before)


def test_without_a_class_the_baseline_answers_the_commonest_of_the_rows():
    frame = drawn(8)
    commonest = baselines.majority_class(frame.emotion_true)
    assert set(baselines.majority(frame).emotion) == {commonest}
    assert baselines.majority(frame).arousal.iloc[0] == pytest.approx(frame.arousal_true.mean())


def test_the_baseline_counts_the_same_rows_as_the_model():
    frame = drawn(9)
    frame.loc[:9, ["emotion", *metric.PROBABILITIES]] = ["", *[np.nan] * 7]
    frame["valence"] = np.nan
    for ties in constants.TIE_POLICIES:
        model = scores_of(frame, ties)
        baseline = scores_of(baselines.majority(frame, "sad"), ties)
        assert [model[name]["n"] for name in NAMES] == [baseline[name]["n"] for name in NAMES]


def test_the_baseline_of_rows_without_any_emotion_has_no_emotion():
    frame = drawn(9).assign(emotion_true="")
    frame[list(metric.VOTES)] = np.nan
    assert math.isnan(scores_of(baselines.majority(frame), "drop")["accuracy"]["value"])


# --- the label prior ------------------------------------------------------------------------


COUNTS = [1, 2, 30, 4, 5, 60, 7]


def guesses(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The frame with labels drawn from COUNTS, where the model gave one."""
    labels = np.random.default_rng(seed).choice(EMOTIONS, len(frame), p=np.divide(COUNTS, 109))
    return frame.assign(emotion=np.where(frame.emotion == "", "", labels))


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_the_prior_is_the_mean_of_many_who_guess_by_the_training_labels(ties):
    frame = drawn(20, rows=120)
    frame.loc[:9, "emotion"] = ""
    found = baselines.prior_confusion(frame, ties, COUNTS)
    tables = [guesses(frame, seed) for seed in range(400)]
    mean = np.mean([metric.confusion(*emotion_rows(t, ties)[1:]) for t in tables], axis=0)
    np.testing.assert_allclose(found, mean, atol=0.8)  # of up to 60 rows
    assert found.sum() == pytest.approx(scores_of(frame, ties)["accuracy"]["n"])


def test_the_prior_of_rows_with_one_label_is_the_product_of_the_margins():
    frame = drawn(21, rows=200)
    truth = metric.confusion(*emotion_rows(frame, "drop")[1:]).sum(1)
    found = baselines.prior_confusion(frame, "drop", COUNTS)
    np.testing.assert_allclose(found, np.outer(truth, np.divide(COUNTS, 109)))
    assert metric.accuracy(found) == pytest.approx(truth / truth.sum() @ np.divide(COUNTS, 109))


def test_a_prior_of_one_class_is_the_majority_baseline():
    frame = drawn(22)
    counts = 5 * np.eye(7)[2]
    scores = summarise(frame, "any", "sad", resamples=5, class_counts=counts)["scores"]
    for score in metric.POOLED:
        row = scores[score.__name__]
        assert row["prior"] == pytest.approx(row["baseline"])


def test_only_scores_of_a_confusion_matrix_have_a_prior_and_only_when_labels_are_counted():
    frame = drawn(23)
    scores = summarise(frame, "drop", resamples=5, class_counts=COUNTS)["scores"]
    known = {name for name, score in scores.items() if score["prior"] is not None}
    assert known == {score.__name__ for score in metric.POOLED}
    nothing = summarise(frame, "drop", resamples=5, class_counts=[0] * 7)["scores"]
    assert {score["prior"] for score in nothing.values()} == {None}
    without = summarise(frame, "drop", resamples=5)["scores"]
    assert not any("prior" in score for score in without.values())
    unscored = summarise(frame.assign(emotion=""), "drop", resamples=5, class_counts=COUNTS)[
        "scores"
    ]
    assert unscored["uar"]["prior"] is None


@pytest.mark.parametrize("counts", [[1, 2], [-1, 2, 0, 0, 0, 0, 0], [0] * 7, [np.nan] * 7])
def test_what_are_no_counts_of_classes_is_refused(counts):
    with pytest.raises(ValueError, match="class_counts must be 7 counts, not all 0, got"):
        baselines.prior_confusion(drawn(24), "drop", counts)


def test_labels_are_counted_with_ties_in_equal_parts():
    counts = baselines.class_counts(["sad", "angry;happy", "", "happy"])
    assert counts.tolist() == [0, 0.5, 1, 0, 0, 0, 1.5]
    assert not baselines.class_counts([]).any()

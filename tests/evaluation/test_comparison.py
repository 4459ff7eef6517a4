"""Rows of a table of runs against scikit-learn and brute force."""

import json
import warnings

import numpy as np
import pytest
from doubles.finished import (
    COUNTS,
    MAJORITY,
    changed,
    folds,
    kept,
    pooled,
    run,
    sklearn_macro_f1,
    without,
)
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

import constants
import metric
from constants import EMOTIONS
from evaluation import bootstrap, comparison
from evaluation.predictions import emotion_rows, multi_hot, scores_of
from utils import UserError

SEEDS = st.integers(0, 2**32)


def test_mean_and_sd_are_those_of_the_runs_and_the_pooled_score_that_of_all_their_rows():
    row = folds()
    found = comparison.row("x", row, resamples=20)["scores"]
    values = [sklearn_macro_f1(one.predictions) for one in row]
    assert found["macro_f1"]["values"] == pytest.approx(values)
    assert found["macro_f1"]["mean"] == pytest.approx(np.mean(values))
    assert found["macro_f1"]["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert found["macro_f1"]["pooled"] == pytest.approx(sklearn_macro_f1(pooled(row)))
    assert found["macro_f1"]["pooled"] != pytest.approx(np.mean(values), abs=1e-4)
    assert found["macro_f1"]["n"] == len(kept(pooled(row))) < found["ccc_arousal"]["n"] == 160


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_with_several_seeds_the_pooled_score_is_the_mean_over_seeds_of_each_seeds_own(ties):
    row = folds(seeds=(1, 2, 5))
    found = comparison.row("x", row, ties, 20)
    per_seed = [scores_of(pooled(row[i : i + 2]), ties) for i in (0, 2, 4)]
    for name in set(metric.SCORES) - set(metric.LEGACY):
        expected = np.mean([scores[name]["value"] for scores in per_seed])
        assert found["scores"][name]["pooled"] == pytest.approx(expected), name
        assert found["scores"][name]["n"] == per_seed[0][name]["n"], name
    assert found["seeds"] == [1, 2, 5] and found["complete"] and found["n"]["rows"] == 160


def test_a_legacy_score_belongs_to_a_file_so_its_pooled_value_is_the_mean_of_the_runs():
    row = [run((1,), rows=100), run((2, 3), rows=70)]
    found = comparison.row("x", row, resamples=20)["scores"]["legacy_f1"]
    values = []
    for one in row:
        hot = multi_hot(one.predictions.emotion_true)
        values.append(metric.legacy_f1(hot, one.predictions[list(metric.PROBABILITIES)]))
    assert found["values"] == pytest.approx(values)
    assert found["pooled"] == found["mean"] == pytest.approx(np.mean(values))
    assert found["low"] is found["high"] is found["baseline_low"] is None


def test_a_row_says_what_it_is_made_of_and_can_be_written_as_json():
    row = [run((10, 9)), changed(run((3,)), seed=1), run((3,), seed=2)]
    row[2].predictions[["arousal", "emotion"]] = [np.nan, ""]
    found = json.loads(json.dumps(comparison.row("mate", row, "any", 20), allow_nan=False))
    assert found["name"] == "mate" and found["ties"] == "any" and not found["complete"]
    assert found["trials"][0] == {
        "folder": "exp/m0_s1_10_9",
        "seed": 1,
        "sessions": [9, 10],
        "n": 80,
    }
    assert found["n"] == {"trials": 3, "rows": 120, "dialogues": 9, "sessions": 3}
    assert list(found["scores"]) == list(metric.SCORES)
    assert found["scores"]["ccc_arousal"]["values"][2] is None
    assert found["scores"]["ccc_arousal"]["mean"] is found["scores"]["ccc_arousal"]["sd"] is None
    truth = set(";".join(pooled(row[:2]).emotion_true).split(";"))
    assert set(found["classes"]) <= truth


def test_one_run_has_no_sd():
    found = comparison.row("x", [run()], resamples=20)["scores"]["uar"]
    assert found["sd"] is None and found["mean"] == found["values"][0]


def test_two_runs_that_test_the_same_row_with_the_same_seed_are_refused_by_name():
    row = [run((1, 2)), run((2, 3)), run((2, 3), seed=2)]
    with pytest.raises(UserError, match="seed 1 exp/m0_s1_1_2 and exp/m0_s1_2_3 both test 40 rows"):
        comparison.row("x", row, resamples=20)
    assert comparison.row("x", row[1:], resamples=20)["n"]["trials"] == 2


def test_runs_that_disagree_on_the_truth_are_refused():
    row = [run(), run(seed=2)]
    for column, value in (
        ("arousal_true", 1.0),
        ("votes_sad", 99.0),
        ("emotion_true", "fear;sad"),
        ("dialogue", "other"),
    ):
        other = row[1].predictions.copy()
        other.loc[3, column] = value
        with pytest.raises(UserError, match=r"the same truth; it differs in 1 rows \(kemdy19 spea"):
            comparison.row("x", [row[0], row[1]._replace(predictions=other)], resamples=20)


def test_a_row_without_runs_is_refused():
    with pytest.raises(UserError, match="at least one trial"):
        comparison.row("x", [])


# --- baselines -------------------------------------------------------------------------------


def test_each_run_answers_its_own_majority_and_means():
    row = folds()
    majorities = [MAJORITY, {"emotion": "sad", "arousal": 4.0, "valence": None}]
    row = [changed(one, majority=m) for one, m in zip(row, majorities, strict=True)]
    found = comparison.row("x", row, resamples=200)["scores"]
    rows = [kept(one.predictions) for one in row]
    right = (rows[0].emotion_true == "neutral").sum() + (rows[1].emotion_true == "sad").sum()
    assert found["accuracy"]["baseline"] == pytest.approx(right / sum(map(len, rows)))
    low, high = found["accuracy"]["baseline_low"], found["accuracy"]["baseline_high"]
    assert low < found["accuracy"]["baseline"] < high
    x, y = pooled(row).arousal_true.to_numpy(), np.repeat([3.0, 4.0], 80)
    cov = np.cov(x, y, ddof=0)
    ccc = 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (x.mean() - y.mean()) ** 2)
    assert found["ccc_arousal"]["baseline"] == pytest.approx(ccc)
    # the second has no mean to answer: what is left is a constant
    assert found["ccc_valence"]["baseline"] == pytest.approx(0, abs=1e-12)


def test_a_configuration_that_does_not_say_what_was_trained_on_gives_no_baseline():
    one = run()
    for name, keys in (("majority", ["baseline", "baseline_low"]), ("class_counts", ["prior"])):
        found = comparison.row("x", [without(one, name)], resamples=20)
        found = found["scores"]["uar"]
        assert [found[key] for key in keys] == [None] * len(keys) and found["pooled"] is not None
        others = {"baseline", "baseline_low", "prior"} - set(keys)
        assert all(found[key] is not None for key in others)


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_the_prior_baseline_is_the_mean_of_drawing_answers_from_the_training_labels(ties):
    one = run((1, 2), rows=150)
    found = comparison.row("x", [one], ties, 20)["scores"]
    labels = np.repeat(EMOTIONS, list(COUNTS.values()))
    dummy = DummyClassifier(strategy="stratified", random_state=np.random.RandomState(0))
    dummy.fit(np.zeros((len(labels), 1)), labels)
    matrices = []
    for _ in range(300):
        answers = dummy.predict(np.zeros((300, 1)))
        drawn = emotion_rows(one.predictions.assign(emotion=answers), ties)
        matrices.append(metric.confusion(*drawn[1:]))
    matrix = np.mean(matrices, axis=0)
    for score in metric.POOLED:
        assert found[score.__name__]["prior"] == pytest.approx(score(matrix), abs=0.006)
    accuracies = [metric.accuracy(m) for m in matrices]
    assert found["accuracy"]["prior"] == pytest.approx(np.mean(accuracies), abs=0.006)
    undefined = set(metric.SCORES) - {score.__name__ for score in metric.POOLED}
    assert {found[name]["prior"] for name in undefined} == {None}


def test_the_prior_of_several_folds_is_the_sum_of_their_confusion_matrices():
    row = [
        changed(one, class_counts={e: 1}) for one, e in zip(folds(), ("sad", "happy"), strict=True)
    ]
    found = comparison.row("x", row, resamples=20)["scores"]
    frame = pooled(row)
    frame["emotion"] = np.repeat(["sad", "happy"], 80)
    assert found["macro_f1"]["prior"] == pytest.approx(sklearn_macro_f1(frame))


# --- by --------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", comparison.COLUMNS)
def test_groups_are_scored_by_themselves_with_their_classes(column):
    row = [run((2, 10)), run((3,))]
    found = comparison.by(row, column)
    frame = pooled(row)
    names = sorted(set(frame[column]), key=lambda name: int(name) if column == "session" else name)
    assert [str(group[column]) for group in found] == names
    for group, name in zip(found, names, strict=True):
        rows = kept(frame[frame[column] == name])
        assert group["n"] == (frame[column] == name).sum() and group["n_emotion"] == len(rows)
        assert group["macro_f1"] == pytest.approx(sklearn_macro_f1(rows))
        assert group["accuracy"] == pytest.approx((rows.emotion == rows.emotion_true).mean())
        assert set(group["classes"]) == set(rows.emotion_true)
        scores = scores_of(frame[frame[column] == name], "drop")
        for score in ("uar", "legacy_f1", "ccc_arousal", "ccc_valence"):
            assert group[score] == pytest.approx(scores[score]["value"])


def test_groups_are_averaged_over_the_seeds_that_test_them():
    row = [run((1,)), run((1,), seed=2), run((2,))]
    first, second = comparison.by(row, "session")
    values = [sklearn_macro_f1(one.predictions) for one in row]
    assert first["macro_f1"] == pytest.approx(np.mean(values[:2])) and first["n"] == 40
    assert second["macro_f1"] == pytest.approx(values[2])


def test_sessions_of_two_corpora_are_other_sessions_and_rows_without_a_kind_are_left_out():
    other = run((1,), seed=1)
    other = other._replace(predictions=other.predictions.assign(corpus="sample", kind=""))
    found = comparison.by([run((1,)), other], "session")
    assert [(g["corpus"], g["session"]) for g in found] == [("kemdy19", 1), ("sample", 1)]
    kinds = comparison.by([run((1,)), other], "kind")
    assert [(g["corpus"], g["kind"]) for g in kinds] == [
        ("kemdy19", "impro"),
        ("kemdy19", "script"),
    ]


def test_rows_are_told_apart_by_known_columns_only():
    with pytest.raises(UserError, match="no column 'text'.*speaker, session, kind, role"):
        comparison.by([run()], "text")
    with pytest.raises(UserError, match="both test"):
        comparison.by([run((1,)), run((1,))], "session")


# --- all of it -------------------------------------------------------------------------------


def test_numbers_come_without_warnings_and_again_the_same():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = [
            comparison.row("x", folds(), resamples=50),
            comparison.by(folds(), "kind"),
            comparison.pairs({"a": folds(), "b": folds(1)}, resamples=50),
        ]
    bootstrap.draws.cache_clear()
    again = [
        comparison.row("x", folds(), resamples=50),
        comparison.by(folds(), "kind"),
        comparison.pairs({"a": folds(), "b": folds(1)}, resamples=50),
    ]
    assert json.dumps(first) == json.dumps(again)

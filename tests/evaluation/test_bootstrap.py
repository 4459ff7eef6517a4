"""Intervals against brute force, the baseline, and comparisons that must be refused."""

import doctest
import json
import math
import time

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

import constants
import metric
from constants import EMOTIONS
from evaluation import alignment, baselines, bootstrap
from evaluation.predictions import emotion_rows, multi_hot, scores_of
from evaluation.result import summarise
from utils import UserError

SEEDS = st.integers(0, 2**32)
NAMES = list(metric.SCORES)


def drawn(seed: int, dialogues: int = 5, rows: int = 60, classes: int = 7) -> pd.DataFrame:
    """Random predictions: dialogues of unequal length, ties, one unlabelled row."""
    rng = np.random.default_rng(seed)
    prior = np.append(rng.dirichlet(np.ones(classes)), np.zeros(7 - classes))
    votes = rng.multinomial(10, prior, rows).astype(float)
    modal = [";".join(np.array(EMOTIONS)[row == row.max()]) for row in votes]
    p = rng.dirichlet(np.ones(7), rows) + votes / 20
    dialogue = np.sort(
        np.append(np.arange(dialogues), rng.integers(0, dialogues, rows - dialogues))
    )
    frame = pd.DataFrame(index=range(rows)).assign(corpus="kemdy19", role="speaker")
    frame["segment"] = [f"Sess01_script{i // 20:02d}_M{i:03d}" for i in range(rows)]
    frame["session"], frame["dialogue"] = dialogue // 2 + 1, [f"script{d:02d}" for d in dialogue]
    frame["kind"] = np.where(dialogue % 2, "impro", "script")
    frame["emotion"] = [EMOTIONS[i] for i in p.argmax(1)]
    frame["emotion_true"] = modal
    frame[list(metric.PROBABILITIES)] = p / p.sum(1, keepdims=True)
    frame[list(metric.VOTES)] = votes
    for head in ("arousal", "valence"):
        frame[f"{head}_true"] = rng.uniform(1, 5, rows)
        frame[head] = frame[f"{head}_true"] + rng.normal(0, 1, rows)
    frame.loc[rows // 2, ["emotion_true", *metric.VOTES]] = ["", *[np.nan] * 7]
    return frame


def test_the_examples_run():
    result = doctest.testmod(baselines)
    assert result.attempted and not result.failed


# --- intervals ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.sampled_from(constants.TIE_POLICIES))
def test_vectorised_resamples_equal_scoring_the_drawn_rows_one_resample_at_a_time(seed, ties):
    frame = drawn(seed, dialogues=4, rows=150)
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    counts = bootstrap.draws(groups, 12, seed)
    found = bootstrap.resampled(frame, ties, counts, groups)
    for resample, count in enumerate(counts):
        rows = [np.flatnonzero(groups == g) for g in range(4) for _ in range(count[g])]
        direct = scores_of(alignment.select(frame, np.concatenate(rows)), ties)
        for name in NAMES:
            expected = pytest.approx(direct[name]["value"], abs=1e-9, nan_ok=True)
            assert found[name][resample] == expected, name


def test_the_interval_is_the_percentiles_of_resampled_scores_written_out():
    frame = drawn(1)
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    values = []
    for count in bootstrap.draws(groups, 200, 9):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in np.repeat(range(5), count)])
        part = frame.iloc[rows]
        part = part[(part.emotion_true != "") & ~part.emotion_true.str.contains(";")]
        present = sorted(set(part.emotion_true))
        values.append(
            sk.f1_score(
                part.emotion_true, part.emotion, labels=present, average="macro", zero_division=0
            )
        )
    found = bootstrap.bootstrap(frame, "drop", 200, 9)["macro_f1"]
    assert found == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_a_resample_that_lacks_a_class_averages_the_rest():
    frame = drawn(3, dialogues=2, rows=20)
    frame["emotion_true"] = np.where(frame.dialogue == "script00", "sad", "happy")
    frame[list(metric.VOTES)] = multi_hot(frame.emotion_true)
    frame["emotion"] = frame.emotion_true
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    found = bootstrap.resampled(frame, "drop", np.array([[2, 0], [1, 1]]), groups)
    assert found["macro_f1"].tolist() == found["uar"].tolist() == [1, 1]
    assert found["macro_f1_fixed7"] == pytest.approx([1 / 7, 2 / 7])


def test_draws_are_as_many_dialogues_as_there_are_and_depend_on_the_seed_alone():
    groups = np.array([0, 0, 1, 2, 2, 2])
    counts = bootstrap.draws(groups, 500, 1)
    assert counts.shape == (500, 3) and (counts.sum(1) == 3).all()
    assert counts.mean(0) == pytest.approx([1, 1, 1], abs=0.15)
    assert (counts == bootstrap.draws(groups, 500, 1)).all()
    assert (counts != bootstrap.draws(groups, 500, 2)).any()


def test_dialogues_of_another_role_or_corpus_are_other_dialogues():
    frame = pd.concat([drawn(1), drawn(1).assign(role="listener"), drawn(1).assign(corpus="x")])
    assert alignment.numbered(frame, alignment.DIALOGUE).max() + 1 == 15


def test_a_narrow_interval_holds_the_score_and_more_dialogues_narrow_it():
    few, many = drawn(2, dialogues=5, rows=100), drawn(2, dialogues=80, rows=1600)
    widths = []
    for frame in (few, many):
        score = scores_of(frame, "drop")["accuracy"]["value"]
        low, high = bootstrap.bootstrap(frame, "drop", 500, 0)["accuracy"]
        assert low < score < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_one_dialogue_alone_gives_no_interval():
    frame = drawn(4, dialogues=1)
    assert np.isnan(list(bootstrap.bootstrap(frame, "drop", 20, 0).values())).all()
    frame = drawn(4, dialogues=3)
    frame.loc[frame.dialogue != "script00", "arousal_true"] = np.nan
    found = bootstrap.bootstrap(frame, "drop", 20, 0)
    assert np.isnan(found["ccc_arousal"]).all() and not np.isnan(found["ccc_valence"]).any()


def test_resamples_without_a_defined_score_are_left_out_of_the_interval():
    frame = drawn(4, dialogues=3)
    frame.loc[frame.dialogue == "script00", "arousal_true"] = np.nan
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    counts = bootstrap.draws(groups, 200, 0)
    values = bootstrap.resampled(frame, "drop", counts, groups)["ccc_arousal"]
    assert np.isnan(values).tolist() == (counts[:, 0] == 3).tolist() and np.isnan(values).any()
    found = bootstrap.bootstrap(frame, "drop", 200, 0)["ccc_arousal"]
    assert found == pytest.approx(tuple(np.nanpercentile(values, [2.5, 97.5])))


def test_a_head_without_predictions_or_truth_has_no_interval():
    frame = drawn(5).assign(emotion="", valence=np.nan, arousal_true=np.nan)
    frame[list(metric.PROBABILITIES)] = np.nan
    assert np.isnan(list(bootstrap.bootstrap(frame, "soft", 20, 0).values())).all()


def test_the_bootstrap_is_fast():
    frame = drawn(6, dialogues=40, rows=10_000)
    start = time.process_time()
    bootstrap.bootstrap(frame, "any", 2000, 0)
    assert time.process_time() - start < 4  # seconds; about 0.3 on an idle core


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


# --- paired comparison ----------------------------------------------------------------------


def test_a_run_against_itself_differs_by_nothing_in_any_order_of_rows():
    frame = drawn(10)
    found = bootstrap.paired(
        frame, frame.sample(frac=1, random_state=0), "legacy_f1", "first", 50, 0
    )
    assert found["difference"] == found["low"] == found["high"] == 0 and found["n"] == 59


def test_the_paired_interval_is_that_of_the_differences_on_the_same_dialogues():
    frame = drawn(11, dialogues=8, rows=200)
    other = frame.assign(emotion=frame.emotion.to_numpy()[::-1])
    found = bootstrap.paired(frame, other, "uar", "drop", 100, 5)
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    differences = []
    for count in bootstrap.draws(groups, 100, 5):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in np.repeat(range(8), count)])
        a, b = (scores_of(alignment.select(t, rows), "drop") for t in (frame, other))
        differences.append(a["uar"]["value"] - b["uar"]["value"])
    expected = np.percentile(differences, [2.5, 97.5])
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected))
    assert found["difference"] == pytest.approx(found["a"] - found["b"])
    back = bootstrap.paired(other, frame, "uar", "drop", 100, 5)
    assert (back["low"], back["high"]) == pytest.approx((-found["high"], -found["low"]))


def test_pairing_is_narrower_than_the_intervals_it_compares():
    frame = drawn(12, dialogues=20, rows=400)
    other = frame.copy()
    other.loc[:7, "emotion"] = "fear"
    low, high = bootstrap.bootstrap(frame, "drop", 300, 0)["accuracy"]
    found = bootstrap.paired(frame, other, "accuracy", "drop", 300, 0)
    assert found["high"] - found["low"] < (high - low) / 2


def test_different_test_sets_are_refused_and_the_differences_named():
    frame = drawn(13)
    with pytest.raises(
        UserError, match=r"only the first has 2 rows \(kemdy19 speaker Sess01_.*M000"
    ):
        bootstrap.paired(frame, frame.iloc[2:], "uar")
    with pytest.raises(UserError, match=r"only the second has 60 rows .*listener.*, \.\.\."):
        bootstrap.paired(frame, frame.assign(role="listener"), "uar")
    with pytest.raises(UserError, match=r"second run repeats 1 rows \(.*M000\)"):
        bootstrap.paired(frame, pd.concat([frame, frame.iloc[:1]]), "uar")


@pytest.mark.parametrize(
    ("name", "value"),
    [("emotion_true", "fear;sad"), ("votes_sad", 99), ("arousal_true", 1.5), ("dialogue", "x")],
)
def test_a_different_truth_is_refused_and_its_row_named(name, value):
    frame, other = drawn(14), drawn(14)
    other[name] = other[name].astype(object)
    other.loc[3, name] = value
    with pytest.raises(UserError, match=r"truth; it differs in 1 rows \(.*M003\)"):
        bootstrap.paired(frame, other, "uar")


def test_an_unknown_score_or_rows_predicted_by_one_run_only_are_refused():
    frame = drawn(15)
    with pytest.raises(UserError, match="'f1'; there are: accuracy, uar"):
        bootstrap.paired(frame, frame, "f1")
    with pytest.raises(UserError, match="the first has them for 60, the second for 0"):
        bootstrap.paired(frame, frame.assign(arousal=np.nan), "ccc_arousal")


# --- the summary ----------------------------------------------------------------------------


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

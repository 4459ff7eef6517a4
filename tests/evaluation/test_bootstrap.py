"""Intervals and paired comparisons against scikit-learn and brute force."""

import time

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from doubles.tables import with_dialogues as drawn
from hypothesis import given, settings
from hypothesis import strategies as st

import constants
import metric
from evaluation import alignment, bootstrap
from evaluation.predictions import multi_hot, scores_of
from utils import UserError

SEEDS = st.integers(0, 2**32)
NAMES = list(metric.SCORES)


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.sampled_from(constants.TIE_POLICIES))
def test_vectorised_resamples_equal_scoring_the_drawn_rows_one_resample_at_a_time(seed, ties):
    frame = drawn(seed, dialogues=4, rows=150)
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    counts = bootstrap.draws((4,), 12, seed)
    found = bootstrap.resampled_table(frame, ties, counts, groups)
    for resample, count in enumerate(counts):
        rows = [np.flatnonzero(groups == g) for g in range(4) for _ in range(count[g])]
        direct = scores_of(alignment.select(frame, np.concatenate(rows)), ties)
        for name in bootstrap.SCORES:
            expected = pytest.approx(direct[name]["value"], abs=1e-9, nan_ok=True)
            assert found[name][resample] == expected, name


def test_the_interval_is_the_percentiles_of_resampled_scores_written_out():
    frame = drawn(1)
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    values = []
    for count in bootstrap.draws((5,), 200, 9):
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
    found = bootstrap.resampled_table(frame, "drop", np.array([[2, 0], [1, 1]]), groups)
    assert found["macro_f1"].tolist() == found["uar"].tolist() == [1, 1]
    assert found["macro_f1_fixed7"] == pytest.approx([1 / 7, 2 / 7])


def test_draws_are_as_many_dialogues_as_there_are_and_depend_on_the_seed_alone():
    counts = bootstrap.draws((3,), 500, 1)
    assert counts.shape == (500, 3) and (counts.sum(1) == 3).all()
    assert counts.mean(0) == pytest.approx([1, 1, 1], abs=0.15)
    assert (counts == bootstrap.draws((3,), 500, 1)).all()
    assert (counts != bootstrap.draws((3,), 500, 2)).any()


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
    counts = bootstrap.draws((3,), 200, 0)
    values = bootstrap.resampled_table(frame, "drop", counts, groups)["ccc_arousal"]
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


def test_where_there_is_one_dialogue_nothing_is_drawn():
    assert not bootstrap.draws((1,), 5, 0).any() and bootstrap.draws((), 5, 0).shape == (5, 0)
    assert not bootstrap.draws((1, 1), 5, 0).any() and bootstrap.draws((1, 2), 5, 0)[:, 0].all()


def test_the_legacy_scores_have_no_interval():
    frame = drawn(1)
    assert not set(metric.LEGACY) & set(bootstrap.bootstrap(frame, "drop", 20, 0))
    with pytest.raises(UserError, match="no score 'legacy_f1'; there are: accuracy"):
        bootstrap.paired(frame, frame, "legacy_f1")


# --- paired comparison ----------------------------------------------------------------------


def test_a_run_against_itself_differs_by_nothing_in_any_order_of_rows():
    frame = drawn(10)
    found = bootstrap.paired(frame, frame.sample(frac=1, random_state=0), "f1_at_1", "first", 50, 0)
    assert found["difference"] == found["low"] == found["high"] == 0 and found["n"] == 59


def test_the_paired_interval_is_that_of_the_differences_on_the_same_dialogues():
    frame = drawn(11, dialogues=8, rows=200)
    other = frame.assign(emotion=frame.emotion.to_numpy()[::-1])
    found = bootstrap.paired(frame, other, "uar", "drop", 100, 5)
    groups = alignment.numbered(frame, alignment.DIALOGUE)
    differences = []
    for count in bootstrap.draws((8,), 100, 5):
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

"""Scores of highlights against scikit-learn, SciPy and brute force."""

import doctest
import json
import math

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from doubles.highlights import drawn, mean_of_marks, table, value
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evaluation.highlights import intervals
from evaluation.highlights import scores as seconds
from reporting import highlight_text
from utils import UserError

examples = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**32)
RANKS = ("average_precision", "roc_auc", "kendall", "spearman")


def test_the_examples_run():
    result = doctest.testmod(seconds)
    assert result.attempted and not result.failed


@examples
@given(SEEDS, st.sampled_from([0, 2, 4, 10]))
def test_pooled_scores_equal_scikit_learn_and_scipy(seed, levels):
    frame = drawn(seed, levels=levels)
    truth, score, share = frame.highlight_true, frame.highlight, mean_of_marks(frame)
    found = seconds.scores(frame, threshold=0.5)
    expected = {
        "average_precision": sk.average_precision_score(truth, score),
        "roc_auc": sk.roc_auc_score(truth, score),
        "f1": sk.f1_score(truth, score >= 0.5, zero_division=0),
        "kendall": stats.kendalltau(score, share).statistic,
        "spearman": stats.spearmanr(score, share).statistic,
        "positive_rate": truth.mean(),
        "selected_rate": (score >= 0.5).mean(),
    }
    assert {name: value(found, name) for name in expected} == pytest.approx(expected)
    assert {one["n"] for one in found.values()} == {len(frame)}


@examples
@given(SEEDS)
def test_scores_by_video_are_the_mean_of_those_of_each_video_alone(seed):
    frame = drawn(seed, videos=3, levels=8)
    found = seconds.scores(frame, 0.5, 0.2)
    for name in ("average_precision", "f1", "f1_budget", "kendall", "spearman", "positive_rate"):
        alone = [value(seconds.scores(p, 0.5, 0.2), name) for _, p in frame.groupby("dialogue")]
        assert found[name]["video_mean"] == pytest.approx(np.nanmean(alone))
        assert found[name]["video_n"] == np.isfinite(alone).sum()


@examples
@given(SEEDS, st.floats(0.01, 1), st.sampled_from([0, 3]))
def test_f1_with_a_budget_selects_the_best_of_each_video_and_of_equal_ones_the_first(
    seed, budget, levels
):
    frame = drawn(seed, levels=levels)
    chosen = pd.Series(False, frame.index)
    for _, part in frame.groupby("dialogue"):
        best = part.sort_values("highlight", ascending=False, kind="stable")
        chosen[best.index[: round(budget * len(part))]] = True
    expected = sk.f1_score(frame.highlight_true, chosen, zero_division=0)
    assert value(seconds.scores(frame, budget=budget), "f1_budget") == pytest.approx(expected)


@examples
@given(SEEDS)
def test_a_perfect_score_has_average_precision_and_auc_one(seed):
    frame = drawn(seed)
    found = seconds.scores(frame.assign(highlight=frame.highlight_true), threshold=1.0)
    assert [value(found, name) for name in ("average_precision", "roc_auc", "f1")] == [1, 1, 1]


@examples
@given(SEEDS, st.floats(0, 1))
def test_a_constant_score_has_the_rate_as_average_precision_and_auc_one_half(seed, constant):
    frame = drawn(seed)
    found = seconds.scores(frame.assign(highlight=constant))
    assert value(found, "average_precision") == pytest.approx(frame.highlight_true.mean())
    assert value(found, "roc_auc") == 0.5
    assert math.isnan(value(found, "kendall")) and math.isnan(value(found, "spearman"))


@examples
@given(SEEDS)
def test_a_monotone_transform_changes_no_score_of_a_ranking(seed):
    frame = drawn(seed, levels=12)
    other = frame.assign(highlight=stats.rankdata(frame.highlight) / (len(frame) + 1))
    before, after = seconds.scores(frame), seconds.scores(other)
    for name in (*RANKS, "f1_budget"):
        for key in ("value", "video_mean"):
            assert after[name][key] == pytest.approx(before[name][key], nan_ok=True)


@settings(deadline=None, max_examples=10)
@given(SEEDS)
def test_the_order_of_rows_and_videos_changes_nothing_at_all(seed):
    frame = drawn(seed, levels=6)
    shuffled = frame.sample(frac=1, random_state=seed % 2**32)
    summaries = [intervals.summary(each, 0.5, resamples=50) for each in (frame, shuffled)]
    assert summaries[0] == summaries[1]
    assert seconds.threshold(frame) == seconds.threshold(shuffled)


def test_a_dict_of_arrays_is_a_table_too_and_is_not_changed():
    frame = drawn(1)
    arrays = {name: frame[name].to_numpy().copy() for name in frame}
    for array in arrays.values():
        array.flags.writeable = False
    assert intervals.summary(arrays, 0.5, resamples=20) == intervals.summary(
        frame, 0.5, resamples=20
    )


def test_a_video_in_which_a_score_is_undefined_is_named_and_not_counted():
    frame = pd.concat(
        [
            table([0.2, 0.9, 0.4], [0, 1, 0], ["0;0", "1;1", "0;1"], "good"),
            table([0.1, 0.2], [0, 0], "0;0", "nothing"),
            table([0.3, 0.4], [1, 1], "1;1", "everything"),
        ]
    )
    found = seconds.scores(frame, threshold=0.25)
    assert found["roc_auc"]["undefined"] == ["everything", "nothing"]
    assert found["average_precision"]["undefined"] == ["nothing"]
    assert found["f1"]["undefined"] == ["nothing"] and found["f1"]["video_n"] == 2
    assert found["kendall"]["undefined"] == ["everything", "nothing"]
    assert found["roc_auc"]["video_mean"] == 1 and found["positive_rate"]["undefined"] == []


def test_no_rows_and_no_positives_have_no_score():
    for frame in (drawn(0).iloc[:0], drawn(0).assign(highlight_true=0.0)):
        found = seconds.scores(frame, 0.5)
        for name in ("average_precision", "roc_auc", "f1", "f1_budget"):
            assert math.isnan(value(found, name)) and found[name]["video_n"] == 0
        json.dumps(intervals.summary(frame, 0.5, resamples=10), allow_nan=False)


def test_rows_without_prediction_or_truth_are_left_out_and_counted():
    frame = drawn(3)
    kept = frame.iloc[10:]
    frame.loc[:4, "highlight"], frame.loc[5:9, "highlight_true"] = np.nan, np.nan
    found, alone = (intervals.summary(each, 0.5, resamples=20) for each in (frame, kept))
    assert found["n"].pop("without") == 10 and alone["n"].pop("without") == 0
    assert found == alone


def test_seconds_without_marks_count_only_where_no_annotator_is_asked():
    frame = drawn(4)
    first = frame.dialogue == "유튜브_0"
    unknown = frame.assign(marks=frame.marks.mask(first, np.nan))
    found = seconds.scores(unknown)
    assert found["kendall"]["n"] == (~first).sum() and found["roc_auc"]["n"] == len(frame)
    assert found["kendall"]["undefined"] == ["유튜브_0"]
    expected = stats.kendalltau(frame.highlight[~first], mean_of_marks(frame[~first])).statistic
    assert value(found, "kendall") == pytest.approx(expected)
    assert value(found, "roc_auc") == value(seconds.scores(frame), "roc_auc")


def test_marks_of_one_annotator_that_a_csv_made_numbers_are_read(tmp_path):
    frame = drawn(2, annotators=1)
    frame.loc[frame.dialogue == "유튜브_3", "marks"] = ""
    frame.to_csv(tmp_path / "predictions.csv", index=False)
    again = pd.read_csv(tmp_path / "predictions.csv")
    assert again.marks.dtype == float
    expected = intervals.summary(frame, 0.5, resamples=20)
    assert intervals.summary(again, 0.5, resamples=20) == expected
    assert expected["scores"]["kendall"]["undefined"] == ["유튜브_3"]


def test_a_second_is_positive_from_one_half_on():
    found = seconds.scores(table([0.1, 0.2, 0.3, 0.4], [0, 1 / 3, 0.5, 1]))
    assert value(found, "positive_rate") == 0.5 and value(found, "roc_auc") == 1


@pytest.mark.parametrize(
    ("column", "wrong", "message"),
    [
        ("highlight", 1.5, r"highlight must be in \[0, 1\], it is 1.5 in v#00001"),
        ("highlight_true", -1, r"highlight_true must be in \[0, 1\], it is -1 in v#00001"),
        ("segment", "v", "a segment must be <video>#<second>, got 'v'"),
        ("segment", "v#00000", "each second must come once, v#00000 comes twice"),
        ("marks", "1;2", "marks must be 0 and 1 joined by \";\", got '1;2'"),
        ("marks", "1", "marks must be of the same annotators in all seconds of a video"),
    ],
)
def test_a_table_that_cannot_be_is_refused(column, wrong, message):
    frame = table([0.1, 0.2, 0.3], [0, 1, 0], "0;1").astype({"marks": object, "segment": object})
    frame.loc[1, column] = wrong
    with pytest.raises(UserError, match=message):
        seconds.scores(frame)


@pytest.mark.parametrize("budget", [0, -0.1, 1.5, math.nan])
def test_a_budget_that_is_no_share_is_refused(budget):
    with pytest.raises(UserError, match="a budget must be a share of the video"):
        seconds.scores(drawn(0), budget=budget)


# --- the threshold ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.sampled_from([0, 3, 9]))
def test_the_threshold_has_the_best_f1_of_all_and_is_the_highest_of_equal_ones(seed, levels):
    frame = drawn(seed, videos=2, length=15, levels=levels)
    tried = sorted(frame.highlight.unique(), reverse=True)
    f1 = [value(seconds.scores(frame, t), "f1") for t in tried]
    assert seconds.threshold(frame) == tried[int(np.argmax(f1))]


def test_equal_probabilities_are_selected_together_when_a_threshold_is_sought():
    assert seconds.threshold(table([0.9, 0.5, 0.5, 0.5, 0.5, 0.5], [1, 1, 0, 0, 0, 0])) == 0.9


def test_of_equally_good_thresholds_the_highest_is_taken():
    assert seconds.threshold(table([0.9, 0.5, 0.4, 0.3], [1, 0, 0, 1])) == 0.9


def test_there_is_no_threshold_without_validation_rows_or_without_positives():
    assert seconds.threshold(None) is None
    assert seconds.threshold(drawn(0).iloc[:0]) is None
    assert seconds.threshold(drawn(0).assign(highlight_true=0.0)) is None


def test_without_a_threshold_there_is_no_f1_at_one():
    found = intervals.summary(drawn(0), None, resamples=20)
    assert (
        found["scores"]["f1"]["value"] is None and found["scores"]["selected_rate"]["low"] is None
    )
    assert found["beats_always_positive"] is None is found["surely_beats_always_positive"]
    assert found["scores"]["f1_budget"]["value"] > 0
    assert any("not known" in line for line in highlight_text.lines(found))

"""Intervals, comparisons, other annotators, and what a report must say."""

import itertools
import json
import math
import time
import unicodedata

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from doubles.highlights import drawn, table, value
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evaluation import bootstrap
from evaluation.highlights import intervals
from evaluation.highlights import scores as seconds
from reporting import highlight_text
from utils import UserError

examples = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**32)
RANKS = ("average_precision", "roc_auc", "kendall", "spearman")


# --- intervals and comparisons ------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.sampled_from([0, 5]))
def test_resamples_equal_scoring_the_drawn_videos_one_resample_at_a_time(seed, levels):
    frame = drawn(seed, levels=levels)
    rows = seconds.seconds_of(frame)
    counts = bootstrap.draws((4,), 8, seed)
    found = seconds.values(rows, 0.5, 0.2, counts)
    for resample, count in enumerate(counts):
        parts = [
            frame[frame.dialogue == name].assign(
                dialogue=f"{name}-{copy}",
                segment=lambda part, copy=copy: part.segment.str.replace("#", f"-{copy}#"),
            )
            for name, times in zip(rows.names, count, strict=True)
            for copy in range(times)
        ]
        direct = seconds.scores(pd.concat(parts), 0.5, 0.2)
        for name in seconds.SCORES:
            expected = pytest.approx(value(direct, name), abs=1e-9, nan_ok=True)
            assert found[name][resample] == expected, name


def test_the_memory_limit_changes_no_resample(monkeypatch):
    frame = drawn(2)
    before = intervals.summary(frame, 0.5, resamples=40)
    monkeypatch.setattr(seconds, "CELLS", 3 * len(frame))
    assert intervals.summary(frame, 0.5, resamples=40) == before


def test_the_intervals_are_percentiles_of_the_resampled_scores():
    frame = drawn(0)
    frame.loc[frame.dialogue == "유튜브_2", "highlight_true"] = 0.0  # no AUC there
    rows = seconds.seconds_of(frame)
    counts = bootstrap.draws((4,), 200, 3)
    found = intervals.summary(frame, 0.5, resamples=200, seed=3)["scores"]["roc_auc"]
    many = seconds.values(rows, 0.5, 0.15, counts)["roc_auc"]
    ends = np.nanpercentile(many, [2.5, 97.5])
    assert (found["low"], found["high"]) == pytest.approx(tuple(ends))
    each = [
        sk.roc_auc_score(part.highlight_true, part.highlight)
        if part.highlight_true.any()
        else np.nan
        for _, part in frame.groupby("dialogue")
    ]
    drawn_videos = [np.repeat(each, count) for count in counts]
    means = [np.nanmean(some) for some in drawn_videos if np.isfinite(some).any()]
    ends = np.percentile(means, [2.5, 97.5])
    assert (found["video_low"], found["video_high"]) == pytest.approx(tuple(ends))


def test_one_video_has_scores_but_no_interval():
    found = intervals.summary(drawn(0, videos=1), 0.5, resamples=20)
    assert found["scores"]["roc_auc"]["value"] > 0.5
    assert found["scores"]["roc_auc"]["low"] is found["interval_excludes_rate"] is None
    assert found["beats_always_positive"] is not None


def test_two_models_are_compared_on_the_same_drawn_videos():
    a, b = drawn(1, videos=8), drawn(1, videos=8).assign(highlight=drawn(2, videos=8).highlight)
    found = intervals.paired(a, b, resamples=300, seed=4)
    counts = bootstrap.draws((8,), 300, 4)
    many = [
        seconds.values(seconds.seconds_of(t), None, 0.15, counts)["average_precision"]
        for t in (a, b)
    ]
    assert (found["low"], found["high"]) == pytest.approx(
        tuple(np.percentile(many[0] - many[1], [2.5, 97.5]))
    )
    beyond = min((many[0] <= many[1]).sum(), (many[0] >= many[1]).sum())
    assert found["p"] == pytest.approx(2 * (1 + beyond) / 301)
    assert found["difference"] == found["a"] - found["b"] > 0
    assert found["a"] == value(seconds.scores(a), "average_precision")
    score = sk.average_precision_score
    ap = [
        [score(part.highlight_true, part.highlight) for _, part in each.groupby("dialogue")]
        for each in (a, b)
    ]
    d = np.subtract(*ap)
    flips = np.array(list(itertools.product([1, -1], repeat=8))) @ d / 8
    exact = np.mean(np.abs(flips) >= abs(d.mean()) - 1e-12)
    assert found["video"]["difference"] == pytest.approx(d.mean())
    assert found["video"]["p"] == pytest.approx(exact)
    assert found["video"]["better"] == (d > 0).sum() and found["video"]["n"] == 8


def test_a_model_does_not_differ_from_itself_and_swapping_two_turns_the_sign():
    a, b = drawn(1), drawn(1).assign(highlight=drawn(9).highlight)
    same = intervals.paired(a, a, resamples=50)
    assert same["difference"] == same["low"] == same["high"] == 0 and same["p"] == 1
    assert same["video"]["p"] == 1 and same["video"]["better"] == 0
    one, other = intervals.paired(a, b, resamples=50), intervals.paired(b, a, resamples=50)
    assert (one["low"], one["high"]) == (-other["high"], -other["low"])
    assert one["p"] == other["p"]


def test_each_of_two_models_has_its_own_threshold():
    a = drawn(1)
    half = a.assign(highlight=a.highlight / 2)
    found = intervals.paired(a, half, "f1", (0.5, 0.25), resamples=20)
    assert found["difference"] == 0 and found["a"] > 0
    assert intervals.paired(a, half, "f1", (0.5, 0.5), resamples=20)["difference"] != 0


def test_several_comparisons_are_corrected_by_holm():
    scores = {"a": drawn(1), "b": drawn(7), "c": drawn(8)}
    tables = {n: drawn(1).assign(highlight=frame.highlight) for n, frame in scores.items()}
    found = intervals.compared(tables, resamples=99)
    assert [(pair["a"], pair["b"]) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for tests in ([p["comparison"] for p in found], [p["comparison"]["video"] for p in found]):
        p = np.array([test["p"] for test in tests])
        order = np.argsort(p, kind="stable")
        expected = np.minimum(np.maximum.accumulate(p[order] * [3, 2, 1]), 1)
        assert np.array([test["p_holm"] for test in tests])[order] == pytest.approx(expected)
    first = intervals.compared(tables, pairs=[("a", "b")], resamples=99)[0]["comparison"]
    assert first["p_holm"] == first["p"] == found[0]["comparison"]["p"]


def test_models_of_other_seconds_truth_or_scores_are_refused():
    a = drawn(1)
    with pytest.raises(
        UserError, match="same seconds; the first has 126 of 4 videos, the second 125"
    ):
        intervals.paired(a, a.iloc[1:])
    turned = a.assign(
        highlight_true=np.where(a.index == 40, 1 - a.highlight_true, a.highlight_true)
    )
    with pytest.raises(UserError, match=r"differs in 1 seconds, the first is 유튜브_1#00010"):
        intervals.paired(a, turned)
    fewer = a.assign(marks=a.marks.str[:3])
    with pytest.raises(UserError, match="both runs need the same truth"):
        intervals.paired(a, fewer)
    with pytest.raises(UserError, match="no score 'ap'; there are: average_precision"):
        intervals.paired(a, a, "ap")


@pytest.mark.parametrize(("videos", "length", "limit"), [(32, 60, 4), (4, 900, 12)])
def test_intervals_are_fast(videos, length, limit):
    frame = drawn(0, videos, length)
    start = time.process_time()
    intervals.summary(frame, 0.5)
    assert time.process_time() - start < limit


# --- other annotators -----------------------------------------------------------------------------


@pytest.mark.parametrize("annotators", [3, 4])
@pytest.mark.parametrize("rule", list(intervals.RULES))
def test_human_agreement_equals_leaving_each_annotator_out_by_hand(rule, annotators):
    frame = drawn(8, annotators=annotators)
    marks = np.array([[int(m) for m in text.split(";")] for text in frame.marks])
    found = intervals.human(frame, rule)
    f1, tau, rho, model = [], [], [], []
    for j in range(annotators):
        others = np.delete(marks, j, 1)
        truth = {
            "union": others.max(1),
            "majority": 2 * others.sum(1) > annotators - 1,
            "mean": others.mean(1) >= 0.5,
        }[rule]
        f1.append(sk.f1_score(truth, marks[:, j]))
        tau.append(stats.kendalltau(marks[:, j], others.mean(1)).statistic)
        rho.append(stats.spearmanr(marks[:, j], others.mean(1)).statistic)
        k = pd.Series(marks[:, j]).groupby(frame.dialogue).transform("sum")
        rank = frame.highlight.groupby(frame.dialogue).rank(ascending=False)
        model.append(sk.f1_score(truth, rank <= k))
    for name, each in (("f1", f1), ("kendall", tau), ("spearman", rho)):
        expected = np.mean(each), min(each), max(each)
        assert [found[name][key] for key in ("mean", "low", "high")] == pytest.approx(expected)
    others = [np.delete(marks, j, 1).mean(1) for j in range(annotators)]
    taus = [stats.kendalltau(frame.highlight, share).statistic for share in others]
    assert found["f1"]["model"] == pytest.approx(np.mean(model))
    assert found["kendall"]["model"] == pytest.approx(np.mean(taus))
    assert found["annotators"] == annotators and found["videos"] == 4
    assert found["undefined"] == []


def test_a_model_that_copies_an_annotator_agrees_with_the_others_as_he_does():
    frame = drawn(8, annotators=2)
    frame["highlight"] = [float(text[0]) for text in frame.marks]
    found = intervals.human(frame)
    rows = seconds.seconds_of(frame)
    own, model = intervals._left_out(rows, np.ones(len(frame), bool), 0, "union")["f1"]
    assert own == model and found["f1"]["mean"] == pytest.approx(own)


def test_videos_with_fewer_than_two_annotators_are_named_and_left_out():
    both = pd.concat(
        [drawn(1, videos=2), drawn(2, videos=1, annotators=1).assign(dialogue="alone")]
    )
    found, expected = intervals.human(both), intervals.human(drawn(1, videos=2))
    assert found.pop("undefined") == ["alone"] and expected.pop("undefined") == []
    assert found == expected
    nobody = intervals.human(drawn(1, annotators=1))
    assert nobody["videos"] == nobody["annotators"] == 0 and len(nobody["undefined"]) == 4
    assert math.isnan(nobody["f1"]["mean"]) and math.isnan(nobody["kendall"]["high"])


def test_videos_may_have_different_numbers_of_annotators():
    frame = pd.concat(
        [
            table([0.1, 0.2, 0.3], [1, 0, 1], ["1;1;0", "0;0;0", "1;0;1"], "three"),
            table([0.4, 0.5], [0, 1], ["0;0", "0;1"], "two"),
        ]
    )
    found = intervals.human(frame)
    first = sk.f1_score([1, 0, 1, 0, 1], [1, 0, 1, 0, 0])
    second = sk.f1_score([1, 0, 1, 0, 0], [1, 0, 0, 0, 1])
    third = sk.f1_score([1, 0, 1], [0, 0, 1])
    assert found["annotators"] == 3 and found["videos"] == 2
    assert found["f1"]["mean"] == pytest.approx(np.mean([first, second, third]))


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="no label rule 'any'; there are: union, majority, mean"):
        intervals.human(drawn(0), "any")


# --- what would be cut ----------------------------------------------------------------------------


def test_the_overlap_is_that_of_each_videos_spans_with_its_true_seconds():
    truth = np.zeros(20)
    truth[4:8] = 1
    score = np.roll(truth, 1) * 0.8 + 0.1
    frame = pd.concat([table(truth, truth, video="right"), table(score, truth, video="late")])
    found = intervals.overlap(frame.iloc[::-1], smoothing=1)
    assert found == {"late": 3 / 5, "right": 1.0}
    assert intervals.overlap(frame, budget=0.4, smoothing=1)["right"] == 4 / 8
    assert intervals.overlap(frame, threshold=0.5, smoothing=1) == found


def test_a_second_that_is_missing_is_never_true_and_keeps_its_place():
    truth = np.array([0, 1, 1, 1, 0, 0, 0, 0, 1, 1])
    frame = table(truth * 0.9, truth).drop(index=[4, 5])
    assert intervals.overlap(frame, threshold=0.5, smoothing=1, clip=1) == {"v": 1.0}


def test_a_video_without_highlights_has_no_overlap_with_its_own_share():
    frame = pd.concat([table([0.5] * 9, [0] * 9, video="none"), table([0.5] * 9, [1] * 9)])
    found = intervals.overlap(frame)
    assert math.isnan(found["none"]) and found["v"] == 1
    assert intervals.overlap(frame, budget=0.5)["none"] == 0


# --- the part of result.json ----------------------------------------------------------------------


def test_a_report_says_that_everything_is_a_highlight_was_not_beaten():
    """The published system: its threshold selects nearly everything, its ranking is chance."""
    frame = drawn(1, videos=8, length=60, skill=0)
    frame["highlight"] = np.random.default_rng(0).uniform(0.3, 0.4, len(frame))
    found = intervals.summary(frame, seconds.threshold(frame), resamples=300)
    best = found["scores"]["f1"]
    always = best["baselines"]["always_positive"]["value"]
    assert best["value"] == pytest.approx(always, abs=0.03)
    assert found["interval_excludes_rate"] is False and not found["surely_beats_always_positive"]
    chance = intervals.summary(frame, 0.38, resamples=300)
    assert chance["beats_always_positive"] is False
    assert any("NO" in line and "everything" in line for line in highlight_text.lines(chance))


def test_a_report_says_that_a_good_model_beats_everything_is_a_highlight():
    found = intervals.summary(drawn(1, videos=8, length=60), 0.6, resamples=300)
    above = found["above"]
    assert found["interval_excludes_rate"] and found["surely_beats_always_positive"]
    assert above["average_precision"]["difference"] == pytest.approx(
        found["scores"]["average_precision"]["value"] - found["scores"]["positive_rate"]["value"]
    )
    baseline = found["scores"]["f1"]["baselines"]["always_positive"]
    assert above["f1"]["difference"] == pytest.approx(
        found["scores"]["f1"]["value"] - baseline["value"]
    )
    assert above["average_precision"]["video"]["better"] == 8
    assert all("NO" not in line for line in highlight_text.lines(found))


def test_a_video_beats_chance_only_above_what_chance_expects_of_so_few_seconds():
    frame = pd.concat([table([0.9, 0.5, 0.1], [0, 1, 0], video=f"v{i}") for i in range(4)])
    video = intervals.summary(frame, resamples=20)["above"]["average_precision"]["video"]
    assert video["difference"] == pytest.approx(1 / 2 - (1 + 1 / 2 + 1 / 3) / 3)


def test_the_summary_is_json_without_nan_and_its_lines_fit_a_console():
    for frame, t in (
        (drawn(1), 0.5),
        (drawn(1, videos=1, annotators=1), None),
        (drawn(0)[:0], 0.5),
    ):
        found = intervals.summary(frame, t, resamples=20)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        for line in highlight_text.lines(found):
            wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line)
            assert len(line) + wide <= 80 and "None" not in line and "nan" not in line


def test_the_rule_of_a_summary_is_that_of_its_annotators():
    frame = drawn(1, annotators=4)
    found = intervals.summary(frame, rule="majority", resamples=10)
    assert found["rule"] == "majority" and found["human"] == intervals.human(frame, "majority")
    assert found["human"] != intervals.human(frame, "union")


def test_every_score_of_the_summary_stands_beside_its_interval_and_baselines():
    found = intervals.summary(drawn(1), 0.5, resamples=100)
    assert list(found["scores"]) == list(seconds.SCORES)
    for name, score in found["scores"].items():
        assert score["low"] <= score["value"] <= score["high"], name
        assert seconds.SCORES[name].low <= score["value"] <= seconds.SCORES[name].high
    f1 = found["scores"]["f1_budget"]["baselines"]
    assert set(f1) == {"random", "start", "middle"}
    assert set(found["scores"]["f1"]["baselines"]) == {"always_positive", "random"}


def test_the_same_seed_gives_the_same_summary_and_another_one_other_intervals():
    first, again, other = (
        intervals.summary(drawn(1), 0.5, seed=s, resamples=50) for s in (1, 1, 2)
    )
    assert first == again and first["scores"]["f1"]["low"] != other["scores"]["f1"]["low"]

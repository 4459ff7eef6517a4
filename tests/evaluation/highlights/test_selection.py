"""What is cut: the budget is kept and filled as brute force would, spans are long and apart."""

import doctest
import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.highlights import selection
from media.spans import true_spans
from utils import UserError

examples = settings(deadline=None, max_examples=150)
SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.9, 1.0]), min_size=1, max_size=40)
SHORT = st.lists(st.integers(0, 4).map(lambda level: level / 4), min_size=1, max_size=11)
BUDGETS = st.floats(0.01, 1)
LENGTHS = st.integers(1, 6)


def mask(spans: list, n: int) -> np.ndarray:
    found = np.zeros(n, bool)
    for start, end in spans:
        found[start:end] = True
    return found


def total(spans: list) -> int:
    return sum(end - start for start, end in spans)


def well_formed(spans: list, n: int, clip: int, gap: int) -> bool:
    """Sorted, inside the video, of whole seconds, `clip` or longer and `gap` or more apart."""
    inside = all(0 <= start < end <= n for start, end in spans)
    whole = all(isinstance(place, int) for span in spans for place in span)
    long = all(end - start >= min(clip, n) for start, end in spans)
    apart = all(b - a >= gap for (_, a), (b, _) in itertools.pairwise(spans))
    return inside and whole and long and apart


def test_the_examples_run():
    result = doctest.testmod(selection)
    assert result.attempted and not result.failed


# --- every way ----------------------------------------------------------------------------------


@examples
@given(
    SCORES,
    st.one_of(
        st.fixed_dictionaries({"budget": BUDGETS}),
        st.fixed_dictionaries({"threshold": st.floats(0, 1)}),
        st.fixed_dictionaries({"top": st.integers(1, 5)}),
    ),
    LENGTHS,
    st.sampled_from([0, 1, 2, 3, 4.5, 7]),
    st.integers(1, 4),
)
def test_spans_are_sorted_apart_and_at_least_a_clip_long(score, how, clip, smoothing, gap):
    found = selection.selected(score, **how, clip=clip, smoothing=smoothing, gap=gap)
    assert well_formed(found, len(score), clip, gap)


def test_no_seconds_have_no_spans():
    for how in ({"budget": 0.5}, {"threshold": 0.5}, {"top": 1}):
        assert selection.selected([], **how) == []


def test_exactly_one_way_is_needed():
    with pytest.raises(UserError, match="one of budget, threshold and top is needed, 0 were given"):
        selection.selected([0.5])
    with pytest.raises(UserError, match="2 were given"):
        selection.selected([0.5], budget=0.5, top=1)
    assert selection.selected([0.0, 1.0, 1.0, 1.0], threshold=0.0) == [(0, 4)]  # 0 is a threshold


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"budget": 0}, "share of the video above 0"),
        ({"budget": 1.01}, "share of the video above 0"),
        ({"top": 0}, "top must be 1 clip or more"),
        ({"top": 1, "clip": 0}, "clip and gap must be 1 s or more, they are 0 and 2"),
        ({"top": 1, "gap": 0}, "clip and gap must be 1 s or more, they are 3 and 0"),
    ],
)
def test_what_cannot_be_cut_is_refused(how, message):
    with pytest.raises(UserError, match=message):
        selection.selected([0.5, 0.6, 0.7, 0.8], **how)


@pytest.mark.parametrize("score", [[0.5, np.nan], [1.5], [-0.1], [[0.5]]])
def test_scores_that_are_no_probabilities_are_refused(score):
    with pytest.raises(ValueError, match=r"known and in \[0, 1\]"):
        selection.selected(score, top=1)


# --- a budget -----------------------------------------------------------------------------------


@examples
@given(SCORES, BUDGETS, LENGTHS, st.sampled_from([1, 3]), st.integers(1, 4))
def test_the_budget_is_never_exceeded(score, budget, clip, smoothing, gap):
    found = selection.selected(score, budget, clip=clip, smoothing=smoothing, gap=gap)
    assert total(found) <= round(budget * len(score))


@examples
@given(SHORT, BUDGETS, st.integers(1, 4), st.integers(1, 3))
def test_no_other_selection_within_the_budget_has_a_greater_sum(score, budget, clip, gap):
    n, allowed = len(score), round(budget * len(score))
    best = 0.0
    for chosen in itertools.product([False, True], repeat=n):
        if sum(chosen) <= allowed and well_formed(true_spans(chosen), n, clip, gap):
            best = max(best, float(np.sum(np.array(score)[list(chosen)])))
    found = selection.selected(score, budget, clip=clip, smoothing=1, gap=gap)
    assert np.sum(np.array(score)[mask(found, n)]) == pytest.approx(best)


@examples
@given(SCORES, BUDGETS)
def test_seconds_by_themselves_are_the_best_ones(score, budget):
    k = round(budget * len(score))
    found = selection.selected(score, budget, clip=1, smoothing=1, gap=1)
    assert total(found) == k
    chosen = mask(found, len(score))
    assert np.sort(np.array(score)[chosen]) == pytest.approx(np.sort(score)[len(score) - k :])


@examples
@given(st.integers(1, 60), BUDGETS, LENGTHS, st.floats(0, 1))
def test_a_constant_score_fills_the_budget_from_the_start(n, budget, clip, constant):
    found = selection.selected([constant] * n, budget, clip=clip, gap=1)
    k = round(budget * n)
    assert found == ([(0, k)] if k >= min(clip, n) and k else [])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), BUDGETS)
def test_a_budget_is_filled_to_the_last_second_where_gaps_are_free(seed, budget):
    score = np.random.default_rng(seed).random(60)
    found = selection.selected(score, budget, clip=4, gap=1)
    assert total(found) == (round(budget * 60) if round(budget * 60) >= 4 else 0)


def test_planted_highlights_are_found_when_the_budget_is_their_share():
    planted = [(5, 12), (30, 38), (50, 55)]
    truth = mask(planted, 60)
    noise = np.random.default_rng(0).uniform(0, 0.3, 60)
    found = selection.selected(truth * 0.6 + noise, budget=truth.mean())
    assert selection.iou(found, truth) > 0.8


def test_clips_cannot_be_cut_where_the_budget_is_shorter_than_one():
    assert selection.selected([0.9] * 10, 0.2) == []
    assert selection.selected([0.9] * 10, 0.2, clip=2) == [(0, 2)]
    assert selection.selected([0.9, 0.1], 1.0) == [(0, 2)]  # shorter than a clip: all of it


def test_a_short_gap_is_paid_for_or_left_wide_enough():
    score = [0.9, 0.9, 0.9, 0, 0.9, 0.9, 0.9, 0, 0, 0, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]
    free, paid = (selection.selected(score, 0.3, smoothing=1, gap=gap) for gap in (1, 3))
    assert free == [(0, 3), (4, 7)]
    assert paid == [(0, 6)] or paid == [(1, 7)]


def test_ten_hours_take_seconds_and_little_memory():
    score = np.random.default_rng(0).random(36_000)
    start = time.process_time()
    found = selection.selected(score, 0.15, clip=5, gap=3)
    assert time.process_time() - start < 10 and total(found) == 5400


# --- a threshold ----------------------------------------------------------------------------------


@examples
@given(SCORES, st.floats(0, 1), LENGTHS, st.sampled_from([1, 3]), st.integers(1, 4))
def test_every_second_at_or_above_the_threshold_is_cut(score, threshold, clip, smoothing, gap):
    found = selection.selected(score, threshold=threshold, clip=clip, smoothing=smoothing, gap=gap)
    above = selection.smoothed(score, smoothing) >= round(threshold, 9)
    assert mask(found, len(score))[above].all()
    assert bool(found) == above.any()


def test_long_runs_are_cut_as_they_are_and_short_gaps_are_merged():
    score = np.zeros(20)
    score[[2, 3, 4, 6, 7, 8, 12, 13, 14]] = 0.8
    assert selection.selected(score, threshold=0.5, smoothing=1, gap=2) == [(2, 9), (12, 15)]
    assert selection.selected(score, threshold=0.5, smoothing=1, gap=1) == [
        (2, 5),
        (6, 9),
        (12, 15),
    ]
    assert selection.selected(score, threshold=0.8, smoothing=1, gap=4) == [(2, 15)]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ([0, 0, 0.4, 0.9, 0.1, 0], (1, 4)),
        ([0, 0, 0.1, 0.9, 0.4, 0.2], (3, 6)),
        ([0.9, 0.1, 0.2, 0, 0, 0], (0, 3)),
        ([0, 0, 0, 0, 0, 0.9], (3, 6)),
        ([0, 0.3, 0.9, 0.9, 0.1, 0], (1, 4)),
    ],
)
def test_a_short_run_grows_to_where_scores_are_higher(score, expected):
    score = np.array(score)
    score[1] = max(score[1], 0.15)
    assert selection.selected(score, threshold=0.5, smoothing=1) == [expected]


def test_a_score_of_exactly_the_threshold_is_cut_however_many_digits_it_has():
    assert selection.selected([1 / 3] * 6, threshold=1 / 3) == [(0, 6)]


# --- the best clips -------------------------------------------------------------------------------


def test_the_best_clips_are_those_of_greatest_mean_and_each_stands_alone():
    score = np.full(30, 0.1)
    score[5:8], score[8:11], score[20:23] = 0.9, 0.8, 0.5
    assert selection.selected(score, top=1, smoothing=1) == [(5, 8)]
    assert selection.selected(score, top=2, smoothing=1) == [(5, 8), (20, 23)]
    assert selection.selected(score, top=3, smoothing=1, gap=1) == [(5, 8), (9, 12), (20, 23)]


def test_two_clips_may_be_a_gap_apart_and_no_less():
    score = np.full(15, 0.1)
    score[4:7], score[9:12] = 0.8, 0.9
    assert selection.selected(score, top=2, smoothing=1, gap=2) == [(4, 7), (9, 12)]
    assert selection.selected(score, top=2, smoothing=1, gap=3) == [(3, 6), (9, 12)]


@examples
@given(SCORES, st.integers(1, 4), LENGTHS)
def test_clips_are_of_the_length_asked_for_and_a_further_one_moves_none(score, top, clip):
    fewer, more = (selection.selected(score, top=k, clip=clip) for k in (top, top + 1))
    assert {*fewer} <= {*more} and len(fewer) <= top
    assert all(end - start == min(clip, len(score)) for start, end in more)


def test_as_many_clips_as_fit_are_cut():
    assert len(selection.selected([0.5] * 20, top=50, clip=3, gap=2)) == 4


# --- smoothing and overlap ------------------------------------------------------------------------


@examples
@given(SCORES, st.integers(1, 9))
def test_smoothing_is_the_mean_of_the_seconds_around(score, seconds):
    n, side = len(score), seconds / 2
    expected = []
    for i in range(n):  # how much of each second lies within `seconds` around the middle of i
        weights = [max(0, min(j + 1, i + 0.5 + side) - max(j, i + 0.5 - side)) for j in range(n)]
        expected.append(np.dot(weights, score) / sum(weights))
    assert selection.smoothed(score, seconds) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("smoothing", [0, 0.5, 1])
def test_up_to_one_second_nothing_is_smoothed(smoothing):
    score = np.random.default_rng(0).random(20).round(6)
    assert (selection.smoothed(score, smoothing) == score).all()


@examples
@given(st.floats(0, 1), st.integers(1, 50), st.sampled_from([1, 2, 3, 4, 5, 9]))
def test_a_constant_stays_constant(constant, n, smoothing):
    assert len({*selection.smoothed([constant] * n, smoothing).tolist()}) == 1


@examples
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_overlap_is_seconds_in_both_by_seconds_in_either(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    either = (a | b).sum()
    expected = (a & b).sum() / either if either else math.nan
    for left, right in ((a, b), (true_spans(a), b), (a, true_spans(b)), (true_spans(b), a)):
        assert selection.iou(left, right) == pytest.approx(expected, nan_ok=True)


@examples
@given(st.lists(st.booleans(), max_size=30))
def test_spans_and_masks_are_the_same(chosen):
    assert mask(true_spans(chosen), len(chosen)).tolist() == chosen
    assert well_formed(true_spans(chosen), len(chosen), 1, 1)

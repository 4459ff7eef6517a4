"""Scores without a model against scikit-learn and many draws."""

import doctest
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from doubles.highlights import drawn, table, value
from hypothesis import settings
from hypothesis import strategies as st

from evaluation.highlights import baselines
from evaluation.highlights import scores as seconds

examples = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**32)
RANKS = ("average_precision", "roc_auc", "kendall", "spearman")


def test_the_examples_run():
    result = doctest.testmod(baselines)
    assert result.attempted and not result.failed


def test_everything_is_a_highlight_equals_scikit_learn_on_ones():
    frame = drawn(5)
    found = baselines.scores(frame)["always_positive"]
    ones = np.ones(len(frame))
    assert value(found, "f1") == pytest.approx(sk.f1_score(frame.highlight_true, ones))
    expected = sk.average_precision_score(frame.highlight_true, ones)
    assert value(found, "average_precision") == pytest.approx(expected)
    assert value(found, "roc_auc") == 0.5
    each = [sk.f1_score(p.highlight_true, np.ones(len(p))) for _, p in frame.groupby("dialogue")]
    assert found["f1"]["video_mean"] == pytest.approx(np.mean(each))


def test_what_tells_nothing_has_no_auc_where_a_class_is_missing():
    for truth in (0.0, 1.0):
        found = baselines.scores(drawn(0).assign(highlight_true=truth))
        assert math.isnan(value(found["always_positive"], "roc_auc"))
        assert math.isnan(found["random"]["roc_auc"]["video_mean"])


@pytest.mark.parametrize("n", range(1, 8))
def test_the_expected_average_precision_of_chance_is_the_mean_over_all_orders(n):
    for positives in range(1, n + 1):
        ranks = itertools.combinations(range(1, n + 1), positives)
        every = [np.mean([(i + 1) / rank for i, rank in enumerate(found)]) for found in ranks]
        assert baselines.random_average_precision(n, positives) == pytest.approx(np.mean(every))
    assert np.isnan(baselines.random_average_precision(n, 0))


def test_expected_scores_of_chance_are_the_means_of_many_draws():
    frame = drawn(6, length=20)
    found = baselines.scores(frame, 0.7, 0.3)["random"]
    draw = np.random.default_rng(0)
    truth, video = frame.highlight_true.to_numpy(), frame.dialogue.to_numpy()
    taken = (frame.highlight >= 0.7).groupby(video).transform("sum")
    budget = frame.groupby(video).highlight.transform(lambda part: round(0.3 * len(part)))
    many = []
    for _ in range(300):
        score = draw.random(len(frame))
        rank = pd.Series(score).groupby(video).rank(ascending=False)
        at = [sk.f1_score(truth, rank <= size) for size in (taken, budget)]
        many.append([*at, sk.average_precision_score(truth, score)])
    names = ("f1", "f1_budget", "average_precision")
    assert [value(found, name) for name in names] == pytest.approx(np.mean(many, 0), abs=0.012)


def test_the_first_and_the_middle_seconds_of_each_video_are_baselines():
    truth = np.zeros(20)
    truth[[0, 1, 8, 9, 10, 11]] = 1
    frame = pd.concat([table(0.5, truth, video="a"), table(0.5, truth, video="b")])
    found = baselines.scores(frame, budget=0.2)
    assert value(found["start"], "f1_budget") == pytest.approx(2 * 2 / (4 + 6))
    assert value(found["middle"], "f1_budget") == pytest.approx(2 * 4 / (4 + 6))
    assert value(seconds.scores(frame, budget=0.2), "f1_budget") == value(
        found["start"], "f1_budget"
    )

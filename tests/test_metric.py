"""Scores against scikit-learn, audmetric, the formula written out, and laws that must hold."""

import doctest
import math

import audmetric
import numpy as np
import pytest
import sklearn.metrics as sk
from doubles.tables import drawn
from hypothesis import given, settings
from hypothesis import strategies as st

import metric
from evaluation.predictions import columns, multi_hot

examples = settings(deadline=None, max_examples=60)

LABELS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40).map(
    lambda pairs: tuple(np.array(side) for side in zip(*pairs, strict=True))
)
FLOATS = st.lists(st.tuples(st.floats(1, 5), st.floats(1, 5)), min_size=3, max_size=40).map(
    lambda pairs: tuple(np.array(side) for side in zip(*pairs, strict=True))
)


def test_every_public_score_has_an_example_and_it_runs():
    found = {t.name for t in doctest.DocTestFinder().find(metric) if t.examples}
    scores = (
        "confusion accuracy uar macro_f1 macro_f1_fixed7 weighted_f1 per_class precision recall"
    )
    scores += " f1 precision_at recall_at f1_at legacy_p1 legacy_r1 legacy_f1 ccc ccc_from_moments"
    assert {f"metric.{name}" for name in scores.split()} <= found
    result = doctest.testmod(metric)
    assert result.attempted >= len(found) and result.failed == 0


# --- confusion matrices ---------------------------------------------------------------------


@examples
@given(LABELS)
def test_pooled_scores_equal_scikit_learn_and_audmetric(labels):
    truth, predicted = labels
    matrix, present = metric.confusion(truth, predicted), sorted(set(truth))
    options = {"labels": present, "zero_division": 0}
    close = pytest.approx
    assert (matrix == sk.confusion_matrix(truth, predicted, labels=range(7))).all()
    assert metric.accuracy(matrix) == close(sk.accuracy_score(truth, predicted))
    assert metric.macro_f1(matrix) == close(
        sk.f1_score(truth, predicted, average="macro", **options)
    )
    assert metric.weighted_f1(matrix) == close(
        sk.f1_score(truth, predicted, average="weighted", zero_division=0)
    )
    for name, score in (("recall", metric.uar), ("fscore", metric.macro_f1)):
        by_class = getattr(audmetric, f"{name}_per_class")(truth, predicted, labels=list(range(7)))
        assert score(matrix) == close(np.mean([by_class[label] for label in present]))


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("name", ["f1", "recall", "precision"])
@examples
@given(labels=LABELS)
def test_averages_of_labels_equal_scikit_learn_on_the_classes_in_the_truth(name, average, labels):
    truth, predicted = labels
    classes = None if average == "micro" else sorted(set(truth))
    oracle = getattr(sk, f"{name}_score")
    expected = oracle(truth, predicted, average=average, labels=classes, zero_division=0)
    assert getattr(metric, name)(truth, predicted, average=average) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["f1", "recall", "precision"])
@examples
@given(labels=LABELS)
def test_scores_by_class_equal_scikit_learn_where_defined(name, labels):
    truth, predicted = labels
    found = getattr(metric, name)(truth, predicted, average="none")
    oracle = getattr(sk, f"{name}_score")
    expected = oracle(truth, predicted, average=None, labels=range(7), zero_division=0)
    present = np.isin(range(7), truth)
    assert found[present] == pytest.approx(expected[present])
    column = [row[name] for row in metric.per_class(metric.confusion(truth, predicted))]
    assert np.array_equal(found, column, equal_nan=True)


def test_a_class_in_neither_truth_nor_predictions_has_no_scores():
    row = metric.per_class(metric.confusion([0, 1], [0, 0]))[6]
    assert all(math.isnan(row[name]) for name in ("precision", "recall", "f1"))
    assert row["support"] == row["predicted"] == 0


def test_a_class_that_is_only_predicted_has_no_recall_but_precision_zero():
    row = metric.per_class(metric.confusion([0, 0], [0, 6]))[6]
    assert math.isnan(row["recall"]) and row["precision"] == row["f1"] == 0 == row["support"]


def test_a_class_of_the_truth_that_is_never_predicted_counts_as_zero():
    assert metric.precision([0, 6], [0, 0], average="none")[6] == 0
    assert metric.macro_f1(metric.confusion([0, 6], [0, 0])) == pytest.approx((2 / 3) / 2)


@pytest.mark.parametrize("k", range(1, 8))
def test_a_perfect_classifier_of_k_classes_scores_k_sevenths_only_with_fixed_seven(k):
    matrix = metric.confusion(np.arange(k), np.arange(k))
    assert metric.macro_f1_fixed7(matrix) == pytest.approx(k / 7)
    assert metric.macro_f1(matrix) == metric.uar(matrix) == metric.weighted_f1(matrix) == 1


@examples
@given(LABELS, st.permutations(range(7)))
def test_renaming_the_classes_changes_no_score(labels, names):
    names = np.array(names)
    before = metric.confusion(*labels)
    after = metric.confusion(names[labels[0]], names[labels[1]])
    for score in metric.POOLED:
        assert score(after) == pytest.approx(float(score(before)))


@examples
@given(st.lists(LABELS, min_size=1, max_size=5))
def test_a_stack_of_matrices_scores_as_each_alone_and_within_bounds(tables):
    stack = np.stack([metric.confusion(*labels) for labels in tables])
    for score in metric.POOLED:
        found = score(stack)
        assert found.shape == (len(tables),)
        assert found == pytest.approx([float(score(matrix)) for matrix in stack])
        assert ((found >= 0) & (found <= 1 + 1e-12)).all()


def test_no_rows_have_no_score():
    for score in metric.POOLED:
        assert math.isnan(score(metric.confusion([], [])))
    assert math.isnan(metric.ccc([], []))
    assert math.isnan(metric.precision_at(np.zeros((0, 7)), np.zeros((0, 7)), 1))
    assert math.isnan(metric.legacy_f1(np.zeros((0, 7)), np.zeros((0, 7))))


def test_weights_count_as_repeated_rows():
    weighted = metric.confusion([0, 1, 1], [0, 1, 0], weights=[2, 1, 3])
    assert (weighted == metric.confusion([0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0])).all()


@pytest.mark.parametrize("bad", [[7], [-1], [0.5], [[0]], ["sad"]])
def test_labels_that_are_no_ids_are_refused(bad):
    with pytest.raises(ValueError, match=r"integers 0\.\.6"):
        metric.confusion(bad, [0])


def test_lengths_shapes_and_averages_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2, 1 and 2"):
        metric.confusion([0, 1], [0])
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        metric.uar(np.eye(3))
    with pytest.raises(ValueError, match="macro, weighted, micro, none"):
        metric.f1([0], [0], average="samples")
    with pytest.raises(ValueError, match="k=8"):
        metric.precision_at(np.eye(7), np.eye(7), 8)


# --- top k and legacy -----------------------------------------------------------------------


@examples
@given(st.integers(0, 2**32))
def test_at_one_equals_scikit_learns_sample_average_and_at_two_its_subset(seed):
    rng = np.random.default_rng(seed)
    truth = np.eye(7, dtype=int)[rng.integers(0, 7, 30)] | (rng.random((30, 7)) < 0.15)
    p = rng.random((30, 7))
    for k in (1, 2):
        answer = (p >= np.sort(p, axis=1)[:, [-k]]).astype(int)
        precision = sk.precision_score(truth, answer, average="samples")
        recall = sk.recall_score(truth, answer, average="samples")
        assert metric.precision_at(truth, p, k) == pytest.approx(precision)
        assert metric.recall_at(truth, p, k) == pytest.approx(recall)
        expected = 2 * precision * recall / (precision + recall + 1e-3)
        assert metric.f1_at(truth, p, k) == pytest.approx(expected)


@pytest.mark.parametrize("top", range(7))
def test_equal_probabilities_rank_the_higher_id_first(top):
    p = np.zeros((1, 7))
    p[0, : top + 1] = 0.5
    assert metric.precision_at(np.eye(7)[[top]], p, 1) == 1


def test_with_one_label_a_row_all_at_one_are_accuracy_and_precision_at_two_at_most_half():
    rng = np.random.default_rng(5)
    labels, p = rng.integers(0, 7, 50), rng.random((50, 7))
    truth = np.eye(7)[labels]
    accuracy = sk.accuracy_score(labels, p.argmax(1))
    assert metric.precision_at(truth, p, 1) == metric.recall_at(truth, p, 1) == accuracy
    assert metric.precision_at(truth, truth, 2) == 0.5


def test_rows_without_label_or_probability_are_left_out_at_k():
    truth, p = np.eye(7)[[0, 1, 2]], np.eye(7)[[0, 1, 3]]
    truth[1], p[2, 0] = 0, np.nan
    assert metric.precision_at(truth, p, 1) == metric.recall_at(truth, p, 2) == 1


def test_no_score_changes_its_input():
    truth, p = np.eye(7)[[0, 1]], np.full((2, 7), 1 / 7)
    for array in (truth, p):
        array.flags.writeable = False
    metric.f1_at(truth, p, 2), metric.legacy_f1(truth, p), metric.ccc(p[0], p[1])
    assert (truth == np.eye(7)[[0, 1]]).all() and (p == 1 / 7).all()


def test_legacy_scores_are_equal_weight_means_over_batches_of_64_in_file_order():
    predictions = drawn(11, rows=64 * 3 + 7)
    truth = multi_hot(predictions["emotion_true"])
    p = columns(predictions, metric.PROBABILITIES)
    batches = [(truth[i : i + 64], p[i : i + 64]) for i in range(0, len(p), 64)]
    assert [len(batch) for batch, _ in batches] == [64, 64, 64, 7]
    for name in ("precision", "recall", "f1"):
        expected = np.mean([getattr(metric, f"{name}_at")(*batch, 1) for batch in batches])
        found = getattr(metric, f"legacy_{name[0]}1")(truth, p)
        assert found == pytest.approx(expected)
        assert found != pytest.approx(getattr(metric, f"{name}_at")(truth, p, 1), abs=1e-6)


def test_legacy_scores_depend_on_the_order_of_rows():
    truth, p = np.eye(7)[[0] * 64 + [1]], np.eye(7)[[0] * 65]
    assert metric.legacy_p1(truth, p) == 0.5
    assert metric.legacy_p1(truth[::-1], p) == pytest.approx((63 / 64 + 1) / 2)


@pytest.mark.parametrize("k", [1, 4, 6])
def test_legacy_at_one_has_no_ceiling_of_k_sevenths_as_the_2022_macro_score_had(k):
    truth = np.eye(7)[np.arange(64) % k]
    assert metric.legacy_p1(truth, truth) == metric.legacy_r1(truth, truth) == 1
    assert metric.legacy_f1(truth, truth) == pytest.approx(2 / 2.001)


# --- concordance ----------------------------------------------------------------------------


@examples
@given(FLOATS)
def test_ccc_equals_audmetric(pair):
    truth, predicted = pair
    if min(np.ptp(truth), np.ptp(predicted)) > 1e-3:
        expected = audmetric.concordance_cc(truth, predicted)
        assert metric.ccc(truth, predicted) == pytest.approx(expected, abs=1e-9)
        assert -1 - 1e-9 <= metric.ccc(truth, predicted) <= 1 + 1e-9
        assert metric.ccc(predicted, truth) == pytest.approx(expected, abs=1e-9)


def test_ccc_of_large_numbers_keeps_its_digits():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    predicted = truth + rng.normal(size=200)
    expected = audmetric.concordance_cc(truth, predicted)
    assert metric.ccc(truth + 1e8, predicted + 1e8) == pytest.approx(expected, abs=1e-6)


def test_rows_with_a_missing_number_are_dropped_from_the_ccc():
    truth, predicted = np.array([1, 2, np.nan, 4, 3.5]), np.array([1.5, 2, 3, np.nan, 3])
    expected = audmetric.concordance_cc(truth, predicted, ignore_nan=True)
    assert metric.ccc(truth, predicted) == pytest.approx(expected)


@pytest.mark.parametrize("constant", [3.0, 0.1, 2.9999])
def test_a_constant_prediction_has_ccc_exactly_zero_and_two_constants_none(constant):
    truth = np.random.default_rng(1).uniform(1, 5, 1000)
    assert metric.ccc(truth, np.full(1000, constant)) == 0
    assert math.isnan(metric.ccc(np.full(1000, 3.3), np.full(1000, constant)))
    assert math.isnan(metric.ccc(np.full(1000, constant), np.full(1000, constant)))

"""Temperature, calibration error and rejection against scipy, scikit-learn and brute force."""

import doctest
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, auc, log_loss

import constants
import metric
from constants import EMOTIONS
from evaluation import calibration
from evaluation.predictions import scores_of
from utils import UserError

SEEDS = st.integers(0, 2**32)
TEMPERATURES = st.floats(0.1, 10)
P, VOTES = list(metric.PROBABILITIES), list(metric.VOTES)


def table(rows: int = 400, seed: int = 1, sharpen: float = 1.0, raters: int = 10) -> pd.DataFrame:
    """Rows whose raters vote by the model's own probabilities, before these are sharpened."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1.5, (rows, 7))
    votes = draw.multinomial(raters, softmax(logits, 1)).astype(float)
    p = softmax(sharpen * logits, 1)
    frame = pd.DataFrame(p, columns=P)
    frame[VOTES] = votes
    frame[["arousal", "valence", "arousal_true", "valence_true"]] = 3.0
    frame["emotion"] = np.array(EMOTIONS)[p.argmax(1)]
    frame["emotion_true"] = [";".join(np.array(EMOTIONS)[row == row.max()]) for row in votes]
    return frame


def answers(seed: int, rows: int = 300, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, of few values if there are `levels`, and labels right that often."""
    draw = np.random.default_rng(seed)
    sure = draw.uniform(0.15, 1, rows)
    sure = np.ceil(sure * levels) / levels if levels else sure
    return sure, (draw.random(rows) < sure).astype(float)


def judged(test: pd.DataFrame, validation: pd.DataFrame, ties: str) -> dict:
    """The summary of the test rows, as a run that has validation rows writes it."""
    fitted = calibration.temperature(validation), len(calibration.fitted_rows(validation))
    return calibration.summary_of(test, ties, *fitted)


def test_the_examples_run():
    result = doctest.testmod(calibration)
    assert result.attempted and not result.failed


# --- temperature ----------------------------------------------------------------------------


@pytest.mark.parametrize("sharpen", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_the_sharpening_of_a_calibrated_model(sharpen):
    found = calibration.temperature(table(20_000, sharpen=sharpen))
    assert found == pytest.approx(sharpen, rel=0.03)


def test_the_temperature_is_where_another_optimiser_finds_least_cross_entropy():
    frame = table(300, seed=4, sharpen=2.5)
    logits, shares = np.log(frame[P].to_numpy()), frame[VOTES].to_numpy() / 10

    def loss(inverse: np.ndarray) -> float:
        z = logits * inverse[0]
        return -(shares * (z - np.log(np.exp(z).sum(1, keepdims=True)))).sum(1).mean()

    least = minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    assert calibration.temperature(frame) == pytest.approx(1 / least.x[0], rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(SEEDS, TEMPERATURES)
def test_no_other_temperature_has_less_cross_entropy(seed, other):
    frame = table(40, seed, sharpen=2)
    least = calibration.negative_log_likelihood(frame, calibration.temperature(frame))
    assert least <= calibration.negative_log_likelihood(frame, other) + 1e-9


@settings(deadline=None, max_examples=50)
@given(SEEDS, TEMPERATURES)
def test_scaling_is_softmax_of_logits_over_t_and_keeps_the_label(seed, t):
    logits = np.random.default_rng(seed).normal(0, 2, (20, 7))
    found = calibration.scaled(softmax(logits, 1), t)
    np.testing.assert_allclose(found, softmax(logits / t, 1), rtol=1e-9, atol=1e-15)
    assert (found.argmax(1) == logits.argmax(1)).all()


def test_a_temperature_of_one_changes_nothing_and_two_in_a_row_multiply():
    p = table(50)[P].to_numpy()
    np.testing.assert_allclose(calibration.scaled(p, 1), p, rtol=1e-12)
    twice = calibration.scaled(calibration.scaled(p, 2), 3)
    np.testing.assert_allclose(twice, calibration.scaled(p, 6), rtol=1e-9)


def test_scaling_survives_zeros_and_the_ends_of_the_search():
    p = np.array([[1e-30, 2e-30, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]])
    for t in calibration.TEMPERATURES:
        found = calibration.scaled(p, t)
        np.testing.assert_allclose(found.sum(1), 1)
        assert found.argmax(1).tolist() == [1, 2]
    with pytest.raises(ValueError, match="above 0 and finite, got 0"):
        calibration.scaled(p, 0)


def test_a_certain_error_makes_no_infinite_cross_entropy():
    frame = table(30)
    frame.loc[0, P] = np.eye(7)[0]
    frame.loc[0, VOTES] = 10 * np.eye(7)[1]
    assert np.isfinite(calibration.negative_log_likelihood(frame))
    low, high = calibration.TEMPERATURES
    assert low < calibration.temperature(frame) < high


def test_rows_without_votes_or_without_a_prediction_are_not_fitted_on():
    frame = table(200, sharpen=2)
    spoiled = pd.concat([frame, frame.iloc[:60]], ignore_index=True)
    spoiled.loc[200:219, VOTES] = 0.0
    spoiled.loc[220:239, VOTES] = np.nan
    spoiled.loc[240:, P] = np.nan
    assert calibration.fitted_rows(spoiled).tolist() == list(range(200))
    assert calibration.temperature(spoiled) == calibration.temperature(frame)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_give_no_temperature(rows):
    assert calibration.temperature(table(30).iloc[:rows]) is None
    frame = table(30)
    frame.loc[rows:, VOTES] = np.nan
    assert calibration.temperature(frame) is None


def test_two_rows_are_enough():
    assert calibration.temperature(table(2)) > 0


def test_confidence_is_the_greatest_probability_and_missing_where_there_is_none():
    frame = table(5)
    frame.loc[2, P] = np.nan
    found = calibration.confidence(frame, 2.0)
    z = np.log(frame[P].to_numpy()) / 2
    np.testing.assert_allclose(found, softmax(z, 1).max(1))
    assert np.isnan(found).tolist() == [False, False, True, False, False]


def test_a_floor_bounds_what_one_certain_error_costs():
    certain, wrong = np.eye(7)[[0, 1]], np.eye(7)[[0, 2]]
    assert calibration.cross_entropy(certain, wrong, 1e-6) == pytest.approx(-np.log(1e-6) / 2)
    assert calibration.cross_entropy(certain, wrong) == pytest.approx(-np.log(1e-12) / 2)


def test_votes_have_shares_where_there_are_any():
    shares = calibration.vote_shares([[1, 3, 0, 0, 0, 0, 0], [0] * 7, [np.nan] * 7])
    assert shares[0].tolist() == [0.25, 0.75, 0, 0, 0, 0, 0] and np.isnan(shares[1:]).all()


def test_the_cross_entropy_of_unanimous_rows_is_that_of_scikit_learn():
    frame = table(100, raters=1)
    truth = [EMOTIONS.index(name) for name in frame.emotion_true]
    expected = log_loss(truth, frame[P].to_numpy(), labels=range(7))
    assert calibration.negative_log_likelihood(frame) == pytest.approx(expected)


# --- calibration error ----------------------------------------------------------------------


@pytest.mark.parametrize(("mass", "strategy"), [(False, "uniform"), (True, "quantile")])
@pytest.mark.parametrize("bins", [1, 5, 15])
def test_the_bins_are_those_of_scikit_learn(mass, strategy, bins):
    sure, right = answers(3)
    table = [r for r in calibration.reliability(sure, right, bins, mass) if r["n"]]
    accuracy, mean = calibration_curve(right, sure, n_bins=bins, strategy=strategy)
    np.testing.assert_allclose([row["accuracy"] for row in table], accuracy)
    np.testing.assert_allclose([row["confidence"] for row in table], mean)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 20), st.sampled_from([0, 4]))
def test_the_error_is_the_formula_of_guo_written_out(seed, bins, levels):
    sure, right = answers(seed, 80, levels)
    expected = 0.0
    for i in range(bins):
        low, high = i / bins, (i + 1) / bins
        inside = (sure > low) & (sure <= high)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert calibration.ece(sure, right, bins) == pytest.approx(expected, abs=1e-12)


def test_a_confidence_at_an_edge_belongs_to_the_bin_below_as_in_the_paper():
    rows = calibration.reliability([0.25, 0.5, 0.75, 1.0], [1, 1, 0, 0], 2)
    assert [(row["n"], row["accuracy"]) for row in rows] == [(2, 1), (2, 0)]
    assert [(row["low"], row["high"]) for row in rows] == [(0, 0.5), (0.5, 1)]


def test_bins_of_equal_mass_hold_equal_numbers_of_rows():
    n = [row["n"] for row in calibration.reliability(*answers(5, 300), 15, mass=True)]
    assert sum(n) == 300 and max(n) - min(n) <= 1


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.booleans(), st.sampled_from([0, 3]))
def test_every_row_is_in_one_bin_and_order_does_not_matter(seed, mass, levels):
    sure, right = answers(seed, 50, levels)
    order = np.random.default_rng(seed).permutation(50)
    rows = calibration.reliability(sure, right, 10, mass)
    assert sum(row["n"] for row in rows) == 50
    assert calibration.ece(sure, right, 10, mass) == pytest.approx(
        calibration.ece(sure[order], right[order], 10, mass), abs=1e-12
    )


@pytest.mark.parametrize("mass", [False, True])
def test_calibrated_answers_have_almost_no_error_and_overconfident_ones_their_excess(mass):
    sure, right = answers(6, 200_000)
    assert calibration.ece(sure, right, mass=mass) < 0.01
    high = np.full(1000, 0.9)
    assert calibration.ece(high, np.arange(1000) % 2, mass=mass) == pytest.approx(0.4)


@pytest.mark.parametrize("rows", [30, 300, 3000])
def test_what_chance_makes_of_the_error_is_the_mean_of_many_calibrated_sets(rows):
    draw = np.random.default_rng(rows)
    sure = draw.uniform(0.2, 1, rows)
    errors = [calibration.ece(sure, draw.random(rows) < sure) for _ in range(400)]
    assert calibration.chance_ece(sure) == pytest.approx(np.mean(errors), rel=0.06)


def test_no_rows_have_no_error_and_empty_bins_no_mean():
    assert np.isnan(calibration.chance_ece([]))
    assert np.isnan(calibration.ece([], [])) and np.isnan(calibration.ece([], [], mass=True))
    rows = calibration.reliability([0.55], [1], 10)
    assert [row["n"] for row in rows] == [0] * 5 + [1] + [0] * 4
    assert np.isnan(rows[0]["accuracy"])


def test_what_is_no_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence must be in .* known in every row"):
        calibration.ece([0.5, np.nan], [1, 1])
    with pytest.raises(ValueError, match="correct must be in"):
        calibration.ece([0.5], [2])
    with pytest.raises(ValueError, match=r"one shape \(N,\), got \(2,\) and \(1,\)"):
        calibration.aurc([0.5, 0.5], [1])
    with pytest.raises(ValueError, match="bins must be 1 or more, got 0"):
        calibration.ece([0.5], [1], 0)


# --- rejection ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 60))
def test_the_curve_is_what_answering_the_surest_rows_gives(seed, rows):
    sure, right = answers(seed, rows)
    coverage, risk = calibration.coverage_risk(sure, right)
    order = sorted(range(rows), key=lambda i: -sure[i])
    for k in range(1, rows + 1):
        errors = sum(1 - right[i] for i in order[:k])
        assert (coverage[k - 1], risk[k - 1]) == pytest.approx((k / rows, errors / k))


def test_equal_confidences_count_as_the_mean_over_all_their_orders():
    sure, right = np.array([0.5, 0.9, 0.5, 0.5]), np.array([1.0, 1, 0, 0])
    draw, curves = np.random.default_rng(1), []
    for _ in range(4000):
        order = sorted(draw.permutation(4), key=lambda i: -sure[i])
        curves.append(np.cumsum(1 - right[order]) / np.arange(1, 5))
    found = calibration.coverage_risk(sure, right)[1]
    np.testing.assert_allclose(found, np.mean(curves, axis=0), atol=0.02)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.sampled_from([0, 3]))
def test_the_area_has_its_limits(seed, levels):
    sure, right = answers(seed, 60, levels)
    order = np.random.default_rng(seed).permutation(60)
    area = calibration.aurc(sure, right)
    best, worst = calibration.aurc(right, right), calibration.aurc(1 - right, right)
    assert best - 1e-12 <= area <= worst + 1e-12
    assert calibration.aurc(sure[order], right[order]) == pytest.approx(area)
    assert calibration.aurc(np.full(60, 0.5), right) == pytest.approx(1 - right.mean())


def test_the_area_is_near_that_of_the_trapezoid_rule():
    sure, right = answers(8, 20_000)
    area = auc(*calibration.coverage_risk(sure, right))
    assert calibration.aurc(sure, right) == pytest.approx(area, abs=1e-3)


def test_accuracy_at_a_coverage_is_of_that_many_of_the_surest_rows():
    sure, right = answers(9, 250)
    surest = np.argsort(-sure)
    for coverage, rows in ((0.5, 125), (0.9, 225), (0.801, 201), (1.0, 250), (0.001, 1)):
        expected = accuracy_score(np.ones(rows), right[surest[:rows]])
        assert calibration.accuracy_at(sure, right, coverage) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"coverage must be in \(0, 1\], got 0"):
        calibration.accuracy_at(sure, right, 0)


def test_nothing_to_answer_is_undefined():
    assert np.isnan(calibration.aurc([], [])) and np.isnan(calibration.accuracy_at([], [], 0.5))


# --- what is right ----------------------------------------------------------------------------


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_the_mean_of_what_is_right_is_the_accuracy_of_the_scores(ties):
    frame = table(200, seed=11)
    frame.loc[5, VOTES] = np.nan
    frame.loc[6, "emotion"] = ""
    found = calibration.correct(frame, ties)
    scores = scores_of(frame, ties)["accuracy"]
    assert np.isfinite(found).sum() == scores["n"]
    assert np.nanmean(found) == pytest.approx(scores["value"])
    assert np.isnan(found[[5, 6]]).all()


def test_with_soft_ties_a_label_is_as_right_as_its_share_of_the_votes():
    frame = table(30, seed=12)
    given_ = frame[VOTES].to_numpy()[np.arange(30), frame[P].to_numpy().argmax(1)]
    np.testing.assert_allclose(calibration.correct(frame, "soft"), given_ / 10)


# --- the summary ----------------------------------------------------------------------------


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_the_summary_is_valid_json_and_of_the_rows_that_the_scores_count(ties):
    test, validation = table(300, 13, sharpen=3), table(500, 14, sharpen=3)
    found = judged(test, validation, ties)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["n"] == scores_of(test, ties)["accuracy"]["n"]
    assert found["fitted_on"] == 500
    assert found["temperature"] == calibration.temperature(validation)
    assert sum(row["n"] for row in found["reliability"]) == found["n"]
    assert len(found["coverage_risk"]) == calibration.POINTS
    assert found["coverage_risk"][-1][0] == 1
    accuracy = scores_of(test, ties)["accuracy"]["value"]
    assert found["coverage_risk"][-1][1] == pytest.approx(1 - accuracy)
    assert list(found["accuracy_at"]) == ["0.5", "0.8", "0.9"]


def test_the_summary_has_both_sides_of_the_calibration_each_from_its_own_probabilities():
    test, validation = table(3000, 15, sharpen=3), table(3000, 16, sharpen=3)
    found = judged(test, validation, "soft")
    assert found["ece"] < 0.03 < 0.2 < found["ece_uncalibrated"]
    assert found["ece_equal_mass"] < 0.03 < 0.2 < found["ece_equal_mass_uncalibrated"]
    assert found["nll"] < found["nll_uncalibrated"]
    t, right = found["temperature"], calibration.correct(test, "soft")
    sure = calibration.scaled(test[P], t).max(1)
    assert found["ece"] == pytest.approx(calibration.ece(sure, right))
    assert found["ece_equal_mass"] == pytest.approx(calibration.ece(sure, right, mass=True))
    assert found["aurc"] == pytest.approx(calibration.aurc(sure, right))
    assert found["ece_chance"] == calibration.chance_ece(sure)
    raw = test[P].to_numpy().max(1)
    assert found["ece_uncalibrated"] == pytest.approx(calibration.ece(raw, right))
    assert found["reliability"][-1]["n"] == (sure > 14 / 15).sum()


def test_the_temperature_never_comes_from_the_test_rows():
    test, validation = table(100, 17, sharpen=3), table(100, 18)
    other = table(100, 19, sharpen=0.2)
    ours, theirs = (judged(t, validation, "drop") for t in (test, other))
    assert ours["temperature"] == theirs["temperature"] == calibration.temperature(validation)


@pytest.mark.parametrize("rows", [0, 1])
def test_without_validation_rows_only_the_uncalibrated_error_is_there(rows):
    found = judged(table(50), table(rows), "drop")
    assert found["temperature"] is None and found["fitted_on"] == 0
    assert found["ece"] is found["nll"] is found["ece_equal_mass"] is None
    assert found["ece_uncalibrated"] > 0 and found["aurc"] > 0 and found["n"] > 0
    assert calibration.summary_of(table(50), "drop", None, fitted_on=1) == found


def test_a_model_without_emotions_has_an_empty_summary():
    frame = table(20).assign(emotion="", **dict.fromkeys(P, np.nan))
    found = judged(frame, frame, "drop")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["n"] == 0 and found["temperature"] is None and found["aurc"] is None
    assert found["coverage_risk"] == []


def test_a_table_without_probabilities_names_the_column():
    with pytest.raises(UserError, match="need a column 'p_3'"):
        calibration.summary_of(table(5).drop(columns="p_3"), "drop", None)

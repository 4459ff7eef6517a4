"""Two rows compared, against SciPy, statsmodels and brute force."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats
from doubles.finished import changed, folds, kept, pooled, run, sklearn_macro_f1
from hypothesis import given, settings
from hypothesis import strategies as st

import constants
import metric
from constants import EMOTIONS
from evaluation import comparison, significance
from evaluation.finished_runs import Run
from utils import UserError

SEEDS = st.integers(0, 2**32)


def test_a_comparison_is_the_difference_of_the_pooled_scores():
    a, b = folds(0, (1, 2)), folds(1, (1, 2))
    found = comparison.compare(a, b, resamples=200)
    rows = [comparison.row("x", row, resamples=20)["scores"] for row in (a, b)]
    for name in comparison.COMPARED:
        test = found["scores"][name]
        assert (test["a"], test["b"]) == pytest.approx([row[name]["pooled"] for row in rows])
        assert test["difference"] == pytest.approx(test["a"] - test["b"])
        assert test["low"] < test["difference"] < test["high"] and 0 < test["p"] <= 1
    assert found["n_common"] == 160 and found["left_out_a"] == found["left_out_b"] == 0
    assert found["seeds_a"] == found["seeds_b"] == [1, 2]
    json.dumps(found, allow_nan=False)


def test_the_paired_interval_is_scipys_when_each_dialogue_is_one_row_of_one_session():
    a, b = (run((1,), model=m, dialogues=80, rows=80) for m in (0, 1))
    for one in (a, b):
        one.predictions["dialogue"] = [f"d{i:02d}" for i in range(80)]
    found = comparison.compare([a], [b], resamples=4000)["scores"]["ccc_arousal"]
    x, y, truth = a.predictions.arousal, b.predictions.arousal, a.predictions.arousal_true

    def difference(x, y, truth, axis):
        def ccc(prediction):
            mean = truth.mean(axis, keepdims=True), prediction.mean(axis, keepdims=True)
            cov = ((truth - mean[0]) * (prediction - mean[1])).mean(axis)
            apart = (mean[0] - mean[1]).squeeze(axis) ** 2
            return 2 * cov / (truth.var(axis) + prediction.var(axis) + apart)

        return ccc(x) - ccc(y)

    oracle = scipy.stats.bootstrap(
        (x.to_numpy(), y.to_numpy(), truth.to_numpy()),
        difference,
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    )
    assert [found["low"], found["high"]] == pytest.approx([*oracle.confidence_interval], abs=0.02)
    d = oracle.bootstrap_distribution
    p = 2 * (1 + min((d <= 0).sum(), (d >= 0).sum())) / 4001
    assert found["p"] == pytest.approx(p, abs=0.04)


def test_the_p_value_counts_the_resamples_on_the_rarer_side_of_zero():
    d = np.array([-0.1] * 3 + [0.2] * 95 + [0.0, np.nan])
    assert comparison.bootstrap_p(d) == pytest.approx(2 * (1 + 4) / 100)
    assert comparison.bootstrap_p(-d) == comparison.bootstrap_p(d)
    assert comparison.bootstrap_p(np.zeros(50)) == 1
    assert np.isnan(comparison.bootstrap_p(np.full(3, np.nan)))


def test_a_row_does_not_differ_from_itself():
    found = comparison.compare(folds(), folds(), resamples=50)
    for test in found["scores"].values():
        assert [test[k] for k in ("difference", "low", "high", "p")] == [0, 0, 0, 1]
    assert found["mcnemar"] == {
        "n": len(kept(pooled(folds()))),
        "a_better": 0,
        "b_better": 0,
        "p": 1.0,
    }


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.sampled_from(constants.TIE_POLICIES), st.booleans())
def test_changing_sides_changes_the_sign_and_nothing_else(world, ties, shared):
    a, b = folds(0, (1, 2), world=world), folds(1, (2, 3) if shared else (3, 4), world=world)
    there = comparison.compare(a, b[:3], ties, 60)
    back = comparison.compare(b[:3], a, ties, 60)
    assert there["n_common"] == back["n_common"]
    assert there["left_out_a"] == back["left_out_b"]
    for name, test in there["scores"].items():
        other = back["scores"][name]
        assert test["difference"] == pytest.approx(-other["difference"])
        assert test["p"] == pytest.approx(other["p"])
        assert [test["low"], test["high"]] == pytest.approx([-other["high"], -other["low"]])
    flipped = {"a_better": "b_better", "b_better": "a_better"}
    flipped = {flipped.get(key, key): value for key, value in back["mcnemar"].items()}
    assert there["mcnemar"] == pytest.approx(flipped)


def test_equal_models_are_rarely_called_different_and_a_better_one_mostly_is():
    size = {"dialogues": 20, "rows": 60}
    found = {0.3: [], 0.6: []}
    for skill, p in found.items():
        for world in range(40):
            a = run((1, 2), 1, 2 * world + 1, world=world, skill=skill, **size)
            b = run((1, 2), 1, 2 * world + 2, world=world, **size)
            test = comparison.compare([a], [b], resamples=300)
            p.append([test["scores"]["macro_f1"]["p"] < 0.05, test["mcnemar"]["p"] < 0.05])
    assert (np.mean(found[0.3], axis=0) <= 0.15).all(), np.mean(found[0.3], axis=0)
    assert (np.mean(found[0.6], axis=0) >= 0.8).all(), np.mean(found[0.6], axis=0)


def test_only_common_rows_are_compared_and_the_rest_is_counted():
    a, b = [run((1, 2, 3))], [run((2, 3, 4, 5), model=1)]
    found = comparison.compare(a, b, resamples=50)
    assert (found["n_common"], found["left_out_a"], found["left_out_b"]) == (80, 40, 80)
    frames = [one.predictions for one in (a[0], b[0])]
    frames = [frame[frame.session.isin(["2", "3"])] for frame in frames]
    test = found["scores"]["macro_f1"]
    assert (test["a"], test["b"]) == pytest.approx([*map(sklearn_macro_f1, frames)])
    assert found["mcnemar"]["n"] == len(kept(frames[0]))


def test_rows_are_joined_by_name_not_by_place():
    a, b = run(), run(model=1)
    shuffled = b._replace(predictions=b.predictions.sample(frac=1, random_state=0))
    expected = comparison.compare([a], [b], resamples=50)
    found = comparison.compare([a], [shuffled], resamples=50)
    assert found["mcnemar"] == expected["mcnemar"]
    for name in comparison.COMPARED:
        assert found["scores"][name] == pytest.approx(expected["scores"][name])


def test_with_common_seeds_only_those_are_compared():
    a, b = folds(0, (1, 2)), folds(1, (2, 3))
    found = comparison.compare(a, b, resamples=50)
    assert found["seeds_a"] == found["seeds_b"] == [2]
    expected = comparison.compare(a[2:], b[:2], resamples=50)
    assert found == expected


def test_an_utterance_is_compared_only_in_the_seeds_in_which_both_test_it():
    a, b = folds(0, (1, 2)), folds(1, (1, 2))[:3]  # b's second seed lacks the second fold
    found = comparison.compare(a, b, resamples=50)
    values = [sklearn_macro_f1(pooled(a[:2])), sklearn_macro_f1(a[2].predictions)]
    assert found["scores"]["macro_f1"]["a"] == pytest.approx(np.mean(values))
    assert found["n_common"] == 160


def test_without_a_common_seed_each_side_is_averaged_over_its_seeds():
    a, b = folds(0, (1, 2)), folds(1, (3,))
    found = comparison.compare(a, b, resamples=50)
    assert found["seeds_a"] == [1, 2] and found["seeds_b"] == [3] and found["n_common"] == 160
    values = [sklearn_macro_f1(pooled(rows)) for rows in (a[:2], a[2:], b)]
    test = found["scores"]["macro_f1"]
    assert (test["a"], test["b"]) == pytest.approx([np.mean(values[:2]), values[2]])


def test_other_roles_and_other_rows_cannot_be_compared():
    assert comparison.compare(folds(), folds(1, role="listener")) is None
    assert comparison.compare([run((1,))], [run((2,))]) is None
    both = [run((1,)), run((1,), role="listener")]
    assert comparison.compare(both, [run((1,), model=1)]) is None


def test_rows_that_disagree_on_the_truth_cannot_be_compared():
    a, b = run((1, 2)), run((2, 3), model=1)
    b.predictions.loc[5, "valence_true"] = 1.25
    with pytest.raises(UserError, match=r"it differs in 1 rows \(kemdy19 speaker Sess02_M005\)"):
        comparison.compare([a], [b])
    with pytest.raises(UserError, match="^mate and lstm cannot be compared: all trials need the"):
        comparison.pairs({"mate": [a], "lstm": [b]})


def test_a_head_that_one_side_does_not_have_is_not_compared():
    a, b = folds(), folds(1)
    for one in b:
        one.predictions["arousal"] = np.nan
    found = comparison.compare(a, b, resamples=50)["scores"]
    assert set(found["ccc_arousal"].values()) == {None}
    assert found["ccc_valence"]["p"] is not None
    for one in b:
        one.predictions["emotion"] = ""
    found = comparison.compare(a, b, resamples=50)
    assert found["scores"]["uar"]["difference"] is None and found["mcnemar"] is None


def test_predictions_for_other_rows_are_not_compared():
    a, b = run(), run(model=1)
    b.predictions.loc[0, "arousal"] = np.nan
    a.predictions.loc[1, "arousal"] = np.nan  # as many, yet others
    found = comparison.compare([a], [b], resamples=50)["scores"]
    assert found["ccc_arousal"]["difference"] is None


def test_sessions_of_one_dialogue_each_give_a_difference_without_an_interval():
    a, b = ([run((1, 2, 3), model=m, dialogues=1)] for m in (0, 1))
    found = comparison.compare(a, b, resamples=50)
    for test in found["scores"].values():
        assert test["difference"] is not None and test["p"] is test["low"] is None
    assert found["mcnemar"]["p"] is not None


# --- McNemar ---------------------------------------------------------------------------------


def decisions(one: Run) -> np.ndarray:
    rows = kept(one.predictions)
    return (rows.emotion == rows.emotion_true).to_numpy()


@pytest.mark.parametrize("skill", [0.3, 0.6])
def test_mcnemar_is_the_exact_one_of_statsmodels(skill):
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = run(rows=90), run(model=1, rows=90, skill=skill)
    x, y = decisions(a), decisions(b)
    found = comparison.compare([a], [b], resamples=20)["mcnemar"]
    cells = [[(x & y).sum(), (x & ~y).sum()], [(~x & y).sum(), (~x & ~y).sum()]]
    assert [found["n"], found["a_better"], found["b_better"]] == [len(x), cells[0][1], cells[1][0]]
    assert found["p"] == pytest.approx(mcnemar(cells, exact=True).pvalue)
    assert found["p"] == pytest.approx(
        min(1, 2 * scipy.stats.binom.cdf(min(cells[0][1], cells[1][0]), x.size - sum(x == y), 0.5))
    )


def test_with_several_seeds_a_row_counts_for_the_one_that_is_right_in_more_of_them():
    a, b = ([run(seed=s, model=m) for s in (1, 2, 3)] for m in (0, 1))
    more = sum(decisions(one).astype(int) for one in a)
    less = sum(decisions(one).astype(int) for one in b)
    found = comparison.compare(a, b, resamples=20)["mcnemar"]
    assert found["a_better"] == (more > less).sum() and found["b_better"] == (more < less).sum()
    found = comparison.compare(a, [changed(one, seed=9) for one in b[:1]], resamples=20)["mcnemar"]
    assert found["a_better"] == (more / 3 > decisions(b[0])).sum()


def test_mcnemar_takes_only_the_seeds_in_which_both_answered():
    a, b = ([run(seed=s, model=m) for s in (1, 2)] for m in (0, 1))
    place = kept(a[0].predictions).index[0]
    truth = a[0].predictions.emotion_true[place]
    wrong = "sad" if truth == "happy" else "happy"
    for one, answers in ((a, (truth, wrong)), (b, ("", wrong))):
        for single, answer in zip(one, answers, strict=True):
            single.predictions.loc[place, "emotion"] = answer
    found = comparison.compare(a, b, resamples=20)["mcnemar"]
    for single in (*a, *b):
        single.predictions.loc[place, "emotion"] = wrong
    assert found == comparison.compare(a, b, resamples=20)["mcnemar"]


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_mcnemar_judges_the_rows_and_answers_that_ties_says(ties):
    a, b = run(rows=90), run(model=1, rows=90)
    found = comparison.compare([a], [b], ties, 20)["mcnemar"]
    frames = [one.predictions.set_index("segment") for one in (a, b)]
    better = [0, 0]
    n = 0
    for x, y, modal, *votes in zip(
        frames[0].emotion,
        frames[1].emotion,
        frames[0].emotion_true.str.split(";"),
        *(frames[0][name] for name in metric.VOTES),
        strict=True,
    ):
        if ties == "drop" and len(modal) > 1:
            continue
        n += 1
        right = {"first": modal[:1], "drop": modal, "any": modal, "soft": ()}[ties]
        credit = [votes[EMOTIONS.index(e)] if ties == "soft" else e in right for e in (x, y)]
        better[0] += credit[0] > credit[1]
        better[1] += credit[1] > credit[0]
    assert [found["n"], found["a_better"], found["b_better"]] == [n, *better]


# --- every two rows of a table ---------------------------------------------------------------


def test_every_pair_is_compared_and_corrected_over_the_whole_table():
    rows = {"m0": folds(0), "m1": folds(1), "half": folds(2)[:1]}
    rows |= {"alone": [run((9,), model=5)], "listener": folds(6, role="listener")}
    found = comparison.pairs(rows, resamples=100)
    assert [(p["a"], p["b"]) for p in found] == list(itertools.combinations(rows, 2))
    some = {(p["a"], p["b"]): p["comparison"] for p in found if p["comparison"]}
    assert set(some) == {("m0", "m1"), ("m0", "half"), ("m1", "half")}
    for name in comparison.COMPARED:
        tests = [comparison["scores"][name] for comparison in some.values()]
        assert [t["p_holm"] for t in tests] == significance.holm([t["p"] for t in tests])
    tests = [one["mcnemar"] for one in some.values()]
    assert [t["p_holm"] for t in tests] == significance.holm([t["p"] for t in tests])
    for (a, b), one in some.items():
        alone = comparison.compare(rows[a], rows[b], resamples=100)
        assert alone["n_common"] == one["n_common"] == (80 if b == "half" else 160)
        for name, test in alone["scores"].items():
            assert test == {k: v for k, v in one["scores"][name].items() if k != "p_holm"}
    json.dumps(found, allow_nan=False)

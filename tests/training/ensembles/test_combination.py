"""Members joined by their rows, and every way of combining them; files of 2022 too."""

import contextlib
import doctest
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.special
from doubles.members import EQUAL, C, P, combined, drawn, joined, sure, table
from hypothesis import given
from hypothesis import strategies as st

import main
from constants import EMOTIONS
from evaluation import predictions as tables
from training.ensembles import combination, ensemble, members, stacking
from training.ensembles.combination import Combination
from utils import UserError, read_json


@pytest.fixture
def exp(tmp_path):
    """An empty folder of runs, in the working folder."""
    with contextlib.chdir(tmp_path):
        yield Path("exp")


# --- joining -------------------------------------------------------------------------------------


def test_rows_are_joined_by_their_names_whatever_their_order():
    rng = np.random.default_rng(1)
    a, b = (table(np.arange(30) % C, drawn(rng, 30)) for _ in range(2))
    straight = combination.join({"a": a, "b": b})
    mixed = combination.join({"a": a, "b": b.sample(frac=1, random_state=2)})
    np.testing.assert_array_equal(straight.p, mixed.p)
    np.testing.assert_allclose(mixed.p[1], tables.columns(b, P))
    np.testing.assert_array_equal(straight.label, mixed.label)


@pytest.mark.parametrize(
    "change, told",
    [
        (
            lambda t: t.iloc[4:],
            r"a has 12, b 8: 4 rows \(made speaker test0, made speaker test1, "
            r"made speaker test2, \.\.\.\) only in a$",
        ),
        (
            lambda t: t.assign(segment=["x", *t["segment"][1:]]),
            r"1 rows \(made speaker test0\) only in a; 1 rows \(made speaker x\) only in b",
        ),
        (lambda t: t.assign(role="listener"), r"same role.*\(a: speaker; b: listener\)"),
        (lambda t: pd.concat([t, t.iloc[:1]]), r"judge a row once; b judges again 1 rows"),
        (lambda t: t.assign(emotion_true="sad"), r"truth; that of a and b differs in 10 rows"),
        (lambda t: t.assign(votes_sad=3.0), r"truth; that of a and b differs in 12 rows"),
        (lambda t: t.assign(arousal_true=[9.0, *t["arousal_true"][1:]]), r"differs in 1 rows"),
        (lambda t: t.assign(p_0=[np.nan, *t["p_0"][1:]]), r"b must predict a probability .* 1 row"),
        (lambda t: t.assign(p_0=-1.0), r"b must predict a probability of each emotion"),
        (lambda t: t.assign(valence=[np.nan, *t["valence"][1:]]), r"b must predict valence in ev"),
    ],
)
def test_members_that_do_not_fit_together_are_refused_in_one_line(change, told):
    made = table(np.arange(12) % C, np.tile(EQUAL, (12, 1)))
    with pytest.raises(UserError, match=told) as caught:
        combination.join({"a": made, "b": change(made)})
    assert "\n" not in str(caught.value)


# --- the methods ---------------------------------------------------------------------------------


def test_soft_and_weighted_are_means_row_by_row():
    p = drawn(np.random.default_rng(3), 3, 20)
    soft = combination.combine(joined(*p), Combination("soft"))
    weighted = combination.combine(joined(*p), Combination("weighted", [0.2, 0.5, 0.3]))
    for n in range(20):
        for c in range(C):
            assert soft[f"p_{c}"][n] == pytest.approx(sum(p[m][n][c] for m in range(3)) / 3)
            mean = 0.2 * p[0][n][c] + 0.5 * p[1][n][c] + 0.3 * p[2][n][c]
            assert weighted[f"p_{c}"][n] == pytest.approx(mean)
    assert list(weighted["emotion"]) == [EMOTIONS[i] for i in weighted[P].to_numpy().argmax(1)]


def brute_hard(p, weights) -> tuple[list[list[float]], list[int]]:
    shares, winners = [], []
    for n in range(len(p[0])):
        votes = [0.0] * C
        for m, weight in enumerate(weights):
            votes[max(range(C), key=lambda c: (p[m][n][c], -c))] += weight / sum(weights)
        best = [c for c in range(C) if abs(votes[c] - max(votes)) < 1e-9]
        winners.append(max(best, key=lambda c: (sum(p[m][n][c] for m in range(len(p))), -c)))
        shares.append(votes)
    return shares, winners


@given(st.integers(0, 10_000), st.sampled_from([None, (0.2, 0.5, 0.3), (1, 1, 2), (0, 1, 1)]))
def test_hard_is_the_plurality_of_votes_and_ties_go_to_the_greater_probability(seed, weights):
    p = drawn(np.random.default_rng(seed), 3, 6)
    given_ = weights and [w / sum(weights) for w in weights]
    frame = combination.combine(joined(*p), Combination("hard", given_))
    shares, winners = brute_hard(p, weights or (1, 1, 1))
    mixed = (1 - combination.TIE) * np.array(shares) + combination.TIE * p.mean(0)
    np.testing.assert_allclose(frame[P], mixed, atol=1e-12)
    assert frame[P].to_numpy().argmax(1).tolist() == winners  # scores at k judge what is answered
    assert [EMOTIONS.index(e) for e in frame["emotion"]] == winners


def test_two_members_of_half_the_weight_tie_with_the_one_of_the_other_half():
    p = np.stack([sure([3], 0.6), sure([2], 0.9), sure([3], 0.6)])  # .2 audio + .3 cm = .5 text
    frame = combination.combine(joined(*p), Combination("hard", [0.2, 0.5, 0.3]))
    assert frame["p_2"][0] == pytest.approx(0.5, abs=combination.TIE)
    assert frame["p_3"][0] == pytest.approx(0.5, abs=combination.TIE)
    assert frame["emotion"][0] == EMOTIONS[3]  # 0.6 + 0.6 + 0.0167 against 0.9 + 0.0667 + 0.0667


@given(st.integers(0, 10_000), st.sampled_from(["soft", "weighted", "hard"]))
def test_the_order_of_members_is_of_no_account_and_rows_sum_to_1(seed, method):
    rng = np.random.default_rng(seed)
    p, weights = drawn(rng, 3, 5), rng.dirichlet(np.ones(3)).tolist()
    order = rng.permutation(3)
    a = combination.combine(joined(*p), Combination(method, weights))
    b = combination.combine(joined(*p[order]), Combination(method, [weights[i] for i in order]))
    np.testing.assert_allclose(a[P], b[P], atol=1e-12)
    assert list(a["emotion"]) == list(b["emotion"])
    np.testing.assert_allclose(a[P].sum(axis=1), 1)


@pytest.mark.parametrize("method", ["soft", "hard", "weighted"])
def test_a_member_with_itself_answers_what_it_answered(method):
    p = drawn(np.random.default_rng(4), 12)
    weights = [0.3, 0.7] if method == "weighted" else None
    frame = combination.combine(joined(p, p), Combination(method, weights))
    assert list(frame["emotion"]) == [EMOTIONS[i] for i in p.argmax(1)]


def test_the_examples_of_stacking_are_true():
    result = doctest.testmod(stacking)
    assert result.attempted and not result.failed


def test_softmax_is_taken_of_each_row_and_that_makes_a_difference():
    text = np.array([[2.0, 0, 0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0, 0, 0]])
    audio = np.array([[0, 1.0, 0, 0, 0, 0, 0], [0, 6.0, 0, 0, 0, 0, 0]])
    audio = np.concatenate([audio, 12 * np.eye(7)[:1]])  # one loud row takes the others' share
    text = np.concatenate([text, np.zeros((1, 7))])
    rows = [stacking.softmax(x) for x in (text, audio)]
    np.testing.assert_allclose(rows, [scipy.special.softmax(x, axis=1) for x in (text, audio)])
    whole = [scipy.special.softmax(x) for x in (text, audio)]  # what the notebook did
    honest = combination.combine(joined(*rows), Combination("soft"))["emotion"]
    assert EMOTIONS.index(honest[1]) == 1 != np.sum(whole, 0)[1].argmax()


def test_scales_are_averaged_over_the_members_that_have_them():
    p, truth = drawn(np.random.default_rng(5), 3, 10), np.arange(10) % C
    tables = {f"m{i}": table(truth, p[i]) for i in range(3)}
    tables["m1"]["arousal"] = tables["m0"]["arousal"] + 0.5
    tables["m2"]["arousal"] = np.nan
    for t in tables.values():
        t["valence"] = np.nan
    rows = combination.join(tables)
    soft = combination.combine(rows, Combination("soft"))
    weighted = combination.combine(rows, Combination("weighted", [0.1, 0.3, 0.6]))
    np.testing.assert_allclose(soft["arousal"], tables["m0"]["arousal"] + 0.25)
    np.testing.assert_allclose(weighted["arousal"], tables["m0"]["arousal"] + 0.5 * 0.75)
    assert soft["valence"].isna().all()


@pytest.mark.parametrize("method", ["soft", "hard", "stack"])
def test_a_member_that_predicts_no_emotion_has_no_say_in_it(method):
    rng = np.random.default_rng(6)
    truth = np.arange(60) % C
    p = [drawn(rng, 60), drawn(rng, 60)]
    silent = table(truth, np.tile(EQUAL, (60, 1))).assign(emotion="", **dict.fromkeys(P, np.nan))
    tables = {"a": table(truth, p[0]), "b": table(truth, p[1])}
    with_it, without = combination.join(tables | {"c": silent}), combination.join(tables)
    found = [
        combination.combine(r, combination.learn(method, None, r, "logistic", 0).how)
        for r in (with_it, without)
    ]
    np.testing.assert_allclose(found[0][P], found[1][P], atol=1e-9)


# --- files of 2022 -------------------------------------------------------------------------------


def of_2022(folder: Path, n=21, **changed) -> dict[str, np.ndarray]:
    """text_*, audio_* and cmbert_*.npy as its scripts write them; the logits by name."""
    folder.mkdir()
    rng = np.random.default_rng(18)
    truth, logits = rng.integers(7, size=n), {}
    for kind in members.MODELS:
        logits[kind] = rng.normal(size=(n, 7)) * 3
        arrays = {
            "truth": truth.astype(float if kind == "cmbert" else int),
            "pred": logits[kind].argmax(1),
            "output": logits[kind],
        }
        for what, array in (arrays | changed).items():
            np.save(folder / f"{kind}_{what}.npy", array)
    return logits | {"truth": truth}


NAMED = ["text=old/text", "audio=old/audio", "cm=old/cmbert"]


def test_files_of_2022_are_read_in_their_order_of_emotions(exp):
    made = of_2022(Path("old"))
    folder = combined(*NAMED, "--method", "weighted", "--weights", "decision_fusion")
    frame = ensemble.read("e", folder).rows("test")
    mean = sum(
        w * scipy.special.softmax(made[k], axis=1)
        for k, w in (("text", 0.67), ("audio", 0.10), ("cmbert", 0.23))
    )
    order = ["neutral", "angry", "happy", "surprise", "sad", "fear", "disgust"]
    assert list(frame["emotion"]) == [order[i] for i in mean.argmax(1)]
    assert list(frame["emotion_true"]) == [order[i] for i in made["truth"]]
    scores = pd.read_csv(folder / "scores.csv", index_col="name")
    assert scores.loc["text", "Accuracy"] == pytest.approx(
        (made["text"].argmax(1) == made["truth"]).mean()
    )
    result = read_json(folder / "result.json")["scores"]
    assert result["ccc_arousal"]["value"] is None and result["uar"]["low"] is None
    again = combined(f"x={folder.name}", f"y={folder}/members/text", "--method", "soft")
    assert (again / "report.html").exists()  # what was read is a run, too


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"output": np.zeros((21, 6))}, "N labels, N predictions and (N, 7) logits"),
        ({"pred": np.zeros(20, int)}, "N labels, N predictions"),
        ({"truth": np.full(21, 7)}, "whole numbers 0..6"),
        ({"truth": np.full(21, 0.5)}, "whole numbers 0..6"),
        ({"output": np.full((21, 7), np.inf)}, "finite numbers"),
        ({"output": np.array([["x"] * 7] * 21)}, "finite numbers"),
        ({"output": np.array([{}], object)}, "allow_pickle=False"),
    ],
)
def test_other_arrays_than_those_of_2022_are_refused(exp, capsys, changed, told):
    of_2022(Path("old"), **changed)
    assert main.main(["ensemble", *NAMED, "--method", "soft"]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_files_of_2022_with_other_truths_are_refused(exp, capsys):
    made = of_2022(Path("old"))
    np.save("old/audio_truth.npy", np.roll(made["truth"], 1))
    assert main.main(["ensemble", *NAMED, "--method", "soft"]) == 2
    assert "that of text and audio differs in" in capsys.readouterr().err

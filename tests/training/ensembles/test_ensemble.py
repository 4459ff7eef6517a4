"""Ensembles: joining, the four methods, what is learnt of which rows, folders, testing again."""

import contextlib
import doctest
import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.special
from doubles.shared import FLAGS
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

import main
import metric
from constants import EMOTIONS
from evaluation import baselines
from evaluation import predictions as tables
from training import flags
from training.ensembles import combination, ensemble, members, out_of_fold, score_table, stacking
from training.ensembles.combination import Combination
from training.sweep import engine
from utils import UserError, make_folder, read_json, write_json

C = len(EMOTIONS)
P = list(metric.PROBABILITIES)
EQUAL = np.full(C, 1 / C)


def table(truth, p, name="test", sessions=6, prefix="", role="speaker") -> pd.DataFrame:
    """Predictions of rows whose emotion is `truth`, (N,) ids: dialogues of 5, sessions in turn."""
    n, labels = len(truth), np.array(EMOTIONS)
    number = np.arange(n) // 5
    session = [str(1 + i % sessions) for i in number]
    frame = pd.DataFrame(
        {
            "corpus": "made",
            "role": role,
            "segment": [f"{prefix}{name}{i}" for i in range(n)],
            "session": session,
            "dialogue": [f"{name}_{i}" for i in number],
            "speaker": session,
            "kind": "impro",
            "set": name,
        }
    )
    frame[P] = p
    frame["arousal"], frame["valence"] = np.linspace(1, 5, n), np.linspace(2, 4, n)
    frame["emotion"] = labels[np.argmax(p, 1)]
    frame["emotion_true"] = labels[truth]
    frame[list(metric.VOTES)] = 10 * np.eye(C)[truth]
    frame["arousal_true"], frame["valence_true"] = np.linspace(1, 5, n) ** 0.9, 3.0
    return frame


def sure(labels, certainty=0.8) -> np.ndarray:
    """(N, 7): `certainty` on each label, the rest spread evenly."""
    rest = (1 - certainty) / (C - 1)
    return np.where(np.eye(C)[labels] > 0, certainty, rest)


def partly(truth, share, rng) -> np.ndarray:
    """Labels of which about `share` are right, the others drawn."""
    return np.where(rng.random(len(truth)) < share, truth, rng.integers(C, size=len(truth)))


def joined(*ps, truth=None, **options) -> combination.Joined:
    truth = np.arange(len(ps[0])) % C if truth is None else truth
    return combination.join({f"m{i}": table(truth, p, **options) for i, p in enumerate(ps)})


def accuracy(frame: pd.DataFrame) -> float:
    return float((frame["emotion"] == frame["emotion_true"]).mean())


def drawn(rng, *shape) -> np.ndarray:
    return rng.dirichlet(np.ones(C), size=shape)


# --- joining --------------------------------------------------------------------------------------


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


# --- the methods ----------------------------------------------------------------------------------


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


# --- learning -------------------------------------------------------------------------------------


def test_fitted_weights_are_where_a_search_of_the_whole_range_finds_the_least_entropy():
    rng = np.random.default_rng(7)
    truth = rng.integers(C, size=400)
    p = np.stack([sure(partly(truth, s, rng), c) for s, c in ((0.7, 0.7), (0.4, 0.6), (0.1, 0.9))])
    rows = joined(*p, truth=truth)
    fitted = combination.learn("weighted", None, rows, "logistic", 0).how.weights
    grid = [(a, b, 100 - a - b) for a, b in itertools.product(range(101), repeat=2) if a + b <= 100]
    losses = [
        -np.log(np.tensordot(np.array(w) / 100, p, 1)[range(400), truth]).mean() for w in grid
    ]
    np.testing.assert_allclose(fitted, np.array(grid[int(np.argmin(losses))]) / 100, atol=0.015)
    assert sum(fitted) == pytest.approx(1) and fitted[0] > fitted[1] > fitted[2]


def test_the_logistic_stacker_is_that_of_scikit_learn_written_as_numbers():
    rng = np.random.default_rng(8)
    truth = rng.integers(C, size=200)
    p = np.stack([sure(partly(truth, 0.6, rng)), sure(partly(truth, 0.5, rng))])
    stacker = json.loads(json.dumps(stacking.fit_logistic(p, np.eye(C)[truth], 1.0)))
    x = np.log(np.concatenate([p[0], p[1]], axis=1))
    oracle = LogisticRegression(C=1.0, max_iter=1000).fit(x, truth).predict_proba(x)
    np.testing.assert_allclose(stacking.predict(p, stacker), oracle, atol=1e-9)


@pytest.mark.parametrize("there", [(1, 5), (0, 2, 6)])
def test_a_stacker_gives_emotions_it_never_saw_no_probability(there):
    rng = np.random.default_rng(9)
    truth = rng.choice(there, size=100)
    p = np.stack([sure(partly(truth, 0.6, rng))] * 2)
    found = stacking.predict(p, stacking.fit_logistic(p, np.eye(C)[truth], 1.0))
    x = stacking.features(p)
    oracle = LogisticRegression(C=1.0, max_iter=1000).fit(x, truth).predict_proba(x)
    np.testing.assert_allclose(found[:, list(there)], oracle, atol=1e-9)
    assert not np.delete(found, there, axis=1).any()


def test_split_votes_teach_by_their_shares():
    rng = np.random.default_rng(10)
    p = drawn(rng, 2, 80)
    votes = rng.multinomial(10, EQUAL, size=80).astype(float)
    x = stacking.features(p)
    many = [(row, c) for row in range(80) for c in range(C) for _ in range(int(votes[row, c]))]
    rows, labels = np.array(many).T  # each vote a row of a tenth
    oracle = LogisticRegression(C=1.0, max_iter=1000).fit(x[rows], labels, np.full(len(rows), 0.1))
    found = stacking.predict(p, stacking.fit_logistic(p, votes, 1.0))
    np.testing.assert_allclose(found, oracle.predict_proba(x), atol=1e-3)


def planted(rng, share_oof: float, share_test: float) -> tuple:
    """Two plain members and a third that is right in so many rows: (oof rows, test rows)."""
    sets = []
    for name, n, share in (("oof", 600, share_oof), ("test", 400, share_test)):
        truth = rng.integers(C, size=n)
        ps = [sure(partly(truth, s, rng)) for s in (0.45, 0.4, share)]
        sets.append(joined(*ps, truth=truth, name=name))
    return tuple(sets)


def test_stacking_gains_nothing_from_signal_that_only_the_test_has():
    oof, tested = planted(np.random.default_rng(11), share_oof=0.0, share_test=1.0)
    stacked = combination.learn("stack", None, oof, "logistic", 0)
    best = max(
        accuracy(tested.table.assign(emotion=np.array(EMOTIONS)[label]))
        for label in tested.label[:2]
    )
    assert accuracy(combination.combine(tested, stacked.how)) <= best + 0.1
    leaking = combination.learn("stack", None, tested, "logistic", 0)  # what the notebook did
    assert accuracy(combination.combine(tested, leaking.how)) > 0.95


def test_weights_gain_nothing_from_signal_that_only_the_test_has():
    oof, tested = planted(np.random.default_rng(12), share_oof=0.0, share_test=1.0)
    assert combination.learn("weighted", None, oof, "logistic", 0).how.weights[2] < 0.1
    assert combination.learn("weighted", None, tested, "logistic", 0).how.weights[2] > 0.95


def test_stacking_finds_what_an_average_cannot():
    rng = np.random.default_rng(13)
    oof, tested = planted(rng, 0.3, 0.3)
    wrong = [
        rows._replace(
            p=np.concatenate(
                [
                    rows.p[:2],
                    np.roll(
                        sure(
                            partly(
                                rows.table["emotion_true"].map(EMOTIONS.index).to_numpy(), 0.9, rng
                            )
                        ),
                        3,
                        axis=1,
                    )[None],
                ]
            )
        )
        for rows in (oof, tested)
    ]  # right, three classes on
    stacked = combination.learn("stack", None, wrong[0], "logistic", 0)
    assert accuracy(combination.combine(wrong[1], stacked.how)) > 0.85
    assert accuracy(combination.combine(wrong[1], Combination("soft"))) < 0.6


@pytest.mark.parametrize("sessions, column", [(6, "session"), (2, "session"), (1, "dialogue")])
def test_what_is_held_out_are_whole_sessions_or_dialogues_where_there_is_one(sessions, column):
    made = table(np.arange(70) % C, np.tile(EQUAL, (70, 1)), sessions=sessions)
    folds = combination.held_out(made)
    assert np.sum(folds, axis=0).tolist() == [1] * 70 and 2 <= len(folds) <= 5
    for fold in folds:
        assert not set(made[column][fold]) & set(made[column][~fold])


def test_rows_that_were_learnt_from_are_predicted_by_what_other_sessions_taught():
    oof, _ = planted(np.random.default_rng(14), 0.5, 0.5)
    learnt = combination.learn("stack", None, oof, "logistic", 0)
    seen = []

    def spy(rows):
        seen.append(set(rows.table["session"]))
        return learnt.again(rows)

    crossed = combination.cross_fitted(oof, spy)
    assert list(crossed["segment"]) == list(oof.table["segment"])
    for sessions in seen:
        rows = ~oof.table["session"].isin(sessions).to_numpy()
        part = combination.combine(oof.rows(rows), learnt.again(oof.rows(~rows)))
        np.testing.assert_allclose(part[P], crossed[P][rows], atol=1e-9)
    assert set.union(*seen) == set(oof.table["session"]) and not set.intersection(*seen)
    plain = combination.combine(oof, learnt.how)[P].to_numpy()
    assert not np.allclose(plain, crossed[P], atol=1e-3)
    np.testing.assert_array_equal(crossed[P], learnt.of(oof)[P])


@pytest.mark.parametrize("method", ["weighted", "stack"])
def test_nothing_is_learnt_without_rows_to_learn_from(method):
    with pytest.raises(UserError, match=f"--method {method} needs .*--oof K.*test rows are none"):
        combination.learn(method, None, None, "logistic", 0)


def test_rows_of_one_emotion_cannot_teach_a_stacker():
    rows = joined(*[np.tile(EQUAL, (20, 1))] * 2, truth=np.zeros(20, int))
    with pytest.raises(UserError, match="2 emotions"):
        combination.learn("stack", None, rows, "logistic", 0)


def test_without_lightgbm_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    rows = joined(*drawn(np.random.default_rng(0), 2, 40))
    with pytest.raises(UserError, match="needs LightGBM: pip install -r requirements/extra.txt"):
        combination.learn("stack", None, rows, "lightgbm", 0)


def test_lightgbm_stacks_and_is_kept_as_text():
    pytest.importorskip("lightgbm", reason="an extra: requirements/extra.txt")
    oof, tested = planted(np.random.default_rng(15), 0.9, 0.9)
    learnt = combination.learn("stack", None, oof, "lightgbm", 0)
    again = Combination(**json.loads(json.dumps(learnt.how._asdict())))
    frame = combination.combine(tested, again)
    assert accuracy(frame) > 0.8
    np.testing.assert_array_equal(frame[P], combination.combine(tested, learnt.how)[P])


def test_a_stacker_of_other_members_is_refused():
    p = drawn(np.random.default_rng(1), 3, 40)
    stacker = stacking.fit_logistic(p, np.eye(C)[np.arange(40) % C], 1.0)
    with pytest.raises(UserError, match="fitted to 3 members that predict emotion, there are 2"):
        stacking.predict(p[:2], stacker)


# --- runs that were written by hand ---------------------------------------------------------------


@pytest.fixture
def exp(tmp_path):
    """An empty folder of runs, in the working folder."""
    with contextlib.chdir(tmp_path):
        yield Path("exp")


def written(folder: Path, *tables: pd.DataFrame, model="mate", **said) -> Path:
    """A finished run with these predictions."""
    folder.mkdir(parents=True)
    configuration = {
        "model": model,
        "SorL": "speaker",
        "seed": 1,
        "command": "by hand",
        "split": {"train": [7, 8], "val": [], "test": [1, 2]},
        "test_split": [1, 2],
        "class_counts": dict.fromkeys(EMOTIONS, 5),
        "majority": {"emotion": "neutral", "arousal": 3.0, "valence": 3.0},
        "corpus": {"name": "made", "folder": "corpus", "fingerprint": "f", "synthetic": False},
    }
    write_json(folder / "configuration.json", configuration | said)
    write_json(
        folder / "result.json",
        {
            "synthetic": False,
            "warnings": [folder.name],
            "preparation": [],
            "rows": {"read": 60, "kept": 60},
        },
    )
    write_json(folder / "protocol.json", {"role": "speaker", "uses_test_audio": model == "heard"})
    pd.concat(tables).to_csv(folder / "predictions.csv", index=False)
    return folder


def two(exp: Path, *, fit: str | None = None, n=60, **said) -> list[Path]:
    rng = np.random.default_rng(16)
    made = []
    for name, share in (("a", 0.6), ("b", 0.5)):
        tables = [table(t := np.arange(n) % C, sure(partly(t, share, rng)))]
        if fit:
            tables.append(table(t, sure(partly(t, share, rng)), name=fit))
        made.append(written(exp / name, *tables, **said))
    return made


def combined(*words: str) -> Path:
    """The folder of a new ensemble."""
    before = set(Path("exp").glob("ensemble_*"))
    assert main.main(["ensemble", *map(str, words)]) == 0
    [folder] = set(Path("exp").glob("ensemble_*")) - before
    return folder


def test_an_ensemble_is_a_run_like_any_other(exp, capsys):
    two(exp)
    folder = combined("a", "b", "--method", "soft", "--ties", "first")
    result, said = (read_json(folder / f"{n}.json") for n in ("result", "configuration"))
    frame = ensemble.read("e", folder).predictions
    assert result["scores"]["accuracy"]["value"] == pytest.approx(accuracy(frame))
    assert result["warnings"] == ["a", "b"] and result["calibration"]["temperature"] is None
    assert said["model"] == "ensemble" and said["majority"]["emotion"] == "neutral"
    assert [m["folder"] for m in said["members"]] == ["a", "b"]
    assert said["command"].startswith("python main.py ensemble a b --method soft")
    assert {p.name for p in (folder / "comparison").iterdir()} == {
        "comparison.json",
        "table.md",
        "table.csv",
        "report.html",
    }
    assert (folder / "report.html").exists()
    pairs = read_json(folder / "comparison" / "comparison.json")["pairs"]
    assert ("ensemble (soft)", "a") in [(pair["a"], pair["b"]) for pair in pairs]
    np.testing.assert_allclose(frame["confidence"].astype(float), frame[P].max(axis=1), rtol=1e-5)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_the_table_in_the_layout_of_2022_has_the_scores_of_scikit_learn(exp, capsys):
    two(exp)
    folder = combined("a", "b", "--method", "soft")
    scores = pd.read_csv(folder / "scores.csv", index_col="name")
    assert list(scores.index) == ["a", "b", "ensemble (soft)", "majority baseline"]
    truth = ensemble.read("a", exp / "a").predictions["emotion_true"]
    for name, place in (("a", exp / "a"), ("ensemble (soft)", folder)):
        said = ensemble.read(name, place).predictions["emotion"]
        for title, score in (
            ("F1", f1_score),
            ("Precision", precision_score),
            ("Recall", recall_score),
        ):
            wanted = score(truth, said, average="weighted", zero_division=0)
            assert scores.loc[name, title] == pytest.approx(wanted, rel=1e-6)
        assert scores.loc[name, "UAR"] == pytest.approx(recall_score(truth, said, average="macro"))
    assert scores.loc["majority baseline", "Accuracy"] == pytest.approx((truth == "neutral").mean())
    assert f"majority baseline{scores.iloc[3, 0]:>29.4f}" in capsys.readouterr().out


@given(st.integers(0, 10_000))
def test_weighted_precision_is_that_of_scikit_learn(seed):
    truth, said = np.random.default_rng(seed).integers(C, size=(2, 12))
    wanted = precision_score(truth, said, average="weighted", zero_division=0)
    assert metric.weighted_precision(metric.confusion(truth, said)) == pytest.approx(wanted)


def test_given_weights_are_written_as_shares(exp):
    two(exp)
    folder = combined("a", "b", "--method", "hard", "--weights", "1", "3")
    assert read_json(folder / "configuration.json")["weights"] == [0.25, 0.75]
    frame = ensemble.read("e", folder).rows("test")
    assert set((frame[P] * 4).round(2).to_numpy().ravel()) <= {0, 1, 3, 4}


@pytest.mark.parametrize("fit", ["val", "oof"])
@pytest.mark.parametrize("method", ["weighted", "stack", "soft"])
def test_what_is_fitted_is_fitted_on_rows_that_are_not_tested(exp, method, fit):
    two(exp, fit=fit)
    folder = combined("a", "b", "--method", method)
    tables = {name: ensemble.read(name, exp / name).rows(fit) for name in ("a", "b")}
    learnt = combination.learn(method, None, combination.join(tables), "logistic", 42)
    said = read_json(folder / "configuration.json")
    assert said["weights"] == (pytest.approx(learnt.how.weights) if learnt.how.weights else None)
    frame = ensemble.read("e", folder).predictions
    assert frame["set"].value_counts().to_dict() == {"test": 60, fit: 60}
    calibration = read_json(folder / "result.json")["calibration"]
    assert calibration["fitted_on"] == 60 and calibration["temperature"] > 0
    card = read_json(folder / "protocol.json")["combination"]
    told = {"val": "validation rows", "oof": "out-of-fold rows"}[fit]
    assert card["learnt_on"] == ("nothing" if method == "soft" else told)
    assert (folder / "stacker.json").exists() == (method == "stack")


def test_the_same_command_gives_the_same_predictions(exp):
    two(exp, fit="oof")
    a, b = (combined("a", "b", "--method", "stack") for _ in range(2))
    assert a != b
    for name in ("predictions.csv", "stacker.json", "result.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


def test_rows_to_fit_on_that_are_tested_are_refused(exp, capsys):
    for folder in two(exp):
        rows = pd.read_csv(folder / "predictions.csv")
        pd.concat([rows, rows.assign(set="oof")]).to_csv(folder / "predictions.csv", index=False)
    assert main.main(["ensemble", "a", "b", "--method", "stack"]) == 2
    assert "60 rows of the set oof are tested, too (e.g. made speaker test0)" in (
        capsys.readouterr().err
    )


def test_an_ensemble_of_ensembles_learns_from_their_honest_rows(exp):
    two(exp, fit="oof")
    stacked, soft = (combined("a", "b", "--method", m) for m in ("stack", "soft"))
    folder = combined(f"x={stacked.name}", f"y={soft.name}", "--method", "weighted")
    parts = [ensemble.read(n, p).rows("test")[P] for n, p in (("x", stacked), ("y", soft))]
    weights = read_json(folder / "configuration.json")["weights"]
    found = ensemble.read("e", folder).rows("test")[P]
    np.testing.assert_allclose(found, weights[0] * parts[0] + weights[1] * parts[1], atol=1e-6)


def test_a_member_that_heard_the_test_makes_an_ensemble_that_did(exp):
    two(exp)
    shutil.rmtree(exp / "b")
    written(exp / "b", pd.read_csv(exp / "a" / "predictions.csv"), model="heard")
    folder = combined("a", "b", "--method", "soft")
    assert read_json(folder / "result.json")["uses_test_audio"] is True


@pytest.mark.parametrize(
    "words, told",
    [
        (["a", "--method", "soft"], "at least 2 members, got 1"),
        (["a", "a", "--method", "soft"], "two members are called 'a'"),
        (["a", "c=a", "--method", "soft"], "two members are the run"),
        (["a", "../b=b", "--method", "soft"], "name needs letters, digits"),
        (["a", "b", "--method", "stack"], "--method stack needs --oof K"),
        (["a", "b", "--method", "weighted"], "--method weighted needs --weights, --oof K"),
        (["a", "b", "--method", "soft", "--weights", "1", "2"], "weighted and hard, not for soft"),
        (["a", "b", "--method", "hard", "--weights", "1"], "a number of at least 0 for each of"),
        (["a", "b", "--method", "hard", "--weights", "0", "0"], "not all 0, got 0 0"),
        (["a", "b", "--method", "hard", "--weights", "-1", "2"], "got -1 2"),
        (["a", "b", "--method", "hard", "--weights", "nan", "2"], "got nan 2"),
        (["a", "b", "--method", "hard", "--weights", "one", "2"], "got one 2"),
        (
            ["a", "b", "--method", "hard", "--weights", "decision_fusion"],
            "1 cm_bert; there are: mate, mate",
        ),
        (
            ["a", "b", "--method", "hard", "--weights", "emo_ensemble"],
            "for --method weighted, not for",
        ),
        (
            ["a", "b", "--method", "weighted", "--weights", "emo_ensemble"],
            "2 wav2vec2, 3 kobert; ther",
        ),
        (["a", "b", "--method", "mean"], "invalid choice: 'mean'"),
        (["a", "nothing", "--method", "soft"], "no run 'nothing'"),
        (["a", "/etc", "--method", "soft"], "lies outside --save_path"),
        (["a", "b", "--method", "soft", "--oof", "2"], "a was not trained here"),
        (["a", "b", "--method", "soft", "--oof", "1"], "of at least 2"),
    ],
)
def test_what_cannot_be_combined_is_told_in_one_line_and_nothing_is_written(
    exp, capsys, words, told
):
    two(exp)
    assert main.main(["ensemble", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
    assert sorted(p.name for p in exp.iterdir()) == ["a", "b"]


def test_the_weights_of_2022_go_to_the_models_they_were_chosen_for(exp):
    truth = np.arange(30) % C
    rng = np.random.default_rng(17)
    for model in ("cm_bert", "kobert", "alexnet"):
        written(exp / model, table(truth, drawn(rng, 30)), model=model)
    words = ("cm_bert", "kobert", "alexnet", "--weights", "decision_fusion", "--method")
    for method, wanted in (("weighted", [0.23, 0.67, 0.10]), ("hard", [0.3, 0.5, 0.2])):
        said = read_json(combined(*words, method) / "configuration.json")
        assert said["weights"] == pytest.approx(wanted)


EMO_ENSEMBLE = ("wav2vec2", "kobert", "kobert", "wav2vec2", "kobert")


def of_emo_ensemble(exp: Path) -> list[str]:
    """Five members of the system of 2023, on rows of two corpora."""
    truth, rng = np.arange(40) % C, np.random.default_rng(19)
    names = [f"m{i}" for i in range(5)]
    for name, model in zip(names, EMO_ENSEMBLE, strict=True):
        rows = table(truth, drawn(rng, 40)).assign(corpus=["kemdy20"] * 24 + ["aihub"] * 16)
        majority = {"emotion": "sad", "by_corpus": {"kemdy20": "neutral", "aihub": "happy"}}
        counts = {"kemdy20": {"neutral": 9, "sad": 3}, "aihub": {"happy": 8, "sad": 4}}
        written(exp / name, rows, model=model, majority=majority, class_counts_by_corpus=counts)
    return names


def test_the_weights_of_2023_are_a_quarter_each_of_sound_and_a_sixth_of_text(exp):
    folder = combined(*of_emo_ensemble(exp), "--method", "weighted", "--weights", "emo_ensemble")
    weights = read_json(folder / "configuration.json")["weights"]
    assert weights == pytest.approx([1 / 4, 1 / 6, 1 / 6, 1 / 4, 1 / 6])
    parts = [ensemble.read(f"m{i}", exp / f"m{i}").rows("test") for i in range(5)]
    found = ensemble.read("e", folder).rows("test")
    wanted = sum(w * part[P].to_numpy() for w, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(found[P], wanted, atol=1e-6)


def test_an_ensemble_is_scored_by_corpus_beside_the_baseline_of_each(exp):
    folder = combined(*of_emo_ensemble(exp), "--method", "weighted", "--weights", "emo_ensemble")
    parts = read_json(folder / "result.json")["by_corpus"]
    rows = ensemble.read("e", folder).rows("test")
    for name, majority in (("kemdy20", "neutral"), ("aihub", "happy")):
        mine, score = rows[rows["corpus"] == name], parts[name]["scores"]["accuracy"]
        assert score["value"] == pytest.approx((mine["emotion"] == mine["emotion_true"]).mean())
        truth = mine["emotion_true"]
        assert score["baseline"] == pytest.approx((truth == majority).mean())
        share = 3 / 4 if name == "kemdy20" else 2 / 3  # of the majority; the rest is sad
        wanted = share * (truth == majority).mean() + (1 - share) * (truth == "sad").mean()
        assert score["prior"] == pytest.approx(wanted)


def test_the_scores_of_an_ensemble_stand_by_corpus_beside_the_baseline_of_each(exp, capsys):
    folder = combined(*of_emo_ensemble(exp), "--method", "weighted", "--weights", "emo_ensemble")
    told = capsys.readouterr().out
    rows = ensemble.read("e", folder).rows("test")
    lines = pd.read_csv(folder / "scores.csv").fillna({"corpus": ""}).set_index(["corpus", "name"])
    for corpus, majority in (("", "sad"), ("kemdy20", "neutral"), ("aihub", "happy")):
        mine = rows[rows["corpus"] == corpus] if corpus else rows
        truth = mine["emotion_true"]
        found = lines.loc[corpus, "ensemble (weighted)"]
        assert found["UAR"] == pytest.approx(recall_score(truth, mine["emotion"], average="macro"))
        wanted = f1_score(truth, mine["emotion"], average="weighted", zero_division=0)
        assert found["F1"] == pytest.approx(wanted)
        base = lines.loc[corpus, "majority baseline"]
        assert base["Accuracy"] == pytest.approx(accuracy_score(truth, [majority] * len(truth)))
        part = told.split(f"{corpus} alone:\n")[1] if corpus else told
        assert f"majority baseline{base['Accuracy']:>29.4f}" in part.split("alone:")[0]
    assert list(lines.loc["aihub"].index) == list(lines.loc[""].index)
    page = (folder / "comparison" / "table.md").read_text()
    assert "## By corpus: kemdy20" in page and "| majority (happy) |" in page


def test_the_baseline_is_one_in_result_table_and_comparison(exp):
    of_emo_ensemble(exp)
    for folder in exp.iterdir():  # tested on the rows of one corpus, none of them sad
        frame = pd.read_csv(folder / "predictions.csv")
        rows = (frame["corpus"] == "aihub") & (frame["emotion_true"] != "sad")
        frame[rows].to_csv(folder / "predictions.csv", index=False)
    folder = combined("m0", "m1", "--method", "soft")
    truth = ensemble.read("e", folder).rows("test")["emotion_true"]
    wanted = accuracy_score(truth, ["happy"] * len(truth))
    assert wanted != accuracy_score(truth, ["sad"] * len(truth))
    lines = pd.read_csv(folder / "scores.csv", index_col="name")
    row = read_json(folder / "comparison" / "comparison.json")["rows"][0]
    own = read_json(folder / "result.json")["scores"]["accuracy"]["baseline"]
    assert "corpus" not in lines and "by_corpus" not in row
    assert lines.loc["majority baseline", "Accuracy"] == pytest.approx(wanted)
    assert own == row["scores"]["accuracy"]["baseline"] == pytest.approx(wanted)


def test_a_sweep_is_all_its_trials_as_members(exp):
    names = of_emo_ensemble(exp)
    trials = [{"name": name, "command": "", "failed": None} for name in names]
    write_json(make_folder(exp / "sweep_five") / "sweep.json", {"grid": [], "trials": trials})
    folder = combined("sweep_five", "--method", "weighted", "--weights", "emo_ensemble")
    said = read_json(folder / "configuration.json")["members"]
    assert [member["name"] for member in said] == names


def test_a_sweep_whose_trials_failed_is_refused(exp, capsys):
    trials = [{"name": "m0", "command": "", "failed": None}]
    trials += [{"name": "m1", "command": "", "failed": "the disk is full"}]
    write_json(make_folder(exp / "sweep_two") / "sweep.json", {"grid": [], "trials": trials})
    assert main.main(["ensemble", "sweep_two", "--method", "soft"]) == 2
    assert "1 of 2 trials of sweep_two failed (e.g. m1)" in capsys.readouterr().err


# --- files of 2022 --------------------------------------------------------------------------------


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


# --- real runs ------------------------------------------------------------------------------------

MEMBER = ["--data", "corpus", "--test_split", "[4]", *FLAGS]


@pytest.fixture(scope="module")
def trained(workplace, run_folder, tmp_path_factory) -> Path:
    """A folder with two members of text and of audio, trained on sessions 1-3, and a stack."""
    place = tmp_path_factory.mktemp("ensembles")
    (place / "corpus").symlink_to(workplace / "corpus")
    shutil.copytree(workplace / "data", place / "data")
    with contextlib.chdir(place):
        for name in ("text", "audio"):
            words = [*MEMBER, "--modality", name, "--save_name", name]
            assert main.main(words) == 0
        combined("text", "audio", "--method", "stack", "--oof", "2", "--jobs", "1")
    return place


@pytest.fixture
def place(trained, tmp_path):
    """A copy of it, to work in."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True, symlinks=True)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def stacked() -> Path:
    return next(Path("exp").glob("ensemble_stack_*"))


def put_to_test(folder: Path, *words: str) -> Path:
    """What `--test_only` does with an ensemble."""
    settings, given_, _ = flags.parse([*words, "--gpu_id", "-1"])
    return ensemble.test(folder, settings, given_, "by hand")


def test_test_only_takes_an_ensemble_like_any_run(place):
    folder = stacked()
    assert main.main(["--test_only", folder.name, "--data", "corpus", "--gpu_id", "-1"]) == 0
    [again] = folder.glob("test_*")
    before, after = (pd.read_csv(f / "predictions.csv") for f in (folder, again))
    before = before[before["set"] == "test"].reset_index(drop=True)
    assert after["segment"].tolist() == before["segment"].tolist()
    np.testing.assert_allclose(after["p_5"], before["p_5"], atol=1e-6)


def test_out_of_fold_rows_are_those_of_training_each_once_in_folds_of_sessions(place):
    rows = ensemble.read("e", stacked()).rows("oof")
    heard = pd.read_csv("exp/text/training.csv", dtype=str)
    assert sorted(rows["segment"]) == sorted(heard["segment"]) and len(rows) == 18
    runs = [read_json(p) for p in Path("exp/oof").glob("*/configuration.json")]
    assert len(runs) == 4
    for said in runs:
        split = said["split"]
        assert said["leave_out"] == [4] and said["epochs"] == 1
        assert split["test"] in ([1, 2], [3])
        assert sorted(split["train"] + split["test"]) == [1, 2, 3]
    assert {said["modality"] for said in runs} == {"text", "audio"}


def test_finished_out_of_fold_runs_are_not_trained_again(place, monkeypatch):
    monkeypatch.setattr(engine.run, "train", None)
    folder = combined("text", "audio", "--method", "weighted", "--oof", "2", "--jobs", "1")
    assert sum(read_json(folder / "configuration.json")["weights"]) == pytest.approx(1)


@pytest.mark.parametrize("k, told", [("4", "was trained on 3 sessions"), ("1", "at least 2")])
def test_folds_need_a_session_each(place, capsys, k, told):
    assert main.main(["ensemble", "text", "audio", "--method", "soft", "--oof", k]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, told",
    [
        (["--leave_out", "3"], "needs members that were trained on the same sessions"),
        (["--disjoint", "text"], "rows that --disjoint took out of the training of other"),
    ],
)
def test_members_that_cannot_be_trained_out_of_fold_are_named_at_once(place, capsys, words, told):
    assert main.main([*MEMBER, "--modality", "text", "--save_name", "other", *words]) == 0
    before = set(Path("exp/oof").iterdir())
    assert main.main(["ensemble", "text", "other", "--method", "soft", "--oof", "2"]) == 2
    assert told in capsys.readouterr().err
    assert set(Path("exp/oof").iterdir()) == before


def test_an_ensemble_is_not_trained_out_of_fold(place, capsys):
    assert main.main(["ensemble", "text", stacked().name, "--method", "soft", "--oof", "3"]) == 2
    assert "is an ensemble" in capsys.readouterr().err


def test_out_of_fold_rows_that_are_not_those_of_training_are_refused(place, capsys):
    run_ = next(Path("exp/oof").glob("mate*"))
    path = run_ / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert (
        main.main(["ensemble", "text", "audio", "--method", "soft", "--oof", "2", "--jobs", "1"])
        == 2
    )
    assert "1 of 18 training rows missing" in capsys.readouterr().err


def test_a_member_trains_again_with_the_flags_it_was_trained_with(place):
    member = ensemble.read("audio", Path("exp/audio"))
    said = read_json("exp/audio/configuration.json")
    for trial in out_of_fold.folds(member, 2):
        other = {
            n
            for n, v in vars(trial.settings).items()
            if n in said and json.loads(json.dumps(v)) != said[n]
        }
        assert other == {"test_split", "leave_out", "save_name"}


def test_an_ensemble_tested_again_predicts_what_it_predicted(place):
    again = put_to_test(stacked())
    assert again.parent == stacked()
    old, new = (ensemble.read("e", p).rows("test") for p in (stacked(), again))
    pd.testing.assert_frame_equal(old, new, rtol=1e-5)
    found = [read_json(p / "result.json") for p in (stacked(), again)]
    assert found[0]["calibration"]["temperature"] == found[1]["calibration"]["temperature"]
    assert found[0]["scores"] == found[1]["scores"]
    assert (again / "comparison" / "report.html").exists()


def test_an_ensemble_of_ensembles_is_tested_again_to_the_last_member(place):
    soft = combined("text", "audio", "--method", "soft")
    outer = combined(f"x={soft.name}", "text", "--method", "hard")

    settings, given_, _ = flags.parse(["--gpu_id", "-1"])
    again = ensemble.test(outer, settings, given_, "by hand")
    old, new = (ensemble.read("e", p).rows("test") for p in (outer, again))
    pd.testing.assert_frame_equal(old, new, rtol=1e-5)


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda e: shutil.rmtree("exp/audio"), "the member audio of .* is gone"),
        (lambda e: Path("exp/audio/model.pth").write_bytes(b"x"), "member audio of .* has changed"),
        (lambda e: (e / "stacker.json").write_text("{}"), "not the one that was fitted"),
        (lambda e: (e / "stacker.json").unlink(), "not the one that was fitted"),
        (lambda e: edit(e, members=[1]), "members should be objects with name, folder, checksum"),
        (lambda e: edit(e, method="mean"), "method should be one of soft, weighted, hard, stack"),
        (lambda e: edit(e, method="soft", weights=["x"]), "weights numbers or null"),
        (lambda e: edit(e, method="soft", weights=[1.0]), "one weight a member is needed, 2"),
    ],
)
def test_an_ensemble_whose_parts_are_not_what_they_were_is_refused(place, change, told):
    change(stacked())
    with pytest.raises(UserError, match=told):
        put_to_test(stacked())
    assert not list(stacked().glob("test_*"))


def edit(folder: Path, **said) -> None:
    path = folder / "configuration.json"
    write_json(path, read_json(path) | said)


def test_several_processes_are_refused(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="by one process"):
        put_to_test(stacked())


def test_an_ensemble_is_told_from_other_runs(place):
    assert ensemble.is_one(stacked()) and not ensemble.is_one(Path("exp/text"))


def test_the_page_of_a_comparison_links_the_pages_of_its_runs(place):
    page = stacked() / "comparison" / "report.html"
    links = re.findall(r'href="([^"]+)"', page.read_text())
    assert len(links) == 3
    assert all((page.parent / link).resolve().is_file() for link in links)


def test_the_baseline_of_an_ensemble_is_that_of_its_first_member(place):
    majority = read_json("exp/text/configuration.json")["majority"]["emotion"]
    rows = ensemble.read("e", stacked()).rows("test")
    wanted = score_table.scores(baselines.majority(rows, majority), "drop")["Accuracy"]
    scores = pd.read_csv(stacked() / "scores.csv", index_col="name")
    assert scores.loc["majority baseline", "Accuracy"] == pytest.approx(wanted)

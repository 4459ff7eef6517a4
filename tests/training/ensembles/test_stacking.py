"""What is learnt of members: weights and stackers, on rows that are not tested."""

import itertools
import json
import sys

import numpy as np
import pytest
from doubles.members import EQUAL, C, P, accuracy, drawn, joined, partly, sure, table
from sklearn.linear_model import LogisticRegression

from constants import EMOTIONS
from training.ensembles import combination, stacking
from training.ensembles.combination import Combination
from utils import UserError


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

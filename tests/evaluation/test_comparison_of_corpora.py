"""Runs that test several corpora: baselines and scores of each by itself."""

import json

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from doubles.finished import (
    BY_CORPUS,
    COUNTS,
    MAJORITY,
    changed,
    kept,
    of_corpora,
    run,
    sklearn_macro_f1,
    without,
    written,
)
from hypothesis import strategies as st

from constants import EMOTIONS
from evaluation import comparison, finished_runs
from utils import UserError

SEEDS = st.integers(0, 2**32)


def guessed(frame: pd.DataFrame, counts: dict[str, int]) -> tuple[pd.Series, np.ndarray, list]:
    """Truth, answers and weights of scikit-learn's `sample_weight`: every answer, by its share."""
    truth = kept(frame).emotion_true
    share = np.array([counts[e] for e in EMOTIONS]) / sum(counts.values())
    return truth.repeat(7), np.tile(EMOTIONS, len(truth)), np.tile(share, len(truth))


def guessed_macro_f1(frame: pd.DataFrame, counts: dict[str, int]) -> float:
    truth, answers, weights = guessed(frame, counts)
    return sk.f1_score(
        truth,
        answers,
        labels=sorted(set(truth)),
        average="macro",
        sample_weight=weights,
        zero_division=0,
    )


def test_the_baselines_of_a_run_of_one_corpus_know_the_training_rows_of_that_corpus():
    both = [of_corpora(corpora=("a",) * 3), of_corpora(2, corpora=("b",) * 3)]
    for one, name, answer in zip(both, "ab", ("sad", "happy"), strict=True):
        found = comparison.row("x", [one], resamples=20)["scores"]
        truth = kept(one.predictions).emotion_true
        assert found["accuracy"]["baseline"] == pytest.approx((truth == answer).mean())
        wanted = guessed_macro_f1(one.predictions, BY_CORPUS[name])
        assert found["macro_f1"]["prior"] == pytest.approx(wanted)
    both[1] = of_corpora(1, sessions=(4, 5, 6), corpora=("b",) * 3)  # each its own, in one row
    found = comparison.row("x", both, resamples=20)["scores"]["accuracy"]
    rows = [kept(one.predictions).emotion_true for one in both]
    wanted = pd.concat([rows[0] == "sad", rows[1] == "happy"]).mean()
    assert found["baseline"] == pytest.approx(wanted)


def test_the_baselines_of_a_run_of_several_corpora_are_those_of_all_training_rows():
    one = of_corpora()
    found = comparison.row("x", [one], resamples=20)["scores"]
    truth = kept(one.predictions).emotion_true
    assert found["accuracy"]["baseline"] == pytest.approx((truth == "neutral").mean())
    assert found["macro_f1"]["prior"] == pytest.approx(guessed_macro_f1(one.predictions, COUNTS))


def test_a_corpus_by_itself_has_its_rows_scores_and_its_own_baselines():
    row = [of_corpora(1), of_corpora(2)]
    found = comparison.by_corpus(row, resamples=50)
    assert list(found) == ["a", "b"]
    for name, answer in (("a", "sad"), ("b", "happy")):
        frames = [one.predictions[one.predictions.corpus == name] for one in row]
        said, scores = [kept(frame) for frame in frames], found[name]["scores"]
        truth = said[0].emotion_true
        assert scores["macro_f1"]["pooled"] == pytest.approx(
            np.mean([sklearn_macro_f1(frame) for frame in frames])
        )
        for score, of in (("accuracy", sk.accuracy_score), ("uar", sk.balanced_accuracy_score)):
            wanted = np.mean([of(frame.emotion_true, frame.emotion) for frame in said])
            assert scores[score]["pooled"] == pytest.approx(wanted)
            constant = [answer] * len(truth)
            assert scores[score]["baseline"] == pytest.approx(of(truth, constant))
        assert scores["macro_f1"]["n"] == len(truth) and found[name]["majority"] == [answer]
        sessions = 2 if name == "a" else 1
        assert found[name]["n"] == {
            "trials": 2,
            "rows": len(frames[0]),
            "sessions": sessions,
            "dialogues": 3 * sessions,
        }
        wanted = guessed_macro_f1(frames[0], BY_CORPUS[name])
        assert scores["macro_f1"]["prior"] == pytest.approx(wanted)
        assert scores["macro_f1"]["low"] < scores["macro_f1"]["high"]
    json.dumps(found, allow_nan=False)


def test_a_run_of_several_corpora_without_counts_of_each_has_no_prior_of_one_alone():
    one = without(of_corpora(), "class_counts_by_corpus")
    found = comparison.by_corpus([one], resamples=5)
    assert {part["scores"]["macro_f1"]["prior"] for part in found.values()} == {None}
    alone = changed(one, majority=MAJORITY)  # of one corpus, which is all that was counted
    assert comparison.by_corpus([alone], resamples=5)["a"]["scores"]["macro_f1"]["prior"]


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"class_counts_by_corpus": [1]}, "class_counts_by_corpus should be a whole number"),
        ({"class_counts_by_corpus": {"a": {"bored": 1}}}, "class_counts_by_corpus should be"),
        ({"class_counts_by_corpus": {"a": {"sad": 0.5}}}, "class_counts_by_corpus should be"),
        ({"majority": {"by_corpus": {"a": "bored"}}}, "majority should be an emotion"),
        ({"majority": {"by_corpus": ["sad"]}}, "majority should be an emotion"),
    ],
)
def test_an_edited_configuration_of_several_corpora_is_refused(tmp_path, configuration, message):
    with pytest.raises(UserError, match=message):
        finished_runs.read(written(tmp_path / "run", run(), **configuration))

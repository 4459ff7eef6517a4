"""Tables of runs and their comparisons against scikit-learn, SciPy, statsmodels and brute force."""

import doctest
import io
import itertools
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

import constants
import metric
from constants import EMOTIONS
from evaluation import comparison, finished_runs, significance
from evaluation.finished_runs import Run
from evaluation.predictions import emotion_rows, multi_hot, scores_of
from reporting import tables
from utils import UserError, rng, write_json

SEEDS = st.integers(0, 2**32)
COUNTS = dict(zip(EMOTIONS, (5, 40, 60, 10, 20, 200, 90), strict=True))
MAJORITY = {"emotion": "neutral", "arousal": 3.0, "valence": 2.9}


def table(
    sessions=(1, 2), model=0, dialogues=3, rows=40, skill=0.3, world=0, role="speaker"
) -> pd.DataFrame:
    """Test rows: truth drawn from `world` and session, predictions from `model` and session."""
    return pd.concat(
        [_session(s, model, dialogues, rows, skill, world, role) for s in sessions],
        ignore_index=True,
    )


def _session(session, model, dialogues, rows, skill, world, role) -> pd.DataFrame:
    truth, said = rng(world, "truth", session), rng(model, "said", session)
    votes = truth.multinomial(10, truth.dirichlet(np.ones(7) / 3, rows)).astype(float)
    p = said.dirichlet(np.ones(7), rows) + skill * votes / 5
    dialogue = np.sort(np.append(range(dialogues), truth.integers(0, dialogues, rows - dialogues)))
    frame = pd.DataFrame(index=range(rows)).assign(corpus="kemdy19", role=role)
    frame["segment"] = [f"Sess{session:02d}_M{i:03d}" for i in range(rows)]
    frame["session"] = str(session)
    frame["dialogue"] = [f"Sess{session:02d}_d{d:03d}" for d in dialogue]
    frame["speaker"] = [f"Sess{session:02d}{'MF'[i % 2]}" for i in range(rows)]
    frame["kind"] = np.where(dialogue % 2, "impro", "script")
    frame["set"] = "test"
    frame["emotion"] = np.array(EMOTIONS)[p.argmax(1)]
    frame["emotion_true"] = [";".join(np.array(EMOTIONS)[v == v.max()]) for v in votes]
    frame[list(metric.PROBABILITIES)] = p / p.sum(1, keepdims=True)
    frame[list(metric.VOTES)] = votes
    for head in ("arousal", "valence"):
        frame[f"{head}_true"] = truth.uniform(1, 5, rows)
        frame[head] = frame[f"{head}_true"] * skill + said.normal(2, 1, rows)
    return frame


def run(sessions=(1, 2), seed=1, model=0, **of_table) -> Run:
    configuration = {"seed": seed, "majority": MAJORITY, "class_counts": COUNTS}
    frame = table(sessions, 1000 * model + seed, **of_table)
    name = f"m{model}_s{seed}_{'_'.join(map(str, sessions))}"
    return Run(Path("exp", name), configuration, frame)


def folds(model=0, seeds=(1,), **of_table) -> list[Run]:
    """Two folds of two sessions with each seed."""
    return [run(s, seed, model, **of_table) for seed in seeds for s in ((1, 2), (3, 4))]


def changed(one: Run, **configuration) -> Run:
    return one._replace(configuration=one.configuration | configuration)


def kept(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that --ties drop keeps, written without the code under test."""
    return frame[(frame.emotion_true != "") & ~frame.emotion_true.str.contains(";")]


def sklearn_macro_f1(frame: pd.DataFrame) -> float:
    rows = kept(frame)
    return sk.f1_score(
        rows.emotion_true,
        rows.emotion,
        labels=sorted(set(rows.emotion_true)),
        average="macro",
        zero_division=0,
    )


def pooled(row: list[Run]) -> pd.DataFrame:
    return pd.concat([one.predictions for one in row], ignore_index=True)


def test_the_examples_run():
    found = doctest.testmod(significance)
    assert found.attempted and not found.failed


# --- reading a run ---------------------------------------------------------------------------


def written(folder: Path, one: Run) -> Path:
    folder.mkdir()
    write_json(folder / "configuration.json", one.configuration)
    write_json(folder / "result.json", {})
    one.predictions.to_csv(folder / "predictions.csv", index=False)
    return folder


def test_a_run_is_read_with_its_test_rows_only(tmp_path):
    one = run()
    frame = pd.concat([one.predictions.assign(set="val"), one.predictions], ignore_index=True)
    found = finished_runs.read(written(tmp_path / "run", one._replace(predictions=frame)))
    assert found.folder == tmp_path / "run" and found.configuration == one.configuration
    expected = comparison.row("x", [one], resamples=20)["scores"]
    assert comparison.row("x", [found], resamples=20)["scores"] == expected


@pytest.mark.parametrize("name", finished_runs.FILES)
def test_a_folder_without_one_of_the_files_is_no_finished_run(tmp_path, name):
    (written(tmp_path / "run", run()) / name).unlink()
    with pytest.raises(UserError, match=rf"is no finished run.*it has no {re.escape(name)}$"):
        finished_runs.read(tmp_path / "run")


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"seed": None}, "needs a seed, a whole number; it has None"),
        ({"class_counts": {"sad": -1}}, "class_counts should be a whole number for each emotion"),
        ({"class_counts": {"bored": 1}}, "class_counts should be"),
        ({"class_counts": [1]}, "class_counts should be"),
        ({"majority": "sad"}, "majority should be an emotion"),
        ({"majority": {"emotion": "bored"}}, "majority should be an emotion"),
        ({"majority": {"emotion": "sad", "arousal": "3"}}, "and numbers for the scales"),
    ],
)
def test_a_configuration_that_was_edited_is_refused(tmp_path, configuration, message):
    with pytest.raises(UserError, match=message):
        finished_runs.read(written(tmp_path / "run", changed(run(), **configuration)))


def test_a_run_without_test_rows_is_refused(tmp_path):
    one = run()
    one = one._replace(predictions=one.predictions.assign(set="val"))
    with pytest.raises(UserError, match="needs rows of the set test; it has none"):
        finished_runs.read(written(tmp_path / "run", one))


# --- one row ---------------------------------------------------------------------------------


def test_mean_and_sd_are_those_of_the_runs_and_the_pooled_score_that_of_all_their_rows():
    row = folds()
    found = comparison.row("x", row, resamples=20)["scores"]
    values = [sklearn_macro_f1(one.predictions) for one in row]
    assert found["macro_f1"]["values"] == pytest.approx(values)
    assert found["macro_f1"]["mean"] == pytest.approx(np.mean(values))
    assert found["macro_f1"]["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert found["macro_f1"]["pooled"] == pytest.approx(sklearn_macro_f1(pooled(row)))
    assert found["macro_f1"]["pooled"] != pytest.approx(np.mean(values), abs=1e-4)
    assert found["macro_f1"]["n"] == len(kept(pooled(row))) < found["ccc_arousal"]["n"] == 160


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_with_several_seeds_the_pooled_score_is_the_mean_over_seeds_of_each_seeds_own(ties):
    row = folds(seeds=(1, 2, 5))
    found = comparison.row("x", row, ties, 20)
    per_seed = [scores_of(pooled(row[i : i + 2]), ties) for i in (0, 2, 4)]
    for name in set(metric.SCORES) - set(metric.LEGACY):
        expected = np.mean([scores[name]["value"] for scores in per_seed])
        assert found["scores"][name]["pooled"] == pytest.approx(expected), name
        assert found["scores"][name]["n"] == per_seed[0][name]["n"], name
    assert found["seeds"] == [1, 2, 5] and found["complete"] and found["n"]["rows"] == 160


def test_a_legacy_score_belongs_to_a_file_so_its_pooled_value_is_the_mean_of_the_runs():
    row = [run((1,), rows=100), run((2, 3), rows=70)]
    found = comparison.row("x", row, resamples=20)["scores"]["legacy_f1"]
    values = []
    for one in row:
        hot = multi_hot(one.predictions.emotion_true)
        values.append(metric.legacy_f1(hot, one.predictions[list(metric.PROBABILITIES)]))
    assert found["values"] == pytest.approx(values)
    assert found["pooled"] == found["mean"] == pytest.approx(np.mean(values))
    assert found["low"] < found["pooled"] < found["high"]


def test_a_row_says_what_it_is_made_of_and_can_be_written_as_json():
    row = [run((10, 9)), changed(run((3,)), seed=1), run((3,), seed=2)]
    row[2].predictions[["arousal", "emotion"]] = [np.nan, ""]
    found = json.loads(json.dumps(comparison.row("mate", row, "any", 20), allow_nan=False))
    assert found["name"] == "mate" and found["ties"] == "any" and not found["complete"]
    assert found["trials"][0] == {
        "folder": "exp/m0_s1_10_9",
        "seed": 1,
        "sessions": [9, 10],
        "n": 80,
    }
    assert found["n"] == {"trials": 3, "rows": 120, "dialogues": 9, "sessions": 3}
    assert list(found["scores"]) == list(metric.SCORES)
    assert found["scores"]["ccc_arousal"]["values"][2] is None
    assert found["scores"]["ccc_arousal"]["mean"] is found["scores"]["ccc_arousal"]["sd"] is None
    truth = set(";".join(pooled(row[:2]).emotion_true).split(";"))
    assert set(found["classes"]) <= truth


def test_one_run_has_no_sd():
    found = comparison.row("x", [run()], resamples=20)["scores"]["uar"]
    assert found["sd"] is None and found["mean"] == found["values"][0]


def test_two_runs_that_test_the_same_row_with_the_same_seed_are_refused_by_name():
    row = [run((1, 2)), run((2, 3)), run((2, 3), seed=2)]
    with pytest.raises(UserError, match="seed 1 exp/m0_s1_1_2 and exp/m0_s1_2_3 both test 40 rows"):
        comparison.row("x", row, resamples=20)
    assert comparison.row("x", row[1:], resamples=20)["n"]["trials"] == 2


def test_runs_that_disagree_on_the_truth_are_refused():
    row = [run(), run(seed=2)]
    for column, value in (
        ("arousal_true", 1.0),
        ("votes_sad", 99.0),
        ("emotion_true", "fear;sad"),
        ("dialogue", "other"),
    ):
        other = row[1].predictions.copy()
        other.loc[3, column] = value
        with pytest.raises(UserError, match=r"the same truth; it differs in 1 rows \(kemdy19 spea"):
            comparison.row("x", [row[0], row[1]._replace(predictions=other)], resamples=20)


def test_a_row_without_runs_is_refused():
    with pytest.raises(UserError, match="at least one trial"):
        comparison.row("x", [])


# --- intervals -------------------------------------------------------------------------------


def test_each_session_keeps_its_number_of_dialogues_in_every_resample():
    names = tuple(
        ("kemdy19", s, f"d{i}") for s, n in (("1", 2), ("2", 5), ("3", 1)) for i in range(n)
    )
    counts = finished_runs.draws(names, 4000, 3)
    sums = [counts[:, part].sum(1) for part in (slice(0, 2), slice(2, 7), slice(7, 8))]
    assert [set(s.tolist()) for s in sums] == [{2}, {5}, {1}]
    assert counts.mean(0) == pytest.approx(np.ones(8), abs=0.06)
    assert counts[:, 2].var() == pytest.approx(5 * 1 / 5 * 4 / 5, abs=0.06)
    assert (counts != finished_runs.draws(names, 4000, 4)).any()


@settings(deadline=None, max_examples=8)
@given(SEEDS, st.sampled_from(constants.TIE_POLICIES))
def test_vectorised_resamples_equal_scoring_the_drawn_rows_one_resample_at_a_time(seed, ties):
    row = [run(s, k, world=seed, rows=90) for s in ((1, 2), (3,)) for k in (1, 2)]
    pool = finished_runs.pool_of(row, ties)
    everything = np.ones(len(pool.utterance), bool)
    found = finished_runs.resampled(pool, everything, 4, seed).resampled | finished_runs.legacy(
        pool, 4, seed
    )
    for resample, count in enumerate(finished_runs.draws(tuple(pool.dialogues), 4, seed)):
        drawn = [name[2] for name in np.repeat(np.array(pool.dialogues), count, axis=0)]
        direct = [scores_of(_rows_of(pooled(row[i::2]), drawn), ties) for i in (0, 1)]
        alone = [scores_of(_rows_of(one.predictions, drawn), ties) for one in row]
        for name in metric.SCORES:
            parts = alone if name in metric.LEGACY else direct
            expected = np.mean([scores[name]["value"] for scores in parts])
            assert found[name][resample] == pytest.approx(expected, abs=1e-9), name


def _rows_of(frame: pd.DataFrame, dialogues: list[str]) -> pd.DataFrame:
    return pd.concat([frame[frame.dialogue == name] for name in dialogues])


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 200), st.integers(1, 5))
def test_resampled_legacy_scores_are_those_of_the_drawn_rows_in_batches(seed, rows, dialogues):
    draw = np.random.default_rng(seed)
    groups = np.sort(np.append(np.arange(dialogues), draw.integers(0, dialogues, rows)))
    draw.shuffle(groups)  # dialogues need not lie together
    hits = draw.choice([0, 0.5, 1], (len(groups), 2))
    counts = draw.multinomial(dialogues, np.full(dialogues, 1 / dialogues), 5)
    for found, count in zip(
        finished_runs.legacy_resampled(hits, groups, counts), counts, strict=True
    ):
        order = [np.flatnonzero(groups == g) for g in np.repeat(range(dialogues), count)]
        expected = metric.legacy(*hits[np.concatenate(order)].T)
        assert found == pytest.approx(list(expected.values()), abs=1e-9)


def test_the_interval_is_that_of_drawing_dialogues_within_sessions_by_hand():
    one = run((1, 2), dialogues=6, rows=60)
    found = comparison.row("x", [one], resamples=4000)["scores"]["accuracy"]
    rows, draw, values = kept(one.predictions), np.random.default_rng(0), []
    right = (rows.emotion == rows.emotion_true).groupby([rows.session, rows.dialogue])
    sessions = [part.to_numpy() for _, part in right.agg(["sum", "count"]).groupby("session")]
    for _ in range(4000):
        right, n = sum(part[draw.integers(0, len(part), len(part))].sum(0) for part in sessions)
        values.append(right / n)
    expected = np.percentile(values, [2.5, 97.5])
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=0.01)


def test_differences_between_sessions_do_not_widen_the_interval():
    frames = [table((s,), skill=10.0 * (s == 1), dialogues=10) for s in (1, 2)]
    one = run()._replace(predictions=pd.concat(frames, ignore_index=True))
    apart = comparison.row("x", [one], resamples=1000)["scores"]["accuracy"]
    frame = one.predictions.assign(session="1")
    mixed = comparison.row("x", [one._replace(predictions=frame)], resamples=1000)
    mixed = mixed["scores"]["accuracy"]
    assert apart["high"] - apart["low"] < 0.8 * (mixed["high"] - mixed["low"])


def test_sessions_of_one_dialogue_each_give_no_interval():
    found = comparison.row("x", [run((1, 2, 3), dialogues=1)], resamples=20)["scores"]
    for score in found.values():
        assert score["low"] is score["high"] is score["baseline_low"] is None
        assert score["pooled"] is not None
    one = run((1, 2))
    one.predictions.loc[~one.predictions.dialogue.str.endswith("d000"), "arousal_true"] = np.nan
    found = comparison.row("x", [one], resamples=20)["scores"]
    assert found["ccc_arousal"]["low"] is None and found["ccc_valence"]["low"] is not None


# --- baselines -------------------------------------------------------------------------------


def test_each_run_answers_its_own_majority_and_means():
    row = folds()
    majorities = [MAJORITY, {"emotion": "sad", "arousal": 4.0, "valence": None}]
    row = [changed(one, majority=m) for one, m in zip(row, majorities, strict=True)]
    found = comparison.row("x", row, resamples=200)["scores"]
    rows = [kept(one.predictions) for one in row]
    right = (rows[0].emotion_true == "neutral").sum() + (rows[1].emotion_true == "sad").sum()
    assert found["accuracy"]["baseline"] == pytest.approx(right / sum(map(len, rows)))
    low, high = found["accuracy"]["baseline_low"], found["accuracy"]["baseline_high"]
    assert low < found["accuracy"]["baseline"] < high
    x, y = pooled(row).arousal_true.to_numpy(), np.repeat([3.0, 4.0], 80)
    cov = np.cov(x, y, ddof=0)
    ccc = 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (x.mean() - y.mean()) ** 2)
    assert found["ccc_arousal"]["baseline"] == pytest.approx(ccc)
    # the second has no mean to answer: what is left is a constant
    assert found["ccc_valence"]["baseline"] == pytest.approx(0, abs=1e-12)


def test_a_configuration_that_does_not_say_what_was_trained_on_gives_no_baseline():
    one = run()
    for name, keys in (("majority", ["baseline", "baseline_low"]), ("class_counts", ["prior"])):
        configuration = {k: v for k, v in one.configuration.items() if k != name}
        found = comparison.row("x", [one._replace(configuration=configuration)], resamples=20)
        found = found["scores"]["uar"]
        assert [found[key] for key in keys] == [None] * len(keys) and found["pooled"] is not None
        others = {"baseline", "baseline_low", "prior"} - set(keys)
        assert all(found[key] is not None for key in others)


@pytest.mark.parametrize("ties", constants.TIE_POLICIES)
def test_the_prior_baseline_is_the_mean_of_drawing_answers_from_the_training_labels(ties):
    one = run((1, 2), rows=150)
    found = comparison.row("x", [one], ties, 20)["scores"]
    labels = np.repeat(EMOTIONS, list(COUNTS.values()))
    dummy = DummyClassifier(strategy="stratified", random_state=np.random.RandomState(0))
    dummy.fit(np.zeros((len(labels), 1)), labels)
    matrices = []
    for _ in range(300):
        answers = dummy.predict(np.zeros((300, 1)))
        drawn = emotion_rows(one.predictions.assign(emotion=answers), ties)
        matrices.append(metric.confusion(*drawn[1:]))
    matrix = np.mean(matrices, axis=0)
    for score in metric.POOLED:
        assert found[score.__name__]["prior"] == pytest.approx(score(matrix), abs=0.006)
    accuracies = [metric.accuracy(m) for m in matrices]
    assert found["accuracy"]["prior"] == pytest.approx(np.mean(accuracies), abs=0.006)
    undefined = set(metric.SCORES) - {score.__name__ for score in metric.POOLED}
    assert {found[name]["prior"] for name in undefined} == {None}


def test_the_prior_of_several_folds_is_the_sum_of_their_confusion_matrices():
    row = [
        changed(one, class_counts={e: 1}) for one, e in zip(folds(), ("sad", "happy"), strict=True)
    ]
    found = comparison.row("x", row, resamples=20)["scores"]
    frame = pooled(row)
    frame["emotion"] = np.repeat(["sad", "happy"], 80)
    assert found["macro_f1"]["prior"] == pytest.approx(sklearn_macro_f1(frame))


# --- by --------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", comparison.COLUMNS)
def test_groups_are_scored_by_themselves_with_their_classes(column):
    row = [run((2, 10)), run((3,))]
    found = comparison.by(row, column)
    frame = pooled(row)
    names = sorted(set(frame[column]), key=lambda name: int(name) if column == "session" else name)
    assert [str(group[column]) for group in found] == names
    for group, name in zip(found, names, strict=True):
        rows = kept(frame[frame[column] == name])
        assert group["n"] == (frame[column] == name).sum() and group["n_emotion"] == len(rows)
        assert group["macro_f1"] == pytest.approx(sklearn_macro_f1(rows))
        assert group["accuracy"] == pytest.approx((rows.emotion == rows.emotion_true).mean())
        assert set(group["classes"]) == set(rows.emotion_true)
        scores = scores_of(frame[frame[column] == name], "drop")
        for score in ("uar", "legacy_f1", "ccc_arousal", "ccc_valence"):
            assert group[score] == pytest.approx(scores[score]["value"])


def test_groups_are_averaged_over_the_seeds_that_test_them():
    row = [run((1,)), run((1,), seed=2), run((2,))]
    first, second = comparison.by(row, "session")
    values = [sklearn_macro_f1(one.predictions) for one in row]
    assert first["macro_f1"] == pytest.approx(np.mean(values[:2])) and first["n"] == 40
    assert second["macro_f1"] == pytest.approx(values[2])


def test_sessions_of_two_corpora_are_other_sessions_and_rows_without_a_kind_are_left_out():
    other = run((1,), seed=1)
    other = other._replace(predictions=other.predictions.assign(corpus="sample", kind=""))
    found = comparison.by([run((1,)), other], "session")
    assert [(g["corpus"], g["session"]) for g in found] == [("kemdy19", 1), ("sample", 1)]
    kinds = comparison.by([run((1,)), other], "kind")
    assert [(g["corpus"], g["kind"]) for g in kinds] == [
        ("kemdy19", "impro"),
        ("kemdy19", "script"),
    ]


def test_rows_are_told_apart_by_known_columns_only():
    with pytest.raises(UserError, match="no column 'text'.*speaker, session, kind, role"):
        comparison.by([run()], "text")
    with pytest.raises(UserError, match="both test"):
        comparison.by([run((1,)), run((1,))], "session")


# --- two rows --------------------------------------------------------------------------------


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


# --- a table ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_is_that_of_statsmodels_and_keeps_what_was_not_tested(p):
    from statsmodels.stats.multitest import multipletests

    tested = [value for value in p if value is not None]
    found = significance.holm(p)
    assert [value is None for value in found] == [value is None for value in p]
    if tested:
        expected = multipletests(tested, method="holm")[1]
        assert [value for value in found if value is not None] == pytest.approx(expected)


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


def test_numbers_come_without_warnings_and_again_the_same():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = [
            comparison.row("x", folds(), resamples=50),
            comparison.by(folds(), "kind"),
            comparison.pairs({"a": folds(), "b": folds(1)}, resamples=50),
        ]
    finished_runs.draws.cache_clear()
    again = [
        comparison.row("x", folds(), resamples=50),
        comparison.by(folds(), "kind"),
        comparison.pairs({"a": folds(), "b": folds(1)}, resamples=50),
    ]
    assert json.dumps(first) == json.dumps(again)


# --- several corpora -------------------------------------------------------------------------

BY_CORPUS = {
    "a": dict(zip(EMOTIONS, (9, 80, 1, 3, 0, 20, 7), strict=True)),
    "b": dict(zip(EMOTIONS, (0, 4, 5, 6, 40, 30, 2), strict=True)),
}
TWO = {
    "majority": MAJORITY | {"by_corpus": {"a": "sad", "b": "happy"}},
    "class_counts_by_corpus": BY_CORPUS,
}


def of_corpora(seed=1, model=0, sessions=(1, 2, 3), corpora=("a", "a", "b")) -> Run:
    """A run whose sessions belong to these corpora; the third has the number of the first."""
    one = changed(run(sessions, seed, model), **TWO)
    corpus = one.predictions["session"].map(dict(zip(map(str, sessions), corpora, strict=True)))
    session = one.predictions["session"].replace("3", "1")
    return one._replace(predictions=one.predictions.assign(corpus=corpus, session=session))


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
    one = of_corpora()
    del one.configuration["class_counts_by_corpus"]
    found = comparison.by_corpus([one], resamples=5)
    assert {part["scores"]["macro_f1"]["prior"] for part in found.values()} == {None}
    alone = changed(one, majority=MAJORITY)  # of one corpus, which is all that was counted
    assert comparison.by_corpus([alone], resamples=5)["a"]["scores"]["macro_f1"]["prior"]


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"class_counts_by_corpus": [1]}, "class_counts_by_corpus should be such numbers"),
        ({"class_counts_by_corpus": {"a": {"bored": 1}}}, "class_counts_by_corpus should be"),
        ({"class_counts_by_corpus": {"a": {"sad": 0.5}}}, "class_counts_by_corpus should be"),
        ({"majority": {"by_corpus": {"a": "bored"}}}, "majority should be an emotion"),
        ({"majority": {"by_corpus": ["sad"]}}, "majority should be an emotion"),
    ],
)
def test_an_edited_configuration_of_several_corpora_is_refused(tmp_path, configuration, message):
    with pytest.raises(UserError, match=message):
        finished_runs.read(written(tmp_path / "run", changed(run(), **configuration)))


def laid_out(tmp_path: Path, rows: dict[str, list[Run]]) -> dict:
    placed = {}
    for name, row in rows.items():
        row = [
            changed(one, SorL="speaker")._replace(folder=tmp_path / f"{name}{i}")
            for i, one in enumerate(row)
        ]
        placed[name] = [finished_runs.read(written(one.folder, one)) for one in row]
    return tables.compared("Two", placed, "drop", tmp_path, resamples=20)


def test_a_table_of_several_corpora_has_a_part_for_each(tmp_path):
    rows = {"mate": [of_corpora(1), of_corpora(2)], "lstm": [of_corpora(1, 1)]}
    result = laid_out(tmp_path, rows)
    text, shown, page = tables.markdown(result), tables.console(result), tables.page(result)
    found = {name: comparison.by_corpus(row, resamples=20) for name, row in rows.items()}
    for corpus, answer in (("a", "sad"), ("b", "happy")):
        part = text.split(f"## By corpus: {corpus}\n")[1].split("##")[0]
        block = shown.split(f"\n{corpus} alone:\n")[1].split("\n\n")[0]
        assert f"<h3>{corpus}</h3>" in page
        for name in rows:
            s = found[name][corpus]["scores"]
            cells = [f"{s[n]['pooled']:.3f}" for n in ("uar", "accuracy", "weighted_f1")]
            line = "{n} | {pooled:.3f} | [{low:.3f}, {high:.3f}]".format(**s["macro_f1"])
            assert f"| {name} | {line} |" in part and f" | {' | '.join(cells)} |" in part
            wide = " ".join(f"{cell:>{n}}" for cell, n in zip(cells, (6, 8, 11), strict=True))
            assert wide in block and "".join(f"<td>{cell}</td>" for cell in cells) in page
        s = found["mate"][corpus]["scores"]["macro_f1"]
        base = "{baseline:.3f} | [{baseline_low:.3f}, {baseline_high:.3f}]".format(**s)
        assert part.count(f"| majority ({answer}) | {s['n']} | {base} |") == 2
        assert block.count(f"\n  majority ({answer}) ") == 2
    assert "| Speaker[a 1-2; b 1] seed 2 |" in text and "Speaker[a 1-2; b 1] seed 2</a>" in page
    assert "| mate | a 1 |" in text and "| mate | b 1 |" in text and ">b 1</td>" in page
    assert max(map(len, shown.splitlines())) <= 100


def test_the_csv_of_several_corpora_has_every_score_of_each(tmp_path):
    rows = {"mate": [of_corpora(1), of_corpora(2)]}
    lines = pd.read_csv(io.StringIO(tables.table_csv(laid_out(tmp_path, rows))))
    found = comparison.by_corpus(rows["mate"], resamples=20) | {
        None: comparison.row("mate", rows["mate"], resamples=20)
    }
    for corpus, part in found.items():
        mine = lines[lines.corpus.isna() if corpus is None else lines.corpus == corpus]
        mine = mine[mine.kind != "trial"].set_index("kind")
        for kind in ("pooled", "low", "high", "baseline", "prior"):
            for name in metric.SCORES:
                wanted = part["scores"][name][kind]
                wanted = np.nan if wanted is None else wanted
                assert mine.loc[kind, name] == pytest.approx(wanted, rel=1e-6, nan_ok=True)
        assert set(mine.n) == {part["n"]["rows"]}
    assert lines[lines.kind == "trial"].sessions.tolist() == ["a 1-2; b 1"] * 2


def test_rows_that_test_one_corpus_each_are_told_apart_by_it_too(tmp_path):
    rows = {"one": [of_corpora(corpora=("a",) * 3)], "two": [of_corpora(corpora=("a", "a", "b"))]}
    parts = tables.lines_by_corpus(laid_out(tmp_path, rows)["rows"])
    assert {name: [line["label"] for line in lines] for name, lines in parts.items()} == {
        "a": ["one", "majority (sad)", "two", "majority (sad)"],
        "b": ["two", "majority (happy)"],
    }


def test_a_table_of_one_corpus_says_nothing_of_corpora(tmp_path):
    result = laid_out(tmp_path, {"mate": folds()})
    assert not {"by_corpus", "tested"} & set(result["rows"][0])
    for text in (tables.markdown(result), tables.console(result), tables.page(result)):
        assert "corpus" not in text.replace("synthetic corpus", "").lower()
    header = tables.table_csv(result).splitlines()[0].split(",")
    assert header[:7] == ["row", "kind", "role", "sessions", "seed", "run", "n"]
    assert "| Speaker[1,2] |" in tables.markdown(result)

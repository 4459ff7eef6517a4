"""Ensembles of runs that were written by hand: runs like any other."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.members import C, P, accuracy, combined, drawn, partly, sure, table
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

import main
import metric
from constants import EMOTIONS
from training.ensembles import combination, ensemble
from utils import make_folder, read_json, write_json


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

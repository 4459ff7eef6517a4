"""Scores of two corpora: each beside the baselines of its own training rows."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from doubles.several import material

import dataset
import main
from evaluation import alignment
from evaluation.result import summarise, trained
from evaluation.run_configuration import RunConfiguration


def test_scores_by_corpus_are_those_of_its_rows(joint_run):
    result = json.loads((joint_run / "result.json").read_text())
    rows = pd.read_csv(joint_run / "predictions.csv", dtype={"emotion_true": str})
    assert list(result["by_corpus"]) == ["kemdy19", "kemdy20"]
    for name, part in result["by_corpus"].items():
        mine = rows[(rows["corpus"] == name) & ~rows["emotion_true"].str.contains(";")]
        truth, said = mine["emotion_true"], mine["emotion"]
        labels = sorted(set(truth))
        assert part["n"]["emotion"] == len(mine) > 0
        wanted = sklearn.metrics.f1_score(truth, said, labels=labels, average="macro")
        assert part["scores"]["macro_f1"]["value"] == pytest.approx(wanted)
        constant = [part["majority"]] * len(mine)
        wanted = sklearn.metrics.accuracy_score(truth, constant)
        assert part["scores"]["accuracy"]["baseline"] == pytest.approx(wanted)
    both = sum(part["n"]["emotion"] for part in result["by_corpus"].values())
    assert result["n"]["emotion"] == both


def test_each_corpus_has_the_baseline_of_its_own_training_rows(joint_run, two_corpora):
    said = json.loads((joint_run / "configuration.json").read_text())["majority"]["by_corpus"]
    with contextlib.chdir(two_corpora):
        found = material(test_extra=(3,))
    rows = dataset.Windows(found, "train", 1).rows
    trained = found.utterances.iloc[rows]
    for name, emotion in said.items():
        labels = trained.loc[trained["corpus"] == name, "emotion"].str.split(";").explode()
        assert labels.value_counts()[emotion] == labels.value_counts().max()


def predictions(corpora: list[str], truth: list[str]) -> pd.DataFrame:
    n = len(truth)
    table = pd.DataFrame(
        {
            "corpus": corpora,
            "role": "speaker",
            "dialogue": list("abcdefgh")[:n],
            "session": 1,
            "segment": list("abcdefgh")[:n],
            "kind": "talk",
            "emotion": "happy",
            "emotion_true": truth,
        }
    )
    for i, name in enumerate(leaf_emotions()):
        table[f"p_{i}"] = np.where(name == "happy", 0.4, 0.1)
        table[f"votes_{name}"] = (table["emotion_true"] == name) * 10
    return table.assign(arousal=3.0, valence=3.0, arousal_true=3.0, valence_true=3.0)


def leaf_emotions() -> tuple[str, ...]:
    return dataset.constants.EMOTIONS


def test_rows_of_one_corpus_have_its_own_baseline_though_others_were_trained_on():
    table = predictions(["one"] * 4, ["sad", "sad", "happy", "sad"])
    classes = {"one": "sad", "other": "happy"}
    found = summarise(table, "drop", "happy", corpus_classes=classes, resamples=10)
    assert found["scores"]["accuracy"]["baseline"] == 0.75 and "by_corpus" not in found
    table = predictions(["one", "one", "other", "other"], ["sad", "sad", "happy", "sad"])
    found = summarise(table, "drop", "happy", corpus_classes=classes, resamples=10)
    assert found["scores"]["accuracy"]["baseline"] == 0.25  # together: what was said
    assert found["by_corpus"]["one"]["scores"]["accuracy"]["baseline"] == 1.0
    assert found["by_corpus"]["other"]["scores"]["accuracy"]["baseline"] == 0.5


def test_the_bootstrap_does_not_mix_dialogues_of_two_corpora():
    table = predictions(["one", "other"], ["sad", "happy"]).assign(dialogue="same")
    assert alignment.numbered(table, alignment.DIALOGUE).tolist() == [0, 1]


def expected(truth: pd.Series, counts: dict[str, int]) -> float:
    """Macro-F1 of answers drawn by these counts: every answer to every row, by its share."""
    share = np.array([*counts.values()]) / sum(counts.values())
    return sklearn.metrics.f1_score(
        truth.repeat(len(share)),
        np.tile([*counts], len(truth)),
        labels=sorted(set(truth)),
        average="macro",
        sample_weight=np.tile(share, len(truth)),
        zero_division=0,
    )


def test_the_training_labels_of_each_corpus_are_counted(joint_run, two_corpora):
    said = json.loads((joint_run / "configuration.json").read_text())
    with contextlib.chdir(two_corpora):
        found = material(test_extra=(3,))
    trained = found.utterances.iloc[dataset.Windows(found, "train", 1).rows]
    assert set(said["class_counts_by_corpus"]) == {"kemdy19", "kemdy20"}
    for name, counts in said["class_counts_by_corpus"].items():
        labels = trained.loc[trained["corpus"] == name, "emotion"].str.split(";").explode()
        wanted = labels[labels != ""].value_counts()
        assert {emotion: n for emotion, n in counts.items() if n} == dict(wanted)
        assert list(counts) == list(leaf_emotions())
    both = [*said["class_counts_by_corpus"].values()]
    assert {e: sum(by[e] for by in both) for e in leaf_emotions()} == said["class_counts"]


def test_the_prior_of_a_corpus_draws_from_its_own_training_labels(joint_run):
    said, result = (
        json.loads((joint_run / f"{name}.json").read_text()) for name in ("configuration", "result")
    )
    rows = pd.read_csv(joint_run / "predictions.csv", dtype={"emotion_true": str})
    rows = rows[~rows["emotion_true"].str.contains(";")]
    for name, part in result["by_corpus"].items():
        truth = rows.loc[rows["corpus"] == name, "emotion_true"]
        wanted = expected(truth, said["class_counts_by_corpus"][name])
        assert part["scores"]["macro_f1"]["prior"] == pytest.approx(wanted)
        assert part["scores"]["ccc_arousal"]["prior"] is None
    wanted = expected(rows["emotion_true"], said["class_counts"])
    assert result["scores"]["macro_f1"]["prior"] == pytest.approx(wanted)


def test_a_test_of_one_corpus_has_the_prior_of_its_training_labels(copied):
    assert main.main(["--test_only", "both", "--test_extra", "--gpu_id", "-1"]) == 0
    [alone] = Path("exp/both").glob("test_*")
    said, result = (
        json.loads((alone / f"{name}.json").read_text()) for name in ("configuration", "result")
    )
    truth = pd.read_csv(alone / "predictions.csv", dtype={"emotion_true": str})["emotion_true"]
    truth = truth[~truth.str.contains(";")]
    wanted = expected(truth, said["class_counts_by_corpus"]["kemdy19"])
    assert result["scores"]["macro_f1"]["prior"] == pytest.approx(wanted)
    assert "by_corpus" not in result


def test_a_folder_without_counts_by_corpus_has_no_prior_where_one_of_several_is_tested():
    old = {
        "majority": {"emotion": "sad", "by_corpus": {"one": "sad", "other": "happy"}},
        "class_counts": {"sad": 3, "happy": 1},
    }
    table = predictions(["one", "one", "other", "other"], ["sad", "sad", "happy", "sad"])
    found = summarise(table, "drop", resamples=10, **trained(RunConfiguration.of(old)))
    assert found["scores"]["accuracy"]["prior"] == pytest.approx(0.75 * 0.75 + 0.25 * 0.25)
    assert "prior" not in found["by_corpus"]["one"]["scores"]["accuracy"]
    alone = summarise(table[:2], "drop", resamples=10, **trained(RunConfiguration.of(old)))
    assert "prior" not in alone["scores"]["accuracy"]
    old["majority"]["by_corpus"].pop("other")  # trained on one corpus, so that all are its counts
    alone = summarise(table[:2], "drop", resamples=10, **trained(RunConfiguration.of(old)))
    assert alone["scores"]["accuracy"]["prior"] == pytest.approx(0.75)


def test_a_corpus_that_was_not_trained_on_has_the_baselines_of_all_training_rows():
    table = predictions(["one", "one", "new", "new"], ["sad", "sad", "happy", "sad"])
    known = {
        "majority": {"emotion": "angry", "by_corpus": {"one": "sad"}},
        "class_counts": {"sad": 3, "angry": 5},
        "class_counts_by_corpus": {"one": {"sad": 3}},
    }
    found = summarise(table, "drop", resamples=10, **trained(RunConfiguration.of(known)))[
        "by_corpus"
    ]
    assert (found["one"]["majority"], found["new"]["majority"]) == ("sad", "angry")
    score = found["new"]["scores"]["accuracy"]
    assert score["baseline"] == 0 and score["prior"] == pytest.approx(0.5 * 3 / 8)


def test_compare_shows_each_corpus_beside_its_baseline(copied, joint_run, capsys):
    assert main.main(["compare", "x=both"]) == 0
    told = capsys.readouterr().out
    [folder] = Path("exp").glob("compare_*")
    own = json.loads((joint_run / "result.json").read_text())["by_corpus"]
    row = json.loads((folder / "comparison.json").read_text())["rows"][0]
    text = (folder / "table.md").read_text()
    assert "| Speaker[kemdy19 4; kemdy20 3] |" in text
    for name, part in own.items():
        found = row["by_corpus"][name]
        assert found["majority"] == [part["majority"]]
        for score in ("macro_f1", "uar", "accuracy", "weighted_f1"):
            ours, its = found["scores"][score], part["scores"][score]
            assert ours["pooled"] == pytest.approx(its["value"])
            assert ours["baseline"] == pytest.approx(its["baseline"])
            assert ours["prior"] == pytest.approx(its["prior"])
            assert ours["n"] == its["n"]
        assert f"## By corpus: {name}" in text and f"\n{name} alone:\n" in told

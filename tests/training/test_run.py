"""The folder of a run: its files, their columns and keys; the same command gives the same bytes."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from doubles.finished_run import VOTES, log, read
from doubles.settings import settings_with
from doubles.small_runs import trained

from training import run_folder as folders
from training.flags import parse

SCORE = set("value low high n baseline baseline_low baseline_high prior".split())


# --- the run folder ------------------------------------------------------------------------------


def test_a_run_folder_is_named_by_what_was_run_and_when(run_folder):
    assert re.fullmatch(r"lstm_speaker_adam_8_\d{8}T\d{6}Z", run_folder.name)


def test_a_run_folder_holds_every_file_and_no_other(run_folder):
    wanted = {
        "configuration.json",
        "training.csv",
        "model.pth",
        "train_loss.log",
        "loss_curve.png",
        "predictions.csv",
        "result.json",
        "confusion.csv",
        "confusion.png",
        "report.html",
        "model.pth.b2sum",
        "protocol.json",
    }
    names = {p.name for p in run_folder.iterdir() if p.is_file()}
    assert names >= wanted
    assert all(name.startswith("events.out.tfevents") for name in names - wanted)
    assert len(names - wanted) == 1


def test_predictions_have_the_documented_columns_and_values(run_folder):
    text = (run_folder / "predictions.csv").read_text(encoding="utf-8")
    rows = pd.read_csv(run_folder / "predictions.csv")
    assert text.splitlines()[0].split(",") == [
        "corpus",
        "role",
        "segment",
        "session",
        "dialogue",
        "speaker",
        "kind",
        "set",
        *[f"p_{i}" for i in range(7)],
        "arousal",
        "valence",
        "emotion",
        "confidence",
        "emotion_true",
        *[f"votes_{name}" for name in VOTES],
        "arousal_true",
        "valence_true",
    ]
    assert len(rows) == 12
    assert set(rows["session"]) == {3, 4}
    assert set(rows["set"]) == {"test"}
    assert (rows["corpus"] + rows["role"] == "kemdy19speaker").all()
    p = rows[[f"p_{i}" for i in range(7)]].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(rows["confidence"], p.max(1), rtol=1e-6)  # no sessions to fit on
    assert rows["emotion"].tolist() == [VOTES[i] for i in p.argmax(1)]
    votes = rows[[f"votes_{name}" for name in VOTES]].to_numpy()
    assert (votes.sum(1) == 10).all()
    modal = [{VOTES[i] for i in np.flatnonzero(row == row.max())} for row in votes]
    assert [set(label.split(";")) for label in rows["emotion_true"]] == modal
    assert rows[["arousal", "valence", "arousal_true", "valence_true"]].stack().between(1, 5).all()


def test_predictions_hold_the_truth_of_the_annotation(run_folder, workplace):
    rows = pd.read_csv(run_folder / "predictions.csv").set_index("segment")
    for path in sorted((workplace / "corpus/annotation").glob("Session0[34]_[FM]_res.csv")):
        table = pd.read_csv(path, header=None, skiprows=2, dtype=str)
        for _, row in table[table[9].str[-4] == path.name[10]].iterrows():
            truth = rows.loc[row[9], ["emotion_true", "valence_true", "arousal_true"]].tolist()
            assert truth == [row[10], float(row[11]), float(row[12])]


def test_a_result_has_the_documented_keys(run_folder):
    result = read(run_folder, "result.json")
    assert set(result) == {
        "ties",
        "synthetic",
        "n",
        "classes",
        "scores",
        "per_class",
        "confusion",
        "by_kind",
        "preparation",
        "rows",
        "warnings",
        "calibration",
        "uses_test_audio",
    }
    assert (result["ties"], result["synthetic"]) == ("drop", True)
    assert result["n"]["rows"] == 12
    assert result["rows"] == {"read": 24, "kept": 24}
    assert set(result["by_kind"]) == {"script", "impro"}
    assert [row["emotion"] for row in result["per_class"]] == VOTES
    assert np.array(result["confusion"]).shape == (7, 7)
    for score in result["scores"].values():
        assert set(score) == SCORE
    named = {"accuracy", "uar", "macro_f1", "weighted_f1", "ccc_arousal", "ccc_valence"}
    assert named | {"legacy_f1"} <= set(result["scores"])
    treatments = {row["treatment"] for row in result["preparation"]}
    assert {"converted", "masked"} <= treatments
    assert all(set(row) == {"treatment", "reason", "count"} for row in result["preparation"])


def test_the_scores_of_a_result_are_those_of_its_predictions(run_folder):
    rows = pd.read_csv(run_folder / "predictions.csv")
    result = read(run_folder, "result.json")
    single = rows[~rows["emotion_true"].str.contains(";")]
    truth, predicted = single["emotion_true"], single["emotion"]
    oracle = {
        "accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "uar": sklearn.metrics.recall_score(
            truth, predicted, labels=truth.unique(), average="macro", zero_division=0
        ),
        "macro_f1": sklearn.metrics.f1_score(
            truth, predicted, labels=truth.unique(), average="macro", zero_division=0
        ),
    }
    for name, value in oracle.items():
        assert result["scores"][name]["value"] == pytest.approx(value)
        assert result["scores"][name]["n"] == len(single)
    matrix = sklearn.metrics.confusion_matrix(truth, predicted, labels=VOTES)
    assert result["confusion"] == matrix.tolist()
    written = pd.read_csv(run_folder / "confusion.csv", index_col=0)
    assert written.index.tolist() == written.columns.tolist() == VOTES
    assert (written.to_numpy() == matrix).all()


def test_the_baseline_is_the_majority_of_the_training_sessions(run_folder, workplace):
    trained_on = []
    for path in sorted((workplace / "corpus/annotation").glob("Session0[12]_[FM]_res.csv")):
        table = pd.read_csv(path, header=None, skiprows=2, dtype=str)
        own = table[table[9].str[-4] == path.name[10]]
        trained_on += [label for labels in own[10] for label in labels.split(";")]
    majority = max(VOTES, key=trained_on.count)
    rows = pd.read_csv(run_folder / "predictions.csv")
    single = rows.loc[~rows["emotion_true"].str.contains(";"), "emotion_true"]
    scores = read(run_folder, "result.json")["scores"]
    assert scores["accuracy"]["baseline"] == pytest.approx((single == majority).mean())


def test_a_configuration_holds_every_flag_and_what_made_the_run(run_folder):
    configuration = read(run_folder)
    flags = parse([]).settings
    assert set(vars(flags)) <= set(configuration)
    for name in vars(flags):
        value = configuration[name]
        assert not isinstance(value, dict), f"{name} is not flat"
    assert {"command", "seed", "git", "versions", "corpus", "split", "parameters"} <= set(
        configuration
    )
    assert configuration["command"].startswith("python main.py --data corpus --test_split")
    assert configuration["split"] == {"train": [1, 2], "val": [], "test": [3, 4]}
    assert configuration["corpus"]["synthetic"] is True
    assert configuration["versions"]["torch"] == torch.__version__.split("+")[0]
    state = torch.load(run_folder / "model.pth", weights_only=True)
    counted = sum(
        t.numel()
        for name, t in state.items()
        if "running" not in name and "num_batches" not in name
    )
    assert configuration["parameters"] == counted


def test_the_log_has_one_line_of_json_an_epoch(place):
    lines = log(trained("--epochs", "3"))
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert set(line) == {"epoch", "loss", "loss/emotion", "loss/arousal", "loss/valence", "lr"}
        parts = line["loss/arousal"] + line["loss/valence"]
        assert line["loss"] == pytest.approx(0.66 * line["loss/emotion"] + 0.34 * parts, rel=1e-5)


def test_the_pictures_are_pictures_and_the_page_needs_nothing_else(run_folder):
    for name in ("loss_curve.png", "confusion.png"):
        assert (run_folder / name).read_bytes().startswith(b"\x89PNG\r\n")
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)
    assert "synthetic corpus" in page


def test_the_training_rows_are_listed_without_the_test_rows(run_folder):
    rows = pd.read_csv(run_folder / "training.csv")
    assert set(rows["session"]) == {1, 2}
    assert len(rows) == 12


def test_run_folders_of_the_same_second_never_collide(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "now", lambda: "20260101T000000Z")
    settings = settings_with(backbone="gru", SorL="listener", optim="sgd", ws=4)
    make = lambda _: folders.new_folder(str(tmp_path / "exp"), settings, {})  # noqa: E731
    with ThreadPoolExecutor(8) as pool:
        names = {folder.name for folder in pool.map(make, range(24))}
    first = "gru_listener_sgd_4_20260101T000000Z"
    assert names == {first, *(f"{first}-{n}" for n in range(2, 25))}


# --- the same again ------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(place):
    first, again, other = (trained("--seed", seed) for seed in ("5", "5", "6"))
    for name in ("predictions.csv", "model.pth"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


def test_the_same_command_gives_the_same_bytes_with_sound_too(place, run_folder):
    again = trained("--modality", "both")
    assert read(again)["modality"] == read(run_folder)["modality"]
    for name in ("predictions.csv", "model.pth", "training.csv"):
        assert (again / name).read_bytes() == (run_folder / name).read_bytes(), name

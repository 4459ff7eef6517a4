"""Runs that are trained: what is learnt, kept and scored."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from doubles.finished_run import VAL, VOTES, log, open_material, read
from doubles.small_runs import TEXT, trained

import dataset
import main
from evaluation import calibration
from training import loop, run
from training.flags import parse
from utils import UserError, leaf


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    """A smaller corpus: three utterances to train on in session 1, three to test on in 2."""
    folder = tmp_path_factory.mktemp("mini")
    leaf("corpora", "sample").write(folder / "corpus", sessions=2, dialogues=1, utterances=3)
    return folder


# --- training ------------------------------------------------------------------------------------


def test_lr_decay_is_what_the_rate_is_multiplied_by(place):
    rates = [line["lr"] for line in log(trained("--epochs", "6", "--lr_decay", "0.5"))]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 2.5e-4, 2.5e-4])


def test_nothing_is_learnt_once_the_rate_is_zero(place):
    two, three, free = (
        (trained("--epochs", epochs, "--lr_decay", decay) / "model.pth").read_bytes()
        for epochs, decay in (("2", "0"), ("3", "0"), ("3", "1"))
    )
    assert two == three
    assert two != free


def test_a_last_batch_of_one_is_trained_without_and_tested(place, monkeypatch):
    sizes, losses_of = [], loop.losses_of

    def counted(model, criterion, batch, *others):
        sizes.append((model.training, len(batch["mask"])))
        return losses_of(model, criterion, batch, *others)

    monkeypatch.setattr(loop, "losses_of", counted)
    folder = trained("--batch_size", "11")
    assert [size for training, size in sizes if loop] == [11]  # of 12 windows
    whole = pd.read_csv(folder / "predictions.csv")
    assert len(whole) == 12
    assert main.main(["--test_only", folder.name, "--data", "corpus", "--batch_size", "5"]) == 0
    [again] = folder.glob("test_*/predictions.csv")
    columns = [*[f"p_{i}" for i in range(7)], "arousal", "valence"]
    np.testing.assert_allclose(pd.read_csv(again)[columns], whole[columns], atol=1e-3)


def scripted(monkeypatch, scores: list[float], name: str = "macro_f1") -> None:
    """Let the validation scores be these, epoch by epoch."""
    given = iter(scores)
    others = {"macro_f1": 0.0, "uar": 0.0, "ccc": 0.0, "loss": 0.0}
    monkeypatch.setattr(loop, "validate", lambda *_: others | {name: next(given)})


@pytest.mark.parametrize(
    ("select", "scores"),
    [("macro_f1", [0.1, 0.6, 0.6]), ("ccc", [-0.3, -0.1, -0.2]), ("loss", [2.0, 1.0, 1.5])],
)
def test_with_val_split_the_best_epoch_is_kept(select, scores, place, monkeypatch):
    scripted(monkeypatch, scores, select)
    best = trained(*VAL, "--epochs", "3", "--select", select)
    scripted(monkeypatch, [0.0, 0.1])
    second = trained(*VAL, "--epochs", "2")
    assert (best / "model.pth").read_bytes() == (second / "model.pth").read_bytes()


def test_validation_rows_are_scored_by_the_epoch_that_was_kept(place):
    folder = trained(*VAL, "--epochs", "4", "--lr", "0.01")
    rows = pd.read_csv(folder / "predictions.csv")
    assert rows.groupby("set")["session"].unique().map(list).to_dict() == {
        "test": [3, 4],
        "val": [2],
    }
    val = rows[(rows["set"] == "val") & ~rows["emotion_true"].str.contains(";")]
    truth = val["emotion_true"]
    f1 = sklearn.metrics.f1_score(
        truth, val["emotion"], labels=truth.unique(), average="macro", zero_division=0
    )
    assert f1 == pytest.approx(max(line["val/macro_f1"] for line in log(folder)))
    assert read(folder, "result.json")["n"]["rows"] == 12, "validation rows are no test rows"


def test_a_loss_that_is_no_number_stops_with_epoch_and_step(place, capsys):
    code = main.main([*TEXT, "--optim", "sgd", "--lr", "1e30", "--epochs", "4"])
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert code == 2
    assert re.match(
        r"error: the loss became (nan|inf) in epoch \d, step \d \(segments Sess0", error
    )
    assert not list(place.glob("exp/*/model.pth"))
    assert not list(place.glob("exp/*/result.json"))


def test_one_training_window_is_too_few(place):
    material = open_material()
    keep = material.utterances["segment"] == material.utterances["segment"][0]
    material.utterances.loc[~keep & (material.utterances["session"] < 3), "quarantine"] = "bad"
    assert len(dataset.Windows(material, "train")) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_material", lambda *_, **__: material)
        with pytest.raises(UserError, match="at least 2 labelled utterances, got 1"):
            run.train(parse(TEXT).settings, "")


@pytest.mark.parametrize(
    "words",
    [
        "--modality audio --ws 2",
        "--modality both --ws 2 --modality_dropout 0.5",
        "--no_emotion_concat",
        "--loss cbloss",
        "--loss cbloss --cb_counts exact",
        "--backbone gru",
        "--bidirectional",
        "--SorL listener",
        "--optim sgd",
        "--optim adagrad",
        "--ws 1",
        "--text_dim 32",
        "--precision bf16",
        "--bn running",
        "--ties soft",
        "--deterministic",
    ],
)
def test_every_variant_runs_an_epoch_and_is_tested_again_alike(words, mini, monkeypatch):
    monkeypatch.chdir(mini)
    folder = trained("--test_split", "[2]", *words.split())
    given = dict(zip(words.split()[::2], words.split()[1::2], strict=False))
    configuration = read(folder)
    for flag, value in given.items():
        if value and flag[2:] in configuration:
            assert str(configuration[flag[2:]]) == value
    rows = pd.read_csv(folder / "predictions.csv")
    p = rows[[f"p_{i}" for i in range(7)]].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert rows[["arousal", "valence"]].stack().between(1, 5).all()
    assert main.main(["--test_only", folder.name, "--data", "corpus"]) == 0
    [again] = folder.glob("test_*")
    assert (again / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    assert read(again, "result.json")["scores"] == read(folder, "result.json")["scores"]


def test_the_class_weights_are_printed_and_saved_and_absent_classes_named(place, capsys):
    folder = trained("--loss", "cbloss")
    printed = capsys.readouterr().out
    configuration = read(folder)
    counts = [configuration["class_counts"][name] for name in VOTES]
    least = min(count for count in counts if count)
    wanted = [(1 - 0.99) / (1 - 0.99 ** int(n / least)) if n else 0 for n in counts]
    assert configuration["class_weights"] == pytest.approx(wanted)
    for name, weight in zip(VOTES, wanted, strict=True):
        assert f"{name} {weight:.4g}" in printed
    absent = [name for name, count in zip(VOTES, counts, strict=True) if not count]
    assert absent and f"no training row, so weight 0: {', '.join(absent)}" in printed


# --- calibration, protocol card, models without steps --------------------------------------------


def test_a_temperature_is_fitted_on_validation_rows_alone_and_kept_for_testing_again(place):
    folder = trained("--val_split", "2")
    rows = pd.read_csv(folder / "predictions.csv")
    found = read(folder, "result.json")["calibration"]
    validation = rows[rows["set"] == "val"].reset_index(drop=True)
    t = found["temperature"]
    assert t == pytest.approx(calibration.temperature(validation), rel=1e-4)
    assert t != 1 and found["fitted_on"] == len(calibration.fitted_rows(validation)) > 0
    p = rows[[f"p_{i}" for i in range(7)]].to_numpy() ** (1 / t)
    wanted = (p / p.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose(rows["confidence"], wanted, rtol=1e-4)
    assert main.main(["--test_only", folder.name, "--data", "corpus"]) == 0
    [again] = folder.glob("test_*")
    assert read(again, "result.json")["calibration"] == found
    tested = rows[rows["set"] == "test"]["confidence"].tolist()
    assert pd.read_csv(again / "predictions.csv")["confidence"].tolist() == tested


def test_a_run_is_not_tested_on_its_validation_rows_in_a_copy_of_the_corpus(place, capsys):
    folder = trained("--val_split", "2")
    shutil.copytree("corpus", "copy", copy_function=shutil.copy)  # another fingerprint
    words = ["--test_only", folder.name, "--data", "copy", "--test_split", "2"]
    assert main.main(words) == 2
    assert "test rows were used in training" in capsys.readouterr().err


def test_hard_targets_are_what_a_class_balanced_loss_counts(place):
    said = read(trained("--target", "hard", "--loss", "cbloss"))
    rows = pd.read_csv(next(Path("data/prepared").glob("*/df_speaker.csv")), dtype=str)
    tied = rows["emotion"].fillna("").str.contains(";") & rows["session"].isin(["1", "2"])
    assert tied.any() and sum(said["class_counts"].values()) > sum(
        weight > 0 for weight in said["class_weights"]
    )
    first = rows[rows["session"].isin(["1", "2"])]["emotion"].dropna().str.split(";").str[0]
    absent = {name for name, weight in zip(VOTES, said["class_weights"], strict=True) if not weight}
    assert absent == set(VOTES) - set(first)


def test_without_validation_sessions_no_temperature_is_fitted(run_folder):
    found = read(run_folder, "result.json")["calibration"]
    assert (found["temperature"], found["fitted_on"], found["ece"]) == (None, 0, None)
    assert found["ece_uncalibrated"] >= 0


def test_the_protocol_card_says_who_was_in_which_set(run_folder):
    card = read(run_folder, "protocol.json")
    assert {name: part["sessions"] for name, part in card["sets"].items()} == {
        "train": [1, 2],
        "val": [],
        "test": [3, 4],
    }
    assert card["sets"]["test"]["targets"] == read(run_folder, "result.json")["n"]["rows"]
    assert card["select"] == "last epoch kept"
    assert "Protocol" in (run_folder / "report.html").read_text()


def test_a_model_without_steps_trains_tests_and_is_tested_again_alike(place, capsys):
    words = ["--data", "corpus", "--test_split", "[3,4]", "--model", "functionals"]
    assert main.main([*words, "--speaker_norm"]) == 0
    assert "uses the test speakers' unlabelled audio" in capsys.readouterr().out
    [folder] = Path("exp").iterdir()
    assert re.fullmatch(r"functionals_speaker_1_\d{8}T\d{6}Z", folder.name)
    assert read(folder, "protocol.json")["uses_test_audio"] is True
    assert main.main(["--test_only", folder.name, "--data", "corpus"]) == 0
    [again] = folder.glob("test_*")
    assert (again / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    assert read(again, "protocol.json")["uses_test_audio"] is True

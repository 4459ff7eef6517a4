"""The LSTM of audio in whole runs."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.lstm_audio import SECONDS, predict, sound

import main
import model as models
import utils
from models import lstm_audio


def flags(name: str, *more: str) -> list[str]:
    return [
        "--model",
        "lstm_audio",
        "--data",
        "corpus",
        "--test_split",
        "[3,4]",
        "--gpu_id",
        "-1",
        "--precision",
        "float32",
        "--epochs",
        "1",
        "--batch_size",
        "8",
        "--save_name",
        name,
        "--hidden_size",
        "8",
        *more,
    ]


@pytest.fixture(scope="module")
def trained(workplace, tmp_path_factory) -> Path:
    """Finished runs on the synthetic corpus: plain, and each way of balancing."""
    place = tmp_path_factory.mktemp("lstm_audio")
    (place / "corpus").symlink_to(workplace / "corpus")
    with contextlib.chdir(place):
        assert main.main(flags("none")) == 0
        assert main.main(flags("oversample", "--balance", "oversample")) == 0
        assert main.main(flags("undersample", "--balance", "undersample")) == 0
    return place


def test_test_rows_are_all_and_only_the_real_ones_whatever_is_balanced(trained):
    table = pd.concat(map(pd.read_csv, (trained / "data").rglob("df_speaker.csv")))
    real = table[table["session"].isin([3, 4])]
    for name in ("none", "oversample", "undersample"):
        rows = pd.read_csv(trained / "exp" / name / "predictions.csv")
        assert list(rows["segment"]) == list(real["segment"])
        assert list(rows["emotion_true"]) == list(real["emotion"])


def test_a_run_is_standardised_by_its_training_seconds_alone(trained):
    model, said = models.load(trained / "exp" / "none")
    assert said["model"] == "lstm_audio" and (said["lr"], said["weight_decay"]) == (1e-3, 1e-5)
    table = pd.concat(map(pd.read_csv, (trained / "data").rglob("df_speaker.csv")))
    heard = table[table["session"].isin([1, 2]) & ~table["silent"] & (table["quarantine"].isna())]
    extractor = utils.leaf("features", SECONDS).Extractor({})
    seconds = [extractor(trained / "corpus" / wav, [None])[0] for wav in heard["wav"]]
    seconds = np.concatenate(seconds)
    assert int(model.standardised.count) == len(seconds)
    np.testing.assert_allclose(model.standardised.mean, seconds.mean(0), rtol=1e-3, atol=1e-2)


def test_a_run_predicts_each_test_row_with_its_own_sound(trained):
    rows = pd.read_csv(trained / "exp" / "none" / "predictions.csv")
    table = pd.concat(map(pd.read_csv, (trained / "data").rglob("df_speaker.csv")))
    table = table.set_index("segment")
    model, _ = models.load(trained / "exp" / "none")
    extractor = utils.leaf("features", SECONDS).Extractor({})
    for row in rows.itertuples():
        [seconds] = extractor(trained / "corpus" / table["wav"][row.segment], [None])
        said = predict(model, [sound(0) if table["silent"][row.segment] else seconds])
        assert row.arousal == pytest.approx(said["arousal"][0], abs=1e-4)
        assert row.p_3 == pytest.approx(np.exp(said["emotion"][0, 3]), abs=1e-4)


def test_balanced_runs_are_trained_on_other_rows(trained):
    steps = {}
    for name in ("none", "oversample", "undersample"):
        model, _ = models.load(trained / "exp" / name)
        steps[name] = int(model.standardised.count)
    assert steps["undersample"] < steps["none"] < steps["oversample"]


def test_smote_without_legacy_ends_before_anything_is_made(trained, capsys):
    with contextlib.chdir(trained):
        assert main.main(flags("smote", "--balance", "smote")) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "needs --legacy" in line and not (trained / "exp" / "smote").exists()


def test_a_class_with_too_few_rows_for_smote_is_named(trained, capsys):
    with contextlib.chdir(trained):
        more = ["--balance", "smote", "--legacy", "--neighbours", "5"]
        assert main.main(flags("smote", *more)) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "needs 6 training rows of a class" in line and " has 1" in line


def test_a_run_with_made_up_rows_is_tested_on_real_ones(tmp_path):
    utils.leaf("corpora", "sample").write(
        tmp_path / "corpus", sessions=3, dialogues=4, utterances=8
    )
    words = flags("smote", "--balance", "smote", "--legacy")
    words[words.index("[3,4]")] = "[1]"
    with contextlib.chdir(tmp_path):
        assert main.main(words) == 0
    table = pd.concat(map(pd.read_csv, (tmp_path / "data").rglob("df_speaker.csv")))
    rows = pd.read_csv(tmp_path / "exp" / "smote" / "predictions.csv")
    assert list(rows["segment"]) == list(table["segment"][table["session"] == 1])
    model, _ = models.load(tmp_path / "exp" / "smote")
    heard = table[table["session"].isin([2, 3]) & ~table["silent"]]
    counts = heard["emotion"].str.partition(";")[0].value_counts()
    assert int(model.standardised.count) == counts.max() * len(counts) > len(heard)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(trained, monkeypatch, capsys):
    def broken(self, batch, calls=[0]):  # noqa: B006  counts over all calls
        calls[0] += 1
        if calls[0] > 4:  # in the second epoch
            raise RuntimeError("power cut")
        return whole(self, batch)

    whole, more = lstm_audio.Model.forward, ("--epochs", "3", "--balance", "oversample")
    with contextlib.chdir(trained):
        assert main.main(flags("whole", *more)) == 0
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
            patch.setattr(lstm_audio.Model, "forward", broken)
            main.main(flags("parts", *more))
        assert main.main(["--resume", "parts", "--gpu_id", "-1"]) == 0
        kept = [Path("exp", name, "model.pth").read_bytes() for name in ("whole", "parts")]
    assert kept[0] == kept[1] and "going on in epoch 2" in capsys.readouterr().out

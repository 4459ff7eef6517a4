"""A run: its folder, its loops, and testing it again. Small models on the synthetic corpus."""

import contextlib
import dataclasses
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from doubles.folders_2022 import legacy_configuration, legacy_state, reference
from doubles.folders_2022 import write as write_legacy
from doubles.settings import settings_with
from doubles.small_runs import DATA, TEXT, files, furnished, trained

import constants
import dataset
import main
from evaluation import calibration
from training import loop, run
from training import run_folder as folders
from training.flags import parse
from utils import UserError, leaf, write_json

VOTES = "disgust angry sad fear surprise neutral happy".split()


@pytest.fixture
def place(workplace, run_folder, tmp_path):
    """A folder of its own to work in."""
    with contextlib.chdir(furnished(tmp_path, workplace)):
        yield tmp_path


@pytest.fixture(scope="module")
def finished(workplace, run_folder, tmp_path_factory) -> Path:
    """A run on text alone, not to be written to."""
    with contextlib.chdir(furnished(tmp_path_factory.mktemp("finished"), workplace)):
        return trained().resolve()


@pytest.fixture
def text_run(finished, place) -> Path:
    """A copy of that run, in a folder of its own to work in."""
    Path("exp").mkdir()
    return Path(shutil.copytree(finished, Path("exp", finished.name)))


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    """A smaller corpus: three utterances to train on in session 1, three to test on in 2."""
    folder = tmp_path_factory.mktemp("mini")
    leaf("corpora", "sample").write(folder / "corpus", sessions=2, dialogues=1, utterances=3)
    return folder


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "train_loss.log").read_text().splitlines()]


def read(folder: Path, name: str = "configuration.json") -> dict:
    return json.loads((folder / name).read_text())


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
        assert set(score) == {
            "value",
            "low",
            "high",
            "n",
            "baseline",
            "baseline_low",
            "baseline_high",
            "prior",
        }
    assert {
        "accuracy",
        "uar",
        "macro_f1",
        "weighted_f1",
        "ccc_arousal",
        "ccc_valence",
        "legacy_f1",
    } <= set(result["scores"])
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


VAL = ["--val_split", "[2]", "--lr_decay", "1"]


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
        patch.setattr(run, "open_material", lambda *_: material)
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


# --- testing again -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        "--test_only NAME",
        "--test_only exp/NAME",
        "--test_only ./exp/NAME",
        "--test_path NAME",
        "--test_only --test_path NAME",
        "--test_only --NAME",
        "--test_only NAME --save_path exp",
    ],
)
def test_every_form_of_test_only_gives_the_scores_of_training(form, text_run, place):
    folder = text_run
    before, prepared = files(folder), files(place / "data")
    words = form.replace("NAME", folder.name).split()
    assert main.main([*words, "--data", "corpus"]) == 0
    after = files(folder)
    assert {name: after[name] for name in before} == before
    added = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert len(added) == 1 and re.fullmatch(r"test_\d{8}T\d{6}Z", added.pop())
    assert files(place / "data") == prepared
    assert [path.name for path in Path("exp").iterdir()] == [folder.name]
    [again] = folder.glob("test_*")
    assert (again / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    assert read(again, "result.json")["scores"] == read(folder, "result.json")["scores"]


def test_a_run_with_sound_tested_again_gives_the_same_bytes(place, run_folder):
    Path("exp").mkdir()
    folder = Path(shutil.copytree(run_folder, "exp/mine"))
    assert main.main(["--test_only", "mine", "--data", "corpus", "--gpu_id", "-1"]) == 0
    [again] = folder.glob("test_*")
    assert (again / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    assert read(again, "result.json")["scores"] == read(folder, "result.json")["scores"]
    names = {path.name for path in again.iterdir()}
    assert names == {
        "configuration.json",
        "predictions.csv",
        "result.json",
        "confusion.csv",
        "confusion.png",
        "report.html",
        "protocol.json",
    }


def test_a_run_may_be_tested_on_a_part_of_its_sessions_and_with_other_ties(text_run):
    folder = text_run
    words = ["--test_only", folder.name, "--data", "corpus", "--test_split", "[4]", "--ties", "any"]
    assert main.main(words) == 0
    [again] = folder.glob("test_*")
    rows = pd.read_csv(folder / "predictions.csv")
    wanted = rows[rows["session"] == 4].reset_index(drop=True)
    found = pd.read_csv(again / "predictions.csv")
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-3)
    result = read(again, "result.json")
    assert (result["ties"], result["n"]["rows"], result["n"]["emotion"]) == ("any", 6, 6)
    assert read(again)["split"]["test"] == [4]


def test_a_run_may_be_tested_on_all_of_another_corpus(text_run):
    leaf("corpora", "sample").write(Path("other"), sessions=2, dialogues=2, utterances=2, seed=9)
    words = ["--test_only", text_run.name, "--data", "other", "--test_split", "[1,2]"]
    assert main.main(words) == 0
    [again] = text_run.glob("test_*")
    assert len(pd.read_csv(again / "predictions.csv")) == 8


def test_a_session_that_chose_the_epoch_is_not_tested_on(place, capsys):
    folder = trained(*VAL)
    words = ["--test_only", folder.name, "--data", "corpus", "--test_split", "[2]"]
    assert main.main(words) == 2
    assert "test rows were used in training" in capsys.readouterr().err
    assert not list(folder.glob("test_*"))


@pytest.fixture
def legacy(place) -> tuple[Path, dict]:
    """A folder of 2022 that held out sessions 3 and 4, and its weights."""
    state = legacy_state(hidden=8)
    configuration = legacy_configuration(hidden=8) | {"SorL": "speaker", "test_split": "[3, 4]"}
    Path("exp").mkdir()
    return write_legacy(Path("exp/lstm_speaker_adam_8_123456"), state, configuration), state


def test_a_folder_of_2022_is_tested_and_gives_the_predictions_of_2022(legacy):
    folder, state = legacy
    before = files(folder)
    words = ["--test_only", folder.name, "--data", "corpus", "--text_encoder", "char-ngram"]
    assert main.main(words) == 0
    [again] = folder.glob("test_*")
    assert {name: data for name, data in files(folder).items() if "/" not in name} == before
    rows = pd.read_csv(again / "predictions.csv")
    assert set(rows["session"]) == {3, 4}
    windows = dataset.Windows(open_material(), "test", 8)
    some = np.array([0, 5])  # the first of a dialogue, and the last of another
    batch, rows = windows.batch(some), rows.iloc[some]
    p, arousal, valence = reference(state, batch["log_mel"], batch["sentence"], hidden=8)
    np.testing.assert_allclose(rows[[f"p_{i}" for i in range(7)]], p, atol=1e-5)
    np.testing.assert_allclose(rows["arousal"], arousal, atol=1e-4)
    np.testing.assert_allclose(rows["valence"], valence, atol=1e-4)
    assert (again / "report.html").exists()


def test_a_folder_of_2022_is_not_tested_on_what_it_was_trained_on(legacy, capsys):
    folder, _ = legacy
    words = ["--test_only", folder.name, "--data", "corpus", "--text_encoder", "char-ngram"]
    assert main.main([*words, "--test_split", "[1]"]) == 2
    assert re.search(
        r"6 test rows were used in training .*all but \[3, 4\]", capsys.readouterr().err
    )
    assert not list(folder.glob("test_*"))


# --- windows -------------------------------------------------------------------------------------


def open_material(data: str = "corpus", **changes) -> dataset.Material:
    settings = parse([*DATA, "--max_bad", "0.5"]).settings
    settings = dataclasses.replace(settings, data=data, **changes)
    return dataset.open_material(settings, ("log_mel", "sentence"))


def test_an_item_is_one_window_as_the_batch_dict(place):
    data = dataset.KEMDy19(
        "train", "speaker", ws=3, test_split=(3, 4), data="corpus", text_encoder="char-ngram"
    )
    assert isinstance(data, torch.utils.data.Dataset)
    assert len(data) == 12
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in data[0].items()}
    real, yes = torch.float32, torch.bool
    assert shapes == {
        "log_mel": ((3, 229, 313), real),
        "log_mel_mask": ((3,), yes),
        "sentence": ((3, 768), real),
        "sentence_mask": ((3,), yes),
        "mask": ((3,), yes),
        "emotion": ((7,), real),
        "emotion_mask": ((), yes),
        "arousal": ((), real),
        "arousal_mask": ((), yes),
        "valence": ((), real),
        "valence_mask": ((), yes),
        "row": ((), torch.int64),
    }
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=4)))
    for name, value in data.batch(np.arange(4)).items():
        assert torch.equal(batch[name], value), name
    assert [list(mask) for mask in batch["mask"].tolist()[:3]] == [
        [False, False, True],
        [False, True, True],
        [True, True, True],
    ]
    assert not batch["log_mel"][0, :2].any() and not batch["sentence"][0, :2].any()
    torch.testing.assert_close(batch["emotion"].sum(1), torch.ones(4))
    assert ((batch["arousal"] >= 1) & (batch["arousal"] <= 5)).all()


def test_roles_share_sound_and_words_and_differ_in_truth(place):
    speaker, listener = (
        dataset.KEMDy19(
            "test", role, ws=2, test_split=(3, 4), data="corpus", text_encoder="char-ngram"
        ).batch(np.arange(12))
        for role in constants.ROLES
    )
    for name in ("log_mel", "sentence", "mask", "row"):
        assert torch.equal(speaker[name], listener[name])
    assert not torch.equal(speaker["emotion"], listener["emotion"])


def test_a_window_never_reaches_into_another_dialogue(place):
    windows = dataset.Windows(open_material(), "train", 8)
    dialogue = windows.utterances["dialogue"].to_numpy()
    for row, index in zip(windows.rows, windows.index, strict=True):
        assert index[-1] == row
        assert set(dialogue[index[index >= 0]]) == {dialogue[row]}


def test_a_quarantined_utterance_keeps_its_slot_masked_and_is_no_target(place, workplace):
    shutil.copytree(workplace / "corpus", "spoilt")
    spoilt = "Sess01_script01_M001"
    Path(f"spoilt/wav/Session01/Sess01_script01/{spoilt}.wav").write_bytes(b"")
    material = open_material("spoilt")
    windows = dataset.Windows(material, "train", 3)
    segments = material.utterances["segment"].tolist()
    row = segments.index(spoilt)
    assert material.utterances["quarantine"][row] == "empty wav"
    assert row not in windows.rows
    assert len(windows) == 11
    after = windows.rows.tolist().index(row + 1)
    batch = windows.batch(np.array([after]))
    assert windows.index[after].tolist() == [row - 1, row, row + 1]
    assert batch["mask"].tolist() == [[True, False, True]]
    for name in ("log_mel", "sentence"):
        assert not batch[f"{name}_mask"][0, 1] and not batch[name][0, 1].any()
        assert batch[name][0, 2].any()


def test_a_silent_or_wordless_utterance_loses_that_modality_only(place):
    material = open_material()
    rows = material.utterances
    [quiet] = np.flatnonzero(rows["silent"])
    wordless = np.flatnonzero(rows["text"] == "")
    assert len(wordless) == 2  # the sample has one without a txt and one with an empty txt
    for name, missing, other in (
        ("log_mel", [quiet], "sentence"),
        ("sentence", wordless, "log_mel"),
    ):
        for row in missing:
            set_name = material.of[row]
            windows = dataset.Windows(material, set_name, 1)
            batch = windows.batch(np.flatnonzero(windows.rows == row))
            assert batch["mask"].tolist() == [[True]]
            assert batch[f"{name}_mask"].tolist() == [[False]] and not batch[name].any()
            assert batch[f"{other}_mask"].tolist() == [[True]] and batch[other].any()


def test_a_folder_that_cannot_hold_its_configuration_is_not_left_behind(tmp_path, monkeypatch):
    settings = settings_with(backbone="gru", SorL="listener", optim="sgd", ws=4)

    def refuse(path, value):
        raise UserError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(folders, "write_json", refuse)
    with pytest.raises(UserError, match="No space left"):
        folders.new_folder(str(tmp_path), settings, {})
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(folders, "write_json", write_json)
    assert read(folders.new_folder(str(tmp_path), settings, {"ws": 4})) == {"ws": 4}


# --- calibration, protocol card, models without steps ----------------------------------------


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


# --- finished runs beside each other ----------------------------------------------------------


def test_compare_sets_finished_runs_beside_each_other(text_run, capsys):
    other = trained("--seed", "1")
    assert main.main(["compare", f"both={text_run.name}", f"exp/{other.name}"]) == 0
    [folder] = Path("exp").glob("compare_*")
    found = read(folder, "comparison.json")
    assert [row["name"] for row in found["rows"]] == ["both", other.name]
    [pair] = found["pairs"]
    values = [read(f, "result.json")["scores"]["macro_f1"]["value"] for f in (text_run, other)]
    test = pair["comparison"]["scores"]["macro_f1"]
    assert test["difference"] == pytest.approx(values[0] - values[1], abs=1e-9)
    assert f'href="../{other.name}/report.html"' in (folder / "report.html").read_text()
    assert "both" in capsys.readouterr().out


def test_a_row_that_tests_the_same_utterances_twice_is_refused(text_run, capsys):
    shutil.copytree(text_run, "exp/copy")
    assert main.main(["compare", f"both={text_run.name},copy"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_two_rows_of_one_name_are_refused(text_run, capsys):
    assert main.main(["compare", text_run.name, text_run.name]) == 2
    assert "two rows are called" in capsys.readouterr().err


def test_a_word_too_many_with_test_only_is_named(text_run, capsys):
    words = ["--test_only", text_run.name, "--batchsize", "8"]
    assert main.main(words) == 2
    assert "unknown: --batchsize 8" in capsys.readouterr().err
    assert not list(text_run.glob("test_*"))

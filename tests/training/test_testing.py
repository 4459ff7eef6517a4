"""Runs that are tested again, and finished runs beside each other."""

import contextlib
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.finished_run import VAL, open_material, read
from doubles.folders_2022 import legacy_configuration, legacy_state, reference
from doubles.folders_2022 import write as write_legacy
from doubles.small_runs import files, furnished, trained

import dataset
import main
from utils import leaf


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


# --- finished runs beside each other -------------------------------------------------------------


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

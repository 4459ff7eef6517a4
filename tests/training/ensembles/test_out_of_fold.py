"""Ensembles of real runs: trained again out of fold, tested again."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.members import combined
from doubles.shared import FLAGS

import main
from evaluation import baselines
from training import flags
from training.ensembles import ensemble, out_of_fold, score_table
from training.sweep import engine
from utils import UserError, read_json, write_json

MEMBER = ["--data", "corpus", "--test_split", "[4]", *FLAGS]


@pytest.fixture(scope="module")
def trained(workplace, run_folder, tmp_path_factory) -> Path:
    """A folder with two members of text and of audio, trained on sessions 1-3, and a stack."""
    place = tmp_path_factory.mktemp("ensembles")
    (place / "corpus").symlink_to(workplace / "corpus")
    shutil.copytree(workplace / "data", place / "data")
    with contextlib.chdir(place):
        for name in ("text", "audio"):
            words = [*MEMBER, "--modality", name, "--save_name", name]
            assert main.main(words) == 0
        combined("text", "audio", "--method", "stack", "--oof", "2", "--jobs", "1")
    return place


@pytest.fixture
def place(trained, tmp_path):
    """A copy of it, to work in."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True, symlinks=True)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def stacked() -> Path:
    return next(Path("exp").glob("ensemble_stack_*"))


def put_to_test(folder: Path, *words: str) -> Path:
    """What `--test_only` does with an ensemble."""
    settings, given_, _ = flags.parse([*words, "--gpu_id", "-1"])
    return ensemble.test(folder, settings, given_, "by hand")


def test_test_only_takes_an_ensemble_like_any_run(place):
    folder = stacked()
    assert main.main(["--test_only", folder.name, "--data", "corpus", "--gpu_id", "-1"]) == 0
    [again] = folder.glob("test_*")
    before, after = (pd.read_csv(f / "predictions.csv") for f in (folder, again))
    before = before[before["set"] == "test"].reset_index(drop=True)
    assert after["segment"].tolist() == before["segment"].tolist()
    np.testing.assert_allclose(after["p_5"], before["p_5"], atol=1e-6)


def test_out_of_fold_rows_are_those_of_training_each_once_in_folds_of_sessions(place):
    rows = ensemble.read("e", stacked()).rows("oof")
    heard = pd.read_csv("exp/text/training.csv", dtype=str)
    assert sorted(rows["segment"]) == sorted(heard["segment"]) and len(rows) == 18
    runs = [read_json(p) for p in Path("exp/oof").glob("*/configuration.json")]
    assert len(runs) == 4
    for said in runs:
        split = said["split"]
        assert said["leave_out"] == [4] and said["epochs"] == 1
        assert split["test"] in ([1, 2], [3])
        assert sorted(split["train"] + split["test"]) == [1, 2, 3]
    assert {said["modality"] for said in runs} == {"text", "audio"}


def test_finished_out_of_fold_runs_are_not_trained_again(place, monkeypatch):
    monkeypatch.setattr(engine.run, "train", None)
    folder = combined("text", "audio", "--method", "weighted", "--oof", "2", "--jobs", "1")
    assert sum(read_json(folder / "configuration.json")["weights"]) == pytest.approx(1)


@pytest.mark.parametrize("k, told", [("4", "was trained on 3 sessions"), ("1", "at least 2")])
def test_folds_need_a_session_each(place, capsys, k, told):
    assert main.main(["ensemble", "text", "audio", "--method", "soft", "--oof", k]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, told",
    [
        (["--leave_out", "3"], "needs members that were trained on the same sessions"),
        (["--disjoint", "text"], "rows that --disjoint took out of the training of other"),
    ],
)
def test_members_that_cannot_be_trained_out_of_fold_are_named_at_once(place, capsys, words, told):
    assert main.main([*MEMBER, "--modality", "text", "--save_name", "other", *words]) == 0
    before = set(Path("exp/oof").iterdir())
    assert main.main(["ensemble", "text", "other", "--method", "soft", "--oof", "2"]) == 2
    assert told in capsys.readouterr().err
    assert set(Path("exp/oof").iterdir()) == before


def test_an_ensemble_is_not_trained_out_of_fold(place, capsys):
    assert main.main(["ensemble", "text", stacked().name, "--method", "soft", "--oof", "3"]) == 2
    assert "is an ensemble" in capsys.readouterr().err


def test_out_of_fold_rows_that_are_not_those_of_training_are_refused(place, capsys):
    run_ = next(Path("exp/oof").glob("mate*"))
    path = run_ / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert (
        main.main(["ensemble", "text", "audio", "--method", "soft", "--oof", "2", "--jobs", "1"])
        == 2
    )
    assert "1 of 18 training rows missing" in capsys.readouterr().err


def test_a_member_trains_again_with_the_flags_it_was_trained_with(place):
    member = ensemble.read("audio", Path("exp/audio"))
    said = read_json("exp/audio/configuration.json")
    for trial in out_of_fold.folds(member, 2):
        other = {
            n
            for n, v in vars(trial.settings).items()
            if n in said and json.loads(json.dumps(v)) != said[n]
        }
        assert other == {"test_split", "leave_out", "save_name"}


def test_an_ensemble_tested_again_predicts_what_it_predicted(place):
    again = put_to_test(stacked())
    assert again.parent == stacked()
    old, new = (ensemble.read("e", p).rows("test") for p in (stacked(), again))
    pd.testing.assert_frame_equal(old, new, rtol=1e-5)
    found = [read_json(p / "result.json") for p in (stacked(), again)]
    assert found[0]["calibration"]["temperature"] == found[1]["calibration"]["temperature"]
    assert found[0]["scores"] == found[1]["scores"]
    assert (again / "comparison" / "report.html").exists()


def test_an_ensemble_of_ensembles_is_tested_again_to_the_last_member(place):
    soft = combined("text", "audio", "--method", "soft")
    outer = combined(f"x={soft.name}", "text", "--method", "hard")

    settings, given_, _ = flags.parse(["--gpu_id", "-1"])
    again = ensemble.test(outer, settings, given_, "by hand")
    old, new = (ensemble.read("e", p).rows("test") for p in (outer, again))
    pd.testing.assert_frame_equal(old, new, rtol=1e-5)


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda e: shutil.rmtree("exp/audio"), "the member audio of .* is gone"),
        (lambda e: Path("exp/audio/model.pth").write_bytes(b"x"), "member audio of .* has changed"),
        (lambda e: (e / "stacker.json").write_text("{}"), "not the one that was fitted"),
        (lambda e: (e / "stacker.json").unlink(), "not the one that was fitted"),
        (lambda e: edit(e, members=[1]), "members should be objects with name, folder, checksum"),
        (lambda e: edit(e, method="mean"), "method should be one of soft, weighted, hard, stack"),
        (lambda e: edit(e, method="soft", weights=["x"]), "weights numbers or null"),
        (lambda e: edit(e, method="soft", weights=[1.0]), "one weight a member is needed, 2"),
    ],
)
def test_an_ensemble_whose_parts_are_not_what_they_were_is_refused(place, change, told):
    change(stacked())
    with pytest.raises(UserError, match=told):
        put_to_test(stacked())
    assert not list(stacked().glob("test_*"))


def edit(folder: Path, **said) -> None:
    path = folder / "configuration.json"
    write_json(path, read_json(path) | said)


def test_several_processes_are_refused(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="by one process"):
        put_to_test(stacked())


def test_an_ensemble_is_told_from_other_runs(place):
    assert ensemble.is_one(stacked()) and not ensemble.is_one(Path("exp/text"))


def test_the_page_of_a_comparison_links_the_pages_of_its_runs(place):
    page = stacked() / "comparison" / "report.html"
    links = re.findall(r'href="([^"]+)"', page.read_text())
    assert len(links) == 3
    assert all((page.parent / link).resolve().is_file() for link in links)


def test_the_baseline_of_an_ensemble_is_that_of_its_first_member(place):
    majority = read_json("exp/text/configuration.json")["majority"]["emotion"]
    rows = ensemble.read("e", stacked()).rows("test")
    wanted = score_table.scores(baselines.majority(rows, majority), "drop")["Accuracy"]
    scores = pd.read_csv(stacked() / "scores.csv", index_col="name")
    assert scores.loc["majority baseline", "Accuracy"] == pytest.approx(wanted)

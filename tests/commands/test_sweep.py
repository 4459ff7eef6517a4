"""Sweeps: both engines, what a kill leaves, and the tables."""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from doubles.grids import grid_of
from doubles.shared import FLAGS

import main
from training import run_folder as folders
from training.sweep import engine
from utils import ROOT, read_json

GRID = "--SorL {speaker,listener}\n--test_split {[1,2],[3,4]}\n--modality text\n"
WORDS = ["--data", "corpus", *FLAGS]
SAME = ("table.md", "table.csv", "comparison.json", "report.html")


# --- training ------------------------------------------------------------------------------------


@pytest.fixture
def place(workplace, run_folder, tmp_path):
    """A folder to work in, with corpus, features and a grid of four trials."""
    (tmp_path / "corpus").symlink_to(workplace / "corpus")
    shutil.copytree(workplace / "data", tmp_path / "data")
    (tmp_path / "grid.txt").write_text(GRID)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def sweep(*flags: str, grid: str = "grid.txt") -> int:
    return main.main(["sweep", grid, *WORDS, *flags])


def made(place: Path) -> Path:
    [folder] = place.glob("exp/sweep_*")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SAME}


@pytest.fixture(scope="module")
def undisturbed(workplace, run_folder, tmp_path_factory) -> Path:
    """A folder with a finished sweep, trained one trial after the other; not to be written to."""
    place = tmp_path_factory.mktemp("undisturbed")
    (place / "corpus").symlink_to(workplace / "corpus")
    shutil.copytree(workplace / "data", place / "data")
    (place / "grid.txt").write_text(GRID)
    with contextlib.chdir(place):
        assert sweep("--jobs", "1") == 0
    return place


def test_ray_and_one_after_the_other_make_the_same_tables(undisturbed, place, capfd):
    assert sweep("--jobs", "2") == 0
    assert "4/4" in capfd.readouterr().out
    assert contents(made(place)) == contents(made(undisturbed))
    for run in (place / "exp").glob("mate_*"):
        assert read_json(run / "configuration.json")["threads"] == 1
        weights = Path("exp", run.name, "model.pth")
        assert (undisturbed / weights).read_bytes() == (place / weights).read_bytes()


def test_without_ray_a_sweep_says_so_and_trains(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)  # what `import ray` meets where it is missing
    monkeypatch.setattr(engine, "side_by_side", lambda: 2)
    assert sweep("--SorL", "speaker") == 0
    out = capsys.readouterr().out
    assert "Ray is not installed" in out
    assert "2/2" in out


def test_a_cluster_without_ray_is_refused(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert sweep("--address", "127.0.0.1:1") == 2
    assert "--address needs Ray" in capsys.readouterr().err


def test_a_trial_that_fails_is_reported_and_the_others_are_trained(place, capsys):
    (place / "grid.txt").write_text("--test_split {[3,4],[7],[1,2]}\n--modality text")
    assert sweep("--jobs", "1") == 2
    out, err = capsys.readouterr()
    assert "1 of 3 trials failed" in err and "sessions [7] that do not exist" in err
    table = list(csv.DictReader((made(place) / "table.csv").open()))
    assert sorted(line["sessions"] for line in table if line["kind"] == "trial") == ["1-2", "3-4"]
    told = read_json(made(place) / "sweep.json")["trials"]
    assert [bool(trial["failed"]) for trial in told] == [False, True, False]
    assert "sessions [7]" in (made(place) / "report.html").read_text()


def test_an_error_of_the_program_in_one_trial_does_not_stop_the_others(place, monkeypatch, capsys):
    honest = engine.run.train

    def train(settings, command):
        if settings.test_split == (1, 2):
            raise ZeroDivisionError("planted")
        return honest(settings, command)

    monkeypatch.setattr(engine.run, "train", train)
    assert sweep("--jobs", "1", "--SorL", "speaker") == 2
    assert "ZeroDivisionError: planted; see " in capsys.readouterr().err
    [log] = [p for p in (made(place) / "logs").iterdir() if "planted" in p.read_text()]
    assert "Traceback" in log.read_text()


def test_a_killed_sweep_trains_what_is_missing_and_ends_as_if_nothing_had_been(undisturbed, place):
    command = [sys.executable, str(ROOT / "main.py"), "sweep", "grid.txt", *WORDS, "--jobs", "1"]
    with open("log", "w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while not (done := [p for p in Path("exp").glob("mate_*") if folders.is_finished(p)]):
            assert child.poll() is None and time.monotonic() < deadline, Path("log").read_text()
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert len(done) < 4
    before = {p: p.stat().st_mtime_ns for run in done for p in run.iterdir()}
    assert sweep("--jobs", "1") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not trained again
    assert contents(made(place)) == contents(made(undisturbed))


def test_a_finished_sweep_trains_nothing_and_writes_the_same_tables(
    undisturbed, place, monkeypatch
):
    shutil.copytree(undisturbed / "exp", "exp")
    monkeypatch.setattr(engine.run, "train", None)
    assert sweep() == 0
    assert contents(made(place)) == contents(made(undisturbed))


def test_trials_of_a_corpus_that_has_changed_are_not_taken_for_finished(undisturbed, place, capsys):
    shutil.copytree(undisturbed / "exp", "exp")
    corpus = Path("corpus").resolve()
    Path("corpus").unlink()
    shutil.copytree(corpus, "corpus")
    wav = next(Path("corpus/wav").rglob("*.wav"))
    os.utime(wav, (1, 1))  # what a fingerprint sees
    assert sweep() == 2
    assert "was trained on another state of the corpus" in capsys.readouterr().err


def test_gpus_that_are_not_there_are_refused(place, capsys):
    assert sweep("--jobs", "2", "--gpus", "8") == 2
    assert "--gpus 8 should be a share of one GPU" in capsys.readouterr().err


def test_a_trial_has_one_thread_whatever_there_are(place, monkeypatch):
    seen = []
    monkeypatch.setattr(engine.run, "train", lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        sweep("--jobs", "1", "--SorL", "speaker")
        assert seen == [1, 1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_ctrl_c_ends_a_sweep_and_says_how_to_go_on(place, monkeypatch, capsys):
    def interrupted(settings, command):
        raise KeyboardInterrupt("in epoch 1")

    monkeypatch.setattr(engine.run, "train", interrupted)
    assert sweep("--jobs", "1") == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_dry_run_shows_trials_and_time_and_trains_nothing(place, capsys):
    assert sweep("--dry_run", "--seeds", "1", "2") == 0
    out = capsys.readouterr().out
    assert out.startswith("8 trials\n") and out.count("to do") == 8
    assert re.search(r"8 to train: about \d+ min with one thread each", out)
    assert not Path("exp").exists()


def test_a_grid_that_is_not_there_is_told_in_one_line(place, capsys):
    assert sweep(grid="nothing.txt") == 2
    assert "cannot read the grid nothing.txt" in capsys.readouterr().err


# --- tables --------------------------------------------------------------------------------------


def test_the_tables_have_every_trial_and_every_row(undisturbed):
    folder = made(undisturbed)
    markdown = (folder / "table.md").read_text()
    page = (folder / "report.html").read_text()
    assert (
        "| Model | Precision (@1) | Recall (@1) | F1_emotion (@1) | Arousal | Valence |" in markdown
    )
    for label in ("Speaker[1,2]", "Speaker[3,4]", "Listener[1,2]", "Listener[3,4]"):
        assert f"| {label} |" in markdown and f">{label}</a>" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 4
    assert all((folder / link).resolve().is_file() for link in links)


def test_the_numbers_of_a_table_are_those_of_its_runs(undisturbed):
    table = list(csv.DictReader((made(undisturbed) / "table.csv").open()))
    trials = [line for line in table if line["kind"] == "trial"]
    assert len(trials) == 4
    for line in trials:
        scores = read_json(undisturbed / "exp" / line["run"] / "result.json")["scores"]
        for name in ("macro_f1", "uar", "legacy_f1", "ccc_arousal"):
            assert float(line[name]) == pytest.approx(scores[name]["value"], abs=1e-6)


def test_a_table_of_the_synthetic_corpus_says_so(undisturbed):
    for name in ("table.md", "report.html"):
        assert "synthetic corpus: not a result" in (made(undisturbed) / name).read_text()


def test_alternatives_may_be_said_after_the_grid(place, capsys):
    assert sweep("{,--bidirectional}", "--lam", "{0.5,0.6}", "--dry_run") == 0
    out = capsys.readouterr().out
    assert out.startswith("16 trials\n")
    assert out.count("lam 0.5, no bidirectional") == 4 and out.count("0.6, bidirectional") == 4


def test_a_trial_keeps_its_name_when_the_corpus_says_which_text_encoder(place, capsys):
    words = ["--data", "corpus", "--test_split", "[3,4]", "--modality", "text"]
    [point] = grid_of(" ".join(words))
    before = point.name
    engine._extract([point])
    assert point.settings.text_encoder is None and point.name == before

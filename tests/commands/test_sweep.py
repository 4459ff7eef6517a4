"""Grids of trials: their expansion, both engines, what a kill leaves, and the tables."""

import contextlib
import csv
import itertools
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
from doubles.shared import FLAGS
from hypothesis import given
from hypothesis import strategies as st

import main
from training import run_folder as folders
from training.sweep import engine
from training.sweep import grid as grids
from utils import ROOT, UserError, read_json

TABLES = ROOT / "exp" / "tables"
GRID = "--SorL {speaker,listener}\n--test_split {[1,2],[3,4]}\n--modality text\n"
WORDS = ["--data", "corpus", *FLAGS]
SAME = ("table.md", "table.csv", "comparison.json", "report.html")


def no_corpus(data: str, tables: str) -> list[int]:
    raise AssertionError("no grid with sessions written out asks a corpus for them")


def twenty(data: str, tables: str) -> list[int]:
    return list(range(1, 21))


def grid_of(text: str, sessions=no_corpus) -> list[grids.GridPoint]:
    return grids.points(text.splitlines(), sessions)


# --- expansion ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("--lam {0.5,0.66}", ["--lam 0.5", "--lam 0.66"]),
        ("--test_split {[1,2],[3,4]}", ["--test_split [1,2]", "--test_split [3,4]"]),
        ("{,--bidirectional}", ["", "--bidirectional"]),
        (
            "{--lam 0.5,--lam {0.6,0.7} --beta 0.9}",
            ["--lam 0.5", "--lam 0.6 --beta 0.9", "--lam 0.7 --beta 0.9"],
        ),
        (
            "--lam {1,2} --beta {3,4}",
            ["--lam 1 --beta 3", "--lam 1 --beta 4", "--lam 2 --beta 3", "--lam 2 --beta 4"],
        ),
        ("# --lam {0.5,0.66}", [""]),
        ("--lam 0.5  # {not,these}", ["--lam 0.5"]),
        ("", [""]),
    ],
)
def test_a_line_expands_to_its_alternatives(line, wanted):
    assert [" ".join(words) for words in grids.alternatives(line)] == wanted


def test_a_quoted_word_keeps_its_spaces():
    assert grids.alternatives("--data {'a b',c}") == [["--data", "a b"], ["--data", "c"]]


@pytest.mark.parametrize("line", ["--lam {0.5", "--test_split {[1,2}", "--data 'a"])
def test_a_line_that_does_not_close_is_refused(line):
    with pytest.raises(UserError, match="of the grid"):
        grids.alternatives(line)


words = st.lists(st.sampled_from(["a", "b", "[1,2]", "x-y"]), min_size=1, max_size=3, unique=True)


@given(st.lists(words, min_size=1, max_size=3))
def test_a_line_expands_like_the_product_of_its_braces(lists):
    line = " ".join("{" + ",".join(words) + "}" for words in lists)
    assert grids.alternatives(line) == [list(c) for c in itertools.product(*lists)]


@pytest.mark.parametrize(
    "name, trials, rows",
    [
        ("3.2", 10, 2),
        ("3.3", 4, 4),
        ("3.4", 4, 4),
        ("3.5", 16, 16),
        ("3.6", 8, 8),
        ("3.7", 10, 2),
        ("modality", 6, 6),
        ("folds5", 5, 1),
        ("loso", 20, 1),
        ("shuffled12", 25, 5),
        ("emo_ensemble", 5, 5),
        ("emotion_short_form", 3, 3),
    ],
)
def test_a_grid_of_the_project_has_its_trials(name, trials, rows):
    lines = grids.read(TABLES / f"{name}.txt")
    grid = grids.points(lines, twenty)
    names = grids.differing(grid)
    assert lines[0].startswith(f"# python main.py sweep exp/tables/{name}.txt ")
    assert len(grid) == trials
    assert len({(t.settings.SorL, grids.variant(t, names)) for t in grid}) == rows
    if name[0] == "3":
        assert {point.settings.epochs for point in grid} == {100}


def test_every_grid_file_is_tested_here():
    tested = {
        "3.2",
        "3.3",
        "3.4",
        "3.5",
        "3.6",
        "3.7",
        "modality",
        "folds5",
        "loso",
        "shuffled12",
        "emo_ensemble",
        "emotion_short_form",
    }
    assert {path.stem for path in TABLES.glob("*.txt")} == tested


def test_tables_share_the_trials_they_have_in_common():
    names = [
        {t.name for t in grid_of((TABLES / f"{n}.txt").read_text())}
        for n in ("3.2", "3.3", "3.4", "3.6")
    ]
    assert len(set.intersection(*names)) == 2  # the baseline on 13-16, of both roles


def test_a_trial_is_named_by_its_settings_and_not_by_where_it_is_written():
    [one], [other] = grid_of("--lam 0.5"), grid_of("--lam 0.5 --save_path x --save_minutes 1")
    [third] = grid_of("--lam 0.6")
    assert one.name == other.name != third.name
    assert re.fullmatch(r"mate_speaker_[0-9a-f]{12}", one.name)


def test_equal_trials_are_trained_once():
    assert len(grid_of("--lam {0.5,0.50,0.6}")) == 2


def test_folds_and_seeds_multiply_the_trials():
    grid = grid_of("--folds shuffled12\n--seeds 1 2", twenty)
    assert len(grid) == 10
    assert {point.settings.seed for point in grid} == {1, 2}
    assert all(len(point.settings.val_split) == 2 for point in grid)
    assert sorted(s for point in grid[::2] for s in point.settings.test_split) == list(range(1, 21))


@pytest.mark.parametrize("flag", ["--save_name x", "--resume x", "--test_only x", "--no_such 1"])
def test_a_flag_that_is_none_of_training_many_is_refused(flag):
    with pytest.raises(UserError, match=flag.split()[0]):
        grid_of(flag)


def test_rows_of_several_models_are_named_by_the_model_and_what_differs_within_one():
    grid = grid_of("{--model mate --lam {0.5,0.6},--model functionals}")
    names = grids.differing(grid)
    assert sorted({grids.variant(point, names) for point in grid}) == [
        "model functionals",
        "model mate, lam 0.5",
        "model mate, lam 0.6",
    ]


@pytest.mark.parametrize("line", ["--test_split {[1,2],[2,3]}", "--test_split 1 {,--val_split 3}"])
def test_trials_of_one_row_that_test_a_session_twice_are_refused_before_training(line):
    with pytest.raises(UserError, match="and both test session [12]"):
        grids.refuse_overlap(grid_of(line))
    grids.refuse_overlap(grid_of("--test_split {[1,2],[3]}\n--seeds 1 2"))


def test_a_fold_that_is_left_out_is_no_trial():
    grid = grid_of("--folds loso --leave_out 5", twenty)
    assert len(grid) == 19 and (5,) not in {point.settings.test_split for point in grid}


def test_a_hash_within_quotes_is_no_comment():
    assert grids.alternatives("--data 'a#b'") == [["--data", "a#b"]]


def test_variants_name_only_what_differs():
    grid = grid_of("--lam {0.5,0.66}\n{,--bidirectional}\n--test_split {[1],[2]}\n--seeds 1 2")
    names = grids.differing(grid)
    assert sorted({grids.variant(point, names) for point in grid}) == [
        "lam 0.5, bidirectional",
        "lam 0.5, no bidirectional",
        "lam 0.66, bidirectional",
        "lam 0.66, no bidirectional",
    ]


# --- training -------------------------------------------------------------------------------


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


# --- tables ---------------------------------------------------------------------------------


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

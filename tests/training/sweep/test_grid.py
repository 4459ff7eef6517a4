"""Grids of runs to be trained: how their lines expand."""

import itertools
import re

import pytest
from doubles.grids import grid_of
from hypothesis import given
from hypothesis import strategies as st

from training.sweep import grid as grids
from utils import ROOT, UserError

TABLES = ROOT / "exp" / "tables"


def twenty(data: str, tables: str) -> list[int]:
    return list(range(1, 21))


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

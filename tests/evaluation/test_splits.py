"""Splits, folds and windows."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import splits
from features.store.windows import window_indices
from utils import UserError


@pytest.mark.parametrize("words", [["[13,14]"], ["[13,", "14]"], ["13", "14"], ["[13, 14]"]])
def test_sessions_are_read_in_every_way_they_are_written(words):
    assert splits.parse_sessions(words) == (13, 14)


@pytest.mark.parametrize("words", [["abc"], ["[1-4]"], ["1.5"], ["-1"], ["[1,2", "x]"]])
def test_sessions_that_are_no_numbers_are_refused(words):
    with pytest.raises(UserError, match="needs session numbers"):
        splits.parse_sessions(words)


def test_sessions_that_are_not_named_are_trained_on():
    assert splits.split([3, 1, 2, 2, 4], [2], [4]) == ((1, 3), (4,), (2,))


@pytest.mark.parametrize(
    ("test", "val", "message"),
    [
        ([], [], "names no session"),
        ([9], [], r"\[9\] that do not exist; the sessions there are: 1, 2, 3"),
        ([1, 2, 3], [], "leaves no session to train on"),
        ([1], [2, 3], "leaves no session to train on"),
        ([1], [1], "in both"),
    ],
)
def test_an_impossible_split_says_which_sessions_there_are(test, val, message):
    with pytest.raises(UserError, match=message) as error:
        splits.split([1, 2, 3], test, val)
    assert "1, 2, 3" in str(error.value)


# --- folds ---------------------------------------------------------------------------------------

# test and validation sessions of WoongheeLee's comparison, recomputed from its published counts:
# the number of scored rows of each fold is the sum over these sessions
SHUFFLED12 = {
    20: [
        ((8, 10, 14, 20), (6, 11)),
        ((9, 11, 15, 17), (10, 14)),
        ((2, 5, 6, 19), (7, 14)),
        ((1, 4, 13, 16), (7, 12)),
        ((3, 7, 12, 18), (15, 16)),
    ],
    40: [
        ((10, 15, 16, 17, 19, 24, 30, 31), (8, 33)),
        ((2, 8, 20, 25, 27, 32, 38, 39), (10, 28)),
        ((1, 5, 9, 11, 22, 29, 34, 35), (4, 38)),
        ((6, 14, 18, 21, 26, 33, 37, 40), (25, 36)),
        ((3, 4, 7, 12, 13, 23, 28, 36), (11, 32)),
    ],
}


@pytest.mark.parametrize("count", SHUFFLED12)
def test_the_shuffled_folds_are_the_published_ones(count):
    folds = splits.folds("shuffled12", range(count, 0, -1))
    assert [(fold.test, fold.val) for fold in folds] == SHUFFLED12[count]
    assert [fold.name for fold in folds] == [f"shuffled12-{number}" for number in range(5)]


def test_five_folds_of_20_sessions_are_those_of_2022():
    assert splits.folds("folds5", range(1, 21)) == [
        ("folds5-1", (1, 2, 3, 4), ()),
        ("folds5-2", (5, 6, 7, 8), ()),
        ("folds5-3", (9, 10, 11, 12), ()),
        ("folds5-4", (13, 14, 15, 16), ()),
        ("folds5-5", (17, 18, 19, 20), ()),
    ]


def test_a_session_left_out_is_the_whole_fold():
    assert splits.folds("loso", [7, 3, 3]) == [("loso-3", (3,), ()), ("loso-7", (7,), ())]


SESSIONS = st.sets(st.integers(1, 99), min_size=5, max_size=41)


@given(st.sampled_from(["folds5", "loso", "shuffled12"]), SESSIONS)
def test_folds_test_each_session_once_and_validate_on_none_of_them(name, sessions):
    if name == "shuffled12":
        sessions = set(range(100, 140))
    folds = splits.folds(name, sessions)
    assert sorted(s for fold in folds for s in fold.test) == sorted(sessions)
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1 and len({fold.name for fold in folds}) == len(folds)
    if name != "shuffled12":
        assert [s for fold in folds for s in fold.test] == sorted(sessions)
    for fold in folds:
        assert splits.split(sessions, fold.test, fold.val).train
        assert json.loads(json.dumps(fold)) == [fold.name, list(fold.test), list(fold.val)]


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("folds6", 20, "no folds 'folds6'; there are: folds5, loso, shuffled12"),
        ("folds5", 4, "folds folds5 need at least 5 sessions, there are 4"),
        ("loso", 1, "folds loso need at least 2 sessions, there are 1"),
        ("shuffled12", 21, "folds shuffled12 need 20 or 40 sessions, there are 21"),
        ("shuffled12", 4, "folds shuffled12 need 20 or 40 sessions, there are 4"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(name, count, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        splits.folds(name, range(count))


# --- windows -------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 9))
def test_a_window_ends_at_its_row_and_goes_back_through_its_dialogue(dialogues, ws):
    index = window_indices(pd.Series(dialogues), ws)
    for row, name in enumerate(dialogues):
        before = [i for i in range(row + 1) if dialogues[i] == name][-ws:]
        assert index[row].tolist() == [-1] * (ws - len(before)) + before


def test_quarantined_and_unlabelled_rows_are_never_targets():
    rows = pd.DataFrame(
        {
            "quarantine": ["", "empty wav", "", ""],
            "emotion": ["happy", "sad", "", ""],
            "arousal": [3.0, 3.0, 2.0, np.nan],
        }
    )
    assert splits.is_target(rows).tolist() == [True, False, True, False]

"""Splits, windows and the leakage guard."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import protocol
from utils import UserError


@pytest.mark.parametrize("words", [["[13,14]"], ["[13,", "14]"], ["13", "14"], ["[13, 14]"]])
def test_sessions_are_read_in_every_way_they_are_written(words):
    assert protocol.parse_sessions(words) == (13, 14)


@pytest.mark.parametrize("words", [["abc"], ["[1-4]"], ["1.5"], ["-1"], ["[1,2", "x]"]])
def test_sessions_that_are_no_numbers_are_refused(words):
    with pytest.raises(UserError, match="needs session numbers"):
        protocol.parse_sessions(words)


def test_sessions_that_are_not_named_are_trained_on():
    assert protocol.split([3, 1, 2, 2, 4], [2], [4]) == ((1, 3), (4,), (2,))


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
        protocol.split([1, 2, 3], test, val)
    assert "1, 2, 3" in str(error.value)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 9))
def test_a_window_ends_at_its_row_and_goes_back_through_its_dialogue(dialogues, ws):
    index = protocol.windows(pd.Series(dialogues), ws)
    for row, name in enumerate(dialogues):
        before = [i for i in range(row + 1) if dialogues[i] == name][-ws:]
        assert index[row].tolist() == [-1] * (ws - len(before)) + before


def utterances(**columns) -> pd.DataFrame:
    """Four utterances, two sessions, nothing shared."""
    base = {
        "segment": ["a", "b", "c", "d"], "session": [1, 1, 2, 2], "dialogue": ["x", "x", "y", "y"],
        "speaker": ["1F", "1M", "2F", "2M"], "wav_hash": ["h1", "h2", "h3", "h4"],
        "text": ["하나", "둘", "셋", "넷"], "silent": [False] * 4, "quarantine": [""] * 4,
        "emotion": ["happy"] * 4, "arousal": [3.0] * 4,
    }  # fmt: skip
    return pd.DataFrame(base | columns)


SPLIT = protocol.Split(train=(1,), val=(), test=(2,))


def test_a_clean_split_passes_the_guard():
    assert protocol.guard(utterances(), SPLIT) == []


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("speaker", ["1F", "1M", "1F", "2M"]),
        ("dialogue", ["x", "x", "x", "y"]),
        ("wav_hash", ["h1", "h2", "h1", "h4"]),
    ],
)
def test_the_guard_refuses_a_split_that_leaks_and_names_the_rows(column, values):
    with pytest.raises(UserError, match=rf"1 values of {column} .* a and c"):
        protocol.guard(utterances(**{column: values}), SPLIT)


def test_two_silent_files_are_not_the_same_recording():
    silence = utterances(wav_hash=["h1", "h2", "h1", "h4"], silent=[True, False, True, False])
    assert protocol.guard(silence, SPLIT) == []


def test_the_guard_counts_test_lines_that_were_trained_on():
    same = utterances(text=["안녕, 하세요!", "둘", "안녕 하세요", "넷"])
    assert protocol.guard(same, SPLIT) == ["1 of 2 test lines have the words of a training line"]


def test_quarantined_and_unlabelled_rows_are_never_targets():
    rows = utterances(
        quarantine=["", "empty wav", "", ""], emotion=["happy", "sad", "", ""],
        arousal=[3.0, 3.0, 2.0, np.nan],
    )  # fmt: skip
    assert protocol.is_target(rows).tolist() == [True, False, True, False]

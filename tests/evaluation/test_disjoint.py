"""What `--disjoint` takes out of training, against comparing each pair of lines."""

import re

import numpy as np
import pytest
from doubles.leaks import SPLIT, brute_similar, guard, lines, utterances
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import UserError

PLAIN = ["하나둘", "가나다라마바!", "마을", "둘셋넷다섯", "마을", "여섯 일곱"]
TESTED = ["마을?", "가나다라마바사"]


def test_training_lines_with_the_words_of_a_test_line_or_nearly_are_removed():
    removed, reasons, warnings = guard(lines(PLAIN, TESTED), SPLIT, "text")
    assert removed.tolist() == [False, True, True, False, True, False, False, False]
    assert reasons == {"exact": 2, "similar": 1}
    assert warnings == [
        "--disjoint text: 3 of 6 training lines removed (2 exact, 1 similar); 3 are left"
    ]


LINES = st.lists(st.text("가나다 !", max_size=8), min_size=1, max_size=6)


@settings(deadline=None)
@given(LINES, LINES)
def test_what_text_removes_is_what_comparing_each_pair_finds(texts, tested):
    keep = ["qwertyuiop", "asdfghjkl"]  # two that are always left
    removed, reasons, warnings = guard(lines(texts + keep, tested), SPLIT, "text")
    plain, test = ([re.sub("[ !]", "", text) for text in group] for group in (texts, tested))
    exact = [text != "" and text in test for text in plain]
    near = [n and not e for n, e in zip(brute_similar(plain, test), exact, strict=True)]
    wanted = [e or n for e, n in zip(exact, near, strict=True)]
    assert removed.tolist() == wanted + [False] * (2 + len(tested))
    assert reasons == {"exact": sum(exact), "similar": sum(near)}
    assert len(warnings) == 1  # no test line has the words of a line that is left


def test_without_the_flag_nothing_is_removed_and_equal_lines_are_counted():
    removed, reasons, warnings = guard(lines(PLAIN, TESTED), SPLIT)
    assert not removed.any() and reasons == {}
    assert warnings == ["1 of 2 test lines have the words of a training line (impro 1 of 2)"]


def test_a_test_line_in_quarantine_removes_nothing():
    rows = lines(PLAIN, TESTED)
    rows.loc[6, "quarantine"] = "empty wav"
    assert guard(rows, SPLIT, "text").reasons == {"exact": 0, "similar": 1}


def test_lines_that_are_no_targets_are_removed_but_not_counted():
    rows = lines(PLAIN, TESTED)
    rows.loc[2, ["emotion", "arousal"]] = "", np.nan
    removed, reasons, [line] = guard(rows, SPLIT, "text")
    assert removed[2]
    assert reasons == {"exact": 1, "similar": 1}
    assert "2 of 5 training lines" in line and "3 are left" in line


def test_validation_lines_like_the_test_stay_and_are_counted():
    rows = lines(PLAIN, TESTED)
    rows.loc[[1, 2, 3], "session"] = 2
    removed, _, warnings = guard(rows, SPLIT, "text")
    assert removed.tolist() == [False] * 4 + [True] + [False] * 3
    assert warnings[1] == (
        "--disjoint text: 2 of 3 validation lines are like the test (1 exact, 1 similar); they "
        "stay, to choose the epoch by"
    )


def test_a_test_that_leaves_too_few_lines_is_refused_with_their_number():
    match = r"3 of 4 training lines removed \(2 exact, 1 similar\); 1 are left, training needs at"
    with pytest.raises(UserError, match=match):
        guard(lines(PLAIN[1:5], TESTED), SPLIT, "text")
    guard(lines(PLAIN[:5], TESTED), SPLIT, "text")


@pytest.mark.parametrize("disjoint", ["words", "", ["text"], 0])
def test_another_way_to_be_disjoint_is_refused(disjoint):
    said = f"no --disjoint {disjoint!r}; there are: text, script"
    with pytest.raises(UserError, match=re.escape(said)):
        guard(utterances(), SPLIT, disjoint)


def test_script_removes_whole_dialogues_of_the_scripts_that_are_tested():
    names = [
        "Sess01_script01",
        "Sess01_script01",
        "Sess01_script02",
        "Sess01_script02",
        "Sess01_impro01",
        "Sess03_script02",
        "Sess03_impro01",
    ]
    kinds = ["script"] * 4 + ["impro", "script", "impro"]
    rows = lines(list("가나다라마"), list("바사"), dialogue=names, kind=kinds)
    removed, reasons, [line] = guard(rows, SPLIT, "script")
    assert removed.tolist() == [False, False, True, True, False, False, False]
    assert reasons == {"script02": 2}
    assert line == "--disjoint script: 2 of 5 training lines removed (2 script02); 3 are left"


def test_without_a_script_in_the_test_none_is_removed():
    rows = utterances(kind=["impro", "script"] * 2 + ["impro"] * 2)
    _, reasons, [line, _] = guard(rows, SPLIT, "script")
    assert reasons == {}
    assert line == "--disjoint script: 0 of 2 training lines removed; 2 are left"

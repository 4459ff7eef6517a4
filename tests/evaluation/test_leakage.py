"""The leakage guard: what may stand in two sets, and lines with the same words."""

import re
import unicodedata

import pandas as pd
import pytest
from doubles.leaks import SPLIT, brute_similar, guard, utterances
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpora.preparation import transcripts
from evaluation import leakage
from utils import UserError


def test_a_clean_split_passes_the_guard():
    removed, reasons, warnings = guard(utterances(), SPLIT)
    assert removed.tolist() == [False] * 6
    assert (reasons, warnings) == ({}, [])


LEAKS = [
    ("speaker", "speakers"),
    ("dialogue", "dialogues"),
    ("wav_hash", "audio"),
    ("segment", "segments"),
]
SIDES = {"train and test": (0, 4), "train and val": (1, 2), "val and test": (3, 5)}


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize(("column", "what"), LEAKS)
def test_nothing_may_stand_in_any_two_sets(column, what, sides):
    values, (one, other) = utterances()[column].tolist(), SIDES[sides]
    values[other] = values[one]
    rows = utterances(**{column: values})
    first, second = sides.split(" and ")
    names = rf"{rows['segment'][one]} in {first} and {rows['segment'][other]} in {second}"
    with pytest.raises(UserError, match=rf"^the split leaks: {what} 1 \({names}\);"):
        guard(rows, SPLIT)


def test_all_that_leaks_is_said_at_once():
    rows = utterances(speaker=["1F", "1M", "2F", "2M", "1F", "1M"], wav_hash=["h"] * 6)
    said = "speakers 2 (a in train and e in test, b in train and f in test); audio 1 (a in train "
    with pytest.raises(UserError, match=re.escape(said)):
        guard(rows, SPLIT)


def test_of_many_leaks_three_are_named_and_all_counted():
    rows = pd.concat([utterances(), utterances(session=[3] * 6)], ignore_index=True)
    rows = rows[rows["session"] != 2].assign(speaker="", dialogue="", wav_hash="")
    rows = pd.concat([rows[rows["session"] == 1], rows[rows["session"] == 3]] * 2)
    three = pd.concat([rows.assign(segment=rows["segment"] + tail) for tail in "xyz"])
    with pytest.raises(
        UserError,
        match=r"segments 6 \(ax in train and ax in test, .*"
        r"and 3 more\)",
    ) as error:
        guard(three.reset_index(drop=True), SPLIT)
    assert str(error.value).count(" in test") == 3


def test_names_are_those_of_one_corpus_and_recordings_of_all():
    two = ["k"] * 4 + ["j"] * 2
    names = utterances(
        corpus=two,
        speaker=["1F", "1M", "2F", "2M", "1F", "1M"],
        segment=list("abcdab"),
        dialogue=["x", "y", "v", "w", "x", "y"],
    )
    assert guard(names, SPLIT).warnings == []
    with pytest.raises(UserError, match="audio 1 "):
        guard(utterances(corpus=two, wav_hash=["h", "", "", "", "h", ""]), SPLIT)


@pytest.mark.parametrize("how", [{"silent": [True] * 6}, {"quarantine": ["bad wav"] + [""] * 5}])
def test_silence_and_quarantine_are_no_recordings(how):
    rows = utterances(wav_hash=["h", "1", "2", "3", "h", "5"])
    with pytest.raises(UserError, match="audio 1 "):
        guard(rows, SPLIT)
    guard(rows.assign(**how), SPLIT)


def test_a_video_without_sound_is_known_by_its_pictures():
    rows = utterances(wav_hash=["h", "1", "2", "3", "h", "5"]).assign(silent=True, wav="a.MP4")
    with pytest.raises(UserError, match="audio 1 "):
        guard(rows, SPLIT)


def test_what_is_unknown_is_not_the_same():
    nothing = {column: [""] * 6 for column in ("speaker", "dialogue", "wav_hash", "text")}
    assert guard(utterances(**nothing), SPLIT, "text").reasons == {"exact": 0, "similar": 0}


# --- the same words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("안녕, 하세요!", "안녕 하세요"),
        ("STOP 그만", "stop그만"),
        ("ＯＫ 좋아", "ok좋아"),
        (unicodedata.normalize("NFD", "그래 좋아"), "그래좋아"),
    ],
)
def test_words_are_compared_without_spaces_punctuation_case_and_forms(one, other):
    words = transcripts.normalised(pd.Series([one, other], index=[4, 7]))
    assert words[4] == words[7] == other.replace(" ", "")


TEXTS = st.lists(st.text("가나다", max_size=9), max_size=8)


@settings(deadline=None)  # the first example imports scikit-learn
@given(TEXTS, TEXTS)
@example(["가나다라마바"], ["가나다라마바사"])  # 4 of 5 3-grams: 0.8 exactly
@example(["가나다라마"], ["가나다라마바"])  # 3 of 4
@example(["abcdefghijklmnopqrstu"], ["abcdefghijklmnopqrstuvwxyz"])  # 19 of 24: 0.79
@example(["ABC"], ["abc"])
@example(["가나"], ["가나"])
@example(["가나다"], [])
def test_similar_lines_are_those_that_comparing_each_pair_finds(texts, others):
    assert leakage.similar(texts, others).tolist() == brute_similar(texts, others)


def test_similar_lines_are_found_in_every_block(monkeypatch):
    monkeypatch.setattr(leakage, "BLOCK", 2)
    words = ["가나다라마바", "하파타카", "거너더러머버", "고노도로모보", "구누두루무부"]
    others = ["가나다라마바사", "구누두루무부수", "구누두"]
    assert leakage.similar(words, others).tolist() == [True, False, False, False, True]

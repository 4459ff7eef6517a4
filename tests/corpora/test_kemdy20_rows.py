"""Rows of KEMDy20: labels, texts, ids and their order."""

import contextlib

import numpy as np
import pytest
from doubles.corpus_kemdy20 import (
    FIRST,
    SEGMENTS,
    count,
    edit,
    lay,
    one,
    row,
    say,
    unexpected,
    where,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import kemdy20
from corpora.layouts import kemdy20 as layout
from corpora.preparation import files
from metric import VOTES

SEGMENT, TOTAL = 3, 4  # columns


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "KEMDy20_v1_1")


def replace(old, new, column=SEGMENT):
    def change(rows):
        for cells in rows:
            if cells[SEGMENT] == old:
                cells[column] = new

    return change


# --- labels --------------------------------------------------------------------------------------


def test_disqust_of_the_total_is_disgust_and_counted(folder):
    edit(folder, lambda rows: rows.__setitem__(0, row(FIRST, "disgust")), times=True)
    edit(folder, replace(FIRST, "disqust", TOTAL))
    utterances, troubles = kemdy20.Reader.read(folder)
    first = one(utterances, FIRST)
    assert (first["emotion"], first["votes_disgust"], first["quarantine"]) == ("disgust", 10, "")
    assert count(troubles, "converted", "spelling of an emotion") == 1
    assert len(unexpected(troubles)) == 1  # it agrees with its raters


def test_a_tie_of_five_keeps_its_labels_in_the_order_as_written(folder):
    def tie(rows):
        rows[0][TOTAL] = "angry;neutral;disqust;fear;sad"
        rows[0][7::3] = ["angry", "neutral", "disgust", "fear", "sad"] * 2

    edit(folder, tie)
    utterances, troubles = kemdy20.Reader.read(folder)
    first = one(utterances, FIRST)
    assert first["emotion"] == "angry;neutral;disgust;fear;sad"
    assert list(first[VOTES]) == [2, 2, 2, 2, 0, 2, 0]
    assert unexpected(troubles)["reason"].tolist() == ["spelling of an emotion"]


def test_a_total_that_its_raters_do_not_give_is_reported_and_used(folder):
    edit(folder, replace(FIRST, "sad", TOTAL))
    utterances, troubles = kemdy20.Reader.read(folder)
    assert one(utterances, FIRST)["emotion"] == "sad"
    assert where(troubles, "emotion differs from its raters") == [FIRST]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (TOTAL, "bored", "unknown emotion"),
        (7, "disqusted", "unknown emotion"),
        (TOTAL + 1, "7", "score outside 1..5"),
        (36, "", "score is not a number"),
    ],
)
def test_an_impossible_rating_is_quarantined_and_keeps_its_slot(folder, column, value, reason):
    edit(folder, replace(SEGMENTS[2], value, column))
    utterances, troubles = kemdy20.Reader.read(folder)
    bad = one(utterances, SEGMENTS[2])
    assert (bad["quarantine"], bad["emotion"], bad["start"]) == (reason, "", 2.25)
    assert np.isnan(bad["valence"]) and utterances["segment"].tolist() == SEGMENTS
    assert where(troubles, reason) == [SEGMENTS[2]]
    assert (utterances["quarantine"] != "").sum() == 1


# --- texts ---------------------------------------------------------------------------------------


def test_every_txt_in_cp949_is_converted_and_counted_and_crlf_too(folder):
    say(folder, FIRST, "l/ 똠방각하 c/ 펲시 u/\r\n".encode("cp949"))  # not in EUC-KR
    utterances, troubles = kemdy20.Reader.read(folder)
    assert one(utterances, FIRST)["text"] == "똠방각하 펲시"
    assert count(troubles, "converted", "txt in CP949") == len(SEGMENTS)
    assert where(troubles, "txt with CRLF line ends") == [FIRST]


@pytest.mark.parametrize("text", ["크크", "청", "b/ 커", "큰 칼 천 개"])
def test_cp949_that_is_utf8_by_chance_is_read_as_korean(folder, text):
    data = text.encode("cp949")
    with contextlib.suppress(UnicodeDecodeError):
        assert not any("가" <= c <= "힣" for c in data.decode())
    say(folder, FIRST, data)
    utterances, troubles = kemdy20.Reader.read(folder)
    assert one(utterances, FIRST)["text"] == text.removeprefix("b/ ")
    assert count(troubles, "converted", "txt in CP949") == len(SEGMENTS)


HANGUL = st.sampled_from([*map(chr, range(0xAC00, 0xD7A4))])  # CP949 has them all
EITHER = st.sampled_from("커 청 크 첫 키 타 큰 칸 천 호 카 처 치 콰 힣".split())  # most: UTF-8, too


@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.text(HANGUL | EITHER, min_size=1, max_size=3), min_size=1, max_size=4))
def test_whatever_hangul_a_txt_holds_reads_alike_in_cp949_and_utf8(words, tmp_path_factory):
    folder, text = tmp_path_factory.mktemp("text"), " ".join(words)
    for encoding in ("cp949", "utf-8"):
        (folder / "a.txt").write_bytes((text + "\n").encode(encoding))
        read = layout.read_words(folder, files.File("a.txt"))
        assert (read.text, read.bad) == (text + "\n", "")
        assert read.converted == (("in CP949",) if encoding == "cp949" else ())


def test_symbols_of_a_text_in_cp949_are_not_decoded_twice(folder):
    say(folder, FIRST, "15° ·".encode("cp949"))
    assert one(kemdy20.Reader.read(folder)[0], FIRST)["text"] == "15° ·"


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        "Sess01_script07_User001F_002",
        "Sess01_script01_F002",
        "Sess41_script01_User001F_002",
        "Sess01_script01_User001F_02",
        "../../../etc/passwd",
        "",
        "세그먼트",
        "Sess01_script01_UserOO1F_002",
    ],
)
def test_an_id_that_fits_no_pattern_is_quarantined_and_keeps_its_slot(folder, odd):
    edit(folder, replace(SEGMENTS[2], odd))
    utterances, troubles = kemdy20.Reader.read(folder)
    bad = utterances.iloc[2]
    assert bad["quarantine"] == "Segment ID fits no pattern"
    assert (bad["dialogue"], bad["session"], bad["wav"]) == ("Sess01_script01", 1, "")
    assert np.isnan(bad["valence"]) and len(utterances) == len(SEGMENTS)
    assert (utterances["quarantine"] != "").sum() == 1
    assert count(troubles, "quarantined", "Segment ID fits no pattern") == 1
    assert where(troubles, "wav without row") == [SEGMENTS[2]]


def test_a_repeated_id_is_kept_once_where_it_fits_and_the_segment_of_the_other_row_unlabelled(
    folder,
):
    edit(folder, replace(SEGMENTS[2], SEGMENTS[0]))
    utterances, troubles = kemdy20.Reader.read(folder)
    assert utterances["segment"].tolist() == SEGMENTS
    assert one(utterances, SEGMENTS[0])["emotion"] == "happy"
    assert (utterances.loc[2, "emotion"], utterances.loc[2, "quarantine"]) == ("", "")
    assert where(troubles, "repeated row left out") == [SEGMENTS[0]]
    assert where(troubles, "no row: context without label") == [SEGMENTS[2]]
    detail = troubles.loc[troubles["reason"] == "repeated row left out", "detail"].item()
    assert detail == f"Sess01_eval.csv row 2 stands where {SEGMENTS[2]} belongs"


@settings(max_examples=40, deadline=None)
@given(odd=st.text(st.characters(codec="utf-8", exclude_characters='",\r\n'), max_size=60))
def test_no_segment_id_whatever_crashes_the_reader_or_leads_out_of_the_folder(
    odd, tmp_path_factory
):
    folder = lay(tmp_path_factory.mktemp("odd"), segments=SEGMENTS[:3])
    edit(folder, replace(SEGMENTS[1], odd.strip()))
    utterances, _ = kemdy20.Reader.read(folder)
    assert len(utterances) == 3 and utterances["segment"].is_unique
    assert set(utterances["wav"]) <= {"", *(f"wav/Session01/{s}.wav" for s in SEGMENTS)}


def test_a_dialogue_out_of_time_order_is_sorted_by_its_starts_and_reported(folder):
    def by_user(rows):
        rows[:4] = [rows[0], rows[2], rows[1], rows[3]]

    edit(folder, by_user)
    utterances, troubles = kemdy20.Reader.read(folder)
    assert utterances["segment"].tolist() == SEGMENTS
    assert unexpected(troubles)[["treatment", "detail"]].values.tolist() == [
        ["reported", "Sess01_script01"]
    ]


def test_users_who_talk_at_once_are_no_disorder(folder):
    def overlap(rows):
        rows[0][2], rows[1][1] = "9.5", rows[0][1]

    edit(folder, overlap)
    utterances, troubles = kemdy20.Reader.read(folder)
    assert utterances["segment"].tolist() == SEGMENTS and unexpected(troubles).empty
    assert one(utterances, SEGMENTS[0])["end"] == 9.5


def test_a_row_without_a_start_stays_behind_the_one_before_it(folder):
    edit(folder, replace(SEGMENTS[5], "", 1))
    utterances, troubles = kemdy20.Reader.read(folder)
    assert utterances["segment"].tolist() == SEGMENTS and unexpected(troubles).empty
    assert np.isnan(one(utterances, SEGMENTS[5])["start"])

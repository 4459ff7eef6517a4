"""Every known quirk of KEMDy19: what is converted, masked, reported; which of two rows is kept."""

import numpy as np
import pandas as pd
import pytest
from doubles.corpus_kemdy19 import (
    SEGMENTS,
    TOTAL,
    count,
    edit,
    lay,
    one,
    order,
    recording,
    replace,
    row,
    say,
    sound,
    table,
    where,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import kemdy19
from corpora.preparation import transcripts


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "KEMDy19")


# --- converted and masked ------------------------------------------------------------------------


def test_a_transcript_in_cp949_is_read_and_counted(folder):
    say(folder, SEGMENTS[0], "똠방각하 펲시\n".encode("cp949"))  # not in EUC-KR
    utterances, troubles = kemdy19.Reader.read(folder)
    assert one(utterances, SEGMENTS[0])["text"] == "똠방각하 펲시"
    assert count(troubles, "converted", "txt in CP949") == len(troubles) == 2


def test_crlf_and_lf_read_alike_and_crlf_is_counted(folder):
    before, _ = kemdy19.Reader.read(folder)
    say(folder, SEGMENTS[0], "안녕 F001\r\n".encode())
    path = table(folder, 1, "M")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    after, troubles = kemdy19.Reader.read(folder)
    pd.testing.assert_frame_equal(before, after)
    assert count(troubles, "converted", "txt with CRLF line ends") == 2
    assert count(troubles, "converted", "annotation with CRLF line ends") == 1


def test_a_byte_order_mark_is_no_part_of_the_first_cell(folder):
    path = table(folder, 1, "F")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(kemdy19.Reader.read(folder)[0]) == 2 * len(SEGMENTS)


@pytest.mark.parametrize("column", [TOTAL, 13])
def test_disqust_is_disgust_and_counted(folder, column):
    def disgusted(rows):
        rows[0][TOTAL], rows[0][13::3] = "disgust", ["disgust"] * 10
        rows[0][column] = "disqust"

    edit(folder, "F", disgusted)
    utterances, troubles = kemdy19.Reader.read(folder)
    first = one(utterances, SEGMENTS[0])
    assert (first["emotion"], first["votes_disgust"]) == ("disgust", 10)
    assert list(troubles["treatment"]) == ["converted"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "txt missing"),
        (b"", "txt without words"),
        ("", "txt without words"),
        ("b/ n/ ...", "txt without words"),
    ],
)
def test_a_transcript_without_words_is_masked_not_dropped(folder, text, reason):
    recording(folder, SEGMENTS[0], "txt").unlink()
    if text is not None:
        say(folder, SEGMENTS[0], text)
    utterances, troubles = kemdy19.Reader.read(folder)
    first = one(utterances, SEGMENTS[0])
    assert (first["text"], first["quarantine"], first["emotion"]) == ("", "", "angry")
    assert count(troubles, "masked", reason) == len(troubles) == 2


def test_a_missing_wav_is_masked_not_dropped(folder):
    recording(folder, SEGMENTS[0], "wav").unlink()
    utterances, troubles = kemdy19.Reader.read(folder)
    first = one(utterances, SEGMENTS[0])
    assert (first["wav"], first["quarantine"], first["text"]) == ("", "", "안녕 F001")
    assert count(troubles, "masked", "wav missing") == len(troubles) == 2


# --- reported ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        (TOTAL, "happy", "emotion"),
        (TOTAL, "angry;sad", "emotion"),
        (TOTAL + 1, "2.1", "valence"),
        (TOTAL + 2, "4", "arousal"),
    ],
)
def test_a_total_that_its_raters_do_not_give_is_reported_and_used(folder, column, value, name):
    edit(folder, "F", replace(SEGMENTS[0], value, column))
    utterances, troubles = kemdy19.Reader.read(folder)
    assert str(one(utterances, SEGMENTS[0])[name]).removesuffix(".0") == value
    assert where(troubles, f"{name} differs from its raters") == [("speaker", SEGMENTS[0])]
    assert len(troubles) == 1 and (utterances["quarantine"] == "").all()


def test_cells_of_sensors_that_recorded_nothing_are_counted(folder):
    def spoil(rows):
        rows[0][3] = rows[0][5] = "0"  # ECG, EDA
        rows[1][6] = rows[2][7] = rows[2][8] = ""  # EDA, TEMP
        rows[3][7] = "0"  # a temperature of 0 is a value

    edit(folder, "F", spoil)
    _, troubles = kemdy19.Reader.read(folder)
    assert [count(troubles, "reported", f"no {k} value") for k in ("ECG", "EDA", "TEMP")] == [
        1,
        2,
        1,
    ]
    assert len(troubles) == 4


@pytest.mark.parametrize(("lacking", "role"), [("M", "listener"), ("F", "speaker")])
@pytest.mark.parametrize("place", [0, 4, 11])  # a woman talks
def test_a_row_that_one_file_lacks_leaves_a_slot_without_label_there(
    tmp_path, lacking, role, place
):
    folder, segment = lay(tmp_path), SEGMENTS[place]
    edit(folder, lacking, lambda rows: rows.pop(place))
    utterances, troubles = kemdy19.Reader.read(folder)
    assert order(utterances) == order(utterances, "listener") == SEGMENTS
    unlabelled = one(utterances, segment, role)
    assert unlabelled["emotion"] == "" and np.isnan(unlabelled["votes_sad"])
    assert unlabelled["quarantine"] == "" and unlabelled["wav"] != ""
    assert unlabelled["start"] == place
    other = "listener" if role == "speaker" else "speaker"
    assert one(utterances, segment, other)["emotion"] != ""
    assert where(troubles, "no row: context without label") == [(role, segment)]


# --- rows that stand twice, or in the place of another -------------------------------------------


def test_of_two_equal_rows_next_to_each_other_the_first_is_kept(folder):
    def repeat(rows):
        rows.insert(1, list(rows[0]))
        rows[1][TOTAL + 1] = "1"

    edit(folder, "FM", repeat)
    utterances, troubles = kemdy19.Reader.read(folder)
    assert order(utterances) == SEGMENTS
    assert one(utterances, SEGMENTS[0])["valence"] == 2
    assert count(troubles, "reported", "repeated row left out") == len(troubles) == 2


@pytest.mark.parametrize("place", [0, 3, 9, 12])
def test_of_two_rows_the_one_among_its_neighbours_is_kept(folder, place):
    def repeat(rows):
        rows.insert(place, row("Sess01_script01_F002", "fear"))

    edit(folder, "FM", repeat)
    utterances, _ = kemdy19.Reader.read(folder)
    assert order(utterances) == SEGMENTS
    assert one(utterances, "Sess01_script01_F002")["emotion"] == "angry"


def test_quirk_1_a_wav_without_txt_has_its_text_masked(folder):
    recording(folder, "Sess01_script01_M002", "txt").unlink()
    assert one(kemdy19.Reader.read(folder)[0], "Sess01_script01_M002")["text"] == ""


def test_quirk_2_a_txt_without_wav_and_row_is_reported_and_no_slot(folder):
    say(folder, "Sess01_script01_M004", "남은 말")
    utterances, troubles = kemdy19.Reader.read(folder)
    assert order(utterances) == SEGMENTS
    assert where(troubles, "txt without wav and row") == [("", "Sess01_script01_M004")]


def test_a_wav_without_row_is_reported(folder):
    sound(folder, "Sess01_script01_M004")
    _, troubles = kemdy19.Reader.read(folder)
    assert where(troubles, "wav without row") == [("", "Sess01_script01_M004")]


@pytest.mark.parametrize("first", ["M001", "F001"])
def test_quirks_3_and_4_a_repeated_m001_makes_room_for_f001_without_its_label(tmp_path, first):
    turns = [first, "FM"[first[0] == "F"] + "001", "F002", "M002", "F003"]
    segments = ["Sess01_script06_F001", *(f"Sess01_impro02_{turn}" for turn in turns)]
    folder = lay(tmp_path, segments=segments)
    edit(folder, "F", replace("Sess01_impro02_F001", "Sess01_impro02_M001"))
    utterances, troubles = kemdy19.Reader.read(folder)
    assert order(utterances) == order(utterances, "listener") == segments
    lost = one(utterances, "Sess01_impro02_F001")
    assert lost["emotion"] == "" and np.isnan(lost["votes_sad"]) and np.isnan(lost["valence"])
    assert (lost["quarantine"], lost["text"]) == ("", "안녕 F001") and lost["wav"] != ""
    assert one(utterances, "Sess01_impro02_F001", "listener")["emotion"] == "sad"
    kept = one(utterances, "Sess01_impro02_M001", "listener")
    assert (kept["emotion"], kept["start"]) == ("angry", segments.index("Sess01_impro02_M001"))
    assert where(troubles, "repeated row left out") == [("listener", "Sess01_impro02_M001")]
    assert "F001 belongs" in troubles["detail"].str.cat()


def test_quirk_5_a_row_that_each_file_names_wrongly_makes_room_for_the_recording(tmp_path):
    turns = ["F024", "M030", "F025", "M031", "F026", "M032"]
    segments = [f"Sess04_impro03_{turn}" for turn in turns]
    folder = lay(tmp_path, session=4, segments=segments)
    edit(folder, "F", replace("Sess04_impro03_F025", "Sess04_impro03_M033"), session=4)
    edit(folder, "M", replace("Sess04_impro03_F025", "Sess04_impro03_F033"), session=4)
    utterances, troubles = kemdy19.Reader.read(folder)
    for role in kemdy19.ROLES:
        assert order(utterances, role) == segments
        lost = one(utterances, "Sess04_impro03_F025", role)
        assert (lost["emotion"], lost["quarantine"]) == ("", "") and lost["wav"] != ""
    left_out = where(troubles, "row left out: neither wav nor txt")
    assert left_out == [("listener", "Sess04_impro03_M033"), ("listener", "Sess04_impro03_F033")]
    assert where(troubles, "wav without row") == [("", "Sess04_impro03_F025")]


def test_a_missing_segment_that_both_files_name_does_not_lend_its_label_to_another(folder):
    for ending in ("wav", "txt"):
        recording(folder, "Sess01_script01_F002", ending).unlink()
    say(folder, "Sess01_script01_M004", "남은 말")
    edit(folder, "FM", lambda rows: rows.append(rows.pop(2)))
    utterances, _ = kemdy19.Reader.read(folder)
    assert "Sess01_script01_M004" not in order(utterances)
    assert one(utterances, "Sess01_script01_F002")["quarantine"] == "neither wav nor txt"


def test_a_file_in_the_folder_of_another_dialogue_is_not_a_recording(folder):
    place = recording(folder, SEGMENTS[0], "wav")
    lost = place.rename(recording(folder, SEGMENTS[-1], "wav").with_name(place.name))
    assert lost not in kemdy19.Reader.sources(folder)
    assert one(kemdy19.Reader.read(folder)[0], SEGMENTS[0])["wav"] == ""


def test_sessions_follow_each_other(tmp_path):
    for session in (10, 2):
        lay(tmp_path, session)
    utterances, _ = kemdy19.Reader.read(tmp_path)
    assert list(dict.fromkeys(utterances["session"])) == [2, 10]
    assert len(utterances) == 4 * len(SEGMENTS)


# --- transcripts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("b/ 안녕 l/ 하세요", "안녕 하세요"),
        ("어c/ 그게n/", "어 그게"),
        ("N/", ""),
        ("u/.", ""),
        ("(u/) 뭐라고", "뭐라고"),
        ("(왜+뭐) 그래", "왜 뭐 그래"),
        ("(A+B)", "A B"),
        ("o/s/", ""),
        ("정말*요", "정말 요"),
        ("음/ 그래", "음 그래"),
        ("KBS/MBC 봐", "KBS MBC 봐"),
        ("...", ""),
        ("tab/ 눌러", "tab 눌러"),
        ("  두  칸\t", "두 칸"),
        ("뭐? 진짜!", "뭐? 진짜!"),
        ("3개", "3개"),
        ("앞\0뒤", "앞 뒤"),
    ],
)
def test_markup_goes_and_words_stay(raw, clean):
    assert transcripts.clean_transcript(raw) == clean


def test_every_mark_of_the_legend_is_taken_out():
    for mark in transcripts.MARKUP:
        assert transcripts.clean_transcript(f"가 {mark} 나") == "가 나"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("bclnuNos/*+(). 가나다한AZz1\t") | st.characters(codec="utf-8")))
def test_cleaning_twice_is_cleaning_once_and_nothing_is_added(raw):
    clean = transcripts.clean_transcript(raw)
    assert transcripts.clean_transcript(clean) == clean
    left = iter(raw)
    assert all(c in left for c in clean if c != " ")  # a subsequence, in order
    assert [c for c in raw if "가" <= c <= "힣"] == [c for c in clean if "가" <= c <= "힣"]
    assert not set("/*+()") & set(clean)

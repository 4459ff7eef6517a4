"""Rows of KEMDy19 that are quarantined: each keeps its slot, and none crashes the reader."""

import numpy as np
import pytest
from doubles.corpus_kemdy19 import (
    SEGMENT,
    SEGMENTS,
    TOTAL,
    count,
    edit,
    lay,
    one,
    order,
    recording,
    replace,
    say,
    where,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import kemdy19


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "KEMDy19")


ODD_IDS = [
    "Sess01_script01_F1",
    "Sess01_script01_X002",
    "Sess01_script07_F002",
    "Sess02_script01_F002",
    "Sess21_script01_F002",
    "../../../etc/passwd",
    "/etc/passwd",
    "Sess01_script01_F002/../x",
    "Sess01_script01_F00\0",
    "Sess01_script01_F00２",
    "세그먼트",
    "",
    "F" * 5000,
    "..",
    "=1+1",
]


@pytest.mark.parametrize("odd", ODD_IDS)
def test_an_id_that_fits_no_pattern_is_quarantined_in_both_roles_and_keeps_its_slot(folder, odd):
    edit(folder, "FM", replace("Sess01_script01_F002", odd))
    utterances, troubles = kemdy19.Reader.read(folder)
    for role in kemdy19.ROLES:
        rows = utterances[utterances["role"] == role].reset_index(drop=True)
        assert len(rows) == len(SEGMENTS)
        bad = rows.loc[2]
        assert bad["quarantine"] == "Segment ID fits no pattern"
        assert (bad["dialogue"], bad["session"]) == ("Sess01_script01", 1)
        assert (bad["wav"], bad["text"], bad["emotion"]) == ("", "", "")
        assert np.isnan(bad["valence"]) and np.isnan(bad["votes_sad"])
        assert (rows["quarantine"] != "").sum() == 1
    assert count(troubles, "quarantined", "Segment ID fits no pattern") == 2
    assert where(troubles, "wav without row") == [("", "Sess01_script01_F002")]


def test_several_ids_that_fit_no_pattern_stay_apart(folder):
    def spoil(rows):
        rows[1][SEGMENT] = rows[3][SEGMENT] = ""
        rows[5][SEGMENT] = "한" * 40
        rows[6][SEGMENT] = "한" * 41

    edit(folder, "FM", spoil)
    utterances, _ = kemdy19.Reader.read(folder)
    assert (utterances["quarantine"] != "").sum() == 2 * 4
    assert not utterances.duplicated(["role", "segment"]).any()
    assert order(utterances) == order(utterances, "listener")


def test_an_id_wrong_in_one_file_only_leaves_the_other_role_alone(folder):
    edit(folder, "F", replace("Sess01_script01_F002", "Sess01_script01_F0O2"))
    utterances, troubles = kemdy19.Reader.read(folder)
    assert order(utterances) == order(utterances, "listener") == SEGMENTS
    bad = one(utterances, "Sess01_script01_F002")
    assert bad["quarantine"] == "Segment ID fits no pattern"
    assert one(utterances, "Sess01_script01_F002", "listener")["emotion"] == "sad"
    assert troubles["detail"].tolist() == ["Sess01_script01_F0O2"]


def test_a_lost_first_row_belongs_to_the_dialogue_whose_name_it_bears(folder):
    edit(folder, "FM", replace("Sess01_impro02_M001", "Sess01_impro02_M1"))
    utterances, _ = kemdy19.Reader.read(folder)
    assert one(utterances, "Sess01_impro02_M1")["dialogue"] == "Sess01_impro02"


@settings(max_examples=60, deadline=None)
@given(odd=st.text(st.characters(codec="utf-8", exclude_characters='",\r\n'), max_size=60))
def test_no_segment_id_whatever_crashes_the_reader_or_leads_out_of_the_folder(
    odd, tmp_path_factory
):
    folder, place = tmp_path_factory.mktemp("odd"), "wav/Session01/Sess01_script01"
    lay(folder, segments=SEGMENTS[:3])
    edit(folder, "FM", replace(SEGMENTS[1], odd.strip()))
    utterances, _ = kemdy19.Reader.read(folder)
    assert len(utterances) == 6 and not utterances.duplicated(["role", "segment"]).any()
    assert set(utterances["wav"]) <= {"", *(f"{place}/{segment}.wav" for segment in SEGMENTS)}


@pytest.mark.parametrize("column", [TOTAL, 13, 40])
@pytest.mark.parametrize("label", ["bored", "", "Angry", "angry;bored"])
def test_an_unknown_emotion_is_quarantined_wherever_it_stands(folder, column, label):
    edit(folder, "F", replace(SEGMENTS[0], label, column))
    utterances, troubles = kemdy19.Reader.read(folder)
    bad = one(utterances, SEGMENTS[0])
    assert (bad["quarantine"], bad["emotion"]) == ("unknown emotion", "")
    assert np.isnan(bad["arousal"]) and bad["wav"] != ""
    assert one(utterances, SEGMENTS[0], "listener")["quarantine"] == ""
    assert where(troubles, "unknown emotion") == [("speaker", SEGMENTS[0])]


@pytest.mark.parametrize("column", [TOTAL + 1, TOTAL + 2, 14, 42])
@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ("7", "score outside 1..5"),
        ("0.9", "score outside 1..5"),
        ("-3", "score outside 1..5"),
        ("high", "score is not a number"),
        ("", "score is not a number"),
        ("nan", "score is not a number"),
        ("inf", "score is not a number"),
    ],
)
def test_an_impossible_score_is_quarantined_wherever_it_stands(folder, column, score, reason):
    edit(folder, "M", replace("Sess01_script01_M001", score, column))
    utterances, troubles = kemdy19.Reader.read(folder)
    bad = one(utterances, "Sess01_script01_M001")
    assert bad["quarantine"] == reason and np.isnan(bad["valence"])
    assert list(troubles["treatment"]) == ["quarantined"]
    assert score in troubles["detail"][0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_transcript_in_utf16_is_quarantined_in_both_roles(folder, encoding):
    say(folder, SEGMENTS[0], "무슨 일이야\n".encode(encoding))
    utterances, troubles = kemdy19.Reader.read(folder)
    for role in kemdy19.ROLES:
        bad = one(utterances, SEGMENTS[0], role)
        assert (bad["quarantine"], bad["text"], bad["emotion"]) == ("txt in UTF-16", "", "")
    assert len(where(troubles, "txt in UTF-16")) == len(troubles) == 2


@pytest.mark.parametrize("data", [b"\xff\xff\xff\x81", b"\x89PNG\0\1\2"])
def test_a_transcript_that_is_not_text_is_quarantined(folder, data):
    say(folder, SEGMENTS[0], data)
    utterances, _ = kemdy19.Reader.read(folder)
    assert one(utterances, SEGMENTS[0])["quarantine"] in (
        "txt neither UTF-8 nor CP949",
        "txt not text",
    )


def test_a_transcript_that_cannot_be_opened_is_quarantined(folder):
    recording(folder, SEGMENTS[0], "txt").unlink()
    recording(folder, SEGMENTS[0], "txt").mkdir()
    utterances, _ = kemdy19.Reader.read(folder)
    assert one(utterances, SEGMENTS[0])["quarantine"].startswith("txt unreadable")


def test_a_segment_with_neither_wav_nor_txt_is_quarantined_and_keeps_its_slot(folder):
    for ending in ("wav", "txt"):
        recording(folder, SEGMENTS[2], ending).unlink()
    utterances, troubles = kemdy19.Reader.read(folder)
    assert order(utterances) == SEGMENTS
    assert one(utterances, SEGMENTS[2], "listener")["quarantine"] == "neither wav nor txt"
    assert count(troubles, "quarantined", "neither wav nor txt") == len(troubles) == 2


def test_quarantined_troubles_are_exactly_the_quarantined_rows(folder):
    edit(folder, "F", replace(SEGMENTS[0], "bored", TOTAL))
    edit(folder, "F", replace(SEGMENTS[0], "7", TOTAL + 1))
    edit(folder, "FM", replace(SEGMENTS[1], "nobody"))
    say(folder, SEGMENTS[3], b"\xff\xfe\0")
    edit(folder, "FM", replace(SEGMENTS[3], "9", TOTAL + 1))
    utterances, troubles = kemdy19.Reader.read(folder)
    bad = utterances[utterances["quarantine"] != ""]
    named = troubles[troubles["treatment"] == "quarantined"]
    keys = ["role", "segment"]
    assert sorted(named[[*keys, "reason"]].itertuples(index=False, name=None)) == sorted(
        bad[[*keys, "quarantine"]].itertuples(index=False, name=None)
    )

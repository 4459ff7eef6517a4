"""KEMDy19: its tree, every known quirk of it, and every way in which it can be broken."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.corpus_kemdy19 import HEADER, SEGMENTS, edit, lay, recording, row, say, sound, table
from hypothesis import given, settings
from hypothesis import strategies as st

import constants
from corpora import kemdy19, kemdy19_2022
from corpora.preparation import columns, transcripts
from metric import VOTES
from utils import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared"
SEGMENT, TOTAL = 9, 10  # columns


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "KEMDy19")


def one(utterances, segment, role="speaker"):
    rows = utterances[(utterances["segment"] == segment) & (utterances["role"] == role)]
    assert len(rows) == 1
    return rows.iloc[0]


def order(utterances, role="speaker"):
    return list(utterances.loc[utterances["role"] == role, "segment"])


def count(troubles, treatment, reason):
    return int(((troubles["treatment"] == treatment) & (troubles["reason"] == reason)).sum())


def where(troubles, reason):
    rows = troubles[troubles["reason"] == reason]
    return list(zip(rows["role"], rows["segment"], strict=True))


def replace(old, new, column=SEGMENT):
    """A change of the cells in one column, in the rows of one segment."""

    def change(rows):
        for cells in rows:
            if cells[SEGMENT] == old:
                cells[column] = new

    return change


# --- a clean folder ------------------------------------------------------------------------------


def test_the_speaker_label_is_in_the_file_of_who_talks_and_the_listener_label_in_the_other(folder):
    utterances, _ = kemdy19.read(folder)
    woman, man = "Sess01_script01_F001", "Sess01_script01_M001"
    labels = [one(utterances, s, r)["emotion"] for s in (woman, man) for r in kemdy19.ROLES]
    assert labels == ["angry", "sad", "sad", "angry"]


def test_utterances_come_in_the_order_of_the_file_with_every_column_of_the_contract(folder):
    utterances, troubles = kemdy19.read(folder)
    assert list(utterances.columns) == columns.COLUMNS
    assert order(utterances, "speaker") == order(utterances, "listener") == SEGMENTS
    first = one(utterances, "Sess01_impro02_M001")
    assert (first["corpus"], first["session"], first["kind"]) == ("kemdy19", 1, "impro")
    assert (first["dialogue"], first["speaker"]) == ("Sess01_impro02", "Sess01_M")
    assert (first["start"], first["end"]) == (6.0, 7.0)
    assert first["wav"] == "wav/Session01/Sess01_impro02/Sess01_impro02_M001.wav"
    assert (first["text"], first["quarantine"]) == ("안녕 M001", "")
    assert (first["votes_sad"], first["valence"], first["arousal"]) == (10, 2.0, 3.0)
    assert troubles.empty


def test_sources_are_the_files_the_tables_depend_on_and_reading_changes_none_of_them(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert set(kemdy19.sources(folder)) == {path for path in before if path.is_file()}
    kemdy19.read(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_is_recognised_by_its_annotation_files(folder, tmp_path):
    assert kemdy19.matches(folder) and not kemdy19.matches(tmp_path)
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "Sess01_eval.csv").touch()
    assert not kemdy19.matches(tmp_path)


def test_a_tie_keeps_its_labels_as_written_and_the_votes_of_the_raters(folder):
    def tie(rows):
        rows[0][TOTAL] = "sad;angry"
        rows[0][13::3] = ["sad"] * 4 + ["angry"] * 4 + ["fear", "happy"]

    edit(folder, "F", tie)
    utterances, troubles = kemdy19.read(folder)
    first = one(utterances, SEGMENTS[0])
    assert first["emotion"] == "sad;angry"
    assert list(first[VOTES]) == [0, 4, 4, 1, 0, 0, 1]
    assert troubles.empty


# --- faults of a file ----------------------------------------------------------------------------


def test_an_annotation_of_42_columns_is_refused(folder):
    path = table(folder, 1, "M")
    lines = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"Session01_M_res.csv needs 43 columns, line 1 has 42"):
        kemdy19.read(folder)


def test_a_single_ragged_row_is_refused_with_its_line(folder):
    path = table(folder, 1, "F")
    path.write_text(path.read_text().replace("Sess01_script01_M002,", "Sess01_script01_M002,,"))
    with pytest.raises(UserError, match=r"Session01_F_res.csv needs 43 columns, line 6 has 44"):
        kemdy19.read(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Eval02M", "Eval02F", r"needs 'Eval02M' at line 1 column 17 \(header\), it has 'Eval02F'"),
        (
            "Emotion,Valence,Arousal",
            "Emotion,Arousal,Valence",
            r"needs 'Valence' at line 2 column 12 \(header\), it has 'Arousal'",
        ),
    ],
)
def test_another_header_is_refused_because_positions_would_mean_something_else(
    folder, old, new, message
):
    path = table(folder, 1, "F")
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        kemdy19.read(folder)


def test_header_cells_may_have_spaces_around_them(folder):
    path = table(folder, 1, "F")
    path.write_text(path.read_text().replace("Numb,Wav,,", " Numb ,Wav, ,"))
    assert len(kemdy19.read(folder)[0]) == 2 * len(SEGMENTS)


@pytest.mark.parametrize("letter", ["F", "M"])
def test_a_session_with_one_of_its_two_files_is_refused(folder, letter):
    table(folder, 1, letter).unlink()
    with pytest.raises(UserError, match=rf"session 1 .* there is .*_{'FM'[letter == 'F']}_res"):
        kemdy19.read(folder)


def test_a_folder_without_annotation_files_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"needs annotation/SessionNN_F_res.csv .* has none"):
        kemdy19.read(tmp_path)


@pytest.mark.parametrize("lines", [0, 1])
def test_an_annotation_that_ends_in_its_header_is_refused(folder, lines):
    table(folder, 1, "F").write_text("\n".join(HEADER[:lines]))
    with pytest.raises(UserError, match=f"needs 2 header rows, it has {lines} lines"):
        kemdy19.read(folder)


def test_annotations_without_rows_are_refused(folder):
    edit(folder, "FM", list.clear)
    with pytest.raises(UserError, match="list no segment"):
        kemdy19.read(folder)


def test_an_annotation_in_utf16_is_refused(folder):
    path = table(folder, 1, "F")
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(UserError, match="Session01_F_res.csv should be UTF-8 .*; it is in UTF-16"):
        kemdy19.read(folder)


def test_a_corpus_without_a_wav_folder_is_refused(folder):
    (folder / "wav").rename(folder / "sound")
    with pytest.raises(UserError, match="KEMDy19 needs .*wav"):
        kemdy19.read(folder)


def test_trailing_empty_lines_are_no_rows(folder):
    path = table(folder, 1, "F")
    path.write_text(path.read_text() + "\n" + "," * 42 + "\n\n")
    assert len(kemdy19.read(folder)[0]) == 2 * len(SEGMENTS)


# --- faults of a row -----------------------------------------------------------------------------

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
    utterances, troubles = kemdy19.read(folder)
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
    utterances, _ = kemdy19.read(folder)
    assert (utterances["quarantine"] != "").sum() == 2 * 4
    assert not utterances.duplicated(["role", "segment"]).any()
    assert order(utterances) == order(utterances, "listener")


def test_an_id_wrong_in_one_file_only_leaves_the_other_role_alone(folder):
    edit(folder, "F", replace("Sess01_script01_F002", "Sess01_script01_F0O2"))
    utterances, troubles = kemdy19.read(folder)
    assert order(utterances) == order(utterances, "listener") == SEGMENTS
    bad = one(utterances, "Sess01_script01_F002")
    assert bad["quarantine"] == "Segment ID fits no pattern"
    assert one(utterances, "Sess01_script01_F002", "listener")["emotion"] == "sad"
    assert troubles["detail"].tolist() == ["Sess01_script01_F0O2"]


def test_a_lost_first_row_belongs_to_the_dialogue_whose_name_it_bears(folder):
    edit(folder, "FM", replace("Sess01_impro02_M001", "Sess01_impro02_M1"))
    utterances, _ = kemdy19.read(folder)
    assert one(utterances, "Sess01_impro02_M1")["dialogue"] == "Sess01_impro02"


@settings(max_examples=60, deadline=None)
@given(odd=st.text(st.characters(codec="utf-8", exclude_characters='",\r\n'), max_size=60))
def test_no_segment_id_whatever_crashes_the_reader_or_leads_out_of_the_folder(
    odd, tmp_path_factory
):
    folder, place = tmp_path_factory.mktemp("odd"), "wav/Session01/Sess01_script01"
    lay(folder, segments=SEGMENTS[:3])
    edit(folder, "FM", replace(SEGMENTS[1], odd.strip()))
    utterances, _ = kemdy19.read(folder)
    assert len(utterances) == 6 and not utterances.duplicated(["role", "segment"]).any()
    assert set(utterances["wav"]) <= {"", *(f"{place}/{segment}.wav" for segment in SEGMENTS)}


@pytest.mark.parametrize("column", [TOTAL, 13, 40])
@pytest.mark.parametrize("label", ["bored", "", "Angry", "angry;bored"])
def test_an_unknown_emotion_is_quarantined_wherever_it_stands(folder, column, label):
    edit(folder, "F", replace(SEGMENTS[0], label, column))
    utterances, troubles = kemdy19.read(folder)
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
    utterances, troubles = kemdy19.read(folder)
    bad = one(utterances, "Sess01_script01_M001")
    assert bad["quarantine"] == reason and np.isnan(bad["valence"])
    assert list(troubles["treatment"]) == ["quarantined"]
    assert score in troubles["detail"][0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_transcript_in_utf16_is_quarantined_in_both_roles(folder, encoding):
    say(folder, SEGMENTS[0], "무슨 일이야\n".encode(encoding))
    utterances, troubles = kemdy19.read(folder)
    for role in kemdy19.ROLES:
        bad = one(utterances, SEGMENTS[0], role)
        assert (bad["quarantine"], bad["text"], bad["emotion"]) == ("txt in UTF-16", "", "")
    assert len(where(troubles, "txt in UTF-16")) == len(troubles) == 2


@pytest.mark.parametrize("data", [b"\xff\xff\xff\x81", b"\x89PNG\0\1\2"])
def test_a_transcript_that_is_not_text_is_quarantined(folder, data):
    say(folder, SEGMENTS[0], data)
    utterances, _ = kemdy19.read(folder)
    assert one(utterances, SEGMENTS[0])["quarantine"] in (
        "txt neither UTF-8 nor CP949",
        "txt not text",
    )


def test_a_transcript_that_cannot_be_opened_is_quarantined(folder):
    recording(folder, SEGMENTS[0], "txt").unlink()
    recording(folder, SEGMENTS[0], "txt").mkdir()
    utterances, _ = kemdy19.read(folder)
    assert one(utterances, SEGMENTS[0])["quarantine"].startswith("txt unreadable")


def test_a_segment_with_neither_wav_nor_txt_is_quarantined_and_keeps_its_slot(folder):
    for ending in ("wav", "txt"):
        recording(folder, SEGMENTS[2], ending).unlink()
    utterances, troubles = kemdy19.read(folder)
    assert order(utterances) == SEGMENTS
    assert one(utterances, SEGMENTS[2], "listener")["quarantine"] == "neither wav nor txt"
    assert count(troubles, "quarantined", "neither wav nor txt") == len(troubles) == 2


def test_quarantined_troubles_are_exactly_the_quarantined_rows(folder):
    edit(folder, "F", replace(SEGMENTS[0], "bored", TOTAL))
    edit(folder, "F", replace(SEGMENTS[0], "7", TOTAL + 1))
    edit(folder, "FM", replace(SEGMENTS[1], "nobody"))
    say(folder, SEGMENTS[3], b"\xff\xfe\0")
    edit(folder, "FM", replace(SEGMENTS[3], "9", TOTAL + 1))
    utterances, troubles = kemdy19.read(folder)
    bad = utterances[utterances["quarantine"] != ""]
    named = troubles[troubles["treatment"] == "quarantined"]
    keys = ["role", "segment"]
    assert sorted(named[[*keys, "reason"]].itertuples(index=False, name=None)) == sorted(
        bad[[*keys, "quarantine"]].itertuples(index=False, name=None)
    )


# --- converted and masked ------------------------------------------------------------------------


def test_a_transcript_in_cp949_is_read_and_counted(folder):
    say(folder, SEGMENTS[0], "똠방각하 펲시\n".encode("cp949"))  # not in EUC-KR
    utterances, troubles = kemdy19.read(folder)
    assert one(utterances, SEGMENTS[0])["text"] == "똠방각하 펲시"
    assert count(troubles, "converted", "txt in CP949") == len(troubles) == 2


def test_crlf_and_lf_read_alike_and_crlf_is_counted(folder):
    before, _ = kemdy19.read(folder)
    say(folder, SEGMENTS[0], "안녕 F001\r\n".encode())
    path = table(folder, 1, "M")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    after, troubles = kemdy19.read(folder)
    pd.testing.assert_frame_equal(before, after)
    assert count(troubles, "converted", "txt with CRLF line ends") == 2
    assert count(troubles, "converted", "annotation with CRLF line ends") == 1


def test_a_byte_order_mark_is_no_part_of_the_first_cell(folder):
    path = table(folder, 1, "F")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(kemdy19.read(folder)[0]) == 2 * len(SEGMENTS)


@pytest.mark.parametrize("column", [TOTAL, 13])
def test_disqust_is_disgust_and_counted(folder, column):
    def disgusted(rows):
        rows[0][TOTAL], rows[0][13::3] = "disgust", ["disgust"] * 10
        rows[0][column] = "disqust"

    edit(folder, "F", disgusted)
    utterances, troubles = kemdy19.read(folder)
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
    utterances, troubles = kemdy19.read(folder)
    first = one(utterances, SEGMENTS[0])
    assert (first["text"], first["quarantine"], first["emotion"]) == ("", "", "angry")
    assert count(troubles, "masked", reason) == len(troubles) == 2


def test_a_missing_wav_is_masked_not_dropped(folder):
    recording(folder, SEGMENTS[0], "wav").unlink()
    utterances, troubles = kemdy19.read(folder)
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
    utterances, troubles = kemdy19.read(folder)
    assert str(one(utterances, SEGMENTS[0])[name]).removesuffix(".0") == value
    assert where(troubles, f"{name} differs from its raters") == [("speaker", SEGMENTS[0])]
    assert len(troubles) == 1 and (utterances["quarantine"] == "").all()


def test_cells_of_sensors_that_recorded_nothing_are_counted(folder):
    def spoil(rows):
        rows[0][3] = rows[0][5] = "0"  # ECG, EDA
        rows[1][6] = rows[2][7] = rows[2][8] = ""  # EDA, TEMP
        rows[3][7] = "0"  # a temperature of 0 is a value

    edit(folder, "F", spoil)
    _, troubles = kemdy19.read(folder)
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
    utterances, troubles = kemdy19.read(folder)
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
    utterances, troubles = kemdy19.read(folder)
    assert order(utterances) == SEGMENTS
    assert one(utterances, SEGMENTS[0])["valence"] == 2
    assert count(troubles, "reported", "repeated row left out") == len(troubles) == 2


@pytest.mark.parametrize("place", [0, 3, 9, 12])
def test_of_two_rows_the_one_among_its_neighbours_is_kept(folder, place):
    def repeat(rows):
        rows.insert(place, row("Sess01_script01_F002", "fear"))

    edit(folder, "FM", repeat)
    utterances, _ = kemdy19.read(folder)
    assert order(utterances) == SEGMENTS
    assert one(utterances, "Sess01_script01_F002")["emotion"] == "angry"


def test_quirk_1_a_wav_without_txt_has_its_text_masked(folder):
    recording(folder, "Sess01_script01_M002", "txt").unlink()
    assert one(kemdy19.read(folder)[0], "Sess01_script01_M002")["text"] == ""


def test_quirk_2_a_txt_without_wav_and_row_is_reported_and_no_slot(folder):
    say(folder, "Sess01_script01_M004", "남은 말")
    utterances, troubles = kemdy19.read(folder)
    assert order(utterances) == SEGMENTS
    assert where(troubles, "txt without wav and row") == [("", "Sess01_script01_M004")]


def test_a_wav_without_row_is_reported(folder):
    sound(folder, "Sess01_script01_M004")
    _, troubles = kemdy19.read(folder)
    assert where(troubles, "wav without row") == [("", "Sess01_script01_M004")]


@pytest.mark.parametrize("first", ["M001", "F001"])
def test_quirks_3_and_4_a_repeated_m001_makes_room_for_f001_without_its_label(tmp_path, first):
    turns = [first, "FM"[first[0] == "F"] + "001", "F002", "M002", "F003"]
    segments = ["Sess01_script06_F001", *(f"Sess01_impro02_{turn}" for turn in turns)]
    folder = lay(tmp_path, segments=segments)
    edit(folder, "F", replace("Sess01_impro02_F001", "Sess01_impro02_M001"))
    utterances, troubles = kemdy19.read(folder)
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
    utterances, troubles = kemdy19.read(folder)
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
    utterances, _ = kemdy19.read(folder)
    assert "Sess01_script01_M004" not in order(utterances)
    assert one(utterances, "Sess01_script01_F002")["quarantine"] == "neither wav nor txt"


def test_a_file_in_the_folder_of_another_dialogue_is_not_a_recording(folder):
    place = recording(folder, SEGMENTS[0], "wav")
    lost = place.rename(recording(folder, SEGMENTS[-1], "wav").with_name(place.name))
    assert lost not in kemdy19.sources(folder)
    assert one(kemdy19.read(folder)[0], SEGMENTS[0])["wav"] == ""


def test_sessions_follow_each_other(tmp_path):
    for session in (10, 2):
        lay(tmp_path, session)
    utterances, _ = kemdy19.read(tmp_path)
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


# --- signals -------------------------------------------------------------------------------------


def lay_signal(folder, kind, text):
    path = folder / kind / "Session01/Original/Sess01F.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_ragged_sensor_files_become_one_tidy_table(folder):
    lay_signal(folder, "ECG", "0.0,0.5,10:00\n0.004,-0.25,10:01,Sess01_script01_F001\n")
    lay_signal(folder, "EDA", "3.5,,10:00,Sess01_script01_M001\n3.75,,10:01\n")
    lay_signal(folder, "TEMP", "")
    signals = kemdy19.signals(folder)
    assert signals["subject"].unique().tolist() == ["Sess01_F"]
    assert signals["signal"].tolist() == ["ECG", "ECG", "EDA", "EDA"]
    assert signals["value"].tolist() == [0.5, -0.25, 3.5, 3.75]
    assert signals["timestamp"].tolist() == ["10:00", "10:01"] * 2
    assert signals["segment"].tolist() == ["", "Sess01_script01_F001", "Sess01_script01_M001", ""]
    assert signals["time"][:2].tolist() == [0.0, 0.004] and signals["time"][2:].isna().all()


@pytest.mark.parametrize("text", ["0,high,10:00\n", "0,1,2,3\n0,1,2,3,4,5\n"])
def test_a_sensor_file_that_is_something_else_is_refused_by_name(folder, text):
    lay_signal(folder, "ECG", text)
    with pytest.raises(UserError, match=r"Sess01F.csv"):
        kemdy19.signals(folder)


def test_a_corpus_without_sensors_has_an_empty_table_of_signals(folder):
    assert kemdy19.signals(folder).empty


# --- laying a sample down ------------------------------------------------------------------------


@pytest.fixture
def frame():
    """Two sessions of two segments, both roles, with raters."""
    rows = []
    for role in kemdy19.ROLES:
        for session in (1, 2):
            for n, turn in enumerate(("F001", "M001")):
                labels = ["surprise"] * 4 + ["neutral"] * 4 + ["fear", "sad"]
                rows.append(
                    {
                        "role": role,
                        "session": session,
                        "dialogue": f"Sess{session:02d}_script01",
                        "segment": f"Sess{session:02d}_script01_{turn}",
                        "start": 1.25 * n,
                        "end": 1.25 * (n + 1),
                        "transcript": f"b/ (그래+응) {turn}",
                        "rater_emotion": labels if role == "speaker" else ["sad"] * 10,
                        "rater_valence": [2] * 9 + [3],
                        "rater_arousal": [4] * 10,
                    }
                )
    return pd.DataFrame(rows)


def tone(i):
    return np.sin(np.arange(800) * (i + 1) / 9).astype(np.float32) / 2


def test_a_sample_lies_on_disk_cell_for_cell_as_the_corpus(frame, tmp_path):
    kemdy19.write_sample(tmp_path, frame, tone)
    lines = table(tmp_path, 1, "F").read_bytes().decode().split("\r\n")
    assert lines[:2] == list(HEADER) and lines[-1] == "" and len(lines) == 5
    cells = lines[2].split(",")
    rated = [c for e in ["surprise"] * 4 + ["neutral"] * 4 + ["fear", "sad"] for c in (e, "2", "4")]
    rated[-2] = "3"
    assert len(cells) == 43 and cells[:3] == ["1", "0", "1.25"]
    assert cells[9:] == ["Sess01_script01_F001", "neutral;surprise", "2.1", "4", *rated]
    assert lines[3].split(",")[9:13] == ["Sess01_script01_M001", "sad", "2.1", "4"]
    assert b"\r" not in table(tmp_path, 2, "F").read_bytes()
    txt = recording(tmp_path, "Sess02_script01_M001", "txt").read_bytes()
    assert txt.decode().rstrip() == "b/ (그래+응) M001"


def test_a_sample_reads_back_as_what_was_laid_down(frame, tmp_path):
    kemdy19.write_sample(tmp_path, frame, tone)
    utterances, troubles = kemdy19.read(tmp_path)
    assert set(troubles["treatment"]) == {"converted"}  # CRLF
    assert order(utterances) == frame["segment"][:4].tolist()
    for role, emotion in (("speaker", "neutral;surprise"), ("listener", "sad")):
        row = one(utterances, "Sess02_script01_M001", role)
        assert (row["emotion"], row["valence"], row["arousal"]) == (emotion, 2.1, 4.0)
        assert (row["text"], row["start"], row["end"]) == ("그래 응 M001", 1.25, 2.5)
    assert list(row[VOTES]) == [0, 0, 10, 0, 0, 0, 0]


def test_a_wave_lies_behind_44_bytes_of_header_and_reads_back(frame, tmp_path):
    kemdy19.write_sample(tmp_path, frame, tone)
    path = recording(tmp_path, "Sess02_script01_F001", "wav")
    assert path.stat().st_size == 44 + 2 * 800
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == constants.SAMPLE_RATE
    np.testing.assert_allclose(samples, tone(2), atol=0.5 / 32768)


def test_a_loud_wave_is_clipped_not_wrapped(frame, tmp_path):
    kemdy19.write_sample(tmp_path, frame, lambda i: np.array([2.0, -2.0, 1.0]))
    samples, _ = soundfile.read(recording(tmp_path, "Sess01_script01_F001", "wav"), dtype="int16")
    assert samples.tolist() == [32767, -32768, 32767]


def test_the_same_sample_has_the_same_bytes(frame, tmp_path):
    trees = []
    for name in ("one", "two"):
        kemdy19.write_sample(tmp_path / name, frame, tone)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        trees.append([(p.relative_to(tmp_path / name), p.read_bytes()) for p in files])
    assert trees[0] == trees[1]


def test_what_is_absent_is_not_laid_down(frame, tmp_path):
    frame.loc[[0, 4], "transcript"] = None
    kemdy19.write_sample(tmp_path, frame, lambda i: None if i == 1 else tone(i))
    assert not recording(tmp_path, "Sess01_script01_F001", "txt").exists()
    assert not recording(tmp_path, "Sess01_script01_M001", "wav").exists()
    _, troubles = kemdy19.read(tmp_path)
    assert count(troubles, "masked", "txt missing") == count(troubles, "masked", "wav missing") == 2


def test_ratings_are_made_from_votes_and_means_where_no_raters_are_given(frame, tmp_path):
    plain = frame.drop(columns=["rater_emotion", "rater_valence", "rater_arousal"])
    plain = plain.assign(**dict.fromkeys(VOTES, 0), valence=2.3, arousal=4.0)
    plain = plain.assign(votes_angry=7, votes_happy=3)
    kemdy19.write_sample(tmp_path, plain, tone)
    utterances, troubles = kemdy19.read(tmp_path)
    assert set(utterances["emotion"]) == {"angry"} and set(utterances["valence"]) == {2.3}
    assert set(utterances["votes_happy"]) == {3}
    assert not troubles["reason"].str.contains("differs").any()


def test_signals_of_a_sample_agree_with_the_cells_of_its_annotation(frame, tmp_path):
    kemdy19.write_sample(tmp_path, frame, tone)
    signals = kemdy19.signals(tmp_path)
    assert set(signals["signal"]) == {"ECG", "EDA", "TEMP"}
    assert {"", "Sess01_script01_F001", "Sess01_script01_M001"} <= set(signals["segment"])
    woman = signals[(signals["subject"] == "Sess01_F") & (signals["signal"] == "EDA")]
    first = woman[woman["segment"] == "Sess01_script01_F001"].iloc[0]
    cells = table(tmp_path, 1, "F").read_text().splitlines()[2].split(",")
    assert float(cells[5]) == first["value"]


def test_a_sample_that_cannot_be_written_says_so(frame, tmp_path):
    (tmp_path / "annotation").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*Session01_F_res.csv"):
        kemdy19.write_sample(tmp_path, frame, tone)


# --- real speech ---------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (SHARED / "real_speech").is_dir(), reason="needs ../shared/real_speech, which is absent"
)
def test_real_speech_has_416_rows_a_role_and_736_totals_that_its_raters_do_not_give():
    utterances, troubles = kemdy19.read(SHARED / "real_speech")
    assert utterances["role"].value_counts().to_dict() == {"speaker": 416, "listener": 416}
    assert (utterances["quarantine"] == "").all() and (utterances["wav"] != "").all()
    wrong = troubles[troubles["reason"].str.contains("valence differs|arousal differs")]
    assert len(wrong[["role", "segment"]].drop_duplicates()) == 736
    assert not troubles["reason"].str.contains("emotion differs").any()
    assert (utterances[VOTES].sum(axis=1) == constants.RATERS).all()


# --- tables of 2022 ------------------------------------------------------------------------------


def table_2022(rows):
    """rows: (segment, role, emotion); the columns of that year."""
    lines = []
    for n, (segment, role, emotion) in enumerate(rows):
        cells = {
            "start": n,
            "end": n + 1,
            "Segment ID": segment,
            "Emotion": emotion,
            "Valence": 2.5,
            "Arousal": 3.0,
        }
        for k in range(1, 11):
            label = emotion.split(";")[0]
            cells |= {f"Emotion.{k}": label, f"Valence.{k}": 2 + k % 2, f"Arousal.{k}": 3}
        cells |= {"speaker": "F", "text": "밥 먹었어 b/", "role": role, "Session": 1}
        lines.append(cells | {"script": "script01", "sequence": n, "dialogue": "Sess01_script01"})
    return pd.DataFrame(lines)


@pytest.fixture
def folder_2022(tmp_path):
    rows = [(s, r, e) for s in SEGMENTS[:3] for r, e in (("speaker", "angry"), ("listener", "sad"))]
    frame = table_2022(rows)
    for role in kemdy19.ROLES:
        frame[frame["role"] == role].to_csv(tmp_path / f"df_{role}.csv", index=False)
    (tmp_path / "audio").mkdir()
    for segment in SEGMENTS[:2]:
        (tmp_path / f"audio/{segment}.wav").write_bytes(b"RIFF")
    return tmp_path


def test_tables_of_2022_are_read_under_the_same_keys(folder_2022):
    assert kemdy19_2022.matches(folder_2022)
    utterances, troubles = kemdy19_2022.read(folder_2022)
    assert list(utterances.columns) == columns.COLUMNS
    assert set(utterances["corpus"]) == {"kemdy19"}
    assert order(utterances) == order(utterances, "listener") == SEGMENTS[:3]
    first = one(utterances, SEGMENTS[0], "listener")
    assert (first["emotion"], first["valence"], first["text"]) == ("sad", 2.5, "밥 먹었어")
    assert (first["wav"], first["speaker"]) == (f"audio/{SEGMENTS[0]}.wav", "Sess01_F")
    assert (first["dialogue"], first["kind"], first["session"]) == ("Sess01_script01", "script", 1)
    assert where(troubles, "wav missing") == [("speaker", SEGMENTS[2]), ("listener", SEGMENTS[2])]
    assert len(troubles) == 2


def test_one_table_of_both_roles_reads_as_the_two_tables_do(folder_2022, tmp_path):
    two, _ = kemdy19_2022.read(folder_2022)
    tables = [folder_2022 / f"df_{role}.csv" for role in kemdy19.ROLES]
    pd.concat([pd.read_csv(path) for path in tables]).to_csv(tmp_path / "annotation.csv")
    for path in tables:
        path.unlink()
    pd.testing.assert_frame_equal(kemdy19_2022.read(folder_2022)[0], two)


def test_sources_of_2022_are_tables_and_sounds(folder_2022):
    names = [path.name for path in kemdy19_2022.sources(folder_2022)]
    assert names == ["df_speaker.csv", "df_listener.csv", *(f"{s}.wav" for s in SEGMENTS[:2])]


def test_bad_rows_of_2022_are_quarantined_and_repeated_ones_left_out(tmp_path):
    rows = [
        (SEGMENTS[0], "speaker", "angry"),
        ("nobody", "speaker", "sad"),
        (SEGMENTS[0], "speaker", "happy"),
        (SEGMENTS[1], "speaker", "bored"),
    ]
    table_2022(rows).to_csv(tmp_path / "annotation.csv", index=False)
    utterances, troubles = kemdy19_2022.read(tmp_path)
    assert order(utterances) == [SEGMENTS[0], "nobody", SEGMENTS[1]]
    assert list(utterances["quarantine"]) == ["", "Segment ID fits no pattern", "unknown emotion"]
    assert one(utterances, "nobody")["dialogue"] == "Sess01_script01"
    assert one(utterances, SEGMENTS[0])["emotion"] == "angry"
    assert where(troubles, "repeated row left out") == [("speaker", SEGMENTS[0])]
    assert count(troubles, "quarantined", "Segment ID fits no pattern") == 1


def test_a_table_of_2022_that_lacks_a_column_is_refused(folder_2022):
    path = folder_2022 / "df_speaker.csv"
    pd.read_csv(path).drop(columns="Emotion.7").to_csv(path, index=False)
    with pytest.raises(UserError, match=r"df_speaker.csv needs the columns Emotion.7; it"):
        kemdy19_2022.read(folder_2022)


def test_tables_that_are_written_today_are_not_taken_for_those_of_2022(tmp_path):
    (tmp_path / "annotation.csv").write_text(",".join(columns.COLUMNS) + "\n")
    assert not kemdy19_2022.matches(tmp_path)
    with pytest.raises(UserError, match="needs the columns"):
        kemdy19_2022.read(tmp_path)

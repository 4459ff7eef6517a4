"""KEMDy19 as a folder: its tree, its annotation files, its signals; what makes it no corpus."""

import pytest
from doubles.corpus_kemdy19 import HEADER, SEGMENTS, TOTAL, edit, lay, one, order, table
from doubles.shared import SHARED, needs_shared

import constants
from corpora import kemdy19
from corpora.preparation import columns
from metric import VOTES
from utils import UserError


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "KEMDy19")


# --- a clean folder ------------------------------------------------------------------------------


def test_the_speaker_label_is_in_the_file_of_who_talks_and_the_listener_label_in_the_other(folder):
    utterances, _ = kemdy19.Reader.read(folder)
    woman, man = "Sess01_script01_F001", "Sess01_script01_M001"
    labels = [one(utterances, s, r)["emotion"] for s in (woman, man) for r in kemdy19.ROLES]
    assert labels == ["angry", "sad", "sad", "angry"]


def test_utterances_come_in_the_order_of_the_file_with_every_column_of_the_contract(folder):
    utterances, troubles = kemdy19.Reader.read(folder)
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
    assert set(kemdy19.Reader.sources(folder)) == {path for path in before if path.is_file()}
    kemdy19.Reader.read(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_is_recognised_by_its_annotation_files(folder, tmp_path):
    assert kemdy19.Reader.matches(folder) and not kemdy19.Reader.matches(tmp_path)
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "Sess01_eval.csv").touch()
    assert not kemdy19.Reader.matches(tmp_path)


def test_a_tie_keeps_its_labels_as_written_and_the_votes_of_the_raters(folder):
    def tie(rows):
        rows[0][TOTAL] = "sad;angry"
        rows[0][13::3] = ["sad"] * 4 + ["angry"] * 4 + ["fear", "happy"]

    edit(folder, "F", tie)
    utterances, troubles = kemdy19.Reader.read(folder)
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
        kemdy19.Reader.read(folder)


def test_a_single_ragged_row_is_refused_with_its_line(folder):
    path = table(folder, 1, "F")
    path.write_text(path.read_text().replace("Sess01_script01_M002,", "Sess01_script01_M002,,"))
    with pytest.raises(UserError, match=r"Session01_F_res.csv needs 43 columns, line 6 has 44"):
        kemdy19.Reader.read(folder)


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
        kemdy19.Reader.read(folder)


def test_header_cells_may_have_spaces_around_them(folder):
    path = table(folder, 1, "F")
    path.write_text(path.read_text().replace("Numb,Wav,,", " Numb ,Wav, ,"))
    assert len(kemdy19.Reader.read(folder)[0]) == 2 * len(SEGMENTS)


@pytest.mark.parametrize("letter", ["F", "M"])
def test_a_session_with_one_of_its_two_files_is_refused(folder, letter):
    table(folder, 1, letter).unlink()
    with pytest.raises(UserError, match=rf"session 1 .* there is .*_{'FM'[letter == 'F']}_res"):
        kemdy19.Reader.read(folder)


def test_a_folder_without_annotation_files_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"needs annotation/SessionNN_F_res.csv .* has none"):
        kemdy19.Reader.read(tmp_path)


@pytest.mark.parametrize("lines", [0, 1])
def test_an_annotation_that_ends_in_its_header_is_refused(folder, lines):
    table(folder, 1, "F").write_text("\n".join(HEADER[:lines]))
    with pytest.raises(UserError, match=f"needs 2 header rows, it has {lines} lines"):
        kemdy19.Reader.read(folder)


def test_annotations_without_rows_are_refused(folder):
    edit(folder, "FM", list.clear)
    with pytest.raises(UserError, match="list no segment"):
        kemdy19.Reader.read(folder)


def test_an_annotation_in_utf16_is_refused(folder):
    path = table(folder, 1, "F")
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(UserError, match="Session01_F_res.csv should be UTF-8 .*; it is in UTF-16"):
        kemdy19.Reader.read(folder)


def test_a_corpus_without_a_wav_folder_is_refused(folder):
    (folder / "wav").rename(folder / "sound")
    with pytest.raises(UserError, match="KEMDy19 needs .*wav"):
        kemdy19.Reader.read(folder)


def test_trailing_empty_lines_are_no_rows(folder):
    path = table(folder, 1, "F")
    path.write_text(path.read_text() + "\n" + "," * 42 + "\n\n")
    assert len(kemdy19.Reader.read(folder)[0]) == 2 * len(SEGMENTS)


# --- signals -------------------------------------------------------------------------------------


def lay_signal(folder, kind, text):
    path = folder / kind / "Session01/Original/Sess01F.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_ragged_sensor_files_become_one_tidy_table(folder):
    lay_signal(folder, "ECG", "0.0,0.5,10:00\n0.004,-0.25,10:01,Sess01_script01_F001\n")
    lay_signal(folder, "EDA", "3.5,,10:00,Sess01_script01_M001\n3.75,,10:01\n")
    lay_signal(folder, "TEMP", "")
    signals = kemdy19.Reader.signals(folder)
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
        kemdy19.Reader.signals(folder)


def test_a_corpus_without_sensors_has_an_empty_table_of_signals(folder):
    assert kemdy19.Reader.signals(folder).empty


# --- real speech ---------------------------------------------------------------------------------


@needs_shared
def test_real_speech_has_416_rows_a_role_and_736_totals_that_its_raters_do_not_give():
    utterances, troubles = kemdy19.Reader.read(SHARED / "real_speech")
    assert utterances["role"].value_counts().to_dict() == {"speaker": 416, "listener": 416}
    assert (utterances["quarantine"] == "").all() and (utterances["wav"] != "").all()
    wrong = troubles[troubles["reason"].str.contains("valence differs|arousal differs")]
    assert len(wrong[["role", "segment"]].drop_duplicates()) == 736
    assert not troubles["reason"].str.contains("emotion differs").any()
    assert (utterances[VOTES].sum(axis=1) == constants.RATERS).all()

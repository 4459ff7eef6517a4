"""KEMDy20 as a folder: its tree, its releases, its signals. Its samples: test_kemdy20_sample.py."""

import doctest

import pytest
from doubles import corpus_kemdy19
from doubles.corpus_kemdy20 import (
    FIRST,
    SEGMENTS,
    annotate,
    count,
    lay,
    one,
    recording,
    say,
    sound,
    table,
    unexpected,
    wear,
    where,
)

from corpora import kemdy19, kemdy20, preparation
from corpora.layouts import kemdy20 as layout
from corpora.preparation import audit, columns
from corpora.synthetic import kemdy20 as synthetic
from utils import UserError


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "KEMDy20_v1_1")


# --- a clean folder ------------------------------------------------------------------------------


def test_utterances_come_in_order_with_every_column_of_the_contract(folder):
    utterances, troubles = kemdy20.Reader.read(folder)
    assert list(utterances.columns) == columns.COLUMNS
    assert utterances["segment"].tolist() == SEGMENTS
    assert set(utterances["role"]) == set(kemdy20.ROLES) == {"speaker"}
    last = one(utterances, "Sess01_script05_User002F_002")
    assert (last["corpus"], last["session"], last["kind"]) == ("kemdy20", 1, "talk")
    assert (last["dialogue"], last["speaker"]) == ("Sess01_script05", "Sess01_User002F")
    assert (last["start"], last["end"]) == (7.25, 8.2500001)
    assert last["wav"] == "wav/Session01/Sess01_script05_User002F_002.wav"
    assert (last["text"], last["quarantine"]) == ("안녕 User002F_002", "")
    assert (last["emotion"], last["votes_neutral"]) == ("neutral", 10)
    assert (last["valence"], last["arousal"]) == (4.0, 3.0)
    assert unexpected(troubles).empty


def test_two_users_of_one_gender_are_two_speakers(folder):
    utterances, _ = kemdy20.Reader.read(folder)
    assert utterances["speaker"].unique().tolist() == ["Sess01_User001F", "Sess01_User002F"]
    numbered = utterances.groupby("speaker")["segment"].nunique()
    assert numbered.tolist() == [4, 4]


def test_sources_are_the_files_the_tables_depend_on_and_reading_changes_none(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert set(kemdy20.Reader.sources(folder)) == {path for path in before if path.is_file()}
    kemdy20.Reader.read(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_forty_sessions_are_read_and_a_41st_is_none_of_them(folder):
    for session in (12, 17, 40, 41):
        lay(folder, session)
    utterances, troubles = kemdy20.Reader.read(folder)
    assert utterances["session"].unique().tolist() == [1, 12, 17, 40]
    assert unexpected(troubles).empty


def test_a_header_without_its_spaces_is_the_same_header_and_another_one_is_refused(folder):
    text = table(folder).read_text()
    table(folder).write_text(text.replace(", ", ",").replace("\n ,", "\n,", 1))
    assert len(kemdy20.Reader.read(folder)[0]) == len(SEGMENTS)
    table(folder).write_text(text.replace("Eval03M", "Eval03F", 1))
    with pytest.raises(UserError, match=r"needs 'Eval03M' at line 1 column 14 \(header\)"):
        kemdy20.Reader.read(folder)


def test_an_annotation_of_43_columns_is_refused(folder):
    lines = table(folder).read_text().splitlines()
    table(folder).write_text("\n".join(line + ",,,,,," for line in lines))
    with pytest.raises(UserError, match="Sess01_eval.csv needs 37 columns, line 1 has 43"):
        kemdy20.Reader.read(folder)


def test_a_folder_without_annotation_wav_or_rows_is_refused(folder, tmp_path):
    (tmp_path / "wav").mkdir()
    with pytest.raises(UserError, match=r"needs annotation/SessNN_eval.csv; it has none"):
        kemdy20.Reader.read(tmp_path)
    annotate(folder, 1, [])
    with pytest.raises(UserError, match="list no segment"):
        kemdy20.Reader.read(folder)
    (folder / "wav").rename(folder / "sound")
    with pytest.raises(UserError, match="KEMDy20 needs .*wav"):
        kemdy20.Reader.read(folder)


# --- which corpus it is --------------------------------------------------------------------------


def test_kemdy19_and_kemdy20_are_told_apart_by_their_trees(folder, tmp_path):
    other = corpus_kemdy19.lay(tmp_path / "KEMDy19")
    assert preparation.recognise(str(folder)) == ("kemdy20", folder)
    assert preparation.recognise(str(other)) == ("kemdy19", other)
    assert not kemdy20.Reader.matches(other) and not kemdy19.Reader.matches(folder)


def test_a_folder_of_both_must_be_named(folder):
    corpus_kemdy19.lay(folder)
    with pytest.raises(UserError, match="looks like kemdy19 and kemdy20; say which"):
        preparation.recognise(str(folder))
    assert preparation.recognise(f"kemdy20:{folder}") == ("kemdy20", folder)


def test_listener_labels_are_an_error_that_says_which_roles_there_are(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    corpus = preparation.open_corpus(str(folder))
    assert len(corpus.role("speaker")) == len(SEGMENTS)
    with pytest.raises(UserError, match="kemdy20 has no 'listener' labels; it has: speaker"):
        corpus.role("listener")


# --- the session of v1.0 -------------------------------------------------------------------------


def test_ids_with_the_prefix_of_another_session_get_that_of_their_file_and_are_counted(folder):
    segments = [s.replace("Sess01", "Sess17").replace("User00", "User08") for s in SEGMENTS]
    lay(folder, 17, segments)
    written = table(folder, 17).read_text().replace("Sess17", "Sess16")
    table(folder, 17).write_text(written)
    utterances, troubles = kemdy20.Reader.read(folder)
    mended = utterances[utterances["session"] == 17]
    assert mended["segment"].tolist() == segments
    assert set(mended["speaker"]) == {"Sess17_User081F", "Sess17_User082F"}
    assert set(mended["dialogue"]) == {"Sess17_script01", "Sess17_script05"}
    assert (mended["wav"].str.startswith("wav/Session17/Sess17_")).all()
    assert (mended["quarantine"] == "").all() and (mended["text"] != "").all()
    rows = unexpected(troubles)
    assert set(rows["treatment"]) == {"converted"}
    assert where(troubles, "session of a Segment ID") == segments
    assert rows["detail"].tolist() == [s.replace("Sess17", "Sess16") for s in segments]


def test_recordings_named_after_another_session_belong_to_that_of_their_folder(folder):
    for ending in ("wav", "txt"):
        path = recording(folder, FIRST, ending)
        path.rename(path.with_name(path.name.replace("Sess01", "Sess40")))
    utterances, troubles = kemdy20.Reader.read(folder)
    first = one(utterances, FIRST)
    assert first["wav"] == "wav/Session01/Sess40_script01_User001F_001.wav"
    assert (first["text"], first["quarantine"]) == ("안녕 User001F_001", "")
    assert count(troubles, "converted", "session of a wav file") == 1
    assert count(troubles, "converted", "session of a txt file") == 1
    sound(folder, FIRST)  # the one with the right name is the right one
    assert one(kemdy20.Reader.read(folder)[0], FIRST)["wav"] == f"wav/Session01/{FIRST}.wav"


# --- recordings ----------------------------------------------------------------------------------


def test_silent_wavs_are_masked_and_their_rows_kept(folder):
    silent = SEGMENTS[4:6]
    for segment in silent:
        sound(folder, segment, 0)
    utterances, _ = kemdy20.Reader.read(folder)
    utterances, troubles = audit.audit(utterances, folder)
    assert where(troubles, "silent wav") == silent
    assert utterances.loc[utterances["silent"], "segment"].tolist() == silent
    assert (utterances["quarantine"] == "").all() and (utterances["emotion"] != "").all()


def test_missing_recordings_are_masked_or_quarantined_and_surplus_ones_reported(folder):
    recording(folder, SEGMENTS[0], "wav").unlink()
    recording(folder, SEGMENTS[1], "txt").unlink()
    for ending in ("wav", "txt"):
        recording(folder, SEGMENTS[2], ending).unlink()
    more = [f"Sess01_script02_User001F_00{n}" for n in (1, 2)]  # five wavs have no row
    sound(folder, more[0])
    say(folder, more[1], "남는 글")
    for name in ("notes.wav", "Sess01_script03_User001F_001.TextGrid"):
        (folder / "wav/Session01" / name).touch()
    utterances, troubles = kemdy20.Reader.read(folder)
    assert utterances["segment"].tolist() == SEGMENTS
    assert where(troubles, "wav missing") == SEGMENTS[:1]
    assert where(troubles, "txt missing") == SEGMENTS[1:2]
    assert one(utterances, SEGMENTS[2])["quarantine"] == "neither wav nor txt"
    assert where(troubles, "neither wav nor txt") == SEGMENTS[2:3]
    assert where(troubles, "wav without row") == more[:1]
    assert where(troubles, "txt without wav and row") == more[1:]
    assert len(unexpected(troubles)) == 5


# --- signals -------------------------------------------------------------------------------------


E4 = "1598868000.0\n4.0\n"  # start time, rate
PERSON = "Sess01_script05_User001F"


def test_ragged_sensor_files_become_one_tidy_table(folder):
    talk = f"{PERSON}_001"
    skin = f"0.31,10:00\n0.32,10:01,{talk}\n0.33,10:02,\n0.34,10:03,{talk},\n"
    heart = f"0.8,0.81,10:04\n1.6,0.79,10:05,{talk},\n2.4,0.8,10:06,\n"
    wear(folder, "EDA", PERSON, E4 + skin)
    wear(folder, "IBI", PERSON, "1598868000.0,IBI\n" + heart)
    wear(folder, "TEMP", PERSON, f"{E4}33.5,10:07\n")
    signals = kemdy20.Reader.signals(folder)
    assert list(signals.columns) == preparation.SIGNALS
    assert signals["signal"].tolist() == ["EDA"] * 4 + ["IBI"] * 3 + ["TEMP"]
    assert signals["value"].tolist() == [0.31, 0.32, 0.33, 0.34, 0.81, 0.79, 0.8, 33.5]
    assert signals["timestamp"].tolist() == [f"10:0{n}" for n in range(8)]
    assert signals["segment"].tolist() == ["", talk, "", talk, "", talk, "", ""]
    assert signals["time"].dropna().tolist() == [0.8, 1.6, 2.4]
    assert set(signals["subject"]) == {"Sess01_User001F"} and set(signals["session"]) == {1}


@pytest.mark.parametrize("text", ["", "1598868000.0,IBI\n"])
def test_an_ibi_file_without_beats_has_no_rows(folder, text):
    wear(folder, "IBI", PERSON, text)
    wear(folder, "EDA", PERSON, f"{E4}0.5,10:00\n")
    assert kemdy20.Reader.signals(folder)["signal"].tolist() == ["EDA"]


@pytest.mark.parametrize(
    ("kind", "line"),
    [("EDA", "high,10:00\n"), ("IBI", "1,2,3,4,5,6\n"), ("TEMP", "1,2,3,4,5,6,7\n")],
)
def test_a_sensor_file_that_is_something_else_is_refused_unless_known_to_be_unusable(
    folder, kind, line
):
    head = E4 + "1,2\n" if kind != "IBI" else "1598868000.0,IBI\n1,2,3\n"
    path = wear(folder, kind, PERSON, head + line)
    with pytest.raises(UserError, match=f"{PERSON}.csv"):
        kemdy20.Reader.signals(folder, [kind])
    path.rename(path.with_name("Sess01_script05_User002M.csv"))
    assert kemdy20.Reader.signals(folder, [kind]).empty


def test_signals_are_read_for_the_sensors_and_sessions_that_are_asked_for(folder):
    for session in ("01", "12"):
        for kind in ("EDA", "TEMP"):
            wear(folder, kind, f"Sess{session}_script01_User081F", f"{E4}1,10:00\n")
    wear(folder, "EDA", "Sess02_script01_User003M", f"{E4}this would be an error\n")
    signals = kemdy20.Reader.signals(folder, ["EDA"], sessions=[12])
    assert signals[["session", "signal"]].values.tolist() == [[12, "EDA"]]
    assert kemdy20.Reader.signals(folder, ["IBI"]).empty


def test_signals_of_a_session_with_a_wrong_prefix_name_the_segments_of_its_rows(folder):
    path = wear(
        folder, "EDA", "Sess17_script01_User083F", f"{E4}1,10:00,Sess16_script01_User083F_001\n"
    )
    path.rename(path.with_name("Sess16_script01_User083F.csv"))
    found = kemdy20.Reader.signals(folder).iloc[0]
    assert (found["session"], found["subject"]) == (17, "Sess17_User083F")
    assert found["segment"] == "Sess17_script01_User083F_001"


def test_signals_that_lead_out_of_the_folder_are_refused(folder, tmp_path):
    path = wear(folder, "EDA", PERSON, "")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere.csv")
    (tmp_path / "elsewhere.csv").write_text(f"{E4}1,10:00\n")
    with pytest.raises(UserError, match=f"{PERSON}.csv is unreadable"):
        kemdy20.Reader.signals(folder)


# --- what the docstrings say ---------------------------------------------------------------------


@pytest.mark.parametrize("module", [layout, synthetic])
def test_examples_of_the_docstrings_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed

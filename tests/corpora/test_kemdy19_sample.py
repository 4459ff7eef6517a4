"""A sample in the layout of KEMDy19: it lies on disk as the corpus and reads back the same."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.corpus_kemdy19 import HEADER, count, one, order, recording, table

import constants
from corpora import kemdy19
from metric import VOTES
from utils import UserError


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
    kemdy19.Reader.write_sample(tmp_path, frame, tone)
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
    kemdy19.Reader.write_sample(tmp_path, frame, tone)
    utterances, troubles = kemdy19.Reader.read(tmp_path)
    assert set(troubles["treatment"]) == {"converted"}  # CRLF
    assert order(utterances) == frame["segment"][:4].tolist()
    for role, emotion in (("speaker", "neutral;surprise"), ("listener", "sad")):
        row = one(utterances, "Sess02_script01_M001", role)
        assert (row["emotion"], row["valence"], row["arousal"]) == (emotion, 2.1, 4.0)
        assert (row["text"], row["start"], row["end"]) == ("그래 응 M001", 1.25, 2.5)
    assert list(row[VOTES]) == [0, 0, 10, 0, 0, 0, 0]


def test_a_wave_lies_behind_44_bytes_of_header_and_reads_back(frame, tmp_path):
    kemdy19.Reader.write_sample(tmp_path, frame, tone)
    path = recording(tmp_path, "Sess02_script01_F001", "wav")
    assert path.stat().st_size == 44 + 2 * 800
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == constants.SAMPLE_RATE
    np.testing.assert_allclose(samples, tone(2), atol=0.5 / 32768)


def test_a_loud_wave_is_clipped_not_wrapped(frame, tmp_path):
    kemdy19.Reader.write_sample(tmp_path, frame, lambda i: np.array([2.0, -2.0, 1.0]))
    samples, _ = soundfile.read(recording(tmp_path, "Sess01_script01_F001", "wav"), dtype="int16")
    assert samples.tolist() == [32767, -32768, 32767]


def test_the_same_sample_has_the_same_bytes(frame, tmp_path):
    trees = []
    for name in ("one", "two"):
        kemdy19.Reader.write_sample(tmp_path / name, frame, tone)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        trees.append([(p.relative_to(tmp_path / name), p.read_bytes()) for p in files])
    assert trees[0] == trees[1]


def test_what_is_absent_is_not_laid_down(frame, tmp_path):
    frame.loc[[0, 4], "transcript"] = None
    kemdy19.Reader.write_sample(tmp_path, frame, lambda i: None if i == 1 else tone(i))
    assert not recording(tmp_path, "Sess01_script01_F001", "txt").exists()
    assert not recording(tmp_path, "Sess01_script01_M001", "wav").exists()
    _, troubles = kemdy19.Reader.read(tmp_path)
    assert count(troubles, "masked", "txt missing") == count(troubles, "masked", "wav missing") == 2


def test_ratings_are_made_from_votes_and_means_where_no_raters_are_given(frame, tmp_path):
    plain = frame.drop(columns=["rater_emotion", "rater_valence", "rater_arousal"])
    plain = plain.assign(**dict.fromkeys(VOTES, 0), valence=2.3, arousal=4.0)
    plain = plain.assign(votes_angry=7, votes_happy=3)
    kemdy19.Reader.write_sample(tmp_path, plain, tone)
    utterances, troubles = kemdy19.Reader.read(tmp_path)
    assert set(utterances["emotion"]) == {"angry"} and set(utterances["valence"]) == {2.3}
    assert set(utterances["votes_happy"]) == {3}
    assert not troubles["reason"].str.contains("differs").any()


def test_signals_of_a_sample_agree_with_the_cells_of_its_annotation(frame, tmp_path):
    kemdy19.Reader.write_sample(tmp_path, frame, tone)
    signals = kemdy19.Reader.signals(tmp_path)
    assert set(signals["signal"]) == {"ECG", "EDA", "TEMP"}
    assert {"", "Sess01_script01_F001", "Sess01_script01_M001"} <= set(signals["segment"])
    woman = signals[(signals["subject"] == "Sess01_F") & (signals["signal"] == "EDA")]
    first = woman[woman["segment"] == "Sess01_script01_F001"].iloc[0]
    cells = table(tmp_path, 1, "F").read_text().splitlines()[2].split(",")
    assert float(cells[5]) == first["value"]


def test_a_sample_that_cannot_be_written_says_so(frame, tmp_path):
    (tmp_path / "annotation").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*Session01_F_res.csv"):
        kemdy19.Reader.write_sample(tmp_path, frame, tone)

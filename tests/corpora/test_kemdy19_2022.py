"""Tables of KEMDy19 that were written in 2022."""

import pandas as pd
import pytest
from doubles.corpus_kemdy19 import SEGMENTS, count, one, order, where

from corpora import kemdy19, kemdy19_2022
from corpora.preparation import columns
from utils import UserError


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
    assert kemdy19_2022.Reader.matches(folder_2022)
    utterances, troubles = kemdy19_2022.Reader.read(folder_2022)
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
    two, _ = kemdy19_2022.Reader.read(folder_2022)
    tables = [folder_2022 / f"df_{role}.csv" for role in kemdy19.ROLES]
    pd.concat([pd.read_csv(path) for path in tables]).to_csv(tmp_path / "annotation.csv")
    for path in tables:
        path.unlink()
    pd.testing.assert_frame_equal(kemdy19_2022.Reader.read(folder_2022)[0], two)


def test_sources_of_2022_are_tables_and_sounds(folder_2022):
    names = [path.name for path in kemdy19_2022.Reader.sources(folder_2022)]
    assert names == ["df_speaker.csv", "df_listener.csv", *(f"{s}.wav" for s in SEGMENTS[:2])]


def test_bad_rows_of_2022_are_quarantined_and_repeated_ones_left_out(tmp_path):
    rows = [
        (SEGMENTS[0], "speaker", "angry"),
        ("nobody", "speaker", "sad"),
        (SEGMENTS[0], "speaker", "happy"),
        (SEGMENTS[1], "speaker", "bored"),
    ]
    table_2022(rows).to_csv(tmp_path / "annotation.csv", index=False)
    utterances, troubles = kemdy19_2022.Reader.read(tmp_path)
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
        kemdy19_2022.Reader.read(folder_2022)


def test_tables_that_are_written_today_are_not_taken_for_those_of_2022(tmp_path):
    (tmp_path / "annotation.csv").write_text(",".join(columns.COLUMNS) + "\n")
    assert not kemdy19_2022.Reader.matches(tmp_path)
    with pytest.raises(UserError, match="needs the columns"):
        kemdy19_2022.Reader.read(tmp_path)

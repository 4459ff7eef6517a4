"""A synthetic KEMDy20: its bytes, what is in it, and the command that makes it."""

import csv
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.corpus_kemdy20 import HEADER, recording, table
from doubles.shared import FLAGS

import main
from constants import EMOTIONS
from corpora import kemdy20, sample
from corpora.layouts import kemdy20 as layout
from corpora.preparation import audit, corpus
from corpora.synthetic import kemdy20 as synthetic
from metric import VOTES
from reporting import corpus_tables
from utils import UserError, read_json


def where(troubles, reason):
    return troubles.loc[troubles["reason"] == reason, "segment"].tolist()


# --- laying a sample down ------------------------------------------------------------------------


@pytest.fixture
def frame():
    """Two sessions of two segments with raters."""
    rows = []
    for session in (1, 2):
        for n, user in enumerate(("User001F", "User002M")):
            prefix = f"Sess{session:02d}_script01"
            rows.append(
                {
                    "role": "speaker",
                    "session": session,
                    "dialogue": prefix,
                    "segment": f"{prefix}_{user}_001",
                    "speaker": f"Sess{session:02d}_{user}",
                    "start": 1.5 * n,
                    "end": 99.0,
                    "transcript": f"l/ 그래 {n} u/",
                    "rater_emotion": ["disgust"] * 4 + ["happy"] * 4 + ["fear", "sad"],
                    "rater_valence": [2] * 9 + [3],
                    "rater_arousal": [4] * 10,
                }
            )
    return pd.DataFrame(rows)


def tone(i):
    return np.sin(np.arange(801) * (i + 1) / 9).astype(np.float32) / 2


def test_a_sample_lies_on_disk_cell_for_cell_as_the_corpus(frame, tmp_path):
    kemdy20.Reader.write_sample(tmp_path, frame, tone)
    data = table(tmp_path).read_bytes()
    lines = data.decode("ascii").split("\n")
    assert b"\r" not in data and lines[:2] == list(HEADER) and lines[-1] == ""
    rated = [c for e in ["disgust"] * 4 + ["happy"] * 4 + ["fear", "sad"] for c in (e, "2", "4")]
    rated[-2] = "3"
    name = "Sess01_script01_User002M_001"
    assert lines[3].split(",") == [
        "2",
        "1.50",
        "1.5500625",
        name,
        "happy;disqust",
        "2.1",
        "4",
        *rated,
    ]
    assert recording(tmp_path, name, "txt").read_bytes() == "l/ 그래 1 u/\r\n".encode("cp949")
    assert recording(tmp_path, name, "wav").stat().st_size == 44 + 2 * 801
    with wave.open(str(recording(tmp_path, name, "wav"))) as file:
        assert file.getparams()[:4] == (1, 2, 16_000, 801)
    tree = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert tree == {"annotation", "wav", "EDA", "IBI", "TEMP"}


@pytest.mark.parametrize(
    ("raters", "total"),
    [
        (["sad", "fear", "disgust", "neutral", "angry"] * 2, "angry;neutral;disqust;fear;sad"),
        (
            ["neutral", "angry", "surprise", "happy", "fear"] * 2,
            "happy;surprise;angry;neutral;fear",
        ),
    ],
)
def test_a_tie_of_a_sample_is_written_in_the_order_of_the_corpus(frame, tmp_path, raters, total):
    kemdy20.Reader.write_sample(tmp_path, frame.assign(rater_emotion=[raters] * 4), tone)
    assert table(tmp_path).read_text().splitlines()[2].split(",")[4] == total


def test_a_sample_reads_back_as_what_was_laid_down(frame, tmp_path):
    kemdy20.Reader.write_sample(tmp_path, frame, tone)
    utterances, troubles = kemdy20.Reader.read(tmp_path)
    assert set(troubles["treatment"]) == {"converted"}  # CP949, CRLF, disqust
    assert utterances["segment"].tolist() == frame["segment"].tolist()
    second = utterances.iloc[1]
    assert (second["emotion"], second["valence"], second["arousal"]) == ("happy;disgust", 2.1, 4)
    assert list(second[VOTES]) == [4, 0, 1, 1, 0, 0, 4]
    assert (second["text"], second["speaker"]) == ("그래 1", "Sess01_User002M")
    np.testing.assert_allclose(utterances["end"] - utterances["start"], 801 / 16_000, atol=1e-3)


def test_what_is_absent_is_not_laid_down_and_listener_rows_are_left_out(frame, tmp_path):
    frame.loc[0, "transcript"] = None
    heard = frame.assign(role="listener", rater_emotion=[["angry"] * 10] * 4)
    both = pd.concat([heard, frame])
    kemdy20.Reader.write_sample(tmp_path, both, lambda i: None if i == 1 else tone(i))
    utterances, troubles = kemdy20.Reader.read(tmp_path)
    assert not utterances["emotion"].str.contains("angry").any() and len(utterances) == 4
    assert where(troubles, "txt missing") == frame["segment"][:1].tolist()
    assert where(troubles, "wav missing") == frame["segment"][1:2].tolist()
    assert utterances["end"][1] == 99.0


def test_sensors_of_a_sample_are_ragged_and_lack_what_the_corpus_lacks(frame, tmp_path):
    frame = frame.assign(
        **{
            name: frame[name].str.replace("script01", "script05")
            for name in ("dialogue", "segment")
        }
    )
    kemdy20.Reader.write_sample(tmp_path, frame, tone)
    there = sorted(path.stem for path in (tmp_path / "EDA").rglob("*.csv"))
    assert there == [
        "Sess01_script05_User001F",
        "Sess02_script05_User001F",
        "Sess02_script05_User002M",
    ]
    for kind, head in (("EDA", 2), ("TEMP", 2), ("IBI", 1)):
        path = tmp_path / kind / "Session01/Sess01_script05_User001F.csv"
        lines = path.read_text().splitlines()
        widths = {line.count(",") + 1 for line in lines[head:]}
        assert widths == ({3, 4} if kind == "IBI" else {2, 3})
        assert all(float(line.split(",")[0]) >= 0 for line in lines)
        assert any(line.endswith(",") for line in lines)  # a comma too many
    signals = kemdy20.Reader.signals(tmp_path)
    assert set(signals["segment"]) == {"", *frame["segment"]} - {"Sess01_script05_User002M_001"}
    assert pd.to_datetime(signals["timestamp"]).notna().all()


# --- the sample corpus in this layout ------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    return synthetic.plan(40, 6, 6, 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "corpus"
    sample.Reader.write(folder, "kemdy20", sessions=4, dialogues=2, utterances=4)
    return folder


def test_labels_of_a_sample_have_the_shares_of_the_corpus(whole):
    _, rows = whole
    labels = rows["emotion"].where(~rows["emotion"].str.contains(";"), "tie")
    counts = {
        "neutral": 11_120,
        "happy": 1_183,
        "surprise": 156,
        "angry": 144,
        "sad": 121,
        "disgust": 61,
        "fear": 43,
        "tie": 634,
    }
    for name, number in counts.items():
        assert (labels == name).mean() == pytest.approx(number / 13_462, abs=0.002), name
    assert 1400 < len(rows) < 1500


def test_each_fold_of_eight_sessions_has_every_label_and_every_dialogue_something(whole):
    _, rows = whole
    for _, fold in rows.groupby((rows["session"] - 1) // 8):
        assert set(EMOTIONS) <= set(fold["emotion"])
    assert rows["dialogue"].nunique() == 40 * 6


def test_a_session_of_a_sample_has_two_users_who_are_in_no_other_one(whole):
    spoken, rows = whole
    assert spoken["segment"].tolist() == rows["segment"].tolist()
    assert rows["segment"].is_unique and rows["segment"].map(layout.parse).notna().all()
    users = rows.groupby("session")["speaker"].unique().map(sorted)
    for session, pair in users.items():
        numbers = {12: [81, 82], 17: [83, 84]}.get(session, [2 * session - 1, 2 * session])
        assert [int(name[-4:-1]) for name in pair] == numbers
    pairs = pd.Series(["".join(sorted(name[-1] for name in pair)) for pair in users])
    assert pairs.value_counts().to_dict() == {"MM": 15, "FF": 13, "FM": 12}
    assert [name[-1] for name in users[12] + users[17]] == ["F"] * 4
    assert set(rows["dialogue"].str[7:]) == {f"script0{n}" for n in range(1, 7)}
    for _, numbers in rows["segment"].groupby([rows["dialogue"], rows["speaker"]]):
        assert [int(name[-3:]) for name in numbers] == list(range(1, len(numbers) + 1))


def test_talk_of_a_sample_is_improvised_and_marked_as_the_corpus_is(whole):
    spoken, rows = whole
    lines = rows.groupby("session")["text"].apply(set)
    often = pd.Series([line for said in lines for line in said]).value_counts()
    assert (often >= 35).sum() == 0  # no script that every session reads
    text = rows["transcript"]
    assert not text.str.contains(r"o/|s/|[()+*]").any() and (text.str.strip() != "").all()
    assert not text.str.endswith("c/").any() and text.str.count("c/").max() == 1
    assert text.str.contains("b/").any() and spoken["silent"].sum() == 3


def test_a_sample_in_this_layout_is_recognised_read_and_whole(small):
    assert corpus.recognise(str(small))[0] == "kemdy20"
    mark = read_json(small / "SYNTHETIC.json")
    assert (mark["layout"], mark["sessions"], mark["utterances"]) == ("kemdy20", 4, 4)
    utterances, troubles = kemdy20.Reader.read(small)
    assert set(troubles["treatment"]) == {"converted"}
    assert (utterances["quarantine"] == "").all() and utterances["session"].nunique() == 4
    heard, masked = audit.audit(utterances, small)
    assert 1 <= (masked["reason"] == "silent wav").sum() <= 3
    np.testing.assert_allclose(heard["duration"], heard["end"] - heard["start"], atol=1e-3)
    assert set(corpus_tables.signals("kemdy20", small, session=3)["signal"]) == {
        "EDA",
        "IBI",
        "TEMP",
    }


def test_equal_seeds_give_equal_bytes_and_another_seed_does_not(tmp_path):
    def tree(name, seed):
        sample.Reader.write(tmp_path / name, "kemdy20", 2, 1, 2, seed)
        files = sorted(p for p in (tmp_path / name).rglob("*.*") if p.is_file())
        return [(p.relative_to(tmp_path / name), p.read_bytes()) for p in files]

    assert tree("one", 0) == tree("two", 0) != tree("three", 1)


def test_no_more_sessions_than_the_layout_names_are_made(tmp_path):
    with pytest.raises(UserError, match="sessions of a sample must be 1 to 40, not 41"):
        sample.Reader.write(tmp_path / "c", "kemdy20", sessions=41)
    with pytest.raises(UserError, match="dialogues of a sample must be 1 to 6, not 7"):
        sample.Reader.write(tmp_path / "c", "kemdy20", dialogues=7)
    with pytest.raises(UserError, match="no sample is laid out as 'sample'; layouts: .*kemdy20"):
        sample.Reader.write(tmp_path / "c", "sample")


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def place(small, tmp_path, monkeypatch):
    """A folder to work in where a few sessions stand for the whole sample."""
    monkeypatch.chdir(tmp_path)
    write = sample.Reader.write
    monkeypatch.setattr(
        sample.Reader,
        "write",
        lambda folder, layout="kemdy19": write(
            folder, layout, sessions=1, dialogues=1, utterances=2
        ),
    )
    return tmp_path


def test_prepare_sample_writes_the_layout_into_a_folder_of_its_own_once(place, capsys):
    assert main.main(["prepare", "sample", "--layout", "kemdy20"]) == 0
    assert "kemdy20 in data/sample_kemdy20 (synthetic corpus)" in capsys.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in Path("data/sample_kemdy20").rglob("*")}
    assert main.main(["prepare", "sample", "--layout", "kemdy20"]) == 0
    assert {p: p.stat().st_mtime_ns for p in Path("data/sample_kemdy20").rglob("*")} == before
    assert main.main(["prepare", "--data", "data/sample_kemdy20"]) == 0
    assert main.main(["prepare", "sample"]) == 0
    assert "kemdy19 in data/sample (synthetic corpus)" in capsys.readouterr().out


def test_prepare_sample_says_what_it_cannot_do(place, capsys):
    for words, message in (
        (["sample", "--layout", "kemdy"], "no 'kemdy' in corpora/; there are: "),
        (["sample", "--layout", "kemdy19_2022"], "no sample is laid out as 'kemdy19_2022'"),
        (["--layout", "kemdy20"], "--layout kemdy20 needs the word sample"),
        (["data/mine"], "prepare needs --data, or sample, or sample:DIR; it got 'data/mine'"),
        (["sample", "--data", "a"], "prepare needs --data a or sample, not both"),
        (["sample:"], "prepare needs --data, or sample, or sample:DIR; it got 'sample:'"),
    ):
        assert main.main(["prepare", *words]) == 2
        assert message in capsys.readouterr().err
    assert not Path("data/mine").exists() and not Path("data/sample").exists()
    assert main.main(["prepare", "sample:here", "--layout", "kemdy20"]) == 0
    assert main.main(["prepare", "sample:here", "--layout", "kemdy19"]) == 2
    assert "here holds a sample laid out as kemdy20, not kemdy19" in capsys.readouterr().err


def test_training_on_this_layout_ends_with_scores_and_has_no_listener(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--data", str(small), "--modality", "text", *FLAGS]
    assert main.main([*flags, "--SorL", "speaker", "--test_split", "3", "4"]) == 0
    (run,) = Path("exp").iterdir()
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["corpus"] for row in rows} == {"kemdy20"} and {row["session"] for row in rows} == {
        "3",
        "4",
    }
    assert main.main([*flags, "--SorL", "listener", "--test_split", "3", "4"]) == 2

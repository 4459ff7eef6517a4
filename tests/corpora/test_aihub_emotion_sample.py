"""A synthetic AI Hub 263: its bytes, what is in it, and the command that makes it."""

import csv
import io
import shutil
import wave
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.corpus_aihub_emotion import HEADER, RELEASE, lay
from doubles.settings import settings_with
from doubles.shared import FLAGS

import main
from corpora import aihub_emotion, sample
from corpora.layouts import aihub_emotion as layout
from corpora.preparation import audit, corpus
from corpora.preparation.transcripts import normalised
from corpora.synthetic import aihub_emotion as synthetic
from features.store import extraction
from utils import UserError, read_json

HEARD = settings_with()
TABLE = f"annotation/{RELEASE}.csv"


def tone(i):
    """A tenth of a second at 16 kHz, 440 Hz and more."""
    return np.sin(2 * np.pi * 440 * (i + 1) * np.arange(1600) / 16_000).astype(np.float32) / 2


def table_of(folder, name=TABLE):
    text = (folder / name).read_bytes().decode("cp949")
    return list(csv.reader(io.StringIO(text, "")))


# --- laying a sample down ------------------------------------------------------------------------


@pytest.fixture
def frame():
    """Nine rows of which one is of another release."""
    return pd.DataFrame(
        {
            "segment": [f"{n:024x}" for n in range(9)],
            "text": ["아, 정말?"] * 9,
            "situation": ["sad"] * 9,
            "rater_emotion": ["happy;sad;angry;neutral;fear"] * 9,
            "rater_intensity": ["0;1;2;0;1"] * 9,
            "age": ["31"] * 9,
            "gender": ["female"] * 9,
            "release": [RELEASE] * 8 + ["4차년도"],
        }
    )


def test_a_sample_lies_on_disk_cell_for_cell_as_the_corpus(frame, tmp_path):
    aihub_emotion.Reader.write_sample(tmp_path, frame, lambda i: None if i == 1 else tone(i))
    data = (tmp_path / TABLE).read_bytes()
    lines = data.decode("cp949").split("\r\n")
    assert lines[0] == HEADER and lines[-1] == "" and data.count(b"\n") == data.count(b"\r\n") == 9
    assert lines[1] == (
        '000000000000000000000000,"아, 정말?",sadness,Happiness,0,Sadness,1,Angry,2,Neutral,0,'
        "Fear,1,31,female"
    )
    assert lines[8].split(",")[3:9] == ["sadness", "happiness", "0", "sadness", "1", "angry"]
    assert table_of(tmp_path, "annotation/4차년도.csv")[1][2:8] == [
        "sad",
        "Happiness",
        "0",
        "Sad",
        "1",
        "Anger",
    ]
    with wave.open(str(tmp_path / f"wav/{0:024x}.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 48_000, 4800)
    names = {path.name for path in (tmp_path / "wav").iterdir()}
    assert names == {f"{n:024x}.wav" for n in range(9) if n != 1}
    assert {path.name for path in tmp_path.iterdir()} == {"annotation", "wav"}


def test_a_wave_keeps_its_pitch_and_loudness_at_48_khz(frame, tmp_path):
    aihub_emotion.Reader.write_sample(tmp_path, frame[:1], tone)
    with wave.open(str(tmp_path / f"wav/{0:024x}.wav")) as file:
        samples = np.frombuffer(file.readframes(4800), "<i2") / 32768
    assert np.abs(np.fft.rfft(samples)).argmax() == 44  # 440 Hz of a tenth of a second
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_what_was_read_can_be_laid_down_again_and_reads_alike(tmp_path):
    lay(tmp_path / "one")
    utterances, _ = aihub_emotion.Reader.read(tmp_path / "one")
    aihub_emotion.Reader.write_sample(tmp_path / "two", utterances, tone)
    again, troubles = aihub_emotion.Reader.read(tmp_path / "two")
    pd.testing.assert_frame_equal(again, utterances)
    assert set(troubles["treatment"]) == {"converted"}


# --- the sample corpus in this layout ------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "corpus"
    sample.Reader.write(folder, "aihub_emotion", sessions=4, dialogues=3, utterances=4)
    return folder


@pytest.fixture(scope="module")
def whole():
    """What the whole sample says."""
    return synthetic.plan(20, 10, 6, 0)


def test_a_sample_is_recognised_and_read_without_a_trouble_but_its_encoding(small):
    assert corpus.recognise(str(small)) == ("aihub_emotion", small)
    utterances, troubles = aihub_emotion.Reader.read(small)
    assert len(utterances) == 4 * 3 * 4 and (utterances["quarantine"] == "").all()
    assert set(troubles["reason"]) == {"annotation in CP949", "annotation with CRLF line ends"}
    heard, troubles = audit.audit(utterances, small)
    assert (heard["quarantine"] == "").all() and not heard["silent"].any()
    assert set(troubles["reason"]) == {"48000 Hz to 16000"}
    assert heard["duration"].between(0.3, 30).all()
    mark = read_json(small / "SYNTHETIC.json")
    assert (mark["synthetic"], mark["layout"], mark["utterances"]) == (True, "aihub_emotion", 4)
    assert {path.name for path in small.iterdir()} == {"annotation", "wav", "SYNTHETIC.json"}


def test_a_few_recordings_occur_twice_with_their_words_and_other_ratings(small):
    utterances, _ = aihub_emotion.Reader.read(small)
    heard, _ = audit.audit(utterances, small)
    twice = heard[heard["wav_hash"].duplicated(keep=False)]
    assert len(twice) == 2 * synthetic.DUPLICATES
    words = normalised(twice["text"]).groupby(twice["wav_hash"]).nunique()
    assert (words == 1).all() and twice["segment"].is_unique
    assert (twice.groupby("wav_hash")["rater_emotion"].nunique() > 1).any()
    groups = aihub_emotion.Reader.grouped(heard).loc[twice.index].groupby("wav_hash")["session"]
    assert (groups.nunique() == 1).all()


def test_the_whole_sample_has_the_shares_of_the_corpus(whole):
    spoken, table = whole
    assert len(spoken) == len(table) == 1200 and table["segment"].map(layout.is_id).all()
    assert table["segment"].is_unique
    counts = pd.Series(synthetic.COUNTS)
    assert counts.sum() == 19_374
    shares = table["situation"].value_counts(normalize=True)
    assert (shares - counts / counts.sum()).abs().max() < 0.012
    agreed = (aihub_emotion.Reader.labelled(table, "consensus3")["emotion"] != "").mean()
    assert agreed == pytest.approx(36_680 / 43_991, abs=0.03)
    again = normalised(table["transcript"]).duplicated().mean()
    assert (19_374 - 18_651) / 19_374 < again < 0.15
    assert not table["transcript"].str.contains(r"[bclnNosu]/|[()+*]").any()


def test_raters_of_the_sample_often_differ_from_the_situation_and_from_one_another(whole):
    _, table = whole
    majority = aihub_emotion.Reader.labelled(table, "majority")
    single = ~majority["emotion"].str.contains(";")
    assert 0.4 < (majority["emotion"] == table["situation"])[single].mean() < 0.75
    assert 0.05 < 1 - single.mean() < 0.2
    assert set(";".join(table["rater_intensity"]).split(";")) == {"0", "1", "2"}
    nothing = aihub_emotion.Reader.labelled(table, "intensity")["emotion"] == ""
    assert 0 < nothing.sum() < 20
    others = aihub_emotion.Reader.labelled(table, "intensity")["emotion"] != majority["emotion"]
    assert others.mean() > 0.1


def test_every_group_of_the_whole_sample_hears_most_emotions(whole):
    _, table = whole
    rows = table.assign(text=table["transcript"], wav_hash="", silent=False)
    grouped = aihub_emotion.Reader.grouped(rows)
    assert set(grouped["session"]) == {*range(1, 21)}
    assert grouped.groupby("session")["situation"].nunique().min() >= 6
    assert grouped["session"].value_counts().min() >= 30


def test_people_say_as_many_lines_as_asked_and_have_an_age_and_a_gender(whole):
    spoken, table = whole
    lines = spoken["speaker"].value_counts()
    assert len(lines) == 200 and abs(lines - 6).max() <= synthetic.DUPLICATES
    assert (spoken.groupby("speaker")[["age", "gender"]].nunique() == 1).all(axis=None)
    assert set(table["gender"]) == {"female", "male"}
    assert table["age"].astype(int).between(19, 59).all()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 2), (2, 1, 3), (1, 3, 20)])
def test_a_sample_has_as_many_rows_as_sessions_dialogues_and_utterances_make(sizes):
    spoken, table = synthetic.plan(*sizes, seed=3)
    assert len(spoken) == len(table) == np.prod(sizes)


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path):
    def tree(name, seed):
        sample.Reader.write(tmp_path / name, "aihub_emotion", 2, 1, 2, seed)
        files = sorted(p for p in (tmp_path / name).rglob("*.*") if p.is_file())
        return [(p.relative_to(tmp_path / name), p.read_bytes()) for p in files]

    assert tree("one", 0) == tree("two", 0) != tree("three", 1)


def test_no_recording_is_that_of_another_layout_of_the_same_seed():
    """What is said, by whom, and the noise of it, are drawn anew: see corpora/sample.py."""
    plans = {
        "aihub_emotion": synthetic.plan,
        "kemdy19": corpus.leaf("corpora", "kemdy19").plan_sample,
        "kemdy20": corpus.leaf("corpora", "kemdy20").plan_sample,
    }
    spoken = {name: plan(2, 2, 3, seed=0)[0] for name, plan in plans.items()}
    mine = spoken.pop("aihub_emotion")
    for other in spoken.values():
        assert not {*mine["speaker"]} & {*other["speaker"]}
        assert not {*mine["segment"]} & {*other["segment"]}


def test_no_more_than_the_layout_names_is_made(tmp_path):
    with pytest.raises(UserError, match="sessions of a sample must be 1 to 20, not 21"):
        sample.Reader.write(tmp_path / "c", "aihub_emotion", sessions=21)
    assert not (tmp_path / "c").exists()


def test_a_sample_packed_as_the_download_is_reads_alike(small, tmp_path):
    """A zip with members in X_wav/ beside its table."""
    before, _ = aihub_emotion.Reader.read(small)
    shutil.copy(small / TABLE, tmp_path / f"{RELEASE}.csv")
    with zipfile.ZipFile(tmp_path / f"{RELEASE}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (small / "wav").iterdir():
            archive.write(path, f"{RELEASE}_wav/{path.name}")
    after, _ = aihub_emotion.Reader.read(tmp_path)
    assert after["wav"].str.startswith(f"{RELEASE}.zip/{RELEASE}_wav/").all()
    pd.testing.assert_frame_equal(after.drop(columns="wav"), before.drop(columns="wav"))
    spectra = []
    for name, rows, folder in (("a", before, small), ("b", after, tmp_path)):
        rows, _ = audit.audit(rows, folder)
        (tmp_path / name).mkdir()
        store = extraction.extract("log_mel", rows, folder, tmp_path / name, HEARD, progress=False)
        spectra.append(store.gather(np.arange(len(rows))))
    np.testing.assert_array_equal(*spectra)


# --- the command line ----------------------------------------------------------------------------


def test_prepare_sample_writes_the_layout_into_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write = sample.Reader.write
    monkeypatch.setattr(
        sample.Reader,
        "write",
        lambda folder, layout="kemdy19": write(
            folder, layout, sessions=1, dialogues=1, utterances=3
        ),
    )
    assert main.main(["prepare", "sample", "--layout", "aihub_emotion"]) == 0
    out = capsys.readouterr().out
    assert "aihub_emotion in data/sample_aihub_emotion (synthetic corpus)" in out
    assert main.main(["prepare", "--data", "data/sample_aihub_emotion"]) == 0


def test_training_on_this_layout_ends_with_scores_by_each_rule(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    groups = corpus.open_corpus(str(small)).role("speaker")["session"].unique()
    flags = ["--data", str(small), "--modality", "text", "--SorL", "speaker", *FLAGS]
    split = [str(group) for group in groups[:2]]
    found = {}
    for rule in aihub_emotion.Reader.LABELS:
        assert main.main([*flags, "--test_split", *split, "--labels", rule]) == 0
        (run,) = set(Path("exp").iterdir()) - {*found.values()}
        found[rule] = run
        with (run / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["corpus"] for row in rows} == {"aihub_emotion"}
        assert {row["session"] for row in rows} == {*split}

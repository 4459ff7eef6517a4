"""Leaks of whole corpora and runs: what is refused, counted, and in no window of training."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from doubles.leaks import TRAIN, guard, opened, small_corpus
from doubles.settings import settings_with

import dataset
import main
from corpora import kemdy19, preparation
from evaluation.splits import Split


@pytest.fixture
def place(workplace, tmp_path):
    with small_corpus(workplace, tmp_path):
        yield tmp_path


# --- what is refused -----------------------------------------------------------------------------


def same(column: str, value: str, pattern: str):
    """A reader's rows, those of session 3 whose `column` matches given a `value` of session 1."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        there = (rows["session"] == 3) & rows[column].str.fullmatch(pattern)
        assert there.any() and (rows[column] == value).any()
        return rows.assign(**{column: rows[column].mask(there, value)})

    return change


PLANTED = {
    "speakers": same("speaker", "Sess01_F", "Sess03_F"),
    "dialogues": same("dialogue", "Sess01_impro01", "Sess03_impro01"),
    "segments": same("segment", "Sess01_impro01_F001", "Sess03_impro01_F001"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_a_reader_repeats_on_both_sides_is_refused(place, monkeypatch, capsys, what):
    read = kemdy19.Reader.read

    def planted(folder):
        rows, troubles = read(folder)
        return PLANTED[what](rows), troubles

    monkeypatch.setattr(kemdy19.Reader, "read", planted)
    assert main.main([*TRAIN, "--max_bad", "0.5"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    row = r"Sess0\d_(impro|script)01_[FM]00\d"
    found = rf"{what} 1 \({row} in train and {row} in test\)"
    said = rf"error: the split leaks: {found}; a split should share none of them"
    assert re.fullmatch(said, line)
    assert not Path("exp").exists()


def test_a_recording_copied_under_another_name_is_refused(place, capsys):
    wavs = sorted(place.glob("corpus/wav/Session01/Sess01_impro01/*.wav"))
    other = sorted(place.glob("corpus/wav/Session04/Sess04_script01/*.wav"))
    shutil.copy(wavs[0], other[1])
    assert main.main(TRAIN) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"leaks: audio 1 ({wavs[0].stem} in train and {other[1].stem} in test)" in line


def test_a_segment_of_another_session_in_a_table_is_in_quarantine_and_leaks_nothing(place):
    table = place / "corpus/annotation/Session03_F_res.csv"
    text = table.read_text()
    table.write_text(text.replace("Sess03_impro01_F001", "Sess01_impro01_F001"))
    rows = preparation.open_corpus("corpus", max_bad=0.5).role("speaker")
    assert (rows["quarantine"] != "").any()
    guard(rows, Split((1, 2), (), (3, 4)))


def test_equal_transcripts_are_counted_by_kind_and_not_refused(workplace, run_folder):
    [prepared] = workplace.glob("data/prepared/*/annotation.csv")
    rows = pd.read_csv(prepared, keep_default_na=False)
    rows = rows[(rows["role"] == "speaker") & (rows["quarantine"] == "")]
    words = ["".join(c for c in text if c.isalnum()) for text in rows["text"]]
    trained = {w for w, session in zip(words, rows["session"], strict=True) if session < 3}
    equal, lines = {"impro": 0, "script": 0}, {"impro": 0, "script": 0}
    for text, session, kind in zip(words, rows["session"], rows["kind"], strict=True):
        if session > 2 and text:
            lines[kind] += 1
            equal[kind] += text in trained
    assert equal["script"] > 0
    parts = ", ".join(f"{kind} {equal[kind]} of {lines[kind]}" for kind in equal)
    said = (
        f"{sum(equal.values())} of {sum(lines.values())} test lines have the words of a "
        f"training line ({parts})"
    )
    assert json.loads((run_folder / "result.json").read_text())["warnings"] == [said]


# --- windows -------------------------------------------------------------------------------------


@pytest.fixture
def planted(place):
    """The corpus with a line of an improvised training dialogue said in the test, and another
    nearly; both have lines after them in their dialogue."""
    said = [
        (1, 0, "오늘은 정말 긴 하루였어"),
        (3, 0, "오늘은 정말 긴 하루였어!"),
        (2, 1, "비가 오는 것 같아 그렇지"),
        (4, 1, "비가 오는 것 같아 그렇지요"),
    ]
    for session, turn, words in said:
        texts = sorted(place.glob(f"corpus/wav/Session{session:02d}/*impro01/*.wav"))
        texts[turn].with_suffix(".txt").write_text(words + "\n")
    return place


@pytest.mark.parametrize("resident", [False, True])
def test_text_of_a_removed_line_is_seen_in_no_window_of_training_but_its_sound_is(
    planted, resident
):
    material, plain = opened(disjoint="text"), opened()
    windows, all_of = dataset.Windows(material, "train", 4), dataset.Windows(plain, "train", 4)
    removed = np.flatnonzero(material.removed)
    assert material.reasons["exact"] and material.reasons["similar"]
    assert set(windows.rows) == set(all_of.rows) - set(removed)
    context = np.isin(windows.index, removed)
    improvised = (material.utterances["kind"] == "impro").to_numpy()[removed]
    assert improvised.sum() == 2 and context.any()
    if resident:
        assert windows.keep_on(torch.device("cpu"), room=10**9)
    batch = windows.batch(np.arange(len(windows)))
    before = all_of.batch(np.searchsorted(all_of.rows, windows.rows))
    context = torch.from_numpy(context)
    assert before["sentence_mask"][context].any()
    assert not batch["sentence_mask"][context].any() and not batch["sentence"][context].any()
    assert torch.equal(batch["sentence"][~context], before["sentence"][~context])
    assert torch.equal(batch["log_mel_mask"], before["log_mel_mask"])
    assert torch.equal(batch["log_mel"], before["log_mel"])


def test_vectors_made_elsewhere_are_words_too(planted):
    names = {path.stem for path in planted.glob("corpus/wav/*/*/*.wav")}
    np.save("vectors.npy", {f"{name}.txt": np.ones(16, np.float32) for name in names})
    material = opened(disjoint="text", text_encoder="vectors.npy")
    store = material.stores["sentence"]
    assert material.removed.any() and not store.available[material.removed].any()
    assert store.available[~material.removed].any()


def test_windows_of_the_test_are_the_same_with_and_without_the_flag(planted):
    one, other = (dataset.Windows(opened(disjoint=how), "test", 4) for how in ("text", None))
    first, second = (windows.batch(np.arange(len(windows))) for windows in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_removed_script_is_in_no_window_of_training(place):
    windows = dataset.Windows(opened(disjoint="script"), "train", 8)
    kinds = windows.utterances["kind"].to_numpy()
    assert len(windows) and set(kinds[windows.index[windows.index >= 0]]) == {"impro"}
    assert set(kinds[dataset.Windows(opened(), "train", 8).rows]) == {"impro", "script"}


def test_the_class_of_2022_is_disjoint_on_demand(place):
    one, other = (
        dataset.KEMDy19("train", "speaker", 2, (3, 4), "corpus", "char-ngram", disjoint=how)
        for how in ("script", None)
    )
    assert 0 < len(one) < len(other)


def test_when_a_finished_run_is_tested_nothing_is_removed(place):
    settings = settings_with(
        data="corpus",
        max_bad=0.5,
        test_split=(1, 2, 3, 4),
        text_encoder="char-ngram",
        text_dim=16,
        disjoint="text",
    )
    material = dataset.open_material(settings, ("sentence",), train=False)
    assert material.reasons == {} and material.warnings == []


def test_a_run_is_trained_on_what_is_left(place, capsys):
    assert main.main([*TRAIN, "--disjoint", "script"]) == 0
    [run] = Path("exp").iterdir()
    heard = pd.read_csv(run / "training.csv")["segment"]
    assert len(heard) == 6 and heard.str.contains("impro01").all()
    warnings = json.loads((run / "result.json").read_text())["warnings"]
    assert re.fullmatch(
        r"--disjoint script: (\d) of \d+ training lines removed \(\1 script01\); "
        r"\d are left",
        warnings[0],
    )
    card = json.loads((run / "protocol.json").read_text())
    assert list(card["dropped"]["disjoint"]) == ["script01"]
    assert card["sets"]["train"]["targets"] <= 6

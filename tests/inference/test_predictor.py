"""What a model says of a user's own recordings is what it says of a corpus's."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from doubles.shared import SHARED, needs_shared
from doubles.untrained import run as untrained
from doubles.voices import LINES, NUMBERS, said, voices

import constants
import main
import utils
from benchmarks import tiny_bert, tiny_wav2vec2
from corpora.preparation.corpus import open_corpus
from features.store import extraction
from inference import occlusion, opening, predictor, recordings, trained
from utils import UserError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with recordings in `talk`, and an untrained MATE that reads both."""
    place = tmp_path_factory.mktemp("predictor")
    voices(place / "talk", 9)
    untrained(place / "mate", "mate", "--text_encoder", "char-ngram", "--hidden_size", 16)
    return place


@pytest.fixture(scope="module")
def judge(place):
    return trained.of_run(place / "mate")


def listed(*paths, **how):
    return recordings.utterances(paths, progress=False, **how)


# --- the same numbers as of a corpus -------------------------------------------------------------


def test_recordings_of_a_corpus_get_the_predictions_of_its_test(workplace, run_folder):
    """The same utterances by way of a table: the same windows, features and numbers."""
    wanted = pd.read_csv(run_folder / "predictions.csv")
    with contextlib.chdir(workplace):
        rows = open_corpus("corpus").role("speaker")
        rows = rows[rows["session"].isin([3, 4])]
        table = rows[["wav", "text", "speaker", "dialogue"]].assign(wav="corpus/" + rows["wav"])
        table.to_csv("lines.csv", index=False)
        found = said(trained.of_run(run_folder), listed("lines.csv"))
    found.index = rows["segment"]
    found = found.loc[wanted["segment"]]
    names = [f"p_{i}" for i in range(7)] + ["confidence", "arousal", "valence"]
    other = [*constants.EMOTIONS, "confidence", "arousal", "valence"]
    assert len(wanted) == 12
    assert np.allclose(found[other], wanted[names], atol=1e-4)
    assert found["emotion"].tolist() == wanted["emotion"].tolist()


def test_one_utterance_alone_has_the_numbers_it_has_among_others(place, judge):
    rows = listed(place / "talk", alone=True)
    together = said(judge, rows)
    assert together["valence"].std() > 0.01  # the model tells them apart
    for i in (0, 4, 8):
        [single] = said(judge, rows.iloc[[i]])[NUMBERS].to_numpy()
        assert np.array_equal(single, together[NUMBERS].to_numpy()[i])


def test_where_a_stream_begins_changes_nothing(place, judge, monkeypatch):
    rows = listed(place / "talk")
    whole = said(judge, rows)
    monkeypatch.setattr(predictor, "GROUP", 2)
    pd.testing.assert_frame_equal(said(judge, rows), whole)
    pd.testing.assert_frame_equal(said(judge, rows, 5), whole.iloc[5:].reset_index(drop=True))


def test_utterances_before_are_context_and_those_behind_are_not(place, judge):
    rows = listed(place / "talk")
    whole, alone = said(judge, rows), said(judge, listed(place / "talk", alone=True))
    assert np.array_equal(whole[NUMBERS].iloc[0], alone[NUMBERS].iloc[0])
    assert not np.allclose(whole[NUMBERS].iloc[1:], alone[NUMBERS].iloc[1:], atol=1e-3)
    first = said(judge, rows.iloc[:4])
    assert np.array_equal(first[NUMBERS], whole[NUMBERS].iloc[:4])


def test_dialogues_that_alternate_in_a_table_keep_their_own_context(place, judge):
    rows = listed(place / "talk").iloc[:6]
    two = rows.assign(dialogue=["a", "b"] * 3)
    mixed = said(judge, two)
    for name in "ab":
        own = said(judge, two[two["dialogue"] == name])
        assert np.array_equal(own[NUMBERS], mixed[NUMBERS][(two["dialogue"] == name).to_numpy()])


def test_a_part_of_a_long_recording_is_heard_like_a_file_of_its_own(place, judge, tmp_path):
    wave, rate = soundfile.read(place / "talk/0.wav")
    soundfile.write(tmp_path / "part.wav", wave, rate, subtype="FLOAT")
    quiet = np.zeros(rate)
    soundfile.write(
        tmp_path / "all.wav", np.concatenate([quiet, wave, quiet]), rate, subtype="FLOAT"
    )
    (tmp_path / "one.csv").write_text("wav\npart.wav\n")
    (tmp_path / "two.csv").write_text(f"wav,start,end\nall.wav,1,{1 + len(wave) / rate}\n")
    one, two = (said(judge, listed(tmp_path / f"{n}.csv")) for n in ("one", "two"))
    assert np.array_equal(one[NUMBERS], two[NUMBERS])
    assert one["masked"].tolist() == ["text"]


# --- what is missing -----------------------------------------------------------------------------


def test_without_text_the_text_is_masked_not_empty(place, judge):
    rows = listed(place / "talk").assign(text="")
    found = said(judge, rows.iloc[:1])
    held = judge.hold(recordings.pieces(rows.iloc[:1], place))
    batch = {name: torch.from_numpy(v) for name, v in held.batch(np.array([0])).items()}
    assert not batch["sentence_mask"].any() and batch["log_mel_mask"].sum() == 1
    with torch.inference_mode():
        wanted = judge.model(batch)
    assert found["masked"].tolist() == ["text"]
    assert np.allclose(found["arousal"], wanted["arousal"], atol=1e-5)
    whole = said(judge, listed(place / "talk").iloc[:1])
    assert not np.allclose(found[NUMBERS], whole[NUMBERS], atol=1e-4)


def test_a_run_that_never_missed_text_needs_force(place, judge):
    rows = listed(place / "talk")
    assert judge.check(rows) == []
    rows.loc[2, "text"] = ""
    with pytest.raises(UserError, match=r"1 of 9 .* no text.*modality_dropout 0.*--force"):
        judge.check(rows)
    [remark] = judge.check(rows, force=True)
    assert "never saw an utterance without text" in remark


def test_a_run_that_was_trained_without_text_now_and_then_needs_none(place, tmp_path):
    folder = untrained(
        tmp_path / "mate",
        "mate",
        "--text_encoder",
        "char-ngram",
        "--hidden_size",
        8,
        "--modality_dropout",
        0.15,
    )
    rows = listed(place / "talk").assign(text="")
    assert trained.of_run(folder).check(rows) == []


def test_a_bad_file_keeps_its_place_in_the_window_masked(place, judge, tmp_path):
    talk = voices(tmp_path / "talk", 3)
    (talk / "1.wav").write_bytes(b"no sound")
    found = said(judge, listed(talk))
    assert found["trouble"].tolist() == ["", "not audio", ""]
    assert found[NUMBERS].iloc[1].isna().all() and found["emotion"].tolist()[1] == ""
    (talk / "1.wav").unlink()
    closer = said(judge, listed(talk))
    assert len(closer) == 2
    assert np.array_equal(found[NUMBERS].iloc[0], closer[NUMBERS].iloc[0])
    assert not np.array_equal(found[NUMBERS].iloc[2], closer[NUMBERS].iloc[1])  # one slot further


def test_silence_without_text_is_a_trouble_and_no_number(place, judge, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    [row] = said(judge, listed(tmp_path)).itertuples()
    assert row.trouble == "no sound and no text" and np.isnan(row.arousal)


def test_a_run_of_text_alone_refuses_recordings_without_any(place, tmp_path):
    folder = untrained(
        tmp_path / "mate",
        "mate",
        "--text_encoder",
        "char-ngram",
        "--modality",
        "text",
        "--hidden_size",
        8,
    )
    with pytest.raises(UserError, match=r"reads text alone, no utterance has any: put NAME.txt"):
        trained.of_run(folder).check(listed(place / "talk").assign(text=""))


def test_vectors_of_a_corpus_say_nothing_of_other_lines(place, tmp_path):
    (tmp_path / "v.npy").write_bytes(b"")
    folder = untrained(
        tmp_path / "mate", "mate", "--hidden_size", 8, text_encoder=str(tmp_path / "v.npy")
    )
    with pytest.raises(UserError, match="name the encoder they were made with"):
        trained.of_run(folder)
    moved = trained.of_run(folder, moved={"text_encoder": "char-ngram"})
    assert len(said(moved, listed(place / "talk").iloc[:1])) == 1


# --- every model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    tiny_bert.write(place / "bert", LINES)
    tiny_wav2vec2.write(place / "wav2vec2")
    return [
        "--text_encoder",
        place / "bert",
        "--speech_encoder",
        place / "wav2vec2",
        "--vision_encoder",
        "colour-motion",
    ]


@pytest.mark.parametrize("name", utils.leaves("models"))
def test_every_model_judges_recordings(name, place, encoders, tmp_path):
    flags = [*encoders, *(["--text_dim", 64] if name == "mate" else [])]
    folder = untrained(tmp_path / name, name, *flags)
    if utils.leaf("models", name).SEQUENCE:
        with pytest.raises(UserError, match=f"python main.py highlight VIDEO --run {name}"):
            trained.of_run(folder)
        return
    judge = trained.of_run(folder)
    rows = listed(place / "talk", alone=True).iloc[:4]
    together = said(judge, rows)
    assert not together["trouble"].any()
    p = together[list(constants.EMOTIONS)].to_numpy()
    assert np.allclose(p.sum(1), 1, atol=1e-5) and (p >= 0).all()
    alone = pd.concat([said(judge, rows.iloc[[i]]) for i in range(4)], ignore_index=True)
    pd.testing.assert_frame_equal(alone, together, atol=1e-4, rtol=0)


def test_a_run_normalised_by_speaker_needs_to_know_who_speaks(place, tmp_path):
    folder = untrained(tmp_path / "f", "functionals", "--speaker_norm")
    judge = trained.of_run(folder)
    rows = listed(place / "talk")
    with pytest.raises(UserError, match="needs to know who speaks"):
        judge.check(rows)
    known = rows.assign(speaker=["A", "B", "A"] * 3)
    assert judge.check(known) == []
    store = extraction.Live("functionals", judge.settings)(recordings.pieces(known, tmp_path))
    values = store.gather(np.flatnonzero(known["speaker"] == "A"))
    assert abs(values.mean(0)).max() < 1e-3  # z-scores over all of a speaker
    assert np.array_equal(said(judge, known, 4)[NUMBERS], said(judge, known)[NUMBERS].iloc[4:])


# --- folders -------------------------------------------------------------------------------------


def test_runs_are_found_by_path_and_by_name(place):
    assert opening.found(str(place / "mate"), "nowhere") == place / "mate"
    assert opening.found("mate", str(place)) == place / "mate"
    with pytest.raises(UserError, match=r"no run 'other', nor in .*; there are: mate"):
        opening.found("other", str(place))
    with pytest.raises(UserError, match="no exported model 'mate'.*export mate --onnx"):
        opening.found("mate", str(place), onnx=True)


def test_an_ensemble_and_an_unfinished_run_are_refused(tmp_path):
    utils.write_json(tmp_path / "configuration.json", {"members": [{"name": "a"}, {"name": "b"}]})
    with pytest.raises(UserError, match="is an ensemble; name one of its members: a, b"):
        trained.of_run(tmp_path)
    utils.write_json(tmp_path / "configuration.json", {"model": "mate"})
    with pytest.raises(UserError, match="has no model.pth"):
        trained.of_run(tmp_path)


# --- why -----------------------------------------------------------------------------------------


def test_an_effect_is_the_answer_less_the_answer_without_that_part(place, judge):
    """Brute force: the model itself on each occluded window, one at a time."""
    rows = listed(place / "talk").iloc[:3]
    held = judge.hold(recordings.pieces(rows, place))
    effects = occlusion.explain(judge, held, 2)
    batch = {name: torch.from_numpy(v) for name, v in held.batch(np.array([2])).items()}

    def answer(masks):
        with torch.inference_mode():
            out = judge.model(batch | masks)
        return out["emotion"].exp()[0], out["arousal"][0]

    p, arousal = answer({})
    label = int(p.argmax())
    assert [(e.back, e.kind) for e in effects] == [
        *[(back, kind) for back in range(3) for kind in ("sound", "text", "both")],
        (None, "sound"),
        (None, "text"),
    ]
    assert [e.segment for e in effects[:9:3]] == ["2", "1", "0"]
    for effect in effects:
        names = {"sound": ["log_mel"], "text": ["sentence"], "both": ["log_mel", "sentence"]}
        masks = {f"{n}_mask": batch[f"{n}_mask"].clone() for n in names[effect.kind]}
        for mask in masks.values():
            mask[0, slice(None) if effect.back is None else 7 - effect.back] = False
        less, calmer = answer(masks)
        assert effect.emotion == pytest.approx(float(p[label] - less[label]), abs=1e-5)
        assert effect.arousal == pytest.approx(float(arousal - calmer), abs=1e-5)
    assert max(abs(e.emotion) for e in effects) > 1e-3


def test_what_is_not_there_has_no_effect_and_a_single_part_no_reason(place, judge):
    rows = listed(place / "talk").iloc[:2].assign(text=["", LINES[1]])
    held = judge.hold(recordings.pieces(rows, place))
    parts = [(e.back, e.kind) for e in occlusion.explain(judge, held, 1)]
    assert (1, "text") not in parts and (1, "sound") in parts and (0, "both") in parts
    assert occlusion.explain(judge, held, 0) == []  # its sound alone


@needs_shared
def test_real_speech_gets_what_its_test_gave(tmp_path):
    """A run on real recordings, and `predict` on the same files: the same numbers."""
    flags = [
        "--data",
        str(SHARED / "real_speech"),
        "--model",
        "mate",
        "--ws",
        "2",
        "--text_encoder",
        "char-ngram",
        "--hidden_size",
        "8",
        "--epochs",
        "1",
        "--batch_size",
        "32",
        "--test_split",
        "4",
        "--leave_out",
        "1",
        "2",
        "--precision",
        "float32",
        "--gpu_id",
        "-1",
        "--save_name",
        "real",
    ]
    with contextlib.chdir(tmp_path):
        assert main.main(flags) == 0
        rows = open_corpus(str(SHARED / "real_speech")).role("speaker")
        wanted = pd.read_csv("exp/real/predictions.csv").head(20)
        rows = rows[rows["dialogue"].isin(wanted["dialogue"])]
        table = rows[["wav", "text", "dialogue"]]
        root = str(SHARED / "real_speech")
        table.assign(wav=root + "/" + rows["wav"]).to_csv("lines.csv", index=False)
        found = said(trained.of_run(tmp_path / "exp/real"), listed("lines.csv"))
    found.index = rows["segment"]
    other = [*constants.EMOTIONS, "arousal", "valence"]
    names = [f"p_{i}" for i in range(7)] + ["arousal", "valence"]
    assert np.allclose(found.loc[wanted["segment"], other], wanted[names], atol=1e-4)

"""features/speech_states.py: states of a frozen encoder, against transformers' own forward."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from benchmarks import tiny_wav2vec2
from features import speech_states
from features.store import extraction
from features.store.store import Store
from utils import Unusable, UserError

RATE = 16_000
SECONDS = (0.3, 0.51, 0.21, 1.2, 0.02, 0.4)  # the fifth is shorter than the 400 samples of a frame
HALF = 4e-3  # half of the step of float16 at 4..8, where the largest states are


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Encoders of either norm, and wavs of SECONDS; `bad.wav` is none."""
    place = tmp_path_factory.mktemp("speech")
    for norm in tiny_wav2vec2.NORMS:
        tiny_wav2vec2.write(place / norm, norm=norm)
    rng = np.random.default_rng(0)
    for i, seconds in enumerate(SECONDS):
        wave = 0.1 * rng.standard_normal(int(seconds * RATE)).cumsum()
        soundfile.write(place / f"{i}.wav", wave / max(1, np.abs(wave).max()), RATE)
    (place / "bad.wav").write_bytes(b"no sound")
    return place


def settings(encoder: Path, **more) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "speech_encoder": str(encoder),
            "speech": {"hidden_size": tiny_wav2vec2.HIDDEN},
            "max_seconds": 10.0,
            "frames": 512,
        }
        | more
    )


def extractor(encoder: Path, **more) -> speech_states.Extractor:
    return speech_states.Extractor(speech_states.Feature.parameters(settings(encoder, **more)))


def wavs(place: Path, numbers=range(4)) -> list[Path]:
    return [place / f"{i}.wav" for i in numbers]


def reference(place: Path, norm: str, i: int, samples: int | None = None) -> np.ndarray:
    """The last hidden states of one wav by transformers, alone: its own extractor and forward."""
    wave = soundfile.read(place / f"{i}.wav", dtype="float32")[0][:samples]
    prepared = transformers.Wav2Vec2FeatureExtractor.from_pretrained(place / norm)
    given = prepared(wave, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        model = transformers.AutoModel.from_pretrained(place / norm)
        return model(given["input_values"]).last_hidden_state[0].numpy()


@pytest.mark.parametrize("norm", tiny_wav2vec2.NORMS)
def test_states_are_those_of_transformers(place, norm):
    for i, got in enumerate(extractor(place / norm).many(wavs(place))):
        expected = reference(place, norm, i)
        assert got.shape == expected.shape == ((int(SECONDS[i] * RATE) - 80) // 320, 64)
        assert got.dtype == np.float16
        np.testing.assert_allclose(got, expected, rtol=0, atol=HALF)


@pytest.fixture(scope="module")
def built(place):
    return {norm: extractor(place / norm) for norm in tiny_wav2vec2.NORMS}


@pytest.mark.parametrize("norm", tiny_wav2vec2.NORMS)
@examples(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(0, len(SECONDS) - 1), min_size=1, max_size=5))
def test_the_others_of_a_batch_change_no_state(place, built, norm, numbers):
    for i, got in zip(numbers, built[norm].many(wavs(place, numbers)), strict=True):
        [alone] = built[norm].many(wavs(place, [i]))
        if isinstance(got, Unusable):
            assert i == 4 and str(got) == str(alone)
        else:
            np.testing.assert_allclose(got, alone, rtol=0, atol=1e-3 + HALF)


def test_what_is_no_sound_or_too_short_is_named_and_stops_nobody_else(place, built):
    sources = [place / "bad.wav", *wavs(place, [0, 4, 1])]
    bad, first, short, second = built["layer"].many(sources)
    assert str(bad) == "not audio" and str(short) == "shorter than a frame"
    np.testing.assert_allclose(first, reference(place, "layer", 0), rtol=0, atol=HALF)
    np.testing.assert_allclose(second, reference(place, "layer", 1), rtol=0, atol=HALF)
    with pytest.raises(Unusable, match="shorter than a frame"):
        built["layer"](place / "4.wav", ["a row"])
    one, two = built["layer"](place / "0.wav", ["a row", "another"])
    np.testing.assert_array_equal(one, two)


def test_nothing_but_what_cannot_be_used_is_an_answer_too(place, built):
    [bad] = built["layer"].many([place / "bad.wav"])
    assert isinstance(bad, Unusable) and built["layer"].many([]) == []


def test_many_clips_are_heard_within_the_bound_on_samples(place, monkeypatch):
    monkeypatch.setattr(speech_states.Extractor, "at_once", RATE)
    calls, hidden = [], speech_states.speech.hidden
    monkeypatch.setattr(
        speech_states.speech,
        "hidden",
        lambda m, wave, mask: calls.append(wave.shape) or hidden(m, wave, mask),
    )
    found = extractor(place / "layer").many(wavs(place) * 2)
    for i, got in enumerate(found):
        np.testing.assert_allclose(got, reference(place, "layer", i % 4), rtol=0, atol=HALF)
    assert len(calls) > 3 and all(rows == 1 or rows * steps <= RATE for rows, steps in calls)


def test_of_a_long_clip_the_beginning_is_heard_and_of_its_states_the_first_kept(place):
    [heard] = extractor(place / "layer", max_seconds=0.5).many(wavs(place, [3]))
    expected = reference(place, "layer", 3, RATE // 2)
    np.testing.assert_allclose(heard, expected, rtol=0, atol=HALF)
    [whole] = extractor(place / "layer", max_seconds=0.0).many(wavs(place, [3]))
    assert len(whole) == 59
    [kept] = extractor(place / "layer", max_seconds=0.0, frames=24).many(wavs(place, [3]))
    np.testing.assert_array_equal(kept, whole[:24])
    assert np.abs(kept[-1] - heard[-1]).max() > 1e-2  # what comes after is heard in it


def store(encoder: Path, place: Path, folder: Path, **more) -> Store:
    names = [f"{i}.wav" for i in range(5)]
    table = pd.DataFrame(
        {
            "segment": names,
            "wav": names,
            "quarantine": "",
            "silent": [False, True, *[False] * 3],
            "wav_size": 1,
            "wav_hash": names,
        }
    )
    return extraction.extract(
        "speech_states", table, place, folder, settings(encoder, **more), progress=False
    )


def test_blocks_are_padded_with_zeros_and_masked(place, tmp_path):
    got = store(place / "layer", place, tmp_path)
    assert got.available.tolist() == [True, False, True, True, False]
    assert got.troubles == [("4.wav", "shorter than a frame")]
    rows = np.array([[0, 1], [2, -1]])
    block, mask = got.gather(rows), got.mask(rows)
    assert block.shape == (2, 2, 14, 64) and block.dtype == np.float32
    assert mask.sum(-1).tolist() == [[14, 0], [10, 0]]
    expected = reference(place, "layer", 2)
    np.testing.assert_allclose(block[1, 0, :10], expected, rtol=0, atol=HALF)
    assert not block[~mask].any()


@pytest.mark.parametrize("changed", [{"frames": 9}, {"max_seconds": 0.4}])
def test_what_is_kept_and_which_encoder_it_was_make_another_cache(place, tmp_path, changed):
    own = shutil.copytree(place / "layer", tmp_path / "own")
    before = store(own, place, tmp_path)
    assert store(own, place, tmp_path).folder == before.folder
    assert store(own, place, tmp_path, **changed).folder != before.folder
    tiny_wav2vec2.write(own, seed=1)
    assert store(own, place, tmp_path).folder != before.folder


def test_without_a_flag_for_it_512_frames_are_kept(place):
    said = settings(place / "layer")
    del said.frames
    assert speech_states.Feature.longest(speech_states.Feature.parameters(said)) == 512


def test_an_encoder_of_another_width_says_both(place):
    with pytest.raises(UserError, match="needed states of 768 numbers, the encoder in .* makes 64"):
        extractor(place / "layer", speech={"hidden_size": 768})


def test_an_encoder_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="hf download no/where .*--speech_encoder FOLDER"):
        extractor(Path("no/where"))

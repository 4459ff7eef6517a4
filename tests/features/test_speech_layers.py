"""features/speech_layers.py: means over time, against transformers on each clip alone."""

import shutil
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import load_file, save_file

from benchmarks import tiny_wav2vec2
from features import speech_layers
from features.store import extraction
from utils import Unusable, UserError

LENGTHS = [9000, 3000, 16_000, 3000, 650]


@pytest.fixture(scope="module", params=["group", "layer"])
def folder(request, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("encoder")
    tiny_wav2vec2.write(place, norm=request.param)
    return place


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """Noise of LENGTHS in 0.wav, 1.wav, ..."""
    place = tmp_path_factory.mktemp("wavs")
    for i, n in enumerate(LENGTHS):
        rng = np.random.default_rng(i)
        wave = np.cumsum(rng.standard_normal(n)) / 300 + 0.1 * np.sin(np.arange(n) ** 1.3 / 50)
        soundfile.write(place / f"{i}.wav", wave.clip(-0.9, 0.9), 16_000, "PCM_16")
    return place


def settings(folder: Path, **more) -> types.SimpleNamespace:
    given = {"max_seconds": 0.0, "reverse": False} | more
    return types.SimpleNamespace(speech_encoder=str(folder), **given)


def extractor(folder: Path, **more) -> speech_layers.Extractor:
    return speech_layers.Extractor(speech_layers.Feature.parameters(settings(folder, **more)))


def expected(folder: Path, wave: np.ndarray) -> np.ndarray:
    """(L + 1, D) of transformers' own forward."""
    prepared = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    values = prepared(wave, sampling_rate=16000, return_tensors="pt").input_values
    module = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        out = module(values, output_hidden_states=True)
    states = [*out.hidden_states[:-1], out.last_hidden_state]
    return torch.stack([state[0].mean(0) for state in states]).numpy()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("at_once", [1, 10_000, 10**6])
def test_the_means_are_transformers_of_each_clip(folder, sounds, reverse, at_once, monkeypatch):
    monkeypatch.setattr(speech_layers.Extractor, "at_once", at_once)
    got = extractor(folder, reverse=reverse).many([sounds / f"{i}.wav" for i in range(5)])
    for i, array in enumerate(got):
        wave, _ = soundfile.read(sounds / f"{i}.wav", dtype="float32")
        wave = wave[::-1].copy() if reverse else wave
        assert array.shape == (3, 64) and array.std() > 0.05
        np.testing.assert_allclose(array, expected(folder, wave), rtol=0, atol=1e-4)


def test_as_many_clips_go_together_as_the_budget_holds(folder, sounds, monkeypatch):
    seen = []
    made = extractor(folder)
    means = made.compute
    monkeypatch.setattr(made, "compute", lambda w: (seen.append([len(x) for x in w]), means(w))[1])
    monkeypatch.setattr(made, "at_once", 18_000)
    made.many([sounds / f"{i}.wav" for i in range(5)])
    assert seen == [[650, 3000, 3000], [9000], [16_000]]
    assert made.many([]) == []


def test_of_a_long_clip_the_middle_is_heard(folder, sounds):
    [array] = extractor(folder, max_seconds=0.25)(sounds / "0.wav", ["a row"])
    wave, _ = soundfile.read(sounds / "0.wav", dtype="float32")
    np.testing.assert_allclose(array, expected(folder, wave[2500:6500]), rtol=0, atol=1e-4)


def test_what_cannot_be_heard_is_unusable_and_spoils_no_other(folder, sounds, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.ones(399, np.int16), 16_000)
    (tmp_path / "text.wav").write_bytes(b"text")
    made = extractor(folder)
    sources = [tmp_path / "short.wav", sounds / "1.wav", tmp_path / "text.wav"]
    short, array, text = made.many(sources)
    assert (str(short), str(text)) == ("too short for the speech encoder", "not audio")
    np.testing.assert_allclose(array, made(sounds / "1.wav", [0])[0], rtol=0, atol=1e-4)
    with pytest.raises(Unusable, match="too short"):
        made(tmp_path / "short.wav", [0])


def test_another_encoder_direction_or_length_is_another_cache(folder, tmp_path):
    base = speech_layers.Feature.parameters(settings(folder))
    assert (base["layers"], base["dim"]) == speech_layers.Feature.shape(base) == (3, 64)
    assert speech_layers.Feature.parameters(settings(folder)) == base
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    copied = speech_layers.Feature.parameters(settings(own))
    assert copied["content"] == base["content"]
    tensors = load_file(own / "model.safetensors")
    save_file(
        {k: v + 0.01 for k, v in tensors.items()},
        own / "model.safetensors",
        metadata={"format": "pt"},
    )
    others = [
        speech_layers.Feature.parameters(settings(folder, **more))
        for more in ({"reverse": True}, {"max_seconds": 3.0})
    ]
    others += [base, copied, speech_layers.Feature.parameters(settings(own))]
    assert len({str(parameters) for parameters in others}) == 5


def test_a_run_knows_the_shape_without_the_encoder(folder, tmp_path):
    about = {"num_hidden_layers": 24, "hidden_size": 1024}
    given = settings("a/b", speech=about)
    assert speech_layers.Feature.shape(speech_layers.Feature.parameters(given)) == (25, 1024)
    with pytest.raises(UserError, match=r"needed \(25, 1024\) layers .* has \(3, 64\)"):
        speech_layers.Extractor(speech_layers.Feature.parameters(settings(folder, speech=about)))
    with pytest.raises(UserError, match="give --speech_encoder FOLDER"):
        speech_layers.Feature.parameters(settings("a/b"))
    for bad in (-1, float("inf"), float("nan")):
        with pytest.raises(UserError, match="--max_seconds should be at least 0"):
            speech_layers.Feature.parameters(settings(folder, max_seconds=bad))


def test_a_store_holds_them_and_zeros_where_there_is_nothing(folder, sounds, tmp_path):
    rows = [
        {
            "segment": str(i),
            "wav": f"{i}.wav",
            "text": "",
            "quarantine": "",
            "silent": i == 1,
            "wav_size": n,
            "wav_hash": str(i),
        }
        for i, n in enumerate(LENGTHS)
    ]
    store = extraction.extract(
        "speech_layers", pd.DataFrame(rows), sounds, tmp_path, settings(folder), progress=False
    )
    blocks = store.gather(np.array([[0, 1, -1]]))
    assert blocks.shape == (1, 3, 3, 64) and blocks.dtype == np.float32
    assert store.mask(np.array([[0, 1, -1]])).tolist() == [[True, False, False]]
    wave, _ = soundfile.read(sounds / "0.wav", dtype="float32")
    np.testing.assert_allclose(blocks[0, 0], expected(folder, wave), rtol=0, atol=1e-4)
    assert not blocks[0, 1:].any()

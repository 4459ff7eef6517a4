"""The mixer with checkpoints of encoders, and in whole runs."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers
from doubles.mixer import SPECIAL, assert_equal, batch_of, differ, heard, predict, row, spoken
from doubles.settings import settings_with

import main
import model
from benchmarks import tiny_bert, tiny_wav2vec2
from corpora.preparation import corpus
from features import speech_states, text_states, tokens
from models import mixer
from models.layers import fusions
from training import run_folder
from training.settings import flat
from utils import UserError

TEXTS = [
    "오늘 날씨가 정말 좋네요.",
    "나는 너무 화가 나서 참을 수 없었어.",
    "왜 그렇게 말하는 거야?",
    "괜찮아, 다 잘 될 거야.",
    "무서워서 잠을 잘 수가 없어.",
    "어.",
    "ABC 3,000원",
]


# --- with checkpoints ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny encoders of text and of sound, three wavs."""
    place = tmp_path_factory.mktemp("encoders")
    tiny_bert.write(place / "text", TEXTS)
    tiny_wav2vec2.write(place / "speech")
    rng = np.random.default_rng(0)
    for i, seconds in enumerate((0.3, 0.5, 0.21)):
        soundfile.write(place / f"{i}.wav", 0.1 * rng.standard_normal(int(seconds * 16000)), 16000)
    return place


def configured(folders, **more):
    """What training writes down of a model, before it is built."""
    settings = settings_with(
        "mixer",
        text_encoder=str(folders / "text"),
        speech_encoder=str(folders / "speech"),
        **{"dropout": 0.0} | more,
    )
    return json.loads(json.dumps(flat(model.complete(settings))))


@pytest.mark.parametrize("fusion", sorted(fusions.FUSIONS))
def test_frozen_states_give_the_prediction_of_the_encoders_themselves(folders, fusion):
    """The same weights behind the features of disk and behind the encoders in the model."""
    tuned = configured(folders, fusion=fusion, finetune=True)
    frozen = configured(folders, fusion=fusion)
    whole = model.build("mixer", tuned, seed=0).eval()
    whole.load_pretrained(SimpleNamespace(**tuned))
    part = model.build("mixer", frozen, seed=1).eval()
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()})
    settings, wavs = SimpleNamespace(**frozen), [folders / f"{i}.wav" for i in range(3)]
    texts = text_states.Extractor(text_states.Feature.parameters(settings)).many(TEXTS[:3])
    sounds = speech_states.Extractor(speech_states.Feature.parameters(settings)).many(wavs)
    rows = [
        [(torch.from_numpy(t).float(), torch.from_numpy(s).float())]
        for t, s in zip(texts, sounds, strict=True)
    ]
    reader = tokens.Extractor(tokens.Feature.parameters(settings))
    read = [
        [
            (
                torch.from_numpy(reader(text, [0])[0]).long(),
                torch.from_numpy(soundfile.read(wav, dtype="float32")[0]),
            )
        ]
        for text, wav in zip(TEXTS[:3], wavs, strict=True)
    ]
    got, expected = predict(part, batch_of(rows)), predict(whole, heard(read))
    assert differ(row(expected, 0), row(expected, 1))
    assert_equal(got, expected, 1e-3)


def test_it_starts_from_both_checkpoints(folders):
    configuration = configured(folders, finetune=True)
    assert configuration["special"] == SPECIAL and configuration["ws"] == 1
    built = model.build("mixer", configuration, seed=0)
    built.load_pretrained(SimpleNamespace(**configuration))
    for part, folder in ((built.encoder, "text"), (built.speech, "speech")):
        reference = dict(
            transformers.AutoModel.from_pretrained(folders / folder).named_parameters()
        )
        assert sum(p.numel() for p in part.parameters()) > 1000
        for name, tensor in part.named_parameters():
            assert torch.equal(tensor, reference[name]), name


@pytest.mark.parametrize("finetune", [False, True])
def test_a_trained_one_is_loaded_without_the_checkpoints(folders, tmp_path, finetune):
    own = shutil.copytree(folders, tmp_path / "own")
    configuration = configured(own, finetune=finetune, fusion="cross", heads="valence,emotion")
    built = model.build("mixer", configuration, seed=0).eval()
    built.load_pretrained(SimpleNamespace(**configuration))
    model.save(tmp_path / "run", built, configuration)
    shutil.rmtree(own)
    again, _ = model.load(tmp_path / "run")
    assert again.heads == ("emotion", "valence")
    if finetune:
        batch = heard([[spoken(1, 4, 2000)], [spoken(2, 7, 3000)]])
    else:
        batch = batch_of([[(torch.randn(5, 64), torch.randn(6, 64))]])
    assert_equal(predict(built, batch), predict(again, batch), 0)


def test_context_makes_the_window(folders):
    assert configured(folders, context=3)["ws"] == 4
    assert mixer.Model.inputs(mixer.Settings()) == ("text_states", "speech_states")
    assert mixer.Model.inputs(mixer.Settings(finetune=True)) == ("tokens", "waveform")


@pytest.mark.parametrize("part", ["text", "speech"])
def test_frozen_encoders_of_other_weights_are_refused_at_a_test(folders, tmp_path, part):
    own = shutil.copytree(folders, tmp_path / "own")
    configuration, tuned = configured(own), configured(own, finetune=True)
    settings = SimpleNamespace(**configuration)
    run_folder.refuse_another_encoder(tmp_path, settings, configuration)
    if part == "text":
        bert = transformers.AutoModel.from_pretrained(own / "text")
        bert.embeddings.word_embeddings.weight.data[7] += 1
        bert.save_pretrained(own / "text")
    else:
        tiny_wav2vec2.write(own / "speech", seed=1)
    with pytest.raises(UserError, match="files differs"):
        run_folder.refuse_another_encoder(tmp_path, settings, configuration)
    # one that is part of the model may have been trained since: the run has its weights
    run_folder.refuse_another_encoder(tmp_path, SimpleNamespace(**tuned), tuned)


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(workplace, tmp_path_factory):
    """Two finished runs, `frozen` and `tuned`, with two tiny encoders beside them."""
    place = tmp_path_factory.mktemp("mixer_run")
    (place / "corpus").symlink_to(workplace / "corpus")
    with contextlib.chdir(place):
        tiny_bert.write("bert", corpus.open_corpus("corpus").utterances["text"].tolist())
        tiny_wav2vec2.write("wav2vec2")
        assert main.main(flags("frozen", "--max_seconds", "4", "--context", "1")) == 0
        tuned = [
            "--fusion",
            "concat",
            "--finetune",
            "--context",
            "1",
            "--max_seconds",
            "2",
            "--modality_dropout",
            "0.3",
            "--encoder_lr",
            "1e-4",
        ]
        assert main.main(flags("tuned", *tuned)) == 0
    return place


def flags(name, *more):
    return [
        "--model",
        "mixer",
        "--data",
        "corpus",
        "--test_split",
        "[3,4]",
        "--text_encoder",
        "bert",
        "--speech_encoder",
        "wav2vec2",
        "--epochs",
        "1",
        "--batch_size",
        "8",
        "--gpu_id",
        "-1",
        "--precision",
        "float32",
        "--save_name",
        name,
        *more,
    ]


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_a_run_predicts_each_test_row_and_does_so_again(trained, tmp_path, name):
    place = shutil.copytree(trained, tmp_path / "place", symlinks=True)
    if name == "tuned":  # the run has its encoders
        for weights in place.glob("*/model.safetensors"):
            weights.unlink()
    with contextlib.chdir(place):
        assert main.main(["--test_only", name, "--gpu_id", "-1"]) == 0
    [tested] = (place / "exp" / name).glob("test_*")
    before, after = (
        pd.read_csv(folder / "predictions.csv") for folder in (place / "exp" / name, tested)
    )
    pd.testing.assert_frame_equal(before, after, atol=1e-5)
    assert len(before) == 12 and before["valence"].nunique() == 12
    probabilities = before[[f"p_{i}" for i in range(7)]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_a_run_writes_down_its_window_and_both_encoders(trained):
    for name in ("frozen", "tuned"):
        said = json.loads((trained / "exp" / name / "configuration.json").read_text())
        assert said["ws"] == 2 and said["heads"] == "emotion,arousal,valence"
        assert (said["encoder"]["hidden_size"], said["speech"]["hidden_size"]) == (64, 64)
        assert (said["optim"], said["lr"], said["lr_decay"]) == ("adamw", 5e-5, 1.0)


def test_a_run_moves_both_encoders_and_not_the_convolutions(trained):
    state = torch.load(trained / "exp" / "tuned" / "model.pth", weights_only=True)
    for part, folder in (("encoder", "bert"), ("speech", "wav2vec2")):
        before = transformers.AutoModel.from_pretrained(trained / folder).state_dict()
        far = {
            n: (t - state[f"{part}.{n}"]).abs().max()
            for n, t in before.items()
            if f"{part}.{n}" in state and t.is_floating_point()
        }
        still = {n for n in far if n.startswith("feature_extractor")}
        assert bool(still) == (part == "speech") and not any(far[n] for n in still)
        moved = [far[n] for n in far if n not in still]
        assert max(moved) < 1e-2  # two steps of 1e-4 away: it was loaded
        assert sum(distance > 0 for distance in moved) > 0.9 * len(moved)

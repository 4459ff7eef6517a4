"""KoBERT with pretrained weights, and in whole runs."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from doubles.kobert import ALL, PIECES, SPECIAL, TEXTS, build, collate, predict
from doubles.settings import settings_with

import main
import model as models
from benchmarks import tiny_bert
from corpora.preparation import corpus
from models.encoders import text as text_encoders
from training.settings import flat, settings_of
from utils import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny encoder whose files are those of KoBERT."""
    place = tmp_path_factory.mktemp("kobert")
    tiny_bert.write(place, TEXTS)
    return place


# --- pretrained weights --------------------------------------------------------------------------


def configured(folder: Path, **more) -> dict:
    """What training writes down of a model, before it is built."""
    settings = models.complete(settings_with("kobert", text_encoder=str(folder), **more))
    return json.loads(json.dumps(flat(settings)))


def test_it_starts_from_the_checkpoint(folder):
    configuration = configured(folder, heads=ALL)
    assert configuration["special"] == SPECIAL
    model = models.build("kobert", configuration, seed=0)
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    tensors = dict(reference.named_parameters())
    assert not torch.equal(
        model.encoder.embeddings.word_embeddings.weight,
        tensors["embeddings.word_embeddings.weight"],
    )
    model.load_pretrained(settings_of(configuration))
    for name, tensor in model.encoder.named_parameters():
        assert torch.equal(tensor, tensors[name]), name
    with torch.no_grad():
        pooled = reference(torch.tensor([[2, 9, 8, 7, 3]])).pooler_output
        expected = 1 + 4 * torch.sigmoid(model.outputs["arousal"](pooled))[0]
    got = predict(model.eval(), [[[9, 8, 7]]])["arousal"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_a_trained_one_is_loaded_without_the_checkpoint(folder, tmp_path):
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    configuration = configured(own, heads="valence,emotion", max_length=40)
    model = models.build("kobert", configuration, seed=0)
    model.load_pretrained(settings_of(configuration))
    models.save(tmp_path / "run", model, configuration)
    shutil.rmtree(own)
    again, _ = models.load(tmp_path / "run")
    assert again.heads == ("emotion", "valence")
    windows = [[[5, 6, 7]], [[8, 9]]]
    for name, values in predict(model.eval(), windows).items():
        np.testing.assert_array_equal(values, predict(again, windows)[name])


def test_electra_gets_a_pooler_of_its_own():
    config = transformers.ElectraConfig(
        vocab_size=PIECES,
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        pad_token_id=0,
    ).to_diff_dict()
    given = {"encoder": config, "special": SPECIAL | {"pad": 0}, "heads": ALL}
    model = models.build("kobert", given, seed=0)
    out = model(collate([[[5, 6, 7]], [[8, 9]]]))
    sum((value**2).sum() for value in out.values()).backward()
    silent = [n for n, p in model.named_parameters() if not p.grad.any()]
    assert all(name.endswith("key.bias") for name in silent)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder": None}, "needs `encoder` and `special`"),
        ({"special": None}, "needs `encoder` and `special`"),
        ({"special": {"cls": 2, "sep": 3}}, "should hold the ids of cls, sep and pad"),
        ({"special": SPECIAL | {"pad": PIECES}}, "should hold the ids of cls, sep and pad"),
        ({"special": SPECIAL | {"pad": -1}}, "should hold the ids of cls, sep and pad"),
        ({"max_length": 513}, "--max_length should be at most 512"),
        ({"max_length": 2}, "max_length should be at least 3"),
        ({"dropout": 1.0}, r"--dropout should be in \[0, 1\)"),
        ({"heads": "anger"}, "--heads needs some of emotion, arousal, valence"),
        ({"encoder": {"model_type": "bert"}}, "no text encoder can be built"),
        ({"encoder": {"model_type": "none"}}, "no text encoder can be built"),
        ({"encoder": {}}, "no text encoder can be built"),
    ],
)
def test_settings_that_make_no_model_are_an_error(changed, message):
    with pytest.raises(UserError, match=message):
        build(**changed)


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(workplace, tmp_path_factory) -> Path:
    """A finished run on the synthetic corpus, and its encoder in `bert`, in a folder of its own."""
    place = tmp_path_factory.mktemp("kobert_run")
    (place / "corpus").symlink_to(workplace / "corpus")
    with contextlib.chdir(place):
        tiny_bert.write(Path("bert"), corpus.open_corpus("corpus").utterances["text"].tolist())
        assert main.main(flags()) == 0
    return place


def flags(*more: str) -> list[str]:
    return [
        "--model",
        "kobert",
        "--data",
        "corpus",
        "--test_split",
        "[3,4]",
        "--text_encoder",
        "bert",
        "--epochs",
        "1",
        "--gpu_id",
        "-1",
        "--precision",
        "float32",
        "--save_name",
        "run",
        "--heads",
        ALL,
        *more,
    ]


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_run_says_its_settings_and_what_its_encoder_is(trained):
    said = read(trained / "exp" / "run" / "configuration.json")
    wanted = {
        "model": "kobert",
        "ws": 1,
        "optim": "adamw",
        "lr": 5e-5,
        "schedule": "cosine",
        "clip": 1.0,
        "batch_size": 16,
        "heads": ALL,
    }
    assert said.items() >= wanted.items()
    assert said["encoder"] == text_encoders.config(trained / "bert")
    assert said["special"] == SPECIAL


def test_a_run_is_not_tested_with_another_tokenizer(trained, tmp_path, capsys):
    lines = dataset_lines(trained)
    tiny_bert.write(tmp_path / "other", lines[: len(lines) // 2] + ["전혀 다른 말"] * 20, seed=3)
    with contextlib.chdir(trained):
        words = ["--test_only", "run", "--data", "corpus", "--gpu_id", "-1"]
        assert main.main([*words, "--text_encoder", str(tmp_path / "other")]) == 2
        assert "is not the encoder or not the tokenizer that run was" in capsys.readouterr().err


def dataset_lines(trained: Path) -> list[str]:
    with contextlib.chdir(trained):
        return corpus.open_corpus("corpus").utterances["text"].tolist()


def test_an_epoch_is_not_chosen_by_a_head_that_is_not_there(trained, capsys):
    with contextlib.chdir(trained):
        words = flags("--save_name", "other", "--val_split", "2", "--select", "ccc")
        assert main.main([*words, "--heads", "emotion"]) == 2
    err = capsys.readouterr().err
    assert "--select ccc needs the heads arousal, valence; the model has emotion" in err


def test_a_run_trains_the_encoder_too(trained):
    state = torch.load(trained / "exp" / "run" / "model.pth", weights_only=True)
    before = transformers.AutoModel.from_pretrained(trained / "bert").state_dict()
    moved = [n for n, t in before.items() if not torch.equal(t, state[f"encoder.{n}"])]
    distance = max((t - state[f"encoder.{n}"]).abs().max() for n, t in before.items())
    assert len(moved) > 0.8 * len(before)
    assert distance < 1e-3  # a few steps of 5e-5 away from the checkpoint: it was loaded


def test_a_run_predicts_each_test_row_with_its_own_line(trained):
    run = trained / "exp" / "run"
    rows = pd.read_csv(run / "predictions.csv")
    assert len(rows) == 12 and set(rows["session"]) == {3, 4}
    p = rows[[f"p_{i}" for i in range(7)]].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    table = pd.concat(map(pd.read_csv, (trained / "data").rglob("df_speaker.csv")))
    text = table.set_index("segment")["text"]
    model, _ = models.load(run)
    config = text_encoders.config(trained / "bert")
    pieces = text_encoders.tokenizer(trained / "bert", config).pieces
    for row in rows.itertuples():
        alone = predict(model, [[pieces(text[row.segment])]])
        assert row.valence == pytest.approx(alone["valence"][0], abs=1e-4)
        np.testing.assert_allclose(p[row.Index], np.exp(alone["emotion"][0]), atol=1e-5)


def test_a_finished_run_is_tested_again_without_the_checkpoint(trained, tmp_path):
    place = Path(shutil.copytree(trained, tmp_path / "place", symlinks=True))
    for weights in (place / "bert").glob("*.safetensors"):
        weights.unlink()
    with contextlib.chdir(place):
        assert main.main(["--test_only", "run", "--gpu_id", "-1"]) == 0
    [tested] = (place / "exp" / "run").glob("test_*")
    before = pd.read_csv(place / "exp" / "run" / "predictions.csv")
    after = pd.read_csv(tested / "predictions.csv")
    pd.testing.assert_frame_equal(before, after, atol=1e-5)


def test_a_run_with_context_and_one_head(trained, tmp_path):
    place = Path(shutil.copytree(trained, tmp_path / "place", symlinks=True))
    with contextlib.chdir(place):
        words = flags("--ws", "3", "--heads", "emotion", "--save_name", "context")
        assert main.main(words) == 0
    rows = pd.read_csv(place / "exp" / "context" / "predictions.csv")
    assert len(rows) == 12
    assert "loss/arousal" not in (place / "exp" / "context" / "train_loss.log").read_text()

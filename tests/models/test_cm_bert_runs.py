"""CM-BERT built, saved, loaded, and in whole runs."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from doubles.cm_bert import FLAGS, VARIANTS, assert_equal, batch_of, build, predict, several

import main
import model
from benchmarks import tiny_bert
from corpora.synthetic.lines import LINES
from features import mfcc, tokens
from models import cm_bert
from utils import UserError

# --- building, saving, loading -------------------------------------------------------------------


def test_only_the_heads_asked_for_are_built():
    built = build(heads="valence,emotion")
    assert built.heads == ("emotion", "valence")
    assert set(predict(built, batch_of(several()))) == {"emotion", "valence"}
    assert model.build("cm_bert", {k: v for k, v in FLAGS.items() if k != "heads"}).heads == (
        "emotion",
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"heads": "emotion,joy"}, "--heads needs some of emotion, arousal, valence"),
        ({"encoder": None}, "cm_bert needs `encoder` and `special`"),
        ({"special": {"cls": 2, "sep": 3}}, "special should hold the ids of cls, sep and pad"),
        ({"special": {"cls": 2, "sep": 3, "pad": 40}}, "special should hold the ids"),
        ({"max_length": 65}, "--max_length should be at most 64"),
        ({"dropout": 1.0}, r"--dropout should be in \[0, 1\), it is 1.0"),
        ({"attention_dropout": 2}, r"--attention_dropout should be in \[0, 1\), it is 2"),
    ],
)
def test_settings_that_make_no_model_are_refused_in_one_line(changed, message):
    with pytest.raises(UserError, match=message) as caught:
        model.build("cm_bert", FLAGS | changed)
    assert "\n" not in str(caught.value)


@VARIANTS
def test_a_saved_model_is_read_without_its_text_encoder(legacy, tmp_path):
    built, batch = build(legacy=legacy), batch_of(several())
    flags = FLAGS | {"legacy": legacy, "model": "cm_bert", "text_encoder": "gone/for-ever"}
    model.save(tmp_path, built, flags)
    loaded, read = model.load(tmp_path)
    assert read == json.loads(json.dumps(flags))
    assert_equal(predict(loaded, batch), predict(built, batch), atol=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny KoBERT on disk, its word pieces trained on the sample's lines."""
    folder = tmp_path_factory.mktemp("kobert")
    tiny_bert.write(folder, sorted({line for lines in LINES.values() for line in lines}))
    return folder


def test_the_encoder_is_completed_and_loaded_from_its_folder(tiny):
    chosen = SimpleNamespace(text_encoder=str(tiny))
    filled = cm_bert.Model.complete(chosen)
    assert filled["special"] == {"cls": 2, "sep": 3, "pad": 1}
    json.dumps(filled)
    built = model.build("cm_bert", filled)
    built.load_pretrained(chosen)
    saved = transformers.BertModel.from_pretrained(tiny, add_pooling_layer=False)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(built.encoder.state_dict()[name], tensor), name


# --- whole runs ----------------------------------------------------------------------------------


def run(place, *flags):
    """A run on the synthetic corpus, in `place`/exp/run."""
    words = [
        "--model",
        "cm_bert",
        "--data",
        "corpus",
        "--text_encoder",
        "kobert",
        "--epochs",
        "1",
        "--test_split",
        "[3,4]",
        "--batch_size",
        "8",
        "--gpu_id",
        "-1",
        "--precision",
        "float32",
        "--save_name",
        "run",
        *flags,
    ]
    with contextlib.chdir(place):
        assert main.main(words) == 0
    return place / "exp" / "run"


@pytest.fixture
def place(tiny, workplace, tmp_path):
    (tmp_path / "corpus").symlink_to(workplace / "corpus")
    shutil.copytree(tiny, tmp_path / "kobert")
    return tmp_path


def test_a_run_is_trained_and_tested_again_without_the_checkpoint(place):
    folder = run(place)
    loaded, configuration = model.load(folder)
    wanted = {
        "optim": "adamw",
        "lr": 2e-5,
        "schedule": "linear",
        "warmup": 0.1,
        "clip": 1.0,
        "max_length": 100,
        "n_mfcc": 100,
        "ws": 1,
        "clean": "hangul",
    }
    assert configuration.items() >= wanted.items()
    assert loaded.heads == ("emotion",)
    before = transformers.BertModel.from_pretrained(place / "kobert", add_pooling_layer=False)
    for name, tensor in before.named_parameters():  # frozen, or a few steps away
        kept = loaded.encoder.get_parameter(name)
        assert torch.equal(kept, tensor) == name.startswith("embeddings"), name
        assert (kept - tensor).abs().max() < 1e-3
    for weights in (place / "kobert").glob("*.safetensors"):
        weights.unlink()
    with contextlib.chdir(place):
        assert main.main(["--test_only", "run", "--gpu_id", "-1"]) == 0
    [tested] = folder.glob("test_*")
    tables = [pd.read_csv(one / "predictions.csv") for one in (folder, tested)]
    pd.testing.assert_frame_equal(*tables, atol=1e-5)


def test_a_run_predicts_each_row_from_its_own_words_and_sound(place):
    folder = run(place, "--heads", "emotion,valence")
    loaded, configuration = model.load(folder)
    settings = SimpleNamespace(**configuration | {"text_encoder": str(place / "kobert")})
    words = tokens.Extractor(tokens.Feature.parameters(settings))
    frames = mfcc.Extractor(mfcc.Feature.parameters(settings))
    table = pd.concat(map(pd.read_csv, (place / "data").rglob("df_speaker.csv")))
    lines = table.set_index("segment")
    for said in pd.read_csv(folder / "predictions.csv").itertuples():
        [ids] = words(lines["text"][said.segment], [None])
        [sound] = frames(place / "corpus" / lines["wav"][said.segment], [None])
        sound = sound.astype(mfcc.Feature.DTYPE).astype(np.float32)
        alone = predict(loaded, batch_of([(torch.tensor(ids), torch.tensor(sound))]))
        assert said.valence == pytest.approx(float(alone["valence"]), abs=1e-4)
        p = [getattr(said, f"p_{i}") for i in range(7)]
        np.testing.assert_allclose(p, alone["emotion"][0].exp(), atol=1e-5)


def test_the_variant_of_2022_runs_and_leaves_its_head_as_drawn(place):
    folder = run(place, "--legacy", "--attention_lr", "0.01", "--target", "hard")
    loaded, configuration = model.load(folder)
    drawn = model.build("cm_bert", configuration, configuration["seed"])
    assert torch.equal(loaded.outputs["emotion"].weight, drawn.outputs["emotion"].weight)
    moved = (loaded.attention.dense.weight - drawn.attention.dense.weight).abs().max()
    assert moved > 1e-3  # at 0.01; the encoder's rate would move it by 1e-4

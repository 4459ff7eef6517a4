"""models/kobert.py on tiny encoders: what its predictions may depend on, and whole runs."""

import contextlib
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import main
import model as models
from benchmarks import tiny_bert
from corpora.preparation import corpus
from models import kobert
from models.encoders import text as text_encoders
from training.settings import flat, settings_of
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
ALL = "emotion,arousal,valence"
PIECES = 60  # of the models that are made here without files
SPECIAL = {"cls": 2, "sep": 3, "pad": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny encoder whose files are those of KoBERT."""
    place = tmp_path_factory.mktemp("kobert")
    tiny_bert.write(place, TEXTS)
    return place


def build(seed: int = 1, **more) -> kobert.Model:
    """A model with random weights that are large enough for its inputs to matter."""
    config = tiny_bert.bert(PIECES).config.to_diff_dict()
    given = {"model": "kobert", "encoder": config, "special": SPECIAL, "heads": ALL} | more
    model = models.build("kobert", given, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.encoder.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(std=0.15, generator=generator)
    return model


@pytest.fixture(scope="module")
def model() -> kobert.Model:
    return build().eval()


@pytest.fixture(scope="module")
def reader() -> kobert.Model:
    """The same, that reads at most 20 pieces of a window."""
    return build(max_length=20).eval()


def collate(windows: list[list[list[int]]], padding: int = 0, filler: int = 0) -> dict:
    """Pieces of each utterance of each window (none: nothing was said) -> a batch."""
    longest = max(len(line) for window in windows for line in window) + 2 + padding
    ids = torch.full((len(windows), len(windows[0]), longest), filler)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, window in enumerate(windows):
        for j, line in enumerate(window):
            if line:
                ids[i, j, : len(line) + 2] = torch.tensor([2, *line, 3])
                mask[i, j, : len(line) + 2] = True
    return {"tokens": ids, "tokens_mask": mask, "mask": mask.any(-1)}


def predict(model: kobert.Model, *batch, **more) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: out.numpy() for name, out in model(collate(*batch, **more)).items()}


LINE = st.lists(st.integers(5, PIECES - 1), max_size=12)


def window(size: int) -> st.SearchStrategy:
    return st.lists(LINE, min_size=size, max_size=size)


# --- what a prediction may depend on -------------------------------------------------------------


@examples(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(0, 9), st.integers(0, PIECES - 1))
def test_padding_and_partners_do_not_change_a_prediction(
    model, reader, data, size, padding, filler
):
    one = data.draw(window(size))
    partners = data.draw(st.lists(window(size), max_size=4))
    place = data.draw(st.integers(0, len(partners)))
    batch = [*partners[:place], one, *partners[place:]]
    for read in (model, reader):
        alone = predict(read, [one])
        among = predict(read, batch, padding=padding, filler=filler)
        for name in ("emotion", "arousal", "valence"):
            assert np.isfinite(among[name]).all()
            np.testing.assert_allclose(among[name][place], alone[name][0], rtol=0, atol=1e-5)


@examples(max_examples=40, deadline=None)
@given(st.lists(window(2), min_size=1, max_size=5))
def test_outputs_are_probabilities_and_scores_on_the_scale(model, windows):
    got = predict(model, windows)
    assert got["emotion"].shape == (len(windows), 7)
    np.testing.assert_allclose(np.exp(got["emotion"]).sum(1), 1, rtol=0, atol=1e-5)
    for name in ("arousal", "valence"):
        assert got[name].shape == (len(windows),)
        assert ((got[name] >= 1) & (got[name] <= 5)).all()


def test_two_predictions_are_identical_and_training_draws_dropout(model):
    windows = [[[5, 6, 7]], [[8, 9]]]
    first, second = predict(model, windows), predict(model, windows)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    for part in ("encoder", "dropout"):  # each draws on its own
        trained = build().eval()
        getattr(trained, part).train()
        assert (predict(trained, windows)["emotion"] != predict(trained, windows)["emotion"]).any()


def test_the_order_of_the_pieces_matters(model):
    got = predict(model, [[[5, 6, 7, 8]], [[8, 7, 6, 5]], [[6, 5, 7, 8]]])
    for name in ("emotion", "arousal", "valence"):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(got[name][i] - got[name][j]).max() > 1e-3


def test_a_window_without_text_is_judged_as_cls_and_sep_alone(model):
    config = model.encoder.config
    bert = transformers.BertModel(config).eval()
    bert.load_state_dict(model.encoder.state_dict())
    got = predict(model, [[[], []], [[5, 6], [7]]])
    with torch.no_grad():
        pooled = bert(torch.tensor([[2, 3]])).pooler_output
        expected = torch.log_softmax(model.outputs["emotion"](pooled), -1)
    np.testing.assert_allclose(got["emotion"][0], expected[0], rtol=0, atol=1e-5)


def test_a_batch_without_any_text_and_without_any_step_is_judged(model):
    batch = {
        "tokens": torch.zeros(2, 1, 1, dtype=torch.long),
        "tokens_mask": torch.zeros(2, 1, 1, dtype=torch.bool),
    }
    with torch.no_grad():
        got = model(batch)["emotion"].numpy()
    expected = predict(model, [[[]], [[5]]])["emotion"][0]
    np.testing.assert_allclose(got, np.stack([expected] * 2), rtol=0, atol=1e-5)


def test_context_and_the_judged_utterance_both_count(model):
    one, context, other = ([[[5, 6], [7, 8]]], [[[9, 9], [7, 8]]], [[[5, 6], [9, 9]]])
    base = predict(model, one)["emotion"]
    assert np.abs(predict(model, context)["emotion"] - base).max() > 1e-3
    assert np.abs(predict(model, other)["emotion"] - base).max() > 1e-3


def test_half_precision_gives_predictions_in_float32_near_those_of_float32(model):
    windows = [[[5, 6, 7]], [[8]], [[]]]
    exact = predict(model, windows)
    with torch.autocast("cpu", torch.bfloat16):
        rough = predict(model, windows)
    for name, values in rough.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, exact[name], rtol=0, atol=0.1)
    np.testing.assert_allclose(np.exp(rough["emotion"]).sum(1), 1, rtol=0, atol=1e-5)


# --- joining a window ----------------------------------------------------------------------------


def by_hand(window: list[list[int]], longest: int) -> list[int]:
    """[CLS] oldest [SEP] ... newest [SEP], of more than `longest` the newest."""
    said = [i for line in window if line for i in [*line, 3]] or [3]
    return [2, *said[-(longest - 1) :]]


@examples(max_examples=200, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(window(n), min_size=1, max_size=4)),
    st.integers(3, 30),
    st.integers(0, 3),
    st.integers(0, 50),
)
def test_a_window_is_joined_in_order_and_its_newest_pieces_are_kept(
    windows, longest, padding, filler
):
    batch = collate(windows, padding, filler)
    ids, mask = text_encoders.joined(batch["tokens"], batch["tokens_mask"], longest, **SPECIAL)
    expected = [by_hand(window, longest) for window in windows]
    assert ids.shape == mask.shape == (len(windows), max(map(len, expected)))
    for row, (there, wanted) in zip(ids, zip(mask, expected, strict=True), strict=True):
        assert there.tolist() == [i < len(wanted) for i in range(len(row))]
        assert row[there].tolist() == wanted
        assert (row[~there] == SPECIAL["pad"]).all()


def test_one_utterance_is_read_as_it_was_tokenised():
    ids, mask = text_encoders.joined(
        torch.tensor([[[2, 9, 8, 3]]]), torch.ones(1, 1, 4).bool(), 128, **SPECIAL
    )
    assert ids.tolist() == [[2, 9, 8, 3]] and mask.all()


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [ALL, "emotion", "valence,arousal"])
def test_every_parameter_gets_a_gradient_but_the_keys_biases(heads):
    model = build(heads=heads).train()
    out = model(collate([[[5, 6, 7], [8, 9, 10, 11]], [[12], []]]))
    sum((value**2).sum() for value in out.values()).backward()
    assert all(p.requires_grad for p in model.parameters())
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        # adding one vector to all keys shifts a row of scores evenly: softmax does not see it
        if not name.endswith("attention.self.key.bias"):
            assert parameter.grad.abs().max() > 1e-8, name


def test_weight_decay_spares_biases_and_layer_norms():
    model = build()
    decayed, spared = model.parameter_groups()
    name_of = {id(p): name for name, p in model.named_parameters()}
    assert "weight_decay" not in decayed and spared["weight_decay"] == 0
    names = [{name_of[id(p)] for p in group["params"]} for group in (decayed, spared)]
    exempt = {n for n in name_of.values() if n.endswith("bias") or "LayerNorm" in n}
    assert names == [set(name_of.values()) - exempt, exempt]
    assert len(decayed["params"]) + len(spared["params"]) == len(name_of)


def test_the_settings_of_the_contest_are_its_defaults():
    wanted = {
        "optim": "adamw",
        "lr": 5e-5,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup": 0.1,
        "clip": 1.0,
        "batch_size": 16,
        "epochs": 16,
    }
    assert kobert.Model.DEFAULTS.items() >= wanted.items()
    assert kobert.Model.DEFAULTS["text_encoder"] == "skt/kobert-base-v1"
    said = kobert.Settings()
    assert (said.max_length, said.dropout, said.ws, said.heads) == (128, 0.5, 1, "emotion")


def test_it_learns_a_word_that_tells_the_emotion():
    torch.manual_seed(0)
    model, rng = build(heads="emotion", dropout=0.1).train(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1e-3)
    truth = rng.integers(0, 7, 210)
    lines = [
        [rng.permutation([10 + t, *rng.integers(20, PIECES, rng.integers(1, 6))]).tolist()]
        for t in truth
    ]
    for _ in range(60):
        rows = rng.choice(140, 32, replace=False)
        out = model(collate([lines[i] for i in rows]))["emotion"]
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(out, torch.from_numpy(truth[rows])).backward()
        optimizer.step()
    model.eval()
    assert (predict(model, lines[140:])["emotion"].argmax(1) == truth[140:]).mean() > 0.6


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


# --- the tiny encoder of tests and trials --------------------------------------------------------


def test_a_tiny_encoder_is_written_from_a_corpus_within_seconds(workplace, tmp_path, monkeypatch):
    (tmp_path / "corpus").symlink_to(workplace / "corpus")
    monkeypatch.chdir(tmp_path)
    written = []
    for name in ("one", "two"):
        monkeypatch.setattr("sys.argv", ["tiny_bert.py", name, "--data", "corpus"])
        start = time.monotonic()
        assert tiny_bert.main() == 0
        assert time.monotonic() - start < 20
        written.append({p.name: p.read_bytes() for p in Path(name).iterdir()})
    assert written[0] == written[1]  # the same corpus and seed: the same bytes
    assert complete_and_small(Path("one"))
    monkeypatch.setattr("sys.argv", ["tiny_bert.py", "three", "--data", "corpus", "--seed", "1"])
    assert tiny_bert.main() == 0
    assert Path("three", "model.safetensors").read_bytes() != written[0]["model.safetensors"]


def complete_and_small(folder: Path) -> bool:
    config = text_encoders.config(folder)
    module = text_encoders.encoder(config, pooler=True)
    text_encoders.load(module, folder)
    ids = text_encoders.tokenizer(folder, config)
    assert (config["num_hidden_layers"], config["hidden_size"]) == (2, 64)
    unknown = sum(ids.pieces(text).count(0) for text in TEXTS)
    return unknown < 30 and sum(p.numel() for p in module.parameters()) < 1e6


def test_a_corpus_that_is_not_there_is_an_error_of_the_tiny_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny_bert.py", "one", "--data", "nowhere"])
    assert tiny_bert.main() == 2
    assert "nowhere" in capsys.readouterr().err and not Path("one").exists()


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

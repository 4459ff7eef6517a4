"""KoBERT over a window: what a prediction may depend on, how it is joined and trained."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from doubles.kobert import ALL, PIECES, SPECIAL, TEXTS, build, collate, predict
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from benchmarks import tiny_bert
from models import kobert
from models.encoders import text as text_encoders


@pytest.fixture(scope="module")
def model() -> kobert.Model:
    return build().eval()


@pytest.fixture(scope="module")
def reader() -> kobert.Model:
    """The same, that reads at most 20 pieces of a window."""
    return build(max_length=20).eval()


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

"""The LSTM of audio: what a prediction may depend on, its standardisation, what it learns."""

import numpy as np
import pytest
import torch
from doubles.lstm_audio import SECONDS, D, collate, predict, sound
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import model as models
import utils
from models import lstm_audio
from models.layers.standardise import FAR, Standardised, dense
from utils import UserError


def build(seed: int = 1, **more) -> lstm_audio.Model:
    """A small model with weights that are large enough for its inputs to matter."""
    made = models.build("lstm_audio", {"hidden_size": 8, "layers": 2} | more, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.normal_(std=0.4, generator=generator)
    return made.eval()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(layer: torch.nn.LSTM, x: np.ndarray) -> np.ndarray:
    """(S, D) -> (S, hidden), the equations of Hochreiter and Schmidhuber with forget gates."""
    for i in range(layer.num_layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w, u, b, c = (getattr(layer, f"{n}_l{i}").detach().double().numpy() for n in names)
        h, cell, out = np.zeros(len(w) // 4), np.zeros(len(w) // 4), []
        for step in x:
            enter, forget, new, leave = np.split(w @ step + u @ h + b + c, 4)
            cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
            h = sigmoid(leave) * np.tanh(cell)
            out.append(h)
        x = np.array(out)
    return x


# --- what a prediction may depend on -------------------------------------------------------------


def test_states_and_heads_are_the_equations_of_an_lstm():
    model, x = build(), sound(5)
    expected = lstm(model.recurrent, x.astype(float))
    with torch.no_grad():
        states = model.states(torch.from_numpy(x)[None], torch.ones(1, 5).bool())
    np.testing.assert_allclose(states[0], expected, atol=1e-5)
    said = predict(model, [x])
    weights = {
        n: (h.weight.detach().numpy(), h.bias.detach().numpy()) for n, h in model.outputs.items()
    }
    raw = {name: w @ expected[-1] + b for name, (w, b) in weights.items()}
    chance = np.exp(raw["emotion"]) / np.exp(raw["emotion"]).sum()
    np.testing.assert_allclose(np.exp(said["emotion"][0]), chance, atol=1e-5)
    for name in ("arousal", "valence"):
        np.testing.assert_allclose(said[name], 1 + 4 * sigmoid(raw[name]), atol=1e-5)


@pytest.mark.parametrize("legacy", [False, True])
@examples(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(0, 5), st.floats(-9e3, 9e3))
def test_padding_and_partners_do_not_change_a_prediction(legacy, lengths, padding, filler):
    model, utterances = build(legacy=legacy), [sound(n, i) for i, n in enumerate(lengths)]
    among = predict(model, collate(utterances, padding, filler))
    for i, utterance in enumerate(utterances):
        for name, alone in predict(model, [utterance]).items():
            assert np.isfinite(among[name]).all()
            np.testing.assert_allclose(among[name][i], alone[0], atol=1e-5)


def test_a_second_that_is_missing_is_left_out_wherever_it_is():
    model, x = build(), sound(6)
    batch = collate([x])
    batch[f"{SECONDS}_mask"][0, 0, [0, 3]] = False
    batch[SECONDS][0, 0, [0, 3]] = torch.nan
    for name, got in predict(model, batch).items():
        np.testing.assert_allclose(got, predict(model, [x[[1, 2, 4, 5]]])[name], atol=1e-6)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_heard_is_a_state_of_zeros(legacy):
    with torch.no_grad():
        state = build(legacy=legacy).heard(torch.ones(2, 3, D), torch.zeros(2, 3).bool())
    assert state.shape == (2, 8) and not state.any()


def test_no_state_knows_what_comes():
    model, x = build(), torch.from_numpy(sound(6))[None]
    mask = torch.ones(1, 6).bool()
    with torch.no_grad():
        states = model.states(x, mask)
        for n in range(1, 7):
            heard = model.heard(x[:, :n], mask[:, :n])
            torch.testing.assert_close(heard, states[:, n - 1], atol=1e-6, rtol=0)


def test_the_order_of_seconds_matters_but_for_legacy():
    x = sound(6)
    for legacy, differs in ((False, True), (True, False)):
        model = build(legacy=legacy)
        forth, back = (predict(model, [v])["valence"][0] for v in (x, x[::-1].copy()))
        assert (abs(forth - back) > 1e-3) == differs


def test_legacy_reads_the_mean_as_one_second_and_hears_the_last_utterance_alone():
    model, x, other = build(legacy=True), sound(4), sound(4, 1)
    np.testing.assert_allclose(
        predict(model, [x])["emotion"],
        predict(model, [x.mean(0, keepdims=True)])["emotion"],
        atol=1e-5,
    )
    two = {
        n: torch.cat([a, b], 1)
        for (n, a), b in zip(collate([other]).items(), collate([x]).values(), strict=True)
    }
    np.testing.assert_allclose(
        predict(model, two)["emotion"], predict(model, [x])["emotion"], atol=1e-6
    )
    with torch.no_grad():  # and what emotion_states may read, too: each second by itself
        states = model.states(torch.from_numpy(x)[None], torch.ones(1, 4).bool())
    np.testing.assert_allclose(
        states[0, 3], lstm(model.recurrent, x[3:].astype(float))[0], atol=1e-5
    )


def test_a_window_is_one_sequence_of_seconds():
    model, first, second = build(ws=2), sound(3), sound(3, 1)
    parts = collate([first]), collate([second])
    window = {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}
    joined = predict(model, [np.concatenate([first, second])])
    for name, got in predict(model, window).items():
        np.testing.assert_allclose(got, joined[name], atol=1e-6)


def test_only_the_heads_that_are_asked_for_are_there():
    model = build(heads="valence,emotion")
    assert model.heads == ("emotion", "valence") == tuple(predict(model, [sound(2)]))


@pytest.mark.parametrize("legacy", [False, True])
def test_gradients_reach_every_parameter_and_every_second(legacy):
    model, batch = build(legacy=legacy, dropout=0.0, input_dropout=0.0), collate([sound(4)])
    batch[SECONDS].requires_grad_()
    sum(out.flatten()[0] for out in model(batch).values()).backward()
    # a sequence of one step has no state before it
    learning = {n: p for n, p in model.named_parameters() if not (legacy and "weight_hh" in n)}
    assert all(p.grad is not None and p.grad.any() for p in learning.values())
    assert (batch[SECONDS].grad[0, 0].abs().sum(-1) > 0).all()


def test_the_coefficients_are_those_of_the_feature():
    leaf = utils.leaf("features", SECONDS)
    assert leaf.shape(leaf.parameters(settings_with("lstm_audio"))) == (None, D)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dropout": 1.0}, r"--dropout should be in \[0, 1\)"),
        ({"input_dropout": 2.0}, r"--input_dropout should be in \[0, 1\)"),
        ({"layers": 0}, "layers should be at least 1"),
        ({"balance": "more"}, "choose one of none, oversample, undersample, smote"),
        ({"heads": "anger"}, "--heads needs some of emotion, arousal, valence"),
    ],
)
def test_settings_that_make_no_model_are_an_error(changed, message):
    with pytest.raises(UserError, match=message):
        models.build("lstm_audio", changed, seed=0)


def test_smote_is_refused_for_sequences():
    settings = settings_with("lstm_audio", balance="smote", legacy=False)
    with pytest.raises(UserError, match="--balance smote .* needs --legacy"):
        models.complete(settings)


# --- standardisation -----------------------------------------------------------------------------


@examples(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_mean_and_sd_are_those_of_all_steps_that_training_showed(steps, seed):
    layer, rng, seen = Standardised(3), np.random.default_rng(seed), []
    for n in steps:
        x = (rng.standard_normal((2, n, 3)) * [1, 50, 0] - 300).astype(np.float32)
        mask = rng.random((2, n)) < 0.6
        x[~mask] = np.nan
        seen.append(x[mask])
        layer(torch.from_numpy(x), torch.from_numpy(mask))
    seen = np.concatenate(seen).astype(float)
    assert int(layer.count) == len(seen)
    if len(seen) > 1:
        np.testing.assert_allclose(layer.mean, seen.mean(0), rtol=1e-6)
        np.testing.assert_allclose(layer.squares / layer.count, seen.var(0), rtol=1e-4, atol=1e-6)
        got = layer.eval()(torch.from_numpy(seen).float()[None], torch.ones(1, len(seen)).bool())
        spread = np.where(seen.std(0) > 1e-6, seen.std(0), 1)
        np.testing.assert_allclose(got[0], (seen - seen.mean(0)) / spread, rtol=1e-3, atol=1e-3)


def test_what_is_tested_is_not_learnt_and_far_things_are_brought_near():
    layer = Standardised(2)
    layer(
        torch.randn(4, 50, 2, generator=torch.Generator().manual_seed(0)), torch.ones(4, 50).bool()
    )
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    got = layer.eval()(torch.tensor([[[1e6, -1e6], [0.0, 0.0]]]), torch.tensor([[True, False]]))
    assert got.tolist() == [[[FAR, -FAR], [0.0, 0.0]]]
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_processes_share_one_mean_and_sd(monkeypatch):
    def all_reduce(sums):  # another process has seen the same, 10 higher
        n, first, second = sums.split([1, 2, 2])
        sums.copy_(torch.cat([2 * n, 2 * first + 10 * n, 2 * second + 20 * first + 100 * n]))

    x = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(0))
    expected = Standardised(2)
    expected(torch.cat([x, x + 10]), torch.ones(6, 40).bool())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    layer = Standardised(2)
    layer(x, torch.ones(3, 40).bool())
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name])


def test_dense_puts_what_is_there_first_and_keeps_its_order():
    x = torch.arange(5.0).view(1, 5, 1)
    got, mask = dense(x, torch.tensor([[False, True, False, True, True]]))
    assert got[mask].flatten().tolist() == [1, 3, 4] and mask.tolist() == [[True] * 3 + [False] * 2]


# --- learning ------------------------------------------------------------------------------------


def test_it_learns_what_only_the_order_of_seconds_tells():
    torch.manual_seed(0)
    model = models.build(
        "lstm_audio",
        {"hidden_size": 16, "layers": 1, "heads": "emotion", "input_dropout": 0.0},
        seed=0,
    )
    optimizer, rng = torch.optim.Adam(model.parameters(), lr=0.01), np.random.default_rng(0)
    truth = rng.integers(0, 2, 160)
    rising = [np.linspace(-1, 1, rng.integers(4, 9))[:, None] * (1 - 2 * t) for t in truth]
    waves = [-400 + 60 * (r + 0.3 * rng.standard_normal((len(r), D))) for r in rising]
    waves = [wave.astype(np.float32) for wave in waves]
    for _ in range(60):
        rows = rng.choice(100, 32, replace=False)
        out = model.train()(collate([waves[i] for i in rows]))["emotion"]
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(out, torch.from_numpy(truth[rows])).backward()
        optimizer.step()
    assert (predict(model.eval(), waves[100:])["emotion"].argmax(1) == truth[100:]).mean() > 0.9

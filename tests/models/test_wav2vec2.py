"""wav2vec 2.0: what a prediction may depend on, and how it is trained."""

import numpy as np
import pytest
import torch
import transformers
from doubles.wav2vec2 import ALL, build, collate, config, configured, predict, sound
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import constants
import model as models
from models import wav2vec2
from models.encoders import speech
from training.settings import settings_of

NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
)
QUIET = NO_DROPOUT | {"apply_spec_augment": False}


@pytest.fixture(scope="module")
def model() -> wav2vec2.Model:
    return build().eval()


@pytest.fixture(scope="module")
def summing() -> wav2vec2.Model:
    """One that reads a window of two, backwards, all layers, of an encoder with layer norm."""
    made = build(about=config("layer"), ws=2, layers="weighted", reverse=True).eval()
    made.weights.data = torch.tensor([0.5, -0.5, 1.0])
    return made


# --- what a prediction may depend on -------------------------------------------------------------


@examples(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4000), min_size=2, max_size=2), min_size=1, max_size=4),
    st.integers(0, 700),
    st.floats(-9, 9),
)
def test_padding_and_partners_do_not_change_a_prediction(model, summing, lengths, padding, filler):
    windows = [[sound(n, i) for n in row] for i, row in enumerate(lengths)]
    for reader, cut in ((summing, windows), (model, [window[1:] for window in windows])):
        among = predict(reader, collate(cut, padding, filler))
        for i, window in enumerate(cut):
            alone = predict(reader, [window])
            for name in alone:
                assert np.isfinite(among[name]).all()
                np.testing.assert_allclose(among[name][i], alone[name][0], rtol=0, atol=1e-4)


def test_it_is_the_formula_on_the_states_of_transformers(encoder_folder):
    configuration = configured(encoder_folder, heads=ALL)
    model = models.build("wav2vec2", configuration, seed=0).eval()
    model.load_pretrained(settings_of(configuration))
    wave = sound(5000)
    prepared = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    values = prepared(wave, sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        states = transformers.Wav2Vec2Model.from_pretrained(encoder_folder).eval()(values)
        pooled = states.last_hidden_state.mean(1)
        hidden = torch.tanh(pooled @ model.projection.weight.T + model.projection.bias)
        raw = {n: head.weight @ hidden[0] + head.bias for n, head in model.outputs.items()}
    got = predict(model, [[wave]])
    expected = torch.log_softmax(raw["emotion"], -1)
    np.testing.assert_allclose(got["emotion"][0], expected, rtol=0, atol=1e-5)
    for name in ("arousal", "valence"):
        np.testing.assert_allclose(got[name][0], 1 + 4 * raw[name][0].sigmoid(), rtol=0, atol=1e-5)


def test_a_weighted_layer_sum_is_that_of_the_states(summing):
    wave = sound(3000)
    with torch.no_grad():
        backwards = torch.from_numpy(wave[::-1].copy())[None]
        states, mask = speech.hidden(summing.encoder, backwards, backwards != 99, all_layers=True)
        weights = torch.tensor([0.5, -0.5, 1.0]).exp()
        summed = (weights[:, None, None] * states[:, 0]).sum(0) / weights.sum()
        pooled = torch.cat([summed.mean(0), torch.zeros(64)])
        expected = summing.outputs["valence"](torch.tanh(summing.projection(pooled))).sigmoid()
    got = predict(summing, [[sound(0), wave]])["valence"][0]
    assert got == pytest.approx(1 + 4 * float(expected), abs=1e-5)


def test_context_and_the_judged_utterance_both_count_and_their_order_in_time(summing, model):
    base = [sound(3000), sound(2000)]
    for other in ([sound(2500), sound(2000)], [sound(3000), sound(2500)], base[::-1]):
        distance = predict(summing, [base])["emotion"] - predict(summing, [other])["emotion"]
        assert np.abs(distance).max() > 1e-3
    both = predict(model, [[base[0]], [base[0][::-1]]])["emotion"]
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_the_context_is_the_mean_of_the_utterances_that_are_there():
    made, given = build(ws=3).eval(), []
    made.projection.register_forward_hook(lambda _, x, out: given.append(x[0][0]))
    one, two, last = sound(3000), sound(2000), sound(2500)
    predict(made, [[sound(0), one, last]])
    predict(made, [[one, two, last]])
    with torch.no_grad():
        means, _ = speech.means(made.encoder, *clips([one, two, last]), all_layers=False)
    first, second, judged = means[0]
    torch.testing.assert_close(given[0], torch.cat([judged, first]), atol=1e-4, rtol=0)
    expected = torch.cat([judged, (first + second) / 2])
    torch.testing.assert_close(given[1], expected, atol=1e-4, rtol=0)


def clips(waves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = collate([[wave] for wave in waves])
    return batch["waveform"][:, 0], batch["waveform_mask"][:, 0]


def test_what_has_no_sound_is_judged_as_zeros(model, summing):
    for reader in (model, summing):
        window = [sound(0)] * reader.ws
        short = [*window[1:], sound(399)]
        with torch.no_grad():
            size = reader.projection.in_features
            hidden = torch.tanh(reader.projection(torch.zeros(1, size)))
            expected = torch.log_softmax(reader.outputs["emotion"](hidden), -1)
        full = [sound(2000)] * reader.ws
        for windows in ([window], [short, full, window]):
            got = predict(reader, windows)["emotion"]
            np.testing.assert_allclose(got[0], expected[0], rtol=0, atol=1e-5)
            np.testing.assert_allclose(got[-1], expected[0], rtol=0, atol=1e-5)


def test_two_predictions_are_identical_and_training_draws(model):
    windows = [[sound(3000)], [sound(9000)]]
    first, second = predict(model, windows), predict(model, windows)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    drawing = build(about=config(**NO_DROPOUT, mask_time_prob=0.5)).eval()
    for part, made in (("encoder", drawing), ("dropout", build(dropout=0.5).eval())):
        getattr(made, part).train()
        assert (predict(made, windows)["emotion"] != predict(made, windows)["emotion"]).any()


def test_dropout_stands_before_and_after_the_projection():
    model, seen = build(dropout=0.5).train(), []
    model.dropout.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    projected = []
    model.projection.register_forward_hook(lambda _, given, out: projected.append((given[0], out)))
    model(collate([[sound(3000)]]))
    [(_, first), (second, _)], [(before, after)] = seen, projected
    assert torch.equal(before, first) and torch.equal(second, torch.tanh(after))
    assert all((given != 0).sum() > (out != 0).sum() for given, out in seen)


def test_half_precision_gives_predictions_in_float32_near_those_of_float32(model, summing):
    for reader in (model, summing):
        windows = [[sound(3000)] * reader.ws, [sound(0)] * reader.ws]
        exact = predict(reader, windows)
        with torch.autocast("cpu", torch.bfloat16):
            rough = predict(reader, windows)
        for name, values in rough.items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, exact[name], rtol=0, atol=0.1)


# --- backwards -----------------------------------------------------------------------------------


@examples(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 9))
def test_backwards_is_each_clips_own_samples_and_twice_is_forwards(lengths, padding):
    batch = collate([[sound(n)] for n in lengths], padding)
    wave, mask = batch["waveform"].flatten(0, 1), batch["waveform_mask"].flatten(0, 1)
    once = wav2vec2.reversed_in_time(wave, mask)
    for row, n in zip(once, lengths, strict=True):
        np.testing.assert_array_equal(row[:n], sound(n)[::-1])
        assert not row[n:].any()
    assert torch.equal(wav2vec2.reversed_in_time(once, mask), wave)


def test_a_model_that_hears_backwards_hears_a_reversed_clip_forwards(model):
    backwards = build(reverse=True).eval()
    backwards.load_state_dict(model.state_dict())
    waves = [sound(3000), sound(1800)]
    one = predict(model, [[wave] for wave in waves])
    other = predict(backwards, [[wave[::-1]] for wave in waves])
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=0, atol=1e-5)


# --- training ------------------------------------------------------------------------------------


def graded(model: wav2vec2.Model, windows: list) -> dict[str, torch.Tensor]:
    """The gradient of each parameter, in training mode."""
    torch.manual_seed(0)
    model.train()
    out = model(collate(windows))
    sum((value**2).sum() for value in out.values()).backward()
    return {name: p.grad for name, p in model.named_parameters()}


WINDOWS = [[sound(6000), sound(5000)], [sound(0), sound(4000)]]


@pytest.mark.parametrize("layers", ["last", "weighted"])
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_the_transformer_learns_and_the_convolutions_do_not(kind, norm, layers):
    about = config(norm, kind, **NO_DROPOUT, mask_time_prob=0.5)
    gradients = graded(build(about=about, ws=2, layers=layers), WINDOWS)
    for name, gradient in gradients.items():
        if "feature_extractor" in name:
            assert gradient is None
        else:
            assert torch.isfinite(gradient).all(), name
            # adding one vector to all keys shifts a row of scores evenly: softmax does not see it
            if not name.endswith("k_proj.bias"):
                assert gradient.abs().max() > 1e-9, name


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
def test_checkpointing_changes_no_gradient_and_computes_layers_twice(kind):
    about = config("layer", kind, **NO_DROPOUT, mask_time_prob=0.5)
    calls, found = [], []
    for checkpointing in (False, True):
        model = build(about=about, ws=2, checkpointing=checkpointing)
        calls.append(0)
        dense = model.encoder.encoder.layers[0].feed_forward.intermediate_dense

        def count(*_):
            calls[-1] += 1

        dense.register_forward_hook(count)
        found.append(graded(model, WINDOWS))
    assert calls == [1, 2]
    for name, gradient in found[0].items():
        if gradient is not None:
            np.testing.assert_allclose(found[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_step_in_half_precision_has_finite_gradients():
    for kind in ("wav2vec2", "hubert", "wavlm"):
        model = build(about=config("layer", kind), ws=2, checkpointing=True)
        with torch.autocast("cpu", torch.bfloat16):
            gradients = graded(model, WINDOWS)
        assert all(g.isfinite().all() for g in gradients.values() if g is not None)


def test_clips_shorter_than_a_mask_of_spec_augment_are_trained_on():
    gradients = graded(build(), [[sound(700)], [sound(100)], [sound(0)]])
    assert all(g.isfinite().all() for g in gradients.values() if g is not None)


def test_frozen_parts_are_not_given_to_the_optimizer_and_decay_spares_vectors():
    model = build(layers="weighted")
    decayed, spared = model.parameter_groups()
    name_of = {id(p): name for name, p in model.named_parameters()}
    names = [{name_of[id(p)] for p in group["params"]} for group in (decayed, spared)]
    learning = {n for n in name_of.values() if "feature_extractor" not in n}
    vectors = {n for n in learning if model.get_parameter(n).ndim == 1}
    assert names == [learning - vectors, vectors] and "weights" in vectors
    assert "weight_decay" not in decayed and spared["weight_decay"] == 0
    assert {n for n in vectors if "bias" not in n and "norm" not in n} == {
        "weights",
        "encoder.masked_spec_embed",
    }


def test_the_settings_of_the_contest_are_its_defaults():
    wanted = {
        "optim": "adamw",
        "lr": 2e-4,
        "weight_decay": 0.0,
        "schedule": "linear",
        "warmup": 0.0,
        "batch_size": 4,
        "epochs": 1,
    }
    assert wav2vec2.Model.DEFAULTS.items() >= wanted.items()
    assert wav2vec2.Model.DEFAULTS["speech_encoder"] == constants.SPEECH_ENCODER
    said = wav2vec2.Settings()
    assert (said.layers, said.ws, said.heads, said.max_seconds) == ("last", 1, "emotion", 0)
    assert build(dropout=-1.0, about=config() | {"final_dropout": 0.3}).dropout.p == 0.3
    assert build(dropout=0.2, about=config() | {"final_dropout": 0.3}).dropout.p == 0.2


def test_it_learns_a_pitch_that_tells_the_emotion():
    torch.manual_seed(0)
    model = build(about=config("layer", **QUIET), heads="emotion").train()
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1e-3)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 96)
    waves = []
    for t in truth:
        steps = np.arange(rng.integers(800, 1600))
        tone = np.sin(steps * (0.05, 0.2, 0.8)[t] + rng.uniform(0, 6))
        waves.append([(tone + 0.1 * rng.standard_normal(len(steps))).astype(np.float32)])
    for _ in range(40):
        rows = rng.choice(64, 16, replace=False)
        out = model(collate([waves[i] for i in rows]))["emotion"]
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(out, torch.from_numpy(truth[rows])).backward()
        optimizer.step()
    got = predict(model.eval(), waves[64:])["emotion"].argmax(1)
    assert (got == truth[64:]).mean() > 0.8

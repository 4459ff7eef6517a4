"""Speech encoders run: each is transformers' own, and padding reaches nothing."""

import numpy as np
import pytest
import torch
import transformers
from doubles.encoders import COUNTER, KINDS, LENGTHS, clips, every_kind, loaded, theirs
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from benchmarks import tiny_wav2vec2
from models.encoders import speech

# --- padding, partners and transformers ----------------------------------------------------------


@every_kind
def test_every_layer_is_that_of_transformers_on_the_clip_alone(places, kind):
    module = loaded(places[kind])
    wave, mask = clips(LENGTHS, padding=555, filler=7.0)
    with torch.no_grad():
        states, there = speech.hidden(module, wave, mask, all_layers=True)
        last, also = speech.hidden(module, wave, mask)
    assert torch.equal(last, states[-1]) and torch.equal(there, also)
    for i, n in enumerate(LENGTHS):
        expected = theirs(places[kind], wave[i, :n])
        assert len(expected) == len(states) == 3
        count = len(expected[0])
        assert there[i].tolist() == [j < count for j in range(there.shape[1])]
        for mine, other in zip(states[:, i], expected, strict=True):
            assert other.std() > 0.1  # else anything would be near it
            np.testing.assert_allclose(mine[:count], other, rtol=0, atol=1e-4)
            assert not mine[count:].any()


@every_kind
def test_a_clip_alone_is_the_same_in_any_batch(places, kind):
    module = loaded(places[kind])

    @examples(max_examples=12, deadline=None)
    @given(
        st.integers(400, 5000),
        st.lists(st.integers(0, 5000), max_size=4),
        st.integers(0, 900),
        st.integers(0, 99),
        st.integers(0, 4),
    )
    def holds(length, partners, padding, seed, place):
        place = min(place, len(partners))
        alone = speech.hidden(module, *clips([length], seed=seed), all_layers=True)
        batch = clips([*partners[:place], length, *partners[place:]], padding, 5.0, seed)
        among = speech.hidden(module, *batch, all_layers=True)
        count = alone[0].shape[2]
        assert among[1][place].sum() == alone[1].sum() == count
        np.testing.assert_allclose(among[0][:, place, :count], alone[0][:, 0], rtol=0, atol=1e-4)
        pooled = speech.means(module, *batch)[0][:, place]
        np.testing.assert_allclose(pooled, alone[0][:, 0].mean(1), rtol=0, atol=1e-4)

    with torch.no_grad():
        holds()


@every_kind
def test_clips_too_short_for_a_frame_are_masked_and_change_no_other(places, kind):
    module = loaded(places[kind])
    with torch.no_grad():
        states, there = speech.hidden(module, *clips([399, 3000, 0, 1]), all_layers=True)
        alone, _ = speech.hidden(module, *clips([3000]), all_layers=True)
        means, heard = speech.means(module, *clips([399, 3000, 0, 1]))
        nothing, none = speech.hidden(module, *clips([399, 0]))
    assert there.any(1).tolist() == heard.tolist() == [False, True, False, False]
    assert not states[:, [0, 2, 3]].any() and not means[:, [0, 2, 3]].any()
    np.testing.assert_allclose(states[:, 1], alone[:, 0], rtol=0, atol=1e-4)
    assert nothing.shape == (2, 1, 64) and not none.any() and not nothing.any()


def test_silence_stays_finite_forwards_and_backwards(places):
    for kind in KINDS:
        module = loaded(places[kind]).train()
        states, there = speech.hidden(module, torch.zeros(2, 2000), torch.ones(2, 2000).bool())
        assert torch.isfinite(states).all() and there.all()
        speech.pooled(states, there).square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.requires_grad)


@examples(max_examples=60, deadline=None)
@given(st.integers(0, 40_000))
def test_frames_are_counted_as_the_convolutions_make_them(samples):
    config = tiny_wav2vec2.encoder().config.to_dict()
    counted = speech.frames(config, torch.tensor([samples, 400, 399, 720, 719]))
    assert counted[1:].tolist() == [1, 0, 2, 1]
    if samples >= 400:
        made = COUNTER.feature_extractor(torch.zeros(1, samples)).shape[2]
        assert counted[0] == made


def test_a_mean_is_that_of_the_frames_that_are_there():
    states = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False, False, False], [False] * 5])
    states[:, :, 2:] = torch.nan  # what is not there may be anything
    states[:, 1] = torch.nan
    got = speech.pooled(states, mask)
    np.testing.assert_allclose(got[:, 0], states[:, 0, :2].mean(1), rtol=0, atol=1e-6)
    assert got.shape == (3, 2, 4) and not got[:, 1].any()
    assert speech.pooled(states.bfloat16(), mask).dtype == torch.float32


def test_loudness_and_offset_count_only_where_the_checkpoint_does_not_normalise(places):
    wave, mask = clips([3000, 2000])
    for normalised in (True, False):
        module = loaded(places["layer"], do_normalize=normalised)
        with torch.no_grad():
            one = speech.hidden(module, wave, mask)[0]
            other = speech.hidden(module, (3 * wave + 0.5).where(mask, 0), mask)[0]
        assert (abs(one - other).max() < 1e-3) == normalised
    module = transformers.AutoModel.from_pretrained(places["layer"]).eval()
    with torch.no_grad():
        expected = module(wave[:1]).last_hidden_state
    np.testing.assert_allclose(
        speech.hidden(loaded(places["layer"], do_normalize=False), wave[:1], mask[:1])[0].detach(),
        expected,
        rtol=0,
        atol=1e-4,
    )


@every_kind
def test_half_precision_is_near_float32(places, kind):
    module, batch = loaded(places[kind]), clips([3000, 2000])
    with torch.no_grad():
        exact, _ = speech.means(module, *batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough, _ = speech.means(module, *batch)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()


# --- training ------------------------------------------------------------------------------------


QUIET = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
) | {"apply_spec_augment": False}


@every_kind
def test_partners_change_nothing_in_training_but_by_what_is_drawn(places, kind):
    module = loaded(places[kind], **QUIET)
    with torch.no_grad():
        quiet, _ = speech.means(module, *clips([3000]))
        among, _ = speech.means(module.train(), *clips([5000, 3000, 900]))
    np.testing.assert_allclose(among[:, 1], quiet[:, 0], rtol=0, atol=1e-4)


@every_kind
def test_the_gradient_reaches_the_transformer_and_not_the_convolutions(places, kind):
    module = loaded(places[kind], hidden_dropout=0.0, mask_time_prob=0.5).train()
    seen = []
    module.feature_extractor.register_forward_hook(lambda m, *_: seen.append(m.training))
    means, _ = speech.means(module, *clips([6400, 3200]))
    (means**2).sum().backward()
    assert seen and not any(seen)
    for name, parameter in module.named_parameters():
        if name.startswith("feature_extractor"):
            assert not parameter.requires_grad and parameter.grad is None
        elif not name.endswith("k_proj.bias"):  # the same to all keys: softmax does not see it
            assert parameter.grad.abs().max() > 1e-9, name


def test_spec_augment_hides_spans_in_training_alone_and_as_torch_is_seeded(places):
    module = loaded(
        places["layer"],
        mask_time_prob=0.3,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
    wave, mask = clips([9000, 7000])
    with torch.no_grad():
        plain = speech.hidden(module, wave, mask)[0]
        assert torch.equal(plain, speech.hidden(module, wave, mask)[0])
        module.train()
        torch.manual_seed(1)
        one = speech.hidden(module, wave, mask)[0]
        assert not torch.equal(one, speech.hidden(module, wave, mask)[0])
        torch.manual_seed(1)
        assert torch.equal(one, speech.hidden(module, wave, mask)[0])
        module.config.apply_spec_augment = False
        assert torch.equal(plain, speech.hidden(module, wave, mask)[0])


def test_spec_augment_hides_the_learned_vector_and_channels(places):
    module = loaded(
        places["layer"],
        mask_time_prob=0.6,
        mask_feature_prob=0.6,
        mask_time_length=4,
        mask_feature_length=5,
    ).train()
    torch.manual_seed(0)
    states = torch.full((2, 30, 64), 7.0)
    got = speech._augmented(module, states, torch.ones(2, 30).bool()).detach()
    for row in got:
        channels = (row == 0).all(0)
        hidden = (row != 7)[:, ~channels].all(1)
        assert 5 <= channels.sum() < 64 and 4 <= hidden.sum() < 30
        assert (row[~hidden][:, ~channels] == 7).all()
        expected = module.masked_spec_embed.detach()[~channels].expand(int(hidden.sum()), -1)
        assert torch.equal(row[hidden][:, ~channels], expected)


@pytest.mark.parametrize(
    ("lengths", "share", "span", "least"),
    [
        ([200, 90, 40], 0.05, 10, 2),
        ([200, 90, 40], 0.5, 10, 0),
        ([200, 90, 40], 0.2, 3, 1),
        ([60, 60, 60], 0.05, 10, 30),
    ],
)
def test_as_much_is_hidden_as_by_transformers(lengths, share, span, least):
    width = max(lengths)
    there = torch.arange(width) < torch.tensor(lengths)[:, None]
    torch.manual_seed(0)
    np.random.seed(0)
    mine = sum(speech._spans(lengths, width, share, span, least).sum(1) for _ in range(1500))
    others = sum(
        _compute_mask_indices((3, width), share, span, there.long(), least).sum(1)
        for _ in range(1500)
    )
    np.testing.assert_allclose(mine / 1500, others / 1500, rtol=0.06, atol=0.1)


@examples(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.floats(0, 1),
    st.integers(1, 12),
    st.integers(0, 4),
)
def test_spans_lie_within_each_clip_and_are_whole(lengths, share, span, least):
    mask = speech._spans(lengths, 45, share, span, least)
    for row, length in zip(mask.tolist(), lengths, strict=True):
        runs = [len(run) for run in "".join("x" if v else " " for v in row).split()]
        assert not any(row[length:]) and all(run >= span for run in runs)
        assert bool(runs) <= (length >= span)
        assert not least or bool(runs) == (length >= span)


def test_clips_shorter_than_a_span_are_trained_on(places):
    for kind in KINDS:
        module = loaded(places[kind]).train()  # spans of 10 frames, 2 at least
        states, _ = speech.hidden(module, *clips([2000, 400, 100]))
        assert torch.isfinite(states).all()


def test_a_dropped_layer_passes_on_what_it_was_given_and_has_a_gradient_of_zeros(places):
    module = loaded(places["group"], layerdrop=1.0, apply_spec_augment=False, hidden_dropout=0.0)
    states, _ = speech.hidden(module.train(), *clips([3000]), all_layers=True)
    assert torch.equal(states[0], states[1]) and torch.equal(states[1], states[2])
    (states[-1] ** 2).sum().backward()
    for layer in module.encoder.layers:
        assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())
    states, _ = speech.hidden(module.eval(), *clips([3000]), all_layers=True)
    assert not torch.equal(states[0], states[1])


def test_without_spec_augment_its_vector_is_not_learned(places):
    for more, learned in (
        ({}, True),
        ({"apply_spec_augment": False}, False),
        ({"mask_time_prob": 0.0, "mask_feature_prob": 0.1}, False),
    ):
        module = speech.encoder(speech.config(places["layer"]) | more)
        assert module.masked_spec_embed.requires_grad == learned

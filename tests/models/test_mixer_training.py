"""The mixer is fine-tuned and learns."""

import pytest
import torch
from doubles.mixer import (
    KINDS,
    assert_equal,
    batch_of,
    build,
    differ,
    every_kind,
    heard,
    predict,
    row,
    spoken,
    states,
    truth,
)
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import loss

# --- fine-tuning ---------------------------------------------------------------------------------


@every_kind
@examples(max_examples=5, deadline=None)
@given(data=st.data(), more=st.tuples(st.integers(0, 5), st.integers(0, 99)))
def test_padding_and_partners_do_not_change_what_is_fine_tuned(kind, data, more):
    built = build(finetune=True, **kind)
    length = st.tuples(st.integers(0, 8), st.sampled_from([0, 9, 40, 150, 260]))
    lengths = data.draw(st.lists(length, min_size=1, max_size=4))
    windows = [[spoken(i, *n)] for i, n in enumerate(lengths)]
    together = predict(built, heard(windows, more=more))
    for i, window in enumerate(windows):
        assert all(value.isfinite().all() for value in together.values())
        assert_equal(predict(built, heard([window])), row(together, i), 1e-4)


def test_what_is_masked_does_not_reach_a_fine_tuned_model():
    built = build(finetune=True)
    before, other = [[spoken(1)], [spoken(2)]], [[spoken(3)], [spoken(4)]]
    for side, name in enumerate(("tokens", "waveform")):
        gone = [
            heard(
                [
                    [
                        tuple((b if i == side else a)[i] for i in range(2))
                        for a, b in zip(x, y, strict=True)
                    ]
                    for x, y in zip(before, rows, strict=True)
                ]
            )
            for rows in (before, other)
        ]
        assert differ(*(predict(built, batch) for batch in gone))
        for batch in gone:
            batch[f"{name}_mask"] = torch.zeros_like(batch[f"{name}_mask"])
        assert_equal(*(predict(built, batch) for batch in gone), 0)


@pytest.mark.parametrize(("part", "silent"), [("encoder", (0, 300)), ("speech", (4, 0))])
def test_an_encoder_has_no_say_where_it_has_nothing_to_read(part, silent):
    built = build(finetune=True)
    batches = [heard([[spoken(1, *lengths)]]) for lengths in (silent, (4, 300))]
    before = [predict(built, batch) for batch in batches]
    with torch.no_grad():
        for parameter in getattr(built, part).parameters():
            parameter.add_(0.3)
    assert_equal(predict(built, batches[0]), before[0], 0)
    assert differ(predict(built, batches[1]), before[1])


@every_kind
@pytest.mark.parametrize("finetune", [False, True])
def test_every_parameter_that_is_trained_gets_a_gradient(kind, finetune):
    built = build(finetune=finetune, **kind).train()
    make, collate = (spoken, heard) if finetune else (states, batch_of)
    batch = collate([[make(1)], [make(2, 7)], [make(3, 2)]]) | truth(3)
    loss.EmotionLoss(0.66)(built(batch), batch)["loss"].backward()
    for name, parameter in built.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name
            # one vector added to all keys, or one number to all of a token: softmax and LayerNorm
            # do not see it
            if not name.endswith(("key.bias", "k_proj.bias", "steps.second.bias")):
                assert parameter.grad.abs().max() > 1e-8, name
    frozen = {name for name, p in built.named_parameters() if not p.requires_grad}
    assert all(name.startswith("speech.") for name in frozen)
    assert finetune == any(name.startswith("speech.feature_extractor") for name in frozen)


def test_frozen_there_is_no_encoder_in_the_model():
    for kind in KINDS:
        parts = {name.partition(".")[0] for name in build(**kind).state_dict()}
        assert parts == {"fusion", "hidden", "outputs"}
    parts = {name.partition(".")[0] for name in build(finetune=True).state_dict()}
    assert parts == {"fusion", "hidden", "outputs", "encoder", "speech"}


def test_checkpointing_gives_the_same_gradients():
    batch = heard([[spoken(1)], [spoken(2, 7, 500)]]) | truth(2)
    found = []
    for checkpointing in (False, True):
        built = build(finetune=True, fusion="concat", checkpointing=checkpointing).train()
        loss.EmotionLoss(0.66)(built(batch), batch)["loss"].backward()
        found.append({n: p.grad for n, p in built.named_parameters() if p.requires_grad})
        on = [
            m.gradient_checkpointing
            for m in built.modules()
            if hasattr(m, "gradient_checkpointing")
        ]
        assert on and any(on) == checkpointing
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_encoders_have_a_rate_of_their_own_and_biases_do_not_decay():
    built = build(finetune=True, encoder_lr=3e-6)
    name_of = {id(p): name for name, p in built.named_parameters()}
    found = {}
    for group in built.parameter_groups():
        for parameter in group["params"]:
            found[name_of[id(parameter)]] = group.get("lr"), group.get("weight_decay")
    trained = {n for n, p in built.named_parameters() if p.requires_grad}
    assert set(found) == trained
    for name, (lr, decay) in found.items():
        assert lr == (3e-6 if name.startswith(("encoder.", "speech.")) else None)
        assert decay == (None if built.get_parameter(name).ndim > 1 else 0.0)
    assert {g.get("lr") for g in build().parameter_groups()} == {None}


# --- learning ------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("side", [0, 1], ids=["text", "sound"])
def test_it_learns_what_one_side_alone_tells(kind, side):
    """Rows of noise of which one side has its emotion in every state: the loss falls tenfold."""
    emotions, planted = (
        torch.arange(21) % 7,
        torch.randn(7, 24, generator=torch.Generator().manual_seed(2)),
    )
    rows = []
    for i, emotion in enumerate(emotions):
        both = list(states(i, 4 + i % 5, 5 + i % 3))
        both[side] = both[side] * 0.3 + planted[emotion, : both[side].shape[1]]
        both[1 - side] = both[1 - side][:0]
        rows.append([tuple(both)])
    built, batch = build(**kind, heads="emotion").train(), batch_of(rows)
    optimizer = torch.optim.AdamW(built.parameter_groups(), lr=1e-3)
    losses = []
    for _ in range(60):
        value = torch.nn.functional.nll_loss(built(batch)["emotion"], emotions)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0] / 10

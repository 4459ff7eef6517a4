"""The mixer: what a prediction depends on, its context, what it refuses."""

import pytest
import torch
from doubles.mixer import (
    CONFIG,
    FRAMES,
    LONGEST,
    SEP,
    TEXT,
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
from constants import HEADS, SCALE
from models import mixer
from models.layers import fusions
from utils import UserError

# --- what a prediction depends on ----------------------------------------------------------------


LENGTHS = st.tuples(st.integers(0, LONGEST), st.integers(0, FRAMES))


@every_kind
@examples(max_examples=20, deadline=None)
@given(data=st.data(), size=st.integers(1, 3), more=st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_padding_and_partners_do_not_change_a_prediction(kind, data, size, more):
    built = build(**kind, context=size - 1)
    lengths = data.draw(
        st.lists(st.lists(LENGTHS, min_size=size, max_size=size), min_size=1, max_size=4)
    )
    windows = [
        [states(10 * i + j, *n) for j, n in enumerate(window)] for i, window in enumerate(lengths)
    ]
    together = predict(built, batch_of(windows, more))
    for i, window in enumerate(windows):
        assert all(value.isfinite().all() for value in together.values())
        assert_equal(predict(built, batch_of([window])), row(together, i))


@pytest.mark.parametrize("legacy", [False, True])
def test_more_places_than_are_needed_do_not_change_a_prediction(legacy):
    """Numbers of the smaller mixing over time in their places of the larger, noise elsewhere."""
    small = build(legacy=legacy, blocks=2)
    large = build(legacy=legacy, blocks=2, max_length=LONGEST + 4, frames=FRAMES + 6, seed=8)
    places = torch.tensor([*range(LONGEST), *range(LONGEST + 4, LONGEST + 4 + FRAMES)])
    state = large.state_dict()
    for name, value in small.state_dict().items():
        if value.shape == state[name].shape:
            state[name] = value
        elif value.ndim == 1:
            state[name][places] = value
        else:
            if "steps.second" in name:  # what is made of the new ones goes nowhere
                state[name][places] = 0
            state[name][places.unsqueeze(1), places] = value
    large.load_state_dict(state)
    batch = batch_of([[states(1, LONGEST, FRAMES)], [states(2, 3, 4)]])
    assert_equal(predict(small, batch), predict(large, batch))


@every_kind
def test_each_side_counts_and_a_masked_one_does_not(kind):
    built = build(**kind)
    base = [states(seed, 5, 7) for seed in range(4)]
    other = [states(seed + 50, 5, 7) for seed in range(4)]
    before = predict(built, batch_of([[one] for one in base]))
    for side in range(2):
        mixed = [
            [tuple(b[i] if i == side else a[i] for i in range(2))]
            for a, b in zip(base, other, strict=True)
        ]
        assert differ(before, predict(built, batch_of(mixed)))
        gone, changed = batch_of([[one] for one in base]), batch_of(mixed)
        name = mixer.Model.inputs(mixer.Settings())[side]
        for batch in (gone, changed):
            batch[f"{name}_mask"] = torch.zeros_like(batch[f"{name}_mask"])
        changed[name][...] = torch.nan
        without = predict(built, gone)
        assert all(torch.equal(value, predict(built, changed)[h]) for h, value in without.items())
        assert differ(before, without)


@every_kind
def test_a_side_that_is_not_there_is_the_same_as_one_that_is_masked(kind):
    built = build(**kind)
    text, sound = states(3, 5, 7)
    for absent in ((text[:0], sound), (text, sound[:0]), (text[:0], sound[:0])):
        got = predict(built, batch_of([[absent], [states(4, 9, 9)]]))
        masked = batch_of([[(text, sound)], [states(4, 9, 9)]])
        for name, one in zip(("text_states", "speech_states"), absent, strict=True):
            masked[f"{name}_mask"][0] &= len(one) > 0
        assert all(value.isfinite().all() for value in got.values())
        assert_equal(got, predict(built, masked))


@pytest.mark.parametrize("fusion", ["concat", "3way", "cross"])
def test_a_side_that_is_not_there_is_zeros_once_it_is_projected(fusion):
    built = build(fusion=fusion).fusion
    text, sound = (one.unsqueeze(0) for one in states(1))
    there = torch.ones(1, 5).bool(), torch.ones(1, 7).bool()
    nothing = [torch.zeros_like(mask) for mask in there]
    size = fusions.SIZE if fusion != "cross" else TEXT
    with torch.no_grad():
        deaf, mute = (
            built(text, there[0], sound, nothing[1])[0],
            built(text, nothing[0], sound, there[1])[0],
        )
    if fusion == "cross":  # the side that listens comes first
        deaf, mute = deaf.roll(size), mute.roll(size)
    assert deaf[:size].any() and not deaf[size : 2 * size].any()
    assert mute[size : 2 * size].any() and not mute[:size].any()
    if fusion == "3way":
        torch.testing.assert_close(mute[2 * size : 3 * size], mute[size : 2 * size].abs())
        assert not mute[3 * size :].any()


def test_attention_is_never_asked_where_there_is_nothing_to_attend_to():
    """What softmax over nothing gives is not the same on every device."""
    built, asked = build(fusion="cross"), []
    for layer in (built.fusion.to_text, built.fusion.to_sound):
        layer.attention.register_forward_pre_hook(lambda _, given: asked.append(given[3]))
    predict(built, batch_of([[states(1, 0, 4)], [states(2, 4, 0)], [states(3, 0, 0)]]))
    assert len(asked) == 2 and not any(mask.all(1).any() for mask in asked)


@every_kind
def test_nothing_at_all_is_judged_and_trained_without_a_nan(kind):
    built = build(**kind).train()
    batch = batch_of([[states(1, 0, 0)], [states(2, 0, 0)]]) | truth(2)
    loss.EmotionLoss(0.66)(built(batch), batch)["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in built.parameters())


@every_kind
def test_a_sound_beyond_its_frames_is_cut_at_its_end(kind):
    built = build(**kind)
    text, sound = states(1, 5, FRAMES + 6)
    assert_equal(
        predict(built, batch_of([[(text, sound)]])),
        predict(built, batch_of([[(text, sound[:FRAMES])]])),
    )


def test_outputs_are_probabilities_and_scores_on_the_scale_in_half_precision_too():
    built, batch = build(), batch_of([[states(1)], [states(2, 9, 2)], [states(3, 0, 4)]])
    exact = predict(built, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = predict(built, batch)
    for head, value in rough.items():
        assert value.dtype == torch.float32
        assert (value - exact[head]).abs().max() < 0.1
        if HEADS[head].kind == "distribution":
            torch.testing.assert_close(value.exp().sum(-1), torch.ones(3))
        else:
            assert ((value >= SCALE[0]) & (value <= SCALE[1])).all()


# --- context -------------------------------------------------------------------------------------


def test_context_is_laid_behind_the_judged_text_newest_first():
    built, alone = build(context=2), build()
    window = [states(seed, 2 + seed, 5) for seed in range(3)]
    (oldest, _), (before, _), (now, sound) = window
    joined = torch.cat([now, before, oldest])
    expected = predict(alone, batch_of([[(joined, sound)]]))
    assert_equal(predict(built, batch_of([window])), expected)
    reverse = torch.cat([oldest, before, now])
    assert differ(expected, predict(alone, batch_of([[(reverse, sound)]])))


def test_of_a_long_context_the_oldest_is_left_out_and_its_sound_is_never_heard():
    built = build(context=1)
    (before, other), (now, sound) = states(1, LONGEST, 9), states(2, 5, 7)
    base = predict(built, batch_of([[(before, other), (now, sound)]]))
    cut = before.clone()
    cut[LONGEST - 5 :] = 9.0
    assert_equal(predict(built, batch_of([[(cut, other * 3), (now, sound)]])), base)
    cut[LONGEST - 6] = 9.0
    assert differ(predict(built, batch_of([[(cut, other), (now, sound)]])), base)


def test_utterances_before_the_context_are_not_read():
    built = build(context=1)
    window = [states(seed) for seed in range(3)]
    changed = [states(9), *window[1:]]
    assert_equal(predict(built, batch_of([window])), predict(built, batch_of([changed])))


def test_the_beginning_of_a_dialogue_has_no_context():
    built = build(context=2)
    nothing = states(0, 0, 0)
    assert_equal(
        predict(built, batch_of([[nothing, nothing, states(1)]])),
        predict(build(), batch_of([[states(1)]])),
    )


def test_a_fine_tuned_encoder_reads_cls_judged_sep_previous_sep():
    built, alone = build(finetune=True, context=2), build(finetune=True)
    window = [spoken(seed, 2) for seed in range(3)]
    (oldest, _), (before, _), (now, wave) = window
    joined = torch.cat([now, before[1:], oldest[1:]])
    assert joined.tolist().count(SEP) == 3 and len(joined) == 10
    expected = predict(alone, heard([[(joined, wave)]]))
    assert_equal(predict(built, heard([window])), expected, 1e-4)
    reverse = torch.cat([oldest, before[1:], now[1:]])
    assert differ(expected, predict(alone, heard([[(reverse, wave)]])))
    long = [spoken(1, 9), spoken(2, 7)]  # of 20 pieces the first 12 are kept
    kept = torch.cat([long[1][0], long[0][0][1:]])[:LONGEST]
    assert_equal(
        predict(build(finetune=True, context=1), heard([long])),
        predict(alone, heard([[(kept, long[1][1])]])),
        1e-4,
    )


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder": None}, "needs `encoder` and `special`"),
        ({"special": {"cls": 2}}, "should hold the ids of cls, sep and pad"),
        ({"speech": None}, "needs `speech`, of its speech encoder"),
        ({"speech": {}}, "speech should have a hidden_size, a whole number; it is None"),
        ({"encoder": CONFIG | {"hidden_size": "8"}}, "encoder should have a hidden_size"),
        (
            {"encoder": CONFIG | {"hidden_size": 12}, "fusion": "cross"},
            "--fusion cross needs .* multiple of 8, its heads; it is 12",
        ),
        ({"finetune": True, "max_length": 65}, "--max_length should be at most 64"),
        ({"finetune": True, "encoder": {"hidden_size": 8}}, "no text encoder can be built"),
        ({"finetune": True, "speech": {"hidden_size": 8}}, "no speech encoder can be built"),
        ({"dropout": 1.0}, r"--dropout should be in \[0, 1\)"),
        ({"fusion": "4way"}, "choose one of mixer, concat, 3way, cross"),
        ({"context": -1}, "context should be at least 0"),
        ({"heads": "anger"}, "--heads needs some of emotion, arousal, valence"),
    ],
)
def test_settings_that_make_no_model_are_an_error(changed, message):
    with pytest.raises(UserError, match=message):
        build(**changed)

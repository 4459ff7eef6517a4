"""CM-BERT: what a prediction depends on, its masks and its gradients."""

import numpy as np
import torch
from doubles.cm_bert import (
    CLS,
    COEFFICIENTS,
    FLAGS,
    SEP,
    VARIANTS,
    assert_equal,
    batch_of,
    build,
    predict,
    several,
    utterance,
)
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import loss
import model
from constants import HEADS, SCALE


def differ(one, other):
    return max((one[head] - other[head]).abs().max() for head in one) > 1e-3


def row(prediction, i):
    return {head: value[i : i + 1] for head, value in prediction.items()}


# --- what a prediction depends on ----------------------------------------------------------------


@VARIANTS
def test_a_prediction_has_its_heads_in_their_ranges(legacy):
    prediction = predict(build(legacy=legacy), batch_of(several()))
    assert set(prediction) == set(HEADS)
    torch.testing.assert_close(prediction["emotion"].exp().sum(-1), torch.ones(5))
    for name in ("arousal", "valence"):
        assert prediction[name].shape == (5,)
        assert ((prediction[name] >= SCALE[0]) & (prediction[name] <= SCALE[1])).all()
    # rows differ, or the tests below would see nothing
    assert all(value.std(0).max() > 1e-2 for value in prediction.values())


@VARIANTS
@examples(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), min_size=1, max_size=5),
    more=st.tuples(st.integers(0, 5), st.integers(0, 50)),
    seed=st.integers(0, 1000),
)
def test_an_utterance_alone_is_the_same_in_any_batch(legacy, sizes, more, seed):
    built = build(legacy=legacy)
    utterances = [utterance(seed + i, *size) for i, size in enumerate(sizes)]
    together = predict(built, batch_of(utterances, more))
    for i, one in enumerate(utterances):
        alone = predict(built, batch_of([one]))
        assert all(value.isfinite().all() for value in alone.values())
        assert_equal(alone, row(together, i))


@VARIANTS
def test_two_predictions_in_a_row_are_identical(legacy):
    built, batch = build(legacy=legacy), batch_of(several())
    first, second = predict(built, batch), predict(built, batch)
    assert all(torch.equal(first[head], second[head]) for head in HEADS)


@VARIANTS
def test_the_order_of_the_sound_matters(legacy):
    built, (ids, sound) = build(legacy=legacy), utterance(3, 5, 30)
    before = predict(built, batch_of([(ids, sound)]))
    assert differ(before, predict(built, batch_of([(ids, sound.flip(0))])))


@VARIANTS
def test_the_order_of_the_words_matters(legacy):
    built, (ids, sound) = build(legacy=legacy), utterance(3, 5, 30)
    turned = torch.cat([ids[:1], ids[1:-1].flip(0), ids[-1:]])
    before = predict(built, batch_of([(ids, sound)]))
    assert differ(before, predict(built, batch_of([(turned, sound)])))


def test_without_its_bias_no_sound_would_reach_a_prediction():
    built, (ids, sound) = build(), utterance(3, 5, 30)
    one, other = batch_of([(ids, sound)]), batch_of([(ids, -sound)])
    assert differ(predict(built, one), predict(built, other))
    with torch.no_grad():
        built.attention.sound.bias.zero_()
    assert_equal(predict(built, one), predict(built, other), atol=0)


def stressed(rows, seed):
    """A batch of two words in either order, and which of them is the louder one: (rows,)."""
    rng = np.random.default_rng(seed)
    utterances, labels = [], rng.integers(2, size=rows)
    for label in labels:
        first = rng.integers(2)
        sound = 0.3 * rng.standard_normal((12, COEFFICIENTS))
        place = int(label != first)
        sound[6 * place : 6 * place + 6] += [2, -2, 2, -2, 2]
        ids = torch.tensor([CLS, (10, 20)[first], (20, 10)[first], SEP])
        utterances.append((ids, torch.tensor(sound).float()))
    return batch_of(utterances), torch.tensor(labels)


def test_it_learns_which_word_is_stressed_which_the_words_alone_do_not_tell():
    flags = FLAGS | {"attention_size": 30, "heads": "emotion"}
    built = model.build("cm_bert", flags, seed=0).eval()  # no dropout: nothing is drawn
    optimizer = torch.optim.AdamW(built.parameters(), lr=3e-3)
    batch, label = stressed(64, seed=1)
    for _ in range(200):  # 129 are enough
        cost = -built(batch)["emotion"].gather(1, label[:, None]).mean()
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        if cost < 0.2:  # chance: 0.69
            break
    batch, label = stressed(200, seed=2)
    mute = batch | {"mfcc_mask": torch.zeros_like(batch["mfcc_mask"])}
    right = [(predict(built, one)["emotion"].argmax(1) == label) for one in (batch, mute)]
    assert right[0].float().mean() > 0.95
    assert 0.35 < right[1].float().mean() < 0.65


@VARIANTS
def test_without_sound_the_words_alone_are_judged(legacy):
    built, (ids, sound) = build(legacy=legacy), utterance(3, 5, 30)
    missing = predict(built, batch_of([(ids, sound[:0])]))
    assert differ(missing, predict(built, batch_of([(ids, sound)])))
    with torch.no_grad():
        built.attention.sound_weight.zero_()
    assert_equal(missing, predict(built, batch_of([(ids, sound)])))


def test_without_words_cls_and_sep_are_judged():
    built, (_, sound) = build(), utterance(3, 5, 30)
    bare = torch.tensor([CLS, SEP])
    nothing = predict(built, batch_of([(bare[:0], sound)]))
    assert_equal(nothing, predict(built, batch_of([(bare, sound)])), atol=0)


def test_a_modality_that_was_dropped_is_missing():
    built, utterances = build(), several()
    batch = batch_of(utterances)
    mute = batch | {"mfcc_mask": torch.zeros_like(batch["mfcc_mask"])}
    unread = batch | {"tokens_mask": torch.zeros_like(batch["tokens_mask"])}
    without_sound = [(ids, sound[:0]) for ids, sound in utterances]
    without_words = [(ids[:0], sound) for ids, sound in utterances]
    assert_equal(predict(built, mute), predict(built, batch_of(without_sound)))
    assert_equal(predict(built, unread), predict(built, batch_of(without_words)))


def test_cls_alone_is_judged_after_the_attention():
    built, batch = build(), batch_of(several())
    before = predict(built, batch)
    spoil = torch.tensor([[0.0], *[[torch.nan]] * (batch["tokens"].shape[-1] - 1)])
    built.attention.register_forward_hook(lambda module, inputs, mixed: mixed + spoil)
    assert_equal(predict(built, batch), before, atol=0)


def test_the_last_utterance_of_a_window_alone_is_read():
    built, batch = build(), batch_of(several(), ws=3)
    before = predict(built, batch)
    assert_equal(before, predict(built, batch_of(several())))
    batch["tokens"][:, :2], batch["mfcc"][:, :2] = 9, 1.0
    for name in ("tokens_mask", "mfcc_mask", "mask"):
        batch[name][:, :2] = True
    assert_equal(before, predict(built, batch))


def test_word_times_are_used_where_the_batch_has_them():
    built, (ids, sound) = build(), utterance(3, 4, 40)
    batch = batch_of([(ids, sound)])
    # frame i is centred at 10 i ms, so 40 frames last from -5 to 395 ms
    edges = torch.linspace(-0.005, 0.395, 5)
    spans = torch.zeros(1, 1, 6, 2)
    spans[0, 0, 1:5] = torch.stack([edges[:-1], edges[1:]], -1)
    equal = predict(built, batch)
    assert_equal(predict(built, batch | {"tokens_span": spans}), equal)
    spans[0, 0, 1:5, 1] -= 0.06  # each word ends earlier
    assert differ(predict(built, batch | {"tokens_span": spans}), equal)
    spans[0, 0, [0, 5]] = torch.tensor([0.0, 0.4])  # [CLS] and [SEP] have no sound
    again = predict(built, batch | {"tokens_span": spans})
    spans[0, 0, [0, 5]] = 0.0
    assert_equal(again, predict(built, batch | {"tokens_span": spans}), atol=0)


# --- gradients -----------------------------------------------------------------------------------


def truth(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "emotion": torch.rand(rows, 7, generator=generator).softmax(-1),
        "arousal": 1 + 4 * torch.rand(rows, generator=generator),
        "valence": 1 + 4 * torch.rand(rows, generator=generator),
    }


@VARIANTS
def test_every_trainable_parameter_gets_a_gradient(legacy):
    built, batch = build(legacy=legacy), batch_of(several()) | truth(5)
    loss.EmotionLoss(0.66)(built(batch), batch)["loss"].backward()
    for name, parameter in built.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        assert parameter.grad.isfinite().all(), name
        if not name.endswith(("key.bias", "attention.constant")):  # softmax sees neither
            assert parameter.grad.abs().max() > 1e-7, name


@VARIANTS
def test_the_embeddings_are_frozen_and_in_legacy_the_heads(legacy):
    built = build(legacy=legacy)
    frozen = {n.split(".")[0] for n, p in built.named_parameters() if not p.requires_grad}
    assert frozen == ({"encoder", "outputs"} if legacy else {"encoder"})
    assert not any(p.requires_grad for p in built.encoder.embeddings.parameters())
    assert all(p.requires_grad for p in built.encoder.encoder.parameters())
    assert not hasattr(built.encoder, "pooler") or built.encoder.pooler is None


def test_the_frozen_heads_of_legacy_are_drawn_as_bert_draws():
    built = model.build("cm_bert", FLAGS | {"legacy": True}, seed=1)
    weight = torch.cat([output.weight.flatten() for output in built.outputs.values()])
    assert 0.015 < weight.std() < 0.025
    assert not any(output.bias.any() for output in built.outputs.values())


@VARIANTS
def test_parameter_groups_hold_each_trainable_parameter_once(legacy):
    built = build(legacy=legacy, attention_lr=0.004)
    names = {id(parameter): name for name, parameter in built.named_parameters()}
    groups = built.parameter_groups()
    seen = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(n for n, p in built.named_parameters() if p.requires_grad)
    for group in groups:
        for name in (names[id(p)] for p in group["params"]):
            plain = name.endswith(("bias", "_weight", "constant", "norm.weight", "Norm.weight"))
            assert group.get("weight_decay") == (0.0 if plain else None), name
            slow = name.startswith("encoder.") or (legacy and name.endswith("bias"))
            assert group.get("lr") == (None if slow else 0.004), name
    torch.optim.AdamW(groups, lr=2e-5, weight_decay=0.01)


@VARIANTS
def test_steps_against_the_gradient_make_the_loss_smaller(legacy):
    built = model.build("cm_bert", FLAGS | {"legacy": legacy}, seed=7).eval()
    batch = batch_of(several()) | truth(5)
    optimizer = torch.optim.AdamW(built.parameter_groups(), lr=1e-3)
    totals = []
    for _ in range(6):
        total = loss.EmotionLoss(0.66)(built(batch), batch)["loss"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]


def test_bfloat16_is_near_and_its_gradients_are_finite():
    built, batch = model.build("cm_bert", FLAGS, seed=7).eval(), batch_of(several()) | truth(5)
    exact = predict(built, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = built(batch)
    assert all(value.dtype == torch.float32 for value in half.values())
    assert_equal({k: v.detach() for k, v in half.items()}, exact, atol=0.05)
    loss.EmotionLoss(0.66)(half, batch)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in built.parameters() if p.requires_grad)


def test_double_precision_passes_through():
    built, batch = build(), batch_of(several())
    single = predict(built, batch)
    batch["mfcc"] = batch["mfcc"].double()
    exact = predict(built.double(), batch)
    assert all(value.dtype == torch.float64 for value in exact.values())
    assert_equal({name: value.float() for name, value in exact.items()}, single)

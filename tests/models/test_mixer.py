"""models/mixer.py: each fusion against its formula in NumPy, and what a prediction depends on.

The features that it reads are tested in test_text_states.py and test_speech_states.py.
"""

import contextlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.special
import soundfile
import torch
import transformers
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import loss
import main
import model
from benchmarks import tiny_bert, tiny_wav2vec2
from constants import HEADS, SCALE
from corpora.preparation import corpus
from features import speech_states, text_states, tokens
from models import mixer
from models.layers import fusions
from training import run_folder
from training.settings import flat
from utils import UserError

CLS, SEP, PAD, PIECES = 2, 3, 1, 40
TEXT, SOUND = 16, 24  # numbers of a state
LONGEST, FRAMES = 12, 10
CONFIG = {
    "model_type": "bert",
    "hidden_size": TEXT,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": PIECES,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SPEECH = {
    "model_type": "wav2vec2",
    "hidden_size": SOUND,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 4],
    "conv_stride": [5, 4],
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "conv_bias": True,
    "num_feat_extract_layers": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}
SPECIAL = {"cls": CLS, "sep": SEP, "pad": PAD}
FLAGS = {
    "encoder": CONFIG,
    "special": SPECIAL,
    "speech": SPEECH,
    "max_length": LONGEST,
    "frames": FRAMES,
    "dropout": 0.0,
}
KINDS = [{"fusion": name} for name in fusions.FUSIONS] + [{"fusion": "mixer", "legacy": True}]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k.values())))
TEXTS = [
    "오늘 날씨가 정말 좋네요.",
    "나는 너무 화가 나서 참을 수 없었어.",
    "왜 그렇게 말하는 거야?",
    "괜찮아, 다 잘 될 거야.",
    "무서워서 잠을 잘 수가 없어.",
    "어.",
    "ABC 3,000원",
]


def build(seed=7, **changed):
    """A model whose predictions differ between rows: its weights are large."""
    built = model.build("mixer", FLAGS | changed, seed=seed)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.startswith("encoder") and parameter.ndim > 1:
                parameter.mul_(8)
        for output in built.outputs.values():
            output.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    return built.eval()


def states(seed, pieces=5, frames=7):
    """States of a text (T, TEXT) and of a sound (F, SOUND); none of either where it is 0."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(pieces, TEXT, generator=generator)
    return text, torch.randn(frames, SOUND, generator=generator)


def ragged(rows, more, filler):
    """Windows of ragged arrays -> (B, W, T, ...) padded by `more` beyond the longest, its mask."""
    longest = max(1, *(len(one) for window in rows for one in window)) + more
    shape = rows[0][-1].shape[1:]
    out = torch.full((len(rows), len(rows[0]), longest, *shape), filler, dtype=rows[0][-1].dtype)
    mask = torch.zeros(out.shape[:3]).bool()
    for i, window in enumerate(rows):
        for j, one in enumerate(window):
            out[i, j, : len(one)], mask[i, j, : len(one)] = one, True
    return out, mask


def batch_of(windows, more=(0, 0), names=("text_states", "speech_states")):
    """Windows of (text, sound) -> a batch, noise in the padding."""
    batch = {"mask": torch.ones(len(windows), len(windows[0])).bool()}
    for i, (name, extra) in enumerate(zip(names, more, strict=True)):
        rows = [[utterance[i] for utterance in window] for window in windows]
        filler = torch.nan if rows[0][0].is_floating_point() else 17
        batch[name], batch[f"{name}_mask"] = ragged(rows, extra, filler)
    return batch


def heard(windows, **more):
    """The same of ids and samples, for a model that is fine-tuned."""
    return batch_of(windows, names=("tokens", "waveform"), **more)


def spoken(seed, pieces=4, samples=300):
    """Ids (T,) and samples (N,): [CLS], `pieces` of them, [SEP]; none of either where it is 0."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, PIECES, (pieces,), generator=generator).tolist()
    ids = torch.tensor([CLS, *ids, SEP] if ids else [], dtype=torch.long)
    return ids, 0.1 * torch.randn(samples, generator=generator)


@torch.no_grad()
def predict(built, batch):
    return built(batch)


def assert_equal(one, other, atol=1e-5):
    assert set(one) == set(other)
    for head in one:
        torch.testing.assert_close(one[head], other[head], atol=atol, rtol=0)


def differ(one, other):
    return max((one[head] - other[head]).abs().max() for head in one) > 1e-3


def row(prediction, i):
    return {head: value[i : i + 1] for head, value in prediction.items()}


# --- the formulas --------------------------------------------------------------------------------


def weights_of(built):
    return {name: value.double().numpy() for name, value in built.state_dict().items()}


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x):
    return x * (1 + scipy.special.erf(x / np.sqrt(2))) / 2


def mlp(w, name, x):
    return linear(w, f"{name}.second", gelu(linear(w, f"{name}.first", x)))


def mixer_formula(w, text, sound, legacy, blocks):
    x = np.zeros((LONGEST + FRAMES, 256))
    x[: len(text)] = linear(w, "fusion.text", text)
    x[LONGEST : LONGEST + len(sound)] = linear(w, "fusion.sound", sound)
    real = [*range(len(text)), *range(LONGEST, LONGEST + len(sound))]
    for i in range(blocks):
        at = f"fusion.blocks.{i}"
        before, u = np.zeros_like(x), np.zeros_like(x)
        before[real] = norm(w, f"{at}.norm", x[real])
        u[real] = mlp(w, f"{at}.steps", before.T).T[real]
        x = x + u
        again = norm(w, f"{at}.norm", u) if legacy else norm(w, f"{at}.second", x)
        x = x + mlp(w, f"{at}.numbers", again)
    return norm(w, "fusion.norm", x[real]).mean(0)


def concat_formula(w, text, sound):
    return np.concatenate(
        [linear(w, "fusion.text", text[0]), linear(w, "fusion.sound", sound.mean(0))]
    )


def three_way_formula(w, text, sound):
    t, a = np.split(concat_formula(w, text, sound), 2)
    return np.concatenate([t, a, abs(a - t), a * t])


def cross_formula(w, text, sound):
    sound = sound @ w["fusion.sound.weight"][:, :, 0].T
    to_text = cross_modal(w, "fusion.to_text", sound, text)
    to_sound = cross_modal(w, "fusion.to_sound", text, sound)
    return np.concatenate([to_text.mean(0), to_sound[0]])


def cross_modal(w, name, x, y):
    """A pre-norm transformer layer with 8 heads, x attending to y, and a last LayerNorm."""
    x, y, size = placed(x), placed(y), x.shape[1]
    keys, queries = norm(w, f"{name}.norms.0", y), norm(w, f"{name}.norms.0", x)
    weight = np.split(w[f"{name}.attention.in_proj_weight"], 3)
    bias = np.split(w[f"{name}.attention.in_proj_bias"], 3)
    q, k, v = (
        (part @ m.T + b).reshape(len(part), 8, size // 8)
        for part, m, b in zip((queries, keys, keys), weight, bias, strict=True)
    )
    found = np.zeros_like(q)
    for head in range(8):
        for i in range(len(x)):
            scores = k[:, head] @ q[i, head] / np.sqrt(size // 8)
            found[i, head] = scipy.special.softmax(scores) @ v[:, head]
    x = x + linear(w, f"{name}.attention.out_proj", found.reshape(len(x), size))
    wide = np.maximum(linear(w, f"{name}.wide", norm(w, f"{name}.norms.1", x)), 0)
    return norm(w, f"{name}.norms.2", x + linear(w, f"{name}.narrow", wide))


def placed(x):
    """sqrt(D) x, and sin, cos of place / 10000^(i / (D / 2 - 1)), places from 1."""
    size = x.shape[1]
    out = np.sqrt(size) * x
    for place in range(len(x)):
        for i in range(size // 2):
            angle = (place + 1) / 10000 ** (i / (size // 2 - 1))
            out[place, i] += np.sin(angle)
            out[place, size // 2 + i] += np.cos(angle)
    return out


FORMULAS = {"concat": concat_formula, "3way": three_way_formula, "cross": cross_formula}


@every_kind
def test_a_prediction_is_that_of_the_formula(kind):
    blocks = 2
    built, batch = build(blocks=blocks, **kind), batch_of([[states(1, 5, 7)], [states(2, 9, 3)]])
    got, w = predict(built, batch), weights_of(built)
    for i, (text, sound) in enumerate((states(1, 5, 7), states(2, 9, 3))):
        sides = text.double().numpy(), sound.double().numpy()
        if kind["fusion"] == "mixer":
            fused = mixer_formula(w, *sides, kind.get("legacy", False), blocks)
        else:
            fused = FORMULAS[kind["fusion"]](w, *sides)
        hidden = gelu(linear(w, "hidden.1", fused))
        emotion = scipy.special.log_softmax(linear(w, "outputs.emotion", hidden))
        arousal = 1 + 4 * scipy.special.expit(linear(w, "outputs.arousal", hidden))
        np.testing.assert_allclose(got["emotion"][i], emotion, rtol=0, atol=1e-5)
        np.testing.assert_allclose(got["arousal"][i], arousal[0], rtol=0, atol=1e-5)


def test_the_numbers_of_each_fusion_are_those_published():
    sizes = {
        name: build(fusion=name, encoder=CONFIG | {"hidden_size": 768}).fusion.size
        for name in fusions.FUSIONS
    }
    assert sizes == {"mixer": 256, "concat": 512, "3way": 1024, "cross": 1536}
    block = model.build("mixer", FLAGS | {"max_length": 128, "frames": 512}, 0).fusion.blocks[0]
    for part, size in ((block.steps, 640), (block.numbers, 256)):
        assert part.first.weight.shape == part.second.weight.shape == (size, size)
    assert (
        mixer.Model.DEFAULTS.items()
        >= {"optim": "adamw", "lr": 5e-5, "lr_decay": 1.0, "batch_size": 64, "epochs": 30}.items()
    )
    assert mixer.Model.DEFAULTS["text_encoder"] == "beomi/KcELECTRA-base"
    said = mixer.Settings()
    assert (said.fusion, said.blocks, said.dropout, said.context) == ("mixer", 1, 0.1, 0)
    assert (said.max_length, said.frames, said.heads) == (128, 512, "emotion,arousal,valence")


def test_the_published_block_is_another_one():
    ours, legacy = build(), build(legacy=True)
    assert ours.fusion.blocks[0].second is not None and legacy.fusion.blocks[0].second is None
    state = {n: v for n, v in ours.state_dict().items() if "0.second." not in n}
    legacy.load_state_dict(state)
    batch = batch_of([[states(1)]])
    assert differ(predict(ours, batch), predict(legacy, batch))


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


def truth(rows):
    generator = torch.Generator().manual_seed(3)
    return {
        "emotion": torch.rand(rows, 7, generator=generator).softmax(-1),
        "arousal": 1 + 4 * torch.rand(rows, generator=generator),
        "valence": 1 + 4 * torch.rand(rows, generator=generator),
    }


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


# --- with checkpoints ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny encoders of text and of sound, three wavs."""
    place = tmp_path_factory.mktemp("encoders")
    tiny_bert.write(place / "text", TEXTS)
    tiny_wav2vec2.write(place / "speech")
    rng = np.random.default_rng(0)
    for i, seconds in enumerate((0.3, 0.5, 0.21)):
        soundfile.write(place / f"{i}.wav", 0.1 * rng.standard_normal(int(seconds * 16000)), 16000)
    return place


def configured(folders, **more):
    """What training writes down of a model, before it is built."""
    settings = settings_with(
        "mixer",
        text_encoder=str(folders / "text"),
        speech_encoder=str(folders / "speech"),
        **{"dropout": 0.0} | more,
    )
    return json.loads(json.dumps(flat(model.complete(settings))))


@pytest.mark.parametrize("fusion", sorted(fusions.FUSIONS))
def test_frozen_states_give_the_prediction_of_the_encoders_themselves(folders, fusion):
    """The same weights behind the features of disk and behind the encoders in the model."""
    tuned = configured(folders, fusion=fusion, finetune=True)
    frozen = configured(folders, fusion=fusion)
    whole = model.build("mixer", tuned, seed=0).eval()
    whole.load_pretrained(SimpleNamespace(**tuned))
    part = model.build("mixer", frozen, seed=1).eval()
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()})
    settings, wavs = SimpleNamespace(**frozen), [folders / f"{i}.wav" for i in range(3)]
    texts = text_states.Extractor(text_states.Feature.parameters(settings)).many(TEXTS[:3])
    sounds = speech_states.Extractor(speech_states.Feature.parameters(settings)).many(wavs)
    rows = [
        [(torch.from_numpy(t).float(), torch.from_numpy(s).float())]
        for t, s in zip(texts, sounds, strict=True)
    ]
    reader = tokens.Extractor(tokens.Feature.parameters(settings))
    read = [
        [
            (
                torch.from_numpy(reader(text, [0])[0]).long(),
                torch.from_numpy(soundfile.read(wav, dtype="float32")[0]),
            )
        ]
        for text, wav in zip(TEXTS[:3], wavs, strict=True)
    ]
    got, expected = predict(part, batch_of(rows)), predict(whole, heard(read))
    assert differ(row(expected, 0), row(expected, 1))
    assert_equal(got, expected, 1e-3)


def test_it_starts_from_both_checkpoints(folders):
    configuration = configured(folders, finetune=True)
    assert configuration["special"] == SPECIAL and configuration["ws"] == 1
    built = model.build("mixer", configuration, seed=0)
    built.load_pretrained(SimpleNamespace(**configuration))
    for part, folder in ((built.encoder, "text"), (built.speech, "speech")):
        reference = dict(
            transformers.AutoModel.from_pretrained(folders / folder).named_parameters()
        )
        assert sum(p.numel() for p in part.parameters()) > 1000
        for name, tensor in part.named_parameters():
            assert torch.equal(tensor, reference[name]), name


@pytest.mark.parametrize("finetune", [False, True])
def test_a_trained_one_is_loaded_without_the_checkpoints(folders, tmp_path, finetune):
    own = shutil.copytree(folders, tmp_path / "own")
    configuration = configured(own, finetune=finetune, fusion="cross", heads="valence,emotion")
    built = model.build("mixer", configuration, seed=0).eval()
    built.load_pretrained(SimpleNamespace(**configuration))
    model.save(tmp_path / "run", built, configuration)
    shutil.rmtree(own)
    again, _ = model.load(tmp_path / "run")
    assert again.heads == ("emotion", "valence")
    if finetune:
        batch = heard([[spoken(1, 4, 2000)], [spoken(2, 7, 3000)]])
    else:
        batch = batch_of([[(torch.randn(5, 64), torch.randn(6, 64))]])
    assert_equal(predict(built, batch), predict(again, batch), 0)


def test_context_makes_the_window(folders):
    assert configured(folders, context=3)["ws"] == 4
    assert mixer.Model.inputs(mixer.Settings()) == ("text_states", "speech_states")
    assert mixer.Model.inputs(mixer.Settings(finetune=True)) == ("tokens", "waveform")


@pytest.mark.parametrize("part", ["text", "speech"])
def test_frozen_encoders_of_other_weights_are_refused_at_a_test(folders, tmp_path, part):
    own = shutil.copytree(folders, tmp_path / "own")
    configuration, tuned = configured(own), configured(own, finetune=True)
    settings = SimpleNamespace(**configuration)
    run_folder.refuse_another_encoder(tmp_path, settings, configuration)
    if part == "text":
        bert = transformers.AutoModel.from_pretrained(own / "text")
        bert.embeddings.word_embeddings.weight.data[7] += 1
        bert.save_pretrained(own / "text")
    else:
        tiny_wav2vec2.write(own / "speech", seed=1)
    with pytest.raises(UserError, match="files differs"):
        run_folder.refuse_another_encoder(tmp_path, settings, configuration)
    # one that is part of the model may have been trained since: the run has its weights
    run_folder.refuse_another_encoder(tmp_path, SimpleNamespace(**tuned), tuned)


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(workplace, tmp_path_factory):
    """Two finished runs, `frozen` and `tuned`, with two tiny encoders beside them."""
    place = tmp_path_factory.mktemp("mixer_run")
    (place / "corpus").symlink_to(workplace / "corpus")
    with contextlib.chdir(place):
        tiny_bert.write("bert", corpus.open_corpus("corpus").utterances["text"].tolist())
        tiny_wav2vec2.write("wav2vec2")
        assert main.main(flags("frozen", "--max_seconds", "4", "--context", "1")) == 0
        tuned = [
            "--fusion",
            "concat",
            "--finetune",
            "--context",
            "1",
            "--max_seconds",
            "2",
            "--modality_dropout",
            "0.3",
            "--encoder_lr",
            "1e-4",
        ]
        assert main.main(flags("tuned", *tuned)) == 0
    return place


def flags(name, *more):
    return [
        "--model",
        "mixer",
        "--data",
        "corpus",
        "--test_split",
        "[3,4]",
        "--text_encoder",
        "bert",
        "--speech_encoder",
        "wav2vec2",
        "--epochs",
        "1",
        "--batch_size",
        "8",
        "--gpu_id",
        "-1",
        "--precision",
        "float32",
        "--save_name",
        name,
        *more,
    ]


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_a_run_predicts_each_test_row_and_does_so_again(trained, tmp_path, name):
    place = shutil.copytree(trained, tmp_path / "place", symlinks=True)
    if name == "tuned":  # the run has its encoders
        for weights in place.glob("*/model.safetensors"):
            weights.unlink()
    with contextlib.chdir(place):
        assert main.main(["--test_only", name, "--gpu_id", "-1"]) == 0
    [tested] = (place / "exp" / name).glob("test_*")
    before, after = (
        pd.read_csv(folder / "predictions.csv") for folder in (place / "exp" / name, tested)
    )
    pd.testing.assert_frame_equal(before, after, atol=1e-5)
    assert len(before) == 12 and before["valence"].nunique() == 12
    probabilities = before[[f"p_{i}" for i in range(7)]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_a_run_writes_down_its_window_and_both_encoders(trained):
    for name in ("frozen", "tuned"):
        said = json.loads((trained / "exp" / name / "configuration.json").read_text())
        assert said["ws"] == 2 and said["heads"] == "emotion,arousal,valence"
        assert (said["encoder"]["hidden_size"], said["speech"]["hidden_size"]) == (64, 64)
        assert (said["optim"], said["lr"], said["lr_decay"]) == ("adamw", 5e-5, 1.0)


def test_a_run_moves_both_encoders_and_not_the_convolutions(trained):
    state = torch.load(trained / "exp" / "tuned" / "model.pth", weights_only=True)
    for part, folder in (("encoder", "bert"), ("speech", "wav2vec2")):
        before = transformers.AutoModel.from_pretrained(trained / folder).state_dict()
        far = {
            n: (t - state[f"{part}.{n}"]).abs().max()
            for n, t in before.items()
            if f"{part}.{n}" in state and t.is_floating_point()
        }
        still = {n for n in far if n.startswith("feature_extractor")}
        assert bool(still) == (part == "speech") and not any(far[n] for n in still)
        moved = [far[n] for n in far if n not in still]
        assert max(moved) < 1e-2  # two steps of 1e-4 away: it was loaded
        assert sum(distance > 0 for distance in moved) > 0.9 * len(moved)


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

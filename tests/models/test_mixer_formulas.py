"""The mixer against its formulas, written out."""

import numpy as np
import scipy.special
from doubles.mixer import (
    CONFIG,
    FLAGS,
    FRAMES,
    LONGEST,
    batch_of,
    build,
    differ,
    every_kind,
    predict,
    states,
)

import model
from models import mixer
from models.layers import fusions


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

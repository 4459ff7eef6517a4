"""models/highlight.py: sequences of seconds, what each logit may depend on, and learning."""

import numpy as np
import pytest
import torch
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

import model as models
import utils
from models import highlight
from training.settings import TrainingSettings
from utils import UserError

WIDTHS = {"mfcc_second": 34, "emotion_states": 6, "frames": 5}
ALL = {"emotion_run": "a", "widths": WIDTHS}
FEATURES = tuple(WIDTHS)
KINDS = {
    "both": {},
    "forward": {"bidirectional": False},
    "legacy": {"legacy": True},
    "deep": {"layers": 3},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def build(seed: int = 1, **more) -> highlight.Model:
    """A small model with weights that are large enough for its inputs to matter."""
    made = models.build("highlight", {"hidden_size": 8} | ALL | more, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return made.eval()


def video(seconds: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Features of each second, (T, D)."""
    rng = np.random.default_rng([seconds, seed])
    return {
        name: torch.from_numpy(rng.standard_normal((seconds, width)).astype(np.float32))
        for name, width in WIDTHS.items()
    }


def collate(videos: list[dict], padding: int = 0, filler: float = 0.0) -> dict:
    lengths = torch.tensor([len(v["frames"]) for v in videos])
    longest = max(1, int(lengths.max())) + padding
    mask = torch.arange(longest) < lengths[:, None]
    batch = {"mask": mask}
    for name, width in WIDTHS.items():
        batch[name] = torch.full((len(videos), longest, width), filler)
        for row, v in zip(batch[name], videos, strict=True):
            row[: len(v[name])] = v[name]
        batch[f"{name}_mask"] = mask.clone()
    return batch


@torch.no_grad()
def predict(model, batch) -> np.ndarray:
    return model(batch if "mask" in batch else collate([batch]))["highlight"].numpy()


# --- what a logit may depend on ------------------------------------------------------------------


@every_kind
@examples(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 5), st.floats(-9e3, 9e3))
def test_a_video_alone_is_the_same_video_in_a_padded_batch(kind, lengths, padding, filler):
    model, videos = build(**KINDS[kind]), [video(n, i) for i, n in enumerate(lengths)]
    among = predict(model, collate(videos, padding, filler))
    assert np.isfinite(among).all()
    for row, v, n in zip(among, videos, lengths, strict=True):
        np.testing.assert_allclose(row[:n], predict(model, v)[0, :n], rtol=0, atol=1e-5)
        assert not row[n:].any()


@every_kind
def test_what_stands_in_padding_and_masked_seconds_is_not_seen(kind):
    model, batch = build(**KINDS[kind]), collate([video(4), video(7, 1)])
    batch["frames_mask"][1, 2] = False
    batch["mfcc_second_mask"][0, 1] = False
    before = predict(model, batch)
    for name in FEATURES:
        batch[name][~(batch[f"{name}_mask"] & batch["mask"])] = torch.nan
    np.testing.assert_array_equal(predict(model, batch), before)


@pytest.mark.parametrize("name", FEATURES)
def test_a_missing_block_is_not_a_block_of_zeros(name):
    model, batch = build(), collate([video(5)])
    batch[name][0, 2] = 0
    zeros = predict(model, batch)
    batch[f"{name}_mask"][0, 2] = False
    assert abs(predict(model, batch) - zeros).max() > 1e-4


def test_a_video_with_nothing_at_all_is_judged_with_finite_numbers():
    model, batch = build(), collate([video(5)])
    for name in FEATURES:
        batch[f"{name}_mask"][:] = False
        batch[name][:] = torch.inf
    assert np.isfinite(predict(model, batch)).all()
    batch["mask"][:] = False
    assert not predict(model, batch).any()


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_of_a_second_changes_its_logit(name):
    for more in KINDS.values():
        model, batch = build(**more), collate([video(5)])
        before = predict(model, batch)
        batch[name][0, 2] += 1
        assert abs(predict(model, batch) - before)[0, 2] > 1e-5


def changed(more: dict) -> np.ndarray:
    """Which seconds of ten change when the one in the middle does."""
    model, batch = build(**more), collate([video(10)])
    before = predict(model, batch)
    batch["frames"][0, 5] += 3
    return abs(predict(model, batch) - before)[0] > 1e-7


def test_one_direction_never_sees_the_future_and_two_do():
    before, after = slice(0, 5), slice(6, 10)
    forward, both, legacy = (changed(KINDS[k]) for k in ("forward", "both", "legacy"))
    assert not forward[before].any() and forward[after].any()
    assert both[before].any() and both[after].any()
    assert np.flatnonzero(legacy).tolist() == [5]


@every_kind
def test_shuffled_seconds_say_something_else_but_for_legacy(kind):
    model, whole = build(**KINDS[kind]), video(12)
    order = np.random.default_rng(0).permutation(12)
    shuffled = predict(model, {name: values[order] for name, values in whole.items()})[0]
    differ = abs(shuffled - predict(model, whole)[0][order]).max()
    assert differ < 1e-6 if kind == "legacy" else differ > 1e-3


def test_it_is_the_formula_in_one_direction():
    model, x = build(bidirectional=False), video(6)
    with torch.no_grad():
        blocks = [model.blocks[name](x[name]) for name in FEATURES]  # nothing standardised yet
        states, _ = model.recurrent(torch.cat(blocks, -1)[None])
        expected = states[0] @ model.output.weight[0] + model.output.bias
    np.testing.assert_allclose(predict(model, x)[0], expected, atol=1e-5)


def test_a_backward_half_is_the_forward_half_of_the_video_turned_round():
    model, x = build(), video(6)
    turned = build()
    for name, value in turned.recurrent.named_parameters():
        twin = name.removesuffix("_reverse") if "_reverse" in name else f"{name}_reverse"
        value.data.copy_(getattr(model.recurrent, twin))
    turned.output.weight.data.copy_(model.output.weight.roll(8, 1))
    back = predict(turned, {name: values.flip(0) for name, values in x.items()})[0]
    np.testing.assert_allclose(back[::-1], predict(model, x)[0], atol=1e-5)


@every_kind
def test_gradients_reach_every_parameter(kind):
    model, batch = build(**KINDS[kind]).train(), collate([video(4), video(7, 1)])
    for name in FEATURES:
        batch[f"{name}_mask"][1, 2] = False  # else nothing is absent
    logits = model(batch)["highlight"]
    binary_cross_entropy_with_logits(logits, (logits > 0).float()).backward()
    learning = {n: p for n, p in model.named_parameters() if not (kind == "legacy" and "_hh_" in n)}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in learning.values())


def test_inputs_are_standardised_by_what_is_trained_on():
    model, videos = build(dropout=0.0), [video(4), video(7, 1)]
    batch = collate([{n: 500 + 30 * v for n, v in x.items()} for x in videos], 2, 9e9)
    batch["frames_mask"][0, 1] = False
    batch["frames_mask"][:, 7:] = True  # padding is no second, whatever its features say
    model.train()(batch)
    for name in FEATURES:
        there = batch["mask"] & batch[f"{name}_mask"]
        np.testing.assert_allclose(
            model.standardised[name].mean, batch[name][there].double().mean(0), rtol=1e-6
        )
    assert int(model.standardised["frames"].count) == 10
    kept = {n: t.clone() for n, t in model.state_dict().items()}
    predict(model.eval(), collate(videos))
    assert all(torch.equal(t, kept[n]) for n, t in model.state_dict().items())


def test_half_precision_says_the_same():
    model, batch = build().eval(), collate([video(5)])
    exact = predict(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(predict(model, batch), exact)


def test_an_hour_is_judged_at_once():
    assert predict(build(), video(3600)).shape == (1, 3600)


# --- learning ------------------------------------------------------------------------------------


RULES = {
    "audio": ("mfcc_second", "mfcc_second"),
    "video": ("frames", "frames"),
    "both": ("emotion_states", "frames"),
}


def planted(rule: str, seed: int) -> tuple[dict, torch.Tensor]:
    """A video whose highlights are where one feature was low a second ago and one is high now."""
    v = video(24, seed)
    for name in FEATURES:
        v[name][:, 1] = 700 * v[name][:, 1].sign() - 300
    before, now = (v[name][:, 1] > 0 for name in RULES[rule])
    truth = (now & ~before.roll(1)).float()
    truth[0] = 0
    return v, truth


@pytest.mark.parametrize("rule", RULES)
def test_each_modality_learns_a_rule_of_a_second_and_the_one_before(rule):
    torch.manual_seed(0)
    given = {"hidden_size": 16, "modality": rule, "dropout": 0.0} | ALL
    made = models.build("highlight", given, seed=0)
    videos, truth = zip(*(planted(rule, seed) for seed in range(100)), strict=True)
    truth, optimizer = torch.stack(truth), torch.optim.Adam(made.parameters(), lr=0.01)
    for step in range(100):
        rows = [(8 * step + i) % 80 for i in range(8)]
        out = made.train()(collate([videos[i] for i in rows]))["highlight"]
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(out, truth[rows]).backward()
        optimizer.step()
    got = predict(made.eval(), collate(videos[80:])) > 0
    assert (got == (truth[80:].numpy() > 0)).mean() > 0.95


# --- settings ------------------------------------------------------------------------------------


def test_inputs_stand_in_one_order():
    order = {
        name: [
            highlight.Model.inputs(highlight.Settings(modality=name, emotion_run=run))
            for run in ("", "exp/a")
        ]
        for name in highlight.MODALITIES
    }
    assert order == {
        "both": [("mfcc_second", "frames"), ("mfcc_second", "emotion_states", "frames")],
        "audio": [("mfcc_second",), ("mfcc_second", "emotion_states")],
        "video": [("frames",), ("frames",)],
    }


def test_a_model_of_one_modality_reads_nothing_else():
    for name, kept in (("audio", FEATURES[:2]), ("video", FEATURES[2:])):
        batch = collate([video(3)])
        for other in set(FEATURES) - set(kept):
            del batch[other], batch[f"{other}_mask"]
        assert predict(build(modality=name), batch).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widths": None}, "needs `widths` of mfcc_second, frames"),
        ({"dropout": 1.0}, r"--dropout should be in \[0, 1\)"),
        ({"modality": "text"}, "choose one of both, audio, video"),
        ({"ws": 0}, "ws should be at least 1"),
        ({"pos_weight": -1.0}, "pos_weight should be at least 0"),
        ({"emotion_seconds": 0}, "emotion_seconds should be at least 1"),
    ],
)
def test_settings_that_make_no_model_are_an_error(given, message):
    with pytest.raises(UserError, match=message):
        models.build("highlight", {"widths": WIDTHS} | given, seed=0)


def said(**more) -> TrainingSettings:
    return settings_with("highlight", vision_encoder="colour-motion", save_path="exp", **more)


def test_widths_are_those_of_the_features():
    settings = models.complete(said())
    leaves = {name: utils.leaf("features", name) for name in ("mfcc_second", "frames")}
    expected = {n: leaf.shape(leaf.parameters(settings))[0] for n, leaf in leaves.items()}
    assert settings.widths == expected and set(settings.computed_by) == set(expected)
    models.build("highlight", vars(settings), seed=0)
    assert models.complete(settings) == settings  # once more, as testing does


def test_a_run_is_not_tested_with_other_frames():
    settings = models.complete(said())
    settings.computed_by["frames"] = "0123abcd"
    with pytest.raises(UserError, match="--vision_encoder colour-motion is not what this run was"):
        models.complete(settings)
    settings = models.complete(said(modality="audio"))
    settings.computed_by["mfcc_second"] = "0123abcd"
    with pytest.raises(UserError, match="this version is not .* mfcc_second differ"):
        models.complete(settings)


def test_an_encoder_may_lie_elsewhere_but_not_be_another():
    here, there = ({"encoder": path, "content": "1f", "dim": 4} for path in ("/a/vit", "/b/vit"))
    assert highlight._files(here) == highlight._files(there)
    assert highlight._files(here) != highlight._files(here | {"content": "2f"})
    assert highlight._files({"encoder": "a/vit"}) != highlight._files({"encoder": "b/vit"})


def test_a_run_is_not_tested_with_another_version_of_a_feature(monkeypatch):
    settings = models.complete(said(modality="audio"))
    leaf = utils.leaf("features", "mfcc_second")
    monkeypatch.setattr(leaf, "VERSION", leaf.VERSION + 1)
    with pytest.raises(UserError, match="mfcc_second differ"):
        models.complete(settings)


def test_a_saved_model_gives_the_same_numbers(tmp_path):
    built, batch = build(), collate([video(5)])
    built.train()(batch)
    models.save(tmp_path, built, {"model": "highlight", "hidden_size": 8} | ALL)
    loaded, _ = models.load(tmp_path)
    assert models.heads(loaded) == ("highlight",) and highlight.Model.SEQUENCE
    np.testing.assert_array_equal(predict(loaded, batch), predict(built.eval(), batch))

"""What every model keeps to, and how models are built."""

import dataclasses

import pytest
import torch
from doubles.small_models import LEAVES, ROWS, SMALL, TINY, W, predict, small, windows

import loss
import model
import utils
from constants import HEADS, SCALE
from training.modality_dropout import drop_modality
from utils import UserError


def has_gradients(name):
    """Whether a plugin learns by gradients: the others are FITTED (model.py)."""
    return not utils.leaf("models", name).FITTED


NETWORKS = [name for name in LEAVES if has_gradients(name)]


def variants(names):
    """(name, configuration) of every leaf: its defaults, then each alternative of each setting."""
    for name in names:
        base = small(name)
        yield pytest.param(name, base, id=name)
        for field in dataclasses.fields(utils.leaf("models", name).Settings):
            values = (True, False) if field.type is bool else field.metadata["choices"] or ()
            for value in values:
                if value != field.default:
                    changed = base | {field.name: value}
                    yield pytest.param(name, changed, id=f"{name}-{field.name}={value}")


every_leaf = pytest.mark.parametrize("name", LEAVES)
every_model = pytest.mark.parametrize(("name", "configuration"), list(variants(LEAVES)))
every_network = pytest.mark.parametrize(("name", "configuration"), list(variants(NETWORKS)))


def other(values):
    """As many other values of a feature: ids stay ids."""
    if not values.is_floating_point():
        return (values + 11) % (TINY["vocab_size"] - 5) + 5
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(9))


def lively(name, configuration):
    """A model whose predictions differ between rows: its weights are large, or it was fitted."""
    built = model.build(name, configuration, seed=7)
    if not has_gradients(name):
        built.fit(windows(name, configuration, seed=1, rows=60))
    built.eval()
    batch = windows(name, configuration)
    while predict(built, batch)["emotion"].std(0).max() < 0.05:
        for parameter in built.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(1.3)
    return built


# --- every leaf ----------------------------------------------------------------------------------


@every_model
def test_a_prediction_has_every_head_in_its_range(name, configuration):
    prediction = predict(lively(name, configuration), windows(name, configuration))
    assert set(prediction) == set(model.heads(lively(name, configuration))) == set(HEADS)
    for head, value in prediction.items():
        assert value.isfinite().all()
        if HEADS[head].kind == "distribution":
            assert value.shape == (ROWS, HEADS[head].size)
            torch.testing.assert_close(value.exp().sum(-1), torch.ones(ROWS))
        else:
            assert value.shape == (ROWS,)
            assert ((value >= SCALE[0]) & (value <= SCALE[1])).all()
    # rows differ, or the tests below would see nothing
    assert prediction["emotion"].std(0).max() > 1e-3


@every_model
def test_what_stands_in_padding_does_not_change_a_prediction(name, configuration):
    built, batch = lively(name, configuration), windows(name, configuration)
    before = predict(built, batch)
    for feature in model.inputs(name, configuration):
        values, unseen = batch[feature], ~model.mask_of(batch, feature)
        values[unseen] = torch.nan if values.is_floating_point() else 7
    after = predict(built, batch)
    assert all(torch.equal(after[head], before[head]) for head in HEADS)


@every_model
def test_what_stands_in_an_utterance_does_change_a_prediction(name, configuration):
    built, batch = lively(name, configuration), windows(name, configuration)
    before = predict(built, batch)["emotion"]
    heard = model.inputs(name, configuration)
    if configuration.get("legacy"):  # as published, the place that is read listens to itself alone
        heard = heard[:1]
    for feature in heard:
        changed = batch[feature].clone()
        changed[:, -1] = other(changed[:, -1])
        after = predict(built, batch | {feature: changed})["emotion"]
        assert (after - before).abs().max() > 1e-4


@every_model
def test_a_feature_of_its_own_mask_is_unseen_where_that_is_false(name, configuration):
    built, batch = lively(name, configuration), windows(name, configuration)
    feature = model.inputs(name, configuration)[0]
    own = model.mask_of(batch, feature).clone()
    own[:, -1] = False
    batch[f"{feature}_mask"] = own
    before = predict(built, batch)
    batch[feature][:, -1] = 1e4 if batch[feature].is_floating_point() else 7
    after = predict(built, batch)
    assert all(torch.equal(after[head], before[head]) for head in HEADS)


@every_model
def test_a_row_alone_is_the_same_row_in_a_batch(name, configuration):
    built, batch = lively(name, configuration), windows(name, configuration)
    together = predict(built, batch)
    for i in range(ROWS):
        alone = predict(built, {key: value[i : i + 1] for key, value in batch.items()})
        for head in HEADS:
            torch.testing.assert_close(alone[head], together[head][i : i + 1], atol=1e-4, rtol=0)


@every_network
def test_every_parameter_gets_a_finite_gradient(name, configuration):
    built, batch = model.build(name, configuration, seed=7), windows(name, configuration)
    loss.EmotionLoss(0.66)(built(batch), batch)["loss"].backward()
    for parameter_name, parameter in built.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
    assert any(p.grad.any() for p in built.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_against_the_gradient_make_the_loss_smaller(name):
    built, batch = model.build(name, small(name), seed=7), windows(name, small(name))
    # small steps: BatchNorm over three rows turns larger ones into luck, other on each processor
    optimizer = torch.optim.Adam(built.parameters(), lr=1e-4)
    totals = []
    for _ in range(8):
        total = loss.EmotionLoss(0.66)(built(batch), batch)["loss"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert min(totals[1:]) < totals[0]


@every_model
def test_a_saved_model_gives_the_same_numbers(name, configuration, tmp_path):
    built, batch = lively(name, configuration), windows(name, configuration)
    flags = configuration | {"model": name, "epochs": 50}
    model.save(tmp_path / "run", built, flags)
    loaded, read = model.load(tmp_path / "run")
    assert read == flags
    assert not loaded.training
    before, after = predict(built, batch), predict(loaded, batch)
    assert all(torch.equal(after[head], before[head]) for head in HEADS)


@every_model
def test_bfloat16_stays_finite_and_near(name, configuration):
    built, batch = lively(name, configuration), windows(name, configuration)
    exact = predict(built, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = predict(built, batch)
    for head in HEADS:
        assert half[head].dtype == torch.float32
        assert half[head].isfinite().all()
        torch.testing.assert_close(half[head], exact[head], atol=0.3, rtol=0.05)


@every_network
def test_training_in_bfloat16_gives_finite_gradients(name, configuration):
    built, batch = model.build(name, configuration, seed=7), windows(name, configuration)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = built(batch)
    loss.CBLoss(0.66, 0.99, [5] * 7)(prediction, batch)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in built.parameters() if p.requires_grad)


@every_model
def test_a_window_of_padding_alone_is_judged(name, configuration):
    built, batch = lively(name, configuration), windows(name, configuration, rows=1)
    batch |= {key: torch.zeros_like(mask) for key, mask in batch.items() if key.endswith("mask")}
    assert all(value.isfinite().all() for value in predict(built, batch).values())


@every_leaf
def test_double_precision_passes_through(name):
    built, batch = lively(name, small(name)), windows(name, small(name))
    single = predict(built, batch)
    double = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    exact = predict(built.double(), double)
    for head in HEADS:
        assert exact[head].dtype == torch.float64
        torch.testing.assert_close(single[head].double(), exact[head], atol=1e-4, rtol=0)


# --- building ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    states = [model.build("mate", SMALL, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    first, again, other = (state["recurrent.weight_ih_l0"] for state in states)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_count_is_that_of_the_numbers_learnt():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert model.count(layer) == 3 * 4 + 4 + 4 + 4
    layer[0].weight.requires_grad_(False)
    assert model.count(layer) == 4 + 4 + 4


def test_keys_that_are_no_setting_are_left_alone():
    chosen = model.settings("mate", {"ws": 5, "epochs": "many"})
    assert (chosen.ws, chosen.backbone) == (5, "lstm")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ws": "8"}, "ws should be int, it is '8'"),
        ({"ws": True}, "ws should be int, it is True"),
        ({"ws": 0}, "ws should be at least 1, it is 0"),
        ({"hidden_size": 51.2}, "hidden_size should be int, it is 51.2"),
        ({"bidirectional": 1}, "bidirectional should be bool, it is 1"),
        ({"backbone": "rnn"}, "backbone 'rnn': choose one of lstm, gru"),
        ({"backbone": None}, "backbone should be str, it is None"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        model.build("mate", given)


def test_an_unknown_model_lists_those_there_are():
    with pytest.raises(UserError, match="no 'mat' in models/; there are: .*mate"):
        model.build("mat", {})


# --- masks ---------------------------------------------------------------------------------------


def two_features(rows=2000):
    """A batch whose first window has no sentence and second no sound at all."""
    mask = torch.ones(rows, W).bool()
    mask[:, 0] = False
    batch = {"mask": mask, "log_mel_mask": mask.clone(), "sentence_mask": mask.clone()}
    batch["sentence_mask"][0] = False
    batch["log_mel_mask"][1] = False
    return batch


FEATURES = ("log_mel", "sentence")


def test_a_dropped_modality_is_dropped_whole_and_never_both():
    batch = two_features()
    masks = drop_modality(batch, FEATURES, 0.5, utils.rng(0, "modality"))
    assert set(masks) == {"log_mel_mask", "sentence_mask"}
    for name, mask in masks.items():
        lost = mask != batch[name]
        assert torch.equal(lost.any(1), (lost == batch[name]).all(1) & batch[name].any(1))
    assert torch.stack([masks[name].any(1) for name in masks]).any(0).all()


def test_modalities_are_dropped_evenly_at_the_rate_asked_for():
    batch = two_features()
    masks = drop_modality(batch, FEATURES, 0.3, utils.rng(0, "modality"))
    for name, mask in masks.items():
        share = (~mask.any(1)).float().mean().item()
        assert share == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / 2000) ** 0.5), name


def test_a_window_with_one_modality_keeps_it():
    batch = two_features(rows=2)
    for seed in range(20):
        masks = drop_modality(batch, FEATURES, 1.0, utils.rng(seed, "modality"))
        assert all(torch.equal(masks[name], batch[name]) for name in masks)
    masks = drop_modality(batch, ("sentence",), 1.0, utils.rng(0, "modality"))
    assert torch.equal(masks["sentence_mask"], batch["sentence_mask"])


def test_dropping_draws_from_the_generator_alone_and_leaves_the_batch():
    batch = two_features()
    before = {name: mask.clone() for name, mask in batch.items()}
    first, again, other = (
        drop_modality(batch, FEATURES, 0.5, utils.rng(seed, "modality")) for seed in (1, 1, 2)
    )
    assert torch.equal(first["log_mel_mask"], again["log_mel_mask"])
    assert not torch.equal(first["log_mel_mask"], other["log_mel_mask"])
    assert all(torch.equal(batch[name], before[name]) for name in batch)


def test_nothing_is_dropped_at_rate_zero():
    batch = two_features()
    masks = drop_modality(batch, FEATURES, 0.0, utils.rng(0, "modality"))
    assert all(torch.equal(masks[name], batch[name]) for name in masks)


def test_dropping_reaches_ragged_masks_and_defaults_to_the_mask_of_the_rows():
    batch = {"mask": torch.ones(50, W).bool(), "frames": torch.zeros(50, W, 5)}
    batch["frames_mask"] = torch.ones(50, W, 5).bool()
    masks = drop_modality(batch, ("frames", "sentence"), 1.0, utils.rng(0, "modality"))
    assert masks["frames_mask"].shape == (50, W, 5)
    assert masks["sentence_mask"].shape == (50, W)
    assert torch.equal(masks["frames_mask"].all((1, 2)), ~masks["sentence_mask"].all(1))

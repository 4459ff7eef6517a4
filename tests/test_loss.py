"""Losses against torch's own and against the formulas written out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import loss
from constants import EMOTIONS
from loss import CBLoss, EmotionLoss, class_weights
from utils import UserError

COUNTS = (10, 25, 10, 10, 10, 40, 10)


def example(rows=5, seed=0, dtype=torch.float32):
    """A prediction whose leaves take gradients, and a batch of votes with zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 7, generator=generator, dtype=dtype)
    votes = torch.randint(0, 4, (rows, 7), generator=generator).to(dtype)
    votes[:, 0] += 1  # nobody is left without a vote
    prediction = {"emotion": logits.log_softmax(-1)}
    batch = {"emotion": votes / votes.sum(-1, keepdim=True)}
    for name in ("arousal", "valence"):
        prediction[name] = 1 + 4 * torch.rand(rows, generator=generator, dtype=dtype)
        batch[name] = 1 + 4 * torch.rand(rows, generator=generator, dtype=dtype)
    return {name: p.requires_grad_() for name, p in prediction.items()}, batch


def test_the_normal_loss_is_the_formula_of_torch():
    prediction, batch = example()
    losses = EmotionLoss(0.66)(prediction, batch)
    divergence = F.kl_div(prediction["emotion"], batch["emotion"], reduction="batchmean")
    arousal = F.mse_loss(prediction["arousal"], batch["arousal"])
    valence = F.mse_loss(prediction["valence"], batch["valence"])
    torch.testing.assert_close(losses["loss/emotion"], divergence)
    torch.testing.assert_close(losses["loss/arousal"], arousal)
    torch.testing.assert_close(losses["loss/valence"], valence)
    expected = 0.66 * divergence + 0.34 * arousal + 0.34 * valence
    torch.testing.assert_close(losses["loss"], expected)


def test_the_normal_loss_is_the_sum_written_out():
    batch = {"emotion": [[0.6, 0.4, 0, 0, 0, 0, 0]], "arousal": [2.0], "valence": [4.5]}
    batch = {name: torch.tensor(value) for name, value in batch.items()}
    p = [0.5, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05]
    prediction = {
        "emotion": torch.tensor([p]).log(),
        "arousal": torch.tensor([3.0]),
        "valence": torch.tensor([4.0]),
    }
    divergence = 0.6 * math.log(0.6 / 0.5) + 0.4 * math.log(0.4 / 0.2)
    total = 0.9 * divergence + 0.1 * (1.0**2 + 0.5**2)
    assert EmotionLoss(0.9)(prediction, batch)["loss"].item() == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("cb_counts", loss.COUNTS)
def test_the_class_balanced_loss_is_the_weighted_formula_of_torch(cb_counts):
    prediction, batch = example()
    balanced = CBLoss(0.9, 0.9, COUNTS, cb_counts)
    losses = balanced(prediction, batch)
    entropy = F.binary_cross_entropy(
        prediction["emotion"].exp(), batch["emotion"], weight=balanced.weights.float()
    )  # the mean over rows and classes, as in 2022
    arousal = F.mse_loss(prediction["arousal"], batch["arousal"])
    valence = F.mse_loss(prediction["valence"], batch["valence"])
    torch.testing.assert_close(losses["loss/emotion"], entropy)
    torch.testing.assert_close(losses["loss"], 0.9 * entropy + 0.1 * (arousal + valence))


def test_the_gradient_to_the_logits_is_that_of_the_formula_of_torch():
    _, batch = example(dtype=torch.float64)
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logits.requires_grad_()
    balanced = CBLoss(1, 0.9, COUNTS)
    scales = {name: batch[name] for name in ("arousal", "valence")}
    ours = balanced({"emotion": logits.log_softmax(-1), **scales}, batch)["loss"]
    theirs = F.binary_cross_entropy(logits.softmax(-1), batch["emotion"], weight=balanced.weights)
    gradients = [torch.autograd.grad(x, logits)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_legacy_weights_are_those_of_a_hand():
    # 25 / 10 is cut to 2, 40 / 10 is 4; 0.1 / 0.19 and 0.1 / 0.3439
    expected = [1, 0.5263157895, 1, 1, 1, 0.2907822041, 1]
    assert class_weights(COUNTS, 0.9, "legacy") == pytest.approx(expected, rel=1e-9)


def test_legacy_weights_are_made_as_in_2022():
    counts = torch.tensor([31.0, 508, 333, 270, 401, 2033, 640])
    n = (counts / min(counts)).int()
    expected = (torch.ones(7) - 0.99) / (torch.ones(7) - torch.pow(torch.full((7,), 0.99), n))
    weights = torch.tensor(class_weights(counts.int().tolist(), 0.99))
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=0)


def test_exact_weights_are_those_of_a_hand_and_sum_to_seven():
    weights = class_weights((1, 2, 1, 1, 1, 3, 1), 0.5, "exact")
    raw = [1, 2 / 3, 1, 1, 1, 4 / 7, 1]  # 0.5 / 0.5, 0.5 / 0.75, 0.5 / 0.875
    assert weights == pytest.approx([7 * w / sum(raw) for w in raw])
    assert sum(weights) == pytest.approx(7)


def test_beta_zero_weighs_every_class_alike():
    assert class_weights(COUNTS, 0, "legacy") == [1] * 7
    assert class_weights(COUNTS, 0, "exact") == [1] * 7


@pytest.mark.parametrize("cb_counts", loss.COUNTS)
def test_a_class_without_training_rows_weighs_nothing_and_is_named(cb_counts):
    balanced = CBLoss(0.66, 0.99, (0, 25, 10, 0, 10, 40, 10), cb_counts)
    assert balanced.absent == ("disgust", "fear")
    assert balanced.weights[[0, 3]].tolist() == [0, 0]
    assert (balanced.weights[[1, 2, 4, 5, 6]] > 0).all()
    assert len(balanced.weights) == len(EMOTIONS)


@pytest.mark.parametrize("name", ["normal", "cbloss"])
def test_rows_without_truth_add_nothing(name):
    prediction, batch = example(rows=6)
    chosen = loss.build(name, 0.66, 0.9, COUNTS)
    masks = {
        "emotion_mask": torch.tensor([1, 1, 0, 1, 0, 1]).bool(),
        "arousal_mask": torch.tensor([0, 1, 0, 1, 1, 1]).bool(),
    }
    for head in ("emotion", "arousal"):
        batch[head][~masks[f"{head}_mask"]] = torch.nan
    masked = chosen(prediction, batch | masks)
    for head in ("emotion", "arousal"):
        kept = masks[f"{head}_mask"]
        alone = chosen(
            {h: p[kept] for h, p in prediction.items()}, {h: t[kept] for h, t in batch.items()}
        )
        torch.testing.assert_close(masked[f"loss/{head}"], alone[f"loss/{head}"])
    masked["loss"].backward()
    assert all(p.grad.isfinite().all() for p in prediction.values())
    assert not prediction["emotion"].grad[2].any()


@pytest.mark.parametrize("name", ["normal", "cbloss"])
def test_a_head_without_any_truth_gives_zero_and_no_nan(name):
    prediction, batch = example()
    masks = {f"{head}_mask": torch.zeros(5).bool() for head in prediction}
    losses = loss.build(name, 0.66, 0.9, COUNTS)(prediction, batch | masks)
    assert all(value.item() == 0 for value in losses.values())
    losses["loss"].backward()
    assert all(not p.grad.any() for p in prediction.values())


@pytest.mark.parametrize("name", ["normal", "cbloss"])
@given(
    logits=st.lists(st.floats(-1e30, 1e30), min_size=7, max_size=7),
    votes=st.lists(st.integers(0, 10), min_size=7, max_size=7).filter(any),
)
@settings(max_examples=60, deadline=None)
def test_underflowing_probabilities_give_finite_losses_and_gradients(name, logits, votes):
    leaf = torch.tensor([logits], requires_grad=True)
    target = torch.tensor([votes], dtype=torch.float32)
    batch = {"emotion": target / target.sum(), "arousal": torch.ones(1), "valence": torch.ones(1)}
    scales = {"arousal": torch.tensor([3.0]), "valence": torch.tensor([3.0])}
    prediction = {"emotion": leaf.log_softmax(-1), **scales}
    total = loss.build(name, 0.66, 0.9, COUNTS)(prediction, batch)["loss"]
    total.backward()
    assert total.isfinite()
    assert leaf.grad.isfinite().all()


def test_a_certain_wrong_answer_costs_what_it_should():
    logits = torch.tensor([[200.0, 0, 0, 0, 0, 0, 0]])  # 1 - p is 0 in float32, e^-200 too
    log_rest = loss.log_rest(logits.log_softmax(-1))
    assert log_rest[0, 0].item() == pytest.approx(math.log(6) - 200, rel=1e-6)
    assert log_rest[0, 1].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["normal", "cbloss"])
def test_gradients_agree_with_finite_differences(name):
    prediction, batch = example(rows=3, dtype=torch.float64)
    chosen = loss.build(name, 0.66, 0.9, COUNTS)

    def total(emotion, arousal, valence):
        heads = {"emotion": emotion, "arousal": arousal, "valence": valence}
        return chosen(heads, batch)["loss"]

    inputs = [prediction[head].detach().requires_grad_() for head in prediction]
    assert torch.autograd.gradcheck(total, inputs)


def test_half_precision_predictions_are_judged_in_float32():
    prediction, batch = example()
    halves = {head: p.detach().bfloat16() for head, p in prediction.items()}
    losses = CBLoss(0.66, 0.9, COUNTS)(halves, batch)
    assert {value.dtype for value in losses.values()} == {torch.float32}


def test_a_column_against_a_row_is_refused():
    prediction, batch = example()
    prediction["arousal"] = prediction["arousal"].unsqueeze(-1)
    with pytest.raises(ValueError, match=r"arousal: prediction \(5, 1\) and truth \(5,\) differ"):
        EmotionLoss(0.66)(prediction, batch)


def test_a_misspelt_head_is_not_swallowed():
    prediction, batch = example()
    prediction["arousel"] = prediction.pop("arousal")
    with pytest.raises(ValueError, match="no head 'arousel'"):
        EmotionLoss(0.66)(prediction, batch)


def test_a_model_of_one_head_learns_from_that_alone():
    prediction, batch = example()
    whole = EmotionLoss(0.66)(prediction, batch)
    alone = EmotionLoss(0.66)({"emotion": prediction["emotion"]}, batch)
    assert set(alone) == {"loss", "loss/emotion"}
    assert alone["loss"] == alone["loss/emotion"] == whole["loss/emotion"]
    two = EmotionLoss(0.66)({n: prediction[n] for n in ("emotion", "valence")}, batch)
    assert two["loss"].item() == pytest.approx(
        0.66 * whole["loss/emotion"].item() + 0.34 * whole["loss/valence"].item()
    )


@pytest.mark.parametrize("lam", [-0.1, 2, float("nan")])
def test_lambda_outside_its_range_is_refused(lam):
    with pytest.raises(UserError, match=r"lam should lie in \[0, 1\], it is"):
        EmotionLoss(lam)


@pytest.mark.parametrize("beta", [-0.1, 1, float("nan")])
def test_beta_outside_its_range_is_refused(beta):
    with pytest.raises(UserError, match=r"beta should lie in \[0, 1\), it is"):
        CBLoss(0.66, beta, COUNTS)


def test_classes_without_any_row_are_refused():
    with pytest.raises(UserError, match="needs training rows with an emotion"):
        CBLoss(0.66, 0.99, [0] * 7)


def test_an_unknown_name_lists_the_losses_there_are():
    with pytest.raises(UserError, match="no loss 'focal'; there are: normal, cbloss"):
        loss.build("focal", 0.66, 0.99, COUNTS)
    with pytest.raises(UserError, match="choose one of legacy, exact"):
        loss.build("cbloss", 0.66, 0.99, COUNTS, "median")

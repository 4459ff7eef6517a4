"""models/alexnet.py against AlexNet as it is published, and what must not change a prediction.

The reference is one utterance at a time, without masks, in double precision, its channels made by
loops over cells; it shares the weights alone.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import nn

import model
from constants import HEADS
from models import alexnet
from training import flags as training_flags
from utils import UserError

ALL = {"heads": "emotion,arousal,valence"}
BINS = 80  # 321 show nothing else, and take five times as long
PUBLISHED = {"delta_axis": "frequency", "pool": "sum", "standardise": False, "batchnorm": False}


def utterance(frames: int, seed: int = 0, bins: int = BINS) -> np.ndarray:
    """(frames, bins) float32 like a log spectrogram: stripes, a slope, and noise."""
    rng = np.random.default_rng([frames, seed])
    stripes = np.sin(np.outer(np.arange(frames) * rng.uniform(0.02, 0.5), np.ones(bins)))
    slope = np.linspace(rng.uniform(8, 20), rng.uniform(0, 8), bins)
    values = slope + 4 * stripes + rng.uniform(0.5, 3) * rng.standard_normal((frames, bins))
    return values.clip(0).astype(np.float32)


def batch(utterances, steps: int | None = None, filling: float = 0.0, ws: int = 1) -> dict:
    """Utterances, None: it has none, in the last slot of a window, `filling` after their end."""
    lengths = [0 if values is None else len(values) for values in utterances]
    steps = max(1, *lengths, steps or 0)
    x = torch.full((len(utterances), ws, steps, BINS), filling)
    mask = torch.zeros(len(utterances), ws, steps, dtype=torch.bool)
    for i, (values, length) in enumerate(zip(utterances, lengths, strict=True)):
        if length:
            x[i, -1, :length], mask[i, -1, :length] = torch.from_numpy(values), True
    return {"spectrogram": x, "spectrogram_mask": mask, "mask": mask.any(-1)}


def built(seed: int = 0, **flags) -> nn.Module:
    """In evaluation mode, with biases that are not zero: they would show in what is padded."""
    made = model.build("alexnet", ALL | flags, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for convolution in made.convolutions:
        nn.init.normal_(convolution.bias, std=0.1, generator=generator)
    if isinstance(made.normalise, nn.BatchNorm1d):
        made.normalise.running_mean.uniform_(0, 2, generator=generator)
        made.normalise.running_var.uniform_(0.5, 2, generator=generator)
    return made


def flat(prediction: dict) -> torch.Tensor:
    """{head: output} -> (B, 9): probabilities and scales."""
    scales = [prediction[name].unsqueeze(1) for name in ("arousal", "valence")]
    return torch.cat([prediction["emotion"].exp(), *scales], 1)


def predicted(made: nn.Module, *arguments, **options) -> torch.Tensor:
    with torch.no_grad():
        return flat(made(batch(*arguments, **options)))


def assert_same(ours: torch.Tensor, others: torch.Tensor) -> None:
    torch.testing.assert_close(ours, others, atol=1e-5, rtol=0)


# --- the published network ----------------------------------------------------------------------


def published(state: dict) -> list[nn.Module]:
    """`features` of torchvision.models.AlexNet as its source has it, with the weights of ours."""
    layers = [
        nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
    ]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for n, layer in enumerate(convolutions):
        parts = {part: state[f"convolutions.{n}.{part}"] for part in ("weight", "bias")}
        layer.load_state_dict(parts)
    return [layer.double() for layer in layers]


def mapped(state: dict, x: np.ndarray, frames: int) -> torch.Tensor:
    """(3, T, F) -> (256, positions that see one of the first `frames`), one by one."""
    maps, seen = torch.from_numpy(x).unsqueeze(0), [t < frames for t in range(x.shape[1])]
    for layer in published(state):
        maps = layer(maps)
        if isinstance(layer, nn.ReLU):
            continue
        kernel, stride, padding = (
            v if isinstance(v, int) else v[0]
            for v in (layer.kernel_size, layer.stride, layer.padding)
        )
        starts = [i * stride - padding for i in range(maps.shape[2])]
        seen = [any(seen[max(0, start) : start + kernel]) for start in starts]
        maps = maps * torch.tensor(seen)[:, None]
    return maps[0][:, torch.tensor(seen)].flatten(1)


def differences(x: np.ndarray, axis: str) -> np.ndarray:
    """x[t] - x[t - 1] cell by cell; the first is the second."""
    out = np.zeros_like(x)
    for t in range(x.shape[0]):
        for f in range(x.shape[1]):
            if axis == "time":
                out[t, f] = x[max(t, 1), f] - x[max(t, 1) - 1, f]
            else:
                out[t, f] = x[t, max(f, 1)] - x[t, max(f, 1) - 1]
    return out


def reference(made: nn.Module, values: np.ndarray, flags: dict) -> torch.Tensor:
    """(T, F) -> (9,): what the published layers make of an utterance alone."""
    x = values.astype(np.float64)
    if flags.get("standardise", True):
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    x = np.pad(x, ((0, max(0, 100 - len(x))), (0, 0)))
    axis = flags.get("delta_axis", "time")
    delta = differences(x, axis)
    stack = np.stack([x, delta, differences(delta, axis)])
    stack[:, len(values) :] = 0
    state = made.state_dict()
    maps = mapped(state, stack, len(values))
    pooled = maps.sum(1) if flags.get("pool") == "sum" else maps.mean(1)
    if "normalise.weight" in state:
        mean, var, weight, bias = (
            state[f"normalise.{part}"].double()
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        pooled = (pooled - mean) / (var + 1e-5).sqrt() * weight + bias
    outputs = {
        name: state[f"outputs.{name}.weight"].double() @ pooled
        + state[f"outputs.{name}.bias"].double()
        for name in HEADS
    }
    scales = [4 / (1 + torch.exp(-outputs[name])) + 1 for name in ("arousal", "valence")]
    return torch.cat([outputs["emotion"].softmax(0), *scales])


@pytest.mark.parametrize(
    "flags",
    [{}, PUBLISHED, *({name: PUBLISHED[name]} for name in PUBLISHED)],
    ids=["default", "published", *PUBLISHED],
)
@pytest.mark.parametrize("frames", [1, 37, 90, 99, 100, 143, 185])
def test_an_utterance_in_a_padded_batch_is_given_what_alexnet_gives_it_alone(flags, frames):
    made = built(**flags)
    for output in made.outputs.values():  # sums of raw numbers would saturate every softmax
        output.weight.data *= 1e-3 if flags.get("standardise") is False else 0.1
    values = utterance(frames)
    partners = [utterance(260, 1), values, utterance(30, 2)]
    ours = predicted(made, partners, 300)[1].double()
    expected = reference(made, values, flags)
    assert expected[:7].max() < 0.99  # not saturated: else anything would agree
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_the_map_of_100_by_321_is_2_by_9():
    made = built()
    seen = []
    made.convolutions[-1].register_forward_hook(lambda *call: seen.append(call[-1].shape))
    x = torch.zeros(1, 1, 100, 321)
    made({"spectrogram": x, "spectrogram_mask": torch.ones(1, 1, 100).bool()})
    height, width = seen[0][2:]
    assert ((height - 3) // 2 + 1, (width - 3) // 2 + 1) == (2, 9)


def test_it_has_the_numbers_of_alexnets_features():
    counts = [
        out * (width * k * k + 1)
        for width, out, k in (
            (3, 64, 11),
            (64, 192, 5),
            (192, 384, 3),
            (384, 256, 3),
            (256, 256, 3),
        )
    ]
    assert sum(counts) == 2_469_696  # torchvision.models.alexnet().features
    assert model.count(model.build("alexnet", PUBLISHED)) == sum(counts) + 256 * 7 + 7


@pytest.mark.parametrize("axis", ["time", "frequency"])
def test_channels_are_an_utterance_its_differences_and_theirs(axis):
    x = utterance(12).astype(np.float64)
    ours = alexnet.channels(torch.from_numpy(x).unsqueeze(0), axis)[0].numpy()
    delta = differences(x, axis)
    np.testing.assert_allclose(ours, np.stack([x, delta, differences(delta, axis)]), atol=1e-12)


def test_standardised_is_over_the_cells_of_each_utterance_alone():
    values = [utterance(40), utterance(90, 1)]
    x = batch(values)["spectrogram"][:, 0]
    ours = alexnet.standardised(x, torch.tensor([40, 90]))
    for row, value in zip(ours, values, strict=True):
        cells = value.astype(np.float64)
        expected = (cells - cells.mean()) / np.sqrt(cells.var() + 1e-5)
        np.testing.assert_allclose(row[: len(value)], expected, atol=1e-4)
        assert not row[len(value) :].any()


# --- padding and partners -------------------------------------------------------------------------

LENGTHS = st.lists(st.one_of(st.none(), st.integers(1, 210)), min_size=1, max_size=3)


@pytest.mark.parametrize("flags", [{}, PUBLISHED], ids=["default", "published"])
@examples(max_examples=12, deadline=None)
@given(frames=st.integers(1, 240), others=LENGTHS, spare=st.integers(0, 120), at=st.integers(0, 3))
def test_padding_and_batch_partners_never_change_a_prediction(flags, frames, others, spare, at):
    made = built(**flags)
    for output in made.outputs.values():
        output.weight.data *= 1e-2 if flags else 1
    partners = [None if n is None else utterance(n, 1) for n in others]
    values, at = utterance(frames), min(at, len(others))
    together = [*partners[:at], values, *partners[at:]]
    steps = max(n or 0 for n in (frames, *others)) + spare
    alone, among = predicted(made, [values]), predicted(made, together, steps, filling=np.nan)
    assert among.isfinite().all()
    assert_same(among[at], alone[0])


@pytest.mark.parametrize("frames", [91, 99])
def test_a_short_utterance_is_that_of_100_frames_with_silence_after_it(frames):
    made = built(**PUBLISHED)
    for output in made.outputs.values():
        output.weight.data *= 1e-3
    values = utterance(frames)
    values[-1] = values[-2] = 0  # no step down into the silence, which differences would show
    silent = np.pad(values, ((0, 100 - frames), (0, 0)))
    assert_same(predicted(made, [values]), predicted(made, [silent]))


def test_positions_that_see_nothing_of_an_utterance_are_not_counted():
    alone, seen = torch.tensor(4 * [100]), torch.tensor([0, 1, 50, 100])
    alone, seen = alexnet._after(alone, seen, 11, 4, 2)
    assert alone.tolist() == 4 * [24]
    assert seen.tolist() == [0, 1, 13, 24]  # position 12 begins at frame 46, 13 at 50


def test_without_a_spectrogram_a_prediction_is_the_bias():
    made = built(batchnorm=False)
    ours = predicted(made, [None, utterance(120)])
    assert_same(ours[0, :7], made.outputs["emotion"].bias.softmax(0).detach())
    assert not torch.allclose(ours[0], ours[1], atol=1e-3)


def test_only_the_last_utterance_of_a_window_is_heard():
    made = built()
    values = utterance(120)
    context = batch([values], ws=3)
    context["spectrogram"][:, :2], context["spectrogram_mask"][:, :2] = 7.0, True
    with torch.no_grad():
        assert_same(flat(made(context)), predicted(made, [values]))


# --- what every model owes ------------------------------------------------------------------------


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero():
    made = model.build("alexnet", ALL, seed=1).train()
    prediction = made(batch([utterance(120), utterance(60)]))
    sum(output.square().sum() for output in prediction.values()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.requires_grad and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_permuting_time_changes_the_output():
    made = built()
    values = utterance(150)
    shuffled = values[np.random.default_rng(0).permutation(150)]
    assert (predicted(made, [values]) - predicted(made, [shuffled])).abs().max() > 1e-3


def test_probabilities_sum_to_1_and_scales_lie_on_theirs():
    with torch.no_grad():
        prediction = built()(batch([utterance(n) for n in (5, 100, 200)]))
    torch.testing.assert_close(prediction["emotion"].exp().sum(1), torch.ones(3))
    for name in ("arousal", "valence"):
        assert prediction[name].shape == (3,)
        assert ((prediction[name] > 1) & (prediction[name] < 5)).all()


def test_sound_is_not_shrunk_by_untrained_layers():
    made = model.build("alexnet", {}, seed=2)
    for convolution in made.convolutions:  # He et al. (2015): variance 2 / numbers that come in
        expected = (2 / convolution.weight[0].numel()) ** 0.5
        assert convolution.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert not convolution.bias.any()


def test_what_is_pooled_and_judged_is_float32_under_autocast():
    made, values = built(), batch([utterance(120), utterance(60)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = made(values)
    assert all(output.dtype == torch.float32 for output in half.values())
    with torch.no_grad():
        torch.testing.assert_close(flat(half), flat(made(values)), atol=0.05, rtol=0)


def test_the_defaults_of_training_are_those_of_the_decision_fusion():
    settings, *_ = training_flags.parse(["--model", "alexnet", "--data", "sample"])
    wanted = {
        "optim": "adamw",
        "lr": 2e-4,
        "epochs": 16,
        "schedule": "linear",
        "warmup": 0,
        "clip": 1,
        "weight_decay": 0,
    }
    assert {name: getattr(settings, name) for name in wanted} == wanted
    assert training_flags.parse(["--model", "alexnet", "--lr", "0.1"])[0].lr == 0.1


def test_two_predictions_in_a_row_are_identical_and_two_in_training_are_not():
    made, two = built(), [utterance(130), utterance(80)]
    assert torch.equal(predicted(made, two), predicted(made, two))
    made.train()
    assert not torch.equal(predicted(made, two), predicted(made, two))


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    made, configuration = built(), {"model": "alexnet", **ALL}
    model.save(tmp_path, made, configuration)
    loaded, _ = model.load(tmp_path)
    assert torch.equal(predicted(loaded, [utterance(110)]), predicted(made, [utterance(110)]))


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_only_a_sum_grows_with_an_utterance(pool):
    made = built(pool=pool, standardise=False, batchnorm=False)
    values = np.full((99, BINS), 5.0, np.float32)
    sizes = []
    made.dropout.register_forward_pre_hook(lambda _, given: sizes.append(given[0].norm().item()))
    for times in (2, 4):
        predicted(made, [np.tile(values, (times, 1))])
    grown = sizes[1] / sizes[0]
    assert 1.8 < grown < 2.6 if pool == "sum" else 0.8 < grown < 1.25


# --- heads ---------------------------------------------------------------------------------------


def test_heads_are_those_asked_for_in_the_order_of_the_house():
    made = model.build("alexnet", {"heads": "valence,emotion"}).eval()
    assert made.heads == ("emotion", "valence") == tuple(made(batch([utterance(100)])))
    assert model.build("alexnet", {}).heads == ("emotion",)


@pytest.mark.parametrize("text", ["", "emotion,", "joy"])
def test_heads_that_there_are_not_are_refused(text):
    with pytest.raises(UserError, match="--heads needs some of emotion, arousal, valence"):
        model.build("alexnet", {"heads": text})

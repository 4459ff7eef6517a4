"""MATE against the system of 2022, written out here a second time from its layers alone.

The reference is a function of a state dict under the names of 2022, in double precision, with the
LSTM as its equations; it shares nothing with models/mate.py.
"""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import model
import utils
from models import mate
from utils import UserError

SHARED = Path(__file__).resolve().parents[2] / "shared"
NAMES = SHARED / "legacy_checkpoint.json"
EPS = 1e-5  # of every normalisation


# --- the reference -----------------------------------------------------------------------------


def legacy_shapes(hidden=512, ws=8, text_dim=768, directions=1, concat=True):
    """Names and shapes in model.pth of 2022, in its order."""
    shapes = {}

    def normalised(name, size):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = [size]
        shapes[f"{name}.num_batches_tracked"] = []

    def linear(name, out, width):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = [out, width], [out]

    def perceptron(name, *sizes):
        for i, (width, out) in enumerate(zip(sizes, sizes[1:], strict=False)):
            linear(f"{name}.{i}.fc.0", out, width)
            normalised(f"{name}.{i}.fc.2", out)

    for i, (width, out, k) in enumerate([(ws, 32, 3), (32, 48, 3), (48, 32, 5), (32, ws, 7)]):
        shapes[f"audio_embedding.{i}.conv.weight"] = [out, width, k, k]
        normalised(f"audio_embedding.{i}.bn", out)
    for layer in range(4):
        width = hidden * directions if layer else 816 + text_dim
        for suffix in ("", "_reverse")[:directions]:
            shapes[f"lstm.weight_ih_l{layer}{suffix}"] = [4 * hidden, width]
            shapes[f"lstm.weight_hh_l{layer}{suffix}"] = [4 * hidden, hidden]
            shapes[f"lstm.bias_ih_l{layer}{suffix}"] = [4 * hidden]
            shapes[f"lstm.bias_hh_l{layer}{suffix}"] = [4 * hidden]
    perceptron("mlp_emotion", ws * hidden * directions, 2048, 512, 256, 64)
    linear("mlp_emotion.4", 7, 64)
    perceptron("mlp_av", ws * hidden * directions, 2048, 1024, 512)
    for head in ("mlp_arousal", "mlp_valence"):
        perceptron(head, 519 if concat else 512, 128, 32)
        linear(f"{head}.2", 1, 32)
    return shapes


def legacy_state(seed=0, **sizes):
    """Random weights of 2022, normalisation averages far from their start."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in legacy_shapes(**sizes).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(300)
        elif name.endswith("running_var"):
            state[name] = 0.3 + noise.abs()
        elif len(shape) > 1:
            fan_in = torch.tensor(shape[1:]).prod()
            gain = 0.3 if shape[0] == 1 else 2  # the sigmoid should not saturate
            state[name] = gain * noise / fan_in.sqrt()
        elif name.endswith((".bn.weight", ".fc.2.weight")):
            state[name] = 1 + 0.2 * noise
        else:
            state[name] = 0.3 * noise
    return state


def normalise(state, name, x):
    """(x - mean) / sd * weight + bias, each channel by its running averages."""
    column = (-1,) + (1,) * (x.ndim - 2)
    mean, var, weight, bias = (
        state[f"{name}.{part}"].reshape(column)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + EPS).sqrt() * weight + bias


def lstm(state, x, hidden, directions):
    """Four layers over (B, W, width) by the equations, gates in the order i, f, g, o."""
    for layer in range(4):
        outputs = []
        for suffix in ("", "_reverse")[:directions]:
            wi, wh, bi, bh = (
                state[f"lstm.{part}_l{layer}{suffix}"]
                for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = c = x.new_zeros(len(x), hidden)
            steps = range(x.shape[1])
            states = {}
            for t in reversed(steps) if suffix else steps:
                i, f, g, o = (x[:, t] @ wi.T + bi + h @ wh.T + bh).split(hidden, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                states[t] = h
            outputs.append(torch.stack([states[t] for t in steps], 1))
        x = torch.cat(outputs, -1)
    return x


def perceptron(state, name, x, blocks):
    """Linear, ReLU, normalisation; as often as there are blocks."""
    for i in range(blocks):
        x = x @ state[f"{name}.{i}.fc.0.weight"].T + state[f"{name}.{i}.fc.0.bias"]
        x = normalise(state, f"{name}.{i}.fc.2", x.relu())
    return x


def reference(state, log_mel, sentence, hidden=512, directions=1, concat=True):
    """Probabilities (B, 7), arousal (B,) and valence (B,) of the 2022 system, in double."""
    state = {name: tensor.double() for name, tensor in state.items()}
    x = log_mel.double()
    for i, pool in enumerate((1, 2, 2, 2)):
        x = F.conv2d(x, state[f"audio_embedding.{i}.conv.weight"])
        x = F.max_pool2d(normalise(state, f"audio_embedding.{i}.bn", x).relu(), pool)
    x = torch.cat([x.reshape(*x.shape[:2], 816), sentence.double()], -1)
    x = lstm(state, x, hidden, directions).reshape(len(x), -1)
    logits = perceptron(state, "mlp_emotion", x, 4)
    logits = logits @ state["mlp_emotion.4.weight"].T + state["mlp_emotion.4.bias"]
    p = logits.exp() / logits.exp().sum(-1, keepdim=True)
    x = perceptron(state, "mlp_av", x, 3)
    x = torch.cat([x, p], -1) if concat else x
    scales = []
    for name in ("mlp_arousal", "mlp_valence"):
        y = perceptron(state, name, x, 2) @ state[f"{name}.2.weight"].T + state[f"{name}.2.bias"]
        scales.append(4 / (1 + (-y[:, 0]).exp()) + 1)
    return p, *scales


def legacy_configuration(hidden=512, ws=8, text_dim=768, directions=1):
    """configuration.json of 2022."""
    return {
        "save_path": "./exp",
        "backbone": "lstm",
        "embed_d": 32,
        "hidden_size": hidden,
        "text_dim": text_dim,
        "bidirectional": directions == 2,
        "ws": ws,
        "SorL": "listener",
        "sr": 16000,
        "test_split": "[13, 14,15,16]",
        "batch_size": 64,
        "optim": "adam",
        "loss": "normal",
        "lam": 0.66,
        "beta": 0.99,
        "lr": 0.001,
        "lr_decay": 0.001,
        "weight_decay": 1e-05,
        "epochs": 50,
        "test_only": False,
        "test_path": "DeFaUlT",
        "gpu_id": "1",
    }


def write(folder, state, configuration):
    """A folder as the 2022 code left it."""
    folder.mkdir(exist_ok=True)
    (folder / "configuration.json").write_text(json.dumps(configuration, indent=2))
    torch.save(state, folder / "model.pth")
    return folder


def windows(ws=8, text_dim=768, rows=3):
    """Left-padded windows with noise where they are padded."""
    generator = torch.Generator().manual_seed(9)
    loudness = torch.randn(rows, ws, 1, 1, generator=generator)  # noise alone averages out
    return {
        "log_mel": loudness + torch.randn(rows, ws, 229, 313, generator=generator),
        "sentence": 2 * torch.randn(rows, ws, text_dim, generator=generator),
        "mask": torch.arange(ws) >= torch.arange(rows).unsqueeze(-1),
    }


# --- folders of 2022 ---------------------------------------------------------------------------


@pytest.mark.skipif(not NAMES.exists(), reason=f"the list of names of 2022 is not at {NAMES}")
@pytest.mark.parametrize(("key", "directions"), [("unidirectional", 1), ("bidirectional", 2)])
def test_the_reference_has_the_names_and_shapes_of_2022(key, directions):
    assert legacy_shapes(directions=directions) == json.loads(NAMES.read_text())[key]


@pytest.mark.parametrize(
    ("sizes", "concat"),
    [
        pytest.param({}, True, id="as published"),
        pytest.param({"hidden": 16, "directions": 2}, True, id="bidirectional"),
        pytest.param({"hidden": 16, "ws": 3, "text_dim": 20}, False, id="without concat"),
    ],
)
def test_a_folder_of_2022_gives_its_predictions(sizes, concat, tmp_path):
    state = legacy_state(**sizes, concat=concat)
    loaded, configuration = model.load(write(tmp_path, state, legacy_configuration(**sizes)))
    assert configuration["emotion_concat"] is concat
    batch = windows(sizes.get("ws", 8), sizes.get("text_dim", 768))
    heard = batch["log_mel"] * batch["mask"][..., None, None]
    read = batch["sentence"] * batch["mask"][..., None]
    layers = {key: sizes[key] for key in ("hidden", "directions") if key in sizes}
    p, arousal, valence = reference(state, heard, read, **layers, concat=concat)
    # rows differ by a hundred times and more what is allowed below: else anything would agree
    assert p.std(0).max() > 5e-3 and min(arousal.std(), valence.std()) > 1e-2
    with torch.no_grad():
        prediction = loaded(batch)
    torch.testing.assert_close(prediction["emotion"].exp().double(), p, atol=1e-5, rtol=0)
    torch.testing.assert_close(prediction["arousal"].double(), arousal, atol=1e-4, rtol=0)
    torch.testing.assert_close(prediction["valence"].double(), valence, atol=1e-4, rtol=0)


SMALL = {"hidden": 4, "ws": 2, "text_dim": 5}


def test_a_folder_of_2022_comes_back_in_todays_terms_and_can_be_saved_so(tmp_path):
    old = write(tmp_path / "old", legacy_state(**SMALL), legacy_configuration(**SMALL))
    loaded, configuration = model.load(old)
    assert configuration["model"] == "mate"
    assert configuration["test_split"] == [13, 14, 15, 16]
    assert configuration["SorL"] == "listener"
    assert configuration["lr_decay"] == 0.7  # what was applied, whatever the flag said
    assert "embed_d" not in configuration
    model.save(tmp_path / "new", loaded, configuration)
    again, same = model.load(tmp_path / "new")
    assert same == configuration
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_reading_a_folder_of_2022_leaves_it_as_it_was(tmp_path):
    write(tmp_path, legacy_state(**SMALL), legacy_configuration(**SMALL))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.load(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 8}, "does not fit .*recurrent.weight_ih_l0 is 16x821, should be 32x821"),
        ({"bidirectional": True}, "recurrent.weight_ih_l0_reverse is missing"),
        ({"ws": 3}, "audio.0.0.weight is 32x2x3x3, should be 32x3x3x3"),
        ({"backbone": "transformer"}, "backbone 'transformer': choose one of lstm, gru"),
    ],
)
def test_a_folder_of_2022_that_does_not_fit_is_refused(changed, message, tmp_path):
    write(tmp_path, legacy_state(**SMALL), legacy_configuration(**SMALL) | changed)
    with pytest.raises(UserError, match=message):
        model.load(tmp_path)


def test_a_configuration_of_no_model_and_no_2022_is_refused(tmp_path):
    write(tmp_path, legacy_state(**SMALL), {"hidden_size": 4, "ws": 2})
    with pytest.raises(UserError, match="names no model.*it lacks backbone, text_dim"):
        model.load(tmp_path)


# --- the model of today ------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [1, 2])
def test_mate_has_every_number_of_2022_and_no_other(directions):
    built = model.build("mate", {"bidirectional": directions == 2})
    shapes = [list(tensor.shape) for tensor in built.state_dict().values()]
    assert sorted(shapes) == sorted(legacy_shapes(directions=directions).values())
    if directions == 1:
        assert model.count(built) == 31_424_377


@pytest.mark.parametrize(
    ("modality", "needed", "width"),
    [
        ("both", ("log_mel", "sentence"), 828),
        ("audio", ("log_mel",), 816),
        ("text", ("sentence",), 12),
    ],
)
def test_a_modality_left_out_is_neither_built_nor_asked_for(modality, needed, width):
    flags = {"hidden_size": 4, "ws": 2, "text_dim": 12, "modality": modality}
    built = model.build("mate", flags)
    assert model.inputs("mate", flags) == needed
    assert built.recurrent.input_size == width
    assert hasattr(built, "audio") == ("log_mel" in needed)
    batch = {name: value for name, value in windows(2, 12).items() if name in (*needed, "mask")}
    assert built.eval()(batch)["emotion"].shape == (3, 7)


def test_the_scales_reach_the_emotion_head_only_when_they_see_the_emotion():
    for concat in (True, False):
        flags = {"hidden_size": 4, "ws": 2, "text_dim": 5, "modality": "text"}
        built = model.build("mate", flags | {"emotion_concat": concat}, seed=3)
        built(windows(2, 5))["arousal"].sum().backward()
        reached = any(p.grad is not None and p.grad.any() for p in built.emotion.parameters())
        assert reached is concat


def test_a_window_may_be_one_utterance_and_sound_may_be_slower():
    built = model.build("mate", {"hidden_size": 4, "ws": 1, "sr": 8000, "modality": "audio"})
    batch = {"log_mel": torch.randn(2, 1, 229, 157), "mask": torch.ones(2, 1).bool()}
    assert built.eval()(batch)["arousal"].shape == (2,)


def test_a_sample_rate_that_leaves_no_frames_is_refused():
    with pytest.raises(UserError, match="sr 900 leaves too few frames"):
        model.build("mate", {"sr": 900})


def test_mate_is_found_by_its_file_name():
    assert "mate" in utils.leaves("models")


@pytest.mark.parametrize("clip", [0, 1, 7, 8, 9, 30, 94, 128, 200, 256, 257, 300, 313])
def test_a_block_cut_behind_its_clips_says_what_the_whole_one_says(clip):
    """Padding is the same in every frame, so of what follows the clips TAIL frames are enough."""
    built = model.build("mate", {"hidden_size": 8, "ws": 2}, seed=3).eval()
    generator = torch.Generator().manual_seed(clip)
    block = torch.randn(2, 2, 229, 1, generator=generator).expand(-1, -1, -1, 313).clone()
    block[..., :clip] = torch.randn(2, 2, 229, clip, generator=generator)
    batch = {
        "log_mel": block,
        "sentence": torch.randn(2, 2, 768, generator=generator),
        "mask": torch.ones(2, 2, dtype=torch.bool),
    }
    with torch.inference_mode():
        whole = built._utterances(batch)
        cut = built._utterances(batch | {"log_mel": block[..., : clip + mate.TAIL["log_mel"]]})
        assert torch.allclose(cut, whole, atol=1e-4)
        assert torch.allclose(built.folded()._utterances(batch), whole, atol=1e-4)
    spread = whole[..., :816].std()
    assert spread > 0.03

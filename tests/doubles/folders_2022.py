"""Run folders as the 2022 code wrote them."""

import json

import torch
import torch.nn.functional as F

EPS = 1e-5  # of every normalisation


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

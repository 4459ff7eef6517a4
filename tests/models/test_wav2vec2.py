"""models/wav2vec2.py on tiny encoders: what its predictions may depend on, and whole runs."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file

import constants
import main
import model as models
from benchmarks import tiny_wav2vec2
from features import speech_layers
from models import wav2vec2
from models.encoders import speech
from training.settings import flat, settings_of
from utils import UserError

ALL = "emotion,arousal,valence"
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
)
QUIET = NO_DROPOUT | {"apply_spec_augment": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny encoder with group norm, as the base models of the hub have."""
    place = tmp_path_factory.mktemp("encoder")
    tiny_wav2vec2.write(place, norm="group")
    return place


def config(norm: str = "group", kind: str = "wav2vec2", **more) -> dict:
    about = tiny_wav2vec2.encoder(kind, norm, **more).config.to_diff_dict()
    return about | {"do_normalize": True}


def build(seed: int = 1, about: dict | None = None, **more) -> wav2vec2.Model:
    """A model with random weights that are large enough for its inputs to matter."""
    given = {"model": "wav2vec2", "speech": about or config(), "heads": ALL, "dropout": 0.0} | more
    model = models.build("wav2vec2", given, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(std=0.2, generator=generator)
    return model


@pytest.fixture(scope="module")
def model() -> wav2vec2.Model:
    return build().eval()


@pytest.fixture(scope="module")
def summing() -> wav2vec2.Model:
    """One that reads a window of two, backwards, all layers, of an encoder with layer norm."""
    made = build(about=config("layer"), ws=2, layers="weighted", reverse=True).eval()
    made.weights.data = torch.tensor([0.5, -0.5, 1.0])
    return made


def sound(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([samples, seed])
    wave = np.cumsum(rng.standard_normal(samples)) / 300 + 0.01 * rng.standard_normal(samples)
    return wave.astype(np.float32)


def collate(windows: list[list[np.ndarray]], padding: int = 0, filler: float = 0.0) -> dict:
    """Samples of each utterance of each window (none: no sound) -> a batch."""
    longest = max(1, *(len(wave) for window in windows for wave in window)) + padding
    waves = torch.full((len(windows), len(windows[0]), longest), filler)
    mask = torch.zeros(waves.shape, dtype=torch.bool)
    for i, window in enumerate(windows):
        for j, wave in enumerate(window):
            waves[i, j, : len(wave)] = torch.from_numpy(wave.copy())
            mask[i, j, : len(wave)] = True
    return {"waveform": waves, "waveform_mask": mask, "mask": mask.any(-1)}


def predict(model: wav2vec2.Model, batch) -> dict[str, np.ndarray]:
    batch = batch if isinstance(batch, dict) else collate(batch)
    with torch.no_grad():
        return {name: out.numpy() for name, out in model(batch).items()}


# --- what a prediction may depend on -------------------------------------------------------------


@examples(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4000), min_size=2, max_size=2), min_size=1, max_size=4),
    st.integers(0, 700),
    st.floats(-9, 9),
)
def test_padding_and_partners_do_not_change_a_prediction(model, summing, lengths, padding, filler):
    windows = [[sound(n, i) for n in row] for i, row in enumerate(lengths)]
    for reader, cut in ((summing, windows), (model, [window[1:] for window in windows])):
        among = predict(reader, collate(cut, padding, filler))
        for i, window in enumerate(cut):
            alone = predict(reader, [window])
            for name in alone:
                assert np.isfinite(among[name]).all()
                np.testing.assert_allclose(among[name][i], alone[name][0], rtol=0, atol=1e-4)


def test_it_is_the_formula_on_the_states_of_transformers(folder):
    configuration = configured(folder, heads=ALL)
    model = models.build("wav2vec2", configuration, seed=0).eval()
    model.load_pretrained(settings_of(configuration))
    wave = sound(5000)
    prepared = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    values = prepared(wave, sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        states = transformers.Wav2Vec2Model.from_pretrained(folder).eval()(values)
        pooled = states.last_hidden_state.mean(1)
        hidden = torch.tanh(pooled @ model.projection.weight.T + model.projection.bias)
        raw = {n: head.weight @ hidden[0] + head.bias for n, head in model.outputs.items()}
    got = predict(model, [[wave]])
    expected = torch.log_softmax(raw["emotion"], -1)
    np.testing.assert_allclose(got["emotion"][0], expected, rtol=0, atol=1e-5)
    for name in ("arousal", "valence"):
        np.testing.assert_allclose(got[name][0], 1 + 4 * raw[name][0].sigmoid(), rtol=0, atol=1e-5)


def test_a_weighted_layer_sum_is_that_of_the_states(summing):
    wave = sound(3000)
    with torch.no_grad():
        backwards = torch.from_numpy(wave[::-1].copy())[None]
        states, mask = speech.hidden(summing.encoder, backwards, backwards != 99, all_layers=True)
        weights = torch.tensor([0.5, -0.5, 1.0]).exp()
        summed = (weights[:, None, None] * states[:, 0]).sum(0) / weights.sum()
        pooled = torch.cat([summed.mean(0), torch.zeros(64)])
        expected = summing.outputs["valence"](torch.tanh(summing.projection(pooled))).sigmoid()
    got = predict(summing, [[sound(0), wave]])["valence"][0]
    assert got == pytest.approx(1 + 4 * float(expected), abs=1e-5)


def test_context_and_the_judged_utterance_both_count_and_their_order_in_time(summing, model):
    base = [sound(3000), sound(2000)]
    for other in ([sound(2500), sound(2000)], [sound(3000), sound(2500)], base[::-1]):
        distance = predict(summing, [base])["emotion"] - predict(summing, [other])["emotion"]
        assert np.abs(distance).max() > 1e-3
    both = predict(model, [[base[0]], [base[0][::-1]]])["emotion"]
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_the_context_is_the_mean_of_the_utterances_that_are_there():
    made, given = build(ws=3).eval(), []
    made.projection.register_forward_hook(lambda _, x, out: given.append(x[0][0]))
    one, two, last = sound(3000), sound(2000), sound(2500)
    predict(made, [[sound(0), one, last]])
    predict(made, [[one, two, last]])
    with torch.no_grad():
        means, _ = speech.means(made.encoder, *clips([one, two, last]), all_layers=False)
    first, second, judged = means[0]
    torch.testing.assert_close(given[0], torch.cat([judged, first]), atol=1e-4, rtol=0)
    expected = torch.cat([judged, (first + second) / 2])
    torch.testing.assert_close(given[1], expected, atol=1e-4, rtol=0)


def clips(waves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = collate([[wave] for wave in waves])
    return batch["waveform"][:, 0], batch["waveform_mask"][:, 0]


def test_what_has_no_sound_is_judged_as_zeros(model, summing):
    for reader in (model, summing):
        window = [sound(0)] * reader.ws
        short = [*window[1:], sound(399)]
        with torch.no_grad():
            size = reader.projection.in_features
            hidden = torch.tanh(reader.projection(torch.zeros(1, size)))
            expected = torch.log_softmax(reader.outputs["emotion"](hidden), -1)
        full = [sound(2000)] * reader.ws
        for windows in ([window], [short, full, window]):
            got = predict(reader, windows)["emotion"]
            np.testing.assert_allclose(got[0], expected[0], rtol=0, atol=1e-5)
            np.testing.assert_allclose(got[-1], expected[0], rtol=0, atol=1e-5)


def test_two_predictions_are_identical_and_training_draws(model):
    windows = [[sound(3000)], [sound(9000)]]
    first, second = predict(model, windows), predict(model, windows)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    drawing = build(about=config(**NO_DROPOUT, mask_time_prob=0.5)).eval()
    for part, made in (("encoder", drawing), ("dropout", build(dropout=0.5).eval())):
        getattr(made, part).train()
        assert (predict(made, windows)["emotion"] != predict(made, windows)["emotion"]).any()


def test_dropout_stands_before_and_after_the_projection():
    model, seen = build(dropout=0.5).train(), []
    model.dropout.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    projected = []
    model.projection.register_forward_hook(lambda _, given, out: projected.append((given[0], out)))
    model(collate([[sound(3000)]]))
    [(_, first), (second, _)], [(before, after)] = seen, projected
    assert torch.equal(before, first) and torch.equal(second, torch.tanh(after))
    assert all((given != 0).sum() > (out != 0).sum() for given, out in seen)


def test_half_precision_gives_predictions_in_float32_near_those_of_float32(model, summing):
    for reader in (model, summing):
        windows = [[sound(3000)] * reader.ws, [sound(0)] * reader.ws]
        exact = predict(reader, windows)
        with torch.autocast("cpu", torch.bfloat16):
            rough = predict(reader, windows)
        for name, values in rough.items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, exact[name], rtol=0, atol=0.1)


# --- backwards -----------------------------------------------------------------------------------


@examples(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 9))
def test_backwards_is_each_clips_own_samples_and_twice_is_forwards(lengths, padding):
    batch = collate([[sound(n)] for n in lengths], padding)
    wave, mask = batch["waveform"].flatten(0, 1), batch["waveform_mask"].flatten(0, 1)
    once = wav2vec2.reversed_in_time(wave, mask)
    for row, n in zip(once, lengths, strict=True):
        np.testing.assert_array_equal(row[:n], sound(n)[::-1])
        assert not row[n:].any()
    assert torch.equal(wav2vec2.reversed_in_time(once, mask), wave)


def test_a_model_that_hears_backwards_hears_a_reversed_clip_forwards(model):
    backwards = build(reverse=True).eval()
    backwards.load_state_dict(model.state_dict())
    waves = [sound(3000), sound(1800)]
    one = predict(model, [[wave] for wave in waves])
    other = predict(backwards, [[wave[::-1]] for wave in waves])
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=0, atol=1e-5)


# --- training ------------------------------------------------------------------------------------


def graded(model: wav2vec2.Model, windows: list) -> dict[str, torch.Tensor]:
    """The gradient of each parameter, in training mode."""
    torch.manual_seed(0)
    model.train()
    out = model(collate(windows))
    sum((value**2).sum() for value in out.values()).backward()
    return {name: p.grad for name, p in model.named_parameters()}


WINDOWS = [[sound(6000), sound(5000)], [sound(0), sound(4000)]]


@pytest.mark.parametrize("layers", ["last", "weighted"])
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_the_transformer_learns_and_the_convolutions_do_not(kind, norm, layers):
    about = config(norm, kind, **NO_DROPOUT, mask_time_prob=0.5)
    gradients = graded(build(about=about, ws=2, layers=layers), WINDOWS)
    for name, gradient in gradients.items():
        if "feature_extractor" in name:
            assert gradient is None
        else:
            assert torch.isfinite(gradient).all(), name
            # adding one vector to all keys shifts a row of scores evenly: softmax does not see it
            if not name.endswith("k_proj.bias"):
                assert gradient.abs().max() > 1e-9, name


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
def test_checkpointing_changes_no_gradient_and_computes_layers_twice(kind):
    about = config("layer", kind, **NO_DROPOUT, mask_time_prob=0.5)
    calls, found = [], []
    for checkpointing in (False, True):
        model = build(about=about, ws=2, checkpointing=checkpointing)
        calls.append(0)
        dense = model.encoder.encoder.layers[0].feed_forward.intermediate_dense

        def count(*_):
            calls[-1] += 1

        dense.register_forward_hook(count)
        found.append(graded(model, WINDOWS))
    assert calls == [1, 2]
    for name, gradient in found[0].items():
        if gradient is not None:
            np.testing.assert_allclose(found[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_step_in_half_precision_has_finite_gradients():
    for kind in ("wav2vec2", "hubert", "wavlm"):
        model = build(about=config("layer", kind), ws=2, checkpointing=True)
        with torch.autocast("cpu", torch.bfloat16):
            gradients = graded(model, WINDOWS)
        assert all(g.isfinite().all() for g in gradients.values() if g is not None)


def test_clips_shorter_than_a_mask_of_spec_augment_are_trained_on():
    gradients = graded(build(), [[sound(700)], [sound(100)], [sound(0)]])
    assert all(g.isfinite().all() for g in gradients.values() if g is not None)


def test_frozen_parts_are_not_given_to_the_optimizer_and_decay_spares_vectors():
    model = build(layers="weighted")
    decayed, spared = model.parameter_groups()
    name_of = {id(p): name for name, p in model.named_parameters()}
    names = [{name_of[id(p)] for p in group["params"]} for group in (decayed, spared)]
    learning = {n for n in name_of.values() if "feature_extractor" not in n}
    vectors = {n for n in learning if model.get_parameter(n).ndim == 1}
    assert names == [learning - vectors, vectors] and "weights" in vectors
    assert "weight_decay" not in decayed and spared["weight_decay"] == 0
    assert {n for n in vectors if "bias" not in n and "norm" not in n} == {
        "weights",
        "encoder.masked_spec_embed",
    }


def test_the_settings_of_the_contest_are_its_defaults():
    wanted = {
        "optim": "adamw",
        "lr": 2e-4,
        "weight_decay": 0.0,
        "schedule": "linear",
        "warmup": 0.0,
        "batch_size": 4,
        "epochs": 1,
    }
    assert wav2vec2.Model.DEFAULTS.items() >= wanted.items()
    assert wav2vec2.Model.DEFAULTS["speech_encoder"] == constants.SPEECH_ENCODER
    said = wav2vec2.Settings()
    assert (said.layers, said.ws, said.heads, said.max_seconds) == ("last", 1, "emotion", 0)
    assert build(dropout=-1.0, about=config() | {"final_dropout": 0.3}).dropout.p == 0.3
    assert build(dropout=0.2, about=config() | {"final_dropout": 0.3}).dropout.p == 0.2


def test_it_learns_a_pitch_that_tells_the_emotion():
    torch.manual_seed(0)
    model = build(about=config("layer", **QUIET), heads="emotion").train()
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1e-3)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 96)
    waves = []
    for t in truth:
        steps = np.arange(rng.integers(800, 1600))
        tone = np.sin(steps * (0.05, 0.2, 0.8)[t] + rng.uniform(0, 6))
        waves.append([(tone + 0.1 * rng.standard_normal(len(steps))).astype(np.float32)])
    for _ in range(40):
        rows = rng.choice(64, 16, replace=False)
        out = model(collate([waves[i] for i in rows]))["emotion"]
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(out, torch.from_numpy(truth[rows])).backward()
        optimizer.step()
    got = predict(model.eval(), waves[64:])["emotion"].argmax(1)
    assert (got == truth[64:]).mean() > 0.8


# --- pretrained weights --------------------------------------------------------------------------


def configured(folder: Path, **more) -> dict:
    """What training writes down of a model, before it is built."""
    given = {"frozen": False} | more
    settings = settings_with("wav2vec2", speech_encoder=str(folder), **given)
    return json.loads(json.dumps(flat(models.complete(settings))))


def test_a_folder_of_safetensors_and_one_of_bin_give_the_same_numbers(folder, tmp_path):
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    torch.save(load_file(own / "model.safetensors"), own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    got = []
    for place in (folder, own):
        configuration = configured(place, heads=ALL, dropout=0.0)
        model = models.build("wav2vec2", configuration, seed=0)
        before = predict(model.eval(), [[sound(3000)]])["valence"]
        model.load_pretrained(settings_of(configuration))
        got.append(predict(model, [[sound(3000)], [sound(1000)]]))
        assert abs(got[-1]["valence"][0] - before[0]) > 1e-4  # it was loaded
    for name, values in got[0].items():
        np.testing.assert_array_equal(values, got[1][name])


def test_a_trained_one_is_loaded_without_the_checkpoint(folder, tmp_path):
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    for name, more in (("a", {}), ("b", {"frozen": True, "layers": "weighted"})):
        configuration = configured(own, heads="valence,emotion", **more)
        model = models.build("wav2vec2", configuration, seed=0)
        model.load_pretrained(settings_of(configuration))
        models.save(tmp_path / name, model, configuration)
    shutil.rmtree(own)
    again, _ = models.load(tmp_path / "a")
    assert again.heads == ("emotion", "valence")
    fresh = models.build("wav2vec2", configuration | {"frozen": False, "layers": "last"}, seed=0)
    fresh.load_state_dict(again.state_dict())
    windows = [[sound(3000)], [sound(900)]]
    for name, values in predict(again, windows).items():
        np.testing.assert_array_equal(values, predict(fresh.eval(), windows)[name])
    frozen, _ = models.load(tmp_path / "b")
    assert not any(name.startswith("encoder") for name in frozen.state_dict())


@pytest.mark.parametrize("layers", ["last", "weighted"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_frozen_with_means_extracted_once_is_the_same_model(tmp_path, norm, layers):
    tiny_wav2vec2.write(tmp_path, norm=norm)
    configuration = configured(
        tmp_path, heads=ALL, layers=layers, reverse=True, ws=2, max_seconds=0.2
    )
    whole = models.build("wav2vec2", configuration, seed=0).eval()
    whole.load_pretrained(settings_of(configuration))
    if layers == "weighted":
        whole.weights.data = torch.tensor([1.0, -1.0, 0.5])
    frozen = models.build("wav2vec2", configuration | {"frozen": True}, seed=1).eval()
    kept = {n: t for n, t in whole.state_dict().items() if not n.startswith("encoder.")}
    frozen.load_state_dict(kept)
    assert models.inputs("wav2vec2", configuration | {"frozen": True}) == ("speech_layers",)
    assert models.inputs("wav2vec2", configuration) == ("waveform",)

    windows = [[sound(3000), sound(2000)], [sound(300), sound(3200)]]
    given = speech_layers.Feature.parameters(settings_of(configuration))
    extractor = speech_layers.Extractor(given)
    batch = {"speech_layers": torch.zeros(2, 2, 3, 64), "mask": torch.ones(2, 2).bool()}
    for i, window in enumerate(windows):
        for j, wave in enumerate(window):
            soundfile.write(tmp_path / "a.wav", wave, 16_000, "FLOAT")
            [array] = extractor.many([tmp_path / "a.wav"])
            if isinstance(array, np.ndarray):
                batch["speech_layers"][i, j] = torch.from_numpy(array)
            else:
                batch["mask"][i, j] = False
    assert batch["mask"].tolist() == [[True, True], [False, True]]
    expected, got = predict(whole, windows), predict(frozen, batch)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=0, atol=1e-4)


def test_what_a_frozen_one_has_no_means_of_is_zeros_whatever_stands_there():
    made = build(frozen=True, ws=2).eval()
    values = torch.randn(2, 2, 3, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[False, True], [True, False]])
    batch = {"speech_layers": values, "speech_layers_mask": mask, "mask": torch.ones(2, 2).bool()}
    expected = predict(made, batch | {"speech_layers": values * mask[..., None, None]})
    values[~mask] = torch.nan
    for name, got in predict(made, batch).items():
        np.testing.assert_array_equal(got, expected[name])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"speech": None}, "needs `speech`"),
        ({"speech": {}}, "should be the config of a speech encoder|no speech encoder can be"),
        ({"speech": {"model_type": "bert"}}, "no speech encoder can be built"),
        ({"speech": {"hidden_size": 8}, "frozen": True}, "the config of a speech encoder"),
        ({"dropout": 1.0}, r"--dropout should be in \[0, 1\)"),
        ({"dropout": -0.5}, r"--dropout should be in \[0, 1\)"),
        ({"dropout": -2.0}, "dropout should be at least -1"),
        (
            {"dropout": -1.0, "speech": {**config(), "final_dropout": None}, "frozen": True},
            "--dropout should be",
        ),
        ({"max_seconds": -1.0}, "max_seconds should be at least 0"),
        ({"layers": "first"}, "choose one of last, weighted"),
        ({"heads": "anger"}, "--heads needs some of emotion, arousal, valence"),
    ],
)
def test_settings_that_make_no_model_are_an_error(changed, message):
    given = {"model": "wav2vec2", "speech": config(), "heads": ALL} | changed
    with pytest.raises(UserError, match=message):
        models.build("wav2vec2", given, seed=0)


# --- whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(workplace, tmp_path_factory) -> Path:
    """Two finished runs on the synthetic corpus, and their encoder in `encoder`."""
    place = tmp_path_factory.mktemp("wav2vec2_run")
    (place / "corpus").symlink_to(workplace / "corpus")
    with contextlib.chdir(place):
        tiny_wav2vec2.write(Path("encoder"), norm="group")
        assert main.main(flags("run")) == 0
        assert main.main(flags("frozen", "--frozen", "--layers", "weighted", "--reverse")) == 0
    return place


def flags(name: str, *more: str) -> list[str]:
    return [
        "--model",
        "wav2vec2",
        "--data",
        "corpus",
        "--test_split",
        "[3,4]",
        "--speech_encoder",
        "encoder",
        "--gpu_id",
        "-1",
        "--precision",
        "float32",
        "--save_name",
        name,
        "--heads",
        ALL,
        *more,
    ]


def rows_of(run: Path) -> tuple[pd.DataFrame, np.ndarray]:
    rows = pd.read_csv(run / "predictions.csv")
    return rows, rows[[f"p_{i}" for i in range(7)]].to_numpy()


def test_a_run_trains_the_transformer_alone(trained):
    said = json.loads((trained / "exp" / "run" / "configuration.json").read_text())
    assert said["speech"] == json.loads(json.dumps(speech.config(trained / "encoder")))
    assert (said["lr"], said["batch_size"], said["schedule"]) == (2e-4, 4, "linear")
    state = torch.load(trained / "exp" / "run" / "model.pth", weights_only=True)
    before = transformers.AutoModel.from_pretrained(trained / "encoder").state_dict()
    for name, tensor in before.items():
        moved = (tensor - state[f"encoder.{name}"]).abs().max()
        assert moved < 5e-3 and (moved == 0 or "feature_extractor" not in name)
    moved = [n for n, t in before.items() if not torch.equal(t, state[f"encoder.{n}"])]
    assert len(moved) > 0.7 * len(before)


def test_a_run_predicts_each_test_row_with_its_own_sound(trained):
    rows, p = rows_of(trained / "exp" / "run")
    assert len(rows) == 12 and set(rows["session"]) == {3, 4}
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    table = pd.concat(map(pd.read_csv, (trained / "data").rglob("df_speaker.csv")))
    wavs = table.set_index("segment")["wav"]
    model, _ = models.load(trained / "exp" / "run")
    for row in rows.itertuples():
        wave, _ = soundfile.read(trained / "corpus" / wavs[row.segment], dtype="float32")
        alone = predict(model, [[wave if wave.any() else sound(0)]])
        assert row.valence == pytest.approx(alone["valence"][0], abs=1e-4)
        np.testing.assert_allclose(p[row.Index], np.exp(alone["emotion"][0]), atol=1e-4)


def test_a_run_with_context_hears_the_middle_of_long_clips(trained, tmp_path):
    place = Path(shutil.copytree(trained, tmp_path / "place", symlinks=True))
    with contextlib.chdir(place):
        words = ["--ws", "2", "--max_seconds", "0.5", "--checkpointing"]
        assert main.main(flags("short", *words)) == 0
    rows, p = rows_of(place / "exp" / "short")
    model, said = models.load(place / "exp" / "short")
    assert said["max_seconds"] == 0.5
    table = pd.concat(map(pd.read_csv, (place / "data").rglob("df_speaker.csv")))
    table = table[table["session"].isin([3, 4])].reset_index(drop=True)
    before = sound(0)
    for i, row in table.iterrows():
        wave, _ = soundfile.read(place / "corpus" / row["wav"], dtype="float32")
        start = (len(wave) - 8000) // 2
        wave = wave[start : start + 8000] if wave.any() else sound(0)
        if i and row["dialogue"] != table["dialogue"][i - 1]:
            before = sound(0)
        [line] = np.flatnonzero(rows["segment"] == row["segment"])
        alone = predict(model, [[before, wave]])
        np.testing.assert_allclose(p[line], np.exp(alone["emotion"][0]), atol=1e-4)
        before = wave


def test_a_frozen_run_keeps_no_encoder(trained):
    state = torch.load(trained / "exp" / "frozen" / "model.pth", weights_only=True)
    assert not any(name.startswith("encoder") for name in state) and "weights" in state


def test_a_finished_run_is_tested_again_where_the_checkpoint_is_not(trained, tmp_path):
    place = Path(shutil.copytree(trained, tmp_path / "place", symlinks=True))
    shutil.rmtree(place / "encoder")
    with contextlib.chdir(place):
        assert main.main(["--test_only", "run", "--gpu_id", "-1"]) == 0
    [tested] = (place / "exp" / "run").glob("test_*")
    np.testing.assert_allclose(rows_of(tested)[1], rows_of(trained / "exp" / "run")[1], atol=1e-5)


def test_a_missing_checkpoint_is_explained_in_one_line(trained, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with contextlib.chdir(trained):
        words = [word if word != "encoder" else "a/b" for word in flags("none")]
        assert main.main(words) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "`hf download a/b --local-dir FOLDER`" in line and "--speech_encoder FOLDER" in line
    assert not (trained / "exp" / "none").exists()


def test_a_run_is_not_tested_with_another_encoder(trained, tmp_path, capsys):
    tiny_wav2vec2.write(tmp_path / "layer", norm="layer")
    tiny_wav2vec2.write(tmp_path / "seed", norm="group", seed=1)  # only its weights are others
    with contextlib.chdir(trained):
        for run, other in (("run", "layer"), ("frozen", "layer"), ("frozen", "seed")):
            words = ["--test_only", run, "--data", "corpus", "--gpu_id", "-1"]
            assert main.main([*words, "--speech_encoder", str(tmp_path / other)]) == 2
            assert "is not the encoder" in capsys.readouterr().err

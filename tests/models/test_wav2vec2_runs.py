"""wav2vec 2.0 with pretrained weights, and in whole runs."""

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
from doubles.wav2vec2 import ALL, build, config, configured, predict, sound
from safetensors.torch import load_file

import main
import model as models
from benchmarks import tiny_wav2vec2
from features import speech_layers
from models.encoders import speech
from training.settings import settings_of
from utils import UserError

# --- pretrained weights --------------------------------------------------------------------------


def test_a_folder_of_safetensors_and_one_of_bin_give_the_same_numbers(encoder_folder, tmp_path):
    own = Path(shutil.copytree(encoder_folder, tmp_path / "own"))
    torch.save(load_file(own / "model.safetensors"), own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    got = []
    for place in (encoder_folder, own):
        configuration = configured(place, heads=ALL, dropout=0.0)
        model = models.build("wav2vec2", configuration, seed=0)
        before = predict(model.eval(), [[sound(3000)]])["valence"]
        model.load_pretrained(settings_of(configuration))
        got.append(predict(model, [[sound(3000)], [sound(1000)]]))
        assert abs(got[-1]["valence"][0] - before[0]) > 1e-4  # it was loaded
    for name, values in got[0].items():
        np.testing.assert_array_equal(values, got[1][name])


def test_a_trained_one_is_loaded_without_the_checkpoint(encoder_folder, tmp_path):
    own = Path(shutil.copytree(encoder_folder, tmp_path / "own"))
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

"""MATE against the system of 2022, written out here a second time from its layers alone.

The reference is a function of a state dict under the names of 2022, in double precision, with the
LSTM as its equations; it shares nothing with models/mate.py.
"""

import json
from pathlib import Path

import pytest
import torch
from doubles.folders_2022 import legacy_configuration, legacy_shapes, legacy_state, reference, write

import model
import utils
from models import mate
from utils import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared"
NAMES = SHARED / "legacy_checkpoint.json"


# --- the reference -----------------------------------------------------------------------------


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
        cut = built._utterances(
            batch | {"log_mel": block[..., : clip + mate.Model.TAIL["log_mel"]]}
        )
        assert torch.allclose(cut, whole, atol=1e-4)
        assert torch.allclose(built.folded()._utterances(batch), whole, atol=1e-4)
    spread = whole[..., :816].std()
    assert spread > 0.03

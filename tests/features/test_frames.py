"""features/frames.py against transformers' own processor and forward, on small videos."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from doubles.videos import tone, write
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import utils
from benchmarks import tiny_vit
from features import frames
from features.signal import colour_motion
from media import video
from models.encoders import vision
from utils import Unusable, UserError

TENTHS = [i / 10 for i in range(60)]
RESAMPLES = (0, 1, 2, 3, 4, 5)  # of Pillow: nearest .. Hamming


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("vit")
    tiny_vit.write(place)
    return place


@pytest.fixture
def own(folder, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """6 s, whose pictures are noise of their own, 10 a second."""
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    return write(path, TENTHS, tone(6, 16_000), size=(96, 64), show=blots)


def blots(i: int, width: int, height: int) -> np.ndarray:
    """Rectangles of random colours, other ones in each picture."""
    cells = np.random.default_rng(i).integers(0, 255, (4, 6, 3), np.uint8)
    return cells.repeat(height // 4, 0).repeat(width // 6, 1)


def settings(encoder) -> SimpleNamespace:
    return SimpleNamespace(vision_encoder=str(encoder))


def of_video(encoder, path, *starts) -> list:
    rows = [SimpleNamespace(start=float(start)) for start in starts]
    return frames.Extractor(frames.Feature.parameters(settings(encoder)))(path, rows)


def pixels(**changed) -> dict:
    usual = {"side": 32, "scale": 1 / 255, "mean": [0.5] * 3, "sd": [0.5] * 3, "resample": 2}
    return usual | changed


def processors(picture: np.ndarray, about: dict) -> np.ndarray:
    """(3, S, S) of transformers' processor."""
    size = {"height": about["side"], "width": about["side"]}
    made = ViTImageProcessorPil(
        size=size,
        resample=about["resample"],
        rescale_factor=about["scale"],
        image_mean=about["mean"],
        image_std=about["sd"],
    )
    return made(picture, input_data_format="channels_last", return_tensors="np").pixel_values[0]


def expected(folder: Path, path: Path, seconds: list[int]) -> np.ndarray:
    """(N, D) of transformers' own processor and forward, of each picture alone."""
    module = transformers.AutoModel.from_pretrained(folder).eval()
    out = []
    for _, picture in video.frames(path, [second + 0.5 for second in seconds]):
        values = torch.from_numpy(processors(picture, pixels()))[None]
        with torch.no_grad():
            out.append(module(pixel_values=values).pooler_output[0].numpy())
    return np.stack(out)


@examples(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    resample=st.sampled_from(RESAMPLES),
    side=st.sampled_from([16, 32, 224]),
    mean=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_a_picture_is_prepared_as_by_transformers(width, height, resample, side, mean, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    about = pixels(side=side, resample=resample, mean=[mean, 0.5, 0.4], sd=[0.2, 0.3, mean + 0.1])
    got = vision.prepared(picture, about)
    assert got.shape == (3, side, side) and got.dtype == np.float32
    np.testing.assert_allclose(got, processors(picture, about), rtol=0, atol=2e-5)


@pytest.mark.parametrize("at_once", [1, 2, 32])
def test_a_second_is_transformers_of_the_picture_in_its_middle(folder, clip, at_once, monkeypatch):
    monkeypatch.setattr(frames, "AT_ONCE", at_once)
    got = np.stack(of_video(folder, clip, 4, 0, 1, 5, 2, 4))
    assert got.shape == (6, 32) and got.std(0).min() > 1e-3
    np.testing.assert_allclose(
        got, expected(folder, clip, [0, 1, 2, 4, 5])[[3, 0, 1, 4, 2, 3]], rtol=0, atol=1e-5
    )


def test_a_checkpoint_by_the_names_of_transformers_five_is_the_same(folder, own, clip):
    module = transformers.AutoModel.from_pretrained(folder)
    save_file(module.state_dict(), own / "model.safetensors", metadata={"format": "pt"})
    assert "layers.0.attention.q_proj.weight" in load_file(own / "model.safetensors")
    assert "encoder.layer.0.attention.attention.query.weight" in load_file(
        folder / "model.safetensors"
    )
    np.testing.assert_array_equal(of_video(own, clip, 0, 3), of_video(folder, clip, 0, 3))


def test_a_classifier_without_pooler_gives_the_state_of_its_first_token(folder, own, clip):
    saved = load_file(folder / "model.safetensors")
    bare = {f"vit.{k}": v for k, v in saved.items() if not k.startswith("pooler")}
    save_file(
        bare | {"classifier.weight": torch.zeros(7, 32)},
        own / "model.safetensors",
        metadata={"format": "pt"},
    )
    module = transformers.AutoModel.from_pretrained(folder).eval()
    [(_, picture)] = video.frames(clip, [2.5])
    with torch.no_grad():
        out = module(pixel_values=torch.from_numpy(processors(picture, pixels()))[None])
    [got] = of_video(own, clip, 2)
    np.testing.assert_allclose(got, out.last_hidden_state[0, 0], rtol=0, atol=1e-5)


def test_weights_that_lack_more_are_refused(own, clip):
    saved = load_file(own / "model.safetensors")
    save_file(
        {k: v for k, v in saved.items() if "layer.1.output" not in k},
        own / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(UserError, match="lack 2 of the encoder's tensors: layers.1.mlp.fc2"):
        of_video(own, clip, 2)


@pytest.mark.parametrize("encoder", ["vit", frames.NO_WEIGHTS])
def test_seconds_without_a_picture_are_unusable_each_by_itself(folder, tmp_path, encoder):
    path = write(tmp_path / "a.mkv", [1.0 + t for t in TENTHS[:17]], tone(6, 16_000))
    encoder = folder if encoder == "vit" else encoder
    got = of_video(encoder, path, 0, 1, 2, 3, 4)
    assert [isinstance(array, Unusable) for array in got] == [True, False, False, False, True]
    assert str(got[0]) == "no picture in this second"
    with pytest.raises(Unusable, match="^no picture$"):
        of_video(encoder, write(tmp_path / "b.mp4", sound=tone(2, 16_000)), 0)


def test_pictures_are_held_a_batch_at_a_time(folder, clip, monkeypatch):
    monkeypatch.setattr(frames, "AT_ONCE", 2)
    seen = []
    extractor = frames._Vision(frames.Feature.parameters(settings(folder)))
    states = extractor._states
    monkeypatch.setattr(extractor, "_states", lambda i: (seen.append(len(i)), states(i))[1])
    stream = extractor.seconds(clip, [0, 1, 2, 3, 4])
    assert [next(stream)[0], next(stream)[0]] == [0, 1] and seen == [2]
    assert [second for second, _ in stream] == [2, 3, 4] and seen == [2, 2, 1]


# --- which encoder -------------------------------------------------------------------------------


def test_another_encoder_or_preparation_is_another_cache(folder, own):
    base = frames.Feature.parameters(settings(folder))
    assert frames.Feature.shape(base) == (32,) and base["pixels"] == pixels()
    assert frames.Feature.parameters(settings(own)) == base | {"encoder": str(own)}
    about = json.loads((own / vision.PREPROCESSING).read_text())
    utils.write_json(own / vision.PREPROCESSING, about | {"image_mean": [0.4, 0.5, 0.6]})
    changed = frames.Feature.parameters(settings(own))
    assert changed["content"] != base["content"] and changed["pixels"]["mean"] == [0.4, 0.5, 0.6]
    assert frames.Feature.parameters(settings(frames.NO_WEIGHTS))["encoder"] == "colour-motion"


def test_a_size_may_be_a_number_as_in_older_files(own):
    about = json.loads((own / vision.PREPROCESSING).read_text())
    for name in ("do_rescale", "rescale_factor", "image_processor_type"):
        del about[name]
    utils.write_json(own / vision.PREPROCESSING, about | {"size": 32})
    assert frames.Feature.parameters(settings(own))["pixels"] == pixels()


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 48},
        {"size": {"shortest_edge": 32}},
        {"size": {"height": 32, "width": 16}},
        {"image_mean": [0.5]},
        {"image_std": [0.5, 0, 0.5]},
        {"image_mean": None},
        {"size": None},
        {"do_normalize": False},
        {"do_center_crop": True},
        {"resample": 9},
        {"image_std": ["a"] * 3},
    ],
)
def test_a_preparation_that_is_not_known_is_refused(own, changed):
    about = json.loads((own / vision.PREPROCESSING).read_text())
    utils.write_json(own / vision.PREPROCESSING, about | changed)
    with pytest.raises(UserError, match="preprocessor_config.json should say how .* 32 x 32"):
        frames.Feature.parameters(settings(own))


def test_what_is_no_encoder_is_told_with_what_needs_none(own):
    with pytest.raises(UserError, match="--vision_encoder FOLDER, or --vision_encoder colour-mot"):
        frames.Feature.parameters(settings("google/none"))
    with pytest.raises(UserError, match="--vision_encoder: no file or folder"):
        frames.Feature.parameters(settings("a b"))
    (own / vision.PREPROCESSING).unlink()
    with pytest.raises(UserError, match="cannot read .*preprocessor_config.json"):
        frames.Feature.parameters(settings(own))
    about = json.loads((own / "config.json").read_text())
    utils.write_json(own / "config.json", about | {"model_type": "bert"})
    with pytest.raises(UserError, match="ViT"):
        frames.Feature.parameters(settings(own))


def test_the_command_writes_an_encoder(tmp_path):
    command = [sys.executable, "benchmarks/tiny_vit.py", str(tmp_path / "a"), "--image", "64"]
    done = subprocess.run(
        command, cwd=utils.ROOT, capture_output=True, text=True, env={"PYTHONPATH": ".", "PATH": ""}
    )
    assert done.stdout == f"--vision_encoder {tmp_path / 'a'}\n", done.stderr
    assert frames.Feature.parameters(settings(tmp_path / "a"))["pixels"]["side"] == 64


def test_a_tiny_encoder_is_drawn_from_its_seed(folder, tmp_path):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for seed in (0, 1):
        tiny_vit.write(tmp_path / str(seed), seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [
        load_file(place / "model.safetensors")["pooler.dense.weight"]
        for place in (folder, tmp_path / "0", tmp_path / "1")
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# --- colour and motion ---------------------------------------------------------------------------


def flat(*colour: float) -> np.ndarray:
    shape = (colour_motion.HEIGHT, colour_motion.WIDTH, 3)
    return np.broadcast_to(np.float32(colour), shape).copy()


def test_the_numbers_of_a_red_picture():
    red = flat(1, 0, 0)
    got = colour_motion.numbers(red, red, red)
    assert got.shape == (32,) and got.dtype == np.float32
    np.testing.assert_allclose(got[:8], [1, 0, 0, 0, 0, 0, 0.299, 0], atol=1e-6)
    assert got[8:16].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]  # brightness 0.299 of eight levels
    assert got[16:28].tolist() == [1] + [0] * 11 and not got[28:].any()


@pytest.mark.parametrize(
    ("colour", "hue"),
    [((1, 1, 0), 2), ((0, 1, 0), 4), ((0, 1, 1), 6), ((0, 0, 1), 8), ((1, 0, 1), 10)],
)
def test_hues_go_round_the_circle(colour, hue):
    got = colour_motion.numbers(*[flat(*colour)] * 3)[16:28]
    assert got.argmax() == hue and got.sum() == pytest.approx(1)
    assert not colour_motion.numbers(*[flat(0.5, 0.5, 0.5)] * 3)[16:28].any()


def test_motion_is_the_difference_to_each_side():
    middle = flat(0, 0, 0)
    before, after = middle.copy(), flat(0.25, 0.25, 0.25)
    before[:9, :16] = 1  # one of the sixteen parts
    got = colour_motion.numbers(before, middle, after)[28:]
    np.testing.assert_allclose(got, [1 / 16, 0.25, 1, 0.25], atol=1e-6)


@examples(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_the_numbers_lie_between_nought_and_one(seed, scale):
    rng = np.random.default_rng(seed)
    got = colour_motion.numbers(*(scale * rng.random((3, 36, 64, 3), np.float32)))
    assert (got >= 0).all() and (got <= 1 + 1e-6).all()
    assert got[8:16].sum() == pytest.approx(1, abs=1e-5)


def test_colour_and_motion_of_a_video_need_no_weights(clip):
    got = of_video(frames.NO_WEIGHTS, clip, 4, 1)
    for array, second in zip(got, (4, 1), strict=True):
        times = [second + 0.25, second + 0.5, second + 0.75]
        small = [colour_motion._small(image) for _, image in video.frames(clip, times)]
        np.testing.assert_array_equal(array, colour_motion.numbers(*small))
        assert array[28:].min() > 0.01


def test_a_still_picture_does_not_move(tmp_path):
    path = write(
        tmp_path / "a.mp4", TENTHS[:20], show=lambda i, w, h: blots(7, w, h), size=(96, 64)
    )
    moved, last = of_video(frames.NO_WEIGHTS, path, 0, 2)
    assert moved[28:].max() < 0.02 and not last[28:].any()
    np.testing.assert_allclose(moved[:28], last[:28], atol=0.02)


def test_a_small_picture_is_the_mean_of_what_it_covers():
    picture = np.random.default_rng(0).integers(0, 256, (72, 128, 3), np.uint8)
    means = picture.reshape(36, 2, 64, 2, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(
        colour_motion._small(picture), means, atol=1.01 / 255
    )  # rounded twice


def test_what_is_not_there_is_zeros():
    out = np.full((2, 3), 7, np.float32)
    frames.Feature.gather([None, np.arange(3, dtype=np.float16)], [None, []], {}, None, out)
    assert out.tolist() == [[0, 0, 0], [0, 1, 2]] and frames.Feature.BY == "second"


def test_reading_a_cache_imports_neither_transformers_nor_pyav():
    code = (
        "import sys; from features import frames;"
        "sys.exit(bool({'transformers', 'av', 'torch'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=utils.ROOT).returncode == 0

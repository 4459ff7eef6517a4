"""features/emotion_states.py: what a second of a video sounds like to trained emotion models."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.settings import settings_with

import model as models
import utils
from features import emotion_states
from features.emotion_states import Second
from models import lstm_audio
from training.settings import TrainingSettings
from utils import Unusable, UserError

av = pytest.importorskip("av", reason="PyAV is an extra: videos cannot be read without it")

from doubles import videos  # noqa: E402  needs av

RATE, SECONDS = 16_000, 14


def save(folder: Path, seed: int = 0, **more) -> Path:
    """A finished run, as far as this feature reads it, with weights that make its input matter."""
    said = {"model": "lstm_audio", "hidden_size": 6, "layers": 1} | more
    built = models.build("lstm_audio", said, seed)
    for parameter in built.parameters():
        parameter.data.mul_(3)
    built.standardised(
        torch.randn(1, 99, 32, generator=torch.Generator()) * 50 - 90, torch.ones(1, 99).bool()
    )
    models.save(folder, built, said)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Runs `a`, `b`, and a video of noises that change every second."""
    folder = tmp_path_factory.mktemp("emotion_states")
    save(folder / "a")
    save(folder / "b", 1, hidden_size=4, heads="arousal")
    save(folder / "c", 2, legacy=True, heads="emotion")
    write(folder / "long.mp4", SECONDS)
    return folder


def write(path: Path, seconds: float, first: int = 0) -> Path:
    return videos.write(
        path,
        np.arange(0, seconds, 0.5),
        sound(seconds, first),
        RATE,
        audio="flac",
        fps=2,
        options={"strict": "-2"},
    )


def sound(seconds: float, first: int = 0) -> np.ndarray:
    """(1, N): second s is noise of its own loudness and colour, whatever stands before."""
    parts = []
    for second in range(first, first + int(np.ceil(seconds))):
        rng = np.random.default_rng(second)
        noise = rng.standard_normal(RATE)
        part = np.convolve(noise, np.ones(rng.integers(1, 30)) / 9, "same")
        parts.append(part * 10 ** rng.uniform(-2.5, -1))
    return np.concatenate(parts)[None, : round(seconds * RATE)].clip(-1, 1).astype(np.float32)


def settings(place: Path, *runs: str, seconds: int = 10, **more) -> TrainingSettings:
    run = ",".join(str(place / name) for name in runs)
    more = {"emotion_seconds": seconds, "save_path": "exp"} | more
    return settings_with("highlight", emotion_run=run, **more)


def extract(place: Path, name: str, starts, *runs: str, seconds: int = 10) -> list:
    parameters = emotion_states.Feature.parameters(settings(place, *runs, seconds=seconds))
    return emotion_states.Extractor(parameters)(place / name, [Second(float(s)) for s in starts])


def coefficients(place: Path, name: str, count: int) -> np.ndarray:
    """(count, 32) of the first seconds, of the feature that a highlight model reads."""
    leaf = utils.leaf("features", "mfcc_second")
    found = leaf.Extractor({})(place / name, [Second(float(s)) for s in range(count)])
    return np.stack(found)[:, :32].astype(np.float32)


# --- what a state is -----------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["a", "c"])
def test_a_state_is_that_of_an_utterance_of_the_last_seconds(place, run):
    x = coefficients(place, "long.mp4", SECONDS)
    model, _ = models.load(place / run)
    got = extract(place, "long.mp4", range(SECONDS), run, seconds=4)
    for second in range(SECONDS):
        last = torch.from_numpy(x[max(0, second - 3) : second + 1])
        with torch.no_grad():
            expected = model.heard(last[None], torch.ones(1, len(last)).bool())[0]
        np.testing.assert_allclose(got[second], expected, atol=1e-5)
    assert np.std(got, axis=0).max() > 0.05  # or nothing was tested


def test_a_run_hears_a_video_as_it_heard_an_utterance_in_training(place, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", sound(3.5)[0], RATE, subtype="FLOAT")
    [clip] = utils.leaf("features", "mfcc_seconds").Extractor({})(tmp_path / "a.wav", [None])
    write(tmp_path / "a.mp4", 3.5)
    x = coefficients(tmp_path, "a.mp4", 4)
    assert clip.shape == x.shape == (4, lstm_audio.COEFFICIENTS)
    np.testing.assert_allclose(x[:3], clip[:3], atol=0.5)  # of 16 bits, and up to -400


def test_runs_stand_in_the_order_given(place):
    a, b = (extract(place, "long.mp4", [7], run)[0] for run in "ab")
    np.testing.assert_array_equal(extract(place, "long.mp4", [7], "a", "b")[0], [*a, *b])
    np.testing.assert_array_equal(extract(place, "long.mp4", [7], "b", "a")[0], [*b, *a])
    assert emotion_states.Feature.shape(
        emotion_states.Feature.parameters(settings(place, "a", "b"))
    ) == (10,)


def test_a_state_depends_neither_on_the_rest_of_the_video_nor_on_the_rows_asked_for(
    place, tmp_path
):
    whole = extract(place, "long.mp4", range(SECONDS), "a", seconds=5)
    for second in (0, 3, 9):
        [alone] = extract(place, "long.mp4", [second], "a", seconds=5)
        np.testing.assert_allclose(alone, whole[second], atol=1e-6)
    write(tmp_path / "short.mp4", 8)  # the same seconds, and nothing after
    parameters = emotion_states.Feature.parameters(settings(place, "a", seconds=5))
    short = emotion_states.Extractor(parameters)(tmp_path / "short.mp4", [Second(7.0)])
    np.testing.assert_allclose(short[0], whole[7], atol=1e-2)
    write(tmp_path / "late.mp4", 8, first=6)  # and nothing before
    late = emotion_states.Extractor(parameters)(tmp_path / "late.mp4", [Second(7.0)])
    np.testing.assert_allclose(late[0], whole[13], atol=1e-2)


def test_seconds_that_are_not_there_have_no_state_and_a_silent_video_has_none(place, tmp_path):
    videos.write(tmp_path / "v.mp4", np.arange(0, 6, 0.5), sound(4), RATE, fps=2)
    parameters = emotion_states.Feature.parameters(settings(place, "a"))
    got = emotion_states.Extractor(parameters)(tmp_path / "v.mp4", [Second(s) for s in range(6)])
    assert [isinstance(array, np.ndarray) for array in got[:4]] == [True] * 4
    assert isinstance(got[5], Unusable) and str(got[5]) == "no sound in this second"
    videos.write(tmp_path / "mute.mp4", np.arange(0, 3, 0.5), fps=2)
    with pytest.raises(Unusable, match="no sound"):
        emotion_states.Extractor(parameters)(tmp_path / "mute.mp4", [Second(0.0)])


def test_many_seconds_are_read_in_parts_that_none_notices(place, monkeypatch):
    whole = extract(place, "long.mp4", range(SECONDS), "a")
    monkeypatch.setattr(emotion_states, "SECONDS_AT_ONCE", 3)
    np.testing.assert_allclose(extract(place, "long.mp4", range(SECONDS), "a"), whole, atol=1e-6)


def test_blocks_are_the_states_and_zeros_where_there_is_none():
    out = np.full((2, 3), 9, np.float32)
    emotion_states.Feature.gather([np.array([1, 2, 3], np.float16), None], [], {}, None, out)
    assert out.tolist() == [[1, 2, 3], [0, 0, 0]]


# --- readings ------------------------------------------------------------------------------------


def test_readings_are_what_the_runs_say_of_the_last_seconds(place):
    x, runs = coefficients(place, "long.mp4", SECONDS), ("a", "b", "c")
    got = emotion_states.Feature.readings(
        place / "long.mp4", settings(place, *runs, seconds=3), [2, 9]
    )
    for row, second in enumerate((2, 9)):
        last = torch.from_numpy(x[second - 2 : second + 1])[None, None]
        mask = torch.ones(1, 1, 3).bool()
        batch = {"mfcc_seconds": last, "mfcc_seconds_mask": mask, "mask": mask[..., 0]}
        with torch.no_grad():
            a, b, c = (models.load(place / run)[0](batch) for run in runs)
        chance = (a["emotion"].exp() + c["emotion"].exp())[0] / 2
        np.testing.assert_allclose(got["emotion"][row], chance, atol=1e-5)
        arousal = (a["arousal"] + b["arousal"])[0] / 2
        assert got["arousal"][row] == pytest.approx(float(arousal), abs=1e-5)
        assert got["valence"][row] == pytest.approx(float(a["valence"][0]), abs=1e-5)
    np.testing.assert_allclose(got["emotion"].sum(1), 1, atol=1e-5)


def test_readings_of_seconds_without_sound_are_nan_and_heads_of_no_run_are_left_out(
    place, tmp_path
):
    videos.write(tmp_path / "v.mp4", np.arange(0, 6, 0.5), sound(4), RATE, fps=2)
    got = emotion_states.Feature.readings(tmp_path / "v.mp4", settings(place, "b"), range(6))
    assert list(got) == ["arousal"] and np.isnan(got["arousal"][5])
    assert (
        np.isfinite(got["arousal"][:4]).all()
        and ((1 <= got["arousal"][:4]) & (got["arousal"][:4] <= 5)).all()
    )


# --- runs ----------------------------------------------------------------------------------------


def test_the_weights_are_part_of_the_parameters(place, tmp_path):
    first = save(tmp_path / "run", 5)
    before = emotion_states.Feature.parameters(settings(tmp_path, "run"))
    assert before == emotion_states.Feature.parameters(settings(tmp_path, "run"))
    save(first, 6)
    after = emotion_states.Feature.parameters(settings(tmp_path, "run"))
    assert before["runs"][0]["content"] != after["runs"][0]["content"]
    assert utils.digest(before) != utils.digest(after)
    longer = emotion_states.Feature.parameters(settings(tmp_path, "run", seconds=11))
    assert utils.digest(after) != utils.digest(longer)


def test_a_run_is_found_by_its_name_in_save_path_too(place):
    given = settings(place, "a")
    named = settings_with("highlight", emotion_run="a", emotion_seconds=10, save_path=str(place))
    assert emotion_states.Feature.parameters(named) == emotion_states.Feature.parameters(given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        ("exp/a,exp/b", ["exp/a", "exp/b"]),
        ("a b  c", ["a", "b", "c"]),
        ("a, b c", ["a", "b c"]),
        ("a,", ["a"]),
    ],
)
def test_runs_are_named_with_commas_or_spaces(text, expected):
    assert emotion_states.names(text) == expected


def test_a_folder_with_a_space_in_its_name_is_one_run(tmp_path):
    save(tmp_path / "my run")
    assert emotion_states.names(str(tmp_path / "my run")) == [str(tmp_path / "my run")]


def test_what_is_no_finished_run_of_an_emotion_model_is_named(place, tmp_path):
    save(tmp_path / "whole")
    utils.write_json(
        utils.make_folder(tmp_path / "begun") / "configuration.json", {"model": "lstm_audio"}
    )
    utils.write_json(
        utils.make_folder(tmp_path / "other") / "configuration.json", {"model": "mate"}
    )
    utils.write_json(utils.make_folder(tmp_path / "old") / "configuration.json", {})
    messages = {
        "other": "needs runs of lstm_audio, .*other is one of mate",
        "old": "is one of the system of 2022",
        "begun": "begun has no model.pth: its training did not end",
        "none": "no run 'none'; in .* there are: begun, old, other, whole",
    }
    for name, message in messages.items():
        given = settings_with(
            "highlight", emotion_run=name, emotion_seconds=9, save_path=str(tmp_path)
        )
        with pytest.raises(UserError, match=message) as caught:
            emotion_states.Feature.parameters(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="needs folders of lstm_audio runs, got ' , '"):
        emotion_states.names(" , ")


def test_damaged_weights_are_noticed(tmp_path):
    save(tmp_path / "run")
    with open(tmp_path / "run" / "model.pth", "r+b") as file:
        file.seek(500)
        file.write(b"x")
    with pytest.raises(UserError, match="model.pth is damaged"):
        emotion_states.Feature.parameters(settings(tmp_path, "run"))


def test_a_highlight_run_is_not_tested_with_other_emotion_runs(place, tmp_path):
    said = {
        "modality": "audio",
        "vision_encoder": "colour-motion",
        "widths": None,
        "computed_by": None,
    }
    trained = models.complete(settings(place, "a", **said))
    assert trained.widths == {"mfcc_second": 34, "emotion_states": 6}
    moved = settings(tmp_path, "elsewhere", **said | {"computed_by": trained.computed_by})
    shutil.copytree(place / "a", tmp_path / "elsewhere")
    moved = models.complete(moved)
    assert moved.computed_by == trained.computed_by
    save(tmp_path / "other", 7)
    other = settings(tmp_path, "other", **said | {"computed_by": trained.computed_by})
    with pytest.raises(UserError, match="--emotion_run .*other is not what this run was trained"):
        models.complete(other)

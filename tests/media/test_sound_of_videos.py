"""The sound of videos: from time 0, wherever it begins, channels averaged."""

import av
import numpy as np
import pytest
import soxr
from doubles.videos import TENTHS, fewer, noise, shown, tone, write
from hypothesis import given
from hypothesis import strategies as st

from media import container, cutting, video
from utils import Unusable


@pytest.mark.parametrize(
    ("codec", "step"),
    [
        ("pcm_u8", 2**-7),
        ("pcm_s16le", 2**-15),
        ("pcm_s32le", 1e-6),
        ("pcm_f32le", 1e-6),
        ("pcm_f64le", 1e-6),
        ("flac", 2**-15),
    ],
)
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 6)])
def test_sound_is_the_mean_of_its_channels_resampled_by_soxr(tmp_path, codec, step, rate, channels):
    wave = noise(1.7, rate, channels)
    path = write(tmp_path / "a.mkv", sound=wave, rate=rate, audio=codec)
    expected = wave.mean(0)
    if rate != 16_000:
        expected = soxr.resample(expected, rate, 16_000, quality="HQ")
    got = video.sound(path, 16_000)
    assert got.dtype == np.float32 and abs(len(got) - len(expected)) <= 1
    count = min(len(got), len(expected))
    np.testing.assert_allclose(got[:count], expected[:count], rtol=0, atol=2 * step)


@fewer
@given(seconds=st.floats(0.001, 3))
def test_blocks_of_any_length_are_the_sound(plain, seconds):
    blocks = list(video.sound_blocks(plain, 16_000, seconds))
    assert {len(block) for block in blocks[:-1]} <= {round(seconds * 16_000)}
    assert 0 < len(blocks[-1]) <= round(seconds * 16_000)
    np.testing.assert_array_equal(np.concatenate(blocks), video.sound(plain, 16_000))


@pytest.mark.parametrize("starts", [0.0, 0.01, 0.5, 1.25])
def test_sound_that_begins_late_is_where_its_time_stamps_are(tmp_path, starts):
    wave = tone(1, 48_000) + 0.1
    path = write(tmp_path / "a.mkv", TENTHS, wave, 48_000, starts=starts, audio="pcm_s16le")
    got = video.sound(path, 48_000)
    begin = round(starts * 48_000)
    assert len(got) == begin + 48_000
    assert not got[:begin].any()
    np.testing.assert_allclose(got[begin:], wave[0], atol=1e-4)


def test_a_gap_in_the_sound_is_silent_and_moves_nothing(tmp_path):
    wave = noise(4, 16_000)
    path = write(tmp_path / "a.mkv", TENTHS, wave, audio="pcm_s16le", gaps=((1, 2),))
    got = video.sound(path, 16_000)
    assert len(got) == 64_000
    left = (got == 0).nonzero()[0]
    first, last = left[np.diff(left, prepend=-9) == 1].min(), left[np.diff(left, prepend=-9) == 1]
    assert 1 <= first / 16_000 < 1.07 and 1.9 < last.max() / 16_000 < 2.07
    for part in (slice(0, 16_000), slice(34_000, None)):
        np.testing.assert_allclose(got[part], wave[0, part], atol=1e-4)


def test_time_stamps_that_are_damaged_make_no_hours_of_silence(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", TENTHS, tone(4, 16_000), audio="pcm_s16le")
    monkeypatch.setattr(container, "MAX_SECONDS", 2)
    assert len(video.sound(path, 16_000)) / 16_000 == pytest.approx(2, abs=0.1)
    assert video.probe(path).seconds == 2
    assert shown(path, [1.55, 2.55, 3.5]) == [15, 19, None]


def test_time_stamps_far_beyond_what_the_header_says_are_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", TENTHS, tone(4, 16_000), audio="pcm_s16le")
    monkeypatch.setattr(container, "LONGER", (0.5, 0))
    assert len(video.sound(path, 16_000)) / 16_000 == pytest.approx(2, abs=0.1)


def test_eight_channels_and_more_are_heard(tmp_path):
    """PyAV's planes of such a frame end behind its memory: reading them all would kill."""
    wave = tone(1, 48_000, channels=8)
    path = write(tmp_path / "a.mkv", sound=wave, rate=48_000, audio="aac")
    with av.open(str(path)) as file:
        assert next(file.decode(audio=0)).format.is_planar
    source, got = wave.mean(0), video.sound(path, 48_000)[:48_000]
    assert np.corrcoef(got, source)[0, 1] > 0.95
    cutting.cut(path, tmp_path / "b.mp4", [(0.25, 0.75)])
    assert video.probe(tmp_path / "b.mp4").seconds == pytest.approx(0.5, abs=0.03)


def test_rounded_time_stamps_are_no_gaps(tmp_path):
    """Matroska counts milliseconds; 1,024 samples of 44.1 kHz are 23.2."""
    wave = noise(3, 44_100)
    path = write(tmp_path / "a.mkv", sound=wave, rate=44_100, audio="pcm_s16le")
    got = video.sound(path, 44_100)
    np.testing.assert_allclose(got, wave[0], atol=1e-4)


def test_a_video_without_sound_has_none(tmp_path):
    path = write(tmp_path / "a.mp4", TENTHS[:20])
    with pytest.raises(Unusable, match="^no sound$"):
        video.sound(path, 16_000)

"""features/spectrogram.py against scipy.signal.spectrogram."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from features import spectrogram
from utils import Unusable

SHARED = Path(__file__).resolve().parents[3] / "shared"
PARAMETERS = spectrogram.Feature.parameters(SimpleNamespace(sr=16_000))
EXTRACTOR = spectrogram.Extractor(PARAMETERS)
EPS = 1e-14
ROUNDING = 2**-7  # half a step of float16 between 16 and 32


def voice(samples: int, seed: int) -> np.ndarray:
    """Harmonics of a gliding pitch, and noise, rounded to 16 bit: (samples,) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16_000
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 300) + 20 * np.sin(3 * t)) / 16_000
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    noise = rng.standard_normal(samples) * 10 ** rng.uniform(-4, -1)
    wave = rng.uniform(0.01, 0.2) * (tone * np.sin(2 * t) + noise)
    return (np.round(wave.clip(-1, 1) * 32767) / 32768).astype(np.float32)


def scipys(wave: np.ndarray, rate: int = 16_000) -> np.ndarray:
    """(N,) -> (T, bins): ln(density + EPS) - ln(EPS), in double."""
    n, hop = round(0.04 * rate), round(0.02 * rate)
    _, _, density = scipy.signal.spectrogram(
        wave.astype(np.float64), rate, "hann", n, n - hop, detrend=False, scaling="density"
    )
    return np.log(density.T + EPS) - np.log(EPS)


def gathered(arrays, cut=None, steps=None) -> np.ndarray:
    most = spectrogram.Feature.longest(PARAMETERS)
    steps = steps or max(min(len(a), most) for a in arrays if a is not None)
    out = np.full((len(arrays), steps, 321), np.nan, np.float32)
    cut = None if cut is None else np.array(cut)
    spectrogram.Feature.gather(arrays, [[]] * len(arrays), PARAMETERS, cut, out)
    return out


@examples(max_examples=30, deadline=None)
@given(samples=st.integers(640, 60_000), seed=st.integers(0, 2**32 - 1))
@example(samples=640, seed=0)
@example(samples=959, seed=0)
@example(samples=960, seed=0)
def test_the_numbers_are_scipys(samples, seed):
    wave = voice(samples, seed)
    ours, theirs = EXTRACTOR.logarithm(wave), scipys(wave)
    assert ours.shape == theirs.shape == (1 + (samples - 640) // 320, 321)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100])
def test_the_numbers_are_scipys_at_other_rates(rate):
    parameters = spectrogram.Feature.parameters(SimpleNamespace(sr=rate))
    wave = voice(rate, 3)
    ours = spectrogram.Extractor(parameters).logarithm(wave)
    assert ours.shape[1] == spectrogram.Feature.shape(parameters)[1]
    np.testing.assert_allclose(ours, scipys(wave, rate), rtol=0, atol=1e-5)


def test_a_clip_shorter_than_a_frame_is_one_frame_with_silence_after_it():
    wave = voice(300, 1)
    ours = EXTRACTOR.logarithm(wave)
    np.testing.assert_allclose(ours, scipys(np.pad(wave, (0, 340))), rtol=0, atol=1e-5)


def test_a_long_clip_is_the_same_whole_or_in_parts(monkeypatch):
    wave = voice(300_000, 5)
    whole = EXTRACTOR.logarithm(wave)
    monkeypatch.setattr(spectrogram, "FRAMES_AT_ONCE", 100)
    np.testing.assert_array_equal(EXTRACTOR.logarithm(wave), whole)


def test_silence_is_zero():
    assert not EXTRACTOR.logarithm(np.zeros(16_000, np.float32)).any()


@pytest.mark.parametrize("kind", ["sine", "square", "constant", "clipped noise"])
def test_the_loudest_sounds_stay_in_the_range_whose_rounding_is_stated(kind):
    t = np.arange(16_000)
    wave = {
        "sine": np.sin(2 * np.pi * t / 16),
        "square": np.where(t % 16 < 8, 1.0, -1.0),
        "constant": np.ones(16_000),
        "clipped noise": np.sign(np.random.default_rng(0).standard_normal(16_000)),
    }[kind]
    exact = EXTRACTOR.logarithm(wave.astype(np.float32))
    assert 20 < exact.max() < 32
    stored = exact.astype(spectrogram.Feature.DTYPE).astype(np.float64)
    assert 0 < abs(stored - exact).max() <= ROUNDING


def test_rounding_to_16_bit_leaves_noise_near_the_floor():
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000) / 32768
    density = np.expm1(EXTRACTOR.logarithm(wave.astype(np.float32))) * EPS
    assert density.mean() == pytest.approx(EPS, rel=0.1)


def test_what_is_heard_lies_a_constant_above_that_of_raw_integers():
    wave = voice(32_000, 2)
    _, _, raw = scipy.signal.spectrogram(
        np.round(wave.astype(np.float64) * 32768), 16_000, "hann", 640, 320, detrend=False
    )
    published = np.log(raw.T + 1e-10)
    loud = published > -5  # the floor of ours is at -11
    assert loud.mean() > 0.2
    above = (EXTRACTOR.logarithm(wave) - published)[loud]
    np.testing.assert_allclose(above, np.log(2**-30 / EPS), atol=1e-2)
    assert np.log(2**-30 / EPS) == pytest.approx(11.4, abs=0.05)


# --- blocks ------------------------------------------------------------------------------------


def test_what_was_stored_comes_back_with_zeros_after_it():
    short, long = (np.random.default_rng(n).random((n, 321)).astype("float16") for n in (3, 7))
    block = gathered([short, None, long])
    np.testing.assert_array_equal(block[0, :3], short)
    np.testing.assert_array_equal(block[2], long)
    assert not block[0, 3:].any() and not block[1].any()


def numbered(frames: int) -> np.ndarray:
    """Frames that say where they stood."""
    return np.repeat(np.arange(frames, dtype="float16")[:, None], 321, 1)


def test_a_clip_of_78_s_fills_no_more_than_30():
    most = spectrogram.Feature.longest(PARAMETERS)
    assert most == 1499 == len(EXTRACTOR.logarithm(np.zeros(30 * 16_000, np.float32)))
    assert spectrogram.Feature.is_cut((most + 1, 321), PARAMETERS)
    assert not spectrogram.Feature.is_cut((most, 321), PARAMETERS)
    block = gathered([numbered(2000)])
    np.testing.assert_array_equal(block[0, :, 0], np.arange(250, 250 + most))


@pytest.mark.parametrize(("seconds", "frames"), [(2.5, 124), (0.04, 1), (0.01, 1)])
def test_how_much_is_seen_is_a_setting(seconds, frames):
    parameters = spectrogram.Feature.parameters(SimpleNamespace(sr=16_000, seconds=seconds))
    assert spectrogram.Feature.longest(parameters) == frames


@given(cut=st.floats(0, 1, exclude_max=True), frames=st.integers(1500, 2000))
@example(cut=0.0, frames=1500)
@example(cut=1 - 2**-53, frames=2000)
@examples(max_examples=30, deadline=None)
def test_a_cut_takes_whole_frames_in_order(cut, frames):
    block = gathered([numbered(frames)], [cut])[0, :, 0]
    assert np.array_equal(block, block[0] + np.arange(1499))
    assert 0 <= block[0] <= frames - 1499


def test_cuts_reach_both_ends():
    starts = [gathered([numbered(1600)], [cut])[0, 0, 0] for cut in (0.0, 1 - 1e-9)]
    assert starts == [0, 101]


# --- files -------------------------------------------------------------------------------------


def test_a_wav_is_read_once_for_all_its_rows(tmp_path):
    wave = voice(8000, 4)
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    first, second = EXTRACTOR(tmp_path / "a.wav", [0, 1])
    assert first is second
    np.testing.assert_allclose(first, scipys(wave), rtol=0, atol=1e-5)


def test_what_is_not_sound_is_unusable(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"words")
    with pytest.raises(Unusable, match="not audio"):
        EXTRACTOR(tmp_path / "a.wav", [0])


def test_real_speech_is_as_scipy_has_it():
    wavs = sorted(SHARED.glob("real_speech/wav/*/*/*.wav"))[::60]
    if not wavs:
        pytest.skip(f"no recordings in {SHARED}/real_speech")
    for path in wavs:
        wave = spectrogram.read(path, 16_000)
        np.testing.assert_allclose(EXTRACTOR.logarithm(wave), scipys(wave), rtol=0, atol=1e-5)

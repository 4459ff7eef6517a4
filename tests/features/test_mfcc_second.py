"""features/mfcc_second.py and mfcc_seconds.py, against librosa on each second by itself."""

import subprocess
import sys
from types import SimpleNamespace

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.videos import write
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import utils
from features import mfcc_second, mfcc_seconds
from features.signal.mfcc_means import Means
from features.store import extraction
from media import video
from utils import Unusable

PARAMETERS = mfcc_second.Feature.parameters(SimpleNamespace())
MEANS = Means()
TENTHS = [i / 10 for i in range(50)]


def voice(samples: int, seed: int = 0) -> np.ndarray:
    """(samples,) float32: harmonics of a gliding pitch, and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16_000
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 300) + 20 * np.sin(3 * t)) / 16_000
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    noise = rng.standard_normal(samples) * 10 ** rng.uniform(-4, -1)
    return (0.1 * (tone * (1 + np.sin(5 * t)) + noise)).astype(np.float32)


def librosas(wave: np.ndarray) -> np.ndarray:
    """(32,): of librosa, at its own settings."""
    return librosa.feature.mfcc(y=wave, sr=16_000, n_mfcc=32).mean(1)


def rows(*starts: float) -> list:
    return [SimpleNamespace(start=float(start)) for start in starts]


def of_video(path, *starts) -> list:
    return mfcc_second.Extractor(PARAMETERS)(path, rows(*starts))


@examples(max_examples=25, deadline=None)
@given(samples=st.integers(2048, 16_000), seed=st.integers(0, 2**32 - 1))
def test_the_means_are_librosas(samples, seed):
    wave = voice(samples, seed)
    np.testing.assert_allclose(MEANS(wave), librosas(wave), rtol=0, atol=5e-3)  # of some 500


def test_a_band_that_is_quiet_is_eighty_decibels_below_the_loudest_as_in_librosa():
    wave = voice(16_000, 2)
    wave[8000:] *= 1e-6
    np.testing.assert_allclose(MEANS(wave), librosas(wave), rtol=0, atol=5e-3)


def test_silence_is_a_value():
    got = MEANS.with_level_and_flux(np.zeros(16_000, np.float32))
    np.testing.assert_allclose(got[:32], librosas(np.zeros(16_000, np.float32)), atol=1e-3)
    assert got[32:].tolist() == [-100, 0]
    assert np.isfinite(got.astype(mfcc_second.Feature.DTYPE)).all()


def test_the_level_is_in_decibels_of_full_scale():
    t = np.arange(16_000) / 16_000
    for amplitude in (1.0, 0.1):
        wave = (amplitude * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
        level = MEANS.with_level_and_flux(wave)[32]
        assert level == pytest.approx(20 * np.log10(amplitude / np.sqrt(2)), abs=0.01)


def test_the_flux_is_of_change_and_not_of_loudness():
    t = np.arange(16_000) / 16_000
    steady = np.sin(2 * np.pi * 440 * t).astype(np.float32)
    hops = np.sin(2 * np.pi * np.where(t * 8 % 2 < 1, 440, 3000) * t).astype(np.float32)
    flux = [MEANS.with_level_and_flux(wave)[33] for wave in (steady, 0.01 * steady, hops)]
    assert flux[0] == pytest.approx(flux[1], rel=0.01)
    assert 0 <= flux[0] < 0.1 and 5 * flux[0] < flux[2] <= 2


def test_the_flux_is_the_formula():
    wave = voice(9000, 5)
    mel = librosa.feature.melspectrogram(
        y=wave, sr=16_000, n_fft=2048, hop_length=512, n_mels=128, pad_mode="constant"
    )
    share = mel / mel.sum(0)
    expected = np.abs(share[:, 1:] - share[:, :-1]).sum(0).mean()
    assert MEANS.with_level_and_flux(wave)[33] == pytest.approx(expected, rel=1e-3)


def test_an_utterance_has_each_second_and_the_rest(tmp_path):
    wave = voice(16_000 * 2 + 5000)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    first, second = mfcc_seconds.Extractor(PARAMETERS)(tmp_path / "a.wav", [None, None])
    expected = [librosas(wave[i : i + 16_000]) for i in (0, 16_000, 32_000)]
    np.testing.assert_allclose(first, expected, rtol=0, atol=5e-3)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("samples", "seconds"),
    [(1, 1), (511, 1), (16_000, 1), (16_511, 1), (16_512, 2), (48_000, 3), (48_100, 3)],
)
def test_a_rest_of_less_than_a_hop_is_left_out(tmp_path, samples, seconds):
    soundfile.write(tmp_path / "a.wav", voice(samples), 16_000)
    [array] = mfcc_seconds.Extractor(PARAMETERS)(tmp_path / "a.wav", [None])
    assert array.shape == (seconds, 32) and np.isfinite(array).all()


def test_a_second_of_a_video_is_that_of_the_wav(tmp_path):
    wave = voice(16_000 * 5)
    path = write(tmp_path / "a.mkv", TENTHS, wave[None], audio="pcm_s16le")
    got = of_video(path, 3, 0, 4, 3)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="PCM_16")
    [seconds] = mfcc_seconds.Extractor(PARAMETERS)(tmp_path / "a.wav", [None])
    np.testing.assert_allclose([array[:32] for array in got], seconds[[3, 0, 4, 3]], atol=0.05)
    for array, at in zip(got, (3, 0, 4), strict=False):
        part = wave[16_000 * at : 16_000 * (at + 1)]
        assert array[32] == pytest.approx(10 * np.log10((part**2).mean()), abs=0.01)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 6), (8000, 1)])
def test_whatever_the_rate_of_a_video_it_is_heard_at_sixteen_kilohertz(tmp_path, rate, channels):
    t = np.arange(2 * rate) / rate
    wave = np.repeat((0.3 * np.sin(2 * np.pi * 1000 * t))[None], channels, 0).astype(np.float32)
    path = write(tmp_path / "a.mkv", TENTHS[:20], wave, rate, audio="pcm_s16le")
    expected = librosas(video.sound(path, 16_000)[16_000:32_000])
    np.testing.assert_allclose(of_video(path, 1)[0][:32], expected, rtol=0, atol=5e-3)


def test_a_second_is_that_of_the_time_stamps(tmp_path):
    path = write(tmp_path / "a.mkv", TENTHS, voice(32_000)[None], starts=2.0, audio="pcm_s16le")
    got = of_video(path, 0, 1, 2, 3, 4)
    assert [array[32] for array in got[:2]] == [-100, -100]
    assert all(array[32] > -40 for array in got[2:4])
    assert isinstance(got[4], Unusable) and str(got[4]) == "no sound in this second"


def test_a_video_without_sound_has_no_seconds_of_it(tmp_path):
    path = write(tmp_path / "a.mp4", TENTHS[:20])
    with pytest.raises(Unusable, match="^no sound$"):
        of_video(path, 0, 1)


def test_the_sound_is_decoded_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", TENTHS, voice(80_000)[None], audio="pcm_s16le")
    blocks, opened = video.sound_blocks, []
    monkeypatch.setattr(video, "sound_blocks", lambda *a: (opened.append(a), blocks(*a))[1])
    assert len(of_video(path, 0, 1, 2, 3, 4)) == 5
    assert len(opened) == 1


def test_a_store_of_seconds_is_ragged(tmp_path):
    lengths = [40_000, 16_000, 0]
    for row, samples in enumerate(lengths[:2]):
        soundfile.write(tmp_path / f"{row}.wav", voice(samples, row), 16_000)
    utterances = pd.DataFrame(
        {
            "segment": ["a", "b", "c"],
            "wav": ["0.wav", "1.wav", ""],
            "silent": False,
            "wav_size": lengths,
            "wav_hash": ["a", "b", ""],
            "quarantine": "",
        }
    )
    store = extraction.extract(
        "mfcc_seconds", utterances, tmp_path, tmp_path, None, workers=1, progress=False
    )
    assert store.shape == (None, 32) and store.lengths.tolist() == [3, 1, 0]
    block = store.gather(np.array([1, 0, 2, -1]))
    assert block.shape == (4, 3, 32)
    np.testing.assert_array_equal(block[0, :1], store.array(1))
    np.testing.assert_array_equal(block[1], store.array(0))
    assert not block[0, 1:].any() and not block[2:].any()


def test_a_store_holds_a_row_for_each_second_of_each_video(tmp_path):
    for i, name in enumerate("ab"):
        wave = voice(32_000 + 16_000 * i, i)[None]
        write(tmp_path / f"{name}.mkv", TENTHS[:30], wave, audio="pcm_s16le")
    write(tmp_path / "c.mkv", TENTHS[:30])  # no sound
    utterances = pd.DataFrame(
        [
            {
                "segment": f"{name}#{second:05d}",
                "wav": f"{name}.mkv",
                "start": float(second),
                "end": second + 1.0,
                "silent": name == "c",
                "wav_size": 1,
                "wav_hash": name,
                "quarantine": "",
            }
            for name in "abc"
            for second in range(3)
        ]
    )
    store = extraction.extract("mfcc_second", utterances, tmp_path, tmp_path, None, progress=False)
    assert store.available.tolist() == [True, True, False, True, True, True, False, False, False]
    assert [reason for _, reason in store.troubles] == ["no sound in this second"] + [
        "no sound"
    ] * 3
    got = store.gather(np.array([[4, 2], [0, -1]]))
    assert got.shape == (2, 2, 34) and not got[:, 1].any()
    np.testing.assert_array_equal(got[0, 0], of_video(tmp_path / "b.mkv", 1)[0].astype("f4"))
    np.testing.assert_array_equal(got[1, 0], of_video(tmp_path / "a.mkv", 0)[0].astype("f4"))


def test_what_is_not_there_is_zeros():
    out = np.full((2, 34), 7, np.float32)
    mfcc_second.Feature.gather([None, np.arange(34.0)], [None, []], PARAMETERS, None, out)
    assert not out[0].any() and out[1].tolist() == list(range(34))
    assert mfcc_second.Feature.shape(PARAMETERS) == (34,) and mfcc_second.Feature.BY == "second"


def test_reading_a_cache_imports_neither_librosa_nor_pyav():
    code = (
        "import sys; from features import mfcc_second, mfcc_seconds;"
        "sys.exit(bool({'librosa', 'av'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=utils.ROOT).returncode == 0

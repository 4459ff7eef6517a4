"""features/mfcc.py against librosa's coefficients and sklearn's standardisation."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.preprocessing import scale

import utils
from features import mfcc
from features.store import extraction
from utils import Unusable, UserError


def settings(**changed):
    flags = {"sr": 16_000, "n_mfcc": 100, "mfcc_fft": 400, "mfcc_hop": 160}
    return SimpleNamespace(**flags | changed)


PARAMETERS = mfcc.Feature.parameters(settings())
EXTRACTOR = mfcc.Extractor(PARAMETERS)


def voice(samples, seed=0, rate=16_000):
    """Harmonics of a gliding pitch under a slow envelope, and noise: (samples,) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 300) + 20 * np.sin(3 * t)) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(1, 4) * t)
    noise = rng.standard_normal(samples) * 10 ** rng.uniform(-4, -1)
    return (rng.uniform(0.01, 0.2) * (loudness * tone + noise)).astype(np.float32)


def librosas(wave, sr=16_000, n_mfcc=100, mfcc_fft=400, mfcc_hop=160):
    """(T, n_mfcc) of librosa."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty bands, and of clips shorter than a window
        return librosa.feature.mfcc(
            y=wave, sr=sr, n_mfcc=n_mfcc, n_fft=mfcc_fft, hop_length=mfcc_hop
        ).T


@pytest.mark.parametrize("samples", [1, 159, 160, 399, 400, 16_000, 50_001])
def test_the_coefficients_are_librosas(samples):
    wave = voice(samples)
    ours = EXTRACTOR.coefficients(wave)
    assert ours.shape == (1 + samples // 160, 100)
    np.testing.assert_allclose(ours, librosas(wave), rtol=0, atol=5e-3)  # of some 500


@pytest.mark.parametrize(
    "flags",
    [
        {"n_mfcc": 32, "mfcc_fft": 512, "mfcc_hop": 200},
        {"sr": 8000},
        {"mfcc_fft": 401},
        {"n_mfcc": 128, "mfcc_fft": 2048, "mfcc_hop": 512},
        {"n_mfcc": 1, "mfcc_hop": 1000},
    ],
)
def test_the_coefficients_are_librosas_with_other_settings(flags):
    wave = voice(20_000, 1, flags.get("sr", 16_000))
    ours = mfcc.Extractor(mfcc.Feature.parameters(settings(**flags))).coefficients(wave)
    np.testing.assert_allclose(ours, librosas(wave, **flags), rtol=0, atol=5e-3)


@examples(max_examples=25, deadline=None)
@given(samples=st.integers(1, 60_000), seed=st.integers(0, 2**32 - 1))
def test_the_coefficients_are_librosas_at_any_length(samples, seed):
    wave = voice(samples, seed)
    np.testing.assert_allclose(EXTRACTOR.coefficients(wave), librosas(wave), rtol=0, atol=5e-3)


def test_a_quiet_band_is_eighty_decibels_below_the_loudest_as_in_librosa():
    wave = voice(16_000, 2)
    wave[8000:] *= 1e-6
    np.testing.assert_allclose(EXTRACTOR.coefficients(wave), librosas(wave), rtol=0, atol=5e-3)


def test_a_long_clip_is_the_same_whole_or_in_parts(monkeypatch):
    wave = voice(50_000, 3)
    whole = EXTRACTOR.coefficients(wave)
    monkeypatch.setattr(mfcc, "FRAMES_AT_ONCE", 100)
    np.testing.assert_array_equal(EXTRACTOR.coefficients(wave), whole)


@examples(max_examples=25, deadline=None)
@given(
    frames=st.integers(2, 200), seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.1, 50])
)
def test_each_coefficient_is_standardised_over_time_as_sklearn_scales(frames, seed, spread):
    rng = np.random.default_rng(seed)
    values = (rng.uniform(-500, 500, 7) + spread * rng.standard_normal((frames, 7))).astype("f4")
    ours = mfcc.standard(values)
    np.testing.assert_allclose(ours, scale(values.astype("f8"), axis=0), rtol=0, atol=1e-5)
    assert ours.dtype == np.float32


@pytest.mark.parametrize("frames", [1, 5])
def test_a_coefficient_that_does_not_vary_is_zero(frames):
    values = np.full((frames, 3), -467.123, np.float32)
    values[:, 1] += np.arange(frames)
    ours = mfcc.standard(values)
    np.testing.assert_array_equal(ours[:, [0, 2]], 0)
    assert ours[:, 1].std() == pytest.approx(float(frames > 1))


def test_rounding_is_no_variation():
    one = np.float32(-467.123)
    values = np.array([[one], [np.nextafter(one, np.float32(0))], [one]])
    np.testing.assert_array_equal(mfcc.standard(values), 0)


def test_a_constant_tone_and_digital_silence_stay_finite():
    for wave in (np.zeros(8000, np.float32), np.full(8000, 0.5, np.float32)):
        assert np.isfinite(mfcc.standard(EXTRACTOR.coefficients(wave))).all()


def extracted(tmp_path, wave, rate=16_000, parameters=PARAMETERS):
    """What an Extractor makes of a file that holds `wave`."""
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    first, second = mfcc.Extractor(parameters)(tmp_path / "a.wav", [None, None])
    np.testing.assert_array_equal(first, second)
    return first


def test_a_wav_gives_standardised_frames_of_its_whole_length(tmp_path):
    wave = voice(32_000, 4)
    expected = scale(librosas(wave).astype("f8"), axis=0)
    frames = extracted(tmp_path, wave)
    assert frames.shape == (201, 100)
    np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-2)
    np.testing.assert_allclose(frames.astype(mfcc.Feature.DTYPE), expected, rtol=0, atol=1.5e-2)


def test_another_rate_is_resampled_first(tmp_path):
    wave = voice(44_100, 5, 44_100)
    assert extracted(tmp_path, wave, 44_100).shape == (101, 100)


def test_what_is_no_sound_is_unusable(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(Unusable, match="not audio"):
        EXTRACTOR(tmp_path / "a.wav", [None])


def test_frames_are_laid_at_the_beginning_and_zeros_after_them():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((t, 100)).astype(mfcc.Feature.DTYPE) for t in (3, 5)]
    out = np.zeros((3, 5, 100), np.float32)
    mfcc.Feature.gather([arrays[0], None, arrays[1]], [[], None, []], PARAMETERS, None, out)
    np.testing.assert_array_equal(out[0, :3], arrays[0])
    np.testing.assert_array_equal(out[2], arrays[1])
    assert not out[0, 3:].any() and not out[1].any()


def test_of_a_long_clip_the_beginning_is_seen():
    assert mfcc.Feature.longest(PARAMETERS) == 3001  # 30 s in steps of 10 ms, and the frame at 0
    array = np.arange(6.0)[:, None].repeat(100, 1)
    out = np.zeros((1, 4, 100), np.float32)
    mfcc.Feature.gather([array], [[]], PARAMETERS, None, out)
    np.testing.assert_array_equal(out[0, :, 0], [0, 1, 2, 3])
    # nothing random: a frame's number tells its time
    assert not mfcc.Feature.is_cut((9999, 100), PARAMETERS)


def test_a_store_of_it_is_ragged(tmp_path):
    lengths = [8000, 16_000, 0]
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
        "mfcc", utterances, tmp_path, tmp_path, settings(n_mfcc=13), workers=1, progress=False
    )
    assert store.shape == (None, 13)
    assert store.lengths.tolist() == [51, 101, 0]
    block = store.gather(np.array([1, 0, 2, -1]))
    assert block.shape == (4, 101, 13)
    np.testing.assert_allclose(block[0].std(0), 1, atol=1e-3)
    np.testing.assert_array_equal(block[1, :51], store.array(0))
    assert not block[1, 51:].any() and not block[2:].any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_mfcc": 129}, "--n_mfcc should lie in 1..128, the mel bands, it is 129"),
        ({"n_mfcc": 0}, "--n_mfcc should lie in 1..128"),
        ({"mfcc_hop": 0}, "--mfcc_hop 1 sample, they are 400 and 0"),
        ({"mfcc_fft": 1}, "--mfcc_fft should be at least 2 .* they are 1 and 160"),
    ],
)
def test_settings_that_make_no_frames_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        mfcc.Feature.parameters(settings(**changed))


def test_every_setting_changes_the_parameters():
    changes = [{"sr": 8000}, {"n_mfcc": 13}, {"mfcc_fft": 512}, {"mfcc_hop": 80}]
    made = [mfcc.Feature.parameters(settings(**changed)) for changed in changes]
    assert all(one != PARAMETERS for one in made)
    assert mfcc.Feature.shape(made[1]) == (None, 13)


def test_reading_a_cache_imports_no_librosa():
    code = "import sys; from features import mfcc; sys.exit('librosa' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=utils.ROOT).returncode == 0

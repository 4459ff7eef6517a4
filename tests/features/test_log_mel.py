"""features/log_mel.py against torchaudio's transform of the padded wave."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import utils
from features import log_mel
from utils import Unusable

SHARED = Path(__file__).resolve().parents[3] / "shared"
PARAMETERS = log_mel.Feature.parameters(SimpleNamespace(sr=16_000))
EXTRACTOR = log_mel.Extractor(PARAMETERS)
TRANSFORM = torch.nn.Sequential(
    torchaudio.transforms.MelSpectrogram(
        sample_rate=16_000, n_fft=2048, hop_length=512, n_mels=229, f_min=30, f_max=8000
    ),
    torchaudio.transforms.AmplitudeToDB("power", top_db=None),
)


def voice(samples: int, seed: int) -> np.ndarray:
    """Harmonics of a gliding pitch under a slow envelope, and noise: (samples,) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16_000
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 300) + 20 * np.sin(3 * t)) / 16_000
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(1, 4) * t)
    noise = rng.standard_normal(samples) * 10 ** rng.uniform(-4, -1)
    return (rng.uniform(0.01, 0.2) * (loudness * tone + noise)).astype(np.float32)


def torchaudio_db(wave: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return TRANSFORM(torch.from_numpy(wave)).numpy().astype(np.float64)


def standardised(db: np.ndarray) -> np.ndarray:
    return (db - db.mean()) / np.sqrt(db.var() + 1e-5)


def block(db: np.ndarray, cut: float | None = None) -> np.ndarray:
    """dB frames as the cache gives them back: rounded, then gathered."""
    stored = db.astype(log_mel.Feature.DTYPE)
    out = np.full((1, *log_mel.Feature.shape(PARAMETERS)), np.nan, np.float32)
    cuts = None if cut is None else np.array([cut])
    log_mel.Feature.gather(
        [stored], [log_mel.Feature.stats(stored, PARAMETERS)], PARAMETERS, cuts, out
    )
    return out[0]


def assert_is_torchaudios(wave: np.ndarray) -> None:
    padded = np.pad(wave, (0, 160_000 - len(wave)))
    ours = block(EXTRACTOR.decibels(wave))
    assert ours.shape == (229, 313)
    np.testing.assert_allclose(ours, standardised(torchaudio_db(padded)), rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    "samples",
    [
        1,
        400,
        1024,
        2048,
        4800,
        16_000,
        50_001,
        64_000,
        100_352,
        157_900,
        157_952,
        158_000,
        158_464,
        158_976,
        159_000,
        159_487,
        159_488,
        159_999,
        160_000,
    ],
)
def test_a_gathered_block_is_torchaudios_of_the_padded_wave(samples):
    assert_is_torchaudios(voice(samples, samples))


@examples(max_examples=30, deadline=None)
@given(samples=st.integers(4800, 160_000), seed=st.integers(0, 2**32 - 1))
def test_a_gathered_block_is_torchaudios_at_any_length(samples, seed):
    assert_is_torchaudios(voice(samples, seed))


@examples(max_examples=15, deadline=None)
@given(samples=st.integers(157_000, 160_000), seed=st.integers(0, 2**32 - 1))
def test_a_gathered_block_is_torchaudios_where_the_padding_is_shorter_than_a_window(samples, seed):
    assert_is_torchaudios(voice(samples, seed))


def test_decibels_are_torchaudios_before_rounding():
    wave = voice(160_000, 1)
    np.testing.assert_allclose(EXTRACTOR.decibels(wave), torchaudio_db(wave), rtol=0, atol=5e-3)


def test_real_speech_is_as_torchaudio_has_it():
    wavs = sorted(SHARED.glob("real_speech/wav/*/*/*.wav"))[::40]
    if not wavs:
        pytest.skip(f"no recordings in {SHARED}/real_speech")
    for path in wavs:
        wave = log_mel.read(path, 16_000)
        assert_is_torchaudios(wave[:160_000])


@pytest.mark.parametrize("samples", [160_001, 160_255, 160_256, 200_000, 400_000])
def test_a_long_clip_is_cut_in_the_middle_by_whole_frames(samples):
    wave = voice(samples, 3)
    db = torchaudio_db(wave)
    start = (db.shape[1] - 313) // 2
    expected = standardised(db[:, start : start + 313])
    np.testing.assert_allclose(block(EXTRACTOR.decibels(wave)), expected, rtol=0, atol=5e-3)


def test_a_long_clip_is_the_same_whole_or_in_parts(monkeypatch):
    wave = voice(700_000, 5)
    whole = EXTRACTOR.decibels(wave)
    monkeypatch.setattr(log_mel, "FRAMES_AT_ONCE", 100)
    np.testing.assert_array_equal(EXTRACTOR.decibels(wave), whole)


def start_of(cut: np.ndarray, db: np.ndarray) -> int:
    """The frame of a long clip where a gathered block begins."""
    errors = [
        abs(cut - standardised(db[:, s : s + 313].astype(np.float64))).max()
        for s in range(db.shape[1] - 312)
    ]
    assert min(errors) < 5e-3
    return int(np.argmin(errors))


@pytest.mark.parametrize(
    ("cut", "start"),
    [
        (0.0, 0),
        (1 / 7 - 1e-9, 0),
        (1 / 7 + 1e-9, 1),
        (0.5, 3),
        (6 / 7 + 1e-9, 6),
        (np.nextafter(1, 0), 6),
        (np.nextafter(np.float32(1), np.float32(0)), 6),
    ],
)
def test_in_training_a_long_clip_is_cut_where_its_own_number_says(cut, start):
    db = EXTRACTOR.decibels(voice(163_000, 4))  # 319 frames: 7 places to cut
    assert start_of(block(db, cut), db) == start


def test_every_place_to_cut_is_equally_likely():
    db = EXTRACTOR.decibels(voice(163_000, 4))
    starts = [start_of(block(db, cut), db) for cut in (np.arange(70) + 0.5) / 70]
    assert np.bincount(starts).tolist() == [10] * 7


def test_a_short_clip_has_nothing_to_cut():
    db = EXTRACTOR.decibels(voice(100_000, 6))
    np.testing.assert_array_equal(block(db, 0.9), block(db))


@pytest.mark.parametrize(
    ("samples", "longer"), [(159_999, False), (160_255, False), (160_256, True), (400_000, True)]
)
def test_a_clip_is_cut_once_it_has_more_frames_than_a_block(samples, longer):
    frames = 1 + samples // 512
    assert log_mel.Feature.is_cut((229, frames), PARAMETERS) is longer


def test_an_almost_even_block_is_divided_by_the_root_of_variance_and_1e_5():
    db = np.full((229, 313), -100.0)
    db[7, 11] = -99.9375  # the next number that float16 holds
    np.testing.assert_allclose(block(db), standardised(db), rtol=1e-4, atol=5e-3)


def test_a_missing_clip_is_a_block_of_zeros():
    out = np.full((2, 229, 313), np.nan, np.float32)
    log_mel.Feature.gather([None, None], [None, []], PARAMETERS, None, out)
    assert not out.any()


def write(path: Path, wave: np.ndarray, rate: int = 16_000, **options) -> Path:
    soundfile.write(path, wave, rate, **options)
    return path


def test_two_channels_are_averaged(tmp_path):
    left, right = voice(8000, 1), voice(8000, 2)
    path = write(tmp_path / "a.wav", np.stack([left, right], 1), subtype="FLOAT")
    np.testing.assert_allclose(log_mel.read(path, 16_000), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path, rate):
    def tone(at: int) -> np.ndarray:
        return 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * at) / at).astype(np.float32)

    wave = log_mel.read(write(tmp_path / "a.wav", tone(rate), rate), 16_000)
    assert wave.dtype == np.float32 and len(wave) == 32_000
    middle = slice(1000, -1000)  # the filter rings at the ends
    np.testing.assert_allclose(wave[middle], tone(16_000)[middle], atol=2e-3)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"this is a letter, not a sound", "not audio"), (b"", "not audio")]
)
def test_what_is_not_audio_is_unusable(tmp_path, content, reason):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=reason):
        EXTRACTOR(path, [None])


def test_a_wav_without_samples_is_unusable(tmp_path):
    with pytest.raises(Unusable, match="empty wav"):
        EXTRACTOR(write(tmp_path / "a.wav", np.zeros(0, np.float32)), [None])


def test_infinite_samples_are_unusable(tmp_path):
    wave = np.array([0, np.inf, 0.5], np.float32)
    with pytest.raises(Unusable, match="infinite or NaN"):
        EXTRACTOR(write(tmp_path / "a.wav", wave, subtype="FLOAT"), [None])


def test_a_wav_that_has_gone_is_an_error_that_names_it(tmp_path):
    with pytest.raises(utils.UserError, match=r"cannot read .*gone\.wav: No such file"):
        EXTRACTOR(tmp_path / "gone.wav", [None])


def test_another_rate_changes_the_parameters_and_the_block():
    half = log_mel.Feature.parameters(SimpleNamespace(sr=8000))
    assert half != PARAMETERS
    assert half["f_max"] == 4000 and log_mel.Feature.shape(half) == (229, 157)


def test_the_feature_needs_no_torch():
    code = f"""
import sys
from features import log_mel, store
log_mel.Extractor({PARAMETERS!r})
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("bands", [40, 229])
def test_the_triangles_are_librosas(rate, bands):
    ours = log_mel.triangles(rate, 2048, bands, 30.0, min(8000.0, rate / 2))
    theirs = librosa.filters.mel(
        sr=rate,
        n_fft=2048,
        n_mels=bands,
        fmin=30.0,
        fmax=min(8000.0, rate / 2),
        htk=True,
        norm=None,
    )
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)

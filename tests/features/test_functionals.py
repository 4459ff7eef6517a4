"""Functionals of a wave, and a store of them."""

import logging
import warnings
from types import SimpleNamespace

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.functionals import NAMES, RATE, D
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

import utils
from features import functionals
from features.signal import contours as signal_contours
from features.store import extraction
from features.store.store import Store


def value(numbers: np.ndarray, name: str) -> float:
    return float(numbers[NAMES.index(name)])


@pytest.fixture(scope="module")
def extractor():
    return functionals.Extractor({"sample_rate": RATE})


SECONDS = np.arange(3 * RATE) / RATE
GAP = (SECONDS > 1.2) & (SECONDS < 1.8)
HERTZ = 220 - 110 * SECONDS / 3
SEMITONES = 12 * np.log2(HERTZ / 27.5)[~GAP]  # above A0


@pytest.fixture(scope="module")
def voice():
    """Three seconds: a buzz that falls from 220 to 110 Hz, with a noise between its two halves."""
    phase = 2 * np.pi * np.cumsum(HERTZ) / RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12)) / 8
    noise = np.random.default_rng(0).standard_normal(len(buzz)) / 30
    return np.where(GAP, noise, buzz).astype(np.float32)


# --- functionals of a wave -----------------------------------------------------------------------


def test_there_are_about_two_hundred_and_each_has_its_own_name(extractor, voice):
    assert extractor.functionals(voice).shape == functionals.Feature.shape({}) == (D,)
    assert 180 <= D <= 230 and len(set(NAMES)) == D


def test_f0_voicing_and_slope_are_those_of_the_voice(extractor, voice):
    numbers = extractor.functionals(voice)
    assert value(numbers, "f0_mean") == pytest.approx(SEMITONES.mean(), abs=0.1)
    assert value(numbers, "f0_sd") == pytest.approx(SEMITONES.std(), abs=0.1)
    for share in (10, 50, 90):
        expected = np.percentile(SEMITONES, share)
        assert value(numbers, f"f0_p{share}") == pytest.approx(expected, abs=0.3)
    assert value(numbers, "voiced_share") == pytest.approx(0.8, abs=0.04)
    assert value(numbers, "voiced_stretch") == pytest.approx(1.2, abs=0.06)
    assert value(numbers, "voiced_rate") == pytest.approx(2 / 3, abs=0.02)
    assert value(numbers, "speech_duration") == pytest.approx(np.log(3), abs=0.01)
    assert value(numbers, "f0_slope") < -3  # semitones a second; the gap is left out


def test_a_hum_far_below_the_speech_is_not_voiced(extractor, voice):
    hum = np.sin(2 * np.pi * 100 * SECONDS).astype(np.float32) * np.ptp(voice) / 2
    for decibels, share in ((-36, 0.8), (-20, 1.0)):
        wave = np.where(GAP, hum * 10 ** (decibels / 20), voice)
        found = value(extractor.functionals(wave), "voiced_share")
        assert found == pytest.approx(share, abs=0.06), decibels


def test_f0_is_within_a_semitone_of_pyin_where_both_hear_a_voice(extractor, voice):
    contours = extractor.listener(voice)
    other, heard, _ = librosa.pyin(
        voice, fmin=60, fmax=600, sr=RATE, frame_length=1024, hop_length=160
    )
    count = min(len(other), len(contours.f0)) - 2
    shift = 1  # pyin centres its first frame on sample 0, half a window (256) before ours
    both = heard[shift : shift + count] & contours.voiced[:count]
    away = contours.f0[:count] - 12 * np.log2(other[shift : shift + count] / 27.5)
    assert both.sum() > 200 and np.median(abs(away[both])) < 0.2
    assert np.mean(abs(away[both]) < 1) > 0.98


def test_bands_and_mfcc_are_librosas(extractor, voice):
    contours = extractor.listener(voice)
    power = librosa.stft(voice - voice.mean(), n_fft=512, hop_length=160, center=False)
    bank = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=26, fmin=20, fmax=8000, norm=None)
    # 192: the sum of the squares of a Hann window of 512
    bands = librosa.power_to_db(bank @ abs(power) ** 2 / 192, amin=1e-10, top_db=None).T
    np.testing.assert_allclose(contours.bands, bands, atol=0.02)
    mfcc = librosa.feature.mfcc(S=bands.T, n_mfcc=13).T
    np.testing.assert_allclose(contours.mfcc, mfcc, atol=0.05)


def test_changes_are_librosas_deltas_away_from_the_ends():
    contour = np.random.default_rng(1).standard_normal((40, 3))
    expected = librosa.feature.delta(contour, width=5, axis=0)
    np.testing.assert_allclose(functionals._change(contour)[2:-2], expected[2:-2], atol=1e-12)


def test_how_much_silence_is_at_the_ends_and_an_offset_change_nothing(extractor, voice):
    hush = np.random.default_rng(2).standard_normal(160 * 500).astype(np.float32) / 1e4
    voice = voice - voice.mean()
    little = np.concatenate([hush[-160 * 5 :], voice, hush[: 160 * 5]])
    much = np.concatenate([hush[-160 * 90 :], voice, hush[: 160 * 300]])
    plain = extractor.functionals(little)
    np.testing.assert_allclose(extractor.functionals(much), plain, atol=0.02, rtol=0.01)
    np.testing.assert_allclose(extractor.functionals(little + 0.25), plain, atol=0.02, rtol=0.01)


def test_ten_times_the_amplitude_is_twenty_decibels_and_the_same_pitch(extractor, voice):
    wave = voice + np.random.default_rng(2).standard_normal(len(voice)).astype(np.float32) / 1000
    quiet, loud = extractor.functionals(wave / 10), extractor.functionals(wave)
    expected = np.zeros(D)
    for i, name in enumerate(NAMES):
        if name.split("_")[1] in ("mean", "p10", "p50", "p90"):
            expected[i] = 20 * (name.startswith(("level", "band")))
            expected[i] += 20 * 26**0.5 * name.startswith("mfcc0")  # the orthonormal DCT
    np.testing.assert_allclose(loud - quiet, expected, atol=0.02)


@pytest.mark.parametrize("kind", ["zeros", "noise", "click"])
def test_without_a_voice_the_numbers_are_finite_and_pitch_is_zero(extractor, kind):
    wave = np.zeros(RATE, np.float32)
    if kind == "noise":
        wave += np.random.default_rng(3).standard_normal(RATE).astype(np.float32) / 10
    wave[500] += 0.5 * (kind == "click")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = extractor.functionals(wave)
    assert np.isfinite(numbers).all()
    assert value(numbers, "voiced_share") < 0.02
    if kind != "noise":
        assert all(value(numbers, f"f0_{one}") == 0 for one in functionals.PITCH)


@examples(max_examples=40, deadline=None)
@given(st.integers(1, 4000), st.integers(0, 2**31), st.sampled_from([0.0, 1e-5, 0.1, 1.0]))
def test_any_short_clip_has_finite_numbers(extractor, samples, seed, size):
    wave = (size * np.random.default_rng(seed).uniform(-1, 1, samples)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(extractor.functionals(wave)).all()


@pytest.mark.parametrize("rate", [4000, 8000, 11_025, 22_050, 44_100, 48_000])
def test_every_rate_hears_the_same_pitch(voice, rate):
    wave = librosa.resample(voice, orig_sr=RATE, target_sr=rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = functionals.Extractor({"sample_rate": rate}).functionals(wave)
    assert np.isfinite(numbers).all()
    assert value(numbers, "f0_mean") == pytest.approx(SEMITONES.mean(), abs=0.3)
    assert value(numbers, "voiced_share") == pytest.approx(0.8, abs=0.05)


def test_eighty_seconds_give_finite_numbers_and_the_pitch(extractor, voice):
    numbers = extractor.functionals(np.tile(voice, 27)[: 80 * RATE])
    assert np.isfinite(numbers).all()
    assert value(numbers, "f0_mean") == pytest.approx(SEMITONES.mean(), abs=0.2)


def test_long_clips_are_the_same_however_many_frames_are_taken_at_once(
    extractor, voice, monkeypatch
):
    whole = extractor.functionals(voice)
    monkeypatch.setattr(signal_contours, "FRAMES_AT_ONCE", 7)
    np.testing.assert_allclose(extractor.functionals(voice), whole, rtol=1e-5, atol=1e-5)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60))
def test_statistics_of_a_contour_are_numpys_and_its_slope_that_of_a_fitted_line(numbers):
    found = functionals._contour(np.array(numbers)[:, None])[:, 0]
    expected = [np.mean(numbers), np.std(numbers), *np.percentile(numbers, [10, 50, 90])]
    np.testing.assert_allclose(found[:5], expected, atol=1e-9)
    line = np.polyfit(0.010 * np.arange(len(numbers)), numbers, 1) if len(numbers) > 1 else [0]
    assert found[5] == pytest.approx(line[0], abs=1e-6, rel=1e-6)


def test_steps_are_between_neighbours_and_ranges_without_what_is_not_there():
    contour = np.array([1.0, 3.0, 900.0, 10.0, 11.0])
    found = functionals._moving(contour, np.array([True, True, False, True, True]))
    assert found[0] == np.mean([1, 3, 10, 11]) and found[7] == np.mean([2, 1])
    assert found[6] == pytest.approx(np.diff(np.percentile([1, 3, 10, 11], [5, 95]))[0])


# --- a store of them -----------------------------------------------------------------------------


def corpus(folder, waves, speakers) -> pd.DataFrame:
    """Utterances as dataset.py describes them, their wavs in `folder`."""
    folder.mkdir(exist_ok=True)
    for i, wave in enumerate(waves):
        soundfile.write(folder / f"{i}.wav", wave, RATE)
    return pd.DataFrame(
        {
            "segment": [f"s{i}" for i in range(len(waves))],
            "speaker": speakers,
            "wav": [f"{i}.wav" for i in range(len(waves))],
            "quarantine": "",
            "silent": False,
            "wav_size": [len(wave) for wave in waves],
            "wav_hash": [utils.digest(wave.tolist(), 16) for wave in waves],
        }
    )


def extracted(tmp_path, utterances, **settings) -> Store:
    settings = SimpleNamespace(sr=RATE, **settings)
    return extraction.extract(
        "functionals", utterances, tmp_path / "corpus", tmp_path, settings, progress=False
    )


@pytest.fixture
def two_speakers(tmp_path, voice):
    """Four clips of Kim, two of Lee and one that is no audio, also Lee's."""
    rng = np.random.default_rng(5)
    waves = [
        voice[a : a + n] * g
        for a, n, g in zip(
            rng.integers(0, 8000, 7),
            rng.integers(4000, 30_000, 7),
            rng.uniform(0.1, 1, 7),
            strict=True,
        )
    ]
    table = corpus(tmp_path / "corpus", waves, ["kim", "lee", "kim", "kim", "lee", "kim", "lee"])
    (tmp_path / "corpus" / "6.wav").write_bytes(b"no audio")
    return table


def test_each_speaker_is_normalised_by_all_of_his_own_utterances(tmp_path, two_speakers):
    plain = extracted(tmp_path, two_speakers, speaker_norm=False)
    normal = extracted(tmp_path, two_speakers, speaker_norm=True)
    rows = np.arange(7)
    raw, scored = plain.gather(rows), normal.gather(rows)
    for own in ([0, 2, 3, 5], [1, 4]):
        moves = raw[own].std(0) > 1e-4
        assert moves.sum() > 150
        expected = StandardScaler().fit_transform(raw[own].astype(np.float64))
        np.testing.assert_allclose(scored[own][:, moves], expected[:, moves], atol=2e-3)
        assert np.isfinite(scored[own]).all()
    assert not scored[6].any() and not normal.available[6]


def test_both_ways_share_one_cache_and_the_default_is_as_extracted(tmp_path, two_speakers):
    normal = extracted(tmp_path, two_speakers, speaker_norm=True)
    before = {p: p.stat().st_mtime_ns for p in normal.folder.iterdir()}
    plain, unsaid = (
        extracted(tmp_path, two_speakers, speaker_norm=False),
        extracted(tmp_path, two_speakers),
    )
    assert plain.folder == normal.folder
    assert {p: p.stat().st_mtime_ns for p in normal.folder.iterdir()} == before
    for store in (plain, unsaid):
        assert np.array_equal(store.gather(np.array([3]))[0], normal.array(3))


def test_what_was_settled_travels_with_a_store(tmp_path, two_speakers):
    import pickle

    store = extracted(tmp_path, two_speakers, speaker_norm=True)
    again = pickle.loads(pickle.dumps(store))
    rows = np.array([[0, 1], [-1, 5]])
    assert np.array_equal(again.gather(rows), store.gather(rows))
    assert not store.gather(rows)[1, 0].any()


def test_a_speaker_heard_once_is_told_and_stands_at_his_mean(tmp_path, voice, caplog):
    table = corpus(tmp_path / "corpus", [voice, voice[:9000], voice[:20_000]], ["a", "b", "b"])
    with caplog.at_level(logging.WARNING):
        store = extracted(tmp_path, table, speaker_norm=True)
    assert "1 of 2 speakers have a single utterance" in caplog.text
    blocks = store.gather(np.arange(3))
    assert not blocks[0].any() and blocks[1].any()

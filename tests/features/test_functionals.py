"""The classical baseline: functionals of an utterance, and the machines that learn from them."""

import contextlib
import logging
import warnings
from types import SimpleNamespace

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from doubles.settings import settings_with
from doubles.shared import SHARED, needs_shared
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

import constants
import main
import model
import utils
from dataset import Windows, open_material
from features import functionals
from features.signal import contours as signal_contours
from features.store import extraction
from features.store.store import Store

RATE = 16_000
NAMES = functionals.names()
D = len(NAMES)


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


# --- the model -----------------------------------------------------------------------------------


def windows(rows=90, seed=0, classes=range(7), ws=1) -> dict[str, torch.Tensor]:
    """Functionals whose means depend on the class, with votes, scales and masks."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(list(classes), rows)
    labels[: len(classes)] = list(classes)
    centres = np.random.default_rng(99).standard_normal((7, D))
    x = 40 + 5 * (0.4 * centres[labels][:, None] + rng.standard_normal((rows, ws, D)))
    votes = np.full((rows, 7), 0.0)
    votes[np.arange(rows), labels] = 0.6
    votes[np.arange(rows), (labels + 1) % 7] += 0.4
    batch = {
        "functionals": x,
        "emotion": votes,
        "arousal": 1 + 4 * rng.random(rows),
        "valence": np.clip(3 + x[:, -1, 0] / 40 - 1 + rng.normal(0, 0.1, rows), 1, 5),
    }
    tensors = {name: torch.from_numpy(array).float() for name, array in batch.items()}
    tensors |= {f"{name}_mask": torch.ones(rows).bool() for name in ("emotion", "arousal")}
    tensors["valence_mask"] = torch.ones(rows).bool()
    tensors["mask"] = tensors["functionals_mask"] = torch.ones(rows, ws).bool()
    return tensors


def fitted(batch, **configuration) -> torch.nn.Module:
    built = model.build("functionals", configuration)
    built.fit(batch)
    return built.eval()


def oracle(batch, kernel="rbf", cost=1.0) -> tuple[StandardScaler, SVC]:
    """scikit-learn by itself, for rows without ties."""
    x, labels = batch["functionals"][:, -1].double().numpy(), batch["emotion"].argmax(1).numpy()
    scaler = StandardScaler().fit(x)
    svc = SVC(kernel=kernel, C=cost, class_weight="balanced", break_ties=True)
    return scaler, svc.fit(scaler.transform(x), labels)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("classes", [range(7), (0, 2, 3, 6), (2, 5)], ids=["7", "4", "2"])
def test_the_forward_pass_is_scikit_learns_decision_function(kernel, classes):
    train, test = windows(classes=classes), windows(seed=1)
    built = fitted(train, kernel=kernel, C=0.3)
    scaler, svc = oracle(train, kernel, 0.3)
    x = scaler.transform(test["functionals"][:, 0].double().numpy())
    found = built.decide(torch.from_numpy(x).float()).numpy()[:, list(classes)]
    prediction = built(test)["emotion"]
    expected = svc.decision_function(x)
    if len(classes) == 2:  # one column there; votes for each of the two here
        margins = built._kernel(torch.from_numpy(x).float()) @ built.pairs.T + built.intercept
        np.testing.assert_allclose(-margins.numpy().sum(1), expected, atol=1e-4)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.array_equal(prediction.argmax(1).numpy(), svc.predict(x))
    assert np.array_equal(np.flatnonzero(built.present), list(classes))


def test_log_probabilities_are_the_softmax_of_the_votes_and_absent_classes_nearly_none():
    built, test = fitted(windows(classes=(0, 2, 6))), windows(seed=1)
    found = built(test)["emotion"]
    assert found.isfinite().all()
    torch.testing.assert_close(found.exp().sum(1), torch.ones(90))
    assert found[:, [1, 3, 4, 5]].exp().max() < 1e-12
    scaler, svc = oracle(windows(classes=(0, 2, 6)))
    votes = svc.decision_function(scaler.transform(test["functionals"][:, 0].double().numpy()))
    expected = torch.from_numpy(votes).log_softmax(1).float()
    torch.testing.assert_close(found[:, [0, 2, 6]], expected, atol=1e-4, rtol=0)


def test_one_class_alone_is_always_answered():
    found = fitted(windows(classes=(4,)))(windows(seed=1))["emotion"]
    assert found.isfinite().all() and (found.exp()[:, 4] >= 1 - 1e-6).all()


def test_scales_are_scikit_learns_ridge_clipped_to_the_scale():
    train, test = windows(), windows(seed=1)
    test["functionals"][:5] *= 4  # far outside what was trained on
    scaler, _ = oracle(train)
    x = scaler.transform(train["functionals"][:, 0].double().numpy())
    other = scaler.transform(test["functionals"][:, 0].double().numpy())
    found = fitted(train, alpha=3.0)(test)
    for name in ("arousal", "valence"):
        expected = Ridge(alpha=3.0).fit(x, train[name].double().numpy()).predict(other)
        np.testing.assert_allclose(found[name].numpy(), expected.clip(1, 5), atol=1e-4)
        assert ((expected < 1) | (expected > 5)).any()


def test_ties_teach_each_of_their_classes_in_part():
    from models.layers.svm import lessons

    votes = np.array(
        [
            [0.5, 0.5, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0],
            [0, 0.6, 0.4, 0, 0, 0, 0],
            [0.3, 0.3, 0.3, 0.1, 0, 0, 0],
        ]
    )
    votes[3, 1] += 3e-8  # what float32 rounds away
    rows, labels, weights = lessons(votes)
    assert rows.tolist() == [0, 0, 1, 2, 3, 3, 3] and labels.tolist() == [0, 1, 0, 1, 0, 1, 2]
    parts, classes = [1 / 2, 1 / 2, 1, 1, 1 / 3, 1 / 3, 1 / 3], {0: 11 / 6, 1: 11 / 6, 2: 1 / 3}
    expected = [part * 4 / 3 / classes[c] for part, c in zip(parts, labels, strict=True)]
    np.testing.assert_allclose(weights, expected)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=50))
def test_without_ties_the_weights_are_scikit_learns_balanced_ones(labels):
    from models.layers.svm import lessons

    rows, found, weights = lessons(np.eye(7)[labels])
    assert rows.tolist() == list(range(len(labels))) and found.tolist() == labels
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", labels))


def test_a_tie_moves_the_machines():
    train = windows()
    tied = train | {"emotion": train["emotion"].clone()}
    tied["emotion"][:30] = torch.where(tied["emotion"][:30] > 0, 0.5, 0)
    test = windows(seed=1)
    assert not torch.equal(fitted(tied)(test)["emotion"], fitted(train)(test)["emotion"])


def test_missing_sound_is_judged_as_the_training_mean():
    built, test = fitted(windows()), windows(seed=1)
    test["functionals_mask"][3] = False
    test["functionals"][3] = torch.nan
    found = built(test)
    mean = built(
        test | {"functionals": built.mean.expand(90, 1, D), "functionals_mask": test["mask"]}
    )
    for head, output in found.items():
        torch.testing.assert_close(output[3], mean[head][3], atol=1e-5, rtol=0)
    assert found["arousal"][3] == pytest.approx(float(windows()["arousal"].mean()), abs=1e-4)


def test_rows_without_sound_or_truth_teach_nothing():
    train = windows()
    kept = {name: tensor[:70] for name, tensor in train.items()}
    train["functionals_mask"][70:] = False
    train["functionals"][70:] = torch.nan
    test = windows(seed=1)
    both = fitted(train)(test), fitted(kept)(test)
    assert all(torch.equal(both[0][head], both[1][head]) for head in both[0])
    kept["arousal_mask"][:] = False
    kept["emotion_mask"][:10] = False
    kept["emotion"][:10] = 0.0
    found = fitted(kept)
    assert (found(test)["arousal"] == 3).all() and found(test)["valence"].std() > 0.01
    scaler = StandardScaler().fit(kept["functionals"][:, 0].double().numpy())
    np.testing.assert_allclose(found.mean.numpy(), scaler.mean_, rtol=1e-6)
    labels = kept["emotion"][10:].argmax(1).numpy()
    svc = SVC(class_weight="balanced").fit(
        scaler.transform(kept["functionals"][10:, 0].double().numpy()), labels
    )
    x = scaler.transform(test["functionals"][:, 0].double().numpy())
    votes = found.decide(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(votes, svc.decision_function(x), atol=1e-4)


def test_nothing_to_learn_from_is_one_line():
    train = windows(rows=8)
    train["functionals_mask"][:] = False
    with pytest.raises(utils.UserError, match=r"an emotion and sound, there are 0 of 8$"):
        fitted(train)


def test_only_the_last_utterance_of_a_window_is_heard():
    train, test = windows(ws=3), windows(seed=1, ws=3)
    alone = [
        {
            name: tensor[:, -1:] if tensor.ndim > 1 and name != "emotion" else tensor
            for name, tensor in batch.items()
        }
        for batch in (train, test)
    ]
    first, second = fitted(train, ws=3)(test), fitted(alone[0])(alone[1])
    assert all(torch.equal(first[head], second[head]) for head in first)


def test_fitting_twice_gives_the_same_bytes_and_forgets_what_was_before():
    train = windows()
    once, again = fitted(train), fitted(windows(rows=40, seed=4, classes=(1, 2)))
    again.fit(train)
    assert bytes(model.serialise(once.state_dict())) == bytes(model.serialise(again.state_dict()))


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_a_saved_model_comes_back_with_as_many_support_vectors(tmp_path, kernel):
    configuration = {"model": "functionals", "kernel": kernel}
    built, test = fitted(windows(), kernel=kernel), windows(seed=1)
    model.save(tmp_path, built, configuration)
    loaded, read = model.load(tmp_path)
    assert read == configuration and len(loaded.support) == len(built.support) > 20
    before, after = built(test), loaded(test)
    assert all(torch.equal(before[head], after[head]) for head in before)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("support"), "support is missing; pairs is 21x"),
        (lambda state: state.update(support=torch.zeros(5, 3)), f"support is 5x3, should be 5x{D}"),
        (lambda state: state.update(support=torch.zeros(())), "support is a number, should be 0x"),
        (lambda state: state.update(mean=torch.zeros(3)), f"mean is 3, should be {D}"),
        (lambda state: state.update(pairs=torch.zeros(21, 1)), "pairs is 21x1, should be 21x"),
    ],
)
def test_a_state_of_other_shapes_is_refused_in_one_line(tmp_path, spoil, message):
    built = fitted(windows())
    model.save(tmp_path, built, {"model": "functionals"})
    state = built.state_dict()
    spoil(state)
    utils.write_sealed(tmp_path / "model.pth", model.serialise(state))
    with pytest.raises(utils.UserError, match=message):
        model.load(tmp_path)


def test_half_precision_around_it_changes_nothing():
    built, test = fitted(windows(), kernel="linear"), windows(seed=1)
    exact = built(test)
    with torch.autocast("cpu", torch.bfloat16):
        around = built(test)
    assert all(torch.equal(exact[head], around[head]) for head in exact)


# --- as a run, and on real speech ----------------------------------------------------------------


def test_a_run_of_the_baseline_is_trained_tested_and_tested_again(workplace, tmp_path):
    last = ["--gpu_id", "-1", "--save_path", str(tmp_path)]
    with contextlib.chdir(workplace):
        first = ["--model", "functionals", "--speaker_norm", "--text_encoder", "char-ngram"]
        assert main.main(["--data", "corpus", "--test_split", "[3,4]", *first, *last]) == 0
        [run] = tmp_path.iterdir()
        assert main.main(["--test_only", run.name, *last]) == 0
    [again] = run.glob("test_*")
    first, second = (pd.read_csv(folder / "predictions.csv") for folder in (run, again))
    np.testing.assert_allclose(first.filter(regex=r"^p_\d$").sum(axis=1), 1, atol=1e-5)
    assert len(first) > 5
    pd.testing.assert_frame_equal(first, second)


def recall(place, monkeypatch, **configuration) -> float:
    """UAR of the four folds of sessions, pooled."""
    monkeypatch.setattr(constants, "PREPARED", str(place))
    truth, answers = [], []
    for session in (1, 2, 3, 4):
        settings = settings_with(
            "functionals",
            data=str(SHARED / "real_speech"),
            test_split=(session,),
            text_encoder="char-ngram",
            sr=RATE,
            **configuration,
        )
        material = open_material(settings, ("functionals",))
        train, test = (Windows(material, name, 1) for name in ("train", "test"))
        built = fitted(train.batch(np.arange(len(train))), **configuration)
        batch = test.batch(np.arange(len(test)))
        truth.append(batch["emotion"].argmax(1))
        answers.append(built(batch)["emotion"].argmax(1))
    return recall_score(torch.cat(truth), torch.cat(answers), average="macro")


@needs_shared
def test_unheard_speakers_are_judged_far_above_chance(tmp_path, monkeypatch):
    assert recall(tmp_path, monkeypatch, speaker_norm=False) >= 0.45  # measured: 0.475
    assert recall(tmp_path, monkeypatch, speaker_norm=True) >= 0.58  # measured: 0.647

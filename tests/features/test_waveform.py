"""features/waveform.py: samples, as soundfile reads them."""

import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from features import waveform
from features.store import extraction
from utils import Unusable, UserError


def settings(seconds: float = 0.0, **more) -> types.SimpleNamespace:
    return types.SimpleNamespace(max_seconds=seconds, **more)


PARAMETERS = waveform.Feature.parameters(settings())
SHORT = waveform.Feature.parameters(settings(0.01))  # 160 samples


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, samples, np.int16)


def extracted(path: Path) -> np.ndarray:
    [first, second] = waveform.Extractor(PARAMETERS)(path, ["a row", "another"])
    assert first is second and first.dtype == np.int16
    return first


def gathered(arrays: list, parameters: dict, cut=None, steps: int | None = None) -> np.ndarray:
    steps = steps or max(len(a) for a in arrays if a is not None)
    out = np.full((len(arrays), steps), np.nan, np.float32)
    waveform.Feature.gather(arrays, [[]] * len(arrays), parameters, cut, out)
    return out


def test_samples_of_16_bit_are_kept_to_the_last(tmp_path):
    wave = np.concatenate([noise(3000), [-(2**15), 2**15 - 1]]).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, "PCM_16")
    array = extracted(tmp_path / "a.wav")
    np.testing.assert_array_equal(array, wave)
    [block] = gathered([array], PARAMETERS)
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(block, expected)


def test_other_depths_are_rounded_and_loud_ones_do_not_wrap_around(tmp_path):
    wave = np.array([0.0, 1.0, -1.0, 1.5, -1.5, 0.6 / 32768, -0.6 / 32768, 0.25], np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, "FLOAT")
    assert extracted(tmp_path / "a.wav").tolist() == [0, 32767, -32768, 32767, -32768, 1, -1, 8192]


def test_other_rates_and_stereo_become_16_khz_mono(tmp_path):
    t = np.arange(44_100) / 44_100
    wave = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "a.wav", np.stack([wave, wave], 1), 44_100, "PCM_16")
    array = extracted(tmp_path / "a.wav")
    expected = 16384 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert abs(len(array) - 16_000) <= 1
    np.testing.assert_allclose(array[500:15_500], expected[500:15_500], rtol=0, atol=30)


def test_what_is_not_sound_is_unusable(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"not a wav")
    with pytest.raises(Unusable, match="not audio"):
        extracted(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.zeros(0, np.int16), 16_000)
    with pytest.raises(Unusable, match="empty wav"):
        extracted(tmp_path / "b.wav")


@examples(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(1, 400)), min_size=1, max_size=5).filter(any),
    st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
)
def test_a_block_is_the_samples_and_zeros_or_a_part_of_them(lengths, cut):
    arrays = [n and noise(n, seed=n) for n in lengths]
    cuts = None if cut is None else np.full(len(arrays), cut)
    for parameters, most in ((PARAMETERS, 400), (SHORT, 160)):
        steps = min(most, max(n or 1 for n in lengths))
        out = gathered(arrays, parameters, cuts, steps)
        for array, block in zip(arrays, out, strict=True):
            array = noise(0) if array is None else array
            assert waveform.Feature.is_cut(array.shape, parameters) == (len(array) > most)
            spare = max(0, len(array) - most)
            start = spare // 2 if cut is None else int(cut * (spare + 1))
            part = array[start : start + most] / np.float32(32768)
            assert len(part) == min(len(array), most)
            np.testing.assert_array_equal(block[: len(part)], part)
            assert not block[len(part) :].any()


def test_every_place_of_a_cut_is_reached():
    array = noise(163)
    blocks = [gathered([array], SHORT, np.array([cut]), 160) for cut in np.arange(0, 1, 0.1)]
    assert {block[0, 0] * 32768 for block in blocks} == set(array[:4].tolist())


def test_a_store_gives_blocks_in_float32_and_says_where_there_are_samples(tmp_path):
    rows = []
    for i, n in enumerate((300, 100)):
        soundfile.write(tmp_path / f"{i}.wav", noise(n, i), 16_000, "PCM_16")
        rows.append(
            {
                "segment": str(i),
                "wav": f"{i}.wav",
                "text": "",
                "quarantine": "",
                "silent": False,
                "wav_size": 2 * n,
                "wav_hash": str(i),
            }
        )
    rows.append(rows[0] | {"segment": "silent", "silent": True})
    table = pd.DataFrame(rows)
    for seconds, longest in ((0, 300), (0.01, 160)):
        store = extraction.extract(
            "waveform", table, tmp_path, tmp_path / "p", settings(seconds), 1, progress=False
        )
        numbers = np.array([[1, 0], [2, -1]])
        blocks, mask = store.gather(numbers), store.mask(numbers)
        assert blocks.dtype == np.float32 and blocks.shape == mask.shape == (2, 2, longest)
        assert mask.sum(-1).tolist() == [[100, longest], [0, 0]] and not blocks[~mask].any()
        assert store.is_cut.tolist() == [seconds > 0, False, False]
        np.testing.assert_array_equal(blocks[0, 0, :100], noise(100, 1) / np.float32(32768))


def test_the_limit_is_part_of_the_parameters_and_the_rate_is_16_khz():
    assert waveform.Feature.parameters(settings(2.5, sr=8000)) == {
        "sample_rate": 16000,
        "samples": 40000,
    }
    assert (
        waveform.Feature.parameters(types.SimpleNamespace())["samples"] == 0
    )  # a model without the flag
    assert waveform.Feature.longest(SHORT) == 160 and waveform.Feature.shape(SHORT) == (None,)
    for bad in (-1, float("inf"), float("nan")):
        with pytest.raises(UserError, match="--max_seconds should be at least 0"):
            waveform.Feature.parameters(settings(bad))

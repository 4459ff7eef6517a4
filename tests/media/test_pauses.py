"""Levels of sound, and the utterances between its pauses."""

import numpy as np
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from media import pauses
from media.spans import true_spans

RATE = 16_000

levels = st.lists(st.sampled_from([-100.0, -70.0, -55.0, -30.0, -20.0, -10.0]), max_size=400)


@given(levels, st.floats(0.1, 2.0), st.sampled_from([1.0, 3.0, 10.0]))
def test_spans_are_in_order_inside_and_never_too_long(level, pause, longest):
    level = np.repeat(np.array(level), 5)
    found = pauses.spans(level, pause, longest)
    times = [time for span in found for time in span]
    assert times == sorted(times)
    assert all(0 <= start < end <= len(level) * pauses.STEP + 1e-9 for start, end in found)
    assert all(end - start <= longest + 1e-6 for start, end in found)


@given(levels, st.floats(0.1, 2.0))
def test_what_is_loud_for_long_enough_is_in_a_span(level, pause):
    level = np.repeat(np.array(level), 15)  # 0.3 s each
    loud = np.flatnonzero(level > pauses._threshold(level))
    inside = np.zeros(len(level), bool)
    for start, end in pauses.spans(level, pause):
        inside[round(start / pauses.STEP) : round(end / pauses.STEP)] = True
    assert inside[loud].all()


def test_levels_are_the_mean_square_of_twenty_milliseconds(tmp_path):
    wave = np.random.default_rng(2).uniform(-1, 1, (RATE * 61 + 100, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    mono = wave.mean(axis=1)
    mono = np.pad(mono, (0, -len(mono) % 320), constant_values=np.nan).reshape(-1, 320)
    wanted = 10 * np.log10(np.nanmean(mono.astype(float) ** 2, axis=1))
    assert np.allclose(pauses.levels(tmp_path / "a.wav"), wanted, atol=1e-4)


@given(st.lists(st.integers(0, 900), max_size=6), st.integers(0, 9))
def test_levels_do_not_depend_on_the_pieces_a_sound_comes_in(sizes, seed):
    wave = np.random.default_rng(seed).uniform(-1, 1, sum(sizes))
    pieces = np.split(wave, np.cumsum(sizes)[:-1]) if sizes else []
    found = pauses.levels_in(pieces, RATE)
    assert len(found) == -(-len(wave) // 320)
    assert np.array_equal(found, pauses.levels_in([wave], RATE))


@given(st.lists(st.booleans(), max_size=30))
def test_spans_are_the_runs_of_true(chosen):
    spans = true_spans(chosen)
    assert [any(a <= i < b for a, b in spans) for i in range(len(chosen))] == chosen
    assert all(end < start for (_, end), (start, _) in zip(spans[:-1], spans[1:], strict=True))

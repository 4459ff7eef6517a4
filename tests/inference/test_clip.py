"""Clips of a video: where a span begins and ends, and its time codes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference import clip as clip_files

TIMES = st.lists(st.integers(0, 60), min_size=2, max_size=8, unique=True).map(sorted)


@given(TIMES, st.integers(0, 2**32), st.sampled_from([0.2, 0.5, 2.0]))
def test_moved_spans_stay_apart_long_enough_and_near(times, seed, reach):
    times = times[: len(times) // 2 * 2]
    spans = [(float(a), float(b)) for a, b in zip(times[::2], times[1::2], strict=True)]
    level = np.random.default_rng(seed).normal(size=60 * 50)
    moved = clip_files.snapped(spans, level, reach, 60.0)
    flat = [time for span in moved for time in span]
    assert flat == sorted(flat) and 0 <= flat[0] and flat[-1] <= 60
    total, before = (sum(b - a for a, b in some) for some in (moved, spans))
    assert total <= before + 1e-9
    assert all(
        after - end >= min(clip_files.APART, was[1] - was[0]) - 1e-9
        for end, after, was in zip(
            flat[1:-1:2], flat[2::2], zip(times[1:-1:2], times[2::2], strict=True), strict=True
        )
    )
    for (start, end), (was, till) in zip(moved, spans, strict=True):
        assert end - start >= min(clip_files.LEAST, till - was) - 1e-9
        assert abs(start - was) <= reach + 1e-9 and abs(end - till) <= reach + 1e-9


def test_an_end_moves_to_the_pause_near_it_and_not_to_a_stop_within_a_word():
    level = np.zeros(500)  # 10 s
    level[100:115] = -60  # 2.0 to 2.3 s: a pause
    level[130:132] = -62  # 2.6 s: a stop
    level[300:315] = -60  # 6.0 to 6.3 s
    [(start, end)] = clip_files.snapped([(2.4, 6.4)], level, 0.5, 10.0)
    assert 2.0 <= start <= 2.3  # which is longer, as much as its end is shorter
    assert 6.0 <= end <= 6.3
    [(start, end)] = clip_files.snapped([(1.9, 6.4)], level, 0.5, 10.0)
    assert 2.0 <= start <= 2.3 and 6.0 <= end <= 6.3
    assert clip_files.snapped([(2.2, 12.0)], None, 0.5, 10.0) == [(2.2, 10.0)]


def test_a_clip_keeps_the_ends_of_the_video_and_sound_that_ends_early_is_a_pause():
    level = np.zeros(250)  # sound up to 5 s
    assert clip_files.snapped([(0.0, 10.0)], level, 0.5, 10.0) == [(0.0, 10.0)]
    [(_, end)] = clip_files.snapped([(0.0, 5.3)], level, 0.5, 10.0)
    assert 5.0 < end <= 5.3


def test_time_codes_count_frames():
    assert (
        clip_files._code(3661.5, 25) == "01:01:01:12" and clip_files._code(0.0, 25) == "00:00:00:00"
    )

"""Videos cut: picture and sound in step at every join, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from doubles.videos import TENTHS, VFR, fewer, noise, picture, shown, write
from hypothesis import given
from hypothesis import strategies as st

import utils
from media import cutting, video
from utils import UserError

SPANS = [(0.25, 1), (1.5, 1.93), (2.5, 3.75)]


def lag(out: np.ndarray, source: np.ndarray, rate: int) -> float:
    """s by which `out` is later than `source`, of like length, by correlation; nan: unlike."""
    size = len(out) + len(source)
    spectrum = np.fft.rfft(out, size) * np.conj(np.fft.rfft(source, size))
    found = np.fft.irfft(spectrum, size)
    at = int(found.argmax())
    if found[at] < 0.5 * np.linalg.norm(out) * np.linalg.norm(source):
        return float("nan")
    return (at if at < size // 2 else at - size) / rate


def check_cut(path: Path, out: Path, spans: list, times: list[float]) -> None:
    """Each picture and each second of sound of `out` is that of the source, at its time."""
    begin, rate = 0.0, 16_000
    got, source = video.sound(out, rate), video.sound(path, rate)
    for start, end in spans:
        inside = np.arange(start + 0.02, end - 0.02, 0.05)
        numbers = shown(out, (inside - start + begin).tolist())
        for second, came in zip(inside, numbers, strict=True):
            first, last = np.searchsorted(times, [second - 0.01, second + 0.01], "right") - 1
            assert first <= came <= last, second
        pieces = [
            wave[round(at * rate) : round((at + end - start) * rate)]
            for wave, at in ((got, begin), (source, start))
        ]
        assert abs(lag(*pieces, rate)) < 0.01
        begin += end - start
    assert video.probe(out).seconds == pytest.approx(begin, abs=0.04)
    assert len(got) / rate == pytest.approx(begin, abs=0.04)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("times", [TENTHS, VFR, [i / 30 for i in range(120)]])
@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (16_000, 1)])
def test_picture_and_sound_are_in_step_at_every_join(tmp_path, suffix, times, rate, channels):
    fps = 30 if len(times) == 120 else 10
    path = write(tmp_path / "a.mkv", times, noise(4, rate, channels), rate, fps=fps)
    out = tmp_path / f"out.{suffix}"
    cutting.cut(path, out, SPANS)
    check_cut(path, out, SPANS, times)
    got = video.probe(out)
    assert got[2:] == (80, 48, rate, False, "")
    with av.open(str(out)) as file:
        assert file.streams.audio[0].codec_context.layout.nb_channels == channels
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", out.name]


@fewer
@given(
    marks=st.lists(st.integers(0, 380), min_size=2, max_size=8, unique=True),
    gaps=st.lists(st.integers(20, 300), min_size=5, max_size=20),
)
def test_any_spans_of_any_time_stamps_are_in_step(tmp_path, marks, gaps):
    times = [0.0, *np.cumsum(gaps * 4) / 1000]
    path = write(tmp_path / "a.mp4", times, noise(4, 24_000), 24_000)
    marks = sorted(marks)
    spans = [
        (a / 100, max(b / 100, a / 100 + 0.06))
        for a, b in zip(marks[::2], marks[1::2], strict=False)
    ]
    spans = [span for i, span in enumerate(spans) if not i or spans[i - 1][1] <= span[0]]
    cutting.cut(path, tmp_path / "out.mp4", spans)
    begin = 0.0
    for start, end in spans:
        seconds = [start + part * (end - start) for part in (0.1, 0.5, 0.9)]
        numbers = shown(tmp_path / "out.mp4", [second - start + begin for second in seconds])
        for second, came in zip(seconds, numbers, strict=True):
            first, last = np.searchsorted(times, [second - 0.01, second + 0.01], "right") - 1
            assert first <= came <= last
        begin += end - start
    assert video.probe(tmp_path / "out.mp4").seconds == pytest.approx(begin, abs=0.04)


def test_many_cuts_do_not_drift(tmp_path):
    times = [i / 25 for i in range(500)]
    path = write(tmp_path / "a.mp4", times, noise(20, 44_100), 44_100, fps=25)
    spans = [(i / 3, i / 3 + 0.2371) for i in range(57)]
    cutting.cut(path, tmp_path / "out.mp4", spans)
    last = spans[-1]
    begin = sum(end - start for start, end in spans[:-1])
    got = video.sound(tmp_path / "out.mp4", 16_000)[round(begin * 16_000) :]
    source = video.sound(path, 16_000)[round(last[0] * 16_000) : round(last[1] * 16_000)]
    assert abs(lag(got[: len(source)], source, 16_000)) < 0.005
    assert video.probe(tmp_path / "out.mp4").seconds == pytest.approx(57 * 0.2371, abs=0.04)


def test_what_lacks_sound_or_picture_is_cut_too(tmp_path):
    mute = write(tmp_path / "mute.mp4", TENTHS)
    cutting.cut(mute, tmp_path / "a.mp4", SPANS)
    assert video.probe(tmp_path / "a.mp4")[:6] == (
        pytest.approx(2.43, abs=0.04),
        pytest.approx(10, abs=2),
        80,
        48,
        0,
        True,
    )
    blind = write(tmp_path / "blind.mp4", sound=noise(4, 16_000))
    cutting.cut(blind, tmp_path / "b.mp4", SPANS)
    assert video.probe(tmp_path / "b.mp4")[:5] == (pytest.approx(2.43, abs=0.04), 0, 0, 0, 16_000)


def test_sound_that_is_late_and_short_stays_in_step(tmp_path):
    path = write(tmp_path / "a.mkv", TENTHS, noise(1.5, 16_000), starts=1.0)
    cutting.cut(path, tmp_path / "b.mp4", [(0.5, 1.5), (2, 3), (3.2, 3.9)])
    out = video.sound(tmp_path / "b.mp4", 16_000)
    assert abs(out[:7500]).max() < 0.02 and abs(out[8500:15_500]).max() > 0.1
    assert abs(out[25_000:]).max() < 0.02
    assert len(out) / 16_000 == pytest.approx(2.7, abs=0.04)
    assert shown(tmp_path / "b.mp4", [0.55, 1.55, 2.55]) == [10, 25, 37]


def test_a_picture_that_is_short_stands_where_sound_goes_on(tmp_path):
    path = write(tmp_path / "a.mp4", TENTHS[:10], noise(4, 16_000))
    cutting.cut(path, tmp_path / "b.mp4", [(0.5, 2), (3, 4)])
    assert shown(tmp_path / "b.mp4", [0.05, 1.4, 2.4]) == [5, 9, 9]
    assert video.probe(tmp_path / "b.mp4").seconds == pytest.approx(2.5, abs=0.04)


def test_spans_beyond_the_end_end_with_the_video(plain, tmp_path):
    cutting.cut(plain, tmp_path / "a.mp4", [(3, 3.5), (3.75, 9)])
    assert video.probe(tmp_path / "a.mp4").seconds == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("size", [(81, 47), (80, 47), (64, 64)])
def test_the_size_is_kept_if_odd(tmp_path, size):
    path = write(tmp_path / "a.mkv", TENTHS[:20], size=size, pixels="yuv444p")
    cutting.cut(path, tmp_path / "b.mp4", [(0.5, 1.5)])
    assert video.probe(tmp_path / "b.mp4")[2:4] == size
    assert shown(tmp_path / "b.mp4", [0.05, 0.95]) == [5, 14]


@pytest.mark.parametrize(
    ("rate", "channels", "came"), [(8000, 1, 8000), (37_800, 2, 48_000), (48_000, 6, 48_000)]
)
def test_a_rate_that_aac_lacks_becomes_another(tmp_path, rate, channels, came):
    path = write(tmp_path / "a.mkv", TENTHS, noise(4, rate, channels), rate, audio="pcm_s16le")
    cutting.cut(path, tmp_path / "b.mp4", SPANS)
    assert video.probe(tmp_path / "b.mp4").rate == came
    check_cut(path, tmp_path / "b.mp4", SPANS, TENTHS)


def test_a_cut_does_not_click(tmp_path):
    wave = np.full((1, 64_000), 0.5, np.float32)
    path = write(tmp_path / "a.mkv", sound=wave, audio="pcm_s16le")
    cutting.cut(path, tmp_path / "b.mkv", [(1, 2), (3, 3.5)])
    got = video.sound(tmp_path / "b.mkv", 16_000)
    assert abs(got[15_900:16_100]).min() < 0.1
    assert abs(np.diff(got[2000:22_000])).max() < 0.05


def test_the_progress_is_told(plain, tmp_path):
    told = []
    cutting.cut(plain, tmp_path / "a.mp4", [(0, 1), (2, 3.5)], told.append)
    assert told == sorted(told) and told[-1] == 3.5 and len(told) >= 3


def test_a_video_is_not_cut_into_itself(plain, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(plain.read_bytes())
    os.link(path, tmp_path / "link.mp4")
    for out in (path, tmp_path / "link.mp4", tmp_path / "." / "a.mp4"):
        with pytest.raises(UserError, match="is the video that is cut"):
            cutting.cut(path, out, [(0, 1)])
    assert path.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [(1, 1)],
        [(2, 1)],
        [(0, 2), (1, 3)],
        [(2, 3), (0, 1)],
        [(-1, 1)],
        [(0, float("inf"))],
        [(float("nan"), 1)],
    ],
)
def test_spans_that_are_none_are_refused(plain, tmp_path, spans):
    with pytest.raises(UserError, match="a cut needs spans"):
        cutting.cut(plain, tmp_path / "a.mp4", spans)


def test_what_cannot_be_written_is_told_and_leaves_nothing(plain, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="should end in one of .mp4"):
        cutting.cut(plain, tmp_path / "a.wmv", [(0, 1)])
    with pytest.raises(UserError, match="cannot write .*: No such file"):
        cutting.cut(plain, tmp_path / "none" / "a.mp4", [(0, 1)])
    (tmp_path / "a.mp4").write_bytes(b"older")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cutting._Pictures, "_encode", full)
    with pytest.raises(UserError, match="cannot write .*a.mp4: No space left"):
        cutting.cut(plain, tmp_path / "a.mp4", [(0, 1)])
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"older"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peaks are told by Linux")
def test_memory_does_not_grow_with_the_length(tmp_path):
    """Peak of a process that reads and cuts: a video of 20 s and one six times as long."""
    code = (
        "import sys; from media import cutting, video; p = sys.argv[1];"
        "[0 for _ in video.frames(p, [i / 2 for i in range(238)])];"
        "[0 for _ in video.sound_blocks(p, 16000, 1.0)];"
        "cutting.cut(p, p + '.mkv', [(i, i + .5) for i in range(20)]);"
        "lines = open('/proc/self/status').read().splitlines();"
        "print(*[line.split()[1] for line in lines if 'VmHWM' in line])"
    )
    peaks = []
    for seconds in (20, 120):
        times = [i / 10 for i in range(seconds * 10)]
        path = write(
            tmp_path / f"{seconds}.mkv",
            times,
            noise(seconds, 48_000, 2),
            48_000,
            size=(320, 180),
            audio="flac",
            show=lambda i, w, h: picture(i % 999, w, h),
        )
        peaks.append(
            int(
                subprocess.run(
                    [sys.executable, "-c", code, str(path)],
                    cwd=utils.ROOT,
                    capture_output=True,
                    check=True,
                ).stdout
            )
        )
    assert peaks[1] - peaks[0] < 20_000  # KiB; the pictures are 200,000 more, the sound 38,000

"""media/, on videos whose pictures show their number and whose sound is known."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soxr
from doubles.videos import number, picture, tone, write
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import utils
from media import container, cutting, video
from utils import Unusable, UserError

TENTHS = [i / 10 for i in range(40)]
VFR = [0, 0.3, 0.4, 0.45, 2.9, 3, 3.02, 3.9]
fewer = examples(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(C, N): more of it is low than high, and AAC keeps that."""
    rng = np.random.default_rng(seed)
    wave = np.cumsum(rng.standard_normal((channels, round(seconds * rate) + 2)), axis=1)
    return (0.05 * (wave[:, 2:] - wave[:, :-2])).clip(-0.9, 0.9).astype(np.float32)


def shown(path: Path, seconds: list[float]) -> list[int | None]:
    """The numbers of the pictures that `frames` gives; None where it gives none."""
    got = {second: number(image) for second, image in video.frames(path, seconds)}
    return [got.get(second) for second in seconds]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """4 s, 10 pictures a second, 44.1 kHz stereo, its index at the beginning."""
    path = tmp_path_factory.mktemp("videos") / "plain.mp4"
    options = {"movflags": "+faststart"}
    return write(path, TENTHS, noise(4, 44_100, 2), 44_100, options=options)


# --- what there is -------------------------------------------------------------------------------


def test_a_video_is_described(plain):
    got = video.probe(plain)
    assert got == video.Video(4.0, 10.0, 80, 48, 44_100, False, "")


def test_what_a_video_lacks_is_told(tmp_path):
    mute = video.probe(write(tmp_path / "a.mp4", TENTHS))
    assert (mute.rate, mute.silent, mute.fps, mute.reason) == (0, True, 10.0, "")
    blind = video.probe(write(tmp_path / "b.mp4", sound=tone(2, 16_000)))
    assert blind[:6] == (pytest.approx(2, abs=0.1), 0.0, 0, 0, 16_000, False)
    quiet = video.probe(write(tmp_path / "c.mkv", TENTHS, np.zeros((2, 64_000), np.float32)))
    assert (quiet.rate, quiet.silent) == (16_000, True)
    late = np.concatenate([np.zeros((1, 48_000)), tone(1, 16_000)], 1).astype(np.float32)
    assert not video.probe(write(tmp_path / "d.mkv", TENTHS, late)).silent


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_ends_with_the_later_of_picture_and_sound(tmp_path, suffix):
    late = [2 + t for t in TENTHS[:10]]
    got = video.probe(write(tmp_path / f"a.{suffix}", late, tone(1, 16_000)))
    assert (got.seconds, got.reason) == (pytest.approx(3, abs=0.01), "")
    got = video.probe(write(tmp_path / f"b.{suffix}", TENTHS[:10], tone(1, 16_000), starts=1.5))
    assert (got.seconds, got.reason) == (pytest.approx(2.5, abs=0.07), "")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts"])
def test_every_container_is_read(tmp_path, suffix):
    path = write(
        tmp_path / f"a.{suffix}",
        [i / 25 for i in range(50)],
        tone(2, 44_100, channels=2),
        44_100,
        video="mpeg4" if suffix == "avi" else "libx264",
        fps=25,
    )
    got = video.probe(path)
    assert got.seconds == pytest.approx(2, abs=0.06) and got.fps == pytest.approx(25, abs=0.1)
    assert got[2:] == (80, 48, 44_100, False, "")
    assert shown(path, [0.5, 1.5]) == [pytest.approx(12, abs=1), pytest.approx(37, abs=1)]
    assert abs(len(video.sound(path, 16_000)) / 16_000 - 2) < 0.06


def test_a_file_name_with_a_colon_is_a_file_name(tmp_path, monkeypatch):
    write(tmp_path / "a.mp4", TENTHS[:5]).rename(tmp_path / "http:한글?.mp4")
    monkeypatch.chdir(tmp_path)
    assert video.probe("http:한글?.mp4").width == 80


def test_a_member_of_a_zip_is_a_video(tmp_path):
    import zipfile

    path = write(tmp_path / "a.mp4", TENTHS[:20], tone(2, 16_000))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "폴더/a.mp4")
    assert video.probe(tmp_path / "a.zip" / "폴더" / "a.mp4") == video.probe(path)


def test_of_several_streams_one_is_taken(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        for side in (32, 64, 48):
            stream = file.add_stream("libx264", rate=10)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        for i in range(20):
            for stream in file.streams:
                image = np.full((stream.height, stream.width, 3), 4 * stream.height - 10, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts = i
                file.mux(stream.encode(frame))
        for stream in file.streams:
            file.mux(stream.encode())
    width, height = video.probe(path)[2:4]
    assert width == height and width in (32, 64, 48)
    [(_, image)] = video.frames(path, [1.5])
    assert image.shape == (height, width, 3) and abs(image.mean() - 4 * width + 10) < 4


def test_the_cover_of_a_piece_of_music_is_no_picture(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        sound, cover = file.add_stream("aac", rate=16_000), file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 80, 48, "yuvj420p"
        cover.disposition = type(cover.disposition).attached_pic
        file.mux(cover.encode(av.VideoFrame.from_ndarray(picture(3), "rgb24")))
        frame = av.AudioFrame.from_ndarray(tone(2, 16_000), "fltp", "mono")
        frame.sample_rate = 16_000
        file.mux([*cover.encode(), *sound.encode(frame), *sound.encode()])
    assert video.probe(path)[1:5] == (0, 0, 0, 16_000)
    with pytest.raises(Unusable, match="^no picture$"):
        list(video.frames(path, [0.5]))


def test_a_truncated_video_is_used_as_far_as_it_goes(plain, tmp_path):
    data = plain.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data[: len(data) * 6 // 10])
    got = video.probe(broken)
    assert 1 < got.seconds < 3.4
    assert got.reason == f"broken after {got.seconds:.1f} of 4.0 s"
    numbers = shown(broken, [0.5, 1.05, 3.95])
    assert numbers == [5, 10, None]
    wave, whole = video.sound(broken, 16_000), video.sound(plain, 16_000)
    assert 1 < len(wave) / 16_000 < 3.5
    np.testing.assert_allclose(wave[:16_000], whole[:16_000], atol=1e-4)
    cutting.cut(broken, tmp_path / "out.mp4", [(0.5, 1), (1.2, 4)])
    assert 0.5 < video.probe(tmp_path / "out.mp4").seconds < 3.3


@pytest.mark.parametrize("pictures", [TENTHS, []])
def test_a_tail_that_does_not_decode_is_told(tmp_path, pictures):
    path = write(tmp_path / "a.mp4", pictures, noise(4, 16_000), options={"movflags": "+faststart"})
    assert video.probe(path).reason == ""
    data = path.read_bytes()
    whole = len(data) * 6 // 10
    path.write_bytes(data[:whole] + bytes(len(data) - whole))
    got = video.probe(path)
    assert got.seconds == pytest.approx(4, abs=0.07)
    assert got.reason.startswith("broken after ") and 1 < float(got.reason.split()[2]) < 3.4


def test_a_damaged_middle_spoils_what_is_in_it(plain, tmp_path):
    data = bytearray(plain.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    (tmp_path / "a.mp4").write_bytes(data)
    assert video.probe(tmp_path / "a.mp4").seconds == 4.0
    assert shown(tmp_path / "a.mp4", [0.05, 0.55]) == [0, 5]
    assert abs(len(video.sound(tmp_path / "a.mp4", 8000)) / 8000 - 4) < 0.05


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no video at all\n" * 999, "not a video"),
        (b"#EXTM3U\n#EXTINF:1,\nplain.mp4\n#EXT-X-ENDLIST\n", "not a video"),
        (b"ffconcat version 1.0\nfile plain.mp4\n", "not a video"),
        (b"\x00\x00\x00\x20ftypisom" + b"\xff" * 4000, "not a video"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"\x11" * 4000, "not a video"),
    ],
)
def test_what_is_no_video_is_unusable(plain, tmp_path, data, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    (tmp_path / "plain.mp4").write_bytes(plain.read_bytes())
    for read in (video.probe, lambda p: list(video.frames(p, [0.5])), lambda p: video.sound(p, 10)):
        with pytest.raises(Unusable, match=f"^{reason}$"):
            read(path)
    with pytest.raises(Unusable, match=reason):
        cutting.cut(path, tmp_path / "out.mp4", [(0, 1)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "plain.mp4"]


def test_what_cannot_be_read_is_the_users(tmp_path):
    for path in (tmp_path / "none.mp4", tmp_path, tmp_path / "none" / "a.mp4"):
        with pytest.raises(UserError, match="cannot read .*: (No such|Is a dir)"):
            video.probe(path)


def test_a_picture_of_any_number_of_pixels_is_refused(plain, monkeypatch):
    monkeypatch.setattr(container, "MAX_PIXELS", 80 * 48 - 1)
    with pytest.raises(Unusable, match="pictures of 80 x 48"):
        video.probe(plain)


def test_a_lack_of_pyav_is_told_in_a_line(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"^videos need PyAV: pip install av==18\.1\.0$"):
        video.probe(plain)


def test_importing_it_imports_no_pyav():
    code = "import sys, media.video; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=utils.ROOT).returncode == 0


@fewer
@given(st.data())
def test_damage_is_never_a_traceback(plain, tmp_path, data):
    content = bytearray(plain.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        at = data.draw(st.integers(0, len(content) - 1))
        at = at % 4000 if data.draw(st.booleans()) else at  # most of the header lies there
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "a.mp4").write_bytes(content[: data.draw(st.integers(1, len(content)))])

    def cut(path):
        cutting.cut(path, tmp_path / "out.mp4", [(0, 1), (2, 3)])

    for read in (
        video.probe,
        lambda p: list(video.frames(p, [0.5, 3.5])),
        lambda p: video.sound(p, 16_000),
        cut,
    ):
        try:
            read(tmp_path / "a.mp4")
        except (Unusable, UserError) as error:
            assert len(str(error).splitlines()) == 1


# --- pictures by the second ----------------------------------------------------------------------


def test_a_picture_is_that_of_the_time_stamps(tmp_path):
    path = write(tmp_path / "a.mp4", VFR)
    assert shown(path, [0, 0.29, 0.31, 0.46, 1.5, 2.5, 2.95, 3.01, 3.5]) == [
        0,
        0,
        1,
        3,
        3,
        3,
        4,
        5,
        6,
    ]


@fewer
@given(
    gaps=st.lists(st.integers(1, 3000), min_size=2, max_size=25),
    seconds=st.lists(st.floats(0, 20), min_size=1, max_size=20),
    suffix=st.sampled_from(["mp4", "mkv"]),
)
def test_a_picture_is_the_last_that_is_not_later(tmp_path, gaps, seconds, suffix):
    times = np.cumsum([0, *gaps]) / 1000
    path = write(tmp_path / f"a.{suffix}", times.tolist())
    seconds = sorted(round(second, 4) + 0.0003 for second in seconds)  # never on a time stamp
    got = shown(path, seconds)
    for second, came in zip(seconds, got, strict=True):
        if second <= times[-1] + video.GRACE:
            assert came == np.searchsorted(times, second, "right") - 1
        elif second > times[-1] + 3 + video.GRACE:
            assert came is None


def test_after_the_last_picture_it_stands_for_a_second(tmp_path):
    path = write(tmp_path / "a.mp4", TENTHS[:20], tone(5, 16_000))
    assert shown(path, [1.5, 2.5, 2.99, 3.1, 4.5]) == [15, 19, 19, None, None]


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_time_begins_where_the_file_does(tmp_path, suffix):
    path = write(
        tmp_path / f"a.{suffix}", [5 + t for t in TENTHS], tone(3, 44_100), 44_100, starts=5.5
    )
    with av.open(str(path)) as file:
        assert file.start_time > 4e6  # microseconds
    assert shown(path, [0.05, 0.55, 1.55, 3.55]) == [0, 5, 15, 35]
    wave = video.sound(path, 44_100)
    assert np.flatnonzero(abs(wave) > 0.1)[0] / 44_100 == pytest.approx(0.5, abs=0.03)
    assert video.probe(path).seconds == pytest.approx(4, abs=0.11)


def test_a_picture_that_begins_late_is_not_there_before(tmp_path):
    path = write(tmp_path / "a.mkv", [1.2 + t for t in TENTHS[:10]], tone(3, 16_000))
    assert shown(path, [0.5, 1.1, 1.25, 1.75]) == [None, None, 0, 5]


@pytest.mark.parametrize(
    ("codec", "pixels", "size"),
    [
        ("libx264", "yuv444p", (81, 47)),
        ("libx264", "yuv422p", (80, 47)),
        ("ffv1", "gray", (81, 47)),
        ("libx264", "yuvj420p", (80, 48)),
        ("ffv1", "rgb48le", (40, 30)),
        ("ffv1", "bgra", (41, 31)),
        ("ffv1", "yuv420p10le", (80, 48)),
        ("libx264rgb", "rgb24", (80, 48)),
    ],
)
def test_pictures_are_rgb_whatever_they_were(tmp_path, codec, pixels, size):
    path = write(tmp_path / "a.mkv", TENTHS[:20], size=size, video=codec, pixels=pixels)
    [(_, image)] = video.frames(path, [1.55])
    assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
    assert number(image) == 15
    expected = (76,) * 3 if pixels == "gray" else (255, 0, 0)  # BGR would be (0, 0, 255)
    np.testing.assert_allclose(image[-3:].mean((0, 1)), expected, atol=25)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_video_is_seen_as_it_is_shown(tmp_path, degrees):
    def lying(i, width, height):
        upright = picture(i, height, width) if degrees % 180 else picture(i, width, height)
        return np.ascontiguousarray(np.rot90(upright, -degrees // 90))

    path = write(tmp_path / "a.mp4", TENTHS[:20], size=(96, 64), rotation=degrees, show=lying)
    wide, high = (64, 96) if degrees % 180 else (96, 64)
    assert video.probe(path)[2:4] == (wide, high)
    [(_, image)] = video.frames(path, [1.55])
    assert image.shape == (high, wide, 3) and number(image) == 15
    cutting.cut(path, tmp_path / "b.mp4", [(0.5, 1.5)])
    assert shown(tmp_path / "b.mp4", [0.55]) == [10]
    assert video.probe(tmp_path / "b.mp4")[2:4] == (wide, high)


def test_pictures_are_decoded_as_they_are_asked_for(plain, monkeypatch):
    count, decoded = [0], container.decoded

    def counted(packet):
        frames = decoded(packet)
        count[0] += len(frames)
        return frames

    monkeypatch.setattr(container, "decoded", counted)
    stream = video.frames(plain, [0.5, 1.0, 3.9])
    next(stream)
    assert count[0] < 30
    assert [second for second, _ in stream] == [1.0, 3.9]
    count[0] = 0
    list(video.frames(plain, [0.5]))
    assert count[0] < 30


def test_seconds_should_ascend(plain):
    with pytest.raises(ValueError, match="ascending"):
        list(video.frames(plain, [2, 1]))


def test_a_video_without_pictures_is_unusable_by_its_pictures(tmp_path):
    path = write(tmp_path / "a.mp4", sound=tone(2, 16_000))
    with pytest.raises(Unusable, match="^no picture$"):
        list(video.frames(path, [0.5]))


# --- sound ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "step"),
    [
        ("pcm_u8", 2**-7),
        ("pcm_s16le", 2**-15),
        ("pcm_s32le", 1e-6),
        ("pcm_f32le", 1e-6),
        ("pcm_f64le", 1e-6),
        ("flac", 2**-15),
    ],
)
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 6)])
def test_sound_is_the_mean_of_its_channels_resampled_by_soxr(tmp_path, codec, step, rate, channels):
    wave = noise(1.7, rate, channels)
    path = write(tmp_path / "a.mkv", sound=wave, rate=rate, audio=codec)
    expected = wave.mean(0)
    if rate != 16_000:
        expected = soxr.resample(expected, rate, 16_000, quality="HQ")
    got = video.sound(path, 16_000)
    assert got.dtype == np.float32 and abs(len(got) - len(expected)) <= 1
    count = min(len(got), len(expected))
    np.testing.assert_allclose(got[:count], expected[:count], rtol=0, atol=2 * step)


@fewer
@given(seconds=st.floats(0.001, 3))
def test_blocks_of_any_length_are_the_sound(plain, seconds):
    blocks = list(video.sound_blocks(plain, 16_000, seconds))
    assert {len(block) for block in blocks[:-1]} <= {round(seconds * 16_000)}
    assert 0 < len(blocks[-1]) <= round(seconds * 16_000)
    np.testing.assert_array_equal(np.concatenate(blocks), video.sound(plain, 16_000))


@pytest.mark.parametrize("starts", [0.0, 0.01, 0.5, 1.25])
def test_sound_that_begins_late_is_where_its_time_stamps_are(tmp_path, starts):
    wave = tone(1, 48_000) + 0.1
    path = write(tmp_path / "a.mkv", TENTHS, wave, 48_000, starts=starts, audio="pcm_s16le")
    got = video.sound(path, 48_000)
    begin = round(starts * 48_000)
    assert len(got) == begin + 48_000
    assert not got[:begin].any()
    np.testing.assert_allclose(got[begin:], wave[0], atol=1e-4)


def test_a_gap_in_the_sound_is_silent_and_moves_nothing(tmp_path):
    wave = noise(4, 16_000)
    path = write(tmp_path / "a.mkv", TENTHS, wave, audio="pcm_s16le", gaps=((1, 2),))
    got = video.sound(path, 16_000)
    assert len(got) == 64_000
    left = (got == 0).nonzero()[0]
    first, last = left[np.diff(left, prepend=-9) == 1].min(), left[np.diff(left, prepend=-9) == 1]
    assert 1 <= first / 16_000 < 1.07 and 1.9 < last.max() / 16_000 < 2.07
    for part in (slice(0, 16_000), slice(34_000, None)):
        np.testing.assert_allclose(got[part], wave[0, part], atol=1e-4)


def test_time_stamps_that_are_damaged_make_no_hours_of_silence(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", TENTHS, tone(4, 16_000), audio="pcm_s16le")
    monkeypatch.setattr(container, "MAX_SECONDS", 2)
    assert len(video.sound(path, 16_000)) / 16_000 == pytest.approx(2, abs=0.1)
    assert video.probe(path).seconds == 2
    assert shown(path, [1.55, 2.55, 3.5]) == [15, 19, None]


def test_time_stamps_far_beyond_what_the_header_says_are_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", TENTHS, tone(4, 16_000), audio="pcm_s16le")
    monkeypatch.setattr(container, "LONGER", (0.5, 0))
    assert len(video.sound(path, 16_000)) / 16_000 == pytest.approx(2, abs=0.1)


def test_eight_channels_and_more_are_heard(tmp_path):
    """PyAV's planes of such a frame end behind its memory: reading them all would kill."""
    wave = tone(1, 48_000, channels=8)
    path = write(tmp_path / "a.mkv", sound=wave, rate=48_000, audio="aac")
    with av.open(str(path)) as file:
        assert next(file.decode(audio=0)).format.is_planar
    source, got = wave.mean(0), video.sound(path, 48_000)[:48_000]
    assert np.corrcoef(got, source)[0, 1] > 0.95
    cutting.cut(path, tmp_path / "b.mp4", [(0.25, 0.75)])
    assert video.probe(tmp_path / "b.mp4").seconds == pytest.approx(0.5, abs=0.03)


def test_rounded_time_stamps_are_no_gaps(tmp_path):
    """Matroska counts milliseconds; 1,024 samples of 44.1 kHz are 23.2."""
    wave = noise(3, 44_100)
    path = write(tmp_path / "a.mkv", sound=wave, rate=44_100, audio="pcm_s16le")
    got = video.sound(path, 44_100)
    np.testing.assert_allclose(got, wave[0], atol=1e-4)


def test_a_video_without_sound_has_none(tmp_path):
    path = write(tmp_path / "a.mp4", TENTHS[:20])
    with pytest.raises(Unusable, match="^no sound$"):
        video.sound(path, 16_000)


# --- cutting -------------------------------------------------------------------------------------

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

"""Videos whose pictures show their number: what is told of them, and pictures by the second."""

import subprocess
import sys

import av
import numpy as np
import pytest
from doubles.videos import TENTHS, VFR, fewer, noise, number, picture, shown, tone, write
from hypothesis import given
from hypothesis import strategies as st

import utils
from media import container, cutting, video
from utils import Unusable, UserError

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

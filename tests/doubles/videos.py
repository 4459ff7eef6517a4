"""Small videos for tests: each picture shows its number, sound is what is given."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from hypothesis import HealthCheck
from hypothesis import settings as examples

from media import video

BITS = 10
CLOCK = 90_000  # ticks a second

TENTHS = [i / 10 for i in range(40)]  # s: ten pictures a second
VFR = [0, 0.3, 0.4, 0.45, 2.9, 3, 3.02, 3.9]
fewer = examples(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(C, N): more of it is low than high, and AAC keeps that."""
    rng = np.random.default_rng(seed)
    wave = np.cumsum(rng.standard_normal((channels, round(seconds * rate) + 2)), axis=1)
    return (0.05 * (wave[:, 2:] - wave[:, :-2])).clip(-0.9, 0.9).astype(np.float32)


def picture(number: int, width: int = 80, height: int = 48) -> np.ndarray:
    """RGB uint8 (H, W, 3): the number in black and white columns, first bit left, over red."""
    columns = np.arange(width) * BITS // width
    bits = (number >> columns) & 1
    image = np.repeat((255 * bits).astype(np.uint8)[None, :, None], height, 0).repeat(3, 2)
    image[-height // 4 :] = (255, 0, 0)
    return image


def number(image: np.ndarray) -> int:
    """What `picture` wrote."""
    height, width = image.shape[:2]
    at = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    bright = image[height // 8 : height // 2, at].mean((0, 2)) > 127
    return int((bright << np.arange(BITS)).sum())


def tone(seconds: float, rate: int, hertz: float = 440.0, channels: int = 1) -> np.ndarray:
    """(C, N) float32."""
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, 0)


def shown(path: Path, seconds: list[float]) -> list[int | None]:
    """The numbers of the pictures that `frames` gives; None where it gives none."""
    got = {second: number(image) for second, image in video.frames(path, seconds)}
    return [got.get(second) for second in seconds]


def write(
    path: Path,
    times: list[float] = (),
    sound: np.ndarray | None = None,
    rate: int = 16_000,
    starts: float = 0.0,
    size: tuple[int, int] = (80, 48),
    video: str = "libx264",
    pixels: str = "yuv420p",
    audio: str = "aac",
    fps: float = 10,
    rotation: int = 0,
    show=picture,
    gaps: tuple = (),
    options: dict | None = None,
) -> Path:
    """Pictures number 0, 1, ... at `times` s, (C, N) `sound` from `starts` s on.

    `gaps`: (from, to) s of sound that are left out, the time stamps going on.
    """
    with av.open(str(path), "w", options=options or {}) as file:
        tracks = []
        if len(times):
            tracks.append(_pictures(file, times, size, video, pixels, fps, rotation, show))
        if sound is not None:
            tracks.append(_sound(file, sound, rate, starts, audio, gaps))
        for _, stream, frame in sorted((item for track in tracks for item in track), key=_time):
            file.mux(stream.encode(frame))
        for stream in file.streams:
            file.mux(stream.encode())
    return Path(path)


def _time(item: tuple) -> float:
    return item[0]


def _pictures(file, times, size, codec, pixels, fps, rotation, show) -> list:
    stream = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height = size
    stream.pix_fmt = pixels
    stream.codec_context.time_base = Fraction(1, CLOCK if codec != "mpeg4" else round(fps))
    if rotation:
        stream.set_display_rotation(rotation)
    made = []
    for i, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(show(i, *size), format="rgb24")
        frame.pts, frame.time_base = round(time * CLOCK), Fraction(1, CLOCK)
        made.append((time, stream, frame))
    return made


def _sound(file, sound, rate, starts, codec, gaps) -> list:
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(sound)]
    stream = file.add_stream(codec, rate=rate, layout=layout)
    made, step = [], 1024
    for at in range(0, sound.shape[1], step):
        time = starts + at / rate
        if any(begin <= time < end for begin, end in gaps):
            continue
        part = np.ascontiguousarray(sound[:, at : at + step].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(part, "flt", layout)
        frame.sample_rate = rate
        frame.pts, frame.time_base = round(starts * rate) + at, Fraction(1, rate)
        made.append((time, stream, frame))
    return made

"""A media file opened: its streams, what is decoded of them, and when that is seen and heard.

What video.py stands on. Time is that of the file's time stamps, in seconds from where its picture
or its sound begins, whichever is first, as players count it; frames and samples are never counted.
PyAV is imported when a file is opened: nothing else of the toolkit needs it.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

import utils
from utils import Unusable, UserError

# read with these demuxers only: FFmpeg's others read playlists, which name files and addresses
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav,mp3,flac,aac"
MAX_PIXELS = 1 << 26  # of a picture: 8K is half of it; a header may claim any number
MAX_SECONDS = 12 * 3600  # of a video, and of one whose header says less:
LONGER = 1.5, 60  # times that, and so many seconds more; time stamps beyond are damage
RATES = 2_000, 768_000  # Hz: of sound; beyond, the header is wrong
JITTER = 0.02  # s: time stamps of sound that are off by less are rounding
FPS = 25.0  # pictures a second, where neither time stamps nor the header say
# PyAV looks for a null pointer behind the planes of a frame, and of so many there is none (7.1)
PLANES = 8
SCALES = {"u1": 2**7, "i2": 2**15, "i4": 2**31, "i8": 2**63}  # full scale of integer samples


class Source(NamedTuple):
    """A file, opened: its best picture and best sound (streams of PyAV, or None)."""

    container: Any
    picture: Any
    sound: Any
    zero: Fraction  # s: the time stamp that is time 0
    longest: float  # s: time stamps beyond are damage

    @property
    def streams(self) -> list:
        """Those there are."""
        return [stream for stream in (self.picture, self.sound) if stream is not None]

    def time(self, stream: Any, stamp: int) -> float:
        """A time stamp in seconds from time 0."""
        return float(stamp * stream.time_base - self.zero)


def pyav() -> Any:
    """The module. Raises UserError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError("videos need PyAV: pip install av==18.1.0") from error
    return av


@contextmanager
def opened(path: Path | str) -> Iterator[Source]:
    """Raises Unusable for what is no video, UserError where it cannot be read.

    A member of a zip (`utils.read_bytes`) is held in memory; a file is not.
    """
    av, path = pyav(), Path(path)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        if path.is_file():
            with path.open("rb") as there:
                empty = not there.read(1)
            file = f"file:{path}"  # with its protocol named, a colon in a name is part of the name
        else:
            data = utils.read_bytes(path)
            empty, file = not data, io.BytesIO(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if empty:
        raise Unusable("empty file")
    try:
        container = av.open(file, "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        raise Unusable("not a video") from error
    with container:
        yield _source(container)


def _source(container: Any) -> Source:
    found = [container.streams.best(kind) for kind in ("video", "audio")]
    # without a context it is of a codec that is not known
    picture, sound = (s if s is not None and s.codec_context else None for s in found)
    if picture is not None and picture.disposition & type(picture.disposition).attached_pic:
        picture = None  # the cover of a music file
    if picture is not None:
        if picture.width * picture.height > MAX_PIXELS:
            raise Unusable(f"pictures of {picture.width} x {picture.height}")
        picture.thread_type = "AUTO"
        picture.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    if sound is not None and not RATES[0] <= sound.rate <= RATES[1]:
        sound = None
    starts = [
        stream.start_time * stream.time_base
        for stream in (picture, sound)
        if stream is not None and stream.start_time is not None
    ]
    # before 0 is only what a decoder needs to get going
    zero = max(Fraction(0), min(starts, default=Fraction(0)))
    seconds = (container.duration or 0) / 1e6  # microseconds
    longest = min(MAX_SECONDS, LONGER[0] * seconds + LONGER[1]) if seconds > 0 else MAX_SECONDS
    return Source(container, picture, sound, zero, longest)


# --- what is in it -------------------------------------------------------------------------------


def packets(source: Source, streams: list) -> Iterator[Any]:
    """Packets of `streams`, as they lie in the file, as far as it can be read."""
    try:
        yield from source.container.demux(*streams)
    except (pyav().FFmpegError, IndexError):  # the latter of streams that turn up on the way
        return  # a broken tail


def decoded(packet: Any) -> list:
    """The frames of a packet: none where it is damaged."""
    try:
        return packet.decode()
    except (pyav().FFmpegError, ValueError):
        return []


def stamp(thing: Any) -> int | None:
    """The time stamp of a packet or a frame, in ticks of its stream."""
    return thing.pts if thing.pts is not None else thing.dts


class Ordered:
    """Pictures of a source -> their times, ascending; None for one that is not after the last."""

    def __init__(self, source: Source):
        self.source, self.last = source, -math.inf
        self.step = 1 / (float(source.picture.average_rate or 0) or FPS)

    def __call__(self, frame: Any) -> float | None:
        ticks, first = stamp(frame), self.last == -math.inf
        if ticks is not None:
            time = self.source.time(self.source.picture, ticks)
        else:
            time = 0.0 if first else self.last + self.step
        if not self.last < time < self.source.longest:
            return None
        self.last = time
        return time

    def end(self, frame: Any) -> float:
        """When the last picture, which is `frame`, ends."""
        length = float((frame.duration or 0) * self.source.picture.time_base)
        return self.last + (length if 0 < length < self.source.longest else self.step)


class Aligned:
    """Frames of sound -> (C, n) float32 pieces one after the other, from time 0 on, at one rate.

    C is that of the first frame, a piece is of a second at most, zeros where there is no sound.
    `at`: samples given so far.
    """

    def __init__(self, source: Source):
        self.source, self.rate = source, source.sound.rate
        self.channels, self.at = 0, 0
        length, start = source.sound.duration, source.sound.start_time
        self.said = None  # the sample that the header says is the end
        if length and start is not None:
            self.said = round(source.time(source.sound, start + length) * self.rate)

    def __call__(self, frame: Any) -> Iterator[np.ndarray]:
        wave = samples(frame)
        if frame.sample_rate != self.rate:
            wave = soxr.resample(wave.T, frame.sample_rate, self.rate).T
        self.channels = self.channels or len(wave)
        if len(wave) != self.channels:
            wave = wave.mean(0, keepdims=True).repeat(self.channels, 0)
        gap = self._gap(frame)
        if gap + self.at >= self.source.longest * self.rate:
            return
        yield from self.silence(gap)
        wave = wave[:, max(0, -gap) :]
        if self.said is not None and 0 < self.said - self.at < wave.shape[1]:
            wave = wave[:, : self.said - self.at]  # the last frame of AAC is filled up
        for start in range(0, wave.shape[1], self.rate):
            piece = wave[:, start : start + self.rate]
            self.at += piece.shape[1]
            yield piece

    def _gap(self, frame: Any) -> int:
        """Samples that lack before a frame; fewer than 0: that overlap with those before."""
        ticks = stamp(frame)
        if ticks is None:
            return 0
        gap = round(self.source.time(self.source.sound, ticks) * self.rate) - self.at
        return 0 if self.at and abs(gap) <= JITTER * self.rate else gap

    def silence(self, count: int) -> Iterator[np.ndarray]:
        """`count` zeros."""
        for start in range(0, count, self.rate):
            size = min(self.rate, count - start)
            self.at += size
            yield np.zeros((self.channels or 1, size), np.float32)


def samples(frame: Any) -> np.ndarray:
    """(C, n) float32 in [-1, 1] of a decoded frame."""
    if frame.format.is_planar and len(frame.layout.channels) >= PLANES:
        [frame] = pyav().AudioResampler(format="flt").resample(frame)
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    if (kind := data.dtype.str[1:]) in SCALES:
        data = data / SCALES[kind] - (kind == "u1")
    return np.nan_to_num(data.astype(np.float32), nan=0, posinf=0, neginf=0)


# --- pictures ------------------------------------------------------------------------------------


def turns(frame: Any) -> int:
    """Quarter turns counterclockwise after which a frame is as it is shown."""
    return round(frame.rotation / 90) % 4


def shape(frame: Any) -> tuple[int, int]:
    """Width and height as shown."""
    size = frame.width, frame.height
    return size[::-1] if turns(frame) % 2 else size


def rgb(frame: Any) -> np.ndarray:
    """uint8 (H, W, 3), as shown. Raises Unusable."""
    try:
        array = frame.to_ndarray(format="rgb24")
    except (pyav().FFmpegError, ValueError) as error:
        raise Unusable(f"pictures in {frame.format.name}") from error
    return np.ascontiguousarray(np.rot90(array, turns(frame)))

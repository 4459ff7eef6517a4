"""Videos: what a file holds, its pictures and its sound by the second.

    pictures = video.frames("a.mp4", [0.5, 1.5, 2.5])
    wave = video.sound("a.mp4", 16_000)

Seconds are those of the time stamps: see container.py, which opens and decodes. All is streamed:
what is held at a time does not grow with the length of a video, but for the wave of `sound`.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from media import container
from media.container import Source
from utils import Unusable

GRACE = 1.0  # s: that the last picture stands on where the sound is longer
MISSED = 0.5  # s: a file that ends so much earlier than its header says is broken
UNSOUGHT = ("mpegts", "mpeg")  # containers in which a seek may miss every picture to begin with
QUIET = 1e-5  # of full scale 1: less than half a step of 16 bits


class Video(NamedTuple):
    """What a file holds. `reason`: "" or what is broken of it; what there is can be used."""

    seconds: float  # up to the end of its picture or its sound, the later
    fps: float  # pictures a second, on average; 0: no picture
    width: int  # pixels, as it is shown
    height: int
    rate: int  # Hz of its sound; 0: none
    silent: bool  # no sound, or nothing in it that is heard
    reason: str


# --- what there is -------------------------------------------------------------------------------


def probe(path: Path | str) -> Video:
    """What a video is: by its packets, its first picture, its sound until something is heard.

    Raises Unusable where there is neither picture nor sound, UserError where it cannot be read.
    """
    with container.opened(path) as source:
        ends: dict[Any, float] = {}
        begins: dict[Any, float] = {}  # of the last packet of each stream
        size, heard, silent = None, False, True
        for packet in container.packets(source, source.streams):
            stream, stamp = packet.stream, container.stamp(packet)
            if stamp is not None and packet.size:
                begin, end = (
                    min(source.time(stream, at), source.longest)
                    for at in (stamp, stamp + (packet.duration or 0))
                )
                begins[stream] = max(begin, begins.get(stream, 0.0))
                ends[stream] = max(end, ends.get(stream, 0.0))
            if stream is source.picture and size is None:
                size = next(map(container.shape, container.decoded(packet)), None)
            elif stream is source.sound and silent:
                waves = [container.samples(frame) for frame in container.decoded(packet)]
                heard = heard or bool(waves)
                silent = not any((abs(wave) > QUIET).any() for wave in waves)
        seen = _described(source, ends, size, heard, silent)
        if seen.reason:
            return seen
        begin = begins.get(source.streams[0], 0.0)
        if (last := _last(source, source.streams[0], begin)) < begin - MISSED:
            seen = seen._replace(reason=f"broken after {last:.1f} of {seen.seconds:.1f} s")
        return seen


def _last(source: Source, stream: Any, begin: float) -> float:
    """When the last frame of a stream that is decoded begins, in s; `begin`: of its last packet."""
    if source.container.format.name in UNSOUGHT:
        return begin
    for since in (begin - 1, 0):  # where nothing of the last second is, all is decoded
        try:
            source.container.seek(int(max(0, since + source.zero) * 10**6))  # or a bit before
        except container.pyav().FFmpegError:
            return begin
        packets = container.packets(source, [stream])
        stamps = [
            container.stamp(frame) for packet in packets for frame in container.decoded(packet)
        ]
        if times := [source.time(stream, at) for at in stamps if at is not None]:
            return max(times)
    return 0.0


def _described(
    source: Source, ends: dict, size: tuple[int, int] | None, heard: bool, silent: bool
) -> Video:
    """The Video, of when each stream ends, the size of a picture, and whether sound is decoded."""
    if size is None and not heard:
        raise Unusable("neither picture nor sound")
    headers = {
        s: source.time(s, (s.start_time or 0) + s.duration) for s in ends if (s.duration or 0) > 0
    }
    # the last packet of AAC is longer than its sound, which the header tells
    seconds = max((min(end, headers.get(s, math.inf)) for s, end in ends.items()), default=0.0)
    claim = max([*headers.values(), (source.container.duration or 0) / 1e6])
    reasons = []
    if source.picture is not None and size is None:
        reasons.append("no picture can be decoded")
    if source.sound is not None and not heard:
        reasons.append("no sound can be decoded")
    if claim > seconds + MISSED:
        reasons.append(f"broken after {seconds:.1f} of {claim:.1f} s")
    fps = float(source.picture.average_rate or 0) if size else 0.0
    rate = source.sound.rate if heard else 0
    return Video(seconds, fps, *(size or (0, 0)), rate, silent, "; ".join(reasons))


# --- by the second -------------------------------------------------------------------------------


def frames(path: Path | str, seconds: Sequence[float]) -> Iterator[tuple[float, np.ndarray]]:
    """(second, RGB uint8 (H, W, 3)) of each of `seconds`, ascending: the picture shown then.

    Left out are those before the first picture, and those more than GRACE after the last one.
    Raises Unusable ("no picture"), UserError.
    """
    queue = deque(seconds)
    if sorted(queue) != list(queue):
        raise ValueError("frames needs ascending seconds")
    with container.opened(path) as source:
        if source.picture is None:
            raise Unusable("no picture")
        ordered, shown = container.Ordered(source), None
        for packet in container.packets(source, [source.picture]):
            for frame in container.decoded(packet):
                if (time := ordered(frame)) is None:
                    continue
                while queue and queue[0] < time:
                    second = queue.popleft()
                    if shown is not None:
                        yield second, container.rgb(shown)
                if not queue:
                    return
                shown = frame
        if shown is None:
            raise Unusable("no picture can be decoded")
        last = ordered.end(shown) + GRACE
        yield from ((second, container.rgb(shown)) for second in queue if second < last)


def sound(path: Path | str, rate: int) -> np.ndarray:
    """(N,) float32 in [-1, 1] at `rate` Hz, from time 0 to its end, channels averaged.

    Zeros before it begins and where it lacks. Raises as `sound_blocks`.
    """
    return np.concatenate(list(sound_blocks(path, rate, 60.0)))


def sound_blocks(path: Path | str, rate: int, seconds: float) -> Iterator[np.ndarray]:
    """`sound` in blocks of `seconds`, the last one shorter; one block is held at a time.

    Raises Unusable ("no sound"), UserError.
    """
    size, held, count, empty = round(rate * seconds), [], 0, True
    with container.opened(path) as source:
        if source.sound is None:
            raise Unusable("no sound")
        for wave in _resampled(_mono(source), source.sound.rate, rate):
            held.append(wave)
            count += len(wave)
            while count >= size:
                whole = np.concatenate(held)
                yield whole[:size]
                held, count, empty = [whole[size:]], count - size, False
    if count:
        yield np.concatenate(held)
    elif empty:
        raise Unusable("no sound can be decoded")


def _mono(source: Source) -> Iterator[np.ndarray]:
    """(n,) pieces of the sound from time 0, channels averaged."""
    aligned = container.Aligned(source)
    for packet in container.packets(source, [source.sound]):
        for frame in container.decoded(packet):
            yield from (wave.mean(0) for wave in aligned(frame))


def _resampled(pieces: Iterator[np.ndarray], came: int, rate: int) -> Iterator[np.ndarray]:
    if came == rate:
        yield from pieces
        return
    stream = soxr.ResampleStream(came, rate, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

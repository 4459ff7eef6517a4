"""Videos: what a file holds, its pictures and its sound by the second, and cutting.

    pictures = video.frames("a.mp4", [0.5, 1.5, 2.5])
    wave = video.sound("a.mp4", 16_000)
    video.cut("a.mp4", "clip.mp4", [(3, 8), (20, 24.5)])

Seconds are those of the time stamps: see media.py, which opens and decodes. All is streamed: what
is held at a time does not grow with the length of a video, but for the wave that `sound` returns.
"""

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

import media
import utils
from media import Source
from utils import Unusable, UserError

KINDS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}  # that `cut` writes
GRACE = 1.0  # s: that the last picture stands on where the sound is longer
MISSED = 0.5  # s: a file that ends so much earlier than its header says is broken
UNSOUGHT = ("mpegts", "mpeg")  # containers in which a seek may miss every picture to begin with
QUIET = 1e-5  # of full scale 1: less than half a step of 16 bits
CLOCK = 90_000  # ticks a second of pictures that `cut` writes; MPEG's
FASTEST = 240  # pictures a second, as told to the encoder, which sets its levels by it
FADE = 0.005  # s: in and out at a cut, against clicks
AAC_RATES = (
    8000,
    11_025,
    12_000,
    16_000,
    22_050,
    24_000,
    32_000,
    44_100,
    48_000,
    64_000,
    88_200,
    96_000,
)
LAYOUTS = {"mono": 1, "stereo": 2, "5.1": 6}  # channels that `cut` keeps; of others the mean
X264 = {"preset": "veryfast", "crf": "20", "bf": "0"}  # in order, so the last picture ends a clip

Spans = Sequence[tuple[float, float]]


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
    with media.opened(path) as source:
        ends: dict[Any, float] = {}
        begins: dict[Any, float] = {}  # of the last packet of each stream
        size, heard, silent = None, False, True
        for packet in media.packets(source, source.streams):
            stream, stamp = packet.stream, media.stamp(packet)
            if stamp is not None and packet.size:
                begin, end = (
                    min(source.time(stream, at), source.longest)
                    for at in (stamp, stamp + (packet.duration or 0))
                )
                begins[stream] = max(begin, begins.get(stream, 0.0))
                ends[stream] = max(end, ends.get(stream, 0.0))
            if stream is source.picture and size is None:
                size = next(map(media.shape, media.decoded(packet)), None)
            elif stream is source.sound and silent:
                waves = [media.samples(frame) for frame in media.decoded(packet)]
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
        except media.pyav().FFmpegError:
            return begin
        packets = media.packets(source, [stream])
        stamps = [media.stamp(frame) for packet in packets for frame in media.decoded(packet)]
        if times := [source.time(stream, at) for at in stamps if at is not None]:
            return max(times)
    return 0.0


def _described(
    source: Source, ends: dict, size: tuple[int, int] | None, heard: bool, silent: bool
) -> Video:
    """The Video, of when each stream ends, the size of a picture, and whether sound is decoded."""
    if size is None and not heard:
        raise Unusable("neither picture nor sound")
    said = {
        s: source.time(s, (s.start_time or 0) + s.duration) for s in ends if (s.duration or 0) > 0
    }
    # the last packet of AAC is longer than its sound, which the header tells
    seconds = max((min(end, said.get(s, math.inf)) for s, end in ends.items()), default=0.0)
    claim = max([*said.values(), (source.container.duration or 0) / 1e6])
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
    with media.opened(path) as source:
        if source.picture is None:
            raise Unusable("no picture")
        ordered, shown = media.Ordered(source), None
        for packet in media.packets(source, [source.picture]):
            for frame in media.decoded(packet):
                if (time := ordered(frame)) is None:
                    continue
                while queue and queue[0] < time:
                    second = queue.popleft()
                    if shown is not None:
                        yield second, media.rgb(shown)
                if not queue:
                    return
                shown = frame
        if shown is None:
            raise Unusable("no picture can be decoded")
        last = ordered.end(shown) + GRACE
        yield from ((second, media.rgb(shown)) for second in queue if second < last)


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
    with media.opened(path) as source:
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
    aligned = media.Aligned(source)
    for packet in media.packets(source, [source.sound]):
        for frame in media.decoded(packet):
            yield from (wave.mean(0) for wave in aligned(frame))


def _resampled(pieces: Iterator[np.ndarray], came: int, rate: int) -> Iterator[np.ndarray]:
    if came == rate:
        yield from pieces
        return
    stream = soxr.ResampleStream(came, rate, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


# --- cutting -------------------------------------------------------------------------------------


def cut(
    path: Path | str, out: Path | str, spans: Spans, progress: Callable[[float], None] | None = None
) -> None:
    """Write the `spans` of a video, [(start, end) s], one after the other, as H.264 and AAC.

    Sorted spans that do not overlap. Pictures keep their time stamps, less what was left out before
    them; so does the sound. `progress` is told, now and then, how many seconds of the video are
    done. Raises UserError, Unusable.
    """
    path, out = Path(path), Path(out)
    _check(path, out, spans)
    av = media.pyav()
    with media.opened(path) as source:
        try:
            handle, temporary = tempfile.mkstemp(".tmp", f".{out.name}.", out.parent)
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}") from error
        os.close(handle)
        try:
            with _target(temporary, KINDS[out.suffix.lower()]) as target:
                _cut(source, _tracks(path, source, target, spans), spans[-1][1], progress)
            _rename(Path(temporary), out)
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"cannot write {out}: {error.strerror or error}") from error
        finally:
            Path(temporary).unlink(missing_ok=True)


def _check(path: Path, out: Path, spans: Spans) -> None:
    if out.suffix.lower() not in KINDS:
        raise UserError(f"{out} should end in one of {', '.join(KINDS)}")
    if out.exists() and path.exists() and out.samefile(path):
        raise UserError(f"{out} is the video that is cut: give another name")
    times = [time for span in spans for time in span]
    rising = all(0 <= start < end < math.inf for start, end in spans)
    if not times or not rising or times != sorted(times):
        raise UserError(
            "a cut needs spans (start, end) in seconds, sorted, that do not overlap; "
            f"they are {str(list(spans))[:80]}"
        )


@contextmanager
def _target(name: str, kind: str) -> Iterator[Any]:
    options = {} if kind == "matroska" else {"movflags": "+faststart"}
    with media.pyav().open(f"file:{name}", "w", format=kind, options=options) as target:
        yield target


def _rename(temporary: Path, out: Path) -> None:
    os.chmod(temporary, 0o644)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, out)
    utils.sync_folder(out.parent)


def _tracks(path: Path, source: Source, target: Any, spans: Spans) -> dict:
    """What writes each stream of a source."""
    tracks: dict[Any, Any] = {}
    if source.picture is not None and (turned := _rotation(path)) is not None:
        tracks[source.picture] = _Pictures(source, target, spans, turned)
    if source.sound is not None:
        tracks[source.sound] = _Sound(source, target, spans)
    if not tracks:
        raise Unusable("neither picture nor sound")
    return tracks


def _rotation(path: Path) -> int | None:
    """Degrees counterclockwise; None where no picture can be decoded. Told before all others."""
    with media.opened(path) as source:
        for packet in media.packets(source, [source.picture]):
            for frame in media.decoded(packet):
                return frame.rotation
    return None


def _cut(
    source: Source, tracks: dict, end: float, progress: Callable[[float], None] | None
) -> None:
    """One pass over the source, its streams side by side, up to `end`."""
    told = 0.0
    for packet in media.packets(source, list(tracks)):
        for frame in media.decoded(packet):
            tracks[packet.stream].add(frame)
        done = min(track.time for track in tracks.values())
        if progress and told + 1 <= done <= end:
            progress(told := done)
        if done > end:
            break
    whole = max(track.end() for track in tracks.values())
    for track in tracks.values():
        track.close(whole)
    if progress:
        progress(end)


class _Pictures:
    """Each picture at its time, and at the beginning of each span the one shown then.

    `time`: up to where the source is read, in s.
    """

    def __init__(self, source: Source, target: Any, spans: Spans, rotation: int):
        self.target, self.spans, self.ordered = target, deque(spans), media.Ordered(source)
        self.shown, self.time, self.before, self.last = None, 0.0, 0.0, -1
        came = source.picture
        rate = min(max(came.average_rate or Fraction(0), 1), FASTEST)
        stream = self.stream = target.add_stream("libx264", rate=rate, options=X264)
        stream.width, stream.height = came.width, came.height
        even = not (came.width % 2 or came.height % 2)
        stream.pix_fmt = "yuv420p" if even else "yuv444p"  # which has no half pixels
        stream.codec_context.time_base = Fraction(1, CLOCK)
        if came.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = came.sample_aspect_ratio
        if rotation:
            stream.set_display_rotation(rotation)

    def add(self, frame: Any) -> None:
        """The next picture: the one before was shown until then."""
        before, time = self.time, self.ordered(frame)
        if time is not None:
            self._show(before, time)
            self.shown, self.time = frame, time

    def _show(self, since: float, until: float) -> None:
        """`shown` in all spans that meet since..until, and leave those that end there."""
        while self.spans:
            start, end = self.spans[0]
            if self.shown is not None and max(since, start) < min(until, end):
                self._encode(self.before + max(since, start) - start)
            if end > until:
                return
            self.spans.popleft()
            self.before += end - start

    def _encode(self, time: float) -> None:
        stream, ticks = self.stream, round(time * CLOCK)
        if ticks <= self.last:
            return
        frame = self.shown.reformat(stream.width, stream.height, stream.pix_fmt)
        frame.pts, frame.time_base = ticks, Fraction(1, CLOCK)
        frame.pict_type = 0  # else the encoder takes over the source's kinds
        self.last = ticks
        self.target.mux(stream.encode(frame))

    def end(self) -> float:
        """When the last picture ends."""
        return self.time if self.shown is None else self.ordered.end(self.shown)

    def close(self, end: float) -> None:
        """The last picture stands until `end`, or the end of its span."""
        self._show(self.time, end)
        rest = max(0.0, end - self.spans[0][0]) if self.spans else 0.0
        for packet in self.stream.encode():
            if packet.pts == self.last:
                packet.duration = max(1, round((self.before + rest) * CLOCK) - self.last)
            self.target.mux(packet)


class _Sound:
    """The samples of each span, zeros where there are none.

    `time`: up to where the source is read, in s.
    """

    def __init__(self, source: Source, target: Any, spans: Spans):
        self.target, self.aligned = target, media.Aligned(source)
        rate, layout = source.sound.rate, source.sound.layout.name
        self.layout = layout if layout in LAYOUTS else "mono"
        self.stream = target.add_stream(
            "aac", rate=rate if rate in AAC_RATES else 48_000, layout=self.layout
        )
        self.spans, self.before, self.written = deque(), 0.0, 0
        for start, end in spans:  # in samples: rounded where they end, lest they add up
            first, count = round(self.before * rate), round((self.before + end - start) * rate)
            self.spans.append((round(start * rate), count - first))
            self.before += end - start
        self.fade = max(1, round(FADE * rate))

    @property
    def time(self) -> float:
        return self.aligned.at / self.aligned.rate

    def add(self, frame: Any) -> None:
        """The next piece of sound."""
        for wave in self.aligned(frame):
            self._take(wave)

    def _take(self, wave: np.ndarray) -> None:
        """Write what of (C, n) samples, the last ones of `aligned`, lies in spans."""
        begin = self.aligned.at - wave.shape[1]
        while self.spans:
            start, count = self.spans[0]
            first, last = max(start, begin), min(start + count, self.aligned.at)
            if first < last:
                place = np.arange(first, last) - start
                gain = np.minimum(1, np.minimum(place + 1, count - place) / self.fade)
                self._encode(wave[:, first - begin : last - begin] * gain)
            if start + count > self.aligned.at:
                return
            self.spans.popleft()

    def _encode(self, wave: np.ndarray) -> None:
        if len(wave) != LAYOUTS[self.layout]:
            wave = wave.mean(0, keepdims=True).repeat(LAYOUTS[self.layout], 0)
        array = np.ascontiguousarray(wave, np.float32)
        frame = media.pyav().AudioFrame.from_ndarray(array, "fltp", self.layout)
        frame.sample_rate = self.aligned.rate
        frame.pts, frame.time_base = self.written, Fraction(1, self.aligned.rate)
        self.written += wave.shape[1]
        self.target.mux(self.stream.encode(frame))

    def end(self) -> float:
        """When the sound ends."""
        return self.time

    def close(self, end: float) -> None:
        """Silence until `end`."""
        for wave in self.aligned.silence(round(end * self.aligned.rate) - self.aligned.at):
            self._take(wave)
        self.target.mux(self.stream.encode())

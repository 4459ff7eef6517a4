"""Cuts spans of seconds out of a video into a new one, pictures and sound.

    cutting.cut("a.mp4", "clip.mp4", [(3, 8), (20, 24.5)])

Reading is in video.py; what is decoded and how times are told is in container.py.
"""

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import utils
from media import container
from media.container import Source
from utils import Unusable, UserError

KINDS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}  # that `cut` writes
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
    av = container.pyav()
    with container.opened(path) as source:
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
    with container.pyav().open(f"file:{name}", "w", format=kind, options=options) as target:
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
    with container.opened(path) as source:
        for packet in container.packets(source, [source.picture]):
            for frame in container.decoded(packet):
                return frame.rotation
    return None


def _cut(
    source: Source, tracks: dict, end: float, progress: Callable[[float], None] | None
) -> None:
    """One pass over the source, its streams side by side, up to `end`."""
    told = 0.0
    for packet in container.packets(source, list(tracks)):
        for frame in container.decoded(packet):
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
        self.target, self.spans, self.ordered = target, deque(spans), container.Ordered(source)
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
        self.target, self.aligned = target, container.Aligned(source)
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
        frame = container.pyav().AudioFrame.from_ndarray(array, "fltp", self.layout)
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

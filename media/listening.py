"""What one sound or video file is: length, hash, silence, and why it cannot be used.

A corpus is listened to file by file in corpora/preparation/audit.py.
"""

import hashlib
import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

import constants
from media import container, video
from utils import Unusable, UserError, read_bytes

STREAMED = 0xFFFFFFFF  # the size a program writes when it cannot know it yet
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi")
RATES = 2_000, 768_000  # Hz: from under a telephone's to a studio's; beyond, the header is wrong


class Sound(NamedTuple):
    """What one wav is: bytes, content hash, seconds, all-zero or not, and why it is unusable."""

    size: int
    hash: str
    duration: float
    silent: bool
    converted: tuple[str, ...] = ()
    bad: str = ""


def listen(path: Path) -> Sound:
    """Read one sound file whole and say what it is; never raises for what is in it.

    Of a video, what is decoded says so, the rest is not decoded.
    """
    if path.suffix.lower() in VIDEOS:
        return _watch(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        reason = error.strerror or str(error)
        return Sound(0, "", float("nan"), False, bad=f"unreadable wav: {reason}")
    key = hashlib.blake2b(data, digest_size=16).hexdigest()
    unusable = Sound(len(data), key, float("nan"), False)
    if not data:
        return unusable._replace(bad="empty wav")
    if is_truncated(io.BytesIO(data), len(data)):
        return unusable._replace(bad="truncated wav")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = file.samplerate, file.channels
            if not RATES[0] <= rate <= RATES[1]:  # resampled from 1 Hz, seconds become hours
                return unusable._replace(bad=f"not audio: {rate} Hz")
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError):
        return unusable._replace(bad="not audio")
    if not len(samples):
        return unusable._replace(bad="empty wav")
    if not np.isfinite(samples).all():
        return unusable._replace(bad="not audio: infinite or NaN samples")
    converted = (f"{channels} channels to 1",) if channels > 1 else ()
    converted += (f"{rate} Hz to {constants.SAMPLE_RATE}",) if rate != constants.SAMPLE_RATE else ()
    return Sound(len(data), key, len(samples) / rate, not samples.any(), converted)


def _watch(path: Path) -> Sound:
    """A video; `silent` where it has no sound."""
    try:
        with path.open("rb") as file:
            key = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            size = file.tell()
    except OSError as error:
        reason = error.strerror or str(error)
        return Sound(0, "", float("nan"), False, bad=f"unreadable video: {reason}")
    container.pyav()  # a missing package is no fault of the file
    try:
        seen = video.probe(path)
    except (Unusable, UserError) as error:
        return Sound(size, key, float("nan"), False, bad=str(error))
    return Sound(size, key, seen.seconds, seen.silent, (seen.reason,) if seen.reason else ())


def is_truncated(file: BinaryIO, length: int) -> bool:
    """A RIFF wave whose data chunk promises more than the `length` bytes there are."""
    head, at = file.read(12), 12
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return False
    while at + 8 <= length:
        file.seek(at)
        chunk = file.read(8)
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return size != STREAMED and at + 8 + size > length
        at += 8 + size + size % 2  # chunks are padded to even length
    return True

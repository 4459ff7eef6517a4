"""The files of a feature cache: appended to, checked at every start, mended, never half-read.

What is extracted, and when, is in extraction.py; this file knows bytes, shapes and keys only.
"""

import io
import json
import math
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from utils import UserError, write_atomic

FLUSH = 32 << 20, 10.0  # bytes, seconds: what is held in memory, and what a crash can lose
FILES = ("data.bin", "index.jsonl")  # in the order they are written
MARK = "complete.json"  # the sizes of both when an extraction ended; it is absent during one


class Entry(NamedTuple):
    """One line of index.jsonl. `crc32` covers the key, shape, stats, reason and the bytes."""

    key: str
    offset: int
    shape: tuple[int, ...]
    crc32: int
    stats: list[float]
    unusable: str


def checksum(entry: Entry, data: bytes) -> int:
    """CRC-32: it finds every flipped bit and every run of up to 32; nobody is kept out by it."""
    head = json.dumps([entry.key, list(entry.shape), entry.stats, entry.unusable])
    return zlib.crc32(data, zlib.crc32(head.encode()))


def _parse(line: bytes) -> Entry | None:
    """An index line as written, or None for one that was cut or damaged."""
    try:
        entry = Entry(**json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError, RecursionError):
        return None
    return entry._replace(shape=tuple(entry.shape)) if entry and _is_wellformed(entry) else None


def _is_wellformed(entry: Entry) -> bool:
    texts, lists = (entry.key, entry.unusable), (entry.shape, entry.stats)
    return (
        all(type(text) is str for text in texts)
        and all(type(values) is list for values in lists)
        and all(type(n) is int and n >= 0 for n in (entry.offset, entry.crc32, *entry.shape))
        and all(type(x) is float for x in entry.stats)
    )


class Cache:
    """data.bin (arrays, end to end), index.jsonl (a line an array), parameters.json, and MARK.

    `entries`: what the index names and data.bin is long enough for; `damage`: files that are not as
    they were written. A torn end without a mark is none: that extraction goes on.
    """

    def __init__(self, folder: Path, about: dict):
        self.folder, self.item = folder, np.dtype(about["dtype"]).itemsize
        self.about = (json.dumps(about, ensure_ascii=False, indent=2) + "\n").encode()
        self.entries: dict[str, Entry] = {}
        self.lines: dict[str, bytes] = {}  # of the index, each as it stands there
        self.waiting: list[tuple[Entry, bytes]] = []
        self.held, self.since = 0, time.monotonic()  # bytes waiting, and for how long
        self.sizes = [_size(folder / name) for name in FILES]
        self.ends = [0, 0]  # bytes of both files that are sound; of the second, known at `open`
        self.damage = self._damage(*self._read())
        self.complete = not self.damage and (folder / MARK).exists()

    def _read(self) -> tuple[bool, bool]:
        """Take the index but for lines that cannot be read or whose bytes are not all there.

        Whether there are such lines, and before a sound one, too: no interruption leaves that.
        """
        bad = between = False
        for line in _read_bytes(self.folder / FILES[1]).splitlines(keepends=True):
            entry = _parse(line)
            if entry is None or self._end(entry) > self.sizes[0]:
                bad = True
                continue
            between |= bad
            self.entries[entry.key], self.lines[entry.key] = entry, line  # the last one counts
            self.ends[0] = max(self.ends[0], self._end(entry))
        return bad, between

    def _damage(self, bad: bool, between: bool) -> list[str]:
        """Names of the files that are not as they were written, from what `_read` has met."""
        if not (self.folder / MARK).exists():
            return [FILES[1]] if between else []
        try:
            mark = json.loads(_read_bytes(self.folder / MARK))
            wrong = [
                name for name, size in zip(FILES, self.sizes, strict=True) if mark[name] != size
            ]
        except (ValueError, TypeError, LookupError, RecursionError):
            wrong = []
        if bad and not wrong:  # of the right length, and yet
            wrong = [FILES[1]]
        if not bad and _read_bytes(self.folder / MARK) != self._mark(self.sizes):
            wrong.append(MARK)  # or what it disagrees with
        if _read_bytes(self.folder / "parameters.json") != self.about:
            wrong.append("parameters.json")
        return wrong

    def _end(self, entry: Entry) -> int:
        return entry.offset + (0 if entry.unusable else self.item * math.prod(entry.shape))

    def lacks(self, keys: list[str]) -> set[str]:
        """The keys that have no entry."""
        return {key for key in keys if key and key not in self.entries}

    def verify(self) -> set[str]:
        """The keys whose bytes are not those that were written; their entries are forgotten.

        Costs 0.3 s a gigabyte, so it is done whenever a cache is opened. Read piece by piece, not
        mapped: however large the file, little of it is in memory at a time.
        """
        entries = sorted(self.entries.values(), key=lambda entry: entry.offset)
        path = self.folder / FILES[0]
        with _can(f"read {path}"), open(path, "rb", 0) if self.sizes[0] else io.BytesIO() as file:
            bad = {e.key for e in entries if checksum(e, self._bytes(file, e)) != e.crc32}
        for key in bad:
            del self.entries[key], self.lines[key]
        return bad

    def _bytes(self, file: BinaryIO, entry: Entry) -> bytes:
        file.seek(entry.offset)
        return file.read(self._end(entry) - entry.offset)

    def open(self) -> None:
        """Make ready to add: both files hold what is sound and no more, and MARK is gone."""
        lines = b"".join(self.lines.values())
        self.ends[1] = len(lines)
        with _can(f"write {self.folder}"):
            (self.folder / MARK).unlink(missing_ok=True)
            with open(self.folder / FILES[0], "ab") as file:
                file.truncate(self.ends[0])
        write_atomic(self.folder / FILES[1], lines)
        write_atomic(self.folder / "parameters.json", self.about)

    def add(self, entry: Entry, data: bytes) -> None:
        """Keep one array; it is on disk after the next `flush`."""
        self.waiting.append((entry, data))
        self.held += len(data)
        if self.held >= FLUSH[0] or time.monotonic() - self.since >= FLUSH[1]:
            self.flush()

    def flush(self) -> None:
        """Data first, synced, and only then the lines that name it: a kill leaves no false line."""
        lines = []
        for entry, data in self.waiting:
            entry = entry._replace(offset=0 if entry.unusable else self.ends[0])
            self.entries[entry.key] = entry
            self.ends[0] += len(data)
            lines.append(json.dumps(entry._asdict()) + "\n")
        parts = b"".join(data for _, data in self.waiting), "".join(lines).encode()
        with _can(f"write {self.folder}"):
            for name, part in zip(FILES, parts, strict=True):
                with open(self.folder / name, "ab") as file:
                    file.write(part)
                    file.flush()
                    os.fsync(file.fileno())
        self.ends[1] += len(parts[1])
        self.waiting.clear()
        self.held, self.since = 0, time.monotonic()

    def close(self) -> None:
        """Write what is left, and last the mark that says it is all there."""
        self.flush()
        write_atomic(self.folder / MARK, self._mark(self.ends))

    @staticmethod
    def _mark(sizes: list[int]) -> bytes:
        return json.dumps(dict(zip(FILES, sizes, strict=True))).encode()


def _read_bytes(path: Path) -> bytes:
    with _can(f"read {path}"):
        return path.read_bytes() if path.exists() else b""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def mapped(path: Path) -> np.ndarray:
    """The bytes of a file, read as they are touched."""
    if not _size(path):
        return np.empty(0, np.uint8)  # an empty file cannot be mapped
    with _can(f"read {path}"):
        return np.asarray(np.memmap(path, np.uint8, "r"))


@contextmanager
def _can(do: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {do}: {error.strerror}") from error

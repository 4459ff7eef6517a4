"""Features: extracted once per content, kept on disk, gathered by row number.

A feature is a file in features/ that holds

    VERSION, DTYPE        raised when the numbers change; how they are stored, e.g. "float16"
    SOURCE                the column it is made from: "wav", "text" or "segment"
    parameters(settings)  dict, JSON: all that changes the numbers
    shape(parameters)     tuple: of one ready block
    Extractor(parameters) called with (source, rows) -> one array per row; raises `Unusable` for a
                          source that cannot be used. Called from several threads; or once for
                          many, `many(sources)` -> an array or Unusable per source, if it has that
    gather(arrays, stats, parameters, rng, out)   stored arrays -> float32 blocks, in `out`

and may hold `source(parameters)` (when SOURCE depends on them) and `stats(array, parameters)` ->
list of floats kept beside each array. Windows and batches are in dataset.py.
"""

import importlib
import json
import logging
import math
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import filelock
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import utils
from utils import UserError

LAYOUT = 1  # of the files of a cache; part of its folder's name
FLUSH = 32 << 20, 10.0  # bytes, seconds: what is held in memory, and what a crash can lose
FILES = ("data.bin", "index.jsonl")  # in the order they are written
GROUP = 256  # sources handed to `many` at once

log = logging.getLogger(__name__)


class Unusable(Exception):
    """Raised by an Extractor for one source; its text is the reason, a short fixed phrase."""


def extract(
    name: str, utterances: pd.DataFrame, root: Path, prepared: Path, settings: Any,
    workers: int | None = None, progress: bool = True,
) -> "Store":  # fmt: skip
    """The feature `name` of all `utterances`, extracting what its cache does not hold yet.

    `root` is the corpus folder that `utterances.wav` is relative to, `prepared` the folder that
    holds features/. Equal content is extracted once. Interrupted, it goes on at the next call;
    two processes at once wait for each other.
    """
    leaf = utils.leaf("features", name)
    parameters = leaf.parameters(settings)
    kind = leaf.source(parameters) if hasattr(leaf, "source") else leaf.SOURCE
    about = {"feature": name, "layout": LAYOUT, "version": leaf.VERSION, "dtype": leaf.DTYPE,
             "parameters": parameters}  # fmt: skip
    folder = Path(prepared) / "features" / f"{name}-{utils.digest(about)}"
    keys = _keys(kind, utterances)
    cache = _Cache(folder, leaf.DTYPE)
    cache.verify(keys)
    if not cache.complete or cache.lacks(keys):
        utils.make_folder(folder)
        with _lock(folder / "lock"):
            cache = _Cache(folder, leaf.DTYPE)  # again: the one waited for may have done it all
            damaged = cache.verify(keys)
            jobs = _jobs(kind, utterances, keys, Path(root), cache.lacks(keys))
            extractor = leaf.Extractor(parameters) if jobs else None  # may raise: before `open`
            if damaged:
                names = [
                    s for s, k in zip(utterances["segment"], keys, strict=True) if k in damaged
                ]
                log.warning("%s: damaged, extracted again: %s", folder, ", ".join(names))
            cache.open(about)
            for entry, data in _extracted(leaf, parameters, extractor, jobs, workers, progress):
                cache.add(entry, data)
            cache.close()
    return Store(leaf, parameters, folder, cache.entries, keys, utterances)


class Store:
    """One feature of some utterances, by row number. `folder`: its cache.

    `available` (N,) bool: the rows that have it; `troubles`: (segment, reason) of those whose
    source could not be used; `shape`: of one block.
    """

    def __init__(
        self, leaf: ModuleType, parameters: dict, folder: Path, entries: dict[str, "_Entry"],
        keys: list[str], utterances: pd.DataFrame,
    ):  # fmt: skip
        self.leaf, self.parameters, self.folder = leaf, parameters, folder
        self.shape = tuple(leaf.shape(parameters))
        self.entries = [entries.get(key) for key in keys]
        self.available = np.array([e is not None and not e.unusable for e in self.entries], bool)
        pairs = zip(utterances["segment"], self.entries, strict=True)
        self.troubles = [(segment, e.unusable) for segment, e in pairs if e and e.unusable]
        self._data, self._dtype = _map(folder / "data.bin"), np.dtype(leaf.DTYPE)

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> dict:
        return vars(self) | {"leaf": self.leaf.__name__, "_data": None}  # neither can be pickled

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, leaf=importlib.import_module(state["leaf"]))
        self._data = _map(self.folder / "data.bin")

    def array(self, row: int) -> np.ndarray | None:
        """What is stored for a row, as the leaf made it (read only); None if it has nothing."""
        if row < 0 or not self.available[row]:
            return None
        entry = self.entries[row]
        end = entry.offset + self._dtype.itemsize * math.prod(entry.shape)
        return self._data[entry.offset : end].view(self._dtype).reshape(entry.shape)

    def gather(
        self, rows: np.ndarray, rng: np.random.Generator | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Row numbers of any shape (-1: padding) -> float32 blocks, rows.shape + self.shape.

        Zeros where a row has nothing. `rng` draws where long clips are cut; without it they are
        cut in the middle. `out`: a contiguous array to write into.
        """
        rows = np.asarray(rows)
        out = np.empty(rows.shape + self.shape, np.float32) if out is None else out
        arrays = [self.array(row) for row in rows.ravel()]
        stats = [None if array is None else self.entries[row].stats
                 for row, array in zip(rows.ravel(), arrays, strict=True)]  # fmt: skip
        self.leaf.gather(arrays, stats, self.parameters, rng, out.reshape(-1, *self.shape))
        return out


# --- what a row is made from ---------------------------------------------------------------------


def _keys(kind: str, utterances: pd.DataFrame) -> list[str]:
    """One key a row, equal for equal content; "" for a row that has nothing to extract."""
    present = (utterances["quarantine"] == "") & (utterances[kind] != "")
    if kind == "wav":
        present &= ~utterances["silent"].astype(bool)
        keys = utterances["wav_size"].astype(str) + "-" + utterances["wav_hash"]
    else:
        keys = [utils.digest([kind, value], 32) for value in utterances[kind]]
    return [key if there else "" for key, there in zip(keys, present, strict=True)]


class _Job(NamedTuple):
    key: str
    source: Path | str
    row: tuple  # of the first utterance that has this content


def _jobs(
    kind: str, utterances: pd.DataFrame, keys: list[str], root: Path, lacking: set[str]
) -> list[_Job]:
    """What has to be extracted: each key once, in the order of the table."""
    jobs: dict[str, _Job] = {}
    for key, row in zip(keys, utterances.itertuples(), strict=True):
        if key in lacking and key not in jobs:
            source = getattr(row, kind)
            jobs[key] = _Job(key, root / source if kind == "wav" else source, row)
    return list(jobs.values())


# --- extraction ----------------------------------------------------------------------------------


def _extracted(
    leaf: ModuleType, parameters: dict, extractor: Any, jobs: list[_Job], workers: int | None,
    progress: bool,
) -> Iterator[tuple["_Entry", bytes]]:  # fmt: skip
    """Entries and their bytes in the order of `jobs`, whatever the number of workers."""
    together = hasattr(extractor, "many")
    size, workers = (GROUP, 1) if together else (1, workers or _cores())

    def work(group: list[_Job]) -> list[tuple[_Entry, bytes]]:
        many = extractor.many if together else lambda _: [_one(extractor, job) for job in group]
        answers = zip(group, many([job.source for job in group]), strict=True)
        return [_entry(job.key, answer, leaf, parameters) for job, answer in answers]

    # threads: NumPy, SciPy and soundfile let go of the interpreter while they compute; each
    # worker's BLAS keeps to one core, else they fight over them
    limit = nullcontext() if together else threadpool_limits(1)
    groups = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    name = leaf.__name__.rpartition(".")[2]
    bar = tqdm(total=len(jobs), desc=f"extracting {name}", disable=not (progress and jobs))
    with limit, bar, ThreadPoolExecutor(workers) as pool:
        for results in _in_order(pool, work, groups, 2 * workers):
            yield from results
            bar.update(len(results))


def _one(extractor: Any, job: _Job) -> np.ndarray | Unusable:
    try:
        [array] = extractor(job.source, [job.row])
        return array
    except Unusable as reason:
        return reason


def _in_order(pool: ThreadPoolExecutor, work: Callable, items: list, ahead: int) -> Iterator:
    """Like `pool.map`, but at most `ahead` items are begun before their results are taken."""
    begun: deque = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- the files -----------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """One line of index.jsonl. `crc32` covers the key, shape, stats, reason and the bytes."""

    key: str
    offset: int
    shape: tuple[int, ...]
    crc32: int
    stats: list[float]
    unusable: str


def _checksum(entry: _Entry, data: bytes | memoryview | np.ndarray) -> int:
    head = json.dumps([entry.key, list(entry.shape), entry.stats, entry.unusable])
    return zlib.crc32(data, zlib.crc32(head.encode()))


def _entry(
    key: str, answer: np.ndarray | Unusable, leaf: ModuleType, parameters: dict
) -> tuple[_Entry, bytes]:
    if isinstance(answer, np.ndarray):
        with np.errstate(over="ignore"):  # what is too large for DTYPE is infinite: see below
            answer = np.ascontiguousarray(answer, leaf.DTYPE)
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            answer = Unusable("not finite")
    if isinstance(answer, Unusable):
        entry, data = _Entry(key, 0, (), 0, [], str(answer)), b""
    else:
        stats = leaf.stats(answer, parameters) if hasattr(leaf, "stats") else []
        entry, data = _Entry(key, 0, answer.shape, 0, stats, ""), answer.tobytes()
    return entry._replace(crc32=_checksum(entry, data)), data


def _parse(line: bytes) -> _Entry | None:
    """An index line as written, or None for one that was cut or damaged."""
    try:
        if not line.endswith(b"\n"):
            return None
        entry = _Entry(**json.loads(line))
        return entry._replace(offset=int(entry.offset), shape=tuple(map(int, entry.shape)))
    except (ValueError, TypeError):
        return None


class _Cache:
    """data.bin (arrays, end to end), index.jsonl (a line an array), parameters.json, and, written
    last, complete.json: the sizes of the first two. Others mean an extraction under way or dead."""

    def __init__(self, folder: Path, dtype: str):
        self.folder, self.item = folder, np.dtype(dtype).itemsize
        self.entries: dict[str, _Entry] = {}
        self.ends = [0, 0]  # bytes of data.bin and index.jsonl that are sound
        self.waiting: list[tuple[_Entry, bytes]] = []
        self.held, self.since = 0, time.monotonic()  # bytes waiting, and for how long
        whole = self._read() == self.ends
        self.complete = whole and _read_bytes(folder / "complete.json") == self._mark()

    def _mark(self) -> bytes:
        return json.dumps(dict(zip(FILES, self.ends, strict=True))).encode()  # bytes that are sound

    def _read(self) -> list[int]:
        """Take the index up to the first line that is torn or whose bytes are not all there;
        the sizes of both files."""
        size = len(_map(self.folder / "data.bin"))
        index = _read_bytes(self.folder / "index.jsonl")
        for line in index.splitlines(keepends=True):
            entry = _parse(line)
            if entry is None or self._end(entry) > size:
                break
            self.entries[entry.key] = entry  # a later line replaces a damaged earlier one
            self.ends = [max(self.ends[0], self._end(entry)), self.ends[1] + len(line)]
        return [size, len(index)]

    def _end(self, entry: _Entry) -> int:
        return entry.offset + (0 if entry.unusable else self.item * math.prod(entry.shape))

    def lacks(self, keys: list[str]) -> set[str]:
        """The keys that have no entry."""
        return {key for key in keys if key and key not in self.entries}

    def verify(self, keys: list[str]) -> set[str]:
        """The keys whose bytes are not those that were written; their entries are forgotten.

        Costs 0.3 s a gigabyte, so it is done whenever a cache is opened.
        """
        data = _map(self.folder / "data.bin")
        entries = [self.entries[key] for key in self.entries.keys() & set(keys)]
        bad = {e.key for e in entries if _checksum(e, data[e.offset : self._end(e)]) != e.crc32}
        self.entries = {key: e for key, e in self.entries.items() if key not in bad}
        return bad

    def open(self, parameters: dict) -> None:
        """Make ready to add: cut both files back to what is sound, and say what they hold."""
        with _written(self.folder):
            for name, end in zip(FILES, self.ends, strict=True):
                with open(self.folder / name, "ab") as file:
                    file.truncate(end)
        utils.write_json(self.folder / "parameters.json", parameters)

    def add(self, entry: _Entry, data: bytes) -> None:
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
        with _written(self.folder):
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
        utils.write_atomic(self.folder / "complete.json", self._mark())


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _map(path: Path) -> np.ndarray:
    """The bytes of a file, read as they are touched."""
    if not path.exists() or not path.stat().st_size:
        return np.empty(0, np.uint8)  # an empty file cannot be mapped
    return np.asarray(np.memmap(path, np.uint8, "r"))


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time; the system frees it when that process dies."""
    lock = filelock.FileLock(path)
    with _written(path.parent):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.warning("another process extracts into %s; waiting for it", path.parent)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()

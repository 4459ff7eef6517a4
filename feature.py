"""Features: extracted once per content, kept on disk, gathered by row number.

A feature is a file in features/ that holds

    VERSION, DTYPE        raised when the numbers change; how they are stored, e.g. "float16"
    SOURCE                the column it is made from: "wav", "text" or "segment"
    parameters(settings)  dict, JSON: all that changes the numbers
    shape(parameters)     tuple: of one ready block
    Extractor(parameters) called with (source, rows) -> one array per row; raises `Unusable` for a
                          source that cannot be used. Called from several threads; or once for
                          many, `many(sources)` -> an array or Unusable per source, if it has that
    gather(arrays, stats, parameters, cut, out)   stored arrays -> float32 blocks, in `out`: each
                          a function of its own array and of its own number in `cut`, nothing else

and may hold

    source(parameters)    when SOURCE depends on them
    stats(array, parameters)        list of floats, kept beside each array
    settle(arrays, utterances, settings)   list: what `gather` is given as `stats` of each row,
                          where that depends on other rows. Called once, when a Store is built,
                          with the stored array of each row (None: it has none). Nothing of it is
                          on disk: whatever `settings` says there, the cache is the same
    is_cut(shape, parameters)       whether an array of that shape is longer than a block, so that
                          `cut` decides which part is seen
    BY                    "second": rows are seconds of a video. Extractor is called once a file,
                          with all rows of it that lack the feature, and returns an array for each
    extent(shape, parameters)   of a block made from such an array, how much of the last axis is not
                          padding, which is the same all along
    READY                 dtype of the blocks, where integers are not to stay integers

`cut` is None (the middle) or (N,) numbers in [0, 1), the place in the spare length; a leaf without
`is_cut` is always given None.
The files of a cache are the affair of cache.py, windows and batches of dataset.py.
"""

import importlib
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import utils
from cache import Cache, Entry, checksum, mapped
from utils import Unusable

LAYOUT = 1  # of the files of a cache; part of its folder's name
GROUP = 256  # sources handed to `many` at once
NAMED = 10  # things named in one line

log = logging.getLogger(__name__)


def extract(
    name: str,
    utterances: pd.DataFrame,
    root: Path,
    prepared: Path,
    settings: Any,
    workers: int | None = None,
    progress: bool = True,
) -> "Store":
    """The feature `name` of all `utterances`, extracting what its cache does not hold yet.

    `root` is the corpus folder that `utterances.wav` is relative to, `prepared` the folder that
    holds features/. Equal content is extracted once. Interrupted, it goes on at the next call;
    two processes at once wait for each other.
    """
    leaf = utils.leaf("features", name)
    parameters = leaf.parameters(settings)
    kind = _kind(leaf, parameters)
    about = {
        "feature": name,
        "layout": LAYOUT,
        "version": leaf.VERSION,
        "dtype": leaf.DTYPE,
        "parameters": parameters,
    }
    folder = Path(prepared) / "features" / f"{name}-{utils.digest(about)}"
    keys = _keys(kind, utterances, _by_second(leaf))
    cache = Cache(folder, about)
    if cache.verify() or cache.lacks(keys) or not cache.complete:
        with utils.lock(utils.make_folder(folder) / "lock", f"extracting into {folder}"):
            cache = Cache(folder, about)  # again: the one waited for may have done it all
            spoilt = cache.verify()
            jobs = _jobs(kind, utterances, keys, Path(root), cache.lacks(keys))
            extractor = leaf.Extractor(parameters) if jobs else None  # may raise: before `open`
            _say_damage(cache, spoilt, utterances["segment"], keys, len(jobs))
            if jobs or spoilt or not cache.complete:
                cache.open()
                for entry, data in _extracted(leaf, parameters, extractor, jobs, workers, progress):
                    cache.add(entry, data)
                cache.close()
    return Store(leaf, parameters, folder, cache.entries, keys, utterances, settings)


def _say_damage(
    cache: Cache, spoilt: set[str], segments: pd.Series, keys: list[str], jobs: int
) -> None:
    """Name damaged files, and the segments whose bytes are not those that were written."""
    names = cache.damage + [s for s, key in zip(segments, keys, strict=True) if key in spoilt]
    if others := len(spoilt - set(keys)):
        names.append(f"{others} of other utterances")
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        named = ", ".join(names[:NAMED]) + more
        log.warning("%s: damaged: %s; extracting %d again", cache.folder, named, jobs)


class Live:
    """The feature `name`, of a few utterances at a time, in memory: nothing is written.

    `shape`: of one block; `kind`: the column it is made from. Called with utterances whose `wav`
    says where a file is, it gives their Store. What extracts is made at the first call.
    """

    def __init__(self, name: str, settings: Any):
        self.leaf, self.settings = utils.leaf("features", name), settings
        self.parameters = self.leaf.parameters(settings)
        self.kind = _kind(self.leaf, self.parameters)
        self.shape = tuple(self.leaf.shape(self.parameters))
        self.extractor: Any = None

    def __call__(self, utterances: pd.DataFrame) -> "Store":
        keys = _keys(self.kind, utterances, _by_second(self.leaf))
        jobs = _jobs(self.kind, utterances, keys, Path(), set(keys) - {""})
        if jobs and self.extractor is None:
            self.extractor = self.leaf.Extractor(self.parameters)
        entries, parts, at = {}, [], 0
        for entry, data in _extracted(
            self.leaf, self.parameters, self.extractor, jobs, None, False
        ):
            entries[entry.key] = entry._replace(offset=at)
            parts.append(data)
            at += len(data)
        held = np.frombuffer(b"".join(parts), np.uint8)
        about = (self.leaf, self.parameters, Path(), entries, keys, utterances, self.settings)
        return Store(*about, held)


class Store:
    """One feature of some utterances, by row number. `folder`: its cache.

    `available` (N,) bool: the rows that have it; `is_cut` (N,) bool: those longer than a block;
    `troubles`: (segment, reason) of those whose source could not be used; `shape`: of one block;
    `kind`: the column it is made from. Of a ragged feature, `lengths` (N,): steps of each row, 0
    where it has none.
    """

    def __init__(
        self,
        leaf: ModuleType,
        parameters: dict,
        folder: Path,
        entries: dict[str, Entry],
        keys: list[str],
        utterances: pd.DataFrame,
        settings: Any = None,
        data: np.ndarray | None = None,
    ):
        self.leaf, self.parameters, self.folder = leaf, parameters, folder
        self.kind = _kind(leaf, parameters)
        self.shape = tuple(leaf.shape(parameters))
        self.entries = [entries.get(key) for key in keys]
        self.available = np.array([e is not None and not e.unusable for e in self.entries], bool)
        pairs = zip(utterances["segment"], self.entries, strict=True)
        self.troubles = [(segment, e.unusable) for segment, e in pairs if e and e.unusable]
        is_cut = getattr(leaf, "is_cut", lambda shape, parameters: False)
        there = zip(self.entries, self.available, strict=True)
        self.is_cut = np.array([yes and is_cut(e.shape, parameters) for e, yes in there], bool)
        self.lengths = np.zeros(len(self), np.int64)
        if self.ragged:
            most = leaf.longest(parameters) if hasattr(leaf, "longest") else None
            steps = [e.shape[0] if e and e.shape else 0 for e in self.entries]
            self.lengths = np.minimum(steps, most or max(steps, default=0)) * self.available
        self._data = mapped(folder / "data.bin") if data is None else data
        self._dtype = np.dtype(leaf.DTYPE)
        self._stats = [entry and entry.stats for entry in self.entries]
        self.settle(utterances, settings)

    def __len__(self) -> int:
        return len(self.entries)

    def settle(self, utterances: pd.DataFrame, settings: Any) -> None:
        """Let the leaf settle what depends on other rows; `utterances`: all rows."""
        if hasattr(self.leaf, "settle"):
            arrays = [self.array(row) for row in range(len(self))]
            self._stats = self.leaf.settle(arrays, utterances, settings)

    @property
    def ragged(self) -> bool:
        """Whether rows differ in length."""
        return len(self.shape) > 0 and self.shape[0] is None

    def mask(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers of any shape (-1: padding) -> whether the row has the feature; of a ragged
        one, rows.shape + (T,): whether it has that step, as `gather` lays them."""
        there = (rows >= 0) & self.available[rows]
        if not self.ragged:
            return there
        lengths = np.where(there, self.lengths[rows], 0)
        return np.arange(max(1, lengths.max(initial=0))) < lengths[..., None]

    def __getstate__(self) -> dict:
        return vars(self) | {"leaf": self.leaf.__name__, "_data": None}  # neither can be pickled

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, leaf=importlib.import_module(state["leaf"]))
        self._data = mapped(self.folder / "data.bin")

    def array(self, row: int) -> np.ndarray | None:
        """What is stored for a row, as the leaf made it (read only); None if it has nothing."""
        if row < 0 or not self.available[row]:
            return None
        entry = self.entries[row]
        end = entry.offset + self._dtype.itemsize * math.prod(entry.shape)
        return self._data[entry.offset : end].view(self._dtype).reshape(entry.shape)

    def extents(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers of any shape -> `extent` of each, 0 where a row has nothing."""
        there = {row for row in np.ravel(rows).tolist() if row >= 0 and self.available[row]}
        of = {row: self.leaf.extent(self.entries[row].shape, self.parameters) for row in there}
        return np.array([of.get(row, 0) for row in np.ravel(rows)], int).reshape(np.shape(rows))

    def gather(
        self, rows: np.ndarray, cut: np.ndarray | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Row numbers of any shape (-1: padding) -> float32 blocks, rows.shape + self.shape; of a
        ragged feature, rows.shape + (T, ...) for the T steps of the longest, int64 of integers.

        Zeros where a row has nothing. `cut`, of the shape of `rows`, each in [0, 1): where a long
        clip is cut; None: in the middle. `out`: a contiguous array to write into.
        """
        rows = np.asarray(rows)
        if cut is not None and (np.shape(cut) != rows.shape or not ((cut >= 0) & (cut < 1)).all()):
            raise ValueError(f"cut needs numbers in [0, 1) of shape {rows.shape}")
        cut = np.ravel(cut) if cut is not None and hasattr(self.leaf, "is_cut") else None
        shape = (self.mask(rows).shape[-1], *self.shape[1:]) if self.ragged else self.shape
        if out is None:
            kind = getattr(self.leaf, "READY", "int64" if self._dtype.kind == "i" else "float32")
            out = (np.zeros if self.ragged else np.empty)(rows.shape + shape, kind)
        arrays = [self.array(row) for row in rows.ravel()]
        stats = [
            None if array is None else self._stats[row]
            for row, array in zip(rows.ravel(), arrays, strict=True)
        ]
        self.leaf.gather(arrays, stats, self.parameters, cut, out.reshape(-1, *shape))
        return out


def gathered(
    stores: dict[str, Store], rows: np.ndarray, cut: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """(B, W) row numbers, -1: padding -> `mask` and, of each feature, its blocks and its mask."""
    batch = {"mask": rows >= 0}
    for name, store in stores.items():
        batch |= {name: store.gather(rows, cut), f"{name}_mask": store.mask(rows)}
    return batch


def join(stores: list[Store]) -> Store:
    """The same feature of several corpora as one: the rows of the first, of the second, ..."""
    return stores[0] if len(stores) == 1 else _Joined(stores)


class _Joined(Store):
    """Each row stays in the cache of its own corpus."""

    def __init__(self, stores: list[Store]):
        vars(self).update(vars(stores[0]), stores=stores, _data=None)
        self.first = np.cumsum([0, *map(len, stores)])  # row number of each corpus
        for name in ("available", "is_cut", "lengths"):
            setattr(self, name, np.concatenate([getattr(store, name) for store in stores]))
        for name in ("entries", "troubles", "_stats"):
            setattr(self, name, [item for store in stores for item in getattr(store, name)])

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, leaf=importlib.import_module(state["leaf"]))

    def array(self, row: int) -> np.ndarray | None:
        if row < 0:
            return None
        which = int(np.searchsorted(self.first, row, "right")) - 1
        return self.stores[which].array(row - self.first[which])


# --- sound ---------------------------------------------------------------------------------------


# --- what a row is made from ---------------------------------------------------------------------


def _kind(leaf: ModuleType, parameters: dict) -> str:
    return leaf.source(parameters) if hasattr(leaf, "source") else leaf.SOURCE


def _by_second(leaf: ModuleType) -> bool:
    return getattr(leaf, "BY", "") == "second"


def _keys(kind: str, utterances: pd.DataFrame, by_second: bool = False) -> list[str]:
    """One key a row, equal for equal content; "" for a row that has nothing to extract."""
    present = (utterances["quarantine"] == "") & (utterances[kind] != "")
    if kind == "wav":
        # a video may be without sound: its pictures are not
        present &= by_second | ~utterances["silent"].astype(bool)
        keys = utterances["wav_size"].astype(str) + "-" + utterances["wav_hash"]
        if by_second:
            keys += utterances["start"].map("@{:g}".format)
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
    leaf: ModuleType,
    parameters: dict,
    extractor: Any,
    jobs: list[_Job],
    workers: int | None,
    progress: bool,
) -> Iterator[tuple[Entry, bytes]]:
    """Entries and their bytes in the order of `jobs`, whatever the number of workers."""
    together = hasattr(extractor, "many")
    size, workers = (GROUP, 1) if together else (1, workers or utils.cores())

    def work(group: list[_Job]) -> list[tuple[Entry, bytes]]:
        found = extractor.many([j.source for j in group]) if together else _of(extractor, group)
        answers = zip(group, found, strict=True)
        return [_entry(job.key, answer, leaf, parameters) for job, answer in answers]

    # threads: NumPy, SciPy and soundfile let go of the interpreter while they compute; each
    # worker's BLAS keeps to one core, else they fight over them
    limit = nullcontext() if together else threadpool_limits(1)
    groups = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    if _by_second(leaf):
        groups = [list(g) for _, g in itertools.groupby(jobs, lambda job: job.source)]
    name = leaf.__name__.rpartition(".")[2]
    shown = {} if progress and jobs else {"disable": True}  # else TQDM_DISABLE has its say
    bar = tqdm(total=len(jobs), desc=f"extracting {name}", **shown)
    with limit, bar, ThreadPoolExecutor(workers) as pool:
        for results in _in_order(pool, work, groups, 2 * workers):
            yield from results
            bar.update(len(results))


def _entry(
    key: str, answer: np.ndarray | Unusable, leaf: ModuleType, parameters: dict
) -> tuple[Entry, bytes]:
    if isinstance(answer, np.ndarray):
        with np.errstate(over="ignore"):  # what is too large for DTYPE is infinite: see below
            answer = np.ascontiguousarray(answer, leaf.DTYPE)
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            answer = Unusable("not finite")
    if isinstance(answer, Unusable):
        entry, data = Entry(key, 0, (), 0, [], str(answer)), b""
    else:
        stats = leaf.stats(answer, parameters) if hasattr(leaf, "stats") else []
        entry, data = Entry(key, 0, answer.shape, 0, stats, ""), answer.tobytes()
    return entry._replace(crc32=checksum(entry, data)), data


def _of(extractor: Any, group: list[_Job]) -> list[np.ndarray | Unusable]:
    """What is extracted for jobs that have one source."""
    try:
        return extractor(group[0].source, [job.row for job in group])
    except Unusable as reason:
        return [reason] * len(group)


def _in_order(pool: ThreadPoolExecutor, work: Callable, items: list, ahead: int) -> Iterator:
    """Like `pool.map`, but at most `ahead` items are begun before their results are taken."""
    begun: deque = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()

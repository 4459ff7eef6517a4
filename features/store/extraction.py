"""Features: extracted once per content, kept on disk, gathered by row number.

What a feature is stands in contract.py; the files of a cache are the affair of cache.py, windows
and batches of dataset.py.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import utils
from features.store.cache import Cache, Entry, checksum
from features.store.contract import Feature
from features.store.store import Store, row_keys
from utils import Unusable, first_few

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
    kind = leaf.source(parameters)
    about = {
        "feature": name,
        "layout": LAYOUT,
        "version": leaf.VERSION,
        "dtype": leaf.DTYPE,
        "parameters": parameters,
    }
    folder = Path(prepared) / "features" / f"{name}-{utils.digest(about)}"
    keys = row_keys(kind, utterances, leaf.BY == "second")
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
        named = first_few(names, NAMED)
        log.warning("%s: damaged: %s; extracting %d again", cache.folder, named, jobs)


class Live:
    """The feature `name`, of a few utterances at a time, in memory: nothing is written.

    `shape`: of one block; `kind`: the column it is made from. Called with utterances whose `wav`
    says where a file is, it gives their Store. What extracts is made at the first call.
    """

    def __init__(self, name: str, settings: Any):
        self.leaf, self.settings = utils.leaf("features", name), settings
        self.parameters = self.leaf.parameters(settings)
        self.kind = self.leaf.source(self.parameters)
        self.shape = tuple(self.leaf.shape(self.parameters))
        self.extractor: Any = None

    def __call__(self, utterances: pd.DataFrame) -> "Store":
        keys = row_keys(self.kind, utterances, self.leaf.BY == "second")
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


# --- sound ---------------------------------------------------------------------------------------


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
    leaf: type[Feature],
    parameters: dict,
    extractor: Any,
    jobs: list[_Job],
    workers: int | None,
    progress: bool,
) -> Iterator[tuple[Entry, bytes]]:
    """Entries and their bytes in the order of `jobs`, whatever the number of workers."""
    together = extractor is not None and extractor.TOGETHER
    size, workers = (GROUP, 1) if together else (1, workers or utils.cores())

    def work(group: list[_Job]) -> list[tuple[Entry, bytes]]:
        found = extractor.many([j.source for j in group]) if together else _of(extractor, group)
        answers = zip(group, found, strict=True)
        return [_entry(job.key, answer, leaf, parameters) for job, answer in answers]

    # threads: NumPy, SciPy and soundfile let go of the interpreter while they compute; each
    # worker's BLAS keeps to one core, else they fight over them
    limit = nullcontext() if together else threadpool_limits(1)
    groups = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    if leaf.BY == "second":
        groups = [list(g) for _, g in itertools.groupby(jobs, lambda job: job.source)]
    name = leaf.__module__.rpartition(".")[2]
    shown = {} if progress and jobs else {"disable": True}  # else TQDM_DISABLE has its say
    bar = tqdm(total=len(jobs), desc=f"extracting {name}", **shown)
    with limit, bar, ThreadPoolExecutor(workers) as pool:
        for results in _in_order(pool, work, groups, 2 * workers):
            yield from results
            bar.update(len(results))


def _entry(
    key: str, answer: np.ndarray | Unusable, leaf: type[Feature], parameters: dict
) -> tuple[Entry, bytes]:
    if isinstance(answer, np.ndarray):
        with np.errstate(over="ignore"):  # what is too large for DTYPE is infinite: see below
            answer = np.ascontiguousarray(answer, leaf.DTYPE)
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            answer = Unusable("not finite")
    if isinstance(answer, Unusable):
        entry, data = Entry(key, 0, (), 0, [], str(answer)), b""
    else:
        stats = leaf.stats(answer, parameters)
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

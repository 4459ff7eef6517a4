"""Finished runs read, put together, and resampled: what tables and comparisons are made from.

What is resampled is whole dialogues within sessions: each session
keeps its number of dialogues, because folds are made of sessions, and the same drawn dialogues
serve all seeds, all scores and all rows of a table. So intervals and p-values speak of other
dialogues of these speakers, not of other speakers. They are a little too sure where sessions have
few dialogues: of two equal models, p < 0.05 was found in 6 to 9 % of 120 simulated tests with 20
sessions of 10 dialogues, in 13 to 19 % of 150 with 2 sessions of 4. Tables are in `comparison.py`.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

import metric
from evaluation import alignment, bootstrap
from evaluation.predictions import column, columns, label_ids, read_predictions
from evaluation.run_configuration import RunConfiguration
from utils import UserError, rng

FILES = ("configuration.json", "predictions.csv", "result.json")  # of a finished run
# utterances of a dialogue depend on each other whichever role is judged
DIALOGUE = ("corpus", "session", "dialogue")
# where the sums of each source of a score lie side by side, in the order of `evidence.sums`
PLACES = {
    "confusion": slice(0, 49),
    "top": slice(49, 54),
    "arousal": slice(54, 60),
    "valence": slice(60, 66),
}


class Run(NamedTuple):
    """One finished run: its folder, its configuration.json and its test rows."""

    folder: Path
    configuration: RunConfiguration
    predictions: pd.DataFrame


def read(folder: Path | str) -> Run:
    """The run in a folder; a UserError if no finished run lies there."""
    folder = Path(folder)
    if absent := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(
            f"{folder} is no finished run, it needs {', '.join(FILES)}; "
            f"it has no {', '.join(absent)}"
        )
    configuration = RunConfiguration.read(folder)
    configuration.require("seed")
    predictions = read_predictions(folder / "predictions.csv")
    tested = predictions[predictions["set"] == "test"].reset_index(drop=True)
    if not len(tested):
        raise UserError(f"{folder / 'predictions.csv'} needs rows of the set test; it has none")
    return Run(folder, configuration, tested)


# --- all rows of several runs, and the sums that their scores are computed from -------------


@dataclass(eq=False)
class Pool:
    """The N predictions of some runs, of U utterances, each once a seed."""

    utterances: pd.Index  # (U,) corpus, role and segment as one string
    truth: pd.DataFrame  # (U, ...) what is known of each of them; equal in all runs
    dialogues: list[tuple[str, str, str]]  # (D,) sorted
    dialogue: np.ndarray  # (U,) ids 0..D-1
    utterance: np.ndarray  # (N,) ids 0..U-1
    seed: np.ndarray  # (N,)
    run: np.ndarray  # (N,)
    sums: sparse.csr_matrix  # (N, 66) as in PLACES
    known: dict[str, np.ndarray]  # source -> (N,) bool: what the scores of that source count
    right: np.ndarray  # (N,) 1 if the emotion is right, else 0; with soft ties a share
    memory: dict = field(default_factory=dict)  # of `resampled`: rows of a table meet many times


def pool_of(runs: Sequence[Run], ties: str) -> Pool:
    """UserError if two runs test the same utterance with the same seed, or differ in truth."""
    frame, run = table_of(runs)
    seed = np.array([t.configuration.seed for t in runs])[run]
    keys = pd.Index(["\0".join(map(str, key)) for key in _tuples(frame, alignment.KEY)])
    utterance, utterances = pd.factorize(keys)
    _refuse_twice(runs, utterance, seed, run, utterances)
    first = np.unique(utterance, return_index=True)[1]
    truth = _truth(frame)
    refuse_other_truth(truth.iloc[first[utterance]], truth, utterances[utterance])
    names = [tuple(map(str, key)) for key in _tuples(frame.iloc[first], DIALOGUE)]
    dialogues = sorted(set(names))
    place = {name: i for i, name in enumerate(dialogues)}
    parts = bootstrap.sums(frame, ties, np.arange(len(frame)))
    sums = np.concatenate([parts[s].reshape(len(frame), -1) for s in PLACES], axis=1)
    return Pool(
        utterances,
        truth.iloc[first].reset_index(drop=True),
        dialogues,
        np.array([place[name] for name in names]),
        utterance,
        seed,
        run,
        sparse.csr_matrix(sums),
        {s: _rows(sums, s) > 0 for s in PLACES},
        np.trace(parts["confusion"], axis1=1, axis2=2),
    )


def _rows(sums: np.ndarray, source: str) -> np.ndarray:
    """(..., 66) -> (...): how many rows the scores of this source count."""
    part = sums[..., PLACES[source]]
    return part.sum(-1) if source == "confusion" else part[..., 0]


def table_of(runs: Sequence[Run]) -> tuple[pd.DataFrame, np.ndarray]:
    """All predictions, in the order of the runs and of their files, and (N,) whose they are."""
    if not runs:
        raise UserError("a row needs at least one trial; it has none")
    frames = [run.predictions for run in runs]
    return pd.concat(frames, ignore_index=True), np.repeat(range(len(runs)), [*map(len, frames)])


def _tuples(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple]:
    return zip(*(column(frame, name).tolist() for name in names), strict=True)


def _truth(frame: pd.DataFrame) -> pd.DataFrame:
    """(N, ...): the dialogue, the modal labels as written, the votes and the scales."""
    truth = pd.DataFrame(columns(frame, alignment.TRUTH), columns=list(alignment.TRUTH))
    truth["dialogue"] = ["\0".join(map(str, key)) for key in _tuples(frame, DIALOGUE)]
    truth["emotion"] = [";".join(map(str, ids)) for ids in label_ids(frame["emotion_true"])]
    return truth


def refuse_other_truth(a: pd.DataFrame, b: pd.DataFrame, keys: pd.Index) -> None:
    """A UserError where the aligned rows of a and b are not the same ones."""
    numbers = list(alignment.TRUTH)
    differs = ~np.isclose(a[numbers], b[numbers], equal_nan=True).all(1)
    for name in ("dialogue", "emotion"):
        differs |= a[name].to_numpy() != b[name].to_numpy()
    if differs.any():
        raise UserError(f"all trials need the same truth; it differs in {_some(keys[differs])}")


def _refuse_twice(
    runs: Sequence[Run],
    utterance: np.ndarray,
    seed: np.ndarray,
    run: np.ndarray,
    utterances: pd.Index,
) -> None:
    """A UserError that names two runs which test the same utterance with the same seed."""
    rows = pd.DataFrame({"utterance": utterance, "seed": seed})
    again = rows.duplicated().to_numpy()
    if again.any():
        last = rows.iloc[again.argmax()]
        first = (rows == last).all(axis=1).to_numpy().argmax()
        one, other = (runs[run[row]].folder for row in (first, again.argmax()))
        raise UserError(
            f"the trials of a row must differ in seed or test rows; with seed {last['seed']} "
            f"{one} and {other} both test {_some(utterances[utterance[again]])}"
        )


def _some(keys: Sequence[str]) -> str:
    names = sorted({key.replace("\0", " ") for key in keys})
    return f"{len(names)} rows ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


# --- resamples of dialogues within sessions ---------------------------------------------------


@functools.lru_cache(maxsize=8)  # rows of a table share their dialogues
def draws(dialogues: tuple[tuple, ...], resamples: int, seed: int) -> np.ndarray:
    """How often each of G dialogues, (corpus, session, name), is drawn: (resamples, G) counts.

    As many as a session has are drawn from it, with replacement. Read-only.
    """
    sizes = [len([*group]) for _, group in itertools.groupby(dialogues, lambda name: name[:2])]
    generator = rng(seed, "dialogues within sessions")
    drawn = [generator.multinomial(n, np.full(n, 1 / n), size=resamples) for n in sizes]
    counts = np.concatenate(drawn, axis=1)
    counts.flags.writeable = False
    return counts


class Values(NamedTuple):
    """Scores but the legacy ones: pooled, mean over seeds; and the same of each resample."""

    value: dict[str, float]
    resampled: dict[str, np.ndarray]  # name -> (R,); NaN where no interval is defined


def resampled(pool: Pool, used: np.ndarray, resamples: int, seed: int) -> Values:
    """Scores of the predictions `used`, (N,) bool."""
    key = (used.tobytes(), resamples, seed)
    if key not in pool.memory:
        sums, dialogues = _by_dialogue(pool, used)
        value = {name: float(v.mean()) for name, v in _from_sums(sums.sum(1)).items()}
        counts = draws(dialogues, resamples, seed).astype(float)
        drawn = np.tensordot(counts, _with_two(sums, dialogues), (1, 1))
        many = {name: v.mean(1) for name, v in _from_sums(drawn).items()}
        pool.memory[key] = Values(value, many)
    return pool.memory[key]


def _by_dialogue(pool: Pool, used: np.ndarray) -> tuple[np.ndarray, tuple]:
    """(S, G, 66) sums of each seed and dialogue, and the names of the G dialogues, sorted."""
    rows = np.flatnonzero(used)
    seeds, s = np.unique(pool.seed[rows], return_inverse=True)
    there, g = np.unique(pool.dialogue[pool.utterance[rows]], return_inverse=True)
    shape = (len(seeds) * len(there), len(rows))
    cells = sparse.csr_matrix((np.ones(len(rows)), (s * len(there) + g, range(len(rows)))), shape)
    sums = (cells @ pool.sums[rows]).toarray().reshape(len(seeds), len(there), -1)
    return sums, tuple(pool.dialogues[i] for i in there)


def _from_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """(..., 66) -> name -> (...)."""
    parts = {source: sums[..., place] for source, place in PLACES.items()}
    matrix = parts["confusion"].reshape(*sums.shape[:-1], metric.C, metric.C)
    return bootstrap.from_sums(parts | {"confusion": matrix})


def _with_two(sums: np.ndarray, dialogues: tuple) -> np.ndarray:
    """(S, G, 66), with zeros (all scores NaN) for sources of which no session has two dialogues."""
    sessions = pd.factorize(pd.Index(["\0".join(name[:2]) for name in dialogues]))[0]
    sums = sums.copy()
    for source, place in PLACES.items():
        if np.bincount(sessions[_rows(sums, source).sum(0) > 0], minlength=1).max() < 2:
            sums[..., place] = 0
    return sums


def legacy(pool: Pool, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """The legacy scores, mean over runs, of every resample: name -> (R,)."""
    everything = np.ones(len(pool.utterance), bool)
    sums, dialogues = _by_dialogue(pool, everything)
    total = np.zeros((resamples, len(metric.LEGACY)))
    if not _with_two(sums, dialogues)[..., PLACES["top"]].any():
        return dict.fromkeys(metric.LEGACY, np.full(resamples, np.nan))
    counts = draws(dialogues, resamples, seed)
    for run in np.unique(pool.run):
        rows = np.flatnonzero((pool.run == run) & pool.known["top"])
        hits = pool.sums[rows, PLACES["top"]].toarray()[:, 1:3]
        group, there = pd.factorize(pool.dialogue[pool.utterance[rows]])
        total += legacy_resampled(hits, group, counts[:, there])
    return dict(zip(metric.LEGACY, (total / (pool.run.max() + 1)).T, strict=True))


def legacy_resampled(hits: np.ndarray, groups: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`metric.legacy` of every resample of one file: (R, 3).

    `hits` (M, 2): precision@1 and recall@1 of each row, in file order; `groups` (M,) ids of
    dialogues 0..G-1; `counts` (R, G). A resample holds the drawn dialogues in the order of their
    ids. Batches are sums between two places, and a sum up to a place is that of whole dialogues,
    whole copies of the one it lies in, and the beginning of that one.
    """
    if not len(hits):
        return np.full((len(counts), len(metric.LEGACY)), np.nan)
    length = np.bincount(groups, minlength=counts.shape[1])
    start = np.cumsum(length) - length
    beginning = np.concatenate([[[0, 0]], np.cumsum(hits[np.argsort(groups, kind="stable")], 0)])
    whole = beginning[start + length] - beginning[start]  # (G, 2)
    end = np.cumsum(counts * length, axis=1)
    before = end - counts * length
    sum_before = np.cumsum(counts[..., None] * whole, axis=1) - counts[..., None] * whole
    size = end[:, -1:]
    step = metric.LEGACY_BATCH
    place = np.minimum(np.arange(0, size.max() + step, step), size)  # (R, batches + 1)
    apart = np.arange(len(counts))[:, None] * (size.max() + 1)  # resamples one after another
    group = np.searchsorted((end + apart).ravel(), (place + apart).ravel(), side="right")
    group = np.minimum(
        group.reshape(place.shape) - np.arange(len(counts))[:, None] * len(length), len(length) - 1
    )
    copies, rest = np.divmod(place - np.take_along_axis(before, group, 1), length[group])
    sums = np.take_along_axis(sum_before, group[..., None], 1) + copies[..., None] * whole[group]
    sums += beginning[start[group] + rest] - beginning[start[group]]
    rows = np.diff(place, axis=1)
    p, r = (metric.ratio(part, rows) for part in np.moveaxis(np.diff(sums, axis=1), 2, 0))
    parts = np.stack([p, r, metric.f1_of(p, r)], axis=2)
    batches = (rows > 0).sum(1)
    return metric.ratio(np.nansum(parts, axis=1), np.repeat(batches[:, None], 3, axis=1))

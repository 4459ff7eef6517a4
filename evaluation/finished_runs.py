"""Finished runs read, put together, and resampled: what tables and comparisons are made from.

What is resampled is whole dialogues within sessions: each session
keeps its number of dialogues, because folds are made of sessions, and the same drawn dialogues
serve all seeds, all scores and all rows of a table. So intervals and p-values speak of other
dialogues of these speakers, not of other speakers. They are a little too sure where sessions have
few dialogues: of two equal models, p < 0.05 was found in 6 to 9 % of 120 simulated tests with 20
sessions of 10 dialogues, in 13 to 19 % of 150 with 2 sessions of 4. Tables are in `comparison.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

import metric
from evaluation import alignment, bootstrap
from evaluation.bootstrap import PLACES
from evaluation.predictions import read_predictions
from evaluation.run_configuration import RunConfiguration
from utils import UserError

FILES = ("configuration.json", "predictions.csv", "result.json")  # of a finished run
# utterances of a dialogue depend on each other whichever role is judged
DIALOGUE = ("corpus", "session", "dialogue")


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
    sums: sparse.csr_matrix  # (N, 66) as in PLACES
    known: dict[str, np.ndarray]  # source -> (N,) bool: what the scores of that source count
    right: np.ndarray  # (N,) 1 if the emotion is right, else 0; with soft ties a share
    memory: dict = field(default_factory=dict)  # of `resampled`: rows of a table meet many times


def pool_of(runs: Sequence[Run], ties: str) -> Pool:
    """All predictions of some runs, and what their scores are computed from.

    UserError if two runs test the same utterance with the same seed, or differ in truth.
    """
    frame, run = table_of(runs)
    seed = np.array([t.configuration.seed for t in runs])[run]
    utterance, utterances = pd.factorize(alignment.keys(frame))
    _refuse_twice(runs, utterance, seed, run, utterances)
    first = np.unique(utterance, return_index=True)[1]
    truth = alignment.truth(frame)
    refuse_other_truth(truth.iloc[first[utterance]], truth, utterances[utterance])
    names = [tuple(key.split("\0")) for key in alignment.keys(frame.iloc[first], DIALOGUE)]
    dialogues = sorted(set(names))
    place = {name: i for i, name in enumerate(dialogues)}
    sums = bootstrap.sums(frame, ties, np.arange(len(frame)))
    confusion = sums[:, PLACES["confusion"]].reshape(-1, metric.C, metric.C)
    return Pool(
        utterances,
        truth.iloc[first].reset_index(drop=True),
        dialogues,
        np.array([place[name] for name in names]),
        utterance,
        seed,
        sparse.csr_matrix(sums),
        {s: bootstrap.rows_of(sums, s) > 0 for s in PLACES},
        np.trace(confusion, axis1=1, axis2=2),
    )


def table_of(runs: Sequence[Run]) -> tuple[pd.DataFrame, np.ndarray]:
    """All predictions, in the order of the runs and of their files, and (N,) whose they are."""
    if not runs:
        raise UserError("a row needs at least one trial; it has none")
    frames = [run.predictions for run in runs]
    return pd.concat(frames, ignore_index=True), np.repeat(range(len(runs)), [*map(len, frames)])


def refuse_other_truth(a: pd.DataFrame, b: pd.DataFrame, keys: pd.Index) -> None:
    """Raise a UserError where rows of a and b, side by side, have another truth."""
    differing = keys[~alignment.same_truth(a, b)]
    if len(differing):
        rows = alignment.some(sorted(set(differing)))
        raise UserError(f"all trials need the same truth; it differs in {rows}")


def _refuse_twice(
    runs: Sequence[Run],
    utterance: np.ndarray,
    seed: np.ndarray,
    run: np.ndarray,
    utterances: pd.Index,
) -> None:
    """Raise a UserError that names two runs which test one utterance with one seed."""
    rows = pd.DataFrame({"utterance": utterance, "seed": seed})
    again = rows.duplicated().to_numpy()
    if again.any():
        last = rows.iloc[again.argmax()]
        first = (rows == last).all(axis=1).to_numpy().argmax()
        one, other = (runs[run[row]].folder for row in (first, again.argmax()))
        both = alignment.some(sorted(set(utterances[utterance[again]])))
        raise UserError(
            f"the trials of a row must differ in seed or test rows; with seed {last['seed']} "
            f"{one} and {other} both test {both}"
        )


# --- resamples of dialogues within sessions ---------------------------------------------------


class Values(NamedTuple):
    """Scores but the legacy ones: pooled, mean over seeds; and the same of each resample."""

    value: dict[str, float]
    resampled: dict[str, np.ndarray]  # name -> (R,); NaN where no interval is defined


def resampled(pool: Pool, used: np.ndarray, resamples: int, seed: int) -> Values:
    """Scores of the predictions `used`, (N,) bool."""
    key = (used.tobytes(), resamples, seed)
    if key not in pool.memory:
        sums, session = _by_dialogue(pool, used)
        sizes = tuple(np.bincount(session).tolist())
        counts = bootstrap.draws(sizes, resamples, seed, bootstrap.WITHIN_SESSIONS)
        value = bootstrap.from_sums(sums.sum(1))
        many = bootstrap.resampled(sums, counts, session)
        pool.memory[key] = Values(
            {name: float(v.mean()) for name, v in value.items()},
            {name: v.mean(1) for name, v in many.items()},
        )
    return pool.memory[key]


def _by_dialogue(pool: Pool, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, G, 66) sums of each seed and dialogue, and the sessions of the G dialogues, (G,) ids."""
    rows = np.flatnonzero(used)
    seeds, s = np.unique(pool.seed[rows], return_inverse=True)
    there, g = np.unique(pool.dialogue[pool.utterance[rows]], return_inverse=True)
    shape = (len(seeds) * len(there), len(rows))
    cells = sparse.csr_matrix((np.ones(len(rows)), (s * len(there) + g, range(len(rows)))), shape)
    sums = (cells @ pool.sums[rows]).toarray().reshape(len(seeds), len(there), -1)
    sessions = pd.Index(["\0".join(pool.dialogues[i][:2]) for i in there])
    return sums, pd.factorize(sessions)[0]

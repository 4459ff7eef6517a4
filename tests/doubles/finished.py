"""Finished runs that were never run: drawn truth, drawn predictions, of some skill."""

from pathlib import Path

import numpy as np
import pandas as pd
import sklearn.metrics as sk

import metric
from constants import EMOTIONS
from evaluation.finished_runs import Run
from evaluation.run_configuration import RunConfiguration
from utils import rng, write_json

COUNTS = dict(zip(EMOTIONS, (5, 40, 60, 10, 20, 200, 90), strict=True))
MAJORITY = {"emotion": "neutral", "arousal": 3.0, "valence": 2.9}


def table(
    sessions=(1, 2), model=0, dialogues=3, rows=40, skill=0.3, world=0, role="speaker"
) -> pd.DataFrame:
    """Test rows: truth drawn from `world` and session, predictions from `model` and session."""
    return pd.concat(
        [_session(s, model, dialogues, rows, skill, world, role) for s in sessions],
        ignore_index=True,
    )


def _session(session, model, dialogues, rows, skill, world, role) -> pd.DataFrame:
    truth, said = rng(world, "truth", session), rng(model, "said", session)
    votes = truth.multinomial(10, truth.dirichlet(np.ones(7) / 3, rows)).astype(float)
    p = said.dirichlet(np.ones(7), rows) + skill * votes / 5
    dialogue = np.sort(np.append(range(dialogues), truth.integers(0, dialogues, rows - dialogues)))
    frame = pd.DataFrame(index=range(rows)).assign(corpus="kemdy19", role=role)
    frame["segment"] = [f"Sess{session:02d}_M{i:03d}" for i in range(rows)]
    frame["session"] = str(session)
    frame["dialogue"] = [f"Sess{session:02d}_d{d:03d}" for d in dialogue]
    frame["speaker"] = [f"Sess{session:02d}{'MF'[i % 2]}" for i in range(rows)]
    frame["kind"] = np.where(dialogue % 2, "impro", "script")
    frame["set"] = "test"
    frame["emotion"] = np.array(EMOTIONS)[p.argmax(1)]
    frame["emotion_true"] = [";".join(np.array(EMOTIONS)[v == v.max()]) for v in votes]
    frame[list(metric.PROBABILITIES)] = p / p.sum(1, keepdims=True)
    frame[list(metric.VOTES)] = votes
    for head in ("arousal", "valence"):
        frame[f"{head}_true"] = truth.uniform(1, 5, rows)
        frame[head] = frame[f"{head}_true"] * skill + said.normal(2, 1, rows)
    return frame


def run(sessions=(1, 2), seed=1, model=0, **of_table) -> Run:
    configuration = {"seed": seed, "majority": MAJORITY, "class_counts": COUNTS}
    frame = table(sessions, 1000 * model + seed, **of_table)
    name = f"m{model}_s{seed}_{'_'.join(map(str, sessions))}"
    return Run(Path("exp", name), RunConfiguration.of(configuration), frame)


def folds(model=0, seeds=(1,), **of_table) -> list[Run]:
    """Two folds of two sessions with each seed."""
    return [run(s, seed, model, **of_table) for seed in seeds for s in ((1, 2), (3, 4))]


def changed(one: Run, **configuration) -> Run:
    values = dict(one.configuration.values) | configuration
    return one._replace(configuration=RunConfiguration.of(values))


def without(one: Run, name: str) -> Run:
    """The run, as if its configuration lacked a key."""
    values = {k: v for k, v in one.configuration.values.items() if k != name}
    return one._replace(configuration=RunConfiguration.of(values))


def kept(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that --ties drop keeps, written without the code under test."""
    return frame[(frame.emotion_true != "") & ~frame.emotion_true.str.contains(";")]


def sklearn_macro_f1(frame: pd.DataFrame) -> float:
    rows = kept(frame)
    return sk.f1_score(
        rows.emotion_true,
        rows.emotion,
        labels=sorted(set(rows.emotion_true)),
        average="macro",
        zero_division=0,
    )


def pooled(row: list[Run]) -> pd.DataFrame:
    return pd.concat([one.predictions for one in row], ignore_index=True)


def written(folder: Path, one: Run, **edited) -> Path:
    """The folder of a run, written; `edited`: what somebody changed in its configuration."""
    folder.mkdir()
    write_json(folder / "configuration.json", dict(one.configuration.values) | edited)
    write_json(folder / "result.json", {})
    one.predictions.to_csv(folder / "predictions.csv", index=False)
    return folder


BY_CORPUS = {
    "a": dict(zip(EMOTIONS, (9, 80, 1, 3, 0, 20, 7), strict=True)),
    "b": dict(zip(EMOTIONS, (0, 4, 5, 6, 40, 30, 2), strict=True)),
}
TWO = {
    "majority": MAJORITY | {"by_corpus": {"a": "sad", "b": "happy"}},
    "class_counts_by_corpus": BY_CORPUS,
}


def of_corpora(seed=1, model=0, sessions=(1, 2, 3), corpora=("a", "a", "b")) -> Run:
    """A run whose sessions belong to these corpora; the third has the number of the first."""
    one = changed(run(sessions, seed, model), **TWO)
    corpus = one.predictions["session"].map(dict(zip(map(str, sessions), corpora, strict=True)))
    session = one.predictions["session"].replace("3", "1")
    return one._replace(predictions=one.predictions.assign(corpus=corpus, session=session))

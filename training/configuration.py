"""configuration.json: what a run was told, with what, on what; written, checked and read."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

import constants
import model as models
from corpora.preparation.corpus import Corpus
from dataset import Material, Windows
from loss import CBLoss
from training.settings import TrainingSettings, flat
from utils import ROOT, UserError

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "scipy", "librosa", "transformers")


def describe(
    settings: TrainingSettings,
    command: str,
    material: Material,
    windows: Windows,
    model,
    criterion,
    processes: int,
) -> dict:
    """configuration.json: every flag, and what is needed to do it again."""
    truth = windows.utterances.iloc[windows.rows]
    counts = windows.class_counts()
    by_corpus = _by_corpus(truth)
    return {
        **flat(settings),
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_revision(),
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "processes": processes,
        "parameters": models.count(model),
        "corpus": _corpus(material.corpus),
        "extra": [_corpus(e.corpus) | {"split": e.sets._asdict()} for e in material.extras],
        "split": material.sets._asdict(),
        "class_counts": dict(zip(constants.EMOTIONS, map(int, counts), strict=True)),
        "class_counts_by_corpus": by_corpus,
        "class_weights": criterion.weights.tolist() if isinstance(criterion, CBLoss) else None,
        "majority": {
            "emotion": constants.EMOTIONS[int(counts.argmax())] if counts.any() else "",
            "by_corpus": {name: max(by, key=by.get) for name, by in by_corpus.items()},
            "arousal": _mean(truth["arousal"]),
            "valence": _mean(truth["valence"]),
        },
    }


def _corpus(corpus: Corpus) -> dict:
    return {
        "name": corpus.name,
        "label": corpus.label,
        "folder": str(corpus.folder),
        "fingerprint": corpus.fingerprint,
        "synthetic": corpus.synthetic,
    }


def _by_corpus(truth: pd.DataFrame) -> dict[str, dict[str, int]]:
    """{corpus: rows of each emotion}, of those with any; a tie counts in each of its labels."""
    counts = truth["emotion"].str.get_dummies(";").reindex(columns=constants.EMOTIONS, fill_value=0)
    by = counts.groupby(truth["corpus"], sort=False).sum()
    rows = zip(by.index, by.to_numpy(), strict=True)
    return {
        str(name): dict(zip(constants.EMOTIONS, map(int, row), strict=True))
        for name, row in rows
        if row.any()
    }


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if values.notna().any() else None


def git_revision() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _are_sessions(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _is_corpus(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("folder"), str)
        and isinstance(value.get("fingerprint"), str)
        and "\0" not in value["folder"]
    )


def _is_split(value: object) -> bool:
    return isinstance(value, dict) and all(
        _are_sessions(value.get(name)) for name in ("train", "val", "test")
    )


def _are_added(value: object) -> bool:
    return isinstance(value, list) and all(
        _is_corpus(v) and _is_split(v.get("split")) for v in value
    )


def _are_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and "\0" not in v for v in value)


WRITTEN = {  # what is taken from a configuration besides flags: what it may be, in code and words
    "self": (lambda value: False, "absent"),
    "SorL": (lambda value: value in constants.ROLES, f"one of {', '.join(constants.ROLES)}"),
    "data": (lambda value: isinstance(value, str) and "\0" not in value, "a folder"),
    "tables": (lambda value: value in ("raw", "2022"), "raw or 2022"),
    "max_bad": (lambda value: _is_count(value) or isinstance(value, float), "a number"),
    "text_encoder": (lambda value: value is None or isinstance(value, str), "a name or null"),
    "ties": (lambda value: value in constants.TIE_POLICIES, "a policy for ties"),
    "target": (lambda value: value in ("votes", "hard"), "votes or hard"),
    "disjoint": (lambda value: value in (None, "text", "script"), "text, script or null"),
    "batch_size": (lambda value: _is_count(value) and value > 0, "a whole number of at least 1"),
    "seed": (lambda value: isinstance(value, int), "a whole number"),
    "test_split": (_are_sessions, "a list of sessions"),
    "leave_out": (_are_sessions, "a list of sessions"),
    "split": (_is_split, "lists of sessions: train, val, test"),
    "corpus": (_is_corpus, "an object with folder and fingerprint"),
    "extra": (_are_added, "a list of objects with folder, fingerprint and split"),
    "train_extra": (_are_words, "a list of corpora"),
    "test_extra": (_are_sessions, "a list of sessions"),
    "labels": (lambda value: value is None or isinstance(value, str), "a label rule or null"),
    "majority": (
        lambda value: (
            isinstance(value, dict)
            and value.get("emotion", "") in ("", *constants.EMOTIONS)
            and isinstance(value.get("by_corpus", {}), dict)
        ),
        "an object with an emotion",
    ),
}


def check_values(folder: Path, configuration: dict) -> None:
    """A UserError where a value is none that training writes."""
    for name, (fits, what) in WRITTEN.items():
        if name in configuration and not fits(configuration[name]):
            raise UserError(f"{folder / 'configuration.json'}: {name} should be {what}")


def check_settled(folder: Path, configuration: dict) -> None:
    """A UserError when the configuration does not say what was trained, and on what."""
    needed = ["SorL", "test_split", "ws"]
    needed += ["split", "corpus"] if (folder / "training.csv").exists() else []
    if absent := [name for name in needed if name not in configuration]:
        raise UserError(f"{folder / 'configuration.json'} needs {', '.join(absent)}; it has none")
    check_values(folder, configuration)

"""configuration.json: what a run was told, with what, on what; written, checked and read."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version

import pandas as pd
import torch

import constants
import model as models
from corpora.preparation.corpus import Corpus
from dataset import Material, Windows
from loss import CBLoss
from training.settings import TrainingSettings, flat
from utils import ROOT

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

"""Folders of finished runs, written without training."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from constants import EMOTIONS
from evaluation.result import summarise
from utils import rng


def predictions(n: int, seed: int = 1, present: int = 6) -> pd.DataFrame:
    """(n rows) of a model that is right more often than not; only `present` classes are true."""
    draw = rng(seed, "report")
    truth = draw.choice(present, n, p=np.arange(present, 0, -1) / sum(range(present + 1)))
    logits = draw.normal(0, 1, (n, 7)) + 1.6 * np.eye(7)[truth]
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    second = draw.random(n) < 0.1
    names = [
        EMOTIONS[t] + (f";{EMOTIONS[(t + 1) % present]}" if s and present > 1 else "")
        for t, s in zip(truth, second, strict=True)
    ]
    valence, arousal = (np.clip(draw.normal(3, 0.7, n), 1, 5).round(1) for _ in "va")
    rows = np.arange(n)
    table = {
        "corpus": "kemdy19",
        "role": "speaker",
        "session": 1 + rows % 4,
        "segment": [f"Sess{1 + r % 4:02d}_script{1 + r // 4 % 6:02d}_F{r:03d}" for r in rows],
        "dialogue": [f"Sess{1 + r % 4:02d}_script{1 + r // 4 % 6:02d}" for r in rows],
        "speaker": [f"Sess{1 + r % 4:02d}_F" for r in rows],
        "kind": np.where(rows // 4 % 6 < 4, "script", "impro"),
        "set": "test",
        **{f"p_{i}": chance[:, i] for i in range(7)},
        "arousal": np.clip(3 + 0.7 * (arousal - 3) + draw.normal(0, 0.4, n), 1, 5),
        "valence": np.clip(3 + 0.5 * (valence - 3) + draw.normal(0, 0.5, n), 1, 5),
        "emotion": np.array(EMOTIONS)[chance.argmax(axis=1)],
        "emotion_true": names,
        **{f"votes_{e}": 10.0 * (truth == i) for i, e in enumerate(EMOTIONS)},
        "arousal_true": arousal,
        "valence_true": valence,
    }
    return pd.DataFrame(table)


def log_lines(epochs: int) -> list[dict]:
    """A log of losses that fall, with the validation's."""
    return [
        {
            "epoch": e,
            "loss": 0.5 + 1.4 / e,
            "loss/emotion": 0.4 + 1.0 / e,
            "loss/arousal": 0.2 + 0.5 / e,
            "loss/valence": 0.3 + 0.4 / e,
            "val/loss": 0.9 + 0.8 / e + 0.004 * e,
            "val/uar": 0.3,
            "lr": 1e-3,
            "seconds": 12.5,
        }
        for e in range(1, epochs + 1)
    ]


def configuration() -> dict:
    return {
        "model": "mate",
        "SorL": "speaker",
        "backbone": "lstm",
        "optim": "adam",
        "ws": 8,
        "lam": 0.66,
        "beta": 0.99,
        "loss": "normal",
        "epochs": 50,
        "batch_size": 64,
        "lr": 1e-3,
        "data": "data/KEMDy19",
        "text_encoder": "skt/kobert-base-v1",
        "modality": "both",
        "bidirectional": False,
        "seed": 42,
        "git": "677903d-dirty",
        "gpu_id": None,
        "command": "python main.py --SorL speaker --test_split [1,2,3,4]",
        "parameters": 31204567,
        "versions": {"torch": "2.11.0", "numpy": "2.4.0"},
        "corpus": {"name": "kemdy19", "folder": "/home/나/KEMDy19", "synthetic": False},
        "split": {"train": list(range(5, 21)), "val": [], "test": [1, 2, 3, 4]},
    }


def make_run(
    folder: Path,
    table: pd.DataFrame,
    *,
    epochs: int = 50,
    synthetic: bool = False,
    change: dict | None = None,
    reason: str = "stereo",
    ties: str = "drop",
) -> Path:
    """A run folder as training/run.py leaves it before the report."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "predictions.csv", index=False)
    result = summarise(table[table["set"] == "test"], ties, None, 42, 50)
    result |= {
        "synthetic": synthetic,
        "preparation": [
            {"treatment": "quarantined", "reason": "wav is truncated", "count": 3},
            {"treatment": "masked", "reason": "transcript is missing", "count": 12},
            {"treatment": "converted", "reason": reason, "count": 1204},
        ],
        "rows": {"read": 10285, "kept": 10282},
        "warnings": ["96 of 412 test lines have the words of a training line"],
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    written = json.dumps(configuration() | (change or {}))
    (folder / "configuration.json").write_text(written, encoding="utf-8")
    if epochs:
        lines = "".join(json.dumps(line) + "\n" for line in log_lines(epochs))
        (folder / "train_loss.log").write_text(lines, encoding="utf-8")
    return folder


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def changed(folder: Path, **values) -> Path:
    """The run with other values in its result.json."""
    written = json.dumps(result_of(folder) | values)
    (folder / "result.json").write_text(written, encoding="utf-8")
    return folder

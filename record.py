"""The record of a run: its folder made, described, found again, and kept from a biased test.

What is written into it by training and testing is in `run.py`.
"""

import argparse
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import constants
import model as models
from dataset import Material, Windows
from utils import ROOT, UserError, make_folder, write_json

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "scipy", "librosa", "transformers")


def check_place(save_path: str) -> None:
    """A UserError where no run folder can be made; better now than after hours of extraction."""
    path = Path(save_path).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "cannot be written" if there.is_dir() else "is no folder"
        raise UserError(f"cannot make a folder for runs, --save_path {save_path}: {there} {what}")


def new_folder(save_path: str, settings: argparse.Namespace, configuration: dict) -> Path:
    """`<save_path>/<backbone>_<role>_<optim>_<ws>_<UTC time>`, never one that exists."""
    kind = getattr(settings, "backbone", settings.model)
    name = f"{kind}_{settings.SorL}_{settings.optim}_{settings.ws}_{now()}"
    return fresh(make_folder(save_path), name, configuration)


def fresh(parent: Path, name: str, configuration: dict) -> Path:
    """A new folder `name` in `parent`; `name-2`, `name-3`, ... when that second is taken.

    It holds configuration.json; where that cannot be written, there is no folder either.
    """
    for extra in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = parent / f"{name}{extra}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"cannot make {folder}: {error.strerror}") from error
        try:
            write_json(folder / "configuration.json", configuration)
        except UserError:
            folder.rmdir()
            raise
        return folder
    raise UserError(f"{parent} already holds a thousand folders named {name}")


def now() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


# --- what is written before training ---------------------------------------------------------


def describe(settings, command: str, material: Material, windows: Windows, model, criterion):
    """configuration.json: every flag, and what is needed to do it again."""
    truth = windows.utterances.iloc[windows.rows]
    counts = windows.class_counts()
    return {
        **{name: value for name, value in vars(settings).items()},
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": _git_revision(),
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "parameters": models.count(model),
        "corpus": {
            "name": material.corpus.name,
            "folder": str(material.corpus.folder),
            "fingerprint": material.corpus.fingerprint,
            "synthetic": material.corpus.synthetic,
        },
        "split": material.sets._asdict(),
        "class_counts": dict(zip(constants.EMOTIONS, map(int, counts), strict=True)),
        "class_weights": criterion.weights.tolist() if hasattr(criterion, "weights") else None,
        "majority": {
            "emotion": constants.EMOTIONS[int(counts.argmax())],
            "arousal": _mean(truth["arousal"]),
            "valence": _mean(truth["valence"]),
        },
    }


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if values.notna().any() else None


def _git_revision() -> str | None:
    try:
        answer = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT,
                                capture_output=True, text=True, timeout=10)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def training_rows(windows: Windows) -> pd.DataFrame:
    """What the model has heard: context rows included."""
    rows = np.unique(windows.index[windows.index >= 0])
    return windows.utterances.iloc[rows][["segment", "session", "speaker", "wav_hash"]]


# --- a finished run, found again -------------------------------------------------------------


def find(name: str, save_path: str) -> Path:
    """The run folder called `NAME`, `exp/NAME` or `./exp/NAME`; never one outside `save_path`."""
    parent = Path(save_path)
    given = Path(name)
    for folder in (given, parent / given):
        inside = (
            folder.resolve().is_relative_to(parent.resolve())
            and folder.resolve() != parent.resolve()
        )
        if inside and (folder / "configuration.json").is_file():
            return folder
    if (parent / given).resolve().is_relative_to(parent.resolve()) is False:
        raise UserError(f"{name!r} lies outside --save_path {save_path}; runs are tested in there")
    runs = sorted(p.parent.name for p in parent.glob("*/configuration.json"))
    raise UserError(f"no run {name!r} in {save_path}; there are: {', '.join(runs) or 'none'}")


def check_settled(folder: Path, configuration: dict) -> None:
    """A UserError when the configuration does not say what was trained, and on what."""
    needed = ["SorL", "test_split", "ws"]
    needed += ["split", "corpus"] if (folder / "training.csv").exists() else []
    if absent := [name for name in needed if name not in configuration]:
        raise UserError(f"{folder / 'configuration.json'} needs {', '.join(absent)}; it has none")


def refuse_trained(folder: Path, material: Material, configuration: dict) -> None:
    """A UserError when a test row is one the run was trained on, or its epoch chosen by."""
    utterances = material.utterances[material.sets.of(material.utterances["session"]) == "test"]
    heard = folder / "training.csv"
    if heard.exists():
        sessions = sorted(configuration["split"]["train"] + configuration["split"]["val"])
        known = set(pd.read_csv(heard, dtype=str)["wav_hash"].dropna())
        seen = utterances["wav_hash"].isin(known) & ~utterances["silent"]
        if Path(configuration["corpus"]["folder"]).resolve() == material.corpus.folder.resolve():
            seen |= utterances["session"].isin(sessions)
        rows = utterances[seen]
    else:  # a 2022 folder says only which sessions it held out
        held_out = configuration["test_split"]
        rows = utterances[~utterances["session"].isin(held_out)]
        sessions = f"all but {list(held_out)}"
    if len(rows):
        raise UserError(
            f"{len(rows)} test rows were used in training (e.g. {rows['segment'].iloc[0]}); "
            f"{folder.name} was trained and validated on sessions {sessions}"
        )

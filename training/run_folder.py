"""The folder of a run: made, described, found again, and kept from a biased test.

What training writes into it is in run.py, what testing writes in scores.py.
"""

import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

import model as models
from corpora.preparation import audit
from corpora.preparation.corpus import Corpus
from dataset import Material, Windows
from evaluation.run_configuration import RunConfiguration
from training.settings import TrainingSettings, flat, settings_of
from utils import UserError, leaf, make_folder, read_json, write_json

# what may differ when a run is gone on with: nothing that its numbers depend on
FREE = ("save_path", "save_name", "save_minutes", "resume", "gpu_id", "test_only", "test_path")


def check_place(save_path: str) -> None:
    """A UserError where no run folder can be made; better now than after hours of extraction."""
    path = Path(save_path).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "cannot be written" if there.is_dir() else "is no folder"
        raise UserError(f"cannot make a folder for runs, --save_path {save_path}: {there} {what}")


def begin(settings: TrainingSettings, configuration: dict) -> Path:
    """The folder of a run: a new one, or with `--save_name` the one that was begun by that name.

    A UserError where that one was begun with other flags, on another corpus, or is no run.
    """
    if settings.save_name is None:
        return new_folder(settings.save_path, settings, configuration)
    if not re.fullmatch(r"\w[\w.+-]*", settings.save_name):
        raise UserError(f"--save_name needs letters, digits and -_.+, got {settings.save_name!r}")
    folder = Path(settings.save_path, settings.save_name)
    if not (folder / "configuration.json").exists():
        make_folder(folder)
        if others := sorted(path.name for path in folder.iterdir() if path.suffix != ".tmp"):
            raise UserError(
                f"{folder} is no run, it holds {', '.join(others[:3])}; take another --save_name"
            )
        write_json(folder / "configuration.json", configuration)
    refuse_another(folder, settings, configuration)
    return folder


def refuse_another(folder: Path, settings: TrainingSettings, configuration: dict) -> None:
    """A UserError when a run was begun with other flags or on another corpus than these."""
    before = {"train_extra": [], "test_extra": [], "labels": None}  # of what was begun without
    begun = before | read_json(folder / "configuration.json")
    now = json.loads(json.dumps(configuration))
    flags = [name for name in flat(settings) if name not in FREE and name in begun]
    if other := [name for name in flags if begun[name] != now[name]]:
        name = other[0]
        raise UserError(
            f"{folder} was begun with {name} {begun[name]!r}, now it is {now[name]!r}; take "
            f"another --save_name, or go on with --resume {folder.name}"
        )
    parts = ([about["corpus"], *about.get("extra", [])] for about in (begun, now))
    for then, corpus in zip(*parts, strict=True):  # --train_extra is equal: see above
        if then["fingerprint"] != corpus["fingerprint"]:
            raise UserError(f"{corpus['folder']} has changed since {folder} was begun")
    for name in ("threads", "processes", "versions"):
        if begun.get(name) != now[name]:
            line = f"{name} {begun.get(name)} when {folder.name} was begun, now {now[name]}"
            print(f"warning: {line}: the last digits may differ", file=sys.stderr)


def is_finished(folder: Path) -> bool:
    """Whether a run was trained and scored; the page is written last."""
    return all((folder / n).exists() for n in ("report.html", "predictions.csv", "result.json"))


def resumed(settings: TrainingSettings) -> TrainingSettings:
    """The settings of the run that `--resume` names, but for what may be said with it."""
    folder = find(settings.resume, settings.save_path)
    begun = RunConfiguration.read(folder)
    begun.require("model", "SorL", "corpus")
    models.settings(begun.model, begun.values)  # of the types that the model declares
    free = {name: value for name, value in flat(settings).items() if name in FREE}
    place = {"save_path": str(folder.parent), "save_name": folder.name}
    return settings_of(begun.values, **free | place)


def new_folder(save_path: str, settings: TrainingSettings, configuration: dict) -> Path:
    """`<save_path>/<backbone>_<role>_<optim>_<ws>_<UTC time>`, never one that exists.

    A model of one backbone gives its own name; one that learns without an optimizer names none.
    """
    own = leaf("models", settings.model)
    steps = [] if own.FITTED else [settings.optim]
    parts = [own.run_name(settings), settings.SorL, *steps, str(settings.ws), now()]
    name = "_".join(parts)
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


def training_rows(windows: Windows, validation: Windows) -> pd.DataFrame:
    """What the model has heard, and what its epoch is chosen by: context rows included."""
    tables = []
    for name, part in (("train", windows), ("val", validation)):
        rows = part.utterances.iloc[np.unique(part.index[part.index >= 0])]
        tables.append(rows[["segment", "session", "speaker", "wav_hash"]].assign(set=name))
    return pd.concat(tables)


def refuse_another_encoder(folder: Path, settings: TrainingSettings, configuration: dict) -> None:
    """A UserError where a run would be tested with other word pieces than it was trained with."""
    found = leaf("models", settings.model).complete(settings)
    for name, value in found.items():
        if configuration.get(name) not in (None, json.loads(json.dumps(value))):
            kind = "speech_encoder" if name.startswith("speech") else "text_encoder"
            raise UserError(
                f"{vars(settings)[kind]} is not the encoder or not the tokenizer "
                f"that {folder.name} was trained with: {name} differs"
            )


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


def check_trained(folder: Path) -> None:
    """A UserError for a run that was stopped before it had its weights."""
    if not (folder / models.WEIGHTS).exists():
        raise UserError(
            f"{folder} has no {models.WEIGHTS}: its training did not end; go on with "
            f"--resume {folder.name}"
        )


def refuse_trained(folder: Path, material: Material, configuration: RunConfiguration) -> None:
    """A UserError when a test row is one the run was trained on, or its epoch chosen by."""
    tested = material.utterances[material.of == "test"]
    heard = folder / "training.csv"
    if heard.exists():
        known = set(pd.read_csv(heard, dtype=str)["wav_hash"].dropna())
        seen = tested["wav_hash"].isin(known) & ~audit.is_silence(tested)
        where = []
        for corpus in material.corpora:
            for sessions in _heard_sessions(corpus, configuration):
                of_it = (tested["corpus"] == corpus.label) & tested["session"].isin(sessions)
                seen |= of_it
                if of_it.any():
                    where.append(f"{sessions} of {corpus.label}")
        rows, sessions = tested[seen], " and ".join(where) or "that hold the same recordings"
    else:  # a 2022 folder says only which sessions it held out
        held_out = configuration.test_split
        rows = tested[~tested["session"].isin(held_out)]
        sessions = f"all but {list(held_out)}"
    if len(rows):
        raise UserError(
            f"{len(rows)} test rows were used in training (e.g. {rows['segment'].iloc[0]}); "
            f"{folder.name} was trained and validated on sessions {sessions}"
        )


def _heard_sessions(corpus: Corpus, configuration: RunConfiguration) -> list[list[int]]:
    """The sessions of a corpus that a run was trained or validated on."""
    return [
        sorted([*part.split.train, *part.split.val])
        for part in configuration.corpora
        if Path(part.folder).resolve() == corpus.folder.resolve()
        or part.fingerprint == corpus.fingerprint
    ]


def check_settled(folder: Path, configuration: RunConfiguration) -> None:
    """A UserError when a configuration does not say what was trained, and on what."""
    configuration.require("SorL", "test_split", "ws")
    if (folder / "training.csv").exists():
        configuration.require("split", "corpus")

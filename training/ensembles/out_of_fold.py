"""Out-of-fold predictions of an ensemble's members: each trained again on folds of its sessions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation import alignment, predictions
from reporting.formatting import sessions
from training import flags as training_flags
from training import run_folder
from training.ensembles.ensemble import Member
from training.sweep import engine
from training.sweep.grid import GridPoint
from utils import UserError, make_folder, read_json

OOF = "oof"  # folder of these runs, in that of the runs


def out_of_fold(
    members: Sequence[Member], k: int, save_path: str, jobs: int | None
) -> list[Member]:
    """The members with rows of the set "oof": each trained again on k folds of its sessions.

    Folds are whole sessions that it was trained on; the tested ones are left out of everything.
    Runs lie in `<save_path>/oof`; finished ones are not trained again. UserError where a training
    fails, or the rows are not all those that were trained on, each once.
    """
    trained = {tuple(sorted(member.configuration.split.train)) for member in members}
    if len(trained) > 1:
        raise UserError(
            f"--oof needs members that were trained on the same sessions, they were on "
            f"{' and on '.join(map(sessions, sorted(trained)))}"
        )
    grids = [folds(member, k) for member in members]
    runs = make_folder(Path(save_path, OOF))
    place = engine.Place(str(runs.resolve()), str((runs / "logs").resolve()), str(Path.cwd()))
    every = {point.name: point for grid in grids for point in grid}
    failed = engine.train_all(list(every.values()), place, jobs, None, None)
    if failed:
        name, why = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(every)} out-of-fold runs failed: {name}: {why}")
    return [
        _with(member, [runs / point.name for point in grid])
        for member, grid in zip(members, grids, strict=True)
    ]


def folds(member: Member, k: int) -> list[GridPoint]:
    """k trainings with a member's own flags, each tested on a part of its training sessions."""
    said = member.configuration.values
    if not (member.folder / "training.csv").is_file():
        what = "is an ensemble" if "members" in said else "was not trained here"
        raise UserError(
            f"--oof trains members again, and {member.name} {what}; without it, "
            f"rows of the set val or oof serve"
        )
    if said.get("disjoint"):
        raise UserError(
            f"--oof would learn from rows that --disjoint took out of the training of "
            f"{member.name}; fit on validation sessions instead"
        )
    trained = sorted(said["split"]["train"])
    if not 2 <= k <= len(trained):
        raise UserError(
            f"--oof needs 2 or more folds and a session for each, got {k}; "
            f"{member.name} was trained on {len(trained)} sessions"
        )
    out = sorted({*said["split"]["test"], *said.get("leave_out", [])})
    words = flags(said)
    found = []
    for part in np.array_split(trained, k):
        fold = ["--test_split", *map(str, part), "--leave_out", *map(str, out)]
        found.append(GridPoint((*words, *fold), training_flags.trained([*words, *fold])))
    return found


def flags(said: dict) -> list[str]:
    """A command line that says what a configuration.json says, but for test sessions and places."""
    words = training_flags.words_of(said, {*run_folder.FREE, "test_split", "leave_out"})
    return words + _device(said)


def _device(said: dict) -> list[str]:
    return [] if said.get("gpu_id") is None else [f"--gpu_id={said['gpu_id']}"]


def _with(member: Member, runs: Sequence[Path]) -> Member:
    tables = [predictions.read_predictions(run / "predictions.csv") for run in runs]
    rows = pd.concat([table[table["set"] == "test"] for table in tables], ignore_index=True)
    rows = rows[rows["corpus"] == _main(member)]  # not of --test_extra
    _check(member, rows, runs)
    kept = member.predictions[member.predictions["set"] != "oof"]
    every = pd.concat([kept, rows.assign(set="oof")], ignore_index=True)
    return member._replace(predictions=every)


def _main(member: Member) -> str:
    """What the rows of its --data are called."""
    return member.configuration.corpus.label


def _check(member: Member, rows: pd.DataFrame, runs: Sequence[Path]) -> None:
    """Out-of-fold rows are those that the member was trained on, each once, and no other."""
    tested = set(member.rows("test")["segment"])
    card = read_json(member.folder / "protocol.json")
    target = card.get("by_corpus", {}).get(_main(member), card["sets"])["train"]["targets"]
    wrong = [
        f"{n} {what}"
        for n, what in (
            (int(alignment.keys(rows).duplicated().sum()), "rows twice"),
            (int(rows["segment"].isin(tested).sum()), "test rows"),
            (max(0, target - len(rows)), f"of {target} training rows missing"),
        )
        if n
    ]
    if wrong:
        raise UserError(
            f"the out-of-fold runs of {member.name} do not fit it: {'; '.join(wrong)}; "
            f"delete {runs[0].parent} to train them again"
        )

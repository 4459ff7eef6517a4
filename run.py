"""A run from start to end: train, test, test again, and the files they write.

`train` and `test` are what `main.py` calls. The loop is in training.py, what a model says of
windows in inference.py, the run folder in record.py.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

import checkpoint
import constants
import evidence
import loss as losses
import model as models
import record
from dataset import Material, Windows, open_material
from devices import Processes, settle_arithmetic
from inference import predict
from training import Training
from utils import UserError, digest, keep_freed_memory, write_atomic, write_json


def train(settings: argparse.Namespace, command: str) -> Path:
    """Train, keep and test one model, or go on with a run that was stopped; its folder."""
    processes = Processes(settings.gpu_id)
    with processes.together():
        folder = _train(settings, command, processes)
        processes.leave()
    return folder


def _train(settings: argparse.Namespace, command: str, processes: Processes) -> Path:
    settle_arithmetic(settings.deterministic)
    record.check_place(settings.save_path)
    keep_freed_memory()
    if settings.batch_size < processes.count:
        raise UserError(
            f"--batch_size {settings.batch_size} is shared by {processes.count} processes: each "
            f"needs a window at least"
        )
    model = models.build(settings.model, vars(settings), settings.seed).to(processes.device)
    material = open_material(settings, models.inputs(settings.model, vars(settings)))
    windows = _windows(material, "train", settings, processes)
    if len(windows) < 2:
        raise UserError(f"training needs at least 2 labelled utterances, got {len(windows)}")
    criterion = losses.build(
        settings.loss, settings.lam, settings.beta, windows.class_counts(), settings.cb_counts
    ).to(processes.device)
    configuration = record.describe(
        settings, command, material, windows, model, criterion, processes.count
    )
    folder = _begin(settings, configuration, windows, processes)
    if record.is_finished(folder):
        print(f"{folder} is finished; its report: {folder / 'report.html'}")
        return folder
    _say_weights(criterion)
    validation = _windows(material, "val", settings, processes) if settings.val_split else None
    training = Training(model, criterion, windows, validation, settings, processes, folder)
    with _advice(folder, settings):
        training.fit()
        if processes.is_main:
            models.save(folder, model, configuration)
        write_scores(folder, model, material, configuration, settings, processes)
        if processes.is_main:
            checkpoint.remove(folder)
    return folder


def _windows(material: Material, name: str, settings, processes: Processes) -> Windows:
    """The windows of a set; on a GPU that has the room, with their features there."""
    windows = Windows(material, name, settings.ws)
    windows.keep_on(processes.device)
    return windows


def _begin(settings, configuration: dict, windows: Windows, processes: Processes) -> Path:
    """The run folder, which the main process makes; what all processes must have in common."""
    rows = record.training_rows(windows).to_csv(index=False)
    for what in ("split", "versions"):
        processes.agree(str(configuration[what]), what)
    processes.agree(digest(rows), "the digest of the training rows")
    text = str(record.begin(settings, configuration)) if processes.is_main else ""
    folder = Path(processes.of_main(text))
    if processes.is_main and not record.is_finished(folder):
        write_atomic(folder / "training.csv", rows)
        count = f"{configuration['parameters']:,} parameters"
        print(f"run {folder}: {len(windows)} windows, {count}")
    return folder


@contextlib.contextmanager
def _advice(folder: Path, settings: argparse.Namespace) -> Iterator[None]:
    """Say what is kept of a run that stops, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        place = f" --save_path {settings.save_path}" * (settings.save_path != constants.SAVE_PATH)
        raise KeyboardInterrupt(
            f"{stop or 'stopped'}; go on with: python main.py --resume {folder.name}{place}"
        ) from None
    except UserError as error:
        if not (kept := checkpoint.found(folder)):
            raise
        raise UserError(f"{error}; what was learnt before is kept in {kept[0]}") from error


def _say_weights(criterion: losses.EmotionLoss) -> None:
    """What a class-balanced loss makes of each class; nothing for the other loss."""
    if isinstance(criterion, losses.CBLoss):
        pairs = zip(constants.EMOTIONS, criterion.weights.tolist(), strict=True)
        print("class weights: " + ", ".join(f"{name} {weight:.4g}" for name, weight in pairs))
        if criterion.absent:
            print(f"no training row, so weight 0: {', '.join(criterion.absent)}")


def write_scores(
    folder: Path, model: torch.nn.Module, material: Material, configuration: dict,
    settings: argparse.Namespace, processes: Processes,
) -> None:  # fmt: skip
    """Predict the test rows and write predictions, scores, pictures and the page; print the table.

    result.json is the last but for the page: where that is, everything is whole.
    """
    windows = _windows(material, "test", settings, processes)
    frame = predict(model, windows, settings.batch_size, "test", processes)
    if settings.val_split:
        validation = _windows(material, "val", settings, processes)
        rows = predict(model, validation, settings.batch_size, "val", processes)
        frame = pd.concat([frame, rows], ignore_index=True)
    if not processes.is_main:
        return
    import report  # pictures: a second and a half that need not come before training

    write_atomic(folder / "predictions.csv", frame.to_csv(index=False, float_format="%.7g"))
    tested = frame[frame["set"] == "test"].reset_index(drop=True)
    result = evidence.summary(
        tested, settings.ties, configuration.get("majority", {}).get("emotion"), settings.seed
    )
    corpus = material.corpus
    kept = int((material.utterances["quarantine"] == "").sum())
    result |= {
        "ties": settings.ties,
        "synthetic": corpus.synthetic,
        "preparation": corpus.counts() + material.masked(),
        "rows": {"read": len(material.utterances), "kept": kept},
        "warnings": material.warnings,
    }
    write_json(folder / "result.json", result)
    page = report.write(folder)
    print(report.console(result))
    print(f"report: {page}")


# --- testing a finished run ------------------------------------------------------------------


def test(folder: Path, settings: argparse.Namespace, given: dict, command: str) -> Path:
    """Score a finished run again; writes `<run>/test_<UTC time>/` and nothing else."""
    processes = Processes(settings.gpu_id)
    with processes.together():
        place = _test(folder, settings, given, command, processes)
        processes.leave()
    return place


def _test(folder, settings, given: dict, command: str, processes: Processes) -> Path:
    settle_arithmetic(deterministic=False)
    record.check_trained(folder)
    model, configuration = models.load(folder, processes.device)
    record.check_settled(folder, configuration)
    merged = argparse.Namespace(**{**vars(settings), **configuration, **given})
    merged.gpu_id, merged.save_path = settings.gpu_id, settings.save_path
    merged.val_split = ()
    material = open_material(merged, models.inputs(merged.model, vars(merged)), train=False)
    record.refuse_trained(folder, material, configuration)
    place = folder
    if processes.is_main:
        place = record.fresh(folder, f"test_{record.now()}", configuration | given | {
            "command": command, "tested": str(folder),
            "split": material.sets._asdict() | {"train": []},
        })  # fmt: skip
    write_scores(place, model, material, configuration, merged, processes)
    return place

"""A run from start to end: train, test, test again, and the files they write.

`train` and `test` are what `main.py` calls. The loop is in training.py, what a model says of
windows in inference.py, the run folder in record.py.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import checkpoint
import constants
import loss as losses
import model as models
import record
from dataset import Material, Windows, open_material
from dataset import windows as windows_of
from devices import Processes, settle_arithmetic
from evaluation import calibration, leakage
from evaluation.highlights import scores as highlight_scores
from evaluation.result import summarise, trained
from inference import predict
from reporting import console
from reporting import page as run_page
from training import Training
from utils import UserError, digest, keep_freed_memory, leaf, read_json, write_atomic, write_json


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
    models.complete(settings)
    model = models.build(settings.model, vars(settings), settings.seed)
    _check_select(settings, model)
    if hasattr(model, "load_pretrained"):
        model.load_pretrained(settings)
    model = model.to(processes.device)
    material = open_material(settings, models.inputs(settings.model, vars(settings)))
    windows = _windows(material, "train", settings, processes)
    _check_truth(windows, model)
    if len(windows) < 2:
        raise UserError(f"training needs at least 2 labelled utterances, got {len(windows)}")
    own = leaf("models", settings.model)
    learnt = own.resampled(windows, settings) if hasattr(own, "resampled") else windows
    criterion = losses.build(
        settings.loss, settings.lam, settings.beta, _counts(learnt, settings), settings.cb_counts
    ).to(processes.device)
    criterion.pos_weight = _pos_weight(learnt, settings)
    configuration = record.describe(
        settings, command, material, windows, model, criterion, processes.count
    )
    folder = _begin(settings, configuration, material, windows, processes)
    if record.is_finished(folder):
        print(f"{folder} is finished; its report: {folder / 'report.html'}")
        return folder
    with _advice(folder, settings):
        _fit(model, criterion, material, learnt, settings, processes, folder)
        if processes.is_main:
            models.save(folder, model, configuration)
        write_scores(folder, model, material, configuration, settings, processes)
        if processes.is_main:
            checkpoint.remove(folder)
    return folder


def _check_truth(windows: Windows, model: torch.nn.Module) -> None:
    """A UserError where no training row has a truth of what the model predicts."""
    known = windows.known(np.arange(len(windows)))
    if len(windows) and not any(known.get(head) for head in models.heads(model)):
        raise UserError(
            f"the model predicts {', '.join(models.heads(model))}, and no training row "
            f"of the corpus has any of that"
        )


def _check_select(settings: argparse.Namespace, model: torch.nn.Module) -> None:
    """A UserError where the epoch is to be chosen by a head that the model has not."""
    needs = {"ccc": {"arousal", "valence"}, "loss": set(), "ap": set(constants.EVENTS)}
    needs = needs.get(settings.select, {"emotion"})
    if settings.val_split and not needs <= set(models.heads(model)):
        raise UserError(
            f"--select {settings.select} needs the heads {', '.join(sorted(needs))}; "
            f"the model has {', '.join(models.heads(model))}"
        )


def _fit(
    model, criterion, material: Material, windows: Windows, settings, processes, folder: Path
) -> None:
    """Train in steps, or at once a model that has `fit` and no gradients."""
    if hasattr(model, "fit"):
        model.fit(windows.batch(np.arange(len(windows))))
        return
    _say_weights(criterion)
    validation = _windows(material, "val", settings, processes) if settings.val_split else None
    Training(model, criterion, windows, validation, settings, processes, folder).fit()


def _pos_weight(windows: Windows, settings: argparse.Namespace) -> float:
    """The weight of an event in its loss: as said, or all events as much as all that are none."""
    said = getattr(settings, "pos_weight", 0.0)
    events = [values for name, values in windows.truth.items() if name in constants.EVENTS]
    if said or not events:
        return said or 1.0
    share = float(np.nanmean(events[0][windows.judged]))
    return (1 - share) / share if 0 < share < 1 else 1.0


def _counts(windows: Windows, settings: argparse.Namespace) -> np.ndarray:
    """(7,) how often each class is a target; with votes, a tie counts in each of its labels."""
    if settings.target == "hard" and "emotion" in windows.truth:
        return windows.truth["emotion"][windows.rows].sum(0).astype(int)
    return windows.class_counts()


def _windows(material: Material, name: str, settings, processes: Processes) -> Windows:
    """The windows of a set; on a GPU that has the room, with their features there."""
    windows = windows_of(material, name, settings.ws)
    windows.keep_on(processes.device)
    return windows


def _begin(
    settings, configuration: dict, material: Material, windows: Windows, processes: Processes
) -> Path:
    """The run folder, which the main process makes; what all processes must have in common."""
    validation = windows_of(material, "val", settings.ws)
    rows = record.training_rows(windows, validation).to_csv(index=False)
    for what in ("split", "versions"):
        processes.agree(str(configuration[what]), what)
    processes.agree(digest(rows), "the digest of the training rows")
    text = str(record.begin(settings, configuration)) if processes.is_main else ""
    folder = Path(processes.of_main(text))
    if processes.is_main and not record.is_finished(folder):
        write_atomic(folder / "training.csv", rows)
        write_json(folder / "protocol.json", leakage.card(material, settings))
        for line in material.warnings:
            print(line)
        count = f", {n:,} parameters" if (n := configuration["parameters"]) else ""
        print(f"run {folder}: {len(windows)} windows{count}")
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
    folder: Path,
    model: torch.nn.Module,
    material: Material,
    configuration: dict,
    settings: argparse.Namespace,
    processes: Processes,
    fitted: tuple[float | None, int] = (None, 0),
    threshold: float | None = None,
) -> None:
    """Predict the test rows and write predictions, scores, pictures and the page; print the table.

    `fitted`: temperature of the probabilities and on how many rows it was fitted; `threshold`: of
    highlights; where there are validation sessions, they are predicted too and both are fitted on
    them. result.json is the last but for the page: where that is, everything is whole.
    """
    windows = _windows(material, "test", settings, processes)
    frame = predict(model, windows, settings.batch_size, "test", processes, settings.max_tokens)
    if settings.val_split:
        validation = _windows(material, "val", settings, processes)
        rows = predict(
            model, validation, settings.batch_size, "val", processes, settings.max_tokens
        )
        fitted = calibration.temperature(rows), len(calibration.fitted_rows(rows))
        threshold = _threshold(rows)
        frame = pd.concat([frame, rows], ignore_index=True)
    if not processes.is_main:
        return
    sure = calibration.confidence(frame, fitted[0])
    frame.insert(frame.columns.get_loc("emotion") + 1, "confidence", sure)
    write_atomic(folder / "predictions.csv", frame.to_csv(index=False, float_format="%.7g"))
    tested = frame[frame["set"] == "test"].reset_index(drop=True)
    result = _result(folder, tested, material, configuration, settings)
    result["calibration"] = calibration.summary_of(tested, settings.ties, *fitted)
    result |= _of_events(tested, threshold, material, settings)
    write_json(folder / "result.json", result)
    page = run_page.write(folder)
    print(console.console(result))
    print(f"report: {page}")


def _result(folder: Path, tested, material: Material, configuration: dict, settings) -> dict:
    """result.json but for the calibration."""
    kept = int((material.utterances["quarantine"] == "").sum())
    return summarise(tested, settings.ties, seed=settings.seed, **trained(configuration)) | {
        "ties": settings.ties,
        "synthetic": any(corpus.synthetic for corpus in material.corpora),
        "uses_test_audio": read_json(folder / "protocol.json")["uses_test_audio"],
        "preparation": _preparation(material),
        "rows": {"read": len(material.utterances), "kept": kept},
        "warnings": material.warnings,
    }


def _threshold(validation: pd.DataFrame) -> float | None:
    """The probability from which F1 of highlights is best; None of a model that predicts none."""
    if "highlight" not in validation:
        return None

    return highlight_scores.threshold(validation)


def _of_events(tested: pd.DataFrame, threshold: float | None, material: Material, settings) -> dict:
    """{"highlight": scores} of a model that predicts it."""
    if "highlight" not in tested:
        return {}
    from evaluation.highlights import intervals

    rule = settings.labels or leaf("corpora", material.corpus.name).LABELS[0]
    return {"highlight": intervals.summary(tested, threshold, seed=settings.seed, rule=rule)}


def _preparation(material: Material) -> list[dict]:
    """What preparing met, in all corpora together, and what the features could not use."""
    counts: dict[tuple[str, str], int] = {}
    for row in [row for corpus in material.corpora for row in corpus.counts()]:
        key = row["treatment"], row["reason"]
        counts[key] = counts.get(key, 0) + row["count"]
    found = [{"treatment": t, "reason": r, "count": n} for (t, r), n in counts.items()]
    return found + material.masked()


# --- testing a finished run ------------------------------------------------------------------


def test(folder: Path, settings: argparse.Namespace, given: dict, command: str) -> Path:
    """Score a finished run again; writes `<run>/test_<UTC time>/` and nothing else."""
    processes = Processes(settings.gpu_id)
    with processes.together():
        place = _test(folder, settings, given, command, processes)
        processes.leave()
    return place


def _test(folder, settings, given: dict, command: str, processes: Processes) -> Path:
    if "members" in read_json(folder / "configuration.json"):
        import ensemble  # few runs are one

        return ensemble.test(folder, settings, given, command, test)
    settle_arithmetic(deterministic=False)
    record.check_trained(folder)
    model, configuration = models.load(folder, processes.device)
    record.check_settled(folder, configuration)
    merged = argparse.Namespace(**{**vars(settings), **configuration, **given})
    merged.gpu_id, merged.save_path = settings.gpu_id, settings.save_path
    merged.val_split = ()
    record.refuse_another_encoder(folder, merged, configuration)
    material = open_material(merged, models.inputs(merged.model, vars(merged)), train=False)
    record.refuse_trained(folder, material, configuration)
    place = folder
    if processes.is_main:
        place = record.fresh(
            folder,
            f"test_{record.now()}",
            configuration
            | given
            | {
                "command": command,
                "tested": str(folder),
                "split": material.sets._asdict() | {"train": []},
            },
        )
        write_json(place / "protocol.json", leakage.card(material, merged, trained=False))
    fitted, threshold = _fitted(folder / "result.json")
    write_scores(place, model, material, configuration, merged, processes, fitted, threshold)
    return place


def _fitted(path: Path) -> tuple[tuple[float | None, int], float | None]:
    """What was fitted when a run was trained: the temperature and on how many rows, the threshold
    of highlights."""
    result = read_json(path) if path.exists() else {}
    found = result.get("calibration", {})
    temperature = found.get("temperature"), found.get("fitted_on", 0)
    return temperature, result.get("highlight", {}).get("threshold")

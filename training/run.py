"""A run from start to end: train, test, test again, and the files they write.

`train` and `test` are what `main.py` calls. The loop is in loop.py, what a model says of
windows in testing.py, the run folder in run_folder.py.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import constants
import loss as losses
import model as models
from dataset import Material, Windows, open_material, with_text_encoder
from dataset import windows as windows_of
from evaluation.run_configuration import RunConfiguration, RunResult
from training import balance, checkpoints, protocol_card, run_folder
from training import configuration as run_configuration
from training.devices import Processes, settle_arithmetic
from training.loop import Training
from training.scores import windows_on, write_scores
from training.settings import TrainingSettings, settings_of
from utils import UserError, digest, keep_freed_memory, write_atomic, write_json


def train(settings: TrainingSettings, command: str) -> Path:
    """Train, keep and test one model, or go on with a run that was stopped; its folder."""
    processes = Processes(settings.gpu_id)
    with processes.together():
        folder = _train(settings, command, processes)
        processes.leave()
    return folder


def _train(settings: TrainingSettings, command: str, processes: Processes) -> Path:
    settle_arithmetic(settings.deterministic)
    run_folder.check_place(settings.save_path)
    keep_freed_memory()
    if settings.batch_size < processes.count:
        raise UserError(
            f"--batch_size {settings.batch_size} is shared by {processes.count} processes: each "
            f"needs a window at least"
        )
    settings = models.complete(settings)
    model = models.build(settings.model, vars(settings), settings.seed)
    _check_select(settings, model)
    model.load_pretrained(settings)
    model = model.to(processes.device)
    settings = with_text_encoder(settings)
    inputs = models.inputs(settings.model, vars(settings))
    sequence = model.SEQUENCE
    material = open_material(settings, inputs, sequence=sequence)
    windows = windows_on(material, "train", settings, processes)
    _check_truth(windows, model)
    if len(windows) < 2:
        raise UserError(f"training needs at least 2 labelled utterances, got {len(windows)}")
    learnt = balance.resampled(windows, model.resampling(settings), settings.seed)
    criterion = losses.build(
        settings.loss, settings.lam, settings.beta, _counts(learnt, settings), settings.cb_counts
    ).to(processes.device)
    criterion.pos_weight = _event_weight(learnt, model.event_weight(settings))
    configuration = run_configuration.describe(
        settings, command, material, windows, model, criterion, processes.count
    )
    folder = _begin(settings, configuration, material, windows, processes)
    if run_folder.is_finished(folder):
        print(f"{folder} is finished; its report: {folder / 'report.html'}")
        return folder
    with _advice(folder, settings):
        _fit(model, criterion, material, learnt, settings, processes, folder)
        if processes.is_main:
            models.save(folder, model, configuration)
        write_scores(folder, model, material, configuration, settings, processes)
        if processes.is_main:
            checkpoints.remove(folder)
    return folder


def _check_truth(windows: Windows, model: torch.nn.Module) -> None:
    """A UserError where no training row has a truth of what the model predicts."""
    known = windows.known(np.arange(len(windows)))
    if len(windows) and not any(known.get(head) for head in models.heads(model)):
        raise UserError(
            f"the model predicts {', '.join(models.heads(model))}, and no training row "
            f"of the corpus has any of that"
        )


def _check_select(settings: TrainingSettings, model: torch.nn.Module) -> None:
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
    if model.FITTED:
        model.fit(windows.batch(np.arange(len(windows))))
        return
    _say_weights(criterion)
    validation = windows_on(material, "val", settings, processes) if settings.val_split else None
    Training(model, criterion, windows, validation, settings, processes, folder).fit()


def _event_weight(windows: Windows, given: float) -> float:
    """The weight of an event in its loss: as given, or all events as much as all that are none."""
    events = [values for name, values in windows.truth.items() if name in constants.EVENTS]
    if given or not events:
        return given or 1.0
    share = float(np.nanmean(events[0][windows.judged]))
    return (1 - share) / share if 0 < share < 1 else 1.0


def _counts(windows: Windows, settings: TrainingSettings) -> np.ndarray:
    """(7,) how often each class is a target; with votes, a tie counts in each of its labels."""
    if settings.target == "hard" and "emotion" in windows.truth:
        return windows.truth["emotion"][windows.rows].sum(0).astype(int)
    return windows.class_counts()


def _begin(
    settings, configuration: dict, material: Material, windows: Windows, processes: Processes
) -> Path:
    """The run folder, which the main process makes; what all processes must have in common."""
    validation = windows_of(material, "val", settings.ws)
    rows = run_folder.training_rows(windows, validation).to_csv(index=False)
    for what in ("split", "versions"):
        processes.agree(str(configuration[what]), what)
    processes.agree(digest(rows), "the digest of the training rows")
    text = str(run_folder.begin(settings, configuration)) if processes.is_main else ""
    folder = Path(processes.of_main(text))
    if processes.is_main and not run_folder.is_finished(folder):
        write_atomic(folder / "training.csv", rows)
        write_json(folder / "protocol.json", protocol_card.card(material, settings))
        for line in material.warnings:
            print(line)
        parameters = configuration["parameters"]
        count = f", {parameters:,} parameters" if parameters else ""
        print(f"run {folder}: {len(windows)} windows{count}")
    return folder


@contextlib.contextmanager
def _advice(folder: Path, settings: TrainingSettings) -> Iterator[None]:
    """Say what is kept of a run that stops, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        elsewhere = settings.save_path != constants.SAVE_PATH
        place = f" --save_path {settings.save_path}" if elsewhere else ""
        raise KeyboardInterrupt(
            f"{stop or 'stopped'}; go on with: python main.py --resume {folder.name}{place}"
        ) from None
    except UserError as error:
        if not (kept := checkpoints.found(folder)):
            raise
        raise UserError(f"{error}; what was learnt before is kept in {kept[0]}") from error


def _say_weights(criterion: losses.EmotionLoss) -> None:
    """What a class-balanced loss makes of each class; nothing for the other loss."""
    if isinstance(criterion, losses.CBLoss):
        pairs = zip(constants.EMOTIONS, criterion.weights.tolist(), strict=True)
        print("class weights: " + ", ".join(f"{name} {weight:.4g}" for name, weight in pairs))
        if criterion.absent:
            print(f"no training row, so weight 0: {', '.join(criterion.absent)}")


# --- testing a finished run ------------------------------------------------------------------


def test(folder: Path, settings: TrainingSettings, given: dict, command: str) -> Path:
    """Score a finished run again; writes `<run>/test_<UTC time>/` and nothing else."""
    processes = Processes(settings.gpu_id)
    with processes.together():
        place = _test(folder, settings, given, command, processes)
        processes.leave()
    return place


def _test(folder, settings, given: dict, command: str, processes: Processes) -> Path:
    settle_arithmetic(deterministic=False)
    run_folder.check_trained(folder)
    model, configuration = models.load(folder, processes.device)
    known = RunConfiguration.of(configuration, folder / models.CONFIGURATION)
    run_folder.check_settled(folder, known)
    places = {"gpu_id": settings.gpu_id, "save_path": settings.save_path, "val_split": ()}
    merged = with_text_encoder(settings_of(configuration, **given | places))
    run_folder.refuse_another_encoder(folder, merged, configuration)
    inputs, sequence = models.inputs(merged.model, vars(merged)), model.SEQUENCE
    material = open_material(merged, inputs, train=False, sequence=sequence)
    run_folder.refuse_trained(folder, material, known)
    place = folder
    if processes.is_main:
        place = run_folder.fresh(
            folder,
            f"test_{run_folder.now()}",
            configuration
            | given
            | {
                "command": command,
                "tested": str(folder),
                "split": material.sets._asdict() | {"train": []},
            },
        )
        write_json(place / "protocol.json", protocol_card.card(material, merged, trained=False))
    fitted = RunResult.read(folder)
    write_scores(place, model, material, configuration, merged, processes, fitted)
    return place

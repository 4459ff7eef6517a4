"""A run: the one training loop, the one inference loop, and the files they write.

`train` and `test` are what `main.py` calls. The run folder itself is in `record.py`; models,
losses and scores are elsewhere: nothing here knows their names.
"""

import argparse
import contextlib
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import constants
import evidence
import loss as losses
import metric
import model as models
import record
import report
from dataset import VOTES, Material, Windows, open_material
from utils import UserError, keep_freed_memory, rng, write_atomic, write_json

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
}
SELECT = {
    "macro_f1": ("macro_f1",),
    "uar": ("uar",),
    "ccc": ("ccc_arousal", "ccc_valence"),
    "loss": ("loss",),
}


# --- where it runs ---------------------------------------------------------------------------


def pick_device(gpu_id: int | None) -> torch.device:
    """GPU `gpu_id`, or the first one, or the CPU (also for -1); a missing id is a UserError."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu_id is None:
        return torch.device("cuda", 0) if there else torch.device("cpu")
    if gpu_id == -1:
        return torch.device("cpu")
    if not 0 <= gpu_id < there:
        have = f"GPUs 0..{there - 1}" if there else "no GPU"
        raise UserError(f"--gpu_id {gpu_id} does not exist; this machine has {have} (-1: CPU)")
    return torch.device("cuda", gpu_id)


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether training runs under bfloat16 autocast; `auto`: where the processor computes in it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


# --- training --------------------------------------------------------------------------------


def train(settings: argparse.Namespace, command: str) -> Path:
    """Train, keep and test one model; returns the run folder."""
    device = pick_device(settings.gpu_id)
    record.check_place(settings.save_path)
    keep_freed_memory()
    model = models.build(settings.model, vars(settings), settings.seed).to(device)
    material = open_material(settings, models.inputs(settings.model, vars(settings)))
    windows = Windows(material, "train", settings.ws)
    if len(windows) < 2:
        raise UserError(f"training needs at least 2 labelled utterances, got {len(windows)}")
    criterion = losses.build(
        settings.loss, settings.lam, settings.beta, windows.class_counts(), settings.cb_counts
    ).to(device)
    configuration = record.describe(settings, command, material, windows, model, criterion)
    folder = record.new_folder(settings.save_path, settings, configuration)
    write_atomic(folder / "training.csv", record.training_rows(windows).to_csv(index=False))
    print(f"run {folder}: {len(windows)} windows, {configuration['parameters']:,} parameters")
    _say_weights(criterion)
    fit(model, criterion, windows, material, settings, folder)
    models.save(folder, model, configuration)
    write_scores(folder, model, material, configuration, settings)
    return folder


def _say_weights(criterion: losses.EmotionLoss) -> None:
    """What a class-balanced loss makes of each class; nothing for the other loss."""
    if isinstance(criterion, losses.CBLoss):
        pairs = zip(constants.EMOTIONS, criterion.weights.tolist(), strict=True)
        print("class weights: " + ", ".join(f"{name} {weight:.4g}" for name, weight in pairs))
        if criterion.absent:
            print(f"no training row, so weight 0: {', '.join(criterion.absent)}")


def fit(
    model: torch.nn.Module,
    criterion: losses.EmotionLoss,
    windows: Windows,
    material: Material,
    settings: argparse.Namespace,
    folder: Path,
) -> None:
    """The training loop: every epoch once through the windows in a new order."""
    from torch.utils.tensorboard import SummaryWriter  # two seconds that testing need not pay

    optimizer = OPTIMIZERS[settings.optim](
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    validation = Windows(material, "val", settings.ws) if settings.val_split else None
    best, kept = -math.inf, None
    say_how_long(model, criterion, windows, settings)
    path = folder / "train_loss.log"
    with _written(path), SummaryWriter(folder) as events, open(path, "w") as log:
        for epoch in range(1, settings.epochs + 1):
            rate = learning_rate(settings, epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            line = one_epoch(model, criterion, optimizer, windows, settings, epoch) | {"lr": rate}
            if validation is not None:
                settle_batchnorm(model, windows, settings)
                scores = validate(model, criterion, validation, settings)
                line |= {f"val/{name}": value for name, value in scores.items()}
                value = scores[settings.select] * (-1 if settings.select == "loss" else 1)
                if value > best:
                    best, kept = value, copy.deepcopy(model.state_dict())
            _log(line, log, events, settings.epochs)
    if kept is not None:
        model.load_state_dict(kept)
    else:
        settle_batchnorm(model, windows, settings)


def settle_batchnorm(model: torch.nn.Module, windows: Windows, settings) -> None:
    """Give BatchNorm the averages of the weights as they now are, over all training windows.

    Its running averages belong to weights of the last dozens of steps. The recurrent outputs of
    MATE are nearly constant, so their mean moves by many standard deviations meanwhile, and a
    model that fits its training data answers one class when tested (exp/LOG.md, 2026-11-21).
    Averages over the training set: Wu and Johnson 2021, arXiv:2105.07576, section 3.
    """
    if settings.bn == "recomputed":
        batches = (
            training_batch(model, windows, settings, 0, step, indices)
            for step, indices in enumerate(training_batches(len(windows), settings, 0))
        )
        torch.optim.swa_utils.update_bn(batches, model)  # float32, as in testing


def training_batch(model, windows: Windows, settings, epoch: int, step: int, indices) -> dict:
    """The windows of one step as the model gets them: cut and masked as drawn for that step."""
    batch = windows.batch(indices, rng(settings.seed, "crop", epoch, step))
    if settings.modality_dropout:
        draw = rng(settings.seed, "modality", epoch, step)
        features = tuple(windows.stores)
        batch |= models.drop_modality(batch, features, settings.modality_dropout, draw)
    return to(batch, next(model.parameters()).device)


def learning_rate(settings: argparse.Namespace, epoch: int) -> float:
    """The rate in epoch 1..: times `lr_decay` once 1/3, and again once 1/2, of them are done."""
    steps = sum(epoch > max(1, settings.epochs // part) for part in (3, 2))
    return settings.lr * settings.lr_decay**steps


def one_epoch(model, criterion, optimizer, windows, settings, epoch: int) -> dict[str, float]:
    """Mean of each loss over the windows of the epoch."""
    model.train()
    start, total, seen = time.perf_counter(), {}, 0
    batches = list(training_batches(len(windows), settings, epoch))
    for step, indices in enumerate(
        tqdm(batches, f"epoch {epoch}/{settings.epochs}", leave=False, unit="step")
    ):
        batch = training_batch(model, windows, settings, epoch, step, indices)
        values = losses_of(model, criterion, batch, settings)
        _check_finite(values, epoch, step, windows, indices)
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        optimizer.step()
        for name, value in values.items():
            total[name] = total.get(name, 0.0) + value.item() * len(indices)
        seen += len(indices)
    means = {name: value / seen for name, value in total.items()}
    return {"epoch": epoch, **means, "seconds": round(time.perf_counter() - start, 3)}


def training_batches(n: int, settings: argparse.Namespace, epoch: int):
    """Window numbers in the order of this epoch; a last batch of one is dropped (BatchNorm)."""
    order = rng(settings.seed, "order", epoch).permutation(n)
    for at in range(0, n, settings.batch_size):
        if len(indices := order[at : at + settings.batch_size]) > 1:
            yield indices


def losses_of(model, criterion, batch: dict, settings: argparse.Namespace) -> dict:
    """Forward under autocast where that pays; losses always in float32."""
    device = batch["mask"].device
    with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16(settings.precision, device)):
        prediction = model(batch)
    return criterion({name: value.float() for name, value in prediction.items()}, batch)


def _check_finite(values, epoch, step, windows, indices) -> None:
    if not torch.isfinite(values["loss"]):
        segments = windows.utterances["segment"].iloc[windows.rows[indices]]
        raise UserError(
            f"the loss became {values['loss'].item()} in epoch {epoch}, step {step + 1} "
            f"(segments {', '.join(segments[:3])}, ...); try a smaller --lr"
        )


def say_how_long(model, criterion, windows, settings) -> None:
    """Print what is coming. The step timed for it is in eval mode: it changes nothing."""
    device = next(model.parameters()).device
    batch = windows.batch(np.arange(min(settings.batch_size, len(windows))))
    start = time.perf_counter()
    losses_of(model.eval(), criterion, to(batch, device), settings)["loss"].backward()
    seconds = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    steps = sum(1 for _ in training_batches(len(windows), settings, 1)) * settings.epochs
    kind = "bfloat16" if use_bf16(settings.precision, device) else "float32"
    print(
        f"{steps} steps of {settings.batch_size} windows on {device} in {kind}: "
        f"about {max(1, round(seconds * steps / 60))} min"
    )


def to(batch: dict, device: torch.device) -> dict:
    """The batch on the device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def validate(model, criterion, windows: Windows, settings) -> dict[str, float]:
    """The scores that `--select` can choose by, on the validation sessions."""
    frame = predict(model, windows, settings.batch_size, "val")
    values = {name: score["value"] for name, score in metric.scores(frame, settings.ties).items()}
    chosen = {key: float(np.mean([values[n] for n in names])) for key, names in SELECT.items()
              if key != "loss"}  # fmt: skip
    device = next(model.parameters()).device
    total = 0.0
    with torch.inference_mode():
        for indices in np.array_split(np.arange(len(windows)), -(-len(windows) // 64)):
            batch = to(windows.batch(indices), device)
            total += criterion(model(batch), batch)["loss"].item() * len(indices)
    return chosen | {"loss": total / len(windows)}


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _log(line: dict, log, events, epochs: int) -> None:
    log.write(json.dumps(line) + "\n")
    log.flush()
    for name, value in line.items():
        events.add_scalar(name, value, line["epoch"])
    parts = [f"{name.split('/')[-1]} {line[name]:.3f}" for name in line if name.startswith("loss")]
    parts += [f"val {line[f'val/{n}']:.3f} {n}" for n in ("macro_f1",) if f"val/{n}" in line]
    print(f"epoch {line['epoch']}/{epochs}  {'  '.join(parts)}  {line['seconds']:.0f} s")


# --- inference -------------------------------------------------------------------------------


@torch.inference_mode()
def predict(model: torch.nn.Module, windows: Windows, batch_size: int, name: str) -> pd.DataFrame:
    """A row a window: prediction and truth (columns: README, `predictions.csv`). Float32, eval."""
    device = next(model.parameters()).device
    model.eval()
    parts = []
    chunks = [np.arange(at, min(at + batch_size, len(windows)))
              for at in range(0, len(windows), batch_size)]  # fmt: skip
    for indices in tqdm(chunks, f"predicting {name}", leave=False, unit="step"):
        output = model(to(windows.batch(indices), device))
        parts.append({head: value.float().cpu() for head, value in output.items()})
    output = {head: torch.cat([part[head] for part in parts]).numpy() for head in parts[0]}
    return frame_of(windows.utterances.iloc[windows.rows], output, name)


def frame_of(utterances: pd.DataFrame, output: dict[str, np.ndarray], name: str) -> pd.DataFrame:
    """Join utterances and what the heads said of them into the columns of `predictions.csv`."""
    ids = ["corpus", "role", "segment", "session", "dialogue", "speaker", "kind"]
    frame = utterances[ids].reset_index(drop=True).assign(set=name)
    nothing = np.full(len(frame), np.nan)
    chance = np.exp(output["emotion"]) if "emotion" in output else None
    for i in range(len(constants.EMOTIONS)):
        frame[f"p_{i}"] = nothing if chance is None else chance[:, i]
    frame["arousal"] = output.get("arousal", nothing)
    frame["valence"] = output.get("valence", nothing)
    labels = np.array(constants.EMOTIONS)
    frame["emotion"] = "" if chance is None else labels[chance.argmax(axis=1)]
    truth = utterances[["emotion", *VOTES, "arousal", "valence"]].reset_index(drop=True)
    renamed = {name: f"{name}_true" for name in ("emotion", "arousal", "valence")}
    return pd.concat([frame, truth.rename(columns=renamed)], axis=1)


def write_scores(folder: Path, model, material: Material, configuration: dict, settings) -> None:
    """Predict the test rows and write predictions, scores, pictures and the page; print the table.

    result.json is the last but for the page: where it is, the numbers are whole.
    """
    windows = Windows(material, "test", settings.ws)
    frame = predict(model, windows, settings.batch_size, "test")
    if settings.val_split:
        validation = Windows(material, "val", settings.ws)
        rows = predict(model, validation, settings.batch_size, "val")
        frame = pd.concat([frame, rows], ignore_index=True)
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
    device = pick_device(settings.gpu_id)
    model, configuration = models.load(folder, device)
    record.check_settled(folder, configuration)
    merged = argparse.Namespace(**{**vars(settings), **configuration, **given})
    merged.gpu_id, merged.save_path = settings.gpu_id, settings.save_path
    merged.val_split = ()
    material = open_material(merged, models.inputs(merged.model, vars(merged)), train=False)
    record.refuse_trained(folder, material, configuration)
    place = record.fresh(folder, f"test_{record.now()}", configuration | given | {
        "command": command, "tested": str(folder), "split": material.sets._asdict() | {"train": []},
    })  # fmt: skip
    write_scores(place, model, material, configuration, merged)
    return place

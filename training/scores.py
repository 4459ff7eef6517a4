"""What a test writes: predictions.csv, result.json, and the page of a run."""

from pathlib import Path

import pandas as pd
import torch

from dataset import Material, Windows
from dataset import windows as windows_of
from evaluation import calibration
from evaluation.highlights import intervals
from evaluation.highlights import scores as highlight_scores
from evaluation.result import summarise, trained
from evaluation.run_configuration import RunConfiguration, RunResult
from reporting import console
from reporting import page as run_page
from training.devices import Processes
from training.settings import TrainingSettings
from training.testing import predict
from utils import leaf, read_json, write_atomic, write_json

UNFITTED = RunResult()  # no temperature, no threshold


def write_result(
    folder: Path,
    frame: pd.DataFrame,
    configuration: RunConfiguration,
    about: dict,
    fitted: RunResult,
    rule: str | None = None,
) -> dict:
    """Write predictions.csv and result.json of a run or an ensemble; returns the latter.

    `about`: what result.json says besides the scores, `ties` among it. `fitted`: on validation
    rows. `rule`: by which highlights were labelled, where some are predicted.
    """
    sure = calibration.confidence(frame, fitted.temperature)
    frame.insert(frame.columns.get_loc("emotion") + 1, "confidence", sure)
    write_atomic(folder / "predictions.csv", frame.to_csv(index=False, float_format="%.7g"))
    tested = frame[frame["set"] == "test"].reset_index(drop=True)
    ties, seed = about["ties"], configuration.seed
    result = summarise(tested, ties, seed=seed, **trained(configuration)) | about
    result["calibration"] = calibration.summary_of(
        tested, ties, fitted.temperature, fitted.fitted_on
    )
    if rule is not None and "highlight" in tested:
        result["highlight"] = intervals.summary(tested, fitted.threshold, seed=seed, rule=rule)
    write_json(folder / "result.json", result)
    return result


def windows_on(material: Material, name: str, settings, processes: Processes) -> Windows:
    """The windows of a set; on a GPU that has the room, with their features there."""
    windows = windows_of(material, name, settings.ws)
    windows.keep_on(processes.device)
    return windows


def write_scores(
    folder: Path,
    model: torch.nn.Module,
    material: Material,
    configuration: dict,
    settings: TrainingSettings,
    processes: Processes,
    fitted: RunResult = UNFITTED,
) -> None:
    """Predict the test rows and write predictions, scores, pictures and the page; print the table.

    `fitted`: what was fitted before; where there are validation sessions, they are predicted too
    and it is fitted on them. result.json is the last but for the page: where that is, everything
    is whole.
    """
    windows = windows_on(material, "test", settings, processes)
    frame = predict(model, windows, settings.batch_size, "test", processes, settings.max_tokens)
    if settings.val_split:
        validation = windows_on(material, "val", settings, processes)
        rows = predict(
            model, validation, settings.batch_size, "val", processes, settings.max_tokens
        )
        fitted = RunResult(
            calibration.temperature(rows), len(calibration.fitted_rows(rows)), _threshold(rows)
        )
        frame = pd.concat([frame, rows], ignore_index=True)
    if not processes.is_main:
        return
    known = RunConfiguration.of(configuration | {"seed": settings.seed})
    rule = _rule(material, settings) if "highlight" in frame else None
    about = _about(folder, material, settings)
    result = write_result(folder, frame, known, about, fitted, rule)
    page = run_page.write(folder)
    print(console.console(result))
    print(f"report: {page}")


def _about(folder: Path, material: Material, settings: TrainingSettings) -> dict:
    """What result.json says of the corpora and their rows."""
    kept = int((material.utterances["quarantine"] == "").sum())
    return {
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


def _rule(material: Material, settings: TrainingSettings) -> str:
    """The rule by which seconds of the corpus are highlights."""
    return settings.labels or leaf("corpora", material.corpus.name).LABELS[0]


def _preparation(material: Material) -> list[dict]:
    """What preparing met, in all corpora together, and what the features could not use."""
    counts: dict[tuple[str, str], int] = {}
    for row in [row for corpus in material.corpora for row in corpus.counts()]:
        key = row["treatment"], row["reason"]
        counts[key] = counts.get(key, 0) + row["count"]
    found = [{"treatment": t, "reason": r, "count": n} for (t, r), n in counts.items()]
    return found + material.masked()

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
from reporting import console
from reporting import page as run_page
from training.devices import Processes
from training.settings import TrainingSettings
from training.testing import predict
from utils import leaf, read_json, write_atomic, write_json


def write_result(
    folder: Path,
    frame: pd.DataFrame,
    configuration: dict,
    about: dict,
    fitted: tuple[float | None, int] = (None, 0),
) -> dict:
    """predictions.csv and result.json, as of any run; returns the latter."""
    sure = calibration.confidence(frame, fitted[0])
    frame.insert(frame.columns.get_loc("emotion") + 1, "confidence", sure)
    write_atomic(folder / "predictions.csv", frame.to_csv(index=False, float_format="%.7g"))
    tested = frame[frame["set"] == "test"].reset_index(drop=True)
    ties, known = configuration["ties"], trained(configuration)
    result = summarise(tested, ties, seed=configuration["seed"], **known)
    result |= about | {"ties": ties}
    result["calibration"] = calibration.summary_of(tested, ties, *fitted)
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
    fitted: tuple[float | None, int] = (None, 0),
    threshold: float | None = None,
) -> None:
    """Predict the test rows and write predictions, scores, pictures and the page; print the table.

    `fitted`: temperature of the probabilities and on how many rows it was fitted; `threshold`: of
    highlights; where there are validation sessions, they are predicted too and both are fitted on
    them. result.json is the last but for the page: where that is, everything is whole.
    """
    windows = windows_on(material, "test", settings, processes)
    frame = predict(model, windows, settings.batch_size, "test", processes, settings.max_tokens)
    if settings.val_split:
        validation = windows_on(material, "val", settings, processes)
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


def fitted_values(path: Path) -> tuple[tuple[float | None, int], float | None]:
    """What was fitted when a run was trained: the temperature and on how many rows, the threshold
    of highlights."""
    result = read_json(path) if path.exists() else {}
    found = result.get("calibration", {})
    temperature = found.get("temperature"), found.get("fitted_on", 0)
    return temperature, result.get("highlight", {}).get("threshold")

"""A model found and opened: a run with torch, an export with onnxruntime alone.

The files of an export are in `exported.py`, what opens a run in `trained.py`.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import constants
from inference import exported
from inference.held import Batch
from inference.predictor import Predictor
from models.encoders import onnx as onnx_export
from utils import UserError, setting

WEIGHTS = (
    "model.pth",
    "model.safetensors",
    onnx_export.MODEL,
    onnx_export.SENTENCE,
    onnx_export.INT8,
)


def found(name: str, save_path: str, onnx: bool = False) -> Path:
    """The folder of a model: a path, or the name of a run in `save_path`; with `onnx` an export, or
    the one in a run."""
    places = [Path(name), Path(save_path) / name]
    if onnx:
        places = [place for run in places for place in (run, run / "onnx")]
    needed = (onnx_export.DESCRIPTION,) if onnx else ("configuration.json", "config.json")
    for folder in places:
        if any((folder / file).is_file() for file in needed):
            return folder
    what = "exported model" if onnx else "run"
    pattern = "*/onnx/" if onnx else "*/"
    marks = (file for mark in needed for file in Path(save_path).glob(pattern + mark))
    there = sorted({mark.relative_to(save_path).parts[0] for mark in marks})
    how = f"; make one with: python main.py export {name} --onnx" if onnx else ""
    raise UserError(
        f"no {what} {name!r}, nor in {save_path}; there are: {', '.join(there) or 'none'}{how}"
    )


@dataclass(frozen=True)
class OpenSettings:
    """Which model, with what it is computed, and where its encoders are now."""

    run: str = setting(
        "",
        "a finished run, a published folder, or with --onnx an export",
        position=True,
        required=True,
        metavar="RUN",
    )
    onnx: bool = setting(False, "RUN is an exported model: no torch is needed")
    int8: bool = setting(False, "the same, of the model in eight bits")
    text_encoder: str | None = setting(None, "where the run's text encoder is now", metavar="ID")
    speech_encoder: str | None = setting(None, "where its speech encoder is now", metavar="ID")
    save_path: str = setting(constants.SAVE_PATH, "where the runs are")
    gpu_id: int | None = setting(None, "GPU to use; -1: the CPU", least=-1, metavar="ID")


def opened(folder: Path, settings: OpenSettings) -> Predictor:
    """The model of a run, or of an export where the settings say so."""
    moved = {"text_encoder": settings.text_encoder, "speech_encoder": settings.speech_encoder}
    if not (settings.onnx or settings.int8):
        from inference import trained  # needs torch, which an export is read without

        return trained.of_run(folder, settings.gpu_id, moved)
    if said := [name for name, value in moved.items() if value is not None]:
        raise UserError(f"--{said[0]} does not go with --onnx: an export holds its encoders")
    return of_export(folder, settings.int8)


def of_export(folder: Path, int8: bool = False) -> Predictor:
    """The model of an export folder, by onnxruntime. Raises UserError for what is none."""
    said = exported.description(folder)
    path = folder / (onnx_export.INT8 if int8 else onnx_export.MODEL)
    if not path.is_file():
        how = "; export without --no_int8" if int8 else ""
        raise UserError(f"no {path.name} in {folder}{how}")
    session, heads = onnx_export.session(path), said["heads"]
    names = {node.name for node in session.get_inputs()}

    def say(batch: Batch) -> Batch:
        given = {name: values for name, values in batch.items() if name in names}
        return dict(zip(heads, session.run(heads, given), strict=True))

    known = dict(said["configuration"])  # of the model no class is read: that would need torch
    if any((folder / name).is_file() for name in (onnx_export.SENTENCE, "config.json")):
        known["text_encoder"] = str(folder)
    settings = SimpleNamespace(**known)
    return Predictor(
        said["name"],
        said["configuration"],
        tuple(said["inputs"]),
        say,
        settings,
        said["temperature"],
        said["tails"],
    )

"""A model as an ONNX graph, and both on the windows of a corpus. Torch and onnx are needed here."""

import contextlib
import dataclasses
import importlib
import io
import logging
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import constants
import utils
from dataset import Windows, open_material
from features.store import extraction
from inference import exported, predictor
from inference.held import KINDS, Batch
from inference.predictor import Predictor
from inference.publishing import portable
from models.encoders import loading, onnx
from models.encoders import text as text_encoders
from training import testing
from utils import UserError

OPSET = 20
UNNEEDED = ("extra", "temperature", "versions", "git", "started", "threads", "processes")


def needed() -> None:
    """A UserError where a package is missing that only exporting needs."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"export needs {name}: pip install -r requirements/extra.txt "
                "-c requirements/constraints.txt"
            ) from error


# --- windows of the corpus -----------------------------------------------------------------------


def windows(judge: Predictor, data: str | None) -> dict[str, Windows]:
    """The training and test windows of the corpus a run was trained on."""
    moved = {"data": data} if data else {}
    settings = dataclasses.replace(judge.settings, val_split=(), **moved)
    material = open_material(settings, judge.inputs)
    return {name: Windows(material, name, judge.ws) for name in ("train", "test")}


def batch(windows: Windows, chosen: np.ndarray, inputs: tuple[str, ...]) -> Batch:
    """(B,) window numbers -> what a model reads of them."""
    names = {"mask", *inputs, *(f"{name}_mask" for name in inputs)}
    found = windows.batch(chosen)
    return {name: tensor.numpy() for name, tensor in found.items() if name in names}


def said(judge: Predictor, windows: Windows, chosen: np.ndarray) -> tuple[dict, float]:
    """{head: (n, ...)}, and seconds a window but for the first batch and what loads them."""
    parts, took = [], 0.0
    for start in range(0, len(chosen), predictor.BATCH):
        given = batch(windows, chosen[start : start + predictor.BATCH], judge.inputs)
        if not parts:
            judge.judge(given)
        began = time.perf_counter()
        parts.append(judge.judge(given))
        took += time.perf_counter() - began
    whole = {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}
    return whole, took / len(chosen)


def frame(windows: Windows, chosen: np.ndarray, said: dict[str, np.ndarray]) -> pd.DataFrame:
    """Predictions and truth, as `predictions.csv`."""
    rows = windows.utterances.iloc[windows.judged[chosen]]
    return testing.frame_of(rows, said, "test")


# --- the graph -----------------------------------------------------------------------------------


def describe(judge: Predictor) -> dict[str, Any]:
    """model.json, but for what is measured later."""
    said = portable.configuration(judge.folder, judge.configuration | vars(judge.settings), {})
    configuration = {name: value for name, value in said.items() if name not in UNNEEDED}
    configuration["corpus"] = {"synthetic": predictor.synthetic(judge.configuration)}
    if _has_encoder(judge):
        configuration["text_encoder"] = None  # sentence.onnx is in its place
    return {
        "format": exported.FORMAT,
        "name": judge.name,
        "opset": OPSET,
        "emotions": list(constants.EMOTIONS),
        "scale": list(constants.SCALE),
        "inputs": list(judge.inputs),
        "window": judge.ws,
        "temperature": judge.temperature,
        "tails": judge.tails,
        "preprocessing": {name: _preparing(live) for name, live in judge.features.items()},
        "configuration": configuration,
    }


def _has_encoder(judge: Predictor) -> bool:
    return "sentence" in judge.inputs and judge.settings.text_encoder not in loading.NO_ENCODERS


def _preparing(live: extraction.Live) -> dict[str, Any]:
    """What a feature is, in numbers and in the words of its file."""
    parameters = {k: v for k, v in live.parameters.items() if k != "content"}
    if "encoder" in parameters:
        parameters["encoder"] = Path(parameters["encoder"]).name
    return {
        "made_of": KINDS[live.kind],
        "shape": list(live.shape),
        "dtype_kept": live.leaf.DTYPE,
        "parameters": parameters,
        "how": live.leaf.about(),
    }


class _Positional(torch.nn.Module):
    """A model whose tensors come in order, and whose heads go out in order."""

    def __init__(self, model: torch.nn.Module, names: list[str], heads: list[str]):
        super().__init__()
        self.model, self.names, self.heads = model, names, heads

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        said = self.model(dict(zip(self.names, tensors, strict=True)))
        return tuple(said[head] for head in self.heads)


def write(judge: Predictor, windows: Windows, place: Path, about: dict[str, Any]) -> None:
    """model.onnx, sentence.onnx where an encoder is needed, and a model.json to open both."""
    given = batch(windows, np.arange(min(2, len(windows))), judge.inputs)
    heads = list(judge.judge(given))
    about["heads"] = heads
    masks = [f"{name}_mask" for name in judge.inputs]
    names = [*judge.inputs, *masks]
    tensors = tuple(torch.from_numpy(given[name]) for name in names)
    long = {n for n, live in judge.features.items() if live.shape and live.shape[0] is None}
    moving = {n: 2 for name in long for n in (name, f"{name}_mask")} | dict.fromkeys(judge.tails, 3)
    module = _Positional(judge.model, names, heads)
    _graph(module, tensors, names, heads, moving, place / onnx.MODEL)
    if "tokens" in judge.inputs:
        _copy_tokenizer(judge, place, ("config.json",))
    if _has_encoder(judge):
        about["sentence"] = _sentence(judge, place)
    utils.write_json(place / onnx.DESCRIPTION, about)


def _graph(
    module, tensors: tuple, names: list[str], heads: list[str], moving: dict[str, int], path: Path
) -> None:
    """Trace a module for any number of windows; `moving`: an axis of an input, of any length."""
    rows = torch.export.Dim("windows", min=1, max=1 << 16)
    auto = torch.export.Dim.AUTO
    shapes = tuple({0: rows} | ({moving[name]: auto} if name in moving else {}) for name in names)
    try:
        with quiet():
            torch.onnx.export(
                module.eval(),
                tensors,
                path,
                input_names=names,
                output_names=heads,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(shapes,),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch.onnx fails in too many ways to list
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0][:160]
        raise UserError(f"torch.onnx cannot write this model: {reason}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without torch.onnx's remarks, and the graph that it prints where it fails."""
    before, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Average(torch.nn.Module):
    """Word pieces of equal length -> the mean of their last states, as features/sentence.py."""

    def __init__(self, encoder: torch.nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return states[:, 1:-1].mean(1)


def _sentence(judge: Predictor, place: Path) -> dict[str, Any]:
    """sentence.onnx and the files of its tokenizer; what is needed to call it."""
    folder = text_encoders.find(judge.settings.text_encoder)
    config = text_encoders.config(folder)
    encoder = text_encoders.encoder(config, pooler=False)
    text_encoders.load(encoder, folder)
    ids = torch.ones(2, 6, dtype=torch.int64)
    any_number = torch.export.Dim.AUTO
    with quiet():
        torch.onnx.export(
            _Average(encoder).eval(),
            (ids,),
            place / onnx.SENTENCE,
            input_names=["ids"],
            output_names=["sentence"],
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            dynamic_shapes=({0: any_number, 1: any_number},),
            external_data=False,
        )
    _copy_tokenizer(judge, place)
    return {"encoder": config, "name": Path(judge.settings.text_encoder).name}


def _copy_tokenizer(judge: Predictor, place: Path, also: tuple[str, ...] = ()) -> None:
    folder = text_encoders.find(judge.settings.text_encoder)
    for path in {path for p in (*text_encoders.TOKENIZERS, *also) for path in folder.glob(p)}:
        if path.is_file():
            shutil.copyfile(path, place / path.name)

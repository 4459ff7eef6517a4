"""Exported graphs opened with onnxruntime, and sentence vectors from one; no torch."""

from pathlib import Path
from typing import Any

import numpy as np

import utils
from models.encoders import text
from utils import UserError

DESCRIPTION, MODEL, INT8, SENTENCE = (
    "model.json",
    "model.onnx",
    "model.int8.onnx",
    "sentence.onnx",
)


def runtime() -> Any:
    """The module onnxruntime, without its remarks. Raises UserError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("exported models need onnxruntime: pip install onnxruntime") from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def session(path: Path) -> Any:
    """A graph, opened. Raises UserError for a file that is none, or is damaged."""
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = utils.cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    data = utils.read_sealed(path)
    try:
        return ort.InferenceSession(bytes(data), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds, none of a common class
        reason = str(error).partition("\n")[0][:120]
        raise UserError(f"{path} is no model that onnxruntime reads: {reason}") from error


class Sentences:
    """Word pieces -> sentence vectors, by sentence.onnx of a folder, as `features/sentence.py`'s
    own encoder makes them: equal lengths together, so that nothing is padded."""

    def __init__(self, folder: Path):
        about = utils.read_json(folder / DESCRIPTION).get("sentence")
        if not isinstance(about, dict) or "encoder" not in about:
            raise UserError(f"{folder / DESCRIPTION} says nothing of {SENTENCE}")
        self.config = about["encoder"]
        self.room = text.positions(self.config) - 2
        self.pieces, self.first, self.last, _ = text.tokenizer(folder, self.config)
        self.session = session(folder / SENTENCE)

    def average(self, tokens: tuple[list[int], ...]) -> np.ndarray:
        """(B, T) ids -> (B, dim)."""
        [vectors] = self.session.run(None, {"ids": np.array(tokens, np.int64)})
        return vectors

"""The folder of an exported model, and its parts opened with onnxruntime. No torch.

`python main.py export RUN --onnx` writes the folder:

    model.onnx           {features and their masks} -> {heads}, any number of windows
    model.int8.onnx      the same in eight bits, where it was asked for
    sentence.onnx        (B, T) word pieces of equal length, [CLS] first and [SEP] last -> (B, 768),
                         with the files of its tokenizer; absent where no encoder is needed
    model.json           the order of everything, the preprocessing in numbers, what was measured

`predictor.of_export` puts it to use.
"""

from pathlib import Path
from typing import Any

import numpy as np

import utils
from utils import UserError

DESCRIPTION, MODEL, INT8, SENTENCE = (
    "model.json",
    "model.onnx",
    "model.int8.onnx",
    "sentence.onnx",
)
FORMAT = 1  # of model.json
PARTS = ("format", "name", "inputs", "heads", "configuration", "temperature", "tails")


def description(folder: Path) -> dict[str, Any]:
    """model.json. Raises UserError for a folder that is no export."""
    said = utils.read_json(folder / DESCRIPTION)
    if said.get("format") != FORMAT or (lacking := [name for name in PARTS if name not in said]):
        what = f"format {said.get('format')!r}" if said.get("format") != FORMAT else lacking[0]
        raise UserError(
            f"{folder / DESCRIPTION} should be what `export` writes, format {FORMAT}; "
            f"it is not: {what}"
        )
    if not isinstance(said["configuration"], dict):
        raise UserError(f"{folder / DESCRIPTION}: configuration should be an object")
    return said


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
        import pretrained

        about = utils.read_json(folder / DESCRIPTION).get("sentence")
        if not isinstance(about, dict) or "encoder" not in about:
            raise UserError(f"{folder / DESCRIPTION} says nothing of {SENTENCE}")
        self.config = about["encoder"]
        self.room = pretrained.positions(self.config) - 2
        self.pieces, self.first, self.last, _ = pretrained.tokenizer(folder, self.config)
        self.session = session(folder / SENTENCE)

    def average(self, tokens: tuple[list[int], ...]) -> np.ndarray:
        """(B, T) ids -> (B, dim)."""
        [vectors] = self.session.run(None, {"ids": np.array(tokens, np.int64)})
        return vectors

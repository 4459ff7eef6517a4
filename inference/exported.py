"""The folder of an exported model, and its parts opened with onnxruntime. No torch.

`python main.py export RUN --onnx` writes the folder:

    model.onnx           {features and their masks} -> {heads}, any number of windows
    model.int8.onnx      the same in eight bits, where it was asked for
    sentence.onnx        (B, T) word pieces of equal length, [CLS] first and [SEP] last -> (B, 768),
                         with the files of its tokenizer; absent where no encoder is needed
    model.json           the order of everything, the preprocessing in numbers, what was measured

`opening.of_export` puts it to use.
"""

from pathlib import Path
from typing import Any

import utils
from models.encoders.onnx import DESCRIPTION
from utils import UserError

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

"""A model in eight bits: static quantisation, its ranges measured on training windows."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import utils
from dataset import Windows
from inference import predictor
from inference.exporting import onnx as onnx_export
from models.encoders import onnx

CALIBRATED = 64  # training windows, spread over all of them
QUANTISED = ("Conv", "Gemm", "MatMul")  # recurrent layers stay float32: onnxruntime has no other


class _Reader:
    """Batches for onnxruntime's calibration, of the inputs that the graph has."""

    def __init__(self, path: Path, windows: Windows, inputs: tuple[str, ...]):
        names = {node.name for node in onnx.session(path).get_inputs()}
        chosen = np.linspace(0, len(windows) - 1, min(CALIBRATED, len(windows))).astype(int)
        self.batches = self._made(windows, chosen, inputs, names)

    @staticmethod
    def _made(windows, chosen, inputs, names) -> Iterator[dict]:
        for start in range(0, len(chosen), predictor.BATCH):
            batch = onnx_export.batch(windows, chosen[start : start + predictor.BATCH], inputs)
            yield {name: values for name, values in batch.items() if name in names}

    def get_next(self) -> dict | None:
        return next(self.batches, None)


def write(path: Path, windows: Windows, out: Path) -> None:
    """Quantise the graph in `path` to `out`; `windows`: those of training."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(_Reader)
    inputs = tuple(utils.read_json(path.parent / onnx.DESCRIPTION)["inputs"])
    with tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"  # BatchNorm into the convolutions before it
        with onnx_export.quiet():
            quant_pre_process(path, folded, skip_symbolic_shape=True)
            quantize_static(
                folded,
                out,
                _Reader(path, windows, inputs),
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,  # without VNNI, 8 x 8 bits overflow 16
            )

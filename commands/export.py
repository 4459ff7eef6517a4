"""Write a trained run as ONNX, checked against torch on real windows.

    python main.py export RUN --onnx                  to exp/RUN/onnx: float32, and int8
    python main.py export RUN --onnx --no_int8 --out DIR

The corpus of the run is needed: what is written is compared with torch on its test windows, and
int8 is calibrated on training windows. What is in the folder: inference/exported.py.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import constants
import utils
from commands import Subcommand
from evaluation import bootstrap
from inference import opening, predictor, trained
from inference.exporting import int8
from inference.exporting import onnx as onnx_export
from models.encoders import onnx
from utils import UserError, setting

CLOSE = 1e-4  # largest difference from torch: of log-probabilities, and on the scale 1..5
SCORES = ("macro_f1", "uar", "ccc_arousal", "ccc_valence")


@dataclass(frozen=True)
class Settings:
    """The run, the format, and where its corpus is."""

    run: str = setting(
        "", "a finished run, or a published folder", position=True, required=True, metavar="RUN"
    )
    onnx: bool = setting(False, "the format; there is one")
    int8: bool = setting(True, "int8 beside float32")
    out: str | None = setting(None, "where to (default: onnx in RUN)", metavar="DIR")
    data: str | None = setting(None, "where the corpus of the run is now", metavar="DIR")
    text_encoder: str | None = setting(None, "where its text encoder is now", metavar="ID")
    speech_encoder: str | None = setting(None, "where its speech encoder is now", metavar="ID")
    rows: int | None = setting(
        None, "test windows to compare on (default: all)", least=1, metavar="N"
    )
    save_path: str = setting(constants.SAVE_PATH, "where the runs are")


class Command(Subcommand):
    """Write a model for onnxruntime."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
        """Export, compare, quantise, compare again; the folder appears when all of it is there."""
        if not settings.onnx:
            raise UserError("export writes one format: say --onnx")
        onnx_export.needed()
        folder = opening.found(settings.run, settings.save_path)
        out = Path(settings.out or folder / "onnx")
        if out.exists():
            raise UserError(f"{out} exists; take another --out, or remove it")
        moved = {"text_encoder": settings.text_encoder, "speech_encoder": settings.speech_encoder}
        judge = trained.of_run(folder, -1, moved)
        windows = onnx_export.windows(judge, settings.data)
        utils.make_folder(out.parent)
        place = Path(tempfile.mkdtemp(".tmp", f".{out.name}.", out.parent))
        try:
            _write(judge, windows, place, settings)
            place.chmod(0o755)
            place.rename(out)
            utils.sync_folder(out.parent)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        print(f"written: {out}")


def _write(judge: predictor.Predictor, windows: dict, place: Path, settings: Settings) -> None:
    test = windows["test"]
    chosen = np.arange(len(test))[: settings.rows]
    about = onnx_export.describe(judge)
    onnx_export.write(judge, test, place, about)
    measured = {"torch": onnx_export.said(judge, test, chosen)}
    measured["float32"] = onnx_export.said(opening.of_export(place), test, chosen)
    worst = max(
        float(np.abs(measured["torch"][0][head] - values).max(initial=0.0))
        for head, values in measured["float32"][0].items()
    )
    print(
        f"{onnx.MODEL}: opset {about['opset']}, at most {worst:.1e} from torch on "
        f"{len(chosen)} test windows, {_megabytes(place / onnx.MODEL)}"
    )
    if not worst <= CLOSE:
        raise UserError(f"the exported model is {worst:.1e} from torch, more than {CLOSE:g} allows")
    about["measured"] = {"windows": len(chosen), "difference_from_torch": worst}
    if settings.int8:
        int8.write(place / onnx.MODEL, windows["train"], place / onnx.INT8)
        measured["int8"] = onnx_export.said(opening.of_export(place, int8=True), test, chosen)
        size = [(place / name).stat().st_size for name in (onnx.MODEL, onnx.INT8)]
        about["measured"]["int8_size_ratio"] = size[1] / size[0]
        print(f"{onnx.INT8}: {_megabytes(place / onnx.INT8)}, {size[1] / size[0]:.2f} of it")
        about["measured"]["int8"] = _compared(measured, test, chosen, judge)
    utils.write_json(place / onnx.DESCRIPTION, about)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _compared(measured: dict, windows, chosen: np.ndarray, judge) -> dict:
    """Print and return scores of both, and what eight bits cost."""
    frames = {
        name: onnx_export.frame(windows, chosen, said) for name, (said, _) in measured.items()
    }
    ties = judge.configuration.get("ties", constants.TIES)
    lines, kept = [], {}
    for score in SCORES:
        pair = bootstrap.paired(frames["int8"], frames["float32"], score, ties)
        if not np.isfinite(pair["difference"]):
            continue
        kept[score] = {
            "float32": pair["b"],
            "int8": pair["a"],
            "difference": pair["difference"],
            "interval": [pair["low"], pair["high"]],
            "n": pair["n"],
        }
        lines.append([score, pair["b"], pair["a"], pair["difference"], pair["low"], pair["high"]])
    table = pd.DataFrame(lines, columns=["", "float32", "int8", "difference", "low", "high"])
    print(table.to_string(index=False, float_format="%.3f", col_space=9))
    speed = {name: seconds for name, (_, seconds) in measured.items()}
    print("ms a window: " + ", ".join(f"{name} {1000 * s:.1f}" for name, s in speed.items()))
    same = float((frames["int8"]["emotion"] == frames["float32"]["emotion"]).mean())
    print(f"the same emotion in {same:.1%} of the windows")
    return {"scores": kept, "same_emotion": same, "seconds_a_window": speed}

"""What of a run may be shown: its settings, facts and scores; no place here, no name of a row.

A key that a run does not write is left out: nobody knows what stands in it.
"""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from training.settings import settings_class
from utils import run_names

# flags about one machine, or about corpora by their folders; what was trained on stands in FACTS
HERE = {
    "data",
    "save_path",
    "save_name",
    "save_minutes",
    "resume",
    "test_only",
    "test_path",
    "gpu_id",
    "train_extra",
    "test_extra",
}
# what a run writes beside its flags (training/configuration.py), but for the command
FACTS = {
    "started",
    "git",
    "versions",
    "threads",
    "processes",
    "parameters",
    "corpus",
    "extra",
    "split",
    "class_counts",
    "class_counts_by_corpus",
    "class_weights",
    "majority",
}
# an encoder, and where a run keeps a digest of its files if it was a folder (`described`)
ENCODERS = {"text_encoder": "encoder_files", "speech_encoder": "speech_files", "vision_encoder": ""}
STARTS = r"(?:~\w*|\.{1,2}|[A-Za-z]:)?"
PATH = re.compile(rf"{STARTS}[\\/]")  # how a text begins that is one; a hub id does not
WITHIN = re.compile(rf"(?<![\w./\\-]){STARTS}(?:[\\/][^\\/\s,;:'\"()]+)+")  # one in a text


def configuration(run: Path, said: dict, result: dict) -> dict:
    """config.json: how the model is built and its features are made, from configuration.json.

    `temperature`: of the confidence, `threshold`: of highlights; None where none was fitted.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_class(said["model"]))}
    kept = {n: value for n, value in said.items() if n in (fields.keys() - HERE) | FACTS}
    kept |= {flag: _encoder(run, said, flag) for flag in ENCODERS if kept.get(flag)}
    for name, field in fields.items():
        if field.metadata.get("runs") and kept.get(name):
            kept[name] = ",".join(map(_last, run_names(kept[name])))
    if "corpus" in kept:
        kept["corpus"] = kept["corpus"] | {"folder": ""}  # a reader may look for it
        kept["extra"] = [extra | {"folder": ""} for extra in kept.get("extra", [])]
    fitted = {"temperature": result.get("calibration", {}).get("temperature")}
    if "highlight" in result:
        fitted["threshold"] = result["highlight"]["threshold"]
    return portable(kept) | fitted


def _encoder(run: Path, said: dict, flag: str) -> str:
    """A hub id as it is; of a folder or file, which is not published, `./NAME`."""
    value = said[flag]
    places = [Path(), *run.resolve().parents]  # it may have been named from where runs are made
    local = said.get(ENCODERS[flag]) or value.endswith(".npy") or value.count("/") > 1
    local = local or any(os.path.exists(place / value) for place in places)
    return _last(value) if local else value


def result(found: dict) -> dict:
    """result.json, of videos their number in place of their names."""
    films = found.get("highlight")
    for part in [*films["scores"].values(), films["human"]] if films else []:
        part["undefined"] = len(part["undefined"])
    return portable(found)


def portable(value: Any) -> Any:
    """JSON without places: of every path in its texts and names, `./NAME` is left."""
    if isinstance(value, dict):
        return {portable(name): portable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if not isinstance(value, str):
        return value
    return _last(value) if PATH.match(value) else WITHIN.sub(lambda path: _last(path[0]), value)


def _last(path: str) -> str:
    return "./" + re.split(r"[\\/]", path.rstrip("\\/"))[-1]

"""What a finished run wrote, and the material it was made of."""

import dataclasses
import json
from pathlib import Path

import dataset
from doubles.small_runs import DATA
from training.flags import parse

VOTES = "disgust angry sad fear surprise neutral happy".split()
VAL = ["--val_split", "[2]", "--lr_decay", "1"]


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "train_loss.log").read_text().splitlines()]


def read(folder: Path, name: str = "configuration.json") -> dict:
    return json.loads((folder / name).read_text())


def open_material(data: str = "corpus", **changes) -> dataset.Material:
    settings = parse([*DATA, "--max_bad", "0.5"]).settings
    settings = dataclasses.replace(settings, data=data, **changes)
    return dataset.open_material(settings, ("log_mel", "sentence"))

"""Runs made to be published, and what the subcommand makes of them."""

import shutil
import struct
from pathlib import Path

from huggingface_hub import ModelCard

import main
import model
from doubles.small_models import small, windows
from utils import read_json, write_json

FILES = ["README.md", "config.json", "model.safetensors", "protocol.json", "result.json"]
TINY = {"model": "lstm_audio", "hidden_size": 4, "ws": 1}  # 2,000 numbers; MATE has 4 million


def published(run: Path, out: Path, *flags: str) -> Path:
    """What the subcommand writes."""
    assert (
        main.main(["publish", run.name, "--save_path", str(run.parent), "--out", str(out), *flags])
        == 0
    )
    return out


def card_of(folder: Path) -> ModelCard:
    return ModelCard((folder / "README.md").read_text(encoding="utf-8"))


def saved(folder: Path, name: str, configuration: dict, **changed: object) -> Path:
    """A run of any model as training leaves it, but for scores; `configuration`: of another run."""
    said = configuration | small(name) | {"model": name} | changed
    built = model.build(name, said, seed=7)
    if built.FITTED:
        built.fit(windows(name, small(name), seed=1, rows=60))
    model.save(folder, built, said)
    return folder


def another(run_folder: Path, folder: Path, flags: dict) -> Path:
    """That run, of another model and without pictures."""
    kept = shutil.ignore_patterns("*.png", "*.html", "model.*")
    shutil.copytree(run_folder, folder, ignore=kept)
    said = read_json(folder / "configuration.json") | flags
    model.save(folder, model.build(said["model"], said, seed=1), said)
    return folder


def rewrite(path: Path, **changed: object) -> None:
    write_json(path, read_json(path) | changed)


def everything(folder: Path) -> bytes:
    """All files, of the tensors their header: any three letters are among millions of numbers."""
    held = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    tensors = held["model.safetensors"]
    held["model.safetensors"] = tensors[: 8 + struct.unpack("<Q", tensors[:8])[0]]
    return b"\0".join(held.values())


SECRETS = {
    "text_encoder": "/home/kim/bert",
    "speech_encoder": "~kim/w2v",
    "save_name": "kims",
    "vision_encoder": "C:\\Users\\kim\\vit",
    "data": "kemdy19:/home/kim/K",
    "save_path": "kim/exp",
    "train_extra": ["kemdy20:/home/kim/K20"],
    "note": "kim was here",
    "tested": "kim/exp/run",
    "command": "python main.py --data /home/kim/K",
    "test_path": "kim",
    "class_weights": ["../kim/w"],
    "corpus": {
        "name": "kemdy19",
        "label": "kemdy19",
        "folder": "/home/kim/K19",
        "synthetic": False,
        "fingerprint": "0123",
    },
    "extra": [
        {
            "name": "kemdy20",
            "folder": "kim/K20",
            "fingerprint": "4567",
            "synthetic": False,
            "split": {"train": [1, 2], "val": [], "test": []},
        }
    ],
}

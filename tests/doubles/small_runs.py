"""Small runs trained on the synthetic corpus, and what is in their folders."""

import shutil
from pathlib import Path

import main

DATA = ["--data", "corpus", "--test_split", "[3,4]", "--text_encoder", "char-ngram"]


SMALL = [
    *DATA,
    "--hidden_size",
    "8",
    "--batch_size",
    "8",
    "--precision",
    "float32",
    "--gpu_id",
    "-1",
]


TEXT = [*SMALL, "--modality", "text", "--epochs", "1"]


def furnished(folder: Path, workplace: Path) -> Path:
    """A folder to work in, with a link to the corpus, and its tables and features."""
    (folder / "corpus").symlink_to(workplace / "corpus")
    shutil.copytree(workplace / "data", folder / "data")
    return folder


def trained(*words: str, save_path: str = "exp") -> Path:
    """The folder of a run that is made now; a flag given again replaces the one in TEXT."""
    before = set(Path(save_path).glob("*"))
    assert main.main([*TEXT, *words, "--save_path", save_path]) == 0
    [folder] = set(Path(save_path).glob("*")) - before
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

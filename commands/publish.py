"""Write a finished run as a folder for the Hugging Face hub: weights, configuration, model card.

    python main.py publish RUN --out DIR
    python main.py publish RUN --out DIR --license cc-by-nc-4.0

Nothing is uploaded. DIR holds model.safetensors, config.json, README.md (the card), and result.json
and protocol.json of the run. `model.load` and `predict` read it as they read the run. Neither
utterances nor places on this machine are in it. How that is done: inference/publishing/.
"""

import argparse
import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

import constants
import model as models
from commands import Subcommand
from evaluation.run_configuration import RunConfiguration
from inference.publishing import card as model_card
from inference.publishing import origins, portable
from reporting import page
from training import run_folder
from utils import (
    UserError,
    first_few,
    make_folder,
    read_json,
    setting,
    sync_folder,
    write_atomic,
    write_json,
)

COPIED = ("result.json", "protocol.json")  # where the run has them
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")  # ids of the hub


def _license(text: str) -> str:
    if not LICENSE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"needs an id such as mit or cc-by-nc-4.0, got {text!r}")
    return text


@dataclass(frozen=True)
class Settings:
    """The run, where to, under which licence."""

    run: str = setting(
        "", "a finished run, by name or folder", position=True, required=True, metavar="RUN"
    )
    out: str = setting(
        "", "a new or empty folder, named as the model is", required=True, metavar="DIR"
    )
    license: str = setting(
        model_card.UNDECIDED,
        "of the weights, by the hub's id; the terms of the corpora stand beside it (default: "
        f"{model_card.UNDECIDED}: none is chosen)",
        read=_license,
        metavar="ID",
    )
    save_path: str = setting(constants.SAVE_PATH, "where the runs are")


class Command(Subcommand):
    """Write a model for the hub."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
        """Read the run, write the folder whole or not at all."""
        out = Path(settings.out)
        _refuse_place(out)
        run = run_folder.find(settings.run, settings.save_path)
        _refuse_ensemble(run)
        run_folder.check_trained(run)
        model, configuration = models.load(run)
        RunConfiguration.of(configuration, run / models.CONFIGURATION)
        with page.written_by_a_run(run, models.CONFIGURATION, *COPIED), _staged(out) as folder:
            configuration = _write(folder, run, model, configuration, settings.license)
        print(
            f"published {run.name} in {out}; nothing was uploaded, read its README.md before you do"
        )
        for about in origins.corpora(configuration).values():
            print(f"{about.title} {about.terms}")


def _write(folder: Path, run: Path, model: nn.Module, configuration: dict, license: str) -> dict:
    """Every file of a published run; returns what its config.json says."""
    result, protocol = (_read(run / name) for name in COPIED)
    result, protocol = portable.result(result), portable.portable(protocol)
    configuration = portable.configuration(run, configuration, result)
    card = model_card.card(
        folder.name, configuration, result, protocol, models.heads(model), license
    )
    models.publish(folder, model, configuration)
    for name, value in zip(COPIED, (result, protocol), strict=True):
        if value:
            write_json(folder / name, value)
    write_atomic(folder / "README.md", card)
    _check_same(folder, model)
    return configuration


def _read(path: Path) -> dict:
    return read_json(path) if path.exists() else {}


@contextlib.contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` when all is well; else nothing is left of it."""
    make_folder(out.parent)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as part:
            folder = make_folder(Path(part, out.name))
            yield folder
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
        sync_folder(out.parent)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error


# --- refused -------------------------------------------------------------------------------------


def _refuse_place(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} should be a new or empty folder, it is a file")
    if out.exists() and (others := sorted(path.name for path in out.iterdir())):
        held = first_few(others, rest=", ...")
        raise UserError(f"--out {out} should be a new or empty folder, it holds {held}")


def _refuse_ensemble(run: Path) -> None:
    members = read_json(run / models.CONFIGURATION).get("members")
    if members is not None:
        found = members if isinstance(members, list) else []
        names = [str(member.get("name")) for member in found if isinstance(member, dict)]
        raise UserError(
            f"{run} is an ensemble, which has no weights of its own; publish its "
            f"members, each by itself: {', '.join(names)}"
        )


def _check_same(folder: Path, model: nn.Module) -> None:
    """A UserError unless what was written is read as the model that it was."""
    again, _ = models.load(folder)
    if models.serialise(again.state_dict()) != models.serialise(model.state_dict()):
        raise UserError(
            f"{folder.name} reads back differently than it was written; is the disk sound?"
        )

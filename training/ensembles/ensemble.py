"""An ensemble as a run: its members, what is learnt of them, its folder, and testing it again.

Members are finished runs, of models or other ensembles, that predict by themselves; their tables
are joined and combined in `combination.py`. `commands/ensemble.py` makes ensembles;
`test` tests one again.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import model as models
from evaluation import alignment, calibration, finished_runs
from evaluation.predictions import read_predictions
from evaluation.run_configuration import RunConfiguration, RunResult
from reporting import console, tables
from reporting import page as run_page
from training import configuration as run_configuration
from training import run, run_folder
from training.ensembles import combination, score_table
from training.ensembles.combination import Combination, Joined, Learnt
from training.scores import UNFITTED, write_result
from training.settings import TrainingSettings
from utils import UserError, checksum, make_folder, read_json, write_atomic, write_json

STACKER = "stacker.json"
KEPT = (  # of the configuration of the first member
    "data",
    "tables",
    "train_extra",
    "test_extra",
    "labels",
    "extra",
    "class_counts",
    "class_counts_by_corpus",
    "majority",
)


class Member(NamedTuple):
    """One finished run of an ensemble, and all rows of its predictions.csv."""

    name: str
    folder: Path
    configuration: RunConfiguration
    predictions: pd.DataFrame

    @property
    def model(self) -> str:
        return self.configuration.model

    @property
    def imported(self) -> bool:
        """Whether it was read from files of 2022, which no model of ours can predict again."""
        return not (self.folder / "configuration.json").is_file()

    def rows(self, name: str) -> pd.DataFrame:
        """Those of one set: "test", "val" or "oof"."""
        return self.predictions[self.predictions["set"] == name].reset_index(drop=True)


class EnsembleSettings(NamedTuple):
    """Where an ensemble is written, how it is scored, and the command that made it."""

    save_path: str
    ties: str
    seed: int
    command: str


class Fitting(NamedTuple):
    """The rows that something is fitted on: their set, "oof" or "val", and what they are called."""

    name: str
    joined: Joined
    told: str


def read(name: str, folder: Path) -> Member:
    """A finished run; a UserError if none lies there."""
    configuration = finished_runs.read(folder).configuration
    configuration.require("model", "SorL", "split", "corpus")
    return Member(name, folder, configuration, read_predictions(folder / "predictions.csv"))


def joined(members: Sequence[Member], name: str) -> Joined:
    """The rows of one set, as `combination.join`."""
    return combination.join({member.name: member.rows(name) for member in members})


def fitting(members: Sequence[Member]) -> Fitting | None:
    """Out-of-fold rows if all members have them, else validation rows; None without either.

    UserError where the members have different ones, or one of them is a test row.
    """
    for name, told in (("oof", "out-of-fold rows"), ("val", "validation rows")):
        if all(len(member.rows(name)) for member in members):
            found = Fitting(name, joined(members, name), told)
            _refuse_tested(found, joined(members, "test"))
            return found
    return None


def _refuse_tested(fitted: Fitting, tested: Joined) -> None:
    keys, others = (alignment.keys(part.table) for part in (fitted.joined, tested))
    both = keys[keys.isin(others)]
    if len(both):
        raise UserError(
            f"{len(both)} rows of the set {fitted.name} are tested, too (e.g. "
            f"{alignment.name_of(both[0])}); nothing may be fitted on them"
        )


# --- the folder ---------------------------------------------------------------------------------


def write(
    members: Sequence[Member], learnt: Learnt, fitted: Fitting | None, settings: EnsembleSettings
) -> Path:
    """A new run folder: these members combined as was learnt on the `fitted` rows; returns it."""
    frame = combination.combine(joined(members, "test"), learnt.how).assign(set="test")
    known = UNFITTED
    if fitted is not None:
        rows = learnt.of(fitted.joined).assign(set=fitted.name)
        known = RunResult(calibration.temperature(rows), len(calibration.fitted_rows(rows)))
        frame = pd.concat([frame, rows], ignore_index=True)
    how = learnt.how
    stacker = how.stacker and _json(how.stacker)
    configuration = _describe(members, how, stacker, settings)
    name = f"ensemble_{how.method}_{configuration['SorL']}_{run_folder.now()}"
    folder = run_folder.fresh(make_folder(settings.save_path), name, configuration)
    if stacker:
        write_atomic(folder / STACKER, stacker)
    members = [_imported(member, folder, configuration) for member in members]
    card = _card(members) | {"members": [member.name for member in members]}
    card["combination"] = _told(learnt, fitted)
    _finish(folder, members, frame, configuration, card, known)
    return folder


def _told(learnt: Learnt, fitted: Fitting | None) -> dict:
    """How the members were combined, for protocol.json."""
    rows = "nothing" if fitted is None else fitted.told
    return {
        "method": learnt.how.method,
        "weights": learnt.how.weights,
        "stacker": learnt.how.stacker and learnt.how.stacker["kind"],
        "learnt_on": rows if learnt.again else "nothing",
        "temperature_on": rows,
        "rows": 0 if fitted is None else len(fitted.joined.table),
    }


def _imported(member: Member, folder: Path, configuration: dict) -> Member:
    """A member read from files of 2022, written as a run in the folder of its ensemble."""
    if not member.imported:
        return member
    place = make_folder(folder / "members" / member.name)
    again = {"ties": configuration["ties"], "seed": configuration["seed"]}
    said = dict(member.configuration.values) | again
    about = {
        "synthetic": False,
        "uses_test_audio": False,
        "preparation": [],
        "warnings": [],
        "rows": dict.fromkeys(("read", "kept"), len(member.predictions)),
        "ties": configuration["ties"],
    }
    write_json(place / "configuration.json", said)
    write_json(place / "protocol.json", {"corpus": said["corpus"], "uses_test_audio": False})
    write_result(place, member.predictions.copy(), RunConfiguration.of(said), about, UNFITTED)
    run_page.write(place)
    return member._replace(folder=place)


def _json(value: dict) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _describe(
    members: Sequence[Member], how: Combination, stacker: bytes | None, settings: EnsembleSettings
) -> dict:
    """configuration.json: what a run's has, as far as an ensemble has it."""
    first = members[0].configuration.values
    split = _split(members)
    return {
        "model": "ensemble",
        "method": how.method,
        "SorL": first["SorL"],
        "weights": how.weights,
        "stacker": stacker and {"kind": how.stacker["kind"], "checksum": checksum(stacker)},
        "members": [_entry(member, settings.save_path) for member in members],
        "ties": settings.ties,
        "seed": settings.seed,
        "command": settings.command,
        "test_split": split["test"],
        "split": split,
        "corpus": first["corpus"],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": run_configuration.git_revision(),
        "versions": {name: version(name) for name in run_configuration.PACKAGES},
    } | {name: first[name] for name in KEPT if name in first}


def _split(members: Sequence[Member]) -> dict[str, list]:
    """Sessions that any member was trained on; that any was validated on, but none trained on."""
    train, val = (
        sorted({s for member in members for s in getattr(member.configuration.split, name)})
        for name in ("train", "val")
    )
    return {
        "train": train,
        "val": [session for session in val if session not in train],
        "test": members[0].configuration.values["split"]["test"],
    }


def _entry(member: Member, save_path: str) -> dict:
    """What is written of a member; its folder as seen from that of the runs, so both can move."""
    if member.imported:
        seal = member.configuration.corpus.fingerprint
    else:
        seal = checksum(_sealed(member.folder).read_bytes())
    place = Path(os.path.relpath(member.folder, save_path)).as_posix()
    entry = {"name": member.name, "model": member.model, "folder": place, "checksum": seal}
    return entry | {"imported": True} if member.imported else entry


def _sealed(folder: Path) -> Path:
    """The file that makes a member what it is: its weights; of an ensemble, its configuration."""
    weights = folder / models.WEIGHTS
    return weights if weights.exists() else folder / "configuration.json"


def _card(members: Sequence[Member]) -> dict:
    found = [_read(member.folder / "protocol.json") for member in members]
    return found[0] | {"uses_test_audio": any(card.get("uses_test_audio") for card in found)}


def _read(path: Path) -> dict:
    return read_json(path) if path.exists() else {}


def _finish(
    folder: Path,
    members: Sequence[Member],
    frame: pd.DataFrame,
    configuration: dict,
    card: dict,
    fitted: RunResult,
) -> None:
    """Predictions, scores, comparison and page, in this order; print the tables."""
    write_json(folder / "protocol.json", card)
    known = RunConfiguration.of(configuration)
    about = _about(members, card) | {"ties": configuration["ties"]}
    result = write_result(folder, frame, known, about, fitted)
    compared = _compare(folder, members, configuration)
    layout = score_table.write_table(
        folder,
        {member.name: member.rows("test") for member in members},
        frame,
        known,
        configuration["method"],
    )
    page = run_page.write(folder)  # the last: it says that the run is finished
    print(console.console(result))
    print(f"\n{layout}\n\ncomparison: {compared}\nreport: {page}")


def _about(members: Sequence[Member], card: dict) -> dict:
    """What result.json says of the corpus: of the first member, with the warnings of all."""
    count = len(members[0].predictions)
    found = [read_json(member.folder / "result.json") for member in members]
    warnings = [line for result in found for line in result.get("warnings", [])]
    return {
        "synthetic": any(result.get("synthetic") for result in found),
        "uses_test_audio": card["uses_test_audio"],
        "preparation": found[0].get("preparation", []),
        "rows": found[0].get("rows", {"read": count, "kept": count}),
        "warnings": list(dict.fromkeys(warnings)),
    }


def _compare(folder: Path, members: Sequence[Member], configuration: dict) -> Path:
    """The ensemble beside each member, with paired tests: `comparison/`; returns its page."""
    name = f"ensemble ({configuration['method']})"
    rows = {name: [finished_runs.read(folder)]}
    rows |= {member.name: [finished_runs.read(member.folder)] for member in members}
    place = make_folder(folder / "comparison")
    return tables.write(place, tables.compared(folder.name, rows, configuration["ties"], place))


# --- testing again --------------------------------------------------------------------------------


def is_one(folder: Path) -> bool:
    """Whether an ensemble lies in a run folder."""
    return "members" in read_json(folder / "configuration.json")


def test(folder: Path, settings: TrainingSettings, given: dict, command: str) -> Path:
    """Test every member again and combine them as it was learnt.

    Writes `<folder>/test_<UTC time>/`, and the same to each member. UserError where a member is
    gone or is not what it was.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("an ensemble is tested by one process, not by torchrun or accelerate")
    configuration = read_json(folder / "configuration.json")
    how = _stored(folder, configuration)
    folders = [_unchanged(folder, entry) for entry in configuration["members"]]
    places = [
        (test if is_one(member) else run.test)(member, settings, given, command)
        for member in folders
    ]
    members = [
        read(entry["name"], place)
        for entry, place in zip(configuration["members"], places, strict=True)
    ]
    frame = combination.combine(joined(members, "test"), how).assign(set="test")
    first = members[0].configuration.values
    split = first["split"]
    configuration |= {name: value for name, value in given.items() if value is not None} | {
        "command": command,
        "tested": str(folder),
        "split": split,
        "test_split": split["test"],
        "corpus": first["corpus"],
        "members": [_entry(member, str(folder)) for member in members],
    }
    place = run_folder.fresh(folder, f"test_{run_folder.now()}", configuration)
    kept = _read(folder / "protocol.json")
    card = _card(members) | {name: kept.get(name) for name in ("members", "combination")}
    _finish(place, members, frame, configuration, card, RunResult.read(folder))
    return place


def _stored(folder: Path, configuration: dict) -> Combination:
    """How the members were combined, from the folder of the ensemble."""
    path = folder / "configuration.json"
    members, weights = configuration["members"], configuration.get("weights")
    texts = ("name", "folder", "checksum")
    if not isinstance(members, list) or not all(
        isinstance(m, dict) and all(isinstance(m.get(key), str) for key in texts) for m in members
    ):
        raise UserError(f"{path}: members should be objects with {', '.join(texts)}")
    if configuration.get("method") not in combination.METHODS or not (
        weights is None
        or (isinstance(weights, list) and all(isinstance(w, int | float) for w in weights))
    ):
        raise UserError(
            f"{path}: method should be one of {', '.join(combination.METHODS)}, "
            f"weights numbers or null"
        )
    RunConfiguration.of(configuration, path)
    stacker = None
    if configuration["method"] == "stack":
        seal = (configuration.get("stacker") or {}).get("checksum")
        if not (folder / STACKER).is_file() or checksum((folder / STACKER).read_bytes()) != seal:
            raise UserError(
                f"{folder / STACKER} is not the one that was fitted: its checksum "
                f"differs, or it is gone"
            )
        stacker = read_json(folder / STACKER)
    return Combination(configuration["method"], weights, stacker)


def _unchanged(folder: Path, entry: dict) -> Path:
    """The folder of a member; a UserError if it is gone or another one."""
    member = folder.parent / entry["folder"]
    if entry.get("imported"):
        raise UserError(
            f"the member {entry['name']} of {folder.name} was read from files of 2022: "
            f"there is no model to test again"
        )
    if not (member / "configuration.json").is_file():
        raise UserError(f"the member {entry['name']} of {folder.name} is gone: no run {member}")
    if checksum(_sealed(member).read_bytes()) != entry["checksum"]:
        raise UserError(
            f"the member {entry['name']} of {folder.name} has changed: "
            f"{_sealed(member)} has another checksum"
        )
    return member

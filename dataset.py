"""A corpus made ready, and windows of it as batches.

`open_corpus` recognises a folder, has its corpus's leaf read it and `audit.py` listen to it, and
keeps the tables under data/prepared/. `Windows` turns one role of it into batches.
Splits and window indices are in `protocol.py`, the guard in `leakage.py`, cached features in
`feature.py`.
"""

import argparse
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch

import audit
import constants
import feature
import leakage
import protocol
from annotation import VOTES
from resident import Resident
from utils import UserError, digest, leaf, leaves, lock, make_folder, write_atomic

VERSION = 2  # of the prepared tables; a change prepares every corpus again
MARK = "SYNTHETIC.json"  # written last into a folder that a leaf synthesised

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say which corpus, for every verb that reads one."""
    parser.add_argument(
        "--data", default=constants.DATA,
        help="DIR, CORPUS:DIR, or `sample` for the synthetic corpus (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--tables",
        choices=["raw", "2022"],
        default="raw",
        help="2022: read the df_speaker.csv and df_listener.csv of that year",
    )
    parser.add_argument(
        "--max_bad",
        type=_share,
        default=constants.MAX_BAD,
        metavar="SHARE",
        help="share of rows allowed in quarantine (default: %(default)s)",
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"needs a number from 0 to 1, got {text!r}")
    return value


# --- a corpus, prepared --------------------------------------------------------------------------


@dataclass
class Corpus:
    """One corpus: `utterances` of all roles and `troubles` met (columns: annotation.py)."""

    name: str
    folder: Path
    prepared: Path
    utterances: pd.DataFrame
    troubles: pd.DataFrame
    fingerprint: str
    synthetic: bool

    def role(self, role: str) -> pd.DataFrame:
        """The rows of one role, in spoken order, numbered from 0."""
        roles = list(dict.fromkeys(self.utterances["role"]))
        if role not in roles:
            raise UserError(f"{self.name} has no {role!r} labels; it has: {', '.join(roles)}")
        return self.utterances[self.utterances["role"] == role].reset_index(drop=True)

    def counts(self) -> list[dict]:
        """Troubles counted by treatment and reason, most severe treatment first."""
        order = {"quarantined": 0, "masked": 1, "converted": 2, "reported": 3}
        table = self.troubles.groupby(["treatment", "reason"], sort=False).size()
        rows = [{"treatment": t, "reason": r, "count": int(n)} for (t, r), n in table.items()]
        return sorted(rows, key=lambda row: (order[row["treatment"]], -row["count"], row["reason"]))


def open_corpus(data: str, tables: str = "raw", max_bad: float = constants.MAX_BAD) -> Corpus:
    """The corpus behind `--data`, prepared now if it never was or if a file of it changed."""
    name, folder = recognise(data, tables)
    reader = leaf("corpora", name)
    prepared = Path(constants.PREPARED) / f"{name}-{digest(str(folder.resolve()))}"
    state, tables, _ = _prepared(reader, folder, prepared)
    if tables is None:
        with lock(make_folder(prepared) / "lock", f"preparing {folder}"):
            state, tables, damage = _prepared(reader, folder, prepared)  # by the one waited for
            if damage:
                log.warning("%s; prepared again", damage)
            if tables is None:
                _prepare(reader, folder, prepared, state, max_bad)
                tables = audit.read_tables(prepared, state)
    utterances, troubles = tables
    _check_bad(utterances, troubles, folder, prepared, max_bad)  # it may be another by now
    synthetic = (folder / MARK).exists()
    return Corpus(name, folder, prepared, utterances, troubles, state, synthetic)


def recognise(data: str, tables: str = "raw") -> tuple[str, Path]:
    """`DIR`, `CORPUS:DIR` or the name of a leaf that makes a corpus -> (leaf, folder)."""
    name, colon, place = data.partition(":")
    if name in leaves("corpora") and (colon or hasattr(leaf("corpora", name), "write")):
        if hasattr(leaf("corpora", name), "write"):
            return _made(name, Path(place) if place else Path("data") / name)
        if not Path(place).is_dir():
            raise UserError(f"no folder {place!r} to read as {name}")
        return name, Path(place)
    folder = Path(data)
    if not folder.is_dir():
        raise UserError(
            f"no corpus folder {data!r}; put the corpus there, name another with --data DIR, "
            f"or try the synthetic corpus with --data sample"
        )
    found = [n for n in leaves("corpora") if leaf("corpora", n).matches(folder)]
    if len(found) > 1 or tables == "2022":
        found = [n for n in found if getattr(leaf("corpora", n), "TABLES", "raw") == tables]
    if len(found) != 1:
        what = f"looks like {' and '.join(found)}" if found else "has the tree of no known corpus"
        raise UserError(f"{folder} {what}; say which with --data CORPUS:{data} (corpora: "
                        f"{', '.join(leaves('corpora'))})")  # fmt: skip
    return found[0], folder


def _made(name: str, folder: Path) -> tuple[str, Path]:
    """Write a synthetic corpus unless it is there, whole; then it is read like any other."""
    if not (folder / MARK).exists():
        with lock(make_folder(folder.parent) / f".{folder.name}.lock", f"writing {folder}"):
            if not (folder / MARK).exists():  # still: not by the one waited for
                leaf("corpora", name).write(make_folder(folder))
    return recognise(str(folder))


def fingerprint(files: list[Path], folder: Path) -> str:
    """Digest of names, sizes and times of a corpus's files: changes when any of them does."""
    stats = sorted([path.relative_to(folder).as_posix(), *_stat(path)] for path in files)
    return digest([VERSION, stats], 16)


def _stat(path: Path) -> tuple[int, int]:
    """Size and time; zeros where a link leads nowhere: that one is quarantined later."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _prepared(
    reader: ModuleType, folder: Path, prepared: Path
) -> tuple[str, tuple[pd.DataFrame, pd.DataFrame] | None, str]:
    """The state a corpus is in, its tables if they were prepared from that, and their damage."""
    state = fingerprint(reader.sources(folder), folder)
    try:
        return state, audit.read_tables(prepared, state), ""
    except UserError as error:
        return state, None, str(error)


def _prepare(reader: ModuleType, folder: Path, prepared: Path, state: str, max_bad: float) -> None:
    """Read, audit and write the tables, unless too many rows are bad: then quarantine.csv alone."""
    utterances, troubles = reader.read(folder)
    utterances, heard = audit.audit(utterances, folder)
    troubles = pd.concat([troubles, heard], ignore_index=True)
    files = audit.tables(utterances, troubles)
    write_atomic(prepared / "quarantine.csv", files["quarantine.csv"])
    _check_bad(utterances, troubles, folder, prepared, max_bad)
    audit.write_tables(prepared, files, state, folder)


def _check_bad(
    utterances: pd.DataFrame, troubles: pd.DataFrame, folder: Path, prepared: Path, max_bad: float
) -> None:
    """A UserError when more than `max_bad` of the rows are in quarantine."""
    share = (utterances["quarantine"] != "").mean()
    if share > max_bad:
        bad = troubles.loc[troubles["treatment"] == "quarantined", "reason"]
        reasons = ", ".join(f"{n} x {r}" for r, n in bad.value_counts()[:3].items())
        raise UserError(
            f"{share:.1%} of the rows of {folder} are unusable, more than --max_bad {max_bad:g} "
            f"allows ({reasons}); see {prepared}/quarantine.csv"
        )


# --- windows, as batches -------------------------------------------------------------------------


@dataclass
class Material:
    """One role of a corpus with the features a model reads."""

    corpus: Corpus
    utterances: pd.DataFrame
    stores: dict[str, feature.Store]
    sets: protocol.Split
    warnings: list[str] = field(default_factory=list)
    removed: np.ndarray | bool = False  # (N,): what --disjoint keeps out of training; and why
    reasons: dict[str, int] = field(default_factory=dict)
    target: str = "votes"  # what the emotion head learns, see _truth
    resident: dict[torch.device, "Resident"] = field(default_factory=dict)  # see Windows.keep_on

    def masked(self) -> list[dict]:
        """What the features could not use, counted like `Corpus.counts`."""
        reasons = [f"{name}: {reason}" for name, store in self.stores.items()
                   for _, reason in store.troubles]  # fmt: skip
        return [{"treatment": "masked", "reason": reason, "count": count}
                for reason, count in Counter(reasons).items()]  # fmt: skip


def open_material(
    settings: argparse.Namespace, inputs: tuple[str, ...], train: bool = True
) -> Material:
    """Prepare what `settings` (data, tables, SorL, test_split, val_split, ...) name.

    A `text_encoder` of None becomes the one that is used. `train`: whether sessions must be left
    to train on.
    """
    corpus = open_corpus(settings.data, settings.tables, settings.max_bad)
    utterances = corpus.role(settings.SorL)
    if train:
        utterances = protocol.leave_out(utterances, settings)
    sets = protocol.split(utterances["session"], settings.test_split, settings.val_split, train)
    if settings.text_encoder is None:
        vectors = corpus.folder / constants.TEXT_VECTORS
        settings.text_encoder = str(vectors) if vectors.is_file() else constants.TEXT_ENCODER
    disjoint = settings.disjoint if train else None
    removed, reasons, warnings = leakage.guard(utterances, sets, disjoint)
    stores = {
        name: feature.extract(name, utterances, corpus.folder, corpus.prepared, settings)
        for name in inputs
    }
    for store in stores.values():
        if store.kind != "wav":  # made of the words, which windows of other rows hold too
            store.available[removed] = False
    target = settings.target
    return Material(corpus, utterances, stores, sets, warnings, removed, reasons, target)


class Windows(torch.utils.data.Dataset):
    """Windows of `ws` utterances of one dialogue; the last one is judged.

    `material` holds the utterances and features; `name` is the set: "train", "val" or "test".
    An item is the batch dict of one window, without the batch axis. Training loops take
    `batch(indices)` instead: one gather for all of them.
    """

    def __init__(self, material: Material, name: str, ws: int = constants.WINDOW):
        self.utterances, self.stores = material.utterances, material.stores
        of = material.sets.of(self.utterances["session"])
        target = protocol.is_target(self.utterances) & np.logical_not(material.removed)
        self.rows = np.flatnonzero((of == name) & target)
        self.index = protocol.windows(self.utterances["dialogue"], ws)[self.rows]
        self.visible = (self.utterances["quarantine"] == "").to_numpy()
        self.truth = _truth(self.utterances, material.target)
        self.shared, self.resident = material.resident, None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {name: tensor[0] for name, tensor in self.batch(np.array([i])).items()}

    def batch(self, indices: np.ndarray, cut: np.ndarray | None = None) -> dict:
        """(B,) window numbers -> batch (README, "batch"), on the CPU unless `keep_on` says else.

        `cut` (B, ws), each in [0, 1): where in its spare length a long clip is cut; None: in the
        middle. What a window holds depends on nothing but its number and its cuts.
        """
        index, targets = self.index[indices], self.rows[indices]
        rows = np.where((index >= 0) & self.visible[index], index, -1)
        if self.resident is not None:
            return self.resident.batch(rows, targets, cut)
        batch = {"mask": torch.from_numpy(rows >= 0), "row": torch.from_numpy(targets)}
        for name, store in self.stores.items():
            batch[name] = torch.from_numpy(store.gather(rows, cut))
            batch[f"{name}_mask"] = torch.from_numpy(store.mask(rows))
        return batch | {n: torch.from_numpy(values[targets]) for n, values in self.truth.items()}

    def keep_on(self, device: torch.device, room: int | None = None) -> bool:
        """Hold all utterances on `device`, from where batches come then, equal to those before.

        Held once for all Windows of one material; each asks for itself. False, and nothing has
        changed, if that needs more than `room` bytes. By default: half of what is free on a GPU,
        and 0 elsewhere, since the cache is in the CPU's memory as it is. A ragged feature is not.
        """
        if any(store.ragged for store in self.stores.values()):
            return False
        if device not in self.shared:
            if room is None:
                room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 0
            if Resident.size(self.stores) > room:
                return False
            self.shared[device] = Resident(self.stores, self.truth, device)
        self.resident = self.shared[device]
        return True

    @property
    def lengths(self) -> np.ndarray | None:
        """(N,) steps of ragged features in the longest slot of each window; None without any."""
        rows = np.where(self.index >= 0, self.index, -1)
        steps = [np.append(store.lengths, 0)[rows].max(1)
                 for store in self.stores.values() if store.ragged]  # fmt: skip
        return sum(steps) if steps else None

    def class_counts(self) -> np.ndarray:
        """(7,) windows whose last utterance has the label; a tie counts in each of its labels."""
        labels = self.utterances["emotion"].iloc[self.rows].str.get_dummies(";")
        return labels.sum().reindex(constants.EMOTIONS, fill_value=0).to_numpy()


def _truth(utterances: pd.DataFrame, target: str) -> dict[str, np.ndarray]:
    """Targets and row masks of every head: votes as shares, scales as they are, 0 if unknown.

    `target` "hard": all of the share to the label written first, in place of "votes".
    """
    votes = utterances[VOTES].to_numpy(np.float32)
    truth = {"emotion": votes / votes.sum(axis=1, keepdims=True)}
    if target == "hard":
        first = utterances["emotion"].str.partition(";")[0].to_numpy()
        truth["emotion"] = np.stack([first == e for e in constants.EMOTIONS], 1).astype(np.float32)
        truth["emotion"][first == ""] = np.nan
    for name, head in constants.HEADS.items():
        if head.kind == "scale":
            truth[name] = utterances[name].to_numpy(np.float32)
    known = {
        f"{name}_mask": np.isfinite(v).reshape(len(v), -1).all(axis=1) for name, v in truth.items()
    }
    return {name: np.nan_to_num(values) for name, values in truth.items()} | known


class KEMDy19(Windows):
    """KEMDy19 as the 2022 code offered it: `KEMDy19("train", role="speaker", ws=8)`.

    `split`: "train", "val" or "test"; `test_split`: the sessions held out; `data`, `text_encoder`,
    `disjoint`: as on the command line. An item is one window: log_mel (ws, 229, 313), sentence
    (ws, 768), mask (ws,), emotion (7,), arousal (), valence ().
    """

    def __init__(
        self, split: str = "train", role: str = constants.SOR_L, ws: int = constants.WINDOW,
        test_split: tuple[int, ...] = constants.TEST_SPLIT, data: str = constants.DATA,
        text_encoder: str | None = None, inputs: tuple[str, ...] = ("log_mel", "sentence"),
        disjoint: str | None = None,
    ):  # fmt: skip
        settings = argparse.Namespace(
            data=data, tables="raw", max_bad=constants.MAX_BAD, SorL=role, test_split=test_split,
            val_split=(), text_encoder=text_encoder, text_dim=constants.TEXT_DIM,
            sr=constants.SAMPLE_RATE, disjoint=disjoint, leave_out=(), target="votes",
        )  # fmt: skip
        super().__init__(open_material(settings, inputs), split, ws)

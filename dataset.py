"""Windows of utterances as batches, of one corpus or several.

`open_material` opens what a run is told to train and test on, with the features that a model
reads; `Windows` turns it into batches. A corpus made ready is in corpus.py, splits and
window indices in splits.py, the guard in leakage.py, cached features in extraction.py.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

import constants
from corpora.preparation import Corpus, check_distinct, check_labels, open_corpus, recognise
from evaluation import leakage
from evaluation import splits as session_splits
from evaluation.splits import DataSettings
from features.store import extraction
from features.store.resident import Resident
from features.store.store import Store, gathered, join
from features.store.windows import chunk_indices, window_indices
from metric import VOTES
from utils import UserError, setting

# --- windows, as batches -------------------------------------------------------------------------


class Extra(NamedTuple):
    """A corpus that is added to the one of `--data`, and which of its sessions are what."""

    corpus: Corpus
    sets: session_splits.Split


@dataclass
class Material:
    """One role of a corpus, and of those added to it, with the features a model reads."""

    corpus: Corpus
    utterances: pd.DataFrame
    stores: dict[str, Store]
    sets: session_splits.Split
    warnings: list[str] = field(default_factory=list)
    removed: np.ndarray | bool = False  # (N,): what --disjoint keeps out of training; and why
    reasons: dict[str, int] = field(default_factory=dict)
    target: str = "votes"  # what the emotion head learns, see _truth
    sequence: bool = False  # whether every row of a window is judged, see Sequences
    extras: list[Extra] = field(default_factory=list)
    of: np.ndarray | None = None  # (N,) the set of each row: "train", "val" or "test"
    resident: dict[torch.device, "Resident"] = field(default_factory=dict)  # see Windows.keep_on

    def __post_init__(self) -> None:
        if self.of is None:
            self.of = self.sets.of(self.utterances["session"])

    @property
    def corpora(self) -> list[Corpus]:
        """The one of `--data` first."""
        return [self.corpus, *(extra.corpus for extra in self.extras)]

    def masked(self) -> list[dict]:
        """What the features could not use, counted like `Corpus.counts`."""
        reasons = [
            f"{name}: {reason}"
            for name, store in self.stores.items()
            for _, reason in store.troubles
        ]
        return [
            {"treatment": "masked", "reason": reason, "count": count}
            for reason, count in Counter(reasons).items()
        ]


def with_text_encoder(settings: DataSettings) -> DataSettings:
    """The settings with the text encoder that is used where none was named."""
    if settings.text_encoder is not None:
        return settings
    vectors = recognise(settings.data, settings.tables)[1] / constants.TEXT_VECTORS
    name = str(vectors) if vectors.is_file() else constants.TEXT_ENCODER
    return dataclasses.replace(settings, text_encoder=name)


def open_material(
    settings: DataSettings, inputs: tuple[str, ...], train: bool = True, sequence: bool = False
) -> Material:
    """Prepare what `settings` (data, train_extra, SorL, test_split, val_split, ...) name.

    `train`: whether sessions must be left to train on; if not, added corpora are there for their
    `test_extra` sessions alone. `sequence`: whether every row of a window is judged.
    """
    settings = with_text_encoder(settings)
    corpora = _opened(settings, train)
    tables = [corpus.role(settings.SorL) for corpus in corpora]
    if train:
        used = {*settings.test_split, *settings.val_split}
        tables[0] = session_splits.leave_out(tables[0], settings.leave_out, used)
    sets = session_splits.split(
        tables[0]["session"], settings.test_split, settings.val_split, train
    )
    extras = _extras(corpora[1:], tables[1:], settings.test_extra)
    splits = [sets, *(extra.sets for extra in extras)]
    of = [part.of(rows["session"]) for part, rows in zip(splits, tables, strict=True)]
    utterances, of = pd.concat(tables, ignore_index=True), np.concatenate(of)
    disjoint = settings.disjoint if train else None
    removed, reasons, warnings = leakage.guard(utterances, of, disjoint)
    stores = {name: _store(name, corpora, tables, settings) for name in inputs}
    for store in stores.values():
        if store.kind != "wav":  # made of the words, which windows of other rows hold too
            store.available[removed] = False
    about = (warnings, removed, reasons, settings.target, sequence, extras, of)
    return Material(corpora[0], utterances, stores, sets, *about)


def _opened(settings: DataSettings, train: bool) -> list[Corpus]:
    """The corpus of `--data`, and those of `--train_extra` where they are needed."""
    added = settings.train_extra if train or settings.test_extra else ()
    if settings.test_extra and not settings.train_extra:
        raise UserError("--test_extra names sessions of corpora that --train_extra adds; none is")
    bad, labels = settings.max_bad, settings.labels
    corpora = [open_corpus(settings.data, settings.tables, bad, labels)]
    corpora += [open_corpus(data, "raw", bad, labels) for data in added]
    check_distinct(corpora)
    if train:  # else those with such rules need not be there
        check_labels(corpora, labels)
    return corpora


def _extras(
    corpora: list[Corpus], tables: list[pd.DataFrame], test: tuple[int, ...]
) -> list[Extra]:
    """The added corpora; a UserError where `test` names a session that none of them has."""
    there = {session for rows in tables for session in rows["session"]}
    if corpora and (unknown := sorted(set(test) - there)):
        raise UserError(
            f"--test_extra names sessions {unknown} that do not exist; the sessions "
            f"there are: {', '.join(map(str, sorted(there)))}"
        )
    return [
        Extra(corpus, session_splits.split_extra(rows["session"], test, corpus.name))
        for corpus, rows in zip(corpora, tables, strict=True)
    ]


def _store(
    name: str, corpora: list[Corpus], tables: list[pd.DataFrame], settings: DataSettings
) -> Store:
    return join(
        [
            extraction.extract(name, rows, corpus.folder, corpus.prepared, settings)
            for corpus, rows in zip(corpora, tables, strict=True)
        ]
    )


class Windows(torch.utils.data.Dataset):
    """Windows of `ws` utterances of one dialogue; the last one is judged.

    `material` holds the utterances and features; `name` is the set: "train", "val" or "test".
    An item is the batch dict of one window, without the batch axis. Training loops take
    `batch(indices)` instead: one gather for all of them.
    """

    def __init__(self, material: Material, name: str, ws: int = constants.WINDOW):
        self.utterances, self.stores = material.utterances, material.stores
        target = session_splits.is_target(self.utterances) & np.logical_not(material.removed)
        self.rows = np.flatnonzero((material.of == name) & target)
        self.index = window_indices(_dialogues(self.utterances), ws)[self.rows]
        self.visible = (self.utterances["quarantine"] == "").to_numpy()
        self.truth = _truth(self.utterances, material.target)
        self.shared, self.resident = material.resident, None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {name: tensor[0] for name, tensor in self.batch(np.array([i])).items()}

    def batch(self, indices: np.ndarray, cut: np.ndarray | None = None) -> dict:
        """(B,) window numbers -> batch (docs/en/12_python.md); on the CPU, or where `keep_on` said.

        `cut` (B, ws), each in [0, 1): where in its spare length a long clip is cut; None: in the
        middle. What a window holds depends on nothing but its number and its cuts.
        """
        index, targets = self.index[indices], self.rows[indices]
        rows = np.where((index >= 0) & self.visible[index], index, -1)
        if self.resident is not None:
            return self.resident.batch(rows, targets, cut)
        batch = {"row": targets, **gathered(self.stores, rows, cut)}
        return {k: torch.from_numpy(v) for k, v in batch.items()} | self.answers(indices)

    def answers(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """The truth of (B,) windows: {head: (B, ...), "<head>_mask": (B,)}."""
        rows = self.rows[indices]
        return {name: torch.from_numpy(values[rows]) for name, values in self.truth.items()}

    def known(self, indices: np.ndarray) -> dict[str, int]:
        """How many truths of each head (B,) windows hold."""
        found = self.answers(indices)
        return {n.removesuffix("_mask"): int(v.sum()) for n, v in found.items() if "_mask" in n}

    @property
    def judged(self) -> np.ndarray:
        """(n,) the rows that are predicted, in the order of `flat`."""
        return self.rows

    def flat(self, output: np.ndarray) -> np.ndarray:
        """What a head says of all windows, (N, ...) -> (n, ...), a row of it a judged row."""
        return output

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
        """(N,) steps of ragged features in each window, all slots as long as the longest; None
        without any."""
        rows = np.where(self.index >= 0, self.index, -1)
        steps = [
            np.append(store.lengths, 0)[rows].max(1)
            for store in self.stores.values()
            if store.ragged
        ]
        return self.index.shape[1] * sum(steps) if steps else None

    def class_counts(self) -> np.ndarray:
        """(7,) windows whose last utterance has the label; a tie counts in each of its labels."""
        labels = self.utterances["emotion"].iloc[self.rows].str.get_dummies(";")
        return labels.sum().reindex(constants.EMOTIONS, fill_value=0).to_numpy()


def _dialogues(utterances: pd.DataFrame) -> pd.Series:
    """(N,) the dialogue of each row; two corpora may use one name for different ones."""
    return utterances["corpus"] + "/" + utterances["dialogue"]


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


class Sequences(Windows):
    """Stretches of `ws` rows of a dialogue; each row is in one, and judged: seconds of a video.

    `ws` 0: whole dialogues. The truth of a batch is (B, ws) for each of `constants.EVENTS`.
    """

    def __init__(self, material: Material, name: str, ws: int):
        super().__init__(material, name, 1)
        rows = np.flatnonzero((material.of == name) & self.visible)
        index = chunk_indices(_dialogues(self.utterances).iloc[rows], ws)
        self.index = np.where(index >= 0, np.append(rows, -1)[index], -1)
        self.target = np.isin(self.index, self.rows)
        self.rows = self.index[:, 0]
        events = self.utterances.reindex(columns=list(constants.EVENTS)).astype(np.float32)
        self.truth = {event: events[event].to_numpy() for event in constants.EVENTS}

    def answers(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        index, found = self.index[indices], {}
        for name, values in self.truth.items():
            known = self.target[indices] & np.isfinite(values[index])
            truth = np.where(known, values[index], 0).astype(np.float32)
            found |= {name: torch.from_numpy(truth), f"{name}_mask": torch.from_numpy(known)}
        return found

    @property
    def judged(self) -> np.ndarray:
        return self.index[self.target]

    def flat(self, output: np.ndarray) -> np.ndarray:
        return output[self.target]

    def keep_on(self, device: torch.device, room: int | None = None) -> bool:
        return False

    @property
    def lengths(self) -> None:
        return None


def windows(material: Material, name: str, ws: int) -> Windows:
    """The windows of a set as its model wants them; where whole videos are told of, not stretches
    of them, in all sets but the training's."""
    if not material.sequence:
        return Windows(material, name, ws)
    return Sequences(material, name, ws if name == "train" else 0)


@dataclass(frozen=True)
class _KEMDy19Settings(DataSettings):
    """What the features of the 2022 system must know besides."""

    sr: int = setting(constants.SAMPLE_RATE, "sample rate of the sound, Hz", least=1)
    text_dim: int = setting(constants.TEXT_DIM, "numbers in a sentence vector", least=1)


class KEMDy19(Windows):
    """KEMDy19 as the 2022 code offered it: `KEMDy19("train", role="speaker", ws=8)`.

    `split`: "train", "val" or "test"; `test_split`: the sessions held out; `data`, `text_encoder`,
    `disjoint`: as on the command line. An item is one window: log_mel (ws, 229, 313), sentence
    (ws, 768), mask (ws,), emotion (7,), arousal (), valence ().
    """

    def __init__(
        self,
        split: str = "train",
        role: str = constants.SOR_L,
        ws: int = constants.WINDOW,
        test_split: tuple[int, ...] = constants.TEST_SPLIT,
        data: str = constants.DATA,
        text_encoder: str | None = None,
        inputs: tuple[str, ...] = ("log_mel", "sentence"),
        disjoint: str | None = None,
    ):
        settings = _KEMDy19Settings(
            data=data,
            SorL=role,
            test_split=test_split,
            text_encoder=text_encoder,
            disjoint=disjoint,
        )
        super().__init__(open_material(settings, inputs), split, ws)

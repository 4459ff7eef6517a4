"""A corpus made ready, and windows of it as batches.

`open_corpus` recognises a folder, reads its tables through the corpus's leaf, listens to every wav
once and writes the result under data/prepared/. `Windows` turns one role of it into batches.
Splits and window indices are in `protocol.py`, cached features in `feature.py`.
"""

import argparse
import hashlib
import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile
import torch
from tqdm import tqdm

import annotation
import constants
import feature
import protocol
from annotation import VOTES
from utils import UserError, digest, leaf, leaves, make_folder, read_json, write_atomic, write_json

VERSION = 1  # of the prepared tables; a change prepares every corpus again
MARK = "SYNTHETIC.json"  # written last into a folder that a leaf synthesised
STREAMED = 0xFFFFFFFF  # the size a program writes when it cannot know it yet
WORDS = ("corpus", "role", "segment", "dialogue", "speaker", "kind", "wav", "text", "emotion",
         "quarantine", "wav_hash")  # fmt: skip
TABLES = {"annotation.csv": None, "df_speaker.csv": "speaker", "df_listener.csv": "listener"}


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
    state = fingerprint(reader.sources(folder), folder)
    if not _is_prepared(prepared, state):
        _prepare(reader, folder, prepared, state, max_bad)
    utterances, troubles = _read_tables(prepared)
    _check_bad(utterances, troubles, folder, prepared, max_bad)  # it may be another by now
    synthetic = (folder / MARK).exists()
    return Corpus(name, folder, prepared, utterances, troubles, state, synthetic)


def recognise(data: str, tables: str = "raw") -> tuple[str, Path]:
    """`DIR`, `CORPUS:DIR` or the name of a leaf that makes a corpus -> (leaf, folder)."""
    name, colon, place = data.partition(":")
    if name in leaves("corpora") and (colon or hasattr(leaf("corpora", name), "write")):
        if hasattr(leaf("corpora", name), "write"):
            return _made(name, Path(place) if place else Path("data") / name)
        return _existing(name, Path(place))
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


def _existing(name: str, folder: Path) -> tuple[str, Path]:
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r} to read as {name}")
    return name, folder


def _made(name: str, folder: Path) -> tuple[str, Path]:
    """Write a synthetic corpus unless it is there, whole; then it is read like any other."""
    if not (folder / MARK).exists():
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


def _is_prepared(prepared: Path, state: str) -> bool:
    mark = prepared / "fingerprint.json"
    return mark.exists() and read_json(mark).get("fingerprint") == state


def _prepare(reader: ModuleType, folder: Path, prepared: Path, state: str, max_bad: float) -> None:
    """Read, audit and write the tables; the fingerprint is written last: it means 'whole'."""
    utterances, troubles = reader.read(folder)
    utterances, heard = audit(utterances, folder)
    troubles = pd.concat([troubles, heard], ignore_index=True)
    make_folder(prepared)
    bad = troubles[troubles["treatment"] == "quarantined"]
    write_atomic(prepared / "quarantine.csv", bad.to_csv(index=False))
    _check_bad(utterances, troubles, folder, prepared, max_bad)
    for name, role in TABLES.items():
        table = utterances if role is None else utterances[utterances["role"] == role]
        write_atomic(prepared / name, table.to_csv(index=False))
    write_atomic(prepared / "troubles.csv", troubles.to_csv(index=False))
    write_json(prepared / "fingerprint.json", {"fingerprint": state, "folder": str(folder)})


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


def _read_tables(prepared: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    numbers = ("start", "end", "arousal", "valence", "duration", *VOTES)
    utterances = pd.read_csv(
        prepared / "annotation.csv",
        dtype=dict.fromkeys(WORDS, str),
        keep_default_na=False,  # "null" and "NA" may be said
        na_values={name: [""] for name in numbers},
    )
    troubles = pd.read_csv(prepared / "troubles.csv", dtype=str, keep_default_na=False)
    return utterances, troubles


# --- every wav heard once ------------------------------------------------------------------------


class Sound(NamedTuple):
    """What one wav is: bytes, content hash, seconds, all-zero or not, and why it is unusable."""

    size: int
    hash: str
    duration: float
    silent: bool
    converted: tuple[str, ...] = ()
    bad: str = ""


def audit(utterances: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Open every wav once. Adds wav_size, wav_hash, duration, silent; returns (rows, troubles)."""
    names = [name for name in utterances["wav"].unique() if name]
    with ThreadPoolExecutor(2) as pool:
        heard = pool.map(lambda name: listen(folder / name), names)
        heard = tqdm(heard, "listening", len(names), leave=False, unit="wav")
        sounds = dict(zip(names, heard, strict=True))
    sounds[""] = Sound(0, "", float("nan"), False)
    table = pd.DataFrame([sounds[name] for name in utterances["wav"]], index=utterances.index)
    bad = (table["bad"] != "") & (utterances["quarantine"] == "")
    utterances = utterances.assign(
        wav_size=table["size"], wav_hash=table["hash"], duration=table["duration"],
        silent=table["silent"], quarantine=utterances["quarantine"].mask(bad, table["bad"]),
    )  # fmt: skip
    return utterances, _heard_troubles(utterances, sounds)


def _heard_troubles(utterances: pd.DataFrame, sounds: dict[str, Sound]) -> pd.DataFrame:
    rows = []
    for row in utterances.itertuples():
        sound = sounds[row.wav]
        where = (row.role, row.segment, row.wav)
        if sound.bad:
            rows.append(("quarantined", sound.bad, *where))
        if sound.silent:
            rows.append(("masked", "silent wav", *where))
        rows += [("converted", reason, *where) for reason in sound.converted]
    return annotation.troubles(rows)


def listen(path: Path) -> Sound:
    """Read one sound file whole and say what it is; never raises for what is in it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Sound(0, "", float("nan"), False, bad=f"unreadable wav: {error.strerror}")
    key = hashlib.blake2b(data, digest_size=16).hexdigest()
    unusable = Sound(len(data), key, float("nan"), False)
    if not data:
        return unusable._replace(bad="empty wav")
    if _is_truncated(data):
        return unusable._replace(bad="truncated wav")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples = file.read(dtype="float32", always_2d=True)
            rate, channels = file.samplerate, file.channels
    except (soundfile.LibsndfileError, RuntimeError, ValueError):
        return unusable._replace(bad="not audio")
    if not len(samples):
        return unusable._replace(bad="empty wav")
    if not np.isfinite(samples).all():
        return unusable._replace(bad="not audio: infinite or NaN samples")
    converted = (f"{channels} channels to 1",) if channels > 1 else ()
    converted += (f"{rate} Hz to {constants.SAMPLE_RATE}",) if rate != constants.SAMPLE_RATE else ()
    return Sound(len(data), key, len(samples) / rate, not samples.any(), converted)


def _is_truncated(data: bytes) -> bool:
    """A RIFF wave whose data chunk promises more bytes than there are."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return False
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return size != STREAMED and at + 8 + size > len(data)
        at += 8 + size + size % 2  # chunks are padded to even length
    return True


# --- windows, as batches -------------------------------------------------------------------------


@dataclass
class Material:
    """One role of a corpus with the features a model reads."""

    corpus: Corpus
    utterances: pd.DataFrame
    stores: dict[str, feature.Store]
    sets: protocol.Split
    warnings: list[str] = field(default_factory=list)

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
    sets = protocol.split(utterances["session"], settings.test_split, settings.val_split, train)
    if settings.text_encoder is None:
        vectors = corpus.folder / constants.TEXT_VECTORS
        settings.text_encoder = str(vectors) if vectors.is_file() else constants.TEXT_ENCODER
    warnings = protocol.guard(utterances, sets)
    stores = {
        name: feature.extract(name, utterances, corpus.folder, corpus.prepared, settings)
        for name in inputs
    }
    return Material(corpus, utterances, stores, sets, warnings)


class Windows(torch.utils.data.Dataset):
    """Windows of `ws` utterances of one dialogue; the last one is judged.

    `material` holds the utterances and features; `name` is the set: "train", "val" or "test".
    An item is the batch dict of one window, without the batch axis. Training loops take
    `batch(indices)` instead: one gather for all of them.
    """

    def __init__(self, material: Material, name: str, ws: int = constants.WINDOW):
        self.utterances, self.stores = material.utterances, material.stores
        of = material.sets.of(self.utterances["session"])
        self.rows = np.flatnonzero((of == name) & protocol.is_target(self.utterances))
        self.index = protocol.windows(self.utterances["dialogue"], ws)[self.rows]
        self.visible = (self.utterances["quarantine"] == "").to_numpy()
        self.truth = _truth(self.utterances)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {name: tensor[0] for name, tensor in self.batch(np.array([i])).items()}

    def batch(self, indices: np.ndarray, crop: np.random.Generator | None = None) -> dict:
        """(B,) window numbers -> batch (README, "batch"). `crop` draws where long clips are cut;
        without it they are cut in the middle."""
        index = self.index[indices]
        seen = (index >= 0) & self.visible[index]
        batch = {"mask": torch.from_numpy(seen), "row": torch.from_numpy(self.rows[indices])}
        for name, store in self.stores.items():
            rows = np.where(seen, index, -1)
            batch[name] = torch.from_numpy(store.gather(rows, crop))
            batch[f"{name}_mask"] = torch.from_numpy((rows >= 0) & store.available[rows])
        for name, values in self.truth.items():
            batch[name] = torch.from_numpy(values[self.rows[indices]])
        return batch

    def class_counts(self) -> np.ndarray:
        """(7,) windows whose last utterance has the label; a tie counts in each of its labels."""
        labels = self.utterances["emotion"].iloc[self.rows].str.get_dummies(";")
        return labels.sum().reindex(constants.EMOTIONS, fill_value=0).to_numpy()


def _truth(utterances: pd.DataFrame) -> dict[str, np.ndarray]:
    """Targets and row masks of every head: votes as shares, scales as they are, 0 if unknown."""
    votes = utterances[VOTES].to_numpy(np.float32)
    truth = {"emotion": votes / votes.sum(axis=1, keepdims=True)}
    for name, head in constants.HEADS.items():
        if head.kind == "scale":
            truth[name] = utterances[name].to_numpy(np.float32)
    known = {
        f"{name}_mask": np.isfinite(v).reshape(len(v), -1).all(axis=1) for name, v in truth.items()
    }
    return {name: np.nan_to_num(values) for name, values in truth.items()} | known


class KEMDy19(Windows):
    """KEMDy19 as the 2022 code offered it: `KEMDy19("train", role="speaker", ws=8)`.

    `split`: "train", "val" or "test"; `test_split`: the sessions held out; `data`, `text_encoder`:
    as on the command line. An item is one window: log_mel (ws, 229, 313), sentence (ws, 768),
    mask (ws,), emotion (7,), arousal (), valence ().
    """

    def __init__(
        self, split: str = "train", role: str = constants.SOR_L, ws: int = constants.WINDOW,
        test_split: tuple[int, ...] = constants.TEST_SPLIT, data: str = constants.DATA,
        text_encoder: str | None = None, inputs: tuple[str, ...] = ("log_mel", "sentence"),
    ):  # fmt: skip
        settings = argparse.Namespace(
            data=data, tables="raw", max_bad=constants.MAX_BAD, SorL=role, test_split=test_split,
            val_split=(), text_encoder=text_encoder, text_dim=constants.TEXT_DIM,
            sr=constants.SAMPLE_RATE,
        )  # fmt: skip
        super().__init__(open_material(settings, inputs), split, ws)

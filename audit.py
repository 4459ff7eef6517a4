"""What a corpus holds, heard and written down: every wav opened once, every table with a checksum.

`audit` listens, `write_tables` and `read_tables` keep what came of it under data/prepared/. Which
corpus that is, and when it is read again, is in `dataset.py`.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import annotation
import constants
from annotation import VOTES
from media.listening import VIDEOS, Sound, listen
from utils import UserError, checksum, read_json, write_atomic, write_json

FINGERPRINT = "fingerprint.json"  # written last: the tables beside it are whole
TABLES = ("annotation.csv", "df_speaker.csv", "df_listener.csv", "quarantine.csv", "troubles.csv")
WORDS = (
    "corpus",
    "role",
    "segment",
    "dialogue",
    "speaker",
    "kind",
    "wav",
    "text",
    "emotion",
    "quarantine",
    "wav_hash",
)
NUMBERS = ("start", "end", "arousal", "valence", "duration", *VOTES)


# --- every wav heard once ------------------------------------------------------------------------


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
        wav_size=table["size"],
        wav_hash=table["hash"],
        duration=table["duration"],
        silent=table["silent"],
        quarantine=utterances["quarantine"].mask(bad, table["bad"]),
    )
    return utterances, _heard_troubles(utterances, sounds)


def _heard_troubles(utterances: pd.DataFrame, sounds: dict[str, Sound]) -> pd.DataFrame:
    rows = []
    once = utterances.drop_duplicates(["role", "wav", "dialogue"])  # not every second of a video
    by_second = utterances["wav"].str.lower().str.endswith(VIDEOS)
    for row in utterances[~by_second | utterances.index.isin(once.index)].itertuples():
        sound = sounds[row.wav]
        where = (row.role, row.segment, row.wav)
        if sound.bad:
            rows.append(("quarantined", sound.bad, *where))
        if sound.silent:
            rows.append(("masked", "silent wav", *where))
        rows += [("converted", reason, *where) for reason in sound.converted]
    return annotation.troubles(rows)


def is_silence(utterances: pd.DataFrame) -> np.ndarray:
    """(N,) bool: rows whose file holds zeros alone, as many do; a video without sound is none."""
    films = utterances["wav"].str.lower().str.endswith(VIDEOS)
    return (utterances["silent"].astype(bool) & ~films).to_numpy()


# --- the tables ----------------------------------------------------------------------------------


def tables(utterances: pd.DataFrame, troubles: pd.DataFrame) -> dict[str, bytes]:
    """The files a prepared corpus consists of: name -> CSV."""
    roles = [utterances[utterances["role"] == role] for role in constants.ROLES]
    bad = troubles[troubles["treatment"] == "quarantined"]
    frames = zip(TABLES, (utterances, *roles, bad, troubles), strict=True)
    return {name: frame.to_csv(index=False).encode() for name, frame in frames}


def write_tables(prepared: Path, files: dict[str, bytes], state: str, folder: Path) -> None:
    """Write `tables`, and last what they were made from: the state of the corpus in `folder`."""
    for name, data in files.items():
        write_atomic(prepared / name, data)
    sums = {name: checksum(data) for name, data in files.items()}
    about = {"fingerprint": state, "folder": str(folder), "tables": sums}
    write_json(prepared / FINGERPRINT, about)


def read_tables(
    prepared: Path, state: str, own: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """(utterances, troubles) as prepared from `state`, or None where that was never finished.

    `own`: columns of words that only this corpus has. A UserError says what is damaged: the
    checksums are of the very bytes that are read here.
    """
    if not (prepared / FINGERPRINT).exists():
        return None
    about = read_json(prepared / FINGERPRINT)
    if about.get("fingerprint") != state:
        return None
    sums = about.get("tables")
    if not isinstance(sums, dict) or set(sums) != set(TABLES):
        raise UserError(f"{prepared / FINGERPRINT} should hold the checksums of the tables")
    files = {name: _read_checked(prepared / name, wanted) for name, wanted in sums.items()}
    utterances = pd.read_csv(
        io.BytesIO(files["annotation.csv"]),
        dtype=dict.fromkeys((*WORDS, *own), str),
        keep_default_na=False,  # "null" and "NA" may be said
        na_values={name: [""] for name in NUMBERS},
    )
    troubles = pd.read_csv(io.BytesIO(files["troubles.csv"]), dtype=str, keep_default_na=False)
    return utterances, troubles


def _read_checked(path: Path, wanted: object) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if checksum(data) != wanted:
        raise UserError(f"{path} is not as it was written")
    return data

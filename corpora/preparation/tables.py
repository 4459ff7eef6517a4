"""The tables under data/prepared/: written whole with their checksums, and read back."""

import io
from pathlib import Path

import pandas as pd

import constants
from metric import VOTES
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


def as_files(utterances: pd.DataFrame, troubles: pd.DataFrame) -> dict[str, bytes]:
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

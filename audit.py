"""What a corpus holds, heard and written down: every wav opened once, every table with a checksum.

`audit` listens, `write_tables` and `read_tables` keep what came of it under data/prepared/. Which
corpus that is, and when it is read again, is in `dataset.py`.
"""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

import annotation
import constants
from annotation import VOTES
from utils import UserError, checksum, read_bytes, read_json, write_atomic, write_json

STREAMED = 0xFFFFFFFF  # the size a program writes when it cannot know it yet
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi")
RATES = 2_000, 768_000  # Hz: from under a telephone's to a studio's; beyond, the header is wrong
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


def listen(path: Path) -> Sound:
    """Read one sound file whole and say what it is; never raises for what is in it.

    Of a video, what is decoded says so, the rest is not decoded.
    """
    if path.suffix.lower() in VIDEOS:
        return _watch(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        reason = error.strerror or str(error)
        return Sound(0, "", float("nan"), False, bad=f"unreadable wav: {reason}")
    key = hashlib.blake2b(data, digest_size=16).hexdigest()
    unusable = Sound(len(data), key, float("nan"), False)
    if not data:
        return unusable._replace(bad="empty wav")
    if is_truncated(io.BytesIO(data), len(data)):
        return unusable._replace(bad="truncated wav")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = file.samplerate, file.channels
            if not RATES[0] <= rate <= RATES[1]:  # resampled from 1 Hz, seconds become hours
                return unusable._replace(bad=f"not audio: {rate} Hz")
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError):
        return unusable._replace(bad="not audio")
    if not len(samples):
        return unusable._replace(bad="empty wav")
    if not np.isfinite(samples).all():
        return unusable._replace(bad="not audio: infinite or NaN samples")
    converted = (f"{channels} channels to 1",) if channels > 1 else ()
    converted += (f"{rate} Hz to {constants.SAMPLE_RATE}",) if rate != constants.SAMPLE_RATE else ()
    return Sound(len(data), key, len(samples) / rate, not samples.any(), converted)


def is_silence(utterances: pd.DataFrame) -> np.ndarray:
    """(N,) bool: rows whose file holds zeros alone, as many do; a video without sound is none."""
    films = utterances["wav"].str.lower().str.endswith(VIDEOS)
    return (utterances["silent"].astype(bool) & ~films).to_numpy()


def _watch(path: Path) -> Sound:
    """A video; `silent` where it has no sound."""
    import video  # few corpora need what it stands on

    try:
        with path.open("rb") as file:
            key = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            size = file.tell()
    except OSError as error:
        reason = error.strerror or str(error)
        return Sound(0, "", float("nan"), False, bad=f"unreadable video: {reason}")
    video.media.pyav()  # a missing package is no fault of the file
    try:
        seen = video.probe(path)
    except (video.Unusable, UserError) as error:
        return Sound(size, key, float("nan"), False, bad=str(error))
    return Sound(size, key, seen.seconds, seen.silent, (seen.reason,) if seen.reason else ())


def is_truncated(file: BinaryIO, length: int) -> bool:
    """A RIFF wave whose data chunk promises more than the `length` bytes there are."""
    head, at = file.read(12), 12
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return False
    while at + 8 <= length:
        file.seek(at)
        chunk = file.read(8)
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return size != STREAMED and at + 8 + size > length
        at += 8 + size + size % 2  # chunks are padded to even length
    return True


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

"""What everything stands on: errors, leaves, randomness, files that are never half-written."""

import ctypes
import hashlib
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

ROOT = Path(__file__).resolve().parent


class UserError(ValueError):
    """Something the user can mend. One line: what was needed, what came, what there is."""


# --- leaves: a file name is a name on the command line ---------------------------------------


def leaves(folder: str) -> list[str]:
    """Names of the leaves in `corpora`, `features`, `models` or `commands`."""
    return sorted(p.stem for p in (ROOT / folder).glob("*.py") if not p.stem.startswith("_"))


def leaf(folder: str, name: str) -> ModuleType:
    """The module `folder/name.py`."""
    if name not in leaves(folder):
        raise UserError(f"no {name!r} in {folder}/; there are: {', '.join(leaves(folder))}")
    return importlib.import_module(f"{folder}.{name}")


# --- randomness: drawn from what it is for, so nothing has to be saved to go on ----------------


def seed_of(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, equal on every machine: `seed_of(42, "shuffle", epoch)`."""
    text = json.dumps([seed, *purpose])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for one purpose."""
    return np.random.default_rng(seed_of(seed, *purpose))


# --- memory -------------------------------------------------------------------------------------


def keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back and faulting it in again.

    A training step allocates gigabytes in pieces of hundreds of megabytes; by default each is a
    new mapping, zeroed page by page. Elsewhere than on glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no allocation is a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes: the heap is not cut back


# --- files --------------------------------------------------------------------------------------


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Write the whole file or nothing: temporary name, fsync, rename, fsync of the folder."""
    path = Path(path)
    data = data.encode() if isinstance(data, str) else data
    try:
        handle, temporary = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _fsync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path | str, value: object) -> None:
    """Indented UTF-8 JSON, Hangul as written; NaN is refused: a missing number is null."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> dict:
    """The object in a JSON file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} should hold a JSON object, it holds a {type(value).__name__}")
    return value


def make_folder(path: Path | str) -> Path:
    """The folder, made if it is not there."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def digest(value: object, length: int = 8) -> str:
    """Hex digest of anything JSON can hold; keys sorted, so equal values give equal digests."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:length]

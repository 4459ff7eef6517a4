"""What everything stands on: errors, plugins, randomness, files that are never half-written."""

import ctypes
import dataclasses
import functools
import hashlib
import importlib
import json
import logging
import lzma
import math
import os
import pickletools
import re
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

ROOT = Path(__file__).resolve().parent
MEMBER_MAX = 1 << 30  # bytes of a member of a zip, unpacked: hours of sound

log = logging.getLogger(__name__)


class UserError(ValueError):
    """Something the user can mend. One line: what was needed, what came, what there is."""


class Unusable(Exception):
    """Raised by an Extractor for one source; its text is the reason, a short fixed phrase."""


# --- words of messages ---------------------------------------------------------------------------


def first_few(
    names: Sequence[str], limit: int = 3, between: str = ", ", rest: str = " and {} more"
) -> str:
    """The first `limit` names in one line; where there are others, `rest` says how many.

    >>> first_few(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    others = len(names) - limit
    return between.join(names[:limit]) + (rest.format(others) if others > 0 else "")


def is_utf8(text: str) -> bool:
    """Whether the bytes that a name or an argument was decoded from were UTF-8.

    Python stands a lone surrogate for each byte that was not, as in a name of another encoding.
    """
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def run_names(text: str) -> list[str]:
    """Folders separated by commas; or by spaces, where it is not one folder."""
    if "," in text:
        parts = text.split(",")
    elif Path(text).is_dir():
        parts = [text]
    else:
        parts = text.split()
    return [part.strip() for part in parts if part.strip()]


# --- plugins: a file name is a name on the command line --------------------------------------

# the class that every file of a room holds
PLUGINS = dict(commands="Command", corpora="Reader", features="Feature", models="Model")


def leaves(folder: str) -> list[str]:
    """Names of the plugins in `corpora`, `features`, `models` or `commands`."""
    return sorted(p.stem for p in (ROOT / folder).glob("*.py") if not p.stem.startswith("_"))


def leaf(folder: str, name: str) -> Any:
    """The class that the plugin `folder/NAME.py` holds."""
    if name not in leaves(folder):
        raise UserError(f"no {name!r} in {folder}/; there are: {', '.join(leaves(folder))}")
    module, kind = importlib.import_module(f"{folder}.{name}"), PLUGINS[folder]
    if kind not in vars(module):
        raise UserError(f"{folder}/{name}.py needs a class {kind}, it has none")
    return vars(module)[kind]


# --- settings: dataclasses whose fields are also flags ------------------------------------------


def setting(
    default: Any,
    help: str,
    choices: tuple[Any, ...] | None = None,
    least: float | None = None,
    flag: bool = True,
    **more: Any,
) -> Any:
    """A field of a settings dataclass: its default, its help, the values allowed or the smallest.

    A dataclass of such fields is frozen; training/flags.py makes command-line flags of them.
    Without `flag` it is not on the command line: something else fills it. `more`, for flags that
    need it: `most` (largest value), `below` (a value it must stay under), `metavar`, `names`
    (other spellings), `const` (its value when the flag is given without one), `read` (text ->
    value), `words` (how many: "*" or "+"), `position` (an argument without a name), `required`,
    `with_test` (it may be given together with --test_only), `runs` (it names run folders).
    """
    about = {"help": help, "choices": choices, "least": least, "flag": flag, **more}
    return dataclasses.field(default=default, metadata=about)


def check_field(field: dataclasses.Field, value: Any) -> None:
    """A UserError where `value` is of another type than `field`, or not among its values."""
    if not _is_a(value, field.type):
        wanted = getattr(field.type, "__name__", field.type)
        raise UserError(f"{field.name} should be {wanted}, it is {value!r}")
    choices, least = field.metadata["choices"], field.metadata["least"]
    if choices is not None and value not in choices:
        raise UserError(f"{field.name} {value!r}: choose one of {', '.join(map(str, choices))}")
    if least is not None and value < least:
        raise UserError(f"{field.name} should be at least {least}, it is {value}")


def _is_a(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):  # a bool is an int to Python, but `--ws true` is a mistake
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


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


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone has it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- files --------------------------------------------------------------------------------------


def read_bytes(path: Path | str) -> bytes:
    """A file, or a member of a zip: `DIR/a.zip/folder/b.wav`. OSError where it cannot be read.

    Nothing is unpacked to disk. A member must be neither encrypted nor larger than MEMBER_MAX.
    """
    path = Path(path)
    try:
        return path.read_bytes()
    except NotADirectoryError:
        archive = next((p for p in path.parents if p.is_file()), None)
        if archive is None or archive.suffix.lower() != ".zip":
            raise
        return _member(archive, path.relative_to(archive).as_posix())


# what zipfile raises for archives that are damaged, encrypted, or packed in ways it does not know
DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    LookupError,
    RuntimeError,
    ValueError,
    EOFError,
)


def _member(archive: Path, name: str) -> bytes:
    try:
        opened = _opened_zip(archive, archive.stat().st_mtime_ns)
        if (size := opened.getinfo(name).file_size) > MEMBER_MAX:
            raise OSError(f"{size:,} bytes in a zip")
        return opened.read(name)
    except DAMAGED_ZIP as error:
        raise OSError(f"no readable member of {archive.name}") from error


@functools.lru_cache(maxsize=4)
def _opened_zip(archive: Path, changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)  # its lock lets several threads read at once


# what torch.save writes for a dict of tensors; a pickle may hold nothing else
OPCODES = set(
    "PROTO EMPTY_DICT EMPTY_TUPLE BINPUT LONG_BINPUT BINGET LONG_BINGET MARK BINUNICODE GLOBAL "
    "TUPLE TUPLE1 TUPLE2 TUPLE3 BINPERSID BININT BININT1 BININT2 LONG1 NEWTRUE NEWFALSE NONE "
    "REDUCE SETITEM SETITEMS BUILD STOP".split()
)
GLOBALS = re.compile(
    r"collections OrderedDict|torch \w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)"
)


def check_archive(file: BinaryIO) -> None:
    """A ValueError for an archive that may be more than tensors, before torch reads it.

    Torch executes no code of a pickle; it does unpack, count and hash what it is told to, without
    an end where one object is named again and again. It writes archives without packing.
    """
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > size:
            raise ValueError("packed")
        [pickled] = [part for part in parts if part.filename.endswith("/data.pkl")]
        operations = pickletools.genops(archive.read(pickled))
    tuples, before = set(), ""
    for operation, argument, _ in operations:
        name = operation.name
        if name not in OPCODES or (name == "GLOBAL" and not GLOBALS.fullmatch(argument)):
            raise ValueError(f"{name} {argument}")
        if name.endswith("BINPUT") and before.startswith("TUPLE"):
            tuples.add(argument)
        if name.endswith("BINGET") and argument in tuples:  # a key of such takes for ever to hash
            raise ValueError("a tuple twice")
        before = name


def write_atomic(path: Path | str, data: bytes | memoryview | str) -> None:
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
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in a folder outlast a power cut."""
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_sealed(path: Path | str, data: bytes | memoryview) -> None:
    """`write_atomic`, with the checksum beside it, read back: a UserError if it came out wrong."""
    path = Path(path)
    line = f"{checksum(data)}  {path.name}\n".encode()
    old = _seal(path).read_bytes() if _seal(path).exists() else b""
    write_atomic(_seal(path), line + old)  # a kill or a full disk from here on leaves either whole
    write_atomic(path, data)
    if checksum(path.read_bytes()) != checksum(data):
        raise UserError(f"{path} reads back differently than it was written; is the disk sound?")
    write_atomic(_seal(path), line)


def read_sealed(path: Path | str) -> bytes:
    """The file, if its checksum is the one beside it or none lies there; else a UserError."""
    path = Path(path)
    try:
        data = path.read_bytes()
        seal = _seal(path).read_bytes() if _seal(path).exists() else None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if seal is not None and checksum(data).encode() not in seal.split():
        raise UserError(f"{path} is damaged: {_seal(path).name} holds the checksum of other bytes")
    return data


def remove_sealed(path: Path) -> None:
    """Delete a file and its checksum."""
    path.unlink(missing_ok=True)
    _seal(path).unlink(missing_ok=True)


def checksum(data: bytes | memoryview) -> str:
    """BLAKE2b of 512 bits, as `b2sum` prints it."""
    return hashlib.blake2b(data).hexdigest()


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".b2sum")  # `b2sum -c model.pth.b2sum` checks it, too


def write_json(path: Path | str, value: object) -> None:
    """Indented UTF-8 JSON, Hangul as written; NaN is refused: a missing number is null."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> dict:
    """The object in a JSON file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} should hold a JSON object, it holds a {type(value).__name__}")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number of JSON")
    return value


def plain(value: object) -> object:
    """For JSON: NaN becomes None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


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


@contextmanager
def lock(path: Path | str, doing: str) -> Iterator[None]:
    """Held by one process at a time; one that has to wait says that another process is `doing`.

    The system frees it when its process dies, however that was: a file left behind is no lock.
    Without flock(2) (ENOSYS) filelock warns and takes a file that names process, start and host;
    one whose process is dead is taken over on the same host, and on another it has to be removed
    by hand. UserError where it cannot be taken at all.
    """
    import filelock  # 40 ms that reading what is prepared need not pay

    held = filelock.FileLock(path)
    try:
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            log.warning("another process is %s; waiting for it (%s)", doing, path)
            held.acquire()
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror}") from error
    try:
        yield
    finally:
        held.release()

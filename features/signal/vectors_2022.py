"""Vectors made elsewhere: a pickled dict in a .npy file, read without executing it.

The file is data, whoever wrote it: no name in it is looked up, and no array is built by what the
pickle says. Stand-ins note what was written; the vectors are made from their bytes afterwards.
"""

import io
import pickle
import pickletools
import warnings
from pathlib import Path
from tokenize import TokenError  # what NumPy raises for some damaged headers
from typing import BinaryIO

import numpy as np

from utils import UserError

# what NumPy writes, and a pickle may hold nothing else: the others make it possible to name one
# tuple again and again, and a key of such takes for ever to hash
OPCODES = set(
    "PROTO FRAME EMPTY_DICT EMPTY_LIST EMPTY_TUPLE MARK STOP GLOBAL STACK_GLOBAL REDUCE BUILD "
    "TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS MEMOIZE BINPUT LONG_BINPUT BINGET "
    "LONG_BINGET BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BININT BININT1 BININT2 LONG1 "
    "BINFLOAT NONE NEWTRUE NEWFALSE".split()
)


def read_vectors(path: Path) -> dict[str, np.ndarray]:
    """The dict of float32 vectors in a .npy file; nothing in it is executed. Raises UserError."""
    try:
        file = io.BytesIO(path.read_bytes())  # no size that it names is more than it has
        with warnings.catch_warnings():  # of headers in Python 2, which are refused or fine
            warnings.simplefilter("ignore")
            _read_header(file)
        _check(file.getvalue()[file.tell() :])
        held = _Unpickler(file).load().item()
        return {name: vector.numbers(name) for name, vector in held.items()}
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        EOFError,
        MemoryError,
        ArithmeticError,
        RecursionError,
        TokenError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path} should hold a dict of vectors, <segment>.txt: array; it does not: {reason}"
        ) from error


def _check(pickled: bytes) -> None:
    """A ValueError for a pickle that takes more memory or time than its length says."""
    tuples, memo, before = set(), 0, ""
    for operation, argument, _ in pickletools.genops(pickled):
        name = operation.name
        if name not in OPCODES:
            raise ValueError(f"{name} is refused, only arrays are read")
        if name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            place = memo if argument is None else argument
            if place > len(pickled):  # the memo is a list as long as its largest place
                raise ValueError(f"{name} {place} in {len(pickled)} bytes")
            memo += 1
            tuples |= {place} if before.startswith("TUPLE") else set()
        if name in ("BINGET", "LONG_BINGET") and argument in tuples:
            raise ValueError("a tuple twice")
        before = name


def _read_header(file: BinaryIO) -> None:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unknown .npy version {version}")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, _, dtype = read(file)
    if shape != () or not dtype.hasobject:
        raise ValueError(f"an array of {dtype} and shape {shape}")


class _Dtype:
    """Stands for numpy.dtype while unpickling: what was written of it, unread."""

    def __init__(self, code: str, *_: object):
        self.code = _text(code)

    def __setstate__(self, state: tuple) -> None:
        self.code = _text(state[1]) + self.code  # byte order


def _text(value: object) -> str:
    """A short string as it is; a ValueError for anything else, which may be endless as text."""
    if not isinstance(value, str) or len(value) > 8:
        raise ValueError(f"part of a dtype is a {type(value).__name__}")
    return value


class _Array:
    """Stands for numpy.ndarray while unpickling: NumPy itself trusts what it is given."""

    def __init__(self, *_: object):
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def item(self) -> dict[str, "_Array"]:
        """The dict of arrays that the outer array holds."""
        _, _, _, _, [held] = self.state
        if not isinstance(held, dict):
            raise ValueError(f"a {type(held).__name__}")
        for name, value in held.items():
            if not isinstance(name, str):
                raise ValueError(f"a key is a {type(name).__name__}")
            if not isinstance(value, _Array):
                raise ValueError(f"{name[:40]!r} is a {type(value).__name__}")
        return held

    def numbers(self, name: str) -> np.ndarray:
        """The vector of a segment."""
        _, _, dtype, _, data = self.state
        if dtype.code not in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8"):
            raise ValueError(f"{name[:40]!r} has numbers of type {dtype.code}")
        return np.frombuffer(data, dtype.code).astype(np.float32)


class _Unpickler(pickle.Unpickler):
    """Admits dict, str and numpy arrays; every other name is refused before it is looked up."""

    NAMES = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,  # since NumPy 2
    }

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self.NAMES:
            called = ascii(f"{module}.{name}")[1:-1][:80]
            raise pickle.UnpicklingError(f"{called} is refused, only arrays are read")
        return self.NAMES[module, name]

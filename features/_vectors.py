"""Vectors made elsewhere: a pickled dict in a .npy file, read without executing it.

The file is data, whoever wrote it: no name in it is looked up, and no array is built by what the
pickle says. Stand-ins note what was written; the vectors are made from their bytes afterwards.
"""

import pickle
from pathlib import Path
from tokenize import TokenError  # what NumPy raises for some damaged headers
from typing import BinaryIO

import numpy as np

from utils import UserError


def read_vectors(path: Path) -> dict[str, np.ndarray]:
    """The dict of float32 vectors in a .npy file; nothing in it is executed. Raises UserError."""
    try:
        with path.open("rb") as file:
            _read_header(file)
            held = _Unpickler(file).load().item()
            return {name: vector.numbers(name) for name, vector in held.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, MemoryError,
            ArithmeticError, TokenError, pickle.UnpicklingError) as error:  # fmt: skip
        raise UserError(f"{path} should hold a dict of vectors, <segment>.txt: array; it does not: "
                        f"{str(error) or type(error).__name__}") from error  # fmt: skip


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
        self.code = str(code)

    def __setstate__(self, state: tuple) -> None:
        self.code = str(state[1]) + self.code  # byte order


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
            raise pickle.UnpicklingError(f"{module}.{name} is refused, only arrays are read")
        return self.NAMES[module, name]

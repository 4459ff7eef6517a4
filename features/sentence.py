"""Sentence vector: what an utterance says, in `text_dim` numbers.

`--text_encoder` says where it comes from:
    skt/kobert-base-v1   any BERT-like encoder, by hub id or folder: its last hidden layer averaged
                         over word pieces, [CLS], [SEP] and [PAD] left out
    char-ngram           hashed character 1-3-grams: no download, no network
    .../embedding.npy    vectors made elsewhere, a dict keyed `<segment>.txt`, as in 2022
"""

import hashlib
import pickle
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import constants
from feature import Unusable
from features._bert import FILES, WEIGHTS, Encoder, find
from utils import UserError

VERSION = 1
DTYPE = "float32"
SOURCE = "text"

Vectors = list[np.ndarray | Unusable]


def parameters(settings: Any) -> dict:
    """The encoder and, where it is a file or folder, a digest of its content."""
    encoder = settings.text_encoder or constants.TEXT_ENCODER
    path = Path(encoder)
    found = {"encoder": encoder, "dim": settings.text_dim}
    if path.suffix == ".npy" and path.is_file():
        return found | {"encoder": str(path.resolve()), "content": _content([path])}
    if path.is_dir():
        files = {file for pattern in FILES + WEIGHTS for file in path.glob(pattern)}
        return found | {"encoder": str(path.resolve()), "content": _content(sorted(files))}
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", encoder) or path.suffix == ".npy":
        raise UserError(f"--text_encoder: no file or folder {encoder!r}")
    return found


def source(parameters: dict) -> str:
    """A file of vectors is looked up by segment; everything else reads the text."""
    return "segment" if parameters["encoder"].endswith(".npy") else SOURCE


def shape(parameters: dict) -> tuple[int]:
    """(text_dim,)."""
    return (parameters["dim"],)


class Extractor:
    """text (or segment id) -> (text_dim,) float32."""

    def __init__(self, parameters: dict):
        encoder, dim = parameters["encoder"], parameters["dim"]
        if encoder == "char-ngram":
            self.encode: Callable[[list[str]], Vectors] = CharNgram(dim)
        elif encoder.endswith(".npy"):
            self.encode = EmbeddingFile(Path(encoder), dim)
        else:
            self.encode = Bert(find(encoder), dim)

    def __call__(self, source: str, rows: list) -> list[np.ndarray]:
        """One vector, for each of `rows`. Raises Unusable."""
        [vector] = self.many([source])
        if isinstance(vector, Unusable):
            raise vector
        return [vector] * len(rows)

    def many(self, sources: list[str]) -> Vectors:
        """A vector for each source; equal alone and among others."""
        return self.encode(sources)


def gather(
    arrays: list[np.ndarray | None], stats: list, parameters: dict,
    rng: np.random.Generator | None, out: np.ndarray,
) -> None:  # fmt: skip
    """Stored vectors -> (N, text_dim) float32 in `out`; zeros where there is nothing."""
    for array, block in zip(arrays, out, strict=True):
        block[...] = 0 if array is None else array


def _content(files: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "blake2b").hexdigest()
        digest.update(f"{path.name} {inner}\n".encode())
    return digest.hexdigest()


# --- the three encoders: texts (or segments) -> vectors ----------------------------------------


class Bert:
    """The average state of the word pieces of a text."""

    def __init__(self, folder: Path, dim: int):
        self.encoder = Encoder(folder)
        if self.encoder.dim != dim:
            raise UserError(f"needed sentence vectors of {dim} numbers (--text_dim), the encoder "
                            f"in {folder} makes {self.encoder.dim}")  # fmt: skip

    def __call__(self, texts: list[str]) -> Vectors:
        nothing = Unusable("no word pieces")
        return [nothing if v is None else v for v in self.encoder.averages(texts)]


class CharNgram:
    """Signed hashed counts of 1, 2 and 3 characters, of root mean square 1 as BERT's states."""

    def __init__(self, dim: int):
        from sklearn.feature_extraction.text import HashingVectorizer

        self.hashed = HashingVectorizer(
            analyzer="char", ngram_range=(1, 3), lowercase=False, n_features=dim, norm="l2",
            dtype=np.float32,
        )  # fmt: skip
        self.scale = np.float32(np.sqrt(dim))

    def __call__(self, texts: list[str]) -> Vectors:
        composed = [unicodedata.normalize("NFC", text) for text in texts]
        return list(self.hashed.transform(composed).toarray() * self.scale)


class EmbeddingFile:
    """A pickled dict `<segment>.txt` -> (dim,) in a .npy file."""

    def __init__(self, path: Path, dim: int):
        self.vectors = read_vectors(path)
        for name, vector in self.vectors.items():
            if vector.size != dim:
                raise UserError(f"needed vectors of {dim} numbers (--text_dim), {path} holds "
                                f"{vector.size} for {name}")  # fmt: skip

    def __call__(self, segments: list[str]) -> Vectors:
        nothing = Unusable("no vector in the embedding file")
        return [self.vectors.get(f"{segment}.txt", nothing) for segment in segments]


# --- files of vectors, read without executing them ------------------------------------------------


def read_vectors(path: Path) -> dict[str, np.ndarray]:
    """The dict of float32 vectors in a .npy file; nothing in it is executed. Raises UserError."""
    try:
        with path.open("rb") as file:
            _read_header(file)
            held = _Unpickler(file).load().item()
            return {name: vector.numbers(name) for name, vector in held.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, MemoryError,
            ArithmeticError, pickle.UnpicklingError) as error:  # fmt: skip
        raise UserError(f"{path} should hold a dict of vectors, <segment>.txt: array; it does not: "
                        f"{error or type(error).__name__}") from error  # fmt: skip


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
            if not isinstance(name, str) or not isinstance(value, _Array):
                raise ValueError(f"{str(name)[:40]!r} is a {type(value).__name__}")
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

"""Sentence vector: what an utterance says, in `text_dim` numbers.

`--text_encoder` says where it comes from:
    skt/kobert-base-v1   any BERT-like encoder, by hub id or folder: its last hidden layer averaged
                         over word pieces, [CLS], [SEP] and [PAD] left out
    char-ngram           hashed character 1-3-grams: no download, no network
    .../embedding.npy    vectors made elsewhere, a dict keyed `<segment>.txt`, as in 2022
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import constants
from feature import Unusable
from features._bert import FILES, WEIGHTS, Encoder, find
from features._vectors import read_vectors
from utils import UserError

VERSION = 1
DTYPE = "float32"
SOURCE = "text"

NAME_MAX = 255  # bytes of a file name, on the systems there are

Vectors = list[np.ndarray | Unusable]


def parameters(settings: Any) -> dict:
    """The encoder and, where it is a file or folder, a digest of its content."""
    encoder = settings.text_encoder or constants.TEXT_ENCODER
    path = Path(encoder)
    if any(len(part.encode()) > NAME_MAX for part in path.parts):
        raise UserError(f"--text_encoder: {encoder[:40]!r}... is too long for a name")
    found = {"encoder": encoder, "dim": settings.text_dim}
    if path.suffix == ".npy" and path.is_file():
        return found | {"encoder": str(path.resolve()), "content": _content([path])}
    if path.is_dir():
        files = {f for pattern in FILES + WEIGHTS for f in path.glob(pattern) if f.is_file()}
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
    cut: None, out: np.ndarray,
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

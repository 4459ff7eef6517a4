"""Sentence vector: what an utterance says, in `text_dim` numbers.

`--text_encoder` says where it comes from:
    skt/kobert-base-v1   any BERT-like encoder, by hub id or folder: its last hidden layer averaged
                         over word pieces, [CLS], [SEP] and [PAD] left out
    char-ngram           hashed character 1-3-grams: no download, no network
    .../embedding.npy    vectors made elsewhere, a dict keyed `<segment>.txt`, as in 2022
    exp/RUN/onnx         the encoder that was exported with a model: no torch
"""

import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import constants
from features.signal.vectors_2022 import read_vectors
from features.store import contract
from models.encoders import onnx
from models.encoders import text as text_encoders
from utils import Unusable, UserError

TOKENS_AT_ONCE = 4096  # in one forward pass of an encoder
HINT = ", or do without it: --text_encoder char-ngram"

Vectors = list[np.ndarray | Unusable]


class Extractor(contract.Extractor):
    """text (or segment id) -> (text_dim,) float32."""

    TOGETHER = True

    def __init__(self, parameters: dict):
        encoder, dim = parameters["encoder"], parameters["dim"]
        if encoder == "char-ngram":
            self.encode: Callable[[list[str]], Vectors] = CharNgram(dim)
        elif encoder.endswith(".npy"):
            self.encode = EmbeddingFile(Path(encoder), dim)
        elif (Path(encoder) / onnx.SENTENCE).is_file():
            self.encode = Exported(Path(encoder), dim)
        else:
            self.encode = Bert(text_encoders.find(encoder, HINT), dim)

    def __call__(self, source: str, rows: list) -> list[np.ndarray]:
        """One vector, for each of `rows`. Raises Unusable."""
        [vector] = self.many([source])
        if isinstance(vector, Unusable):
            raise vector
        return [vector] * len(rows)

    def many(self, sources: list[str]) -> Vectors:
        """A vector for each source; equal alone and among others."""
        return self.encode(sources)


class Feature(contract.Feature):
    """One vector for what is said."""

    VERSION = 1
    DTYPE = "float32"
    SOURCE = "text"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """The encoder and, where it is a file or folder, a digest of its content."""
        found = text_encoders.identify(settings.text_encoder or constants.TEXT_ENCODER)
        return found | {"dim": settings.text_dim}

    @staticmethod
    def source(parameters: dict) -> str:
        """A file of vectors is looked up by segment; everything else reads the text."""
        return "segment" if parameters["encoder"].endswith(".npy") else Feature.SOURCE

    @staticmethod
    def shape(parameters: dict) -> tuple[int]:
        """(text_dim,)."""
        return (parameters["dim"],)


# --- the encoders: texts (or segments) -> vectors ----------------------------------------------


class Pieces:
    """Texts -> vectors by way of word pieces. `pieces(text)`: their ids; `first`, `last`: those of
    [CLS] and [SEP]; `room`: for how many; `average`: (B, T) ids -> (B, dim)."""

    def __call__(self, texts: list[str]) -> Vectors:
        """Texts of equal length go together: nothing is padded, so nothing has to be masked."""
        vectors: Vectors = [Unusable("no word pieces")] * len(texts)
        by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for row, text in enumerate(texts):
            if pieces := self.pieces(text)[: self.room]:
                by_length[len(pieces)].append((row, [self.first, *pieces, self.last]))
        for length, items in by_length.items():
            step = max(1, TOKENS_AT_ONCE // (length + 2))
            for start in range(0, len(items), step):
                rows, tokens = zip(*items[start : start + step], strict=True)
                for row, vector in zip(rows, self.average(tokens), strict=True):
                    vectors[row] = vector
        return vectors


def _check_dim(config: dict, dim: int, folder: Path) -> None:
    if config["hidden_size"] != dim:
        raise UserError(
            f"needed sentence vectors of {dim} numbers (--text_dim), the encoder "
            f"in {folder} makes {config['hidden_size']}"
        )


class Exported(onnx.Sentences, Pieces):
    """Of an exported model, with onnxruntime."""

    def __init__(self, folder: Path, dim: int):
        super().__init__(folder)
        _check_dim(self.config, dim, folder)


class Bert(Pieces):
    """The average last state of the word pieces of a text."""

    def __init__(self, folder: Path, dim: int):
        import torch

        config = text_encoders.config(folder)
        _check_dim(config, dim, folder)
        self.torch = torch
        self.room = text_encoders.positions(config) - 2
        self.pieces, self.first, self.last, _ = text_encoders.tokenizer(folder, config)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = text_encoders.encoder(config, pooler=False)
        text_encoders.load(self.model, folder)
        self.model.to(self.device).eval()

    def average(self, tokens: tuple[list[int], ...]) -> np.ndarray:
        """(B, T) ids, [CLS] first and [SEP] last -> (B, dim) mean state of the others."""
        ids = self.torch.tensor(tokens, device=self.device)
        with self.torch.inference_mode():
            states = self.model(ids, attention_mask=self.torch.ones_like(ids)).last_hidden_state
        return states[:, 1:-1].mean(1).cpu().numpy()


class CharNgram:
    """Signed hashed counts of 1, 2 and 3 characters, of root mean square 1 as BERT's states."""

    def __init__(self, dim: int):
        from sklearn.feature_extraction.text import HashingVectorizer

        self.hashed = HashingVectorizer(
            analyzer="char",
            ngram_range=(1, 3),
            lowercase=False,
            n_features=dim,
            norm="l2",
            dtype=np.float32,
        )
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
                raise UserError(
                    f"needed vectors of {dim} numbers (--text_dim), {path} holds "
                    f"{vector.size} for {name}"
                )

    def __call__(self, segments: list[str]) -> Vectors:
        nothing = Unusable("no vector in the embedding file")
        return [self.vectors.get(f"{segment}.txt", nothing) for segment in segments]

"""Tokens: the word pieces of what an utterance says, as ids of the encoder's own tokenizer.

    tokens (B, W, T) int64   [CLS] pieces [SEP], padded to the longest of the batch
    tokens_mask (B, W, T)    bool, false in the padding

T is at most `--max_length`: of a longer line the beginning is kept, as in 2022.
"""

import re
import unicodedata
from typing import Any

import numpy as np

import constants
from features.store import contract
from models.encoders import text as text_encoders
from utils import Unusable, UserError

CLEANINGS = ("none", "hangul")


def hangul(text: str) -> str:
    """Only Hangul syllables, single letters and spaces, as the system of 2022 was given it.

    Digits, Latin and punctuation go, spaces within stay, those at the ends go: "A, 3시야!" ->
    "시야". Composed first: letters of syllables in parts are no letters of that range.
    """
    return re.sub("[^ㄱ-ㅎㅏ-ㅣ가-힣 ]", "", unicodedata.normalize("NFC", text)).strip()


class Extractor(contract.Extractor):
    """text -> (T,) int32 ids, 3 <= T <= max_length."""

    def __init__(self, parameters: dict):
        folder = text_encoders.find(parameters["encoder"])
        config = text_encoders.config(folder)
        self.longest, places = parameters["max_length"], text_encoders.positions(config)
        if not 3 <= self.longest <= places:
            raise UserError(
                f"--max_length needs 3 to {places}, the places of the encoder in "
                f"{folder}; it is {self.longest}"
            )
        self.tokenizer = text_encoders.tokenizer(folder, config)
        self.clean = hangul if parameters["clean"] == "hangul" else str

    def __call__(self, source: str, rows: list) -> list[np.ndarray]:
        """The ids, once for each of `rows`. Raises Unusable."""
        pieces = self.tokenizer.pieces(self.clean(source))[: self.longest - 2]
        if not pieces:
            raise Unusable("no word pieces")
        ids = [self.tokenizer.cls, *pieces, self.tokenizer.sep]
        return [np.array(ids, Feature.DTYPE)] * len(rows)


class Feature(contract.Feature):
    """Ids of word pieces."""

    VERSION = 1
    DTYPE = "int32"
    SOURCE = "text"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """The tokenizer (of `text_encoder`), `max_length` and `clean` of the settings."""
        if settings.clean not in CLEANINGS:
            raise UserError(f"--clean {settings.clean!r}: choose one of {', '.join(CLEANINGS)}")
        encoder = settings.text_encoder or constants.TEXT_ENCODER
        found = text_encoders.identify(encoder, weights=False)
        return found | {"max_length": settings.max_length, "clean": settings.clean}

    @staticmethod
    def shape(parameters: dict) -> tuple[None]:
        """(T,), T as it comes."""
        return (None,)

    @staticmethod
    def longest(parameters: dict) -> int:
        """Ids, [CLS] and [SEP] included."""
        return parameters["max_length"]

"""States of a text: the last hidden layer of a frozen BERT-like encoder, a row for each word piece.

    text_states (B, W, T, D) float32   of [CLS] pieces [SEP], zeros in the padding
    text_states_mask (B, W, T)         bool, false in the padding

The pieces are those of features/tokens.py: of a longer line the beginning is kept.
"""

from typing import Any

import numpy as np

import constants
import utils
from features.store import batches, contract
from models.encoders import text as text_encoders
from utils import UserError

TOKENS_AT_ONCE = 4096  # padding included, in one forward pass


class Extractor(batches.Batched):
    """text -> (T, D) float16, 3 <= T <= max_length."""

    at_once = TOKENS_AT_ONCE

    def __init__(self, parameters: dict):
        import torch

        self.torch = torch
        self.tokens = utils.leaf("features", "tokens").Extractor(parameters["tokens"])
        folder = text_encoders.find(parameters["encoder"])
        config = text_encoders.config(folder)
        if config["hidden_size"] != parameters["dim"]:
            raise UserError(
                f"needed states of {parameters['dim']} numbers, the encoder in "
                f"{folder} makes {config['hidden_size']}"
            )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = text_encoders.encoder(config, pooler=False)
        text_encoders.load(self.model, folder)
        self.model.to(self.device).eval()

    def read(self, source: str) -> np.ndarray:
        """The ids of its word pieces. Raises Unusable."""
        return self.tokens(source, [None])[0]

    def compute(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Ids of several texts -> (T, D) float16 of each."""
        block, mask = (self.torch.from_numpy(a).long() for a in batches.padded(ids))
        with self.torch.inference_mode():
            states = self.model(
                input_ids=block.to(self.device), attention_mask=mask.to(self.device)
            ).last_hidden_state.half()
        return [row[: len(one)] for row, one in zip(states.cpu().numpy(), ids, strict=True)]


class Feature(contract.Feature):
    """The last states of a text encoder, piece by piece."""

    VERSION = 1
    DTYPE = "float16"  # states of BERT are within 30: at most 0.008 off
    SOURCE = "text"
    Extractor = Extractor

    @staticmethod
    def parameters(settings: Any) -> dict:
        """Those of the tokens, the encoder with its weights, and how many numbers a state has."""
        tokens = utils.leaf("features", "tokens")
        found = text_encoders.identify(settings.text_encoder or constants.TEXT_ENCODER)
        return {
            "tokens": tokens.parameters(settings) | {"version": tokens.VERSION},
            "dim": settings.encoder["hidden_size"],
        } | found

    @staticmethod
    def shape(parameters: dict) -> tuple[None, int]:
        """(T, D), T as it comes."""
        return None, parameters["dim"]

    @staticmethod
    def longest(parameters: dict) -> int:
        """Word pieces, [CLS] and [SEP] included."""
        return parameters["tokens"]["max_length"]

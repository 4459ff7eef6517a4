"""States of a text: the last hidden layer of a frozen BERT-like encoder, a row for each word piece.

    text_states (B, W, T, D) float32   of [CLS] pieces [SEP], zeros in the padding
    text_states_mask (B, W, T)         bool, false in the padding

The pieces are those of features/tokens.py: of a longer line the beginning is kept.
"""

from typing import Any

import numpy as np

import constants
import pretrained
import schedule
import utils
from feature import Unusable
from utils import UserError

VERSION = 1
DTYPE = "float16"  # states of BERT are within 30: at most 0.008 off
SOURCE = "text"
TOKENS_AT_ONCE = 4096  # padding included, in one forward pass


def parameters(settings: Any) -> dict:
    """Those of the tokens, the encoder with its weights, and how many numbers a state has."""
    tokens = utils.leaf("features", "tokens")
    found = pretrained.identify(settings.text_encoder or constants.TEXT_ENCODER)
    return {
        "tokens": tokens.parameters(settings) | {"version": tokens.VERSION},
        "dim": settings.encoder["hidden_size"],
    } | found


def shape(parameters: dict) -> tuple[None, int]:
    """(T, D), T as it comes."""
    return None, parameters["dim"]


def longest(parameters: dict) -> int:
    """Word pieces, [CLS] and [SEP] included."""
    return parameters["tokens"]["max_length"]


class Extractor:
    """text -> (T, D) float16, 3 <= T <= max_length."""

    def __init__(self, parameters: dict):
        import torch

        self.torch = torch
        self.tokens = utils.leaf("features", "tokens").Extractor(parameters["tokens"])
        folder = pretrained.find(parameters["encoder"])
        config = pretrained.config(folder)
        if config["hidden_size"] != parameters["dim"]:
            raise UserError(f"needed states of {parameters['dim']} numbers, the encoder in "
                            f"{folder} makes {config['hidden_size']}")  # fmt: skip
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = pretrained.encoder(config, pooler=False)
        pretrained.load(self.model, folder)
        self.model.to(self.device).eval()

    def __call__(self, source: str, rows: list) -> list[np.ndarray]:
        """The states, once for each of `rows`. Raises Unusable."""
        [states] = self.many([source])
        if isinstance(states, Unusable):
            raise states
        return [states] * len(rows)

    def many(self, sources: list[str]) -> list[np.ndarray | Unusable]:
        """States of each source; equal alone and among others, but for rounding."""
        found = [self._ids(source) for source in sources]
        lengths = np.array([0 if isinstance(ids, Unusable) else len(ids) for ids in found])
        order = lengths.argsort(kind="stable")[(lengths == 0).sum() :]
        for rows in schedule.cut(order, lengths[order], len(order), TOKENS_AT_ONCE):
            for row, states in zip(rows, self._states([found[row] for row in rows]), strict=True):
                found[row] = states
        return found

    def _ids(self, source: str) -> np.ndarray | Unusable:
        try:
            [ids] = self.tokens(source, [None])
            return ids
        except Unusable as reason:
            return reason

    def _states(self, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Ids of several texts -> (T, D) float16 of each."""
        lengths = self.torch.tensor([len(one) for one in ids])
        padded = self.torch.zeros(len(ids), int(lengths.max()), dtype=self.torch.long)
        for row, one in zip(padded, ids, strict=True):
            row[: len(one)] = self.torch.from_numpy(one)
        mask = self.torch.arange(padded.shape[1]) < lengths.unsqueeze(-1)
        with self.torch.inference_mode():
            states = self.model(
                input_ids=padded.to(self.device), attention_mask=mask.long().to(self.device)
            ).last_hidden_state.half()
        states = states.cpu().numpy()
        return [row[:n] for row, n in zip(states, lengths, strict=True)]


def gather(
    arrays: list[np.ndarray | None], stats: list, parameters: dict, cut: None, out: np.ndarray
) -> None:
    """Stored states -> (N, T, D) float32 in `out`, which holds zeros."""
    for array, block in zip(arrays, out, strict=True):
        if array is not None:
            block[: len(array)] = array

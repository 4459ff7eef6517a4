"""Emotion models of EmotionShortForm: an LSTM over the seconds of an utterance, by mean MFCC.

    mfcc_seconds (B, W, S, 32)  mean coefficients of each second; windows of one utterance
      standardised, dropout         by all training seconds so far, models/layers/standardise.py
      LSTM, 3 layers of 128         one second after the other
      after the last second (B, 128)
        emotion: linear             (B, 7)     log-probabilities
        arousal and valence, each:  linear 1   4 sigmoid + 1

With `--ws 8` the seconds of the utterances before are read first. Where nothing is heard, the state
is zeros. features/emotion_states.py reads a video through such a model, second by second.

`--legacy` is its first version: an utterance is one vector, the mean over its seconds, and
every sequence has length 1. `--balance` changes how often training rows of a class (the first of
its labels) are seen, and no other rows; `smote` makes up vectors between those of a class, so it
needs `--legacy`. EmotionShortForm trained for 1,500 epochs of a single step each, all rows at once:
30 epochs in batches of 64 are more steps than that (4,000 of KEMDy20), and it chose its epoch on
its test rows.
`python main.py --model lstm_audio --balance oversample`
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from constants import HEADS
from model import (
    Batch,
    EmotionModel,
    Resampling,
    at_least_float32,
    heads_of,
    judged,
    mask_of,
    masked,
)
from models.layers.standardise import Standardised, dense
from utils import UserError, setting

FEATURE = "mfcc_seconds"
COEFFICIENTS = 32  # of a second
BALANCES = ("none", "oversample", "undersample", "smote")


@dataclass(frozen=True)
class Settings:
    """The flags of an LSTM over seconds of sound."""

    heads: str = setting(",".join(HEADS), f"what is predicted, of {','.join(HEADS)}")
    hidden_size: int = setting(128, "numbers of a state", least=1)
    layers: int = setting(3, "recurrent layers", least=1)
    dropout: float = setting(0.5, "share of a layer's numbers dropped on the way up", least=0)
    input_dropout: float = setting(0.5, "share of the coefficients dropped", least=0)
    balance: str = setting("none", "make classes equally frequent in training", BALANCES)
    neighbours: int = setting(2, "rows of its class that smote draws a row towards", least=1)
    legacy: bool = setting(False, "an utterance is one mean vector, as in 2023")
    ws: int = setting(1, "utterances in a window; the last one is judged", least=1)


class Model(EmotionModel):
    """A batch with `mfcc_seconds` and its mask (B, W, S) -> `{"emotion": (B, 7), ...}`."""

    Settings = Settings
    DEFAULTS = {"optim": "adam", "lr": 1e-3, "weight_decay": 1e-5, "batch_size": 64, "epochs": 30}

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads."""
        return (FEATURE,)

    @staticmethod
    def complete(settings: Any) -> dict:
        """Nothing to fill in; a UserError for what cannot be balanced."""
        if settings.balance == "smote" and not settings.legacy:
            raise UserError(
                "--balance smote makes up mean vectors, so it needs --legacy; sequences "
                "take oversample or undersample"
            )
        return {}

    @staticmethod
    def resampling(settings: Settings) -> Resampling:
        """Of `--balance`."""
        return Resampling(settings.balance, FEATURE, settings.neighbours)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        for name in ("dropout", "input_dropout"):
            if not 0 <= vars(settings)[name] < 1:
                raise UserError(f"--{name} should be in [0, 1), it is {vars(settings)[name]}")
        self.heads, self.legacy = heads_of(settings.heads), settings.legacy
        size, layers = settings.hidden_size, settings.layers
        between = settings.dropout if layers > 1 else 0.0
        self.standardised = Standardised(COEFFICIENTS)
        self.dropout = nn.Dropout(settings.input_dropout)
        self.recurrent = nn.LSTM(COEFFICIENTS, size, layers, batch_first=True, dropout=between)
        self.outputs = nn.ModuleDict({n: nn.Linear(size, HEADS[n].size) for n in self.heads})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance; never in half precision."""
        seconds, mask = masked(batch, FEATURE), mask_of(batch, FEATURE)
        if self.legacy:
            seconds, mask = seconds[:, -1:], mask[:, -1:]
        return self.judge(self.heard(seconds.flatten(1, 2), mask.flatten(1, 2)))

    def judge(self, state: Tensor) -> dict[str, Tensor]:
        """(N, hidden) -> the output of each head."""
        with torch.autocast(state.device.type, enabled=False):
            return {name: judged(name, head(state)) for name, head in self.outputs.items()}

    def heard(self, seconds: Tensor, mask: Tensor) -> Tensor:
        """(N, S, 32), (N, S) bool -> (N, hidden): the state after the last second that is there.

        Zeros where none is. What stands in the others, and where they stand, changes nothing.
        """
        if self.legacy:
            seconds, mask = mean(seconds, mask)
        states = self.states(*dense(seconds, mask))
        last = mask.sum(1).clamp(min=1) - 1
        state = states[torch.arange(len(states), device=states.device), last]
        return torch.where(mask.any(1, keepdim=True), state, 0)

    def states(self, seconds: Tensor, mask: Tensor) -> Tensor:
        """(N, S, 32), (N, S) bool, padding last -> (N, S, hidden): the state after each second.

        With `--legacy` each second is a sequence of its own, as EmotionShortForm used its models.
        """
        with torch.autocast(seconds.device.type, enabled=False):
            x = self.dropout(self.standardised(at_least_float32(seconds), mask))
            if not self.legacy:
                return self.recurrent(x)[0]
            return self.recurrent(x.flatten(0, 1).unsqueeze(1))[0].view(*mask.shape, -1)


def mean(seconds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(N, S, D), (N, S) bool -> (N, 1, D), (N, 1): the mean over the seconds that are there."""
    total = torch.where(mask.unsqueeze(-1), seconds, 0).sum(1, keepdim=True)
    return total / mask.sum(1).clamp(min=1).view(-1, 1, 1), mask.any(1, keepdim=True)

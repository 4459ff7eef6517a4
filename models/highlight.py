"""Highlights of a video: an LSTM over its seconds, what is heard, felt and seen of each.

    mfcc_second (B, W, 34)      mean MFCC, level and flux          --modality both or audio
    emotion_states (B, W, E)    states of trained lstm_audio       with --emotion_run
    frames (B, W, V)            a ViT on the middle frame          --modality both or video
      each standardised, linear             (B, W, 128)    what is missing: a learnt vector
      side by side, in this order           (B, W, 128 x blocks)
      LSTM, both directions                 (B, W, 256)
      dropout, linear                       (B, W)         logits of `highlight`

A window is `--ws` consecutive seconds of one video in training, a whole video in testing; seconds
come first and padding last, and padding changes nothing. A second with nothing to see or hear is
judged by its neighbours. `--no_bidirectional` never looks ahead.

`--legacy` is the first version of EmotionShortForm: every second is a sequence of its own, so the
LSTM has no memory at all.
`python main.py --model highlight --data aihub_highlight:DIR --emotion_run exp/emotion`
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import utils
from model import Batch, EmotionModel, at_least_float32, mask_of, masked
from models.layers.standardise import Standardised
from utils import UserError, setting

MODALITIES = ("both", "audio", "video")
SIZE = 128  # numbers of a block, as it goes into the LSTM


@dataclass(frozen=True)
class Settings:
    """The flags of a highlight model; `widths` and `computed_by` come from its features."""

    modality: str = setting("both", "what the model is given", MODALITIES)
    emotion_run: str = setting(
        "", "lstm_audio runs whose states are heard, by commas or spaces", runs=True, with_test=True
    )
    emotion_seconds: int = setting(10, "s of sound that such a state is of", least=1)
    hidden_size: int = setting(128, "numbers of a state, in each direction", least=1)
    layers: int = setting(1, "recurrent layers", least=1)
    bidirectional: bool = setting(True, "read a video in both directions")
    dropout: float = setting(0.3, "share of the states dropped in training", least=0)
    pos_weight: float = setting(0.0, "weight of highlights in the loss; 0: balanced", least=0)
    legacy: bool = setting(False, "each second by itself, as in 2023")
    ws: int = setting(250, "s of a video that are trained on at once", least=1)
    widths: dict | None = setting(None, "numbers of each of its features", flag=False)
    computed_by: dict | None = setting(None, "digests of what computes them", flag=False)


def _files(parameters: dict) -> str:
    """Digest of the parameters of a feature, but for where files of known content lie."""
    return utils.digest(
        {
            name: [run["content"] for run in value] if name == "runs" else value
            for name, value in parameters.items()
            if name != "encoder" or "content" not in parameters
        }
    )


class Model(EmotionModel):
    """A batch with its features (B, W, D), their masks and `mask` -> `{"highlight": (B, W)}`."""

    Settings = Settings
    SEQUENCE = True
    heads = ("highlight",)
    DEFAULTS = {
        "optim": "adam",
        "lr": 1e-3,
        "weight_decay": 1e-5,
        "batch_size": 8,
        "epochs": 30,
        "clip": 1.0,
    }

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads, in the order of its blocks."""
        states = ("emotion_states",) if settings.emotion_run else ()
        audio, video = ("mfcc_second", *states), ("frames",)
        return {"audio": audio, "video": video, "both": audio + video}[settings.modality]

    @staticmethod
    def complete(settings: Any) -> dict:
        """How wide its features are, and what computes them: the runs, the encoder.

        UserError where a finished run is to read others than it was trained with.
        """
        found = {name: utils.leaf("features", name) for name in Model.inputs(settings)}
        given = {name: leaf.parameters(settings) for name, leaf in found.items()}
        files = {n: _files({"version": leaf.VERSION} | given[n]) for n, leaf in found.items()}
        trained = settings.computed_by or files
        if other := [name for name in files if trained.get(name) != files[name]]:
            flag = {"frames": "vision_encoder", "emotion_states": "emotion_run"}.get(other[0])
            said = f"--{flag} {vars(settings)[flag]}" if flag else "this version"
            raise UserError(f"{said} is not what this run was trained with: {other[0]} differ")
        widths = {name: leaf.shape(given[name])[0] for name, leaf in found.items()}
        return {"widths": widths, "computed_by": files}

    @staticmethod
    def event_weight(settings: Settings) -> float:
        """Of `--pos_weight`."""
        return settings.pos_weight

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.features, self.legacy = self.inputs(settings), settings.legacy
        widths = settings.widths or {}
        if absent := [name for name in self.features if name not in widths]:
            raise UserError(f"the model highlight needs `widths` of {', '.join(absent)}")
        if not 0 <= settings.dropout < 1:
            raise UserError(f"--dropout should be in [0, 1), it is {settings.dropout}")
        self.standardised = nn.ModuleDict({n: Standardised(widths[n]) for n in self.features})
        self.blocks = nn.ModuleDict({n: nn.Linear(widths[n], SIZE) for n in self.features})
        self.absent = nn.ParameterDict({n: torch.zeros(SIZE) for n in self.features})
        size, layers = settings.hidden_size, settings.layers
        self.recurrent = nn.LSTM(
            SIZE * len(self.features),
            size,
            layers,
            batch_first=True,
            bidirectional=settings.bidirectional,
            dropout=settings.dropout if layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(size * (2 if settings.bidirectional else 1), 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A logit for each second; zeros in the padding. Never in half precision."""
        mask = batch["mask"]
        with torch.autocast(mask.device.type, enabled=False):
            x = torch.cat([self._block(batch, name) for name in self.features], -1)
            logits = self.output(self.dropout(self._read(x, mask))).squeeze(-1)
        return {"highlight": torch.where(mask, logits, 0)}

    def _block(self, batch: Batch, name: str) -> Tensor:
        """(B, W, SIZE)."""
        there = mask_of(batch, name) & batch["mask"]
        x = self.standardised[name](at_least_float32(masked(batch, name)), there)
        return torch.where(there.unsqueeze(-1), self.blocks[name](x), self.absent[name])

    def _read(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, W, ...), (B, W) -> (B, W, states)."""
        if self.legacy:
            return self.recurrent(x.flatten(0, 1).unsqueeze(1))[0].view(*mask.shape, -1)
        steps = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        lengths = (steps * mask).amax(1).clamp(min=1)  # up to the last second that is there
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=mask.shape[1]
        )
        return states

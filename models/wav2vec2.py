"""wav2vec2, or a HuBERT or WavLM, fine-tuned: what is said, judged by its sound alone.

    waveform (B, W, T)  samples of each utterance of the window
      encoder                      (B, W, L + 1, F, D)   its convolutions frozen
      mean over time               (B, W, L + 1, D)      of the utterance's own frames
      last layer, or weighted sum  (B, W, D)
      dropout, linear, tanh, dropout
        emotion: linear            (B, 7)     log-probabilities
        arousal and valence, each: linear 1   4 sigmoid + 1

A window is one utterance by default. With `--ws 8` the mean of the utterances before it stands
beside it, D numbers more. What has no sound, or less than one frame, is D zeros.

`--frozen` trains only what comes after the encoder, on means over time that were extracted once
(features/speech_layers.py): the same predictions, without the encoder in `model.pth`.
`--reverse` plays every utterance backwards, the second member of the ensemble of 2023.
`python main.py --model wav2vec2 --speech_encoder kresnik/wav2vec2-large-xlsr-korean`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import constants
from constants import HEADS
from model import Batch, EmotionModel, heads_of, judged, mask_of, masked
from models.encoders import speech
from utils import UserError, setting

AS_SAVED = -1.0  # of --dropout: what the checkpoint's config says


@dataclass(frozen=True)
class Settings:
    """The flags of a fine-tuned speech encoder; `speech` comes from its folder."""

    heads: str = setting("emotion", "what it predicts, some of emotion,arousal,valence")
    layers: str = setting("last", "hidden layers that are judged", ("last", "weighted"))
    frozen: bool = setting(False, "leave the encoder as it is and run it once for each clip")
    reverse: bool = setting(False, "play each utterance backwards")
    checkpointing: bool = setting(False, "compute states again for the gradient: less memory")
    max_seconds: float = setting(0.0, "s of a clip that are heard at most; 0: all", least=0)
    dropout: float = setting(
        AS_SAVED, "share of the pooled numbers dropped in training; -1: as it was saved", least=-1
    )
    ws: int = setting(1, "utterances in a window; the last one is judged", least=1)
    speech: dict | None = setting(None, "its config.json", flag=False)
    speech_files: str | None = setting(None, "digest of its files", flag=False)


class Model(EmotionModel):
    """A batch with `waveform` (or `speech_layers`) and its mask -> `{"emotion": (B, 7), ...}`."""

    Settings = Settings
    # of the system of 2023 (two wav2vec2 and three KoBERT): batches of 4 by accumulation, else the
    # defaults of transformers' Trainer
    DEFAULTS = {
        "speech_encoder": constants.SPEECH_ENCODER,
        "optim": "adamw",
        "lr": 2e-4,
        "weight_decay": 0.0,
        "schedule": "linear",
        "warmup": 0.0,
        "clip": 1.0,
        "batch_size": 4,
        "epochs": 1,
    }

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads."""
        return ("speech_layers",) if settings.frozen else ("waveform",)

    @staticmethod
    def complete(settings: Any) -> dict:
        """What the encoder is, read from its folder; a frozen one's weights count as well.

        Nothing new of a run that holds its encoder: it can be tested where the checkpoint is not.
        """
        known = settings.speech is not None and not settings.frozen
        if known and not Path(settings.speech_encoder).is_dir():
            return {}
        found = speech.described(settings.speech_encoder)
        if settings.frozen:  # it is not in the run, which can be tested with no other
            found["speech_files"] = speech.identify(settings.speech_encoder).get("content")
        return found

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        if settings.speech is None:
            raise UserError("the model wav2vec2 needs `speech`, of its speech encoder")
        self.heads = heads_of(settings.heads)
        self.frozen, self.reverse, self.ws = settings.frozen, settings.reverse, settings.ws
        config = settings.speech
        if not settings.frozen:
            self.encoder = speech.encoder(config)
            if settings.checkpointing:
                self.encoder.activation_checkpointing_enable({"use_reentrant": False})
        size, layers = sizes(config)
        self.weights = None
        if settings.layers == "weighted":  # all alike at first, as in SUPERB
            self.weights = nn.Parameter(torch.zeros(layers))
        given = size * (2 if self.ws > 1 else 1)
        self.projection = nn.Linear(given, size)
        self.dropout = nn.Dropout(dropout(settings.dropout, config))
        self.outputs = nn.ModuleDict({n: nn.Linear(size, HEADS[n].size) for n in self.heads})

    def load_pretrained(self, settings: Any) -> None:
        """The encoder's weights, from `settings.speech_encoder`. Raises UserError."""
        if not self.frozen:
            speech.load(self.encoder, speech.find(settings.speech_encoder))

    def parameter_groups(self) -> list[dict]:
        """What learns; no weight decay on biases, LayerNorm and weights of layers."""
        learning = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if p.ndim > 1]},
            {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance."""
        means, there = self._means(batch)
        heard = self._layer(means)  # (B, W, D)
        pooled = heard[:, -1]
        if self.ws > 1:
            before = speech.pooled(heard[:, :-1], there[:, :-1])
            pooled = torch.cat([pooled, before], -1)
        pooled = self.dropout(torch.tanh(self.projection(self.dropout(pooled))))
        return {name: judged(name, head(pooled)) for name, head in self.outputs.items()}

    def _means(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean over time of each layer, (B, W, L + 1, D), and which utterances have one."""
        if self.frozen:
            return masked(batch, "speech_layers"), mask_of(batch, "speech_layers")
        wave, mask = masked(batch, "waveform").flatten(0, 1), batch["waveform_mask"].flatten(0, 1)
        if self.reverse:
            wave = reversed_in_time(wave, mask)
        means, there = speech.means(self.encoder, wave, mask, self.weights is not None)
        windows = batch["waveform"].shape[:2]
        return means.transpose(0, 1).unflatten(0, windows), there.unflatten(0, windows)

    def _layer(self, means: Tensor) -> Tensor:
        """(B, W, L + 1, D) -> (B, W, D): the last layer, or all by their weights."""
        if self.weights is None:
            return means[:, :, -1]
        return torch.einsum("l,bwld->bwd", self.weights.softmax(0), means)


def sizes(config: dict) -> tuple[int, int]:
    """(numbers of a state, hidden layers with what the first is given). Raises UserError."""
    found = config.get("hidden_size"), config.get("num_hidden_layers")
    if not all(type(value) is int and value >= 1 for value in found):
        raise UserError(f"speech should be the config of a speech encoder, it is {config!r}"[:200])
    return found[0], found[1] + 1


def dropout(said: float, config: dict) -> float:
    """The share that `--dropout` says, or else the config of the checkpoint."""
    share = config.get("final_dropout") if said == AS_SAVED else said
    if not isinstance(share, int | float) or not 0 <= share < 1:
        raise UserError(f"--dropout should be in [0, 1), or -1; it is {share!r}")
    return share


def reversed_in_time(wave: Tensor, mask: Tensor) -> Tensor:
    """(N, T), mask -> (N, T): each row's own samples in reverse order, the padding behind them."""
    steps = torch.arange(wave.shape[1], device=wave.device)
    back = mask.sum(1, keepdim=True) - 1 - steps
    return torch.where(mask, wave.gather(1, back.clamp(min=0)), 0)

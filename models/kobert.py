"""KoBERT, or any BERT-like encoder, fine-tuned whole: what is said, judged by its words alone.

    tokens (B, W, T)  word pieces of each utterance of the window, [CLS] and [SEP] around them
      joined                       (B, L)     [CLS] oldest [SEP] ... newest [SEP], L <= max_length
      encoder, pooler of [CLS]     (B, 768)
      dropout
        emotion: linear            (B, 7)     log-probabilities
        arousal and valence, each: linear 1   4 sigmoid + 1

A window is one utterance by default. With `--ws 8` the utterances before it are its context, the
oldest words being left out where all are more than `--max_length`. Where nothing is said at all,
[CLS] [SEP] is judged: what is likely without having heard anything.
`python main.py --model kobert --text_encoder skt/kobert-base-v1 --heads emotion,arousal,valence`
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import constants
from constants import HEADS
from model import Batch, EmotionModel, heads_of, judged, masked
from models.encoders import text as text_encoders
from utils import UserError, setting


@dataclass(frozen=True)
class Settings:
    """The flags of a fine-tuned text encoder; `encoder` and `special` come from its folder."""

    heads: str = setting("emotion", "what it predicts, some of emotion,arousal,valence")
    max_length: int = setting(128, "word pieces read at once, [CLS] and [SEP] included", least=3)
    dropout: float = setting(0.5, "share of the pooled numbers dropped in training", least=0)
    clean: str = setting("none", "what is left of a line: all or Hangul", ("none", "hangul"))
    ws: int = setting(1, "utterances in a window; the last one is judged", least=1)
    encoder: dict | None = setting(None, "its config.json", flag=False)
    special: dict | None = setting(None, "ids of cls, sep and pad", flag=False)
    encoder_files: str | None = setting(None, "digest of its config and tokenizer", flag=False)


class Model(EmotionModel):
    """A batch with `tokens` and `tokens_mask` -> `{"emotion": (B, 7), "arousal": (B,), ...}`."""

    Settings = Settings
    # of the system of 2022 (KoBERT + ModifiedAlexNet + CM-BERT), its text model
    DEFAULTS = {
        "text_encoder": constants.TEXT_ENCODER,
        "optim": "adamw",
        "lr": 5e-5,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup": 0.1,
        "clip": 1.0,
        "batch_size": 16,
        "epochs": 16,
    }

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads."""
        return ("tokens",)

    @staticmethod
    def complete(settings: Any) -> dict:
        """What the encoder is, read from its folder."""
        return text_encoders.described(settings.text_encoder)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        text_encoders.check(settings, "kobert")
        if not 0 <= settings.dropout < 1:
            raise UserError(f"--dropout should be in [0, 1), it is {settings.dropout}")
        self.heads = heads_of(settings.heads)
        self.encoder = text_encoders.encoder(settings.encoder, pooler=True)
        text_encoders.check_length(settings.encoder, settings.max_length)
        self.special, self.longest = dict(settings.special), settings.max_length
        size = self.encoder.config.hidden_size
        self.pooler = None
        if not hasattr(self.encoder, "pooler"):  # of transformers; ELECTRA's has none: one of ours
            self.pooler = nn.Sequential(nn.Linear(size, size), nn.Tanh())
        self.dropout = nn.Dropout(settings.dropout)
        self.outputs = nn.ModuleDict({n: nn.Linear(size, HEADS[n].size) for n in self.heads})

    def load_pretrained(self, settings: Any) -> None:
        """The encoder's weights, from `settings.text_encoder`. Raises UserError."""
        text_encoders.load(self.encoder, text_encoders.find(settings.text_encoder))

    def parameter_groups(self) -> list[dict]:
        """No weight decay on biases and LayerNorm."""
        matrices = [p for p in self.parameters() if p.ndim > 1]
        return [
            {"params": matrices},
            {"params": [p for p in self.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance."""
        ids, mask = text_encoders.joined(
            masked(batch, "tokens"), batch["tokens_mask"], self.longest, **self.special
        )
        read = self.encoder(input_ids=ids, attention_mask=mask.long())
        pooled = self.dropout(self._pooled(read))
        return {name: judged(name, head(pooled)) for name, head in self.outputs.items()}

    def _pooled(self, read: Any) -> Tensor:
        """(B, size)."""
        if self.pooler is not None:
            return self.pooler(read.last_hidden_state[:, 0])
        return read.pooler_output

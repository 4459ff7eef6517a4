"""CM-BERT: a BERT-like encoder whose words are weighed by what they say and how they sound.

    tokens (B, 1, T)  -> encoder, embeddings frozen          H (B, T, width)
    mfcc (B, 1, F, n) -> averaged over each word piece in time (B, T, n)
    both, in attention_size numbers each, scaled -> alpha, beta = ReLU(Q Q') (B, T, T)
    softmax(w_t alpha + w_a beta) H + H -> Linear, LayerNorm -> [CLS] -> a linear head each

Sound is aligned with words at equal rate: the frames of an utterance are divided evenly over its
word pieces ([CLS] and [SEP] have none), unless the batch holds `tokens_span` (B, W, T, 2), the
seconds at which each begins and ends. Of a clip over 30 s, or a text over `--max_length`, what is
kept of the one is laid beside what is kept of the other. An utterance without sound is judged by
its words; one without words as [CLS] [SEP]. Utterances before the last of a window are not read.

`--legacy` is the variant of 2022 on KEMDy19: coefficient i of the first 465 frames beside word
piece i instead of alignment, sound that is not scaled, a frozen random head. What is not
reproduced: the text is scaled for each utterance, not by the norm of the whole batch.
`python main.py --model cm_bert`
`python main.py --model cm_bert --legacy --attention_lr 0.01 --target hard`
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import constants
from constants import HEADS
from model import Batch, EmotionModel, heads_of, judged, mask_of, masked
from models.encoders import text as text_encoders
from models.layers.attention import MultimodalAttention, average, equal_rate, timed, transposed
from utils import UserError, setting

LEGACY_FRAMES = 465  # 4.65 s: what was kept of an utterance in 2022
LEGACY_SD = 0.02  # of the weights of its head: BERT's


@dataclass(frozen=True)
class Settings:
    """The flags of CM-BERT; `encoder` and `special` come from the text encoder's folder."""

    heads: str = setting("emotion", f"what is predicted, of {','.join(HEADS)}")
    max_length: int = setting(100, "tokens of an utterance at most, [CLS], [SEP] too", least=3)
    clean: str = setting(
        "hangul", "what is kept of the text; hangul: Korean letters", choices=("hangul", "none")
    )
    sr: int = setting(constants.SAMPLE_RATE, "sample rate of the sound, Hz", least=1)
    n_mfcc: int = setting(100, "mel-frequency cepstral coefficients of a frame", least=1)
    mfcc_fft: int = setting(400, "samples of a frame", least=2)
    mfcc_hop: int = setting(160, "samples from a frame to the next", least=1)
    attention_size: int = setting(30, "numbers that text and sound are compared in", least=1)
    attention_lr: float = setting(
        1e-3, "learning rate of what is not pretrained; published: 0.01", least=0
    )
    dropout: float = setting(0.1, "share of the numbers dropped before the heads", least=0)
    attention_dropout: float = setting(0.3, "share of the attention dropped", least=0)
    legacy: bool = setting(False, "the variant of 2022, as far as it can be run")
    ws: int = setting(1, "utterances in a window; the last one alone is read", least=1)
    encoder: dict | None = setting(None, "its config.json", flag=False)
    special: dict | None = setting(None, "ids of cls, sep and pad", flag=False)
    encoder_files: str | None = setting(None, "digest of its config and tokenizer", flag=False)


class Model(EmotionModel):
    """A batch -> `{"emotion": (B, 7), "arousal": (B,), "valence": (B,)}`, of its `heads`.

    The batch holds `tokens` (B, W, T) and `mfcc` (B, W, F, n_mfcc) with their masks.
    """

    Settings = Settings
    DEFAULTS = {
        "optim": "adamw",
        "lr": 2e-5,
        "weight_decay": 0.01,
        "batch_size": 24,
        "epochs": 3,
        "schedule": "linear",
        "warmup": 0.1,
        "clip": 1.0,
        "text_encoder": constants.TEXT_ENCODER,
    }

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads."""
        return "tokens", "mfcc"

    @staticmethod
    def complete(settings: Any) -> dict:
        """What the text encoder is, read from its folder."""
        return text_encoders.described(settings.text_encoder)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        _check(settings)
        self.settings, self.heads = settings, heads_of(settings.heads)
        self.encoder = text_encoders.encoder(settings.encoder, pooler=False)
        text_encoders.check_length(settings.encoder, settings.max_length)
        self.encoder.embeddings.requires_grad_(False)  # as published: few words, much to unlearn
        width, legacy = settings.encoder["hidden_size"], settings.legacy
        sound = LEGACY_FRAMES if legacy else settings.n_mfcc
        dropout = settings.attention_dropout, settings.dropout
        self.attention = MultimodalAttention(width, sound, settings.attention_size, dropout, legacy)
        self.dropout = nn.Dropout(settings.dropout)
        self.outputs = nn.ModuleDict({n: nn.Linear(width, HEADS[n].size) for n in self.heads})
        if legacy:
            for output in self.outputs.values():
                nn.init.normal_(output.weight, std=LEGACY_SD)
                nn.init.zeros_(output.bias)
            self.outputs.requires_grad_(False)

    def load_pretrained(self, settings: Any) -> None:
        """The weights of `settings.text_encoder`, all of them. Raises UserError."""
        text_encoders.load(self.encoder, text_encoders.find(settings.text_encoder))

    def parameter_groups(self) -> list[dict]:
        """What is pretrained, and what is not at `attention_lr`; biases and norms do not decay.

        In legacy, biases beside the attention are at the rate of the encoder, as published.
        """
        groups: dict[tuple[bool, bool], list] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                decays, new = parameter.ndim > 1, not name.startswith("encoder.")
                new = new and not (self.settings.legacy and name.endswith("bias"))
                groups.setdefault((decays, new), []).append(parameter)
        return [
            {"params": parameters}
            | ({} if decays else {"weight_decay": 0.0})
            | ({"lr": self.settings.attention_lr} if new else {})
            for (decays, new), parameters in groups.items()
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance; only the encoder in half precision."""
        tokens, mask = self._tokens(batch)
        states = self.encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        dtype = torch.promote_types(self.attention.dense.weight.dtype, torch.float32)
        with torch.autocast(tokens.device.type, enabled=False):
            sound, heard = self._sound(batch, mask)
            mixed = self.attention(states.to(dtype), mask, sound.to(dtype), heard)
            first = self.dropout(mixed[:, 0])
            return {name: judged(name, self.outputs[name](first)) for name in self.heads}

    def _tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T) ids and bool of the last utterance, T >= 2; [CLS] [SEP] where it has no text."""
        tokens, mask = masked(batch, "tokens")[:, -1], mask_of(batch, "tokens")[:, -1]
        missing = (0, max(0, 2 - tokens.shape[1]))
        tokens, mask = nn.functional.pad(tokens, missing), nn.functional.pad(mask, missing)
        cls, sep = self.settings.special["cls"], self.settings.special["sep"]
        first, empty = torch.arange(mask.shape[1], device=mask.device), ~mask.any(-1, keepdim=True)
        tokens = torch.where(empty & (first == 0), cls, tokens)
        tokens = torch.where(empty & (first == 1), sep, tokens)
        return tokens, mask | (empty & (first < 2))

    def _sound(self, batch: Batch, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C): what is heard at each token; (B,) bool: whether anything is."""
        frames, mask = masked(batch, "mfcc")[:, -1], mask_of(batch, "mfcc")[:, -1]
        if self.settings.legacy:
            return transposed(frames, mask, LEGACY_FRAMES, tokens.shape[1]), mask.any(-1)
        order, count = tokens.cumsum(-1), tokens.sum(-1, keepdim=True)
        words = tokens & (order > 1) & (order < count)  # neither [CLS] nor [SEP]
        if "tokens_span" in batch:
            rate = self.settings.sr / self.settings.mfcc_hop
            spans = timed(words, batch["tokens_span"][:, -1], rate)
        else:
            spans = equal_rate(words, mask.sum(-1))
        return average(frames, mask, spans), mask.any(-1)


def _check(settings: Settings) -> None:
    """A UserError where the settings make no model."""
    text_encoders.check(settings, "cm_bert")
    for name in ("dropout", "attention_dropout"):
        if not 0 <= (share := vars(settings)[name]) < 1:
            raise UserError(f"--{name} should be in [0, 1), it is {share}")

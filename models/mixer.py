"""MMM: the states of a text encoder and of a speech encoder, mixed by an MLP-Mixer; and variants.

    text_states (B, W, T, Dt)    word pieces of what is said, newest utterance first
    speech_states (B, W, F, Ds)  20 ms of sound each, of the judged utterance alone
      fusion                      (B, size)
      dropout, linear, GELU       (B, 512)
        emotion: dropout, linear  (B, 7)     log-probabilities
        arousal, valence, each    (B,)       4 sigmoid + 1

`--fusion mixer` mixes all states along time and along numbers; `concat`, `3way` and `cross` are the
models that it was compared with: [CLS] beside the mean sound, those with their distance and their
product, and attention of each to the other. `--legacy` is the mixer's block as published.

The encoders are frozen, their states extracted once. With `--finetune` they are part of the model,
which reads `tokens` and `waveform` and trains them at `--encoder_lr`.

`--context K` gives the K utterances before the judged one as text. In `--finetune` they are read as
one text, [CLS] judged [SEP] the one before [SEP] ..., as published; frozen, each was read alone and
their states are laid one after the other. Of both, `--max_length` word pieces are kept.
What is longer than `--max_seconds` is heard from its beginning where frozen; in `--finetune` a part
of it is heard (features/waveform.py).

What is not reproduced: padding is masked, gradients are not accumulated over 8 batches.
`python main.py --model mixer`
`python main.py --model mixer --fusion concat --finetune --lr 1e-4 --batch_size 16`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from constants import HEADS
from model import Batch, EmotionModel, heads_of, judged, mask_of, masked
from models.encoders import speech
from models.encoders import text as text_encoders
from models.layers.fusions import FUSIONS
from utils import UserError, setting

HIDDEN = 512  # numbers between a fusion and the heads


@dataclass(frozen=True)
class Settings:
    """The flags of the mixer; what describes its encoders comes from their folders."""

    heads: str = setting(",".join(HEADS), f"what is predicted, of {','.join(HEADS)}")
    fusion: str = setting("mixer", "how text and sound are joined", tuple(FUSIONS))
    finetune: bool = setting(False, "train both encoders too, instead of reading their states")
    context: int = setting(0, "utterances before the judged one whose text is read", least=0)
    max_length: int = setting(128, "word pieces read at once, [CLS] and [SEP] included", least=3)
    clean: str = setting("none", "what is left of a line: all or Hangul", ("none", "hangul"))
    frames: int = setting(512, "states of a sound at most, 20 ms each", least=1)
    max_seconds: float = setting(10.0, "how much of a sound is heard at most, s", least=0)
    blocks: int = setting(1, "blocks of the mixer", least=1)
    dropout: float = setting(0.1, "share of the numbers dropped in training", least=0)
    legacy: bool = setting(False, "blocks of the mixer as published, one norm for two")
    encoder_lr: float = setting(2e-5, "learning rate of the encoders, in --finetune", least=0)
    checkpointing: bool = setting(False, "compute states twice to save memory, in --finetune")
    ws: int = setting(1, "utterances in a window: the judged one and its context", flag=False)
    encoder: dict | None = setting(None, "config.json of the text encoder", flag=False)
    special: dict | None = setting(None, "ids of cls, sep and pad", flag=False)
    encoder_files: str | None = setting(None, "digest of the text encoder's files", flag=False)
    speech: dict | None = setting(None, "config.json of the speech encoder", flag=False)
    speech_files: str | None = setting(None, "digest of the speech encoder's files", flag=False)


class Model(EmotionModel):
    """A batch -> `{"emotion": (B, 7), "arousal": (B,), "valence": (B,)}`, of its `heads`."""

    Settings = Settings
    DEFAULTS = {  # as published, but for the batches, which were added up 8 by 8
        "text_encoder": "beomi/KcELECTRA-base",
        "optim": "adamw",
        "lr": 5e-5,
        "weight_decay": 0.01,
        "lr_decay": 1.0,
        "batch_size": 64,
        "epochs": 30,
    }

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads: text, then sound."""
        return ("tokens", "waveform") if settings.finetune else ("text_states", "speech_states")

    @staticmethod
    def complete(settings: Any) -> dict:
        """What the encoders are, read from their folders; frozen, their weights count as well.

        Nothing new of a run that holds its encoders: it can be tested where no checkpoint is.
        """
        places = settings.text_encoder, settings.speech_encoder
        known = settings.speech is not None and settings.finetune
        if known and not all(Path(place).is_dir() for place in places):
            return {}
        found = text_encoders.described(settings.text_encoder)
        found |= speech.described(settings.speech_encoder) | {"ws": settings.context + 1}
        if not settings.finetune:  # they are not in the run: it can be tested with no others
            found["encoder_files"] = text_encoders.identify(settings.text_encoder).get("content")
            found["speech_files"] = speech.identify(settings.speech_encoder).get("content")
        return found

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        _check(settings)
        self.settings, self.heads = settings, heads_of(settings.heads)
        widths = settings.encoder["hidden_size"], settings.speech["hidden_size"]
        if settings.finetune:
            self.encoder = text_encoders.encoder(settings.encoder, pooler=False)
            text_encoders.check_length(settings.encoder, settings.max_length)
            self.speech = speech.encoder(settings.speech)
            if settings.checkpointing:
                for encoder in (self.encoder, self.speech):
                    encoder.activation_checkpointing_enable({"use_reentrant": False})
        self.fusion = FUSIONS[settings.fusion](*widths, settings)
        dropout = settings.dropout
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(self.fusion.size, HIDDEN), nn.GELU(), nn.Dropout(dropout)
        )
        self.outputs = nn.ModuleDict({n: nn.Linear(HIDDEN, HEADS[n].size) for n in self.heads})

    def load_pretrained(self, settings: Any) -> None:
        """The weights of the encoders that are trained. Raises UserError."""
        if self.settings.finetune:
            text_encoders.load(self.encoder, text_encoders.find(settings.text_encoder))
            speech.load(self.speech, speech.find(settings.speech_encoder))

    def parameter_groups(self) -> list[dict]:
        """The encoders at `encoder_lr`, the rest at `lr`; biases and norms do not decay."""
        groups: dict[tuple[bool, bool], list] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                kind = parameter.ndim > 1, name.startswith(("encoder.", "speech."))
                groups.setdefault(kind, []).append(parameter)
        return [
            {"params": parameters}
            | ({} if decays else {"weight_decay": 0.0})
            | ({"lr": self.settings.encoder_lr} if old else {})
            for (decays, old), parameters in groups.items()
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance."""
        hidden = self.hidden(self.fusion(*self._words(batch), *self._sound(batch)))
        return {name: judged(name, output(hidden)) for name, output in self.outputs.items()}

    # --- text ------------------------------------------------------------------------------------

    def _words(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T, Dt), (B, T): states of what is said, the newest utterance first."""
        wanted, longest = -1 - self.settings.context, self.settings.max_length
        name = self.inputs(self.settings)[0]
        text = masked(batch, name)[:, wanted:].flip(1)
        said = mask_of(batch, name)[:, wanted:].flip(1)
        if not self.settings.finetune:
            return packed(text.flatten(1, 2), said.flatten(1), longest)
        ids, mask = text_encoders.joined(text, said, text[0].numel() + 1, **self.settings.special)
        ids, mask = ids[:, :longest], mask[:, :longest]
        states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states, mask & said.flatten(1).any(1, keepdim=True)

    # --- sound -----------------------------------------------------------------------------------

    def _sound(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, F, Ds), (B, F): states of the judged utterance, at most `frames`."""
        name, frames = self.inputs(self.settings)[1], self.settings.frames
        sound, heard = masked(batch, name)[:, -1], mask_of(batch, name)[:, -1]
        if self.settings.finetune:
            longest = max(1, int(heard.sum(1).max()))
            sound, heard = speech.hidden(self.speech, sound[:, :longest], heard[:, :longest])
        return sound[:, :frames], heard[:, :frames]


def packed(x: Tensor, mask: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """(B, T, D), (B, T) bool -> (B, T', D), (B, T'), T' <= longest: what is there, in its order,
    then padding."""
    order = (~mask).int().argsort(dim=1, stable=True)[:, :longest]
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[2])), mask.gather(1, order)


def _check(settings: Settings) -> None:
    text_encoders.check(settings, "mixer")
    if settings.speech is None:
        raise UserError("the model mixer needs `speech`, of its speech encoder")
    for name in ("encoder", "speech"):
        size = vars(settings)[name].get("hidden_size")
        if type(size) is not int or size < 1:
            raise UserError(f"{name} should have a hidden_size, a whole number; it is {size!r}")
    if not 0 <= settings.dropout < 1:
        raise UserError(f"--dropout should be in [0, 1), it is {settings.dropout}")

"""MATE, the system of 2022: a window of utterances, heard and read, judged at its last one.

    log_mel (B, W, 229, 313)  the W utterances are the channels of a CNN
      conv 3     BN ReLU          (B, 32, 227, 311)
      conv 3     BN ReLU pool 2   (B, 48, 112, 154)
      conv 5     BN ReLU pool 2   (B, 32,  54,  75)
      conv 7     BN ReLU pool 2   (B,  W,  24,  34)  ->  (B, W, 816)
    joined with sentence          (B, W, 768)        ->  (B, W, 1584)
    4 LSTM or GRU layers of 512   (B, W, 512 d)      ->  (B, 512 W d), d directions
      emotion: 2048, 512, 256, 64, then 7            ->  log-probabilities
      affect:  2048, 1024, 512, joined with the 7 probabilities (the gradient passes)
        arousal and valence, each: 128, 32, then 1   ->  4 sigmoid + 1

Padding and missing utterances enter as zeros, as in 2022. The weights start as torch starts them.
`python main.py --model mate --backbone gru --bidirectional`
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import constants
from constants import HEADS, SCALES
from model import Batch, EmotionModel, at_least_float32, judged, masked
from utils import UserError, setting

FEATURES = {"both": ("log_mel", "sentence"), "audio": ("log_mel",), "text": ("sentence",)}
CONVOLUTIONS = ((32, 3), (48, 3), (32, 5))  # channels, kernel; a last one has (W, 7)
LAST_KERNEL = 7
LAYERS = 4  # recurrent; the paper's slide says 8, its code had 4
EMOTION = (2048, 512, 256, 64)
AFFECT = (2048, 1024, 512)
SCALE_HEAD = (128, 32)


@dataclass(frozen=True)
class Settings:
    """The flags of MATE."""

    backbone: str = setting(constants.BACKBONE, "recurrent layer", choices=("lstm", "gru"))
    hidden_size: int = setting(
        constants.HIDDEN_SIZE, "numbers in a recurrent state, each direction", least=1
    )
    bidirectional: bool = setting(False, "read the window in both directions")
    ws: int = setting(constants.WINDOW, "utterances in a window; the last one is judged", least=1)
    sr: int = setting(constants.SAMPLE_RATE, "sample rate of the sound, Hz", least=1)
    text_dim: int = setting(constants.TEXT_DIM, "numbers in a sentence vector", least=1)
    modality: str = setting("both", "what the model is given", choices=tuple(FEATURES))
    emotion_concat: bool = setting(True, "arousal and valence see the predicted emotion")


class Model(EmotionModel):
    """A batch of windows -> `{"emotion": (B, 7), "arousal": (B,), "valence": (B,)}`.

    The batch holds `log_mel`, `sentence` and `mask`; `log_mel_mask` and `sentence_mask` (B, W)
    default to `mask`. A modality that is not an input is not built and need not be there.
    """

    Settings = Settings
    # of a window whose clips are all over, this many frames say what all later ones would: a column
    # of what the CNN leaves has seen 44, the next one 8 further on. Blocks may end there
    TAIL = {"log_mel": 56}

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads."""
        return FEATURES[settings.modality]

    @staticmethod
    def run_name(settings: Settings) -> str:
        """Of `--backbone`, as in 2022."""
        return settings.backbone

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.features = self.inputs(settings)
        width = 0
        if "log_mel" in self.features:
            self.audio = _convolutions(settings.ws)
            mels, self.frames = _audio_size(settings)
            width += mels * self.frames
        if "sentence" in self.features:
            width += settings.text_dim
        size, both = settings.hidden_size, settings.bidirectional
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[settings.backbone]
        self.recurrent = layer(width, size, LAYERS, batch_first=True, bidirectional=both)
        window = settings.ws * size * (2 if both else 1)
        emotions = HEADS["emotion"].size
        self.emotion = _perceptron(window, EMOTION, emotions)
        self.affect = _perceptron(window, AFFECT)
        self.emotion_concat = settings.emotion_concat
        seen = AFFECT[-1] + (emotions if settings.emotion_concat else 0)
        self.scales = nn.ModuleDict({name: _perceptron(seen, SCALE_HEAD, 1) for name in SCALES})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance.

        Under autocast the CNN alone computes in half precision, which is nearly all the work: the
        recurrent outputs differ so little between utterances that bfloat16 rounds it away.
        """
        utterances = at_least_float32(self._utterances(batch))
        with torch.autocast(utterances.device.type, enabled=False):
            return self._judged(utterances)

    def _judged(self, utterances: Tensor) -> dict[str, Tensor]:
        """(B, W, width) -> the output of each head."""
        sequence, _ = self.recurrent(utterances)  # (B, W, hidden_size * directions)
        window = sequence.flatten(1)
        emotion = self.emotion(window).log_softmax(-1)
        affect = self.affect(window)
        if self.emotion_concat:
            affect = torch.cat([affect, emotion.exp()], -1)
        scales = {name: judged(name, head(affect)) for name, head in self.scales.items()}
        return {"emotion": emotion} | scales

    def _utterances(self, batch: Batch) -> Tensor:
        """(B, W, 816 + 768): what is heard and what is read of each utterance."""
        parts = []
        if "log_mel" in self.features:
            sound = masked(batch, "log_mel").contiguous(memory_format=torch.channels_last)
            parts.append(self._to_the_end(self.audio(sound)).flatten(2))
        if "sentence" in self.features:
            parts.append(masked(batch, "sentence"))
        return torch.cat(parts, -1)

    def _to_the_end(self, heard: Tensor) -> Tensor:
        """(B, W, mels, T) -> (B, W, mels, frames): of a block that was cut where its clips are over
        (TAIL), the last column stands for all that follow."""
        if not torch.compiler.is_exporting() and heard.shape[-1] == self.frames:
            return heard
        columns = torch.arange(self.frames, device=heard.device)
        return heard[..., columns.clamp(max=heard.shape[-1] - 1)]

    def folded(self) -> "Model":
        """Itself, for evaluation alone: the BatchNorm of the CNN computed into its weights."""
        for block in self.audio if "log_mel" in self.features else ():
            block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
        return self

    @staticmethod
    def upgrade(
        state: dict[str, Tensor], configuration: dict[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A state dict and configuration of the 2022 code, in today's names."""
        absent = [key for key in LEGACY_KEYS if key not in configuration]
        if absent:
            raise UserError(
                f"configuration.json names no model, so it should be one of 2022; "
                f"it lacks {', '.join(absent)}"
            )
        state = {_renamed(name): tensor for name, tensor in state.items()}
        kept = {key: value for key, value in configuration.items() if key not in LEGACY_DROPPED}
        first = state.get("scales.arousal.0.0.weight")  # its width tells what the ablation left out
        return state, kept | {
            "model": "mate",
            "modality": "both",
            "emotion_concat": first is None or first.shape[1] != AFFECT[-1],
            "test_split": [int(n) for n in re.findall(r"\d+", str(configuration["test_split"]))],
            # the 2022 code took these two, whatever its flags said
            "sr": constants.SAMPLE_RATE,
            "lr_decay": constants.LR_DECAY,
        }


def _convolutions(ws: int) -> nn.Sequential:
    """(B, W, mels, frames) -> (B, W, smaller, smaller)."""
    blocks, channels = [], ws
    for i, (out, kernel) in enumerate((*CONVOLUTIONS, (ws, LAST_KERNEL))):
        block = [nn.Conv2d(channels, out, kernel, bias=False), nn.BatchNorm2d(out)]
        # the largest of ReLUs is the ReLU of the largest, for a quarter of the work
        block += [nn.MaxPool2d(2)] if i else []
        blocks.append(nn.Sequential(*block, nn.ReLU(inplace=True)))
        channels = out
    return nn.Sequential(*blocks).to(memory_format=torch.channels_last)


def _audio_size(settings: Settings) -> tuple[int, int]:
    """What the CNN leaves of an utterance: 24 x 34 = 816 numbers at 16 kHz."""
    mels, frames = constants.N_MELS, constants.CLIP_SECONDS * settings.sr // constants.HOP + 1
    for i, kernel in enumerate([kernel for _, kernel in CONVOLUTIONS] + [LAST_KERNEL]):
        mels, frames = mels - kernel + 1, frames - kernel + 1
        mels, frames = (mels // 2, frames // 2) if i else (mels, frames)
    if frames < 1:
        raise UserError(f"sr {settings.sr} leaves too few frames for the CNN; 16000 is usual")
    return mels, frames


def _perceptron(width: int, hidden: tuple[int, ...], out: int | None = None) -> nn.Sequential:
    """(B, width) -> (B, out), or (B, hidden[-1]) without a last linear layer."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers.append(nn.Sequential(nn.Linear(width, size), nn.ReLU(), nn.BatchNorm1d(size)))
        width = size
    return nn.Sequential(*layers, *([nn.Linear(width, out)] if out else []))


# --- folders of 2022 ---------------------------------------------------------------------------

LEGACY_NAMES = (
    ("audio_embedding.", "audio."),
    (".conv.", ".0."),
    (".bn.", ".1."),
    (".fc.", "."),
    ("lstm.", "recurrent."),
    ("mlp_emotion.", "emotion."),
    ("mlp_av.", "affect."),
    ("mlp_arousal.", "scales.arousal."),
    ("mlp_valence.", "scales.valence."),
)
LEGACY_KEYS = ("backbone", "hidden_size", "text_dim", "bidirectional", "ws", "SorL", "test_split")
# of no use to a trained model
LEGACY_DROPPED = ("embed_d", "save_path", "test_only", "test_path", "gpu_id")


def _renamed(name: str) -> str:
    for old, new in LEGACY_NAMES:
        name = name.replace(old, new)
    return name

"""What is made of the states of a text and of a sound: the fusions of MMM. Of mixer.py.

Each is called with text (B, T, Dt), said (B, T) bool, sound (B, F, Ds), heard (B, F) bool and gives
(B, `size`). Text begins with [CLS]. What stands where a mask is false, any finite number, has no
part in what comes back; of a row without any text, or sound, that side is zeros.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from model import at_least_float32
from models.encoders.speech import pooled
from utils import UserError

SIZE = 256  # numbers of a token in the mixer, and of a side in the concatenations
ATTENTION_HEADS = 8  # of cross-modal attention
TEMPERATURE = 10_000  # longest wavelength of the sinusoids, in 2 pi tokens: Vaswani et al. 2017


def seen(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D), (B, T) bool -> (B, T, D): zeros where the mask is false."""
    return torch.where(mask.unsqueeze(-1), x, 0)


def present(x: Tensor, mask: Tensor) -> Tensor:
    """(B, D), (B, T) bool -> (B, D): zeros for a row without anything."""
    return torch.where(mask.any(1, keepdim=True), x, 0)


class Mixer(nn.Module):
    """Text, then sound, as tokens of one table, mixed along its time and along its numbers.

    Text has the first `max_length` places, whatever is said, and sound the `frames` after it: a
    weight of the mixing over time belongs to a place.
    """

    size = SIZE

    def __init__(self, text: int, sound: int, settings: Any) -> None:
        super().__init__()
        self.longest, places = settings.max_length, settings.max_length + settings.frames
        self.text, self.sound = nn.Linear(text, SIZE), nn.Linear(sound, SIZE)
        self.blocks = nn.ModuleList(
            Block(places, SIZE, settings.dropout, settings.legacy) for _ in range(settings.blocks)
        )
        self.norm = nn.LayerNorm(SIZE)

    def forward(self, text: Tensor, said: Tensor, sound: Tensor, heard: Tensor) -> Tensor:
        x, mask = torch.cat([self.text(text), self.sound(sound)], 1), torch.cat([said, heard], 1)
        order = torch.arange(mask.shape[1], device=mask.device)
        places = torch.where(order < text.shape[1], order, order - text.shape[1] + self.longest)
        for block in self.blocks:
            x = block(x, mask, places)
        return pooled(self.norm(x), mask)


class Block(nn.Module):
    """A block of an MLP-Mixer (Tolstikhin et al. 2021): x (B, T, D), mask (B, T) bool -> (B, T, D).

        u = steps((norm(x) m)')'       m: zeros in the padding, or it would be mixed in
        x = x + u
        x = x + numbers(second(x))     legacy: numbers(norm(u)), the one norm twice, as published

    `places` (T,): which of all `steps` each token has. What comes back means nothing in the
    padding: it is left out by the next block, and of the mean.
    """

    def __init__(self, steps: int, size: int, dropout: float, legacy: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.second = None if legacy else nn.LayerNorm(size)
        self.steps, self.numbers = MLP(steps, dropout), MLP(size, dropout)

    def forward(self, x: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        mixed = self.steps(seen(self.norm(x), mask).transpose(1, 2), places).transpose(1, 2)
        x = x + mixed
        return x + self.numbers(self.norm(mixed) if self.second is None else self.second(x))


class MLP(nn.Module):
    """(..., size) -> (..., size); or (..., P) -> (..., P), of the `places` (P,) among them.

    The others are zeros, so they are left out: the same numbers, in less time.
    """

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(size, size), nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        into, out, bias = self.first.weight, self.second.weight, self.second.bias
        if places is not None:
            into, out, bias = into[:, places], out[places], bias[places]
        hidden = nn.functional.gelu(nn.functional.linear(x, into, self.first.bias))
        return self.dropout(nn.functional.linear(hidden, out, bias))


class Concatenation(nn.Module):
    """[CLS] and the mean sound, SIZE numbers each, side by side."""

    size = 2 * SIZE

    def __init__(self, text: int, sound: int, settings: Any) -> None:
        super().__init__()
        self.text, self.sound = nn.Linear(text, SIZE), nn.Linear(sound, SIZE)

    def forward(self, text: Tensor, said: Tensor, sound: Tensor, heard: Tensor) -> Tensor:
        return torch.cat(self.sides(text, said, sound, heard), 1)

    def sides(self, text: Tensor, said: Tensor, sound: Tensor, heard: Tensor) -> tuple:
        """Both (B, SIZE), zeros of a row without it."""
        words, sounds = self.text(text[:, 0]), self.sound(pooled(sound, heard))
        return present(words, said), present(sounds, heard)


class ThreeWay(Concatenation):
    """Both sides, how far they are apart and their product: text, sound, |a - t|, a t."""

    size = 4 * SIZE

    def forward(self, text: Tensor, said: Tensor, sound: Tensor, heard: Tensor) -> Tensor:
        t, a = self.sides(text, said, sound, heard)
        return torch.cat([t, a, (a - t).abs(), a * t], 1)


class CrossAttention(nn.Module):
    """Sound that attends to the text, averaged; [CLS] that attends to the sound; side by side.

    As in the multimodal transformer (Tsai et al. 2019), one layer each. Of the text only [CLS] goes
    on, so only [CLS] is computed.
    """

    def __init__(self, text: int, sound: int, settings: Any) -> None:
        super().__init__()
        if text % ATTENTION_HEADS:
            raise UserError(
                f"--fusion cross needs a text encoder whose hidden_size is a multiple "
                f"of {ATTENTION_HEADS}, its heads; it is {text}"
            )
        self.size = 2 * text
        self.sound = nn.Conv1d(sound, text, kernel_size=1, bias=False)
        self.to_text, self.to_sound = CrossModal(text), CrossModal(text)

    def forward(self, text: Tensor, said: Tensor, sound: Tensor, heard: Tensor) -> Tensor:
        sound = self.sound(sound.transpose(1, 2)).transpose(1, 2)
        listening = pooled(self.to_text(sound, text, said), heard)
        words = at_least_float32(self.to_sound(text[:, :1], sound, heard)[:, 0])
        return torch.cat([listening, present(words, said)], 1)


class CrossModal(nn.Module):
    """x (B, T, D) attends to y (B, F, D), where there (B, F) is true -> (B, T, D).

    Where nothing is there, attention adds nothing to x.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size, ATTENTION_HEADS, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.wide, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, x: Tensor, y: Tensor, there: Tensor) -> Tensor:
        first, second, last = self.norms
        x, keys = placed(x), first(placed(y))
        unseen = ~there & there.any(1, keepdim=True)  # softmax needs something to look at
        found, _ = self.attention(first(x), keys, keys, unseen, need_weights=False)
        x = x + torch.where(there.any(1)[:, None, None], found, 0)
        return last(x + self.narrow(self.wide(second(x)).relu()))


def placed(x: Tensor) -> Tensor:
    """(B, T, D), D even -> scaled by the root of D, and the sinusoids of places 1..T added."""
    half = x.shape[2] // 2
    step = -math.log(TEMPERATURE) / max(1, half - 1)
    rates = torch.exp(step * torch.arange(half, device=x.device))
    angles = torch.arange(1, x.shape[1] + 1, device=x.device).unsqueeze(1) * rates
    return math.sqrt(x.shape[2]) * x + torch.cat([angles.sin(), angles.cos()], 1)


FUSIONS = {"mixer": Mixer, "concat": Concatenation, "3way": ThreeWay, "cross": CrossAttention}

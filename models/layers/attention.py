"""Masked multimodal attention: what is said and how it sounds weigh the words. Of cm_bert.py.

Yang, Xu, Gao: "CM-BERT: Cross-Modal BERT for Text-Audio Sentiment Analysis", ACM Multimedia 2020.
"""

import torch
from torch import Tensor, nn

NORM_EPS = 1e-12  # of the LayerNorm: BERT's
LEAST = 1e-6  # norms and overlaps under it are those of nothing


# --- sound to words --------------------------------------------------------------------------


def equal_rate(words: Tensor, frames: Tensor) -> Tensor:
    """(B, T) bool, (B,) numbers of frames -> (B, T, 2) frames: where each word begins and ends.

    The frames of an utterance divided evenly over its words, fractions and all, as if each took
    the same time; what is no word begins and ends at 0.
    """
    order = words.cumsum(-1)  # 1..n at the words
    each = (frames / order[:, -1].clamp(min=1)).unsqueeze(-1)  # (B, 1) frames of a word
    spans = torch.stack([(order - 1) * each, order * each], -1)
    return torch.where(words.unsqueeze(-1), spans, 0)


def timed(words: Tensor, seconds: Tensor, rate: float) -> Tensor:
    """(B, T) bool, (B, T, 2) s -> (B, T, 2) frames, of which there are `rate` in a second.

    Frame i is centred at i / rate. A word whose times are not known, NaN, hears nothing.
    """
    spans = seconds * rate + 0.5
    known = words.unsqueeze(-1) & spans.isfinite().all(-1, keepdim=True)
    return torch.where(known, spans, 0)


def average(frames: Tensor, mask: Tensor, spans: Tensor) -> Tensor:
    """(B, F, C), (B, F) bool, (B, T, 2) frames -> (B, T, C): the mean sound of each span.

    A frame counts by the share of it that lies inside; zeros for a span without any.
    """
    start, end = spans.split(1, -1)  # (B, T, 1)
    first = torch.arange(frames.shape[1], device=frames.device)
    overlap = torch.minimum(end, first + 1) - torch.maximum(start, first)  # (B, T, F)
    overlap = overlap.clamp(min=0) * mask.unsqueeze(1)
    return (overlap / overlap.sum(-1, keepdim=True).clamp(min=LEAST)).to(frames.dtype) @ frames


def transposed(frames: Tensor, mask: Tensor, seen: int, positions: int) -> Tensor:
    """(B, F, C), (B, F) bool -> (B, positions, seen): as published by the team of 2022.

    Coefficient i stands beside word piece i, and its first `seen` frames are the numbers of it;
    cut, or filled with zeros.
    """
    frames = torch.where(mask.unsqueeze(-1), frames, 0)[:, :seen, :positions]
    missing = (0, positions - frames.shape[2], 0, seen - frames.shape[1])
    return nn.functional.pad(frames, missing).transpose(1, 2)


# --- attention -------------------------------------------------------------------------------


class MultimodalAttention(nn.Module):
    """States (B, T, width) -> (B, T, width), each mixed with the words that text and sound name.

    The published sound projection has no bias. Here it has one, else nothing that is heard could
    reach a prediction: [CLS], which alone is judged, has no sound, so its row of `beta` would be
    zero whatever the words sound like. The bias is what [CLS] asks of the sound.

    `legacy`: no such bias, sound that is not scaled, and the published constant added to the
    weights, which softmax does not see.
    """

    def __init__(
        self, width: int, sound: int, size: int, dropout: tuple[float, float], legacy: bool
    ) -> None:
        super().__init__()
        self.text = nn.Linear(width, size, bias=False)
        self.sound = nn.Linear(sound, size, bias=not legacy)
        if not legacy:  # wide: as torch draws it, ReLU lets half of the words through, and faintly
            nn.init.normal_(self.sound.bias)
        self.text_weight = nn.Parameter(torch.ones(()))
        self.sound_weight = nn.Parameter(torch.ones(()))
        self.constant = nn.Parameter(torch.zeros(())) if legacy else None
        self.weights_dropout, self.dropout = map(nn.Dropout, dropout)
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, states: Tensor, mask: Tensor, sound: Tensor, heard: Tensor) -> Tensor:
        """`mask` (B, T) bool: tokens; `sound` (B, T, C) of each; `heard` (B,) bool: rows with any.

        States of padding mean nothing. A row is a function of itself alone.
        """
        weights = self.weights(states, mask, sound, heard).softmax(-1)
        states = torch.where(mask.unsqueeze(-1), states, 0)
        mixed = self.weights_dropout(weights) @ states + states
        return self.norm(self.dropout(self.dense(mixed)))

    def weights(self, states: Tensor, mask: Tensor, sound: Tensor, heard: Tensor) -> Tensor:
        """(B, T, T) before the softmax: w_t alpha + w_a beta, -inf in the columns of padding."""
        legacy, there = self.constant is not None, mask.unsqueeze(-1)
        said = scaled(torch.where(there, self.text(states), 0))
        sounds = torch.where(there & heard[:, None, None], self.sound(sound), 0)
        sounds = sounds if legacy else scaled(sounds)
        weights = self.text_weight * alike(said) + self.sound_weight * alike(sounds)
        weights = weights + self.constant if legacy else weights
        return weights.masked_fill(~mask.unsqueeze(1), -torch.inf)


def scaled(x: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, D): divided by the root of the norm of each row, which is no variable.

    The paper's scaling, but for each utterance: the published code takes the norm of the batch,
    and so lets the others in it change a prediction.
    """
    norm = torch.linalg.vector_norm(x.detach(), dim=(1, 2), keepdim=True)
    return x / norm.sqrt().clamp(min=LEAST)


def alike(x: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, T): the products of any two positions, where positive."""
    return (x @ x.transpose(1, 2)).relu()

"""What a speech encoder costs: padding, cached states, bf16, seconds of sound a second.

    PYTHONPATH=. python benchmarks/encoders.py    two idle cores, about 4 min

The encoder has the size of a base wav2vec2 (95 million weights, random). It and a small synthetic
corpus are written to a folder that is deleted at the end. The sides of each comparison take turns,
clip for clip the same.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import loss as losses
import model as models
from benchmarks import measure, tiny_wav2vec2
from dataset import Windows, open_material
from training import schedule
from training.devices import Processes
from training.loop import OPTIMIZERS, losses_of
from training.settings import settings_class
from utils import UserError, leaf, rng

BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "conv_dim": [512] * 7,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}  # facebook/wav2vec2-base
# rows, median and spread of the logarithm of their seconds: of KEMDy19 by its median 4.07 and
# 95th percentile 16.5, of KEMDy20 by its median 4.54 and mean 5.99
LENGTHS = {"KEMDy19": (10_279, 4.07, 0.851), "KEMDy20": (13_462, 4.54, 0.744)}
FRAME = 0.02  # s
TURNS = 2


def padding(size: int) -> list[tuple[str, float, float]]:
    """Frames that are padding, as shares of the real ones, in batches at random and of like
    lengths, in an epoch of each corpus."""
    found = []
    settings = settings_class("mate")(seed=42, batch_size=size)
    for name, (rows, median, spread) in LENGTHS.items():
        seconds = np.exp(rng(0, "lengths", name).normal(np.log(median), spread, rows))
        frames = np.maximum(1, (seconds / FRAME).astype(int))
        shares = []
        for lengths in (None, frames):
            batches = schedule.training_batches(rows, settings, 1, 1, lengths)
            held = [(len(b) * frames[b].max(), frames[b].sum()) for b in batches]
            laid, real = np.sum(held, axis=0)
            shares.append((laid - real) / real)
        found.append((name, *shares))
    return found


class Side:
    """A model on the first clips of a corpus, and steps of it."""

    def __init__(self, data: str, encoder: Path, clips: int, *flags: str):
        words = [
            "--model",
            "wav2vec2",
            "--data",
            data,
            "--speech_encoder",
            str(encoder),
            "--batch_size",
            "8",
            "--gpu_id",
            "-1",
            "--test_split",
            "1",
            *flags,
        ]
        self.settings = flags.trained(words)
        self.settings = models.complete(self.settings)
        self.model = models.build("wav2vec2", vars(self.settings), 42)
        self.model.load_pretrained(self.settings)
        start = time.perf_counter()
        material = open_material(self.settings, models.inputs("wav2vec2", vars(self.settings)))
        self.prepared = time.perf_counter() - start
        self.windows = Windows(material, "train", 1)
        self.rows = np.arange(clips)
        durations = self.windows.utterances["duration"].to_numpy()
        self.seconds = float(durations[self.windows.rows[:clips]].sum())
        self.criterion = losses.build("normal", 0.66, 0.99, self.windows.class_counts(), "exact")

    def freeze(self) -> "Side":
        """Train what comes after the encoder only."""
        self.model.encoder.requires_grad_(False)
        return self

    def epoch(self, bf16: bool = False) -> None:
        """Learn from the clips once."""
        weights = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = OPTIMIZERS["adamw"](weights, lr=1e-5)
        lengths = self.windows.lengths
        order = self.rows if lengths is None else self.rows[np.argsort(lengths[self.rows])]
        self.model.train()
        for batch in np.array_split(order, max(1, len(order) // 8)):
            values = losses_of(self.model, self.criterion, self.windows.batch(batch), bf16)
            optimizer.zero_grad(set_to_none=True)
            values["loss"].backward()
            optimizer.step()


def turns(*sides: Callable[[], None]) -> list[float]:
    """Median seconds of each side; one turn before that is not counted."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(TURNS + 1):
        for side, seconds in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            if turn:
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def forward(side: Side) -> Callable[[], None]:
    """States of all clips, as they are extracted for a cache."""

    def run() -> None:
        side.model.eval()
        with torch.inference_mode():
            for batch in np.array_split(side.rows, max(1, len(side.rows) // 8)):
                side.model(side.windows.batch(batch))

    return run


def main() -> int:
    """Exit code 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="DIR or CORPUS:DIR (default: a synthetic corpus)")
    parser.add_argument("--clips", type=int, default=8)
    options = parser.parse_args()
    Processes(-1)
    print(measure.machine())
    for size in (16, 64):
        for name, free, like in padding(size):
            print(
                f"padding, {name}, batches of {size}: {free:.3f} at random, {like:.4f} of like "
                f"lengths, {free / like:.1f} x less"
            )
    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder) / "base"
        tiny_wav2vec2.write(encoder, norm="group", **BASE)
        if options.data is None:
            options.data = str(Path(folder) / "corpus")
            sizes = {"sessions": 5, "dialogues": 2, "utterances": 6}
            leaf("corpora", "sample").write(Path(options.data), **sizes)
        try:
            costs(options, encoder)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


def costs(options: argparse.Namespace, encoder: Path) -> None:
    """The rows that need an encoder, printed as they come."""
    tuned = Side(options.data, encoder, options.clips)
    states = turns(forward(tuned))[0]
    print(
        f"base encoder, forward: {tuned.seconds / states:.1f} x real time "
        f"({options.clips} clips, {tuned.seconds:.0f} s)"
    )
    exact, half = turns(tuned.epoch, lambda: tuned.epoch(bf16=True))
    print(
        f"fine-tuning, float32: {tuned.seconds / exact:.2f} x real time, bf16 "
        f"{tuned.seconds / half:.2f} x: {exact / half:.2f} x as fast"
    )
    cached = Side(options.data, encoder, options.clips, "--frozen")
    again, once = turns(tuned.freeze().epoch, cached.epoch)
    print(
        f"frozen encoder, an epoch: {again:.2f} s computed again, {1000 * once:.0f} ms from the "
        f"cache, {again / once:.0f} x as fast"
    )


if __name__ == "__main__":
    sys.exit(main())

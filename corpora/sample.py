"""A synthetic corpus in the manner of KEMDy19, so that everything runs without a licence.

Forty made-up voices (synthetic/voices.py) say made-up lines (lines.py) in dialogues
(dialogues.py), and ten made-up raters judge them (raters.py). About two in five lines fit several
moods and about a quarter are hardly acted, seldom both at once: text and voice each tell a part
(`benchmarks/sample_difficulty.py`). How it lies on disk is the affair of the plugin whose layout is
asked for, which is also what reads it; a plugin may shape the dialogues, too.

    python main.py prepare --data sample
    python main.py prepare sample --layout kemdy20
"""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from corpora import preparation
from corpora.synthetic import voices as voice_synthesis
from utils import UserError, leaf, leaves, make_folder, rng, write_json

VERSION = 1  # of the corpus: raised when a number in a _sample file changes
LAYOUT = "kemdy19"


class Reader(preparation.Reader):
    """Writes the corpus; what is written is read by the reader of its layout."""

    MADE = True

    @staticmethod
    def matches(folder: Path) -> bool:
        """False: what is written lies as another corpus does, whose reader reads it."""
        return False

    @staticmethod
    def write(
        folder: Path,
        layout: str = LAYOUT,
        sessions: int | None = None,
        dialogues: int | None = None,
        utterances: int = 6,
        seed: int = 0,
        progress: Callable = tqdm,
    ) -> None:
        """Lay the corpus into `folder`, new or empty: whole or not at all.

        Equal seeds give equal bytes. `layout`: a corpus that has SAMPLE_SIZES. `sessions` (None:
        the most), `dialogues` a session (None), `utterances` a dialogue; `progress` is called as
        tqdm is. SYNTHETIC.json, the mark that it is whole, says what was made.
        """
        writer = leaf("corpora", layout)
        if not writer.SAMPLE_SIZES:
            able = [name for name in leaves("corpora") if leaf("corpora", name).SAMPLE_SIZES]
            raise UserError(f"no sample is laid out as {layout!r}; layouts: {', '.join(able)}")
        sizes = {"sessions": sessions, "dialogues": dialogues, "utterances": utterances}
        sizes = _sizes(sizes, writer.SAMPLE_SIZES)
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"a sample needs a new or empty folder; {folder} holds other files")
        spoken, table = writer.plan_sample(**sizes, seed=seed)
        make_folder(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
            made = make_folder(Path(part) / folder.name)
            with (
                ThreadPoolExecutor(os.cpu_count()) as pool,
                progress(total=len(spoken), desc="sample", unit="utterance", leave=False) as bar,
            ):
                writer.write_sample(made, table, _ahead(pool, spoken, seed, bar))
            mark = {"synthetic": True, "version": VERSION, "layout": layout, **sizes, "seed": seed}
            write_json(made / "SYNTHETIC.json", mark)
            if folder.exists():
                folder.rmdir()
            os.replace(made, folder)


def _sizes(wanted: dict[str, int | None], most: dict[str, int]) -> dict[str, int]:
    """The sizes wanted, or the most there can be; a UserError for one that cannot be."""
    sizes = {name: most[name] if value is None else value for name, value in wanted.items()}
    for name, value in sizes.items():
        if not 1 <= value <= most[name]:
            raise UserError(f"{name} of a sample must be 1 to {most[name]}, not {value}")
    return sizes


def _ahead(pool: ThreadPoolExecutor, spoken: pd.DataFrame, seed: int, bar: tqdm) -> Callable:
    """`waves(i)` -> float32 samples; the next few are made while the caller writes this one."""
    voices = {
        speaker: voice_synthesis.voice(speaker[-1], rng(seed, "voice", speaker))
        for speaker in spoken["speaker"].unique()
    }
    rows = list(spoken.itertuples())
    coming = {}

    def make(row: tuple) -> np.ndarray:
        random = rng(seed, "wave", row.segment)
        wave = voice_synthesis.speak(
            row.line, row.latent, row.strength, voices[row.speaker], random
        )
        return np.zeros_like(wave) if row.silent else wave

    def waves(number: int) -> np.ndarray:
        for n in range(number, min(number + 8, len(rows))):
            if n not in coming:
                coming[n] = pool.submit(make, rows[n])
        bar.update()
        return coming.pop(number).result()

    return waves

"""A synthetic corpus in the manner of KEMDy19, so that everything runs without a licence.

Forty made-up voices (`_sample_voice.py`) say made-up lines (`_sample_lines.py`) in dialogues
(`_sample_plan.py`), and ten made-up raters judge them (`_sample_raters.py`). About two in
five lines fit several moods and about a quarter are hardly acted, seldom both at once: text and
voice each tell a part (`benchmarks/sample_difficulty.py`). How it lies on disk is the affair of the
leaf whose layout is asked for, which is also what reads it.

    python main.py prepare --data sample
"""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from constants import ROLES
from corpora import _sample_plan, _sample_raters, _sample_voice
from utils import UserError, leaf, make_folder, rng, write_json

__all__ = ["ROLES", "SYNTHETIC", "matches", "write"]

SYNTHETIC = True
VERSION = 1  # of the corpus: raised when a number in a _sample file changes


def matches(folder: Path) -> bool:
    """False: what is written here lies as another corpus does, and that corpus's leaf reads it."""
    return False


def write(
    folder: Path,
    layout: str = "kemdy19",
    sessions: int = 20,
    dialogues: int = 10,
    utterances: int = 6,
    seed: int = 0,
    progress: Callable = tqdm,
) -> None:
    """Lay the corpus into `folder`, new or empty: whole or not at all; equal seeds, equal bytes.

    `sessions` 1..20, `dialogues` a session 1..10, `utterances` a dialogue 1..99; `progress` is
    called as tqdm is. SYNTHETIC.json, the mark that it is whole, says what was made.
    """
    sizes = {
        "sessions": (sessions, 20),
        "dialogues": (dialogues, 10),
        "utterances": (utterances, 99),
    }
    for name, (value, most) in sizes.items():
        if not 1 <= value <= most:
            raise UserError(f"{name} of a sample must be 1 to {most}, not {value}")
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"a sample needs a new or empty folder; {folder} holds other files")
    writer = leaf("corpora", layout)
    if not hasattr(writer, "write_sample"):
        raise UserError(f"a sample cannot be laid out as {layout!r}: it has no write_sample")
    spoken = _sample_plan.plan(sessions, dialogues, utterances, seed)
    table = _sample_raters.rate(spoken, seed)
    size = {"sessions": sessions, "dialogues": dialogues, "utterances": utterances, "seed": seed}
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        made = make_folder(Path(part) / folder.name)
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress(total=len(spoken), desc="sample", unit="utterance", leave=False) as bar,
        ):
            writer.write_sample(made, table, _ahead(pool, spoken, seed, bar))
        mark = {"synthetic": True, "version": VERSION, "layout": layout, **size}
        write_json(made / "SYNTHETIC.json", mark)
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)


def _ahead(pool: ThreadPoolExecutor, spoken: pd.DataFrame, seed: int, bar: tqdm) -> Callable:
    """`waves(i)` -> float32 samples; the next few are made while the caller writes this one."""
    voices = {
        speaker: _sample_voice.voice(speaker[-1], rng(seed, "voice", speaker))
        for speaker in spoken["speaker"].unique()
    }
    rows = list(spoken.itertuples())
    coming = {}

    def make(row: tuple) -> np.ndarray:
        random = rng(seed, "wave", row.segment)
        wave = _sample_voice.speak(row.line, row.latent, row.strength, voices[row.speaker], random)
        return np.zeros_like(wave) if row.silent else wave

    def waves(number: int) -> np.ndarray:
        for n in range(number, min(number + 8, len(rows))):
            if n not in coming:
                coming[n] = pool.submit(make, rows[n])
        bar.update()
        return coming.pop(number).result()

    return waves

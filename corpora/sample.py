"""A synthetic corpus in the manner of KEMDy19, so that everything runs without a licence.

Forty made-up voices (`_sample_voice.py`) say made-up lines (`_sample_lines.py`) and ten made-up
raters judge them. About a third of the lines could be said in any mood and about a third of the
lines are hardly acted, seldom both at once: text and voice each tell a part. How it lies on disk
is the affair of the leaf whose layout is asked for, which is also what reads it.

    python main.py prepare --data sample
"""

import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from constants import EMOTIONS, RATERS, ROLES, SAMPLE_RATE
from corpora import _sample_voice
from corpora._sample_lines import LINES, SLOTS
from utils import UserError, leaf, make_folder, rng, write_json

__all__ = ["ROLES", "SYNTHETIC", "matches", "plan", "write"]

SYNTHETIC = True
VERSION = 1  # a change of any number below makes another corpus
SHARE = dict(disgust=0.055, angry=0.185, sad=0.095, fear=0.055, surprise=0.12, neutral=0.33,
             happy=0.16)  # of latent emotions; raters add to neutral  # fmt: skip
STAY = 0.5  # probability that an emotion lasts into the next utterance
AMBIGUOUS = 0.32  # share of lines that fit several emotions
GENERIC = 0.65  # of those, the share that fits any emotion at all
WEAK = {True: 0.15, False: 0.42}  # share hardly acted, by whether the line is ambiguous
LONG = 0.012  # share of utterances of many sentences
# what raters hear instead
MISHEARD = {
    "disgust": dict(angry=0.5, neutral=0.35, sad=0.15),
    "angry": dict(neutral=0.45, disgust=0.35, sad=0.1, surprise=0.1),
    "sad": dict(neutral=0.65, fear=0.15, angry=0.1, disgust=0.1),
    "fear": dict(surprise=0.45, neutral=0.3, sad=0.25),
    "surprise": dict(neutral=0.45, happy=0.25, fear=0.15, angry=0.15),
    "neutral": dict(happy=0.25, sad=0.25, angry=0.2, surprise=0.15, disgust=0.1, fear=0.05),
    "happy": dict(neutral=0.7, surprise=0.3),
}
# votes of ten that the emotion itself gets on average, by how many of text and voice tell it
HEARD = (5.2, 6.4, 8.3)
# valence and arousal, 1..5
PLANE = {
    "disgust": (2.2, 3.12), "angry": (1.8, 3.79), "sad": (1.89, 2.62), "fear": (1.74, 3.64),
    "surprise": (2.64, 3.64), "neutral": (2.97, 2.98), "happy": (4.32, 3.86),
}  # fmt: skip
# share of transcripts with each mark; legend: annotation.clean_transcript
MARKS = {"b/": 0.21, "o/": 0.155, "n/": 0.073, "l/": 0.064, "u/": 0.05, "N/": 0.011, "c/": 0.005,
         "s/": 0.004}  # fmt: skip
OVERLAP = 0.156  # share of transcripts with a word in parentheses
MURMURS = ("응", "어", "그래", "뭐", "아니")


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
    progress: Callable = iter,
) -> None:
    """Lay the corpus into `folder`, new or empty: whole or not at all; equal seeds, equal bytes.

    `sessions` 1..20, `dialogues` a session 1..10, `utterances` a dialogue; `progress` wraps the
    iterator of rows as tqdm does. SYNTHETIC.json says what was made.
    """
    sizes = {"sessions": (sessions, 20), "dialogues": (dialogues, 10), "utterances": (utterances, 99)}
    for name, (value, most) in sizes.items():
        if not 1 <= value <= most:
            raise UserError(f"{name} of a sample must be 1 to {most}, not {value}")
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"a sample needs a new or empty folder; {folder} holds other files")
    writer = leaf("corpora", layout)
    if not hasattr(writer, "write_sample"):
        raise UserError(f"a sample cannot be laid out as {layout!r}: it has no write_sample")
    table, spoken = plan(sessions, dialogues, utterances, seed)
    parameters = dict(sessions=sessions, dialogues=dialogues, utterances=utterances, seed=seed)
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        made = make_folder(Path(part) / folder.name)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            writer.write_sample(made, table, _ahead(pool, spoken, seed, progress))
        mark = {"synthetic": True, "version": VERSION, "layout": layout, **parameters}
        write_json(made / "SYNTHETIC.json", mark)
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)

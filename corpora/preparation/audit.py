"""What a corpus holds, heard: every wav opened once, what cannot be heard named.

tables.py keeps what came of it under data/prepared/; which corpus that is, and when it is read
again, is in corpus.py.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from corpora.preparation import columns
from media.listening import VIDEOS, Sound, listen

# --- every wav heard once ------------------------------------------------------------------------


def audit(utterances: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Open every wav once. Adds wav_size, wav_hash, duration, silent; returns (rows, troubles)."""
    names = [name for name in utterances["wav"].unique() if name]
    with ThreadPoolExecutor(2) as pool:
        heard = pool.map(lambda name: listen(folder / name), names)
        heard = tqdm(heard, "listening", len(names), leave=False, unit="wav")
        sounds = dict(zip(names, heard, strict=True))
    sounds[""] = Sound(0, "", float("nan"), False)
    table = pd.DataFrame([sounds[name] for name in utterances["wav"]], index=utterances.index)
    bad = (table["bad"] != "") & (utterances["quarantine"] == "")
    utterances = utterances.assign(
        wav_size=table["size"],
        wav_hash=table["hash"],
        duration=table["duration"],
        silent=table["silent"],
        quarantine=utterances["quarantine"].mask(bad, table["bad"]),
    )
    return utterances, _heard_troubles(utterances, sounds)


def _heard_troubles(utterances: pd.DataFrame, sounds: dict[str, Sound]) -> pd.DataFrame:
    rows = []
    once = utterances.drop_duplicates(["role", "wav", "dialogue"])  # not every second of a video
    by_second = utterances["wav"].str.lower().str.endswith(VIDEOS)
    for row in utterances[~by_second | utterances.index.isin(once.index)].itertuples():
        sound = sounds[row.wav]
        where = (row.role, row.segment, row.wav)
        if sound.bad:
            rows.append(("quarantined", sound.bad, *where))
        if sound.silent:
            rows.append(("masked", "silent wav", *where))
        rows += [("converted", reason, *where) for reason in sound.converted]
    return columns.troubles(rows)


def is_silence(utterances: pd.DataFrame) -> np.ndarray:
    """(N,) bool: rows whose file holds zeros alone, as many do; a video without sound is none."""
    films = utterances["wav"].str.lower().str.endswith(VIDEOS)
    return (utterances["silent"].astype(bool) & ~films).to_numpy()


# --- the tables ----------------------------------------------------------------------------------

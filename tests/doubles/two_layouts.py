"""KEMDy20 and AI Hub 263 laid down to be spoilt, and what must hold of their tables."""

import re
from pathlib import Path

import pandas as pd

import constants
from corpora import aihub_emotion
from doubles import corpus_aihub_emotion as aihub
from doubles import corpus_kemdy20 as kemdy
from doubles.hostile import table
from metric import VOTES

RELEASE = "4차년도"
TABLES = {"kemdy20": "annotation/Sess01_eval.csv", "aihub_emotion": f"{RELEASE}.csv"}


def lay(name: str, folder: Path) -> Path:
    """A corpus of few rows; AI Hub's with one zip, and one wav in a folder."""
    if name == "kemdy20":
        kemdy.lay(folder)
        kemdy.wear(folder, "EDA", "Sess01_script01_User001F", "1.0\n4.0\n0.3,2020-09-01,a\n0.2,b\n")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    aihub.download(folder, RELEASE)
    aihub.write(folder / f"{RELEASE}_wav/{aihub.FIRST}.wav", aihub.sound(7))
    return folder


def check_tables() -> None:
    """What was prepared holds labels, numbers and paths that can be used, or says why not."""
    rows = table()
    good = rows[(rows["quarantine"] == "") & (rows["emotion"] != "")]
    assert {e for cell in good["emotion"] for e in cell.split(";")} <= set(constants.EMOTIONS)
    votes = good[VOTES].astype(float)
    assert ((votes >= 0) & (votes <= 10)).all(axis=None) and (votes.sum(axis=1) > 0).all()
    scores = pd.to_numeric(rows[["valence", "arousal"]].stack(), errors="coerce").dropna()
    assert scores.between(1, 5).all()
    kept = r"|wav/Session01/Sess01_\w+\.wav|4차년도(_wav|\.zip(/[^/]+)*)/[0-9a-f]{24}\.wav"
    assert all(re.fullmatch(kept, wav) and "/../" not in wav for wav in rows["wav"])
    assert rows["segment"].is_unique
    words = ["segment", "dialogue", "speaker", "text"]
    words += [name for name in aihub_emotion.Reader.COLUMNS if name in rows]
    assert all(str(cell).isprintable() for name in words for cell in rows[name])
    assert all(len(name) < 100 for name in rows["segment"])

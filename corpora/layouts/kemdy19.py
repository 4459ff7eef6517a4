"""How KEMDy19 lies on disk: names, columns, and laying a synthetic corpus down in the same way.

Reading is in kemdy19.py.
"""

import re
from pathlib import Path

import numpy as np

from corpora import preparation
from utils import UserError

RATERS = "Eval01F Eval02M Eval03F Eval04F Eval05M Eval06M Eval07M Eval08F Eval09M Eval10F".split()
HEADER = (
    "Numb,Wav,,ECG,,E4-EDA,,E4-TEMP,,Segment ID,Total Evaluation,,".split(",")
    + [cell for rater in RATERS for cell in (rater, "", "")],
    [""] + ["start", "end"] * 4 + [""] + ["Emotion", "Valence", "Arousal"] * 11,
)  # 43 columns
START, SEGMENT, TOTAL = 1, 9, 10  # columns, from 0; ratings go from TOTAL to the end
BIO = {"ECG": 3, "EDA": 5, "TEMP": 7}  # first of two columns: value at start and at end

_FILE = re.compile(r"Session(0[1-9]|1[0-9]|20)_([FM])_res\.csv")
_DIALOGUE = r"Sess(?:0[1-9]|1[0-9]|20)_(?:impro0[1-4]|script0[1-6])"
_SEGMENT = re.compile(rf"({_DIALOGUE})_([FM])([0-9]{{3}})")


def parse(segment: str) -> tuple[str, str, int] | None:
    """Segment ID -> (dialogue, gender, number), None if it fits no pattern.

    >>> parse("Sess01_impro03_F012")
    ('Sess01_impro03', 'F', 12)
    """
    match = _SEGMENT.fullmatch(segment)
    return (match[1], match[2], int(match[3])) if match else None


def recording(segment: str, ending: str) -> str:
    """wav/Session01/Sess01_impro01/Sess01_impro01_F001.wav, from the corpus folder."""
    return f"wav/Session{segment[4:6]}/{segment[:-5]}/{segment}.{ending}"


def annotations(folder: Path) -> dict[int, dict[str, preparation.File]]:
    """{session: {"F": file, "M": file}} of what there is."""
    pairs: dict[int, dict[str, preparation.File]] = {}
    for name, file in preparation.find_files(folder, "annotation/Session*_res.csv").items():
        if match := _FILE.fullmatch(name.rpartition("/")[2]):
            pairs.setdefault(int(match[1]), {})[match[2]] = file
    return pairs


def pairs(folder: Path) -> dict[int, dict[str, Path]]:
    """`annotations`, or a UserError if there are none, or one is missing or must not be opened."""
    there = annotations(folder)
    if not there:
        needed = "annotation/SessionNN_F_res.csv and _M_res.csv"
        raise UserError(f"{folder} needs {needed}; it has none")
    for session, pair in there.items():
        if len(pair) == 1:
            (file,) = pair.values()
            path = folder / file.path
            raise UserError(f"session {session} needs its F and its M file; there is {path} alone")
    return {
        session: {letter: preparation.allowed(folder, file) for letter, file in pair.items()}
        for session, pair in there.items()
    }


def recordings(folder: Path) -> dict[str, preparation.File]:
    """The wav and txt files that stand where their names say, by POSIX path, in order."""
    if not (folder / "wav").is_dir():
        raise UserError(f"KEMDy19 needs {folder / 'wav'}; there is no such folder")
    files = {}
    for path, file in preparation.find_files(folder, "wav/*/*/*").items():
        stem, _, ending = path.rpartition("/")[2].rpartition(".")
        if ending in ("wav", "txt") and parse(stem) and path == recording(stem, ending):
            files[path] = file
    return files


def orphans(
    files: dict[str, preparation.File], tables: dict[tuple[int, str], np.ndarray]
) -> list[tuple]:
    """Troubles: recordings that no row names."""
    listed = {segment for cells in tables.values() for segment in cells[:, SEGMENT]}
    names = sorted({Path(file).stem for file in files} - listed)
    kind = {True: "wav without row", False: "txt without wav and row"}
    return [("reported", kind[recording(name, "wav") in files], "", name, "") for name in names]


# --- laying down a synthetic corpus --------------------------------------------------------------

"""How KEMDy20 lies on disk: names and columns.

Reading is in corpora/kemdy20.py; a synthetic one is planned and laid down in synthetic/kemdy20.py.
"""

import re
from pathlib import Path

from corpora import preparation
from utils import UserError

RATERS = "Eval01F Eval02M Eval03M Eval04F Eval05M Eval06F Eval07F Eval08M Eval09F Eval10M".split()
HEADER = (
    "Numb,WAV,,Segment ID,Total Evaluation,,".split(",")
    + [cell for rater in RATERS for cell in (rater, "", "")],
    ["", "start", "end", ""] + ["Emotion", "Valence", "Arousal"] * 11,
)  # 37 columns; on disk an empty cell holds one space
START, SEGMENT, TOTAL = 1, 3, 4  # columns, from 0; ratings go from TOTAL to the end
BIO = {"EDA": 2, "IBI": 1, "TEMP": 2}  # sensors, and the header lines of their files
# What few people's recordings of a script lack, all sensors alike: files that are missing, or not
# to be read (the list of bad trials of LMR-CL, a team of ETRI's contest of 2023).
NO_SIGNALS = frozenset(
    "Sess01_script05_User002M Sess01_script06_User002M Sess03_script04_User005M "
    "Sess04_script06_User007M Sess05_script04_User009M Sess05_script06_User009M "
    "Sess18_script03_User036M Sess36_script03_User072F".split()
)

_SESSION = r"(0[1-9]|[123][0-9]|40)"
_FILE = re.compile(rf"Sess{_SESSION}_eval\.csv")
_PERSON = rf"(Sess{_SESSION}_script0[1-6])_(User[0-9]{{3}}[FM])"
_SEGMENT = re.compile(rf"{_PERSON}_([0-9]{{3}})")
_SENSOR = re.compile(rf"[A-Z]+/Session{_SESSION}/({_PERSON})\.csv")


def parse(segment: str) -> tuple[str, str, int] | None:
    """Segment ID -> (dialogue, user, number), None if it fits no pattern.

    >>> parse("Sess01_script05_User001F_004")
    ('Sess01_script05', 'User001F', 4)
    """
    match = _SEGMENT.fullmatch(segment)
    return (match[1], match[3], int(match[4])) if match else None


def of_session(segment: str, session: int) -> str:
    """A Segment ID with the session its file stands for; one that fits no pattern stays.

    In v1.0 the IDs in Sess17_eval.csv name another session than 17.
    """
    return f"Sess{session:02d}{segment[6:]}" if parse(segment) else segment


def recording(segment: str, ending: str) -> str:
    """wav/Session01/Sess01_script05_User001F_004.wav, from the corpus folder."""
    return f"wav/Session{segment[4:6]}/{segment}.{ending}"


def annotations(folder: Path) -> dict[int, preparation.File]:
    """{session: file} of what there is."""
    there = preparation.find_files(folder, "annotation/Sess*_eval.csv")
    named = {_FILE.fullmatch(name.rpartition("/")[2]): file for name, file in there.items()}
    return {int(match[1]): file for match, file in named.items() if match}


def tables(folder: Path) -> dict[int, Path]:
    """`annotations`, or a UserError if there are none, or one must not be opened."""
    there = annotations(folder)
    if not there:
        raise UserError(f"{folder} needs annotation/SessNN_eval.csv; it has none")
    return {session: preparation.allowed(folder, file) for session, file in there.items()}


def recordings(folder: Path) -> dict[tuple[str, str], preparation.File]:
    """{(segment, "wav" or "txt"): file}, in order; the session is that of the folder.

    Where two files differ in the session they name, the one that names its folder's is taken.
    """
    if not (folder / "wav").is_dir():
        raise UserError(f"KEMDy20 needs {folder / 'wav'}; there is no such folder")
    files, strangers = {}, {}
    for path, file in preparation.find_files(folder, "wav/Session[0-9][0-9]/*").items():
        stem, _, ending = path.rpartition("/")[2].rpartition(".")
        name = of_session(stem, int(path[11:13]))
        if ending in ("wav", "txt") and parse(name):
            (files if name == stem else strangers)[name, ending] = file
    return strangers | files


def sensors(folder: Path, kind: str) -> list[tuple[int, str, preparation.File]]:
    """(session, "Sess01_script05_User001F", file) of one sensor; the session is the folder's."""
    found = []
    for path, file in preparation.find_files(folder, f"{kind}/Session[0-9][0-9]/*.csv").items():
        if match := _SENSOR.fullmatch(path):
            session = int(match[1])
            found.append((session, f"Sess{session:02d}{match[2][6:]}", file))
    return found


def read_words(folder: Path, file: preparation.File) -> preparation.Text:
    """`files.read_words` of a txt, which is CP949 wherever it could be."""
    return preparation.read_words(folder, file, "cp949")


def orphans(files: dict[tuple[str, str], preparation.File], listed: set[str]) -> list[tuple]:
    """Troubles: recordings that no row names."""
    kind = {True: "wav without row", False: "txt without wav and row"}
    names = sorted({segment for segment, _ in files} - listed)
    return [("reported", kind[(name, "wav") in files], "", name, "") for name in names]


# --- laying down a synthetic corpus --------------------------------------------------------------

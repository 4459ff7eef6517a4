"""How KEMDy20 lies on disk: names, columns, and laying a synthetic corpus down in the same way.

Reading is in kemdy20.py; who says what in a synthetic one is in _kemdy20_plan.py.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import annotation
import constants
from corpora import _writing
from utils import UserError

RATERS = "Eval01F Eval02M Eval03M Eval04F Eval05M Eval06F Eval07F Eval08M Eval09F Eval10M".split()
HEADER = (
    "Numb,WAV,,Segment ID,Total Evaluation,,".split(",")
    + [cell for rater in RATERS for cell in (rater, "", "")],
    ["", "start", "end", ""] + ["Emotion", "Valence", "Arousal"] * 11,
)  # 37 columns; on disk an empty cell holds one space
START, SEGMENT, TOTAL = 1, 3, 4  # columns, from 0; ratings go from TOTAL to the end
TIE_ORDER = "happy surprise angry neutral disgust fear sad".split()  # of a;b in Total Evaluation
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


def annotations(folder: Path) -> dict[int, annotation.File]:
    """{session: file} of what there is."""
    there = annotation.files(folder, "annotation/Sess*_eval.csv")
    named = {_FILE.fullmatch(name.rpartition("/")[2]): file for name, file in there.items()}
    return {int(match[1]): file for match, file in named.items() if match}


def tables(folder: Path) -> dict[int, Path]:
    """`annotations`, or a UserError if there are none, or one must not be opened."""
    there = annotations(folder)
    if not there:
        raise UserError(f"{folder} needs annotation/SessNN_eval.csv; it has none")
    return {session: annotation.allowed(folder, file) for session, file in there.items()}


def recordings(folder: Path) -> dict[tuple[str, str], annotation.File]:
    """{(segment, "wav" or "txt"): file}, in order; the session is that of the folder.

    Where two files differ in the session they name, the one that names its folder's is taken.
    """
    if not (folder / "wav").is_dir():
        raise UserError(f"KEMDy20 needs {folder / 'wav'}; there is no such folder")
    files, strangers = {}, {}
    for path, file in annotation.files(folder, "wav/Session[0-9][0-9]/*").items():
        stem, _, ending = path.rpartition("/")[2].rpartition(".")
        name = of_session(stem, int(path[11:13]))
        if ending in ("wav", "txt") and parse(name):
            (files if name == stem else strangers)[name, ending] = file
    return strangers | files


def sensors(folder: Path, kind: str) -> list[tuple[int, str, annotation.File]]:
    """(session, "Sess01_script05_User001F", file) of one sensor; the session is the folder's."""
    found = []
    for path, file in annotation.files(folder, f"{kind}/Session[0-9][0-9]/*.csv").items():
        if match := _SENSOR.fullmatch(path):
            session = int(match[1])
            found.append((session, f"Sess{session:02d}{match[2][6:]}", file))
    return found


def read_words(folder: Path, file: annotation.File) -> annotation.Text:
    """`annotation.read_words` of a txt, which is CP949 wherever it could be."""
    return annotation.read_words(folder, file, "cp949")


def orphans(files: dict[tuple[str, str], annotation.File], listed: set[str]) -> list[tuple]:
    """Troubles: recordings that no row names."""
    kind = {True: "wav without row", False: "txt without wav and row"}
    names = sorted({segment for segment, _ in files} - listed)
    return [("reported", kind[(name, "wav") in files], "", name, "") for name in names]


# --- laying down a synthetic corpus --------------------------------------------------------------

E4_RATE = 4  # Hz, EDA and TEMP
BEGUN = np.datetime64("2020-09-01T10:00")  # of the first session
CRLF_EVERY = 2  # one txt in two
EMPTY_IBI_EVERY = 50  # one file in fifty
LEAST_DECIMALS, MOST_DECIMALS = 2, 7  # of start and end


def write_sample(
    folder: Path,
    utterances: pd.DataFrame,
    waves: Callable[[int], np.ndarray | None],
    sample_rate: int = constants.SAMPLE_RATE,
) -> None:
    """Lay speaker rows down as KEMDy20 lies; the same input gives the same bytes.

    `utterances`: annotation.COLUMNS with this corpus's Segment IDs (rows of another role are left
    out); optional `transcript` (with markup, else `text`; None: no txt) and `rater_emotion` (10
    labels), `rater_valence`, `rater_arousal` (10 integers 1..5), else made from votes and means.
    `waves(i)`: (T,) float in [-1, 1] of the i-th row, or None: no wav. An end is the start and the
    length of the wave, as in the corpus.
    """
    talk = utterances[utterances["role"] == "speaker"].reset_index(drop=True)
    for i, row in talk.iterrows():
        samples, transcript = waves(i), row["transcript" if "transcript" in row else "text"]
        if samples is not None:
            talk.loc[i, "end"] = row["start"] + len(samples) / sample_rate
            data = _writing.wav_bytes(samples, sample_rate)
            _writing.write_file(folder / recording(row["segment"], "wav"), data)
        if isinstance(transcript, str):  # pandas turns None into NaN
            end = "\r\n" if i % CRLF_EVERY == CRLF_EVERY - 1 else "\n"
            data = (transcript + end).encode("cp949")
            _writing.write_file(folder / recording(row["segment"], "txt"), data)
    for session, rows in talk.groupby("session"):
        _write_annotation(folder, session, rows)
        _write_signals(folder, session, rows)


def _write_annotation(folder: Path, session: int, rows: pd.DataFrame) -> None:
    lines = [[cell or " " for cell in cells] for cells in HEADER]
    for numb, row in enumerate(rows.to_dict("records"), 1):
        total, *rest = _writing.rating_cells(*_writing.raters_of(row), TIE_ORDER)
        total = total.replace("disgust", "disqust")  # in this column alone
        times = [_seconds(row[name]) for name in ("start", "end")]
        lines.append([str(numb), *times, row["segment"], total, *rest])
    path = folder / f"annotation/Sess{session:02d}_eval.csv"
    _writing.write_file(path, _writing.table_bytes(lines, "\n"))


def _seconds(value: float) -> str:
    text = f"{value:.{MOST_DECIMALS}f}".rstrip("0")
    return text + "0" * (LEAST_DECIMALS - len(text.partition(".")[2]))


def _write_signals(folder: Path, session: int, rows: pd.DataFrame) -> None:
    """What either user wore during each script, but for those whose recordings are missing."""
    for number, (dialogue, said) in enumerate(rows.groupby("dialogue")):
        begun = BEGUN + np.timedelta64(session, "D") + np.timedelta64(10 * number, "m")
        for place, speaker in enumerate(sorted(rows["speaker"].unique())):
            person = f"{dialogue}_{speaker.partition('_')[2]}"
            if person in NO_SIGNALS:
                continue
            mine = said[said["speaker"] == speaker]
            empty = (12 * session + 2 * number + place) % EMPTY_IBI_EVERY == 0
            for kind in BIO:
                lines = [] if kind == "IBI" and empty else _signal(kind, begun, said, mine)
                path = folder / kind / f"Session{session:02d}/{person}.csv"
                _writing.write_file(path, "".join(line + "\n" for line in lines).encode())


def _signal(kind: str, begun: np.datetime64, said: pd.DataFrame, mine: pd.DataFrame) -> list[str]:
    """Lines of one file: header, then samples; a Segment ID only while its user talks."""
    last = said["end"].max() + 2.0  # s: sensors run on
    t = np.arange(0, last, 0.8 if kind == "IBI" else 1 / E4_RATE)
    stamps = np.datetime_as_string(begun + np.round(t * 1000).astype("m8[ms]"))
    seconds = f"{begun.astype('M8[s]').astype(int)}.000000"
    names = np.full(len(t), "", object)
    for row in mine.itertuples():
        names[(row.start <= t) & (t < row.end)] = f",{row.segment}"
    names[4::5] = np.where(names[4::5] == "", ",", names[4::5])  # a comma too many, as there
    values = {
        "EDA": 0.3 + 0.1 * np.sin(t / 20),
        "TEMP": 33 + 0.2 * np.sin(t / 60),
        "IBI": 0.8 + 0.05 * np.sin(t / 3),
    }[kind]  # uS, degrees C, s
    before = [f"{second:.6f}," if kind == "IBI" else "" for second in t]
    cells = zip(before, values, stamps, names, strict=True)
    head = [f"{seconds},IBI"] if kind == "IBI" else [seconds, f"{E4_RATE}.000000"]
    return head + [f"{start}{value:.6f},{stamp}{name}" for start, value, stamp, name in cells]

"""A tiny KEMDy20 folder, written cell by cell without the project's own writer: an oracle."""

import wave
from collections.abc import Callable
from pathlib import Path

FIRST = "Sess01_script01_User001F_001"
HEADER = (
    "Numb,WAV, ,Segment ID,Total Evaluation, , ,Eval01F, , ,Eval02M, , ,Eval03M, , ,Eval04F, , ,"
    "Eval05M, , ,Eval06F, , ,Eval07F, , ,Eval08M, , ,Eval09F, , ,Eval10M, , ",
    " ,start,end, " + ",Emotion,Valence,Arousal" * 11,
)
TURNS = ("User001F_001", "User002F_001", "User001F_002", "User002F_002")  # two women
SEGMENTS = [f"Sess01_script{topic}_{turn}" for topic in ("01", "05") for turn in TURNS]


def row(segment: str, emotion: str = "neutral", valence: str = "3", arousal: str = "3") -> list:
    """Cells of one segment, all raters of one mind; the numbers in front come with `lay`."""
    rated = [emotion.split(";")[0], valence, arousal]
    return ["", "", "", segment, emotion, valence, arousal] + rated * 10


def lay(folder: Path, session: int = 1, segments: list[str] | None = None) -> Path:
    """The files of one session: the first user is happy, the other one neutral."""
    segments = segments or [s.replace("Sess01", f"Sess{session:02d}") for s in SEGMENTS]
    mood = {True: "happy", False: "neutral"}
    annotate(folder, session, [row(s, mood["User001F" in s], "4") for s in segments])
    for segment in segments:
        sound(folder, segment)
        say(folder, segment, f"안녕 {segment[-12:]}")
    return folder


def annotate(folder: Path, session: int, rows: list[list], times: bool = True) -> None:
    """Write one annotation file; `times`: seconds 0.25, 1.25, 2.25, ... go into its columns."""
    lines = list(HEADER)
    for n, cells in enumerate(rows):
        clock = [f"{n}.25", f"{n + 1}.2500001"] if times else cells[1:3]
        lines.append(",".join([str(n + 1), *clock, *cells[3:]]))
    path = table(folder, session)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode())


def table(folder: Path, session: int = 1) -> Path:
    return folder / f"annotation/Sess{session:02d}_eval.csv"


def edit(folder: Path, change: Callable[[list[list]], object], session: int = 1, times=False):
    """Change the rows of an annotation file, in place."""
    rows = [line.split(",") for line in table(folder, session).read_text().splitlines()[2:]]
    change(rows)
    annotate(folder, session, rows, times)


def recording(folder: Path, segment: str, ending: str) -> Path:
    return folder / f"wav/Session{segment[4:6]}/{segment}.{ending}"


def say(folder: Path, segment: str, text: str | bytes) -> None:
    path = recording(folder, segment, "txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else (text + "\n").encode("cp949"))


def sound(folder: Path, segment: str, value: int = 1) -> None:
    """A tenth of a second of one value; 0 is digital silence."""
    path = recording(folder, segment, "wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes([value, 0]) * 1600)


def wear(folder: Path, kind: str, person: str, text: str) -> Path:
    """The file of one sensor, `person` as in "Sess01_script05_User001F"."""
    path = folder / kind / f"Session{person[4:6]}" / f"{person}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def one(utterances, segment):
    rows = utterances[utterances["segment"] == segment]
    assert len(rows) == 1
    return rows.iloc[0]


def where(troubles, reason):
    return troubles.loc[troubles["reason"] == reason, "segment"].tolist()


def count(troubles, treatment, reason):
    return int(((troubles["treatment"] == treatment) & (troubles["reason"] == reason)).sum())


def unexpected(troubles):
    """What is met besides the encoding that every txt has."""
    return troubles[troubles["reason"] != "txt in CP949"]

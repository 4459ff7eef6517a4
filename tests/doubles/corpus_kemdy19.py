"""A tiny KEMDy19 folder, written cell by cell without the project's own writer: an oracle."""

import wave
from collections.abc import Callable
from pathlib import Path

SEGMENT, TOTAL = 9, 10  # columns
HEADER = (
    "Numb,Wav,,ECG,,E4-EDA,,E4-TEMP,,Segment ID,Total Evaluation,,,Eval01F,,,Eval02M,,,Eval03F,,,"
    "Eval04F,,,Eval05M,,,Eval06M,,,Eval07M,,,Eval08F,,,Eval09M,,,Eval10F,,",
    ",start,end,start,end,start,end,start,end," + ",Emotion,Valence,Arousal" * 11,
)
SEGMENTS = [
    *(f"Sess01_script01_{turn}" for turn in ("F001", "M001", "F002", "M002", "F003", "M003")),
    *(f"Sess01_impro02_{turn}" for turn in ("M001", "F001", "M002", "F002", "M003", "F003")),
]


def row(segment: str, emotion: str = "neutral", valence: str = "3", arousal: str = "3") -> list:
    """Cells of one segment, all raters of one mind; the numbers in front come with `lay`."""
    rated = [emotion.split(";")[0], valence, arousal]
    return [
        "",
        "",
        "",
        "0.5",
        "0.25",
        "3.125",
        "3.25",
        "32.5",
        "33",
        segment,
        emotion,
        valence,
        arousal,
    ] + rated * 10


def lay(folder: Path, session: int = 1, segments: list[str] | None = None) -> Path:
    """The files of one session: women are angry, men are sad, whoever talks."""
    segments = segments or [s.replace("Sess01", f"Sess{session:02d}") for s in SEGMENTS]
    for letter, emotion in (("F", "angry"), ("M", "sad")):
        annotate(folder, session, letter, [row(segment, emotion, "2") for segment in segments])
    for segment in segments:
        sound(folder, segment)
        say(folder, segment, f"안녕 {segment[-4:]}")
    return folder


def annotate(folder: Path, session: int, letter: str, rows: list[list], end: str = "\n") -> None:
    """Write one annotation file; seconds 0, 1, 2, ... go into the time columns."""
    rows = [[str(n + 1), str(n), str(n + 1), *cells[3:]] for n, cells in enumerate(rows)]
    lines = [*HEADER, *(",".join(cells) for cells in rows)]
    path = table(folder, session, letter)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def table(folder: Path, session: int, letter: str) -> Path:
    return folder / f"annotation/Session{session:02d}_{letter}_res.csv"


def edit(folder: Path, letters: str, change: Callable[[list[list]], object], session: int = 1):
    """Change the rows of annotation files, in place."""
    for letter in letters:
        lines = table(folder, session, letter).read_text().splitlines()
        rows = [line.split(",") for line in lines[2:]]
        change(rows)
        annotate(folder, session, letter, rows)


def recording(folder: Path, segment: str, ending: str) -> Path:
    dialogue = segment.rsplit("_", 1)[0]
    return folder / f"wav/Session{segment[4:6]}/{dialogue}/{segment}.{ending}"


def say(folder: Path, segment: str, text: str | bytes) -> None:
    path = recording(folder, segment, "txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else (text + "\n").encode())


def sound(folder: Path, segment: str) -> None:
    path = recording(folder, segment, "wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * 1600)


def one(utterances, segment, role="speaker"):
    rows = utterances[(utterances["segment"] == segment) & (utterances["role"] == role)]
    assert len(rows) == 1
    return rows.iloc[0]


def order(utterances, role="speaker"):
    return list(utterances.loc[utterances["role"] == role, "segment"])


def count(troubles, treatment, reason):
    return int(((troubles["treatment"] == treatment) & (troubles["reason"] == reason)).sum())


def where(troubles, reason):
    rows = troubles[troubles["reason"] == reason]
    return list(zip(rows["role"], rows["segment"], strict=True))


def replace(old, new, column=SEGMENT):
    """A change of the cells in one column, in the rows of one segment."""

    def change(rows):
        for cells in rows:
            if cells[SEGMENT] == old:
                cells[column] = new

    return change

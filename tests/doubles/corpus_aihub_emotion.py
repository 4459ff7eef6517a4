"""A tiny AI Hub 263, written cell by cell without the project's own writer: an oracle."""

import csv
import io
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

HEADER = (
    "wav_id,발화문,상황,1번 감정,1번 감정세기,2번 감정,2번 감정세기,3번 감정,3번 감정세기,"
    "4번 감정,4번감정세기,5번 감정,5번 감정세기,나이,성별"
)
FIRST, SECOND, THIRD = (
    "5e258fd1305bcf3ad153a6a4",
    "5e258fe2305bcf3ad153a6a5",
    "5e258ff5305bcf3ad153a6a6",
)
IDS = (FIRST, SECOND, THIRD, "0123456789abcdef01234567")
RELEASE = "5차년도_2차"
ID, WORDS, SITUATION, RATED, AGE = 0, 1, 2, 3, 13  # columns


def row(
    name: str,
    words: str = "",
    situation: str = "happiness",
    raters: str = "Happiness Happiness Happiness Neutral Sadness",
    intensities: str = "21102",
) -> list[str]:
    """Cells of one wav."""
    rated = [cell for pair in zip(raters.split(), intensities, strict=True) for cell in pair]
    return [name, words or f"어, 청소 {name[-3:]} 네가 해!", situation, *rated, "27", "male"]


def rows(ids: tuple[str, ...] = IDS) -> list[list[str]]:
    return [row(name) for name in ids]


def table_bytes(cells: list[list[str]], encoding: str = "cp949", end: str = "\r\n") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows(cells)
    return (HEADER + end + text.getvalue()).encode(encoding)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def sound(value: int = 1) -> bytes:
    """A tenth of a second of one value at 48 kHz; 0 is digital silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(value.to_bytes(2, "little") * 4800)
    return buffer.getvalue()


def lay(folder: Path, cells: list[list[str]] | None = None) -> Path:
    """As Emo-Ensemble has it: annotation/5차년도_2차.csv and wav/, each wav another."""
    cells = rows() if cells is None else cells
    write(folder / f"annotation/{RELEASE}.csv", table_bytes(cells))
    for value, (name, *_) in enumerate(cells, 1):
        write(folder / f"wav/{name}.wav", sound(value))
    return folder


def edit(folder: Path, change: Callable[[list[list[str]]], object]) -> None:
    """Change the rows of its table, in place."""
    path = folder / f"annotation/{RELEASE}.csv"
    cells = list(csv.reader(io.StringIO(path.read_bytes().decode("cp949"), "")))[1:]
    change(cells)
    path.write_bytes(table_bytes(cells))


def download(
    folder: Path,
    release: str = RELEASE,
    cells: list[list[str]] | None = None,
    inside: str = "{}_wav/",
    first: int = 1,
) -> Path:
    """As AI Hub gives one release: X.csv, and X.zip with its wavs in a folder `inside`."""
    cells = rows() if cells is None else cells
    write(folder / f"{release}.csv", table_bytes(cells))
    with zipfile.ZipFile(folder / f"{release}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for value, (name, *_) in enumerate(cells, first):
            archive.writestr(f"{inside.format(release)}{name}.wav", sound(value))
    return folder


def one(utterances, segment):
    found = utterances[utterances["segment"] == segment]
    assert len(found) == 1
    return found.iloc[0]


def where(troubles, reason):
    return troubles.loc[troubles["reason"] == reason, "segment"].tolist()


def unexpected(troubles):
    """What is met besides the encoding that every table has."""
    return troubles[~troubles["reason"].str.startswith("annotation ")]


def replace(name, column, new):
    def change(cells):
        for line in cells:
            if line[ID] == name:
                line[column] = new

    return change

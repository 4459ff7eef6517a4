"""A tiny AI Hub 616, written without the project's own writer: an oracle."""

import io
import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

LEFT_OUT = "label file left out: "
TOP = "042.동영상 콘텐츠 하이라이트 편집 및 설명(요약) 데이터/01.데이터/2.Validation"
VIDEOS, LABELS = f"{TOP}/원천데이터/VS_유튜브_01", f"{TOP}/라벨링데이터/VL_유튜브"
FOOD, TRAVEL = "유튜브_음식_17341", "유튜브_여행_7640"
LENGTH = 9.5  # s
# what three annotators mark of each video, ends inclusive
MARKED = {
    FOOD: {"0003": [(2, 3)], "0001": [(2, 2), (8, 8)], "0002": [(3, 3)]},
    TRAVEL: {"0001": [(0, 1)], "0002": [(0, 1)], "0005": [(1, 1)]},
}


def label(video: str, annotator: str, spans: list[tuple[int, int]], length: float = LENGTH) -> dict:
    """A label file's object."""
    codes = {"place": 1, "action": 65, "emotion": 7, "relationship": 12}
    return {
        "metadata": {
            "file_name": f"{video}.mp4",
            "type": "유튜브",
            "length": length,
            "quality": "FHD",
            "date": "2021-11-30",
            "license": "CC BY",
            "class_code": 6,
            "annotator_id": annotator,
        },
        "timelines": [
            {"id": number, "start": start, "end": end, "attributes": codes}
            for number, (start, end) in enumerate(spans, 1)
        ],
    }


def write(path: Path, data: bytes | str | dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, ensure_ascii=False) if isinstance(data, dict) else data
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lay(folder: Path, videos: str = VIDEOS, labels: str = LABELS, film: bytes = b"film") -> Path:
    """As the download has it, its archives unpacked; `film` is what each mp4 holds, and more."""
    for number, (video, annotators) in enumerate(MARKED.items()):
        write(folder / videos / f"{video}.mp4", film + bytes(number))
        for annotator, spans in annotators.items():
            data = label(video, annotator, spans)
            write(folder / labels / f"{video}_{annotator}.json", data)
    return folder


def edit(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    """Change the object of the label file `<video>_<annotator>`, in place."""
    [path] = folder.rglob(f"{name}.json")
    value = json.loads(path.read_text("utf-8"))
    change(value)
    write(path, value)


def film(seconds: float, rate: int = 4, sound: bool = True) -> bytes:
    """An mp4 of a grey picture, and a tone."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        pictures = file.add_stream("mpeg4", rate=rate)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        tones = file.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for number in range(round(seconds * rate)):
            grey = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")
            grey.pts, grey.time_base = number, Fraction(1, rate)
            file.mux(pictures.encode(grey))
        file.mux(pictures.encode())
        if tones:
            wave = np.sin(np.arange(round(seconds * 16_000), dtype=np.float32) / 6) / 2
            part = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            part.rate, part.pts = 16_000, 0
            file.mux([*tones.encode(part), *tones.encode()])
    return buffer.getvalue()


def of(table, video):
    return table[table["dialogue"] == video].reset_index(drop=True)


def reasons(troubles):
    return Counter(troubles["reason"])

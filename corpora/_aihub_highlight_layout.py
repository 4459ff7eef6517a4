"""How AI Hub 616 lies on disk: videos and label files by name, and laying a synthetic one down.

What a label file says is in _aihub_highlight_labels.py; what a synthetic one shows and marks in
_aihub_highlight_plan.py, how it looks and sounds in _aihub_highlight_film.py.
"""

import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import annotation
from corpora import _aihub_highlight_film as film
from corpora import _writing
from media.listening import VIDEOS  # the corpus has .mp4, a user's own may differ
from utils import UserError, seed_of

LABELS = ".json"
DEPTH = 12  # folders below the corpus folder; the download has five
GROUPS = 20  # as many as KEMDy19 has sessions
# Names of videos: 유튜브_<category>_<number>, [KBS]<title>, news_footage_<number>
_CATEGORY = re.compile(r"유튜브_(.+)_\d+|\[([^\[\]]+)\].*|(news_footage)_\d+")


class Label(NamedTuple):
    """A label file: who marked, as its name says, and where it is."""

    annotator: str
    file: annotation.File


class Found(NamedTuple):
    """Videos and label files by the name of the video, and troubles of what is left out."""

    videos: dict[str, annotation.File]
    labels: dict[str, list[Label]]
    notes: list[tuple]


def group(video: str) -> int:
    """Where a video stands in place of a session: 1..GROUPS by a hash of its name in NFC."""
    return seed_of(0, "group", unicodedata.normalize("NFC", video)) % GROUPS + 1


def category(video: str) -> str:
    """What a video shows, as its name says; "other" where that fits none of the corpus.

    >>> category("유튜브_음식_17341"), category("[KBS]뉴스_1"), category("my_film_1")
    ('음식', 'KBS', 'other')
    """
    match = _CATEGORY.fullmatch(video)
    return next(filter(None, match.groups())) if match else "other"


# --- finding -------------------------------------------------------------------------------------


def has_both(folder: Path) -> bool:
    """Is there a video, and a file with the name of a label file?"""
    kinds = set()
    for _, name, _ in _tree(folder, skip=True):
        kinds.add(_kind(name))
        if {"video", "label"} <= kinds:
            return True
    return False


def files(folder: Path) -> list[annotation.File]:
    """Videos and label files."""
    return [file for _, _, file in _tree(folder)]


def find(folder: Path) -> Found:
    """Every video and label file below a folder; of two videos with one name, the first by path.

    Of names that differ in normal form alone, the one in NFC comes first. Raises UserError where
    there is no video, or no label file.
    """
    videos: dict[str, annotation.File] = {}
    labels: dict[str, list[Label]] = {}
    notes = []
    in_order = sorted(_tree(folder), key=lambda found: (found[0], found[2].path != found[0]))
    for _, name, file in in_order:
        kind, stem = _kind(name), name.rpartition(".")[0]
        video, _, annotator = stem.rpartition("_") if kind == "label" else (stem, "", "")
        if not stem.isprintable():
            detail = annotation.printable(name)
            notes.append(("reported", f"{kind} left out: name is not printable", "", "", detail))
        elif kind == "label":
            labels.setdefault(video, []).append(Label(annotator, file))
        elif video in videos:
            notes.append(("reported", "repeated video left out", "", video, shown(file)))
        else:
            videos[video] = file
    if not videos or not labels:
        raise UserError(
            f"{folder} needs videos X.mp4 and labels X_<annotator>.json below it; there are "
            f"{len(videos)} videos, and labels of {len(labels)} (links to folders are not followed)"
        )
    return Found(videos, labels, notes)


def shown(file: annotation.File) -> str:
    """The path of a file as a table may hold it."""
    return file.path if file.path.isprintable() else annotation.printable(file.path)


def _kind(name: str) -> str:
    """video, label, or "" of any other file: `name` ends in the suffix, in any case."""
    stem, dot, suffix = name.rpartition(".")
    suffix = (dot + suffix).lower()
    if suffix in VIDEOS:
        return "video"
    return "label" if suffix == LABELS and all(stem.rpartition("_")) else ""


def _tree(folder: Path, skip: bool = False) -> Iterator[tuple[str, str, annotation.File]]:
    """(path in NFC, name in NFC, file) of every file that is not hidden, DEPTH folders down.

    Links to folders are not followed, so that nothing is met twice; a link to a file may lead
    anywhere in the corpus folder, as in annotation.files. A folder that cannot be listed is a
    UserError, or skipped.
    """
    root, places = Path(os.path.realpath(folder)), [("", 0)]
    while places:
        place, depth = places.pop()
        for entry in _entries(folder / place, skip):
            path, name = place + entry.name, unicodedata.normalize("NFC", entry.name)
            if entry.is_dir(follow_symlinks=False):
                places += [(f"{path}/", depth + 1)] if depth < DEPTH else []
            elif _kind(name) and (
                name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)
            ):
                composed = unicodedata.normalize("NFC", path)
                yield composed, name, annotation.File(path, _fault(entry, root))


def _entries(folder: Path, skip: bool) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        if skip:
            return []
        raise UserError(f"cannot list {folder}: {error.strerror}") from error


def _fault(entry: os.DirEntry, root: Path) -> str:
    """Why an entry must not be opened; "" for a link to nowhere, which is missing."""
    if entry.is_file(follow_symlinks=False):
        return ""
    if not Path(os.path.realpath(entry.path)).is_relative_to(root):
        return annotation.OUTSIDE
    return (
        annotation.NO_FILE if os.path.exists(entry.path) and not os.path.isfile(entry.path) else ""
    )


# --- laying down a synthetic corpus --------------------------------------------------------------

TOP = "042.동영상 콘텐츠 하이라이트 편집 및 설명(요약) 데이터/01.데이터"
VALIDATION = 4  # groups that lie in 2.Validation, the first ones; the others in 1.Training
PLANTED = "planted.json"  # what tests and benchmarks compare with; nothing else reads it


def write_sample(
    folder: Path, utterances: pd.DataFrame, waves: Callable[[int], np.ndarray]
) -> None:
    """Lay rows of _aihub_highlight_plan.plan down as AI Hub 616 lies; equal input, equal bytes.

    `waves(i)`: (N,) float in [-1, 1] at 16 kHz, the i-th line that is said. What was planted, by
    video, is written to planted.json, ends inclusive as in the labels.
    """
    planted = {}
    for name, seconds in utterances.groupby("dialogue", sort=False):
        first = seconds.iloc[0]
        lines = sorted({*seconds["line"]} - {-1})
        data = film.make(seconds, {line: waves(line) for line in lines})
        part, letter = (
            ("2.Validation", "V") if first["session"] <= VALIDATION else ("1.Training", "T")
        )
        place = folder / TOP / part
        _writing.write_file(place / f"원천데이터/{letter}S_유튜브_01/{name}.mp4", data)
        for number, annotator in enumerate(first["annotators"].split(";")):
            label = json.dumps(_label(seconds, annotator, number), ensure_ascii=False, indent=2)
            path = place / f"라벨링데이터/{letter}L_유튜브/{name}_{annotator}.json"
            _writing.write_file(path, label.encode())
        planted[name] = _planted(seconds)
    data = json.dumps(planted, ensure_ascii=False, indent=1).encode()
    _writing.write_file(folder / PLANTED, data)


def _label(seconds: pd.DataFrame, annotator: str, number: int) -> dict:
    """What one annotator of a video says, as JSON of the corpus."""
    first = seconds.iloc[0]
    marked = seconds["marks"].str.split(";").str[number] == "1"
    runs = _runs(marked.tolist())
    return {
        "metadata": {
            "file_name": f"{first['dialogue']}.mp4",
            "type": "유튜브",
            "length": round(float(first["length"]), 3),
            "quality": "synthetic",
            "date": "2000-01-01",
            "license": "synthetic",
            "class_code": int(first["class_code"]),
            "annotator_id": annotator,
        },
        "timelines": [
            {"id": i, "start": start, "end": end - 1, "attributes": _attributes(start)}
            for i, (start, end, _) in enumerate(((s, e, v) for s, e, v in runs if v), start=1)
        ],
    }


def _attributes(start: int) -> dict[str, int]:
    """Codes in their ranges; which thing each stands for is not known."""
    return {
        "place": start % 21 + 1,
        "action": start % 65 + 1,
        "emotion": start % 7 + 1,
        "relationship": start % 12 + 1,
    }


def _planted(seconds: pd.DataFrame) -> list[dict]:
    spans = _runs(list(zip(seconds["span"], seconds["planted"], strict=True)))
    return [
        {"start": start, "end": end - 1, "kind": kind} for start, end, (_, kind) in spans if kind
    ]


def _runs(values: list) -> list[tuple[int, int, object]]:
    """(start, end, value) of runs of equal values, the end left out."""
    edges = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1]), len(values)]
    return [(a, b, values[a]) for a, b in zip(edges, edges[1:], strict=False)]

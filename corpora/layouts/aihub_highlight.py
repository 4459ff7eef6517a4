"""How AI Hub 616 lies on disk: videos and label files by name.

What a label file says is in labels/aihub_highlight.py; what a synthetic one shows and marks in
synthetic/aihub_highlight.py, how it looks and sounds in synthetic/film.py.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from corpora import preparation
from corpora.preparation import columns
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
    file: preparation.File


class Found(NamedTuple):
    """Videos and label files by the name of the video, and troubles of what is left out."""

    videos: dict[str, preparation.File]
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


def files(folder: Path) -> list[preparation.File]:
    """Videos and label files."""
    return [file for _, _, file in _tree(folder)]


def find(folder: Path) -> Found:
    """Every video and label file below a folder; of two videos with one name, the first by path.

    Of names that differ in normal form alone, the one in NFC comes first. Raises UserError where
    there is no video, or no label file.
    """
    videos: dict[str, preparation.File] = {}
    labels: dict[str, list[Label]] = {}
    notes = []
    in_order = sorted(_tree(folder), key=lambda found: (found[0], found[2].path != found[0]))
    for _, name, file in in_order:
        kind, stem = _kind(name), name.rpartition(".")[0]
        video, _, annotator = stem.rpartition("_") if kind == "label" else (stem, "", "")
        if not stem.isprintable():
            detail = columns.printable(name)
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


def shown(file: preparation.File) -> str:
    """The path of a file as a table may hold it."""
    return file.path if file.path.isprintable() else columns.printable(file.path)


def _kind(name: str) -> str:
    """video, label, or "" of any other file: `name` ends in the suffix, in any case."""
    stem, dot, suffix = name.rpartition(".")
    suffix = (dot + suffix).lower()
    if suffix in VIDEOS:
        return "video"
    return "label" if suffix == LABELS and all(stem.rpartition("_")) else ""


def _tree(folder: Path, skip: bool = False) -> Iterator[tuple[str, str, preparation.File]]:
    """(path in NFC, name in NFC, file) of every file that is not hidden, DEPTH folders down.

    Links to folders are not followed, so that nothing is met twice; a link to a file may lead
    anywhere in the corpus folder, as in `find_files`. A folder that cannot be listed is a
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
                yield composed, name, preparation.File(path, _fault(entry, root))


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
        return preparation.OUTSIDE
    return (
        preparation.NO_FILE if os.path.exists(entry.path) and not os.path.isfile(entry.path) else ""
    )


# --- laying down a synthetic corpus --------------------------------------------------------------

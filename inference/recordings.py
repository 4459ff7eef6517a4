"""Recordings of a user's own, as utterances: files, folders, tables, and long ones cut at pauses.

`utterances` lists and hears all that is named, before anything is computed; `pieces` gives some of
them as sound files. Corpora are read by their plugins, through corpora/preparation. No torch.
"""

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from corpora import preparation
from corpora.preparation import columns, transcripts
from media import listening, pauses
from metric import VOTES
from utils import UserError, digest, is_utf8

# what libsndfile reads, and what people have that it does not
SOUND = (
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".oga",
    ".opus",
    ".aiff",
    ".aif",
    ".aifc",
    ".au",
    ".snd",
    ".caf",
    ".w64",
    ".rf64",
)
OTHER = (".m4a", ".aac", ".wma", ".amr", ".webm", ".mp4", ".mov", ".mkv", ".avi")
COLUMNS = ("wav", "text", "speaker", "dialogue", "start", "end")  # of a table; the first is needed
SPLITS = ("auto", "always", "never")
LONG = 20.0  # s: a longer file without a transcript is a recording of many utterances
LONGEST = 600.0  # s of one utterance: beyond, something is wrong
NOTHING = "neither sound nor text"
TEXT_SIZE = 1 << 20  # bytes of a transcript at most


class Item(NamedTuple):
    """What was named: a sound file or a part of it, or words alone."""

    path: Path | None
    text: str = ""
    speaker: str = ""
    dialogue: str = ""
    start: float = np.nan  # s
    end: float = np.nan
    bad: str = ""
    root: str = ""  # what was named, so that two dialogues of one name stay two


def utterances(
    paths: Sequence[Path | str],
    split: str = "auto",
    pause: float = pauses.PAUSE,
    alone: bool = False,
    progress: bool = True,
    text: str | None = None,
) -> pd.DataFrame:
    """A row an utterance (preparation.COLUMNS and what `audit` hears), in the order they were said.

    `file`: where the sound is ("": none); `start`, `end`: s in it; `part`: whether it is a part of
    a file; `quarantine`: why it cannot be used. Files of one folder are one dialogue, in the order
    of their numbers, as are the parts of a long recording; `alone`: each utterance by itself.
    `text`: what is said in the one file that is named. Raises UserError where nothing is found.
    """
    items = _apart([item for path in _sorted(paths) for item in _items(path)])
    if text is not None:
        if len(items) != 1:
            raise UserError(f"--text is what one utterance says, {len(items)} are named")
        items = [items[0]._replace(text=transcripts.clean_transcript(text))]
    if not items:
        named = ", ".join(str(path) for path in paths)
        raise UserError(f"no sound file in {named}; files that are read: {' '.join(SOUND)}")
    with ThreadPoolExecutor(2) as pool:
        shown = {} if progress else {"disable": True}
        heard = pool.map(lambda item: _heard(item, split, pause), items)
        parts = list(tqdm(heard, "listening", len(items), leave=False, unit="file", **shown))
    rows = pd.DataFrame([row for part in parts for row in part])
    rows["segment"] = _distinct(rows["segment"])
    if alone:
        rows["dialogue"] = rows["segment"]
    return _table(rows)


# --- what is named -------------------------------------------------------------------------------


def _sorted(paths: Sequence[Path | str]) -> list[Path]:
    """As they were named, but files of one folder that were named together by their numbers."""
    runs = itertools.groupby(map(Path, paths), lambda path: (path.is_dir(), path.parent))
    found = []
    for (folder, parent), run in runs:
        found += list(run) if folder else sorted(run, key=lambda path: _order(parent, path))
    return found


def _apart(items: list[Item]) -> list[Item]:
    """Dialogues of one name that were named apart: rec, rec~2."""
    keys = list(dict.fromkeys((item.root, item.dialogue) for item in items))
    names = dict(zip(keys, _distinct([dialogue for _, dialogue in keys]), strict=True))
    return [item._replace(dialogue=names[item.root, item.dialogue]) for item in items]


def _items(path: Path) -> list[Item]:
    root = str(path.resolve())
    if path.is_dir():
        files = sorted(filter(_is_sound, path.rglob("*")), key=lambda p: _order(path, p))
        return [_item(file, _dialogue(path, file))._replace(root=root) for file in files]
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    if path.suffix.lower() == ".csv":
        return [item._replace(root=root) for item in _rows_of(path)]
    return [_item(path, path.parent.name)._replace(root=str(path.resolve().parent))]


def _is_sound(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in (*SOUND, *OTHER) and not hidden and not path.is_dir()


def _order(root: Path, path: Path) -> list:
    """Folder by folder; numbers by value: 2 before 10."""
    parts = path.relative_to(root).parts
    return [
        [*parts[:-1]],
        [(int(w), "") if w.isdecimal() else (-1, w) for w in re.split(r"(\d+)", parts[-1])],
    ]


def _dialogue(root: Path, path: Path) -> str:
    inner = path.parent.relative_to(root).as_posix()
    name = root.resolve().name
    return name if inner == "." else f"{name}/{inner}"


def _item(path: Path, dialogue: str) -> Item:
    """A sound file, with the words of the txt of its name."""
    if path.suffix.lower() in OTHER:
        kind = path.suffix.lower()
        return Item(path, dialogue=dialogue, bad=f"{kind} is not read; make it wav or flac first")
    there = path.with_suffix(".txt")
    if path.suffix.lower() == ".txt" or not there.is_file():
        return Item(path, dialogue=dialogue)
    if there.stat().st_size > TEXT_SIZE:
        return Item(path, dialogue=dialogue, bad="text of more than a megabyte")
    said = preparation.read_text(there)
    bad = f"text {said.bad}" if said.bad else ""
    return Item(path, transcripts.clean_transcript(said.text), dialogue=dialogue, bad=bad)


def _rows_of(path: Path) -> Iterator[Item]:
    """The rows of a table: `wav`, and where it has them `text, speaker, dialogue, start, end`."""
    rows, _ = preparation.read_rows(path)
    header = [name.lower() for name in rows[0]] if rows else []
    unknown = [name for name in header if name not in COLUMNS]
    if "wav" not in header or unknown or len(set(header)) < len(header):
        have = ", ".join(map(columns.printable, header)) or "nothing"
        raise UserError(
            f"{path} needs a header with wav and, if known, {', '.join(COLUMNS[1:])}; it has {have}"
        )
    for line, cells in enumerate(rows[1:], start=2):
        if any(cells):
            yield _row(path, line, dict(zip(header, cells, strict=True)))


def _row(path: Path, line: int, cells: dict[str, str]) -> Item:
    text = transcripts.clean_transcript(cells.get("text", ""))
    wav = _spelt(path.parent / cells["wav"]) if cells["wav"] else None
    # without the column all rows are one dialogue; an empty cell of it belongs to none
    dialogue = cells.get("dialogue", path.stem) or f"{path.stem}:{line}"
    times, bad = [np.nan, np.nan], "" if wav or text else NOTHING
    for i, name in enumerate(("start", "end")):
        if cells.get(name):
            try:
                times[i] = float(cells[name])
            except ValueError:
                bad = f"{name} is no number of seconds"
    return Item(wav, text, cells.get("speaker", ""), dialogue, *times, bad)


def _spelt(path: Path) -> Path:
    """The path in the normal form in which it is on disk: macOS takes Hangul apart."""
    forms = [path, *(Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))]
    return next((form for form in forms if form.is_file()), path)


# --- what is heard -------------------------------------------------------------------------------


def _heard(item: Item, split: str, pause: float) -> list[dict]:
    """One utterance, or those of a long recording."""
    row = _unheard(item)
    if item.path is not None and not is_utf8(str(item.path)):
        names = {
            name: os.fsencode(row[name]).decode("utf-8", "replace")
            for name in ("file", "segment", "dialogue")
        }
        return [row | names | {"quarantine": "its name is not UTF-8"}]
    if item.bad or item.path is None:
        return [row]
    if not item.path.is_file():
        return [row | {"quarantine": "no such file"}]
    length = _length(item.path)
    if np.isfinite(item.start) or np.isfinite(item.end):
        return [_part(row, item, length)]
    if length and _is_long(item, length, split):
        return _split(row, item.path, pause)
    if length and length > LONGEST:
        return [row | {"quarantine": f"{length:.0f} s are too long for one utterance"}]
    sound = listening.listen(item.path)
    return [
        row
        | {
            "quarantine": sound.bad,
            "end": sound.duration,
            "duration": sound.duration,
            "wav_size": sound.size,
            "wav_hash": sound.hash,
            "silent": sound.silent,
        }
    ]


def _unheard(item: Item) -> dict:
    """What is known of an utterance before its sound is heard."""
    return {
        "file": str(item.path or ""),
        "segment": item.path.stem if item.path else "text",
        "text": item.text,
        "speaker": item.speaker,
        "dialogue": item.dialogue,
        "start": 0.0,
        "end": np.nan,
        "part": False,
        "quarantine": item.bad,
        "wav_size": 0,
        "wav_hash": "",
        "duration": np.nan,
        "silent": False,
    }


def _length(path: Path) -> float | None:
    """s of sound by its header; None where that says nothing: `audit.listen` will say why."""
    try:
        return soundfile.info(path).duration
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        return None


def _is_long(item: Item, length: float, split: str) -> bool:
    return split == "always" or (split == "auto" and length > LONG and not item.text)


def _part(row: dict, item: Item, length: float | None) -> dict:
    start = 0.0 if np.isnan(item.start) else item.start
    end = (length or 0.0) if np.isnan(item.end) else item.end
    if not 0 <= start < end <= (length or 0.0) + 0.05 or end - start > LONGEST:
        bad = f"{start:g}..{end:g} s is no part of {length or 0:g} s of sound"
        return row | {"quarantine": bad}
    return _span(row, item.path, start, end)


def _split(row: dict, path: Path, pause: float) -> list[dict]:
    with path.open("rb") as file:  # libsndfile reads what there is, and says nothing
        if listening.is_truncated(file, path.stat().st_size):
            return [row | {"quarantine": "truncated wav"}]
    try:
        level = pauses.levels(path)
    except (soundfile.LibsndfileError, RuntimeError):
        return [row | {"quarantine": "not audio"}]
    spans = pauses.spans(level, pause)
    if not spans:
        return [row | {"quarantine": "silent from beginning to end"}]
    name, dialogue = row["segment"], f"{row['dialogue']}/{path.name}"
    return [
        _span(row, path, *span) | {"segment": f"{name}#{n:04d}", "dialogue": dialogue}
        for n, span in enumerate(spans, start=1)
    ]


def _span(row: dict, path: Path, start: float, end: float) -> dict:
    status = path.stat()
    key = digest([str(path.resolve()), status.st_size, status.st_mtime_ns, start, end], 32)
    return row | {
        "start": start,
        "end": end,
        "duration": end - start,
        "part": True,
        "wav_size": status.st_size,
        "wav_hash": key,
    }


# --- as a table ----------------------------------------------------------------------------------


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that differ: a, a~2, a~3."""
    met: Counter = Counter()
    taken, found = set(names), []
    for name in names:
        met[name] += 1
        fresh = name if met[name] == 1 else f"{name}~{met[name]}"
        while met[name] > 1 and fresh in taken:
            met[name] += 1
            fresh = f"{name}~{met[name]}"
        taken.add(fresh)
        found.append(fresh)
    return found


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """All columns that features and windows ask for."""
    empty = {
        "corpus": "recordings",
        "role": "speaker",
        "session": 0,
        "kind": "",
        "emotion": "",
        "valence": np.nan,
        "arousal": np.nan,
        **dict.fromkeys(VOTES, np.nan),
    }
    return rows.assign(wav=rows["file"], **empty)


def pieces(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The rows with `wav` a file that holds just the utterance: parts are written to `folder`,
    and of those that hold zeros alone `silent` is set."""
    wav, silent = rows["file"].to_list(), rows["silent"].to_list()
    for i, row in enumerate(rows.itertuples()):
        if row.part and not row.quarantine:
            wav[i] = str(folder / f"{i}.wav")
            silent[i] = not _cut(row.file, row.start, row.end, wav[i])
    return rows.assign(wav=wav, silent=silent)


def _cut(path: str, start: float, end: float, out: str) -> bool:
    """Samples as they are, float, at their own rate; whether any is not 0. Of what cannot be read
    an empty file is left, which is no audio later on."""
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(round(start * rate), file.frames))
            wave = file.read(round((end - start) * rate), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        Path(out).write_bytes(b"")
        return True
    soundfile.write(out, wave, rate, subtype="FLOAT")
    return bool(wave.any()) or not len(wave)

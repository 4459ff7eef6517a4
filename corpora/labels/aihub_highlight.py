"""What annotators mark in AI Hub 616, and the rules that make a highlight of it. No video here."""

import json
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from corpora.preparation import columns
from utils import UserError

RULES = ("union", "majority", "mean")
LARGEST = 4 << 20  # bytes of a label file; those of the corpus have some thousands
LONGEST = 6 * 3600  # s
CLASSES = range(1, 9)
SHARE = (0.05, 0.25)  # of the seconds: what the corpus asks an annotator to mark
WORD = 40  # characters of an annotator's id


class Unusable(ValueError):
    """Why a label file is left out."""


class Marks(NamedTuple):
    """What one annotator says of one video, and what is odd about it: (reason, detail)."""

    annotator: str
    length: float  # s
    seconds: np.ndarray  # (ceil(length),) bool
    class_code: str  # "1".."8"; "": none
    notes: tuple[tuple[str, str], ...] = ()


def read(path: Path, video: str, annotator: str) -> Marks:
    """A label file of a video; `annotator` is who marked, as its name says.

    Raises Unusable for what is no JSON of the corpus or marks what cannot be.
    """
    value = _json(path)
    about, spans = _part(value, "metadata", dict), _part(value, "timelines", list)
    length = about.get("length")
    if type(length) not in (int, float) or not 0 < length <= LONGEST:
        raise Unusable(f"length is no number of seconds up to {LONGEST:,}")
    who = _word(about.get("annotator_id", annotator))
    notes = [] if who == annotator else [("annotator id differs from the file name", who)]
    named = unicodedata.normalize("NFC", _said(about.get("file_name", video)))
    named = named.rpartition("/")[2]
    if video not in (named, named.rpartition(".")[0]):
        notes.append(("label names another video", columns.printable(named)))
    code = about.get("class_code")
    if type(code) is not int or code not in CLASSES:
        notes.append(("class_code is not 1 to 8", columns.printable(_said(code))))
        code = ""
    seconds = _seconds(spans, length)
    notes += _against_the_rules(len(spans), seconds, length)
    return Marks(who, length, seconds, str(code), tuple(notes))


def _json(path: Path) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Unusable(f"unreadable: {error.strerror}") from error
    if len(data) > LARGEST:
        raise Unusable(f"larger than {LARGEST:,} bytes")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unusable("not JSON in UTF-8") from error


def _part(value: object, name: str, kind: type) -> dict | list:
    """A part of the object that a label file is."""
    part = value.get(name) if isinstance(value, dict) else None
    if not isinstance(part, kind):
        raise Unusable(f"needs an object with {name}")
    return part


def _said(value: object) -> str:
    """A number or a word; of anything else its type."""
    return str(value) if type(value) in (int, str) else f"({type(value).__name__})"


def _word(value: object) -> str:
    """An annotator's id: a number or a word."""
    text = str(value) if type(value) in (int, str) else ""
    if not text or len(text) > WORD or not text.isprintable() or ";" in text:
        raise Unusable("annotator id is no word")
    return text


def _seconds(spans: list, length: float) -> np.ndarray:
    """(ceil(length),) bool: which seconds the timelines hold; their ends are inclusive."""
    seconds, ids = np.zeros(math.ceil(length), bool), set()
    for span in spans:
        span = span if isinstance(span, dict) else {}
        start, end = span.get("start"), span.get("end")
        if type(start) is not int or type(end) is not int:
            raise Unusable("a timeline has no start and end in whole seconds")
        if not 0 <= start <= end:
            raise Unusable("a timeline starts before 0 or after its end")
        if end >= length:
            raise Unusable("a timeline ends after the video")
        name = _said(span["id"]) if "id" in span else f"({len(ids)})"
        if name in ids:
            raise Unusable("two timelines with one id")
        ids.add(name)
        seconds[start : end + 1] = True
    return seconds


def _against_the_rules(number: int, seconds: np.ndarray, length: float) -> list[tuple[str, str]]:
    """Where a file breaks the validity rules of the corpus; it is used all the same."""
    notes, fewest = [], round((length // 60) / 2)
    if number < fewest:
        notes.append(("fewer highlights than the rule", f"{number} of {fewest}"))
    share = seconds.mean()
    if not SHARE[0] <= share <= SHARE[1]:
        notes.append((f"not {SHARE[0]:.0%} to {SHARE[1]:.0%} marked", f"{share:.1%}"))
    return notes


# --- rules ---------------------------------------------------------------------------------------


def joined(marks: Sequence[np.ndarray], seconds: int) -> list[str]:
    """Marks of annotators over their own lengths -> "1;0;1" of each second; no mark beyond."""
    table = np.zeros((seconds, len(marks)), np.uint8)
    for number, mark in enumerate(marks):
        table[: len(mark), number] = mark[:seconds]
    text: dict[bytes, str] = {}
    rows = []
    for row in table:
        key = row.tobytes()
        rows.append(text.get(key) or text.setdefault(key, ";".join(map(str, row))))
    return rows


def labelled(utterances: pd.DataFrame, rule: str) -> pd.DataFrame:
    """The utterances with `highlight` by one of RULES, 0..1; NaN in quarantined rows.

    union       1 where any annotator marks the second
    majority    1 where more than half of them do
    mean        the share of them that do
    """
    if rule not in RULES:
        raise UserError(f"no label rule {rule!r} in aihub_highlight; there are: {', '.join(RULES)}")
    values = {"": np.nan}
    for text in {*utterances["marks"]} - {""}:
        share = np.mean([mark == "1" for mark in text.split(";")])
        values[text] = {"union": share > 0, "majority": share > 0.5, "mean": share}[rule]
    highlight = utterances["marks"].map(values).astype(float)
    return utterances.assign(highlight=highlight.mask(utterances["quarantine"] != ""))

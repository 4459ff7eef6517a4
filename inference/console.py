"""What `predict` shows: a line an utterance on the console, pictures of each dialogue."""

import itertools
import shutil
import unicodedata
from collections.abc import Iterable

import numpy as np

from inference import occlusion, results
from reporting import timeline

PICTURES = 12  # dialogues that are drawn
SHOWN = 24  # utterances on the console
NAME = 24  # columns of a name at most


def pictures(records: Iterable[dict]) -> dict[str, bytes]:
    """A timeline of each dialogue, and why of its last utterance, of PICTURES dialogues."""
    drawn: dict[str, list[dict]] = {}
    why: dict[str, dict] = {}
    names = set()
    for record in records:
        names.add(name := record["dialogue"])
        if name in drawn or len(drawn) < PICTURES:
            if record.get("explanation"):
                why[name] = record
            drawn.setdefault(name, []).append(record | {"explanation": None})
    files: dict[str, bytes] = {}
    for number, (name, lines) in enumerate(drawn.items(), start=1):
        end = f"_{number}" if len(names) > 1 else ""
        files[f"timeline{end}.png"] = timeline.timeline(results.table(lines), name)
        if last := why.get(name):
            effects = [occlusion.Effect(**effect) for effect in last["explanation"]]
            files[f"explain{end}.png"] = timeline.effects(effects, last["emotion"], last["segment"])
    if len(names) > PICTURES:
        print(f"pictures of the first {PICTURES} of {len(names)} dialogues")
    return files


def show(records: Iterable[dict]) -> None:
    """A line an utterance, as wide as the screen; the first ones of many."""
    records = iter(records)
    first = list(itertools.islice(records, SHOWN))
    width = max(60, shutil.get_terminal_size().columns)
    size = min(NAME, max((_width(record["segment"]) for record in first), default=0))
    print(f"{'':{size}} emotion  sure arousal valence")
    for record in first:
        name = _fit(record["segment"], size)
        numbers = (
            _number(record[head], wide)
            for head, wide in (("confidence", 4), ("arousal", 7), ("valence", 7))
        )
        said = record["trouble"] or record["text"]
        said += f" (without {' and '.join(record['masked'])})" if record["masked"] else ""
        said = _fit(said, width - size - 31).rstrip()
        print(f"{name} {record['emotion']:8} {' '.join(numbers)}  {said}")
    if more := sum(1 for _ in records):
        print(f"... and {more} more")


def _number(value: float | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:.2f}':>{width}}"


def _fit(text: str, width: int) -> str:
    """Exactly so many columns; Hangul takes two each. Of what is too long, the end is left out."""
    sizes = _sizes(text)
    if sum(sizes) > width:
        keep = int(np.searchsorted(np.cumsum(sizes), width - 1, side="right"))
        text, sizes = text[:keep] + "…", [*sizes[:keep], 1]
    return text + " " * (width - sum(sizes))


def _width(text: str) -> int:
    return sum(_sizes(text))


def _sizes(text: str) -> list[int]:
    return [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text]

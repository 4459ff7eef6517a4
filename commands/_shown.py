"""What `predict` shows: a line an utterance on the console, pictures of each dialogue."""

import shutil
import unicodedata

import numpy as np

import explanation
import timeline
from commands import _results

PICTURES = 12  # dialogues that are drawn
SHOWN = 24  # utterances on the console
NAME = 24  # columns of a name at most


def pictures(records: list[dict]) -> dict[str, bytes]:
    """A timeline of each dialogue, and why of its last utterance, of PICTURES dialogues."""
    table = _results.table(records)
    files: dict[str, bytes] = {}
    names = list(dict.fromkeys(table["dialogue"]))
    for number, name in enumerate(names[:PICTURES], start=1):
        end = f"_{number}" if len(names) > 1 else ""
        rows = np.flatnonzero(table["dialogue"] == name)
        files[f"timeline{end}.png"] = timeline.timeline(table.iloc[rows], name)
        why = [i for i in rows if records[i].get("explanation")]
        if why:
            last = records[why[-1]]
            effects = [explanation.Effect(**effect) for effect in last["explanation"]]
            files[f"explain{end}.png"] = timeline.effects(effects, last["emotion"], last["segment"])
    if len(names) > PICTURES:
        print(f"pictures of the first {PICTURES} of {len(names)} dialogues")
    return files


def show(records: list[dict]) -> None:
    """A line an utterance, as wide as the screen."""
    width = max(60, shutil.get_terminal_size().columns)
    size = min(NAME, max((_width(record["segment"]) for record in records[:SHOWN]), default=0))
    print(f"{'':{size}} emotion  sure arousal valence")
    for record in records[:SHOWN]:
        name = _fit(record["segment"], size)
        numbers = (_number(record[head], wide) for head, wide in
                   (("confidence", 4), ("arousal", 7), ("valence", 7)))  # fmt: skip
        said = record["trouble"] or record["text"]
        said += f" (without {' and '.join(record['masked'])})" if record["masked"] else ""
        said = _fit(said, width - size - 31).rstrip()
        print(f"{name} {record['emotion']:8} {' '.join(numbers)}  {said}")
    if len(records) > SHOWN:
        print(f"... and {len(records) - SHOWN} more")


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

"""What the page of `serve` shows of a dialogue, as HTML in either language.

Words are in words.py, the shape of it in page.html.j2, where every value is escaped; pictures are
part of the HTML, so that no file of theirs is on the server. Nothing here knows of gradio.
"""

import base64
import codecs
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import constants
from inference.web import dialogue as web_dialogue
from inference.web import words
from inference.web.dialogue import Dialogue, Limits, Notice
from reporting import charts, page, timeline

SHAPE = "page.html.j2"
MINUTES = 10  # that an upload stays on disk at most


class About(NamedTuple):
    """What the page says of the model and of itself. `seen`: by whom, as a key of words."""

    name: str
    role: str
    ws: int
    synthetic: bool
    calibrated: bool
    seen: str
    minutes: int = MINUTES


class View:
    """The page in one language; "" is what is not to be seen."""

    def __init__(self, about: About, limits: Limits, language: str):
        self.about, self.limits, self.language = about, limits, language
        self.words: Callable[..., str] = functools.partial(words.say, language)
        self.shape = page.template(SHAPE, Path(__file__).parent).module

    def head(self) -> str:
        return str(self.shape.head(self.words, self.about, self.language))

    def foot(self) -> str:
        return str(self.shape.foot(self.words, self.about, self.limits, self.language))

    def large(self) -> str:
        """Of a file that is not even sent; shown by the browser."""
        return str(self.shape.notice(self.words("large", mb=self.limits.mb), self.language, True))

    def notice(self, notice: Notice | None) -> str:
        if notice is None:
            return ""
        values = dict(notice.values)
        if notice.trouble:
            values["reason"] = words.reason(self.language, notice.trouble, **values)
        return str(self.shape.notice(self.words(notice.key, **values), self.language))

    def result(self, dialogue: Dialogue) -> str:
        """The newest turn; of an empty dialogue, what to do."""
        turn = self._turn(dialogue) if dialogue.parts else None
        return str(self.shape.result(self.words, turn, self.language))

    def _turn(self, dialogue: Dialogue) -> dict[str, Any]:
        row = dialogue.table.iloc[-1]
        known = row["emotion"] != ""
        bars = [
            {
                "key": name,
                "name": words.emotion(self.language, name),
                "p": row[name],
                "colour": charts.EMOTION_COLOURS[name],
                "first": name == row["emotion"],
            }
            for name in constants.EMOTIONS
            if known
        ]
        sure = "sure" if self.about.calibrated else "sure_raw"
        notes = (*dialogue.parts[-1].warnings, *_masked(row))
        return {
            "n": len(dialogue.table),
            "speaker": row["speaker"],
            "text": row["text"],
            "trouble": row["trouble"],
            "bars": bars,
            "emotion": words.emotion(self.language, row["emotion"]) if known else "",
            "sure": self.words(sure, p=row["confidence"]) if known else "",
            "scales": [(name, row[name]) for name in constants.SCALES if pd.notna(row[name])],
            "notes": [self.words(note) for note in notes],
        }

    def why(self, dialogue: Dialogue) -> str:
        """What moved the newest turn; "" where nobody asked."""
        if dialogue.effects is None:
            return ""
        emotion, n = dialogue.table["emotion"].iloc[-1], len(dialogue.table)
        caption, picture = self.words("effects_scale", n=n), b""
        if emotion:
            both = " ".join(words.emotion(self.language, emotion))
            caption = self.words("effects", n=n, emotion=both)
        if dialogue.effects:
            picture = timeline.effects(dialogue.effects, emotion, language=self.language)
        return str(self.shape.why(self.words, caption, _base64(picture), self.language))

    def dialogue(self, dialogue: Dialogue) -> str:
        """Pictures, the table of turns, and the files of it."""
        if not dialogue.parts:
            return ""
        table = dialogue.table
        lines, cells = web_dialogue.files(table)
        csv = codecs.BOM_UTF8 + cells  # by which Excel knows that it is UTF-8
        pictures = [(name, _base64(png), wide) for name, png, wide in self._pictures(dialogue)]
        rows = [self._row(n, row) for n, row in enumerate(table.to_dict("records"), start=1)]
        return str(
            self.shape.dialogue(
                self.words, pictures, rows, _base64(csv), _base64(lines), self.language
            )
        )

    def _pictures(self, dialogue: Dialogue) -> Iterator[tuple[str, bytes, bool]]:
        """(name, PNG, whether it is too wide for a phone)."""
        table = dialogue.table
        if table[list(constants.SCALES)].notna().all(axis=1).any():
            yield "plane", timeline.plane(table, self.language), False
        if heard := web_dialogue.mel(dialogue):
            yield "mel", timeline.mel(*heard, self.language), False
        # two recordings may have one name: each addition is a file of its own
        files = [str(i) for i, part in enumerate(dialogue.parts) for _ in range(len(part.table))]
        drawn = timeline.timeline(table.assign(file=files), language=self.language)
        yield "timeline", drawn, True

    def _row(self, n: int, row: dict[str, Any]) -> dict[str, Any]:
        """A turn in the table."""
        known = row["emotion"]
        return {
            "n": n,
            "speaker": row["speaker"],
            "text": row["text"] or self.words("recording_only"),
            "emotion": words.emotion(self.language, known)[0] if known else "",
            "colour": charts.EMOTION_COLOURS[known] if known else "",
            "arousal": _number(row["arousal"]),
            "valence": _number(row["valence"]),
            "note": row["trouble"] or ", ".join(self.words(note) for note in _masked(row)),
        }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _number(value: float) -> str:
    return f"{value:.2f}" if pd.notna(value) else ""


def _masked(row: Any) -> list[str]:
    return [f"without_{kind}" for kind in row["masked"].split(";") if kind]

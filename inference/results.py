"""What `predict` writes: a line an utterance as it comes, gone on with after a kill."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

import constants
from utils import UserError, lock, make_folder, read_json, write_atomic, write_json

ASKED, LINES, TABLE, DONE = "asked.json", "predictions.jsonl", "predictions.csv", "summary.json"
COLUMNS = [
    "segment",
    "file",
    "start",
    "end",
    "dialogue",
    "speaker",
    "text",
    "emotion",
    "confidence",
    *constants.EMOTIONS,
    "arousal",
    "valence",
    "masked",
    "trouble",
]


class Results:
    """predictions.jsonl and predictions.csv in a folder; `count` utterances are in them so far.

    The lines lead: the table is made of them. `asked` says what was asked for; a folder in which
    something else was begun is refused.
    """

    def __init__(self, folder: Path, asked: dict[str, Any]):
        self.folder = make_folder(folder)
        self._begin(asked)
        self.count = 0 if self.is_done else self._cut_back()

    def _begin(self, asked: dict[str, Any]) -> None:
        there = self.folder / ASKED
        if there.exists():
            begun, now = read_json(there), json.loads(json.dumps(asked))
            if other := sorted(k for k in begun.keys() | now.keys() if begun.get(k) != now.get(k)):
                raise UserError(
                    f"{self.folder} holds answers to another question ({other[0]} "
                    f"differs); take another --out"
                )
            return
        if held := sorted(p.name for p in self.folder.iterdir() if not p.name.startswith(".")):
            raise UserError(f"{self.folder} should be new or empty, it holds {', '.join(held[:3])}")
        write_json(there, asked)

    def _cut_back(self) -> int:
        """Keep whole lines alone; the table is written anew from them."""
        path, whole, count = self.folder / LINES, 0, 0
        path.touch()
        temporary = self.folder / f".{TABLE}.tmp"
        how = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
        with path.open("rb") as lines, temporary.open("w", **how) as table:
            csv.writer(table, lineterminator="\n").writerow(COLUMNS)
            for line in lines:
                if (record := _record(line)) is None:
                    break
                table.write(_row(record))
                whole, count = whole + len(line), count + 1
        os.truncate(path, whole)
        os.replace(temporary, self.folder / TABLE)
        return count

    @property
    def is_done(self) -> bool:
        """Whether everything was answered: the summary is written last."""
        return (self.folder / DONE).exists()

    def add(self, table: pd.DataFrame, explanations: list[list[dict]] | None) -> None:
        """Append a line an utterance; on disk when this returns."""
        why = explanations or [None] * len(table)
        records = [_told(row, e) for row, e in zip(table.to_dict("records"), why, strict=True)]
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        for name, text in ((LINES, lines), (TABLE, "".join(map(_row, records)))):
            try:
                with (self.folder / name).open("ab") as file:
                    file.write(text.encode("utf-8", "backslashreplace"))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise UserError(
                    f"cannot write {self.folder / name}: {error.strerror}; the same "
                    f"command goes on from here"
                ) from error
        self.count += len(records)

    def records(self) -> Iterator[dict]:
        """All lines, in order."""
        with (self.folder / LINES).open("rb") as lines:
            yield from map(json.loads, lines)

    def finish(self, summary: dict[str, Any], pictures: dict[str, bytes]) -> None:
        """Write the pictures, and last the summary."""
        for name, data in pictures.items():
            write_atomic(self.folder / name, data)
        write_json(self.folder / DONE, summary)


def locked(folder: Path) -> AbstractContextManager:
    """One process at a time writes to a folder."""
    return lock(make_folder(folder) / ".lock", f"writing to {folder}")


def _record(line: bytes) -> dict | None:
    """A line as it was written, or None for one that was cut or damaged."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    whole = isinstance(record, dict) and {"segment", "probabilities", "trouble"} <= record.keys()
    return record if whole else None


def _told(row: dict[str, Any], explanation: list[dict] | None) -> dict[str, Any]:
    """A row of `predictor.table` as JSON has it: seven digits, null for what is not known."""
    told = {name: _plain(row[name]) for name in COLUMNS if name not in constants.EMOTIONS}
    told["masked"] = told["masked"].split(";") if told["masked"] else []
    shares = {name: _plain(row[name]) for name in constants.EMOTIONS}
    known = None not in shares.values()
    return (
        told
        | {"probabilities": shares if known else None}
        | ({"explanation": explanation} if explanation is not None else {})
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return float(f"{value:.7g}") if value is not None and math.isfinite(value) else None


def _row(record: dict[str, Any]) -> str:
    shares = record["probabilities"] or dict.fromkeys(constants.EMOTIONS)
    flat = record | shares | {"masked": ";".join(record["masked"])}
    cells = io.StringIO()
    csv.writer(cells, lineterminator="\n").writerow([flat[name] for name in COLUMNS])
    return cells.getvalue()


def table(records: list[dict]) -> pd.DataFrame:
    """Lines read back, as `predictor.table` gives them."""
    rows = [
        record | (record["probabilities"] or dict.fromkeys(constants.EMOTIONS))
        for record in records
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    numbers = ["start", "end", "confidence", *constants.EMOTIONS, "arousal", "valence"]
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})

"""A dialogue of one visitor of the page: what was said, heard once, and what the model says of it.

Recordings are not kept: what is made of them stays in memory. Nothing here knows of gradio.
"""

import csv
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile

import constants
from features.store.store import join
from features.store.windows import window_indices
from inference import occlusion, recordings
from inference import results as result_files
from inference.held import Held
from inference.predictor import Predictor
from media import listening
from utils import UserError

LINE = 1000  # characters of a line at most
NAME = 40  # and of a speaker's name
TOTAL = 1800.0  # s of sound in a dialogue: what is made of it stays in memory
DENSEST = 192_000  # samples a second, all channels together: stereo as a studio has it


class Limits(NamedTuple):
    """What a visitor may send: MB and seconds of a recording, turns of a dialogue."""

    mb: float
    seconds: float
    turns: int


class Said(NamedTuple):
    """What a visitor adds: a recording, a line or both; `split`: whether to cut it at pauses."""

    sound: Path | None
    line: str
    speaker: str
    split: bool


class Notice(NamedTuple):
    """What the page has to tell, as a key of its words. `trouble`: of a recording, likewise."""

    key: str
    values: dict[str, Any]
    trouble: str = ""


class Refused(Exception):
    """What was sent cannot be added; the dialogue stays as it is."""

    def __init__(self, key: str, trouble: str = "", **values: Any):
        super().__init__(key, trouble)
        self.notice = Notice(key, values, trouble)


class Part(NamedTuple):
    """What came at once: an utterance, or those of a long recording."""

    held: Held
    table: pd.DataFrame
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Dialogue:
    """Never changed: each step makes another. `effects`: why the newest turn is what it is."""

    parts: tuple[Part, ...] = ()
    effects: tuple[occlusion.Effect, ...] | None = None
    notice: Notice | None = None

    @property
    def table(self) -> pd.DataFrame | None:
        """A row a turn, as `predict` writes them; None of an empty dialogue."""
        return pd.concat([p.table for p in self.parts], ignore_index=True) if self.parts else None

    def told(self, notice: Notice | None) -> "Dialogue":
        return replace(self, notice=notice)

    def undone(self) -> "Dialogue":
        """Without what was added last."""
        return Dialogue(self.parts[:-1])


def added(
    judge: Predictor, before: Dialogue, said: Said, limits: Limits, force: bool = False
) -> Dialogue:
    """The dialogue with what was said, judged with the turns before it. Raises Refused."""
    line, speaker = _clean(said.line), _clean(said.speaker)[:NAME]
    if len(line) > LINE:
        raise Refused("line_long", most=LINE)
    count = sum(len(part.table) for part in before.parts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = _heard(said, line, speaker, limits, folder)
        if count + len(rows) > limits.turns:
            raise Refused("too_many", most=limits.turns)
        sound = sum(part.held.rows["duration"].sum() for part in before.parts)
        if sound + rows["duration"].sum() > TOTAL:
            raise Refused("too_much", most=TOTAL / 60)
        warnings = _checked(judge, rows, force)
        numbers = [str(n) for n in range(count + 1, count + len(rows) + 1)]
        rows = rows.assign(segment=numbers, dialogue="dialogue")
        held = judge.hold(recordings.pieces(rows, folder))
    shown = said.sound.name if said.sound else ""
    held = Held(held.rows.assign(file=shown, wav=""), held.stores, held.index)
    whole = together(judge, [*(part.held for part in before.parts), held])
    table = judge.table(whole, np.arange(count, count + len(rows)))
    if (table["trouble"] != "").all():
        raise Refused("bad", table["trouble"].iloc[0], name=shown)
    return Dialogue((*before.parts, Part(held, table, warnings)))


def together(judge: Predictor, held: list[Held]) -> Held:
    """The utterances of one dialogue, held apart, as if they had been held at once."""
    rows = pd.concat([part.rows for part in held], ignore_index=True)
    stores = {name: join([part.stores[name] for part in held]) for name in judge.inputs}
    for store in stores.values() if len(held) > 1 else ():
        store.settle(rows, judge.settings)
    return Held(rows, stores, window_indices(rows["dialogue"], judge.ws))


def warm(judge: Predictor) -> None:
    """Judge a second of noise and a word: opens the encoders, raises what they lack."""
    with tempfile.TemporaryDirectory() as name:
        noise = np.random.default_rng(0).normal(0, 0.1, constants.SAMPLE_RATE)
        soundfile.write(Path(name) / "noise.wav", noise, constants.SAMPLE_RATE)
        table = Path(name) / "turn.csv"
        table.write_text("wav,text,speaker\nnoise.wav,안녕,a\n", encoding="utf-8")
        held = judge.hold(recordings.utterances([table], "never", progress=False))
        judge.table(held, np.array([0]))


def explained(judge: Predictor, dialogue: Dialogue) -> Dialogue:
    """The same dialogue with what moved the newest turn."""
    if not dialogue.parts:
        return dialogue
    whole = together(judge, [part.held for part in dialogue.parts])
    effects = occlusion.explain(judge, whole, len(whole.rows) - 1)
    return replace(dialogue, effects=tuple(effects), notice=None)


def mel(dialogue: Dialogue) -> tuple[np.ndarray, float] | None:
    """The newest turn as the model is given it, and its s; None if it reads no log_mel."""
    held = dialogue.parts[-1].held if dialogue.parts else None
    store = held.stores.get("log_mel") if held else None
    if store is None or not store.available[-1]:
        return None
    return store.gather(np.array([len(store) - 1]))[0], float(held.rows["duration"].iloc[-1])


def files(table: pd.DataFrame) -> tuple[bytes, bytes]:
    """The turns as JSON lines and as CSV, just as `predict` writes them."""
    with tempfile.TemporaryDirectory() as name:
        results = result_files.Results(Path(name) / "turns", {})
        results.add(table, None)
        return tuple(
            (results.folder / n).read_bytes() for n in (result_files.LINES, result_files.TABLE)
        )


# --- what was sent -------------------------------------------------------------------------------


def _clean(text: str | None) -> str:
    """Letters that can be shown and written, one space between words."""
    visible = "".join(letter if letter.isprintable() else " " for letter in text or "")
    return " ".join(visible.split())


def _heard(said: Said, line: str, speaker: str, limits: Limits, folder: Path) -> pd.DataFrame:
    """The utterances in what was sent. Sound is read under a name of our own: a table that names
    files of the server would be read, too."""
    if said.sound is None and not line:
        raise Refused("empty")
    wav = _copied(said.sound, limits, folder) if said.sound else ""
    table = folder / "turn.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("wav", "text", "speaker"), (wav, line, speaker)])
    split = "auto" if said.split else "never"
    rows = recordings.utterances([table], split, progress=False)
    if bad := rows["quarantine"].iloc[0]:
        if not said.sound:
            raise Refused("empty")
        raise Refused("bad", bad, name=said.sound.name)
    return rows


def _copied(sound: Path, limits: Limits, folder: Path) -> str:
    """The name of a copy in `folder`, of what is sound and within the limits: of its header first,
    so that nothing large is unpacked, then of what was decoded. Raises Refused."""
    kind, name = sound.suffix.lower(), sound.name
    if kind not in recordings.SOUND:
        trouble = "kind" if kind in recordings.OTHER else "strange"
        raise Refused("bad", trouble, name=name, kind=kind, kinds=" ".join(recordings.SOUND))
    copy = folder / f"sound{kind}"
    try:
        data = sound.read_bytes()
    except FileNotFoundError as error:
        raise Refused("gone") from error
    if len(data) > limits.mb * 2**20:
        raise Refused("bad", "large", name=name, mb=limits.mb)
    copy.write_bytes(data)
    _check_length(name, copy, limits.seconds)
    return copy.name


def _check_length(name: str, sound: Path, most: float) -> None:
    try:
        about = soundfile.info(sound)
    except (soundfile.LibsndfileError, RuntimeError):
        about = None  # `listen` says why
    if about and about.duration > most:
        raise Refused("bad", "long", name=name, seconds=about.duration, most=most)
    if about and about.frames * about.channels > most * DENSEST:
        raise Refused("bad", "dense", name=name)
    heard = listening.listen(sound)
    if heard.bad:
        raise Refused("bad", heard.bad, name=name)
    if heard.duration > most:
        raise Refused("bad", "long", name=name, seconds=heard.duration, most=most)


def _checked(judge: Predictor, rows: pd.DataFrame, force: bool) -> tuple[str, ...]:
    """Warnings, as keys of words; Refused where `judge` refuses it."""
    there = {
        "text": (rows["text"] != "").all(),
        "sound": ((rows["file"] != "") & ~rows["silent"].astype(bool)).all(),
    }
    lacks = [kind for kind in judge.kinds if not there[kind]]
    try:
        warned = judge.check(rows, force)
    except UserError as error:
        alone = "alone" if len(judge.kinds) == 1 else "needs"
        raise Refused(f"{alone}_{lacks[0]}" if lacks else "needs_who") from error
    return tuple(f"forced_{kind}" for kind in lacks) if warned else ()

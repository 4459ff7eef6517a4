"""Pictures of a dialogue of a user's own, as PNG: over time, as a path, why, and what was heard.

Tables are those of `inference/predictor.py`, effects those of `inference/occlusion.py`. No torch.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

import constants
from reporting import charts, figures
from reporting.fonts import families, readable

APART = 0.3  # s between two files that are laid end to end
NAMED = 26  # utterances whose numbers stand under the axis
WORDS = {  # in English and in Korean
    "probability": ("probability", "확률"),
    "range": ("1 to 5", "1~5"),
    "arousal": ("arousal", "각성도"),
    "valence": ("valence", "긍·부정도"),
    "excited": ("arousal: calm to excited", "각성도: 차분함에서 흥분으로"),
    "positive": ("valence: negative to positive", "긍·부정도: 부정에서 긍정으로"),
    "seconds": ("s", "초"),
    "laid": ("s, files laid end to end", "초, 파일을 이어서"),
    "utterance": ("utterance, as wide as it is long", "발화, 너비는 길이만큼"),
    "owes": (
        "what '{}' owes to each part, probability with it less without it",
        "‘{}’의 확률에 각 부분이 보탠 몫: 있을 때 빼기 없을 때",
    ),
    "owes_arousal": ("what arousal owes to each part", "각성도에 각 부분이 보탠 몫"),
    "sound": ("sound", "소리"),
    "text": ("text", "글"),
    "both": ("both", "둘 다"),
    "before": ("{} before", "{}개 앞"),
    "this": ("this\nutterance", "이번\n발화"),
    "window": ("whole\nwindow", "문맥\n전체"),
    "band": ("mel band", "멜 대역"),
}


def _say(language: str, key: str, *values: object) -> str:
    """Words for a picture, in "en" or "ko"; in English where no font has Hangul."""
    return WORDS[key][language == "ko" and len(families()) > 1].format(*values)


def _emotion(language: str, name: str) -> str:
    return constants.KOREAN[name] if language == "ko" and len(families()) > 1 else name


def timeline(table: pd.DataFrame, title: str = "", language: str = "en") -> bytes:
    """Shares of the emotions of each utterance, arousal and valence under them.

    Parts of one recording lie where they were said; files of their own lie end to end.
    """
    start, width, real = _places(table)
    emotional = table[list(constants.EMOTIONS)].notna().all(axis=1).to_numpy()
    scaled = [name for name in constants.SCALES if table[name].notna().any()]
    rows = int(emotional.any()) + bool(scaled) or 1

    def draw(axes: Any) -> None:
        axes = list(np.atleast_1d(axes))
        if emotional.any():
            _shares(axes[0], table[emotional], start[emotional], width[emotional], language)
        if scaled:
            _scales(axes[-1], table, scaled, start, width, language)
        for missing in np.flatnonzero((table["trouble"] != "").to_numpy()):
            left, right = start[missing], start[missing] + width[missing]
            for each in axes:
                each.axvspan(left, right, facecolor="none", edgecolor="#999999", hatch="//", lw=0)
        axes[0].set_title(readable(title), fontsize=11, loc="left")
        _time(axes[-1], table, start, width, real, language)

    return figures.png(draw, (11, 1.1 + 2.1 * rows), nrows=rows, sharex=True)


def _places(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, bool]:
    """Beginning and length of each utterance in s, and whether that is the time of a recording."""
    length = (table["end"] - table["start"]).fillna(1.0).to_numpy(float)
    if len(table) and table["file"].nunique() == 1 and (table["file"] != "").all():
        return table["start"].to_numpy(float), length, True
    return np.concatenate([[0.0], np.cumsum(length + APART)[:-1]]), length, False


def _shares(
    axes: Any, table: pd.DataFrame, start: np.ndarray, width: np.ndarray, language: str
) -> None:
    base = np.zeros(len(table))
    for name in constants.EMOTIONS:
        share = table[name].to_numpy(float)
        colour = charts.EMOTION_COLOURS[name]
        axes.bar(
            start,
            share,
            width,
            base,
            align="edge",
            color=colour,
            edgecolor="white",
            label=_emotion(language, name),
            linewidth=0.4,
        )
        base += share
    axes.set(ylim=(0, 1), ylabel=_say(language, "probability"))
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, fontsize=9, reverse=True
    )
    axes.spines[["top", "right"]].set_visible(False)


def _scales(
    axes: Any, table: pd.DataFrame, names: list[str], start: Any, width: Any, language: str
) -> None:
    for name, colour in zip(names, charts.SCALE_COLOURS, strict=False):
        values = table[name].to_numpy(float)
        said = _say(language, name)
        axes.hlines(values, start, start + width, color=colour, lw=2.4, label=said)
        axes.plot(start + width / 2, values, color=colour, lw=0.8, alpha=0.5)
    axes.set(ylim=constants.SCALE, ylabel=_say(language, "range"), yticks=range(1, 6))
    axes.axhline(3, color="#dddddd", lw=0.8, zorder=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _time(
    axes: Any, table: pd.DataFrame, start: Any, width: Any, real: bool, language: str
) -> None:
    end = (start + width).max() if len(start) else 1.0
    axes.set(xlim=(0 if not real else min(start.min(), 0), end))
    if real or len(table) > NAMED:
        axes.set_xlabel(_say(language, "seconds" if real else "laid"))
        return
    axes.set_xticks(start + width / 2, [str(n) for n in range(1, len(table) + 1)])
    axes.set_xlabel(_say(language, "utterance"))


def plane(table: pd.DataFrame, language: str = "en") -> bytes:
    """Arousal over valence: the path of a dialogue, its utterances numbered, the last one large."""
    table = table[table[list(constants.SCALES)].notna().all(axis=1)]
    low, high = constants.SCALE

    def draw(axes: Any) -> None:
        x, y = table["valence"].to_numpy(float), table["arousal"].to_numpy(float)
        axes.axhline(3, color="#cccccc", lw=0.8)
        axes.axvline(3, color="#cccccc", lw=0.8)
        axes.plot(x, y, color="#888888", lw=1, zorder=1)
        other = charts.COLOURS["blue"]
        colours = [charts.EMOTION_COLOURS.get(name, other) for name in table["emotion"]]
        sizes = np.full(len(table), 110)
        sizes[-1:] = 260  # the newest
        axes.scatter(x, y, sizes, colours, edgecolors="black", linewidths=0.7, zorder=2)
        for n, (at, up) in enumerate(zip(x, y, strict=True), start=1):
            axes.annotate(str(n), (at, up), ha="center", va="center", fontsize=8, zorder=3)
        axes.set(
            xlim=(low, high),
            ylim=(low, high),
            xlabel=_say(language, "positive"),
            ylabel=_say(language, "excited"),
            aspect="equal",
        )

    return figures.png(draw, (4.4, 4.4))


class Effect(Protocol):
    """A row that `effects` draws: what the answer owes to one part of the window.

    `back`: of how many utterances before, None: of the whole window; `kind`: "sound", "text" or
    "both"; `emotion`, `arousal`: how much lower they are without it, None: no such head.
    """

    back: int | None
    kind: str
    emotion: float | None
    arousal: float | None


def effects(found: Sequence[Effect], emotion: str, title: str = "", language: str = "en") -> bytes:
    """What each part of the window did to the probability of the emotion it was judged to be."""
    kinds = list(dict.fromkeys(effect.kind for effect in found))
    oldest = max((e.back for e in found if e.back is not None), default=0)
    columns = [*range(oldest, -1, -1), None]
    if not any(effect.back is None for effect in found):
        columns = columns[:-1]
    grid = np.full((len(kinds), len(columns)), np.nan)
    head = "emotion" if found and found[0].emotion is not None else "arousal"
    for effect in found:
        grid[kinds.index(effect.kind), columns.index(effect.back)] = getattr(effect, head)
    said = _say(language, "owes_arousal")
    if head == "emotion":
        said = _say(language, "owes", _emotion(language, emotion))

    def draw(axes: Any) -> None:
        most = max(float(np.nanmax(np.abs(grid), initial=0.0)), 0.01)
        axes.imshow(grid, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                dark = abs(value) > 0.6 * most
                axes.text(
                    column,
                    row,
                    f"{value:+.2f}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if dark else "black",
                )
        names = {None: _say(language, "window"), 0: _say(language, "this")}
        ticks = [names.get(column) or _say(language, "before", column) for column in columns]
        axes.set_xticks(range(len(columns)), ticks)
        axes.set_yticks(range(len(kinds)), [_say(language, kind) for kind in kinds])
        axes.set_title(readable(f"{title}: {said}".removeprefix(": ")), fontsize=10, loc="left")
        axes.tick_params(length=0, labelsize=9)
        axes.spines[:].set_visible(False)

    width = max(7.5, 1.6 + 0.85 * len(columns))
    return figures.png(draw, (width, 1.3 + 0.5 * len(kinds)))


def mel(block: np.ndarray, seconds: float, language: str = "en") -> bytes:
    """A log-mel block (bands, frames) as the model hears it; what lies behind the clip is cut."""
    frames = max(1, min(block.shape[1], round(seconds * constants.SAMPLE_RATE / constants.HOP)))
    length = frames * constants.HOP / constants.SAMPLE_RATE

    def draw(axes: Any) -> None:
        axes.imshow(
            block[:, :frames],
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, length, 0, block.shape[0]),
        )
        axes.set(xlabel=_say(language, "seconds"), ylabel=_say(language, "band"))

    return figures.png(draw, (7.5, 2.4))

"""What is written of a clip: where it was cut, why, and pictures of it over time."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import constants
import utils
from inference.video import Watched
from media import video
from media.pauses import FLOOR_DB, STEP
from reporting import charts, figures
from utils import write_atomic

LEAST = 0.5  # s that are left of a clip whose ends are moved
APART = 0.1  # s between two clips
PAUSE = 9  # steps of 20 ms: 180 ms
THUMBNAILS = 12

Spans = list[tuple[float, float]]


def snapped(spans: Spans, level: np.ndarray | None, reach: float, seconds: float) -> Spans:
    """Each end moved to the middle of the quietest PAUSE at most `reach` s away, of equals the
    nearest; the ends of the video stay.

    Spans stay sorted and APART, at least half a second long, and together no longer than they were:
    where they would be, those moves that lengthen them most are not made.
    """
    spans = [(start, min(end, seconds)) for start, end in spans]
    if level is None or not reach:
        return spans
    quiet = np.concatenate([level, np.full(max(0, int(seconds / STEP) + 1 - len(level)), FLOOR_DB)])
    quiet = np.convolve(quiet, np.ones(PAUSE) / PAUSE, "same")  # a stop within a word is shorter
    times = [time for span in spans for time in span]
    moved = list(times)
    for i, time in enumerate(times):
        if time in (0.0, seconds):
            continue
        before = max(moved[i - 1], times[i - 1]) + (LEAST if i % 2 else APART) if i else 0.0
        after = times[i + 1] - (APART if i % 2 else LEAST) if i + 1 < len(times) else seconds
        moved[i] = _quietest(quiet, time, max(time - reach, before), min(time + reach, after))
    longer = {i: (moved[i] - times[i]) * (1 if i % 2 else -1) for i in range(len(times))}
    for i in sorted(longer, key=longer.__getitem__, reverse=True):
        if sum(longer.values()) > 1e-9:
            moved[i], longer[i] = times[i], 0.0
    return list(zip(moved[::2], moved[1::2], strict=True))


def _quietest(level: np.ndarray, time: float, low: float, high: float) -> float:
    middle = (np.arange(len(level)) + 0.5) * STEP
    frames = np.flatnonzero((middle >= low) & (middle <= high))
    if not len(frames):
        return time
    order = np.lexsort((np.abs(middle[frames] - time), level[frames]))
    return float(middle[frames[order[0]]])


# --- files ---------------------------------------------------------------------------------------


def write(
    out: Path, path: Path, watched: Watched, spans: Spans, how: dict, run: Path
) -> list[Path]:
    """CLIP.highlights.json, .csv, .edl and .png; the files."""
    clips = [
        _told(watched.scores, start, end, number)
        for number, (start, end) in enumerate(spans, start=1)
    ]
    about = {
        "video": str(path),
        "seconds": watched.seconds,
        "broken": watched.reason or None,
        "run": str(run),
        "chosen_by": how,
        "clips": clips,
        "scores": [round(float(score), 4) for score in watched.scores],
    }
    files = {
        "json": json.dumps(about, ensure_ascii=False, indent=1) + "\n",
        "csv": pd.DataFrame(clips).to_csv(index=False, float_format="%.4f"),
        "edl": edl(clips, path),
        "png": picture(watched, spans, thumbnails(path, watched.seconds)),
    }
    places = {out.with_suffix(f".highlights.{kind}"): data for kind, data in files.items()}
    for place, data in places.items():
        write_atomic(place, data)
    return list(places)


def _told(scores: np.ndarray, start: float, end: float, number: int) -> dict:
    inside = scores[int(start) : max(int(start) + 1, int(np.ceil(end)))]
    return {
        "clip": number,
        "start": start,
        "end": end,
        "score": float(inside.mean()),
        "best": float(inside.max()),
    }


def edl(clips: Sequence[dict], path: Path, fps: int = 25) -> str:
    """A CMX 3600 edit list, time codes at `fps`, with the score of each clip as a comment."""
    lines, at = ["TITLE: highlights", "FCM: NON-DROP FRAME", ""], 0.0
    for clip in clips:
        length = clip["end"] - clip["start"]
        codes = [_code(t, fps) for t in (clip["start"], clip["end"], at, at + length)]
        lines.append(f"{clip['clip']:03d}  AX       B     C        {' '.join(codes)}")
        lines += [f"* FROM CLIP NAME: {path.name}", f"* SCORE: {clip['score']:.4f}"]
        at += length
    return "\n".join(lines) + "\n"


def _code(time: float, fps: int) -> str:
    frames = int(time * fps + 1e-6)  # a frame begun is not over
    seconds = frames // fps
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames % fps:02d}"


def write_timeline(out: Path, table: pd.DataFrame) -> list[Path]:
    """CLIP.timeline.csv and .png; the files."""
    places = [out.with_suffix(f".timeline.{kind}") for kind in ("csv", "png")]
    write_atomic(places[0], table.to_csv(index=False, float_format="%.4f"))
    write_atomic(places[1], timeline_picture(table))
    return places


# --- pictures ------------------------------------------------------------------------------------


def thumbnails(path: Path, seconds: float) -> list[tuple[float, np.ndarray]]:
    """(s, small RGB) of pictures spread over the video; none where it has no picture."""
    wanted = [(n + 0.5) * seconds / THUMBNAILS for n in range(THUMBNAILS)]
    try:
        return [
            (s, frame[:: (step := max(1, frame.shape[0] // 90)), ::step].copy())
            for s, frame in video.frames(path, wanted)
        ]
    except utils.Unusable:
        return []


def picture(watched: Watched, spans: Spans, frames: list[tuple[float, np.ndarray]]) -> bytes:
    """A PNG: the score over time, what was cut shaded, frames under it."""
    slot = watched.seconds / THUMBNAILS

    def draw(axes) -> None:
        curve, strip = axes
        for start, end in spans:
            curve.axvspan(start, end, color=charts.COLOURS["yellow"], alpha=0.45, lw=0)
        middle = np.arange(len(watched.scores)) + 0.5
        curve.plot(middle, watched.scores, color=charts.COLOURS["blue"], lw=1.2)
        curve.set(xlim=(0, watched.seconds), ylim=(0, 1), ylabel="highlight score")
        curve.spines[["top", "right"]].set_visible(False)
        total = sum(end - start for start, end in spans)
        many = "clip" if len(spans) == 1 else "clips"
        title = f"{len(spans)} {many}, {total:.1f} of {watched.seconds:.1f} s"
        curve.set_title(title, fontsize=11)
        for time, image in frames:
            left = time - slot / 2
            strip.imshow(image, extent=(left, left + 0.98 * slot, 0, 1), aspect="auto")
        strip.set(xlim=(0, watched.seconds), ylim=(0, 1), yticks=[], xlabel="s")
        strip.spines[:].set_visible(False)

    grid = {"nrows": 2, "sharex": True, "height_ratios": (3, 1)}
    return figures.png(draw, (10, 4.2), **grid)


def timeline_picture(table: pd.DataFrame) -> bytes:
    """A PNG: shares of the emotions over time, arousal and valence under them."""
    shares = [name for name in constants.EMOTIONS if name in table]
    scales = [name for name in ("arousal", "valence") if name in table]

    def draw(axes) -> None:
        above, below = np.atleast_1d(axes) if shares and scales else (axes, axes)
        time = table["start"] + 0.5
        if shares:
            colours = [charts.EMOTION_COLOURS[name] for name in shares]
            above.stackplot(time, table[shares].fillna(0).T, labels=shares, colors=colours, lw=0)
            above.set(ylim=(0, 1), ylabel="probability")
            above.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
        for name, colour in zip(scales, charts.SCALE_COLOURS, strict=False):
            below.plot(time, table[name], color=colour, label=name, lw=1.2)
        if scales:
            below.set(ylim=constants.SCALE, ylabel="1 to 5")
            below.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
        below.set(xlim=(0, table["start"].max() + 1), xlabel="s")

    rows = 2 if shares and scales else 1
    return figures.png(draw, (10, 2.4 * rows), nrows=rows, sharex=True)

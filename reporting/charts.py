"""Geometry of the pictures on a page: values -> places in the units of a drawing.

A chart is a dict for report.html.j2: "box" (the frame), "x" and "y" (ticks: place, text), and
what stands inside. Numbers come from the files of a run; `page.py` reads them.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

import constants

ENDS = ("value", "low", "high", "baseline", "baseline_low", "baseline_high")
MAX_POINTS = 4000  # drawn in a scatter: 36 bytes of the page each
PLOT = {"left": 46.0, "right": 428.0, "top": 12.0, "bottom": 224.0}  # of 440 x 260 units
SQUARE = {"left": 40.0, "right": 310.0, "top": 10.0, "bottom": 280.0}  # of 320 x 320 units
BARS = SQUARE | {"left": 46.0}  # of 320 x 388 units, with the counts below
COUNTS = (322.0, 362.0)  # top and bottom of the counts under the reliability

COLOURS = {  # Okabe and Ito's, told apart without seeing colours well
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "orange": "#E69F00",
    "purple": "#CC79A7",
}
EMOTION_COLOURS = {
    "disgust": COLOURS["green"],
    "angry": COLOURS["vermilion"],
    "sad": COLOURS["sky"],
    "fear": COLOURS["purple"],
    "surprise": COLOURS["yellow"],
    "neutral": "#BBBBBB",
    "happy": COLOURS["orange"],
}
SCALE_COLOURS = (COLOURS["blue"], COLOURS["vermilion"])


# --- strips in the table of scores -----------------------------------------------------------


def axis(rows: list[dict]) -> tuple[float, float]:
    """Ends of the common axis of some scores: 0 to 1, or wider."""
    known = [row[key] for row in rows for key in ENDS if row[key] is not None]
    return math.floor(10 * min([0.0, *known])) / 10, math.ceil(10 * max([1.0, *known])) / 10


def place(axis: tuple[float, float]) -> Callable[[float], float]:
    """Values -> percent of the width of a strip with that axis."""
    at = _line(axis, (0.0, 100.0))
    return lambda value: round(at(value), 2)


def strip(row: dict, axis: tuple[float, float]) -> dict:
    """Percent of the strip's width: where intervals begin, how long they are, where values lie."""
    at = _line(axis, (0.0, 100.0))
    strip = {}
    for name, prefix in (("value", ""), ("baseline", "baseline_")):
        low, high, value = (row[key] for key in (f"{prefix}low", f"{prefix}high", name))
        strip[name] = None if value is None else round(at(value), 2)
        strip[f"{name}_span"] = None
        if low is not None and high is not None:
            strip[f"{name}_span"] = (round(at(low), 2), round(at(high) - at(low), 2))
    strip["prior"] = None if row.get("prior") is None else round(at(row["prior"]), 2)
    return strip


# --- training and scales ---------------------------------------------------------------------


def curve(log: list[dict]) -> dict | None:
    """Each loss by epoch, as values and as a line in units of the drawing; None without a log."""
    if not log:
        return None
    epochs, lines = _losses(log)
    known = [v for values in lines.values() for v in values if math.isfinite(v)]
    x, ticks_x = _scale(min(epochs), max(epochs), PLOT["left"], PLOT["right"], whole=True)
    y, ticks_y = _scale(min([0.0, *known]), max([0.0, *known]), PLOT["bottom"], PLOT["top"])
    series = []
    for name, values in lines.items():
        pairs = zip(epochs, values, strict=True)
        points = [(x(e), y(v)) if math.isfinite(v) else None for e, v in pairs]
        line = {"name": name, "values": values, "path": _path(points), "end": points[-1]}
        series.append(line)
    return {"series": series, "x": ticks_x, "y": ticks_y, "box": PLOT, "epochs": epochs}


def _losses(log: list[dict]) -> tuple[list[int], dict[str, list[float]]]:
    """Epochs, and each loss by epoch; NaN where an epoch does not have it."""
    names = dict.fromkeys(
        name for line in log for name in line if name.startswith("loss") or name == "val/loss"
    )
    lines = {
        name: [float("nan") if line.get(name) is None else float(line[name]) for line in log]
        for name in names
    }
    return [int(line["epoch"]) for line in log], lines


def scatter(tested: pd.DataFrame, head: str, result: dict) -> dict | None:
    """Points of truth (x) against prediction (y) in units of the drawing; None without any."""
    pairs = tested[[f"{head}_true", head]].to_numpy(float)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if not len(pairs):
        return None
    step = -(-len(pairs) // MAX_POINTS)
    low = min(constants.SCALE[0], math.floor(pairs.min()))
    high = max(constants.SCALE[1], math.ceil(pairs.max()))
    x, ticks_x = _scale(low, high, SQUARE["left"], SQUARE["right"])
    y, ticks_y = _scale(low, high, SQUARE["bottom"], SQUARE["top"])
    points = [(x(truth), y(predicted)) for truth, predicted in pairs[::step]]
    return {
        "head": head,
        "points": points,
        "n": len(pairs),
        "step": step,
        "box": SQUARE,
        "x": ticks_x,
        "y": ticks_y,
        "score": result["scores"][f"ccc_{head}"],
    }


# --- calibration and rejection --------------------------------------------------------------


def reliability(bins: list[dict]) -> dict | None:
    """Bars of accuracy by confidence with a dot at their means, and bars of how many rows.

    `bins` as in `calibration.reliability`; None where all are empty.
    """
    bins = [row for row in bins if row["n"]]
    if not bins:
        return None
    x, ticks_x = _scale(0.0, 1.0, BARS["left"], BARS["right"])
    y, ticks_y = _scale(0.0, 1.0, BARS["bottom"], BARS["top"])
    most = max(row["n"] for row in bins)
    height = _line((0.0, most), (0.0, COUNTS[1] - COUNTS[0]))
    bars = [
        row
        | {
            "left": x(row["low"]),
            "width": round(x(row["high"]) - x(row["low"]), 1),
            "top": y(row["accuracy"]),
            "dot": (x(row["confidence"]), y(row["accuracy"])),
            "height": round(height(row["n"]), 1),
        }
        for row in bins
    ]
    return {"bars": bars, "most": most, "counts": COUNTS, "box": BARS, "x": ticks_x, "y": ticks_y}


def coverage_risk(points: list[list[float]], accuracy_at: dict[str, float], n: int) -> dict | None:
    """The curve of (coverage, risk) points of n rows, and dots at some coverages.

    The level is the risk of answering all rows. None without points.
    """
    if not points:
        return None
    x, ticks_x = _scale(0.0, 1.0, PLOT["left"], PLOT["right"])
    highest = math.ceil(10 * max([0.1, *(risk for _, risk in points)])) / 10
    y, ticks_y = _scale(0.0, highest, PLOT["bottom"], PLOT["top"])
    # whole rows are answered: of few rows the dot is right of its coverage, and on the curve
    dots = [
        (x(math.ceil(float(at) * n - 1e-9) / n), y(1 - accuracy))
        for at, accuracy in accuracy_at.items()
    ]
    return {
        "path": _path([(x(coverage), y(risk)) for coverage, risk in points]),
        "dots": dots,
        "level": y(points[-1][1]),
        "box": PLOT,
        "x": ticks_x,
        "y": ticks_y,
    }


# --- places ---------------------------------------------------------------------------------


def _line(source: tuple[float, float], target: tuple[float, float]) -> Callable[[float], float]:
    slope = (target[1] - target[0]) / (source[1] - source[0])
    return lambda value: target[0] + (value - source[0]) * slope


def _scale(low: float, high: float, start: float, end: float, whole: bool = False):
    """Values -> units of the drawing, rounded to 0.1, and the ticks: (place, text)."""
    from matplotlib.ticker import MaxNLocator

    if high <= low:  # one epoch, or a loss of zero: leave room on both sides
        low, high = low - 0.5, high + 0.5
    place = _line((low, high), (start, end))
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=whole).tick_values(low, high)
    inside = [t for t in ticks if low <= t <= high and (not whole or t.is_integer())]
    return lambda v: round(place(v), 1), [(round(place(t), 1), f"{t:.6g}") for t in inside]


def _path(points: list[tuple[float, float] | None]) -> str:
    """SVG path through the points; None lifts the pen, a point alone is a dot."""
    pairs = zip([None, *points[:-1]], points, strict=True)
    return "".join(f"L{p[0]} {p[1]}" if before else f"M{p[0]} {p[1]}h0" for before, p in pairs if p)

"""Figures of a run as PNG: its loss, its confusion matrix."""

import io
from collections.abc import Callable

import numpy as np

import constants
from reporting import fonts
from reporting.formatting import count


def loss_png(curve: dict) -> bytes:
    """The losses of every epoch; `curve`: what `charts.curve` makes of a log."""

    def draw(axes) -> None:
        for line in curve["series"]:
            name = line["name"]
            style = {"linewidth": 2.2 if name == "loss" else 1.2, "marker": "o", "markersize": 2.5}
            form = "--" if name == "val/loss" else "-"
            axes.plot(curve["epochs"], line["values"], form, label=name, **style)
        axes.set(xlabel="epoch", ylabel="loss", title="Training loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)

    return png(draw, (6.4, 4.0))


def confusion_png(matrix: list[list[float]]) -> bytes:
    """Counts, shaded by their share of the row."""

    def draw(axes) -> None:
        counts = np.array(matrix, float)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(counts):
            color = "white" if share[row, column] > 0.6 else "black"
            axes.text(column, row, count(value), ha="center", va="center", color=color)
        places = range(len(constants.EMOTIONS))
        axes.set_xticks(places, constants.EMOTIONS, rotation=35, ha="right")
        axes.set_yticks(places, constants.EMOTIONS)
        axes.set(xlabel="prediction", ylabel="truth", title="Confusion (shade: share of the row)")

    return png(draw, (6.0, 5.6))


def png(draw: Callable, inches: tuple[float, float], **grid) -> bytes:
    """What `draw(axes)` paints, without the user's matplotlibrc and without a version inside.

    `grid`: of `Figure.subplots`, where there are several axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    plain = {
        **matplotlib.rcParamsDefault,
        "text.parse_math": False,  # a "$" is no formula
        "font.family": fonts.families(),
    }
    with matplotlib.rc_context(plain):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure.subplots(**grid))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()

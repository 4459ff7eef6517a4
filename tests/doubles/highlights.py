"""Videos with drawn events, what annotators mark of them, and a model of some skill."""

import numpy as np
import pandas as pd


def drawn(
    seed: int = 0,
    videos: int = 4,
    length: int = 30,
    annotators: int = 3,
    levels: int = 0,
    skill: float = 1.0,
) -> pd.DataFrame:
    """Videos of about `length` s with events of some seconds; probabilities of few `levels`."""
    draw = np.random.default_rng(seed)
    parts = []
    for video in range(videos):
        n = length + video
        wave = np.convolve(draw.normal(size=n + 4), np.ones(5), "valid")
        marks = (wave[:, None] + draw.normal(0, 1, (n, annotators)) > 2).astype(int)
        score = 1 / (1 + np.exp(-skill * wave - draw.normal(0, 1, n)))
        part = pd.DataFrame({"highlight": np.round(score * levels) / levels if levels else score})
        part["highlight_true"] = marks.max(1).astype(float)
        part["marks"] = [";".join(map(str, row)) for row in marks]
        part["dialogue"] = f"유튜브_{video}"
        part["segment"] = [f"유튜브_{video}#{second:05d}" for second in range(n)]
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    return found.assign(corpus="aihub_highlight", role="speaker", session=1, set="test")


def table(highlight, truth, marks="", video="v") -> pd.DataFrame:
    """One video, written out."""
    frame = pd.DataFrame({"highlight": highlight, "highlight_true": np.asarray(truth, float)})
    frame["segment"] = [f"{video}#{second:05d}" for second in range(len(frame))]
    return frame.assign(corpus="c", role="speaker", dialogue=video, marks=marks)


def mean_of_marks(frame: pd.DataFrame) -> np.ndarray:
    return np.array([np.mean([int(m) for m in text.split(";")]) for text in frame.marks])


def value(found: dict, name: str) -> float:
    return found[name]["value"]

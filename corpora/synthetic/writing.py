"""Bytes of a sample corpus: tables, ratings and waves as the KEMDy corpora have them."""

import csv
import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import constants
from utils import UserError


def raters_of(row: dict) -> tuple[list[str], np.ndarray]:
    """Labels of ten raters and their (10, 2) valence and arousal, from the row or its means.

    Without rater_emotion, rater_valence and rater_arousal they are made to give the row's votes
    and means.
    """
    emotions = row.get("rater_emotion")
    if emotions is None:
        emotions = [e for e in constants.EMOTIONS for _ in range(int(row[f"votes_{e}"]))]
    scores = []
    for name in ("valence", "arousal"):
        given = row.get(f"rater_{name}")
        if given is None:
            whole, rest = divmod(round(row[name] * constants.RATERS), constants.RATERS)
            given = [whole + (k < rest) for k in range(constants.RATERS)]
        scores.append(given)
    return list(emotions), np.array(scores).T


def rating_cells(emotions: Sequence[str], scores: np.ndarray, order: Sequence[str]) -> list[str]:
    """33 cells of one row: labels of ten raters, (10, 2) valence and arousal -> as on disk.

    The total is all modal labels in `order` and the means rounded to 0.1, whole numbers bare.
    """
    most = max(map(emotions.count, emotions))
    modal = [name for name in order if emotions.count(name) == most]
    cells = [";".join(modal), *(number(mean, 1) for mean in np.mean(scores, axis=0))]
    for emotion, pair in zip(emotions, scores, strict=True):
        cells += [emotion, *(str(int(score)) for score in pair)]
    return cells


def number(value: float, decimals: int) -> str:
    """A number with at most so many decimals; whole numbers are bare."""
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{value:.0f}"
    return "0" if text == "-0" else text


def table_bytes(rows: Sequence[Sequence[str]], line_end: str) -> bytes:
    """Cells as comma-separated UTF-8."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=line_end).writerows(rows)
    return buffer.getvalue().encode()


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """(T,) float in [-1, 1] -> mono PCM16 RIFF with the plain header of 44 bytes."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", ""))
        file.writeframes(np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file of a sample corpus, its folders too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error

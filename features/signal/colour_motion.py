"""Colour, brightness and motion of one second of a video: 32 numbers in 0..1, without any weights.

The picture in the middle of the second, made small: mean and standard deviation of red, green and
blue (6) and of brightness (2), histograms of brightness (8) and of hue, each pixel counted by its
colourfulness (12); and the difference of brightness to the pictures STEP before and after it: the
mean (2), and that of the part of a 4 x 4 grid that changes most (2).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from media import video

SIZE = 32
STEP = 0.25  # s
WIDTH, HEIGHT = 64, 36  # pixels of the small picture, each the mean of those it covers
LUMA = np.float32([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601
LEVELS, HUES, GRID = 8, 12, 4


def seconds(source: Path, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(second, (32,) float32) of each of `wanted`, ascending, that has a picture."""
    offsets = (0.5 - STEP, 0.5, 0.5 + STEP)
    seen: dict[float, np.ndarray] = {}
    for time, picture in video.frames(source, [s + offset for s in wanted for offset in offsets]):
        if seen and int(time) != int(next(iter(seen))):
            yield from _second(seen)
            seen = {}
        seen[time] = _small(picture)
    yield from _second(seen)


def _second(seen: dict[float, np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Of the pictures of one second by their times; where one beside has none, nothing moves."""
    if seen:
        second = int(next(iter(seen)))
        middle = seen.get(second + 0.5)
        if middle is not None:
            before, after = (seen.get(second + 0.5 + step, middle) for step in (-STEP, STEP))
            yield second, numbers(before, middle, after)


def _small(picture: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> (HEIGHT, WIDTH, 3) float32 in 0..1."""
    from PIL import Image

    image = Image.fromarray(picture).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return np.asarray(image, np.float32) / 255


def numbers(before: np.ndarray, picture: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Three pictures (HEIGHT, WIDTH, 3) in 0..1 -> (32,) float32."""
    light = picture @ LUMA
    levels = np.histogram(light, LEVELS, (0, 1))[0] / light.size
    moved = [abs(other @ LUMA - light) for other in (before, after)]
    most = [_cells(difference).max() for difference in moved]
    return np.concatenate(
        [
            picture.mean((0, 1)),
            picture.std((0, 1)),
            [light.mean(), light.std()],
            levels,
            _hues(picture),
            [difference.mean() for difference in moved],
            most,
        ]
    ).astype(np.float32)


def _hues(picture: np.ndarray) -> np.ndarray:
    """(HUES,): share of each hue, red first, times how colourful it is; grey adds nothing."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    chroma = picture.max(-1) - picture.min(-1)
    # the angle on the hexagon, by its plane: sqrt(3) (G - B) over 2 R - G - B
    turn = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue) / (2 * np.pi)
    which = np.rint(turn * HUES).astype(int) % HUES
    return np.bincount(which.ravel(), chroma.ravel(), HUES) / chroma.size


def _cells(values: np.ndarray) -> np.ndarray:
    """(HEIGHT, WIDTH) -> (GRID, GRID): the mean of each part."""
    return values.reshape(GRID, HEIGHT // GRID, GRID, WIDTH // GRID).mean((1, 3))

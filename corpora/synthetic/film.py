"""How a second of a synthetic video looks and sounds, and real mp4 files of it: H.264 and AAC.

Shapes move over a ground, voices talk over music. PyAV encodes, in one thread: equal input, equal
bytes.
"""

import colorsys
import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
import soxr

import constants
from utils import UserError, rng

RATE = constants.SAMPLE_RATE  # Hz, of voices and music
SOUND_RATE = 44_100  # Hz, of the file
SOUND_BITS = 48_000  # bits a second
BLOCK = 1024  # samples that AAC takes at a time
AAC = {"aac_coder": "fast", "flags": "+bitexact"}
X264 = {
    "preset": "veryfast",
    "crf": "28",
    "threads": "1",
    "flags": "+bitexact",
    "x264-params": "threads=1:lookahead-threads=1",
}
FADE = RATE // 50  # samples: 20 ms
MUSIC = -38.0  # dB full scale, under everything
CHORDS = ((0, 4, 7), (-3, 0, 4), (-7, -3, 0), (-5, -1, 2))  # semitones above the key
BEAT = 0.5  # s
CLAPS = 40  # a second
WARM, COOL = (0.0, 0.15), (0.4, 0.7)  # hues: red to yellow, green to blue
SIZES = (0.08, 0.16)  # of shapes, as shares of the height
LIGHTER = 1.6  # than the ground a shape is
EXPOSURE, VOLUME = 0.1, 2.0  # octaves and dB by which videos differ


class Sound(NamedTuple):
    """What is heard over the music: from where, and how loud (dB full scale)."""

    source: str  # line, claps, music; "": nothing
    level: float = -np.inf


class Scene(NamedTuple):
    """A picture: brightness and colour of its ground 0..1, shapes in sight, and how fast."""

    value: float
    colour: float
    shapes: int
    speed: float  # widths a second
    warm: bool = False  # the ground changes between warm colours all the time


SOUNDS = {
    "talk": Sound("line", -26.0),
    "music": Sound(""),
    "cheer": Sound("line", -15.0),
    "applause": Sound("claps", -16.0),  # of highlights
    "shout": Sound("line", -16.0),
    "blare": Sound("music", -16.0),  # loud, not excited
    "mutter": Sound("line", -32.0),  # excited, not loud
}
SCENES = {
    "plain": Scene(0.4, 0.4, 3, 0.15),
    "flash": Scene(0.9, 0.8, 7, 1.2, warm=True),  # of highlights
    "pale": Scene(0.85, 0.1, 3, 0.0),  # bright, not fast
    "dim": Scene(0.15, 0.4, 7, 1.2),  # fast, not bright
}


def make(seconds: pd.DataFrame, lines: dict[int, np.ndarray]) -> bytes:
    """An mp4 of the rows of one video (of `plan`) and the lines said in it."""
    first = seconds.iloc[0]
    width, height = map(int, first["shape"].split("x"))
    rate = Fraction(first["rate"])
    return encode(images(seconds, width, height), rate, sound(seconds, lines))


# --- picture -------------------------------------------------------------------------------------


def images(seconds: pd.DataFrame, width: int, height: int) -> Iterator[np.ndarray]:
    """(height, width, 3) uint8 RGB of each frame."""
    first = seconds.iloc[0]
    random, rate = rng(int(first["seed"]), "picture"), Fraction(first["rate"])
    scenes = [SCENES[name] for name in seconds["picture"]]
    most = max(scene.shapes for scene in SCENES.values())
    exposure, hue = 2 ** random.normal(0, EXPOSURE), random.uniform(*COOL)
    hues, sizes = random.random(most), random.uniform(*SIZES, most) * height
    place, way = random.random((most, 2)), random.normal(0, 1, (most, 2))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    shade = (0.85 + 0.3 * np.arange(height) / height)[:, None, None]  # the ground has no one colour
    for frame in range(int(first["frames"])):
        scene = scenes[int(frame / rate)]
        place = place + way * scene.speed / float(rate)
        ground = random.uniform(*WARM) if scene.warm else hue
        picture = np.empty((height, width, 3), np.float32)
        picture[:] = _colour(ground, scene.colour, scene.value * exposure) * shade
        value = min(LIGHTER * scene.value, 1.0) * exposure
        colours = [_colour(hue, scene.colour, value) for hue in hues[: scene.shapes]]
        _draw(picture, np.abs(place % 2 - 1), sizes, colours)  # to and fro
        yield np.clip(picture, 0, 255).astype(np.uint8)


def _draw(
    picture: np.ndarray, places: np.ndarray, sizes: np.ndarray, colours: list[np.ndarray]
) -> None:
    """Discs and squares by turns, at (x, y) of `places`, 0..1 of the picture."""
    height, width = picture.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    for i, colour in enumerate(colours):
        across, down = np.abs(x - places[i, 0] * width), np.abs(y - places[i, 1] * height)
        disc, square = across**2 + down**2 < sizes[i] ** 2, np.maximum(across, down) < sizes[i]
        picture[square if i % 2 else disc] = colour


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, min(value, 1.0)), np.float32)


# --- sound ---------------------------------------------------------------------------------------


def sound(seconds: pd.DataFrame, lines: dict[int, np.ndarray]) -> np.ndarray:
    """(N,) float32 at SOUND_RATE, as long as the picture."""
    first = seconds.iloc[0]
    random = rng(int(first["seed"]), "sound")
    music = _music(len(seconds) * RATE, random)
    wave = music * _gain(music, MUSIC)
    for _, span in seconds.groupby("span"):
        kind = SOUNDS[span["sound"].iloc[0]]
        start, end = (int(span["start"].iloc[i]) + (i < 0) for i in (0, -1))
        line = lines.get(int(span["line"].iloc[0]))
        place = slice(start * RATE, end * RATE)
        heard = _heard(kind.source, line, music[place], random)
        if heard is not None:
            wave[place] += heard * _gain(heard, kind.level) * _fades(len(heard))
    wave *= 10 ** (random.normal(0, VOLUME) / 20)
    wave *= min(1.0, 0.95 / np.abs(wave).max())
    wave = soxr.resample(wave, RATE, SOUND_RATE, quality="HQ")
    samples = round(first["length"] * SOUND_RATE)
    return np.pad(wave, (0, max(0, samples - len(wave))))[:samples].astype(np.float32)


def _heard(
    source: str, line: np.ndarray | None, music: np.ndarray, random: np.random.Generator
) -> np.ndarray | None:
    """(N,) what a span adds to its music, over and over to its end; None: nothing."""
    if source == "line" and line is not None and line.any():
        return np.resize(line, len(music))
    if source == "claps":
        return _claps(len(music), random)
    return music if source == "music" else None


def _claps(number: int, random: np.random.Generator) -> np.ndarray:
    """Many hands: bursts of noise that die away in 10 ms, at random times."""
    hits = (random.random(number) < CLAPS / RATE) * random.uniform(0.3, 1, number)
    decay = np.exp(-np.arange(RATE // 20) / (RATE / 100))
    envelope = np.convolve(hits, decay)[:number]
    return (envelope + 0.05) * random.standard_normal(number)


def _music(number: int, random: np.random.Generator) -> np.ndarray:
    """Broken chords of plucked tones."""
    key, beat = 220 * 2 ** (random.integers(12) / 12), int(BEAT * RATE)
    time = np.arange(2 * beat) / RATE
    wave = np.zeros(number + 2 * beat)
    for i, start in enumerate(range(0, number, beat)):
        chord = CHORDS[i // 4 % len(CHORDS)]
        hertz = key * 2 ** (chord[random.integers(3)] / 12)
        tone = sum(np.sin(2 * np.pi * hertz * n * time) / n**1.5 for n in (1, 2, 3))
        wave[start : start + 2 * beat] += tone * np.exp(-3 * time)
    return wave[:number]


def _gain(wave: np.ndarray, level: float) -> float:
    """What makes the root mean square of a wave `level` dB full scale."""
    return 10 ** (level / 20) / (np.sqrt(np.mean(np.square(wave))) + 1e-9)


def _fades(number: int) -> np.ndarray:
    edge = np.minimum(np.arange(number), np.arange(number)[::-1])
    return np.minimum(1.0, (edge + 1) / FADE)


# --- the file ------------------------------------------------------------------------------------


def encode(
    pictures: Iterable[np.ndarray], rate: Fraction, samples: np.ndarray, hertz: int = SOUND_RATE
) -> bytes:
    """(H, W, 3) uint8 RGB pictures, `rate` a second, and (N,) float mono sound -> mp4.

    Picture n is at n / rate s, sample n at n / hertz s. H and W are even.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("a sample of videos needs PyAV: pip install av==18.1.0") from error
    buffer = io.BytesIO()
    exact = {"fflags": "+bitexact"}  # names no version
    with av.open(buffer, "w", format="mp4", options=exact) as file:
        sound = file.add_stream("aac", rate=hertz, layout="mono", options=AAC)
        sound.bit_rate = SOUND_BITS
        film = None
        for number, picture in enumerate(pictures):
            film = film or _film(file, rate, picture.shape)
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.pts, image.time_base = number, 1 / rate
            file.mux(film.encode(image))
        file.mux(film.encode())
        for start in range(0, len(samples), BLOCK):
            block = np.ascontiguousarray(samples[None, start : start + BLOCK], np.float32)
            part = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            part.rate, part.pts, part.time_base = hertz, start, Fraction(1, hertz)
            file.mux(sound.encode(part))
        file.mux(sound.encode())
    return buffer.getvalue()


def _film(file: object, rate: Fraction, shape: tuple[int, ...]) -> object:
    """An H.264 stream of one thread."""
    film = file.add_stream("libx264", rate=rate, options=X264)
    film.height, film.width, film.pix_fmt = shape[0], shape[1], "yuv420p"
    film.codec_context.thread_count = 1
    return film

"""A voice for the sample corpus: Korean text and an emotion in, sound out. NumPy only.

Source and filter: a band-limited pulse train whose pitch moves, plus breath and consonant noise,
shaped frame by frame by the formants of the vowels in the text. An emotion changes pitch, tempo,
spectral tilt, breath and modulation, not only loudness, so it survives standardisation.
"""

from typing import NamedTuple

import numpy as np

RATE = 16_000  # Hz
FRAME, STEP = 512, 128  # samples: 32 ms, 8 ms
SYLLABLE = 0.13  # s, at a neutral tempo
LEAD = 0.1  # s of room noise before and after, at least
# Vowels of a man, Hz: the first three formants (textbook values, rounded)
FORMANTS = {
    "a": (750, 1250, 2550),
    "e": (520, 1850, 2550),
    "v": (580, 1000, 2500),
    "o": (430, 800, 2450),
    "u": (370, 850, 2350),
    "x": (400, 1350, 2400),
    "i": (300, 2250, 3000),
}
HIGH_FORMANTS = (3500, 4500)  # Hz, the same in every vowel
# where each of the 21 Unicode medials begins and ends
MEDIALS = "aa ee ia ie vv ee iv ie oo ua ue ue io uu uv ue ui iu xx xi ii".split()
INITIALS = "kknttrmppss.cccktph"  # the 19 Unicode initials, by how they are made
# noise centre in Hz, noise level in dB, how far the voice drops in dB
CONSONANTS = {
    "k": (2000, -14, 30),
    "t": (3500, -12, 30),
    "p": (1000, -16, 30),
    "c": (4000, -6, 35),
    "s": (5500, -4, 40),
    "h": (1500, -16, 15),
    "n": (1, -99, 9),
    "m": (1, -99, 10),
    "r": (1, -99, 6),
    ".": (1, -99, 0),
}
NASAL_FINALS = (4, 16, 21)  # Unicode finals n, m, ng: the voice goes on


class Style(NamedTuple):
    """How something is said, as a difference from the speaker's own plain voice."""

    pitch: float = 0.0  # semitones
    range: float = 0.0  # octaves of widening: 1 doubles every pitch movement
    final: float = 0.0  # semitones of rise over the last syllables
    loud: float = 0.0  # dB
    tempo: float = 0.0  # octaves: 1 is twice as fast
    tilt: float = 0.0  # dB per octave above 200 Hz: positive is brighter
    breath: float = 0.0  # dB
    tremor: float = 0.0  # semitones, at about 7 Hz
    stress: float = 0.0  # dB between stressed and unstressed syllables
    rough: float = 0.0  # semitones of cycle-to-cycle pitch noise
    size: float = 0.0  # octaves of formant shift: positive is a smaller, smiling mouth


STYLES = {
    "disgust": Style(-3.0, 0.0, -4.0, 0.5, -0.35, -0.5, 1.0, 0.0, 4.0, 0.9, -0.11),
    "angry": Style(2.5, 0.3, -4.0, 6.0, 0.2, 2.8, -4.0, 0.0, 5.0, 0.3, 0.0),
    "sad": Style(-1.5, -0.9, -1.0, -5.0, -0.35, -2.2, 6.0, 0.2, -2.5, 0.0, -0.02),
    "fear": Style(5.0, -0.5, 0.0, -1.0, 0.35, -0.6, 7.0, 0.9, -1.5, 0.4, 0.02),
    "surprise": Style(5.0, 0.7, 8.0, 3.0, -0.05, 0.8, 0.0, 0.0, 1.0, 0.0, 0.0),
    "neutral": Style(),
    "happy": Style(3.0, 0.8, 1.0, 3.0, 0.1, 1.0, -1.0, 0.0, 3.0, 0.0, 0.1),
}
UTTERANCE_SPREAD = Style(0.8, 0.12, 1.2, 1.5, 0.08, 0.4, 1.2, 0.04, 0.7, 0.05, 0.012)
SPEAKER_SPREAD = Style(1.2, 0.12, 0.7, 4.0, 0.08, 0.7, 1.5, 0.03, 0.5, 0.05, 0.04)


class Voice(NamedTuple):
    """One speaker in front of one microphone."""

    pitch: float  # Hz
    size: float  # formants are multiplied by this
    habit: Style
    timbre: np.ndarray  # (FRAME // 2 + 1,) dB
    noise: float  # dB full scale


def voice(sex: str, random: np.random.Generator) -> Voice:
    """A new speaker: `sex` is "F" or "M"."""
    pitch, size = (205.0, 1.16) if sex == "F" else (118.0, 1.0)
    octave = np.log2(1 + np.arange(FRAME // 2 + 1) / 8) / 5  # 0..1, evenly heard
    waves = np.cos(np.pi * np.outer(np.arange(1, 5), octave))
    timbre = random.normal(0, 2.5, 4) @ waves
    return Voice(pitch, size, _spread(SPEAKER_SPREAD, random), timbre, random.normal(-66, 3))


def speak(text: str, emotion: str, strength: float, who: Voice, random: np.random.Generator):
    """float32 samples in [-1, 1] at 16 kHz; `strength` 0 is no acting, 1 a full one."""
    acted = np.multiply(STYLES[emotion], strength)
    style = Style(*(acted + who.habit + _spread(UTTERANCE_SPREAD, random)))
    track = _articulate(text, style, random)
    frames = len(track["level"])
    pitch = _intonation(track, style, who.pitch, random)
    pulses = _cut(_pulses(np.repeat(pitch, STEP)), frames)
    hiss = _cut(8 * random.standard_normal(frames * STEP, dtype=np.float32), frames)
    voiced, noise, room = _filters(track, style, who)
    wave = _join(pulses * voiced + hiss * noise)
    gain = 10 ** ((-27 + style.loud) / 20) / (np.sqrt(np.mean(wave**2)) + 1e-9)
    wave = wave * gain + _join(hiss * room)
    return (wave * min(1.0, 0.98 / np.abs(wave).max())).astype(np.float32)


def _spread(width: Style, random: np.random.Generator) -> Style:
    return Style(*(random.normal(0, 1, len(width)) * width))


def _articulate(text: str, style: Style, random: np.random.Generator) -> dict[str, np.ndarray]:
    """One value a frame: voiced level and noise level in dB, noise centre, formants in Hz, ..."""
    words = [[ord(c) - 0xAC00 for c in w if "가" <= c <= "힣"] for w in text.split()]
    codes = [code for word in words for code in word] or [0]
    ends = np.cumsum([len(word) for word in words if word] or [1]) - 1
    slow = 2.0**-style.tempo
    length = SYLLABLE * slow * np.exp(random.normal(0, 0.18, len(codes)))
    length[-1] *= 1.5
    pause = np.zeros(len(codes))
    pause[ends] = slow * random.choice([0.02, 0.05, 0.22], len(ends), p=[0.5, 0.3, 0.2])
    lead, tail = LEAD + random.exponential(0.1, 2)
    starts = lead + np.concatenate([[0], np.cumsum(length + pause)[:-1]])
    times = np.arange(0, starts[-1] + length[-1] + tail, STEP / RATE)
    at = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)
    place = (times - starts[at]) / length[at]  # 0..1 within the syllable, outside it silence
    stressed = np.zeros(len(codes))
    stressed[np.concatenate([[0], ends[:-1] + 1])] = 1  # the first syllable of a word
    track = _segments(np.array(codes)[at], place)
    track["level"] += (3 + style.stress) * (stressed[at] - 0.5) + random.normal(0, 1, at[-1] + 1)[
        at
    ]
    track["level"] = _smooth(np.maximum(track["level"], -75.0), 2)
    track["noise"] = _smooth(track["noise"], 1)
    track["formants"] = _smooth(track["formants"], 4)
    voicing = np.where(place <= 1, np.minimum(at + place, at + 1), at + 1)
    return track | {"progress": voicing / len(codes), "stressed": _smooth(stressed[at], 5)}


def _segments(code: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
    """Initial, medial and final of each frame's syllable -> levels, noise centre and formants."""
    initial, medial, final = code // 588, code % 588 // 28, code % 28
    table = np.array([CONSONANTS[c] for c in INITIALS], float)[initial]
    vowels = np.array([[FORMANTS[v] for v in pair] for pair in MEDIALS], float)[medial]
    glide = np.clip(place / 0.6, 0, 1)[:, None]
    onset, coda = place < 0.28, (place > 0.8) & (final > 0)
    speaking = (place >= 0) & (place <= 1)
    closing = np.where(np.isin(final, NASAL_FINALS), 9, 25)
    level = -table[:, 2] * onset - closing * coda
    return {
        "level": np.where(speaking, level, -80.0),
        "noise": np.where(speaking & onset, table[:, 1], -80.0),
        "centre": table[:, 0],
        "formants": vowels[:, 0] * (1 - glide) + vowels[:, 1] * glide,
    }


def _intonation(track: dict, style: Style, base: float, random: np.random.Generator) -> np.ndarray:
    """Pitch in Hz, one value a frame."""
    progress, frames = track["progress"], len(track["progress"])
    seconds = np.arange(frames) * STEP / RATE
    fall = 2.0 - 4.0 * progress
    accent = 2.2 * track["stressed"] + _smooth(random.normal(0, 4, frames), 8)
    moving = (fall + accent) * 2.0**style.range
    end = (style.final - 1.0) * np.clip((progress - 0.75) / 0.25, 0, 1)
    tremor = max(style.tremor, 0) * np.sin(2 * np.pi * (6.5 + random.uniform()) * seconds)
    rough = abs(style.rough) * random.normal(0, 1, frames)
    semitones = style.pitch + moving + end + tremor + rough
    return np.clip(base * 2 ** (semitones / 12), 60, 600)


def _pulses(pitch: np.ndarray) -> np.ndarray:
    """Equal harmonics up to 7.6 kHz in closed form (the Dirichlet kernel). Pitch per sample."""
    half = np.pi * (np.cumsum(pitch / RATE) % 1.0)
    harmonics = np.floor(7600 / pitch)
    bottom = np.sin(half)
    safe = np.where(bottom < 1e-4, 1.0, bottom)
    kernel = np.where(bottom < 1e-4, 2 * harmonics + 1, np.sin((2 * harmonics + 1) * half) / safe)
    return (kernel - 1).astype(np.float32)


def _filters(track: dict, style: Style, who: Voice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Amplitudes (frames, bins) for the pulses and the noise, and (bins,) for the room."""
    hertz = np.arange(FRAME // 2 + 1, dtype=np.float32) * RATE / FRAME
    octave = np.log2(np.maximum(hertz, 200) / 200)
    peaks = np.zeros((len(track["level"]), len(hertz)), np.float32)
    scale = np.float32(who.size * 2**style.size)
    formants = track["formants"].astype(np.float32) * scale
    for number in range(5):
        centre = formants[:, number, None] if number < 3 else scale * HIGH_FORMANTS[number - 3]
        width = 90 + 40 * number
        peaks += (20 - 2 * number) / (1 + ((hertz - centre) / width) ** 2)
    shaped = peaks + who.timbre.astype(np.float32)
    level = track["level"].astype(np.float32)[:, None]
    voiced = shaped + level + ((style.tilt - 7) * octave).astype(np.float32)
    breath = shaped + np.maximum(level, -30) + np.float32(style.breath - 22) - 4 * octave
    centre = track["centre"].astype(np.float32)[:, None]
    burst = track["noise"].astype(np.float32)[:, None] + 3 - 6 * ((hertz - centre) / 1500) ** 2
    room = 10 ** ((who.noise - 18 - 2 * octave) / 20)
    quiet = np.where(level > -45, breath, -80)
    return _amplitude(voiced), _amplitude(quiet) + _amplitude(burst), room.astype(np.float32)


def _amplitude(decibels: np.ndarray) -> np.ndarray:
    return np.exp(decibels * np.float32(np.log(10) / 20))


def _smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Gaussian average over time, `width` frames of standard deviation, edges held."""
    reach = int(3 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    padded = np.pad(values, [(reach, reach)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    rows = [np.convolve(row, kernel / kernel.sum(), "valid") for row in np.atleast_2d(padded.T)]
    return np.array(rows).T.reshape(values.shape)


WINDOW = np.sin(np.pi * (np.arange(FRAME) + 0.5) / FRAME).astype(np.float32)


def _cut(wave: np.ndarray, frames: int) -> np.ndarray:
    """(frames * STEP,) -> (frames, bins) complex spectra."""
    padded = np.pad(wave, (0, FRAME - STEP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP][:frames]
    return np.fft.rfft(windows * WINDOW)


def _join(spectra: np.ndarray) -> np.ndarray:
    """(frames, bins) -> (frames * STEP,): overlap-add, the windows sum to one."""
    parts = np.fft.irfft(spectra, FRAME).astype(np.float32) * (WINDOW / 2)
    wave = np.zeros((len(parts) + FRAME // STEP - 1, STEP), np.float32)
    for number in range(FRAME // STEP):
        wave[number : number + len(parts)] += parts[:, number * STEP : (number + 1) * STEP]
    return wave[: len(parts)].reshape(-1)

"""Who says what in a synthetic AI Hub 263: lines that a situation asks for, and five raters.

The lines are those of the sample corpus; of many more than are wanted, so many of each situation
are kept that their shares are those of the corpus.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soxr

import constants
from corpora.labels.aihub_emotion import ALIASES, RATERS, SPELT
from corpora.layouts.aihub_emotion import HEADER, RELEASES
from corpora.synthetic import dialogues as dialogue_plan
from corpora.synthetic import raters, writing
from utils import digest, rng, seed_of

SIZES = {"sessions": 20, "dialogues": 10, "utterances": 99}  # at most
RELEASE = "5차년도_2차"
COUNTS = {
    "happy": 4_548,
    "angry": 3_263,
    "neutral": 3_253,
    "sad": 2_848,
    "disgust": 2_321,
    "surprise": 1_755,
    "fear": 1_386,
}  # rows of this release by situation
SURPLUS = 3.5  # the share of disgust in the sample plan is less than half of what is wanted here
SAID_AGAIN = 0.04  # share of rows with the words of another one: of 19,374 rows 18,651 are left
DUPLICATES = 4  # rows with the audio of another one, rated anew
ENDS = (".", ".", ".", "?", "!", "")
# Share of rows that raters hear as the situation wants it, by how many of text and voice tell it;
# in the corpus they often differ, nobody says how often.
AGREED = (0.35, 0.6, 0.85)
ALIKE = 0.64  # share of raters who hear what most hear; in the corpus three of five agree in 0.83
INTENSITY = {"neutral": (0.6, 0.3, 0.1), "weak": (0.2, 0.6, 0.2), "acted": (0.05, 0.4, 0.55)}
AGES = 19, 60  # years, of whole ones; the last is left out


def plan(
    sessions: int, dialogues: int, utterances: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is said (as dialogues.plan), and the rows of it as aihub_emotion.read gives them.

    `sessions` x `dialogues` people say `utterances` lines each; who and where no row tells.
    """
    seed = seed_of(seed, "aihub_emotion")  # other lines and voices than in other layouts
    random, number = rng(seed, "rows"), sessions * dialogues * utterances
    free = math.ceil(2.5 * dialogues)  # two in five of a plan are improvised
    spoken = dialogue_plan.plan(sessions, free, math.ceil(SURPLUS * utterances), seed)
    spoken = _keep(spoken[spoken["kind"] == "impro"], number, random)
    ids = [digest([seed, "wav", row], 24) for row in range(number)]
    spoken = spoken.assign(segment=ids, silent=False, **_people(number, utterances, random))
    acted = ["line", "latent", "told", "strength"]
    _repeat(spoken, np.flatnonzero(random.random(number) < SAID_AGAIN), acted, random)
    same = [*acted, "segment", "speaker", "age", "gender"]
    _repeat(spoken, random.permutation(number)[: min(DUPLICATES, number // 10)], same, random)
    ratings = [_rated(row, random) for row in spoken.to_dict("records")]
    table = pd.DataFrame(ratings).assign(
        segment=ids,
        situation=spoken["latent"],
        age=spoken["age"],
        gender=spoken["gender"],
        release=RELEASE,
        transcript=[_written(line, random) for line in spoken["line"]],
    )
    return spoken, table


def _keep(rows: pd.DataFrame, number: int, random: np.random.Generator) -> pd.DataFrame:
    """`number` rows in any order: of each emotion its share, new lines before recurring ones."""
    rows = rows.sample(frac=1, random_state=random)
    again = rows.groupby("line").cumcount().sort_values(kind="stable")
    rows = rows.loc[again.index].reset_index(drop=True)
    wanted = rows["latent"].map(COUNTS) / sum(COUNTS.values()) * number
    place = (rows.groupby("latent").cumcount() + 0.5) / wanted  # under 1: wanted
    kept = place.sort_values(kind="stable").index[:number]
    return rows.loc[random.permutation(kept)].reset_index(drop=True)


def _people(number: int, utterances: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Who says each of `number` rows, `utterances` a person; the last letter is the voice's sex."""
    persons = random.permutation(np.arange(number) // utterances)
    sexes = random.permutation(np.resize(["F", "M"], number))[persons]
    ages = random.integers(*AGES, number)[persons]
    names = [f"aihub{person:05d}_{sex}" for person, sex in zip(persons, sexes, strict=True)]
    gender = np.where(sexes == "F", "female", "male")
    return {"speaker": np.array(names), "age": ages.astype(str), "gender": gender}


def _repeat(
    spoken: pd.DataFrame, rows: np.ndarray, columns: list[str], random: np.random.Generator
) -> None:
    """Give `rows` the `columns` of others."""
    others = np.setdiff1d(np.arange(len(spoken)), rows)
    spoken.loc[rows, columns] = spoken.loc[random.choice(others, len(rows)), columns].to_numpy()


def _rated(row: dict, random: np.random.Generator) -> dict[str, str]:
    """What five raters hear, and how much of it."""
    meant = row["latent"]
    heard = meant if random.random() < AGREED[row["told"]] else _other(meant, random)
    labels = [heard if random.random() < ALIKE else _other(heard, random) for _ in range(RATERS)]
    acted = "weak" if row["strength"] < 0.5 else "acted"
    kinds = ["neutral" if label == "neutral" else acted for label in labels]
    strengths = [random.choice(len(INTENSITY[kind]), p=INTENSITY[kind]) for kind in kinds]
    return {"rater_emotion": ";".join(labels), "rater_intensity": ";".join(map(str, strengths))}


def _other(emotion: str, random: np.random.Generator) -> str:
    shares = raters.MISHEARD[emotion]
    return str(random.choice(list(shares), p=list(shares.values())))


def _written(line: str, random: np.random.Generator) -> str:
    """A line as it is printed: a comma here and there, a stop at the end."""
    first, *rest = line.split(" ")
    comma = "," if rest and random.random() < 0.3 else ""
    return " ".join([first + comma, *rest]) + str(random.choice(ENDS))


RATE = 48_000  # Hz


LOWER_EVERY = (
    8  # one row in eight spells its raters' labels like its situation's, the rest "Happiness"
)


def write_sample(
    folder: Path,
    utterances: pd.DataFrame,
    waves: Callable[[int], np.ndarray | None],
    sample_rate: int = constants.SAMPLE_RATE,
) -> None:
    """Lay rows down as AI Hub 263 lies: annotation/X.csv, wav/; the same input, the same bytes.

    `utterances`: what aihub_emotion.read gives, or of that `segment`, `situation`, `rater_emotion`,
    `rater_intensity`, `age`, `gender`, `release`, and `text` or `transcript`, which goes before it.
    `waves(i)`: (T,) float in [-1, 1] of the i-th row, or None: no wav.
    """
    rows = utterances.to_dict("records")
    for i, row in enumerate(rows):
        samples = waves(i)
        if samples is not None:
            samples = soxr.resample(samples, sample_rate, RATE, quality="HQ")
            data = writing.wav_bytes(samples, RATE)
            writing.write_file(folder / f"wav/{row['segment']}.wav", data)
    for release in dict.fromkeys(utterances["release"]):
        lines = [_cells(row, i) for i, row in enumerate(rows) if row["release"] == release]
        data = writing.table_bytes([*HEADER, *lines], "\r\n").decode().encode("cp949")
        writing.write_file(folder / f"annotation/{release}.csv", data)


def _cells(row: dict, number: int) -> list[str]:
    """The 15 cells of a row."""
    spelt = {ours: theirs for theirs, ours in SPELT.items()}
    if row["release"] == RELEASES[0]:
        spelt |= {ours: theirs for theirs, ours in ALIASES.items()}
    labels = [spelt[label] for label in row["rater_emotion"].split(";")]
    if number % LOWER_EVERY != LOWER_EVERY - 1:
        labels = [label.capitalize() for label in labels]
    pairs = zip(labels, row["rater_intensity"].split(";"), strict=True)
    rated = [cell for pair in pairs for cell in pair]
    words = row["transcript" if "transcript" in row else "text"]
    return [row["segment"], words, spelt[row["situation"]], *rated, row["age"], row["gender"]]

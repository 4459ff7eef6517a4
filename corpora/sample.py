"""A synthetic corpus in the manner of KEMDy19, so that everything runs without a licence.

Forty made-up voices (`_sample_voice.py`) say made-up lines (`_sample_lines.py`) and ten made-up
raters judge them. About a third of the lines could be said in any mood and about a third of the
lines are hardly acted, seldom both at once: text and voice each tell a part. How it lies on disk
is the affair of the leaf whose layout is asked for, which is also what reads it.

    python main.py prepare --data sample
"""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from constants import EMOTIONS, RATERS, ROLES
from corpora import _sample_voice
from corpora._sample_lines import LINES, SLOTS
from utils import UserError, leaf, make_folder, rng, write_json

__all__ = ["ROLES", "SYNTHETIC", "matches", "plan", "write"]

SYNTHETIC = True
VERSION = 1  # a change of any number below makes another corpus
SHARE = {
    "disgust": 0.055, "angry": 0.185, "sad": 0.08, "fear": 0.055, "surprise": 0.105,
    "neutral": 0.375, "happy": 0.145,
}  # of the emotions played; raters hear more of them as neutral  # fmt: skip
STAY = 0.5  # probability that an emotion lasts into the next utterance
AMBIGUOUS = 0.38  # share of lines that fit several emotions
GENERIC = 0.65  # of those, the share that fits any emotion at all
WEAK = {True: 0.07, False: 0.38}  # share hardly acted, by whether the line is ambiguous
LONG = 0.012  # share of utterances of many sentences
# what raters hear instead
MISHEARD = {
    "disgust": {"angry": 0.5, "neutral": 0.35, "sad": 0.15},
    "angry": {"neutral": 0.45, "disgust": 0.35, "sad": 0.1, "surprise": 0.1},
    "sad": {"neutral": 0.65, "fear": 0.15, "angry": 0.1, "disgust": 0.1},
    "fear": {"surprise": 0.45, "neutral": 0.3, "sad": 0.25},
    "surprise": {"neutral": 0.45, "happy": 0.25, "fear": 0.15, "angry": 0.15},
    "neutral": {"happy": 0.25, "sad": 0.25, "angry": 0.2, "surprise": 0.15, "disgust": 0.15},
    "happy": {"neutral": 0.7, "surprise": 0.3},
}
# votes of ten that the emotion itself gets on average, by how many of text and voice tell it
HEARD = (5.4, 6.4, 8.0)
UNSURE = 0.42  # the least share of raters, on average, that an emotion convinces
OUTVOTED = 0.3  # most raters hear another emotion in few rows, else swap the two
# valence and arousal, 1..5
PLANE = {
    "disgust": (2.2, 3.12), "angry": (1.8, 3.79), "sad": (1.89, 2.62), "fear": (1.74, 3.64),
    "surprise": (2.64, 3.64), "neutral": (2.97, 2.98), "happy": (4.32, 3.86),
}  # fmt: skip
# share of transcripts with each mark; legend: annotation.clean_transcript
MARKS = {"b/": 0.21, "o/": 0.155, "n/": 0.073, "l/": 0.064, "u/": 0.05, "N/": 0.011, "c/": 0.005,
         "s/": 0.004}  # fmt: skip
OVERLAP = 0.156  # share of transcripts with a word in parentheses
MURMURS = ("응", "어", "그래", "뭐", "아니")


def matches(folder: Path) -> bool:
    """False: what is written here lies as another corpus does, and that corpus's leaf reads it."""
    return False


def write(
    folder: Path,
    layout: str = "kemdy19",
    sessions: int = 20,
    dialogues: int = 10,
    utterances: int = 6,
    seed: int = 0,
    progress: Callable = tqdm,
) -> None:
    """Lay the corpus into `folder`, new or empty: whole or not at all; equal seeds, equal bytes.

    `sessions` 1..20, `dialogues` a session 1..10, `utterances` a dialogue 1..99; `progress` is
    called as tqdm is. SYNTHETIC.json, the mark that it is whole, says what was made.
    """
    sizes = {
        "sessions": (sessions, 20),
        "dialogues": (dialogues, 10),
        "utterances": (utterances, 99),
    }
    for name, (value, most) in sizes.items():
        if not 1 <= value <= most:
            raise UserError(f"{name} of a sample must be 1 to {most}, not {value}")
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"a sample needs a new or empty folder; {folder} holds other files")
    writer = leaf("corpora", layout)
    if not hasattr(writer, "write_sample"):
        raise UserError(f"a sample cannot be laid out as {layout!r}: it has no write_sample")
    table, spoken = plan(sessions, dialogues, utterances, seed)
    parameters = dict(sessions=sessions, dialogues=dialogues, utterances=utterances, seed=seed)
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        made = make_folder(Path(part) / folder.name)
        total = len(spoken)
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress(total=total, desc="sample", unit="utterance", leave=False) as bar,
        ):
            writer.write_sample(made, table, _ahead(pool, spoken, seed, bar))
        mark = {"synthetic": True, "version": VERSION, "layout": layout, **parameters}
        write_json(made / "SYNTHETIC.json", mark)
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)


def _ahead(pool: ThreadPoolExecutor, spoken: pd.DataFrame, seed: int, bar: tqdm) -> Callable:
    """`waves(i)` -> float32 samples; the next few are made while the caller writes this one."""
    voices = {
        speaker: _sample_voice.voice(speaker[-1], rng(seed, "voice", speaker))
        for speaker in spoken["speaker"].unique()
    }
    rows = list(spoken.itertuples())
    coming = {}

    def make(row) -> np.ndarray:
        random = rng(seed, "wave", row.segment)
        wave = _sample_voice.speak(row.line, row.latent, row.strength, voices[row.speaker], random)
        return wave * (not row.silent)

    def waves(number: int) -> np.ndarray:
        for n in range(number, min(number + 8, len(rows))):
            if n not in coming:
                coming[n] = pool.submit(make, rows[n])
        bar.update()
        return coming.pop(number).result()

    return waves


# --- who says what, in which mood -----------------------------------------------------------------


def plan(sessions: int, dialogues: int, utterances: int, seed: int):
    """(table of both roles as a corpus leaf's `write_sample` takes it, one row a wave to make).

    The table has the utterance columns, `transcript` (None: no file) and, ten to a row, the lists
    `rater_emotion`, `rater_valence`, `rater_arousal`; the speaker's rows come first.
    """
    scripts = round(0.6 * dialogues)
    names = [f"script{n + 1:02d}" for n in range(scripts)]
    names += [f"impro{n + 1:02d}" for n in range(dialogues - scripts)]
    written = _scripts(names[:scripts], utterances, seed)
    rows = []
    for session in range(1, sessions + 1):
        for name in names:
            random = rng(seed, "dialogue", session, name)
            slots = written.get(name) or _improvise(utterances, random)
            rows += _perform(f"Sess{session:02d}", session, name, slots, random)
    spoken = pd.DataFrame(rows)
    _plant(spoken, rng(seed, "oddities"))
    return _tables(spoken, seed), spoken


def _scripts(names: list[str], utterances: int, seed: int) -> dict[str, list[dict]]:
    """The scripts that every session performs: of many drafts, the one nearest to SHARE."""
    drafts = []
    for draft in range(200):
        random = rng(seed, "script", draft)
        moods = _moods(utterances * len(names), utterances, random)
        counts = np.array([moods.count(e) for e in EMOTIONS])
        wanted = len(moods) * np.array([SHARE[e] for e in EMOTIONS])
        drafts.append((float(np.abs(counts - wanted).sum()), draft, moods))
    _, draft, moods = min(drafts)
    random = rng(seed, "lines", draft)
    slots = _slots(moods, random)
    size = utterances
    return {name: slots[n * size : (n + 1) * size] for n, name in enumerate(names)}


def _improvise(utterances: int, random: np.random.Generator) -> list[dict]:
    return _slots(_moods(utterances, utterances, random), random)


def _moods(number: int, utterances: int, random: np.random.Generator) -> list[str]:
    """A chain of emotions that lasts within a dialogue; in the long run it has the shares SHARE."""
    moods = []
    for n in range(number):
        stays = n % utterances and random.random() < STAY
        moods.append(moods[-1] if stays else _draw(SHARE, random))
    return moods


def _draw(shares: dict[str, float], random: np.random.Generator) -> str:
    weights = np.array(list(shares.values()))
    return str(random.choice(list(shares), p=weights / weights.sum()))


def _slots(moods: list[str], random: np.random.Generator) -> list[dict]:
    """What is written for each utterance: who speaks, the line, the emotions it fits."""
    slots, sex = [], str(random.choice(["F", "M"]))
    for mood in moods:
        fits = mood
        if random.random() < AMBIGUOUS:
            shared = [key for key in LINES if mood in key.split() and " " in key]
            generic = not shared or random.random() < GENERIC
            fits = "any" if generic else str(random.choice(shared))
        slots.append({"sex": sex, "mood": mood, "fits": fits, "line": _line(fits, random)})
        sex = sex if random.random() < 0.2 else "FM"[sex == "F"]
    return slots


def _line(fits: str, random: np.random.Generator) -> str:
    """One or two sentences of a kind, seldom many, with the slots filled."""
    more = random.random()
    number = (
        int(random.integers(6, 10)) if more < LONG else 1 + (more < (0.6 if fits == "any" else 0.2))
    )
    line = " ".join(random.choice(LINES[fits], number, replace=False))
    return line.format(**{slot: random.choice(words) for slot, words in SLOTS.items()})


def _perform(prefix: str, session: int, name: str, slots: list[dict], random) -> list[dict]:
    """One dialogue: a line that fits several emotions is acted as one of them, each time anew."""
    rows, count, latest = [], {"F": 0, "M": 0}, {"F": "neutral", "M": "neutral"}
    previous = None
    for slot in slots:
        sex, fits = slot["sex"], slot["fits"]
        able = {e: p for e, p in SHARE.items() if fits == "any" or e in fits.split()}
        stays = previous in able and random.random() < STAY
        mood = previous if stays else _draw(able, random)
        weak = random.random() < WEAK[fits not in EMOTIONS]
        partner = "FM"[sex == "F"]
        count[sex] += 1
        previous = latest[sex] = mood
        rows.append({
            "session": session, "dialogue": f"{prefix}_{name}", "kind": name[:-2],
            "segment": f"{prefix}_{name}_{sex}{count[sex]:03d}", "speaker": f"{prefix}_{sex}",
            "line": slot["line"], "latent": mood, "told": (fits in EMOTIONS) + (not weak),
            "strength": random.uniform(0, 0.3) if weak else random.uniform(0.9, 1.4),
            "partner": str(random.choice([latest[partner], mood, "neutral"], p=[0.5, 0.3, 0.2])),
            "transcript": _mark(slot["line"], random), "silent": False,
        })  # fmt: skip
    return rows


def _mark(line: str, random: np.random.Generator) -> str:
    """The line as a transcriber writes it: breaths, noises and overlapping words noted."""
    words = line.split()
    if random.random() < OVERLAP:
        at, murmur = random.integers(len(words)), random.choice(MURMURS)
        words[at] = f"({words[at]}+{murmur})" if random.random() < 0.6 else f"({words[at]})"
    for mark, share in MARKS.items():
        if random.random() < share:
            words.insert(random.integers(len(words) + 1), mark)
    return " ".join(words)


def _plant(spoken: pd.DataFrame, random: np.random.Generator) -> None:
    """The blemishes of real corpora: a missing and an empty transcript, a wav of zeros."""
    common = spoken.index[spoken["latent"] == "neutral"].to_numpy()
    chosen = random.choice(common, min(3, len(common)), replace=False)
    spoken.loc[chosen[:1], "transcript"] = None
    spoken.loc[chosen[1:2], "transcript"] = ""
    spoken.loc[chosen[2:], "silent"] = True


# --- raters ---------------------------------------------------------------------------------------


def _tables(spoken: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Both roles' rows, rated; times follow from the length of the lines."""
    seconds = spoken["line"].str.len() * 0.16 + 0.8
    spoken["end"] = seconds.groupby(spoken["dialogue"]).cumsum().round(3)
    spoken["start"] = (spoken["end"] - seconds).round(3)
    tables = []
    for role, mood in (("speaker", spoken["latent"]), ("listener", spoken["partner"])):
        random = rng(seed, "raters", role)
        told = spoken["told"] if role == "speaker" else np.minimum(spoken["told"], 1)
        votes = [_votes(m, t, random) for m, t in zip(mood, told, strict=True)]
        _tie_in_every_session(votes, spoken["session"])
        table = spoken.assign(role=role, corpus="sample")
        ratings = [_rate(v, m, random) for v, m in zip(votes, mood, strict=True)]
        columns = ["rater_emotion", "rater_valence", "rater_arousal"]
        tables.append(table.join(pd.DataFrame(ratings, columns=columns)))
    return pd.concat(tables, ignore_index=True)


def _votes(mood: str, told: int, random: np.random.Generator) -> np.ndarray:
    """(7,) counts of ten raters."""
    sure = (HEARD[told] / RATERS - UNSURE) / (1 - UNSURE)
    share = UNSURE + (1 - UNSURE) * random.beta(2.5 * sure, 2.5 * (1 - sure))
    others = random.dirichlet([0.01 + 2 * MISHEARD[mood].get(e, 0.0) for e in EMOTIONS])
    right = np.array(EMOTIONS) == mood
    votes = random.multinomial(RATERS, share * right + (1 - share) * others)
    if votes[right] < votes.max() and random.random() > OUTVOTED:
        votes[[right.argmax(), votes.argmax()]] = votes.max(), votes[right.argmax()]
    return votes


def _tie_in_every_session(votes: list[np.ndarray], session: pd.Series) -> None:
    """Where a session has no tie, its least certain row becomes one."""
    for rows in session.groupby(session).groups.values():
        tops = [np.sort(votes[row])[-2:] for row in rows]
        if not any(second == first for second, first in tops):
            row = rows[int(np.argmin([first - second for second, first in tops]))]
            second, first = np.argsort(votes[row])[-2:]
            split = np.zeros(len(EMOTIONS), int)
            split[[second, first]] = RATERS // 2
            votes[row] = split


def _rate(votes: np.ndarray, mood: str, random: np.random.Generator) -> tuple[list, list, list]:
    """Ten labels, ten valences and ten arousals: each rater goes by his label and by his mood."""
    labels = random.permutation(np.repeat(EMOTIONS, votes)).tolist()
    means = np.array([PLANE[label] for label in labels]) * 0.7 + np.array(PLANE[mood]) * 0.3
    noise = random.normal(0, 0.35, (1, 2)) + random.normal(0, 0.55, (RATERS, 2))
    scores = np.clip(np.rint(means + noise), 1, 5).astype(int)
    return labels, scores[:, 0].tolist(), scores[:, 1].tolist()

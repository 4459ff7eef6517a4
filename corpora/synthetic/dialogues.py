"""Who says what in the sample corpus, and in which mood: dialogues, lines, transcripts.

Scripts are one text that every session performs; improvised dialogues are each their own. Within
a dialogue an emotion tends to last, so what was said before tells something.
"""

import numpy as np
import pandas as pd

from constants import EMOTIONS
from corpora.synthetic.lines import LINES, SLOTS
from utils import rng

SHARE = {
    "disgust": 0.055,
    "angry": 0.185,
    "sad": 0.08,
    "fear": 0.055,
    "surprise": 0.105,
    "neutral": 0.375,
    "happy": 0.145,
}  # of the emotions played; raters hear more of them as neutral
DRAFTS = 100  # of the scripts
STAY = 0.5  # probability that an emotion lasts into the next utterance
AMBIGUOUS = 0.38  # share of lines that fit several emotions
GENERIC = 0.65  # of those, the share that fits any emotion at all
WEAK = {True: 0.07, False: 0.45}  # share hardly acted, by whether the line is ambiguous
LONG = 0.012  # share of utterances of many sentences
TWO = {True: 0.6, False: 0.15}  # share of two or more, by whether the lines are of the short kind
# share of transcripts with each mark; legend: transcripts.clean_transcript
MARKS = {
    "b/": 0.21,
    "o/": 0.155,
    "n/": 0.073,
    "l/": 0.064,
    "u/": 0.05,
    "N/": 0.011,
    "c/": 0.005,
    "s/": 0.004,
}
OVERLAP = 0.156  # share of transcripts with a word in parentheses
TURN = (0.8, 0.16)  # s: of a turn, and of each character of its line
MURMURS = ("응", "어", "그래", "뭐", "아니")


def plan(sessions: int, dialogues: int, utterances: int, seed: int) -> pd.DataFrame:
    """One row a wav: the columns of an utterance up to `end`, and what only its maker knows.

    `transcript` (None: no file), `line` that is said, `latent` emotion, acted with `strength`,
    `told`: how many of text and voice tell it, emotion of the `partner`, `silent` recording.
    """
    scripts = round(0.6 * dialogues)
    names = [f"script{n + 1:02d}" for n in range(scripts)]
    names += [f"impro{n + 1:02d}" for n in range(dialogues - scripts)]
    written = _scripts(names[:scripts], utterances, seed)
    rows = []
    for session in range(1, sessions + 1):
        for name in names:
            random = rng(seed, "dialogue", session, name)
            slots = written[name] if name in written else _improvise(utterances, random)
            rows += _perform(session, name, slots, random)
    spoken = pd.DataFrame(rows)
    seconds = spoken["line"].str.len() * TURN[1] + TURN[0]
    spoken["end"] = seconds.groupby(spoken["dialogue"]).cumsum().round(3)
    spoken["start"] = (spoken["end"] - seconds).round(3)
    _plant(spoken, rng(seed, "oddities"))
    return spoken


def _scripts(names: list[str], utterances: int, seed: int) -> dict[str, list[dict]]:
    """The scripts that every session performs: of DRAFTS, the one whose telling lines are nearest
    to SHARE, else a seed could leave a rare emotion without any."""
    wanted = utterances * len(names) * (1 - AMBIGUOUS) * np.array([SHARE[e] for e in EMOTIONS])
    drafts = []
    for draft in range(DRAFTS):
        random = rng(seed, "script", draft)
        slots = _slots(_moods(utterances * len(names), utterances, random), random)
        kinds = [slot["fits"] for slot in slots]
        counts = np.array([kinds.count(emotion) for emotion in EMOTIONS])
        drafts.append((float(((counts - wanted) ** 2 / wanted.clip(1e-9)).sum()), draft, slots))
    _, _, slots = min(drafts)
    return {name: slots[n * utterances :][:utterances] for n, name in enumerate(names)}


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
    number = int(random.integers(5, 9)) if more < LONG else 1 + (more < TWO[fits == "any"])
    line = " ".join(random.choice(LINES[fits], min(number, len(LINES[fits])), replace=False))
    return line.format(**{slot: random.choice(words) for slot, words in SLOTS.items()})


def _perform(session: int, name: str, slots: list[dict], random: np.random.Generator) -> list[dict]:
    """One dialogue: a line that fits several emotions is acted as one of them, each time anew."""
    rows, count, latest = [], {"F": 0, "M": 0}, {"F": "neutral", "M": "neutral"}
    previous, prefix = None, f"Sess{session:02d}"
    for slot in slots:
        sex, fits = slot["sex"], slot["fits"]
        able = {e: p for e, p in SHARE.items() if fits == "any" or e in fits.split()}
        stays = previous in able and random.random() < STAY
        mood = previous if stays else _draw(able, random)
        weak = random.random() < WEAK[fits not in EMOTIONS]
        partner = "FM"[sex == "F"]
        count[sex] += 1
        previous = latest[sex] = mood
        rows.append(
            {
                "session": session,
                "dialogue": f"{prefix}_{name}",
                "kind": name[:-2],
                "segment": f"{prefix}_{name}_{sex}{count[sex]:03d}",
                "speaker": f"{prefix}_{sex}",
                "line": slot["line"],
                "latent": mood,
                "told": (fits in EMOTIONS) + (not weak),
                "strength": random.uniform(0, 0.3) if weak else random.uniform(0.9, 1.4),
                "partner": str(
                    random.choice([latest[partner], mood, "neutral"], p=[0.5, 0.3, 0.2])
                ),
                "transcript": _mark(slot["line"], random),
                "silent": False,
            }
        )
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

"""What happens in a synthetic AI Hub 616, second by second, and what three annotators mark of it.

Highlights are planted in sound, in picture and in both. Each is two things at once (an excited
voice that is loud, a bright picture that is fast), and elsewhere is one without the other, so that
neither loudness nor brightness alone tells. How it looks and sounds is in film.py.
"""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from corpora.layouts.aihub_highlight import group
from corpora.synthetic import film, writing
from corpora.synthetic import lines as spoken_lines
from utils import rng, seed_of

SIZES = {"sessions": 16, "dialogues": 2, "utterances": 12}  # at most: groups, videos, lines of each
CATEGORIES = (
    "기타",
    "반려동물및동물",
    "스타일링및뷰티",
    "스포츠",
    "여행",
    "음식",
    "일상",
    "자동차",
)
NUMBERS = 20_000  # of videos, as in their names
SECONDS = 48, 90  # of a video; the last is left out
RATES = ((8, 1), (10, 1), (12, 1), (12_000, 1001))  # frames a second, as fractions
SHAPES = ((96, 96), (128, 96), (160, 120), (96, 128))  # width, height
SHARE = 0.19  # of the seconds are highlights; annotators are to mark 5 to 25 %
HIGHLIGHT = 4  # s, about
KINDS = ("sound", "picture", "both")
TALK = 0.6  # share of what lies between that is talk, the rest is music alone
EXCITED = ("surprise", "happy", "angry")  # moods of the lines of highlights
FALSE = (  # sound and picture of what is no highlight but half of one
    ("shout", "plain"),
    ("blare", "plain"),
    ("mutter", "plain"),
    ("talk", "pale"),
    ("music", "dim"),
)
ANNOTATORS = 3  # of a video
POOL = 12  # annotators there are
SHIFTS = (-2, -1, 0, 1, 2), (0.07, 0.2, 0.46, 0.2, 0.07)  # s, of a start or an end, and how often
MISSED = 0.1  # share of highlights that an annotator passes over
SPURIOUS = 0.2  # share of annotators who mark something else, too


def plan(
    sessions: int, dialogues: int, utterances: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines that are said, and one row a second: `dialogues` videos in each of groups 1..N.

    Lines have `speaker`, `segment`, `line`, `latent` emotion, its `strength`, `silent`. A second
    has `dialogue` (name of the video), `session`, `start`, `span` (number within the video),
    `planted` (one of KINDS, or ""), `sound` and `picture` (names in _aihub_highlight_film), `line`
    (row of the lines, -1: none), `marks`, and of its video `annotators`, `class_code`, `length` in
    s, `rate`, `shape` and `seed`.
    """
    seed = seed_of(seed, "aihub_highlight")  # other lines and voices than in other layouts
    names, lines, videos = set(), [], []
    for number in range(sessions * dialogues):
        random = rng(seed, "video", number)
        category = number % len(CATEGORIES)
        name = _name(CATEGORIES[category], number // dialogues + 1, names, random)
        said = _lines(name, utterances, random)
        video = _video(name, said, len(lines), random)
        lines += said
        videos.append(
            video.assign(class_code=category + 1, number=number, seed=seed_of(seed, "film", name))
        )
    return pd.DataFrame(lines), pd.concat(videos, ignore_index=True)


def _name(category: str, wanted: int, names: set[str], random: np.random.Generator) -> str:
    """유튜브_<category>_<number>, in NFC: the first number from a random one on in that group."""
    start = int(random.integers(NUMBERS))
    for number in range(start, start + NUMBERS):
        name = unicodedata.normalize("NFC", f"유튜브_{category}_{number % NUMBERS:04d}")
        if name not in names and group(name) == wanted:
            names.add(name)
            return name
    raise AssertionError(f"no name of {category} is left in group {wanted}")


def _lines(video: str, number: int, random: np.random.Generator) -> list[dict]:
    """Lines of one voice, excited and calm by turns."""
    sex, rows = str(random.choice(["F", "M"])), []
    for i in range(number):
        mood = str(random.choice(EXCITED)) if i % 2 == 0 else "neutral"
        line = str(random.choice(spoken_lines.LINES[mood]))
        words = {slot: random.choice(some) for slot, some in spoken_lines.SLOTS.items()}
        rows.append(
            {
                "speaker": f"{video}_{sex}",
                "segment": f"{video}_{i + 1:03d}",
                "silent": False,
                "line": line.format(**words),
                "latent": mood,
                "strength": random.uniform(1.0, 1.3) if i % 2 == 0 else random.uniform(0.2, 0.6),
            }
        )
    return rows


def _video(name: str, said: list[dict], first: int, random: np.random.Generator) -> pd.DataFrame:
    """Seconds of one video; its lines are those from row `first` on."""
    whole = int(random.integers(*SECONDS))
    rate = RATES[random.integers(len(RATES))]
    frames = int((whole - 0.8 * random.random()) * rate[0] / rate[1])
    spans = _spans(whole, random)
    rows = []
    for number, (seconds, planted, sound, picture) in enumerate(spans):
        calm = [i for i in range(len(said)) if said[i]["latent"] == "neutral"]
        able = {"talk": calm, "shout": calm}.get(sound, [*range(0, len(said), 2)])
        voiced = sound in ("talk", "shout", "mutter", "cheer") and able
        line = first + able[number % len(able)] if voiced else -1
        rows += [(number, planted, sound, picture, line)] * seconds
    table = pd.DataFrame(rows, columns=["span", "planted", "sound", "picture", "line"])
    who = sorted(random.choice(POOL, ANNOTATORS, replace=False) + 1)
    marks = np.stack([_marked(table, random) for _ in who], axis=1)
    return table.assign(
        dialogue=name,
        session=group(name),
        start=range(whole),
        marks=[";".join(map(str, row)) for row in marks],
        annotators=";".join(f"{n:04d}" for n in who),
        length=frames * rate[1] / rate[0],
        frames=frames,
        rate="/".join(map(str, rate)),
        shape="x".join(map(str, SHAPES[random.integers(len(SHAPES))])),
    )


def _spans(whole: int, random: np.random.Generator) -> list[tuple[int, str, str, str]]:
    """(seconds, planted, sound, picture) one after the other, `whole` seconds together."""
    total = round(SHARE * whole)
    number = max(len(KINDS), total // HIGHLIGHT)
    first = random.integers(len(KINDS))
    special = []
    for i in range(number):
        kind = KINDS[(first + i) % len(KINDS)]
        sound = str(random.choice(["cheer", "applause"])) if kind != "picture" else _between(random)
        picture = "flash" if kind != "sound" else "plain"
        special.append((total // number + (i < total % number), kind, sound, picture))
    special += [(int(random.integers(2, 4)), "", *pair) for pair in FALSE]
    special = [special[i] for i in random.permutation(len(special))]
    spare = whole - sum(span[0] for span in special) - (len(special) + 1)  # 1 s between, at least
    gaps = 1 + random.multinomial(spare, np.full(len(special) + 1, 1 / (len(special) + 1)))
    spans = []
    for gap, span in zip(gaps, [*special, None], strict=True):
        spans.append((int(gap), "", _between(random), "plain"))
        spans += [span] if span else []
    return spans


def _between(random: np.random.Generator) -> str:
    return "talk" if random.random() < TALK else "music"


def _marked(seconds: pd.DataFrame, random: np.random.Generator) -> np.ndarray:
    """(seconds,) 0 or 1: what one annotator marks, too early or late, and not all of it."""
    marks = np.zeros(len(seconds), int)
    for _, span in seconds[seconds["planted"] != ""].groupby("span"):
        if random.random() < MISSED:
            continue
        shifts = random.choice(SHIFTS[0], 2, p=SHIFTS[1])
        start = max(0, span.index[0] + shifts[0])
        end = max(start + 1, span.index[-1] + 1 + shifts[1])
        marks[start:end] = 1
    if random.random() < SPURIOUS:
        start = random.integers(len(seconds) - 2)
        marks[start : start + 2] = 1
    return marks


TOP = "042.동영상 콘텐츠 하이라이트 편집 및 설명(요약) 데이터/01.데이터"


VALIDATION = 4  # groups that lie in 2.Validation, the first ones; the others in 1.Training


PLANTED = "planted.json"  # what tests and benchmarks compare with; nothing else reads it


def write_sample(
    folder: Path, utterances: pd.DataFrame, waves: Callable[[int], np.ndarray]
) -> None:
    """Lay rows of `plan` down as AI Hub 616 lies; equal input, equal bytes.

    `waves(i)`: (N,) float in [-1, 1] at 16 kHz, the i-th line that is said. What was planted, by
    video, is written to planted.json, ends inclusive as in the labels.
    """
    planted = {}
    for name, seconds in utterances.groupby("dialogue", sort=False):
        first = seconds.iloc[0]
        lines = sorted({*seconds["line"]} - {-1})
        data = film.make(seconds, {line: waves(line) for line in lines})
        part, letter = (
            ("2.Validation", "V") if first["session"] <= VALIDATION else ("1.Training", "T")
        )
        place = folder / TOP / part
        writing.write_file(place / f"원천데이터/{letter}S_유튜브_01/{name}.mp4", data)
        for number, annotator in enumerate(first["annotators"].split(";")):
            label = json.dumps(_label(seconds, annotator, number), ensure_ascii=False, indent=2)
            path = place / f"라벨링데이터/{letter}L_유튜브/{name}_{annotator}.json"
            writing.write_file(path, label.encode())
        planted[name] = _planted(seconds)
    data = json.dumps(planted, ensure_ascii=False, indent=1).encode()
    writing.write_file(folder / PLANTED, data)


def _label(seconds: pd.DataFrame, annotator: str, number: int) -> dict:
    """What one annotator of a video says, as JSON of the corpus."""
    first = seconds.iloc[0]
    marked = seconds["marks"].str.split(";").str[number] == "1"
    runs = _runs(marked.tolist())
    return {
        "metadata": {
            "file_name": f"{first['dialogue']}.mp4",
            "type": "유튜브",
            "length": round(float(first["length"]), 3),
            "quality": "synthetic",
            "date": "2000-01-01",
            "license": "synthetic",
            "class_code": int(first["class_code"]),
            "annotator_id": annotator,
        },
        "timelines": [
            {"id": i, "start": start, "end": end - 1, "attributes": _attributes(start)}
            for i, (start, end, _) in enumerate(((s, e, v) for s, e, v in runs if v), start=1)
        ],
    }


def _attributes(start: int) -> dict[str, int]:
    """Codes in their ranges; which thing each stands for is not known."""
    return {
        "place": start % 21 + 1,
        "action": start % 65 + 1,
        "emotion": start % 7 + 1,
        "relationship": start % 12 + 1,
    }


def _planted(seconds: pd.DataFrame) -> list[dict]:
    spans = _runs(list(zip(seconds["span"], seconds["planted"], strict=True)))
    return [
        {"start": start, "end": end - 1, "kind": kind} for start, end, (_, kind) in spans if kind
    ]


def _runs(values: list) -> list[tuple[int, int, object]]:
    """(start, end, value) of runs of equal values, the end left out."""
    edges = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1]), len(values)]
    return [(a, b, values[a]) for a, b in zip(edges, edges[1:], strict=False)]

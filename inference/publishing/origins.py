"""Where a published model comes from: its corpora and their terms, its sessions, its encoders.

What is known of a corpus stands in CORPORA; of one that is not there, no more than its name.
`configuration` is always what config.json holds, see portable.py.
"""

from typing import NamedTuple

import model as models
from reporting.formatting import sessions

# which encoder makes a feature, and which is part of the model that reads it
MADE_BY = {
    "sentence": "text_encoder",
    "text_states": "text_encoder",
    "frames": "vision_encoder",
    "speech_states": "speech_encoder",
    "speech_layers": "speech_encoder",
}
WITHIN = {"tokens": "text_encoder", "waveform": "speech_encoder"}
PLAIN = ("char-ngram", "colour-motion")  # encoders without weights
ETRI = (
    "is licensed by ETRI under a signed agreement and may not be passed on; whether a model "
    "trained on it may be, that agreement says"
)
AIHUB = (
    "is had from AI Hub (https://aihub.or.kr) with an approved account, under its terms of "
    "use; whether a model trained on it may be passed on, they say"
)
RATED = "what ten raters perceived"


class About(NamedTuple):
    """A corpus: its name, who speaks in it, what its labels are, what its licence asks for."""

    title: str
    speech: str
    truth: str
    terms: str


CORPORA = {
    "kemdy19": About(
        "KEMDy19", "acted dialogues of Korean voice actors, scripted and improvised", RATED, ETRI
    ),
    "kemdy20": About(
        "KEMDy20",
        "free talk of Korean adults of 19 to 39 years about videos that "
        "they had just seen, nearly all of it neutral",
        RATED,
        ETRI,
    ),
    "aihub_emotion": About(
        "AI Hub 263",
        "lines that people spoke as a situation asked for",
        "what five raters perceived, or that situation: labels in config.json",
        AIHUB,
    ),
    "aihub_highlight": About("AI Hub 616", "videos", "what annotators marked", AIHUB),
}


def named(configuration: dict) -> dict[str, dict]:
    """{name: what a run says of that corpus}, the tested one first.

    The code of 2022, which says nothing, read KEMDy19 alone.
    """
    found = [{"name": "kemdy19"}]
    if "corpus" in configuration:
        found = [configuration["corpus"], *configuration["extra"]]
    return {corpus.get("label") or corpus["name"]: corpus for corpus in found}


def corpora(configuration: dict) -> dict[str, About]:
    """What is known of each corpus; of a synthetic one, what it is laid out like."""
    found = {}
    for name, corpus in named(configuration).items():
        about = CORPORA.get(name, About(name, "", "", "has terms that this card does not know"))
        if corpus.get("synthetic"):
            about = About(
                f"a synthetic corpus laid out like {about.title}",
                "made-up voices",
                "made-up ratings",
                "was made by a program and has no terms",
            )
        found[name] = about
    return found


def is_synthetic(configuration: dict, result: dict) -> bool:
    """Whether any corpus was made up: then no number of it is a result."""
    parts = named(configuration).values()
    return bool(result.get("synthetic")) or any(corpus.get("synthetic") for corpus in parts)


def split(configuration: dict) -> dict[str, str]:
    """What was done with which sessions."""
    if "split" not in configuration:  # the code of 2022 trained on all the others
        return {"held out in training": sessions(configuration["test_split"])}
    parts = [configuration["split"], *(extra["split"] for extra in configuration["extra"])]
    found = {}
    for how, key in (("trained on", "train"), ("validated on", "val"), ("tested on", "test")):
        texts = [
            sessions(part[key]) if len(parts) == 1 else f"{sessions(part[key])} of {name}"
            for part, name in zip(parts, named(configuration), strict=True)
            if part[key]
        ]
        found |= {how: "; ".join(texts)} if texts else {}
    return found


def inputs(configuration: dict) -> tuple[str, ...]:
    """The features that the model reads."""
    return models.inputs(configuration["model"], configuration)


def encoders(configuration: dict) -> list[dict]:
    """Pretrained ones: name, flag, whether it is `within` the model, whether it is `on_hub`."""
    found = []
    for feature in inputs(configuration):
        flag = WITHIN.get(feature) or MADE_BY.get(feature)
        name = configuration.get(flag) if flag else None
        if name and name not in PLAIN:
            about = {"name": name, "flag": flag, "within": feature in WITHIN}
            found.append(about | {"on_hub": not name.startswith("./")})
    return found

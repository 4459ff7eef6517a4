"""Who is trained on, who is tested, and which utterances a window holds. Pandas and NumPy only.

What must not stand on both sides is in `leakage.py`, intervals and significance in `bootstrap.py`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

import constants
from constants import EVENTS
from corpora.preparation import CorpusSettings
from utils import UserError, setting


class Split(NamedTuple):
    """Sessions of each set, sorted; nothing is in two of them."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def of(self, sessions: pd.Series) -> np.ndarray:
        """The set of each row: "train", "val" or "test"."""
        name = np.full(len(sessions), "train", dtype=object)
        name[sessions.isin(self.val).to_numpy()] = "val"
        name[sessions.isin(self.test).to_numpy()] = "test"
        return name


def parse_sessions(words: Iterable[str], flag: str = "--test_split") -> tuple[int, ...]:
    """`[13,14]`, `[13, 14]`, `13 14` and `13,14` -> (13, 14); anything else is a UserError."""
    text = " ".join(words).strip()
    if not re.fullmatch(r"\[?[\d\s,]*\]?", text):
        raise UserError(f"{flag} needs session numbers such as [13,14,15,16], got {text!r}")
    return tuple(sorted({int(number) for number in re.findall(r"\d+", text)}))


@dataclass(frozen=True)
class DataSettings(CorpusSettings):
    """Who is trained on and tested, on what, and with which encoders."""

    SorL: str = setting(
        constants.SOR_L,
        "whose emotion: of the one who speaks or of the one who listens",
        choices=constants.ROLES,
    )
    test_split: tuple[int, ...] = setting(
        constants.TEST_SPLIT,
        "sessions to test on, [13,14,15,16] or 13 14 15 16",
        words="*",
        read=parse_sessions,
        metavar="SESSION",
        with_test=True,
    )
    val_split: tuple[int, ...] = setting(
        (),
        "sessions to choose the epoch by (default: none, the last epoch is kept)",
        words="*",
        read=parse_sessions,
        metavar="SESSION",
    )
    leave_out: tuple[int, ...] = setting(
        (),
        "sessions that are neither trained on nor tested on",
        words="*",
        read=parse_sessions,
        metavar="SESSION",
    )
    vision_encoder: str = setting(
        constants.VISION_ENCODER,
        "hub id or folder of a ViT, for models that see frames of a video, or colour-motion",
        metavar="ID",
        with_test=True,
    )
    train_extra: tuple[str, ...] = setting(
        (), "more corpora to train on; they are not tested on", words="*", metavar="CORPUS:DIR"
    )
    test_extra: tuple[int, ...] = setting(
        (),
        "sessions of those corpora to test on in place of training on them",
        words="*",
        read=parse_sessions,
        metavar="SESSION",
        with_test=True,
    )
    disjoint: str | None = setting(
        None,
        "take out of training what is in the test: text: lines with the same or nearly the same "
        "words; script: dialogues of the same script (default: neither, both are counted)",
        choices=("text", "script"),
    )
    target: str = setting(
        constants.TARGET,
        "of the emotion head: votes: shares of the raters; hard: the label written first",
        choices=("votes", "hard"),
    )
    text_encoder: str | None = setting(
        None,
        "hub id or folder of a BERT-like encoder, char-ngram, or an .npy file of vectors "
        f"(default: {constants.TEXT_VECTORS} in the corpus folder, else {constants.TEXT_ENCODER})",
        metavar="ID",
        with_test=True,
    )
    speech_encoder: str = setting(
        constants.SPEECH_ENCODER,
        "hub id or folder of a wav2vec2, HuBERT or WavLM encoder, for models that read the "
        "waveform",
        metavar="ID",
        with_test=True,
    )


def split(
    sessions: Iterable[int], test: Iterable[int], val: Iterable[int] = (), must_train: bool = True
) -> Split:
    """Sessions not named are trained on; a UserError for an impossible split says what there is.

    `must_train`: no session left to train on is impossible, too.
    """
    there, test, val = sorted(set(sessions)), tuple(test), tuple(val)
    known = f"the sessions there are: {', '.join(map(str, there))}"
    if not test:
        raise UserError(f"--test_split names no session; {known}")
    for flag, wanted in (("--test_split", test), ("--val_split", val)):
        if unknown := sorted(set(wanted) - set(there)):
            raise UserError(f"{flag} names sessions {unknown} that do not exist; {known}")
    if both := sorted(set(test) & set(val)):
        raise UserError(f"sessions {both} are in both --test_split and --val_split; {known}")
    train = tuple(s for s in there if s not in {*test, *val})
    if must_train and not train:
        raise UserError(f"--test_split {list(test)} leaves no session to train on; {known}")
    return Split(train, tuple(sorted(val)), tuple(sorted(test)))


def split_extra(sessions: Iterable[int], test: Iterable[int], corpus: str) -> Split:
    """How a corpus that is only added to another is split: trained on but for the sessions `test`.

    Sessions that another added corpus has are no mistake here. UserError where none is left.
    """
    there = sorted(set(sessions))
    held = tuple(s for s in there if s in set(test))
    train = tuple(s for s in there if s not in held)
    if not train:
        raise UserError(
            f"--test_extra names all sessions of {corpus}: {', '.join(map(str, there))}"
        )
    return Split(train, (), held)


def leave_out(
    utterances: pd.DataFrame, out: Iterable[int], used: Iterable[int] = ()
) -> pd.DataFrame:
    """The rows of the sessions that `--leave_out` does not name, numbered from 0.

    `used`: sessions that are tested or validated on. UserError where one of them is left out, or
    one that there is not.
    """
    out, there = set(out), set(utterances["session"])
    if unknown := sorted(out - there):
        raise UserError(
            f"--leave_out names sessions {unknown} that do not exist; the sessions "
            f"there are: {', '.join(map(str, sorted(there)))}"
        )
    if both := sorted(out & set(used)):
        raise UserError(f"sessions {both} are in --leave_out and in --test_split or --val_split")
    return utterances[~utterances["session"].isin(out)].reset_index(drop=True)


class Fold(NamedTuple):
    """One of several splits of the same sessions: its name, and the sessions held out, sorted."""

    name: str
    test: tuple[int, ...]
    val: tuple[int, ...]


def folds(name: str, sessions: Iterable[int]) -> list[Fold]:
    """Named ways to test each session once. UserError for an unknown name or too few sessions.

    folds5      5 groups of consecutive sessions, sizes as equal as they can be, larger ones first;
                KEMDy19: 1-4, 5-8, ..., 17-20, as in 2022. No validation
    loso        each session by itself (leave one session out). No validation
    shuffled12  5 groups of shuffled sessions and 2 validation sessions each, for 20 or 40 of them:
                those of WoongheeLee's public comparison on KEMDy19 and KEMDy20
    """
    there = sorted(set(sessions))
    if name not in FOLDS:
        raise UserError(f"no folds {name!r}; there are: {', '.join(FOLDS)}")
    return [
        Fold(f"{name}-{label}", tuple(map(int, sorted(test))), tuple(map(int, sorted(val))))
        for label, test, val in FOLDS[name](there)
    ]


def _consecutive(sessions: list[int]) -> list[tuple]:
    _check(sessions, N_FOLDS, "folds5")
    groups = np.array_split(sessions, N_FOLDS)
    return [(number, group, ()) for number, group in enumerate(groups, start=1)]


def _single(sessions: list[int]) -> list[tuple]:
    _check(sessions, 2, "loso")
    return [(session, [session], ()) for session in sessions]


def _shuffled12(sessions: list[int]) -> list[tuple]:
    """Numbered from 0, as published; groups are drawn with seed 12, validation with 12 + number.

    The stream of `RandomState` is frozen, so these are the same sessions with any NumPy.
    """
    if len(sessions) not in (20, 40):
        raise UserError(f"folds shuffled12 need 20 or 40 sessions, there are {len(sessions)}")
    groups = np.split(np.random.RandomState(12).permutation(sessions), N_FOLDS)
    found = []
    for number, test in enumerate(groups):
        rest = np.setdiff1d(sessions, test)
        val = np.random.RandomState(12 + number).choice(rest, 2, replace=False)
        found.append((number, test, val))
    return found


def _check(sessions: list[int], needed: int, name: str) -> None:
    if len(sessions) < needed:
        raise UserError(f"folds {name} need at least {needed} sessions, there are {len(sessions)}")


N_FOLDS = 5
FOLDS = {"folds5": _consecutive, "loso": _single, "shuffled12": _shuffled12}


def is_target(utterances: pd.DataFrame) -> np.ndarray:
    """(N,) bool: rows that may be predicted and scored: not quarantined, and with some truth."""
    labelled = (utterances["emotion"] != "") | utterances["arousal"].notna()
    for event in EVENTS:
        labelled |= utterances[event].notna() if event in utterances else False
    return ((utterances["quarantine"] == "") & labelled).to_numpy()

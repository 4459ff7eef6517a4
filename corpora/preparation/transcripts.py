"""Transcripts: markup taken out, and words made comparable."""

import re
import unicodedata

import pandas as pd


def normalised(texts: pd.Series) -> pd.Series:
    """What transcripts are compared by: NFKC, case folded, without spaces and punctuation."""
    plain = [unicodedata.normalize("NFKC", text).casefold() for text in texts]
    return pd.Series([re.sub(r"\W+", "", text) for text in plain], texts.index, dtype=object)


MARKUP = {
    "b/": "breath or cough",
    "c/": "goes on after a pause under 0.3 s",
    "l/": "filler sound",
    "n/": "noise",
    "N/": "noise over half of the utterance or more",
    "u/": "not understood",
    "o/": "in KEMDy19, not explained there",
    "s/": "in KEMDy19, not explained there",
    "*": "understood in part",
    "+": "between two voices that overlap (KEMDy19), stutter (the legend)",
    "(": "two voices at once, (A+B); the words of both are kept",
    ")": "see (",
    "/": "filler",
}


# A letter is markup only where no Latin letter precedes it; "u/." is a way to write "u/".
_MARKUP = re.compile(r"(?<![A-Za-z])(?:u/\.*|[bclnNos]/)|[/*+()]")


def clean_transcript(text: str) -> str:
    """The words alone: no MARKUP or control characters, one space between; "" if none are left.

    >>> clean_transcript("b/ 아 (왜+뭐) l/ 그래 u/.")
    '아 왜 뭐 그래'
    """
    visible = "".join(c if c.isprintable() else " " for c in text)
    words = " ".join(_MARKUP.sub(" ", visible).split())
    return words if any(c.isalnum() for c in words) else ""

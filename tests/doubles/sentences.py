"""Settings and utterances of which sentence vectors are made."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from features import sentence
from features.store import extraction
from features.store.store import Store

DIM = 32
TEXTS = [
    "오늘 날씨가 정말 좋네요.",
    "나는 너무 화가 나서 참을 수 없었어.",
    "왜 그렇게 말하는 거야?",
    "괜찮아, 다 잘 될 거야.",
    "무서워서 잠을 잘 수가 없어.",
    "우와 진짜 깜짝 놀랐잖아!",
    "어.",
    "응.",
    "ABC 3,000원",
    "다 잘 될 거야.",
]


def settings(encoder: str | Path, dim: int = DIM) -> SimpleNamespace:
    return SimpleNamespace(text_encoder=str(encoder), text_dim=dim)


def vectors(encoder: str | Path, sources: list[str], dim: int = DIM) -> list:
    return sentence.Extractor(sentence.Feature.parameters(settings(encoder, dim))).many(sources)


def store(encoder: str | Path, utterances: pd.DataFrame, folder: Path) -> Store:
    return extraction.extract(
        "sentence", utterances, folder, folder, settings(encoder), progress=False
    )


def table(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"segment": [f"Sess01_F{i:03}" for i in range(len(texts))], "text": texts, "quarantine": ""}
    )


class Trap:
    """Runs code when unpickled by a reader that lets it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

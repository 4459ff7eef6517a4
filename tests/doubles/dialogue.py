"""A run that judges dialogues, lines to say to it, and what `predict` makes of them."""

import csv
import functools
from pathlib import Path

import pandas as pd
import pytest

from inference import predictor, recordings, trained
from inference.web import dialogue as web_dialogue


@pytest.fixture(scope="session")
def judge(run_folder) -> predictor.Predictor:
    """The run of the suite, ready to judge."""
    judge = trained.of_run(run_folder)
    web_dialogue.warm(judge)
    return judge


@pytest.fixture(scope="session")
def lines(workplace) -> list[tuple[Path, str]]:
    """Sound files of one dialogue of the corpus, and what is said in them."""
    found = sorted((workplace / "corpus" / "wav").rglob("*.wav"))[:4]
    return [(wav, wav.with_suffix(".txt").read_text("utf-8").strip()) for wav in found]


@pytest.fixture(scope="session")
def predicted(judge, lines, tmp_path_factory):
    """What `predict` says of a table of the lines of these numbers, as one dialogue."""

    @functools.cache
    def predict(*numbers: int) -> pd.DataFrame:
        path = tmp_path_factory.mktemp("table") / "dialogue.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("wav", "text"), *[lines[n] for n in numbers]])
        rows = recordings.utterances([path], progress=False)
        return pd.concat([table for table, _ in judge.stream(rows)], ignore_index=True)

    return predict

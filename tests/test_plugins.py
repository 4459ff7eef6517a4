"""A plugin is one new file: one of each room is added to a copy, and nothing else is edited."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.project import outcomes, project

from commands import Subcommand
from constants import EMOTIONS, SAMPLE_RATE
from corpora.preparation import Reader
from features.store import Feature
from model import EmotionModel
from utils import leaf, leaves, make_folder, read_json

FILES = {
    "corpora/tones.py": '''
"""Tones: tones.csv, a row an utterance, and wav/."""

import numpy as np
import pandas as pd

from constants import EMOTIONS
from corpora import preparation
from metric import VOTES


class Reader(preparation.Reader):
    """Of the tones."""

    @staticmethod
    def matches(folder):
        """Is there a tones.csv?"""
        return "tones.csv" in preparation.find_files(folder, "*.csv")

    @staticmethod
    def sources(folder):
        """The table and the wavs."""
        return [folder / "tones.csv", *sorted(folder.glob("wav/*.wav"))]

    @staticmethod
    def read(folder):
        """Utterances in the order of the table; no troubles."""
        rows = pd.read_csv(folder / "tones.csv")
        votes = {vote: 10.0 * (rows["emotion"] == e) for vote, e in zip(VOTES, EMOTIONS)}
        rows = rows.assign(corpus="tones", role="speaker", kind="tone", quarantine="", **votes)
        rows = rows.assign(start=np.nan, end=np.nan)
        return rows[preparation.COLUMNS], preparation.troubles([])
''',
    "features/loudness.py": '''
"""Loudness: the effective value and the peak of an utterance."""

import numpy as np

from constants import SAMPLE_RATE
from features import store
from media.audio import read


class Extractor(store.Extractor):
    """wav -> (2,)."""

    def __call__(self, source, rows):
        """Once for each of `rows`."""
        wave = read(source, SAMPLE_RATE)
        return [np.array([wave.std(), abs(wave).max()])] * len(rows)


class Feature(store.Feature):
    """Two numbers."""

    VERSION, DTYPE, SOURCE = 1, "float32", "wav"
    Extractor = Extractor

    @staticmethod
    def parameters(settings):
        """Nothing of it is a flag."""
        return {}

    @staticmethod
    def shape(parameters):
        """(2,)."""
        return (2,)
''',
    "models/loud.py": '''
"""A layer over the loudness of the judged utterance."""

from dataclasses import dataclass

from torch import nn

from constants import HEADS
from model import EmotionModel, at_least_float32, judged, masked
from utils import setting


@dataclass(frozen=True)
class Settings:
    """The flags of this model."""

    ws: int = setting(1, "utterances in a window; the last one is judged", least=1)
    hidden_size: int = setting(16, "numbers in between", least=1)


class Model(EmotionModel):
    """A batch of windows -> an output of each head."""

    Settings = Settings
    DEFAULTS = {"epochs": 1}

    @staticmethod
    def inputs(settings):
        """The features it reads."""
        return ("loudness",)

    def __init__(self, settings):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(2, settings.hidden_size), nn.Tanh())
        sizes = {name: head.size for name, head in HEADS.items()}
        self.outputs = nn.ModuleDict({n: nn.Linear(settings.hidden_size, sizes[n]) for n in sizes})

    def forward(self, batch):
        """One prediction a window, for its last utterance."""
        hidden = self.hidden(at_least_float32(masked(batch, "loudness")[:, -1]))
        return {name: judged(name, output(hidden)) for name, output in self.outputs.items()}
''',
    "commands/tally.py": '''
"""Count finished runs."""

from dataclasses import dataclass
from pathlib import Path

import constants
from commands import Subcommand
from utils import setting


@dataclass(frozen=True)
class Settings:
    """Where to count."""

    save_path: str = setting(constants.SAVE_PATH, "where the runs are")


class Command(Subcommand):
    """Counts."""

    Settings = Settings

    @staticmethod
    def main(settings):
        """Print how many there are."""
        print(len(list(Path(settings.save_path).glob("*/result.json"))), "finished")
''',
}
PREPARE = "python main.py prepare --data data/tones"
TRAIN = "python main.py --model loud --data data/tones --test_split 1 --save_name one --gpu_id -1"
TEST = "python main.py --test_only one --data data/tones --test_split 1 --gpu_id -1"
TALLY = "python main.py tally"
PREDICT = "python main.py predict one data/tones/wav/s1_0.wav --out felt"
LAWS = "python -m pytest tests/test_model.py -k loud -rA -p no:cacheprovider"
LINES = (PREPARE, TRAIN, TEST, PREDICT, TALLY, LAWS)


def write_tones(folder: Path) -> None:
    """Four sessions of eight utterances, louder ones angrier."""
    make_folder(folder / "wav")
    random, rows = np.random.default_rng(0), []
    for session in range(1, 5):
        for number in range(8):
            name, part = f"s{session}_{number}", number % len(EMOTIONS)
            wave = 0.02 * (part + 1) * random.standard_normal(SAMPLE_RATE // 4)
            soundfile.write(folder / f"wav/{name}.wav", wave.clip(-1, 1), SAMPLE_RATE)
            about = (name, session, f"d{session}", f"p{session}{number % 2}", f"wav/{name}.wav")
            rows.append((*about, f"{name} 소리", EMOTIONS[part], 1 + part / 2, 4.5 - part / 2))
    names = "segment session dialogue speaker wav text emotion valence arousal".split()
    pd.DataFrame(rows, columns=names).to_csv(folder / "tones.csv", index=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The copy with the four files, and a folder of tones."""
    place = project(tmp_path_factory.mktemp("plugins") / "project")
    for name, source in FILES.items():
        (place / name).write_text(source.lstrip(), encoding="utf-8")
    write_tones(place / "data/tones")
    return place


@pytest.fixture(scope="module")
def said(place) -> dict[str, str]:
    """What each command printed."""
    found, stderr = outcomes(place, list(LINES))
    for one in found:
        assert one["code"] == 0, one["out"] + stderr
    return {one["line"]: one["out"] for one in found}


def test_a_new_corpus_is_prepared(place, said):
    assert said[PREPARE].startswith("tones in data/tones")
    [table] = place.glob("data/prepared/tones-*/annotation.csv")
    assert len(pd.read_csv(table)) == 32


def test_a_new_model_on_a_new_feature_is_trained_and_tested(place, said):
    run = place / "exp/one"
    said_of = read_json(run / "configuration.json")
    assert (said_of["model"], said_of["hidden_size"], said_of["epochs"]) == ("loud", 16, 1)
    assert list(place.glob("data/prepared/tones-*/features/loudness-*/data.bin"))
    [again] = run.glob("test_*")
    for folder in (run, again):
        predictions = pd.read_csv(folder / "predictions.csv")
        assert len(predictions) == 8 and predictions["p_0"].notna().all()
        assert {"macro_f1", "ccc_arousal"} <= set(read_json(folder / "result.json")["scores"])
    first, second = ((folder / "predictions.csv").read_bytes() for folder in (run, again))
    assert first == second
    assert "loud" in (run / "report.html").read_text("utf-8")


def test_a_new_model_predicts_recordings(place, said):
    predictions = pd.read_csv(place / "felt/predictions.csv")
    assert len(predictions) == 1 and predictions["emotion"].isin(EMOTIONS).all()


def test_a_new_subcommand_is_run(said):
    assert said[TALLY] == "1 finished\n"


def test_the_laws_of_models_hold_for_a_new_one(said):
    passed = re.findall(r"^PASSED tests/test_model\.py::(test_\w+)\[loud", said[LAWS], re.MULTILINE)
    assert len(set(passed)) > 10 and "FAILED" not in said[LAWS]


# --- every plugin ----------------------------------------------------------------------------


BASES = {"commands": Subcommand, "corpora": Reader, "features": Feature, "models": EmotionModel}


@pytest.mark.parametrize("room", BASES)
def test_every_file_of_a_room_holds_the_class_of_its_room(room):
    for name in leaves(room):
        plugin = leaf(room, name)
        assert plugin.__module__ == f"{room}.{name}"
        [base] = plugin.__bases__
        assert base is BASES[room]

"""Pictures of the class distribution, and `prepare --plot`."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import pandas as pd
import pytest

import main
from constants import EMOTIONS
from reporting import class_distribution


@pytest.fixture
def place(two_corpora, tmp_path):
    """A folder of its own to work in, with links to the corpora."""
    for name in ("corpus", "talk"):
        (tmp_path / name).symlink_to(two_corpora / name)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def corpus(name: str, emotions: list[str], synthetic: bool = False) -> SimpleNamespace:
    rows = pd.DataFrame({"corpus": name, "emotion": emotions, "quarantine": ""})
    return SimpleNamespace(role=lambda role: rows, synthetic=synthetic)


def test_rows_are_counted_by_emotion_and_corpus():
    table = class_distribution.counts(
        [corpus("a", ["sad", "sad", "sad;angry", ""]), corpus("b", ["happy"])]
    )
    assert list(table.index) == ["a", "b"] and list(table.columns) == [*EMOTIONS, "tie"]
    assert table.loc["a"][["sad", "tie", "happy"]].tolist() == [2, 1, 0]
    assert table.loc["b"]["happy"] == 1 and table.to_numpy().sum() == 4


def test_prepare_draws_one_corpus_alone_and_with_the_added_one(place, capsys):
    words = ["prepare", "--data", "corpus", "--train_extra", "kemdy20:talk", "--plot", "out"]
    assert main.main(words) == 0
    names = {"Class_distribution_origin.png", "Class_distribution_add.png"}
    assert {path.name for path in Path("out").iterdir()} == names
    told = capsys.readouterr().out
    assert "kemdy19 in corpus" in told and "kemdy20 in talk" in told
    images = [(place / "out" / name).read_bytes() for name in sorted(names)]
    assert images[0] != images[1]
    for data in images:
        height, width, _ = matplotlib.image.imread(io.BytesIO(data)).shape
        assert width > height > 500


def test_prepare_draws_beside_the_tables_where_no_folder_is_named(place, capsys):
    assert main.main(["prepare", "--data", "corpus", "--plot"]) == 0
    [picture] = Path("data/prepared").glob("kemdy19-*/*.png")
    assert picture.name == "Class_distribution_origin.png"
    assert f"picture: {picture}" in capsys.readouterr().out


def test_a_synthetic_corpus_is_marked_on_the_picture(monkeypatch):
    titles = []
    axes = "matplotlib.axes.Axes.set_title"
    monkeypatch.setattr(axes, lambda self, text, **_: titles.append(text))
    table = class_distribution.counts([corpus("a", ["sad", "happy"])])
    for synthetic in (True, False):
        class_distribution.picture(table, synthetic)
    assert titles == [
        "Emotion of 2 utterances (synthetic corpus: not a result)",
        "Emotion of 2 utterances",
    ]


def test_a_label_rule_that_no_corpus_has_is_refused(place, capsys):
    assert main.main(["prepare", "--data", "corpus", "--labels", "situation"]) == 2
    assert "--labels situation means nothing here: kemdy19" in capsys.readouterr().err

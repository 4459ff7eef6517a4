"""Sentence vectors made elsewhere that are no such vectors are refused in one line."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from doubles.command_line import TEXT, Code


def save_vectors(value: object) -> None:
    np.save("corpus/embedding_768.npy", value, allow_pickle=True)


def vectors(width: int) -> dict:
    """One vector for every txt of the corpus."""
    random = np.random.default_rng(2)
    names = sorted(path.name for path in Path("corpus").glob("wav/*/*/*.txt"))
    return {name: random.standard_normal(width).astype("float32") for name in names}


FROM_FILE = [word for word in TEXT if word not in ("--text_encoder", "char-ngram")]


def test_vectors_in_the_corpus_folder_are_used_and_recorded(say, own_corpus):
    save_vectors(vectors(768))
    assert say(*FROM_FILE).code == 0
    [configuration] = own_corpus.glob("exp/*/configuration.json")
    assert json.loads(configuration.read_text())["text_encoder"] == "corpus/embedding_768.npy"
    [about] = own_corpus.glob("data/prepared/*/features/sentence-*/parameters.json")
    assert "embedding_768.npy" in about.read_text()


@pytest.fixture
def tables(say, own_corpus):
    """The corpus, prepared; a file of vectors is no part of its tables."""
    assert say("prepare", "--data", "corpus").code == 0


def test_vectors_of_another_width_are_refused(tables, refused):
    save_vectors(vectors(64))
    refused(r"needed vectors of 768 numbers.*embedding_768.npy holds 64", *FROM_FILE)


@pytest.mark.parametrize(
    "save",
    [
        lambda: save_vectors({"Sess01_script01_F001.txt": Code()}),
        lambda: save_vectors(np.array(Code(), dtype=object)),
        lambda: Path("corpus/embedding_768.npy").write_bytes(pickle.dumps(Code())),
    ],
    ids=["in the dict", "instead of the dict", "a bare pickle"],
)
def test_code_among_vectors_is_refused_and_never_run(save, tables, refused):
    save()
    refused(r"embedding_768.npy should hold a dict of vectors", *FROM_FILE)
    assert not Path("executed").exists()


def test_a_damaged_file_of_vectors_is_refused(tables, refused):
    save_vectors(vectors(768))
    path = Path("corpus/embedding_768.npy")
    path.write_bytes(path.read_bytes()[:5000])
    refused(r"embedding_768.npy should hold a dict of vectors", *FROM_FILE)

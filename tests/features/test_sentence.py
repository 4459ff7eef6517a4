"""Sentence vectors by char-ngram, and of a file that was made elsewhere."""

import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.sentences import DIM, TEXTS, Trap, store, table, vectors
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer

from features.signal.vectors_2022 import read_vectors
from utils import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# --- char-ngram ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [64, 768])
def test_hashed_characters_have_the_size_of_berts_states(dim):
    for vector in vectors("char-ngram", TEXTS, dim):
        assert vector.shape == (dim,) and vector.dtype == np.float32
        assert np.sqrt((vector.astype(float) ** 2).mean()) == pytest.approx(1, abs=1e-6)


def test_sentences_that_share_characters_are_nearer():
    line, near, far = vectors(
        "char-ngram", ["다 잘 될 거야.", "괜찮아, 다 잘 될 거야.", "왜 그래"], 768
    )
    assert line @ near > 2 * abs(line @ far)


def test_hashed_characters_are_scikit_learns_over_their_length():
    counts = (
        HashingVectorizer(
            analyzer="char", ngram_range=(1, 3), lowercase=False, norm=None, n_features=DIM
        )
        .transform(TEXTS)
        .toarray()
    )
    expected = counts / np.sqrt((counts**2).mean(1, keepdims=True))
    np.testing.assert_allclose(vectors("char-ngram", TEXTS), expected, rtol=1e-5)


def test_hangul_in_parts_is_the_same_sentence():
    whole, parts = TEXTS[0], unicodedata.normalize("NFD", TEXTS[0])
    one, two = vectors("char-ngram", [whole, parts])
    np.testing.assert_array_equal(one, two)


def test_a_missing_text_is_masked(tmp_path):
    got = store("char-ngram", table(["네", "", "아니"]), tmp_path)
    assert got.available.tolist() == [True, False, True]
    block = got.gather(np.array([[0, 1], [-1, 2]]))
    assert block.shape == (2, 2, DIM) and block.dtype == np.float32
    assert (block != 0).any(-1).tolist() == [[True, False], [False, True]]
    np.testing.assert_array_equal(block[1, 1], vectors("char-ngram", ["아니"])[0])


# --- a file of vectors ---------------------------------------------------------------------------


def held(n: int = 4, dim: int = DIM) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {f"Sess01_F{i:03}.txt": rng.standard_normal(dim).astype(np.float32) for i in range(n)}


def save(path: Path, value: object, protocol: int = 4, module: str = "numpy._core") -> Path:
    """What np.save writes of an object, with the module names of the NumPy that wrote it."""
    array = np.empty((), object)
    array[()] = value
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        data = pickle.dumps(array, protocol=protocol)
        file.write(data.replace(b"numpy._core", module.encode()))
    return path


def test_vectors_saved_by_numpy_are_looked_up_by_segment(tmp_path):
    np.save(tmp_path / "embedding_768.npy", held(), allow_pickle=True)
    utterances = table(["같은 말", "같은 말", "", "네"])
    got = store(tmp_path / "embedding_768.npy", utterances, tmp_path)
    assert got.available.all() and got.troubles == []
    np.testing.assert_array_equal(got.gather(np.arange(4)), np.stack(list(held().values())))


def test_vectors_saved_by_the_numpy_of_2022_are_read(tmp_path):
    path = save(tmp_path / "e.npy", held(), protocol=3, module="numpy.core")
    assert b"numpy.core.multiarray" in path.read_bytes()
    got = read_vectors(path)
    assert got.keys() == held().keys()
    for name, vector in held().items():
        np.testing.assert_array_equal(got[name], vector)


@pytest.mark.parametrize("shape", [(1, DIM), (DIM, 1)])
def test_a_vector_may_have_been_kept_as_a_row_of_doubles(tmp_path, shape):
    value = {name: vector.astype(np.float64).reshape(shape) for name, vector in held().items()}
    [got] = vectors(save(tmp_path / "e.npy", value), ["Sess01_F001"])
    assert got.shape == (DIM,) and got.dtype == np.float32
    np.testing.assert_array_equal(got, held()["Sess01_F001.txt"])


def test_a_segment_without_a_vector_is_masked_and_named_not_zeros(tmp_path):
    path = save(tmp_path / "e.npy", held(2))
    got = store(path, table(["가", "나", "다"]), tmp_path)
    assert got.available.tolist() == [True, True, False]
    assert got.troubles == [("Sess01_F002", "no vector in the embedding file")]


def test_a_changed_file_is_another_cache(tmp_path):
    path, utterances = tmp_path / "e.npy", table(["가", "나"])
    before = store(save(path, held()), utterances, tmp_path)
    other = {name: vector + 1 for name, vector in held().items()}
    after = store(save(path, other), utterances, tmp_path)
    assert before.folder != after.folder
    np.testing.assert_array_equal(after.array(0), before.array(0) + 1)


def test_a_file_of_another_width_says_both(tmp_path):
    path = save(tmp_path / "e.npy", held(dim=64))
    with pytest.raises(
        UserError, match=r"needed vectors of 768 .*--text_dim.* holds 64 for Sess01"
    ):
        vectors(path, ["Sess01_F000"], 768)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_code_in_a_file_of_vectors_is_refused_and_not_run(tmp_path, protocol, inside):
    mark = tmp_path / "ran"
    trap = Trap(os.system, f"touch {mark}")
    value = held() | {"Sess01_F000.txt": trap} if inside else trap
    path = save(tmp_path / "e.npy", value, protocol)
    with pytest.raises(UserError, match="refused, only arrays are read"):
        vectors(path, ["Sess01_F001"])
    assert not mark.exists()
    pickle.loads(pickle.dumps(trap))  # the trap does spring where it is let
    assert mark.exists()


@pytest.mark.parametrize(
    "function", [eval, getattr, __import__, np.load, np.fromfile, np.frombuffer, torch.load, open]
)
def test_functions_that_could_be_abused_are_refused_by_name(tmp_path, function):
    path = save(tmp_path / "e.npy", Trap(function, "x"))
    with pytest.raises(UserError, match=rf"\.{function.__name__} is refused"):
        read_vectors(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a list"], "a list"),
        ({"Sess01_F000.txt": "a word"}, "'Sess01_F000.txt' is a str"),
        ({"Sess01_F000.txt": [0.5] * DIM}, "'Sess01_F000.txt' is a list"),
        ({3: np.zeros(DIM)}, "a key is a int"),
        ({"a.txt": np.zeros(DIM, int)}, "'a.txt' has numbers of type <i8"),
        ({"a.txt": np.array([None] * DIM)}, r"'a.txt' has numbers of type \\|O8"),
    ],
)
def test_other_contents_are_an_error_that_says_what_came(tmp_path, value, message):
    with pytest.raises(UserError, match=f"should hold a dict of vectors.* it does not: {message}"):
        read_vectors(save(tmp_path / "e.npy", value))


def test_a_plain_array_is_an_error_that_says_so(tmp_path):
    np.save(tmp_path / "e.npy", np.zeros((3, DIM)))
    with pytest.raises(UserError, match=r"array of float64 and shape \(3, 32\)"):
        read_vectors(tmp_path / "e.npy")


@examples(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.floats(0, 1), position=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_a_damaged_file_of_vectors_is_read_or_refused_but_never_crashes(
    tmp_path, cut, position, byte
):
    data = bytearray(save(tmp_path / "e.npy", held(2), protocol=3).read_bytes())
    data[int(position * len(data))] = byte
    (tmp_path / "e.npy").write_bytes(data[: round(cut * len(data))])
    try:
        read_vectors(tmp_path / "e.npy")
    except UserError as error:
        assert str(error).startswith(str(tmp_path / "e.npy"))

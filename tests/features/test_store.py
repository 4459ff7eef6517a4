"""The store of features: what is extracted, masked and gathered."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from doubles.counting import SETTINGS, contents, counting, extract, names, several, table

import utils
from features.store import contract, extraction
from features.store.store import Store

# --- what is extracted ---------------------------------------------------------------------------


def test_each_row_gets_the_array_of_its_own_file(tmp_path, calls):
    held = several()
    store = extract(table(tmp_path / "corpus", held), tmp_path)
    assert contents(store) == held
    assert store.available.all() and store.available.dtype == bool and store.troubles == []
    assert store.array(3).dtype == np.float16 and store.array(3).shape == (1, len(held[3]))


def test_equal_content_is_extracted_once(tmp_path, calls):
    store = extract(table(tmp_path / "corpus", [b"aa", b"bb", b"aa", b"aa"]), tmp_path)
    assert sorted(names(calls)) == ["0.wav", "1.wav"]
    assert contents(store) == [b"aa", b"bb", b"aa", b"aa"]


def test_what_is_there_is_not_extracted_again(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several())
    before = contents(extract(utterances, tmp_path))
    calls.clear()
    assert contents(extract(utterances, tmp_path)) == before
    assert calls == []


def test_the_other_role_shares_the_cache(tmp_path, calls):
    speaker = table(tmp_path / "corpus", several(6))
    listener = table(tmp_path / "corpus", several(8)).assign(role="listener")
    first = extract(speaker, tmp_path)
    calls.clear()
    second = extract(listener, tmp_path)
    assert sorted(names(calls)) == ["6.wav", "7.wav"]
    assert contents(second) == several(8) and second.folder == first.folder
    assert contents(first) == several(6)  # a store opened before goes on reading


def test_a_changed_wav_is_noticed(tmp_path, calls):
    extract(table(tmp_path / "corpus", [b"one", b"two", b"six"]), tmp_path)
    calls.clear()
    store = extract(table(tmp_path / "corpus", [b"one", b"ten", b"six"]), tmp_path)
    assert names(calls) == ["1.wav"]
    assert contents(store) == [b"one", b"ten", b"six"]


def test_other_parameters_have_another_folder(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several())
    one = extract(utterances, tmp_path)
    two = extract(utterances, tmp_path, settings=SimpleNamespace(factor=2.0))
    assert one.folder != two.folder
    np.testing.assert_array_equal(two.array(2), 2 * one.array(2))
    assert json.loads((two.folder / "parameters.json").read_text())["parameters"] == {"factor": 2}


@pytest.mark.parametrize("change", [{"VERSION": 2}, {"DTYPE": "float32"}])
def test_another_version_or_dtype_has_another_folder(tmp_path, monkeypatch, change):
    utterances = table(tmp_path / "corpus", several())
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([]))
    one = extract(utterances, tmp_path)
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([], **change))
    assert extract(utterances, tmp_path).folder != one.folder


def test_the_number_of_workers_does_not_change_a_byte(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several(60))
    files = {}
    for workers in (1, 4):
        (tmp_path / str(workers)).mkdir()
        store = extraction.extract(
            "bytes",
            utterances,
            tmp_path / "corpus",
            tmp_path / str(workers),
            SETTINGS,
            workers,
            progress=False,
        )
        files[workers] = [(store.folder / f).read_bytes() for f in ("data.bin", "index.jsonl")]
    assert files[1] == files[4]


def test_a_leaf_may_take_many_sources_at_once(tmp_path, monkeypatch):
    sizes = []

    class Extractor(contract.Extractor):
        def __init__(self, parameters):
            pass

        TOGETHER = True

        def many(self, sources):
            sizes.append(len(sources))
            return [
                utils.Unusable("a seven") if s == "line 7" else np.array([int(s[5:])])
                for s in sources
            ]

    leaf = counting([], SOURCE="text", Extractor=Extractor, DTYPE="int32")
    monkeypatch.setattr(utils, "leaf", lambda folder, name: leaf)
    store = extract(table(tmp_path / "corpus", [b""] * 510), tmp_path)
    arrays = [store.array(i) for i in range(9)]
    assert [None if array is None else int(array[0]) for array in arrays] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        None,
        8,
    ]
    assert store.troubles == [("Sess01_F007", "a seven")]
    assert sizes == [256, 254]


# --- what is masked ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"quarantine": "empty wav"}, {"wav": ""}, {"silent": True}])
def test_a_row_without_sound_is_masked(tmp_path, calls, change):
    utterances = table(tmp_path / "corpus", several(3))
    for column, value in change.items():
        utterances.loc[1, column] = value
    store = extract(utterances, tmp_path)
    assert store.available.tolist() == [True, False, True]
    assert sorted(names(calls)) == ["0.wav", "2.wav"]
    assert store.array(1) is None and store.troubles == []


def test_a_row_without_text_is_masked_and_equal_texts_are_one(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting(calls, SOURCE="text"))
    utterances = table(tmp_path / "corpus", several(4)).assign(text=["yes", "", "no", "yes"])
    store = extract(utterances, tmp_path)
    assert contents(store) == [b"yes", None, b"no", b"yes"]
    assert sorted(calls) == ["no", "yes"]


def test_an_unusable_source_is_masked_named_and_not_tried_again(tmp_path, calls):
    utterances = table(tmp_path / "corpus", [b"good", b"bad one", b"fine"])
    store = extract(utterances, tmp_path)
    assert store.available.tolist() == [True, False, True]
    assert store.troubles == [("Sess01_F001", "begins with bad")]
    calls.clear()
    again = extract(utterances, tmp_path)
    assert calls == [] and again.troubles == store.troubles
    assert again.available.tolist() == [True, False, True]
    assert not again.gather(np.array([1])).any()


def test_numbers_that_are_not_finite_are_masked_not_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([]))
    utterances = table(tmp_path / "corpus", [b"a", b"b"])
    store = extract(utterances, tmp_path, settings=SimpleNamespace(factor=1e9))  # over float16
    assert not store.available.any()
    assert store.troubles == [("Sess01_F000", "not finite"), ("Sess01_F001", "not finite")]


def test_no_rows_are_no_error(tmp_path, calls):
    utterances = table(tmp_path / "corpus", several(2)).iloc[:0]
    store = extract(utterances, tmp_path)
    assert len(store) == 0 and store.gather(np.zeros((0, 8), int)).shape == (0, 8, 3)


# --- gathering -----------------------------------------------------------------------------------


def test_rows_of_any_shape_are_gathered_with_zeros_for_padding(tmp_path, calls):
    held = several(5)
    store = extract(table(tmp_path / "corpus", held), tmp_path)
    rows = np.array([[-1, 0, 3], [3, 3, 4]])
    expected = [
        [[0, 0, 0] if r < 0 else [len(held[r]), sum(held[r]), max(held[r])] for r in line]
        for line in rows
    ]
    got = store.gather(rows)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array(expected, np.float32))
    out = np.full((2, 3, 3), np.nan, np.float32)
    assert store.gather(rows, out=out) is out
    np.testing.assert_array_equal(out, got)
    np.testing.assert_array_equal(store.gather(np.int64(4)), expected[1][2])


@pytest.mark.parametrize("longer", [None, lambda shape, parameters: shape[1] > 20])
def test_a_feature_is_told_where_to_cut_and_says_what_is_cut(tmp_path, monkeypatch, longer):
    told = []

    def gather(arrays, stats, parameters, cut, out):
        told.append(cut if cut is None else cut.tolist())

    more = {} if longer is None else {"is_cut": longer}
    monkeypatch.setattr(utils, "leaf", lambda folder, name: counting([], gather=gather, **more))
    held = several(6) + [b"bad one"]
    store = extract(table(tmp_path / "corpus", held), tmp_path)
    assert store.is_cut.tolist() == [bool(longer) and len(content) > 20 for content in held]
    again = extract(table(tmp_path / "corpus", held), tmp_path)  # as read from the index
    assert again.is_cut.tolist() == store.is_cut.tolist() and again.is_cut.dtype == bool
    store.gather(np.array([[-1, 0], [1, 2]]), np.array([[0.1, 0.2], [0.3, 0.4]]))
    store.gather(np.array([[-1, 0], [1, 2]]))
    assert told == [[0.1, 0.2, 0.3, 0.4], None]


def test_a_row_that_does_not_exist_is_an_error(tmp_path, calls):
    store = extract(table(tmp_path / "corpus", several(5)), tmp_path)
    with pytest.raises(IndexError):
        store.gather(np.array([5]))


# --- together with a real leaf -------------------------------------------------------------------


def test_log_mel_of_wavs_on_disk_comes_back_standardised(tmp_path):
    rng = np.random.default_rng(0)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    waves = [rng.standard_normal(n) / 10 for n in (4000, 60_000, 200_000)]
    for i, wave in enumerate(waves):
        soundfile.write(corpus / f"{i}.wav", wave, 16_000)
    files = [(corpus / f"{i}.wav").read_bytes() for i in range(3)]
    store = extraction.extract(
        "log_mel", table(corpus, files), corpus, tmp_path, SETTINGS, progress=False
    )
    blocks = store.gather(np.array([0, 1, 2, -1]))
    assert blocks.shape == (4, 229, 313) and store.shape == (229, 313)
    np.testing.assert_allclose(blocks[:3].mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(blocks[:3].std((1, 2)), 1, atol=1e-4)
    assert not blocks[3].any()
    elsewhere = pickle.loads(pickle.dumps(store))  # as a DataLoader's worker gets it
    assert elsewhere.gather(np.array([0, 1, 2, -1])).tobytes() == blocks.tobytes()
    assert len(pickle.dumps(store)) < 10_000


# --- rows of different lengths -------------------------------------------------------------------


def ragged_gather(arrays, stats, parameters, cut, out):
    for array, block in zip(arrays, out, strict=True):
        if array is not None:
            block[: len(array)] = array[: len(block)]


@pytest.fixture
def ragged(monkeypatch, tmp_path):
    """A store of bytes as steps in time, (T, 1); the third file is bad."""
    held = several(5)
    held[2] = b"bad"

    def open_store(**more) -> Store:
        leaf = counting([], shape=lambda parameters: (None, 1), gather=ragged_gather, **more)

        class Turned(leaf.Extractor):
            def __call__(self, source, rows):
                return [array.T for array in super().__call__(source, rows)]

        leaf.Extractor = Turned
        monkeypatch.setattr(utils, "leaf", lambda folder, name: leaf)
        return extract(table(tmp_path / "corpus", held), tmp_path)

    return held, open_store


def test_ragged_rows_are_padded_to_the_longest_of_a_batch_and_masked(ragged):
    held, open_store = ragged
    store = open_store()
    rows = np.array([[0, 2], [-1, 1]])
    block, mask = store.gather(rows), store.mask(rows)
    longest = max(len(held[0]), len(held[1]))
    assert block.shape == (2, 2, longest, 1) and mask.shape == (2, 2, longest)
    assert block.dtype == np.float32
    for place in np.ndindex(2, 2):
        content = held[rows[place]] if rows[place] in (0, 1) else b""
        assert block[place][mask[place], 0].astype(np.uint8).tobytes() == content
        assert not block[place][~mask[place]].any()
    assert store.lengths.tolist() == [len(c) if c != b"bad" else 0 for c in held]


def test_a_ragged_block_has_at_least_one_step_and_at_most_the_longest_allowed(ragged):
    held, open_store = ragged
    store = open_store(longest=lambda parameters: 7)
    assert store.gather(np.array([1])).shape == (1, 7, 1)
    assert store.lengths.max() == 7
    assert store.gather(np.array([2, -1])).shape == (2, 1, 1)
    assert not store.mask(np.array([2, -1])).any()


def test_ragged_integers_come_out_as_int64(ragged):
    _, open_store = ragged
    assert (
        open_store(DTYPE="int32", stats=lambda array, parameters: []).gather(np.array([0])).dtype
        == np.int64
    )

"""features/text_states.py: states of a frozen encoder, against transformers' own forward."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sentencepiece
import torch
import transformers
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from benchmarks import tiny_bert
from features import text_states
from features.store import extraction
from features.store.store import Store
from models.encoders import text as text_encoders
from utils import Unusable, UserError

TEXTS = [
    "오늘 날씨가 정말 좋네요.",
    "나는 너무 화가 나서 참을 수 없었어.",
    "왜 그렇게 말하는 거야?",
    "괜찮아, 다 잘 될 거야.",
    "무서워서 잠을 잘 수가 없어.",
    "어.",
    "ABC 3,000원",
]
HALF = 4e-3  # half of the step of float16 at 4..8, where the largest states are


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A tiny encoder of large weights: what a state is depends on its neighbours."""
    folder = tmp_path_factory.mktemp("bert")
    tiny_bert.write(folder, TEXTS)
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    model.save_pretrained(folder)
    return folder


def settings(folder: Path, **more) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "text_encoder": str(folder),
            "max_length": 128,
            "clean": "none",
            "encoder": {"hidden_size": tiny_bert.HIDDEN},
        }
        | more
    )


def states(folder: Path, sources: list[str], **more) -> list:
    return text_states.Extractor(text_states.Feature.parameters(settings(folder, **more))).many(
        sources
    )


def store(folder: Path, texts: list[str], place: Path, **more) -> Store:
    table = pd.DataFrame(
        {"segment": [f"{i:03}" for i in range(len(texts))], "text": texts, "quarantine": ""}
    )
    return extraction.extract(
        "text_states", table, place, place, settings(folder, **more), progress=False
    )


def reference(folder: Path, text: str, longest: int = 128) -> np.ndarray:
    """The last hidden states of [CLS] pieces [SEP], by transformers, alone."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / tiny_bert.FILE))
    ids = torch.tensor([[2, *pieces.encode(text)[: longest - 2], 3]])
    with torch.no_grad():
        return transformers.AutoModel.from_pretrained(folder)(ids).last_hidden_state[0].numpy()


def test_states_are_those_of_transformers(encoder):
    for text, got in zip(TEXTS, states(encoder, TEXTS), strict=True):
        expected = reference(encoder, text)
        assert got.shape == expected.shape and got.dtype == np.float16
        np.testing.assert_allclose(got, expected, rtol=0, atol=HALF)


@pytest.fixture(scope="module")
def extractor(encoder):
    return text_states.Extractor(text_states.Feature.parameters(settings(encoder)))


@examples(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*TEXTS, ""]), min_size=1, max_size=6))
def test_the_others_of_a_batch_change_no_state(extractor, texts):
    for text, got in zip(texts, extractor.many(texts), strict=True):
        [alone] = extractor.many([text])
        if not text:
            assert str(got) == str(alone) == "no word pieces"
            continue
        np.testing.assert_allclose(got, alone, rtol=0, atol=1e-3 + HALF)


def test_the_words_around_a_word_change_its_state(encoder):
    one, two = states(encoder, ["왜 그렇게", "왜 나는"])
    assert np.abs(one[1] - two[1]).max() > 0.1


def test_many_texts_are_read_within_the_bound_on_tokens(encoder, monkeypatch):
    monkeypatch.setattr(text_states.Extractor, "at_once", 40)
    built = text_states.Extractor(text_states.Feature.parameters(settings(encoder)))
    sizes = []
    forward = built.model.forward
    built.model.forward = lambda **given: sizes.append(given["input_ids"].shape) or forward(**given)
    for text, got in zip(TEXTS * 3, built.many(TEXTS * 3), strict=True):
        np.testing.assert_allclose(got, reference(encoder, text), rtol=0, atol=HALF)
    assert len(sizes) > 3 and all(rows == 1 or rows * steps <= 40 for rows, steps in sizes)


def test_one_source_gives_its_rows_the_same_and_a_reason_is_raised(extractor):
    first, second = extractor(TEXTS[0], ["a row", "another"])
    np.testing.assert_array_equal(first, second)
    with pytest.raises(Unusable, match="no word pieces"):
        extractor("", ["a row"])


def test_of_a_longer_line_the_beginning_is_kept_and_sep_is_last(encoder):
    [got] = states(encoder, [TEXTS[1]], max_length=6)
    assert got.shape == (6, tiny_bert.HIDDEN)
    np.testing.assert_allclose(got, reference(encoder, TEXTS[1], 6), rtol=0, atol=HALF)


def test_blocks_are_padded_with_zeros_and_masked(encoder, tmp_path):
    built = store(encoder, [TEXTS[0], "", TEXTS[5]], tmp_path)
    assert built.available.tolist() == [True, False, True]
    rows = np.array([[0, 1], [2, -1]])
    block, mask = built.gather(rows), built.mask(rows)
    long, short = (reference(encoder, TEXTS[i]) for i in (0, 5))
    assert block.shape == (2, 2, len(long), tiny_bert.HIDDEN) and block.dtype == np.float32
    assert mask.sum(-1).tolist() == [[len(long), 0], [len(short), 0]]
    np.testing.assert_allclose(block[1, 0, : len(short)], short, rtol=0, atol=HALF)
    assert not block[~mask].any() and (block[mask] != 0).any(-1).all()


@pytest.mark.parametrize("changed", [{"max_length": 9}, {"clean": "hangul"}])
def test_other_pieces_or_other_weights_are_another_cache(encoder, tmp_path, changed):
    own = shutil.copytree(encoder, tmp_path / "own")
    before = store(own, TEXTS, tmp_path)
    assert store(own, TEXTS, tmp_path).folder == before.folder
    assert store(own, TEXTS, tmp_path, **changed).folder != before.folder
    tiny_bert.bert(text_encoders.config(own)["vocab_size"], seed=1).save_pretrained(own)
    assert store(own, TEXTS, tmp_path).folder != before.folder


def test_an_encoder_of_another_width_says_both(encoder):
    with pytest.raises(UserError, match="needed states of 768 numbers, the encoder in .* makes 64"):
        states(encoder, TEXTS, encoder={"hidden_size": 768})


def test_an_encoder_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="hf download no/where --local-dir .*--text_encoder FOLDER"):
        states(Path("no/where"), TEXTS)

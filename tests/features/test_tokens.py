"""features/tokens.py: ids of word pieces, checked against SentencePiece itself."""

import functools
import re
import shutil
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from benchmarks import tiny_bert
from features import tokens
from features.store import extraction
from features.store.store import Store
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


@pytest.fixture(scope="module")
def kobert(tmp_path_factory) -> Path:
    """A tiny encoder whose files are those of KoBERT."""
    folder = tmp_path_factory.mktemp("kobert")
    tiny_bert.write(folder, TEXTS)
    return folder


def settings(folder: Path, max_length: int = 128, clean: str = "none") -> SimpleNamespace:
    return SimpleNamespace(text_encoder=str(folder), max_length=max_length, clean=clean)


def ids(text: str, folder: Path, *more) -> list[int]:
    [array] = tokens.Extractor(tokens.Feature.parameters(settings(folder, *more)))(text, ["a row"])
    assert array.dtype == np.int32
    return array.tolist()


def reference(folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / tiny_bert.FILE))


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_sentencepieces_between_cls_and_sep(kobert, text):
    assert ids(text, kobert) == [2, *reference(kobert).encode(text), 3]


def test_ids_decode_to_the_line(kobert):
    for text in TEXTS:
        assert reference(kobert).decode(ids(text, kobert)[1:-1]) == text


@pytest.mark.parametrize("longest", [3, 5, 8])
def test_of_a_longer_line_the_beginning_is_kept_and_sep_is_last(kobert, longest):
    whole = reference(kobert).encode(TEXTS[1])
    assert len(whole) > 6
    assert ids(TEXTS[1], kobert, longest) == [2, *whole[: longest - 2], 3]


@pytest.mark.parametrize("longest", [2, 513])
def test_a_length_the_encoder_has_no_places_for_is_an_error(kobert, longest):
    with pytest.raises(UserError, match=rf"--max_length needs 3 to 512, .*; it is {longest}"):
        ids(TEXTS[0], kobert, longest)


def test_a_line_without_pieces_is_unusable(kobert):
    for text, clean in (("  ", "none"), ("ABC, 3!", "hangul")):
        with pytest.raises(Unusable, match="no word pieces"):
            ids(text, kobert, 128, clean)


# --- cleaning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("오늘 날씨가 정말 좋네요.", "오늘 날씨가 정말 좋네요"),
        ("아, 3시야? ㅋㅋ ㅠㅠ OK!", "아 시야 ㅋㅋ ㅠㅠ"),
        ("A  가  B", "가"),
        ("가  나", "가  나"),
        ("가\t나\n다", "가나다"),
        ("漢字 ｶﾅ ①", ""),
        ("", ""),
    ],
)
def test_cleaning_leaves_hangul_and_spaces(text, cleaned):
    assert tokens.hangul(text) == cleaned


def test_every_syllable_and_letter_of_modern_hangul_stays():
    everything = "".join(map(chr, [*range(0x3131, 0x3164), *range(0xAC00, 0xD7A4)]))
    assert len(everything) == 51 + 11172
    assert tokens.hangul(everything) == everything
    around = [0x3130, 0x3164, 0xABFF, 0xD7A4]
    assert tokens.hangul("".join(map(chr, around))) == ""


@given(st.text(st.one_of(st.characters(), st.sampled_from("가나힣ㄱㅣ 아"))))
def test_cleaning_is_the_expression_of_2022_on_composed_text_and_is_stable(text):
    cleaned = tokens.hangul(text)
    allowed = {" ", *map(chr, range(0x3131, 0x3164)), *map(chr, range(0xAC00, 0xD7A4))}
    kept = [c for c in unicodedata.normalize("NFC", text) if c in allowed]
    assert cleaned == "".join(kept).strip(" ")
    assert tokens.hangul(cleaned) == cleaned
    assert tokens.hangul(unicodedata.normalize("NFD", cleaned)) == tokens.hangul(
        unicodedata.normalize("NFC", cleaned)
    )


def test_ids_of_a_cleaned_line_are_those_of_the_clean_line(kobert):
    assert ids("어, ABC!", kobert, 128, "hangul") == ids("어", kobert)
    assert ids("어, ABC!", kobert) != ids("어", kobert)


def test_an_unknown_cleaning_is_an_error(kobert):
    with pytest.raises(UserError, match="--clean 'latin': choose one of none, hangul"):
        tokens.Feature.parameters(settings(kobert, clean="latin"))


# --- the cache -----------------------------------------------------------------------------------


def store(folder: Path, texts: list[str], place: Path, *more) -> Store:
    table = pd.DataFrame(
        {"segment": [f"s{i}" for i in range(len(texts))], "text": texts, "quarantine": ""}
    )
    return extraction.extract(
        "tokens", table, place, place, settings(folder, *more), progress=False
    )


def test_a_batch_holds_the_ids_padded_to_its_longest_and_their_mask(kobert, tmp_path):
    got = store(kobert, [TEXTS[0], "", " ", TEXTS[5]], tmp_path)
    assert got.available.tolist() == [True, False, False, True]
    assert got.troubles == [("s2", "no word pieces")]
    rows = np.array([[0, 1], [-1, 3]])
    block, mask = got.gather(rows), got.mask(rows)
    first, last = ids(TEXTS[0], kobert), ids(TEXTS[5], kobert)
    assert block.dtype == np.int64 and block.shape == mask.shape == (2, 2, len(first))
    assert block[0, 0].tolist() == first and mask[0, 0].all()
    assert block[1, 1, : len(last)].tolist() == last
    assert mask[1, 1].tolist() == [True] * len(last) + [False] * (len(first) - len(last))
    assert not block[0, 1].any() and not mask[[0, 1], [1, 0]].any()
    assert not block[1, 1, len(last) :].any()
    alone = np.array([[3]])
    assert got.gather(alone).shape == got.mask(alone).shape == (1, 1, len(last))


def test_ids_beyond_what_float16_holds_are_stored_exactly():
    assert np.dtype(tokens.Feature.DTYPE) == np.int32
    big = np.array([8001, 70_000], tokens.Feature.DTYPE)
    out = np.zeros((1, 3), np.int64)
    tokens.Feature.gather([big], [None], {}, None, out)
    assert out.tolist() == [[8001, 70_000, 0]]


def test_what_changes_the_ids_changes_the_cache_and_the_weights_do_not(kobert, tmp_path):
    own = Path(shutil.copytree(kobert, tmp_path / "own"))
    before = tokens.Feature.parameters(settings(own))
    assert tokens.Feature.longest(before) == 128 and tokens.Feature.shape(before) == (None,)
    assert tokens.Feature.parameters(settings(own, 64)) != before
    assert tokens.Feature.parameters(settings(own, 128, "hangul")) != before
    (own / "model.safetensors").write_bytes(b"others")
    assert tokens.Feature.parameters(settings(own)) == before
    (own / tiny_bert.FILE).write_bytes(b"others")
    assert tokens.Feature.parameters(settings(own)) != before


@functools.cache
def extractor(folder: Path, longest: int, clean: str) -> tokens.Extractor:
    return tokens.Extractor(tokens.Feature.parameters(settings(folder, longest, clean)))


@examples(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=40), longest=st.integers(3, 20), clean=st.sampled_from(tokens.CLEANINGS)
)
def test_any_text_gives_ids_of_the_encoder_or_is_unusable(kobert, text, longest, clean):
    try:
        [array] = extractor(kobert, longest, clean)(text, ["a row"])
    except Unusable:
        return
    assert array[0] == 2 and array[-1] == 3 and 3 <= len(array) <= longest
    assert (array >= 0).all() and (array < reference(kobert).get_piece_size()).all()
    assert not np.isin(array[1:-1], [1, 2, 3]).any() or re.search(r"\[(PAD|CLS|SEP)\]", text)

"""Groups of AI-Hub's emotional speech, which it has in place of sessions."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from doubles.corpus_aihub_emotion import lay, row, sound, write
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import aihub_emotion
from corpora.preparation import audit, transcripts
from evaluation import leakage, splits
from utils import UserError


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


def heard(texts, hashes, silent=None, names=None):
    n = len(texts)
    return pd.DataFrame(
        {
            "segment": names or [f"{i:024x}" for i in range(n)],
            "text": texts,
            "wav_hash": hashes,
            "silent": silent or [False] * n,
            "quarantine": [""] * n,
        }
    )


def test_rows_of_one_text_or_one_audio_are_one_groups():
    letters = "가나다라마바사아자차카타파하"
    texts = ["왜 그래?", "왜, 그래!", "어 그래", *letters]
    hashes = ["a", "b", "a", *map(str, range(len(letters)))]
    session = aihub_emotion.Reader.grouped(heard(texts, hashes))["session"]
    assert session[0] == session[1] == session[2]
    assert session.nunique() > 5 and session.between(1, 20).all()


def test_silence_is_no_audio_that_two_rows_share():
    texts = [*"가나다라마바사아자차카타파하"]
    n = len(texts)
    silent = aihub_emotion.Reader.grouped(heard(texts, ["a"] * n, [True] * n))["session"]
    assert silent.nunique() > 5
    assert aihub_emotion.Reader.grouped(heard(texts, ["a"] * n))["session"].nunique() == 1


def test_rows_without_words_and_audio_are_each_their_own():
    nothing = heard(["", "..."] * 20, [""] * 40)
    assert aihub_emotion.Reader.grouped(nothing)["session"].nunique() > 5


def test_the_group_of_a_text_is_the_same_on_every_machine():
    session = aihub_emotion.Reader.grouped(heard(["왜 그래?", "가", ""], ["", "", "ab"]))["session"]
    assert session.tolist() == [6, 18, 2]  # of hashlib.blake2b, worked out apart


SAID = st.sampled_from(["", *"가나다라마바사", "가!"])
GROUP = st.tuples(SAID, st.sampled_from(["", *"abcdefg"]), st.booleans())


def parts(table):
    """Connected components by brute force: a set of row numbers each."""
    words = transcripts.normalised(table["text"]).tolist()
    audio = [h if not s else "" for h, s in zip(table["wav_hash"], table["silent"], strict=True)]
    sets = [{i} for i in range(len(table))]
    for i, j in itertools.combinations(range(len(table)), 2):
        if (words[i] and words[i] == words[j]) or (audio[i] and audio[i] == audio[j]):
            a, b = (next(part for part in sets if k in part) for k in (i, j))
            if a is not b:
                sets.remove(b)
                a |= b
    return sets, words


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(GROUP, min_size=1, max_size=14), data=st.data())
def test_groups_are_of_connected_rows_whatever_their_order(rows, data):
    texts, hashes, silent = (list(column) for column in zip(*rows, strict=True))
    table = heard(texts, hashes, silent)
    before = table.copy()
    groups = aihub_emotion.Reader.grouped(table)["session"]
    assert table.equals(before)
    found, words = parts(table)
    for part in found:
        assert groups[[*part]].nunique() == 1
        names = sorted(words[i] for i in part if words[i])
        if names:  # the group of a part is that of its first text alone
            assert (
                groups[min(part)]
                == aihub_emotion.Reader.grouped(heard(names[:1], [""]))["session"][0]
            )
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = aihub_emotion.Reader.grouped(table.loc[order].reset_index(drop=True))["session"]
    assert shuffled.tolist() == groups[order].tolist()
    fewer = (
        aihub_emotion.Reader.grouped(table[: len(rows) // 2])["session"] if len(rows) > 1 else []
    )
    alone = [part for part in found if max(part) < len(rows) // 2]
    for part in alone:  # whoever shares nothing with the rest stays where he is
        assert fewer[min(part)] == groups[min(part)]


def test_groups_cross_no_split_of_the_guard(folder):
    cells = [row(f"{i:024x}", f"말 {i % 7}") for i in range(40)]
    lay(folder, cells)
    write(folder / f"wav/{cells[0][0]}.wav", sound(3))
    write(folder / f"wav/{cells[1][0]}.wav", sound(3))
    utterances, _ = aihub_emotion.Reader.read(folder)
    utterances = aihub_emotion.Reader.grouped(audit.audit(utterances, folder)[0])
    assert utterances["session"][0] == utterances["session"][1]
    there = utterances["session"].unique()
    assert len(there) > 1
    sets = splits.split(there, there[:1]).of(utterances["session"])
    assert leakage.guard(utterances, sets).warnings == []
    crossed = np.where(utterances.index == 0, "test", "train").astype(object)
    with pytest.raises(UserError, match="audio 1"):
        leakage.guard(utterances, crossed)


def test_a_corpus_of_43_991_rows_is_grouped_and_labelled_in_seconds():
    n = 43_991
    table = heard([f"말 {i // 3}" for i in range(n)], [str(i // 2) for i in range(n)])
    table = table.assign(
        situation="sad", rater_emotion="sad;sad;angry;fear;sad", rater_intensity="0;1;2;2;0"
    )
    begun = time.perf_counter()
    aihub_emotion.Reader.grouped(table)
    aihub_emotion.Reader.labelled(table, "intensity")
    assert time.perf_counter() - begun < 20

"""Rows of AI-Hub's emotional speech: ratings, the label rules, what is missing or odd."""

import itertools
from collections import Counter

import numpy as np
import pytest
from doubles.corpus_aihub_emotion import (
    AGE,
    FIRST,
    ID,
    IDS,
    RATED,
    SECOND,
    SITUATION,
    THIRD,
    WORDS,
    edit,
    lay,
    one,
    replace,
    row,
    sound,
    unexpected,
    where,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from constants import EMOTIONS
from corpora import aihub_emotion
from evaluation import splits
from metric import VOTES
from utils import UserError


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


# --- ratings -------------------------------------------------------------------------------------


def test_labels_in_any_case_and_both_aliases_are_ours(folder):
    edit(folder, replace(FIRST, SITUATION, "anger"))
    edit(folder, replace(SECOND, SITUATION, "SAD"))
    edit(folder, lambda cells: cells.append(row("a" * 24, "", "anger", intensities="99999")))
    write(folder / f"wav/{'a' * 24}.wav", sound())
    for rater, label in enumerate("Angry DISGUST Fear surprise sADNESS".split()):
        edit(folder, replace(THIRD, RATED + 2 * rater, label))
    utterances, troubles = aihub_emotion.Reader.read(folder)
    assert utterances["situation"].tolist() == ["angry", "sad", "happy", "happy", ""]
    assert one(utterances, THIRD)["rater_emotion"] == "angry;disgust;fear;surprise;sad"
    rows, cells = unexpected(troubles), "anger Happiness 9 Neutral Sadness"
    assert rows[["treatment", "reason", "segment", "detail"]].values.tolist() == [
        ["converted", "spelling of an emotion", FIRST, "anger"],
        ["converted", "spelling of an emotion", SECOND, "SAD"],
        ["quarantined", "intensity is not 0, 1 or 2", "a" * 24, cells],
    ]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (SITUATION, "bored", "unknown emotion"),
        (SITUATION, "", "unknown emotion"),
        (RATED, "happy", "unknown emotion"),
        (RATED + 8, "disqust", "unknown emotion"),
        (RATED + 1, "3", "intensity is not 0, 1 or 2"),
        (RATED + 9, "-1", "intensity is not 0, 1 or 2"),
        (RATED + 7, "", "intensity is not 0, 1 or 2"),
        (RATED + 3, "1.5", "intensity is not 0, 1 or 2"),
        (RATED + 1, "nan", "intensity is not 0, 1 or 2"),
    ],
)
def test_an_impossible_rating_is_quarantined_and_keeps_its_slot(folder, column, value, reason):
    edit(folder, replace(SECOND, column, value))
    utterances, troubles = aihub_emotion.Reader.read(folder)
    bad = one(utterances, SECOND)
    assert (bad["quarantine"], bad["emotion"], bad["text"]) == (reason, "", "어, 청소 6a5 네가 해!")
    assert bad[VOTES].isna().all()
    assert utterances["segment"].tolist() == list(IDS)
    assert where(troubles, reason) == [SECOND] and len(unexpected(troubles)) == 1
    for rule in aihub_emotion.Reader.LABELS:
        assert one(aihub_emotion.Reader.labelled(utterances, rule), SECOND)["emotion"] == ""


def test_intensities_that_a_spreadsheet_made_decimal_are_whole(folder):
    edit(folder, replace(FIRST, RATED + 1, "1.0"))
    utterances, troubles = aihub_emotion.Reader.read(folder)
    assert one(utterances, FIRST)["rater_intensity"] == "1;1;1;0;2"
    assert unexpected(troubles).empty


def test_age_and_gender_are_kept_as_written_but_harmless(folder):
    edit(folder, replace(FIRST, AGE, "서른\x1b[2J\n" + "9" * 99))
    utterances, _ = aihub_emotion.Reader.read(folder)
    assert one(utterances, FIRST)["age"] == ("서른[2J" + "9" * 99)[:20]


# --- label rules, against a count by hand --------------------------------------------------------


WORDS_OF_LABELS = {"happiness": "happy", "sadness": "sad"}
CORPUS_LABELS = "happiness angry neutral sadness disgust surprise fear".split()


def ours(label):
    return WORDS_OF_LABELS.get(label, label)


def by_hand(rule, situation, raters, strengths):
    """({label: votes}, set of modal labels); both empty where the rule gives none."""
    if rule == "situation":
        return {situation: 5}, {situation}
    counts = Counter()
    for label, strength in zip(raters, strengths, strict=True):
        counts[label] += strength if rule == "intensity" else 1
    counts = {label: n for label, n in counts.items() if n}
    if not counts or (rule == "consensus3" and max(counts.values()) < 3):
        return {}, set()
    return counts, {label for label, n in counts.items() if n == max(counts.values())}


RATING = st.tuples(
    st.sampled_from(CORPUS_LABELS),
    st.lists(st.sampled_from(CORPUS_LABELS[:4]), min_size=5, max_size=5),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
)


@settings(max_examples=100, deadline=None)
@given(ratings=st.lists(RATING, min_size=1, max_size=4))
def test_each_rule_counts_as_it_says(ratings, tmp_path_factory):
    cells = [
        row(name, "", situation, " ".join(raters), "".join(map(str, strengths)))
        for name, (situation, raters, strengths) in zip(IDS, ratings, strict=False)
    ]
    folder = tmp_path_factory.mktemp("rules")
    lay(folder, cells)
    utterances, _ = aihub_emotion.Reader.read(folder)
    assert aihub_emotion.Reader.labelled(utterances, "majority").equals(utterances)
    for rule in aihub_emotion.Reader.LABELS:
        table = aihub_emotion.Reader.labelled(utterances, rule)
        for got, (situation, raters, strengths) in zip(
            table.to_dict("records"), ratings, strict=False
        ):
            raters = [ours(label) for label in raters]
            votes, modal = by_hand(rule, ours(situation), raters, strengths)
            assert {*got["emotion"].split(";")} - {""} == modal
            assert got["emotion"].count(";") == max(len(modal) - 1, 0)
            counts = [got[f"votes_{emotion}"] for emotion in EMOTIONS]
            wanted = [votes.get(e, 0.0) if votes else np.nan for e in EMOTIONS]
            np.testing.assert_array_equal(counts, wanted)


def test_a_tie_names_its_labels_as_the_raters_first_do(folder):
    edit(
        folder,
        lambda cells: cells.__setitem__(0, row(FIRST, raters="Sadness Angry Fear Angry Sadness")),
    )
    utterances, _ = aihub_emotion.Reader.read(folder)
    assert one(utterances, FIRST)["emotion"] == "sad;angry"


def test_rules_can_follow_one_another_and_rows_without_a_label_are_no_targets(folder):
    edit(
        folder,
        lambda cells: cells.__setitem__(
            0, row(FIRST, "", "fear", "Sadness Angry Fear Angry Sadness", "00000")
        ),
    )
    utterances, _ = aihub_emotion.Reader.read(folder)
    for one_rule, other in itertools.permutations(aihub_emotion.Reader.LABELS, 2):
        twice = aihub_emotion.Reader.labelled(
            aihub_emotion.Reader.labelled(utterances, one_rule), other
        )
        assert twice.equals(aihub_emotion.Reader.labelled(utterances, other))
    targets = {
        rule: splits.is_target(aihub_emotion.Reader.labelled(utterances, rule)).tolist()
        for rule in aihub_emotion.Reader.LABELS
    }
    nothing = aihub_emotion.Reader.labelled(utterances, "consensus3").loc[0, VOTES]
    assert nothing.isna().all()
    yes, no = [True] * 4, [False, True, True, True]
    assert targets == {"majority": yes, "situation": yes, "intensity": no, "consensus3": no}


def test_a_rule_of_another_name_is_refused(folder):
    utterances, _ = aihub_emotion.Reader.read(folder)
    with pytest.raises(UserError, match="'mean' in aihub_emotion; there are: majority, situation,"):
        aihub_emotion.Reader.labelled(utterances, "mean")


def test_all_rows_in_quarantine_have_no_label_by_any_rule(folder):
    for name in IDS:
        edit(folder, replace(name, SITUATION, "bored"))
    utterances, _ = aihub_emotion.Reader.read(folder)
    for rule in aihub_emotion.Reader.LABELS:
        assert (aihub_emotion.Reader.labelled(utterances, rule)["emotion"] == "").all()


# --- what is missing or odd ----------------------------------------------------------------------


def test_missing_wavs_are_masked_and_surplus_ones_reported(folder):
    (folder / f"wav/{FIRST}.wav").unlink()
    (folder / f"wav/{SECOND}.wav").unlink()
    edit(folder, replace(SECOND, WORDS, "..."))
    edit(folder, replace(THIRD, WORDS, ""))
    write(folder / "wav/ffffffffffffffffffffffff.wav", sound())
    write(folder / "wav/notes.wav", b"")
    utterances, troubles = aihub_emotion.Reader.read(folder)
    assert where(troubles, "wav missing") == [FIRST]
    assert where(troubles, "no words") == [THIRD]
    assert one(utterances, SECOND)["quarantine"] == "neither wav nor words"
    assert where(troubles, "wav without row") == ["ffffffffffffffffffffffff"]
    assert len(unexpected(troubles)) == 4
    assert one(utterances, FIRST)["quarantine"] == ""


def test_a_folder_without_any_wav_is_refused(folder):
    for path in (folder / "wav").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"needs wavs in 5차년도_2차\.zip, or in a folder of that"):
        aihub_emotion.Reader.read(folder)


def test_the_row_that_is_known_to_be_bad_is_quarantined(folder):
    name = "5e2979c25807b852d9e018d5"
    other = "a" * 24
    edit(folder, lambda cells: cells.extend([row(name), row(other, "-", "bored")]))
    write(folder / f"wav/{name}.wav", sound())
    utterances, troubles = aihub_emotion.Reader.read(folder)
    bad = one(utterances, name)
    assert bad["quarantine"] == "known to be bad"
    assert (bad["emotion"], bad["rater_emotion"], bad["situation"]) == ("", "", "")
    assert where(troubles, "neither wav nor words") == [other]  # and no second reason
    assert where(troubles, "known to be bad") == [name]
    assert (utterances["quarantine"] != "").sum() == len(unexpected(troubles)) == 2


@pytest.mark.parametrize(
    "odd",
    [
        "5E258FD1305BCF3AD153A6A4",
        "5e258fd1305bcf3ad153a6a",
        "5e258fd1305bcf3ad153a6a4.wav",
        "../../../etc/passwd",
        "",
        "세그먼트",
        "5e258fd1305bcf3ad153a6a４",
        "/dev/zero",
        "\x1b[2J" + "x" * 200,
    ],
)
def test_an_id_that_fits_no_pattern_is_quarantined_and_keeps_its_slot(folder, odd):
    edit(folder, replace(SECOND, ID, odd))
    edit(folder, lambda cells: cells.append(row(odd)))
    utterances, troubles = aihub_emotion.Reader.read(folder)
    assert (utterances["quarantine"] != "").tolist() == [False, True, False, False, True]
    bad = utterances[utterances["quarantine"] != ""]
    assert set(bad["quarantine"]) == {"Segment ID fits no pattern"} and set(bad["wav"]) == {""}
    assert utterances["segment"].is_unique and utterances["dialogue"].is_unique
    assert all(name.isprintable() and len(name) < 100 for name in utterances["segment"])
    assert where(troubles, "wav without row") == [SECOND]

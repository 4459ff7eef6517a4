"""AI Hub 263: its trees, zips, label rules and groups. Samples: test_aihub_emotion_sample.py."""

import doctest
import itertools
import time
import unicodedata
import zipfile
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from doubles import corpus_kemdy19, corpus_kemdy20
from doubles.corpus_aihub_emotion import (
    AGE,
    FIRST,
    HEADER,
    ID,
    IDS,
    RATED,
    RELEASE,
    SECOND,
    SITUATION,
    THIRD,
    WORDS,
    download,
    edit,
    lay,
    row,
    rows,
    sound,
    table_bytes,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import utils
from constants import EMOTIONS
from corpora import aihub_emotion, kemdy19, kemdy20, preparation
from corpora.layouts import aihub_emotion as layout
from corpora.preparation import audit, columns, files, transcripts
from evaluation import leakage, splits
from metric import VOTES
from utils import UserError

TABLE = f"annotation/{RELEASE}.csv"


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


def one(utterances, segment):
    found = utterances[utterances["segment"] == segment]
    assert len(found) == 1
    return found.iloc[0]


def where(troubles, reason):
    return troubles.loc[troubles["reason"] == reason, "segment"].tolist()


def unexpected(troubles):
    """What is met besides the encoding that every table has."""
    return troubles[~troubles["reason"].str.startswith("annotation ")]


def replace(name, column, new):
    def change(cells):
        for line in cells:
            if line[ID] == name:
                line[column] = new

    return change


# --- a clean folder ------------------------------------------------------------------------------


def test_utterances_come_in_order_with_every_column_of_the_contract(folder):
    utterances, troubles = aihub_emotion.read(folder)
    assert list(utterances.columns) == [*columns.COLUMNS, *aihub_emotion.COLUMNS]
    assert utterances["segment"].tolist() == list(IDS)
    first = one(utterances, FIRST)
    assert (first["corpus"], first["role"], first["kind"]) == (
        "aihub_emotion",
        "speaker",
        "prompted",
    )
    assert (first["dialogue"], first["speaker"]) == (FIRST, "")
    assert utterances[["start", "end", "valence", "arousal"]].isna().all(axis=None)
    assert first["wav"] == f"wav/{FIRST}.wav"
    assert (first["text"], first["quarantine"]) == ("어, 청소 6a4 네가 해!", "")
    assert first["emotion"] == "happy"
    assert first[VOTES].tolist() == [0, 0, 1, 0, 0, 1, 3]
    assert (first["situation"], first["rater_intensity"]) == ("happy", "2;1;1;0;2")
    assert first["rater_emotion"] == "happy;happy;happy;neutral;sad"
    assert (first["age"], first["gender"], first["release"]) == ("27", "male", RELEASE)
    assert unexpected(troubles).empty
    assert where(troubles, "annotation in CP949") == [""]
    assert where(troubles, "annotation with CRLF line ends") == [""]


def test_sources_are_the_files_the_tables_depend_on_and_reading_changes_none(folder):
    download(folder, "4차년도")
    write(folder / f"4차년도_wav/{FIRST}.wav", sound())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    sources = aihub_emotion.sources(folder)
    assert set(sources) == {path for path in before if path.is_file()}
    assert len(sources) == len(set(sources))
    aihub_emotion.read(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        ("{0}.zip", "{0}_wav/"),
        ("{0}.zip", ""),
        ("{0}.zip", "a/b/"),
        ("{0}/", ""),
        ("{0}_wav/", ""),
        ("{0}/{0}_wav/", ""),
        ("wav/", ""),
    ],
)
@pytest.mark.parametrize("release", ["4차년도", "5차년도", "5차년도_2차"])
def test_the_wavs_of_a_download_are_found_in_its_zip_and_in_folders(
    place, inside, release, tmp_path
):
    place = place.format(release)
    if place.endswith(".zip"):
        download(tmp_path, release, inside=inside)
    else:
        write(tmp_path / f"{release}.csv", table_bytes(rows()))
        for value, name in enumerate(IDS, 1):
            write(tmp_path / f"{place}{name}.wav", sound(value))
        inside = ""
    utterances, troubles = aihub_emotion.read(tmp_path)
    path = place + "/" * place.endswith(".zip") + inside.format(release)
    assert utterances["wav"].tolist() == [f"{path}{name}.wav" for name in IDS]
    assert set(utterances["release"]) == {release} and unexpected(troubles).empty
    heard, troubles = audit.audit(utterances, tmp_path)
    assert (heard["quarantine"] == "").all() and heard["duration"].tolist() == [0.1] * 4
    assert heard["wav_hash"].nunique() == 4
    data = [utils.read_bytes(tmp_path / wav) for wav in utterances["wav"]]
    assert data == [sound(value) for value in (1, 2, 3, 4)]


def test_a_wav_in_a_folder_goes_before_the_one_in_the_zip(tmp_path):
    download(tmp_path)
    write(tmp_path / f"{RELEASE}/{SECOND}.wav", sound(9))
    utterances, _ = aihub_emotion.read(tmp_path)
    assert one(utterances, SECOND)["wav"] == f"{RELEASE}/{SECOND}.wav"
    assert one(utterances, FIRST)["wav"] == f"{RELEASE}.zip/{RELEASE}_wav/{FIRST}.wav"


def test_releases_follow_one_another_and_an_id_of_two_is_read_from_the_first(tmp_path):
    download(tmp_path, "5차년도_2차", [row(FIRST, "다른 말"), row(SECOND), row(IDS[3])], first=5)
    download(tmp_path, "4차년도", [row(SECOND), row(FIRST)])
    utterances, troubles = aihub_emotion.read(tmp_path)
    assert utterances["segment"].tolist() == [SECOND, FIRST, IDS[3]]
    assert utterances["release"].tolist() == ["4차년도", "4차년도", "5차년도_2차"]
    assert utterances["wav"].str.partition("/")[0].tolist() == [
        "4차년도.zip",
        "4차년도.zip",
        "5차년도_2차.zip",
    ]
    assert where(troubles, "repeated row left out") == [FIRST, SECOND]
    assert unexpected(troubles)["detail"].tolist() == [
        "5차년도_2차.csv row 1, unlike 4차년도.csv row 2",
        "5차년도_2차.csv row 2, as 4차년도.csv row 1",
    ]


def test_a_wav_that_only_another_release_has_is_taken_from_there(tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:2]))
    write(tmp_path / "5차년도.csv", table_bytes(rows(IDS[2:])))
    write(tmp_path / f"4차년도/{THIRD}.wav", sound())
    utterances, troubles = aihub_emotion.read(tmp_path)
    assert one(utterances, THIRD)["wav"] == f"4차년도/{THIRD}.wav"
    assert unexpected(troubles)[["treatment", "reason", "segment"]].values.tolist() == [
        ["masked", "wav missing", IDS[3]]
    ]


def test_of_a_wav_that_two_releases_have_a_row_takes_that_of_its_own(tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:2]))
    download(tmp_path, "5차년도", rows(IDS[1:3]))
    write(tmp_path / "4차년도.csv", table_bytes(rows(IDS[:1])))
    utterances, troubles = aihub_emotion.read(tmp_path)
    assert one(utterances, SECOND)["wav"].startswith("5차년도.zip/")
    assert unexpected(troubles).empty


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_either_normal_form_are_found(form, tmp_path):
    def named(path):
        return tmp_path / unicodedata.normalize(form, path)

    download(tmp_path / "made", "4차년도", rows(IDS[:1]))
    for ending in (".csv", ".zip"):
        (tmp_path / f"made/4차년도{ending}").rename(named(f"4차년도{ending}"))
    write(named("annotation/5차년도.csv"), table_bytes(rows(IDS[1:2])))
    write(named(f"5차년도_wav/{SECOND}.wav"), sound())
    utterances, troubles = aihub_emotion.read(tmp_path)
    assert utterances["release"].tolist() == ["4차년도", "5차년도"]
    assert unexpected(troubles).empty
    heard, _ = audit.audit(utterances, tmp_path)
    assert (heard["quarantine"] == "").all() and heard["duration"].notna().all()


# --- which corpus it is --------------------------------------------------------------------------


def test_the_three_corpora_are_told_apart_by_their_trees(folder, tmp_path):
    trees = {
        "aihub_emotion": folder,
        "kemdy19": corpus_kemdy19.lay(tmp_path / "a"),
        "kemdy20": corpus_kemdy20.lay(tmp_path / "b"),
    }
    for name, tree in trees.items():
        assert preparation.recognise(str(tree)) == (name, tree)
        fits = [leaf.matches(tree) for leaf in (aihub_emotion, kemdy19, kemdy20)]
        assert sum(fits) == 1
    download(tmp_path / "c", "4차년도")
    assert preparation.recognise(str(tmp_path / "c")) == ("aihub_emotion", tmp_path / "c")


def test_a_table_of_another_name_is_no_release(tmp_path):
    write(tmp_path / "annotation/6차년도.csv", table_bytes(rows()))
    assert not aihub_emotion.matches(tmp_path)
    with pytest.raises(UserError, match=r"needs one of 4차년도\.csv, 5차년도\.csv, 5차년도_2차"):
        aihub_emotion.read(tmp_path)


def test_it_is_prepared_and_every_label_rule_can_be_asked_for(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    edit(folder, replace(FIRST, SITUATION, "fear"))
    emotions = {
        rule: preparation.open_corpus(str(folder), labels=rule).role("speaker")["emotion"][0]
        for rule in (None, *aihub_emotion.LABELS)
    }
    assert emotions == {
        None: "happy",
        "majority": "happy",
        "situation": "fear",
        "intensity": "happy",
        "consensus3": "happy",
    }
    corpus = preparation.open_corpus(str(folder))
    assert set(corpus.utterances["session"]) <= {*range(1, 21)}
    with pytest.raises(UserError, match="aihub_emotion has no 'listener' labels; it has: speaker"):
        corpus.role("listener")


def test_a_download_is_prepared_from_its_zip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    download(tmp_path / "c", "4차년도")
    utterances = preparation.open_corpus("c").role("speaker")
    assert (utterances["quarantine"] == "").all() and utterances["duration"].tolist() == [0.1] * 4


# --- the table -----------------------------------------------------------------------------------


def test_the_column_without_its_space_is_the_header_and_one_with_it_is_another(folder):
    path = folder / TABLE
    text = path.read_bytes().decode("cp949")
    path.write_bytes(text.replace("4번감정세기", "4번 감정세기").encode("cp949"))
    with pytest.raises(UserError, match=r"needs '4번감정세기' at line 1 column 11 \(header\)"):
        aihub_emotion.read(folder)
    path.write_bytes((text + "a,b\r\n").encode("cp949"))
    with pytest.raises(UserError, match="needs 15 columns, line 6 has 2"):
        aihub_emotion.read(folder)
    path.write_bytes((HEADER + "\r\n").encode("cp949"))
    with pytest.raises(UserError, match="list no wav"):
        aihub_emotion.read(folder)


def test_a_table_saved_again_in_utf8_is_read_alike(folder):
    before, _ = aihub_emotion.read(folder)
    (folder / TABLE).write_bytes(table_bytes(rows(), "utf-8-sig", "\n"))
    after, troubles = aihub_emotion.read(folder)
    pd.testing.assert_frame_equal(after, before)
    assert troubles.empty


def test_words_with_marks_and_line_ends_are_made_one_line(folder):
    edit(folder, replace(FIRST, WORDS, 'b/ 아,\r\n "왜"\t그래'))
    utterances, _ = aihub_emotion.read(folder)
    assert one(utterances, FIRST)["text"] == '아, "왜" 그래'


# --- ratings -------------------------------------------------------------------------------------


def test_labels_in_any_case_and_both_aliases_are_ours(folder):
    edit(folder, replace(FIRST, SITUATION, "anger"))
    edit(folder, replace(SECOND, SITUATION, "SAD"))
    edit(folder, lambda cells: cells.append(row("a" * 24, "", "anger", intensities="99999")))
    write(folder / f"wav/{'a' * 24}.wav", sound())
    for rater, label in enumerate("Angry DISGUST Fear surprise sADNESS".split()):
        edit(folder, replace(THIRD, RATED + 2 * rater, label))
    utterances, troubles = aihub_emotion.read(folder)
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
    utterances, troubles = aihub_emotion.read(folder)
    bad = one(utterances, SECOND)
    assert (bad["quarantine"], bad["emotion"], bad["text"]) == (reason, "", "어, 청소 6a5 네가 해!")
    assert bad[VOTES].isna().all()
    assert utterances["segment"].tolist() == list(IDS)
    assert where(troubles, reason) == [SECOND] and len(unexpected(troubles)) == 1
    for rule in aihub_emotion.LABELS:
        assert one(aihub_emotion.labelled(utterances, rule), SECOND)["emotion"] == ""


def test_intensities_that_a_spreadsheet_made_decimal_are_whole(folder):
    edit(folder, replace(FIRST, RATED + 1, "1.0"))
    utterances, troubles = aihub_emotion.read(folder)
    assert one(utterances, FIRST)["rater_intensity"] == "1;1;1;0;2"
    assert unexpected(troubles).empty


def test_age_and_gender_are_kept_as_written_but_harmless(folder):
    edit(folder, replace(FIRST, AGE, "서른\x1b[2J\n" + "9" * 99))
    utterances, _ = aihub_emotion.read(folder)
    assert one(utterances, FIRST)["age"] == ("서른[2J" + "9" * 99)[:20]


# --- label rules, against a count by hand ---------------------------------------------------------

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
    utterances, _ = aihub_emotion.read(folder)
    assert aihub_emotion.labelled(utterances, "majority").equals(utterances)
    for rule in aihub_emotion.LABELS:
        table = aihub_emotion.labelled(utterances, rule)
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
    utterances, _ = aihub_emotion.read(folder)
    assert one(utterances, FIRST)["emotion"] == "sad;angry"


def test_rules_can_follow_one_another_and_rows_without_a_label_are_no_targets(folder):
    edit(
        folder,
        lambda cells: cells.__setitem__(
            0, row(FIRST, "", "fear", "Sadness Angry Fear Angry Sadness", "00000")
        ),
    )
    utterances, _ = aihub_emotion.read(folder)
    for one_rule, other in itertools.permutations(aihub_emotion.LABELS, 2):
        twice = aihub_emotion.labelled(aihub_emotion.labelled(utterances, one_rule), other)
        assert twice.equals(aihub_emotion.labelled(utterances, other))
    targets = {
        rule: splits.is_target(aihub_emotion.labelled(utterances, rule)).tolist()
        for rule in aihub_emotion.LABELS
    }
    nothing = aihub_emotion.labelled(utterances, "consensus3").loc[0, VOTES]
    assert nothing.isna().all()
    yes, no = [True] * 4, [False, True, True, True]
    assert targets == {"majority": yes, "situation": yes, "intensity": no, "consensus3": no}


def test_a_rule_of_another_name_is_refused(folder):
    utterances, _ = aihub_emotion.read(folder)
    with pytest.raises(UserError, match="'mean' in aihub_emotion; there are: majority, situation,"):
        aihub_emotion.labelled(utterances, "mean")


def test_all_rows_in_quarantine_have_no_label_by_any_rule(folder):
    for name in IDS:
        edit(folder, replace(name, SITUATION, "bored"))
    utterances, _ = aihub_emotion.read(folder)
    for rule in aihub_emotion.LABELS:
        assert (aihub_emotion.labelled(utterances, rule)["emotion"] == "").all()


# --- what is missing or odd ----------------------------------------------------------------------


def test_missing_wavs_are_masked_and_surplus_ones_reported(folder):
    (folder / f"wav/{FIRST}.wav").unlink()
    (folder / f"wav/{SECOND}.wav").unlink()
    edit(folder, replace(SECOND, WORDS, "..."))
    edit(folder, replace(THIRD, WORDS, ""))
    write(folder / "wav/ffffffffffffffffffffffff.wav", sound())
    write(folder / "wav/notes.wav", b"")
    utterances, troubles = aihub_emotion.read(folder)
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
        aihub_emotion.read(folder)


def test_the_row_that_is_known_to_be_bad_is_quarantined(folder):
    name = "5e2979c25807b852d9e018d5"
    other = "a" * 24
    edit(folder, lambda cells: cells.extend([row(name), row(other, "-", "bored")]))
    write(folder / f"wav/{name}.wav", sound())
    utterances, troubles = aihub_emotion.read(folder)
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
    utterances, troubles = aihub_emotion.read(folder)
    assert (utterances["quarantine"] != "").tolist() == [False, True, False, False, True]
    bad = utterances[utterances["quarantine"] != ""]
    assert set(bad["quarantine"]) == {"Segment ID fits no pattern"} and set(bad["wav"]) == {""}
    assert utterances["segment"].is_unique and utterances["dialogue"].is_unique
    assert all(name.isprintable() and len(name) < 100 for name in utterances["segment"])
    assert where(troubles, "wav without row") == [SECOND]


# --- groups in place of sessions -----------------------------------------------------------------


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
    session = aihub_emotion.grouped(heard(texts, hashes))["session"]
    assert session[0] == session[1] == session[2]
    assert session.nunique() > 5 and session.between(1, 20).all()


def test_silence_is_no_audio_that_two_rows_share():
    texts = [*"가나다라마바사아자차카타파하"]
    n = len(texts)
    silent = aihub_emotion.grouped(heard(texts, ["a"] * n, [True] * n))["session"]
    assert silent.nunique() > 5
    assert aihub_emotion.grouped(heard(texts, ["a"] * n))["session"].nunique() == 1


def test_rows_without_words_and_audio_are_each_their_own():
    nothing = heard(["", "..."] * 20, [""] * 40)
    assert aihub_emotion.grouped(nothing)["session"].nunique() > 5


def test_the_group_of_a_text_is_the_same_on_every_machine():
    session = aihub_emotion.grouped(heard(["왜 그래?", "가", ""], ["", "", "ab"]))["session"]
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
    groups = aihub_emotion.grouped(table)["session"]
    assert table.equals(before)
    found, words = parts(table)
    for part in found:
        assert groups[[*part]].nunique() == 1
        names = sorted(words[i] for i in part if words[i])
        if names:  # the group of a part is that of its first text alone
            assert groups[min(part)] == aihub_emotion.grouped(heard(names[:1], [""]))["session"][0]
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = aihub_emotion.grouped(table.loc[order].reset_index(drop=True))["session"]
    assert shuffled.tolist() == groups[order].tolist()
    fewer = aihub_emotion.grouped(table[: len(rows) // 2])["session"] if len(rows) > 1 else []
    alone = [part for part in found if max(part) < len(rows) // 2]
    for part in alone:  # whoever shares nothing with the rest stays where he is
        assert fewer[min(part)] == groups[min(part)]


def test_groups_cross_no_split_of_the_guard(folder):
    cells = [row(f"{i:024x}", f"말 {i % 7}") for i in range(40)]
    lay(folder, cells)
    write(folder / f"wav/{cells[0][0]}.wav", sound(3))
    write(folder / f"wav/{cells[1][0]}.wav", sound(3))
    utterances, _ = aihub_emotion.read(folder)
    utterances = aihub_emotion.grouped(audit.audit(utterances, folder)[0])
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
    aihub_emotion.grouped(table)
    aihub_emotion.labelled(table, "intensity")
    assert time.perf_counter() - begun < 20


# --- zips ----------------------------------------------------------------------------------------


def test_names_of_its_zip_in_another_code_page_are_found(tmp_path):
    """Windows writes names as CP949 without saying so; zipfile reads them as CP437."""
    download(tmp_path, "4차년도", rows(IDS[:1]), "xx_xx/")
    path = tmp_path / "4차년도.zip"
    path.write_bytes(path.read_bytes().replace(b"xx_xx", "차_차".encode("cp949")))
    utterances, _ = aihub_emotion.read(tmp_path)
    heard, _ = audit.audit(utterances, tmp_path)
    assert heard[["quarantine", "duration"]].values.tolist() == [["", 0.1]]


@pytest.mark.parametrize(
    "name",
    [
        "../{}",
        "/{}",
        "a/../../{}",
        "a\\{}/{}",
        "C:/{}",
        "./{}",
        "a//{}",
        "a\n/{}",
        "\x1b[2J/{}",
        " /{}",
        ".../{}",
    ],
)
def test_a_member_at_a_path_that_leads_elsewhere_is_quarantined(name, tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:2]))
    with zipfile.ZipFile(tmp_path / "4차년도.zip", "w") as archive:
        archive.writestr(name.replace("{}", f"{FIRST}.wav"), sound())
        archive.writestr(f"{SECOND}.wav", sound())
    utterances, troubles = aihub_emotion.read(tmp_path)
    first = one(utterances, FIRST)
    assert first["quarantine"] == f"wav {files.OUTSIDE}" and first["wav"] == ""
    assert one(utterances, SECOND)["quarantine"] == ""


def test_members_of_other_names_are_left_alone(tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:1]))
    with zipfile.ZipFile(tmp_path / "4차년도.zip", "a") as archive:
        for name in (
            f"__MACOSX/._{FIRST}.wav",
            f"{SECOND}.WAV",
            f"{SECOND}.txt",
            "a/",
            f"{SECOND}",
        ):
            archive.writestr(name, b"x")
    utterances, troubles = aihub_emotion.read(tmp_path)
    assert unexpected(troubles).empty and len(utterances) == 1


def test_an_encrypted_member_is_quarantined(tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:2]))
    path = tmp_path / "4차년도.zip"
    with zipfile.ZipFile(path) as archive:
        at = archive.start_dir
    data = bytearray(path.read_bytes())
    data[at + 8] |= 1  # general purpose bit 0 of the first entry of the central directory
    path.write_bytes(data)
    utterances, troubles = aihub_emotion.read(tmp_path)
    assert one(utterances, FIRST)["quarantine"] == "wav encrypted in its zip"
    assert one(utterances, SECOND)["quarantine"] == ""


def test_a_member_packed_as_nobody_packs_wavs_is_quarantined(tmp_path):
    write(tmp_path / "4차년도.csv", table_bytes(rows(IDS[:2])))
    with zipfile.ZipFile(tmp_path / "4차년도.zip", "w") as archive:
        archive.writestr(f"{FIRST}.wav", sound(), zipfile.ZIP_LZMA)
        archive.writestr(f"{SECOND}.wav", sound(), zipfile.ZIP_STORED)
    utterances, _ = aihub_emotion.read(tmp_path)
    assert utterances["quarantine"].tolist() == ["wav packed in another way than deflate", ""]


@pytest.mark.parametrize(
    ("size", "packed", "bad"),
    [
        (layout.LARGEST, zipfile.ZIP_STORED, False),
        (layout.LARGEST + 1, zipfile.ZIP_STORED, True),
        (layout.SPARE, zipfile.ZIP_DEFLATED, False),
        (4 * layout.SPARE, zipfile.ZIP_DEFLATED, True),
    ],
)
def test_an_absurd_size_is_refused_and_a_large_or_silent_wav_is_not(size, packed, bad, tmp_path):
    write(tmp_path / "4차년도.csv", table_bytes(rows(IDS[:1])))
    with zipfile.ZipFile(tmp_path / "4차년도.zip", "w", packed) as archive:
        archive.writestr(f"{FIRST}.wav", bytes(size))
    utterances, _ = aihub_emotion.read(tmp_path)
    assert utterances["quarantine"].tolist() == ["wav too large in its zip" if bad else ""]


def test_a_damaged_member_is_quarantined_when_it_is_heard(tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:2]), "")
    path = tmp_path / "4차년도.zip"
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{FIRST}.wav")
    data = bytearray(path.read_bytes())
    at = entry.header_offset + 30 + len(entry.filename)
    data[at : at + entry.compress_size] = b"\xff" * entry.compress_size
    path.write_bytes(data)
    utterances, _ = aihub_emotion.read(tmp_path)
    heard, troubles = audit.audit(utterances, tmp_path)
    assert (heard["quarantine"] != "").tolist() == [True, False]
    assert troubles["treatment"].tolist()[0] == "quarantined"


def test_what_is_no_zip_is_refused(tmp_path):
    download(tmp_path, "4차년도")
    (tmp_path / "4차년도.zip").write_bytes(b"no zip\n" * 9)
    with pytest.raises(UserError, match=r"4차년도\.zip should be a zip of wavs; File is not a zip"):
        aihub_emotion.read(tmp_path)


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(layout).failed == 0 and doctest.testmod(layout).attempted > 0

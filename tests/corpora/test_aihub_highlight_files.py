"""AI-Hub's highlights as a folder: its trees, videos and what is prepared from them."""

import doctest
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles import corpus_aihub_emotion, corpus_kemdy19, corpus_kemdy20
from doubles.corpus_aihub_highlight import (
    FOOD,
    LABELS,
    LEFT_OUT,
    LENGTH,
    MARKED,
    TRAVEL,
    VIDEOS,
    edit,
    film,
    label,
    lay,
    of,
    reasons,
    write,
)
from doubles.hostile import watched
from hypothesis import given, settings
from hypothesis import strategies as st

import utils
from corpora import aihub_emotion, aihub_highlight, kemdy19, kemdy19_2022, kemdy20
from corpora.labels import aihub_highlight as labels
from corpora.layouts import aihub_highlight as layout
from corpora.preparation import columns, corpus
from metric import VOTES
from utils import UserError


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


def expected(rule):
    """The highlights of FOOD, second by second, from what the annotators mark."""
    seconds = [
        [any(a <= second <= b for a, b in spans) for spans in MARKED[FOOD].values()]
        for second in range(10)
    ]
    count = {"union": any, "majority": lambda s: sum(s) >= 2, "mean": lambda s: sum(s) / 3}[rule]
    return [float(count(second)) for second in seconds]


# --- a clean folder ------------------------------------------------------------------------------


def test_seconds_come_in_order_with_every_column_of_the_contract(folder):
    utterances, troubles = aihub_highlight.Reader.read(folder)
    assert list(utterances.columns) == [*columns.COLUMNS, *aihub_highlight.Reader.COLUMNS]
    assert utterances["dialogue"].tolist() == [TRAVEL] * 10 + [FOOD] * 10  # 9.5 s are ten
    assert utterances["segment"].tolist()[:2] == [f"{TRAVEL}#00000", f"{TRAVEL}#00001"]
    assert utterances["segment"].is_unique and troubles.empty
    assert of(utterances, TRAVEL)["start"].tolist() == [*map(float, range(10))]
    assert (utterances["end"] - utterances["start"] == 1).all()
    for name, value in {
        "corpus": "aihub_highlight",
        "role": "speaker",
        "speaker": "",
        "text": "",
        "emotion": "",
        "quarantine": "",
        "class_code": "6",
    }.items():
        assert set(utterances[name]) == {value}
    assert utterances[[*VOTES, "valence", "arousal"]].isna().all(axis=None)
    assert set(of(utterances, FOOD)["wav"]) == {f"{VIDEOS}/{FOOD}.mp4"}
    assert set(of(utterances, FOOD)["kind"]) == {"음식"}
    assert set(of(utterances, FOOD)["annotators"]) == {"0001;0002;0003"}
    assert set(utterances["session"]) == {layout.group(FOOD), layout.group(TRAVEL)}


def test_marks_are_in_the_order_of_annotators_and_ends_are_inclusive(folder):
    utterances, _ = aihub_highlight.Reader.read(folder)
    assert of(utterances, FOOD)["marks"].tolist() == [
        "0;0;0",
        "0;0;0",
        "1;0;1",
        "0;1;1",
        "0;0;0",
        "0;0;0",
        "0;0;0",
        "0;0;0",
        "1;0;0",
        "0;0;0",
    ]


@pytest.mark.parametrize("rule", aihub_highlight.Reader.LABELS)
def test_each_rule_gives_what_it_says(rule, folder):
    utterances, _ = aihub_highlight.Reader.read(folder)
    highlight = of(aihub_highlight.Reader.labelled(utterances, rule), FOOD)["highlight"]
    assert highlight.tolist() == pytest.approx(expected(rule))


def test_the_first_rule_is_the_union_and_another_name_is_refused(folder):
    assert aihub_highlight.Reader.LABELS[0] == "union"
    utterances, _ = aihub_highlight.Reader.read(folder)
    with pytest.raises(UserError, match="no label rule 'any' in aihub_highlight; there are: union"):
        aihub_highlight.Reader.labelled(utterances, "any")


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=30)
    )
)
@settings(deadline=None, derandomize=True)
def test_rules_agree_with_counting_by_hand(seconds):
    marks = [np.array(mark) for mark in zip(*seconds, strict=True)]
    table = pd.DataFrame({"marks": labels.joined(marks, len(seconds)), "quarantine": ""})
    found = {rule: labels.labelled(table, rule)["highlight"].tolist() for rule in labels.RULES}
    for i, second in enumerate(seconds):
        votes = sum(second)
        assert found["union"][i] == (votes > 0)
        assert found["majority"][i] == (2 * votes > len(second))
        assert found["mean"][i] == pytest.approx(votes / len(second))


def test_half_of_the_annotators_are_no_majority_and_one_is_all():
    table = pd.DataFrame({"marks": ["1;0", "1", "1;1;0;0"], "quarantine": ""})
    assert labels.labelled(table, "majority")["highlight"].tolist() == [0, 1, 0]


def test_sources_are_the_files_the_tables_depend_on_and_reading_changes_none(folder):
    write(folder / "readme.txt", "")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert set(aihub_highlight.Reader.sources(folder)) == {
        path for path in before if path.suffix in (".mp4", ".json")
    }
    aihub_highlight.Reader.read(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


# --- trees ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("videos", "beside"),
    [
        (VIDEOS, LABELS),
        ("videos", "labels"),
        ("원천데이터", "라벨링데이터"),
        (".", "."),
        ("my films/2023", "my films/2023"),
        ("VS_유튜브_04", "VL_youtube/a/b"),
        ("1.Training/원천데이터/TS_유튜브_01", "1.Training/라벨링데이터/TL_유튜브"),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_any_tree_of_either_normal_form_reads_alike(videos, beside, form, folder, tmp_path):
    def named(path):
        return unicodedata.normalize(form, str(path))

    made = lay(tmp_path / "made", videos, beside)
    other = tmp_path / "other"
    for path in filter(Path.is_file, made.rglob("*")):
        write(other / named(path.relative_to(made)), path.read_bytes())
    assert corpus.recognise(str(other)) == ("aihub_highlight", other)
    before, _ = aihub_highlight.Reader.read(folder)
    after, troubles = aihub_highlight.Reader.read(other)
    assert troubles.empty
    pd.testing.assert_frame_equal(after.drop(columns="wav"), before.drop(columns="wav"))
    assert all((other / wav).is_file() for wav in after["wav"])  # spelt as on disk


def test_corpora_are_told_apart_by_their_trees(folder, tmp_path):
    trees = {
        "aihub_highlight": folder,
        "kemdy19": corpus_kemdy19.lay(tmp_path / "a"),
        "kemdy20": corpus_kemdy20.lay(tmp_path / "b"),
        "aihub_emotion": corpus_aihub_emotion.lay(tmp_path / "c"),
    }
    for name, tree in trees.items():
        assert corpus.recognise(str(tree)) == (name, tree)
        leaves = (aihub_highlight, aihub_emotion, kemdy19, kemdy19_2022, kemdy20)
        assert sum(one.Reader.matches(tree) for one in leaves) == 1


@pytest.mark.parametrize(
    "names",
    [
        ["a_b.json"],
        ["a.mp4"],
        ["a.mp4", "a.json"],
        ["a.mp4", "_1.json"],
        ["a.mp4", "a_.json"],
        [".a.mp4", "a_1.json"],
        [".hidden/a.mp4", "a_1.json"],
    ],
)
def test_videos_without_a_label_file_or_the_other_way_round_are_no_corpus(names, tmp_path):
    for name in names:
        write(tmp_path / name, "")
    assert not aihub_highlight.Reader.matches(tmp_path)
    with pytest.raises(UserError, match=r"needs videos X\.mp4 and labels X_<annotator>\.json"):
        aihub_highlight.Reader.read(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["[KBS]뉴스_9 [광장]_01", "news_footage_12", "my film", "a_b_c_d", "a#00001", "=1+1", ".."],
)
def test_a_video_is_all_of_a_label_s_name_up_to_its_last_line(name, tmp_path):
    write(tmp_path / f"{name}.mp4", "")
    write(tmp_path / f"{name}_7.json", label(name, "7", [(1, 1)]))
    if name.startswith("."):  # hidden
        pytest.raises(UserError, aihub_highlight.Reader.read, tmp_path)
        return
    utterances, troubles = aihub_highlight.Reader.read(tmp_path)
    assert set(utterances["dialogue"]) == {name} and troubles.empty
    assert utterances["segment"].iloc[-1] == f"{name}#00009"
    assert set(utterances["annotators"]) == {"7"}


def test_of_two_videos_with_one_name_the_first_is_used(folder):
    write(folder / f"1.Training/{FOOD}.mp4", "other")
    utterances, troubles = aihub_highlight.Reader.read(folder)
    assert reasons(troubles) == {"repeated video left out": 1}
    assert troubles["detail"].tolist() == [f"1.Training/{FOOD}.mp4"]
    assert len(utterances) == 20 and of(utterances, FOOD)["wav"][0] == f"{VIDEOS}/{FOOD}.mp4"


def test_the_name_in_nfc_goes_before_the_other_in_one_folder(tmp_path):
    for form in ("NFD", "NFC"):
        write(tmp_path / unicodedata.normalize(form, f"{FOOD}.mp4"), form)
    write(tmp_path / f"{FOOD}_1.json", label(FOOD, "1", [(0, 1)]))
    utterances, _ = aihub_highlight.Reader.read(tmp_path)
    assert utils.read_bytes(tmp_path / utterances["wav"][0]) == b"NFC"


def test_videos_and_labels_without_the_other_are_reported_by_name(folder):
    (folder / VIDEOS / f"{TRAVEL}.mp4").unlink()
    write(folder / "other.mp4", "")
    with watched() as paths:
        utterances, troubles = aihub_highlight.Reader.read(folder)
    assert not [path for path in paths if TRAVEL in path]  # of a part nothing else is opened
    assert set(utterances["dialogue"]) == {FOOD}
    assert set(troubles["treatment"]) == {"reported"}
    assert dict(zip(troubles["reason"], troubles["segment"], strict=True)) == {
        "video without labels": "other",
        "labels without video": TRAVEL,
    }
    (folder / VIDEOS / f"{FOOD}.mp4").unlink()
    with pytest.raises(
        UserError, match=f"no video in .* has labels; .* such as other, .* {TRAVEL}"
    ):
        aihub_highlight.Reader.read(folder)


def test_groups_come_from_the_name_alone_and_are_even():
    names = [f"유튜브_{kind}_{number:05d}" for kind in ("음식", "여행") for number in range(2000)]
    groups = [layout.group(name) for name in names]
    assert groups == [layout.group(unicodedata.normalize("NFD", name)) for name in names]
    counts = Counter(groups)
    assert set(counts) == {*range(1, 21)} and min(counts.values()) > 140  # of 200
    assert [layout.group(name) for name in (FOOD, TRAVEL)] == GOLDEN


GOLDEN = [11, 3]  # BLAKE2b of the name: splits in configurations of older runs name these


def test_examples_in_docstrings_hold():
    assert doctest.testmod(layout).failed == 0


# --- lengths -------------------------------------------------------------------------------------


def lengths(folder, *values):
    for annotator, value in zip(sorted(MARKED[FOOD]), values, strict=True):
        edit(folder, f"{FOOD}_{annotator}", lambda v, s=value: v["metadata"].update(length=s))
    return aihub_highlight.Reader.read(folder)


def test_a_little_disagreement_on_the_length_is_reported_and_the_longest_counts(folder):
    utterances, troubles = lengths(folder, 9.5, 13.2, 12.0)
    assert reasons(troubles)["annotators differ on the length"] == 1
    assert "0001 9.5 s, 0002 13.2 s, 0003 12 s" in set(troubles["detail"])
    marks = of(utterances, FOOD)["marks"]
    assert len(marks) == 14 and set(marks[10:]) == {"0;0;0"} and marks[8] == "1;0;0"


def test_labels_of_another_length_are_those_of_another_cut_and_left_out(folder):
    utterances, troubles = lengths(folder, 9.5, 900.0, 10.0)
    assert of(utterances, FOOD)["annotators"][0] == "0001;0003"
    assert len(of(utterances, FOOD)) == 10
    left = troubles[troubles["reason"] == f"{LEFT_OUT}another length"]
    assert left["detail"].tolist() == ["0002 900 s, others 10 s"]
    (folder / LABELS / f"{FOOD}_0003.json").unlink()  # of two, the shorter is believed
    assert of(aihub_highlight.Reader.read(folder)[0], FOOD)["annotators"][0] == "0001"


def test_a_video_of_two_seconds_is_two_rows(tmp_path):
    write(tmp_path / "v.mp4", "")
    write(tmp_path / "v_1.json", label("v", "1", [(1, 1)], length=2))
    utterances, _ = aihub_highlight.Reader.read(tmp_path)
    assert utterances["marks"].tolist() == ["0", "1"]
    write(tmp_path / "v_1.json", label("v", "1", [(0, 0)], length=0.04))
    assert aihub_highlight.Reader.read(tmp_path)[0]["marks"].tolist() == ["1"]


def test_seconds_that_the_video_does_not_have_are_in_quarantine(folder):
    utterances, _ = aihub_highlight.Reader.read(folder)
    seconds = utterances["dialogue"].map({FOOD: 8.0, TRAVEL: np.nan})
    grouped = aihub_highlight.Reader.grouped(utterances.assign(duration=seconds))
    bad = grouped[grouped["quarantine"] != ""]
    assert bad["segment"].tolist() == [f"{FOOD}#00008", f"{FOOD}#00009"]
    assert set(bad["quarantine"]) == {"beyond the end of the video"}
    bad = aihub_highlight.Reader.grouped(
        utterances.assign(duration=0.0, quarantine="known to be bad")
    )
    assert set(bad["quarantine"]) == {"known to be bad"}


def test_more_seconds_than_memory_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(aihub_highlight, "MOST", 19)
    with pytest.raises(UserError, match="2 videos have 20 seconds, more than 19"):
        aihub_highlight.Reader.read(lay(tmp_path))


# --- prepared ------------------------------------------------------------------------------------


def test_it_is_prepared_heard_and_labelled_by_each_rule(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "c", film=film(LENGTH))
    for rule in (None, *aihub_highlight.Reader.LABELS):
        utterances = corpus.open_corpus("c", labels=rule).role("speaker")
        highlight = of(utterances, FOOD)["highlight"]
        assert highlight.tolist() == pytest.approx(expected(rule or "union"))
        assert (utterances["quarantine"] == "").all() and not utterances["silent"].any()
        assert utterances["duration"].to_numpy() == pytest.approx(LENGTH, abs=0.26)
        assert set(utterances["class_code"]) == {"6"}  # words, read back


def test_a_video_that_is_shorter_than_its_labels_is_prepared_without_what_is_not_there(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "c", film=film(8.0, sound=False))
    utterances = corpus.open_corpus("c", max_bad=0.2).role("speaker")
    bad = utterances[utterances["quarantine"] != ""]
    assert bad["start"].tolist() == [8, 9, 8, 9] and utterances["silent"].all()
    assert set(bad["quarantine"]) == {"beyond the end of the video"}
    assert utterances["highlight"].isna().tolist() == (utterances["quarantine"] != "").tolist()


def test_an_mp4_that_is_none_is_in_quarantine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "c", film=film(LENGTH))
    write(tmp_path / f"c/{VIDEOS}/{TRAVEL}.mp4", "no film")
    utterances = corpus.open_corpus("c", max_bad=0.5).role("speaker")
    assert of(utterances, FOOD)["quarantine"].eq("").all()
    assert of(utterances, TRAVEL)["quarantine"].ne("").all()

"""AI Hub 616: its trees, label files and label rules. Samples: test_aihub_highlight_sample.py."""

import contextlib
import doctest
import json
import os
import shutil
import time
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
    LENGTH,
    MARKED,
    TRAVEL,
    VIDEOS,
    edit,
    film,
    label,
    lay,
    write,
)
from doubles.hostile import watched, within
from hypothesis import given, settings
from hypothesis import strategies as st

import utils
from corpora import aihub_emotion, aihub_highlight, kemdy19, kemdy19_2022, kemdy20
from corpora.labels import aihub_highlight as labels
from corpora.layouts import aihub_highlight as layout
from corpora.preparation import columns, corpus, files
from metric import VOTES
from utils import UserError

LEFT_OUT = "label file left out: "


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


def of(table, video):
    return table[table["dialogue"] == video].reset_index(drop=True)


def reasons(troubles):
    return Counter(troubles["reason"])


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
    utterances, troubles = aihub_highlight.read(folder)
    assert list(utterances.columns) == [*columns.COLUMNS, *aihub_highlight.COLUMNS]
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
    utterances, _ = aihub_highlight.read(folder)
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


@pytest.mark.parametrize("rule", aihub_highlight.LABELS)
def test_each_rule_gives_what_it_says(rule, folder):
    utterances, _ = aihub_highlight.read(folder)
    highlight = of(aihub_highlight.labelled(utterances, rule), FOOD)["highlight"]
    assert highlight.tolist() == pytest.approx(expected(rule))


def test_the_first_rule_is_the_union_and_another_name_is_refused(folder):
    assert aihub_highlight.LABELS[0] == "union"
    utterances, _ = aihub_highlight.read(folder)
    with pytest.raises(UserError, match="no label rule 'any' in aihub_highlight; there are: union"):
        aihub_highlight.labelled(utterances, "any")


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
    assert set(aihub_highlight.sources(folder)) == {
        path for path in before if path.suffix in (".mp4", ".json")
    }
    aihub_highlight.read(folder)
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
    before, _ = aihub_highlight.read(folder)
    after, troubles = aihub_highlight.read(other)
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
        assert sum(leaf.matches(tree) for leaf in leaves) == 1


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
    assert not aihub_highlight.matches(tmp_path)
    with pytest.raises(UserError, match=r"needs videos X\.mp4 and labels X_<annotator>\.json"):
        aihub_highlight.read(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["[KBS]뉴스_9 [광장]_01", "news_footage_12", "my film", "a_b_c_d", "a#00001", "=1+1", ".."],
)
def test_a_video_is_all_of_a_label_s_name_up_to_its_last_line(name, tmp_path):
    write(tmp_path / f"{name}.mp4", "")
    write(tmp_path / f"{name}_7.json", label(name, "7", [(1, 1)]))
    if name.startswith("."):  # hidden
        pytest.raises(UserError, aihub_highlight.read, tmp_path)
        return
    utterances, troubles = aihub_highlight.read(tmp_path)
    assert set(utterances["dialogue"]) == {name} and troubles.empty
    assert utterances["segment"].iloc[-1] == f"{name}#00009"
    assert set(utterances["annotators"]) == {"7"}


def test_of_two_videos_with_one_name_the_first_is_used(folder):
    write(folder / f"1.Training/{FOOD}.mp4", "other")
    utterances, troubles = aihub_highlight.read(folder)
    assert reasons(troubles) == {"repeated video left out": 1}
    assert troubles["detail"].tolist() == [f"1.Training/{FOOD}.mp4"]
    assert len(utterances) == 20 and of(utterances, FOOD)["wav"][0] == f"{VIDEOS}/{FOOD}.mp4"


def test_the_name_in_nfc_goes_before_the_other_in_one_folder(tmp_path):
    for form in ("NFD", "NFC"):
        write(tmp_path / unicodedata.normalize(form, f"{FOOD}.mp4"), form)
    write(tmp_path / f"{FOOD}_1.json", label(FOOD, "1", [(0, 1)]))
    utterances, _ = aihub_highlight.read(tmp_path)
    assert utils.read_bytes(tmp_path / utterances["wav"][0]) == b"NFC"


def test_videos_and_labels_without_the_other_are_reported_by_name(folder):
    (folder / VIDEOS / f"{TRAVEL}.mp4").unlink()
    write(folder / "other.mp4", "")
    with watched() as paths:
        utterances, troubles = aihub_highlight.read(folder)
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
        aihub_highlight.read(folder)


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


# --- label files ---------------------------------------------------------------------------------

BROKEN = {
    "starts before 0 or after its end": [
        lambda v: v["timelines"][0].update(start=4, end=3),
        lambda v: v["timelines"][0].update(start=-1),
    ],
    "ends after the video": [
        lambda v: v["timelines"][0].update(end=10),
        lambda v: v["metadata"].update(length=8),
        lambda v: v["timelines"][0].update(end=10**400 // 10**300),
    ],
    "two timelines with one id": [lambda v: v["timelines"][1].update(id=1)],
    "no start and end in whole seconds": [
        lambda v: v["timelines"][0].update(start=2.5),
        lambda v: v["timelines"][0].update(start=True),
        lambda v: v["timelines"][0].update(end="3"),
        lambda v: v["timelines"][0].pop("end"),
        lambda v: v["timelines"].append([0, 1]),
    ],
    "length is no number of seconds": [
        lambda v: v["metadata"].update(length=0),
        lambda v: v["metadata"].update(length="9.5"),
        lambda v: v["metadata"].update(length=1e9),
        lambda v: v["metadata"].update(length=True),
        lambda v: v["metadata"].update(length=float("nan")),
        lambda v: v["metadata"].clear(),
        lambda v: v["metadata"].update(length=float("inf")),
        lambda v: v["metadata"].update(length=-(10**400)),
    ],
    "needs an object with metadata": [lambda v: v.pop("metadata"), lambda v: v.update(metadata=[])],
    "needs an object with timelines": [
        lambda v: v.pop("timelines"),
        lambda v: v.update(timelines={"id": 1}),
    ],
    "annotator id is no word": [
        lambda v: v["metadata"].update(annotator_id="a;b"),
        lambda v: v["metadata"].update(annotator_id="a\nb"),
        lambda v: v["metadata"].update(annotator_id={}),
        lambda v: v["metadata"].update(annotator_id="x" * 41),
    ],
    "another one of this annotator is used": [lambda v: v["metadata"].update(annotator_id="0002")],
}


@pytest.mark.parametrize(
    ("reason", "change"), [(reason, c) for reason, changes in BROKEN.items() for c in changes]
)
def test_a_label_file_that_cannot_be_is_left_out_and_reported(reason, change, folder):
    name = f"{FOOD}_0001" if "another" not in reason else f"{FOOD}_0003"
    edit(folder, name, change)
    utterances, troubles = aihub_highlight.read(folder)
    left = troubles[troubles["reason"].str.startswith(LEFT_OUT)]
    assert left["reason"].str.contains(reason).tolist() == [True]
    assert left["segment"].tolist() == [FOOD]
    assert left["detail"].tolist() == [f"{LABELS}/{name}.json"]
    kept = {"0001", "0002", "0003"} - {name[-4:]}
    assert of(utterances, FOOD)["annotators"][0] == ";".join(sorted(kept))
    assert set(utterances["quarantine"]) == {""} and len(utterances) == 20
    assert of(utterances, FOOD)["marks"].str.len().eq(3).all()  # two are left: "0;1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"3",
        b"null",
        b"{",
        b"\xff\xfe{\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b"\x00" * 100,
        '{"metadata": "한글", "timelines": []}'.encode("cp949"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_json_of_the_corpus_is_left_out_and_reported(data, folder):
    path = folder / LABELS / f"{FOOD}_0001.json"
    path.write_bytes(data)
    with within(5):
        utterances, troubles = aihub_highlight.read(folder)
    assert len(troubles) == 1 and troubles["reason"][0].startswith(LEFT_OUT)
    assert of(utterances, FOOD)["annotators"][0] == "0002;0003"


def test_a_label_file_of_megabytes_is_left_out_though_it_is_sound(folder):
    path = folder / LABELS / f"{FOOD}_0001.json"
    path.write_bytes(path.read_bytes() + b" " * labels.LARGEST)
    _, troubles = aihub_highlight.read(folder)
    assert reasons(troubles) == {f"{LEFT_OUT}larger than 4,194,304 bytes": 1}


def test_a_label_file_may_begin_with_a_byte_order_mark(folder):
    path = folder / LABELS / f"{FOOD}_0001.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert aihub_highlight.read(folder)[1].empty


def test_a_video_without_any_usable_annotator_is_in_quarantine(folder):
    for annotator in MARKED[FOOD]:
        write(folder / LABELS / f"{FOOD}_{annotator}.json", "{}")
    utterances, troubles = aihub_highlight.read(folder)
    bad = of(utterances, FOOD)
    assert bad[["start", "quarantine", "marks", "annotators"]].values.tolist() == [
        [0.0, "no usable annotator", "", ""]
    ]
    assert troubles.loc[troubles["treatment"] == "quarantined", "segment"].tolist() == [FOOD]
    highlight = aihub_highlight.labelled(utterances, "union")["highlight"]
    assert highlight.isna().sum() == 1 and len(of(utterances, TRAVEL)) == 10


def test_the_video_that_is_known_to_be_bad_is_in_quarantine_with_all_its_seconds(folder):
    write(folder / "news_footage_1710.mp4", "")
    write(folder / "news_footage_1710_1.json", label("news_footage_1710", "1", [(1, 1)]))
    utterances, _ = aihub_highlight.read(folder)
    bad = of(utterances, "news_footage_1710")
    assert len(bad) == 10 and set(bad["quarantine"]) == {"known to be bad"}
    assert aihub_highlight.labelled(bad, "mean")["highlight"].isna().all()


def test_files_against_the_validity_rules_are_reported_and_used(folder):
    spans = [(0, 5), (30, 31)]  # of 5 min at least round(2.5) = 2 tags, and 5 % of the seconds
    for number, (some, length) in enumerate([(spans, 300.5), (spans[:1], 300.5), ([], 59.9)]):
        write(folder / f"{number}.mp4", "")
        write(folder / f"{number}_1.json", label(str(number), "1", some, length))
    utterances, troubles = aihub_highlight.read(folder)
    few, share = "fewer highlights than the rule", "not 5% to 25% marked"
    found = sorted(zip(troubles["segment"], troubles["reason"], strict=True))
    assert found == [("0", share), ("1", few), ("1", share), ("2", share)]
    assert set(troubles["treatment"]) == {"reported"} and set(utterances["quarantine"]) == {""}
    assert [len(of(utterances, str(number))) for number in range(3)] == [301, 301, 60]
    edit(folder, "0_1", lambda v: v["timelines"].append({"id": 3, "start": 60, "end": 69}))
    assert "0" not in set(aihub_highlight.read(folder)[1]["segment"])


def test_what_metadata_says_otherwise_is_reported(folder):
    edit(folder, f"{FOOD}_0001", lambda v: v["metadata"].update(file_name="other.mp4"))
    edit(folder, f"{FOOD}_0002", lambda v: v["metadata"].update(annotator_id=9))
    edit(folder, f"{FOOD}_0003", lambda v: v["metadata"].update(class_code=9))
    edit(folder, f"{TRAVEL}_0001", lambda v: v["metadata"].update(class_code=1))
    utterances, troubles = aihub_highlight.read(folder)
    assert reasons(troubles) == {
        "label names another video": 1,
        "annotator id differs from the file name": 1,
        "class_code is not 1 to 8": 1,
        "annotators differ on class_code": 1,
    }
    assert of(utterances, FOOD)["annotators"][0] == "0001;0003;9"
    assert of(utterances, FOOD)["marks"][3] == "0;1;1"
    assert of(utterances, FOOD)["class_code"][0] == "6"


@pytest.mark.parametrize("name", [FOOD, f"{FOOD}.mp4", f"VS_유튜브_01/{FOOD}.mp4"])
def test_a_file_name_in_metadata_may_have_folders_and_a_suffix(name, folder):
    change = unicodedata.normalize("NFD", name)
    edit(folder, f"{FOOD}_0001", lambda v: v["metadata"].update(file_name=change))
    assert aihub_highlight.read(folder)[1].empty


# --- lengths -------------------------------------------------------------------------------------


def lengths(folder, *values):
    for annotator, value in zip(sorted(MARKED[FOOD]), values, strict=True):
        edit(folder, f"{FOOD}_{annotator}", lambda v, s=value: v["metadata"].update(length=s))
    return aihub_highlight.read(folder)


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
    assert of(aihub_highlight.read(folder)[0], FOOD)["annotators"][0] == "0001"


def test_a_video_of_two_seconds_is_two_rows(tmp_path):
    write(tmp_path / "v.mp4", "")
    write(tmp_path / "v_1.json", label("v", "1", [(1, 1)], length=2))
    utterances, _ = aihub_highlight.read(tmp_path)
    assert utterances["marks"].tolist() == ["0", "1"]
    write(tmp_path / "v_1.json", label("v", "1", [(0, 0)], length=0.04))
    assert aihub_highlight.read(tmp_path)[0]["marks"].tolist() == ["1"]


def test_seconds_that_the_video_does_not_have_are_in_quarantine(folder):
    utterances, _ = aihub_highlight.read(folder)
    seconds = utterances["dialogue"].map({FOOD: 8.0, TRAVEL: np.nan})
    grouped = aihub_highlight.grouped(utterances.assign(duration=seconds))
    bad = grouped[grouped["quarantine"] != ""]
    assert bad["segment"].tolist() == [f"{FOOD}#00008", f"{FOOD}#00009"]
    assert set(bad["quarantine"]) == {"beyond the end of the video"}
    bad = aihub_highlight.grouped(utterances.assign(duration=0.0, quarantine="known to be bad"))
    assert set(bad["quarantine"]) == {"known to be bad"}


def test_more_seconds_than_memory_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(aihub_highlight, "MOST", 19)
    with pytest.raises(UserError, match="2 videos have 20 seconds, more than 19"):
        aihub_highlight.read(lay(tmp_path))


# --- hostile folders -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{VIDEOS}/{FOOD}.mp4", f"{LABELS}/{FOOD}_0001.json"])
def test_what_a_link_leads_to_outside_is_never_opened(name, folder, tmp_path):
    shutil.move(folder / name, tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    with watched() as paths:
        utterances, troubles = aihub_highlight.read(folder)
    assert str(tmp_path / "outside") not in paths
    food = of(utterances, FOOD)
    if name.endswith(".mp4"):
        assert set(food["quarantine"]) == {f"video {files.OUTSIDE}"} and len(food) == 10
        assert set(food["wav"]) == {""} and set(food["marks"]) == {""}
    else:
        assert food["annotators"][0] == "0002;0003"
        assert reasons(troubles) == {LEFT_OUT + files.OUTSIDE: 1}


@pytest.mark.parametrize("name", [f"{VIDEOS}/{FOOD}.mp4", f"{LABELS}/{FOOD}_0001.json"])
def test_a_pipe_a_device_or_nothing_in_place_of_a_file_is_never_waited_for(name, folder):
    makes = {
        files.NO_FILE: os.mkfifo,
        files.OUTSIDE: lambda path: path.symlink_to("/dev/zero"),
        "unreadable: No such file or directory": lambda path: path.symlink_to("nowhere"),
    }
    for fault, make in makes.items():
        (folder / name).unlink()
        make(folder / name)
        with within(5):
            utterances, troubles = aihub_highlight.read(folder)
            aihub_highlight.sources(folder)
        assert of(utterances, TRAVEL)["quarantine"].eq("").all()
        if name.endswith(".json"):
            assert troubles["reason"].tolist() == [LEFT_OUT + fault]
            assert of(utterances, FOOD)["annotators"][0] == "0002;0003"
        elif "No such" in fault:  # which is found out where videos are opened
            assert set(of(utterances, FOOD)["wav"]) == {name}
        else:
            assert set(of(utterances, FOOD)["quarantine"]) == {f"video {fault}"}


def test_a_link_within_the_corpus_changes_nothing(folder):
    before, _ = aihub_highlight.read(folder)
    path = folder / LABELS / f"{FOOD}_0001.json"
    shutil.move(path, folder / "label.txt")
    path.symlink_to("../../../../../label.txt")
    assert path.exists()
    after, troubles = aihub_highlight.read(folder)
    assert troubles.empty and after.equals(before)


def test_links_to_folders_are_not_followed_so_loops_end(folder):
    for number in range(8):
        (folder / f"loop{number}").symlink_to(".")
    with within(5):
        utterances, troubles = aihub_highlight.read(folder)
    assert len(utterances) == 20 and troubles.empty


def test_folders_in_folders_without_end_are_not_entered(folder):
    deep = folder
    for _ in range(400):
        deep = deep / "d"
    os.makedirs(deep)
    with within(5):
        assert aihub_highlight.matches(folder) and len(aihub_highlight.read(folder)[0]) == 20
    write(folder / ("d/" * (layout.DEPTH + 1)) / "deep.mp4", "")
    assert aihub_highlight.read(folder)[1].empty
    write(folder / ("d/" * layout.DEPTH) / "deep.mp4", "")
    assert reasons(aihub_highlight.read(folder)[1]) == {"video without labels": 1}


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    """Which root always can: so the system says that it cannot."""
    (folder / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert aihub_highlight.matches(folder)
    write(folder.parent / "other/closed/a_1.json", "")
    write(folder.parent / "other/a.mp4", "")
    assert not aihub_highlight.matches(folder.parent / "other")  # it may be another corpus
    with pytest.raises(UserError, match=r"cannot list .*/closed: Permission denied"):
        aihub_highlight.read(folder)


def test_names_that_cannot_be_printed_are_left_out_and_named_in_ascii(folder):
    for name in ("a\x1b[31m.mp4", "b\u202e.mp4", "a\n_1.json"):
        write(folder / name, "{}")
    with contextlib.suppress(OSError):  # not everywhere may a name be no UTF-8
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4")).write_bytes(b"")
    utterances, troubles = aihub_highlight.read(folder)
    assert len(utterances) == 20
    assert reasons(troubles) == {
        "video left out: name is not printable": 2,
        "label left out: name is not printable": 1,
    }
    assert all(cell.isascii() and cell.isprintable() for cell in troubles["detail"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "metadata",
                        "timelines",
                        "start",
                        "end",
                        "id",
                        "length",
                        "annotator_id",
                        "file_name",
                        "class_code",
                    ]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
@settings(deadline=None, derandomize=True, max_examples=300)
def test_any_json_is_marks_or_left_out(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    good = label("v", "1", [(1, 2)])
    for data in (
        value,
        good | {"timelines": value},
        good | {"metadata": value},
        good | {"timelines": [value]},
        good | {"metadata": good["metadata"] | value if isinstance(value, dict) else value},
    ):
        path.write_text(json.dumps(data))
        with contextlib.suppress(labels.Unusable):
            marks = labels.read(path, "v", "1")
            assert marks.seconds.dtype == bool and len(marks.seconds) == np.ceil(marks.length)


def test_reading_goes_on_linearly_with_the_number_of_label_files(tmp_path):
    """2,000 files in about half a second, so 100,000 in half a minute."""
    for number in range(500):
        write(tmp_path / f"v{number}.mp4", "")
        for annotator in "1234":
            data = label(f"v{number}", annotator, [(60 * k, 60 * k + 9) for k in range(9)], 700.5)
            write(tmp_path / f"{number % 7}/v{number}_{annotator}.json", data)
    before = time.process_time()
    utterances, troubles = aihub_highlight.read(tmp_path)
    assert len(utterances) == 500 * 701 and troubles.empty
    assert time.process_time() - before < 10


# --- prepared ------------------------------------------------------------------------------------


def test_it_is_prepared_heard_and_labelled_by_each_rule(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "c", film=film(LENGTH))
    for rule in (None, *aihub_highlight.LABELS):
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

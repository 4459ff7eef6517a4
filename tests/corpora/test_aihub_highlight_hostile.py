"""Folders of AI-Hub's highlights that were made to do harm."""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from doubles.corpus_aihub_highlight import (
    FOOD,
    LABELS,
    LEFT_OUT,
    TRAVEL,
    VIDEOS,
    label,
    lay,
    of,
    reasons,
    write,
)
from doubles.hostile import watched, within
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import aihub_highlight
from corpora.labels import aihub_highlight as labels
from corpora.layouts import aihub_highlight as layout
from corpora.preparation import files
from utils import UserError


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


@pytest.mark.parametrize("name", [f"{VIDEOS}/{FOOD}.mp4", f"{LABELS}/{FOOD}_0001.json"])
def test_what_a_link_leads_to_outside_is_never_opened(name, folder, tmp_path):
    shutil.move(folder / name, tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    with watched() as paths:
        utterances, troubles = aihub_highlight.Reader.read(folder)
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
            utterances, troubles = aihub_highlight.Reader.read(folder)
            aihub_highlight.Reader.sources(folder)
        assert of(utterances, TRAVEL)["quarantine"].eq("").all()
        if name.endswith(".json"):
            assert troubles["reason"].tolist() == [LEFT_OUT + fault]
            assert of(utterances, FOOD)["annotators"][0] == "0002;0003"
        elif "No such" in fault:  # which is found out where videos are opened
            assert set(of(utterances, FOOD)["wav"]) == {name}
        else:
            assert set(of(utterances, FOOD)["quarantine"]) == {f"video {fault}"}


def test_a_link_within_the_corpus_changes_nothing(folder):
    before, _ = aihub_highlight.Reader.read(folder)
    path = folder / LABELS / f"{FOOD}_0001.json"
    shutil.move(path, folder / "label.txt")
    path.symlink_to("../../../../../label.txt")
    assert path.exists()
    after, troubles = aihub_highlight.Reader.read(folder)
    assert troubles.empty and after.equals(before)


def test_links_to_folders_are_not_followed_so_loops_end(folder):
    for number in range(8):
        (folder / f"loop{number}").symlink_to(".")
    with within(5):
        utterances, troubles = aihub_highlight.Reader.read(folder)
    assert len(utterances) == 20 and troubles.empty


def test_folders_in_folders_without_end_are_not_entered(folder):
    deep = folder
    for _ in range(400):
        deep = deep / "d"
    os.makedirs(deep)
    with within(5):
        assert (
            aihub_highlight.Reader.matches(folder)
            and len(aihub_highlight.Reader.read(folder)[0]) == 20
        )
    write(folder / ("d/" * (layout.DEPTH + 1)) / "deep.mp4", "")
    assert aihub_highlight.Reader.read(folder)[1].empty
    write(folder / ("d/" * layout.DEPTH) / "deep.mp4", "")
    assert reasons(aihub_highlight.Reader.read(folder)[1]) == {"video without labels": 1}


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    """Which root always can: so the system says that it cannot."""
    (folder / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert aihub_highlight.Reader.matches(folder)
    write(folder.parent / "other/closed/a_1.json", "")
    write(folder.parent / "other/a.mp4", "")
    assert not aihub_highlight.Reader.matches(folder.parent / "other")  # it may be another corpus
    with pytest.raises(UserError, match=r"cannot list .*/closed: Permission denied"):
        aihub_highlight.Reader.read(folder)


def test_names_that_cannot_be_printed_are_left_out_and_named_in_ascii(folder):
    for name in ("a\x1b[31m.mp4", "b\u202e.mp4", "a\n_1.json"):
        write(folder / name, "{}")
    with contextlib.suppress(OSError):  # not everywhere may a name be no UTF-8
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4")).write_bytes(b"")
    utterances, troubles = aihub_highlight.Reader.read(folder)
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
    utterances, troubles = aihub_highlight.Reader.read(tmp_path)
    assert len(utterances) == 500 * 701 and troubles.empty
    assert time.process_time() - before < 10

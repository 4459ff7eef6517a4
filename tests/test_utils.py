"""Plugins, seeds and files that are never half-written."""

import hashlib
import os
import shutil
import subprocess

import pytest

import utils
from utils import UserError


def test_an_unknown_leaf_names_those_there_are():
    with pytest.raises(UserError, match=r"no 'kobart' in models/; there are: .*mate"):
        utils.leaf("models", "kobart")


def test_a_leaf_name_cannot_leave_its_folder():
    with pytest.raises(UserError, match="no '../utils'"):
        utils.leaf("models", "../utils")


@pytest.mark.parametrize(
    ("names", "line"),
    [([], ""), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d"], "a, b, c and 1 more")],
)
def test_a_line_names_the_first_few_and_counts_the_others(names, line):
    assert utils.first_few(names) == line


def test_a_line_of_the_first_few_is_joined_and_ended_as_the_caller_says():
    assert utils.first_few(["a", "b", "c"], 2, "; ") == "a; b and 1 more"
    assert utils.first_few(["a", "b", "c"], 1, rest=", ...") == "a, ..."


def test_a_name_is_utf8_where_all_of_its_bytes_are():
    assert utils.is_utf8("") and utils.is_utf8("a.wav") and utils.is_utf8("발화 😀.wav")
    assert not utils.is_utf8(os.fsdecode(b"\xb9\xdf\xc8\xad.wav"))  # CP949 of 발화


def test_a_seed_depends_on_everything_it_is_for():
    seeds = {
        utils.seed_of(1, "order", 1),
        utils.seed_of(1, "order", 2),
        utils.seed_of(1, "crop", 1),
        utils.seed_of(2, "order", 1),
    }
    assert len(seeds) == 4
    assert utils.seed_of(1, "order", 1) == utils.seed_of(1, "order", 1)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    utils.write_atomic(path, "old")

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"cannot write .*result.json: No space left on device"):
        utils.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_json_refuses_what_is_not_a_number(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        utils.write_json(tmp_path / "a.json", {"ccc": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"a":}', "\x00", '{"a": NaN}', '{"a": [-Infinity]}', '{"a": 1e999}']
)
def test_a_file_that_is_no_json_object_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json"):
        utils.read_json(tmp_path / "a.json")


def test_a_sealed_file_comes_back_and_b2sum_knows_it(tmp_path):
    path = tmp_path / "model.pth"
    utils.write_sealed(path, b"weights")
    assert utils.read_sealed(path) == b"weights"
    line = (tmp_path / "model.pth.b2sum").read_text()
    assert line == f"{hashlib.blake2b(b'weights').hexdigest()}  model.pth\n"
    if shutil.which("b2sum"):
        subprocess.run(
            ["b2sum", "--check", "--strict", path.name + ".b2sum"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    utils.remove_sealed(path)
    assert not list(tmp_path.iterdir())


def test_a_sealed_file_that_was_changed_is_refused_and_one_without_a_seal_is_read(tmp_path):
    path = tmp_path / "model.pth"
    utils.write_sealed(path, b"weights")
    path.write_bytes(b"weight5")
    with pytest.raises(UserError, match="model.pth is damaged: model.pth.b2sum holds the checksum"):
        utils.read_sealed(path)
    (tmp_path / "model.pth.b2sum").unlink()
    assert utils.read_sealed(path) == b"weight5"


def test_a_disk_that_returns_other_bytes_is_noticed(tmp_path, monkeypatch):
    real = utils.write_atomic
    monkeypatch.setattr(
        utils, "write_atomic", lambda path, data: real(path, data[:-1] if path.suffix else data)
    )
    with pytest.raises(UserError, match="reads back differently than it was written"):
        utils.write_sealed(tmp_path / "a.bin", b"12345")

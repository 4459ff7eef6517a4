"""Hostile KEMDy20 and AI Hub 263: a result, a quarantined row or one line, no more.

What is done to KEMDy19 in test_kemdy19_hostile.py, with the same tools.
"""

import contextlib
import csv
import io
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
from doubles import corpus_aihub_emotion as aihub
from doubles import corpus_kemdy20 as kemdy
from doubles.damage import PREPARE, command, table_damaged
from doubles.hostile import OUT, prepare_apart, replaced, table, watched, within
from doubles.two_layouts import RELEASE, TABLES, check_tables, lay

import main
import utils
from corpora import kemdy20, preparation
from corpora.layouts import aihub_emotion as layout
from corpora.preparation import columns
from utils import UserError

WAV = "wav/Session01/Sess01_script01_User001F_001.wav"
SENSOR = "EDA/Session01/Sess01_script01_User001F.csv"
CLEAN = [*PREPARE[:-1], "0"]  # no row may be bad


@pytest.fixture
def place(tmp_path):
    """A folder to work in, with an empty `outside`."""
    (tmp_path / "outside").mkdir()
    with contextlib.chdir(tmp_path):
        yield tmp_path


def moved_out(name: str) -> None:
    """A file or folder of the corpus moved away, with a link in its place."""
    there = Path("outside", Path(name).name).absolute()
    shutil.move(Path("corpus", name), there)
    Path("corpus", name).symlink_to(there)


def quarantined() -> dict[str, str]:
    """{segment: reason} of the prepared rows that are bad."""
    rows = table()
    bad = rows[rows["quarantine"] != ""]
    return dict(zip(bad["segment"], bad["quarantine"], strict=True))


def test_what_is_laid_down_here_is_sound(place):
    for name in TABLES:
        lay(name, place / "corpus")
        assert main.main(CLEAN) == 0
        check_tables()
        shutil.rmtree("corpus")
        shutil.rmtree("data")


# --- links ---------------------------------------------------------------------------------------


FILES = {
    WAV: f"wav unreadable: {OUT}",
    WAV.replace(".wav", ".txt"): f"txt unreadable: {OUT}",
    "wav/Session01": f"wav unreadable: {OUT}",
    f"{RELEASE}_wav/{aihub.FIRST}.wav": f"wav unreadable: {OUT}",
    f"{RELEASE}_wav": f"wav unreadable: {OUT}",
}


@pytest.mark.parametrize("name", FILES)
def test_what_a_link_leads_to_outside_is_quarantined_and_never_opened(name, place):
    corpus = "kemdy20" if name.startswith("wav/") else "aihub_emotion"
    lay(corpus, place / "corpus")
    moved_out(name)
    with watched() as paths:
        assert main.main(PREPARE) == 0
    assert not [path for path in paths if path.startswith(str(place / "outside"))]
    bad = quarantined()
    assert set(bad.values()) == {FILES[name]}
    assert len(bad) == (len(kemdy.SEGMENTS) if name == "wav/Session01" else 1)
    check_tables()


@pytest.mark.parametrize("name", [*TABLES.values(), f"{RELEASE}.zip", "annotation"])
def test_a_table_or_a_zip_that_is_outside_is_refused(name, place, capsys):
    lay("kemdy20" if name.startswith("annotation") else "aihub_emotion", place / "corpus")
    moved_out(name)
    with watched() as paths:
        assert main.main(PREPARE) == 2
    assert f"is unreadable: {OUT}; put the file itself there" in capsys.readouterr().err
    assert not [path for path in paths if path.startswith(str(place / "outside"))]


def test_sensors_that_are_outside_are_refused(place):
    lay("kemdy20", place / "corpus")
    moved_out(SENSOR)
    with watched() as paths, pytest.raises(UserError, match=f"User001F.csv is unreadable: {OUT}"):
        kemdy20.Reader.signals(Path("corpus"))
    assert not [path for path in paths if path.startswith(str(place / "outside"))]


def test_links_within_the_corpus_change_nothing(place):
    for name, files in (("kemdy20", [WAV, SENSOR]), ("aihub_emotion", [f"{RELEASE}.zip"])):
        lay(name, place / "corpus")
        (place / "corpus/store").mkdir()
        for file in [*files, TABLES[name]]:
            path, there = Path("corpus", file), Path("corpus/store", Path(file).name)
            shutil.move(path, there)
            path.symlink_to(os.path.relpath(there, path.parent))
        assert main.main(CLEAN) == 0
        shutil.rmtree("corpus")
        shutil.rmtree("data")


# --- what is no file -----------------------------------------------------------------------------


def test_pipes_devices_and_folders_are_never_opened(place):
    lay("kemdy20", place / "corpus")
    other = WAV.replace("User001F", "User002F")
    replaced(WAV, os.mkfifo)
    replaced(other, lambda path: path.symlink_to("/dev/zero"))
    replaced(WAV.replace("_001.wav", "_002.txt"), os.mkdir)
    answer = prepare_apart()
    assert answer.returncode == 0, answer.stderr
    assert quarantined() == {
        "Sess01_script01_User001F_001": "wav unreadable: not a regular file",
        "Sess01_script01_User002F_001": f"wav unreadable: {OUT}",
        "Sess01_script01_User001F_002": "txt unreadable: not a regular file",
    }


def test_wavs_of_aihub_that_are_no_files_are_never_opened(place):
    lay("aihub_emotion", place / "corpus")
    replaced(f"{RELEASE}_wav/{aihub.FIRST}.wav", os.mkfifo)
    Path(f"corpus/{RELEASE}_wav/{aihub.SECOND}.wav").symlink_to("/dev/zero")
    Path(f"corpus/{RELEASE}_wav/{aihub.THIRD}.wav").mkdir()
    answer = prepare_apart()
    assert answer.returncode == 0, answer.stderr
    pipe = "wav unreadable: not a regular file"
    assert quarantined() == {
        aihub.FIRST: pipe,
        aihub.SECOND: f"wav unreadable: {OUT}",
        aihub.THIRD: pipe,
    }


@pytest.mark.parametrize("name", [*TABLES.values(), f"{RELEASE}.zip"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_table_or_a_zip_that_is_no_file_is_refused(name, make, place, capsys):
    lay("kemdy20" if name.startswith("annotation") else "aihub_emotion", place / "corpus")
    replaced(name, make)
    with within(5):
        assert main.main(PREPARE) == 2
    assert "is unreadable: not a regular file" in capsys.readouterr().err


def test_sensors_that_are_pipes_are_refused(place):
    lay("kemdy20", place / "corpus")
    replaced(SENSOR, os.mkfifo)
    with within(5), pytest.raises(UserError, match="is unreadable: not a regular file"):
        kemdy20.Reader.signals(Path("corpus"))


# --- names ---------------------------------------------------------------------------------------


NAMES = [
    "../../outside/x",
    "/etc/passwd",
    "..",
    "~",
    "a\\..\\b",
    "\x1b[2J",
    "",
    "CON",
    "a\u202eb",
    "'; DROP TABLE",
    "=1+1",
    "x" * 100_000,
    "\ufeff",
    "%2e%2e/x",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("corpus", TABLES)
def test_an_id_never_becomes_a_path(name, corpus, place):
    lay(corpus, place / "corpus")
    (place / "outside/x.wav").write_bytes(aihub.sound())
    (place / "outside/x.txt").write_text("밖")
    path = place / "corpus" / TABLES[corpus]
    cells = list(csv.reader(io.StringIO(preparation.read_text(path).text, "")))
    cells[-1][3 if corpus == "kemdy20" else 0] = name
    path.write_bytes(table_damaged(cells, []))
    with watched() as paths:
        assert main.main(PREPARE) == 0
    inside = str(place / "corpus")
    assert not [p for p in paths if p.startswith((str(place / "outside"), "/etc/passwd"))]
    assert [p for p in paths if p.startswith(inside)]
    assert list(quarantined().values()) == [columns.NO_PATTERN]
    check_tables()


def test_a_folder_of_two_users_with_one_number_and_of_a_41st_session_is_read(place):
    lay("kemdy20", place / "corpus")
    for name in ("Sess01_script01_User001M_001", "Sess41_script01_User001F_001", "Sess01_eval"):
        aihub.write(place / f"corpus/wav/Session01/{name}.wav", aihub.sound())
    (place / "corpus/annotation/Sess41_eval.csv").write_text("x")
    assert main.main(CLEAN) == 0
    check_tables()


# --- zips ----------------------------------------------------------------------------------------


def zipped(folder: Path, change) -> Path:
    """The zip of the corpus with its directory changed: `change(bytes, where it begins)`."""
    path = folder / f"corpus/{RELEASE}.zip"
    with zipfile.ZipFile(path) as archive:
        at = archive.start_dir
    data = bytearray(path.read_bytes())
    change(data, at)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [65 << 20, 1 << 31, 0xFFFFFFFE])
def test_a_wav_that_claims_gigabytes_is_refused_before_it_is_unpacked(size, place):
    lay("aihub_emotion", place / "corpus")
    shutil.rmtree(f"corpus/{RELEASE}_wav")
    zipped(place, lambda data, at: struct.pack_into("<I", data, at + 24, size))
    with within(5):
        assert main.main(PREPARE) == 0
    assert quarantined() == {aihub.FIRST: "wav too large in its zip"}


def test_a_bomb_that_hides_its_size_is_cut_at_what_it_claims(place):
    """100 MB of zeros in a member that claims 1,000 bytes."""
    lay("aihub_emotion", place / "corpus")
    shutil.rmtree(f"corpus/{RELEASE}_wav")
    path = place / f"corpus/{RELEASE}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{aihub.FIRST}.wav", bytes(100_000_000))
    zipped(place, lambda data, at: struct.pack_into("<I", data, at + 24, 1000))
    with within(10):
        assert command(*PREPARE) == 0
    assert set(quarantined()) == {aihub.FIRST}


def test_members_that_share_their_bytes_are_read_one_by_one_in_bounded_memory(place):
    """A directory in which each wav is the first one's bytes ("overlap" bombs)."""
    lay("aihub_emotion", place / "corpus")

    def share(data, at):
        where = [m.start() for m in re.finditer(b"PK\1\2", bytes(data[at:]))]
        for entry in where:
            struct.pack_into("<I", data, at + entry + 42, 0)

    zipped(place, share)
    assert command(*PREPARE) == 0
    check_tables()


def test_nothing_of_a_zip_is_written_to_disk(place):
    lay("aihub_emotion", place / "corpus")
    with zipfile.ZipFile(f"corpus/{RELEASE}.zip", "a") as archive:
        archive.writestr(f"../outside/{'a' * 24}.wav", aihub.sound())
        archive.writestr(f"{place}/outside/{'b' * 24}.wav", aihub.sound())
    before = {*Path().rglob("*")}
    assert main.main(CLEAN) == 0
    new = {path.as_posix() for path in {*Path().rglob("*")} - before}
    assert all(path.startswith("data") for path in new) and not list(Path("outside").iterdir())
    assert not [path for path in new if path.endswith(".wav")]


def test_a_member_whose_path_is_also_a_file_on_disk_is_read_from_the_zip(place):
    lay("aihub_emotion", place / "corpus")
    member = f"{RELEASE}.zip/{RELEASE}_wav/{aihub.SECOND}.wav"
    assert utils.read_bytes(Path("corpus", member)) == aihub.sound(2)
    for name in (f"{RELEASE}.zip/../../outside/x.wav", f"{RELEASE}.zip/{'/etc/passwd'}"):
        (place / "outside/x.wav").write_bytes(b"outside")
        with pytest.raises(OSError):
            utils.read_bytes(Path("corpus", name))


def test_a_zip_within_a_zip_is_left_alone(place):
    lay("aihub_emotion", place / "corpus")
    inner = Path(f"corpus/{RELEASE}.zip").read_bytes()
    with zipfile.ZipFile(f"corpus/{RELEASE}.zip", "w") as archive:
        archive.writestr(f"{RELEASE}_wav.zip", inner)
    found = layout.recordings(Path("corpus"), [RELEASE])
    assert {name: {*files} for name, files in found.items()} == {"": set(), RELEASE: {aihub.FIRST}}

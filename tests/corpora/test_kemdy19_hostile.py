"""Links, pipes and names that a corpus folder from elsewhere may hold.

Bytes and cells that are merely wrong are in test_bad_input.py and, by the hundred, in test_fuzz.py.
"""

import contextlib
import os
import shutil
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from doubles.hostile import (
    OUT,
    PREPARE,
    prepare_apart,
    replaced,
    small_place,
    table,
    watched,
    within,
)
from doubles.settings import settings_with

import main
from corpora import kemdy19, kemdy19_2022, preparation
from corpora.preparation import columns, files
from features.store import extraction
from utils import UserError

SPOILT = "Sess01_script01_M001"
WAV = f"wav/Session01/Sess01_script01/{SPOILT}.wav"
TXT = WAV.replace(".wav", ".txt")
TABLE = "annotation/Session01_F_res.csv"


@pytest.fixture
def place(workplace, tmp_path):
    with small_place(workplace, tmp_path) as folder:
        yield folder


def snapshot(folder: Path) -> dict[str, tuple]:
    """Kind, size and times of everything in a folder; a file that came and went leaves a trace."""
    paths = [folder, *folder.rglob("*")]
    stats = {str(path): path.lstat() for path in paths}
    return {name: (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats.items()}


# --- links ---------------------------------------------------------------------------------------


def moved_out(name: str) -> None:
    """A file or folder of the corpus moved away, with a link in its place."""
    there = Path("outside", Path(name).name).absolute()
    shutil.move(Path("corpus", name), there)
    Path("corpus", name).symlink_to(there)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (WAV, f"wav unreadable: {OUT}"),
        (TXT, f"txt unreadable: {OUT}"),
        (str(Path(WAV).parent), f"wav unreadable: {OUT}"),
        ("wav/Session01", f"wav unreadable: {OUT}"),
    ],
    ids=["wav", "txt", "dialogue", "session"],
)
def test_what_a_link_leads_to_outside_is_quarantined_and_never_opened(name, reason, place):
    moved_out(name)
    with watched() as paths:
        assert main.main(PREPARE) == 0
    assert not [path for path in paths if path.startswith(str(place / "outside"))]
    rows = table()
    hit = rows["segment"].str.startswith(Path(name).stem.replace("Session", "Sess"))
    assert hit.any()
    assert set(rows.loc[hit, "quarantine"]) == {reason}
    assert set(rows.loc[~hit, "quarantine"]) == {""}
    named = table("quarantine.csv")
    assert set(zip(named["role"], named["segment"], strict=True)) == set(
        zip(rows.loc[hit, "role"], rows.loc[hit, "segment"], strict=True)
    )


def test_a_corpus_whose_sound_is_all_outside_is_refused_with_the_reason(place, capsys):
    moved_out("wav")
    assert main.main(["prepare", "--data", "corpus"]) == 2
    assert f"48 x wav unreadable: {OUT}" in capsys.readouterr().err


def test_a_link_that_replaces_a_file_after_preparing_is_noticed(place):
    assert main.main(PREPARE) == 0
    moved_out(WAV)
    os.utime(place / "outside" / Path(WAV).name)
    with watched() as paths:
        assert main.main(PREPARE) == 0
    assert not [path for path in paths if path.startswith(str(place / "outside"))]
    rows = table()
    assert (rows.loc[rows["segment"] == SPOILT, "quarantine"] == f"wav unreadable: {OUT}").all()


def test_links_within_the_corpus_and_to_the_corpus_change_nothing(place):
    assert main.main(PREPARE) == 0
    plain = table().drop(columns="quarantine")
    shutil.rmtree("data")
    Path("corpus/store").mkdir()
    for name in (
        "wav/Session01",
        WAV.replace("Session01", "Session02").replace("Sess01", "Sess02"),
        TABLE,
    ):
        there = Path("corpus/store", Path(name).name)
        shutil.move(Path("corpus", name), there)
        Path("corpus", name).symlink_to(os.path.relpath(there, Path("corpus", name).parent))
    os.rename("corpus", "real")
    Path("corpus").symlink_to("real")
    assert main.main(PREPARE) == 0
    assert table().drop(columns="quarantine").equals(plain)
    assert set(table()["quarantine"]) == {""}


def test_a_table_that_is_outside_is_refused(place, capsys):
    moved_out(TABLE)
    with watched() as paths:
        assert main.main(PREPARE) == 2
    assert f"corpus/{TABLE} is unreadable: {OUT}; put the file" in capsys.readouterr().err
    assert not [path for path in paths if path.startswith(str(place / "outside"))]


def test_a_table_of_2022_that_is_outside_is_refused(place, capsys):
    shutil.rmtree("corpus/annotation")
    Path("outside/df_speaker.csv").write_text("Segment ID\n")
    Path("corpus/df_speaker.csv").symlink_to(place / "outside/df_speaker.csv")
    with watched() as paths:
        assert main.main(PREPARE) == 2
    assert f"corpus/df_speaker.csv is unreadable: {OUT}" in capsys.readouterr().err
    assert not [path for path in paths if path.startswith(str(place / "outside"))]


def test_signals_that_are_outside_are_refused(place):
    Path("corpus/EDA/Session01/Original").mkdir(parents=True)
    Path("corpus/EDA/Session01/Original/Sess01F.csv").symlink_to("/dev/zero")
    with within(5), pytest.raises(UserError, match=f"Sess01F.csv is unreadable: {OUT}"):
        kemdy19.Reader.signals(Path("corpus"), ["EDA"])


# --- what is no file -----------------------------------------------------------------------------


def test_pipes_devices_and_folders_are_never_opened(place):
    names = [
        WAV,
        TXT.replace("M001", "F001"),
        WAV.replace("Sess01_script01_M", "Sess01_script01_F"),
    ]
    replaced(names[0], os.mkfifo)
    replaced(names[1], os.mkfifo)
    replaced(names[2], os.mkdir)
    zero = WAV.replace("Session01", "Session02").replace("Sess01", "Sess02")
    replaced(zero, lambda path: path.symlink_to("/dev/zero"))
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # a container may forbid it to root, too
            other = zero.replace("M001", "F001")
            os.unlink(Path("corpus", other))
            os.mknod(Path("corpus", other), 0o600 | 0o020000, os.makedev(1, 5))
    answer = prepare_apart()
    assert (answer.returncode, answer.stderr.count("error")) == (0, 0), answer.stderr
    rows = table().query("role == 'speaker'").set_index("segment")["quarantine"]
    assert rows[SPOILT] == "wav unreadable: not a regular file"
    assert rows["Sess01_script01_F001"] == "wav unreadable: not a regular file"
    assert rows["Sess02_script01_M001"] == f"wav unreadable: {OUT}"
    assert set(rows.drop([s for s in rows.index if "script01_" in s])) == {""}


def test_a_table_that_is_a_pipe_is_refused(place, capsys):
    replaced(TABLE, os.mkfifo)
    with within(5):
        assert main.main(PREPARE) == 2
    assert f"corpus/{TABLE} is unreadable: not a regular file" in capsys.readouterr().err


# --- names ---------------------------------------------------------------------------------------

HANGUL = "감정/대화 01/가나다.wav"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("pattern", ["NFC", "NFD"])
def test_hangul_names_are_found_in_either_normal_form(on_disk, pattern, tmp_path):
    path = unicodedata.normalize(on_disk, HANGUL)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"sound")
    asked = unicodedata.normalize("NFC", unicodedata.normalize(pattern, "감정/*/*.wav"))
    found = files.find_files(tmp_path, asked)
    file = found[unicodedata.normalize("NFC", HANGUL)]
    assert file.bad == ""
    assert (tmp_path / file.path).read_bytes() == b"sound"


def test_of_two_names_that_differ_in_normal_form_alone_the_composed_one_is_taken(tmp_path):
    for form in ("NFD", "NFC"):
        path = tmp_path / unicodedata.normalize(form, "가") / "a.wav"
        path.parent.mkdir()
        path.write_text(form)
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this file system takes both for one name")
    [file] = files.find_files(tmp_path, "*/a.wav").values()
    assert (tmp_path / file.path).read_text() == "NFC"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_corpus_in_a_hangul_folder_is_prepared(form, place):
    name = unicodedata.normalize(form, "말뭉치")
    os.rename("corpus", name)
    assert main.main(["prepare", "--data", name]) == 0
    assert len(table()) == 48


def test_names_that_are_not_utf8_or_not_expected_are_passed_over(place):
    for name in (b"wav/Session\xff", b"wav/Session01/\xff\xfe", b"audio", b"ECG/\xff"):
        os.makedirs(os.path.join(b"corpus", name))
    hostile = [
        b"\xff.wav",
        b"a\nb.wav",
        b"x" * 255,
        b"$(touch x).wav",
        b"-rf.wav",
        b"\xe2\x80\xae.wav",
    ]
    for folder in (b"audio", b"wav/Session01/Sess01_script01", b"wav/Session\xff", b"annotation"):
        for name in hostile:
            open(os.path.join(b"corpus", folder, name), "wb").close()
    assert main.main(["prepare", "--data", "corpus"]) == 0
    assert len(table()) == 48 and set(table()["quarantine"]) == {""}
    assert set(kemdy19.Reader.sources(Path("corpus"))) == {
        path for path in Path("corpus").rglob("Sess*") if path.suffix and path.name.isprintable()
    }


IDS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "Sess01_script01_M001/../../x",
    "a\0b",
    "~root",
    "..",
    "Sess01_script01_M\n001",
    "x" * 5000,
    "Sess01_script01_M٠٠١",
    "\u202egnp.exe",
    "",
]


def test_names_and_paths_in_a_table_of_2022_lead_nowhere(place):
    utterances, _ = kemdy19.Reader.read(Path("corpus"))
    row = utterances.iloc[0]
    ratings = [row["emotion"], "3", "3"] + ["angry", "3", "3"] * 10
    header = [*kemdy19_2022.NEEDED[:3], *kemdy19_2022.RATINGS, "text", "wav", "path"]
    names = [*IDS, SPOILT, *IDS]
    lines = [["0", "1", name, *ratings, "안녕", "/etc/passwd", "../../x"] for name in names]
    shutil.rmtree("corpus/annotation")
    os.mkdir("corpus/audio")
    open(b"corpus/audio/\xff.wav", "wb").close()
    pd.DataFrame(lines, columns=header).to_csv("corpus/df_speaker.csv", index=False)
    with watched() as paths:
        assert main.main(PREPARE[:3] + ["--max_bad", "1"]) == 0
    assert not [path for path in paths if path.startswith("/etc/passwd")]
    rows = table()
    assert list(rows["quarantine"]) == [columns.NO_PATTERN] * len(IDS) + [""]
    assert list(rows["wav"]) == [""] * len(IDS) + [WAV]
    named = [*rows["segment"], *table("troubles.csv")["segment"]]
    assert all(name.isascii() and name.isprintable() and len(name) < 90 for name in named)


def test_the_corpus_folder_is_only_read(place):
    before = snapshot(place / "corpus")
    corpus = preparation.open_corpus("corpus")
    settings = settings_with(text_encoder="char-ngram", text_dim=8)
    for name in ("log_mel", "sentence"):
        rows = corpus.role("speaker")
        store = extraction.extract(name, rows, corpus.folder, corpus.prepared, settings)
        assert store.available.sum() > 20
    assert snapshot(place / "corpus") == before

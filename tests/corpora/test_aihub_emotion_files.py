"""AI-Hub's emotional speech as files: releases, tables, wavs in folders and in zips."""

import doctest
import unicodedata
import zipfile

import pandas as pd
import pytest
from doubles import corpus_kemdy19, corpus_kemdy20
from doubles.corpus_aihub_emotion import (
    FIRST,
    HEADER,
    IDS,
    RELEASE,
    SECOND,
    SITUATION,
    THIRD,
    WORDS,
    download,
    edit,
    lay,
    one,
    replace,
    row,
    rows,
    sound,
    table_bytes,
    unexpected,
    where,
    write,
)

import utils
from corpora import aihub_emotion, kemdy19, kemdy20, preparation
from corpora.layouts import aihub_emotion as layout
from corpora.preparation import audit, columns, files
from metric import VOTES
from utils import UserError

TABLE = f"annotation/{RELEASE}.csv"


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


# --- a clean folder ------------------------------------------------------------------------------


def test_utterances_come_in_order_with_every_column_of_the_contract(folder):
    utterances, troubles = aihub_emotion.Reader.read(folder)
    assert list(utterances.columns) == [*columns.COLUMNS, *aihub_emotion.Reader.COLUMNS]
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
    sources = aihub_emotion.Reader.sources(folder)
    assert set(sources) == {path for path in before if path.is_file()}
    assert len(sources) == len(set(sources))
    aihub_emotion.Reader.read(folder)
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
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
    path = place + ("/" if place.endswith(".zip") else "") + inside.format(release)
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
    utterances, _ = aihub_emotion.Reader.read(tmp_path)
    assert one(utterances, SECOND)["wav"] == f"{RELEASE}/{SECOND}.wav"
    assert one(utterances, FIRST)["wav"] == f"{RELEASE}.zip/{RELEASE}_wav/{FIRST}.wav"


def test_releases_follow_one_another_and_an_id_of_two_is_read_from_the_first(tmp_path):
    download(tmp_path, "5차년도_2차", [row(FIRST, "다른 말"), row(SECOND), row(IDS[3])], first=5)
    download(tmp_path, "4차년도", [row(SECOND), row(FIRST)])
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
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
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
    assert one(utterances, THIRD)["wav"] == f"4차년도/{THIRD}.wav"
    assert unexpected(troubles)[["treatment", "reason", "segment"]].values.tolist() == [
        ["masked", "wav missing", IDS[3]]
    ]


def test_of_a_wav_that_two_releases_have_a_row_takes_that_of_its_own(tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:2]))
    download(tmp_path, "5차년도", rows(IDS[1:3]))
    write(tmp_path / "4차년도.csv", table_bytes(rows(IDS[:1])))
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
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
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
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
        fits = [one.Reader.matches(tree) for one in (aihub_emotion, kemdy19, kemdy20)]
        assert sum(fits) == 1
    download(tmp_path / "c", "4차년도")
    assert preparation.recognise(str(tmp_path / "c")) == ("aihub_emotion", tmp_path / "c")


def test_a_table_of_another_name_is_no_release(tmp_path):
    write(tmp_path / "annotation/6차년도.csv", table_bytes(rows()))
    assert not aihub_emotion.Reader.matches(tmp_path)
    with pytest.raises(UserError, match=r"needs one of 4차년도\.csv, 5차년도\.csv, 5차년도_2차"):
        aihub_emotion.Reader.read(tmp_path)


def test_it_is_prepared_and_every_label_rule_can_be_asked_for(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    edit(folder, replace(FIRST, SITUATION, "fear"))
    emotions = {
        rule: preparation.open_corpus(str(folder), labels=rule).role("speaker")["emotion"][0]
        for rule in (None, *aihub_emotion.Reader.LABELS)
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
        aihub_emotion.Reader.read(folder)
    path.write_bytes((text + "a,b\r\n").encode("cp949"))
    with pytest.raises(UserError, match="needs 15 columns, line 6 has 2"):
        aihub_emotion.Reader.read(folder)
    path.write_bytes((HEADER + "\r\n").encode("cp949"))
    with pytest.raises(UserError, match="list no wav"):
        aihub_emotion.Reader.read(folder)


def test_a_table_saved_again_in_utf8_is_read_alike(folder):
    before, _ = aihub_emotion.Reader.read(folder)
    (folder / TABLE).write_bytes(table_bytes(rows(), "utf-8-sig", "\n"))
    after, troubles = aihub_emotion.Reader.read(folder)
    pd.testing.assert_frame_equal(after, before)
    assert troubles.empty


def test_words_with_marks_and_line_ends_are_made_one_line(folder):
    edit(folder, replace(FIRST, WORDS, 'b/ 아,\r\n "왜"\t그래'))
    utterances, _ = aihub_emotion.Reader.read(folder)
    assert one(utterances, FIRST)["text"] == '아, "왜" 그래'


# --- zips ----------------------------------------------------------------------------------------


def test_names_of_its_zip_in_another_code_page_are_found(tmp_path):
    """Windows writes names as CP949 without saying so; zipfile reads them as CP437."""
    download(tmp_path, "4차년도", rows(IDS[:1]), "xx_xx/")
    path = tmp_path / "4차년도.zip"
    path.write_bytes(path.read_bytes().replace(b"xx_xx", "차_차".encode("cp949")))
    utterances, _ = aihub_emotion.Reader.read(tmp_path)
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
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
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
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
    assert unexpected(troubles).empty and len(utterances) == 1


def test_an_encrypted_member_is_quarantined(tmp_path):
    download(tmp_path, "4차년도", rows(IDS[:2]))
    path = tmp_path / "4차년도.zip"
    with zipfile.ZipFile(path) as archive:
        at = archive.start_dir
    data = bytearray(path.read_bytes())
    data[at + 8] |= 1  # general purpose bit 0 of the first entry of the central directory
    path.write_bytes(data)
    utterances, troubles = aihub_emotion.Reader.read(tmp_path)
    assert one(utterances, FIRST)["quarantine"] == "wav encrypted in its zip"
    assert one(utterances, SECOND)["quarantine"] == ""


def test_a_member_packed_as_nobody_packs_wavs_is_quarantined(tmp_path):
    write(tmp_path / "4차년도.csv", table_bytes(rows(IDS[:2])))
    with zipfile.ZipFile(tmp_path / "4차년도.zip", "w") as archive:
        archive.writestr(f"{FIRST}.wav", sound(), zipfile.ZIP_LZMA)
        archive.writestr(f"{SECOND}.wav", sound(), zipfile.ZIP_STORED)
    utterances, _ = aihub_emotion.Reader.read(tmp_path)
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
    utterances, _ = aihub_emotion.Reader.read(tmp_path)
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
    utterances, _ = aihub_emotion.Reader.read(tmp_path)
    heard, troubles = audit.audit(utterances, tmp_path)
    assert (heard["quarantine"] != "").tolist() == [True, False]
    assert troubles["treatment"].tolist()[0] == "quarantined"


def test_what_is_no_zip_is_refused(tmp_path):
    download(tmp_path, "4차년도")
    (tmp_path / "4차년도.zip").write_bytes(b"no zip\n" * 9)
    with pytest.raises(UserError, match=r"4차년도\.zip should be a zip of wavs; File is not a zip"):
        aihub_emotion.Reader.read(tmp_path)


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(layout).failed == 0 and doctest.testmod(layout).attempted > 0

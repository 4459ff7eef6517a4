"""What is wrong with a corpus is said in one line, and nothing half-written is left behind.

Everything goes through `main.main`, on copies of the small synthetic corpus.
"""

import csv
import io
import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.command_line import TEXT, files

FEMALE, MALE = "annotation/Session01_F_res.csv", "annotation/Session01_M_res.csv"
SEGMENT, EMOTION, VALENCE, AROUSAL, RATER = 9, 10, 11, 12, 13  # columns, from 0
SPOILT = "Sess01_script01_M001"  # its speaker row is in MALE; it has a neighbour on either side
RECORDING = f"wav/Session01/Sess01_script01/{SPOILT}"
ROW = 1  # of SPOILT, in both annotation files


# --- the corpus as a whole -----------------------------------------------------------------------


def lines_of(path: Path) -> tuple[list[list[str]], str]:
    """Cells of an annotation file, and its line end."""
    text = path.read_bytes().decode()
    return list(csv.reader(io.StringIO(text, ""))), "\r\n" if "\r\n" in text else "\n"


def write_lines(path: Path, rows: list[list[str]], end: str) -> None:
    path.write_bytes("".join(",".join(row) + end for row in rows).encode())


def write_cell(name: str, column: int, value: str, row: int = ROW) -> None:
    """Change one cell, counted from 0 below the two header rows."""
    path = Path("corpus") / name
    rows, end = lines_of(path)
    rows[row + 2][column] = value
    write_lines(path, rows, end)


def narrower(path: Path) -> None:
    rows, end = lines_of(path)
    write_lines(path, [row[:-1] for row in rows], end)


def one_row_narrower(path: Path) -> None:
    rows, end = lines_of(path)
    write_lines(path, [*rows[:4], rows[4][:-1], *rows[5:]], end)


def another_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Total Evaluation", b"Evaluation"))


def in_utf16(path: Path) -> None:
    path.write_bytes(path.read_text().encode("utf-16"))


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (narrower, r"Session01_F_res.csv needs 43 columns, line 1 has 42"),
        (one_row_narrower, r"Session01_F_res.csv needs 43 columns, line 5 has 42"),
        (another_header, r"needs 'Total Evaluation' at line 1 column 11.*it has 'Evaluation'"),
        (in_utf16, r"should be UTF-8 or CP949 text; it is in UTF-16"),
        (lambda path: path.write_bytes(b""), r"needs 2 header rows, it has 0 lines"),
        (Path.unlink, r"session 1 needs its F and its M file; there is .*_M_res.csv alone"),
    ],
    ids=["42 columns", "42 columns in one row", "header", "UTF-16", "empty", "missing"],
)
@pytest.mark.parametrize(
    "subcommand", [["prepare", "--data", "corpus"], TEXT], ids=["prepare", "train"]
)
def test_an_annotation_file_that_cannot_be_read_stops_everything(
    subcommand, spoil, match, own_corpus, refused
):
    spoil(Path("corpus") / FEMALE)
    refused(match, *subcommand)


@pytest.mark.parametrize("subcommand", [["prepare"], []], ids=["prepare", "train"])
def test_no_data_folder_is_an_error_that_names_the_sample(subcommand, own_corpus, refused):
    refused(r"no corpus folder 'data/KEMDy19'.*--data DIR.*--data sample", *subcommand)
    refused(r"no corpus folder 'elsewhere'.*--data sample", *subcommand, "--data", "elsewhere")
    refused(r"no folder 'elsewhere' to read as kemdy19", *subcommand, "--data", "kemdy19:elsewhere")


def test_a_folder_of_something_else_is_an_error_that_names_the_corpora(own_corpus, refused):
    Path("photos").mkdir()
    refused(r"photos has the tree of no known corpus.*kemdy19", "prepare", "--data", "photos")
    refused(r"KEMDy19 needs photos/", "prepare", "--data", "kemdy19:photos")


# --- one utterance: quarantined ------------------------------------------------------------------


def wav(data: bytes):
    return lambda: Path("corpus", f"{RECORDING}.wav").write_bytes(data)


def txt(data: bytes):
    return lambda: Path("corpus", f"{RECORDING}.txt").write_bytes(data)


def cell(name: str, column: int, value: str, row: int = ROW):
    return lambda: write_cell(name, column, value, row)


def write_wave(samples: np.ndarray, rate: int = 16_000) -> None:
    soundfile.write(Path("corpus", f"{RECORDING}.wav"), samples, rate, subtype="PCM_16")


def truncated() -> None:
    path = Path("corpus", f"{RECORDING}.wav")
    path.write_bytes(path.read_bytes()[:-1000])


def dangling() -> None:
    path = Path("corpus", f"{RECORDING}.wav")
    path.unlink()
    path.symlink_to("nowhere.wav")


def segment(value: str):
    return cell(MALE, SEGMENT, value)


NFD = unicodedata.normalize("NFD", "Sess01_대본01_M001")
QUARANTINED = {  # what happens to SPOILT: how, the reason, in which roles
    "wav empty": (wav(b""), "empty wav", "both"),
    "wav without samples": (lambda: write_wave(np.zeros(0)), "empty wav", "both"),
    "wav truncated": (truncated, "truncated wav", "both"),
    "wav is text": (wav("이것은 소리가 아니다\n".encode()), "not audio", "both"),
    "wav is a link to nowhere": (dangling, "unreadable wav", "both"),
    "txt in UTF-16": (txt("안녕\n".encode("utf-16")), "txt in UTF-16", "both"),
    "txt in UTF-16 without a mark": (txt("안녕 a\n".encode("utf-16-le")), "txt in UTF-16", "both"),
    "unknown emotion": (cell(MALE, EMOTION, "joy"), "unknown emotion", "speaker"),
    "unknown emotion of a rater": (cell(MALE, RATER, "joy"), "unknown emotion", "speaker"),
    "unknown emotion of the partner": (cell(FEMALE, EMOTION, "joy"), "unknown emotion", "listener"),
    "no emotion": (cell(MALE, EMOTION, ""), "unknown emotion", "speaker"),
    "valence 7": (cell(MALE, VALENCE, "7"), "score outside 1..5", "speaker"),
    "valence 7 of a rater": (cell(MALE, RATER + 1, "7"), "score outside 1..5", "speaker"),
    "arousal 0": (cell(MALE, AROUSAL, "0"), "score outside 1..5", "speaker"),
    "valence is a word": (cell(MALE, VALENCE, "high"), "score is not a number", "speaker"),
    "valence nan": (cell(MALE, VALENCE, "nan"), "score is not a number", "speaker"),
    "id of no pattern": (segment("Sess01_script99_M001"), "Segment ID fits no pattern", "speaker"),
    "id goes up": (segment("../../etc/x"), "Segment ID fits no pattern", "speaker"),
    "id with NUL": (segment("Sess01\0_impro"), "Segment ID fits no pattern", "speaker"),
    "id is absolute": (segment("/etc/passwd"), "Segment ID fits no pattern", "speaker"),
    "id in NFD Hangul": (segment(NFD), "Segment ID fits no pattern", "speaker"),
    "no id": (segment(""), "Segment ID fits no pattern", "speaker"),
}


@pytest.mark.parametrize("fault", QUARANTINED)
def test_a_fault_of_one_utterance_puts_it_in_quarantine(fault, say, own_corpus):
    spoil, reason, roles = QUARANTINED[fault]
    spoil()
    corpus = files(own_corpus / "corpus")
    roles = {"speaker", "listener"} if roles == "both" else {roles}

    code, out, lines = say("prepare", "--data", "corpus")
    assert (code, lines) == (0, [])
    counted = re.search(rf"^quarantined +(\d+)  {re.escape(reason)}", out, re.MULTILINE)
    assert counted and int(counted[1]) == len(roles), out

    [prepared] = own_corpus.glob("data/prepared/kemdy19-*")
    named = pd.read_csv(prepared / "quarantine.csv", keep_default_na=False)
    assert set(zip(named["role"], named["segment"], strict=True)) == {(r, SPOILT) for r in roles}
    assert named["reason"].str.startswith(reason).all()
    assert len(named) == len(roles)

    tables = pd.read_csv(prepared / "annotation.csv", keep_default_na=False)
    for role in ("speaker", "listener"):
        rows = tables[(tables["role"] == role) & (tables["dialogue"] == "Sess01_script01")]
        assert rows["segment"].tolist()[ROW] == SPOILT, "it lost its slot"
        bad = rows.loc[rows["quarantine"] != "", "segment"].tolist()
        assert bad == ([SPOILT] if role in roles else [])
    assert files(own_corpus / "corpus") == corpus


def test_a_quarantined_utterance_is_no_prediction_and_all_others_are(say, own_corpus):
    QUARANTINED["wav truncated"][0]()
    cell(FEMALE, VALENCE, "7", row=0)()  # F001: its speaker row
    cell(FEMALE, SEGMENT, "../../etc/x", row=3)()  # of the second dialogue
    bad = {"speaker": {SPOILT, "Sess01_script01_F001"}, "listener": {SPOILT}}
    segments = [row[SEGMENT] for row in lines_of(own_corpus / "corpus" / MALE)[0][2:]]
    bad["speaker" if segments[3][-4] == "F" else "listener"].add(segments[3])
    for role, missing in bad.items():
        assert say(*TEXT, "--SorL", role, "--max_bad", "0.5").code == 0
        [path] = own_corpus.glob(f"exp/*_{role}_*/predictions.csv")
        rows = pd.read_csv(path)
        found = rows.loc[rows["session"] == 1, "segment"].tolist()
        assert found == [segment for segment in segments if segment not in missing]
        result = json.loads((path.parent / "result.json").read_text())
        assert result["rows"] == {"read": 24, "kept": 24 - len(missing)}
        assert (
            sum(row["count"] for row in result["preparation"] if row["treatment"] == "quarantined")
            == 4
        )


@pytest.mark.parametrize("fault", ["wav empty", "valence 7", "id goes up"])
def test_more_than_max_bad_in_quarantine_is_an_error(fault, refused, own_corpus):
    QUARANTINED[fault][0]()
    match = rf"unusable, more than --max_bad 0.01 allows.*{QUARANTINED[fault][1]}.*quarantine.csv"
    refused(match, "prepare", "--data", "corpus", "--max_bad", "0.01")
    refused(match, *TEXT, "--max_bad", "0.01")
    [named] = own_corpus.glob("data/prepared/*/quarantine.csv")
    assert SPOILT in named.read_text()


def test_max_bad_counts_for_tables_that_were_prepared_under_another(say, own_corpus, refused):
    QUARANTINED["valence 7"][0]()
    assert say("prepare", "--data", "corpus", "--max_bad", "0.5").code == 0
    refused("more than --max_bad 0 allows", *TEXT, "--max_bad", "0")


def test_a_bad_id_in_both_files_is_quarantined_under_a_harmless_name(say, own_corpus):
    for name in (FEMALE, MALE):
        write_cell(name, SEGMENT, "../../etc/x")
    assert say("prepare", "--data", "corpus").code == 0
    [prepared] = own_corpus.glob("data/prepared/kemdy19-*")
    named = pd.read_csv(prepared / "quarantine.csv", keep_default_na=False)
    assert set(named["role"]) == {"speaker", "listener"}
    assert set(named["reason"]) == {"Segment ID fits no pattern"}
    assert not any(p.name == "x" for p in own_corpus.parent.rglob("*"))
    tables = pd.read_csv(prepared / "annotation.csv", keep_default_na=False)
    first = tables[(tables["role"] == "speaker") & (tables["dialogue"] == "Sess01_script01")]
    assert first["quarantine"].tolist()[ROW] == "Segment ID fits no pattern"
    assert first["wav"].tolist()[ROW] == ""


# --- one utterance: converted or masked, and kept ------------------------------------------------


def noise(*shape: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(1).standard_normal(shape)


def without(ending: str) -> None:
    Path("corpus", f"{RECORDING}.{ending}").unlink()


def duplicated() -> None:
    path = Path("corpus", MALE)
    rows, end = lines_of(path)
    write_lines(path, rows + [rows[ROW + 2]], end)


KEPT = {  # what happens to SPOILT: how, treatment, reason
    "stereo": (lambda: write_wave(noise(16_000, 2)), "converted", "2 channels to 1"),
    "8 kHz": (lambda: write_wave(noise(8_000), 8_000), "converted", "8000 Hz to 16000"),
    "all zeros": (lambda: write_wave(np.zeros(16_000)), "masked", "silent wav"),
    "no wav": (lambda: without("wav"), "masked", "wav missing"),
    "no txt": (lambda: without("txt"), "masked", "txt missing"),
    "empty txt": (txt(b""), "masked", "txt without words"),
    "txt in CP949": (txt("안녕하세요\n".encode("cp949")), "converted", "txt in CP949"),
    "duplicate row": (duplicated, "reported", "repeated row left out"),
}


@pytest.mark.parametrize("quirk", KEPT)
def test_a_quirk_of_one_utterance_is_counted_and_the_utterance_kept(quirk, say, own_corpus):
    say("prepare", "--data", "corpus")
    [path] = own_corpus.glob("data/prepared/*/troubles.csv")
    before = pd.read_csv(path, keep_default_na=False)
    spoil, treatment, reason = KEPT[quirk]
    spoil()
    code, out, lines = say("prepare", "--data", "corpus")
    assert (code, lines) == (0, [])
    wanted = int(((before["treatment"] == treatment) & (before["reason"] == reason)).sum())
    wanted += 1 if treatment == "reported" else 2  # rows of an annotation file, or of both roles
    assert re.search(rf"^{treatment} +{wanted}  {reason}$", out, re.MULTILINE), out
    named = pd.read_csv(path, keep_default_na=False)
    assert SPOILT in set(named.loc[named["reason"] == reason, "segment"])
    tables = pd.read_csv(path.parent / "df_speaker.csv", keep_default_na=False)
    [row] = tables.loc[tables["segment"] == SPOILT].to_dict("records")
    assert row["quarantine"] == "" and row["emotion"] != ""
    assert len(tables) == 24


def test_an_utterance_without_sound_and_words_is_predicted_all_the_same(say, own_corpus):
    KEPT["all zeros"][0]()
    KEPT["no txt"][0]()
    duplicated()
    assert say(*TEXT).code == 0
    [predictions] = own_corpus.glob("exp/*/predictions.csv")
    assert pd.read_csv(predictions)["segment"].tolist().count(SPOILT) == 1


def test_a_text_in_cp949_is_read_as_it_was_meant(say, own_corpus):
    KEPT["txt in CP949"][0]()
    say("prepare", "--data", "corpus")
    [path] = own_corpus.glob("data/prepared/*/df_speaker.csv")
    rows = pd.read_csv(path).set_index("segment")
    assert rows.loc[SPOILT, "text"] == "안녕하세요"

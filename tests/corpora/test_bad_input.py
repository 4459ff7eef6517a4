"""What is wrong with an input is said in one line, and nothing half-written is left behind.

Everything goes through `main.main`, on copies of the small synthetic corpus and of one run on it.
"""

import contextlib
import csv
import errno
import io
import json
import os
import pickle
import re
import resource
import shutil
import unicodedata
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import main
from training import loop

FEMALE, MALE = "annotation/Session01_F_res.csv", "annotation/Session01_M_res.csv"
SEGMENT, EMOTION, VALENCE, AROUSAL, RATER = 9, 10, 11, 12, 13  # columns, from 0
SPOILT = "Sess01_script01_M001"  # its speaker row is in MALE; it has a neighbour on either side
RECORDING = f"wav/Session01/Sess01_script01/{SPOILT}"
ROW = 1  # of SPOILT, in both annotation files
TEXT = [
    "--data",
    "corpus",
    "--test_split",
    "[1,2]",
    "--text_encoder",
    "char-ngram",
    "--modality",
    "text",
    "--hidden_size",
    "8",
    "--epochs",
    "1",
    "--batch_size",
    "8",
    "--precision",
    "float32",
    "--gpu_id",
    "-1",
]
BAR = re.compile(r"\d+%\||\b0it \[")


class Outcome(NamedTuple):
    """Exit code, what was printed, and the lines on stderr (no progress bars; warnings too)."""

    code: int
    out: str
    lines: list[str]


@pytest.fixture
def place(workplace, tmp_path):
    """A folder of its own to work in, with the corpus (without its sensors) to be spoilt."""
    without = shutil.ignore_patterns("ECG", "EDA", "TEMP")
    shutil.copytree(workplace / "corpus", tmp_path / "corpus", ignore=without)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def ready(workplace, run_folder, tmp_path):
    """A folder of its own to work in, with a link to the corpus, and its tables and features."""
    (tmp_path / "corpus").symlink_to(workplace / "corpus")
    shutil.copytree(workplace / "data", tmp_path / "data")
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def say(capsys):
    """`say(*words)`: the command line, run here."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            warnings.simplefilter("ignore", DeprecationWarning)  # as Python does
            code = main.main(list(words))
        out, err = capsys.readouterr()
        pieces = (piece.rstrip() for piece in re.split(r"[\r\n]", err))
        lines = [piece for piece in pieces if piece and not BAR.search(piece)]
        return Outcome(code, out, lines + [str(warning.message) for warning in warned])

    return run


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, byte for byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def whole(place: Path) -> list[Path]:
    """Tables, features and runs that claim to be whole, and anything that a write left over."""
    tables = "data/prepared/*"
    marks = (f"{tables}/fingerprint.json", f"{tables}/features/sentence-*/complete.json", "exp/*")
    return [path for mark in (*marks, "**/.*.tmp") for path in place.glob(mark)]


@pytest.fixture
def refused(say):
    """`refused(match, *words)`: one line that matches, exit code 2, and nothing is changed."""

    def check(match: str, *words: str) -> None:
        place = Path.cwd()
        corpus, before = files(place / "corpus"), whole(place)
        code, _, lines = say(*words)
        assert (code, len(lines)) == (2, 1), lines
        assert lines[0].startswith("error: ")
        assert re.search(match, lines[0]), lines[0]
        assert files(place / "corpus") == corpus, "the corpus was touched"
        assert whole(place) == before, "something half-written looks whole"

    return check


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
@pytest.mark.parametrize("verb", [["prepare", "--data", "corpus"], TEXT], ids=["prepare", "train"])
def test_an_annotation_file_that_cannot_be_read_stops_everything(
    verb, spoil, match, place, refused
):
    spoil(Path("corpus") / FEMALE)
    refused(match, *verb)


@pytest.mark.parametrize("verb", [["prepare"], []], ids=["prepare", "train"])
def test_no_data_folder_is_an_error_that_names_the_sample(verb, place, refused):
    refused(r"no corpus folder 'data/KEMDy19'.*--data DIR.*--data sample", *verb)
    refused(r"no corpus folder 'elsewhere'.*--data sample", *verb, "--data", "elsewhere")
    refused(r"no folder 'elsewhere' to read as kemdy19", *verb, "--data", "kemdy19:elsewhere")


def test_a_folder_of_something_else_is_an_error_that_names_the_corpora(place, refused):
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
def test_a_fault_of_one_utterance_puts_it_in_quarantine(fault, say, place):
    spoil, reason, roles = QUARANTINED[fault]
    spoil()
    corpus = files(place / "corpus")
    roles = {"speaker", "listener"} if roles == "both" else {roles}

    code, out, lines = say("prepare", "--data", "corpus")
    assert (code, lines) == (0, [])
    counted = re.search(rf"^quarantined +(\d+)  {re.escape(reason)}", out, re.MULTILINE)
    assert counted and int(counted[1]) == len(roles), out

    [prepared] = place.glob("data/prepared/kemdy19-*")
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
    assert files(place / "corpus") == corpus


def test_a_quarantined_utterance_is_no_prediction_and_all_others_are(say, place):
    QUARANTINED["wav truncated"][0]()
    cell(FEMALE, VALENCE, "7", row=0)()  # F001: its speaker row
    cell(FEMALE, SEGMENT, "../../etc/x", row=3)()  # of the second dialogue
    bad = {"speaker": {SPOILT, "Sess01_script01_F001"}, "listener": {SPOILT}}
    segments = [row[SEGMENT] for row in lines_of(place / "corpus" / MALE)[0][2:]]
    bad["speaker" if segments[3][-4] == "F" else "listener"].add(segments[3])
    for role, missing in bad.items():
        assert say(*TEXT, "--SorL", role, "--max_bad", "0.5").code == 0
        [path] = place.glob(f"exp/*_{role}_*/predictions.csv")
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
def test_more_than_max_bad_in_quarantine_is_an_error(fault, refused, place):
    QUARANTINED[fault][0]()
    match = rf"unusable, more than --max_bad 0.01 allows.*{QUARANTINED[fault][1]}.*quarantine.csv"
    refused(match, "prepare", "--data", "corpus", "--max_bad", "0.01")
    refused(match, *TEXT, "--max_bad", "0.01")
    [named] = place.glob("data/prepared/*/quarantine.csv")
    assert SPOILT in named.read_text()


def test_max_bad_counts_for_tables_that_were_prepared_under_another(say, place, refused):
    QUARANTINED["valence 7"][0]()
    assert say("prepare", "--data", "corpus", "--max_bad", "0.5").code == 0
    refused("more than --max_bad 0 allows", *TEXT, "--max_bad", "0")


def test_a_bad_id_in_both_files_is_quarantined_under_a_harmless_name(say, place):
    for name in (FEMALE, MALE):
        write_cell(name, SEGMENT, "../../etc/x")
    assert say("prepare", "--data", "corpus").code == 0
    [prepared] = place.glob("data/prepared/kemdy19-*")
    named = pd.read_csv(prepared / "quarantine.csv", keep_default_na=False)
    assert set(named["role"]) == {"speaker", "listener"}
    assert set(named["reason"]) == {"Segment ID fits no pattern"}
    assert not any(p.name == "x" for p in place.parent.rglob("*"))
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
def test_a_quirk_of_one_utterance_is_counted_and_the_utterance_kept(quirk, say, place):
    say("prepare", "--data", "corpus")
    [path] = place.glob("data/prepared/*/troubles.csv")
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


def test_an_utterance_without_sound_and_words_is_predicted_all_the_same(say, place):
    KEPT["all zeros"][0]()
    KEPT["no txt"][0]()
    duplicated()
    assert say(*TEXT).code == 0
    [predictions] = place.glob("exp/*/predictions.csv")
    assert pd.read_csv(predictions)["segment"].tolist().count(SPOILT) == 1


def test_a_text_in_cp949_is_read_as_it_was_meant(say, place):
    KEPT["txt in CP949"][0]()
    say("prepare", "--data", "corpus")
    [path] = place.glob("data/prepared/*/df_speaker.csv")
    rows = pd.read_csv(path).set_index("segment")
    assert rows.loc[SPOILT, "text"] == "안녕하세요"


# --- sentence vectors made elsewhere -------------------------------------------------------------


class Code:
    """What runs a command when it is unpickled by a reader that believes what it reads."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def save_vectors(value: object) -> None:
    np.save("corpus/embedding_768.npy", value, allow_pickle=True)


def vectors(width: int) -> dict:
    """One vector for every txt of the corpus."""
    random = np.random.default_rng(2)
    names = sorted(path.name for path in Path("corpus").glob("wav/*/*/*.txt"))
    return {name: random.standard_normal(width).astype("float32") for name in names}


FROM_FILE = [word for word in TEXT if word not in ("--text_encoder", "char-ngram")]


def test_vectors_in_the_corpus_folder_are_used_and_recorded(say, place):
    save_vectors(vectors(768))
    assert say(*FROM_FILE).code == 0
    [configuration] = place.glob("exp/*/configuration.json")
    assert json.loads(configuration.read_text())["text_encoder"] == "corpus/embedding_768.npy"
    [about] = place.glob("data/prepared/*/features/sentence-*/parameters.json")
    assert "embedding_768.npy" in about.read_text()


@pytest.fixture
def tables(say, place):
    """The corpus, prepared; a file of vectors is no part of its tables."""
    assert say("prepare", "--data", "corpus").code == 0


def test_vectors_of_another_width_are_refused(tables, refused):
    save_vectors(vectors(64))
    refused(r"needed vectors of 768 numbers.*embedding_768.npy holds 64", *FROM_FILE)


@pytest.mark.parametrize(
    "save",
    [
        lambda: save_vectors({"Sess01_script01_F001.txt": Code()}),
        lambda: save_vectors(np.array(Code(), dtype=object)),
        lambda: Path("corpus/embedding_768.npy").write_bytes(pickle.dumps(Code())),
    ],
    ids=["in the dict", "instead of the dict", "a bare pickle"],
)
def test_code_among_vectors_is_refused_and_never_run(save, tables, refused):
    save()
    refused(r"embedding_768.npy should hold a dict of vectors", *FROM_FILE)
    assert not Path("executed").exists()


def test_a_damaged_file_of_vectors_is_refused(tables, refused):
    save_vectors(vectors(768))
    path = Path("corpus/embedding_768.npy")
    path.write_bytes(path.read_bytes()[:5000])
    refused(r"embedding_768.npy should hold a dict of vectors", *FROM_FILE)


# --- a finished run ------------------------------------------------------------------------------


@pytest.fixture
def run(run_folder, ready) -> Path:
    """A copy of the finished run (trained on sessions 1 and 2) in `exp/run`."""
    Path("exp").mkdir()
    return Path(shutil.copytree(run_folder, "exp/run"))


@pytest.fixture
def untestable(refused):
    """`untestable(match, run)`: --test_only is refused and leaves the run folder as it was."""

    def check(match: str, run: Path, *words: str) -> None:
        before = files(run)
        refused(match, "--test_only", run.name, "--data", "corpus", *words)
        assert files(run) == before

    return check


@pytest.mark.parametrize(
    "data",
    [b"", b"no torch at all\n", b"PK\x03\x04" + bytes(100), pickle.dumps({"a": 1})],
    ids=["empty", "text", "not a zip", "a pickle"],
)
def test_weights_that_are_something_else_are_refused(data, run, untestable):
    (run / "model.pth").write_bytes(data)
    (run / "model.pth.b2sum").unlink()
    untestable(r"model.pth should hold a (state dict of torch; it is damaged|dict of tensors)", run)


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_truncated_weights_are_refused(share, run, untestable):
    data = (run / "model.pth").read_bytes()
    (run / "model.pth").write_bytes(data[: int(share * len(data))])
    untestable(r"model.pth is damaged: model.pth.b2sum holds the checksum of other bytes", run)
    (run / "model.pth.b2sum").unlink()
    untestable(r"model.pth should hold a state dict of torch; it is damaged", run)


@pytest.mark.parametrize("value", [Code(), {"emotion.0.weight": Code()}], ids=["bare", "in a dict"])
def test_weights_that_hold_code_are_refused_and_never_run(value, run, untestable):
    torch.save(value, run / "model.pth")
    (run / "model.pth.b2sum").unlink()
    untestable(r"model.pth should hold a state dict of torch; it is damaged or something else", run)
    assert not Path("executed").exists()


def test_a_run_without_weights_is_refused(run, untestable):
    (run / "model.pth").unlink()
    untestable(r"exp/run has no model.pth: its training did not end; .*--resume run", run)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hidden_size": 16}, r"model.pth does not fit .*configuration.json: .*should be 64x"),
        ({"bidirectional": True}, r"does not fit .*_reverse is missing"),
        ({"backbone": "gru"}, r"does not fit .*should be 24x"),
        ({"hidden_size": "8"}, r"hidden_size should be int, it is '8'"),
        ({"ws": 0}, r"ws should be at least 1, it is 0"),
        ({"model": "kobart"}, r"no 'kobart' in models/; there are: .*mate"),
        ({"SorL": "dancer"}, r"SorL should be one of speaker, listener"),
        ({"split": None}, r"configuration.json.*split"),
        ({"test_split": None}, r"configuration.json.*test_split"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(change, match, run, untestable):
    path = run / "configuration.json"
    changed = json.loads(path.read_text()) | change
    path.write_text(json.dumps({k: v for k, v in changed.items() if v is not None}))
    untestable(match, run)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"{", r"cannot read .*configuration.json as JSON"),
        (b"", r"cannot read .*configuration.json as JSON"),
        (b"[1, 2]", r"configuration.json should hold a JSON object, it holds a list"),
        ('{"model": "mate"}'.encode("utf-16"), r"cannot read .*configuration.json as JSON"),
        (b"{}", r"names no model.*it lacks backbone"),
    ],
    ids=["cut", "empty", "list", "UTF-16", "nothing in it"],
)
def test_a_configuration_that_is_something_else_is_refused(data, match, run, untestable):
    (run / "configuration.json").write_bytes(data)
    untestable(match, run)


@pytest.mark.parametrize(
    "flag",
    [
        "--lr 0.1",
        "--epochs 2",
        "--ws 4",
        "--SorL listener",
        "--hidden_size 8",
        "--val_split [1]",
        "--seed 1",
    ],
)
def test_a_flag_of_training_is_refused_when_testing(flag, run, untestable):
    name = flag.split()[0]
    untestable(rf"{name} was settled when run was trained; .*--data", run, *flag.split())


@pytest.mark.parametrize("split", ["[1]", "[2,3]", "[1,2,3,4]"])
def test_a_test_split_that_touches_trained_sessions_is_refused(split, run, untestable):
    untestable(
        r"test rows were used in training \(e.g. Sess0\d_.*sessions \[1, 2\]",
        run,
        "--test_split",
        split,
    )


def test_trained_sessions_are_known_without_their_sound(say, refused, place):
    for path in place.glob("corpus/wav/*/*/*.wav"):
        path.unlink()
    say(*TEXT, "--test_split", "[3,4]")
    [run] = place.glob("exp/*")
    before = files(run)
    refused(
        "test rows were used in training",
        "--test_only",
        run.name,
        "--data",
        "corpus",
        "--test_split",
        "[1]",
    )
    assert files(run) == before


@pytest.mark.parametrize("name", ["../run", "exp/../../run", "/etc", "..", "link"])
def test_a_run_outside_save_path_is_refused(name, run, refused, tmp_path):
    outside = shutil.copytree(run, tmp_path / "run")
    Path("exp/link").symlink_to(outside)
    refused(
        rf"'{re.escape(name)}' lies outside --save_path ./exp",
        "--test_only",
        name,
        "--data",
        "corpus",
    )
    assert not list(outside.glob("test_*"))


def test_a_run_that_does_not_exist_is_an_error_that_names_those_that_do(run, refused):
    refused(r"no run 'ran' in ./exp; there are: run$", "--test_only", "ran", "--data", "corpus")
    refused(r"no run '' in ./exp; there are: run$", "--test_only", "--data", "corpus")


def test_testing_twice_never_overwrites_what_training_wrote(run, say):
    before = files(run)
    for _ in range(2):
        assert say("--test_only", "run", "--data", "corpus").code == 0
    after = files(run)
    assert {name: after[name] for name in before} == before
    added = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert len(added) == 2
    assert all(re.fullmatch(r"test_\d{8}T\d{6}Z(-2)?", name) for name in added), added


# --- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("--ws 0", "--ws: needs a whole number of at least 1, got '0'"),
        ("--lam 2", "--lam: needs a number of at least 0 and at most 1, got '2'"),
        ("--beta 1", "--beta: needs a number of at least 0 and under 1, got '1'"),
        ("--hidden_size 0", "--hidden_size: needs a whole number of at least 1"),
        ("--text_dim eight", "--text_dim: needs a whole number of at least 1, got 'eight'"),
        ("--sr 900", "sr 900 leaves too few frames"),
        ("--backbone transformer", "invalid choice: 'transformer'"),
        ("--batch_size 1", "--batch_size: needs a whole number of at least 2"),
        ("--lr nan", "--lr: needs a number"),
        ("--max_bad nan", "--max_bad"),
        ("--test_split [9]", r"\[9\] that do not exist; the sessions there are: 1, 2, 3, 4"),
        ("--val_split [1]", r"\[1\] are in both"),
        ("--text_encoder none/such", "'none/such' is not on this machine.*char-ngram"),
    ],
)
def test_an_impossible_flag_is_refused_before_anything_is_written(words, match, ready, refused):
    both = [word for word in TEXT if word not in ("--modality", "text")]
    refused(match, *both, *words.split())


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b'--lr 1\n--epochs "3\n', "cannot read the flags '--epochs \"3': No closing quotation"),
        ("--epochs 3 # 세 번\n".encode("utf-16"), "@flags.txt should be flags in UTF-8"),
    ],
    ids=["open quote", "UTF-16"],
)
def test_a_file_of_flags_that_cannot_be_read_is_refused(data, match, ready, refused):
    Path("flags.txt").write_bytes(data)
    refused(match, "@flags.txt")


def test_an_empty_word_is_refused(ready, refused):
    refused("no subcommand ''", "")


# --- a disk that cannot be written ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["data", "data/prepared"])
def test_a_file_where_a_folder_should_be_is_refused(name, place, refused):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("mine\n")
    refused(rf"cannot make the folder .*{name}", *TEXT)
    assert Path(name).read_text() == "mine\n"


@pytest.mark.parametrize("path", ["runs", "runs/of/mine"])
def test_a_save_path_that_is_no_folder_is_known_before_the_corpus_is_read(path, place, refused):
    Path("runs").write_text("mine\n")
    refused(
        rf"cannot make a folder for runs, --save_path {path}: .*runs is no folder",
        *TEXT,
        "--save_path",
        path,
    )
    assert Path("runs").read_text() == "mine\n"
    assert not list(place.glob("data/prepared/*"))


def test_a_read_only_save_path_is_known_before_the_corpus_is_read(place, refused, monkeypatch):
    Path("runs").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "runs")
    refused(r"--save_path runs: .*runs cannot be written", *TEXT, "--save_path", "runs")
    assert not list(place.glob("data/prepared/*"))


DESTINATIONS = [
    "quarantine.csv",
    "annotation.csv",
    "troubles.csv",
    "fingerprint.json",
    "parameters.json",
    "complete.json",
    "configuration.json",
    "training.csv",
    "model.pth",
    "predictions.csv",
    "result.json",
    "report.html",
]
LATER = {  # what is there only when it and all before it were written
    "fingerprint.json": "data/prepared/*/fingerprint.json",
    "complete.json": "data/prepared/*/features/*/complete.json",
    "configuration.json": "exp/*",
    "result.json": "exp/*/result.json",
}


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_read_only_disk_leaves_nothing_that_looks_whole(destination, say, place, monkeypatch):
    replace = os.replace

    def refuse(source, target):
        if Path(target).name == destination:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    corpus = files(place / "corpus")
    code, _, lines = say(*TEXT)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search(rf"^error: cannot write .*{destination}: Read-only file system", lines[0])
    for mark, pattern in LATER.items():
        if DESTINATIONS.index(destination) <= DESTINATIONS.index(mark):
            assert not list(place.glob(pattern)), f"{mark} says that something is whole"
    assert not list(place.rglob("*.tmp"))
    assert files(place / "corpus") == corpus
    monkeypatch.undo()
    if DESTINATIONS.index(destination) < DESTINATIONS.index("configuration.json"):
        assert say(*TEXT).code == 0, "it does not mend itself"


@pytest.mark.parametrize("number", [0, 3, 11, 13])
def test_a_full_disk_is_one_line_whatever_it_interrupts(number, say, place, monkeypatch):
    calls, fsync = [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    code, _, lines = say(*TEXT)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search("^error: cannot write .*No space left on device", lines[0]), lines
    assert not list(place.rglob("*.tmp"))
    assert not list(place.glob("exp/*/result.json"))


@pytest.mark.parametrize("size", [0, 10_000, 1_000_000])
def test_a_disk_that_fills_up_in_training_is_one_line(size, say, ready):
    """Files cannot grow beyond `size` bytes, a real limit: configuration or weights meet it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        code, _, lines = say(*TEXT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search("^error: cannot write .*File too large", lines[0]), lines
    assert not list(ready.glob("exp/*/model.pth"))
    assert not list(ready.rglob("*.tmp"))


def test_a_disk_that_is_full_when_an_epoch_is_logged_is_one_line(say, ready, monkeypatch):
    def opened(path, *how):
        return open("/dev/full" if Path(path).name == "train_loss.log" else path, *how)

    monkeypatch.setattr(loop, "open", opened, raising=False)
    code, _, lines = say(*TEXT)
    assert (code, len(lines)) == (2, 1), lines
    assert re.search("^error: cannot write .*train_loss.log: No space left", lines[0]), lines
    assert not list(ready.glob("exp/*/model.pth"))

"""The pages on plugins, built from what stands in them: their files, folder and commands.

A page names the file it adds; that file is the code block behind its name. All commands of both
pages run in one interpreter, one after another, in a copy of the project that has both files.
"""

import csv
import hashlib
import io
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.pages import LANGUAGES, blocks, code, commands, english, headings, rows, section, text
from doubles.project import outcomes as ran
from doubles.project import project

from commands import Subcommand
from corpora import preparation
from corpora.preparation import columns
from features import store
from metric import VOTES
from model import EmotionModel
from utils import ROOT, UserError, leaf, make_folder, read_json, rng

CORPUS, MODEL = (f"docs/ko/extending/new_{kind}.md" for kind in ("corpus", "model"))
PAGES = {CORPUS: "corpora/calls.py", MODEL: "models/pooled.py"}
SESSIONS, CALLS, TURNS = 5, 5, 4  # calls a session, utterances a call
SOUNDS = "혐오 분노 슬픔 공포 놀람 중립 기쁨".split()
QUARANTINED = {  # rows that are spoilt below, as the reader names them
    "s1_c03_2": "unknown emotion",
    "s2_c08_1": "score outside 1..5",
    "s2_c07_3": "truncated wav",
    "s3 c12 2": columns.NO_PATTERN,
}

each_page = pytest.mark.parametrize("page", PAGES)
each_model_page = pytest.mark.parametrize("page", [MODEL, english(MODEL)])


def block(language: str, *words: str) -> str:
    """The one block of the page on corpora in that language that has those words."""
    found = [code for kind, code in blocks(CORPUS) if kind == language]
    [code] = [code for code in found if all(word in code for word in words)]
    return code


def file_of(page: str) -> tuple[str, str]:
    """(path, code) of the file that a page adds."""
    [found] = re.findall(
        r"^`((?:corpora|models)/\w+\.py)`[^\n]*\n\n```python\n(.*?)^```",
        text(page),
        re.MULTILINE | re.DOTALL,
    )
    return found


# --- what is built -------------------------------------------------------------------------------


def calls() -> list[list[str]]:
    """Rows of labels.csv: those of the page, and as many more as it says."""
    header, *rows = csv.reader(io.StringIO(block("csv")))
    random = rng(0, "calls")
    for number in range(len(rows), SESSIONS * CALLS * TURNS):
        call, turn = number // TURNS + 1, number % TURNS + 1
        session = (call - 1) // CALLS + 1
        speaker = f"agent{session}" if turn % 2 else f"caller{call}"
        emotion = SOUNDS[random.integers(len(SOUNDS))]
        scores = [f"{score:.1f}" for score in random.uniform(1, 5, 2)]
        words = f"{emotion}, {call}번 통화의 {turn}번째 말"
        name = f"s{session}_c{call:02d}_{turn}"
        rows.append([name, str(session), f"c{call:02d}", speaker, words, emotion, *scores])
    return [header, *rows]


def write_calls(folder: Path) -> None:
    """The folder of the page: 100 utterances, with one of each trouble that it says is there."""
    make_folder(folder / "wav")
    header, *rows = calls()
    random, t = rng(0, "waves"), np.arange(8000) / 16_000  # half a second
    for row in rows:
        pitch = 100 + 40 * SOUNDS.index(row[5])
        wave = np.sin(2 * np.pi * pitch * t) * (1 + 0.2 * random.standard_normal(len(t)))
        soundfile.write(folder / f"wav/{row[0]}.wav", 0.1 * wave, 16_000)
    wavs = {path.stem: path for path in folder.glob("wav/*.wav")}
    wavs["s4_c18_4"].unlink()
    wavs["s3_c12_2"].unlink()
    wavs["s2_c07_3"].write_bytes(wavs["s2_c07_3"].read_bytes()[:5000])
    by_name = {row[0]: row for row in rows}
    by_name["s1_c03_2"][5] = "짜증"
    by_name["s2_c08_1"][6] = "7"
    by_name["s3_c12_2"][0] = "s3 c12 2"
    by_name["s5_c23_1"][4] = "b/"
    rows.append(by_name["s1_c02_1"])
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([header, *rows])
    (folder / "labels.csv").write_bytes(out.getvalue().encode("cp949"))


def digests(folder: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The copy, with both files, the folder of calls and a small synthetic corpus."""
    place = project(tmp_path_factory.mktemp("docs") / "project")
    for page in PAGES:
        path, source = file_of(page)
        (place / path).write_text(source, encoding="utf-8")
    write_calls(place / "data/calls")
    # of 18 utterances in place of 1,200: the page says how long those take
    leaf("corpora", "sample").write(place / "data/sample", sessions=6, dialogues=1, utterances=3)
    return place


@pytest.fixture(scope="module")
def outcomes(place) -> dict[str, dict]:
    """Exit code and output of each command of the pages, and the folder of calls before them."""
    lines = [line for page in PAGES for line in commands(page)]
    given = [f"{line} -rA" if " pytest " in line else line for line in lines]  # names what passed
    before = digests(place / "data/calls")
    found, stderr = ran(place, given)
    answers = dict(zip(lines, found, strict=True))
    return answers | {"before": before, "stderr": stderr}


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    """The corpus of the page as a module, here."""
    path, source = file_of(CORPUS)
    module = ModuleType("calls")
    exec(compile(source, path, "exec"), vars(module))
    return module


# --- the pages -----------------------------------------------------------------------------------


@each_page
def test_both_languages_hold_the_same_code(page):
    assert len(blocks(page)) > 2
    assert blocks(page) == blocks(english(page))


@each_page
def test_both_languages_have_seven_sections(page):
    for name in (page, english(page)):
        assert [title[:2] for level, title in headings(name) if level == 2] == [
            f"{number}." for number in range(1, 8)
        ]


@each_page
def test_a_page_adds_one_file_and_names_only_files_that_are_there(page):
    for name in (page, english(page)):
        own, _ = file_of(name)
        assert own == PAGES[page]
        paths = {p for p in code(text(name)) if re.fullmatch(r"[\w/]+\.py|\w{2,}/", p)} - {own}
        assert len(paths) > 3
        assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_files_are_in_the_style_of_the_project(place):
    files = [place / path for path in PAGES.values()]
    for words in (["check"], ["format", "--check"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", *files],
            cwd=place,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr


@each_page
def test_every_command_of_a_page_ends_well(page, outcomes):
    assert any(line.startswith("python main.py ") for line in commands(page))
    for line in commands(page):
        assert outcomes[line]["code"] == 0, outcomes[line]["out"] + outcomes["stderr"]


CONTRACTS = {  # room: the classes whose members a plugin of it must or may have
    "models": (EmotionModel,),
    "features": (store.Feature, store.Extractor),
    "corpora": (preparation.Reader,),
    "commands": (Subcommand,),
}


@pytest.mark.parametrize("room", CONTRACTS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_table_of_contracts_names_all_that_a_plugin_has(language, room):
    of_room = {row[0]: row for row in rows(text(f"docs/{language}/extending/README.md"))}
    named = {
        re.match(r"(?:Extractor\.)?(\w+)", piece)[1]
        for cell in of_room[f"`{room}/<name>.py`"][1:]
        for piece in code(cell)
    }
    members = {name for base in CONTRACTS[room] for name in vars(base) | base.__annotations__}
    assert {name for name in members if not name.startswith("_")} <= named
    known = {name for base in CONTRACTS[room] for name in dir(base)} | members
    assert named <= known | {"Model", "Feature", "Reader", "Command"}


# --- a new corpus --------------------------------------------------------------------------------


def prepared(place: Path, name: str) -> pd.DataFrame:
    [folder] = place.glob("data/prepared/calls-*")
    return pd.read_csv(folder / f"{name}.csv")


def test_preparing_prints_what_the_page_shows(outcomes):
    printed = outcomes["python main.py prepare --data data/calls"]["out"]
    shown = block("", "treatment")
    of_place = re.compile(r"calls-[0-9a-f]{8}/")  # which depends on where the folder is
    assert of_place.sub("", printed) == of_place.sub("", shown)


def test_bad_rows_are_named_and_neither_learnt_from_nor_tested_on(place, outcomes):
    table = prepared(place, "annotation")
    bad = table[table["quarantine"].notna()]
    assert dict(zip(bad["segment"], bad["quarantine"], strict=True)) == QUARANTINED
    listed = prepared(place, "quarantine")
    assert dict(zip(listed["segment"], listed["reason"], strict=True)) == QUARANTINED
    assert bad.loc[bad["segment"] == "s3 c12 2", "session"].tolist() == [3]  # it keeps its place
    [run] = place.glob("exp/functionals_*")
    learnt, tested = (pd.read_csv(run / f"{n}.csv")["segment"] for n in ("training", "predictions"))
    assert sorted([*learnt, *tested, *QUARANTINED]) == sorted(table["segment"])
    assert len(tested) == CALLS * TURNS


def test_the_first_utterances_are_those_of_the_page(place, outcomes):
    table = prepared(place, "annotation").head(TURNS)
    rows = pd.read_csv(io.StringIO(block("csv")))
    assert table["emotion"].tolist() == ["neutral", "angry", "sad", "happy"]
    for name in ("session", "dialogue", "speaker", "valence", "arousal"):
        assert table[name].tolist() == rows[name].tolist(), name
    assert table["segment"].tolist() == rows["file"].tolist()
    assert table["text"][1] == "어제 주문한 게, 아직도 안 왔는데요"  # without the breath
    assert (table[VOTES].max(axis=1) == table[VOTES].sum(axis=1)).all()


def test_the_folder_of_a_corpus_is_left_alone(place, outcomes):
    assert digests(place / "data/calls") == outcomes["before"]


GOOD = ["s1_c01_1", "1", "c01", "agent1", "네", "중립", "3", "3"]
BAD_CELLS = ("", "../../etc/passwd", "x" * 300, "기쁨;슬픔", "nan", "-1", "٣", "9" * 30, "a\0b")


@pytest.mark.parametrize("column", range(len(GOOD)))
def test_one_bad_row_never_stops_the_reading(reader, tmp_path, column):
    make_folder(tmp_path / "wav")
    for cell in BAD_CELLS:
        row = ["s1_c01_2", *GOOD[1:]]
        row[column] = cell
        with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([reader.HEADER, GOOD, row])
        utterances, _ = reader.Reader.read(tmp_path)
        assert list(utterances) == columns.COLUMNS
        assert utterances["quarantine"][0] == ""
        assert utterances["wav"].eq("").all()  # nothing of the table became a path


def test_another_header_or_a_comma_too_many_is_an_error_of_one_line(reader, tmp_path):
    for lines, match in (
        ([reader.HEADER[::-1], GOOD], "needs 'file' at line 1 column 1"),
        ([reader.HEADER, GOOD, [*GOOD, "x"]], "needs 8 columns, line 3 has 9"),
        ([reader.HEADER], "lists no utterance"),
    ):
        with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
        with pytest.raises(UserError, match=match):
            reader.Reader.read(tmp_path)
    (tmp_path / "labels.csv").unlink()
    assert not reader.Reader.matches(tmp_path)
    with pytest.raises(UserError, match="needs labels.csv; it has none"):
        reader.Reader.read(tmp_path)


# --- a new model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["functionals", "pooled"])
def test_a_run_has_finite_scores(kind, place, outcomes):
    [run] = place.glob(f"exp/{kind}_*")
    scores = read_json(run / "result.json")["scores"]
    assert {"macro_f1", "uar", "ccc_arousal", "ccc_valence"} <= set(scores)
    assert all(math.isfinite(score["value"]) for score in scores.values())


@each_model_page
def test_the_tests_of_every_model_pass_and_are_named(page, outcomes):
    [line] = [line for line in commands(page) if " pytest " in line]
    out = outcomes[line]["out"]
    passed = re.findall(r"^PASSED tests/test_model\.py::(test_\w+)\[pooled\]", out, re.MULTILINE)
    assert {
        "test_a_row_alone_is_the_same_row_in_a_batch",
        "test_every_parameter_gets_a_finite_gradient",
    } <= set(passed)
    assert "FAILED" not in out
    named = [code(row[0])[0] for row in rows(text(page)) if row[0].startswith("`test_")]
    assert sorted(named) == sorted(passed)


SETTINGS = {"sr": 16_000, "text_dim": 12, "n_mfcc": 20, "mfcc_fft": 400, "mfcc_hop": 160}


@each_model_page
def test_a_feature_needs_the_settings_that_the_page_names(page):
    for row in rows(section(page, 4)):
        [feature], needed = code(row[0]), code(row[2]) if len(row) > 2 else []
        given = {key: SETTINGS[key] for key in needed} | {"text_encoder": "char-ngram"}
        own = leaf("features", feature)
        shape = own.shape(own.parameters(SimpleNamespace(**given)))
        assert len(row[1].strip("()").split(", ")) == 2 + len(shape), feature
        assert (", T" in row[1]) == (shape[0] is None), feature
        for key in needed:
            with pytest.raises(AttributeError, match=key):
                own.parameters(SimpleNamespace(**{k: v for k, v in given.items() if k != key}))

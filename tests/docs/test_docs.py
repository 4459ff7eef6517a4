"""READMEs and all pages of docs/ say what is there: flags, links, paths, commands, columns, scores.

Code and commands of docs/*/extending/ run in test_extending.py, those of the page on recordings
in test_recordings.py.
"""

import contextlib
import dataclasses
import os
import re
import shlex
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
import torch
from doubles import pages
from doubles.flags import fields_of, flags_of
from doubles.pages import LANGUAGES, code, everything, headings, rows, section, tables, text

import constants
import main
import metric
from models import mate
from training import flags as training_flags
from training.settings import settings_class
from training.sweep import grid as grids
from utils import ROOT, leaf, leaves

TRAINING = "docs/{}/03_train_and_test.md"
RUN_FOLDER = "docs/{}/04_run_folder.md"
SCORES = "docs/{}/05_scores_and_leakage.md"
PREDICT = "docs/{}/10_predict_and_serve.md"
PYTHON = "docs/{}/12_python.md"
OTHERS = ["benchmarks/README.md", "data/README.md"]  # in English alone
NEW = {"corpora/calls.py", "models/pooled.py"}  # which the pages of extending/ add
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"data"}

each_language = pytest.mark.parametrize("language", LANGUAGES)
each_page = pytest.mark.parametrize("page", everything("ko"))
each_text = pytest.mark.parametrize("page", [*everything("ko"), *everything("en"), *OTHERS])


# --- flags ---------------------------------------------------------------------------------------


def kinds() -> list[type]:
    """The settings of each subcommand, and of training each model."""
    training = [settings_class(model) for model in leaves("models")]
    return training + [leaf("commands", name).Settings for name in leaves("commands")]


def check_row(field: dataclasses.Field, row: list[str]) -> None:
    """A row of a table of flags says the default of a field, as --help does."""
    if field.type is not bool and training_flags.shown(field.default) != "none":
        assert f"`{training_flags.shown(field.default)}`" in row[1], row


@each_language
def test_every_flag_is_named(language):
    flags = {flag for kind in kinds() for names in flags_of(kind).values() for flag in names}
    pieces = [piece for page in everything(language) for piece in code(text(page))]
    assert not flags - {word for piece in pieces for word in piece.split()}


@each_language
def test_the_flag_table_has_the_defaults_and_choices_of_training(language):
    table = section(TRAINING.format(language), 1)
    by_flag = {flag: row for row in rows(table) for flag in code(row[0])}
    kind = settings_class(constants.MODEL)
    flags = flags_of(kind)
    for field in fields_of(kind):
        row = by_flag[flags[field.name][0]]
        assert all(flag in row[0] for flag in flags[field.name])
        check_row(field, row)
        if field.name != "model":  # a new model needs no edit here
            assert set(field.metadata["choices"] or ()) <= set(code(row[2])), row


@each_language
@pytest.mark.parametrize("model", [name for name in leaves("models") if name != constants.MODEL])
def test_the_flag_table_has_the_defaults_of_each_model(language, model):
    table = section(TRAINING.format(language), 1)
    by_flag = {flag: row for row in rows(table) for flag in code(row[0])}
    shared = {field.name for field in dataclasses.fields(settings_class(constants.MODEL))}
    kind = settings_class(model)
    flags = flags_of(kind)
    for field in fields_of(kind):
        if field.name not in shared:
            check_row(field, by_flag[flags[field.name][0]])


@each_language
@pytest.mark.parametrize(("name", "number"), [("predict", 6), ("serve", 7)])
def test_the_flags_of_a_subcommand_have_their_defaults(language, name, number):
    kind = leaf("commands", name).Settings
    by_name = {flag: f for f in fields_of(kind) for flag in flags_of(kind)[f.name]}
    table = rows(section(PREDICT.format(language), number))
    assert table
    for row in table:
        for flag in code(row[0]):
            check_row(by_name[flag], row)


@each_language
def test_the_flags_allowed_in_testing_are_named(language):
    pieces = code(section(TRAINING.format(language), 2))
    [listed] = [piece for piece in pieces if piece.startswith("--data --")]
    fields = [f for model in leaves("models") for f in fields_of(settings_class(model))]
    allowed = {f"--{field.name}" for field in fields if field.metadata.get("with_test")}
    assert set(listed.split()) == allowed - {"--test_only", "--test_path"}


# --- links, paths and words ----------------------------------------------------------------------


@each_text
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        there = Path(os.path.normpath((ROOT / page).parent / path)) if path else ROOT / page
        assert there.is_relative_to(ROOT) and there.exists(), target
        if anchor:
            assert anchor in pages.anchors(there.relative_to(ROOT).as_posix()), target


@each_text
def test_every_file_that_is_named_is_there(page):
    named = {word for piece in code(text(page)) for word in piece.lstrip("@").split()}
    kinds = re.compile(r"[\w.-]+(/[\w.-]+)+\.(py|txt|md|csv|j2)|\w+/")
    paths = {word for word in named if kinds.fullmatch(word) and word.split("/")[0] in FOLDERS}
    assert not {p for p in paths if "..." not in p and not (ROOT / p).exists()} - NEW


@each_text
def test_users_read_of_plugins_and_subcommands_and_one_seed(page):
    old = re.compile(r"\b(leaf|verbs?|seed0\d+|seed12)\b|동사")
    assert not old.findall(text(page))


# --- commands and snippets -----------------------------------------------------------------------


def commands(page: str) -> list[str]:
    """What follows `main.py` in code blocks and in single backticks."""
    found = [*pages.lines(page), *code(text(page))]
    starts = re.compile(r"(?:python|torchrun|accelerate launch)\b.*?\bmain\.py +(.*)")
    return [match[1] for line in found if (match := starts.match(line))]


def all_commands() -> list[str]:
    """Those of READMEs and pages; pages that add a plugin run them with it (test_extending.py)."""
    both = [page for language in LANGUAGES for page in everything(language)]
    return sorted({c for page in both if "/extending/new_" not in page for c in commands(page)})


@pytest.mark.parametrize("command", all_commands())
def test_a_command_is_understood(command):
    words = shlex.split(command, comments=True)
    if words[0] in leaves("commands"):
        kind = leaf("commands", words[0]).Settings
        _, rest = training_flags.read(kind, words[1:])
        if rest:  # flags of training, which may list alternatives
            grid = " ".join(word if "{" in word else shlex.quote(word) for word in rest)
            assert "flags" in {field.name for field in dataclasses.fields(kind)}
            assert grids.points([grid], None)
        return
    with contextlib.chdir(ROOT):
        parsed = training_flags.parse(words)
    tested = main.tested_run(parsed.settings, parsed.rest)
    if tested is None:
        assert not parsed.rest
    else:
        assert tested
        assert set(parsed.given) <= set(training_flags.with_test(type(parsed.settings)))


@each_text
def test_make_knows_what_a_page_asks_of_it(page):
    rules = re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE)
    pieces = [*pages.lines(page), *code(text(page))]
    targets = [match[1] for piece in pieces if (match := re.match(r"make (\w+)", piece))]
    assert set(targets) <= set(rules)


def snippet(page: str) -> str:
    """The one block of Python of a page."""
    [found] = [block for kind, block in pages.blocks(page) if kind == "python"]
    return found


@each_language
def test_the_python_snippet_runs(language, workplace, run_folder, tmp_path):
    source = snippet(PYTHON.format(language))
    run = re.search(r'model\.load\("(exp/\w+)"\)', source)[1]
    (tmp_path / "data").mkdir()
    (tmp_path / "exp").mkdir()
    (tmp_path / "data/sample").symlink_to(workplace / "corpus")
    (tmp_path / run).symlink_to(run_folder)
    names: dict = {}
    with contextlib.chdir(tmp_path):
        exec(compile(source, PYTHON.format(language), "exec"), names)
        batch = names["data"].batch([0, 1, 2])
    assert {head: tuple(v.shape) for head, v in names["prediction"].items()} == {
        "emotion": (3, 7),
        "arousal": (3,),
        "valence": (3,),
    }
    table = rows(section(PYTHON.format(language), 1))
    assert {key for row in table for key in code(row[0])} == set(batch)


# --- what a run writes ---------------------------------------------------------------------------


@each_language
def test_every_file_and_column_of_a_run_is_named(language, run_folder):
    page = text(RUN_FOLDER.format(language))
    named = [piece for row in rows(page) for piece in code(row[0])]
    files = {p.name for p in run_folder.iterdir() if p.is_file()}
    assert not {f for f in files if not any(Path(f).match(piece) for piece in named)}
    columns = set(pd.read_csv(run_folder / "predictions.csv", nrows=1))
    assert not columns - set(named)


@each_language
def test_every_score_and_tie_policy_is_defined(language):
    table = rows(section(SCORES.format(language), 2))
    assert {piece for row in table for piece in code(row[0])} == {
        *metric.SCORES,
        *constants.TIE_POLICIES,
    }
    for row in table:
        for score in (metric.SCORES[n] for n in code(row[0]) if n in metric.SCORES):
            low, high = re.split(r"\.\.|~", row[2])
            assert (float(low), float(high)) == (score.low, score.high), row


# --- both languages ------------------------------------------------------------------------------


def test_both_languages_have_the_same_pages():
    assert [pages.english(page) for page in pages.pages("ko")] == pages.pages("en")


@each_page
def test_a_page_of_docs_links_to_the_other_language(page):
    if not page.startswith("docs/"):
        return
    for here, there in ((page, pages.english(page)), (pages.english(page), page)):
        assert text(here).splitlines()[2].startswith(("한국어 · [English](", "[한국어]("))
        first = pages.links(here)[0]
        assert os.path.normpath(Path(here).parent / first) == there


@each_page
def test_both_languages_have_the_same_sections_tables_and_slots(page):
    both = page, pages.english(page)
    one, other = ([level for level, _ in headings(p)] for p in both)
    assert one == other
    one, other = ([list(map(len, table)) for table in tables(text(p))] for p in both)
    assert one == other
    one, other = (re.findall(r"<!-- RESULTS: (\w+) -->", text(p)) for p in both)
    assert one == other


@each_page
def test_both_languages_have_the_same_commands(page):
    one, other = (sorted(commands(p)) for p in (page, pages.english(page)))
    assert one == other


@each_page
def test_both_languages_have_the_same_scores(page):
    number = r"(?<![\d.])-?\d?\.\d{3}(?!\d)"  # three decimals; Hangul may follow without a space
    one, other = (Counter(re.findall(number, text(p))) for p in (page, pages.english(page)))
    assert one == other
    assert one.total() > 50 or "13_results" not in page


def test_the_drawing_shows_the_sizes_of_the_model():
    root = ElementTree.parse(ROOT / "docs/images/model.svg").getroot()
    labels = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    with torch.device("meta"):
        model, sound = mate.Model(mate.Settings()).eval(), torch.zeros(1, 8, 229, 313)
        shapes = [sound := block(sound) for block in model.audio]
    wanted = [" × ".join(map(str, shape.shape[1:])) for shape in shapes]
    wanted += [" · ".join(map(str, widths)) for widths in (mate.EMOTION, mate.AFFECT)]
    wanted += [f"8 × {shapes[-1][0, 0].numel()}", f"8 × {model.recurrent.input_size}"]
    wanted += [f"8 × 512 = {model.emotion[0][0].in_features}"]
    wanted += [f"512 + 7 = {model.scales['arousal'][0][0].in_features}"]
    wanted += [" · ".join(map(str, (*mate.SCALE_HEAD, 1))) + ", 4 σ + 1"]
    assert not set(wanted) - labels

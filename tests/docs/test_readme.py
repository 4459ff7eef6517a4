"""Both READMEs say what is there: flags, files, links, commands, columns, sizes."""

import contextlib
import re
import shlex
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
import torch

import constants
import main
import metric
from models import mate
from training import flags as training_flags
from training.sweep import grid as grids
from utils import ROOT, leaf, leaves

READMES = ("README.md", "README.en.md")
FOLDERS = ("corpora", "features", "models", "commands", "benchmarks", "docs")

each_readme = pytest.mark.parametrize("name", READMES)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, number: str) -> str:
    """What stands under the heading of that number."""
    parts = re.split(r"^#{2,3} (\d+(?:\.\d+)?)\.? .*$", text(name), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[number]


def code(part: str) -> list[str]:
    """What stands in single backticks."""
    return re.findall(r"`([^`\n]+)`", part)


def table_rows(part: str) -> list[list[str]]:
    rows = [line.strip("|").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)


# --- flags ---------------------------------------------------------------------------------------


def verb_parser(verb: str) -> training_flags.Parser:
    parser = training_flags.Parser(prog=verb)
    leaf("commands", verb).add_arguments(parser)
    return parser


def parsers() -> list[training_flags.Parser]:
    training = [training_flags.training_parser(model) for model in leaves("models")]
    return training + [verb_parser(verb) for verb in leaves("commands")]


@each_readme
def test_every_flag_is_named(name):
    flags = {f for p in parsers() for action in p._actions for f in action.option_strings}
    named = {word for piece in code(text(name)) for word in piece.split()}
    assert not flags - named - {"-h", "--help"}


@each_readme
def test_the_flag_table_has_the_defaults_and_choices_of_the_parser(name):
    rows = {flag: row for row in table_rows(section(name, "2.3")) for flag in code(row[0])}
    for action in training_flags.training_parser(constants.MODEL)._actions:
        if "--help" in action.option_strings:
            continue
        row = rows[action.option_strings[0]]
        assert all(flag in row[0] for flag in action.option_strings)
        if action.default is not None and not isinstance(action.default, bool):
            assert row[1] == f"`{action.default}`", row
        if action.dest != "model":  # a new model needs no edit here
            assert set(action.choices or ()) <= set(code(row[2])), row


@each_readme
def test_the_flags_allowed_in_testing_are_named(name):
    [listed] = [piece for piece in code(section(name, "2.4")) if piece.startswith("--data --")]
    allowed = {f"--{flag}" for flag in main.TEST_FLAGS} - {"--test_only", "--test_path"}
    assert set(listed.split()) == allowed


# --- files and links -----------------------------------------------------------------------------


@each_readme
def test_every_file_in_the_map_exists(name):
    files = [file for row in table_rows(section(name, "1.3")) for file in code(row[0])]
    assert len(files) > 20
    assert not [file for file in files if not (ROOT / file).exists()]


@each_readme
def test_every_module_and_notebook_is_in_the_map(name):
    patterns = ["*.py", "*.ipynb", *(f"{folder}/*.py" for folder in FOLDERS)]
    files = {p.relative_to(ROOT).as_posix() for pattern in patterns for p in ROOT.glob(pattern)}
    assert not files - set(code(section(name, "1.3")))


@each_readme
def test_every_relative_link_leads_somewhere(name):
    targets = re.findall(r"\]\(([^)#\s]+)\)", text(name))
    relative = [target for target in targets if "://" not in target]
    assert {"docs/images/model.svg", "docs/images/log_mel.png"} <= set(relative)
    assert not [target for target in relative if not (ROOT / target).exists()]


# --- commands and snippets -----------------------------------------------------------------------


def commands(name: str) -> list[str]:
    """Every `python main.py ...` in code blocks and in single backticks."""
    lines = "".join(blocks(name, "bash")).replace("\\\n", " ").splitlines() + code(text(name))
    return [line.strip() for line in lines if line.strip().startswith("python main.py ")]


@pytest.mark.parametrize("command", sorted({c for name in READMES for c in commands(name)}))
def test_a_command_of_the_readmes_is_understood(command):
    words = shlex.split(command, comments=True)[2:]
    if words[0] in leaves("commands"):
        _, rest = verb_parser(words[0]).parse_known_args(words[1:])
        if rest:  # flags of training, which may list alternatives
            grid = " ".join(word if "{" in word else shlex.quote(word) for word in rest)
            assert hasattr(leaf("commands", words[0]), "FLAGS")
            assert grids.trials([grid], None)
        return
    with contextlib.chdir(ROOT):
        settings, given, extra = main.parse(words)
    tested = main.tested_run(settings, extra)
    if tested is None:
        assert not extra
    else:
        assert tested
        assert set(given) <= set(main.TEST_FLAGS)


def test_both_readmes_have_the_same_commands():
    one, other = (sorted(commands(name)) for name in READMES)
    drop = re.compile(r"\s*#.*")
    assert len(one) > 10
    assert [drop.sub("", c) for c in one] == [drop.sub("", c) for c in other]


@each_readme
def test_make_knows_the_two_commands(name):
    targets = re.findall(r"^make (\w+)", "".join(blocks(name, "bash")), re.MULTILINE)
    rules = re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE)
    assert targets == ["demo", "test"]
    assert set(targets) <= set(rules)


@each_readme
def test_the_python_snippet_runs(name, workplace, run_folder, tmp_path):
    [snippet] = blocks(name, "python")
    run = re.search(r'model\.load\("(exp/\w+)"\)', snippet)[1]
    (tmp_path / "data").mkdir()
    (tmp_path / "exp").mkdir()
    (tmp_path / "data/sample").symlink_to(workplace / "corpus")
    (tmp_path / run).symlink_to(run_folder)
    names: dict = {}
    with contextlib.chdir(tmp_path):
        exec(compile(snippet, name, "exec"), names)
        batch = names["data"].batch([0, 1, 2])
    assert {head: tuple(v.shape) for head, v in names["prediction"].items()} == {
        "emotion": (3, 7),
        "arousal": (3,),
        "valence": (3,),
    }
    documented = {key for row in table_rows(section(name, "2.6")) for key in code(row[0])}
    assert documented == set(batch)


# --- what a run writes ---------------------------------------------------------------------------


@each_readme
def test_every_file_and_column_of_a_run_is_named(name, run_folder):
    named = [piece for row in table_rows(section(name, "2.5")) for piece in code(row[0])]
    files = {p.name for p in run_folder.iterdir() if p.is_file()}
    assert not {f for f in files if not any(Path(f).match(piece) for piece in named)}
    columns = set(pd.read_csv(run_folder / "predictions.csv", nrows=1))
    assert not columns - set(named)


@each_readme
def test_every_score_and_tie_policy_is_defined(name):
    rows = table_rows(section(name, "3.1"))
    defined = {piece for row in rows for piece in code(row[0])}
    assert defined == {*metric.SCORES, *constants.TIE_POLICIES}
    for row in rows:
        for score in (metric.SCORES[n] for n in code(row[0]) if n in metric.SCORES):
            low, high = re.split(r"\.\.|~", row[2])
            assert (float(low), float(high)) == (score.low, score.high), row


# --- the two READMEs and their pictures ----------------------------------------------------------


def test_both_readmes_have_the_same_sections_and_slots():
    headings = [re.findall(r"^#{2,3} ([\d.]+) ", text(name), re.MULTILINE) for name in READMES]
    slots = [re.findall(r"<!-- RESULTS: (\w+) -->", text(name)) for name in READMES]
    assert headings[0] == headings[1]
    assert slots[0] == slots[1]


def test_both_readmes_have_the_same_scores():
    number = r"(?<![\d.])-?\d?\.\d{3}(?!\d)"  # three decimals; Hangul may follow without a space
    one, other = (Counter(re.findall(number, text(name))) for name in READMES)
    assert one.total() > 50
    assert one == other


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

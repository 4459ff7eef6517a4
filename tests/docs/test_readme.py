"""Both READMEs: short, the same, a way to every room and every page."""

import re

import pytest
from doubles.pages import LANGUAGES, README, blocks, lines, links, pages, text

from utils import ROOT

LINES = 150  # at most
CARD = [  # the commands that every user of 2022 knows
    f"python main.py --SorL {role} --test_split [13,14,15,16] --lam 0.66 --epochs 100"
    for role in ("speaker", "listener")
]

each_readme = pytest.mark.parametrize("language", LANGUAGES)


@each_readme
def test_a_readme_is_short(language):
    assert len(text(README[language]).splitlines()) <= LINES


@each_readme
def test_a_readme_begins_with_the_two_commands_of_make_and_of_the_card(language):
    found = [" ".join(line.split()) for line in lines(README[language])]
    assert [line for line in found if line.startswith("make ")] == ["make demo", "make test"]
    assert [line for line in found if line.startswith("python main.py --")] == CARD


@each_readme
def test_a_readme_leads_to_every_page(language):
    assert set(pages(language)) <= {link.partition("#")[0] for link in links(README[language])}


@each_readme
def test_the_map_names_every_room_and_every_file_at_the_top(language):
    [drawn] = [code for _, code in blocks(README[language]) if code.startswith("main.py")]
    named = set(re.findall(r"\w+\.py\b|\w+\.ipynb|\w+/", drawn))
    rooms = {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    rooms |= {"benchmarks/", "docs/", "requirements/", "tests/", "data/", "exp/"}
    files = {path.name for kind in ("*.py", "*.ipynb") for path in ROOT.glob(kind)}
    assert named == rooms | files


def test_each_readme_links_to_the_other():
    assert text(README["ko"]).splitlines()[2] == "한국어 · [English](README.en.md)"
    assert text(README["en"]).splitlines()[2] == "[한국어](README.md) · English"

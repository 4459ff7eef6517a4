"""READMEs and pages of docs/ taken apart: headings, links, blocks, commands, tables.

A page is named by its path from the top of the repository, such as docs/ko/01_install.md.
"""

import re

from utils import ROOT

LANGUAGES = ("ko", "en")
README = {"ko": "README.md", "en": "README.en.md"}


def pages(language: str) -> list[str]:
    """The pages of docs/ in that language."""
    found = (ROOT / "docs" / language).rglob("*.md")
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def everything(language: str) -> list[str]:
    """The README and the pages of that language."""
    return [README[language], *pages(language)]


def english(page: str) -> str:
    """The page in English of a Korean one."""
    return README["en"] if page == README["ko"] else page.replace("docs/ko/", "docs/en/")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def headings(page: str) -> list[tuple[int, str]]:
    """(level, title) of each heading, outside code blocks."""
    bare = re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.*)$", bare, re.MULTILINE)]


def anchors(page: str) -> set[str]:
    """What a link may name after #, as GitHub makes it of headings."""
    titles = [title.replace("`", "").lower() for _, title in headings(page)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def links(page: str) -> list[str]:
    """Targets of links and pictures that lead to no other machine."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text(page))
    return [target for target in targets if "://" not in target]


def section(page: str, number: int) -> str:
    """What stands under the heading of that number."""
    parts = re.split(r"^## (\d+)\. .*$", text(page), flags=re.MULTILINE)
    return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))[number]


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code) of every code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def lines(page: str) -> list[str]:
    """The lines of its shell, continued ones joined, without comments."""
    shell = "".join(code for kind, code in blocks(page) if kind in ("bash", ""))
    return [re.sub(r"\s+#.*", "", line).strip() for line in shell.replace("\\\n", " ").splitlines()]


def commands(page: str) -> list[str]:
    """Its lines of shell that start with `python`."""
    return [line for line in lines(page) if line.startswith("python ")]


def tables(part: str) -> list[list[list[str]]]:
    """Cells of each table of a text, without its header."""
    found = re.findall(r"^\|[-|]+\|\n((?:\|.*\n?)+)", part, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows.splitlines()]
        for rows in found
    ]


def rows(part: str) -> list[list[str]]:
    """Cells of the rows of all tables of a text."""
    return [row for table in tables(part) for row in table]


def code(part: str) -> list[str]:
    """What stands in single backticks."""
    return re.findall(r"`([^`\n]+)`", part)

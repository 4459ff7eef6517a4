"""Pages of the documentation taken apart: blocks, commands, tables."""

import re

from utils import ROOT


def text(name: str) -> str:
    return (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, code) of every code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)


def commands(name: str) -> list[str]:
    lines = "".join(code for kind, code in blocks(name) if kind == "bash").splitlines()
    return [line for line in lines if line.startswith("python ")]


def tables(name: str) -> list[list[list[str]]]:
    """Cells of each table of a page, without its header."""
    found = re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", text(name), re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows.splitlines()]
        for rows in found
    ]


def code(part: str) -> list[str]:
    """What stands in single backticks."""
    return re.findall(r"`([^`\n]+)`", part)

"""A table of several runs as a Markdown document."""

from collections.abc import Sequence

from reporting.formatting import number
from reporting.page import NOT_A_RESULT, TEST_AUDIO
from reporting.table_lines import (
    APART,
    APART_SCORES,
    COLUMNS,
    FAILED,
    HEADER_OF_CORPUS,
    NOT_OURS,
    PAIR_HEADER,
    UNEVEN,
    corpora,
    lines,
    lines_by_corpus,
    pair_lines,
)


def markdown(result: dict) -> str:
    """The table as a Markdown document: scores, comparisons, parts, published rows."""
    parts = [f"# {result['title']}"]
    if result["about"]:
        parts.append(result["about"])
    if result["synthetic"]:
        parts.append(f"> {NOT_A_RESULT}")
    parts.append(
        "Precision, recall and F1 (@1) are the `legacy_*` scores: what tables of 2022 print under "
        "those names, near accuracy. Macro-F1 and UAR stand beside them. Ties: "
        f"{result['ties']}; intervals: bootstrap over dialogues within sessions."
    )
    for row in result["rows"]:
        mark = f" ({TEST_AUDIO})" if row["uses_test_audio"] else ""
        mark += "" if row["complete"] else f" ({UNEVEN})"
        parts += [f"## {row['name']}{mark}", _markdown_scores(row)]
    for name, body in lines_by_corpus(result["rows"]).items():
        body = [[line["label"], *line["cells"]] for line in body]
        parts += [f"## By corpus: {name}", _table(HEADER_OF_CORPUS, body)]
    if result.get("failed"):
        told = "\n".join(f"* {name}: {why}" for name, why in result["failed"].items())
        parts += [f"## {FAILED}", told]
    parts += ["## Comparisons", _markdown_pairs(result["pairs"])]
    for column in APART:
        parts += [f"## By {column}", _markdown_apart(result["rows"], column)]
    if result["published"]:
        parts += [f"## Published ({NOT_OURS})", _markdown_published(result["published"])]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(c).replace("|", "/") for c in row) + " |" for row in cells
    )


def _markdown_scores(row: dict) -> str:
    body = [[line["label"], *line["cells"].values()] for line in lines(row)]
    return _table(["Model", *COLUMNS.values()], body)


def _markdown_pairs(pairs: Sequence[dict]) -> str:
    rows = [cells for pair in pairs for cells in pair_lines(pair)]
    return _table(PAIR_HEADER, rows) if rows else "No two rows share test rows."


def _markdown_apart(rows: Sequence[dict], column: str) -> str:
    several = bool(corpora(rows))
    body = [
        [
            row["name"],
            f"{part['corpus']} {part[column]}" if several else part[column],
            part["n_emotion"],
            len(part["classes"]),
            *(number(part[name]) for name in APART_SCORES),
        ]
        for row in rows
        for part in row[column]
    ]
    return _table(["row", column, "n", "classes", *APART_SCORES.values()], body)


def _markdown_published(rows: Sequence[dict]) -> str:
    body = [
        [
            f"{row['role']} {row['row']}".strip(),
            *(row.get(name) or "-" for name in COLUMNS),
            row["source"],
        ]
        for row in rows
    ]
    return _table(["Model", *COLUMNS.values(), "source"], body)

"""The page of a table of several runs: `templates/tables.html.j2`, filled.

Each score is drawn with all rows on one axis, so that they can be compared.
"""

from collections.abc import Sequence

from reporting import charts
from reporting.page import INTERVAL, NOT_A_RESULT, TEST_AUDIO, template
from reporting.table_lines import (
    APART_SCORES,
    COLUMNS,
    FAILED,
    HEADER_OF_CORPUS,
    NOT_OURS,
    TOLD,
    UNEVEN,
    lines,
    lines_by_corpus,
    pair_lines,
    spread,
)

DRAWN = TOLD | {"legacy_f1": "F1 (@1), as printed in 2022"}


def page(result: dict) -> str:
    """The HTML of a table: one file, no script, nothing fetched; it links the page of each run."""
    return template("tables.html.j2").render(
        result=result,
        runs=sum(len(row["trials"]) for row in result["rows"]),
        groups=[
            _group(name, title, result["rows"])
            for name, title in DRAWN.items()
            if _is_known(name, result["rows"])
        ],
        far=_far_apart(result["rows"]),
        table=[{"name": row["name"], "lines": lines(row)} for row in result["rows"]],
        pairs=[
            {"cells": cells, "first": i == 0}
            for pair in result["pairs"]
            for i, cells in enumerate(pair_lines(pair))
        ],
        columns=COLUMNS,
        by_corpus=lines_by_corpus(result["rows"]),
        of_corpus=HEADER_OF_CORPUS,
        apart=APART_SCORES,
        failed=result.get("failed", {}),
        interval_name=INTERVAL,
        mark=NOT_A_RESULT,
        test_audio=TEST_AUDIO,
        not_ours=NOT_OURS,
        failed_title=FAILED,
        uneven=UNEVEN,
    )


def _is_known(name: str, rows: Sequence[dict]) -> bool:
    """Whether any row has that score: not all models have all heads."""
    return any(row["scores"][name]["pooled"] is not None for row in rows)


def _group(name: str, title: str, rows: Sequence[dict]) -> dict:
    """One score of all rows on a common axis: pooled value and interval, each run, the baseline."""
    marks = ("name", "uses_test_audio", "complete")
    found = [
        row["scores"][name]
        | {mark: row[mark] for mark in marks}
        | {"value": row["scores"][name]["pooled"]}
        for row in rows
    ]
    known = [value for row in found for value in row["values"] if value is not None]
    axis = charts.axis([*found, *({**found[0], "value": value} for value in known)])
    at = charts.place(axis)
    return {
        "title": title,
        "axis": axis,
        "rows": [
            row
            | {
                "strip": charts.strip(row, axis),
                "spread": spread(row),
                "places": [at(value) for value in row["values"] if value is not None],
            }
            for row in found
        ],
    }


def _far_apart(rows: Sequence[dict]) -> dict:
    """F1@1, macro-F1 and UAR of each row on one axis."""
    names = ("legacy_f1", "macro_f1", "uar")
    values = [[row["scores"][name]["pooled"] for name in names] for row in rows]
    axis, known = (0.0, 1.0), [COLUMNS[name] for name in names]
    at = charts.place(axis)
    return {
        "titles": known,
        "axis": axis,
        "rows": [
            {
                "name": row["name"],
                "cells": cells,
                "places": [None if value is None else at(value) for value in cells],
            }
            for row, cells in zip(rows, values, strict=True)
        ],
    }

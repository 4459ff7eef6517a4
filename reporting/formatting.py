"""Numbers and nested dicts as text, for the pages and for the console."""

import math

LISTED = 12  # items of a list that are shown


# --- numbers ------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Three decimals; a dash where the value is undefined."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value + 0.0 if round(value, 3) else 0.0:.3f}"  # never -0.000


def interval(low: float | None, high: float | None) -> str:
    """[low, high], or "" where there is none."""
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def count(value: float | None) -> str:
    """Whole numbers whole; soft ties count parts of rows: one decimal."""
    if value is None:
        return "-"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def sessions(numbers: list[int]) -> str:
    """[1, 2, 3, 7] -> "1-3, 7"."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


# --- nested dicts, as JSON has them -------------------------------------------------------------


def tables(nested: dict) -> list[dict]:
    """Small tables of a nested dict: title, header ([] for names and values) and rows of texts.

    A dict of dicts is one table with a row for each; other dicts are names and values.
    """
    single = {name: value for name, value in nested.items() if not isinstance(value, dict)}
    found = [_pairs("", single)] if single else []
    for name, value in nested.items():
        if isinstance(value, dict) and value:
            whole = all(isinstance(item, dict) for item in value.values())
            found.append(_grid(words(name), value) if whole else _pairs(words(name), value))
    return found


def _pairs(title: str, values: dict) -> dict:
    rows = [[words(name), cell(value)] for name, value in values.items()]
    return {"title": title, "header": [], "rows": rows}


def _grid(title: str, rows: dict[str, dict]) -> dict:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [
        [words(name), *(cell(row[column]) if column in row else "" for column in columns)]
        for name, row in rows.items()
    ]
    return {"title": title, "header": ["", *map(words, columns)], "rows": lines}


def words(name: str) -> str:
    """A name as words: uses_test_audio -> uses test audio; what is no identifier stays."""
    return name.replace("_", " ") if name.isidentifier() else name


def cell(value: object) -> str:
    """A value of JSON in a few words; of long lists the beginning and the length."""
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, dict):
        return ", ".join(f"{words(name)}: {cell(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        if value and all(type(item) is int for item in value):
            return sessions(value)
        shown = ", ".join(map(cell, value[:LISTED])) or "none"
        return f"{shown}, ... ({len(value)})" if len(value) > LISTED else shown
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)

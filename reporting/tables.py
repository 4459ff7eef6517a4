"""Tables of several runs: what stands in them, their files, and their text on the console.

What is measured is computed in comparison.py. Lines and cells are in table_lines.py; Markdown, CSV
and the page, which lay them out, in files of their own.
"""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from constants import BOOTSTRAP
from evaluation import comparison
from evaluation.finished_runs import Run
from reporting.formatting import interval, number
from reporting.page import INTERVAL, NOT_A_RESULT
from reporting.table_csv import table_csv
from reporting.table_lines import APART, COLUMNS, FAILED, HEADER_OF_CORPUS, lines_by_corpus
from reporting.table_markdown import markdown
from reporting.table_page import page
from utils import ROOT, read_json, write_atomic, write_json

PUBLISHED = ROOT / "exp" / "tables" / "published.csv"


def compared(
    title: str,
    rows: Mapping[str, Sequence[Run]],
    ties: str,
    place: Path,
    about: str = "",
    resamples: int = BOOTSTRAP,
) -> dict:
    """Everything that a table shows, as JSON holds it. `rows`: name -> its finished runs; `place`:
    the folder it is to be written to, from which the runs are named."""
    named = {name for runs in rows.values() for run in runs for name in run.predictions["corpus"]}
    results = [read_json(run.folder / "result.json") for runs in rows.values() for run in runs]
    return {
        "title": title,
        "about": about,
        "ties": ties,
        "synthetic": any(result.get("synthetic") for result in results),
        "rows": [
            _row(name, runs, ties, place, resamples)
            | (_by_corpus(runs, ties, resamples) if len(named) > 1 else {})
            for name, runs in rows.items()
        ],
        "pairs": comparison.pairs(rows, ties, resamples),
        "published": published(title),
    }


def _row(name: str, runs: Sequence[Run], ties: str, place: Path, resamples: int) -> dict:
    row = comparison.row(name, runs, ties, resamples)
    for entry, run in zip(row["trials"], runs, strict=True):
        entry["folder"] = Path(os.path.relpath(run.folder, place)).as_posix()
        entry["run"] = run.folder.name
        entry["role"] = run.configuration.SorL
        result = read_json(run.folder / "result.json")
        entry["uses_test_audio"] = bool(result.get("uses_test_audio"))
    apart = {column: comparison.by(runs, column, ties) for column in APART}
    return row | {"uses_test_audio": any(t["uses_test_audio"] for t in row["trials"])} | apart


def _by_corpus(runs: Sequence[Run], ties: str, resamples: int) -> dict:
    """Scores and tested sessions by corpus, of a row of a table of several."""
    return {
        "by_corpus": comparison.by_corpus(runs, ties, resamples),
        "tested": [comparison.sessions_by_corpus(run.predictions) for run in runs],
    }


def published(title: str) -> list[dict]:
    """Rows printed elsewhere for the table of that title; [] where there are none."""
    with open(PUBLISHED, encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["table"] == title]


def write(folder: Path, result: dict) -> Path:
    """comparison.json, table.md, table.csv and report.html in `folder`; returns the page."""
    write_json(folder / "comparison.json", result)
    write_atomic(folder / "table.md", markdown(result))
    write_atomic(folder / "table.csv", table_csv(result))
    write_atomic(folder / "report.html", page(result))
    return folder / "report.html"


# --- the console ----------------------------------------------------------------------------


def console(result: dict) -> str:
    """The main numbers of each row, for a terminal of 100 columns; of each corpus below."""
    wide = min(40, max(len("row"), *(len(row["name"]) for row in result["rows"])))
    head = (
        f"{'row':<{wide}} {'runs':>4} {'macro-F1':>8}  {INTERVAL:<14}  {'majority':>8} "
        f"{'UAR':>6} {'F1@1':>6} {'arousal':>7} {'valence':>7}"
    )
    body = [head, "-" * len(head)]
    for row in result["rows"]:
        value = {name: row["scores"][name] for name in COLUMNS}
        macro = value["macro_f1"]
        body.append(
            f"{row['name'][:wide]:<{wide}} {len(row['trials']):>4} {number(macro['pooled']):>8}  "
            f"{interval(macro['low'], macro['high']):<14}  {number(macro['baseline']):>8} "
            + " ".join(
                f"{number(value[name]['pooled']):>{size}}"
                for name, size in (
                    ("uar", 6),
                    ("legacy_f1", 6),
                    ("ccc_arousal", 7),
                    ("ccc_valence", 7),
                )
            )
        )
    body += _console_by_corpus(result["rows"])
    if result.get("failed"):
        body.append(f"{FAILED}: {', '.join(result['failed'])}")
    body += [NOT_A_RESULT] if result["synthetic"] else []
    return "\n".join(body)


def _console_by_corpus(rows: Sequence[dict]) -> list[str]:
    """A block a corpus; a baseline stands, indented, below the row it belongs to."""
    blocks = lines_by_corpus(rows)
    wide = min(40, max((len(line["label"]) + 2 for b in blocks.values() for line in b), default=0))
    form = "{:<" + str(wide) + "} {:>5} {:>8}  {:<14}  {:>6} {:>8} {:>11}"
    found = []
    for name, body in blocks.items():
        head = form.format(*HEADER_OF_CORPUS)
        found += ["", f"{name} alone:", head, "-" * len(head)]
        for line in body:
            indent = "  " if line["kind"] == "baseline" else ""
            label = indent + line["label"]
            found.append(form.format(label[:wide], *line["cells"]))
    return found

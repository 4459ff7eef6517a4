"""Tables of several runs, as Markdown, CSV, a page and text for the console.

What stands in them is computed in comparison.py; this file lays it out. A table has the columns
of the README of 2022 first, whose P, R and F1 are the `legacy_*` scores, then what they should
have been read beside. The page is `reporting/templates/tables.html.j2`.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import metric
from constants import BOOTSTRAP
from evaluation import comparison
from evaluation.finished_runs import Run
from reporting import charts
from reporting.formatting import interval, number, sessions
from reporting.page import INTERVAL, NOT_A_RESULT, TEST_AUDIO, template
from utils import ROOT, read_json, write_atomic, write_json

PUBLISHED = ROOT / "exp" / "tables" / "published.csv"
FAILED = "Failed, and not in these tables"
UNEVEN = "not every seed tests the same rows"
NOT_OURS = "published, other metric or protocol: not measured here"
COLUMNS = {  # score: its heading; the first five as in the README of 2022
    "legacy_p1": "Precision (@1)",
    "legacy_r1": "Recall (@1)",
    "legacy_f1": "F1_emotion (@1)",
    "ccc_arousal": "Arousal",
    "ccc_valence": "Valence",
    "macro_f1": "macro-F1",
    "uar": "UAR",
}
APART = ("kind", "session", "speaker")  # what rows are told apart by
TOLD = {
    "macro_f1": "macro-F1",
    "uar": "UAR",
    "ccc_arousal": "CCC arousal",
    "ccc_valence": "CCC valence",
}


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
        entry["role"] = run.configuration["SorL"]
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


def corpora(rows: Sequence[dict]) -> list[str]:
    """The names of all corpora of a table of several; [] of a table of one."""
    return list(dict.fromkeys(name for row in rows for name in row.get("by_corpus", {})))


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


# --- lines of the main table ----------------------------------------------------------------


def lines(row: dict) -> list[dict]:
    """A line a run, then mean and sd, all rows pooled with interval, and the baselines."""
    scores = {name: row["scores"][name] for name in COLUMNS}
    many = len(row["trials"]) > 1
    found = [
        {"label": _label(i, row), "run": run["folder"], "kind": "trial", "trial": run}
        | {"cells": {name: number(score["values"][i]) for name, score in scores.items()}}
        for i, run in enumerate(row["trials"])
    ]
    if many:
        found.append(_line("mean ± sd", "mean", {n: _spread(s) for n, s in scores.items()}))
    found.append(_line("pooled", "pooled", {n: number(s["pooled"]) for n, s in scores.items()}))
    ends = {n: interval(s["low"], s["high"]) or "-" for n, s in scores.items()}
    found.append(_line(INTERVAL, "interval", ends))
    for what, key in (("majority", "baseline"), ("label prior", "prior")):
        found.append(_line(what, key, {n: number(s[key]) for n, s in scores.items()}))
    return found


def _line(label: str, kind: str, cells: dict[str, str]) -> dict:
    return {"label": label, "run": None, "kind": kind, "trial": None, "cells": cells}


def _spread(score: dict) -> str:
    return number(score["mean"]) + (f" ± {number(score['sd'])}" if score["sd"] is not None else "")


def _label(i: int, row: dict) -> str:
    """Speaker[1,2,3,4], as in 2022; with the seed where there are several, and by corpus where
    those are: Speaker[kemdy20 5,13; aihub_emotion 17-20]."""
    run = row["trials"][i]
    tested = _tested(row, i) or ",".join(map(str, run["sessions"]))
    seed = f" seed {run['seed']}" if len(row["seeds"]) > 1 else ""
    return f"{run['role'].capitalize()}[{tested}]{seed}"


def _tested(row: dict, i: int) -> str:
    """Corpora and sessions that a run tests, in a table of several corpora; "" in one of one."""
    parts = row["tested"][i].items() if "tested" in row else ()
    return "; ".join(f"{name} {sessions(tested).replace(', ', ',')}" for name, tested in parts)


OF_CORPUS = {
    "macro_f1": "macro-F1",
    "uar": "UAR",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
}
HEADER_OF_CORPUS = ("row", "n", "macro-F1", INTERVAL, "UAR", "accuracy", "weighted F1")


def lines_by_corpus(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Two lines a row for each corpus: its main scores there, and that corpus's baseline.

    Each: kind (pooled, baseline), label and cells as in HEADER_OF_CORPUS. {} of one corpus.
    """
    return {
        name: [
            line
            for row in rows
            if name in row["by_corpus"]
            for line in _pair_of_corpus(row["name"], row["by_corpus"][name])
        ]
        for name in corpora(rows)
    }


def _pair_of_corpus(label: str, part: dict) -> list[dict]:
    scores = {name: part["scores"][name] for name in OF_CORPUS}
    answers = f" ({', '.join(part['majority'])})" if part["majority"] else ""
    found = []
    for kind, prefix, said in (
        ("pooled", "", label),
        ("baseline", "baseline_", f"majority{answers}"),
    ):
        first, *others = (number(score[kind]) for score in scores.values())
        ends = interval(*(scores["macro_f1"][f"{prefix}{end}"] for end in ("low", "high"))) or "-"
        cells = [str(scores["macro_f1"]["n"]), first, ends, *others]
        found.append({"kind": kind, "label": said, "cells": cells})
    return found


# --- Markdown and CSV -----------------------------------------------------------------------


def markdown(result: dict) -> str:
    """The table as a Markdown document: scores, comparisons, parts, published rows."""
    parts = [f"# {result['title']}"] + [result["about"]] * bool(result["about"])
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


PAIR_HEADER = ("a", "b", "test", "a - b", INTERVAL, "p", "p (Holm)", "n")


def pair_lines(pair: dict) -> list[list[str]]:
    """The tests of one pair: the bootstrap of each score, and McNemar's."""
    found = pair["comparison"]
    if found is None:
        return []
    rows = [
        [
            pair["a"],
            pair["b"],
            title,
            signed(test["difference"]),
            interval(test["low"], test["high"]) or "-",
            p_value(test["p"]),
            p_value(test["p_holm"]),
            str(test["n"]),
        ]
        for name, title in TOLD.items()
        for test in [found["scores"][name]]
        if test["difference"] is not None
    ]
    if test := found["mcnemar"]:
        rows.append(
            [
                pair["a"],
                pair["b"],
                "McNemar",
                f"{test['a_better']} : {test['b_better']}",
                "-",
                p_value(test["p"]),
                p_value(test["p_holm"]),
                str(test["n"]),
            ]
        )
    return rows


def signed(value: float | None) -> str:
    """Three decimals with their sign."""
    return "-" if value is None else f"{value:+.3f}"


def p_value(value: float | None) -> str:
    """Three decimals, or "< 0.001"."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


APART_SCORES = {
    "macro_f1": "macro-F1",
    "uar": "UAR",
    "legacy_f1": "F1 (@1)",
    "accuracy": "accuracy",
    "ccc_arousal": "Arousal",
    "ccc_valence": "Valence",
}


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


def table_csv(result: dict) -> str:
    """A line for each run and for each summary of a row, a column for each score.

    With several corpora a column `corpus`, which is empty in the lines of all together.
    """
    out = io.StringIO()
    columns = ["row", "kind", "role", "sessions", "seed", "run", "n", *metric.SCORES]
    columns[1:1] = ["corpus"] * bool(corpora(result["rows"]))
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in result["rows"]:
        for i, run in enumerate(row["trials"]):
            tested = _tested(row, i) or sessions(run["sessions"])
            told = {name: run[name] for name in ("role", "seed", "run", "n")}
            values = {name: _plain(row["scores"][name]["values"][i]) for name in metric.SCORES}
            line = {"row": row["name"], "kind": "trial", "sessions": tested}
            writer.writerow(line | told | values)
        writer.writerows({"row": row["name"]} | line for line in _summaries(row))
        for name, part in row.get("by_corpus", {}).items():
            said = {"row": row["name"], "corpus": name}
            writer.writerows(said | line for line in _summaries(part))
    return out.getvalue()


def _summaries(part: dict) -> list[dict]:
    return [
        {"kind": kind, "n": part["n"]["rows"]}
        | {name: _plain(part["scores"][name][kind]) for name in metric.SCORES}
        for kind in (
            "mean",
            "sd",
            "pooled",
            "low",
            "high",
            "baseline",
            "baseline_low",
            "baseline_high",
            "prior",
        )
    ]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"


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
            label = "  " * (line["kind"] == "baseline") + line["label"]
            found.append(form.format(label[:wide], *line["cells"]))
    return found


# --- the page -------------------------------------------------------------------------------


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


DRAWN = TOLD | {"legacy_f1": "F1 (@1), as printed in 2022"}


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
                "spread": _spread(row),
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

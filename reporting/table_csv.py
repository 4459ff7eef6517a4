"""A table of several runs as CSV, every score in it."""

import csv
import io

import metric
from reporting.formatting import sessions
from reporting.table_lines import corpora, sessions_tested


def table_csv(result: dict) -> str:
    """A line for each run and for each summary of a row, a column for each score.

    With several corpora a column `corpus`, which is empty in the lines of all together.
    """
    out = io.StringIO()
    columns = ["row", "kind", "role", "sessions", "seed", "run", "n", *metric.SCORES]
    if corpora(result["rows"]):
        columns.insert(1, "corpus")
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in result["rows"]:
        for i, run in enumerate(row["trials"]):
            tested = sessions_tested(row, i) or sessions(run["sessions"])
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

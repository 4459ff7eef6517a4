"""Runs that judge seconds of videos set beside each other: a table, and every two of them paired.

What tables.py is for emotions. Scores are those of intervals.py: what is resampled and compared is
whole videos.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from evaluation import finished_runs
from evaluation.finished_runs import Run
from evaluation.highlights import intervals
from evaluation.highlights.scores import BUDGET
from reporting import page
from reporting.formatting import interval, number
from utils import read_json, write_atomic, write_json

SCORE = "average_precision"
COLUMNS = {
    "average_precision": "AP",
    "roc_auc": "AUC",
    "f1": "F1",
    "f1_budget": f"F1 at {BUDGET:.0%}",
    "kendall": "Kendall",
}


def judges(rows: Mapping[str, Sequence[Run]]) -> bool:
    """Whether all these runs judge seconds."""
    return all("highlight" in run.predictions for row in rows.values() for run in row)


def compared(
    title: str, rows: Mapping[str, Sequence[Run]], ties: str, place: Path, about: str = ""
) -> dict:
    """Everything that the table shows, as JSON holds it; as `tables.compared`.

    Of several folds or seeds, all videos together, once a seed; F1 then has no threshold: that of
    one run was found on videos that another is tested on, or for another model's scores.
    """
    results = {
        name: [read_json(t.folder / "result.json") for t in row] for name, row in rows.items()
    }
    thresholds = {
        name: found[0]["highlight"]["threshold"] if len(found) == 1 else None
        for name, found in results.items()
    }
    seconds = {name: _seconds(row) for name, row in rows.items()}
    return {
        "title": title,
        "about": about,
        "synthetic": any(r.get("synthetic") for found in results.values() for r in found),
        "rows": [
            {
                "name": name,
                "runs": [run.folder.name for run in rows[name]],
                **intervals.summary(table, thresholds[name]),
            }
            for name, table in seconds.items()
        ],
        "pairs": intervals.compared(seconds, SCORE, thresholds=thresholds),
    }


def _seconds(row: Sequence[Run]) -> pd.DataFrame:
    """All predictions of a row; a video that several seeds judged is several videos."""
    table, run = finished_runs.table_of(row)
    seeds = [str(row[i].configuration.seed) for i in run]
    if len(set(seeds)) == 1:
        return table
    apart = {name: table[name] + " seed " + seeds for name in ("dialogue", "segment")}
    return table.assign(**apart)


def write(folder: Path, result: dict) -> Path:
    """comparison.json and table.md in `folder`; returns the latter."""
    write_json(folder / "comparison.json", result)
    text = f"# {result['title']}\n\n```\n{console(result)}\n```\n"
    write_atomic(folder / "table.md", text)
    return folder / "table.md"


def console(result: dict) -> str:
    """A line a row, then each pair by video."""
    width = max(map(len, ("row", *(row["name"] for row in result["rows"])))) + 1
    head = f"{'row':<{width}}{'videos':>7}{'rate':>7}" + "".join(
        f"{c:>11}" for c in COLUMNS.values()
    )
    lines = [f"{head}  AP, {page.INTERVAL}", "-" * (len(head) + 20)]
    lines += [_line(row, width) for row in result["rows"]]
    if result["pairs"]:
        lines += [
            "",
            f"differences of AP, paired by video, p by sign flips, Holm over "
            f"{len(result['pairs'])}",
        ]
        lines += [_pair(pair) for pair in result["pairs"]]
    return "\n".join([*lines, *([page.NOT_A_RESULT] if result["synthetic"] else [])])


def _line(row: dict, width: int) -> str:
    scores = row["scores"]
    cells = "".join(f"{number(scores[name]['value']):>10}" for name in COLUMNS)
    rate, ap = scores["positive_rate"]["value"], scores[SCORE]
    ends = interval(ap["low"], ap["high"])
    return f"{row['name']:<{width}}{row['n']['videos']:>7}{number(rate):>7}{cells}  {ends}"


def _pair(pair: dict) -> str:
    found, video = pair["comparison"], pair["comparison"]["video"]
    ends = interval(found["low"], found["high"]) or "no interval"
    p = "-" if video["p_holm"] is None else f"{video['p_holm']:.3g}"
    return (
        f"{pair['a']} - {pair['b']}: {number(found['difference'])} {ends}, better in "
        f"{video['better']} of {video['n']} videos, p {p}"
    )

"""The scores of an ensemble beside those of its members, in the layout of the notebook of 2022."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

import metric
from evaluation import baselines
from evaluation.predictions import emotion_rows
from evaluation.result import baseline
from evaluation.run_configuration import RunConfiguration
from utils import write_atomic

COLUMNS = {  # of the table in the layout of that notebook, and what it should be read beside
    "Accuracy": metric.accuracy,
    "F1": metric.weighted_f1,
    "Precision": metric.weighted_precision,
    "Recall": metric.accuracy,  # recalls weighted by the rows of a class are the accuracy
    "macro-F1": metric.macro_f1,
    "UAR": metric.uar,
}
MAJORITY = "majority baseline"


def write_table(
    folder: Path,
    found: Mapping[str, pd.DataFrame],
    frame: pd.DataFrame,
    configuration: RunConfiguration,
    method: str,
) -> str:
    """`layout` of members, ensemble and majority, written to scores.csv, too.

    `found`: the test rows of each member; `frame`: those of the ensemble, called by its `method`.

    Where rows of several corpora are tested, all again for each corpus: scores.csv then has a
    column `corpus`, empty for all rows together.
    """
    tested = frame[frame["set"] == "test"].reset_index(drop=True)
    found = {**found, f"ensemble ({method})": tested}
    corpora = list(dict.fromkeys(tested["corpus"]))
    rows = {"": _scored(found, configuration)}
    for corpus in corpora if len(corpora) > 1 else []:
        alone = {name: table[table["corpus"] == corpus] for name, table in found.items()}
        rows[corpus] = _scored(alone, configuration)
    lines = [pd.DataFrame(part).T for part in rows.values()]
    if len(rows) > 1:
        for corpus, part in zip(rows, lines, strict=True):
            part.insert(0, "corpus", corpus)
    cells = pd.concat(lines).to_csv(index_label="name", float_format="%.7g")
    write_atomic(folder / "scores.csv", cells)
    whole = layout(rows.pop(""))
    return "\n\n".join([whole, *(f"{name} alone:\n{_grid(part)}" for name, part in rows.items())])


def _scored(found: Mapping[str, pd.DataFrame], configuration: RunConfiguration) -> dict[str, dict]:
    """`scores` of these tables and, last, of the majority baseline of the rows that they share."""
    table = list(found.values())[-1]
    answer = baseline(configuration, table)[0]
    every = {**found, MAJORITY: baselines.majority(table, answer)}
    return {name: scores(table, configuration.ties) for name, table in every.items()}


def scores(predictions: Mapping, ties: str) -> dict[str, float]:
    """The scores in `COLUMNS` of some predictions; NaN without rows."""
    matrix = metric.confusion(*emotion_rows(predictions, ties)[1:])
    return {title: float(score(matrix)) for title, score in COLUMNS.items()}


def layout(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Accuracy, F1, Precision, Recall as printed in 2022, macro-F1 and UAR: 100 columns."""
    said = "F1, Precision, Recall: weighted by the rows of a class, as in the notebook of 2022"
    return f"{said}\n{_grid(rows)}"


def _grid(rows: Mapping[str, Mapping[str, float]]) -> str:
    head = f"{'':<36}" + "".join(f"{title:>10}" for title in COLUMNS)
    lines = [head, "-" * len(head)]
    for name, row in rows.items():
        shown = name if len(name) <= 36 else f"{name[:33]}..."
        lines.append(f"{shown:<36}" + "".join(f"{row[t]:>10.4f}" for t in COLUMNS))
    return "\n".join(lines).replace("nan", "  -")

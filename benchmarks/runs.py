"""Several runs scored as one: `PYTHONPATH=. python benchmarks/runs.py RUN ... --against RUN ...`

Folds: their test rows are pooled. Seeds: a row counts once for each seed, and a resampled dialogue
brings all of them. With --against, the paired difference of both groups on the same rows as well.
"""

import argparse
from pathlib import Path

import pandas as pd

import evidence
import metric
import report
from utils import read_json

COMPARED = ("macro_f1", "uar", "ccc_arousal", "ccc_valence")


def main() -> None:
    """Print the pooled table, the UAR and macro-F1 of each run, and the paired differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--against", nargs="+", type=Path, default=[])
    arguments = parser.parse_args()
    rows = pooled(arguments.runs)
    result = evidence.summary(rows)
    synthetic = any(read_json(run / "result.json")["synthetic"] for run in arguments.runs)
    print(report.console(result | {"synthetic": synthetic}))
    if arguments.against:
        other = pooled(arguments.against)
        for name in COMPARED:
            print(_difference(name, evidence.paired(rows, other, name)))


def pooled(runs: list[Path]) -> pd.DataFrame:
    """Test rows of all runs; the seed becomes part of the segment, so a row of two seeds is two."""
    tables = []
    for run in runs:
        table = report.read_predictions(run / "predictions.csv")
        table = table[table["set"] == "test"]
        seed = read_json(run / "configuration.json")["seed"]
        values = {name: s["value"] for name, s in metric.scores(table, "drop").items()}
        print(f"{run}: seed {seed}, UAR {values['uar']:.3f}, macro-F1 {values['macro_f1']:.3f}")
        tables.append(table.assign(segment=table["segment"] + f"#{seed}"))
    return pd.concat(tables, ignore_index=True)


def _difference(name: str, found: dict) -> str:
    return (
        f"{name:<12} {found['a']:.3f} against {found['b']:.3f}: "
        f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    )


if __name__ == "__main__":
    main()

"""How much of what was planted in the synthetic videos is selected by a finished run.

    PYTHONPATH=. python benchmarks/planted.py exp/RUN

The budget of each test video is the share of it that was planted; the annotators never said exactly
that. Selected and planted seconds are compared by intersection over union, a mean over videos;
beside it, what seconds at random, the middle, and the annotators' union reach.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation import predictions
from evaluation.highlights import selection
from utils import UserError, read_json, rng

DRAWS = 200  # of seconds at random
SPAN = 3  # s: of the shortest clip that is cut


def masks(planted: list[dict], n: int) -> np.ndarray:
    """(n,) bool: the seconds that were planted; ends are inclusive."""
    mask = np.zeros(n, bool)
    for span in planted:
        mask[span["start"] : span["end"] + 1] = True
    return mask


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def of_video(rows: pd.DataFrame, planted: list[dict], name: str) -> dict[str, float]:
    """IoU with what was planted: of the model's selection, and of what knows less, or more."""
    score, n = rows["highlight"].to_numpy(), len(rows)
    truth = masks(planted, n)
    budget = truth.mean()
    chosen = np.zeros(n, bool)
    for start, end in selection.selected(score, budget=budget, clip=SPAN):
        chosen[start:end] = True
    k, draw = int(truth.sum()), rng(0, "planted", name)
    middle = np.zeros(n, bool)
    middle[(n - k) // 2 : (n - k) // 2 + k] = True
    at_random = [
        overlap(np.isin(np.arange(n), draw.permutation(n)[:k]), truth) for _ in range(DRAWS)
    ]
    return {
        "model": overlap(chosen, truth),
        "random": float(np.mean(at_random)),
        "middle": overlap(middle, truth),
        "annotators": overlap(rows["highlight_true"].to_numpy() >= 0.5, truth),
    }


def main() -> int:
    """Exit code 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    try:
        corpus = Path(read_json(options.run / "configuration.json")["corpus"]["folder"])
        planted = json.loads((corpus / "planted.json").read_text(encoding="utf-8"))
        rows = predictions.read_predictions(options.run / "predictions.csv")
    except (UserError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tested = rows[rows["set"] == "test"]
    found = pd.DataFrame(
        {name: of_video(video, planted[name], name) for name, video in tested.groupby("dialogue")}
    ).T
    print(found.round(3).to_string())
    print(
        f"mean of {len(found)} videos: "
        + ", ".join(f"{name} {value:.3f}" for name, value in found.mean().items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

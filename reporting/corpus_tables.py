"""Tables of what a corpus holds, and how EDA.ipynb draws them. Pandas and NumPy only.

`utterances` are those of dataset.py, of one role or of several. Rows in quarantine and rows
without ratings are left out of every table. Scores of a model are in metric.py.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from constants import EMOTIONS
from metric import VOTES
from reporting import charts
from utils import leaf

TIE = "tie"  # the column of rows with several modal labels

# --- how pictures look ---------------------------------------------------------------------------

COLOURS = {"speaker": charts.COLOURS["blue"], "listener": charts.COLOURS["vermilion"]}
STYLE = {  # matplotlib's rcParams
    "figure.dpi": 90,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "image.cmap": "viridis",
}


def heatmap(axes, table: pd.DataFrame, form: str = "{:.2f}", high: float | None = None) -> None:
    """Shade and write every cell of a table of shares or counts, 0 and more, onto `axes`.

    `form`: how a cell is written, "" for not at all; `high`: the value of the darkest shade.
    """
    values = table.to_numpy(float)
    high = high or max(np.nanmax(values, initial=0.0), 1e-9)
    axes.imshow(values, cmap="Blues", vmin=0, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(values if form else values[:0]):
        colour = "white" if value > 0.6 * high else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", color=colour)
    slanted = max(len(str(name)) for name in table.columns) > 3
    turned = {"rotation": 35, "ha": "right"} if slanted else {}
    # a "$" in a name is no formula
    axes.set_xticks(range(table.shape[1]), table.columns, parse_math=False, **turned)
    axes.set_yticks(range(table.shape[0]), table.index, parse_math=False)
    axes.spines[:].set_visible(False)


# --- labels --------------------------------------------------------------------------------------


def labelled(utterances: pd.DataFrame) -> pd.DataFrame:
    """The rows that raters labelled and that are not in quarantine."""
    return utterances[(utterances["emotion"] != "") & (utterances["quarantine"] == "")]


def single(utterances: pd.DataFrame) -> pd.DataFrame:
    """The `labelled` rows with one modal label."""
    rows = labelled(utterances)
    return rows[rows["emotion"].isin(EMOTIONS)]


def class_balance(utterances: pd.DataFrame, by: str = "role") -> pd.DataFrame:
    """Rows of each emotion, and of TIE, for each value of the column `by`, as they first occur."""
    rows = labelled(utterances)
    label = rows["emotion"].where(rows["emotion"].isin(EMOTIONS), TIE)
    counts = pd.crosstab(rows[by], label).rename_axis(columns="emotion")
    return counts.reindex(index=rows[by].unique(), columns=[*EMOTIONS, TIE], fill_value=0)


def ties(utterances: pd.DataFrame) -> pd.Series:
    """How often which labels tie, as they are written, the most frequent first."""
    emotion = labelled(utterances)["emotion"]
    return emotion[~emotion.isin(EMOTIONS)].value_counts().rename("rows")


# --- raters --------------------------------------------------------------------------------------


def max_vote_share(utterances: pd.DataFrame) -> pd.Series:
    """(N,) share of the raters that chose the modal label, in (0, 1], of the `labelled` rows."""
    votes = labelled(utterances)[VOTES]
    return (votes.max(axis=1) / votes.sum(axis=1)).rename("max_vote_share")


def pairwise_agreement(votes: np.ndarray) -> np.ndarray:
    """Share of the pairs of raters that agree. (N, 7) counts -> (N,) in [0, 1].

    NaN for a row of fewer than two raters.

    >>> pairwise_agreement(np.array([[3, 1, 0, 0, 0, 0, 0]]))  # 3 of 6 pairs
    array([0.5])
    """
    votes = np.asarray(votes, float)
    pairs, agreeing = (n * (n - 1) / 2 for n in (votes.sum(axis=1), votes))
    return np.divide(agreeing.sum(axis=1), pairs, out=np.full(len(votes), np.nan), where=pairs > 0)


def fleiss_kappa(votes: np.ndarray) -> float:
    """Pairwise agreement beyond that of raters who draw labels with the shares of all votes.

    (N, 7) counts -> at most 1, 0 at chance. NaN where nothing can disagree: no pair of raters, or
    one class alone. Fleiss 1971, doi:10.1037/h0031619; there every row has the same raters.
    """
    votes = np.asarray(votes, float)
    agreement = pairwise_agreement(votes)
    if np.isnan(agreement).all():
        return float("nan")
    chance = ((votes.sum(axis=0) / votes.sum()) ** 2).sum()
    return float((np.nanmean(agreement) - chance) / (1 - chance)) if chance < 1 else float("nan")


def agreement(utterances: pd.DataFrame, by: str = "role") -> pd.DataFrame:
    """For each value of `by`: rows, and what its raters agree on, as shares in [0, 1]; kappa."""
    rows = labelled(utterances)
    table = {}
    for name, group in rows.groupby(by, sort=False):
        top, votes = max_vote_share(group), group[VOTES].to_numpy()
        table[name] = {
            "rows": len(group),
            "tied": (~group["emotion"].isin(EMOTIONS)).mean(),
            "unanimous": (top == 1).mean(),
            "mean max-vote share": top.mean(),
            "pairwise agreement": np.nanmean(pairwise_agreement(votes)),
            "Fleiss' kappa": fleiss_kappa(votes),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(by)


# --- pairs of labels -----------------------------------------------------------------------------


def transitions(utterances: pd.DataFrame, within: Sequence[str] = ("dialogue",)) -> pd.DataFrame:
    """(7, 7) counts: emotion of an utterance (row) and of the next one (column) within a dialogue.

    `within=("dialogue", "speaker")`: of the next one of the same speaker. An utterance that ties or
    has no label interrupts: its neighbours are no pair.
    """
    label = single(utterances)["emotion"].reindex(utterances.index)
    groups = [utterances[column] for column in ("role", *within)]
    return _pairs(label.groupby(groups).shift(), label, ("this", "next"))


def between_roles(utterances: pd.DataFrame) -> pd.DataFrame:
    """(7, 7) counts: emotion of the speaker (row) and of the listener (column) in one segment."""
    rows = single(utterances)
    by_role = {role: rows[rows["role"] == role].set_index("segment")["emotion"] for role in COLOURS}
    both = pd.DataFrame(by_role)
    return _pairs(both["speaker"], both["listener"], ("speaker", "listener"))


def _pairs(first: pd.Series, second: pd.Series, names: tuple[str, str]) -> pd.DataFrame:
    counts = pd.crosstab(first, second)
    counts = counts.reindex(index=list(EMOTIONS), columns=list(EMOTIONS), fill_value=0)
    return counts.rename_axis(index=names[0], columns=names[1])


def shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Each row divided by its sum; a row without counts stays 0."""
    return counts.div(counts.sum(axis=1).clip(lower=1), axis=0)


def sameness(counts: pd.DataFrame) -> pd.Series:
    """Of (7, 7) counts of pairs: pairs, share of equal ones, share expected by chance, kappa.

    Chance: both labels drawn independently with their shares. Cohen's kappa is at most 1, 0 at
    chance; NaN without pairs or where only one label occurs.
    """
    values, n = counts.to_numpy(float), counts.to_numpy().sum()
    if not n:
        return pd.Series({"pairs": 0, "same": np.nan, "by chance": np.nan, "kappa": np.nan})
    same = np.trace(values) / n
    chance = values.sum(axis=0) @ values.sum(axis=1) / n**2
    kappa = (same - chance) / (1 - chance) if chance < 1 else np.nan
    return pd.Series({"pairs": n, "same": same, "by chance": chance, "kappa": kappa})


# --- bio signals ---------------------------------------------------------------------------------


def signals(name: str, folder: Path, session: int) -> pd.DataFrame:
    """Samples of one session: SIGNALS, and `minutes` since the first of them.

    `name` and `folder` are those of a prepared corpus. Empty where it has none. `signal` is ECG,
    EDA, TEMP or IBI, `subject` is who wears the sensor.
    """
    table = leaf("corpora", name).signals(folder, sessions=[session])
    clock = pd.to_datetime(table["timestamp"], format="mixed")
    return table.assign(minutes=(clock - clock.min()).dt.total_seconds() / 60)

"""Pictures of how many utterances have which emotion, in one corpus and with others added."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import constants
from corpora.preparation.corpus import Corpus
from reporting import charts, corpus_tables, figures, page
from utils import make_folder, write_atomic

ORIGIN, ADDED = "Class_distribution_origin.png", "Class_distribution_add.png"  # as in 2023
COLOURS = [charts.COLOURS[name] for name in ("blue", "orange", "green", "purple")]
ROLE = constants.ROLES[0]


def write(folder: Path, corpora: Sequence[Corpus]) -> list[Path]:
    """Draw the first corpus alone and, where there are others, all together; the files written."""
    table = counts(corpora)
    pictures = {ORIGIN: table.iloc[:1]} | ({ADDED: table} if len(corpora) > 1 else {})
    made = any(corpus.synthetic for corpus in corpora)
    for name, rows in pictures.items():
        write_atomic(make_folder(folder) / name, picture(rows, made))
    return [folder / name for name in pictures]


def counts(corpora: Sequence[Corpus]) -> pd.DataFrame:
    """Rows of each emotion, and of ties, in each corpus: what the one who speaks felt."""
    tables = [corpus_tables.class_balance(corpus.role(ROLE), "corpus") for corpus in corpora]
    return pd.concat(tables)


def picture(table: pd.DataFrame, synthetic: bool) -> bytes:
    """A PNG: a bar for each emotion, stacked by corpus, with its count and share above it."""
    total, places = table.sum(), np.arange(table.shape[1])

    def draw(axes) -> None:
        base = np.zeros(table.shape[1])
        for (name, row), colour in zip(table.iterrows(), COLOURS * len(table), strict=False):
            axes.bar(places, row, 0.7, base, color=colour, label=f"{name}: {row.sum():,}")
            base = base + row.to_numpy()
        for place, value in zip(places, total, strict=True):
            share = f"{value:,}\n{value / max(1, total.sum()):.1%}"
            axes.annotate(
                share, (place, value), (0, 3), textcoords="offset points", ha="center", fontsize=8.5
            )
        axes.set_xticks(places, table.columns)
        axes.set_ylim(0, 1.25 * max(1, total.max()))
        axes.set_ylabel("utterances")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left")
        title = f"Emotion of {total.sum():,} utterances"
        axes.set_title(title + (f" ({page.NOT_A_RESULT})" if synthetic else ""), fontsize=11)

    return figures.png(draw, (7.2, 4.2))

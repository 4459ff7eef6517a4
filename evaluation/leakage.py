"""The leakage guard, and what `--disjoint` takes out of training.

Who is in which set is decided in `splits.py`; that a finished run is not tested on what it was
trained on, in `training/run_folder.py`; what of it all a run tells, in `training/protocol_card.py`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from corpora.preparation import audit
from corpora.preparation.transcripts import normalised
from evaluation import splits
from utils import UserError, first_few

NGRAM = 3  # characters
SIMILAR = 0.8  # Jaccard index of two sets of n-grams: "resemblance", Broder 1997
BLOCK = 512  # texts compared with all others at once: some megabytes
SHOWN = 3  # rows named in one line
IDENTITIES = {
    "speaker": "speakers",
    "dialogue": "dialogues",
    "wav_hash": "audio",
    "segment": "segments",
}  # column -> what it identifies


class Guarded(NamedTuple):
    """What the guard took out of a split that leaks nothing."""

    removed: np.ndarray  # (N,) bool: training rows that are no targets, whose text is never seen
    reasons: dict[str, int]  # of targets among them, how many for which reason
    warnings: list[str]  # to be told


def guard(utterances: pd.DataFrame, sets: np.ndarray, disjoint: str | None = None) -> Guarded:
    """Refuse a split that leaks, take out what `disjoint` says, and count equal transcripts.

    `sets` (N,): "train", "val" or "test", of each row.

    No speaker, dialogue, audio or segment may stand in two sets: a UserError names the rows. Equal
    transcripts may (actors of KEMDy19 read the same scripts), unless `disjoint` is "text" (no
    training line has the words of a test line, or nearly) or "script" (no script of the test is
    trained on). UserError also where that leaves fewer than 2 rows to train on.
    """
    crossing = {column: crossing_rows(utterances, column, sets) for column in IDENTITIES}
    if any(crossing.values()):
        found = [_named(IDENTITIES[column], rows) for column, rows in crossing.items() if rows]
        raise UserError(f"the split leaks: {'; '.join(found)}; a split should share none of them")
    removed, reasons, warnings = _removed(utterances, sets, disjoint)
    return Guarded(removed, reasons, warnings + _shared_text(utterances, sets, removed))


def crossing_rows(utterances: pd.DataFrame, column: str, sets: np.ndarray) -> list[str]:
    """A line for each value of a column that stands in two sets: its first row in each of them.

    Rows in quarantine are never seen; silence is the same in every file; two corpora may use one
    name for different things, but not one recording.
    """
    real = (utterances[column] != "") & (utterances["quarantine"] == "")
    if column == "wav_hash":
        real &= ~audit.is_silence(utterances)
    keys = [column] if column == "wav_hash" else ["corpus", column]
    rows = utterances.assign(set=sets)[real].drop_duplicates([*keys, "set"])
    rows = rows[rows.duplicated(keys, keep=False)]
    places = rows["segment"] + " in " + rows["set"]
    pairs = places.groupby([rows[key] for key in keys], sort=False)
    return [" and ".join(pair) for _, pair in pairs]


def _named(what: str, rows: list[str]) -> str:
    return f"{what} {len(rows)} ({first_few(rows, SHOWN)})"


# --- the same words ------------------------------------------------------------------------------


def similar(texts: Iterable[str], others: Iterable[str]) -> np.ndarray:
    """(N,) bool: texts whose character 3-grams have a Jaccard index >= 0.8 with one of `others`.

    The index is of sets, |A and B| / |A or B| in 0..1. A text of fewer than 3 characters has no
    3-gram and is similar to nothing.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # a second that few runs need

    texts = list(texts)
    mine, theirs = (sorted({t for t in group if len(t) >= NGRAM}) for group in (texts, others))
    if not mine or not theirs:
        return np.zeros(len(texts), bool)
    vectorizer = CountVectorizer(
        analyzer="char", ngram_range=(NGRAM, NGRAM), binary=True, lowercase=False, dtype=np.int32
    )
    grams = vectorizer.fit_transform(mine + theirs)
    sizes = np.asarray(grams.sum(axis=1)).ravel()
    columns, near = grams[len(mine) :].T.tocsr(), set()
    for start in range(0, len(mine), BLOCK):
        shared = (grams[start : min(start + BLOCK, len(mine))] @ columns).tocoo()
        row, column = start + shared.row, len(mine) + shared.col
        union = sizes[row] + sizes[column] - shared.data
        near.update(mine[i] for i in np.unique(row[shared.data / union >= SIMILAR]))
    return np.array([text in near for text in texts], bool)


def _alike(words: pd.Series, rows: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """Which of `rows` (N,) bool have the words of one of `others` (N,) bool, and which nearly."""
    exact = rows & (words != "").to_numpy() & words.isin(set(words[others])).to_numpy()
    near = rows & ~exact
    near[near] = similar(words[near], words[others])
    return {"exact": exact, "similar": near}


def _shared_text(utterances: pd.DataFrame, sets: np.ndarray, removed: np.ndarray) -> list[str]:
    """How many test lines have the words of a training line, script and improvisation apart."""
    counts = equal_transcripts(utterances, sets, removed)
    equal, lines = (sum(kind[name] for kind in counts.values()) for name in ("equal", "lines"))
    if not equal:
        return []
    parts = [f"{kind or 'other'} {n['equal']:,} of {n['lines']:,}" for kind, n in counts.items()]
    return [
        f"{equal:,} of {lines:,} test lines have the words of a training line ({', '.join(parts)})"
    ]


def equal_transcripts(
    utterances: pd.DataFrame, sets: np.ndarray, removed: np.ndarray, near: bool = False
) -> dict[str, dict[str, int]]:
    """{kind: test `lines` with words, those `equal` to a training line, and `similar` to one}."""
    words = normalised(utterances["text"])
    seen = ((utterances["quarantine"] == "") & (words != "")).to_numpy()
    test, train = seen & (sets == "test"), seen & (sets == "train") & ~removed
    equal = test & words.isin(set(words[train])).to_numpy()
    found = {"lines": test, "equal": equal}
    if near:
        found["similar"] = _alike(words, test, train)["similar"]
    kinds = utterances["kind"].to_numpy()
    return {
        str(kind): {name: int((rows & (kinds == kind)).sum()) for name, rows in found.items()}
        for kind in sorted(set(kinds[test]))
    }


# --- taken out of training -----------------------------------------------------------------------


def _removed(
    utterances: pd.DataFrame, sets: np.ndarray, disjoint: str | None
) -> tuple[np.ndarray, dict[str, int], list[str]]:
    """The fields of `Guarded`, but for the lines on equal transcripts."""
    find = {None: lambda *_: {}, "text": _tested_words, "script": _tested_scripts}
    if disjoint not in list(find):  # a configuration may hold anything
        raise UserError(f"no --disjoint {disjoint!r}; there are: text, script")
    tested = (sets == "test") & (utterances["quarantine"] == "").to_numpy()
    found = find[disjoint](utterances, sets != "test", tested)
    removed = np.any([np.zeros(len(sets), bool), *found.values()], axis=0) & (sets == "train")
    if disjoint is None:
        return removed, {}, []
    of = {name: splits.is_target(utterances) & (sets == name) for name in ("train", "val")}
    counts, shared = (
        {reason: int((rows & among).sum()) for reason, rows in found.items()}
        for among in of.values()
    )
    total, gone = int(of["train"].sum()), sum(counts.values())
    left = f"{total - gone:,} are left"
    warnings = [
        f"--disjoint {disjoint}: {gone:,} of {total:,} training lines removed"
        f"{_listed(counts)}; {left}"
    ]
    if total - gone < 2:
        raise UserError(f"{warnings[0]}, training needs at least 2; hold out other sessions")
    if of["val"].any():
        like = f"{sum(shared.values()):,} of {of['val'].sum():,} validation lines"
        warnings.append(
            f"--disjoint {disjoint}: {like} are like the test{_listed(shared)}; they "
            f"stay, to choose the epoch by"
        )
    return removed, counts, warnings


def _listed(counts: dict[str, int]) -> str:
    parts = [f"{count:,} {reason}" for reason, count in counts.items() if count]
    return f" ({', '.join(parts)})" if parts else ""


def _tested_words(
    utterances: pd.DataFrame, rows: np.ndarray, tested: np.ndarray
) -> dict[str, np.ndarray]:
    """{"exact", "similar": (N,) bool}: which of `rows` say what a tested one says, or nearly."""
    return _alike(normalised(utterances["text"]), rows, tested)


def _tested_scripts(
    utterances: pd.DataFrame, rows: np.ndarray, tested: np.ndarray
) -> dict[str, np.ndarray]:
    """{script: (N,) bool}: which of `rows` are of that script, which is tested: whole dialogues.

    Its number is the end of the dialogue's name: script03 of Sess01_script03.
    """
    number = utterances["dialogue"].str.rpartition("_")[2]
    number = number.where(utterances["kind"] == "script", "").to_numpy()
    scripts = sorted(set(number[tested]) - {""})
    return {script: rows & (number == script) for script in scripts}

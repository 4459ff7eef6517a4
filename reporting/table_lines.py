"""Lines and cells of a table of several runs, the same in Markdown, on the page and the console.

A table has the columns of the README of 2022 first, whose P, R and F1 are the `legacy_*` scores,
then what they should have been read beside.
"""

from collections.abc import Sequence

from reporting.formatting import interval, number, sessions
from reporting.page import INTERVAL

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
APART_SCORES = {
    "macro_f1": "macro-F1",
    "uar": "UAR",
    "legacy_f1": "F1 (@1)",
    "accuracy": "accuracy",
    "ccc_arousal": "Arousal",
    "ccc_valence": "Valence",
}
OF_CORPUS = {
    "macro_f1": "macro-F1",
    "uar": "UAR",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
}
HEADER_OF_CORPUS = ("row", "n", "macro-F1", INTERVAL, "UAR", "accuracy", "weighted F1")
PAIR_HEADER = ("a", "b", "test", "a - b", INTERVAL, "p", "p (Holm)", "n")


# --- the main table -------------------------------------------------------------------------


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
        found.append(_line("mean ± sd", "mean", {n: spread(s) for n, s in scores.items()}))
    found.append(_line("pooled", "pooled", {n: number(s["pooled"]) for n, s in scores.items()}))
    ends = {n: interval(s["low"], s["high"]) or "-" for n, s in scores.items()}
    found.append(_line(INTERVAL, "interval", ends))
    for what, key in (("majority", "baseline"), ("label prior", "prior")):
        found.append(_line(what, key, {n: number(s[key]) for n, s in scores.items()}))
    return found


def _line(label: str, kind: str, cells: dict[str, str]) -> dict:
    return {"label": label, "run": None, "kind": kind, "trial": None, "cells": cells}


def spread(score: dict) -> str:
    return number(score["mean"]) + (f" ± {number(score['sd'])}" if score["sd"] is not None else "")


def _label(i: int, row: dict) -> str:
    """Speaker[1,2,3,4], as in 2022; with the seed where there are several, and by corpus where
    those are: Speaker[kemdy20 5,13; aihub_emotion 17-20]."""
    run = row["trials"][i]
    tested = sessions_tested(row, i) or ",".join(map(str, run["sessions"]))
    seed = f" seed {run['seed']}" if len(row["seeds"]) > 1 else ""
    return f"{run['role'].capitalize()}[{tested}]{seed}"


def sessions_tested(row: dict, i: int) -> str:
    """Corpora and sessions that a run tests, in a table of several corpora; "" in one of one."""
    parts = row["tested"][i].items() if "tested" in row else ()
    return "; ".join(f"{name} {sessions(tested).replace(', ', ',')}" for name, tested in parts)


# --- by corpus ------------------------------------------------------------------------------


def corpora(rows: Sequence[dict]) -> list[str]:
    """The names of all corpora of a table of several; [] of a table of one."""
    return list(dict.fromkeys(name for row in rows for name in row.get("by_corpus", {})))


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


# --- pairs of rows --------------------------------------------------------------------------


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

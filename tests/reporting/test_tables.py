"""Tables of several corpora: each has its part in the text, the page and the CSV."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.finished import changed, folds, of_corpora, written
from hypothesis import strategies as st

import metric
from evaluation import comparison, finished_runs
from evaluation.finished_runs import Run
from reporting import tables

SEEDS = st.integers(0, 2**32)


def laid_out(tmp_path: Path, rows: dict[str, list[Run]]) -> dict:
    placed = {}
    for name, row in rows.items():
        row = [
            changed(one, SorL="speaker")._replace(folder=tmp_path / f"{name}{i}")
            for i, one in enumerate(row)
        ]
        placed[name] = [finished_runs.read(written(one.folder, one)) for one in row]
    return tables.compared("Two", placed, "drop", tmp_path, resamples=20)


def test_a_table_of_several_corpora_has_a_part_for_each(tmp_path):
    rows = {"mate": [of_corpora(1), of_corpora(2)], "lstm": [of_corpora(1, 1)]}
    result = laid_out(tmp_path, rows)
    text, shown, page = tables.markdown(result), tables.console(result), tables.page(result)
    found = {name: comparison.by_corpus(row, resamples=20) for name, row in rows.items()}
    for corpus, answer in (("a", "sad"), ("b", "happy")):
        part = text.split(f"## By corpus: {corpus}\n")[1].split("##")[0]
        block = shown.split(f"\n{corpus} alone:\n")[1].split("\n\n")[0]
        assert f"<h3>{corpus}</h3>" in page
        for name in rows:
            s = found[name][corpus]["scores"]
            cells = [f"{s[n]['pooled']:.3f}" for n in ("uar", "accuracy", "weighted_f1")]
            line = "{n} | {pooled:.3f} | [{low:.3f}, {high:.3f}]".format(**s["macro_f1"])
            assert f"| {name} | {line} |" in part and f" | {' | '.join(cells)} |" in part
            wide = " ".join(f"{cell:>{n}}" for cell, n in zip(cells, (6, 8, 11), strict=True))
            assert wide in block and "".join(f"<td>{cell}</td>" for cell in cells) in page
        s = found["mate"][corpus]["scores"]["macro_f1"]
        base = "{baseline:.3f} | [{baseline_low:.3f}, {baseline_high:.3f}]".format(**s)
        assert part.count(f"| majority ({answer}) | {s['n']} | {base} |") == 2
        assert block.count(f"\n  majority ({answer}) ") == 2
    assert "| Speaker[a 1-2; b 1] seed 2 |" in text and "Speaker[a 1-2; b 1] seed 2</a>" in page
    assert "| mate | a 1 |" in text and "| mate | b 1 |" in text and ">b 1</td>" in page
    assert max(map(len, shown.splitlines())) <= 100


def test_the_csv_of_several_corpora_has_every_score_of_each(tmp_path):
    rows = {"mate": [of_corpora(1), of_corpora(2)]}
    lines = pd.read_csv(io.StringIO(tables.table_csv(laid_out(tmp_path, rows))))
    found = comparison.by_corpus(rows["mate"], resamples=20) | {
        None: comparison.row("mate", rows["mate"], resamples=20)
    }
    for corpus, part in found.items():
        mine = lines[lines.corpus.isna() if corpus is None else lines.corpus == corpus]
        mine = mine[mine.kind != "trial"].set_index("kind")
        for kind in ("pooled", "low", "high", "baseline", "prior"):
            for name in metric.SCORES:
                wanted = part["scores"][name][kind]
                wanted = np.nan if wanted is None else wanted
                assert mine.loc[kind, name] == pytest.approx(wanted, rel=1e-6, nan_ok=True)
        assert set(mine.n) == {part["n"]["rows"]}
    assert lines[lines.kind == "trial"].sessions.tolist() == ["a 1-2; b 1"] * 2


def test_rows_that_test_one_corpus_each_are_told_apart_by_it_too(tmp_path):
    rows = {"one": [of_corpora(corpora=("a",) * 3)], "two": [of_corpora(corpora=("a", "a", "b"))]}
    parts = tables.lines_by_corpus(laid_out(tmp_path, rows)["rows"])
    assert {name: [line["label"] for line in lines] for name, lines in parts.items()} == {
        "a": ["one", "majority (sad)", "two", "majority (sad)"],
        "b": ["two", "majority (happy)"],
    }


def test_a_table_of_one_corpus_says_nothing_of_corpora(tmp_path):
    result = laid_out(tmp_path, {"mate": folds()})
    assert not {"by_corpus", "tested"} & set(result["rows"][0])
    for text in (tables.markdown(result), tables.console(result), tables.page(result)):
        assert "corpus" not in text.replace("synthetic corpus", "").lower()
    header = tables.table_csv(result).splitlines()[0].split(",")
    assert header[:7] == ["row", "kind", "role", "sessions", "seed", "run", "n"]
    assert "| Speaker[1,2] |" in tables.markdown(result)

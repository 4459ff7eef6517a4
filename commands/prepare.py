"""Read a corpus, listen to it, and say what was kept, converted, masked and quarantined.

    python main.py prepare --data DIR
    python main.py prepare --data sample

Training does this by itself when nothing is prepared yet.
"""

import argparse

import dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The corpus flags."""
    dataset.add_arguments(parser)


def main(settings: argparse.Namespace) -> None:
    """Prepare and print the tables."""
    corpus = dataset.open_corpus(settings.data, settings.tables, settings.max_bad)
    print(summary(corpus))


def summary(corpus: dataset.Corpus) -> str:
    """Rows by role and what happened to them, as text."""
    lines = [
        f"{corpus.name} in {corpus.folder}" + (" (synthetic corpus)" if corpus.synthetic else "")
    ]
    lines.append(
        f"{'role':<10}{'rows':>8}{'kept':>8}{'quarantined':>13}{'one label':>11}{'hours':>8}"
    )
    for role, rows in corpus.utterances.groupby("role", sort=False):
        fine = rows[rows["quarantine"] == ""]
        single = (fine["emotion"] != "") & ~fine["emotion"].str.contains(";")
        lines.append(
            f"{role:<10}{len(rows):>8,}{len(fine):>8,}{len(rows) - len(fine):>13,}"
            f"{single.sum():>11,}{fine['duration'].sum() / 3600:>8.2f}"
        )
    lines.append("")
    lines.append(f"{'treatment':<13}{'count':>7}  reason")
    lines += [
        f"{row['treatment']:<13}{row['count']:>7,}  {row['reason']}" for row in corpus.counts()
    ]
    lines.append(f"\ntables: {corpus.prepared}/")
    return "\n".join(lines)

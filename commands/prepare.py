"""Read a corpus, listen to it, and say what was kept, converted, masked and quarantined.

    python main.py prepare --data DIR
    python main.py prepare --data sample
    python main.py prepare sample --layout kemdy20    writes data/sample_kemdy20 first
    python main.py prepare --data kemdy20:DIR --train_extra aihub_emotion:DIR --plot

Training does this by itself when nothing is prepared yet.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import constants
from commands import Subcommand
from corpora import preparation
from reporting import class_distribution
from utils import UserError, leaf, lock, make_folder, read_json, setting


@dataclass(frozen=True)
class Settings(preparation.CorpusSettings):
    """The corpus, and a sample in another corpus's layout."""

    train_extra: tuple[str, ...] = setting(
        (),
        "corpora to prepare as well, such as are added in training",
        words="+",
        metavar="CORPUS:DIR",
    )
    plot: str | None = setting(
        None,
        "draw how many utterances have which emotion, without and with the added corpora "
        "(default of FOLDER: beside the tables)",
        const="",
        metavar="FOLDER",
    )
    sample: str | None = setting(
        None,
        "write the synthetic corpus to DIR, unless it is there, and prepare that instead of --data "
        "(default of DIR: data/sample, with _LAYOUT if one is named)",
        position=True,
        metavar="sample[:DIR]",
    )
    layout: str | None = setting(
        None,
        "how that corpus lies on disk: a file of corpora/ (default: kemdy19)",
        metavar="CORPUS",
    )


class Command(Subcommand):
    """Make a corpus ready."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
        """Prepare and print the tables."""
        if settings.sample is not None:
            if settings.data != constants.DATA:
                raise UserError(
                    f"prepare needs --data {settings.data} or {settings.sample}, not both"
                )
            folder = str(_written(settings.sample, settings.layout))
            settings = dataclasses.replace(settings, data=folder)
        elif settings.layout is not None:
            raise UserError(f"--layout {settings.layout} needs the word sample before it")
        corpora = [
            preparation.open_corpus(data, tables, settings.max_bad, settings.labels)
            for data, tables in _named(settings)
        ]
        preparation.check_distinct(corpora)
        preparation.check_labels(corpora, settings.labels)
        print("\n\n".join(map(summary, corpora)))
        if settings.plot is not None:
            folder = Path(settings.plot) if settings.plot else corpora[0].prepared
            for picture in class_distribution.write(folder, corpora):
                print(f"picture: {picture}")


def _named(settings: Settings) -> list[tuple[str, str]]:
    """(corpus, tables) of --data and of --train_extra."""
    return [(settings.data, settings.tables), *((data, "raw") for data in settings.train_extra)]


def _written(sample: str, layout: str | None) -> Path:
    """The folder of the sample corpus in a layout, written now if it is not there."""
    name, colon, place = sample.partition(":")
    if name != "sample" or (colon and not place):
        raise UserError(f"prepare needs --data, or sample, or sample:DIR; it got {sample!r}")
    folder = Path(place or "data/sample" + (f"_{layout}" if layout else ""))
    wanted = {"layout": layout} if layout else {}
    mark = folder / preparation.MARK
    with lock(make_folder(folder.parent) / f".{folder.name}.lock", f"writing {folder}"):
        if not mark.exists():
            leaf("corpora", "sample").write(folder, **wanted)
    there = read_json(mark).get("layout")
    if wanted and layout != there:
        raise UserError(f"{folder} holds a sample laid out as {there}, not {layout}")
    return folder


def summary(corpus: preparation.Corpus) -> str:
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
            f"{single.sum():>11,}{fine.drop_duplicates('wav')['duration'].sum() / 3600:>8.2f}"
        )
    lines.append("")
    lines.append(f"{'treatment':<13}{'count':>7}  reason")
    lines += [
        f"{row['treatment']:<13}{row['count']:>7,}  {row['reason']}" for row in corpus.counts()
    ]
    lines.append(f"\ntables: {corpus.prepared}/")
    return "\n".join(lines)

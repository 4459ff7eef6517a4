"""A corpus made ready: recognised by its tree, read by its reader, heard, and kept as tables.

`open_corpus` recognises a folder, has its corpus's `Reader` read it and `audit.py` listen to it,
and keeps the tables under data/prepared/. What a reader is stands in contract.py.
"""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import constants
from corpora.preparation import audit, columns
from corpora.preparation.contract import Reader
from corpora.preparation.tables import as_files, read_tables, write_tables
from utils import UserError, digest, leaf, leaves, lock, make_folder, setting, write_atomic

VERSION = 2  # of the prepared tables; a change prepares every corpus again
MARK = "SYNTHETIC.json"  # written last into a folder that was made up

log = logging.getLogger(__name__)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"needs a number from 0 to 1, got {text!r}")
    return value


@dataclass(frozen=True)
class CorpusSettings:
    """Which corpus: the flags of every subcommand that reads one."""

    data: str = setting(
        constants.DATA, "DIR, CORPUS:DIR, or `sample` for the synthetic corpus", with_test=True
    )
    tables: str = setting(
        constants.TABLES,
        "2022: read the df_speaker.csv and df_listener.csv of that year",
        choices=("raw", "2022"),
        with_test=True,
    )
    max_bad: float = setting(
        constants.MAX_BAD,
        "share of rows allowed in quarantine",
        read=_share,
        metavar="SHARE",
        with_test=True,
    )
    labels: str | None = setting(
        None,
        "which emotion an utterance has, in corpora that say it in several ways (default: the "
        "first of their rules)",
        metavar="RULE",
    )


# --- a corpus, prepared --------------------------------------------------------------------------


@dataclass
class Corpus:
    """One corpus: `utterances` of all roles and `troubles` met (columns: files.py)."""

    name: str
    folder: Path
    prepared: Path
    utterances: pd.DataFrame
    troubles: pd.DataFrame
    fingerprint: str
    synthetic: bool

    @property
    def label(self) -> str:
        """What its rows call it: kemdy19, of the tables of 2022 too."""
        return str(self.utterances["corpus"].iat[0]) if len(self.utterances) else self.name

    def role(self, role: str) -> pd.DataFrame:
        """The rows of one role, in spoken order, numbered from 0."""
        roles = list(dict.fromkeys(self.utterances["role"]))
        if role not in roles:
            raise UserError(f"{self.name} has no {role!r} labels; it has: {', '.join(roles)}")
        return self.utterances[self.utterances["role"] == role].reset_index(drop=True)

    def counts(self) -> list[dict]:
        """Troubles counted by treatment and reason, most severe treatment first."""
        order = {"quarantined": 0, "masked": 1, "converted": 2, "reported": 3}
        table = self.troubles.groupby(["treatment", "reason"], sort=False).size()
        rows = [{"treatment": t, "reason": r, "count": int(n)} for (t, r), n in table.items()]
        return sorted(rows, key=lambda row: (order[row["treatment"]], -row["count"], row["reason"]))


def open_corpus(
    data: str, tables: str = "raw", max_bad: float = constants.MAX_BAD, labels: str | None = None
) -> Corpus:
    """The corpus behind `--data`, prepared now if it never was or if a file of it changed.

    `labels`: one of its label rules; None: the first.
    """
    name, folder = recognise(data, tables)
    reader = leaf("corpora", name)
    prepared = Path(constants.PREPARED) / f"{name}-{digest(str(folder.resolve()))}"
    rule = _rule(name, reader, labels)
    state, tables, _ = _prepared(reader, folder, prepared)
    if tables is None:
        with lock(make_folder(prepared) / "lock", f"preparing {folder}"):
            state, tables, damage = _prepared(reader, folder, prepared)  # by the one waited for
            if damage:
                log.warning("%s; prepared again", damage)
            if tables is None:
                _prepare(reader, folder, prepared, state, max_bad)
                tables = read_tables(prepared, state, reader.COLUMNS)
    utterances, troubles = tables
    _check_bad(utterances, troubles, folder, prepared, max_bad)  # it may be another by now
    if rule:
        utterances = reader.labelled(utterances, rule)
    synthetic = (folder / MARK).exists()
    return Corpus(name, folder, prepared, utterances, troubles, state, synthetic)


def _rule(name: str, reader: type[Reader], wanted: str | None) -> str | None:
    """The label rule of a corpus, None if it has none; a UserError for one it does not know."""
    rules = reader.LABELS
    if rules and wanted not in (None, *rules):
        raise UserError(f"no --labels {wanted} in {name}; there are: {', '.join(rules)}")
    return (wanted or rules[0]) if rules else None


def check_distinct(corpora: list[Corpus]) -> None:
    """A UserError where two corpora are one, or two versions of one: their rows share names."""
    folders: dict[str, Path] = {}
    for corpus in corpora:
        other = folders.setdefault(corpus.label, corpus.folder)
        if other is not corpus.folder:
            raise UserError(
                f"--data and --train_extra name {corpus.label} twice, {other} and "
                f"{corpus.folder}; name each corpus once"
            )


def check_labels(corpora: list[Corpus], wanted: str | None) -> None:
    """A UserError where `--labels` is given and none of the corpora has rules to choose from."""
    if wanted and not any(leaf("corpora", c.name).LABELS for c in corpora):
        names = ", ".join(corpus.name for corpus in corpora)
        raise UserError(f"--labels {wanted} means nothing here: {names} says an emotion in one way")


def recognise(data: str, tables: str = "raw") -> tuple[str, Path]:
    """`DIR`, `CORPUS:DIR` or the name of a corpus that is made -> (name, folder)."""
    name, colon, place = data.partition(":")
    if name in leaves("corpora") and (colon or leaf("corpora", name).MADE):
        if leaf("corpora", name).MADE:
            return _made(name, Path(place) if place else Path("data") / name)
        if not Path(place).is_dir():
            raise UserError(f"no folder {place!r} to read as {name}")
        return name, Path(place)
    folder = Path(data)
    if not folder.is_dir():
        raise UserError(
            f"no corpus folder {data!r}; put the corpus there, name another with --data DIR, "
            f"or try the synthetic corpus with --data sample"
        )
    found = [n for n in leaves("corpora") if leaf("corpora", n).matches(folder)]
    if len(found) > 1 or tables == "2022":
        found = [n for n in found if leaf("corpora", n).TABLES == tables]
    if len(found) != 1:
        what = f"looks like {' and '.join(found)}" if found else "has the tree of no known corpus"
        raise UserError(
            f"{folder} {what}; say which with --data CORPUS:{data} (corpora: "
            f"{', '.join(leaves('corpora'))})"
        )
    return found[0], folder


def _made(name: str, folder: Path) -> tuple[str, Path]:
    """Write a synthetic corpus unless it is there, whole; then it is read like any other."""
    if not (folder / MARK).exists():
        with lock(make_folder(folder.parent) / f".{folder.name}.lock", f"writing {folder}"):
            if not (folder / MARK).exists():  # still: not by the one waited for
                leaf("corpora", name).write(make_folder(folder))
    return recognise(str(folder))


def fingerprint(files: list[Path], folder: Path) -> str:
    """Digest of names, sizes and times of a corpus's files: changes when any of them does."""
    stats = sorted([path.relative_to(folder).as_posix(), *_stat(path)] for path in files)
    return digest([VERSION, stats], 16)


def _stat(path: Path) -> tuple[int, int]:
    """Size and time; zeros where a link leads nowhere: that one is quarantined later."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _prepared(
    reader: type[Reader], folder: Path, prepared: Path
) -> tuple[str, tuple[pd.DataFrame, pd.DataFrame] | None, str]:
    """The state a corpus is in, its tables if they were prepared from that, and their damage."""
    state = fingerprint(reader.sources(folder), folder)
    try:
        return state, read_tables(prepared, state, reader.COLUMNS), ""
    except UserError as error:
        return state, None, str(error)


def _prepare(
    reader: type[Reader], folder: Path, prepared: Path, state: str, max_bad: float
) -> None:
    """Read, audit and write the tables, unless too many rows are bad: then quarantine.csv alone."""
    utterances, troubles = reader.read(folder)
    utterances, heard = audit.audit(utterances, folder)
    before, utterances = utterances, reader.grouped(utterances)
    heard = pd.concat([heard, _set_aside(before, utterances)], ignore_index=True)
    troubles = pd.concat([troubles, heard], ignore_index=True)
    files = as_files(utterances, troubles)
    write_atomic(prepared / "quarantine.csv", files["quarantine.csv"])
    _check_bad(utterances, troubles, folder, prepared, max_bad)
    write_tables(prepared, files, state, folder)


def _set_aside(before: pd.DataFrame, utterances: pd.DataFrame) -> pd.DataFrame:
    """Troubles of what is in quarantine since the wavs were heard; a line a dialogue and reason."""
    fresh = (utterances["quarantine"] != "") & (before["quarantine"] == "").to_numpy()
    rows = utterances[fresh].drop_duplicates(["dialogue", "quarantine"])
    return columns.troubles(
        [("quarantined", row.quarantine, row.role, row.segment, "") for row in rows.itertuples()]
    )


def _check_bad(
    utterances: pd.DataFrame, troubles: pd.DataFrame, folder: Path, prepared: Path, max_bad: float
) -> None:
    """A UserError when more than `max_bad` of the rows are in quarantine."""
    share = (utterances["quarantine"] != "").mean()
    if share > max_bad:
        bad = troubles.loc[troubles["treatment"] == "quarantined", "reason"]
        reasons = ", ".join(f"{n} x {r}" for r, n in bad.value_counts()[:3].items())
        raise UserError(
            f"{share:.1%} of the rows of {folder} are unusable, more than --max_bad {max_bad:g} "
            f"allows ({reasons}); see {prepared}/quarantine.csv"
        )

"""AI Hub 616, or videos of your own with such labels: X.mp4 and X_<annotator>.json -> tables.

A row is one second of a video. What each annotator marks stands in `marks`; LABELS says what makes
a highlight of it. Videos are kept apart by groups in place of sessions. Where videos and labels lie
below the folder does not matter: the download's tree and a plain folder are read alike
(layouts/aihub_highlight.py). What a label file may say is in labels/aihub_highlight.py.
"""

import statistics
from pathlib import Path

import numpy as np
import pandas as pd

from corpora import preparation
from corpora.labels import aihub_highlight as labels
from corpora.layouts import aihub_highlight as layout
from corpora.preparation import columns
from corpora.synthetic import aihub_highlight as synthetic
from metric import VOTES
from utils import UserError

ROLES = ("speaker",)
BAD = frozenset({"news_footage_1710"})  # videos that readers skip
DRIFT = 5.0  # s: lengths of one video may differ so much; labels beyond are of another cut
MOST = 5_000_000  # seconds in one corpus, 58 days: all of it is held in memory
KNOWN_BAD = "known to be bad"
NOBODY = "no usable annotator"
BEYOND = "beyond the end of the video"


class Reader(preparation.Reader):
    """Of AI Hub 616."""

    COLUMNS = ("marks", "class_code", "annotators")
    LABELS = labels.RULES
    SAMPLE_SIZES = synthetic.SIZES
    labelled = staticmethod(labels.labelled)
    plan_sample = staticmethod(synthetic.plan)
    write_sample = staticmethod(synthetic.write_sample)

    @staticmethod
    def matches(folder: Path) -> bool:
        """Is there a video, and a file named like its labels, anywhere below?"""
        return layout.has_both(folder)

    @staticmethod
    def sources(folder: Path) -> list[Path]:
        """Videos and label files."""
        return [folder / file.path for file in layout.files(folder)]

    @staticmethod
    def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Seconds by video with COLUMNS too, and troubles (columns: columns.py).

        Only labels of videos that are there are opened: of a download, any part may be here. Raises
        UserError where no video has labels.
        """
        found = layout.find(folder)
        videos, notes = [], found.notes
        for name in sorted(found.videos.keys() & found.labels.keys()):
            video, more = _video(folder, name, found.videos[name], found.labels[name])
            videos.append(video)
            notes += more
        if not videos:
            raise UserError(
                f"no video in {folder} has labels; there are {len(found.videos)} videos, such as "
                f"{min(found.videos)}, and labels of {len(found.labels)}, such as "
                f"{min(found.labels)}"
            )
        notes += [
            ("reported", "video without labels", "", name, layout.shown(found.videos[name]))
            for name in sorted(found.videos.keys() - found.labels.keys())
        ]
        notes += [
            ("reported", "labels without video", "", name, f"{len(found.labels[name])} files")
            for name in sorted(found.labels.keys() - found.videos.keys())
        ]
        return _seconds(videos), columns.troubles(notes)

    @staticmethod
    def grouped(utterances: pd.DataFrame) -> pd.DataFrame:
        """The utterances, those in quarantine that begin when their video is over.

        Labels and video differ by a second or so: what does not exist is no example of anything.
        """
        over = utterances["start"] >= utterances["duration"]
        over &= utterances["quarantine"] == ""
        return utterances.assign(quarantine=utterances["quarantine"].mask(over, BEYOND))


# --- videos --------------------------------------------------------------------------------------


def _video(
    folder: Path, name: str, file: preparation.File, files: list[layout.Label]
) -> tuple[dict, list[tuple]]:
    """What all annotators say of one video, and troubles: those of it and of its label files."""
    given, notes = _annotators(folder, name, files)
    seconds = max((len(marks.seconds) for marks in given), default=1)
    codes = [marks.class_code for marks in given if marks.class_code]
    if len({*codes}) > 1:
        notes.append(("reported", "annotators differ on class_code", "", name, ", ".join(codes)))
    fault = (KNOWN_BAD if name in BAD else "") or (file.bad and f"video {file.bad}")
    fault = fault or ("" if given else NOBODY)
    if fault:
        notes.append(("quarantined", fault, "speaker", name, f"{seconds} s"))
    marks = [""] * seconds if fault else labels.joined([m.seconds for m in given], seconds)
    return {
        "dialogue": name,
        "wav": "" if file.bad else file.path,
        "quarantine": fault,
        "marks": marks,
        "class_code": codes[0] if codes else "",
        "annotators": ";".join(marks.annotator for marks in given),
    }, notes


def _annotators(
    folder: Path, name: str, files: list[layout.Label]
) -> tuple[list[labels.Marks], list[tuple]]:
    """What the usable label files of one video say, in order of annotators, and troubles."""
    given: dict[str, labels.Marks] = {}
    notes = []
    for annotator, file in files:
        try:
            marks = _marks(folder, name, annotator, file)
            if marks.annotator in given:
                raise labels.Unusable("another one of this annotator is used")
        except labels.Unusable as error:
            reason = f"label file left out: {error}"
            notes.append(("reported", reason, "", name, layout.shown(file)))
            continue
        given[marks.annotator] = marks
        notes += [
            ("reported", reason, "", name, f"{layout.shown(file)}: {detail}")
            for reason, detail in marks.notes
        ]
    kept, length_notes = _of_one_length(name, list(given.values()))
    return sorted(kept, key=lambda marks: marks.annotator), notes + length_notes


def _marks(folder: Path, name: str, annotator: str, file: preparation.File) -> labels.Marks:
    if file.bad:
        raise labels.Unusable(file.bad)
    return labels.read(folder / file.path, name, annotator)


def _of_one_length(name: str, given: list[labels.Marks]) -> tuple[list[labels.Marks], list[tuple]]:
    """Those whose video is as long as most say, give or take DRIFT, and troubles: the others.

    Of two that differ by more the shorter is believed. The longest that is kept counts: what the
    video has not, `grouped` finds out.
    """
    if not given:
        return [], []
    usual = statistics.median_low(marks.length for marks in given)
    kept = [marks for marks in given if abs(marks.length - usual) <= DRIFT]
    notes = []
    if len({marks.length for marks in given}) > 1:
        lengths = ", ".join(f"{marks.annotator} {marks.length:g} s" for marks in given)
        notes.append(("reported", "annotators differ on the length", "", name, lengths))
    for marks in given:
        if abs(marks.length - usual) > DRIFT:
            detail = f"{marks.annotator} {marks.length:g} s, others {usual:g} s"
            reason = "label file left out: another length"
            notes.append(("reported", reason, "", name, detail))
    return kept, notes


def _seconds(videos: list[dict]) -> pd.DataFrame:
    """One row a second, of one row a video."""
    table = pd.DataFrame(videos)
    counts = table["marks"].map(len)
    if counts.sum() > MOST:
        raise UserError(
            f"{len(videos)} videos have {counts.sum():,} seconds, more than {MOST:,}; "
            f"name a folder with fewer"
        )
    table = table.assign(
        session=table["dialogue"].map(layout.group), kind=table["dialogue"].map(layout.category)
    )
    rows = table.loc[table.index.repeat(counts)]
    second = rows.groupby(level=0).cumcount().to_numpy()
    names = zip(rows["dialogue"], second, strict=True)
    return rows.reset_index(drop=True).assign(
        corpus="aihub_highlight",
        role="speaker",
        speaker="",
        text="",
        emotion="",
        segment=[f"{name}#{number:05d}" for name, number in names],
        start=second.astype(float),
        end=second + 1.0,
        valence=np.nan,
        arousal=np.nan,
        marks=[text for video in videos for text in video["marks"]],
        **dict.fromkeys(VOTES, np.nan),
    )[[*columns.COLUMNS, *Reader.COLUMNS]]

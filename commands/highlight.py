"""Cut the highlights out of a video, with a trained highlight model.

    python main.py highlight VIDEO.mp4 --run RUN --out CLIP.mp4                    15 % of it
    python main.py highlight VIDEO.mp4 --run RUN --out CLIP.mp4 --budget 10%
    python main.py highlight VIDEO.mp4 --run RUN --out CLIP.mp4 --threshold 0.7
    python main.py highlight VIDEO.mp4 --run RUN --out CLIP.mp4 --top 5 --timeline

Beside CLIP.mp4 lie CLIP.highlights.json, .csv, .edl and .png, with the score of each second and the
spans that were cut; with --timeline, CLIP.timeline.csv and .png: emotions, arousal and valence over
time. Spans are moved to the quietest moment near their ends, so that no word is cut in two.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from commands import Subcommand
from evaluation.highlights import selection
from inference import clip, video
from media import cutting
from training import run_folder
from utils import Unusable, UserError, setting

BUDGET = 0.15  # of the video, where nothing is said: the middle of what annotators marked
CHOICES = ("budget", "threshold", "top")


def _share(text: str) -> float:
    """15% or 0.15 -> 0.15."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"needs a share of the video, 15% or 0.15, got {text!r}")
    return value


@dataclass(frozen=True)
class Settings(video.VideoSettings):
    """The video, the run, and how much is cut."""

    video: str = setting(
        "",
        "any length, frame rate and sampling rate, with sound or not",
        position=True,
        required=True,
        metavar="VIDEO",
    )
    run: str = setting("", "a finished run of a highlight model", required=True, metavar="RUN")
    out: str = setting("", "the video to write", required=True, metavar="CLIP")
    budget: float | None = setting(
        None, "how much of it, 15% or 0.15 (default: 15%)", read=_share, metavar="SHARE"
    )
    threshold: float | None = setting(
        None,
        "in place of a budget: all seconds of at least this score",
        least=0,
        most=1,
        metavar="P",
    )
    top: int | None = setting(None, "the same: the K best clips", least=1, metavar="K")
    smooth: float = setting(3.0, "s that scores are averaged over", least=0, metavar="S")
    shortest: int = setting(3, "s of a clip at least", least=1, metavar="S")
    snap: float = setting(
        0.5, "s that an end is moved at most, to a pause; 0: not at all", least=0, metavar="S"
    )
    timeline: bool = setting(False, "emotions over time, too, of its --emotion_run")


class Command(Subcommand):
    """Cut the best of a video."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
        """Score every second, choose, cut, write what was cut and why."""
        how = _chosen(settings)
        path, out = Path(settings.video), Path(settings.out)
        _check(path, out)
        run = run_folder.find(settings.run, settings.save_path)
        timeline = video.timeline(path, run, settings) if settings.timeline else None
        watched = video.watch(path, run, settings)
        spans = clip.snapped(
            _spans(watched.scores, how, settings), watched.level, settings.snap, watched.seconds
        )
        _cut(path, out, spans)
        for written in clip.write(out, path, watched, spans, how, run):
            print(f"written: {written}")
        if timeline is not None:
            for written in clip.write_timeline(out, timeline):
                print(f"written: {written}")
        total = sum(end - start for start, end in spans)
        many = "clip" if len(spans) == 1 else "clips"
        print(f"{out}: {len(spans)} {many}, {total:.1f} of {watched.seconds:.1f} s")


def _chosen(settings: Settings) -> dict:
    """{"budget": share} or {"threshold": p} or {"top": k}; a UserError for two of them."""
    given = {
        name: value
        for name, value in vars(settings).items()
        if name in CHOICES and value is not None
    }
    if len(given) > 1:
        raise UserError(f"one of --{' and --'.join(given)} at a time")
    return given or {"budget": BUDGET}


def _spans(scores: np.ndarray, how: dict, settings: Settings) -> list:
    """What is cut; where the budget is too small for one clip, the best clip."""
    shape = {"clip": settings.shortest, "smoothing": settings.smooth}
    if spans := selection.selected(scores, **how, **shape):
        return spans
    if "budget" in how:
        print(f"a budget of {how['budget']:.0%} has no room for a clip: the best one is cut")
        return selection.selected(scores, top=1, **shape)
    best = selection.smoothed(scores, settings.smooth).max()
    raise UserError(
        f"no second reaches --threshold {how['threshold']:g}; the best one has {best:.3f}"
    )


def _check(path: Path, out: Path) -> None:
    """A UserError for what would fail after minutes of work."""
    if not path.is_file():
        raise UserError(f"no video {path}")
    if out.suffix.lower() not in cutting.KINDS:
        raise UserError(f"--out {out} should end in one of {', '.join(cutting.KINDS)}")
    if not out.absolute().parent.is_dir():
        raise UserError(f"no folder {out.absolute().parent} for --out {out}")
    if out.exists() and out.samefile(path):
        raise UserError(f"--out {out} is the video itself: give another name")


def _cut(path: Path, out: Path, spans: list[tuple[float, float]]) -> None:
    with tqdm(total=round(spans[-1][1], 1), desc="cutting", leave=False, unit="s") as bar:
        try:
            cutting.cut(path, out, spans, lambda done: bar.update(round(max(0.0, done - bar.n), 1)))
        except Unusable as error:
            raise UserError(f"cannot cut {path}: {error}") from error

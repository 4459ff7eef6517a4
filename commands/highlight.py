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
from pathlib import Path

import numpy as np
from tqdm import tqdm

import constants
from evaluation.highlights import selection
from inference import clip, video
from media import cutting
from training import flags, run_folder
from utils import Unusable, UserError

BUDGET = 0.15  # of the video, where nothing is said: the middle of what annotators marked
CHOICES = ("budget", "threshold", "top")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The video, the run, and how much is cut."""
    add = parser.add_argument
    add(
        "video", metavar="VIDEO", help="any length, frame rate and sampling rate, with sound or not"
    )
    add("--run", required=True, metavar="RUN", help="a finished run of a highlight model")
    add("--out", required=True, metavar="CLIP", help="the video to write")
    add(
        "--budget",
        type=_share,
        metavar="SHARE",
        help="how much of it, 15%% or 0.15 (default: 15%%)",
    )
    add(
        "--threshold",
        type=flags.number(float, 0, 1),
        metavar="P",
        help="in place of a budget: all seconds of at least this score",
    )
    add("--top", type=flags.number(int, 1), metavar="K", help="the same: the K best clips")
    add(
        "--smooth",
        type=flags.number(float, 0),
        default=3.0,
        metavar="S",
        help="s that scores are averaged over (default: %(default)g)",
    )
    add(
        "--shortest",
        type=flags.number(int, 1),
        default=3,
        metavar="S",
        help="s of a clip at least (default: %(default)g)",
    )
    add(
        "--snap",
        type=flags.number(float, 0),
        default=0.5,
        metavar="S",
        help="s that an end is moved at most, to a pause (default: %(default)g; 0: not at all)",
    )
    add("--timeline", action="store_true", help="emotions over time, too, of its --emotion_run")
    _places(add)


def _places(add) -> None:
    add(
        "--emotion_run",
        metavar="RUN",
        help="lstm_audio runs, where they were moved, or for --timeline alone",
    )
    add("--vision_encoder", metavar="ID", help="where the run's encoder is now")
    add("--save_path", default=constants.SAVE_PATH, help="where the runs are")
    add("--gpu_id", type=flags.number(int, -1), metavar="ID", help="GPU to use; -1: the CPU")


def _share(text: str) -> float:
    """15% or 0.15 -> 0.15."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"needs a share of the video, 15% or 0.15, got {text!r}")
    return value


def main(settings: argparse.Namespace) -> None:
    """Score every second, choose, cut, write what was cut and why."""
    how = _chosen(settings)
    path, out = Path(settings.video), Path(settings.out)
    _check(path, out)
    run = run_folder.find(settings.run, settings.save_path)
    felt = video.timeline(path, run, settings) if settings.timeline else None
    watched = video.watch(path, run, settings)
    spans = clip.snapped(
        _spans(watched.scores, how, settings), watched.level, settings.snap, watched.seconds
    )
    _cut(path, out, spans)
    for written in clip.write(out, path, watched, spans, how, run):
        print(f"written: {written}")
    if felt is not None:
        for written in clip.write_timeline(out, felt):
            print(f"written: {written}")
    total = sum(end - start for start, end in spans)
    many = "clip" if len(spans) == 1 else "clips"
    print(f"{out}: {len(spans)} {many}, {total:.1f} of {watched.seconds:.1f} s")


def _chosen(settings: argparse.Namespace) -> dict:
    """{"budget": share} or {"threshold": p} or {"top": k}; a UserError for two of them."""
    said = {
        name: getattr(settings, name) for name in CHOICES if getattr(settings, name) is not None
    }
    if len(said) > 1:
        raise UserError(f"one of --{' and --'.join(said)} at a time")
    return said or {"budget": BUDGET}


def _spans(scores: np.ndarray, how: dict, settings: argparse.Namespace) -> list:
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

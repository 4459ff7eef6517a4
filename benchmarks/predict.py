"""What `predict` costs: real time, cold start, memory, and torch beside onnxruntime.

    PYTHONPATH=. python benchmarks/predict.py RUN FOLDER            an exported run, recordings
    PYTHONPATH=. python benchmarks/predict.py RUN FOLDER --hours 10 and a long folder of links

RUN holds `onnx/` (python main.py export RUN --onnx). Sides take turns; medians are printed.
Decoding, mel and windows are in the real-time factor, imports and opening the model are not: those
are the cold start, of a process of its own with one recording.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from benchmarks.measure import Side, machine
from inference import opening, predictor, recordings, trained

SIDES = ("torch", "onnx", "int8")
ROOT = Path(__file__).resolve().parents[1]


def opened(run: str, side: str) -> predictor.Predictor:
    """The model of a run, by one of the SIDES."""
    if side == "torch":
        return trained.of_run(Path(run))
    return opening.of_export(Path(run) / "onnx", int8=side == "int8")


def streaming(run: str, side: str, folder: str, most: int) -> Callable:
    """A call lists, hears and judges `most` recordings: s of sound, s it took."""
    judge = opened(run, side)

    def work() -> tuple[float, float]:
        began = time.perf_counter()
        rows = recordings.utterances([folder], progress=False).iloc[:most]
        for _ in judge.stream(rows):
            pass
        return float(rows["duration"].sum()), time.perf_counter() - began

    return work


def judging(run: str, side: str, folder: str, most: int) -> Callable:
    """A call judges windows that are ready: s a window."""
    judge = opened(run, side)
    rows = recordings.utterances([folder], progress=False).iloc[:most]
    with tempfile.TemporaryDirectory() as place:
        held = judge.hold(recordings.pieces(rows, Path(place)))

    def work() -> float:
        began = time.perf_counter()
        judge.judged(held, np.arange(len(rows)))
        return (time.perf_counter() - began) / len(rows)

    return work


def turns(make: Callable, arguments: argparse.Namespace, most: int, times: int) -> dict[str, list]:
    """What each side answers, in turn, after one call that is not counted."""
    sides = {name: Side(make, arguments.run, name, arguments.folder, most) for name in SIDES}
    found: dict[str, list] = {name: [] for name in SIDES}
    for round_ in range(times + 1):
        for name, side in sides.items():
            answer = side()
            if round_ > 0:
                found[name].append(answer)
    for side in sides.values():
        side.__exit__()
    return found


def cold(run: str, wav: Path, onnx: bool, text: bool) -> float:
    """s of a whole process that judges one recording, with its words or without."""
    with tempfile.TemporaryDirectory() as place:
        wav = Path(shutil.copy(wav, place))
        said = ["--text", "오늘 왜 이렇게 늦었어"] if text else []
        words = [
            sys.executable,
            str(ROOT / "main.py"),
            "predict",
            run,
            str(wav),
            "--force",
            "--out",
            f"{place}/o",
            *said,
            *(["--onnx"] if onnx else []),
        ]
        began = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - began


def long(arguments: argparse.Namespace) -> None:
    """Peak memory of `predict --onnx` on a folder of so many hours, and on a tenth of it."""
    files = sorted(Path(arguments.folder).rglob("*.wav"))
    rows = recordings.utterances(files, progress=False)
    usable = rows[rows["quarantine"] == ""]
    for hours in (arguments.hours / 10, arguments.hours):
        copies = int(np.ceil(hours * 3600 / usable["duration"].sum()))
        with tempfile.TemporaryDirectory() as place:
            for copy in range(copies):
                talk = Path(place) / f"in/{copy:05d}"
                talk.mkdir(parents=True)
                for row in usable.itertuples():
                    (talk / Path(row.file).name).symlink_to(Path(row.file).resolve())
            words = [
                sys.executable,
                str(ROOT / "main.py"),
                "predict",
                arguments.run,
                f"{place}/in",
                "--onnx",
                "--force",
                "--out",
                f"{place}/o",
            ]
            began = time.perf_counter()
            peak = watched(subprocess.Popen(words, stdout=-3, stderr=-3))
            took = time.perf_counter() - began
        seconds = copies * usable["duration"].sum()
        print(
            f"{seconds / 3600:.1f} h, {copies * len(usable):,} recordings: {took:.0f} s, "
            f"{seconds / took:.0f} x real time, peak {peak:.0f} MB",
            flush=True,
        )


def watched(process: subprocess.Popen) -> float:
    """MB that a process held at most, looked at 5 times a second."""
    peak, seen = 0.0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, seen.memory_info().rss / 1e6)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    if process.wait():
        raise SystemExit(f"predict ended with {process.returncode}")
    return peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("folder")
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--most", type=int, default=64)
    arguments = parser.parse_args()
    print(machine())
    if arguments.hours:
        long(arguments)
        return 0
    for name, answers in turns(streaming, arguments, arguments.most, arguments.times).items():
        factors = [sound / took for sound, took in answers]
        print(
            f"{name:6} {median(factors):6.1f} x real time ({min(factors):.1f}-{max(factors):.1f})"
            f", {answers[0][0]:.0f} s of sound",
            flush=True,
        )
    found = turns(judging, arguments, 32, arguments.times)
    for name, answers in found.items():
        pairs = [a / b for a, b in zip(answers, found["torch"], strict=True)]
        print(
            f"{name:6} {1000 * median(answers):6.1f} ms a window, {median(pairs):.3f} of torch's",
            flush=True,
        )
    wav = next(iter(sorted(Path(arguments.folder).rglob("*.wav"))))
    for onnx, text in itertools.product((False, True), (False, True)):
        took = [cold(arguments.run, wav, onnx, text) for _ in range(4)][1:]
        what = f"{'onnx' if onnx else 'torch'}, {'with' if text else 'without'} text"
        print(f"cold start, {what}: {median(took):.2f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the fast path saves: `PYTHONPATH=. python benchmarks/speed.py [--only step,epoch] [--gpu]`

Ours and the plain way of 2022 (`reference.py`) take turns in one run, each in a process of its own
(`sides.py`); the table shows medians. All of it is measured on a synthetic corpus, made for that in
a temporary folder. `--smoke` takes tiny sizes, to see that it works: its numbers mean nothing.
"""

import argparse
import contextlib
import functools
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import gpu, measure, parity, sides
from benchmarks.measure import Row, Side, at_least, at_most, take_turns
from corpora.preparation import corpus
from utils import leaf

TRAINED, DIALOGUES = 16, 10  # sessions trained on (of 20), dialogues of a session
UTTERANCE = 2.5  # s, mean of the synthetic corpus
STEP_BARS = {"bf16": 0.45, "float32": 0.8}
EPOCH_BARS = {"bf16": 0.42, "float32": 0.7}


def extraction(options: argparse.Namespace) -> list[Row]:
    """Log-mel of new wavs: read, decode, transform, cache; start-up of the library included."""
    corpus.open_corpus(sides.LONG)  # its tables: not what is measured
    short = options.hours / 5
    with Side(sides.plain_transform) as plain:
        found = {"plain": [], "short": [], "long": []}
        for _ in range(options.repeats):
            found["plain"].append(plain())
            for name, hours in (("short", short), ("long", options.hours)):
                with Side(sides.our_extraction, hours, options.threads) as ours:
                    found[name].append((*ours(), ours.peak))
    rate, hours, peak = (float(np.median(column)) for column in zip(*found["long"], strict=True))
    _, less, peak_short = (float(np.median(c)) for c in zip(*found["short"], strict=True))
    plain_rate = float(np.median(found["plain"]))
    memory = f"{peak_short:,.0f} MB for {less:.2f} h, {peak:,.0f} MB for {hours:.2f} h"
    return [
        Row(
            f"log-mel of new wavs, {hours:.2f} h, times real time",
            f"{plain_rate:,.0f}",
            f"{rate:,.0f}",
            f"{rate / plain_rate:.1f} x",
            ">= 2,000",
            measure.yes(rate >= 2000),
        ),
        measure.alone("its peak memory", memory, "<= 1,500 MB", peak <= 1500),
    ]


def delivery(options: argparse.Namespace) -> list[Row]:
    """Windows a second that reach the training step, and what that is of the step."""
    size = options.batch_size
    with (
        Side(sides.plain_delivery, size) as plain,
        Side(sides.our_delivery, size) as ours,
        Side(sides.our_step, size, sides.precisions()[0], options.steps) as step,
    ):
        found = take_turns({"plain": plain, "ours": ours, "step": step}, options.repeats)
    share = size / found["ours"] / found["step"]
    return [
        at_least(f"windows delivered, batch {size}", found["plain"], found["ours"], 25, "/s"),
        measure.alone(
            f"delivery as a share of our step ({sides.precisions()[0]})",
            f"{share:.1%}",
            "<= 5 %",
            share <= 0.05,
        ),
    ]


def step(options: argparse.Namespace) -> list[Row]:
    """Seconds a training step, the batch in memory."""
    size, kinds = options.batch_size, sides.precisions()
    with contextlib.ExitStack() as stack:
        made = {"plain": stack.enter_context(Side(sides.plain_step, size, options.steps))}
        for kind in kinds:
            made[kind] = stack.enter_context(Side(sides.our_step, size, kind, options.steps))
        found = take_turns(made, options.repeats)
    what = f"training step of {size} windows"
    return [at_most(f"{what}, {k}", found["plain"], found[k], STEP_BARS[k]) for k in kinds]


def epoch(options: argparse.Namespace) -> list[Row]:
    """A whole epoch, from the wavs (reference) or from the cache (ours, as main.py says)."""
    size, kinds = options.batch_size, sides.precisions()
    with Side(sides.plain_epoch, size) as plain:
        ours = {kind: functools.partial(sides.our_epoch, size, kind) for kind in kinds}
        found = take_turns({"plain": plain} | ours, options.epochs, warm=False)
    what = f"epoch of {options.windows} windows"
    return [at_most(f"{what}, {k}", found["plain"], found[k], EPOCH_BARS[k]) for k in kinds]


def start(options: argparse.Namespace) -> list[Row]:
    """From starting `python main.py` on prepared data to the end of its first training step."""
    sides.opened(options.batch_size)  # prepared, and in the page cache
    seconds = float(np.median([sides.until_first_step(options) for _ in range(options.repeats)]))
    return [
        measure.alone(
            "prepared data: start of main.py to the first step done",
            f"{seconds:.2f} s",
            "<= 8 s",
            seconds <= 8,
        )
    ]


def test(options: argparse.Namespace) -> list[Row]:
    """Utterances a second of the loop behind --test_only; float32 on both sides."""
    with (
        Side(sides.plain_test, options.batch_size) as plain,
        Side(sides.our_test, options.batch_size) as ours,
    ):
        found = take_turns({"plain": plain, "ours": ours}, options.epochs, warm=False)
    what = f"--test_only, {options.windows} utterances"
    return [at_least(what, found["plain"], found["ours"], 2.2, "/s")]


def parity_rows(options: argparse.Namespace) -> list[Row]:
    """The same losses, and bf16 against float32."""
    with Side(_parity, options.batch_size, options.parity_steps, options.parity_sr) as side:
        return side()


def _parity(batch_size: int, steps: int, sr: int) -> Callable[[], list[Row]]:
    _, _, windows = sides.opened(batch_size)
    return functools.partial(parity.rows, windows, batch_size, steps, sr)


SECTIONS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "extraction": extraction,
    "delivery": delivery,
    "step": step,
    "epoch": epoch,
    "start": start,
    "test": test,
    "parity": parity_rows,
}


def make_corpus(windows: int) -> None:
    """A synthetic corpus with so many windows to train on, in the working folder."""
    dialogues = min(DIALOGUES, windows // TRAINED)
    utterances, rest = divmod(windows, TRAINED * dialogues)
    if rest:
        raise SystemExit(f"windows should be a multiple of {TRAINED * DIALOGUES}, not {windows}")
    leaf("corpora", "sample").write(Path(sides.CORPUS), dialogues=dialogues, utterances=utterances)


def make_long_corpus(hours: float) -> None:
    """A synthetic corpus with so many hours of sound, in the working folder."""
    utterances = math.ceil(1.05 * hours * 3600 / (20 * DIALOGUES * UTTERANCE))
    leaf("corpora", "sample").write(Path(sides.LONG), dialogues=DIALOGUES, utterances=utterances)


def arguments() -> argparse.Namespace:
    """Sizes; `--smoke` overrides them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--only", help=f"sections, of {','.join(SECTIONS)} (default: all; none with --gpu)")
    add("--threads", type=int, default=os.cpu_count(), help="of both sides (default: all cores)")
    add("--windows", type=int, default=800, help="trained on and tested")
    add("--batch_size", type=int, default=64)
    add("--steps", type=int, default=5, help="timed together in a turn")
    add("--repeats", type=int, default=3, help="turns of which the median is shown")
    add("--epochs", type=int, default=1, help="turns of whole epochs and tests")
    add("--hours", type=float, default=5.1, help="of sound to extract")
    add("--parity_steps", type=int, default=50, help="of training in bf16 and in float32")
    add("--parity_sr", type=int, default=16_000, help="Hz; less makes float64 parity faster")
    add("--gpu", nargs="?", const="cuda", help="the CUDA section; `cpu`: a dry run of it")
    add("--gpu_windows", type=int, default=8320, help="of an epoch there")
    add("--peak", type=float, default=gpu.PEAK, help="FLOP/s of the GPU in bf16, dense")
    add("--out", type=Path, help="a file for the table as well")
    add("--smoke", action="store_true", help="tiny sizes, in place of all of these")
    options = parser.parse_args()
    if options.smoke:
        options.__dict__ |= {
            "windows": 64,
            "batch_size": 4,
            "steps": 1,
            "repeats": 1,
            "hours": 0.05,
            "parity_steps": 2,
            "parity_sr": 3000,
            "gpu_windows": 32,
        }
    return options


def cpu_rows(options: argparse.Namespace, names: list[str]) -> list[Row]:
    """Those sections, in a folder that is gone afterwards."""
    rows = []
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        make_corpus(options.windows)
        if "extraction" in names:
            make_long_corpus(options.hours)
        for name in names:
            print(f"measuring {name}", file=sys.stderr)
            rows += SECTIONS[name](options)
    return rows


def gpu_rows(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The CUDA section and its notes; where there is no such device, a note that says so."""
    if options.gpu == "cuda" and not torch.cuda.is_available():
        return [], ["No CUDA device here: that section was skipped."]
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        make_corpus(options.gpu_windows)
        return gpu.rows(options)


def main() -> None:
    """Measure, print one table, and the machine under it."""
    options = arguments()
    # read by each side when it starts
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "TQDM_DISABLE": "1"}
    names = [] if options.gpu else list(SECTIONS)
    if options.only:
        names = options.only.split(",")
    if unknown := sorted(set(names) - set(SECTIONS)):
        raise SystemExit(f"no section {unknown[0]!r}; there are: {', '.join(SECTIONS)}")
    rows, notes = [], []
    out = options.out.resolve() if options.out else None
    if names:
        rows = cpu_rows(options, names)
    if options.gpu:
        more, notes = gpu_rows(options)
        rows += more
    head = ("what", "reference", "ours", "ours / reference", "bar", "reached")
    table = [measure.markdown(head, rows)] if rows else []
    text = "\n\n".join([measure.machine(), *table, *notes]) + "\n"
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()

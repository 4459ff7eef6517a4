"""What the benchmarks share: processes that take turns, peak memory, rows of a table, the machine.

Each side of a comparison lives in a process of its own, with its own memory, allocator and threads,
and only one of them computes at a time.
"""

import multiprocessing
import os
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple


class Side:
    """`make(*arguments)` in a fresh process; calling the Side runs there what that returned.

    Use it with `with`: leaving ends the process. `peak`: its memory in MB, after each call.
    """

    def __init__(self, make: Callable[..., Callable], *arguments: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        # not a daemon: the reference's DataLoader starts a process of its own
        self.process = spawn.Process(target=_serve, args=(theirs, os.getcwd(), make, arguments))
        self.process.start()
        theirs.close()
        self.peak = 0.0
        self._answer()  # made

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()  # the other end reads that as the end
        self.process.join()

    def __call__(self, *arguments: Any) -> Any:
        self.pipe.send(arguments)
        return self._answer()

    def _answer(self) -> Any:
        try:
            value, self.peak = self.pipe.recv()
        except EOFError:
            raise RuntimeError("a side of the comparison ended; what it said is above") from None
        return value


def _serve(pipe: Any, place: str, make: Callable[..., Callable], arguments: tuple) -> None:
    os.chdir(place)  # spawn starts where the benchmark was started
    work = make(*arguments)
    pipe.send((None, peak_memory()))
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        pipe.send((work(*asked), peak_memory()))


def take_turns(
    sides: dict[str, Callable[[], float]], times: int, warm: bool = True
) -> dict[str, float]:
    """What each side returns, median of `times`; `warm`: each is called once before, unmeasured."""
    if warm:
        for side in sides.values():
            side()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(times):
        for name, side in sides.items():
            found[name].append(side())
    return {name: median(values) for name, values in found.items()}


def peak_memory() -> float:
    """MB this process has held at most; pages of mapped files count.

    Not `getrusage`: a process starts with its parent's peak as its own.
    """
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


# --- tables --------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the table."""

    what: str
    reference: str
    ours: str
    ratio: str
    bar: str
    reached: str


def at_least(what: str, reference: float, ours: float, bar: float, unit: str) -> Row:
    """More is better: `bar` is ours / reference."""
    ratio = ours / reference
    return Row(
        what,
        f"{number(reference)} {unit}",
        f"{number(ours)} {unit}",
        f"{ratio:.2f} x",
        f">= {bar:g} x",
        yes(ratio >= bar),
    )


def at_most(what: str, reference: float, ours: float, bar: float, unit: str = "s") -> Row:
    """Less is better: `bar` is ours / reference."""
    ratio = ours / reference
    return Row(
        what,
        f"{number(reference)} {unit}",
        f"{number(ours)} {unit}",
        f"{ratio:.3f} x",
        f"<= {bar:g} x",
        yes(ratio <= bar),
    )


def alone(what: str, ours: str, bar: str = "", reached: bool | None = None, other="") -> Row:
    """A figure with a bar of its own, or without one."""
    return Row(what, other, ours, "", bar, "" if reached is None else yes(reached))


def yes(reached: bool) -> str:
    return "yes" if reached else "no"


def number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(head: tuple[str, ...], rows: list[tuple]) -> str:
    """A table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine() -> str:
    """Processor, cores, torch and threads in one line."""
    import torch

    from training import devices  # torch

    kinds = [
        line.partition(":")[2].strip()
        for line in _lines("/proc/cpuinfo")
        if line.startswith("model name")
    ]
    bf16 = "with" if devices.use_bf16("auto", torch.device("cpu")) else "without"
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return (
        f"{kinds[0] if kinds else platform.processor()}, {os.cpu_count()} cores, {bf16} bf16 "
        f"instructions; torch {torch.__version__}, threads: {threads}; Python "
        f"{platform.python_version()}, {platform.system()} {platform.release()}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []

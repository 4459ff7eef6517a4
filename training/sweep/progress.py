"""What a sweep shows while it trains: one line, read off the folders of its runs."""

import sys
import threading
from pathlib import Path

from tqdm import tqdm

from training import run_folder
from training.console import LOG
from training.sweep.grid import GridPoint


class Board:
    """One line: epochs done of all points and the time left; points done, running, failed."""

    def __init__(self, grid: list[GridPoint], runs: Path):
        self.runs, self.failed, self.running = runs, {}, 0
        self.epochs = {point.name: point.settings.epochs for point in grid}
        self.done = {name for name in self.epochs if self._is_done(name)}
        self.over = threading.Event()
        left = {name for name in self.epochs if name not in self.done}
        self.begun = {name: self._trained(name) for name in left}
        self.bar = tqdm(
            total=sum(self.epochs[name] for name in left),
            unit="epoch",
            dynamic_ncols=True,
            initial=sum(self.begun.values()),
            desc="sweep",
            file=sys.stderr,
        )
        self.watch = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Board":
        self.watch.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.watch.join()
        self.bar.close()

    def ended(self, name: str, error: str) -> None:
        """Note how a point ended, and say so."""
        if error:
            self.failed[name] = error
        else:
            self.done.add(name)
        self.running = max(0, self.running - 1)
        what = f"failed: {error}" if error else "done"
        self.bar.write(f"{len(self.done)}/{len(self.epochs)} {name} {what}", file=sys.stdout)
        self.refresh()

    def refresh(self) -> None:
        """Count again what the folders show."""
        trained = {n: self.epochs[n] if n in self.done else self._trained(n) for n in self.begun}
        self.bar.n = sum(trained.values())
        counts = {"done": len(self.done), "running": self.running, "failed": len(self.failed)}
        self.bar.set_postfix_str(", ".join(f"{n} {what}" for what, n in counts.items()))

    def _watch(self) -> None:
        while not self.over.wait(1.0):
            self.refresh()

    def _is_done(self, name: str) -> bool:
        return run_folder.is_finished(self.runs / name)

    def _trained(self, name: str) -> int:
        try:
            return (self.runs / name / LOG).read_bytes().count(b"\n")
        except OSError:
            return 0

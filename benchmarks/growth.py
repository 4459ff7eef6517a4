"""How cost grows with the corpus: `PYTHONPATH=. python benchmarks/growth.py`

Time and peak memory of preparing, extracting, training an epoch and testing at 1, 4 and 16 times
the size, each in a process of its own. From size to size time should grow by 4 at the most, and
memory not at all but for the features: they are a file mapped into memory, and what was read of it
counts until the system needs the room. The default model; a fifth of the sessions is tested.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import dataset
import main as command_line
import model as models
from benchmarks import measure, sides
from benchmarks.measure import Side
from training import flags as training_flags
from utils import leaf

SIZES = {"1x": (5, 2), "4x": (10, 4), "16x": (20, 8)}  # sessions, dialogues of each
EPOCHS = 2  # the second one is shown


def flags(sessions: int, smoke: bool) -> list[str]:
    """The command line of a run on so many sessions."""
    tested = [str(session + 1) for session in range(sessions // 5)]
    tiny = ["--modality", "text", "--hidden_size", "8"] if smoke else []
    return [*sides.flags(batch_size=16), "--test_split", *tested, "--epochs", str(EPOCHS), *tiny]


def quietly(arguments: list[str]) -> float:
    """Seconds of `python main.py ...`, in this process."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = command_line.main(arguments)
    if code:
        raise RuntimeError(f"main.py {' '.join(arguments)} ended with {code}")
    return time.perf_counter() - start


def prepare() -> Callable[[list[str]], float]:
    """-> seconds to read the corpus, listen to it and write its tables."""
    return lambda given: quietly(["prepare", "--data", sides.CORPUS])


def extract() -> Callable[[list[str]], float]:
    """-> seconds to extract both features."""
    import librosa.filters  # noqa: F401  a second, whatever the size

    def work(given: list[str]) -> float:
        settings, _, _ = training_flags.parse(given)
        start = time.perf_counter()
        dataset.open_material(settings, models.inputs(settings.model, vars(settings)))
        return time.perf_counter() - start

    return work


def epoch() -> Callable[[list[str]], float]:
    """-> seconds of the last epoch of a run, as it tells them."""

    def work(given: list[str]) -> float:
        quietly([*given, "--save_path", "exp"])
        return sides.told_seconds(Path("exp"))[-1]

    return work


def test() -> Callable[[list[str]], float]:
    """-> seconds to test that run again: intervals, pictures and page included."""

    def work(given: list[str]) -> float:
        [weights] = Path("exp").glob("*/model.pth")
        return quietly(["--test_only", str(weights.parent), "--gpu_id", "-1"])

    return work


PARTS = (prepare, extract, epoch, test)  # in this order: each goes on with what the last one left


def cost(size: str, utterances: int, smoke: bool) -> dict[str, float]:
    """Everything that is measured at one size: `seconds/<part>`, `MB/<part>`, rows, cache."""
    sessions, dialogues = SIZES[size]
    leaf("corpora", "sample").write(
        Path(sides.CORPUS), sessions=sessions, dialogues=dialogues, utterances=utterances
    )
    found = {"utterances": float(sessions * dialogues * utterances)}
    for make in PARTS:
        print(f"measuring {make.__name__} at {size}", file=sys.stderr)
        with Side(make) as side:
            found[f"seconds/{make.__name__}"] = side(flags(sessions, smoke))
            found[f"MB/{make.__name__}"] = side.peak
    cached = Path("data").glob("prepared/*/features/*/data.bin")
    return found | {"cache": sum(path.stat().st_size for path in cached) / 2**20}


def table(found: dict[str, dict[str, float]]) -> str:
    """One line a figure, and what it is multiplied by from size to size."""
    titles = {"utterances": "utterances", "cache": "cache, MB"}
    titles |= {f"seconds/{part.__name__}": f"{part.__name__}, s" for part in PARTS}
    titles |= {f"MB/{part.__name__}": f"{part.__name__}, peak MB" for part in PARTS}
    sizes = list(found)
    lines = []
    for key, title in titles.items():
        values = [found[size][key] for size in sizes]
        grown = np.divide(values[1:], values[:-1])
        lines.append((title, *map(measure.number, values), *(f"{g:.2f}" for g in grown)))
    pairs = zip(sizes, sizes[1:], strict=False)
    return measure.markdown(("", *sizes, *(f"{b} / {a}" for a, b in pairs)), lines)


def main() -> None:
    """Measure size by size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--utterances", type=int, default=6, help="of each dialogue")
    parser.add_argument("--smoke", action="store_true", help="one utterance, a tiny model")
    parser.add_argument("--out", type=Path, help="a file for the table as well")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "TQDM_DISABLE": "1"}
    out = options.out.resolve() if options.out else None
    found = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            utterances = 1 if options.smoke else options.utterances
            found[size] = cost(size, utterances, options.smoke)
    text = f"{measure.machine()}\n\n{table(found)}\n"
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()

"""Record what a user sees of a checkout, and compare two such records byte for byte.

    python benchmarks/golden.py record CHECKOUT OUT_A          about 8 minutes; OUT_A is new
    python benchmarks/golden.py record CHECKOUT OUT_B OUT_A    with the films of OUT_A: see below
    python benchmarks/golden.py compare OUT_A OUT_B            exit code 1 where anything differs

For a change that should change nothing: record the commit before it and the one after it, on the
same machine with the same packages. The commands are listed in golden.txt and run in OUT/work, by
CHECKOUT/.venv/bin/python where there is one: `main.py` and `benchmarks/tiny_*.py` of CHECKOUT,
nothing else of it is called or named. OUT/items/ has a file an item, OUT/sha256.txt their sums,
OUT/seconds.txt how long each command took.

Not compared, because two records of the same code differ in it: times (a step, an epoch, a window,
of day), the git revision and the versions of packages, what event files of TensorBoard hold, eight
digits in a folder's name that stand for an absolute path, progress bars, and the bytes of an ONNX
export, in which torch names the lines of the code that made each node (what it answers is kept).
Not run: `serve`, out-of-fold ensembles, processes that train together. The sample's films are taken
from the first record, because writing them again does not give the same pictures.
"""

import csv
import difflib
import hashlib
import io
import itertools
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# --- what is run ---------------------------------------------------------------------------------

COMMANDS = Path(__file__).resolve().with_suffix(".txt")
SESSIONS = 4  # of the sample corpus are kept in `corpus`: 240 utterances
FILES = {  # in the folder of work, by name
    "grid.txt": """# a comment
--data corpus --test_split [3,4]
{--model kobert --text_encoder tiny_bert --dropout {0.1,0.3},--model functionals}
--epochs 1 --batch_size 16 --precision float32 --gpu_id -1
""",
    "steps.txt": """--data corpus --test_split {[3,4],[1,2]} --model alexnet --seconds 1
--epochs 1 --batch_size {8,16} --precision float32 --gpu_id -1
""",
    "braces.txt": "--data corpus\n{--lr {0.1,0.2}\n",
    "unknown.txt": "--data corpus\n--no_such {1,2}\n",
    "quote.txt": '--data "corpus\n',
    "damaged.wav": "RIFF no sound",
    "lines.csv": """wav,text,speaker,dialogue
corpus/wav/Session04/Sess04_impro01/Sess04_impro01_F001.wav,오늘 정말 고마워,F,talk
corpus/wav/Session04/Sess04_impro01/Sess04_impro01_M001.wav,왜 이제 왔어,M,talk
corpus/wav/Session04/Sess04_impro01/Sess04_impro01_F002.wav,,F,talk
""",
}
LEGACY = """{
  "save_path": "./exp", "backbone": "lstm", "embed_d": 32, "hidden_size": 16, "text_dim": 768,
  "bidirectional": false, "ws": 3, "SorL": "listener", "sr": 16000, "test_split": "[3, 4]",
  "batch_size": 64, "optim": "adam", "loss": "normal", "lam": 0.66, "beta": 0.99, "lr": 0.001,
  "lr_decay": 0.001, "weight_decay": 1e-05, "epochs": 50, "test_only": false,
  "test_path": "DeFaUlT", "gpu_id": "1"
}"""
FILMS = "data/sample_aihub_highlight"
CHANGED = 1_700_000_000  # s since 1970
BYTES = "\udcff\udcfe"  # as Python takes and gives arguments that are not UTF-8


def record(checkout: Path, out: Path, first: Path | None = None) -> None:
    """Run everything, keep what it says and leaves; with the films of a `first` record."""
    began, book = time.monotonic(), Book(checkout, out, first)
    before = {
        "prepare/again": settle,
        "prepare/spoilt": furnish,
        "prepare/corpus": forget,
        "verb/test_kobert": furnish_runs,
    }
    for name, words, patterns in commands(COMMANDS.read_text(encoding="utf-8")):
        if name in before:
            before[name](book)
        book.run(name, words)
        for path in itertools.chain(*(sorted(book.work.glob(p)) for p in patterns)):
            book.keep_folder(name, path)
    book.close()
    print(f"{len(book.sums)} items in {out}, {time.monotonic() - began:.0f} s")


def commands(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """(name, words, patterns of what is kept) of each line."""
    stand = {"BYTES": BYTES}
    for line in text.splitlines():
        if found := re.fullmatch(r"([A-Z0-9]+) = (.*)", line):
            stand[found[1]] = found[2]
        elif line and not line.startswith("#"):
            name, _, rest = string.Template(line).substitute(stand).partition(":")
            words, _, patterns = rest.partition(" -> ")
            yield name, shlex.split(words), patterns.split()


def settle(book: "Book") -> None:
    """Files of the corpora get one time of change, which their fingerprints depend on."""
    if book.first and (book.work / FILMS).exists():
        shutil.rmtree(book.work / FILMS)
        shutil.copytree(book.first / "work" / FILMS, book.work / FILMS)
    for path in book.work.rglob("*"):
        if path.is_file() and "prepared" not in path.parts:
            os.utime(path, (CHANGED, CHANGED))


def furnish(book: "Book") -> None:
    """`corpus`: the sample corpus cut down to a few sessions; `spoilt`, the same with bad files."""
    work = book.work
    os.rename(work / "data/sample", work / "corpus")
    for path in sorted((work / "corpus").rglob("Sess*")):
        number = re.match(r"Sess(?:ion)?(\d+)", path.name)
        if number and int(number[1]) > SESSIONS and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(work / "corpus", work / "spoilt")
    for path in sorted((work / "spoilt").rglob("Sess01_script0*.wav")):
        path.write_bytes(path.read_bytes()[:200])
    for path in sorted((work / "spoilt").rglob("Sess02_script01*.txt")):
        path.unlink()
    for name, text in FILES.items():
        (work / name).write_text(text, encoding="utf-8")
    (work / "bytes.txt").write_bytes(b"--data \xff\n")
    for name in ("empty", "clip"):
        (work / name).mkdir()
    settle(book)
    forget(book)


def forget(book: "Book") -> None:
    """As if nothing in the layout of KEMDy19 had been prepared: one folder at a time is kept."""
    for folder in book.work.glob("data/prepared/kemdy19-*"):
        shutil.rmtree(folder)


def furnish_runs(book: "Book") -> None:
    """A run of 2022, three damaged runs, and a video under a short name."""
    exp = book.work / "exp"
    book.call([book.python, "-P", COMMANDS.with_suffix(".py"), "legacy", exp / "legacy"])
    for name in ("bad_configuration", "bad_weights", "no_weights"):
        shutil.copytree(exp / "kobert", exp / name)
    (exp / "bad_configuration/configuration.json").write_text('{"model": "kobert", "epo')
    weights = (exp / "kobert/model.pth").read_bytes()
    (exp / "bad_weights/model.pth").write_bytes(weights[: len(weights) // 2])
    (exp / "no_weights/model.pth").unlink()
    films = sorted((book.work / FILMS).rglob("*.mp4"))
    shutil.copy(films[0], book.work / "film.mp4")


def legacy(folder: Path) -> None:
    """A folder as the code of 2022 left it, of 16 numbers a state and 3 utterances a window."""
    import torch

    generator, state = torch.Generator().manual_seed(0), {}
    for name, shape in legacy_shapes(16, 3).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(300)
        elif name.endswith("running_var"):
            state[name] = 0.3 + noise.abs()
        elif len(shape) > 1:  # neither vanishing nor saturated
            state[name] = (0.3 if shape[0] == 1 else 2) * noise / noise[0].numel() ** 0.5
        else:
            state[name] = 0.2 * noise + name.endswith((".bn.weight", ".fc.2.weight"))
    folder.mkdir()
    torch.save(state, folder / "model.pth")
    (folder / "configuration.json").write_text(LEGACY)


def legacy_shapes(hidden: int, ws: int) -> dict[str, list[int]]:
    """Names and shapes in model.pth of 2022."""
    shapes = {}

    def normalised(name: str, size: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = [size]
        shapes[f"{name}.num_batches_tracked"] = []

    def perceptron(name: str, *sizes: int, last: int = 0) -> None:
        for i, (width, size) in enumerate(itertools.pairwise(sizes)):
            shapes[f"{name}.{i}.fc.0.weight"] = [size, width]
            shapes[f"{name}.{i}.fc.0.bias"] = [size]
            normalised(f"{name}.{i}.fc.2", size)
        if last:
            shapes[f"{name}.{len(sizes) - 1}.weight"] = [last, sizes[-1]]
            shapes[f"{name}.{len(sizes) - 1}.bias"] = [last]

    for i, (width, size, k) in enumerate([(ws, 32, 3), (32, 48, 3), (48, 32, 5), (32, ws, 7)]):
        shapes[f"audio_embedding.{i}.conv.weight"] = [size, width, k, k]
        normalised(f"audio_embedding.{i}.bn", size)
    for i, width in enumerate([816 + 768, hidden, hidden, hidden]):
        shapes[f"lstm.weight_ih_l{i}"] = [4 * hidden, width]
        shapes[f"lstm.weight_hh_l{i}"] = [4 * hidden, hidden]
        shapes[f"lstm.bias_ih_l{i}"] = shapes[f"lstm.bias_hh_l{i}"] = [4 * hidden]
    perceptron("mlp_emotion", ws * hidden, 2048, 512, 256, 64, last=7)
    perceptron("mlp_av", ws * hidden, 2048, 1024, 512)
    perceptron("mlp_arousal", 519, 128, 32, last=1)
    perceptron("mlp_valence", 519, 128, 32, last=1)
    return shapes


# --- how it is kept ------------------------------------------------------------------------------

VOLATILE = {"started", "git", "versions"}  # keys of JSON files
OTHERS = re.compile(r"(test|predict)_|features/")
UNEQUAL = re.compile(r"\.tfevents\.|(^|/)model\.onnx$")  # files that always differ
TEXTS = {".csv", ".json", ".jsonl", ".md", ".txt", ".html", ".log", ".edl"}
SAME = [  # (pattern, what is kept of it)
    (r"(?<!\d)\d{8}T\d{6}Z(-\d+)?", "<utc>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00| UTC|Z)?", "<time>"),
    (r"((kemdy|aihub)\w+-)[0-9a-f]{8}\b", r"\1<place>"),  # data/prepared/, by absolute path
    (r"\bcompare_[0-9a-f]{8}\b", "compare_<place>"),  # by absolute paths of its runs
    (r"events\.out\.tfevents\.[\w.]+", "events.out.tfevents.<time>"),
    (r"(?m)^\S+ s a step: about .*\n", ""),
    (r"(?m)^(epoch \d+/\d+ .*?)  ?\S+ (s|min|h)$", r"\1 <time>"),
    (r"about [\d.]+ (min|h) with one thread each, so [\d.]+ (min|h)", "about <time>, so <time>"),
    (r"(?m)^(model\.onnx: .*), [\d.]+ MB$", r"\1, <size>"),
    (r'("model\.onnx": )"[0-9a-f]{16}"', r"\1<sum>"),
    (r"(?m)^ms a window: .*", "ms a window: <times>"),
    (r"(?m)^\S*?([\w-]+\.py):\d+: ", "<code>: "),  # of a warning
]


class Book:
    """The items of one record, and the folder in which commands are run."""

    def __init__(self, checkout: Path, out: Path, first: Path | None):
        self.checkout, self.out = checkout.resolve(), out.resolve()
        self.first = first and first.resolve()
        self.work = self.out / "work"
        self.work.mkdir(parents=True)
        own = self.checkout / ".venv/bin/python"
        self.python = str(own) if own.exists() else sys.executable
        self.sums, self.seconds = {}, []
        quiet = {"TQDM_DISABLE": "1", "COLUMNS": "80", "TZ": "UTC", "LANG": "C.UTF-8"}
        alone = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
        self.environment |= quiet | alone
        revision = self.call(["git", "-C", self.checkout, "describe", "--always", "--dirty"])
        self.revision = revision.stdout.decode().strip() or "no revision"

    def call(self, words: list, **more: str) -> subprocess.CompletedProcess:
        """Run words in the folder of work."""
        quiet = {"capture_output": True, "stdin": subprocess.DEVNULL}
        return subprocess.run(words, cwd=self.work, env=self.environment | more, **quiet)

    def run(self, name: str, words: list[str]) -> None:
        """A command; its exit code, stdout and stderr are an item."""
        tiny = bool(words) and words[0].startswith("tiny_")
        script = ["benchmarks", words[0]] if tiny else ["main.py"]
        more = {"PYTHONPATH": str(self.checkout)} if tiny else {}
        began = time.monotonic()
        done = self.call([self.python, self.checkout.joinpath(*script), *words[tiny:]], **more)
        self.seconds.append(f"{time.monotonic() - began:6.1f}  {name}\n")
        out, err = (said.decode(errors="replace") for said in (done.stdout, done.stderr))
        text = f"exit code {done.returncode}\n--- stdout\n{out}--- stderr\n{err}"
        self._write(f"{name}/said.txt", text.encode())

    def keep_folder(self, name: str, folder: Path) -> None:
        """Every file of a folder, but those of folders inside that other commands make."""
        inside = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
        own = {part: path for part, path in inside.items() if not OTHERS.match(part)}
        name = f"{name}/{folder.name}"
        self._write(f"{name}/files.txt", "".join(f"{part}\n" for part in own).encode())
        for part, path in own.items():
            if not UNEQUAL.search(part):
                self._write(f"{name}/{part}", self._held(path))

    def _held(self, path: Path) -> bytes:
        """Text as it is but for what is volatile; of other files the sum."""
        held = path.read_bytes()
        if path.suffix not in TEXTS:
            return f"{hashlib.sha256(held).hexdigest()}  {len(held)} bytes\n".encode()
        text = held.decode(errors="surrogateescape")
        if path.suffix == ".json":
            text = json.dumps(stable(json.loads(text)), indent=1, ensure_ascii=False)
        return text.encode(errors="surrogateescape")

    def _same(self, text: str) -> str:
        """Without what differs between two records of the same code."""
        for place, word in ((self.work, "<work>"), (self.out, "<out>"), (self.checkout, "<code>")):
            text = text.replace(str(place), word)
        text = re.sub(rf"\b{re.escape(self.revision)}(?!\w)", "<git>", text)
        for pattern, kept in SAME:
            text = re.sub(pattern, kept, text)
        return text

    def _write(self, name: str, held: bytes) -> None:
        held = self._same(held.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        flat = re.sub(r"[^\w.<>-]", "_", self._same(name).replace("/", "__"))
        if flat in self.sums:
            sys.exit(f"two items are named {flat}")
        self.sums[flat] = hashlib.sha256(held).hexdigest()
        path = self.out / "items" / flat
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(held)

    def close(self) -> None:
        """Sums and times."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self.sums.items())]
        (self.out / "sha256.txt").write_text("".join(lines), encoding="utf-8")
        (self.out / "seconds.txt").write_text("".join(self.seconds), encoding="utf-8")


def stable(value: object) -> object:
    """JSON without its volatile keys; the order of the others is kept."""
    if isinstance(value, dict):
        drop = VOLATILE | ({"seconds"} if "sound_seconds" in value else set())  # of predict
        return {key: stable(v) for key, v in value.items() if key not in drop}
    return [stable(v) for v in value] if isinstance(value, list) else value


# --- how two are compared ------------------------------------------------------------------------


def compare(one: Path, other: Path) -> int:
    """Print each item equal or different; exit code 1 where any differs."""
    names = sorted({path.name for out in (one, other) for path in (out / "items").iterdir()})
    odd = 0
    for name in names:
        held = [(out / "items" / name) for out in (one, other)]
        if absent := [path for path in held if not path.exists()]:
            said = f"not in {absent[0].parent.parent}"
        else:
            said = difference(name, *(path.read_bytes() for path in held))
        odd += bool(said)
        print(f"{'different' if said else 'equal':<10} {name}")
        if said:
            print(said)
    print(f"{len(names)} items, {odd} different")
    return 1 if odd or not names else 0


def difference(name: str, one: bytes, other: bytes) -> str:
    """What differs, in a few lines; nothing where the bytes are equal."""
    if one == other:
        return ""
    texts = [held.decode(errors="replace") for held in (one, other)]
    lines = list(difflib.unified_diff(*(t.splitlines() for t in texts), "A", "B", "", "", 0, ""))
    more = [f"... {len(lines) - 14} more lines"] if len(lines) > 14 else []
    numbers = [apart(*texts)] if name.endswith(".csv") else []
    return "\n".join(f"    {line[:160]}" for line in [*numbers, *lines[2:14], *more])


def apart(one: str, other: str) -> str:
    """How far the numbers of two tables are apart, and how many other cells differ."""
    rows = [list(csv.reader(io.StringIO(text))) for text in (one, other)]
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return "tables of different shape"
    worst, cells = 0.0, 0
    for a, b in zip(itertools.chain(*rows[0]), itertools.chain(*rows[1]), strict=True):
        if a != b:
            try:
                worst = max(worst, abs(float(a) - float(b)))
            except ValueError:
                cells += 1
    return f"numbers differ by {worst:.3g} at most, {cells} cells that are no numbers"


def main(words: list[str]) -> int:
    """Exit code 2 for words that are no command."""
    if len(words) in (3, 4) and words[0] == "record" and not Path(words[2]).exists():
        record(*map(Path, words[1:]))
        return 0
    if len(words) == 3 and words[0] == "compare":
        return compare(Path(words[1]), Path(words[2]))
    if len(words) == 2 and words[0] == "legacy":
        legacy(Path(words[1]))
        return 0
    print(__doc__.partition("\n\nFor")[0], file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

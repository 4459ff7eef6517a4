"""The house: what stands where, and which way the arrows run. tach.toml holds the arrows."""

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from utils import ROOT

TOP = {"constants", "dataset", "loss", "main", "metric", "model", "utils"}
ROOMS = (
    "commands",
    "corpora",
    "evaluation",
    "features",
    "inference",
    "media",
    "models",
    "reporting",
    "training",
)
ELSEWHERE = {"Preprocessing.py", "folder/NAME.py"}  # a file of 2022, a file of any name
OF_PLUGINS = ("commands", "corpora", "features", "models")
MOST_LINES, MOST_OF_A_FUNCTION, MOST_SKIPS = 400, 45, 20
# an in-house import may wait only for a library that is optional or takes seconds to import
MAY_WAIT = {
    ("main.py", "training.run"): "torch: most subcommands need none",
    ("main.py", "training.run_folder"): "torch: most subcommands need none",
    ("main.py", "training.ensembles.ensemble"): "torch: most subcommands need none",
    ("commands/serve.py", "inference.web.page"): "gradio is optional",
    ("features/emotion_states.py", "model"): "torch: exported models are read without it",
    ("models/encoders/loading.py", "model"): "torch: exported models are read without it",
    ("inference/opening.py", "inference.trained"): "torch: exported models are read without it",
}


def files(pattern: str = "*.py") -> list[Path]:
    """What git knows, and what is new and not ignored."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern]
    names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = [Path(name) for name in names.splitlines() if (ROOT / name).is_file()]
    assert found
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text("utf-8"))


def imports(nodes: Iterable[ast.AST]) -> list[str]:
    """Modules of this project that some nodes of a file import."""
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [part if is_module(part) else node.module for part in parts]
    return [name for name in found if name.partition(".")[0] in TOP | {*ROOMS}]


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def of_the_house() -> list[Path]:
    """Files of the top and of rooms: no tests, benchmarks or docs."""
    return [path for path in files() if path.parts[0] in ROOMS or len(path.parts) == 1]


# --- what stands where --------------------------------------------------------------------------


def test_seven_files_stand_at_the_top():
    assert {path.stem for path in files() if len(path.parts) == 1} == TOP


def test_every_folder_of_python_is_one_that_is_known():
    tops = {path.parts[0] for path in files() if len(path.parts) > 1}
    assert tops == {*ROOMS, "benchmarks", "docs", "tests"}


def test_every_room_and_folder_of_it_says_what_it_is_for():
    folders = {
        folder
        for path in files()
        if path.parts[0] in (*ROOMS, "benchmarks")
        for folder in path.parents
        if folder != Path(".")
    }
    assert len(folders) > len(ROOMS)
    for folder in folders:
        docstring = ast.get_docstring(tree(folder / "__init__.py"))
        assert docstring and "TODO" not in docstring, folder


def test_no_plugin_begins_with_an_underscore():
    names = [path.name for path in files() if path.parts[0] in OF_PLUGINS]
    assert {name for name in names if name.startswith("_")} == {"__init__.py"}


def test_every_file_that_is_named_is_there():
    """By its path or the end of one: `fonts.py`, `layers/svm.py`."""
    there = [f"/{path}" for path in files("*")]
    for path in (path for path in files() if path.parts[0] != "tests"):
        named = set(re.findall(r"[\w/.]*\w\.(?:py|j2|ipynb)\b", (ROOT / path).read_text("utf-8")))
        lost = {n for n in named if not any(p.endswith(f"/{n.lstrip('./')}") for p in there)}
        assert lost - ELSEWHERE == set(), path


# --- how large it is ----------------------------------------------------------------------------


def test_no_file_is_long():
    lines = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in files()}
    assert {path.as_posix(): n for path, n in lines.items() if n > MOST_LINES} == {}


def test_no_function_is_long():
    long = {}
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_OF_A_FUNCTION:
                    long[f"{path}:{node.name}"] = lines
    assert long == {}


def test_the_formatter_is_kept_from_few_lines():
    marks = ("# fmt: " + "skip", "# fmt: " + "off")
    texts = [(ROOT / path).read_text("utf-8") for path in files()]
    assert sum(text.count(mark) for text in texts for mark in marks) <= MOST_SKIPS


# --- how plainly it is written ------------------------------------------------------------------


def test_nothing_is_multiplied_by_a_condition():
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                sides = {node.left, node.right}
                assert not (any(map(is_sequence, sides)) and any(map(is_condition, sides))), (
                    f"{path}:{node.lineno}"
                )


def test_no_conditional_holds_another_or_names_a_value():
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.IfExp):
                parts = [ast.walk(part) for part in (node.test, node.body, node.orelse)]
                held = [type(inner) for part in parts for inner in part]
                assert ast.NamedExpr not in held, f"{path}:{node.lineno}"
                assert not {type(node.body), type(node.orelse)} & {ast.IfExp}, (
                    f"{path}:{node.lineno}"
                )


def is_sequence(node: ast.expr) -> bool:
    literal = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return literal or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple)


def is_condition(node: ast.expr) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if called:
        return node.func.id in ("bool", "any", "all", "isinstance", "hasattr")
    return isinstance(node, ast.Compare | ast.BoolOp)


# --- which way the arrows run -------------------------------------------------------------------


def test_imports_of_this_project_stand_at_the_top_of_a_file():
    found = set()
    for path in of_the_house():
        whole = tree(path)
        waiting = (node for node in ast.walk(whole) if node not in whole.body)
        found |= {(path.as_posix(), module) for module in imports(waiting)}
    assert found == set(MAY_WAIT)


def test_no_files_import_each_other_in_a_circle():
    needs = {}
    for path in of_the_house():
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        needs[name] = set(imports(ast.walk(tree(path)))) - {name}
    list(graphlib.TopologicalSorter(needs).static_order())  # CycleError names the circle


def test_only_benchmarks_and_tests_import_main():
    for path in files():
        if path.parts[0] not in ("benchmarks", "tests"):
            assert "main" not in imports(ast.walk(tree(path))), path


def checked(folder: Path) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "tach", "check"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The Python and the tach.toml of this project, in a folder that may be spoilt."""
    for path in [Path("tach.toml"), *files()]:
        if path.parts[0] not in ("benchmarks", "docs", "tests"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def test_every_arrow_runs_down(copy):
    done = checked(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "refusal"),
    [
        (
            "models/mate.py",
            "import models.kobert",
            "'models.mate' cannot depend on 'models.kobert'",
        ),
        ("models/new.py", "from models import mate", "cannot depend on 'models.mate'"),
        ("features/new.py", "import features.mfcc", "cannot depend on 'features.mfcc'"),
        ("corpora/new.py", "import corpora.sample", "cannot depend on 'corpora.sample'"),
        ("commands/new.py", "import commands.predict", "cannot depend on 'commands.predict'"),
        ("corpora/new.py", "import models.mate", "cannot depend on 'models.mate'"),
        ("evaluation/splits.py", "from training import loop", "is lower than layer 'training'"),
        ("evaluation/splits.py", "import features.store", "cannot depend on 'features.store'"),
        (
            "evaluation/splits.py",
            "def f():\n    import training.loop",
            "lower than layer 'training'",
        ),
        ("training/loop.py", "import training.sweep.grid", "cannot depend on 'training.sweep'"),
        ("training/loop.py", "import inference.predictor", "is lower than layer 'inference'"),
        ("commands/new.py", "import main", "is lower than layer 'main'"),
        ("utils.py", "import constants", "'utils' cannot depend on 'constants'"),
        ("new.py", "import utils", "new.py"),
    ],
)
def test_an_arrow_that_runs_up_or_aside_is_refused(copy, file, line, refusal):
    path = copy / file
    before = path.read_text("utf-8") if path.exists() else '"""A new file."""\n'
    path.write_text(f"{before}\n{line}\n", "utf-8")
    done = checked(copy)
    assert done.returncode != 0 and refusal in done.stdout + done.stderr


def test_a_type_checking_block_hides_no_arrow(copy):
    path = copy / "media/audio.py"
    hidden = "\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import training.loop\n"
    path.write_text(path.read_text("utf-8") + hidden, "utf-8")
    done = checked(copy)
    assert done.returncode != 0 and "is lower than layer 'training'" in done.stdout + done.stderr


@pytest.mark.parametrize("room", OF_PLUGINS)
def test_a_new_plugin_needs_no_line_in_tach_toml(copy, room):
    (copy / room / "new.py").write_text('"""A new plugin."""\n\nimport utils\n', "utf-8")
    done = checked(copy)
    assert done.returncode == 0, done.stdout + done.stderr

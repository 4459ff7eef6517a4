"""A copy of the project, and commands that run in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from utils import ROOT

# what `python` does with each line; starting it anew would cost ten seconds of imports a line
RUNNER = """
import contextlib, io, json, runpy, shlex, sys
outcomes = []
for line in sys.argv[1:]:
    words, code, out = shlex.split(line)[1:], 0, io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            sys.argv = words[1:] if words[0] == "-m" else words
            if words[0] == "-m":
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(words[0], run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
    outcomes.append({"line": line, "code": code, "out": out.getvalue()})
print(json.dumps(outcomes))
"""
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TQDM_DISABLE": "1",
}


def project(place: Path) -> Path:
    """A copy of the code: a link would lead `utils.ROOT` back here, which lacks new files."""
    skip = shutil.ignore_patterns("__pycache__")  # being written by another test
    for folder in {path.parent for path in ROOT.glob("*/__init__.py")}:
        shutil.copytree(folder, place / folder.name, ignore=skip)
    shutil.copytree(ROOT / "tests/doubles", place / "tests/doubles", ignore=skip)
    files = [path for path in ROOT.iterdir() if path.suffix in (".py", ".toml")]
    for path in [*files, ROOT / "tests/conftest.py", ROOT / "tests/test_model.py"]:
        shutil.copy2(path, place / path.relative_to(ROOT))
    return place


def outcomes(place: Path, lines: list[str]) -> tuple[list[dict], str]:
    """`line`, `code` and `out` of each command, run in `place` one after another; and stderr."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, "-c", RUNNER, *lines],
        cwd=place,
        env=env | QUIET,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1]), run.stderr

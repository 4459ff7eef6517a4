"""Both notebooks run top to bottom on a corpus of one's own, and are committed with outputs.

Their outputs, made anew from the sample corpus:   .venv/bin/python tests/docs/test_notebooks.py
"""

import ast
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ["preprocessing", "EDA"]
MOST_BYTES = 1_500_000


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / f"{name}.ipynb", as_version=4)


def run(name: str, folder: Path) -> nbformat.NotebookNode:
    """The notebook with outputs of its own only, executed in `folder`."""
    notebook = read(name)
    for cell in code(notebook):
        cell.outputs = []
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return notebook


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code(notebook) for output in cell.outputs]


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_top_to_bottom_on_the_corpus_that_DATA_names(
    name, workplace, tmp_path, monkeypatch
):
    monkeypatch.setenv("DATA", str(workplace / "corpus"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("TEXT_ENCODER", raising=False)
    notebook = run(name, tmp_path)
    assert not [o for o in outputs(notebook) if o.output_type == "error"]
    assert pictures(notebook) == pictures(read(name))
    assert (tmp_path / "data" / "prepared").is_dir()
    first = next(o.text for o in outputs(notebook) if o.get("name") == "stdout")
    assert first.startswith("synthetic corpus")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_defines_no_function_and_no_class(name):
    lines = [line for cell in code(read(name)) for line in cell.source.splitlines()]
    tree = ast.parse("\n".join(line for line in lines if not line.startswith("%")))
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [node.name for node in ast.walk(tree) if isinstance(node, defined)]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_as_it_ran_without_errors_paths_or_times(name):
    notebook, path = read(name), ROOT / f"{name}.ipynb"
    assert [cell.execution_count for cell in code(notebook)] == list(
        range(1, len(code(notebook)) + 1)
    )
    assert {o.output_type for o in outputs(notebook)} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert not [o.text for o in outputs(notebook) if o.get("name") == "stderr"]
    assert pictures(notebook) >= 5
    assert not any(cell.metadata for cell in notebook.cells)
    assert path.stat().st_size < MOST_BYTES
    assert str(ROOT) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_says_first_that_its_outputs_are_of_the_synthetic_corpus(name):
    notebook = read(name)
    assert "synthetic" in notebook.cells[0].source
    assert 'DATA = os.environ.get("DATA", "sample")' in code(notebook)[0].source


def write_outputs(name: str) -> None:
    """Execute a notebook on the sample corpus and keep what it shows, without progress bars."""
    notebook = run(name, ROOT)
    for cell in code(notebook):
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata.language_info = {"name": "python"}  # not which version ran it
    nbformat.write(notebook, ROOT / f"{name}.ipynb")


if __name__ == "__main__":
    for name in NOTEBOOKS:
        write_outputs(name)

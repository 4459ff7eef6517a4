"""No file of the project can execute what is data."""

import ast
import io
import json
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from features.signal import vectors_2022
from utils import ROOT

FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "input",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "pd.read_pickle",
    "pandas.read_pickle",
    "joblib.load",
    "shelve.open",
    "marshal.load",
    "marshal.loads",
    "dill.load",
    "dill.loads",
    "cloudpickle.load",
    "yaml.load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "torch.jit.load",
    "torch.serialization.add_safe_globals",
}
ALWAYS = {  # call -> what it must be given
    "torch.load": {"weights_only": True},
    "from_pretrained": {"trust_remote_code": False, "local_files_only": True},
}
NEVER = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}


def sources() -> Iterator[tuple[str, str]]:
    """Every Python file and notebook cell of the project, its tests apart: those hold attacks."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        if not parts[0].startswith(".") and parts[0] not in ("tests", "data", "exp"):
            yield "/".join(parts), path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        yield (
            path.name,
            "\n".join(
                line for line in "\n".join(code).splitlines() if not line.lstrip().startswith("%")
            ),
        )


def offences(text: str) -> list[str]:
    """Calls that could execute data; `import x as y` and `from x import y` are seen through."""
    tree = ast.parse(text)
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {a.asname or a.name: a.name for a in node.names}
        if isinstance(node, ast.ImportFrom):
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        head, dot, rest = ast.unparse(call.func).partition(".")
        name = known.get(head, head) + dot + rest
        given = {k.arg: getattr(k.value, "value", "not a constant") for k in call.keywords}
        needed = ALWAYS.get(name, ALWAYS.get(name.rpartition(".")[2], {}))
        wrong = [f"{k}={v}" for k, v in needed.items() if given.get(k) is not v]
        wrong += [f"{k}={given[k]}" for k, v in NEVER.items() if given.get(k, not v) is not (not v)]
        if name in FORBIDDEN or wrong:
            found.append(f"line {call.lineno}: {name} {' '.join(wrong)}".rstrip())
    return found


def test_no_file_of_the_project_can_execute_data():
    found = {name: wrong for name, text in sources() if (wrong := offences(text))}
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle as p\np.loads(b'')",
        "from os import system\nsystem('x')",
        "eval('1')",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=flag)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "subprocess.run('x', shell=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=False)",
        "f(trust_remote_code=True)",
    ],
)
def test_calls_that_execute_data_are_known(text):
    assert len(offences(text)) == 1


def test_the_only_unpickler_looks_no_name_up():
    classes = [
        (name, node)
        for name, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and any("Unpickler" in ast.unparse(base) for base in node.bases)
    ]
    assert [name for name, _ in classes] == ["features/signal/vectors_2022.py"]
    for _, name in vectors_2022._Unpickler.NAMES:
        assert vectors_2022._Unpickler.NAMES["numpy", "ndarray"] is not getattr(np, name, None)
    with pytest.raises(pickle.UnpicklingError, match="os.system is refused"):
        vectors_2022._Unpickler(io.BytesIO()).find_class("os", "system")

"""Names, links, pages, pickles and the network: what data from elsewhere must not be able to do.

Bytes and cells that are merely wrong are in test_bad_input.py and, by the hundred, in test_fuzz.py.
"""

import ast
import contextlib
import io
import json
import os
import pickle
import shutil
import socket
import unicodedata
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from doubles.hostile import OUT, PREPARE, SMALL, prepare_apart, replaced, table, watched, within
from doubles.run_folders import configuration, log_lines, make_run, predictions, result_of
from doubles.settings import settings_with

import main
import model
from corpora import kemdy19, kemdy19_2022, preparation
from corpora.preparation import columns, files
from evaluation.predictions import TEXTS, read_predictions
from features import sentence
from features.signal import vectors_2022
from features.store import extraction
from reporting import charts, corpus_tables, figures, page
from utils import ROOT, UserError

SPOILT = "Sess01_script01_M001"
WAV = f"wav/Session01/Sess01_script01/{SPOILT}.wav"
TXT = WAV.replace(".wav", ".txt")
TABLE = "annotation/Session01_F_res.csv"
TRAIN = [
    "--data",
    "corpus",
    "--test_split",
    "[1,2]",
    "--hidden_size",
    "8",
    "--epochs",
    "1",
    "--batch_size",
    "8",
    "--precision",
    "float32",
    "--gpu_id",
    "-1",
]


@pytest.fixture
def place(workplace, tmp_path):
    """A folder of its own to work in: `corpus`, without its sensors, and an empty `outside`."""
    without = shutil.ignore_patterns("ECG", "EDA", "TEMP")
    shutil.copytree(workplace / "corpus", tmp_path / "corpus", ignore=without)
    (tmp_path / "outside").mkdir()
    with contextlib.chdir(tmp_path):
        yield tmp_path


def snapshot(folder: Path) -> dict[str, tuple]:
    """Kind, size and times of everything in a folder; a file that came and went leaves a trace."""
    paths = [folder, *folder.rglob("*")]
    stats = {str(path): path.lstat() for path in paths}
    return {name: (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats.items()}


# --- links ---------------------------------------------------------------------------------------


def moved_out(name: str) -> None:
    """A file or folder of the corpus moved away, with a link in its place."""
    there = Path("outside", Path(name).name).absolute()
    shutil.move(Path("corpus", name), there)
    Path("corpus", name).symlink_to(there)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (WAV, f"wav unreadable: {OUT}"),
        (TXT, f"txt unreadable: {OUT}"),
        (str(Path(WAV).parent), f"wav unreadable: {OUT}"),
        ("wav/Session01", f"wav unreadable: {OUT}"),
    ],
    ids=["wav", "txt", "dialogue", "session"],
)
def test_what_a_link_leads_to_outside_is_quarantined_and_never_opened(name, reason, place):
    moved_out(name)
    with watched() as paths:
        assert main.main(PREPARE) == 0
    assert not [path for path in paths if path.startswith(str(place / "outside"))]
    rows = table()
    hit = rows["segment"].str.startswith(Path(name).stem.replace("Session", "Sess"))
    assert hit.any()
    assert set(rows.loc[hit, "quarantine"]) == {reason}
    assert set(rows.loc[~hit, "quarantine"]) == {""}
    named = table("quarantine.csv")
    assert set(zip(named["role"], named["segment"], strict=True)) == set(
        zip(rows.loc[hit, "role"], rows.loc[hit, "segment"], strict=True)
    )


def test_a_corpus_whose_sound_is_all_outside_is_refused_with_the_reason(place, capsys):
    moved_out("wav")
    assert main.main(["prepare", "--data", "corpus"]) == 2
    assert f"48 x wav unreadable: {OUT}" in capsys.readouterr().err


def test_a_link_that_replaces_a_file_after_preparing_is_noticed(place):
    assert main.main(PREPARE) == 0
    moved_out(WAV)
    os.utime(place / "outside" / Path(WAV).name)
    with watched() as paths:
        assert main.main(PREPARE) == 0
    assert not [path for path in paths if path.startswith(str(place / "outside"))]
    rows = table()
    assert (rows.loc[rows["segment"] == SPOILT, "quarantine"] == f"wav unreadable: {OUT}").all()


def test_links_within_the_corpus_and_to_the_corpus_change_nothing(place):
    assert main.main(PREPARE) == 0
    plain = table().drop(columns="quarantine")
    shutil.rmtree("data")
    Path("corpus/store").mkdir()
    for name in (
        "wav/Session01",
        WAV.replace("Session01", "Session02").replace("Sess01", "Sess02"),
        TABLE,
    ):
        there = Path("corpus/store", Path(name).name)
        shutil.move(Path("corpus", name), there)
        Path("corpus", name).symlink_to(os.path.relpath(there, Path("corpus", name).parent))
    os.rename("corpus", "real")
    Path("corpus").symlink_to("real")
    assert main.main(PREPARE) == 0
    assert table().drop(columns="quarantine").equals(plain)
    assert set(table()["quarantine"]) == {""}


def test_a_table_that_is_outside_is_refused(place, capsys):
    moved_out(TABLE)
    with watched() as paths:
        assert main.main(PREPARE) == 2
    assert f"corpus/{TABLE} is unreadable: {OUT}; put the file" in capsys.readouterr().err
    assert not [path for path in paths if path.startswith(str(place / "outside"))]


def test_a_table_of_2022_that_is_outside_is_refused(place, capsys):
    shutil.rmtree("corpus/annotation")
    Path("outside/df_speaker.csv").write_text("Segment ID\n")
    Path("corpus/df_speaker.csv").symlink_to(place / "outside/df_speaker.csv")
    with watched() as paths:
        assert main.main(PREPARE) == 2
    assert f"corpus/df_speaker.csv is unreadable: {OUT}" in capsys.readouterr().err
    assert not [path for path in paths if path.startswith(str(place / "outside"))]


def test_signals_that_are_outside_are_refused(place):
    Path("corpus/EDA/Session01/Original").mkdir(parents=True)
    Path("corpus/EDA/Session01/Original/Sess01F.csv").symlink_to("/dev/zero")
    with within(5), pytest.raises(UserError, match=f"Sess01F.csv is unreadable: {OUT}"):
        kemdy19.Reader.signals(Path("corpus"), ["EDA"])


# --- what is no file -----------------------------------------------------------------------------


def test_pipes_devices_and_folders_are_never_opened(place):
    names = [
        WAV,
        TXT.replace("M001", "F001"),
        WAV.replace("Sess01_script01_M", "Sess01_script01_F"),
    ]
    replaced(names[0], os.mkfifo)
    replaced(names[1], os.mkfifo)
    replaced(names[2], os.mkdir)
    zero = WAV.replace("Session01", "Session02").replace("Sess01", "Sess02")
    replaced(zero, lambda path: path.symlink_to("/dev/zero"))
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # a container may forbid it to root, too
            other = zero.replace("M001", "F001")
            os.unlink(Path("corpus", other))
            os.mknod(Path("corpus", other), 0o600 | 0o020000, os.makedev(1, 5))
    answer = prepare_apart()
    assert (answer.returncode, answer.stderr.count("error")) == (0, 0), answer.stderr
    rows = table().query("role == 'speaker'").set_index("segment")["quarantine"]
    assert rows[SPOILT] == "wav unreadable: not a regular file"
    assert rows["Sess01_script01_F001"] == "wav unreadable: not a regular file"
    assert rows["Sess02_script01_M001"] == f"wav unreadable: {OUT}"
    assert set(rows.drop([s for s in rows.index if "script01_" in s])) == {""}


def test_a_table_that_is_a_pipe_is_refused(place, capsys):
    replaced(TABLE, os.mkfifo)
    with within(5):
        assert main.main(PREPARE) == 2
    assert f"corpus/{TABLE} is unreadable: not a regular file" in capsys.readouterr().err


# --- names ---------------------------------------------------------------------------------------

HANGUL = "감정/대화 01/가나다.wav"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("pattern", ["NFC", "NFD"])
def test_hangul_names_are_found_in_either_normal_form(on_disk, pattern, tmp_path):
    path = unicodedata.normalize(on_disk, HANGUL)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"sound")
    asked = unicodedata.normalize("NFC", unicodedata.normalize(pattern, "감정/*/*.wav"))
    found = files.find_files(tmp_path, asked)
    file = found[unicodedata.normalize("NFC", HANGUL)]
    assert file.bad == ""
    assert (tmp_path / file.path).read_bytes() == b"sound"


def test_of_two_names_that_differ_in_normal_form_alone_the_composed_one_is_taken(tmp_path):
    for form in ("NFD", "NFC"):
        path = tmp_path / unicodedata.normalize(form, "가") / "a.wav"
        path.parent.mkdir()
        path.write_text(form)
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this file system takes both for one name")
    [file] = files.find_files(tmp_path, "*/a.wav").values()
    assert (tmp_path / file.path).read_text() == "NFC"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_corpus_in_a_hangul_folder_is_prepared(form, place):
    name = unicodedata.normalize(form, "말뭉치")
    os.rename("corpus", name)
    assert main.main(["prepare", "--data", name]) == 0
    assert len(table()) == 48


def test_names_that_are_not_utf8_or_not_expected_are_passed_over(place):
    for name in (b"wav/Session\xff", b"wav/Session01/\xff\xfe", b"audio", b"ECG/\xff"):
        os.makedirs(os.path.join(b"corpus", name))
    hostile = [
        b"\xff.wav",
        b"a\nb.wav",
        b"x" * 255,
        b"$(touch x).wav",
        b"-rf.wav",
        b"\xe2\x80\xae.wav",
    ]
    for folder in (b"audio", b"wav/Session01/Sess01_script01", b"wav/Session\xff", b"annotation"):
        for name in hostile:
            open(os.path.join(b"corpus", folder, name), "wb").close()
    assert main.main(["prepare", "--data", "corpus"]) == 0
    assert len(table()) == 48 and set(table()["quarantine"]) == {""}
    assert set(kemdy19.Reader.sources(Path("corpus"))) == {
        path for path in Path("corpus").rglob("Sess*") if path.suffix and path.name.isprintable()
    }


IDS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "Sess01_script01_M001/../../x",
    "a\0b",
    "~root",
    "..",
    "Sess01_script01_M\n001",
    "x" * 5000,
    "Sess01_script01_M٠٠١",
    "\u202egnp.exe",
    "",
]


def test_names_and_paths_in_a_table_of_2022_lead_nowhere(place):
    utterances, _ = kemdy19.Reader.read(Path("corpus"))
    row = utterances.iloc[0]
    ratings = [row["emotion"], "3", "3"] + ["angry", "3", "3"] * 10
    header = [*kemdy19_2022.NEEDED[:3], *kemdy19_2022.RATINGS, "text", "wav", "path"]
    names = [*IDS, SPOILT, *IDS]
    lines = [["0", "1", name, *ratings, "안녕", "/etc/passwd", "../../x"] for name in names]
    shutil.rmtree("corpus/annotation")
    os.mkdir("corpus/audio")
    open(b"corpus/audio/\xff.wav", "wb").close()
    pd.DataFrame(lines, columns=header).to_csv("corpus/df_speaker.csv", index=False)
    with watched() as paths:
        assert main.main(PREPARE[:3] + ["--max_bad", "1"]) == 0
    assert not [path for path in paths if path.startswith("/etc/passwd")]
    rows = table()
    assert list(rows["quarantine"]) == [columns.NO_PATTERN] * len(IDS) + [""]
    assert list(rows["wav"]) == [""] * len(IDS) + [WAV]
    named = [*rows["segment"], *table("troubles.csv")["segment"]]
    assert all(name.isascii() and name.isprintable() and len(name) < 90 for name in named)


def test_the_corpus_folder_is_only_read(place):
    before = snapshot(place / "corpus")
    corpus = preparation.open_corpus("corpus")
    settings = settings_with(text_encoder="char-ngram", text_dim=8)
    for name in ("log_mel", "sentence"):
        rows = corpus.role("speaker")
        store = extraction.extract(name, rows, corpus.folder, corpus.prepared, settings)
        assert store.available.sum() > 20
    assert snapshot(place / "corpus") == before


# --- pages and pictures --------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>x</script>",
    "</title></head><body onload=x>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='x",
    "javascript:alert(1)",
    "{{7*7}}{% x %}",
    "<!--",
    "]]><![CDATA[",
    "</pre></dl></main>",
    "&lt;b&gt;&#60;i&#62;",
    "<a href=//evil>",
    "\x00<\x0bscript>",
    "</svg><svg/onload=x>",
    "\u202e<b>",
    "${7*7}#{7*7}<%= 7*7 %>",
]


class Skeleton(HTMLParser):
    """Every tag with its attributes, and all text apart."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, *attributes))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(("/", tag))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("!--", data))

    def handle_decl(self, declaration: str) -> None:
        self.tags.append(("!", declaration))

    def unknown_decl(self, data: str) -> None:
        self.tags.append(("![", data))

    def handle_pi(self, data: str) -> None:
        self.tags.append(("?", data))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_with(word: str, folder: Path) -> str:
    """A page in which every string that comes from data is `word`; numbers stay."""

    def everywhere(value: object) -> object:
        if isinstance(value, dict):
            return {f"{key}{word}": everywhere(item) for key, item in value.items()}
        return word

    run = configuration()
    spread = {f"{key}{word}": everywhere(value) for key, value in run.items()}
    run |= {"model": word, "command": word, "more": spread}
    result = result_of(make_run(folder, predictions(60)))
    result |= {"ties": word, "warnings": [word, word], "synthetic": True}
    result["preparation"] = [{"treatment": word, "reason": word, "count": 1}]
    result["by_kind"] = {word: {"n": 1, "uar": 0.5, "macro_f1": 0.5}}
    log = [log_lines(1)[0] | {f"loss/{word}": 1.0}]
    rows = read_predictions(folder / "predictions.csv")
    rows = rows.assign(**dict.fromkeys(TEXTS, word)).assign(emotion_true=f"!{word}")
    return page.page(run, result, rows, charts.curve(log), word)


@pytest.mark.parametrize("word", HOSTILE)
def test_no_string_of_data_becomes_a_tag_or_an_attribute(word, tmp_path):
    harmless = Skeleton(page_with("harmless", tmp_path / "run"))
    hostile = Skeleton(page_with(word, tmp_path / "run"))
    assert hostile.tags == harmless.tags
    seen = word.replace("\x00", "\ufffd")  # as a parser of HTML reads it
    found = "".join(hostile.text).replace("\x00", "\ufffd")
    assert found.count(seen) >= 40
    assert "".join(harmless.text).replace("harmless", "").split() == found.replace(seen, "").split()


def test_a_page_fetches_nothing_and_runs_nothing(tmp_path):
    text = page_with("word", tmp_path / "run")
    tags = Skeleton(text).tags
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {
        t[0] for t in tags
    }
    names = {name for tag in tags if tag[0] not in ("/", "!") for name, _ in tag[1:]}
    assert not {name for name in names if name.startswith("on") or name in ("src", "href")}
    assert "default-src 'none'" in text


MATHTEXT = ["$\\frac{", "a$b$c", "$", "$$", "_x", "\\", "$\\notacommand$"]


@pytest.mark.parametrize("name", MATHTEXT)
def test_a_dollar_in_a_name_is_no_formula(name):
    from matplotlib.figure import Figure

    log = [{"epoch": 1, "loss": 1.0, f"loss/{name}": 1.0}]
    assert figures.loss_png(charts.curve(log)).startswith(b"\x89PNG")
    figure = Figure()
    cells = pd.DataFrame([[1.0, 2.0]], index=[name], columns=[name, f"{name} again"])
    corpus_tables.heatmap(figure.subplots(), cells)
    figure.savefig(io.BytesIO())


# --- what no file of the project does ------------------------------------------------------------

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


# --- the network ---------------------------------------------------------------------------------


def test_nothing_is_connected_to_where_the_hub_is_off(place, monkeypatch, capsys):
    def connect(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert main.main([*TRAIN, "--modality", "text"]) == 2
    assert "is not on this machine and cannot be downloaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "asked"),
    [(None, "skt/kobert-base-v1"), ("someone/bert", "someone/bert"), ("char-ngram", None)],
)
def test_the_hub_is_asked_for_the_named_encoder_alone(named, asked, monkeypatch, tmp_path):
    import huggingface_hub

    calls = []

    def download(name: str, **how: object) -> str:
        calls.append((name, how["local_files_only"]))
        raise OSError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    parameters = sentence.Feature.parameters(settings_with(text_encoder=named))
    with contextlib.suppress(UserError):
        sentence.Extractor(parameters)
    assert calls == ([(asked, True)] if asked else [])


@pytest.mark.parametrize(
    "name", ["../x", "a/b/c", "https://evil/x", "a/..", "/x", "a b", "x/\n", "-/x/"]
)
def test_what_is_no_id_is_never_asked_for(name):
    with pytest.raises(UserError, match="--text_encoder: no file or folder"):
        sentence.Feature.parameters(settings_with(text_encoder=name))


# --- archives and pickles that are small and become large ----------------------------------------


@pytest.fixture
def saved(tmp_path) -> Path:
    model.save(tmp_path / "run", model.build("mate", SMALL, seed=1), SMALL)
    (tmp_path / "run/model.pth.b2sum").unlink(missing_ok=True)
    return tmp_path / "run"


def archive(folder: Path, change, pack: int = zipfile.ZIP_STORED) -> None:
    """Write model.pth again, with its pickle changed."""
    with zipfile.ZipFile(folder / "model.pth") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(folder / "model.pth", "w", pack) as new:
        for name, data in parts.items():
            new.writestr(name, change(data) if name.endswith("/data.pkl") else data)


def same_tuples(depth: int) -> bytes:
    """A dict with a key that is a tuple of a tuple twice, of a tuple twice, ...: 2**depth steps."""
    steps = b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(depth))
    return b"\x80\x02})q\x00" + steps + b"K\x01s."


def test_the_key_is_a_tuple_that_names_one_tuple_twice():
    [key] = pickle.loads(same_tuples(3))
    assert key == ((((), ()), ((), ())), (((), ()), ((), ())))


BOMBS = {
    "a key that takes for ever to hash": same_tuples(60),
    "a bytearray of 64 GB": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "a name of another module": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R.",
    "a tensor of a terabyte": b"\x80\x02ctorch\nTensor\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_weights_that_would_take_for_ever_are_refused(bomb, saved):
    archive(saved, lambda _: BOMBS[bomb])
    with within(5), pytest.raises(UserError, match="model.pth should hold a state dict of torch"):
        model.load(saved)


def test_weights_that_are_packed_are_refused(saved):
    archive(saved, lambda data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="should hold a state dict of torch; .*ValueError"):
        model.load(saved)


def test_an_archive_written_anew_can_be_read(saved):
    archive(saved, lambda data: data)
    model.load(saved)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: torch.zeros(()).expand(t.shape), r"bytes, its tensors should have \d+"),
        (lambda t: t.to("meta"), "should hold a state dict"),
        (lambda t: t.to_sparse() if t.ndim else t, "should hold a state dict"),
        (lambda t: t.to(torch.int64), "is torch.int64, should be torch.float32"),
        (lambda t: t.to(torch.complex64), "is torch.complex64, should be torch.float32"),
    ],
    ids=["repeated", "meta", "sparse", "integers", "complex"],
)
def test_weights_of_another_kind_are_refused(change, match, saved):
    state = model.build("mate", SMALL, seed=1).state_dict()
    torch.save({name: change(tensor) for name, tensor in state.items()}, saved / "model.pth")
    with pytest.raises(UserError, match=f"model.pth.*{match}"):
        model.load(saved)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", '"\\ud800"'])
def test_a_configuration_that_cannot_be_written_again_is_refused(value, saved):
    (saved / "configuration.json").write_text(json.dumps(SMALL)[:-1] + f', "x": [{value}]}}')
    with pytest.raises(UserError, match="configuration.json (holds what|as JSON)[^\n]*$"):
        model.load(saved)


def test_weights_without_names_are_refused(saved):
    torch.save({1: torch.zeros(3)}, saved / "model.pth")
    with pytest.raises(UserError, match="model.pth should hold a dict of tensors"):
        model.load(saved)


@pytest.mark.parametrize("size", [10**9, 10**18, 10**30])
@pytest.mark.parametrize("name", ["hidden_size", "ws", "text_dim"])
def test_a_configuration_that_asks_for_terabytes_is_refused(name, size, saved):
    written = json.dumps(SMALL | {name: size})
    (saved / "configuration.json").write_text(written)
    with within(5), pytest.raises(UserError, match="configuration.json") as caught:
        model.load(saved)
    assert "\n" not in str(caught.value)


def vectors(pickled: bytes) -> bytes:
    """A .npy file of one object, with this pickle in it."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    return buffer.getvalue() + pickled


def dtype_of_lists(depth: int) -> bytes:
    """numpy.dtype(a list of a list twice, of ...): 2**depth as text."""
    steps = b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(depth))
    return b"\x80\x02]q\x00" + steps + b"cnumpy\ndtype\nh%c\x85R." % depth


VECTORS = [
    (same_tuples(60), "a tuple twice"),
    (dtype_of_lists(60), "part of a dtype is a list"),
    (b"\x80\x02}r\xff\xff\xff\xff.", "LONG_BINPUT 4294967295 in 9 bytes"),
    (b"\x80\x05\x96" + (1 << 62).to_bytes(8, "little") + b".", "expected .* bytes"),
    (b"\x80\x05\x96" + (1).to_bytes(8, "little") + b"x.", "BYTEARRAY8 is refused"),
    (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".", "expected .* bytes"),
    (b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.", "DUP is refused"),
    (b"\x80\x02\x82\x01.", "EXT1 is refused"),
]


@pytest.mark.parametrize(("pickled", "reason"), VECTORS, ids=[reason for _, reason in VECTORS])
def test_vectors_that_would_take_for_ever_are_refused(pickled, reason, tmp_path):
    (tmp_path / "e.npy").write_bytes(vectors(pickled))
    with within(5), pytest.raises(UserError, match=f"should hold a dict of vectors.*{reason}"):
        vectors_2022.read_vectors(tmp_path / "e.npy")


def test_a_header_that_is_deeper_than_the_stack_is_refused(tmp_path):
    header = b"1+" * 4000 + b"1"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "e.npy").write_bytes(data)
    with pytest.raises(UserError, match="should hold a dict of vectors"):
        vectors_2022.read_vectors(tmp_path / "e.npy")


@pytest.mark.parametrize("protocol", [3, 4])
def test_vectors_in_the_protocols_that_numpy_writes_are_read(protocol, tmp_path):
    held = {f"Sess01_script01_F{i:03d}.txt": np.full(4, i, np.float32) for i in range(300)}
    array = np.array(held, dtype=object)
    (tmp_path / "e.npy").write_bytes(vectors(pickle.dumps(array, protocol)))
    found = vectors_2022.read_vectors(tmp_path / "e.npy")
    assert list(found) == list(held)
    assert all((found[name] == value).all() for name, value in held.items())

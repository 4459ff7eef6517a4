"""An exported model says what torch says, with onnxruntime, where no torch is installed."""

import contextlib
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pandas as pd
import pytest
import soundfile
import torch
import torchaudio
from doubles.shared import SHARED, needs_shared
from doubles.untrained import run as untrained
from doubles.voices import LINES, NUMBERS, said, voices

import main
import utils
from benchmarks import tiny_bert
from features import log_mel, sentence
from inference import opening, recordings, trained
from utils import ROOT, UserError

CLOSE = 1e-4
ABSENT = ("torch", "functorch", "nvidia", "triton", "accelerate")  # nothing of these is there


def listed(*paths, **how):
    return recordings.utterances(paths, progress=False, **how)


@pytest.fixture(scope="module")
def small(workplace):
    """An untrained MATE of two utterances at 8 kHz, with a BERT of random weights."""
    with contextlib.chdir(workplace):
        tiny_bert.write(Path("bert"), LINES)
        flags = [
            "--data",
            "corpus",
            "--test_split",
            "3",
            "4",
            "--text_encoder",
            "bert",
            "--text_dim",
            64,
            "--hidden_size",
            8,
            "--sr",
            8000,
            "--ws",
            2,
        ]
        return workplace / untrained(Path("exp/small"), "mate", *flags)


@pytest.fixture(scope="module")
def export(workplace, small):
    """What `export` writes of it, and what it printed."""
    with contextlib.chdir(workplace), contextlib.redirect_stdout(_Kept()) as said:
        assert main.main(["export", "small", "--onnx"]) == 0
    return SimpleNamespace(folder=small / "onnx", said="".join(said.parts))


class _Kept:
    def __init__(self):
        self.parts = []

    def write(self, text):
        self.parts.append(text)

    def flush(self):
        pass


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return voices(tmp_path_factory.mktemp("export") / "talk", 7)


# --- the same numbers ----------------------------------------------------------------------------


def test_the_folder_holds_the_graphs_the_tokenizer_and_the_description(export):
    names = {path.name for path in export.folder.iterdir()}
    assert names == {
        "model.onnx",
        "model.int8.onnx",
        "sentence.onnx",
        "tokenizer.model",
        "model.json",
    }
    about = utils.read_json(export.folder / "model.json")
    graph = onnx.load(export.folder / "model.onnx")
    assert about["opset"] == graph.opset_import[0].version
    assert about["inputs"] == ["log_mel", "sentence"]
    assert about["heads"] == ["emotion", "arousal", "valence"]
    for node in graph.graph.input:  # any number of windows
        assert node.type.tensor_type.shape.dim[0].dim_param
    mel = about["preprocessing"]["log_mel"]
    assert mel["parameters"]["n_mels"] == 229 and mel["parameters"]["sample_rate"] == 8000
    assert "standardised as a block" in mel["how"]


def test_the_export_was_compared_on_every_test_window_and_says_what_eight_bits_cost(export):
    about = utils.read_json(export.folder / "model.json")["measured"]
    assert about["windows"] == 12
    assert 0 <= about["difference_from_torch"] <= CLOSE
    sizes = [(export.folder / name).stat().st_size for name in ("model.int8.onnx", "model.onnx")]
    assert about["int8_size_ratio"] == pytest.approx(sizes[0] / sizes[1]) and sizes[0] < sizes[1]
    for score in about["int8"]["scores"].values():
        assert score["difference"] == pytest.approx(score["int8"] - score["float32"])
    for word in ("opset", "difference", "macro_f1", "int8", "ms a window"):
        assert word in export.said


def test_eight_bits_are_in_the_convolutions_and_calibrated(export):
    graph = onnx.load(export.folder / "model.int8.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("DequantizeLinear") > 10 and "DynamicQuantizeLinear" not in kinds
    made = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type == "Conv":
            assert all(made[name].op_type == "DequantizeLinear" for name in node.input[:2])


@pytest.mark.parametrize("how", ["talk", "alone", "without text"])
def test_it_says_of_recordings_what_torch_says(export, small, talk, workplace, how):
    rows = listed(talk, alone=how == "alone")
    rows = rows.assign(text="") if how == "without text" else rows
    with contextlib.chdir(workplace):
        wanted = said(trained.of_run(small), rows)
    found = said(opening.of_export(export.folder), rows)
    assert wanted["valence"].std() > 1e-3
    assert np.allclose(found[NUMBERS], wanted[NUMBERS], atol=CLOSE)
    assert found["masked"].tolist() == wanted["masked"].tolist()


def test_sentence_vectors_are_those_of_torch_at_every_length(export, workplace):
    texts = [*LINES, "가", " ".join(LINES * 3), "", "!"]
    with contextlib.chdir(workplace):
        wanted = sentence.Extractor({"encoder": "bert", "dim": 64}).many(texts)
    found = sentence.Extractor({"encoder": str(export.folder), "dim": 64}).many(texts)
    for one, other in zip(wanted, found, strict=True):
        if isinstance(one, utils.Unusable):
            assert str(one) == str(other)
        else:
            assert np.allclose(one, other, atol=1e-5)


@pytest.fixture(scope="module")
def light(workplace):
    """An untrained model of text alone, whose graph is written in a moment."""
    flags = (
        "--data",
        "corpus",
        "--test_split",
        "3",
        "4",
        "--backbone",
        "gru",
        "--bidirectional",
        "--modality",
        "text",
        "--text_encoder",
        "char-ngram",
        "--hidden_size",
        8,
        "--ws",
        3,
    )
    return untrained(workplace / "exp/light", "mate", *flags)


@pytest.fixture(scope="module")
def ragged(workplace):
    """An untrained KoBERT: word pieces that differ in number, one head of three."""
    with contextlib.chdir(workplace):
        tiny_bert.write(Path("bert"), LINES)
        flags = ("--data", "corpus", "--test_split", "3", "4", "--text_encoder", "bert")
        return workplace / untrained(Path("exp/ragged"), "kobert", *flags)


@pytest.mark.parametrize("name", ["light", "ragged"])
def test_graphs_of_other_shapes_say_the_same(name, workplace, talk, request):
    folder = request.getfixturevalue(name)
    with contextlib.chdir(workplace):
        assert main.main(["export", name, "--onnx", "--no_int8"]) == 0
        wanted = said(trained.of_run(folder), listed(talk))
        found = said(opening.of_export(folder / "onnx"), listed(talk))
    heads = [head for head in NUMBERS if wanted[head].notna().all()]
    assert len(heads) == {"light": 9, "ragged": 7}[name]
    assert np.allclose(found[heads], wanted[heads], atol=CLOSE)
    names = {path.name for path in (folder / "onnx").iterdir()}
    more = {"config.json", "tokenizer.model"} if name == "ragged" else set()
    assert names == {"model.json", "model.onnx"} | more
    if name == "ragged":  # an export holds what it needs
        (workplace / "bert").rename(workplace / "moved")
        try:
            again = said(opening.of_export(folder / "onnx"), listed(talk))
        finally:
            (workplace / "moved").rename(workplace / "bert")
        pd.testing.assert_frame_equal(again, found)
    assert str(workplace) not in (folder / "onnx/model.json").read_text()


def test_a_model_that_torch_cannot_write_is_refused_in_a_line(workplace, capfd):
    with contextlib.chdir(workplace):
        untrained(Path("exp/f"), "functionals", "--data", "corpus", "--test_split", "3", "4")
        assert main.main(["export", "f", "--onnx"]) == 2
    said = capfd.readouterr()
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("error: torch.onnx cannot write this model: ")
    assert not (workplace / "exp/f/onnx").exists()


# --- without torch -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchless(tmp_path_factory):
    """site-packages as links, but for torch and what stands on it."""
    place = tmp_path_factory.mktemp("torchless")
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not path.name.lower().startswith(ABSENT):
            (place / path.name).symlink_to(path)
    return place


def without_torch(place: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess:
    code = (
        f"import sys, runpy; sys.path[:0] = [{str(ROOT)!r}, {str(place)!r}]\n"
        "import importlib.util; assert importlib.util.find_spec('torch') is None\n"
        f"sys.argv = {['main.py', *map(str, words)]!r}\n"
        f"runpy.run_path({str(ROOT / 'main.py')!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_predict_works_where_no_torch_is_installed(export, torchless, talk, tmp_path):
    done = without_torch(
        torchless,
        "predict",
        export.folder,
        talk,
        "--onnx",
        "--out",
        "o",
        "--force",
        "--explain",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "o/predictions.csv", keep_default_na=False)
    wanted = said(opening.of_export(export.folder), listed(talk))
    assert np.allclose(found[NUMBERS].astype(float), wanted[NUMBERS], atol=1e-6)
    assert (tmp_path / "o/timeline.png").exists() and (tmp_path / "o/explain.png").exists()


def test_there_training_says_what_is_missing_and_help_still_works(torchless, tmp_path):
    """The environment really has no torch: what needs it fails on importing it."""
    done = without_torch(torchless, "--data", "sample", cwd=tmp_path)
    assert done.returncode != 0 and "No module named 'torch'" in done.stderr
    done = without_torch(torchless, "predict", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "--onnx" in done.stdout


def test_no_torch_is_imported_where_there_is_one(export, talk, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import main\n"
        f"assert main.main(['predict', {str(export.folder)!r}, {str(talk / '0.wav')!r}, '--onnx',"
        f" '--out', {str(tmp_path / 'o')!r}]) == 0\n"
        "assert not {'torch', 'torchaudio', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- log-mel -------------------------------------------------------------------------------------


@needs_shared
def test_the_log_mel_is_torchaudios_on_real_speech():
    """Standardised blocks, before they are kept as float16, within 1e-3."""
    parameters = log_mel.Feature.parameters(SimpleNamespace(sr=16_000))
    extractor = log_mel.Extractor(parameters)
    transform = torch.nn.Sequential(
        torchaudio.transforms.MelSpectrogram(
            16_000, n_fft=2048, hop_length=512, n_mels=229, f_min=30, f_max=8000
        ),
        torchaudio.transforms.AmplitudeToDB("power", top_db=None),
    )
    paths = sorted((SHARED / "real_speech/wav").rglob("*.wav"))[::40]
    assert len(paths) > 5
    for path in paths:
        wave, rate = soundfile.read(path, dtype="float32")
        assert rate == 16_000
        wave = wave[:160_000]
        db = extractor.decibels(wave)
        mean, scale = log_mel.standard(db, parameters)
        ours = np.full((229, 313), -100.0)
        ours[:, : db.shape[1]] = db[:, :313]
        padded = torch.from_numpy(np.pad(wave, (0, 160_000 - len(wave))))
        theirs = transform(padded).double().numpy()
        theirs = (theirs - theirs.mean()) / np.sqrt(theirs.var() + 1e-5)
        np.testing.assert_allclose((ours - mean) * scale, theirs, rtol=0, atol=1e-3)


# --- refused -------------------------------------------------------------------------------------


def test_encoders_of_an_export_are_not_named_anew(export, talk, capsys):
    words = ["predict", export.folder, talk, "--onnx", "--text_encoder", "x"]
    assert main.main([*map(str, words)]) == 2
    err = capsys.readouterr().err
    assert "--text_encoder does not go with --onnx" in err


def refused(capsys, *words):
    code = main.main([*map(str, words)])
    err = capsys.readouterr().err
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_export_refuses_in_a_line_and_leaves_nothing(workplace, small, export, capsys, tmp_path):
    with contextlib.chdir(workplace):
        assert "say --onnx" in refused(capsys, "export", "small")
        assert "onnx exists" in refused(capsys, "export", "small", "--onnx")
        assert "no run 'gone'" in refused(capsys, "export", "gone", "--onnx")
        out = tmp_path / "o"
        err = refused(capsys, "export", "small", "--onnx", "--data", "gone", "--out", out)
        assert "no corpus folder 'gone'" in err
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_differs_from_torch_is_not_kept(
    workplace, light, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("commands.export.CLOSE", -1.0)
    with contextlib.chdir(workplace):
        err = refused(capsys, "export", "light", "--onnx", "--out", tmp_path / "o")
    assert "from torch, more than" in err and list(tmp_path.iterdir()) == []


def test_folders_that_are_no_export_are_refused(export, tmp_path, capsys):
    for name in ("model.json", "model.onnx", "sentence.onnx", "tokenizer.model"):
        (tmp_path / name).write_bytes((export.folder / name).read_bytes())
    about = json.loads((tmp_path / "model.json").read_text())
    with pytest.raises(UserError, match="no model.int8.onnx .*export without --no_int8"):
        opening.of_export(tmp_path, int8=True)
    (tmp_path / "model.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(UserError, match="should be what `export` writes, format 1"):
        opening.of_export(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(about))
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="is no model that onnxruntime reads"):
        opening.of_export(tmp_path)


def test_without_onnxruntime_the_one_line_says_what_to_install(export, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="need onnxruntime: pip install onnxruntime"):
        opening.of_export(export.folder)

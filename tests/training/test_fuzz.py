"""Damaged files of a finished run: an answer or one line, no more."""

import contextlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.damage import answers, bounded, bytes_changed, changed, command, damaged, examples
from doubles.damaged_json import json_changed, json_damaged
from doubles.hostile import SMALL
from hypothesis import given
from hypothesis import strategies as st

import model
from evaluation import bootstrap
from features.signal import vectors_2022
from reporting import figures
from utils import UserError


@pytest.fixture
def hasty(monkeypatch) -> None:
    """No pictures, and few resamples: they take longer than all the rest."""
    draws = bootstrap.draws
    monkeypatch.setattr(bootstrap, "draws", lambda sizes, resamples, *how: draws(sizes, 10, *how))
    monkeypatch.setattr(figures, "png", lambda draw, inches, **grid: b"")


@pytest.fixture(scope="module")
def tested(run_folder, workplace, tmp_path_factory) -> Path:
    """A folder with a run that reads text alone, and a link to the corpus it is tested on."""
    folder = tmp_path_factory.mktemp("tested")
    written = json.loads((run_folder / "configuration.json").read_text())
    written |= {"modality": "text", "hidden_size": 4, "text_dim": 8, "seed": 1}
    model.save(folder / "exp/run", model.build("mate", written, seed=1), written)
    shutil.copy(run_folder / "training.csv", folder / "exp/run")
    (folder / "corpus").symlink_to(workplace / "corpus")
    return folder


@pytest.fixture
def run(tested) -> Iterator[Path]:
    """That run, in its folder."""
    with contextlib.chdir(tested):
        yield tested / "exp/run"


@given(changes=json_changed, data=st.none() | bytes_changed)
@examples(20)
def test_a_configuration(changes, data, run, hasty):
    path = run / "configuration.json"
    text = json_damaged(json.loads(path.read_text()), changes).encode("utf-8", "surrogatepass")
    with changed(path, damaged(text, data) if data else text):
        command("--test_only", "run", "--data", "corpus")
    for folder in run.glob("test_*"):
        shutil.rmtree(folder)


UNUSABLE = [
    ("max_bad", "x"),
    ("test_split", 1),
    ("text_encoder", 1),
    ("batch_size", 0),
    ("batch_size", "x"),
    ("corpus", {}),
    ("corpus", {"folder": "\0"}),
    ("split", {}),
    ("majority", 1),
    ("majority", {"emotion": 1}),
]


@pytest.mark.parametrize(("name", "value"), UNUSABLE)
def test_a_configuration_that_testing_cannot_use_is_refused(name, value, run, hasty):
    path = run / "configuration.json"
    with changed(path, json.dumps(json.loads(path.read_text()) | {name: value}).encode()):
        assert command("--test_only", "run", "--data", "corpus") == 2


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A run of three small tensors, which fit no model: reading them is all that can go well."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "configuration.json").write_text(json.dumps(SMALL))
    state = {f"a.{i}": torch.arange(4.0) + i for i in range(3)}
    torch.save(state | {"n": torch.tensor(3)}, folder / "model.pth")
    return folder


def unloadable(folder: Path, data: bytes) -> None:
    with changed(folder / "model.pth", data), bounded(), pytest.raises(UserError) as caught:
        model.load(folder)
    assert "\n" not in str(caught.value)


@given(changes=bytes_changed)
@examples(60)
def test_weights(changes, weights):
    unloadable(weights, damaged((weights / "model.pth").read_bytes(), changes))


@given(name=st.sampled_from(["data.pkl", "data/0", "version", "byteorder"]), changes=bytes_changed)
@examples(80)
def test_weights_in_an_archive_that_is_whole(name, changes, weights):
    buffer = io.BytesIO()
    with zipfile.ZipFile(weights / "model.pth") as old, zipfile.ZipFile(buffer, "w") as new:
        for part in old.namelist():
            data = old.read(part)
            new.writestr(part, damaged(data, changes) if part.endswith(name) else data)
    unloadable(weights, buffer.getvalue())


VECTORS = {f"Sess01_script01_F{i:03d}.txt": np.full(4, i, np.float32) for i in range(3)}


@given(protocol=st.sampled_from([3, 4]), changes=bytes_changed)
@examples(300)
def test_a_file_of_vectors(protocol, changes, tmp_path_factory):
    buffer = io.BytesIO()
    array = np.array(VECTORS, dtype=object)
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(damaged(buffer.getvalue() + pickle.dumps(array, protocol), changes))
    found = answers(vectors_2022.read_vectors, path)
    assert found is None or all(vector.dtype == np.float32 for vector in found.values())

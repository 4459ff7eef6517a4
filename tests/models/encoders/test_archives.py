"""Archives of weights, as encoders have them: of old and new torch, and such as it never writes."""

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import tiny_bert
from models.encoders import text as text_encoders
from utils import UserError


@pytest.fixture
def encoder(tmp_path) -> Path:
    """A tiny encoder whose weights are a pytorch_model.bin."""
    tiny_bert.write(tmp_path, ["오늘 날씨가 정말 좋네요.", "왜 그렇게 말하는 거야?"])
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    return tmp_path


def load(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the encoder, once its weights are loaded."""
    module = text_encoders.encoder(text_encoders.config(folder), pooler=True)
    text_encoders.load(module, folder)
    return module.state_dict()


def test_weights_of_before_torch_1_6_are_read_alike(encoder):
    path, before = encoder / "pytorch_model.bin", load(encoder)
    weights = torch.load(path, weights_only=True)
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    after = load(encoder)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_an_archive_that_unpacks_to_more_than_it_has_is_refused(encoder):
    path = encoder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts |= {name: bytes(len(data)) for name, data in parts.items() if "/data/" in name}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert torch.load(path, weights_only=True)  # torch would unpack it
    with pytest.raises(UserError, match="cannot load the encoder in .*: packed$"):
        load(encoder)

"""What is asked of the network, and that nothing is where the hub is off."""

import contextlib
import socket

import pytest
from doubles.hostile import small_place
from doubles.settings import settings_with

import main
from features import sentence
from utils import UserError

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
    with small_place(workplace, tmp_path) as folder:
        yield folder


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

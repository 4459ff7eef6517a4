"""A finished run as a folder for the hub: the same numbers, and nothing private."""

import contextlib
import re
import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest
import torch
from doubles.published import (
    FILES,
    SECRETS,
    TINY,
    another,
    card_of,
    everything,
    published,
    rewrite,
    saved,
)
from doubles.small_models import LEAVES, predict

import main
import model
import utils
from evaluation.run_configuration import RunConfiguration
from inference.publishing import portable
from reporting import page
from utils import read_json, write_json

TEXT = {"model": "mate", "hidden_size": 4, "modality": "text", "text_dim": 8, "ws": 2}


@pytest.fixture
def run(run_folder, tmp_path) -> Path:
    """A run to be changed, in a folder of runs."""
    return another(run_folder, tmp_path / "exp/run", TINY)


@pytest.fixture
def reader(run_folder, tmp_path) -> Path:
    """The same of a model that reads sentence vectors."""
    return another(run_folder, tmp_path / "exp/run", TEXT)


# --- the same model ------------------------------------------------------------------------------


def test_the_folder_holds_these_files_and_no_other(published_run):
    assert sorted(path.name for path in published_run.iterdir()) == FILES


def test_a_published_run_gives_the_same_numbers(published_run, run_folder):
    (before, said), (after, now) = (model.load(place) for place in (run_folder, published_run))
    assert not after.training
    assert model.serialise(after.state_dict()) == model.serialise(before.state_dict())
    generator = torch.Generator().manual_seed(0)
    shapes = {"log_mel": (229, 313), "sentence": (said["text_dim"],)}
    batch = {
        name: torch.randn(2, said["ws"], *shape, generator=generator)
        for name, shape in shapes.items()
    }
    batch["mask"] = torch.arange(said["ws"]) >= torch.tensor([[0], [3]])
    one, other = predict(before, batch), predict(after, batch)
    assert one.keys() == other.keys() and all(torch.equal(one[head], other[head]) for head in one)
    assert now["model"] == "mate"


@pytest.mark.parametrize("name", LEAVES)
def test_a_run_of_any_model_is_published_with_the_same_numbers(name, configuration, tmp_path):
    run = saved(tmp_path / "exp/run", name, configuration)
    out = published(run, tmp_path / "out")
    (before, said), (after, now) = model.load(run), model.load(out)
    assert model.settings(name, now) == model.settings(name, said)
    assert model.serialise(after.state_dict()) == model.serialise(before.state_dict())
    assert sorted(path.name for path in out.iterdir()) == FILES[:3]
    assert "No scores are known" in (out / "README.md").read_text()
    assert card_of(out).data.eval_results is None


def test_the_same_run_gives_the_same_bytes(published_run, run_folder, tmp_path):
    again = published(run_folder, tmp_path / "felt")
    assert all((again / name).read_bytes() == (published_run / name).read_bytes() for name in FILES)


def test_what_was_learnt_without_gradients_is_published(workplace, tmp_path):
    with contextlib.chdir(workplace):
        assert (
            main.main(
                [
                    "--data",
                    "corpus",
                    "--test_split",
                    "[3,4]",
                    "--model",
                    "functionals",
                    "--save_path",
                    str(tmp_path),
                    "--save_name",
                    "fitted",
                    "--speaker_norm",
                ]
            )
            == 0
        )
    out = published(tmp_path / "fitted", tmp_path / "out")
    (before, _), (after, said) = model.load(tmp_path / "fitted"), model.load(out)
    assert len(before.support) and torch.equal(before.support, after.support)
    assert model.serialise(after.state_dict()) == model.serialise(before.state_dict())
    assert said["speaker_norm"] is True
    assert f"> **It {page.TEST_AUDIO}**" in (out / "README.md").read_text()


def test_what_reads_a_run_can_use_a_published_configuration(published_run, configuration):
    said = model.load(published_run)[1]
    RunConfiguration.of(said)
    fields = [
        "model",
        "SorL",
        "ws",
        "sr",
        "text_dim",
        "text_encoder",
        "modality",
        "labels",
        "modality_dropout",
        "majority",
        "split",
        "test_split",
        "git",
        "versions",
        "class_counts",
    ]
    assert {name: said[name] for name in fields} == {name: configuration[name] for name in fields}


@pytest.mark.parametrize("temperature", [None, 1.7320508])
def test_the_fitted_temperature_is_in_the_configuration(temperature, run, tmp_path):
    fitted = read_json(run / "result.json")["calibration"] | {"temperature": temperature}
    rewrite(run / "result.json", calibration=fitted)
    assert read_json(published(run, tmp_path / "out") / "config.json")["temperature"] == temperature


def test_a_folder_of_2022_is_published_without_scores(reader, tmp_path):
    run, said = reader, read_json(reader / "configuration.json")
    kept = ("backbone", "hidden_size", "text_dim", "bidirectional", "ws", "SorL", "test_split")
    small_mate = model.build("mate", TEXT | {"modality": "both"}, seed=1)
    shutil.rmtree(run)
    model.save(
        run, small_mate, {n: said[n] for n in kept} | {"save_path": "/home/kim", "gpu_id": 0}
    )
    out = published(run, tmp_path / "out")
    text = (out / "README.md").read_text()
    assert "No scores are known" in text and "No protocol card" in text
    assert "held out in training | sessions 3-4" in text and "KEMDy19 is licensed by ETRI" in text
    assert card_of(out).data.eval_results is None
    assert read_json(out / "config.json")["temperature"] is None
    before, after = (model.load(place)[0].state_dict() for place in (run, out))
    assert model.serialise(before) == model.serialise(after)
    assert b"kim" not in (out / "config.json").read_bytes()


# --- nothing private -----------------------------------------------------------------------------


def test_no_place_of_this_machine_is_in_any_file(published_run, run_folder, workplace):
    places = {workplace, run_folder, Path.cwd(), Path.home(), published_run.parent, utils.ROOT}
    names = {str(place) for place in places} | {workplace.name, workplace.parent.name}
    names |= {run_folder.name, published_run.parent.name, "python main.py --", "--data", "exp/"}
    held = everything(published_run)
    assert not [name for name in names if len(name) > 1 and name.encode() in held]


def test_no_utterance_is_in_any_file(published_run, run_folder, workplace):
    rows = pd.concat(pd.read_csv(run_folder / name) for name in ("training.csv", "predictions.csv"))
    said = [path.read_text().strip() for path in (workplace / "corpus").rglob("*.txt")]
    words = {*rows["segment"], *rows["dialogue"].dropna(), *rows["speaker"], *said} - {""}
    assert len(words) > 40
    held = everything(published_run)
    assert not [word for word in words if word.encode() in held]


def test_paths_and_names_that_a_run_was_given_are_left_out(reader, tmp_path):
    run = reader
    rewrite(run / "configuration.json", **SECRETS)
    rewrite(run / "result.json", warnings=["see /home/kim/K19/a.txt: odd", "1/2 and N/A stay"])
    card = read_json(run / "protocol.json")
    card["dropped"]["quarantined"] = {"/home/kim/a.wav": 1, "txt|wav": 2}
    write_json(run / "protocol.json", card)
    out = published(run, tmp_path / "out")
    assert not re.search(rb"home|kim", everything(out))
    said = read_json(out / "config.json")
    assert [said[name] for name in ("text_encoder", "speech_encoder", "vision_encoder")] == [
        "./bert",
        "./w2v",
        "./vit",
    ]
    assert (said["corpus"]["folder"], said["extra"][0]["folder"]) == ("", "")
    assert not {"note", "tested", "command", "data", "save_name", "test_path"} & said.keys()
    text = (out / "README.md").read_text()
    assert "see ./a.txt: odd; 1/2 and N/A stay" in text
    assert "> **NOT A RESULT.**" in text  # its result.json says so
    assert "| ./a.wav: 1, txt\\|wav: 2 |" in text
    assert "`./bert`, frozen: needed beside these weights; a file or folder" in text
    assert "trained on | sessions 1-2 of kemdy19; 1-2 of kemdy20 |" in text


@pytest.mark.parametrize("place", ["elsewhere", "."])  # there it is; where the run was made
def test_a_folder_that_reads_like_an_id_of_the_hub_is_known_as_one(place, run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / place / "data/bert").mkdir(parents=True)
    rewrite(run / "configuration.json", text_encoder="data/bert")
    with contextlib.chdir(tmp_path / "elsewhere"):
        out = published(run, tmp_path / "out")
    assert read_json(out / "config.json")["text_encoder"] == "./bert"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("skt/kobert-base-v1", "skt/kobert-base-v1"),
        ("/a/b c/d", "./d"),
        ("~/d/", "./d"),
        ("..\\x\\d", "./d"),
        ("D:/x/d", "./d"),
        ("quoted '/x/y' and (/z/w)", "quoted './y' and (./w)"),
        ("https://aihub.or.kr/a and 3/4 of 12", "https://aihub.or.kr/a and 3/4 of 12"),
        ("kemdy19:/x/y", "kemdy19:./y"),
    ],
)
def test_of_a_path_the_last_name_is_left(text, left):
    assert portable.portable(text) == left
    assert portable.portable({text: [{"x": text}, 1, None]}) == {left: [{"x": left}, 1, None]}


def test_nothing_is_connected_to(run, tmp_path, monkeypatch):
    def connect(*_: object) -> None:
        raise AssertionError("a socket was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    published(run, tmp_path / "out")

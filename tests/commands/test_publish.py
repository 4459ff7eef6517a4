"""A finished run as a folder for the hub: the same numbers, an honest card, nothing private."""

import contextlib
import json
import os
import pickle
import re
import shutil
import socket
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from doubles.small_models import DAMAGES, LEAVES, Touch, predict, small, torch_bytes, windows
from huggingface_hub import ModelCard, ModelCardData

import constants
import main
import model
import utils
from commands import publish
from evaluation.highlights import intervals
from evaluation.run_configuration import RunConfiguration
from inference.publishing import card as model_card
from inference.publishing import origins, portable
from reporting import page
from utils import UserError, read_json, write_json

FILES = ["README.md", "config.json", "model.safetensors", "protocol.json", "result.json"]
TINY = {"model": "lstm_audio", "hidden_size": 4, "ws": 1}  # 2,000 numbers; MATE has 4 million
TEXT = {"model": "mate", "hidden_size": 4, "modality": "text", "text_dim": 8, "ws": 2}


def published(run: Path, out: Path, *flags: str) -> Path:
    """What the subcommand writes."""
    assert (
        main.main(["publish", run.name, "--save_path", str(run.parent), "--out", str(out), *flags])
        == 0
    )
    return out


def refused(run: Path, out: Path, capsys) -> str:
    """The one line of the subcommand's refusal."""
    capsys.readouterr()
    assert main.main(["publish", run.name, "--save_path", str(run.parent), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def card_of(folder: Path) -> ModelCard:
    return ModelCard((folder / "README.md").read_text(encoding="utf-8"))


def saved(folder: Path, name: str, configuration: dict, **changed: object) -> Path:
    """A run of any model as training leaves it, but for scores; `configuration`: of another run."""
    said = configuration | small(name) | {"model": name} | changed
    built = model.build(name, said, seed=7)
    if built.FITTED:
        built.fit(windows(name, small(name), seed=1, rows=60))
    model.save(folder, built, said)
    return folder


@pytest.fixture(scope="module")
def configuration(run_folder) -> dict:
    """What a run of MATE wrote."""
    return read_json(run_folder / "configuration.json")


@pytest.fixture(scope="module")
def folder(run_folder, tmp_path_factory) -> Path:
    """The one run of the suite, published."""
    return published(run_folder, tmp_path_factory.mktemp("hub") / "felt")


def another(run_folder: Path, folder: Path, flags: dict) -> Path:
    """That run, of another model and without pictures."""
    kept = shutil.ignore_patterns("*.png", "*.html", "model.*")
    shutil.copytree(run_folder, folder, ignore=kept)
    said = read_json(folder / "configuration.json") | flags
    model.save(folder, model.build(said["model"], said, seed=1), said)
    return folder


@pytest.fixture
def run(run_folder, tmp_path) -> Path:
    """A run to be changed, in a folder of runs."""
    return another(run_folder, tmp_path / "exp/run", TINY)


@pytest.fixture
def reader(run_folder, tmp_path) -> Path:
    """The same of a model that reads sentence vectors."""
    return another(run_folder, tmp_path / "exp/run", TEXT)


def rewrite(path: Path, **changed: object) -> None:
    write_json(path, read_json(path) | changed)


# --- the same model ------------------------------------------------------------------------------


def test_the_folder_holds_these_files_and_no_other(folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_published_run_gives_the_same_numbers(folder, run_folder):
    (before, said), (after, now) = (model.load(place) for place in (run_folder, folder))
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


def test_the_same_run_gives_the_same_bytes(folder, run_folder, tmp_path):
    again = published(run_folder, tmp_path / "felt")
    assert all((again / name).read_bytes() == (folder / name).read_bytes() for name in FILES)


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


def test_what_reads_a_run_can_use_a_published_configuration(folder, configuration):
    said = model.load(folder)[1]
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


def everything(folder: Path) -> bytes:
    """All files, of the tensors their header: any three letters are among millions of numbers."""
    held = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    tensors = held["model.safetensors"]
    held["model.safetensors"] = tensors[: 8 + struct.unpack("<Q", tensors[:8])[0]]
    return b"\0".join(held.values())


def test_no_place_of_this_machine_is_in_any_file(folder, run_folder, workplace):
    places = {workplace, run_folder, Path.cwd(), Path.home(), folder.parent, utils.ROOT}
    names = {str(place) for place in places} | {workplace.name, workplace.parent.name}
    names |= {run_folder.name, folder.parent.name, "python main.py --", "--data", "exp/"}
    held = everything(folder)
    assert not [name for name in names if len(name) > 1 and name.encode() in held]


def test_no_utterance_is_in_any_file(folder, run_folder, workplace):
    rows = pd.concat(pd.read_csv(run_folder / name) for name in ("training.csv", "predictions.csv"))
    said = [path.read_text().strip() for path in (workplace / "corpus").rglob("*.txt")]
    words = {*rows["segment"], *rows["dialogue"].dropna(), *rows["speaker"], *said} - {""}
    assert len(words) > 40
    held = everything(folder)
    assert not [word for word in words if word.encode() in held]


SECRETS = {
    "text_encoder": "/home/kim/bert",
    "speech_encoder": "~kim/w2v",
    "save_name": "kims",
    "vision_encoder": "C:\\Users\\kim\\vit",
    "data": "kemdy19:/home/kim/K",
    "save_path": "kim/exp",
    "train_extra": ["kemdy20:/home/kim/K20"],
    "note": "kim was here",
    "tested": "kim/exp/run",
    "command": "python main.py --data /home/kim/K",
    "test_path": "kim",
    "class_weights": ["../kim/w"],
    "corpus": {
        "name": "kemdy19",
        "label": "kemdy19",
        "folder": "/home/kim/K19",
        "synthetic": False,
        "fingerprint": "0123",
    },
    "extra": [
        {
            "name": "kemdy20",
            "folder": "kim/K20",
            "fingerprint": "4567",
            "synthetic": False,
            "split": {"train": [1, 2], "val": [], "test": []},
        }
    ],
}


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


# --- the card ------------------------------------------------------------------------------------


def test_the_front_matter_is_what_the_hub_reads(folder):
    data = card_of(folder).data
    assert (data.language, data.license, data.library_name) == ("ko", "other", "mate")
    assert data.pipeline_tag == "audio-classification"
    assert {"emotion-recognition", "mate", "synthetic", "not-a-result"} <= set(data.tags)
    assert data.model_name == "felt" and data.base_model is None
    assert ModelCardData(**data.to_dict()).to_dict() == data.to_dict()


def test_the_front_matter_has_the_scores_of_the_run_to_the_last_digit(folder, run_folder):
    scores = read_json(run_folder / "result.json")["scores"]
    found = {result.metric_name: result for result in card_of(folder).data.eval_results}
    assert {"accuracy", "uar", "macro_f1", "weighted_f1", "ccc_arousal", "ccc_valence"} <= set(
        found
    )
    assert {name: result.metric_value for name, result in found.items()} == {
        name: scores[name]["value"] for name in found
    }
    assert not [name for name in found if name.startswith("legacy") or "_at_" in name]
    assert (found["uar"].metric_type, found["uar"].metric_args) == ("recall", {"average": "macro"})
    assert (found["macro_f1"].metric_type, found["accuracy"].metric_type) == ("f1", "accuracy")


def test_each_score_stands_beside_its_baseline_interval_and_n(folder, run_folder):
    text = (folder / "README.md").read_text()
    for name in ("accuracy", "macro_f1", "ccc_valence"):
        s = read_json(run_folder / "result.json")["scores"][name]
        cells = [
            f"{s[key]:.3f}"
            for key in ("value", "low", "high", "baseline", "baseline_low", "baseline_high")
        ]
        value, low, high, base, base_low, base_high = (c.replace("-0.000", "0.000") for c in cells)
        row = (
            f"| `{name}` | {value} | [{low}, {high}] | {base} | [{base_low}, {base_high}] | "
            f"{s['n']} |"
        ).replace("-", "\N{MINUS SIGN}")
        assert row in text


def test_a_synthetic_corpus_is_marked_wherever_its_scores_stand(folder):
    card = card_of(folder)
    assert card.text.lstrip().splitlines()[2].startswith("> **NOT A RESULT.**")
    assert {result.dataset_name[:12] for result in card.data.eval_results} == {"NOT A RESULT"}
    assert {result.dataset_type for result in card.data.eval_results} == {"synthetic-kemdy19"}
    assert not set(origins.CORPORA) & set(card.data.tags)


def test_a_real_corpus_is_named_with_its_terms_and_no_such_mark(run, tmp_path):
    about = {key: SECRETS[key] for key in ("corpus", "extra")}
    rewrite(run / "configuration.json", **about)
    rewrite(run / "result.json", synthetic=False)
    card = card_of(published(run, tmp_path / "out"))
    assert "NOT A RESULT" not in card.content and "not-a-result" not in card.data.tags
    assert {"kemdy19", "kemdy20"} <= set(card.data.tags)
    for title in ("KEMDy19", "KEMDy20"):
        assert f"* {title} is licensed by ETRI under a signed agreement" in card.text
    assert "may not be passed on" in card.text and "acted dialogues" in card.text
    assert "what ten raters perceived, not what anybody felt" in card.text
    assert {result.dataset_name for result in card.data.eval_results} == {"KEMDy19"}  # tested alone
    assert {result.dataset_type for result in card.data.eval_results} == {"kemdy19"}


def test_scores_of_each_corpus_stand_apart(run, tmp_path):
    result = read_json(run / "result.json")
    other = json.loads(json.dumps(result["scores"]))
    other["macro_f1"]["value"] = 0.123456789
    parts = {
        name: {"n": result["n"], "majority": "neutral", "scores": scores}
        for name, scores in (("kemdy19", result["scores"]), ("kemdy20", other))
    }
    rewrite(run / "configuration.json", **{key: SECRETS[key] for key in ("corpus", "extra")})
    rewrite(run / "result.json", synthetic=False, by_corpus=parts)
    card = card_of(published(run, tmp_path / "out"))
    found = {(r.dataset_type, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert found["kemdy20", "macro_f1"] == 0.123456789
    assert found["kemdy19+kemdy20", "macro_f1"] == result["scores"]["macro_f1"]["value"]
    assert "**kemdy20 alone**" in card.text and "| `macro_f1` | 0.123 |" in card.text


def test_the_card_says_what_it_is_not_for_and_how_to_use_it(folder):
    text = card_of(folder).text
    for words in (
        "Not for judging people",
        "Korean alone",
        "trained on | sessions 1-2 |",
        "tested on | sessions 3-4 |",
        "| test | 3-4 |",
        'model.load("DIR")',
        "python main.py predict DIR a.wav",
        "| majority baseline |",
    ):
        assert words in text, words


@pytest.mark.parametrize("asked", ["mit", "cc-by-nc-4.0"])
def test_a_licence_is_the_users_and_the_corpuss_terms_stay(asked, run, tmp_path):
    card = card_of(published(run, tmp_path / "out", "--license", asked))
    assert card.data.license == asked and card.data.license_name is None
    assert f"`{asked}`, chosen by who published them" in card.text and "has no terms" in card.text


def test_a_licence_that_is_no_id_is_refused(run, tmp_path, capsys):
    assert main.main(["publish", "run", "--out", str(tmp_path / "x"), "--license", "My own"]) == 2
    assert "needs an id such as mit or cc-by-nc-4.0, got 'My own'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "task", "base"),
    [
        ("kobert", "text-classification", "skt/kobert-base-v1"),
        ("wav2vec2", "audio-classification", "kresnik/wav2vec2-large-xlsr-korean"),
        ("mixer", "audio-classification", None),
    ],
)
def test_a_model_with_an_encoder_in_it_names_that_as_its_base(
    name, task, base, configuration, tmp_path
):
    run = saved(tmp_path / "exp/run", name, configuration, text_encoder="skt/kobert-base-v1")
    card = card_of(published(run, tmp_path / "out"))
    assert (card.data.pipeline_tag, card.data.base_model) == (task, base)
    how = "fine-tuned: its weights are part of these" if base else "frozen: needed beside"
    assert f"`{base or 'skt/kobert-base-v1'}`, {how}" in card.text


def test_an_encoder_of_a_folder_is_no_base(configuration, tmp_path):
    run = saved(
        tmp_path / "exp/run",
        "kobert",
        configuration,
        text_encoder="data/gone",
        encoder_files="0123",
    )
    card = card_of(published(run, tmp_path / "out"))
    assert card.data.base_model is None and "`./gone`, fine-tuned" in card.text


def test_a_name_of_tags_and_bars_stays_text(run, tmp_path):
    rewrite(run / "result.json", warnings=["<script>alert(1)</script>"])
    rewrite(run / "configuration.json", git="<b>x|y</b>")
    text = card_of(published(run, tmp_path / "out")).text
    assert not re.search(r"<(script|b)>", text)


def test_highlights_are_published_with_their_own_scores(configuration, tmp_path):
    said = {"model": "highlight", "widths": {"mfcc_second": 34}, "modality": "audio"}
    run = tmp_path / "exp/run"
    model.save(run, model.build("highlight", configuration | said, seed=1), configuration | said)
    draw, second = np.random.default_rng(0), np.arange(40)
    table = {
        "segment": [f"film{n // 10}#{n % 10:05d}" for n in second],
        "dialogue": [f"film{n // 10}" for n in second],
        "corpus": ["aihub_highlight"] * 40,
        "role": ["speaker"] * 40,
        "marks": [""] * 40,
        "highlight": draw.random(40),
        "highlight_true": draw.integers(0, 2, 40).astype(float),
    }
    found = intervals.summary(table, 0.5, resamples=20)
    write_json(run / "result.json", {"highlight": found, "synthetic": True, "warnings": []})
    out = published(run, tmp_path / "out")
    card = card_of(out)
    assert card.data.pipeline_tag == "video-classification"
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert values["average_precision"] == found["scores"]["average_precision"]["value"]
    assert read_json(out / "config.json")["threshold"] == 0.5
    assert "| all seconds |" in card.text and "predict DIR" not in card.text
    assert found["human"]["undefined"] == ["film0", "film1", "film2", "film3"]
    assert read_json(out / "result.json")["highlight"]["human"]["undefined"] == 4
    assert b"film" not in everything(out)


# --- refused, or interrupted ---------------------------------------------------------------------


def test_a_run_without_weights_is_refused(run, tmp_path, capsys):
    (run / "model.pth").unlink()
    said = refused(run, tmp_path / "out", capsys)
    assert "has no model.pth: its training did not end; go on with --resume run" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


def test_an_ensemble_is_refused_and_its_members_are_named(run, tmp_path, capsys):
    rewrite(run / "configuration.json", members=[{"name": "text"}, {"name": "audio"}])
    assert "publish its members, each by itself: text, audio" in refused(
        run, tmp_path / "o", capsys
    )


def test_a_folder_that_holds_something_is_refused_and_left_alone(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    said = refused(run, tmp_path / "out", capsys)
    assert "should be a new or empty folder, it holds mine.txt" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert "it is a file" in refused(run, tmp_path / "out/mine.txt", capsys)


def test_an_empty_folder_is_filled(run, tmp_path):
    (tmp_path / "out").mkdir()
    assert sorted(p.name for p in published(run, tmp_path / "out").iterdir()) == FILES


def test_an_unknown_run_is_refused(tmp_path, capsys):
    assert main.main(["publish", "none", "--save_path", str(tmp_path), "--out", "x"]) == 2
    assert "no run 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("result.json", {"scores": 5}),
        ("result.json", {"scores": {"accuracy": {"value": "x"}}}),
        ("result.json", {"calibration": []}),
        ("configuration.json", {"corpus": {"folder": "x", "fingerprint": "y"}}),
        ("configuration.json", {"split": 5}),
        ("configuration.json", {"text_encoder": 5}),
        ("protocol.json", {"sets": {"train": {"x": "\ud800"}}}),
    ],
)
def test_files_that_no_run_wrote_are_refused_in_one_line(name, changed, run, tmp_path, capsys):
    (run / name).write_text(json.dumps(read_json(run / name) | changed))
    assert refused(run, tmp_path / "out", capsys).startswith(f"error: {run}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


@pytest.mark.parametrize("count", range(5))
def test_an_interruption_leaves_nothing(count, run, tmp_path, monkeypatch):
    left, write = [count], utils.write_atomic

    def stopping(path: Path, data: object) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(path, data)

    for module in (utils, publish):
        monkeypatch.setattr(module, "write_atomic", stopping)
    assert (
        main.main(
            ["publish", "run", "--save_path", str(run.parent), "--out", str(tmp_path / "out")]
        )
        == 130
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


def test_a_full_disk_is_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(run, tmp_path / "out", capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp"]


def test_weights_that_read_back_otherwise_are_not_published(run, tmp_path, monkeypatch, capsys):
    write = utils.write_atomic

    def flipping(path: Path, data: object) -> None:
        if Path(path).name == "model.safetensors":
            data = bytearray(data)
            data[-1] ^= 1
        write(path, data)

    monkeypatch.setattr(utils, "write_atomic", flipping)
    assert "reads back differently" in refused(run, tmp_path / "out", capsys)
    assert not (tmp_path / "out").exists()


# --- hostile folders -----------------------------------------------------------------------------


@pytest.fixture
def small_folder(tmp_path) -> Path:
    """A published model of little weight."""
    model.publish(tmp_path / "small", model.build("lstm_audio", TINY, seed=1), TINY)
    return tmp_path / "small"


def unloadable(folder: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        model.load(folder)
    assert "\n" not in str(caught.value)


SHOULD = "model.safetensors should hold tensors as safetensors; it is damaged or something else"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_tensors_are_refused_in_one_line(damage, small_folder):
    path = small_folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    unloadable(small_folder, SHOULD)


def test_code_in_a_renamed_pickle_is_not_run(small_folder):
    path = small_folder / "model.safetensors"
    for data in (
        torch_bytes({"weight": Touch(small_folder / "made")}),
        pickle.dumps(Touch(small_folder / "made")),
    ):
        path.write_bytes(data)
        unloadable(small_folder, SHOULD)
    state = model.build("lstm_audio", TINY, seed=1).state_dict()
    path.write_bytes(torch_bytes(state))  # a good one is none here, either
    unloadable(small_folder, SHOULD)
    assert not (small_folder / "made").exists()


def with_header(path: Path, change, body: bytes | None = None) -> None:
    """Write tensors again with another header: a dict, or the bytes themselves."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = change(json.loads(data[8:end]))
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    rest = data[end:] if body is None else body
    path.write_bytes(struct.pack("<Q", len(header)) + header + rest)


def each(header: dict, **entry: object) -> dict:
    return {
        name: value if name == "__metadata__" else value | entry for name, value in header.items()
    }


HEADERS = {
    "terabytes": lambda h: each(h, shape=[2**40], data_offsets=[0, 2**42]),
    "a shape of terabytes": lambda h: each(h, shape=[2**62, 2**3]),
    "a shape below 0": lambda h: each(h, shape=[-1, 4]),
    "one place for all": lambda h: each(h, shape=[1], dtype="F32", data_offsets=[0, 4]),
    "an unknown type": lambda h: each(h, dtype="F1024"),
    "no dict": lambda h: [],
    "nested too deep": lambda h: b"[" * 100_000,
    "no JSON": lambda h: b"{" * 40,
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_lies_is_refused(change, small_folder):
    with_header(small_folder / "model.safetensors", change)
    unloadable(small_folder, SHOULD)


@pytest.mark.parametrize("length", [0, 2**31, 2**42, 2**64 - 1])
def test_a_header_of_terabytes_is_refused(length, small_folder):
    path = small_folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    unloadable(small_folder, SHOULD)


def test_tensors_of_other_shapes_names_and_kinds_are_named(small_folder):
    path, good = small_folder / "model.safetensors", (small_folder / "model.safetensors")
    whole = good.read_bytes()
    with_header(path, lambda h: each(h, shape=[0, 7], data_offsets=[0, 0]), b"")
    unloadable(small_folder, r"safetensors does not fit .*config.json: .* is 0x7, should be ")
    path.write_bytes(whole)
    with_header(
        path,
        lambda h: {f"{name}\n" if name[0] != "_" else name: value for name, value in h.items()},
    )
    unloadable(small_folder, "standardised.count is missing; ")
    path.write_bytes(whole)
    with_header(
        path,
        lambda h: (
            each(h, **{})
            | {
                name: value | {"dtype": "I32"}
                for name, value in h.items()
                if value.get("dtype") == "F32"
            }
        ),
    )
    unloadable(small_folder, "is torch.int32, should be torch.float32")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"hidden_size": 10**12}, "no model can be built from .*config.json"),
        ({"hidden_size": 16}, r"model.safetensors does not fit .*config.json: .* and \d+ more$"),
        ({"model": "mat"}, "no 'mat' in models/"),
        ({"x": "\ud800"}, "config.json holds what is no JSON"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changed, match, small_folder):
    (small_folder / "config.json").write_text(json.dumps(TINY | changed))
    unloadable(small_folder, match)


def test_a_config_that_names_no_model_is_none_of_2022(small_folder):
    write_json(small_folder / "config.json", {"model_type": "bert", "hidden_size": 4})
    unloadable(small_folder, "config.json names no model; .* one of: .*mate")


def test_a_missing_half_is_named(small_folder):
    (small_folder / "model.safetensors").unlink()
    unloadable(small_folder, "cannot read .*model.safetensors: No such file")


def test_a_folder_of_both_kinds_or_neither_is_refused(small_folder, tmp_path):
    unloadable(
        tmp_path,
        "cannot read .*configuration.json, of a run, or config.json, of a "
        "published model: neither is there",
    )
    model.save(small_folder, model.build("lstm_audio", TINY, seed=2), TINY)
    unloadable(small_folder, "both are there, it should be one")
    (small_folder / "configuration.json").unlink()  # the configuration decides, not the weights
    loaded, _ = model.load(small_folder)
    wanted = model.build("lstm_audio", TINY, seed=1).state_dict()
    assert model.serialise(loaded.state_dict()) == model.serialise(wanted)


# --- what is known -------------------------------------------------------------------------------


def test_every_corpus_has_its_terms_and_every_encoder_its_feature():
    made = {"sample", "kemdy19_2022"}  # these are read as kemdy19
    assert set(utils.leaves("corpora")) - made == set(origins.CORPORA)
    known = {**origins.MADE_BY, **origins.WITHIN}
    assert set(known) <= set(utils.leaves("features"))
    flags = {f"{kind}_encoder" for kind in ("text", "speech", "vision")}
    assert set(known.values()) == flags == set(portable.ENCODERS)
    for name in utils.leaves("features"):
        text = (utils.ROOT / f"features/{name}.py").read_text()
        assert (name in known and name != "waveform") == bool(
            re.search(r"settings\.\w+_encoder", text)
        ), name


def test_every_key_that_a_run_writes_is_published_or_named_as_kept_back(configuration, folder):
    kept = read_json(folder / "config.json").keys()
    assert configuration.keys() - kept == portable.HERE | {"command"}
    assert kept - configuration.keys() == {"temperature"}


def test_the_template_names_the_emotions_in_the_order_of_the_scores(folder):
    named = ", ".join(f"{name} {constants.KOREAN[name]}" for name in constants.EMOTIONS)
    assert f"Classes, in this order: {named}." in (folder / "README.md").read_text()
    assert model_card.NOT_A_RESULT.lower() in page.NOT_A_RESULT

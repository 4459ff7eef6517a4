"""A finished run that is damaged, or flags that cannot be: refused in one line."""

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from doubles.command_line import TEXT, Code, files

# --- a finished run ------------------------------------------------------------------------------


@pytest.fixture
def run(run_folder, ready) -> Path:
    """A copy of the finished run (trained on sessions 1 and 2) in `exp/run`."""
    Path("exp").mkdir()
    return Path(shutil.copytree(run_folder, "exp/run"))


@pytest.fixture
def untestable(refused):
    """`untestable(match, run)`: --test_only is refused and leaves the run folder as it was."""

    def check(match: str, run: Path, *words: str) -> None:
        before = files(run)
        refused(match, "--test_only", run.name, "--data", "corpus", *words)
        assert files(run) == before

    return check


@pytest.mark.parametrize(
    "data",
    [b"", b"no torch at all\n", b"PK\x03\x04" + bytes(100), pickle.dumps({"a": 1})],
    ids=["empty", "text", "not a zip", "a pickle"],
)
def test_weights_that_are_something_else_are_refused(data, run, untestable):
    (run / "model.pth").write_bytes(data)
    (run / "model.pth.b2sum").unlink()
    untestable(r"model.pth should hold a (state dict of torch; it is damaged|dict of tensors)", run)


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_truncated_weights_are_refused(share, run, untestable):
    data = (run / "model.pth").read_bytes()
    (run / "model.pth").write_bytes(data[: int(share * len(data))])
    untestable(r"model.pth is damaged: model.pth.b2sum holds the checksum of other bytes", run)
    (run / "model.pth.b2sum").unlink()
    untestable(r"model.pth should hold a state dict of torch; it is damaged", run)


@pytest.mark.parametrize("value", [Code(), {"emotion.0.weight": Code()}], ids=["bare", "in a dict"])
def test_weights_that_hold_code_are_refused_and_never_run(value, run, untestable):
    torch.save(value, run / "model.pth")
    (run / "model.pth.b2sum").unlink()
    untestable(r"model.pth should hold a state dict of torch; it is damaged or something else", run)
    assert not Path("executed").exists()


def test_a_run_without_weights_is_refused(run, untestable):
    (run / "model.pth").unlink()
    untestable(r"exp/run has no model.pth: its training did not end; .*--resume run", run)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hidden_size": 16}, r"model.pth does not fit .*configuration.json: .*should be 64x"),
        ({"bidirectional": True}, r"does not fit .*_reverse is missing"),
        ({"backbone": "gru"}, r"does not fit .*should be 24x"),
        ({"hidden_size": "8"}, r"hidden_size should be int, it is '8'"),
        ({"ws": 0}, r"ws should be at least 1, it is 0"),
        ({"model": "kobart"}, r"no 'kobart' in models/; there are: .*mate"),
        ({"SorL": "dancer"}, r"SorL should be one of speaker, listener"),
        ({"split": None}, r"configuration.json.*split"),
        ({"test_split": None}, r"configuration.json.*test_split"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(change, match, run, untestable):
    path = run / "configuration.json"
    changed = json.loads(path.read_text()) | change
    path.write_text(json.dumps({k: v for k, v in changed.items() if v is not None}))
    untestable(match, run)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"{", r"cannot read .*configuration.json as JSON"),
        (b"", r"cannot read .*configuration.json as JSON"),
        (b"[1, 2]", r"configuration.json should hold a JSON object, it holds a list"),
        ('{"model": "mate"}'.encode("utf-16"), r"cannot read .*configuration.json as JSON"),
        (b"{}", r"names no model.*it lacks backbone"),
    ],
    ids=["cut", "empty", "list", "UTF-16", "nothing in it"],
)
def test_a_configuration_that_is_something_else_is_refused(data, match, run, untestable):
    (run / "configuration.json").write_bytes(data)
    untestable(match, run)


@pytest.mark.parametrize(
    "flag",
    [
        "--lr 0.1",
        "--epochs 2",
        "--ws 4",
        "--SorL listener",
        "--hidden_size 8",
        "--val_split [1]",
        "--seed 1",
    ],
)
def test_a_flag_of_training_is_refused_when_testing(flag, run, untestable):
    name = flag.split()[0]
    untestable(rf"{name} was settled when run was trained; .*--data", run, *flag.split())


@pytest.mark.parametrize("split", ["[1]", "[2,3]", "[1,2,3,4]"])
def test_a_test_split_that_touches_trained_sessions_is_refused(split, run, untestable):
    untestable(
        r"test rows were used in training \(e.g. Sess0\d_.*sessions \[1, 2\]",
        run,
        "--test_split",
        split,
    )


def test_trained_sessions_are_known_without_their_sound(say, refused, own_corpus):
    for path in own_corpus.glob("corpus/wav/*/*/*.wav"):
        path.unlink()
    say(*TEXT, "--test_split", "[3,4]")
    [run] = own_corpus.glob("exp/*")
    before = files(run)
    refused(
        "test rows were used in training",
        "--test_only",
        run.name,
        "--data",
        "corpus",
        "--test_split",
        "[1]",
    )
    assert files(run) == before


@pytest.mark.parametrize("name", ["../run", "exp/../../run", "/etc", "..", "link"])
def test_a_run_outside_save_path_is_refused(name, run, refused, tmp_path):
    outside = shutil.copytree(run, tmp_path / "run")
    Path("exp/link").symlink_to(outside)
    refused(
        rf"'{re.escape(name)}' lies outside --save_path ./exp",
        "--test_only",
        name,
        "--data",
        "corpus",
    )
    assert not list(outside.glob("test_*"))


def test_a_run_that_does_not_exist_is_an_error_that_names_those_that_do(run, refused):
    refused(r"no run 'ran' in ./exp; there are: run$", "--test_only", "ran", "--data", "corpus")
    refused(r"no run '' in ./exp; there are: run$", "--test_only", "--data", "corpus")


def test_testing_twice_never_overwrites_what_training_wrote(run, say):
    before = files(run)
    for _ in range(2):
        assert say("--test_only", "run", "--data", "corpus").code == 0
    after = files(run)
    assert {name: after[name] for name in before} == before
    added = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert len(added) == 2
    assert all(re.fullmatch(r"test_\d{8}T\d{6}Z(-2)?", name) for name in added), added


# --- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("--ws 0", "--ws: needs a whole number of at least 1, got '0'"),
        ("--lam 2", "--lam: needs a number of at least 0 and at most 1, got '2'"),
        ("--beta 1", "--beta: needs a number of at least 0 and under 1, got '1'"),
        ("--hidden_size 0", "--hidden_size: needs a whole number of at least 1"),
        ("--text_dim eight", "--text_dim: needs a whole number of at least 1, got 'eight'"),
        ("--sr 900", "sr 900 leaves too few frames"),
        ("--backbone transformer", "invalid choice: 'transformer'"),
        ("--batch_size 1", "--batch_size: needs a whole number of at least 2"),
        ("--lr nan", "--lr: needs a number"),
        ("--max_bad nan", "--max_bad"),
        ("--test_split [9]", r"\[9\] that do not exist; the sessions there are: 1, 2, 3, 4"),
        ("--val_split [1]", r"\[1\] are in both"),
        ("--text_encoder none/such", "'none/such' is not on this machine.*char-ngram"),
    ],
)
def test_an_impossible_flag_is_refused_before_anything_is_written(words, match, ready, refused):
    both = [word for word in TEXT if word not in ("--modality", "text")]
    refused(match, *both, *words.split())


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b'--lr 1\n--epochs "3\n', "cannot read the flags '--epochs \"3': No closing quotation"),
        ("--epochs 3 # 세 번\n".encode("utf-16"), "@flags.txt should be flags in UTF-8"),
    ],
    ids=["open quote", "UTF-16"],
)
def test_a_file_of_flags_that_cannot_be_read_is_refused(data, match, ready, refused):
    Path("flags.txt").write_bytes(data)
    refused(match, "@flags.txt")


def test_an_empty_word_is_refused(ready, refused):
    refused("no subcommand ''", "")

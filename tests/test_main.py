"""The command line: what is accepted, and what an error says."""

import contextlib
import re

import pytest

import constants
import main
from training import flags


def settings(*words):
    return flags.parse(list(words)).settings


def test_defaults_are_those_of_the_2022_code():
    read = settings()
    wanted = dict(
        SorL="speaker",
        test_split=(1, 2, 3, 4),
        lam=0.66,
        beta=0.99,
        loss="normal",
        epochs=50,
        batch_size=64,
        optim="adam",
        lr=1e-3,
        lr_decay=0.7,
        weight_decay=1e-5,
        ws=8,
        sr=16000,
        text_dim=768,
        backbone="lstm",
        hidden_size=512,
        save_path="./exp",
        bidirectional=False,
        gpu_id=None,
        modality="both",
        emotion_concat=True,
        val_split=(),
        ties="drop",
        model="mate",
    )
    assert {name: getattr(read, name) for name in wanted} == wanted


def test_every_flag_of_the_2022_readme_is_read():
    read = settings(
        *(
            "--SorL listener --test_split [1,8,9,13] --lam 0.75 --beta 0.9 --loss cbloss "
            "--epochs 3 --batch_size 32 --optim sgd --lr 0.01 --lr_decay 0.5 --weight_decay 0.1 "
            "--bidirectional --ws 4 --sr 16000 --text_dim 64 --backbone gru "
            "--save_path ./runs --gup_id 1"
        ).split()
    )
    assert (read.SorL, read.test_split, read.gpu_id) == ("listener", (1, 8, 9, 13), 1)
    assert (read.bidirectional, read.backbone, read.save_path) == (True, "gru", "./runs")


@pytest.mark.parametrize(
    "words", [["[13,14,15,16]"], ["[13,", "14,", "15,", "16]"], ["13", "14", "15", "16"]]
)
def test_test_split_is_read_with_and_without_brackets(words):
    assert settings("--test_split", *words, "--epochs", "2").test_split == (13, 14, 15, 16)


def test_test_split_without_a_value_is_the_default():
    assert settings("--test_split").test_split == constants.TEST_SPLIT


def test_flags_are_read_from_a_file_with_comments(tmp_path):
    flags = tmp_path / "flags.txt"
    flags.write_text("# python main.py @flags.txt\n--epochs 3  # few\n--test_split [1, 2]\n")
    read = settings(f"@{flags}")
    assert (read.epochs, read.test_split) == (3, (1, 2))


def exit_and_error(capsys, *words) -> tuple[int, str]:
    code = main.main(list(words))
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ws", "0"], "--ws: needs a whole number of at least 1, got '0'"),
        (["--lam", "2"], "--lam: needs a number of at least 0 and at most 1, got '2'"),
        (["--lam", "nan"], "got 'nan'"),
        (["--beta", "1"], "--beta: needs a number of at least 0 and under 1, got '1'"),
        (["--epochs", "1.5"], "--epochs: needs a whole number"),
        (["--epoch", "3"], "unknown: --epoch 3"),
        (["--optim", "lion"], "invalid choice: 'lion'"),
        (["--test_split", "one"], "--test_split needs session numbers"),
        (["--model", "kobart"], "invalid choice: 'kobart'"),
        (["paint"], "no subcommand 'paint'; there are: .*prepare"),
        (["@none.txt"], "none.txt"),
        (["--data", "nowhere"], "no corpus folder 'nowhere'.*--data sample"),
        (["--gpu_id", "99"], "--gpu_id 99 does not exist; this machine has"),
        (["--test_only", "none"], "no run 'none' in ./exp; there are: none"),
        (["--test_only"], "no run '' in ./exp; there are: none"),
        (["--test_only", "../elsewhere"], "outside --save_path"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(words, message, capsys, tmp_path):
    with contextlib.chdir(tmp_path):
        code, error = exit_and_error(capsys, *words)
    assert code == 2
    assert error.count("\n") == 1, error
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir()), "something was written"


def test_a_missing_corpus_is_never_replaced_by_the_sample(capsys, tmp_path):
    with contextlib.chdir(tmp_path):
        code, error = exit_and_error(capsys)
    assert code == 2
    assert "data/KEMDy19" in error
    assert "--data sample" in error


@pytest.mark.parametrize("split", ["[]", "[9]", "[1,2,3,4]"])
def test_an_impossible_test_split_names_the_sessions(split, capsys, workplace):
    with contextlib.chdir(workplace):
        code, error = exit_and_error(capsys, "--data", "corpus", "--test_split", split)
        assert not list(workplace.glob("exp/*T*Z-none")), "a run folder was made"
    assert (code, "the sessions there are: 1, 2, 3, 4" in error) == (2, True), error


def test_a_tiny_lr_decay_is_warned_about(capsys):
    main._warn(settings("--lr_decay", "0.05"))
    assert "2022 code ignored" in capsys.readouterr().err


def test_an_argument_that_is_no_utf8_is_refused(capsys):
    assert main.main(["prepare", "--data", "c\udcff"]) == 2
    assert capsys.readouterr().err == "error: arguments should be UTF-8, got 'c\\udcff'\n"


def test_an_encoder_too_long_for_a_name_is_refused(workplace, run_folder, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    words = ["--data", "corpus", "--test_split", "[3,4]", "--text_encoder", "가" * 2000]
    assert main.main(words) == 2
    assert "is too long for a name" in capsys.readouterr().err.splitlines()[-1]

"""The subcommand `predict`: what it writes, what it refuses, and that a kill costs nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from doubles.untrained import run as untrained
from doubles.voices import voices

import main
import utils
from commands import predict as predict_command
from inference import console, predictor, results
from utils import ROOT

COUNT = 9
DROPOUT = ("--modality_dropout", 0.15)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("predict")
    voices(place / "talk", COUNT)
    flags = ("--text_encoder", "char-ngram", "--hidden_size", 8, "--sr", 8000, "--ws", 3)
    untrained(place / "exp/both", "mate", *flags)
    untrained(place / "exp/dropout", "mate", *flags, *DROPOUT)
    return place


@pytest.fixture
def predict(place, monkeypatch, capsys):
    """`main.py predict` in the workplace: exit code and what it printed, in one line of words."""
    monkeypatch.chdir(place)

    def run(*words):
        code = main.main(["predict", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err.split("\r")[-1] if code else said.err

    return run


def lines(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


# --- what is written -----------------------------------------------------------------------------


def test_a_folder_gives_a_line_an_utterance_and_a_picture(predict, place, tmp_path):
    code, said, _ = predict("both", "talk", "--out", tmp_path / "o")
    assert code == 0
    assert {p.name for p in (tmp_path / "o").iterdir() if p.name[0] != "."} == {
        "asked.json",
        "predictions.csv",
        "predictions.jsonl",
        "summary.json",
        "timeline.png",
    }
    found = lines(tmp_path / "o")
    assert [line["segment"] for line in found] == [str(n) for n in range(COUNT)]
    for line in found:
        p = line["probabilities"]
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert line["emotion"] == max(p, key=p.get) and line["confidence"] == max(p.values())
        assert 1 <= line["arousal"] <= 5 and 1 <= line["valence"] <= 5
        assert line["masked"] == [] and line["trouble"] == ""
    with (tmp_path / "o/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["disgust"]) for row in rows] == [f["probabilities"]["disgust"] for f in found]
    assert [row["text"] for row in rows] == [line["text"] for line in found]
    assert (tmp_path / "o/timeline.png").read_bytes().startswith(b"\x89PNG")
    assert utils.read_json(tmp_path / "o/summary.json")["utterances"] == COUNT
    assert "emotion  sure arousal valence" in said and str(tmp_path / "o") in said


def test_the_default_place_is_in_the_run_and_the_same_command_finds_it_again(predict, place):
    _, said, _ = predict("both", "talk/0.wav", "talk/1.wav")
    folder = place / said.rpartition("written: ")[2].strip()
    assert folder.parent == place / "exp/both"
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.glob("[!.]*")}
    _, said, _ = predict("both", "talk/0.wav", "talk/1.wav")
    assert "is finished" in said
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.glob("[!.]*")}


def test_explain_writes_the_effects_and_a_picture(predict, tmp_path):
    code, *_ = predict("both", "talk/0.wav", "talk/1.wav", "--out", tmp_path / "o", "--explain")
    assert code == 0
    effects = lines(tmp_path / "o")[1]["explanation"]
    assert [(e["back"], e["kind"]) for e in effects] == [
        (0, "sound"),
        (0, "text"),
        (0, "both"),
        (1, "sound"),
        (1, "text"),
        (1, "both"),
        (None, "sound"),
        (None, "text"),
    ]
    assert all(-1 <= e["emotion"] <= 1 for e in effects)
    assert (tmp_path / "o/explain.png").exists()


def test_bad_files_are_named_and_skipped_up_to_a_share(predict, place, tmp_path):
    talk = voices(tmp_path / "t", 4)
    (talk / "1.wav").write_bytes(b"")
    code, _, err = predict("both", talk, "--out", tmp_path / "o")
    assert code == 0 and "1.wav: empty wav" in err
    found = lines(tmp_path / "o")
    assert [line["trouble"] for line in found] == ["", "empty wav", "", ""]
    assert found[1]["probabilities"] is None and found[1]["arousal"] is None
    code, _, err = predict("both", talk, "--out", tmp_path / "p", "--max_bad", 0.2)
    assert code == 2 and "1 of 4 utterances are unusable" in err and "1.wav: empty wav" in err
    assert err.count("\n") == 1 and not (tmp_path / "p").exists()


def test_a_missing_text_needs_force_or_a_run_that_knows_it(predict, place, tmp_path):
    talk = voices(tmp_path / "t", 2, text=False)
    code, _, err = predict("both", talk, "--out", tmp_path / "o")
    assert code == 2 and "--force" in err and not (tmp_path / "o").exists()
    code, _, err = predict("both", talk, "--out", tmp_path / "o", "--force")
    assert code == 0 and "never saw an utterance without text" in err
    assert lines(tmp_path / "o")[0]["masked"] == ["text"]
    code, _, err = predict("dropout", talk, "--out", tmp_path / "d")
    assert code == 0 and "warning" not in err
    code, *_ = predict("both", talk / "0.wav", "--text", "오늘 기뻐", "--out", tmp_path / "s")
    assert code == 0 and lines(tmp_path / "s")[0]["text"] == "오늘 기뻐"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent", "talk"), "no run 'absent'"),
        (("both", "gone"), "no file or folder gone"),
        (("both", "talk", "--out", "talk"), "should be new or empty"),
        (("both", "talk", "--text", "하나"), "--text is what one utterance says, 9 are named"),
        (("both", "talk", "--onnx"), "no exported model 'both'"),
        (("both", "talk", "--pause", "0"), "--pause"),
        (("both",), "PATH"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(predict, words, message):
    code, _, err = predict(*words)
    assert code == 2 and message in err and err.count("\n") == 1


def test_the_timeline_of_many_dialogues_is_drawn_for_the_first(predict, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "PICTURES", 2)
    _, said, _ = predict("both", "talk", "--alone", "--out", tmp_path / "o")
    assert len(list((tmp_path / "o").glob("timeline_*.png"))) == 2
    assert f"pictures of the first 2 of {COUNT} dialogues" in said


# --- stopped and gone on with --------------------------------------------------------------------


def answers(folder):
    return {
        name: (folder / name).read_bytes()
        for name in ("predictions.jsonl", "predictions.csv", "timeline.png")
    }


@pytest.mark.parametrize("torn", [b"", b'{"segment": "3", "fi', b"\xff\xfe\n", b"[]\n{}\n"])
def test_what_a_kill_left_is_cut_back_and_gone_on_with(predict, tmp_path, monkeypatch, torn):
    predict("both", "talk", "--out", tmp_path / "whole")
    predict("both", "talk", "--out", tmp_path / "cut")
    kept = (tmp_path / "cut/predictions.jsonl").read_bytes().splitlines(keepends=True)[:3]
    (tmp_path / "cut/predictions.jsonl").write_bytes(b"".join(kept) + torn)
    (tmp_path / "cut/predictions.csv").write_text("half a li")
    for name in ("summary.json", "timeline.png"):
        (tmp_path / "cut" / name).unlink()
    calls = []
    stream = predictor.Predictor.stream
    monkeypatch.setattr(
        predictor.Predictor,
        "stream",
        lambda self, rows, first, then: calls.append(first) or stream(self, rows, first, then),
    )
    code, *_ = predict("both", "talk", "--out", tmp_path / "cut")
    assert code == 0 and calls == [3]
    assert answers(tmp_path / "cut") == answers(tmp_path / "whole")


def test_the_same_command_twice_at_once_answers_once(predict, tmp_path, monkeypatch):
    answer, codes = predict_command._answer, []
    inside = threading.Event()

    def slow(*given):
        inside.set()
        time.sleep(0.5)
        answer(*given)

    monkeypatch.setattr(predict_command, "_answer", slow)
    words = ["predict", "both", "talk", "--out", str(tmp_path / "o")]
    one = threading.Thread(target=lambda: codes.append(main.main(words)))
    one.start()
    inside.wait(60)
    codes.append(main.main(words))
    one.join()
    assert codes == [0, 0]
    assert [line["segment"] for line in lines(tmp_path / "o")] == [str(n) for n in range(COUNT)]


def test_a_name_that_is_not_utf8_is_a_bad_file_and_not_the_end(predict, tmp_path):
    talk = voices(tmp_path / "t", 3)
    os.rename(talk / "1.wav", os.fsencode(talk) + b"/" + "안녕.wav".encode("cp949"))
    code, _, err = predict("both", talk, "--out", tmp_path / "o")
    assert code == 0 and "its name is not UTF-8" in err
    assert [line["trouble"] for line in lines(tmp_path / "o")].count("its name is not UTF-8") == 1


def test_answers_of_a_model_that_is_passed_on_are_not_put_beside_it(predict, place):
    code, *_ = predict_published(predict, place)
    assert code == 0 and not list((place / "shared").glob("predict_*"))
    assert list((place / "exp").glob("predict_*"))


def predict_published(predict, place):
    assert main.main(["publish", "both", "--out", "shared"]) == 0
    return predict("shared", "talk/0.wav")


def test_a_folder_of_another_question_is_refused_and_left_alone(predict, tmp_path):
    predict("both", "talk/0.wav", "--out", tmp_path / "o")
    before = answers(tmp_path / "o")
    for words in (("dropout", "talk/0.wav"), ("both", "talk/1.wav")):
        code, _, err = predict(*words, "--out", tmp_path / "o")
        assert code == 2 and "holds answers to another question" in err
    assert answers(tmp_path / "o") == before


def test_a_killed_process_goes_on_and_ends_with_the_same_answers(predict, place, tmp_path):
    """SIGKILL of a process of its own, when it has written some but not all."""
    talk = voices(tmp_path / "talk", 70)
    predict("both", talk, "--out", tmp_path / "whole")
    command = [sys.executable, str(ROOT / "main.py"), "predict", "both", str(talk)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "cut")],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    there = tmp_path / "cut/predictions.jsonl"
    while process.poll() is None and not (there.exists() and there.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(lines(tmp_path / "cut")) < 70
    assert not (tmp_path / "cut/summary.json").exists()
    code, *_ = predict("both", talk, "--out", tmp_path / "cut")
    assert code == 0
    assert answers(tmp_path / "cut") == answers(tmp_path / "whole")


# --- on the console ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "abc", "가나다라마바사", "ab가나", "a" * 40])
@pytest.mark.parametrize("width", [5, 10])
def test_hangul_takes_two_columns(text, width):
    fitted = console._fit(text, width)
    assert console._width(fitted) == width
    assert fitted.startswith(text) if console._width(text) <= width else "…" in fitted


def test_lines_read_back_are_the_table_that_was_written(predict, tmp_path):
    predict("both", "talk", "--out", tmp_path / "o")
    table = results.table(lines(tmp_path / "o"))
    assert table[["arousal", "valence"]].notna().all().all()
    assert np.allclose(table[list(predictor.constants.EMOTIONS)].sum(axis=1), 1, atol=1e-5)

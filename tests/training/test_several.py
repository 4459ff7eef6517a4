"""Two corpora trained on together: what is added, joined, refused and tested again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.several import material, settings
from doubles.two_corpora import BOTH, TEXT

import dataset
import main
from evaluation import splits
from features.store import extraction
from utils import UserError, leaf


def sessions_of(windows: dataset.Windows) -> set[tuple[str, int]]:
    rows = windows.utterances.iloc[windows.rows]
    return set(zip(rows["corpus"], rows["session"], strict=True))


def test_an_added_corpus_is_trained_on_and_not_tested_on(copied):
    found = material()
    train, test = (sessions_of(dataset.Windows(found, name, 2)) for name in ("train", "test"))
    assert train == {*(("kemdy19", n) for n in (1, 2, 3)), *(("kemdy20", n) for n in (1, 2, 3))}
    assert test == {("kemdy19", 4)}


def test_sessions_of_an_added_corpus_that_are_tested_are_not_trained_on(copied):
    found = material(test_extra=(1, 3))
    train, test = (sessions_of(dataset.Windows(found, name, 2)) for name in ("train", "test"))
    assert {("kemdy20", 1), ("kemdy20", 3)} == test - {("kemdy19", 4)}
    assert ("kemdy20", 2) in train and not train & test


def test_a_window_never_joins_dialogues_of_two_corpora(copied):
    found = material()
    windows = dataset.Windows(found, "train", 8)
    names = found.utterances["dialogue"].where(found.utterances["corpus"] == "kemdy19")
    assert set(names.dropna()) & set(found.utterances["dialogue"][names.isna()])  # names shared
    corpus = found.utterances["corpus"].to_numpy()
    for window in windows.index:
        assert len(set(corpus[window[window >= 0]])) == 1


def test_joined_features_are_those_of_each_corpus_by_itself(copied):
    found = material()
    store = found.stores["sentence"]
    parts = [dataset.open_corpus(name).role("speaker") for name in ("corpus", "kemdy20:talk")]
    alone = [
        extraction.extract("sentence", rows, copied, corpus.prepared, settings()).gather(
            np.arange(len(rows))
        )
        for rows, corpus in zip(parts, found.corpora, strict=True)
    ]
    assert np.array_equal(store.gather(np.arange(len(store))), np.concatenate(alone))
    assert store.gather(np.array([[-1, len(parts[0])]]))[0, 0].sum() == 0
    assert len(store) == len(found.utterances) and store.available.any()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"test_extra": (9,)}, r"--test_extra names sessions \[9\] that do not exist; .* 1, 2, 3$"),
        ({"test_extra": (1, 2, 3)}, "--test_extra names all sessions of kemdy20: 1, 2, 3"),
        (
            {"test_extra": (1,), "train_extra": ()},
            "--test_extra names sessions of corpora that --tr",
        ),
        ({"train_extra": ("corpus",)}, "--data and --train_extra name kemdy19 twice, corpus and"),
        ({"train_extra": ("talk", "kemdy20:talk")}, "name kemdy20 twice, talk and talk"),
        ({"labels": "situation"}, "--labels situation means nothing here: kemdy19, kemdy20"),
    ],
)
def test_what_cannot_be_added_is_named(copied, changes, said):
    with pytest.raises(UserError, match=said):
        material(**changes)


def test_audio_that_an_added_corpus_shares_with_the_test_is_refused(copied):
    [wav] = sorted(Path("corpus/wav/Session04").glob("*/*_F001.wav"))[:1]
    other = sorted(Path("talk/wav/Session02").glob("*.wav"))[0]
    other.write_bytes(wav.read_bytes())
    with pytest.raises(UserError, match="the split leaks: audio 1 .*" + other.stem):
        material()


def test_the_console_and_the_page_show_each_corpus(joint_run, copied, capsys):
    assert main.main(["--test_only", "both", "--gpu_id", "-1"]) == 0
    told = capsys.readouterr().out
    for name in ("kemdy19", "kemdy20"):
        assert f"\n{name}: " in told
    assert max(map(len, told.split("\nreport:")[0].splitlines())) <= 80
    page = (joint_run / "report.html").read_text()
    assert "Each corpus by itself" in page and "<h3>kemdy20</h3>" in page
    assert "trained on sessions 1-2 of kemdy20 too, and tested on 3" in page


def test_testing_again_gives_the_same_and_opens_nothing_that_is_not_tested(copied, joint_run):
    assert main.main(["--test_only", "both", "--gpu_id", "-1"]) == 0
    [again] = Path("exp/both").glob("test_*")
    first, second = (pd.read_csv(f / "predictions.csv") for f in (joint_run, again))
    pd.testing.assert_frame_equal(first, second, atol=1e-6, rtol=0)
    shutil.rmtree("talk")
    assert main.main(["--test_only", "both", "--test_extra", "--gpu_id", "-1"]) == 0
    alone = max(Path("exp/both").glob("test_*"), key=lambda folder: folder.stat().st_mtime)
    assert set(pd.read_csv(alone / "predictions.csv")["corpus"]) == {"kemdy19"}


def test_a_session_of_an_added_corpus_that_was_trained_on_is_not_tested(copied, capsys):
    assert main.main(["--test_only", "both", "--test_extra", "2", "--gpu_id", "-1"]) == 2
    assert "were used in training" in capsys.readouterr().err
    assert (
        main.main(
            [
                "--test_only",
                "both",
                "--data",
                "talk",
                "--test_split",
                "1",
                "--test_extra",
                "--gpu_id",
                "-1",
            ]
        )
        == 2
    )
    assert "sessions [1, 2] of kemdy20" in capsys.readouterr().err


def test_the_protocol_card_counts_each_corpus(joint_run):
    card = json.loads((joint_run / "protocol.json").read_text())
    assert card["by_corpus"]["kemdy20"]["train"]["sessions"] == [1, 2]
    assert card["by_corpus"]["kemdy20"]["test"]["sessions"] == [3]
    for part in ("train", "test"):
        whole, parts = card["sets"][part], [c[part] for c in card["by_corpus"].values()]
        for what in ("rows", "targets", "dialogues", "speakers"):
            assert whole[what] == sum(one[what] for one in parts)


def test_a_changed_added_corpus_stops_a_run_that_goes_on(copied, capsys):
    wav = sorted(Path("talk/wav/Session01").glob("*.wav"))[0]
    wav.write_bytes(wav.read_bytes() + b"\0\0")
    Path("exp/both/report.html").unlink()
    assert main.main(["--resume", "both", "--gpu_id", "-1"]) == 2
    assert "has changed since" in capsys.readouterr().err


def test_split_extra_keeps_what_is_not_named():
    assert splits.split_extra([3, 1, 2, 2], (2, 9), "a") == ((1, 3), (), (2,))


# --- found in a review ---------------------------------------------------------------------------


def test_a_session_of_tables_that_was_trained_on_is_still_refused(copied, capsys, monkeypatch):
    """Rows of the tables of 2022 are called kemdy19, their plugin is not: nor may it matter."""
    words = ["--data", "corpus", "--test_split", "4", *TEXT, "--save_name", "one"]
    assert main.main(words) == 0
    real = dataset.open_corpus

    def renamed(*arguments, **options):
        corpus = real(*arguments, **options)
        corpus.name = "kemdy19_2022"
        return corpus

    monkeypatch.setattr(dataset, "open_corpus", renamed)
    for path in Path("corpus/wav").rglob("*.wav"):  # known by their sessions alone
        path.unlink()
    said = ["--test_only", "one", "--test_split", "1", "--gpu_id", "-1", "--max_bad", "1"]
    assert main.main(said) == 2
    assert "were used in training" in capsys.readouterr().err


def test_a_run_of_a_label_rule_is_tested_again_without_the_corpus_that_has_it(copied, monkeypatch):
    leaf_of_talk = leaf("corpora", "kemdy20")
    monkeypatch.setattr(leaf_of_talk, "LABELS", ("raters",), raising=False)
    monkeypatch.setattr(leaf_of_talk, "labelled", lambda rows, rule: rows, raising=False)
    words = [*BOTH, "--labels", "raters", *TEXT, "--save_name", "ruled"]
    assert main.main(words) == 0
    shutil.rmtree("talk")
    assert main.main(["--test_only", "ruled", "--gpu_id", "-1"]) == 0


def test_two_versions_of_a_corpus_are_not_one_run(copied, capsys):
    shutil.copytree("talk", "talk2")
    with pytest.raises(UserError, match="name kemdy20 twice, talk and talk2"):
        material(train_extra=("talk", "talk2"))
    assert main.main(["prepare", "--data", "talk", "--train_extra", "talk2"]) == 2


def test_a_folder_begun_before_there_were_added_corpora_is_not_gone_on_with(copied, capsys):
    folder = Path("exp/both")
    said = json.loads((folder / "configuration.json").read_text())
    old = {k: v for k, v in said.items() if k not in ("train_extra", "test_extra", "extra")}
    (folder / "configuration.json").write_text(json.dumps(old))
    (folder / "report.html").unlink()
    words = [*BOTH, "--test_extra", "3", *TEXT, "--save_name", "both"]
    assert main.main(words) == 2
    assert "was begun with train_extra []" in capsys.readouterr().err

"""Several corpora in one run: `--train_extra`, `--test_extra`, scores by corpus."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from doubles.settings import settings_with

import dataset
import main
from evaluation import alignment, splits
from evaluation.result import summarise, trained
from evaluation.run_configuration import RunConfiguration
from features.store import extraction
from training.settings import TrainingSettings
from utils import UserError, leaf

TEXT = [
    "--text_encoder",
    "char-ngram",
    "--hidden_size",
    "8",
    "--batch_size",
    "8",
    "--modality",
    "text",
    "--precision",
    "float32",
    "--gpu_id",
    "-1",
    "--epochs",
    "1",
]
BOTH = ["--data", "corpus", "--train_extra", "kemdy20:talk", "--test_split", "4"]


@pytest.fixture(scope="module")
def finished(made) -> Path:
    """A run that is trained on both, and tested on a session of each."""
    with contextlib.chdir(made):
        assert main.main([*BOTH, "--test_extra", "3", *TEXT, "--save_name", "both"]) == 0
    return made / "exp" / "both"


@pytest.fixture
def place(made, finished, tmp_path):
    """A copy of both corpora and of that run, to work in."""
    shutil.copytree(made, tmp_path / "w")
    with contextlib.chdir(tmp_path / "w"):
        yield tmp_path / "w"


def settings(**changes) -> TrainingSettings:
    base = {
        "data": "corpus",
        "max_bad": 0.5,
        "test_split": (4,),
        "text_encoder": "char-ngram",
        "text_dim": 16,
        "train_extra": ("kemdy20:talk",),
    }
    return settings_with(**base | changes)


def material(**changes) -> dataset.Material:
    return dataset.open_material(settings(**changes), ("sentence",))


def sessions_of(windows: dataset.Windows) -> set[tuple[str, int]]:
    rows = windows.utterances.iloc[windows.rows]
    return set(zip(rows["corpus"], rows["session"], strict=True))


def test_an_added_corpus_is_trained_on_and_not_tested_on(place):
    found = material()
    train, test = (sessions_of(dataset.Windows(found, name, 2)) for name in ("train", "test"))
    assert train == {*(("kemdy19", n) for n in (1, 2, 3)), *(("kemdy20", n) for n in (1, 2, 3))}
    assert test == {("kemdy19", 4)}


def test_sessions_of_an_added_corpus_that_are_tested_are_not_trained_on(place):
    found = material(test_extra=(1, 3))
    train, test = (sessions_of(dataset.Windows(found, name, 2)) for name in ("train", "test"))
    assert {("kemdy20", 1), ("kemdy20", 3)} == test - {("kemdy19", 4)}
    assert ("kemdy20", 2) in train and not train & test


def test_a_window_never_joins_dialogues_of_two_corpora(place):
    found = material()
    windows = dataset.Windows(found, "train", 8)
    names = found.utterances["dialogue"].where(found.utterances["corpus"] == "kemdy19")
    assert set(names.dropna()) & set(found.utterances["dialogue"][names.isna()])  # names shared
    corpus = found.utterances["corpus"].to_numpy()
    for window in windows.index:
        assert len(set(corpus[window[window >= 0]])) == 1


def test_joined_features_are_those_of_each_corpus_by_itself(place):
    found = material()
    store = found.stores["sentence"]
    parts = [dataset.open_corpus(name).role("speaker") for name in ("corpus", "kemdy20:talk")]
    alone = [
        extraction.extract("sentence", rows, place, corpus.prepared, settings()).gather(
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
def test_what_cannot_be_added_is_named(place, changes, said):
    with pytest.raises(UserError, match=said):
        material(**changes)


def test_audio_that_an_added_corpus_shares_with_the_test_is_refused(place):
    [wav] = sorted(Path("corpus/wav/Session04").glob("*/*_F001.wav"))[:1]
    other = sorted(Path("talk/wav/Session02").glob("*.wav"))[0]
    other.write_bytes(wav.read_bytes())
    with pytest.raises(UserError, match="the split leaks: audio 1 .*" + other.stem):
        material()


def test_scores_by_corpus_are_those_of_its_rows(finished):
    result = json.loads((finished / "result.json").read_text())
    rows = pd.read_csv(finished / "predictions.csv", dtype={"emotion_true": str})
    assert list(result["by_corpus"]) == ["kemdy19", "kemdy20"]
    for name, part in result["by_corpus"].items():
        mine = rows[(rows["corpus"] == name) & ~rows["emotion_true"].str.contains(";")]
        truth, said = mine["emotion_true"], mine["emotion"]
        labels = sorted(set(truth))
        assert part["n"]["emotion"] == len(mine) > 0
        wanted = sklearn.metrics.f1_score(truth, said, labels=labels, average="macro")
        assert part["scores"]["macro_f1"]["value"] == pytest.approx(wanted)
        constant = [part["majority"]] * len(mine)
        wanted = sklearn.metrics.accuracy_score(truth, constant)
        assert part["scores"]["accuracy"]["baseline"] == pytest.approx(wanted)
    both = sum(part["n"]["emotion"] for part in result["by_corpus"].values())
    assert result["n"]["emotion"] == both


def test_each_corpus_has_the_baseline_of_its_own_training_rows(finished, made):
    said = json.loads((finished / "configuration.json").read_text())["majority"]["by_corpus"]
    with contextlib.chdir(made):
        found = material(test_extra=(3,))
    rows = dataset.Windows(found, "train", 1).rows
    trained = found.utterances.iloc[rows]
    for name, emotion in said.items():
        labels = trained.loc[trained["corpus"] == name, "emotion"].str.split(";").explode()
        assert labels.value_counts()[emotion] == labels.value_counts().max()


def predictions(corpora: list[str], truth: list[str]) -> pd.DataFrame:
    n = len(truth)
    table = pd.DataFrame(
        {
            "corpus": corpora,
            "role": "speaker",
            "dialogue": list("abcdefgh")[:n],
            "session": 1,
            "segment": list("abcdefgh")[:n],
            "kind": "talk",
            "emotion": "happy",
            "emotion_true": truth,
        }
    )
    for i, name in enumerate(leaf_emotions()):
        table[f"p_{i}"] = np.where(name == "happy", 0.4, 0.1)
        table[f"votes_{name}"] = (table["emotion_true"] == name) * 10
    return table.assign(arousal=3.0, valence=3.0, arousal_true=3.0, valence_true=3.0)


def leaf_emotions() -> tuple[str, ...]:
    return dataset.constants.EMOTIONS


def test_rows_of_one_corpus_have_its_own_baseline_though_others_were_trained_on():
    table = predictions(["one"] * 4, ["sad", "sad", "happy", "sad"])
    classes = {"one": "sad", "other": "happy"}
    found = summarise(table, "drop", "happy", corpus_classes=classes, resamples=10)
    assert found["scores"]["accuracy"]["baseline"] == 0.75 and "by_corpus" not in found
    table = predictions(["one", "one", "other", "other"], ["sad", "sad", "happy", "sad"])
    found = summarise(table, "drop", "happy", corpus_classes=classes, resamples=10)
    assert found["scores"]["accuracy"]["baseline"] == 0.25  # together: what was said
    assert found["by_corpus"]["one"]["scores"]["accuracy"]["baseline"] == 1.0
    assert found["by_corpus"]["other"]["scores"]["accuracy"]["baseline"] == 0.5


def test_the_console_and_the_page_show_each_corpus(finished, place, capsys):
    assert main.main(["--test_only", "both", "--gpu_id", "-1"]) == 0
    told = capsys.readouterr().out
    for name in ("kemdy19", "kemdy20"):
        assert f"\n{name}: " in told
    assert max(map(len, told.split("\nreport:")[0].splitlines())) <= 80
    page = (finished / "report.html").read_text()
    assert "Each corpus by itself" in page and "<h3>kemdy20</h3>" in page
    assert "trained on sessions 1-2 of kemdy20 too, and tested on 3" in page


def test_testing_again_gives_the_same_and_opens_nothing_that_is_not_tested(place, finished):
    assert main.main(["--test_only", "both", "--gpu_id", "-1"]) == 0
    [again] = Path("exp/both").glob("test_*")
    first, second = (pd.read_csv(f / "predictions.csv") for f in (finished, again))
    pd.testing.assert_frame_equal(first, second, atol=1e-6, rtol=0)
    shutil.rmtree("talk")
    assert main.main(["--test_only", "both", "--test_extra", "--gpu_id", "-1"]) == 0
    alone = max(Path("exp/both").glob("test_*"), key=lambda folder: folder.stat().st_mtime)
    assert set(pd.read_csv(alone / "predictions.csv")["corpus"]) == {"kemdy19"}


def test_a_session_of_an_added_corpus_that_was_trained_on_is_not_tested(place, capsys):
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


def test_the_protocol_card_counts_each_corpus(finished):
    card = json.loads((finished / "protocol.json").read_text())
    assert card["by_corpus"]["kemdy20"]["train"]["sessions"] == [1, 2]
    assert card["by_corpus"]["kemdy20"]["test"]["sessions"] == [3]
    for part in ("train", "test"):
        whole, parts = card["sets"][part], [c[part] for c in card["by_corpus"].values()]
        for what in ("rows", "targets", "dialogues", "speakers"):
            assert whole[what] == sum(one[what] for one in parts)


def test_a_changed_added_corpus_stops_a_run_that_goes_on(place, capsys):
    wav = sorted(Path("talk/wav/Session01").glob("*.wav"))[0]
    wav.write_bytes(wav.read_bytes() + b"\0\0")
    Path("exp/both/report.html").unlink()
    assert main.main(["--resume", "both", "--gpu_id", "-1"]) == 2
    assert "has changed since" in capsys.readouterr().err


def test_split_extra_keeps_what_is_not_named():
    assert splits.split_extra([3, 1, 2, 2], (2, 9), "a") == ((1, 3), (), (2,))


def test_the_bootstrap_does_not_mix_dialogues_of_two_corpora():
    table = predictions(["one", "other"], ["sad", "happy"]).assign(dialogue="same")
    assert alignment.numbered(table, alignment.DIALOGUE).tolist() == [0, 1]


def expected(truth: pd.Series, counts: dict[str, int]) -> float:
    """Macro-F1 of answers drawn by these counts: every answer to every row, by its share."""
    share = np.array([*counts.values()]) / sum(counts.values())
    return sklearn.metrics.f1_score(
        truth.repeat(len(share)),
        np.tile([*counts], len(truth)),
        labels=sorted(set(truth)),
        average="macro",
        sample_weight=np.tile(share, len(truth)),
        zero_division=0,
    )


def test_the_training_labels_of_each_corpus_are_counted(finished, made):
    said = json.loads((finished / "configuration.json").read_text())
    with contextlib.chdir(made):
        found = material(test_extra=(3,))
    trained = found.utterances.iloc[dataset.Windows(found, "train", 1).rows]
    assert set(said["class_counts_by_corpus"]) == {"kemdy19", "kemdy20"}
    for name, counts in said["class_counts_by_corpus"].items():
        labels = trained.loc[trained["corpus"] == name, "emotion"].str.split(";").explode()
        wanted = labels[labels != ""].value_counts()
        assert {emotion: n for emotion, n in counts.items() if n} == dict(wanted)
        assert list(counts) == list(leaf_emotions())
    both = [*said["class_counts_by_corpus"].values()]
    assert {e: sum(by[e] for by in both) for e in leaf_emotions()} == said["class_counts"]


def test_the_prior_of_a_corpus_draws_from_its_own_training_labels(finished):
    said, result = (
        json.loads((finished / f"{name}.json").read_text()) for name in ("configuration", "result")
    )
    rows = pd.read_csv(finished / "predictions.csv", dtype={"emotion_true": str})
    rows = rows[~rows["emotion_true"].str.contains(";")]
    for name, part in result["by_corpus"].items():
        truth = rows.loc[rows["corpus"] == name, "emotion_true"]
        wanted = expected(truth, said["class_counts_by_corpus"][name])
        assert part["scores"]["macro_f1"]["prior"] == pytest.approx(wanted)
        assert part["scores"]["ccc_arousal"]["prior"] is None
    wanted = expected(rows["emotion_true"], said["class_counts"])
    assert result["scores"]["macro_f1"]["prior"] == pytest.approx(wanted)


def test_a_test_of_one_corpus_has_the_prior_of_its_training_labels(place):
    assert main.main(["--test_only", "both", "--test_extra", "--gpu_id", "-1"]) == 0
    [alone] = Path("exp/both").glob("test_*")
    said, result = (
        json.loads((alone / f"{name}.json").read_text()) for name in ("configuration", "result")
    )
    truth = pd.read_csv(alone / "predictions.csv", dtype={"emotion_true": str})["emotion_true"]
    truth = truth[~truth.str.contains(";")]
    wanted = expected(truth, said["class_counts_by_corpus"]["kemdy19"])
    assert result["scores"]["macro_f1"]["prior"] == pytest.approx(wanted)
    assert "by_corpus" not in result


def test_a_folder_without_counts_by_corpus_has_no_prior_where_one_of_several_is_tested():
    old = {
        "majority": {"emotion": "sad", "by_corpus": {"one": "sad", "other": "happy"}},
        "class_counts": {"sad": 3, "happy": 1},
    }
    table = predictions(["one", "one", "other", "other"], ["sad", "sad", "happy", "sad"])
    found = summarise(table, "drop", resamples=10, **trained(RunConfiguration.of(old)))
    assert found["scores"]["accuracy"]["prior"] == pytest.approx(0.75 * 0.75 + 0.25 * 0.25)
    assert "prior" not in found["by_corpus"]["one"]["scores"]["accuracy"]
    alone = summarise(table[:2], "drop", resamples=10, **trained(RunConfiguration.of(old)))
    assert "prior" not in alone["scores"]["accuracy"]
    old["majority"]["by_corpus"].pop("other")  # trained on one corpus, so that all are its counts
    alone = summarise(table[:2], "drop", resamples=10, **trained(RunConfiguration.of(old)))
    assert alone["scores"]["accuracy"]["prior"] == pytest.approx(0.75)


def test_a_corpus_that_was_not_trained_on_has_the_baselines_of_all_training_rows():
    table = predictions(["one", "one", "new", "new"], ["sad", "sad", "happy", "sad"])
    known = {
        "majority": {"emotion": "angry", "by_corpus": {"one": "sad"}},
        "class_counts": {"sad": 3, "angry": 5},
        "class_counts_by_corpus": {"one": {"sad": 3}},
    }
    found = summarise(table, "drop", resamples=10, **trained(RunConfiguration.of(known)))[
        "by_corpus"
    ]
    assert (found["one"]["majority"], found["new"]["majority"]) == ("sad", "angry")
    score = found["new"]["scores"]["accuracy"]
    assert score["baseline"] == 0 and score["prior"] == pytest.approx(0.5 * 3 / 8)


def test_compare_shows_each_corpus_beside_its_baseline(place, finished, capsys):
    assert main.main(["compare", "x=both"]) == 0
    told = capsys.readouterr().out
    [folder] = Path("exp").glob("compare_*")
    own = json.loads((finished / "result.json").read_text())["by_corpus"]
    row = json.loads((folder / "comparison.json").read_text())["rows"][0]
    text = (folder / "table.md").read_text()
    assert "| Speaker[kemdy19 4; kemdy20 3] |" in text
    for name, part in own.items():
        found = row["by_corpus"][name]
        assert found["majority"] == [part["majority"]]
        for score in ("macro_f1", "uar", "accuracy", "weighted_f1"):
            ours, its = found["scores"][score], part["scores"][score]
            assert ours["pooled"] == pytest.approx(its["value"])
            assert ours["baseline"] == pytest.approx(its["baseline"])
            assert ours["prior"] == pytest.approx(its["prior"])
            assert ours["n"] == its["n"]
        assert f"## By corpus: {name}" in text and f"\n{name} alone:\n" in told


# --- found in a review ---------------------------------------------------------------------------


def test_a_session_of_tables_that_was_trained_on_is_still_refused(place, capsys, monkeypatch):
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


def test_a_run_of_a_label_rule_is_tested_again_without_the_corpus_that_has_it(place, monkeypatch):
    leaf_of_talk = leaf("corpora", "kemdy20")
    monkeypatch.setattr(leaf_of_talk, "LABELS", ("raters",), raising=False)
    monkeypatch.setattr(leaf_of_talk, "labelled", lambda rows, rule: rows, raising=False)
    words = [*BOTH, "--labels", "raters", *TEXT, "--save_name", "ruled"]
    assert main.main(words) == 0
    shutil.rmtree("talk")
    assert main.main(["--test_only", "ruled", "--gpu_id", "-1"]) == 0


def test_two_versions_of_a_corpus_are_not_one_run(place, capsys):
    shutil.copytree("talk", "talk2")
    with pytest.raises(UserError, match="name kemdy20 twice, talk and talk2"):
        material(train_extra=("talk", "talk2"))
    assert main.main(["prepare", "--data", "talk", "--train_extra", "talk2"]) == 2


def test_a_folder_begun_before_there_were_added_corpora_is_not_gone_on_with(place, capsys):
    folder = Path("exp/both")
    said = json.loads((folder / "configuration.json").read_text())
    old = {k: v for k, v in said.items() if k not in ("train_extra", "test_extra", "extra")}
    (folder / "configuration.json").write_text(json.dumps(old))
    (folder / "report.html").unlink()
    words = [*BOTH, "--test_extra", "3", *TEXT, "--save_name", "both"]
    assert main.main(words) == 2
    assert "was begun with train_extra []" in capsys.readouterr().err

"""The leakage guard, `--disjoint` and the protocol card."""

import contextlib
import json
import re
import shutil
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dataset
import main
from corpora import kemdy19, preparation
from corpora.preparation import transcripts
from evaluation import leakage
from evaluation.splits import Split
from training import protocol_card
from utils import UserError

TRAIN = [
    "--data",
    "corpus",
    "--test_split",
    "[3,4]",
    "--text_encoder",
    "char-ngram",
    "--modality",
    "text",
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
    """A folder to work in, with the corpus in it: sessions 1-4, script01 and impro01 of each."""
    without = shutil.ignore_patterns("ECG", "EDA", "TEMP")
    shutil.copytree(workplace / "corpus", tmp_path / "corpus", ignore=without)
    with contextlib.chdir(tmp_path):
        yield tmp_path


# --- what is refused -----------------------------------------------------------------------------


def same(column: str, value: str, pattern: str):
    """A reader's rows, those of session 3 whose `column` matches given a `value` of session 1."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        there = (rows["session"] == 3) & rows[column].str.fullmatch(pattern)
        assert there.any() and (rows[column] == value).any()
        return rows.assign(**{column: rows[column].mask(there, value)})

    return change


PLANTED = {
    "speakers": same("speaker", "Sess01_F", "Sess03_F"),
    "dialogues": same("dialogue", "Sess01_impro01", "Sess03_impro01"),
    "segments": same("segment", "Sess01_impro01_F001", "Sess03_impro01_F001"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_a_reader_repeats_on_both_sides_is_refused(place, monkeypatch, capsys, what):
    read = kemdy19.read

    def planted(folder):
        rows, troubles = read(folder)
        return PLANTED[what](rows), troubles

    monkeypatch.setattr(kemdy19, "read", planted)
    assert main.main([*TRAIN, "--max_bad", "0.5"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    row = r"Sess0\d_(impro|script)01_[FM]00\d"
    found = rf"{what} 1 \({row} in train and {row} in test\)"
    said = rf"error: the split leaks: {found}; a split should share none of them"
    assert re.fullmatch(said, line)
    assert not Path("exp").exists()


def test_a_recording_copied_under_another_name_is_refused(place, capsys):
    wavs = sorted(place.glob("corpus/wav/Session01/Sess01_impro01/*.wav"))
    other = sorted(place.glob("corpus/wav/Session04/Sess04_script01/*.wav"))
    shutil.copy(wavs[0], other[1])
    assert main.main(TRAIN) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"leaks: audio 1 ({wavs[0].stem} in train and {other[1].stem} in test)" in line


def test_a_segment_of_another_session_in_a_table_is_in_quarantine_and_leaks_nothing(place):
    table = place / "corpus/annotation/Session03_F_res.csv"
    text = table.read_text()
    table.write_text(text.replace("Sess03_impro01_F001", "Sess01_impro01_F001"))
    rows = preparation.open_corpus("corpus", max_bad=0.5).role("speaker")
    assert (rows["quarantine"] != "").any()
    guard(rows, Split((1, 2), (), (3, 4)))


def test_equal_transcripts_are_counted_by_kind_and_not_refused(workplace, run_folder):
    [prepared] = workplace.glob("data/prepared/*/annotation.csv")
    rows = pd.read_csv(prepared, keep_default_na=False)
    rows = rows[(rows["role"] == "speaker") & (rows["quarantine"] == "")]
    words = ["".join(c for c in text if c.isalnum()) for text in rows["text"]]
    trained = {w for w, session in zip(words, rows["session"], strict=True) if session < 3}
    equal, lines = {"impro": 0, "script": 0}, {"impro": 0, "script": 0}
    for text, session, kind in zip(words, rows["session"], rows["kind"], strict=True):
        if session > 2 and text:
            lines[kind] += 1
            equal[kind] += text in trained
    assert equal["script"] > 0
    parts = ", ".join(f"{kind} {equal[kind]} of {lines[kind]}" for kind in equal)
    said = (
        f"{sum(equal.values())} of {sum(lines.values())} test lines have the words of a "
        f"training line ({parts})"
    )
    assert json.loads((run_folder / "result.json").read_text())["warnings"] == [said]


def utterances(**columns) -> pd.DataFrame:
    """Six utterances of three sessions, nothing shared."""
    base = {
        "corpus": ["k"] * 6,
        "segment": list("abcdef"),
        "session": [1, 1, 2, 2, 3, 3],
        "dialogue": [
            "S1_impro01",
            "S1_script01",
            "S2_impro01",
            "S2_script02",
            "S3_impro01",
            "S3_script03",
        ],
        "kind": ["impro", "script"] * 3,
        "speaker": ["1F", "1M", "2F", "2M", "3F", "3M"],
        "wav_hash": [f"h{n}" for n in range(6)],
        "silent": [False] * 6,
        "quarantine": [""] * 6,
        "wav": ["a.wav"] * 6,
        "text": ["하나둘", "둘셋넷", "셋넷다", "넷다섯", "다섯여", "여섯일"],
        "emotion": ["happy"] * 6,
        "arousal": [3.0] * 6,
    }
    return pd.DataFrame(base | columns)


def guard(rows, split, disjoint=None):
    return leakage.guard(rows, split.of(rows["session"]), disjoint)


SPLIT = Split(train=(1,), val=(2,), test=(3,))


def test_a_clean_split_passes_the_guard():
    removed, reasons, warnings = guard(utterances(), SPLIT)
    assert removed.tolist() == [False] * 6
    assert (reasons, warnings) == ({}, [])


LEAKS = [
    ("speaker", "speakers"),
    ("dialogue", "dialogues"),
    ("wav_hash", "audio"),
    ("segment", "segments"),
]
SIDES = {"train and test": (0, 4), "train and val": (1, 2), "val and test": (3, 5)}


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize(("column", "what"), LEAKS)
def test_nothing_may_stand_in_any_two_sets(column, what, sides):
    values, (one, other) = utterances()[column].tolist(), SIDES[sides]
    values[other] = values[one]
    rows = utterances(**{column: values})
    first, second = sides.split(" and ")
    names = rf"{rows['segment'][one]} in {first} and {rows['segment'][other]} in {second}"
    with pytest.raises(UserError, match=rf"^the split leaks: {what} 1 \({names}\);"):
        guard(rows, SPLIT)


def test_all_that_leaks_is_said_at_once():
    rows = utterances(speaker=["1F", "1M", "2F", "2M", "1F", "1M"], wav_hash=["h"] * 6)
    said = "speakers 2 (a in train and e in test, b in train and f in test); audio 1 (a in train "
    with pytest.raises(UserError, match=re.escape(said)):
        guard(rows, SPLIT)


def test_of_many_leaks_three_are_named_and_all_counted():
    rows = pd.concat([utterances(), utterances(session=[3] * 6)], ignore_index=True)
    rows = rows[rows["session"] != 2].assign(speaker="", dialogue="", wav_hash="")
    rows = pd.concat([rows[rows["session"] == 1], rows[rows["session"] == 3]] * 2)
    three = pd.concat([rows.assign(segment=rows["segment"] + tail) for tail in "xyz"])
    with pytest.raises(
        UserError,
        match=r"segments 6 \(ax in train and ax in test, .*"
        r"and 3 more\)",
    ) as error:
        guard(three.reset_index(drop=True), SPLIT)
    assert str(error.value).count(" in test") == 3


def test_names_are_those_of_one_corpus_and_recordings_of_all():
    two = ["k"] * 4 + ["j"] * 2
    names = utterances(
        corpus=two,
        speaker=["1F", "1M", "2F", "2M", "1F", "1M"],
        segment=list("abcdab"),
        dialogue=["x", "y", "v", "w", "x", "y"],
    )
    assert guard(names, SPLIT).warnings == []
    with pytest.raises(UserError, match="audio 1 "):
        guard(utterances(corpus=two, wav_hash=["h", "", "", "", "h", ""]), SPLIT)


@pytest.mark.parametrize("how", [{"silent": [True] * 6}, {"quarantine": ["bad wav"] + [""] * 5}])
def test_silence_and_quarantine_are_no_recordings(how):
    rows = utterances(wav_hash=["h", "1", "2", "3", "h", "5"])
    with pytest.raises(UserError, match="audio 1 "):
        guard(rows, SPLIT)
    guard(rows.assign(**how), SPLIT)


def test_a_video_without_sound_is_known_by_its_pictures():
    rows = utterances(wav_hash=["h", "1", "2", "3", "h", "5"]).assign(silent=True, wav="a.MP4")
    with pytest.raises(UserError, match="audio 1 "):
        guard(rows, SPLIT)


def test_what_is_unknown_is_not_the_same():
    nothing = {column: [""] * 6 for column in ("speaker", "dialogue", "wav_hash", "text")}
    assert guard(utterances(**nothing), SPLIT, "text").reasons == {"exact": 0, "similar": 0}


# --- the same words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("안녕, 하세요!", "안녕 하세요"),
        ("STOP 그만", "stop그만"),
        ("ＯＫ 좋아", "ok좋아"),
        (unicodedata.normalize("NFD", "그래 좋아"), "그래좋아"),
    ],
)
def test_words_are_compared_without_spaces_punctuation_case_and_forms(one, other):
    words = transcripts.normalised(pd.Series([one, other], index=[4, 7]))
    assert words[4] == words[7] == other.replace(" ", "")


def trigrams(text: str) -> set[str]:
    return {text[i : i + 3] for i in range(len(text) - 2)}


def brute_similar(texts: list[str], others: list[str]) -> list[bool]:
    def near(one: set, other: set) -> bool:
        return bool(one and other) and 10 * len(one & other) >= 8 * len(one | other)

    return [any(near(trigrams(t), trigrams(o)) for o in others) for t in texts]


TEXTS = st.lists(st.text("가나다", max_size=9), max_size=8)


@settings(deadline=None)  # the first example imports scikit-learn
@given(TEXTS, TEXTS)
@example(["가나다라마바"], ["가나다라마바사"])  # 4 of 5 3-grams: 0.8 exactly
@example(["가나다라마"], ["가나다라마바"])  # 3 of 4
@example(["abcdefghijklmnopqrstu"], ["abcdefghijklmnopqrstuvwxyz"])  # 19 of 24: 0.79
@example(["ABC"], ["abc"])
@example(["가나"], ["가나"])
@example(["가나다"], [])
def test_similar_lines_are_those_that_comparing_each_pair_finds(texts, others):
    assert leakage.similar(texts, others).tolist() == brute_similar(texts, others)


def test_similar_lines_are_found_in_every_block(monkeypatch):
    monkeypatch.setattr(leakage, "BLOCK", 2)
    words = ["가나다라마바", "하파타카", "거너더러머버", "고노도로모보", "구누두루무부"]
    others = ["가나다라마바사", "구누두루무부수", "구누두"]
    assert leakage.similar(words, others).tolist() == [True, False, False, False, True]


# --- taken out of training -----------------------------------------------------------------------

PLAIN = ["하나둘", "가나다라마바!", "마을", "둘셋넷다섯", "마을", "여섯 일곱"]
TESTED = ["마을?", "가나다라마바사"]


def lines(texts: list[str], tested: list[str], **columns) -> pd.DataFrame:
    """Training lines (session 1) and test lines (session 3), one dialogue and speaker each."""
    n, total = len(texts), len(texts) + len(tested)
    each = {
        name: [f"{name}{i}" for i in range(total)]
        for name in ("segment", "dialogue", "speaker", "wav_hash")
    }
    return pd.DataFrame(
        {
            "corpus": "k",
            "session": [1] * n + [3] * len(tested),
            "kind": "impro",
            "silent": False,
            "wav": "a.wav",
            "quarantine": "",
            "text": texts + tested,
            "emotion": "sad",
            "arousal": 2.0,
        }
        | each
        | columns
    )


def test_training_lines_with_the_words_of_a_test_line_or_nearly_are_removed():
    removed, reasons, warnings = guard(lines(PLAIN, TESTED), SPLIT, "text")
    assert removed.tolist() == [False, True, True, False, True, False, False, False]
    assert reasons == {"exact": 2, "similar": 1}
    assert warnings == [
        "--disjoint text: 3 of 6 training lines removed (2 exact, 1 similar); 3 are left"
    ]


LINES = st.lists(st.text("가나다 !", max_size=8), min_size=1, max_size=6)


@settings(deadline=None)
@given(LINES, LINES)
def test_what_text_removes_is_what_comparing_each_pair_finds(texts, tested):
    keep = ["qwertyuiop", "asdfghjkl"]  # two that are always left
    removed, reasons, warnings = guard(lines(texts + keep, tested), SPLIT, "text")
    plain, test = ([re.sub("[ !]", "", text) for text in group] for group in (texts, tested))
    exact = [text != "" and text in test for text in plain]
    near = [n and not e for n, e in zip(brute_similar(plain, test), exact, strict=True)]
    wanted = [e or n for e, n in zip(exact, near, strict=True)]
    assert removed.tolist() == wanted + [False] * (2 + len(tested))
    assert reasons == {"exact": sum(exact), "similar": sum(near)}
    assert len(warnings) == 1  # no test line has the words of a line that is left


def test_without_the_flag_nothing_is_removed_and_equal_lines_are_counted():
    removed, reasons, warnings = guard(lines(PLAIN, TESTED), SPLIT)
    assert not removed.any() and reasons == {}
    assert warnings == ["1 of 2 test lines have the words of a training line (impro 1 of 2)"]


def test_a_test_line_in_quarantine_removes_nothing():
    rows = lines(PLAIN, TESTED)
    rows.loc[6, "quarantine"] = "empty wav"
    assert guard(rows, SPLIT, "text").reasons == {"exact": 0, "similar": 1}


def test_lines_that_are_no_targets_are_removed_but_not_counted():
    rows = lines(PLAIN, TESTED)
    rows.loc[2, ["emotion", "arousal"]] = "", np.nan
    removed, reasons, [line] = guard(rows, SPLIT, "text")
    assert removed[2]
    assert reasons == {"exact": 1, "similar": 1}
    assert "2 of 5 training lines" in line and "3 are left" in line


def test_validation_lines_like_the_test_stay_and_are_counted():
    rows = lines(PLAIN, TESTED)
    rows.loc[[1, 2, 3], "session"] = 2
    removed, _, warnings = guard(rows, SPLIT, "text")
    assert removed.tolist() == [False] * 4 + [True] + [False] * 3
    assert warnings[1] == (
        "--disjoint text: 2 of 3 validation lines are like the test (1 exact, 1 similar); they "
        "stay, to choose the epoch by"
    )


def test_a_test_that_leaves_too_few_lines_is_refused_with_their_number():
    match = r"3 of 4 training lines removed \(2 exact, 1 similar\); 1 are left, training needs at"
    with pytest.raises(UserError, match=match):
        guard(lines(PLAIN[1:5], TESTED), SPLIT, "text")
    guard(lines(PLAIN[:5], TESTED), SPLIT, "text")


@pytest.mark.parametrize("disjoint", ["words", "", ["text"], 0])
def test_another_way_to_be_disjoint_is_refused(disjoint):
    said = f"no --disjoint {disjoint!r}; there are: text, script"
    with pytest.raises(UserError, match=re.escape(said)):
        guard(utterances(), SPLIT, disjoint)


def test_script_removes_whole_dialogues_of_the_scripts_that_are_tested():
    names = [
        "Sess01_script01",
        "Sess01_script01",
        "Sess01_script02",
        "Sess01_script02",
        "Sess01_impro01",
        "Sess03_script02",
        "Sess03_impro01",
    ]
    kinds = ["script"] * 4 + ["impro", "script", "impro"]
    rows = lines(list("가나다라마"), list("바사"), dialogue=names, kind=kinds)
    removed, reasons, [line] = guard(rows, SPLIT, "script")
    assert removed.tolist() == [False, False, True, True, False, False, False]
    assert reasons == {"script02": 2}
    assert line == "--disjoint script: 2 of 5 training lines removed (2 script02); 3 are left"


def test_without_a_script_in_the_test_none_is_removed():
    rows = utterances(kind=["impro", "script"] * 2 + ["impro"] * 2)
    _, reasons, [line, _] = guard(rows, SPLIT, "script")
    assert reasons == {}
    assert line == "--disjoint script: 0 of 2 training lines removed; 2 are left"


# --- windows -------------------------------------------------------------------------------------


def opened(**changes) -> dataset.Material:
    namespace = SimpleNamespace(
        data="corpus",
        tables="raw",
        max_bad=0.5,
        SorL="speaker",
        test_split=(3, 4),
        val_split=(),
        text_encoder="char-ngram",
        text_dim=16,
        sr=16_000,
        disjoint=None,
        leave_out=(),
        train_extra=(),
        test_extra=(),
        labels=None,
        target="votes",
    )
    vars(namespace).update(changes)
    return dataset.open_material(namespace, ("log_mel", "sentence"))


@pytest.fixture
def planted(place):
    """The corpus with a line of an improvised training dialogue said in the test, and another
    nearly; both have lines after them in their dialogue."""
    said = [
        (1, 0, "오늘은 정말 긴 하루였어"),
        (3, 0, "오늘은 정말 긴 하루였어!"),
        (2, 1, "비가 오는 것 같아 그렇지"),
        (4, 1, "비가 오는 것 같아 그렇지요"),
    ]
    for session, turn, words in said:
        texts = sorted(place.glob(f"corpus/wav/Session{session:02d}/*impro01/*.wav"))
        texts[turn].with_suffix(".txt").write_text(words + "\n")
    return place


@pytest.mark.parametrize("resident", [False, True])
def test_text_of_a_removed_line_is_seen_in_no_window_of_training_but_its_sound_is(
    planted, resident
):
    material, plain = opened(disjoint="text"), opened()
    windows, all_of = dataset.Windows(material, "train", 4), dataset.Windows(plain, "train", 4)
    removed = np.flatnonzero(material.removed)
    assert material.reasons["exact"] and material.reasons["similar"]
    assert set(windows.rows) == set(all_of.rows) - set(removed)
    context = np.isin(windows.index, removed)
    improvised = (material.utterances["kind"] == "impro").to_numpy()[removed]
    assert improvised.sum() == 2 and context.any()
    if resident:
        assert windows.keep_on(torch.device("cpu"), room=10**9)
    batch = windows.batch(np.arange(len(windows)))
    before = all_of.batch(np.searchsorted(all_of.rows, windows.rows))
    context = torch.from_numpy(context)
    assert before["sentence_mask"][context].any()
    assert not batch["sentence_mask"][context].any() and not batch["sentence"][context].any()
    assert torch.equal(batch["sentence"][~context], before["sentence"][~context])
    assert torch.equal(batch["log_mel_mask"], before["log_mel_mask"])
    assert torch.equal(batch["log_mel"], before["log_mel"])


def test_vectors_made_elsewhere_are_words_too(planted):
    names = {path.stem for path in planted.glob("corpus/wav/*/*/*.wav")}
    np.save("vectors.npy", {f"{name}.txt": np.ones(16, np.float32) for name in names})
    material = opened(disjoint="text", text_encoder="vectors.npy")
    store = material.stores["sentence"]
    assert material.removed.any() and not store.available[material.removed].any()
    assert store.available[~material.removed].any()


def test_windows_of_the_test_are_the_same_with_and_without_the_flag(planted):
    one, other = (dataset.Windows(opened(disjoint=how), "test", 4) for how in ("text", None))
    first, second = (windows.batch(np.arange(len(windows))) for windows in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_removed_script_is_in_no_window_of_training(place):
    windows = dataset.Windows(opened(disjoint="script"), "train", 8)
    kinds = windows.utterances["kind"].to_numpy()
    assert len(windows) and set(kinds[windows.index[windows.index >= 0]]) == {"impro"}
    assert set(kinds[dataset.Windows(opened(), "train", 8).rows]) == {"impro", "script"}


def test_the_class_of_2022_is_disjoint_on_demand(place):
    one, other = (
        dataset.KEMDy19("train", "speaker", 2, (3, 4), "corpus", "char-ngram", disjoint=how)
        for how in ("script", None)
    )
    assert 0 < len(one) < len(other)


def test_when_a_finished_run_is_tested_nothing_is_removed(place):
    namespace = SimpleNamespace(
        data="corpus",
        tables="raw",
        max_bad=0.5,
        SorL="speaker",
        test_split=(1, 2, 3, 4),
        val_split=(),
        text_encoder="char-ngram",
        text_dim=16,
        sr=16_000,
        disjoint="text",
        leave_out=(),
        train_extra=(),
        test_extra=(),
        labels=None,
        target="votes",
    )
    material = dataset.open_material(namespace, ("sentence",), train=False)
    assert material.reasons == {} and material.warnings == []


def test_a_run_is_trained_on_what_is_left(place, capsys):
    assert main.main([*TRAIN, "--disjoint", "script"]) == 0
    [run] = Path("exp").iterdir()
    heard = pd.read_csv(run / "training.csv")["segment"]
    assert len(heard) == 6 and heard.str.contains("impro01").all()
    warnings = json.loads((run / "result.json").read_text())["warnings"]
    assert re.fullmatch(
        r"--disjoint script: (\d) of \d+ training lines removed \(\1 script01\); "
        r"\d are left",
        warnings[0],
    )
    card = json.loads((run / "protocol.json").read_text())
    assert list(card["dropped"]["disjoint"]) == ["script01"]
    assert card["sets"]["train"]["targets"] <= 6


# --- the protocol card ---------------------------------------------------------------------------


def material_of(rows: pd.DataFrame, split: Split, disjoint: str | None = None) -> dataset.Material:
    corpus = SimpleNamespace(name="k", synthetic=True, fingerprint="f00")
    removed, reasons, warnings = guard(rows, split, disjoint)
    return dataset.Material(corpus, rows, {}, split, warnings, removed, reasons)


def flags(**changes) -> SimpleNamespace:
    base = dict(
        model="mate",
        SorL="speaker",
        ties="drop",
        seed=42,
        select="macro_f1",
        val_split=(2,),
        disjoint=None,
    )
    return SimpleNamespace(**base | changes)


MIXED = lines(
    ["하나", "둘", "셋넷다섯여", "마을", "여덟", "아홉"],
    ["마을", "셋넷다섯여섯", "세계", "가가", "각각", "곡곡"],
    session=[1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 4],
    speaker=["1F", "1F", "1M", "", "2F", "2M", "3F", "3F", "3F", "3M", "3M", "4F"],
    kind=["impro"] * 6 + ["script", "impro", "impro", "impro", "impro", "impro"],
    quarantine=["", "empty wav", "", "", "", "", "", "", "", "", "truncated", ""],
    emotion=["sad", "", "sad;fear", "happy", "sad", "", "sad", "sad;happy", "", "", "", "sad;fear"],
    arousal=[1.0, np.nan, 1, 1, 1, np.nan, 2, 2, 2, np.nan, np.nan, 1],
)


def test_the_card_counts_sets_drops_and_leaks():
    split = Split((1,), (2,), (3, 4))
    card = protocol_card.card(material_of(MIXED, split), flags())
    assert card == {
        "corpus": {"name": "k", "synthetic": True, "fingerprint": "f00"},
        "role": "speaker",
        "ties": "drop",
        "seed": 42,
        "select": "epoch of highest val macro_f1",
        "disjoint": None,
        "resampling": "none: nothing is resampled before the split",
        "uses_test_audio": False,
        "sets": {
            "train": {
                "sessions": [1],
                "speakers": 2,
                "dialogues": 4,
                "rows": 4,
                "targets": 3,
                "one_label": 2,
            },
            "val": {
                "sessions": [2],
                "speakers": 2,
                "dialogues": 2,
                "rows": 2,
                "targets": 1,
                "one_label": 1,
            },
            "test": {
                "sessions": [3, 4],
                "speakers": 3,
                "dialogues": 6,
                "rows": 6,
                "targets": 4,
                "one_label": 1,
            },
        },
        "dropped": {
            "quarantined": {"empty wav": 1, "truncated": 1},
            "unlabelled": 2,
            "ties_in_test": 2,
            "disjoint": {},
        },
        "leaks": {
            "speakers": 0,
            "dialogues": 0,
            "audio": 0,
            "segments": 0,
            "transcripts": {
                "impro": {"lines": 4, "equal": 0, "similar": 0},
                "script": {"lines": 1, "equal": 1, "similar": 0},
            },
        },
    }


def test_the_card_says_what_disjoint_took_and_that_nothing_of_it_is_left():
    rows = MIXED.assign(
        text=MIXED["text"]
        .replace("셋넷다섯여섯", "셋넷다섯여섯일")
        .replace("셋넷다섯여", "셋넷다섯여섯")
    )
    split = Split((1, 4), (2,), (3,))
    before = protocol_card.card(material_of(rows, split), flags())
    assert before["leaks"]["transcripts"]["impro"] == {"lines": 3, "equal": 0, "similar": 1}
    material = material_of(rows, split, "text")
    card = protocol_card.card(material, flags(disjoint="text"))
    assert card["disjoint"] == "text"
    assert card["dropped"]["disjoint"] == {"exact": 1, "similar": 1}
    assert card["sets"]["train"]["targets"] == before["sets"]["train"]["targets"] - 2 == 2
    assert [c["sets"]["train"]["one_label"] for c in (before, card)] == [2, 1]
    assert [n["equal"] + n["similar"] for n in card["leaks"]["transcripts"].values()] == [0, 0]


def test_the_card_of_a_corpus_is_json_and_the_same_each_time(place):
    material = opened(val_split=(2,))
    one, other = (protocol_card.card(m, flags()) for m in (material, opened(val_split=(2,))))
    text = json.dumps(one, allow_nan=False)
    assert json.loads(text) == one
    assert text == json.dumps(other)
    assert one["corpus"] == {
        "name": "kemdy19",
        "synthetic": True,
        "fingerprint": material.corpus.fingerprint,
    }
    for name, counted in one["sets"].items():
        assert counted["targets"] == len(dataset.Windows(material, name, 2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val_split": ()}, "last epoch kept"),
        ({"select": "loss"}, "epoch of lowest val loss"),
        ({"select": "uar"}, "epoch of highest val uar"),
    ],
)
def test_the_card_says_which_epoch_is_kept(changes, said):
    assert protocol_card.card(material_of(utterances(), SPLIT), flags(**changes))["select"] == said


def test_the_card_says_when_the_recordings_of_the_test_are_used():
    card = protocol_card.card(
        material_of(utterances(), SPLIT), flags(model="functionals", speaker_norm=True)
    )
    assert card["uses_test_audio"] is True


@pytest.mark.parametrize("ties", ["first", "any", "soft"])
def test_no_tie_is_dropped_where_ties_are_scored(ties):
    material = material_of(MIXED, Split((1,), (2,), (3, 4)))
    assert protocol_card.card(material, flags(ties=ties))["dropped"]["ties_in_test"] == 0


def test_the_card_of_a_run_tested_again_counts_the_test_alone():
    material = material_of(MIXED, Split((1, 2), (), (3, 4)))
    card = protocol_card.card(material, flags(val_split=(), disjoint="text"), trained=False)
    assert card["sets"]["test"]["targets"] == 4
    assert card["sets"]["train"] == {
        "sessions": [],
        "speakers": 0,
        "dialogues": 0,
        "rows": 0,
        "targets": 0,
        "one_label": 0,
    }
    assert card["dropped"]["quarantined"] == {"truncated": 1}
    assert card["select"] is card["disjoint"] is card["leaks"] is None


def test_the_card_says_what_is_resampled():
    sound = dict(model="lstm_audio", neighbours=2)
    none = protocol_card._resampling(SimpleNamespace(balance="none", **sound))
    assert none == protocol_card._resampling(SimpleNamespace(model="mate"))
    assert none.startswith("none")
    said = protocol_card._resampling(SimpleNamespace(balance="smote", **sound))
    assert said == "smote, of training rows alone, after the split"

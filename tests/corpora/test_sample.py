"""The sample corpus: what it is made of, how it lies on disk, how hard it is."""

import hashlib
import re

import numpy as np
import pytest
import scipy.io.wavfile

from benchmarks import sample_difficulty
from constants import EMOTIONS
from corpora import kemdy19, sample
from corpora.preparation.columns import COLUMNS
from corpora.synthetic import dialogues, raters, voices
from corpora.synthetic import lines as spoken_lines
from metric import VOTES
from utils import UserError, read_json


def quiet(**_):
    return Quiet()


class Quiet:
    """A progress bar that shows nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def update(self):
        pass


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "corpus"
    sample.Reader.write(folder, sessions=2, dialogues=3, utterances=4, seed=3, progress=quiet)
    return folder


@pytest.fixture(scope="module")
def whole():
    spoken = dialogues.plan(20, 10, 6, 0)
    return spoken, raters.rate(spoken, 0)


def test_equal_seeds_give_equal_bytes_and_another_seed_does_not(small, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    sizes = {"sessions": 2, "dialogues": 3, "utterances": 4, "progress": quiet}
    sample.Reader.write(again, seed=3, **sizes)
    sample.Reader.write(other, seed=4, **sizes)
    assert hashes(again) == hashes(small)
    assert hashes(other) != hashes(small)


def test_the_reader_of_the_layout_reads_back_the_rows_that_were_made(small):
    made = raters.rate(dialogues.plan(2, 3, 4, 3), 3)
    read, _ = kemdy19.Reader.read(small)
    keys = ["role", "segment"]
    made, read = (t.sort_values(keys).reset_index(drop=True) for t in (made, read))
    for column in [*keys, "session", "dialogue", "speaker", "kind"]:
        assert read[column].tolist() == made[column].tolist(), column
    assert np.array_equal(read[VOTES], made[VOTES])
    for scale in ("valence", "arousal", "start", "end"):
        np.testing.assert_allclose(read[scale], made[scale], atol=0.051, err_msg=scale)
    same = [
        set(a.split(";")) == set(b.split(";"))
        for a, b in zip(read.emotion, made.emotion, strict=True)
    ]
    assert all(same)
    assert (read["quarantine"] == "").all()


def test_the_mark_of_a_whole_corpus_says_what_was_made(small):
    mark = read_json(small / "SYNTHETIC.json")
    assert mark["synthetic"] is True
    assert (mark["layout"], mark["sessions"], mark["utterances"]) == ("kemdy19", 2, 4)
    assert sample.Reader.matches(small) is False
    assert kemdy19.Reader.matches(small) is True


def test_blemishes_are_met_by_the_reader(small):
    _, troubles = kemdy19.Reader.read(small)
    spoken = troubles[(troubles["treatment"] == "masked") & (troubles["role"] == "speaker")]
    assert len(spoken) == 2  # a transcript missing, another empty
    waves = [scipy.io.wavfile.read(p) for p in sorted(small.glob("wav/*/*/*.wav"))]
    assert {rate for rate, _ in waves} == {16_000}
    assert sum(not wave.any() for _, wave in waves) == 1
    assert len(list(small.glob("wav/*/*/*.txt"))) == len(waves) - 1


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="new or empty folder"):
        sample.Reader.write(tmp_path, sessions=1, dialogues=1, utterances=1, progress=quiet)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_corpus_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(voices, "speak", fails)
    with pytest.raises(OSError, match="disk full"):
        sample.Reader.write(tmp_path / "c", sessions=1, dialogues=1, utterances=2, progress=quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [{"sessions": 0}, {"sessions": 21}, {"dialogues": 11}])
def test_sizes_that_the_layout_cannot_name_are_refused(tmp_path, size):
    with pytest.raises(UserError, match=f"{next(iter(size))} of a sample must be 1 to"):
        sample.Reader.write(tmp_path / "c", **size, progress=quiet)


def test_classes_ties_and_votes_are_near_those_of_the_real_corpus(whole):
    _, table = whole
    speaker = table[table["role"] == "speaker"]
    votes = speaker[VOTES].to_numpy()
    top = votes.max(1)
    single = (votes == top[:, None]).sum(1) == 1
    share = np.bincount(votes[single].argmax(1), minlength=7) / single.sum()
    real = [0.041, 0.192, 0.080, 0.040, 0.104, 0.398, 0.146]
    np.testing.assert_allclose(share, real, atol=0.05)
    assert share[5] == share.max()
    assert 0.04 < 1 - single.mean() < 0.08
    assert (votes.sum(1) == 10).all()
    agreement = [(top == n).mean() for n in range(3, 11)]
    real = [0.008, 0.056, 0.134, 0.166, 0.138, 0.165, 0.172, 0.161]
    np.testing.assert_allclose(agreement, real, atol=0.05)


def test_every_fold_tests_every_class_and_every_session_has_a_tie(whole):
    _, table = whole
    for role, rows in table.groupby("role"):
        tied = rows["emotion"].str.contains(";")
        assert tied.groupby(rows["session"]).any().all(), role
        fold = (rows["session"] - 1) // 4
        for _, labels in rows[~tied].groupby(fold[~tied]):
            assert set(labels["emotion"]) == set(EMOTIONS)


def test_scales_follow_the_classes(whole):
    _, table = whole
    means = table[table["role"] == "speaker"].groupby("emotion")[["valence", "arousal"]].mean()
    assert means["valence"].idxmax() == "happy"
    assert means.loc["angry", "arousal"] > means.loc["neutral", "arousal"] + 0.4
    assert means.loc["sad", "arousal"] < means.loc["neutral", "arousal"]
    assert all(set(v) <= {1, 2, 3, 4, 5} for v in [*table.rater_valence, *table.rater_arousal])


def test_an_emotion_lasts_and_the_partner_shares_it_oftener_than_chance(whole):
    spoken, _ = whole
    follows = spoken["dialogue"] == spoken["dialogue"].shift()
    lasts = (spoken["latent"] == spoken["latent"].shift())[follows].mean()
    by_chance = (spoken["latent"].value_counts(normalize=True) ** 2).sum()
    assert lasts > by_chance + 0.15
    partners = spoken["partner"].value_counts(normalize=True)
    independent = (spoken["latent"].value_counts(normalize=True) * partners).sum()
    assert (spoken["partner"] == spoken["latent"]).mean() > independent + 0.1


def test_scripts_recur_in_every_session_and_improvised_dialogues_do_not(whole):
    spoken, _ = whole
    lines = spoken.groupby(["kind", "session"])["line"].apply(tuple)
    assert lines["script"].nunique() == 1
    assert lines["impro"].nunique() == 20


def test_markup_is_as_frequent_as_in_the_real_corpus(whole):
    _, table = whole
    text = table[table["role"] == "speaker"]["transcript"].fillna("")
    for mark, share in {"b/": 0.21, "o/": 0.155, "n/": 0.073, "l/": 0.064, "u/": 0.05}.items():
        assert text.str.contains(mark, regex=False).mean() == pytest.approx(share, abs=0.03), mark
    assert text.str.contains("(", regex=False).mean() == pytest.approx(0.156, abs=0.03)


@pytest.mark.parametrize("seed", range(1, 9))
def test_other_seeds_too_have_every_class_and_lines_to_say(seed):
    spoken = dialogues.plan(20, 10, 6, seed)
    assert (spoken["line"].str.len() > 0).all()
    assert set(spoken["latent"]) == set(EMOTIONS)


def test_about_a_third_is_ambiguous_in_each_modality_and_seldom_in_both(whole):
    spoken, _ = whole
    weak = spoken["strength"] < 0.5
    text_tells = spoken["told"] - ~weak
    assert 0.25 < weak.mean() < 0.38
    assert 0.25 < 1 - text_tells.mean() < 0.42
    assert (spoken["told"] == 0).mean() < 0.06


def test_the_table_has_the_columns_of_an_utterance(whole):
    _, table = whole
    assert set(COLUMNS) <= set(table.columns)
    assert not table.duplicated(["role", "segment"]).any()


def test_lines_are_korean_and_stand_under_one_heading():
    lines = [line for group in spoken_lines.LINES.values() for line in group]
    assert len(lines) == len(set(lines))
    for key in EMOTIONS:
        assert len(spoken_lines.LINES[key]) >= 30
    slot = r"\{" + r"\}|\{".join(spoken_lines.SLOTS) + r"\}"
    assert all(re.fullmatch(r"[가-힣 ]+", re.sub(slot, "", line)) for line in lines)


def test_words_for_slots_end_in_a_vowel():
    for words in spoken_lines.SLOTS.values():
        if words is not spoken_lines.SLOTS["time"]:  # no particle follows
            assert all((ord(word[-1]) - 0xAC00) % 28 == 0 for word in words)


def said(emotion, seed=0, text="지금 뭐가 지나갔어 나도 아까 봤어", sex="F"):
    who = voices.voice(sex, np.random.default_rng(7))
    return voices.speak(text, emotion, 1.2, who, np.random.default_rng(seed))


def test_a_voice_is_finite_and_within_full_scale():
    for emotion in EMOTIONS:
        wave = said(emotion)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all() and 0.05 < np.abs(wave).max() < 1


def test_pulses_have_the_pitch_asked_for():
    wave = voices._pulses(np.full(16_000, 200.0))
    spectrum = np.abs(np.fft.rfft(wave))
    peaks = np.flatnonzero(spectrum > spectrum.max() / 2)
    assert peaks.tolist() == list(range(200, 7601, 200))


def test_cutting_and_joining_gives_the_wave_back():
    wave = np.random.default_rng(0).normal(size=128 * 50).astype(np.float32)
    joined = voices._join(voices._cut(wave, 50))
    inner = slice(voices.FRAME, -voices.FRAME)
    np.testing.assert_allclose(joined[inner], wave[inner], atol=1e-5)


def test_an_emotion_changes_tempo_and_spectral_shape_and_not_loudness_alone():
    def above_2k(wave):
        power = np.abs(np.fft.rfft(wave)) ** 2
        hertz = np.fft.rfftfreq(len(wave), 1 / 16_000)
        return power[hertz > 2000].sum() / power.sum()

    seeds = range(8)
    sad, angry = ([said(e, s) for s in seeds] for e in ("sad", "angry"))
    assert np.mean([len(w) for w in sad]) > 1.2 * np.mean([len(w) for w in angry])
    assert np.median([above_2k(w) for w in angry]) > 2 * np.median([above_2k(w) for w in sad])


def test_text_and_audio_each_tell_a_part_and_both_tell_more(tmp_path):
    sample.Reader.write(tmp_path / "c", sessions=10, dialogues=10, utterances=4, progress=quiet)
    scores = sample_difficulty.table(tmp_path / "c").mean()
    assert 0.45 < scores["text"] < 0.85
    assert 0.45 < scores["audio"] < 0.85
    assert scores["both"] > max(scores["text"], scores["audio"]) + 0.03

"""Dialogues of the page: judged as predict judges them; what is refused, what is shown."""

import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from doubles.served import CSV_BAD, shares, sound
from doubles.settings import settings_with

from features import store
from features.store import extraction
from inference import recordings
from inference.web import dialogue as web_dialogue
from inference.web import view as web_view
from inference.web import words as web_words
from inference.web.dialogue import Dialogue, Limits, Refused, Said
from media import listening

LIMITS = Limits(mb=1.0, seconds=30.0, turns=6)


@pytest.fixture(scope="module")
def talk(judge, lines):
    """The dialogue of the lines of these numbers, added one by one."""

    @functools.cache
    def added(*numbers: int) -> Dialogue:
        if not numbers:
            return Dialogue()
        said = Said(*lines[numbers[-1]], "", True)
        return web_dialogue.added(judge, added(*numbers[:-1]), said, LIMITS)

    return added


# --- dialogues -----------------------------------------------------------------------------------


def test_turns_added_one_by_one_are_judged_as_predict_judges_them(talk, predicted):
    table, wanted = talk(0, 1, 2).table, predicted(0, 1, 2)
    assert np.allclose(shares(table), shares(wanted), atol=1e-6)
    assert np.allclose(table[["arousal", "valence"]], wanted[["arousal", "valence"]], atol=1e-5)
    assert list(table["emotion"]) == list(wanted["emotion"])
    assert not np.allclose(shares(predicted(1)), shares(wanted)[1], atol=1e-6)


def test_a_turn_that_is_taken_back_leaves_no_trace(judge, lines, talk, predicted):
    dialogue = talk(0, 1).undone()
    dialogue = web_dialogue.added(judge, dialogue, Said(*lines[2], "", True), LIMITS)
    assert np.allclose(shares(dialogue.table), shares(predicted(0, 2)), atol=1e-6)


def test_no_recording_and_no_place_of_the_server_is_kept(talk, lines):
    dialogue = talk(0)
    held = dialogue.parts[0].held
    assert set(held.rows["wav"]) == {""} and set(held.rows["file"]) == {lines[0][0].name}
    assert all(b"/" not in file for file in web_dialogue.files(dialogue.table))


def test_utterances_held_apart_are_settled_by_speaker_as_those_held_at_once(judge, lines):
    flags = settings_with("functionals", speaker_norm=True)
    live = extraction.Live("functionals", flags)
    rows = recordings.utterances([wav for wav, _ in lines], progress=False)
    rows = rows.assign(speaker=["a", "b", "a", "b"])
    apart = store.join([live(rows.iloc[[i]]) for i in range(len(rows))])
    apart.settle(rows, flags)
    everyone = np.arange(len(rows))
    assert np.array_equal(apart.gather(everyone), live(rows).gather(everyone))


def test_a_long_recording_becomes_a_turn_for_each_utterance(judge, lines, tmp_path):
    rate = 16_000
    waves = [soundfile.read(wav, dtype="float32")[0] for wav, _ in lines[:3]]
    pause = np.random.default_rng(0).normal(0, 1e-4, 6 * rate).astype("float32")
    long = tmp_path / "meeting.wav"
    soundfile.write(long, np.concatenate([part for w in waves for part in (w, pause)]), rate)
    assert soundfile.info(long).duration > recordings.LONG
    dialogue = web_dialogue.added(judge, Dialogue(), Said(long, "", "", True), LIMITS, force=True)
    rows = recordings.utterances([long], progress=False)
    assert len(dialogue.table) == len(rows) > 1
    assert np.allclose(dialogue.table["start"], rows["start"])
    assert dialogue.parts[0].warnings == ("forced_text",)
    whole = web_dialogue.added(judge, Dialogue(), Said(long, "", "", False), LIMITS, force=True)
    assert len(whole.table) == 1


def test_without_text_a_run_that_never_missed_it_is_asked_only_by_force(judge, lines):
    said = Said(lines[0][0], "", "", True)
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, Dialogue(), said, LIMITS)
    assert refused.value.notice.key == "needs_text"
    forced = web_dialogue.added(judge, Dialogue(), said, LIMITS, force=True)
    assert forced.table["masked"].item() == "text"
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, Dialogue(), Said(None, "안녕", "", True), LIMITS)
    assert refused.value.notice.key == "needs_sound"


BAD = {  # name of a file: (what makes it, what is told of it)
    "bad.wav": (lambda path: path.write_bytes(b"no sound at all"), "not audio"),
    "empty.wav": (lambda path: path.write_bytes(b""), "empty wav"),
    "cut.wav": (lambda p: p.write_bytes(sound(p, 1).read_bytes()[:9000]), "truncated wav"),
    "song.m4a": (lambda path: path.write_bytes(b"\0\0\0 ftypM4A "), "kind"),
    "lines.csv": (lambda path: path.write_bytes(CSV_BAD), "strange"),
    "noname": (lambda path: sound(path, 1, format="WAV"), "strange"),
    "hour.flac": (lambda path: sound(path, 31), "long"),
    "heavy.wav": (lambda path: sound(path, 40), "large"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_reason_in_both_languages(judge, tmp_path, name):
    make, trouble = BAD[name]
    make(tmp_path / name)
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, Dialogue(), Said(tmp_path / name, "안녕", "", True), LIMITS)
    notice = refused.value.notice
    assert (notice.key, notice.trouble) == ("bad", trouble)
    told = [view(language).notice(notice) for language in web_words.LANGUAGES]
    assert all(name in text and trouble not in text for text in told)


def test_a_header_that_promises_hours_is_not_decoded(judge, tmp_path, monkeypatch):
    """Silence packs a thousandfold: an hour of eight channels in a file that is small."""
    path = tmp_path / "dense.flac"
    soundfile.write(path, np.zeros((29 * 96_000, 8), "int16"), 96_000)
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(listening, "listen", lambda path: pytest.fail("it was decoded"))
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, Dialogue(), Said(path, "안녕", "", True), LIMITS)
    assert refused.value.notice.trouble == "dense"


def test_a_recording_is_measured_again_when_it_is_decoded(judge, lines, monkeypatch):
    heard = listening.listen(lines[0][0])._replace(duration=31.0)
    monkeypatch.setattr(listening, "listen", lambda path: heard)
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, Dialogue(), Said(*lines[0], "", True), LIMITS)
    assert refused.value.notice.trouble == "long"


@pytest.mark.parametrize(
    ("said", "key"),
    [
        (Said(None, " \n", "", True), "empty"),
        (Said(None, "?!", "", True), "empty"),
        (Said(None, "가" * 1001, "", True), "line_long"),
        (Said(Path("/nowhere/a.wav"), "안녕", "", True), "gone"),
    ],
)
def test_what_cannot_be_a_turn_is_refused(judge, said, key):
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, Dialogue(), said, LIMITS)
    assert refused.value.notice.key == key


def test_a_dialogue_ends_somewhere(judge, lines, talk, monkeypatch):
    dialogue = talk(0, 1)
    said = Said(*lines[2], "", True)
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, dialogue, said, LIMITS._replace(turns=2))
    assert refused.value.notice == ("too_many", {"most": 2}, "")
    monkeypatch.setattr(web_dialogue, "TOTAL", 1.0)
    with pytest.raises(Refused) as refused:
        web_dialogue.added(judge, dialogue, said, LIMITS)
    assert refused.value.notice.key == "too_much"


def test_odd_letters_neither_break_a_turn_nor_leave_it(judge, lines):
    odd = 'a,"b\r\n=c\x00\ud800\u202e 안녕'
    table = web_dialogue.added(
        judge, Dialogue(), Said(lines[0][0], odd, "가\n나" * 30, True), LIMITS
    ).table
    assert table["text"].item().endswith("안녕") and table["text"].item().isprintable()
    assert len(table["speaker"].item()) <= web_dialogue.NAME
    json.loads(web_dialogue.files(table)[0])


# --- what is shown -------------------------------------------------------------------------------


def view(language: str, **about) -> web_view.View:
    known = {"name": "demo", "role": "speaker", "ws": 8, "synthetic": False, "calibrated": False}
    return web_view.View(web_view.About(**known | {"seen": ""} | about), LIMITS, language)


def test_everything_typed_is_escaped(judge, lines):
    typed = '<img src=x onerror=alert`1`> & "안녕" {{7*7}} ${7*7}'
    said = Said(lines[0][0], typed, "<b>나</b>", True)
    dialogue = web_dialogue.added(judge, Dialogue(), said, LIMITS)
    for language in web_words.LANGUAGES:
        shown = view(language).result(dialogue) + view(language).dialogue(dialogue)
        assert "<img src=x" not in shown and "<b>나" not in shown and "&lt;img src=x" in shown
    notice = web_dialogue.Notice("bad", {"name": "<i>.wav"}, "<script>")
    assert "<i>" not in view("en").notice(notice) and "<script>" not in view("en").notice(notice)


def test_all_words_are_in_both_languages_and_need_the_same_values():
    for key, words in (web_words.WORDS | web_words.REASONS).items():
        fields = [set(re.findall(r"{(\w+)", text)) for text in words]
        assert len(words) == 2 and all(words) and fields[0] == fields[1], key
    hangul = re.compile("[가-힣]")
    assert all(hangul.search(words[0]) for words in web_words.WORDS.values())


def test_a_synthetic_corpus_is_no_result_and_strangers_are_told_of():
    assert "결과가 아닙니다" in view("ko", synthetic=True).head()
    assert "not a result" in view("en", synthetic=True).head()
    assert "not a result" not in view("en").head()
    assert "other computers" in view("en", seen="reachable").foot()
    assert "public" in view("en", seen="shared").foot()

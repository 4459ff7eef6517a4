"""A user's own files become utterances, in the order they were said; what is bad is named."""

import numpy as np
import pytest
import soundfile

from inference import recordings
from media import listening
from utils import UserError

RATE = 16_000


def tone(seconds: float, rate: int = RATE, level: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * 220 * time)).astype(np.float32)


def wav(path, seconds: float = 1.0, text: str | None = None, rate: int = RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, rate), rate)
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return path


def listed(*paths, **how):
    return recordings.utterances(paths, progress=False, **how)


# --- files and folders ---------------------------------------------------------------------------


def test_one_file_is_one_utterance_with_the_words_beside_it(tmp_path):
    rows = listed(wav(tmp_path / "a.wav", 1.5, "b/ 안녕 (하세요+네)"))
    [row] = rows.itertuples()
    assert (row.segment, row.text, row.quarantine) == ("a", "안녕 하세요 네", "")
    assert (row.start, row.end, row.duration) == (0.0, 1.5, 1.5)


def test_words_given_by_hand_replace_those_of_the_file(tmp_path):
    path = wav(tmp_path / "a.wav", 1, "옛말")
    assert listed(path, text="새말")["text"].tolist() == ["새말"]
    wav(tmp_path / "b.wav")
    with pytest.raises(UserError, match="--text is what one utterance says, 2 are named"):
        listed(tmp_path, text="새말")


def test_a_folder_is_a_dialogue_in_the_order_of_its_numbers(tmp_path):
    for name in ("10.wav", "9.wav", "b/2.wav", "b/11.wav", ".hidden.wav"):
        wav(tmp_path / "talk" / name)
    rows = listed(tmp_path / "talk")
    assert rows["segment"].tolist() == ["9", "10", "2", "11"]
    assert rows["dialogue"].tolist() == ["talk", "talk", "talk/b", "talk/b"]
    assert listed(tmp_path / "talk", alone=True)["dialogue"].nunique() == 4


def test_folders_of_one_name_that_are_named_apart_stay_two_dialogues(tmp_path):
    for path in ("x/rec/1.wav", "y/rec/1.wav", "y/rec/2.wav"):
        wav(tmp_path / path)
    rows = listed(tmp_path / "x/rec", tmp_path / "y/rec")
    assert rows["dialogue"].tolist() == ["rec", "rec~2", "rec~2"]
    files = [tmp_path / f"y/rec/{n}.wav" for n in (1, 10, 2)]
    wav(files[1])
    rows = listed(*files)  # as a shell sorts them
    assert rows["segment"].tolist() == ["1", "2", "10"] and rows["dialogue"].nunique() == 1
    assert listed(wav(tmp_path / "1①2.wav"))["quarantine"].tolist() == [""]


def test_names_that_repeat_are_told_apart(tmp_path):
    wav(tmp_path / "x/a.wav")
    wav(tmp_path / "y/a.wav")
    wav(tmp_path / "z/a~2.wav")
    assert listed(tmp_path)["segment"].tolist() == ["a", "a~3", "a~2"]


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_whatever_soundfile_reads_at_any_rate_is_an_utterance(tmp_path, kind, rate):
    [row] = listed(wav(tmp_path / f"a.{kind}", 1.0, rate=rate)).itertuples()
    assert row.quarantine == ""
    assert row.duration == pytest.approx(1.0, abs=0.06)  # mp3 comes in frames


def test_nothing_to_read_is_an_error_that_says_what_is_read(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(UserError, match=r"no sound file in .*\.wav \.flac \.mp3"):
        listed(tmp_path)
    with pytest.raises(UserError, match="no file or folder"):
        listed(tmp_path / "absent.wav")


def test_bad_files_are_rows_with_a_reason(tmp_path):
    whole = wav(tmp_path / "0.wav").read_bytes()
    (tmp_path / "1.wav").write_bytes(b"")
    (tmp_path / "2.wav").write_bytes(b"<html>not sound</html>")
    (tmp_path / "3.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "4.m4a").write_bytes(b"ftyp")
    wav(tmp_path / "5.wav")
    (tmp_path / "5.txt").write_bytes("안녕".encode("utf-16"))
    (tmp_path / "6.wav").symlink_to(tmp_path / "gone.wav")
    soundfile.write(tmp_path / "7.wav", np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    reasons = listed(tmp_path)["quarantine"].tolist()
    assert reasons == [
        "",
        "empty wav",
        "not audio",
        "truncated wav",
        ".m4a is not read; make it wav or flac first",
        "text in UTF-16",
        "no such file",
        "not audio: infinite or NaN samples",
    ]


def test_an_utterance_of_an_hour_is_refused_and_silence_is_no_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(700 * 1000, np.float32), 1000)
    (tmp_path / "a.txt").write_text("가")
    soundfile.write(tmp_path / "b.wav", np.zeros(RATE, np.float32), RATE)
    rows = listed(tmp_path)
    assert rows["quarantine"].tolist() == ["700 s are too long for one utterance", ""]
    assert rows["silent"].tolist() == [False, True]


# --- tables --------------------------------------------------------------------------------------


def table(tmp_path, text: str):
    path = tmp_path / "lines.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_says_who_speaks_in_which_dialogue(tmp_path):
    wav(tmp_path / "w/a.wav", 3)
    rows = listed(
        table(
            tmp_path,
            (
                "wav,text,speaker,dialogue,start,end\n"
                "w/a.wav,안녕,A,d1,,\n,말만 있다,B,d1,,\nw/a.wav,,A,,0.5,1.25\n"
                "w/a.wav,,A,,2,9\n,,B,,,\n"
                "gone.wav,,A,d2,,\n"
            ),
        )
    )
    assert rows["speaker"].tolist() == list("ABAABA")
    assert rows["dialogue"].tolist() == ["d1", "d1", "lines:4", "lines:5", "lines:6", "d2"]
    assert rows["text"].tolist() == ["안녕", "말만 있다", "", "", "", ""]
    assert rows["duration"].iloc[2] == 0.75
    assert rows["quarantine"].tolist() == [
        "",
        "",
        "",
        "2..9 s is no part of 3 s of sound",
        "neither sound nor text",
        "no such file",
    ]


def test_without_a_column_for_it_a_table_is_one_dialogue(tmp_path):
    wav(tmp_path / "a.wav")
    assert listed(table(tmp_path, "wav\na.wav\na.wav\n"))["dialogue"].tolist() == ["lines"] * 2


@pytest.mark.parametrize(
    "header", ["file,text", "wav,txt", "wav,wav", ""], ids=["no wav", "typo", "twice", "empty"]
)
def test_a_table_with_another_header_is_refused(tmp_path, header):
    with pytest.raises(UserError, match="needs a header with wav"):
        listed(table(tmp_path, header + "\n"))


# --- long recordings -----------------------------------------------------------------------------


def long(tmp_path, spoken=(3.0, 2.0, 8.0), quiet=1.0, rate=RATE):
    noise = np.random.default_rng(0)
    parts = [noise.normal(0, 1e-3, round(quiet * rate))]
    for seconds in spoken:
        parts += [tone(seconds, rate), noise.normal(0, 1e-3, round(quiet * rate))]
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate(parts).astype(np.float32), rate)
    return path


def test_a_long_recording_is_cut_at_its_pauses(tmp_path):
    rows = listed(long(tmp_path, (3.0, 2.0, 8.0, 5.0)))
    assert rows["segment"].tolist() == [f"long#{n:04d}" for n in range(1, 5)]
    assert rows["dialogue"].nunique() == 1
    wanted = [(1, 4), (5, 7), (8, 16), (17, 22)]
    assert np.allclose(rows[["start", "end"]], wanted, atol=0.15)
    assert rows["part"].all() and (rows["quarantine"] == "").all()


def test_a_recording_is_only_cut_when_it_is_long_and_has_no_words(tmp_path):
    path = long(tmp_path)
    assert len(listed(path)) == 1  # 17 s
    assert len(listed(path, split="always")) == 3
    path = long(tmp_path, (9.0, 9.0))
    assert len(listed(path)) == 2
    assert len(listed(path, split="never")) == 1
    path.with_suffix(".txt").write_text("이미 적었다", encoding="utf-8")
    assert len(listed(path)) == 1


def test_a_long_recording_that_was_cut_off_is_bad(tmp_path):
    path = long(tmp_path, (9.0, 9.0, 9.0))
    path.write_bytes(path.read_bytes()[:-100_000])
    assert listed(path)["quarantine"].tolist() == ["truncated wav"]


def test_a_wav_with_much_before_its_sound_is_whole(tmp_path):
    path = long(tmp_path, (9.0, 9.0, 9.0))
    data = path.read_bytes()
    junk = b"JUNK" + (70_000).to_bytes(4, "little") + bytes(70_000)
    size = (len(data) + len(junk) - 8).to_bytes(4, "little")
    path.write_bytes(data[:4] + size + data[8:12] + junk + data[12:])
    assert (listed(path)["quarantine"] == "").all() and len(listed(path)) == 3


def test_silence_in_a_part_is_told_and_damage_leaves_an_empty_file(tmp_path):
    wave = np.concatenate([tone(1.0), np.zeros(2 * RATE, np.float32)])
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    rows = listed(table(tmp_path, "wav,start,end\na.wav,0,1\na.wav,1.5,2.5\n"))
    assert recordings.pieces(rows, tmp_path)["silent"].tolist() == [False, True]
    (tmp_path / "a.wav").write_bytes(b"")
    again = recordings.pieces(rows, tmp_path)
    assert [listening.listen(tmp_path / wav).bad for wav in again["wav"]] == ["empty wav"] * 2


def test_hangul_taken_apart_on_disk_is_found(tmp_path):
    import unicodedata

    wav(tmp_path / unicodedata.normalize("NFD", "말.wav"))
    path = table(tmp_path, "wav\n" + unicodedata.normalize("NFC", "말.wav") + "\n")
    assert listed(path)["quarantine"].tolist() == [""]


def test_pieces_hold_the_samples_of_their_part(tmp_path):
    path = long(tmp_path, (3.0, 2.0, 8.0, 5.0))
    whole, _ = soundfile.read(path, dtype="float32")
    rows = listed(path)
    for row in recordings.pieces(rows, tmp_path).itertuples():
        wave, rate = soundfile.read(row.wav, dtype="float32")
        first = round(row.start * rate)
        assert np.array_equal(wave, whole[first : first + len(wave)])
        assert len(wave) == round((row.end - row.start) * rate)
        assert not listening.listen(tmp_path / row.wav).bad


def test_silence_and_noise_that_never_stops_are_handled(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(30 * RATE, np.float32), RATE)
    assert listed(tmp_path / "a.wav")["quarantine"].tolist() == ["silent from beginning to end"]
    steady = np.random.default_rng(1).normal(0, 0.1, 45 * RATE).astype(np.float32)
    soundfile.write(tmp_path / "b.wav", steady, RATE)
    rows = listed(tmp_path / "b.wav")
    assert rows["start"].iloc[0] == 0 and rows["end"].iloc[-1] == pytest.approx(45)
    assert np.array_equal(rows["start"][1:], rows["end"][:-1])  # cut without a gap


def test_a_long_recording_is_not_held_whole(tmp_path):
    """Eight minutes at 48 kHz in stereo are 184 MB of float32; a minute is 23 MB."""
    import tracemalloc

    quiet = np.zeros((48_000 * 60, 2), np.int16)
    with soundfile.SoundFile(tmp_path / "minutes.flac", "w", 48_000, 2) as file:
        for _ in range(8):
            quiet[: 48_000 * 4, :] = 8_000
            file.write(quiet)
    tracemalloc.start()
    rows = listed(tmp_path / "minutes.flac")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 8
    assert peak < 120e6

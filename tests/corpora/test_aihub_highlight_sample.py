"""A synthetic AI Hub 616: its videos, what is planted in them, and the command that makes it."""

import io
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import constants
import main
from corpora import aihub_highlight, kemdy19, preparation, sample
from corpora.labels import aihub_highlight as labels
from corpora.layouts import aihub_highlight as layout
from corpora.synthetic import aihub_highlight as synthetic
from corpora.synthetic import film
from utils import UserError, read_json


def pictures_of(path):
    """(seconds (F,), (F, H, W, 3) uint8) by the time stamps, decoded by PyAV alone."""
    times, frames = [], []
    with av.open(path) as file:
        stream = file.streams.video[0]
        for frame in file.decode(stream):
            times.append(float(frame.pts * stream.time_base))
            frames.append(frame.to_ndarray(format="rgb24"))
    return np.array(times), np.stack(frames)


def wave_of(path):
    """((N,) float32, Hz), the first sample at time 0 by the time stamps."""
    with av.open(path) as file:
        stream = file.streams.audio[0]
        parts = [(float(f.pts * stream.time_base), f.to_ndarray()[0]) for f in file.decode(stream)]
        rate = stream.rate
    start = round(parts[0][0] * rate)
    wave = np.concatenate([part for _, part in parts])
    return (wave[-start:] if start < 0 else np.pad(wave, (start, 0))), rate


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "corpus"
    sample.Reader.write(folder, "aihub_highlight", sessions=8, dialogues=1, utterances=3)
    return folder


@pytest.fixture(scope="module")
def whole():
    """The whole sample, second by second."""
    return synthetic.plan(16, 2, 6, 0)


def plan_of(folder):
    mark = read_json(folder / "SYNTHETIC.json")
    sizes = (mark[name] for name in ("sessions", "dialogues", "utterances", "seed"))
    return synthetic.plan(*sizes)[1]


# --- what happens in it --------------------------------------------------------------------------


def test_the_four_groups_that_are_tested_by_default_have_one_video_of_each_category(whole):
    _, seconds = whole
    videos = seconds.drop_duplicates("dialogue")
    assert len(videos) == 32 and set(videos["session"]) == {*range(1, 17)}
    assert (videos["session"] == videos["dialogue"].map(layout.group)).all()
    kinds = videos["dialogue"].map(layout.category)
    assert set(kinds) == {*synthetic.CATEGORIES}
    for first in (1, 5, 9, 13):
        here = kinds[videos["session"].between(first, first + 3)]
        assert len(here) == here.nunique() == 8
    assert constants.TEST_SPLIT == (1, 2, 3, 4)
    assert (videos.groupby(kinds)["class_code"].nunique() == 1).all()


def test_every_video_has_highlights_of_each_kind_and_as_many_as_annotators_should_mark(whole):
    _, seconds = whole
    for _, video in seconds.groupby("dialogue"):
        assert 48 <= len(video) < 90
        assert {"sound", "picture", "both"} < {*video["planted"]}
        assert 0.17 < (video["planted"] != "").mean() < 0.21
    shares = seconds["planted"].value_counts(normalize=True)
    assert shares[["sound", "picture", "both"]].between(0.055, 0.075).all()


def test_a_highlight_is_heard_or_seen_as_its_kind_says_and_half_of_it_elsewhere(whole):
    _, seconds = whole
    loud, fast = {"cheer", "applause"}, {"flash"}
    for kind, heard, seen in (("sound", 1, 0), ("picture", 0, 1), ("both", 1, 1), ("", 0, 0)):
        rows = seconds[seconds["planted"] == kind]
        assert (rows["sound"].isin(loud) == bool(heard)).all()
        assert (rows["picture"].isin(fast) == bool(seen)).all()
    no = seconds[seconds["planted"] == ""]
    for column, names in (("sound", ("shout", "blare", "mutter")), ("picture", ("pale", "dim"))):
        assert (no.groupby("dialogue")[column].agg(lambda s, n=names: {*n} <= {*s})).all()


def test_three_annotators_disagree_by_seconds_and_mostly_keep_the_rules(whole):
    _, seconds = whole
    few, shares, agreed, off, missed = 0, [], [], [], []
    for _, video in seconds.groupby("dialogue"):
        planted = (video["planted"] != "").to_numpy()
        assert len({*video["annotators"].iloc[0].split(";")}) == 3
        marks = np.array([row.split(";") for row in video["marks"]]).astype(int)
        assert not (marks == marks[:, :1]).all()
        shares += marks.mean(axis=0).tolist()
        agreed += [np.corrcoef(planted, mark)[0, 1] for mark in marks.T]
        near = np.convolve(planted, np.ones(5), "same") > 0  # planted, and 2 s around
        off.append((marks * ~near[:, None]).sum(axis=0))
        spans = video["span"][planted].to_numpy()
        missed += [marks[video["span"] == span].sum(axis=0) == 0 for span in {*spans}]
        few += (marks.sum(axis=0) == 0).sum()
    assert few == 0 and np.mean([0.05 <= share <= 0.25 for share in shares]) > 0.85
    assert 0.5 < np.mean(agreed) < 0.9
    assert 0.1 < (np.array(off) > 0).mean() < 0.5  # some mark something else, too
    assert 0.04 < np.mean(missed) < 0.2
    union = labels.labelled(seconds.assign(quarantine=""), "union")["highlight"].mean()
    assert 0.22 < union < 0.35


def test_lines_are_excited_and_calm_by_turns_and_said_by_one_voice_of_a_video(whole):
    lines, seconds = whole
    assert len(lines) == 32 * 6 and lines["segment"].is_unique
    calm = (lines["latent"] == "neutral").to_numpy()
    assert (calm == np.resize([False, True], len(lines))).all()
    said = seconds[seconds["line"] >= 0]
    names = said["dialogue"].to_numpy()
    assert (lines["segment"][said["line"]].str.rpartition("_")[0].to_numpy() == names).all()
    assert (calm[said["line"]] == said["sound"].isin(["talk", "shout"])).all()
    assert not lines["line"].str.contains("[{}]").any()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 2), (3, 2, 12)])
def test_any_size_has_as_many_videos_as_groups_and_dialogues_make(sizes):
    lines, seconds = synthetic.plan(*sizes, seed=3)
    assert len(lines) == np.prod(sizes) and seconds["dialogue"].nunique() == np.prod(sizes[:2])


def test_no_more_than_the_layout_names_is_made(tmp_path):
    with pytest.raises(UserError, match="dialogues of a sample must be 1 to 2, not 3"):
        sample.Reader.write(tmp_path / "c", "aihub_highlight", dialogues=3)
    assert not (tmp_path / "c").exists()


def test_no_line_is_that_of_another_layout_of_the_same_seed(whole):
    mine = set(whole[0]["speaker"])
    assert not mine & {*kemdy19.Reader.plan_sample(2, 2, 3, seed=0)[0]["speaker"]}


# --- on disk -------------------------------------------------------------------------------------


def test_it_lies_on_disk_as_the_download_unpacked(small):
    paths = {str(path.relative_to(small)) for path in small.rglob("*") if path.is_file()}
    top = "042.동영상 콘텐츠 하이라이트 편집 및 설명(요약) 데이터/01.데이터"
    wanted = {"SYNTHETIC.json", "planted.json"}
    for name, video in plan_of(small).groupby("dialogue"):
        part = ("2.Validation", "V") if layout.group(name) <= 4 else ("1.Training", "T")
        wanted.add(f"{top}/{part[0]}/원천데이터/{part[1]}S_유튜브_01/{name}.mp4")
        wanted |= {
            f"{top}/{part[0]}/라벨링데이터/{part[1]}L_유튜브/{name}_{who}.json"
            for who in video["annotators"].iloc[0].split(";")
        }
    assert paths == wanted
    assert preparation.recognise(str(small)) == ("aihub_highlight", small)


def test_the_labels_read_back_are_those_of_the_plan(small):
    utterances, troubles = aihub_highlight.Reader.read(small)
    plan = plan_of(small).sort_values(["dialogue", "start"])
    for column in ("dialogue", "session", "marks", "annotators"):
        assert utterances[column].tolist() == plan[column].tolist()
    assert utterances["start"].tolist() == plan["start"].tolist()
    assert utterances["class_code"].tolist() == plan["class_code"].astype(str).tolist()
    assert set(troubles["reason"]) <= {"not 5% to 25% marked"}


def test_a_label_file_is_as_in_the_corpus(small):
    path = sorted(small.rglob("라벨링데이터/*/*.json"))[0]
    value = json.loads(path.read_text("utf-8"))
    about, span = value["metadata"], value["timelines"][0]
    assert set(about) == {
        "file_name",
        "type",
        "length",
        "quality",
        "date",
        "license",
        "class_code",
        "annotator_id",
    }
    assert path.stem == f"{about['file_name'].removesuffix('.mp4')}_{about['annotator_id']}"
    assert type(about["length"]) is float and set(span) == {"id", "start", "end", "attributes"}
    assert set(span["attributes"]) == {"place", "action", "emotion", "relationship"}
    assert [span["id"] for span in value["timelines"]] == [*range(1, len(value["timelines"]) + 1)]


def test_what_was_planted_stands_apart_and_reading_never_opens_it(small, monkeypatch):
    planted = read_json(small / "planted.json")
    plan = plan_of(small)
    for name, video in plan.groupby("dialogue"):
        seconds = np.full(len(video), "", object)
        for span in planted[name]:
            seconds[span["start"] : span["end"] + 1] = span["kind"]
        assert seconds.tolist() == video["planted"].tolist()
    before, _ = aihub_highlight.Reader.read(small)
    assert small / "planted.json" not in aihub_highlight.Reader.sources(small)
    (small / "planted.json").rename(small / "gone")
    try:
        pd.testing.assert_frame_equal(aihub_highlight.Reader.read(small)[0], before)
    finally:
        (small / "gone").rename(small / "planted.json")


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path):
    def tree(name, seed):
        sample.Reader.write(tmp_path / name, "aihub_highlight", 1, 1, 2, seed)
        files = sorted(p for p in (tmp_path / name).rglob("*.*") if p.is_file())
        return [(p.relative_to(tmp_path / name), p.read_bytes()) for p in files]

    assert tree("one", 0) == tree("two", 0) != tree("three", 1)


def test_a_sample_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(film, "sound", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sample.Reader.write(tmp_path / "c", "aihub_highlight", 1, 1, 1)
    assert not list(tmp_path.iterdir())


def test_without_pyav_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"needs PyAV: pip install av==18\.1\.0"):
        sample.Reader.write(tmp_path / "c", "aihub_highlight", 1, 1, 1)
    assert not list(tmp_path.iterdir())


# --- pictures and sound --------------------------------------------------------------------------


def test_every_video_is_as_long_as_its_plan_in_picture_and_in_sound(small):
    for name, video in plan_of(small).groupby("dialogue"):
        [path] = small.rglob(f"{name}.mp4")
        first = video.iloc[0]
        rate = Fraction(first["rate"])
        with av.open(path) as file:
            stream = file.streams.video[0]
            times = [float(frame.pts * stream.time_base) for frame in file.decode(stream)]
            assert f"{stream.width}x{stream.height}" == first["shape"] and 8 <= rate <= 12
        assert times == pytest.approx(np.arange(first["frames"]) / float(rate), abs=1e-3)
        wave, hertz = wave_of(path)
        assert hertz == 44_100 and np.isfinite(wave).all()
        assert len(video) - 1 < first["length"] <= len(video)
        assert len(wave) / hertz == pytest.approx(first["length"], abs=0.05)
        with av.open(path) as file:
            assert file.duration / 1e6 == pytest.approx(first["length"], abs=1.5 / float(rate))
            assert {s.codec_context.name for s in file.streams} == {"h264", "aac"}


@pytest.mark.parametrize("rate", [Fraction(8), Fraction(12_000, 1001), Fraction(10)])
def test_a_click_and_a_flash_of_one_second_are_there_together(rate):
    hertz, second = film.SOUND_RATE, 5
    wave = np.zeros(8 * hertz, np.float32)
    wave[second * hertz : second * hertz + 400] = 0.9 * (-1.0) ** np.arange(400)
    first = -(-second * rate.numerator // rate.denominator)  # the first picture from then on
    flash = [np.full((64, 96, 3), 255 * (n == first), np.uint8) for n in range(int(8 * rate))]
    file = film.encode(flash, rate, wave)
    times, frames = pictures_of(io.BytesIO(file))
    seen = times[frames.mean(axis=(1, 2, 3)).argmax()]
    assert 0 <= seen - second < 1.01 / float(rate)
    heard, hertz = wave_of(io.BytesIO(file))
    assert abs(np.abs(heard).argmax() / hertz - second) < 0.05


def test_colours_keep_their_order():
    red = [np.full((64, 64, 3), (200, 40, 40), np.uint8)] * 8
    _, frames = pictures_of(io.BytesIO(film.encode(red, Fraction(8), np.zeros(44_100, np.float32))))
    assert frames.mean(axis=(0, 1, 2)) == pytest.approx([200, 40, 40], abs=6)


def features(path, seconds):
    """(seconds, 3): log energy; mean brightness, mean change from picture to picture."""
    times, frames = pictures_of(path)
    frames = frames[:, ::2, ::2].astype(np.int16)
    bright = frames.mean(axis=(1, 2, 3))
    change = np.abs(np.diff(frames, axis=0, prepend=frames[:1])).mean(axis=(1, 2, 3))
    at = np.floor(times + 1e-6).astype(int)
    seen = [[values[at == k].mean() for values in (bright, change)] for k in range(seconds)]
    wave, rate = wave_of(path)
    wave = np.pad(wave, (0, rate))[: seconds * rate].reshape(seconds, rate)
    return np.column_stack([10 * np.log10((wave**2).mean(axis=1) + 1e-10), seen])


@pytest.fixture(scope="module")
def measured(small):
    """Features, highlights by the union, what was planted, and the group of each second."""
    utterances = aihub_highlight.Reader.labelled(aihub_highlight.Reader.read(small)[0], "union")
    parts = [
        features(small / rows["wav"].iloc[0], len(rows))
        for _, rows in utterances.groupby("dialogue")
    ]
    planted = plan_of(small).sort_values(["dialogue", "start"])
    return np.concatenate(parts), utterances, planted.reset_index(drop=True)


def test_sound_and_picture_are_what_the_plan_says_at_the_second_it_says(measured):
    values, _, plan = measured
    energy, bright, change = pd.DataFrame(values).T.to_numpy()
    loud = plan["sound"].isin([name for name, s in film.SOUNDS.items() if s.level > -20])
    assert np.mean(energy[loud] > np.quantile(energy[~loud], 0.99)) > 0.95
    fast = plan["picture"].isin(["flash"])
    assert change[fast].min() > change[plan["picture"] == "plain"].max()
    assert bright[plan["picture"] == "pale"].min() > bright[plan["picture"] == "dim"].max()


def test_neither_loudness_nor_brightness_is_a_perfect_detector_of_its_kind(measured):
    values, _, plan = measured
    heard, seen = (plan["planted"].isin([kind, "both"]) for kind in ("sound", "picture"))
    assert 0.3 < average_precision_score(heard, values[:, 0]) < 0.9
    assert 0.3 < average_precision_score(seen, values[:, 1]) < 0.95


def test_sound_tells_a_part_picture_tells_a_part_and_both_tell_more(measured):
    values, utterances, plan = measured
    train = (utterances["session"] % 2 == 0).to_numpy()
    truth, scores = utterances["highlight"].to_numpy() > 0, {}
    for name, columns in {"sound": [0], "picture": [1, 2], "both": [0, 1, 2]}.items():
        fitted = make_pipeline(StandardScaler(), LogisticRegression())
        fitted.fit(values[train][:, columns], truth[train])
        score = fitted.decision_function(values[~train][:, columns])
        scores[name] = average_precision_score(truth[~train], score)
    rate = truth[~train].mean()
    assert 0.2 < rate < 0.35
    assert scores["both"] > max(scores["sound"], scores["picture"]) + 0.03
    assert min(scores["sound"], scores["picture"]) > rate + 0.1
    assert scores["both"] < 0.97  # annotators disagree


# --- the command line ----------------------------------------------------------------------------


def test_prepare_sample_writes_the_layout_into_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write = sample.Reader.write
    monkeypatch.setattr(
        sample.Reader,
        "write",
        lambda folder, layout="kemdy19": write(
            folder, layout, sessions=2, dialogues=1, utterances=2
        ),
    )
    assert main.main(["prepare", "sample", "--layout", "aihub_highlight"]) == 0
    out = capsys.readouterr().out
    assert "aihub_highlight in data/sample_aihub_highlight (synthetic corpus)" in out
    corpus = preparation.open_corpus("data/sample_aihub_highlight", labels="majority")
    assert corpus.synthetic and (corpus.utterances["quarantine"] == "").all()
    assert Counter(corpus.utterances["highlight"].isna()) == {False: len(corpus.utterances)}
    assert Path("data/sample_aihub_highlight/planted.json").exists()

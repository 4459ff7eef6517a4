"""`highlight`, on a run trained on a few synthetic videos; and such runs side by side."""

import contextlib
import csv
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from doubles import videos

import constants
import main
import model as models
from evaluation import finished_runs
from inference import clip as clip_files
from inference import video as watching
from media import video
from reporting import highlight_tables
from utils import leaf, read_json, write_json

av = pytest.importorskip("av")  # requirements/extra.txt

FLAGS = [
    "--model",
    "highlight",
    "--vision_encoder",
    "colour-motion",
    "--hidden_size",
    "8",
    "--epochs",
    "2",
    "--gpu_id",
    "-1",
    "--precision",
    "float32",
    "--select",
    "ap",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Four videos in `films`, and two runs: `both`, and `audio` of sound alone."""
    place = tmp_path_factory.mktemp("highlight")
    leaf("corpora", "sample").write(
        place / "films", layout="aihub_highlight", sessions=4, dialogues=1, utterances=4
    )
    with contextlib.chdir(place):
        groups = pd.unique(leaf("corpora", "aihub_highlight").read(Path("films"))[0]["session"])
        first, second, *_ = sorted(map(str, groups))
        split = ["--data", "films", "--test_split", first, "--val_split", second]
        for name in ("both", "audio"):
            words = [*FLAGS, *split, "--modality", name, "--save_name", name]
            assert main.main(words) == 0
    return place


@pytest.fixture
def place(made, tmp_path):
    """A folder of its own to work in, with links to the corpus and the runs."""
    for name in ("films", "exp"):
        (tmp_path / name).symlink_to(made / name)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def film() -> Path:
    return sorted(Path("films").rglob("*.mp4"))[0]


def cut(path: Path, *words: str, run: str = "both") -> int:
    return main.main(
        ["highlight", str(path), "--run", run, "--out", "clip.mp4", "--gpu_id", "-1", *words]
    )


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_judges_every_second_of_its_test_videos(made):
    rows = pd.read_csv(made / "exp/both/predictions.csv")
    tested = rows[rows["set"] == "test"]
    lengths = {p.stem: video.probe(p).seconds for p in (made / "films").rglob("*.mp4")}
    assert set(rows["set"]) == {"test", "val"}
    for name, part in tested.groupby("dialogue"):
        assert len(part) == np.ceil(round(lengths[name], 3))
        assert part["segment"].tolist() == [f"{name}#{n:05d}" for n in range(len(part))]
    assert tested["highlight"].between(0, 1).all() and set(tested["highlight_true"]) <= {0, 1}


def test_its_scores_are_those_of_scikit_learn(made):
    found = read_json(made / "exp/both/result.json")["highlight"]
    rows = pd.read_csv(made / "exp/both/predictions.csv")
    tested = rows[rows["set"] == "test"]
    truth, score = tested["highlight_true"], tested["highlight"]
    ap = sklearn.metrics.average_precision_score(truth, score)
    assert found["scores"]["average_precision"]["value"] == pytest.approx(ap, abs=1e-5)
    said = found["threshold"]
    f1 = sklearn.metrics.f1_score(truth, score >= said)
    assert found["scores"]["f1"]["value"] == pytest.approx(f1, abs=1e-5)
    validation = rows[rows["set"] == "val"]
    best = max(
        sklearn.metrics.f1_score(validation["highlight_true"], validation["highlight"] >= t)
        for t in validation["highlight"]
    )
    reached = sklearn.metrics.f1_score(
        validation["highlight_true"], validation["highlight"] >= said - 1e-7
    )
    assert reached == pytest.approx(best)  # chosen there, and nowhere else


def test_tested_again_it_has_the_threshold_that_was_found_in_training(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "w")
    with contextlib.chdir(tmp_path / "w"):
        assert main.main(["--test_only", "both", "--gpu_id", "-1"]) == 0
        [again] = Path("exp/both").glob("test_*")
        one, two = (read_json(f / "result.json")["highlight"] for f in (Path("exp/both"), again))
    assert one["threshold"] == two["threshold"] is not None
    assert one["scores"]["f1"]["value"] == pytest.approx(two["scores"]["f1"]["value"])
    told = capsys.readouterr().out
    assert 'F1 above "everything is a highlight"' in told
    assert max(map(len, told.split("\nreport:")[0].splitlines())) <= 80


def test_the_page_says_whether_it_beats_the_answer_everything(made):
    page = (made / "exp/both/report.html").read_text()
    wanted = read_json(made / "exp/both/result.json")["highlight"]["beats_always_positive"]
    said = "beats" if wanted else "does not beat"
    assert f'F1 {said} the answer "everything is a highlight"' in page.replace("&#34;", '"')
    assert "<h2>Highlights</h2>" in page and "macro_f1" not in page.split("<h2>Settings")[0]


def test_runs_are_compared_by_video(made, place, capsys):
    assert main.main(["compare", "both", "audio"]) == 0
    told = capsys.readouterr().out
    assert "differences of AP, paired by video" in told and "both - audio" in told
    [folder] = Path("exp").glob("compare_*")
    result = read_json(folder / "comparison.json")
    for row in result["rows"]:
        said = read_json(made / "exp" / row["name"] / "result.json")["highlight"]
        assert row["scores"]["average_precision"]["value"] == pytest.approx(
            said["scores"]["average_precision"]["value"]
        )


def test_seeds_of_one_row_are_videos_of_their_own(made):
    both = finished_runs.read(made / "exp/both")
    other = SimpleNamespace(
        folder=both.folder,
        configuration=replace(both.configuration, seed=7),
        predictions=both.predictions,
    )
    one, two = (highlight_tables._seconds(row) for row in ([both], [both, other]))
    assert two["dialogue"].nunique() == 2 * one["dialogue"].nunique()
    assert not two.duplicated("segment").any()


def test_a_model_of_emotions_learns_nothing_of_videos_and_says_so(place, made, capsys):
    test = read_json(made / "exp/both/configuration.json")["test_split"][0]
    words = [
        "--model",
        "lstm_audio",
        "--data",
        "films",
        "--test_split",
        str(test),
        "--gpu_id",
        "-1",
    ]
    assert main.main(words) == 2
    assert "no training row of the corpus has any of that" in capsys.readouterr().err


# --- the subcommand ------------------------------------------------------------------------------


def test_a_clip_is_as_long_as_the_spans_it_tells_of(place, capsys):
    path = film()
    assert cut(path, "--budget", "20%") == 0
    about = read_json("clip.highlights.json")
    total = sum(clip["end"] - clip["start"] for clip in about["clips"])
    assert video.probe("clip.mp4").seconds == pytest.approx(total, abs=0.2)
    whole = video.probe(path).seconds
    assert 0 < total <= round(0.2 * whole) + 1e-6  # moved ends or not
    assert len(about["scores"]) == np.ceil(round(whole, 3))
    with open("clip.highlights.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["start"]) for r in rows] == pytest.approx([c["start"] for c in about["clips"]])
    assert Path("clip.highlights.edl").read_text().count("* SCORE:") == len(rows)
    image = matplotlib.image.imread("clip.highlights.png")
    assert image.shape[1] > image.shape[0] > 300
    many = "clip" if len(rows) == 1 else "clips"
    assert f"clip.mp4: {len(rows)} {many}, {total:.1f} of" in capsys.readouterr().out


def test_the_scores_are_those_of_the_test(made, place):
    rows = pd.read_csv(made / "exp/both/predictions.csv")
    tested = rows[rows["set"] == "test"]
    name = tested["dialogue"].iloc[0]
    [path] = [p for p in Path("films").rglob("*.mp4") if p.stem == name]
    assert cut(path) == 0
    wanted = tested.loc[tested["dialogue"] == name, "highlight"]
    assert read_json("clip.highlights.json")["scores"] == pytest.approx(list(wanted), abs=1e-3)


def test_top_clips_and_a_threshold_in_place_of_a_budget(place):
    assert cut(film(), "--top", "2", "--snap", "0") == 0
    assert len(read_json("clip.highlights.json")["clips"]) == 2
    assert cut(film(), "--threshold", "0", "--snap", "0") == 0
    [clip] = read_json("clip.highlights.json")["clips"]
    assert clip["start"] == 0 and clip["end"] == pytest.approx(video.probe(film()).seconds)


def no_picture(folder: Path) -> Path:
    return videos.write(folder / "sound.mp4", sound=videos.tone(6, 16_000))


def no_sound(folder: Path) -> Path:
    return videos.write(folder / "still.mp4", times=[n / 10 for n in range(60)])


def uneven(folder: Path) -> Path:
    """Pictures 10 a second, then 2 a second."""
    times = [n / 10 for n in range(30)] + [3 + n / 2 for n in range(6)]
    return videos.write(folder / "uneven.mp4", times=times, sound=videos.tone(6, 16_000))


def two_seconds(folder: Path) -> Path:
    return videos.write(
        folder / "two.mp4", times=[n / 10 for n in range(20)], sound=videos.tone(2, 16_000)
    )


def broken(folder: Path) -> Path:
    """A Matroska file whose last third is gone."""
    whole = videos.write(
        folder / "whole.mkv", times=[n / 10 for n in range(90)], sound=videos.tone(9, 16_000)
    )
    path = folder / "broken.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    return path


@pytest.mark.parametrize("make", [no_picture, no_sound, uneven, two_seconds, broken])
def test_odd_videos_are_cut(place, make):
    path = make(place)
    assert cut(path) == 0
    clip, about = video.probe("clip.mp4"), read_json("clip.highlights.json")
    total = sum(one["end"] - one["start"] for one in about["clips"])
    assert clip.seconds == pytest.approx(total, abs=0.2)
    assert bool(clip.rate) == (make is not no_sound)
    assert bool(clip.width) == (make is not no_picture)
    assert bool(about["broken"]) == (make is broken)


def renamed(folder: Path) -> Path:
    (folder / "words.mp4").write_text("no video at all, only renamed\n" * 50)
    return folder / "words.mp4"


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def absent(folder: Path) -> Path:
    return folder / "absent.mp4"


@pytest.mark.parametrize("make", [renamed, empty, absent])
def test_what_is_no_video_is_told_in_one_line_and_nothing_is_written(place, capsys, make):
    path = make(place)
    assert cut(path) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("error: ") and path.name in err
    assert not list(Path().glob("clip*"))


@pytest.mark.parametrize(
    "words, told",
    [
        (["--budget", "10%", "--top", "2"], "one of --budget and --top at a time"),
        (["--budget", "0%"], "needs a share of the video, 15% or 0.15, got '0%'"),
        (["--budget", "lots"], "got 'lots'"),
        (["--threshold", "1"], "no second reaches --threshold 1; the best one has 0."),
        (["--out", "clip.txt"], "--out clip.txt should end in one of .mp4"),
        (["--out", "nowhere/clip.mp4"], "no folder"),
        (["--run", "nothing"], "no run 'nothing'"),
        (["--timeline"], "--timeline needs --emotion_run RUN"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(place, capsys, words, told):
    assert cut(film(), *words) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path().glob("clip*"))


def test_a_video_is_never_its_own_clip(place, capsys):
    path = shutil.copy(film(), "own.mp4")
    before = Path(path).read_bytes()
    assert cut(Path(path), "--out", "own.mp4") == 2
    assert Path(path).read_bytes() == before


def test_a_run_that_judges_no_seconds_is_refused(place, capsys):
    folder = Path("runs/other")
    folder.mkdir(parents=True)
    write_json(folder / "configuration.json", {"model": "mate"})
    (folder / "model.pth").touch()
    assert cut(film(), "--save_path", "runs", run="other") == 2
    assert "is a run of mate, which does not judge seconds" in capsys.readouterr().err


def test_a_run_of_other_features_is_refused(place, capsys):
    assert cut(film(), "--vision_encoder", "nothing/there") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


# --- the timeline --------------------------------------------------------------------------------


def test_a_timeline_is_what_the_emotion_runs_say_of_each_second(place, monkeypatch):
    n = int(np.ceil(video.probe(film()).seconds))
    said = {
        "emotion": np.random.default_rng(0).dirichlet(np.ones(7), n),
        "arousal": np.linspace(1, 5, n),
    }
    said["arousal"][3] = np.nan
    fake = SimpleNamespace(readings=lambda path, settings, seconds: said)
    real = watching.leaf
    monkeypatch.setattr(
        watching, "leaf", lambda kind, name: fake if name == "emotion_states" else real(kind, name)
    )
    given = watching.VideoSettings(emotion_run="exp/emotion", save_path="exp")
    table = watching.timeline(film(), Path("exp/both"), given)
    assert list(table) == ["start", *constants.EMOTIONS, "arousal"] and len(table) == n
    np.testing.assert_allclose(table[list(constants.EMOTIONS)], said["emotion"])
    written = clip_files.write_timeline(Path("clip.mp4"), table)
    assert [path.name for path in written] == ["clip.timeline.csv", "clip.timeline.png"]
    assert pd.read_csv(written[0])["arousal"].isna().sum() == 1


def test_the_model_of_a_run_is_the_one_that_was_saved(made):
    model, said = models.load(made / "exp/both")
    assert said["vision_encoder"] == "colour-motion" and models.heads(model) == ("highlight",)

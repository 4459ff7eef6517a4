"""Label files of AI-Hub's highlights: what counts as marks and what is left out."""

import unicodedata

import pytest
from doubles.corpus_aihub_highlight import (
    FOOD,
    LABELS,
    LEFT_OUT,
    MARKED,
    TRAVEL,
    edit,
    label,
    lay,
    of,
    reasons,
    write,
)
from doubles.hostile import within

from corpora import aihub_highlight
from corpora.labels import aihub_highlight as labels


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path / "AI_Hub")


BROKEN = {
    "starts before 0 or after its end": [
        lambda v: v["timelines"][0].update(start=4, end=3),
        lambda v: v["timelines"][0].update(start=-1),
    ],
    "ends after the video": [
        lambda v: v["timelines"][0].update(end=10),
        lambda v: v["metadata"].update(length=8),
        lambda v: v["timelines"][0].update(end=10**400 // 10**300),
    ],
    "two timelines with one id": [lambda v: v["timelines"][1].update(id=1)],
    "no start and end in whole seconds": [
        lambda v: v["timelines"][0].update(start=2.5),
        lambda v: v["timelines"][0].update(start=True),
        lambda v: v["timelines"][0].update(end="3"),
        lambda v: v["timelines"][0].pop("end"),
        lambda v: v["timelines"].append([0, 1]),
    ],
    "length is no number of seconds": [
        lambda v: v["metadata"].update(length=0),
        lambda v: v["metadata"].update(length="9.5"),
        lambda v: v["metadata"].update(length=1e9),
        lambda v: v["metadata"].update(length=True),
        lambda v: v["metadata"].update(length=float("nan")),
        lambda v: v["metadata"].clear(),
        lambda v: v["metadata"].update(length=float("inf")),
        lambda v: v["metadata"].update(length=-(10**400)),
    ],
    "needs an object with metadata": [lambda v: v.pop("metadata"), lambda v: v.update(metadata=[])],
    "needs an object with timelines": [
        lambda v: v.pop("timelines"),
        lambda v: v.update(timelines={"id": 1}),
    ],
    "annotator id is no word": [
        lambda v: v["metadata"].update(annotator_id="a;b"),
        lambda v: v["metadata"].update(annotator_id="a\nb"),
        lambda v: v["metadata"].update(annotator_id={}),
        lambda v: v["metadata"].update(annotator_id="x" * 41),
    ],
    "another one of this annotator is used": [lambda v: v["metadata"].update(annotator_id="0002")],
}


@pytest.mark.parametrize(
    ("reason", "change"), [(reason, c) for reason, changes in BROKEN.items() for c in changes]
)
def test_a_label_file_that_cannot_be_is_left_out_and_reported(reason, change, folder):
    name = f"{FOOD}_0001" if "another" not in reason else f"{FOOD}_0003"
    edit(folder, name, change)
    utterances, troubles = aihub_highlight.Reader.read(folder)
    left = troubles[troubles["reason"].str.startswith(LEFT_OUT)]
    assert left["reason"].str.contains(reason).tolist() == [True]
    assert left["segment"].tolist() == [FOOD]
    assert left["detail"].tolist() == [f"{LABELS}/{name}.json"]
    kept = {"0001", "0002", "0003"} - {name[-4:]}
    assert of(utterances, FOOD)["annotators"][0] == ";".join(sorted(kept))
    assert set(utterances["quarantine"]) == {""} and len(utterances) == 20
    assert of(utterances, FOOD)["marks"].str.len().eq(3).all()  # two are left: "0;1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"3",
        b"null",
        b"{",
        b"\xff\xfe{\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b"\x00" * 100,
        '{"metadata": "한글", "timelines": []}'.encode("cp949"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_json_of_the_corpus_is_left_out_and_reported(data, folder):
    path = folder / LABELS / f"{FOOD}_0001.json"
    path.write_bytes(data)
    with within(5):
        utterances, troubles = aihub_highlight.Reader.read(folder)
    assert len(troubles) == 1 and troubles["reason"][0].startswith(LEFT_OUT)
    assert of(utterances, FOOD)["annotators"][0] == "0002;0003"


def test_a_label_file_of_megabytes_is_left_out_though_it_is_sound(folder):
    path = folder / LABELS / f"{FOOD}_0001.json"
    path.write_bytes(path.read_bytes() + b" " * labels.LARGEST)
    _, troubles = aihub_highlight.Reader.read(folder)
    assert reasons(troubles) == {f"{LEFT_OUT}larger than 4,194,304 bytes": 1}


def test_a_label_file_may_begin_with_a_byte_order_mark(folder):
    path = folder / LABELS / f"{FOOD}_0001.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert aihub_highlight.Reader.read(folder)[1].empty


def test_a_video_without_any_usable_annotator_is_in_quarantine(folder):
    for annotator in MARKED[FOOD]:
        write(folder / LABELS / f"{FOOD}_{annotator}.json", "{}")
    utterances, troubles = aihub_highlight.Reader.read(folder)
    bad = of(utterances, FOOD)
    assert bad[["start", "quarantine", "marks", "annotators"]].values.tolist() == [
        [0.0, "no usable annotator", "", ""]
    ]
    assert troubles.loc[troubles["treatment"] == "quarantined", "segment"].tolist() == [FOOD]
    highlight = aihub_highlight.Reader.labelled(utterances, "union")["highlight"]
    assert highlight.isna().sum() == 1 and len(of(utterances, TRAVEL)) == 10


def test_the_video_that_is_known_to_be_bad_is_in_quarantine_with_all_its_seconds(folder):
    write(folder / "news_footage_1710.mp4", "")
    write(folder / "news_footage_1710_1.json", label("news_footage_1710", "1", [(1, 1)]))
    utterances, _ = aihub_highlight.Reader.read(folder)
    bad = of(utterances, "news_footage_1710")
    assert len(bad) == 10 and set(bad["quarantine"]) == {"known to be bad"}
    assert aihub_highlight.Reader.labelled(bad, "mean")["highlight"].isna().all()


def test_files_against_the_validity_rules_are_reported_and_used(folder):
    spans = [(0, 5), (30, 31)]  # of 5 min at least round(2.5) = 2 tags, and 5 % of the seconds
    for number, (some, length) in enumerate([(spans, 300.5), (spans[:1], 300.5), ([], 59.9)]):
        write(folder / f"{number}.mp4", "")
        write(folder / f"{number}_1.json", label(str(number), "1", some, length))
    utterances, troubles = aihub_highlight.Reader.read(folder)
    few, share = "fewer highlights than the rule", "not 5% to 25% marked"
    found = sorted(zip(troubles["segment"], troubles["reason"], strict=True))
    assert found == [("0", share), ("1", few), ("1", share), ("2", share)]
    assert set(troubles["treatment"]) == {"reported"} and set(utterances["quarantine"]) == {""}
    assert [len(of(utterances, str(number))) for number in range(3)] == [301, 301, 60]
    edit(folder, "0_1", lambda v: v["timelines"].append({"id": 3, "start": 60, "end": 69}))
    assert "0" not in set(aihub_highlight.Reader.read(folder)[1]["segment"])


def test_what_metadata_says_otherwise_is_reported(folder):
    edit(folder, f"{FOOD}_0001", lambda v: v["metadata"].update(file_name="other.mp4"))
    edit(folder, f"{FOOD}_0002", lambda v: v["metadata"].update(annotator_id=9))
    edit(folder, f"{FOOD}_0003", lambda v: v["metadata"].update(class_code=9))
    edit(folder, f"{TRAVEL}_0001", lambda v: v["metadata"].update(class_code=1))
    utterances, troubles = aihub_highlight.Reader.read(folder)
    assert reasons(troubles) == {
        "label names another video": 1,
        "annotator id differs from the file name": 1,
        "class_code is not 1 to 8": 1,
        "annotators differ on class_code": 1,
    }
    assert of(utterances, FOOD)["annotators"][0] == "0001;0003;9"
    assert of(utterances, FOOD)["marks"][3] == "0;1;1"
    assert of(utterances, FOOD)["class_code"][0] == "6"


@pytest.mark.parametrize("name", [FOOD, f"{FOOD}.mp4", f"VS_유튜브_01/{FOOD}.mp4"])
def test_a_file_name_in_metadata_may_have_folders_and_a_suffix(name, folder):
    change = unicodedata.normalize("NFD", name)
    edit(folder, f"{FOOD}_0001", lambda v: v["metadata"].update(file_name=change))
    assert aihub_highlight.Reader.read(folder)[1].empty

"""The page on recordings of one's own: its table and its commands, as they stand there."""

import contextlib
import json
import re
import shlex

import numpy as np
import pytest
import soundfile
from doubles.flags import flags_of
from doubles.pages import blocks, code, commands, english, headings, section, tables, text
from doubles.untrained import run as untrained

import main
from inference import recordings
from training import flags as training_flags
from utils import leaf, leaves

PAGE = "docs/ko/10_predict_and_serve.md"
BOTH = PAGE, english(PAGE)


@pytest.fixture(scope="module")
def place(tmp_path_factory, workplace):
    """The folder of the page, and a run called demo, trained on nothing."""
    place = tmp_path_factory.mktemp("docs")
    noise = np.random.default_rng(0)
    (place / "talk").mkdir()
    for i in range(1, 5):
        wave = np.cumsum(noise.normal(0, 0.01, 8000)).clip(-1, 1)
        soundfile.write(place / f"talk/{i}.wav", wave, 16_000)
    (place / "lines.csv").write_text(
        next(found for kind, found in blocks(PAGE) if kind == "csv"), encoding="utf-8"
    )
    (place / "corpus").symlink_to(workplace / "corpus")
    flags = (
        "--data",
        "corpus",
        "--test_split",
        3,
        4,
        "--text_encoder",
        "char-ngram",
        "--sr",
        8000,
        "--ws",
        3,
        "--hidden_size",
        8,
        "--modality_dropout",
        0.15,
    )
    untrained(place / "exp/demo", "mate", *flags)
    return place


def test_both_languages_hold_the_same_code_and_sections():
    one, other = BOTH
    assert blocks(one) == blocks(other) and len(blocks(one)) == 3
    for page in BOTH:
        assert [title[0] for level, title in headings(page) if level == 2] == list("1234567")


def test_the_table_of_the_page_is_read_as_it_says(place):
    rows = recordings.utterances([place / "lines.csv"], progress=False)
    assert rows["speaker"].tolist() == list("ABAB") and set(rows["dialogue"]) == {"저녁"}
    assert rows["text"].tolist()[3] == "" and (rows["quarantine"] == "").all()


def test_every_command_of_the_page_ends_well_and_writes_what_it_says(place, capsys):
    with contextlib.chdir(place):
        for line in commands(PAGE):
            words = shlex.split(line)[2:]
            if words[0] == "serve":  # tests/commands/test_serve.py does
                _, rest = training_flags.read(leaf("commands", "serve").Settings, words[1:])
                assert not rest
                continue
            assert main.main(words) == 0, capsys.readouterr().err
    [table] = tables(section(PAGE, 2))
    named = {name for row in table for name in code(row[0])}
    written = {path.name for path in (place / "evening").glob("[!.]*")}
    assert written == named - {"timeline_1.png"}
    line = json.loads((place / "one/predictions.jsonl").read_text())
    assert line["text"] == "오늘 왜 이렇게 늦었어" and line["masked"] == []
    lines = (place / "light/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["masked"] for line in lines] == [["text"]] * 4


def test_the_flags_and_limits_of_the_page_are_those_of_the_code():
    known = {"--modality_dropout", "--speaker_norm"}
    for name in ("predict", "serve"):
        known |= {f for flags in flags_of(leaf("commands", name).Settings).values() for f in flags}
    for page in BOTH:
        named = {w for c in code(text(page)) for w in c.split() if re.fullmatch(r"--\w+", w)}
        assert named <= known | {"--save_path"}, named - known
        assert f"{recordings.LONG:g}" in tables(section(page, 1))[0][3][0]
    assert {"predict", "serve", "export", "publish"} <= set(leaves("commands"))

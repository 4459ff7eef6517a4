"""Pages and pictures of strings that somebody else chose: no tag, no formula, nothing fetched."""

import io
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from doubles.run_folders import configuration, log_lines, make_run, predictions, result_of

from evaluation.predictions import TEXTS, read_predictions
from reporting import charts, corpus_tables, figures, page

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>x</script>",
    "</title></head><body onload=x>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='x",
    "javascript:alert(1)",
    "{{7*7}}{% x %}",
    "<!--",
    "]]><![CDATA[",
    "</pre></dl></main>",
    "&lt;b&gt;&#60;i&#62;",
    "<a href=//evil>",
    "\x00<\x0bscript>",
    "</svg><svg/onload=x>",
    "\u202e<b>",
    "${7*7}#{7*7}<%= 7*7 %>",
]


class Skeleton(HTMLParser):
    """Every tag with its attributes, and all text apart."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, *attributes))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(("/", tag))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("!--", data))

    def handle_decl(self, declaration: str) -> None:
        self.tags.append(("!", declaration))

    def unknown_decl(self, data: str) -> None:
        self.tags.append(("![", data))

    def handle_pi(self, data: str) -> None:
        self.tags.append(("?", data))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_with(word: str, folder: Path) -> str:
    """A page in which every string that comes from data is `word`; numbers stay."""

    def everywhere(value: object) -> object:
        if isinstance(value, dict):
            return {f"{key}{word}": everywhere(item) for key, item in value.items()}
        return word

    run = configuration()
    spread = {f"{key}{word}": everywhere(value) for key, value in run.items()}
    run |= {"model": word, "command": word, "more": spread}
    result = result_of(make_run(folder, predictions(60)))
    result |= {"ties": word, "warnings": [word, word], "synthetic": True}
    result["preparation"] = [{"treatment": word, "reason": word, "count": 1}]
    result["by_kind"] = {word: {"n": 1, "uar": 0.5, "macro_f1": 0.5}}
    log = [log_lines(1)[0] | {f"loss/{word}": 1.0}]
    rows = read_predictions(folder / "predictions.csv")
    rows = rows.assign(**dict.fromkeys(TEXTS, word)).assign(emotion_true=f"!{word}")
    return page.page(run, result, rows, charts.curve(log), word)


@pytest.mark.parametrize("word", HOSTILE)
def test_no_string_of_data_becomes_a_tag_or_an_attribute(word, tmp_path):
    harmless = Skeleton(page_with("harmless", tmp_path / "run"))
    hostile = Skeleton(page_with(word, tmp_path / "run"))
    assert hostile.tags == harmless.tags
    seen = word.replace("\x00", "\ufffd")  # as a parser of HTML reads it
    found = "".join(hostile.text).replace("\x00", "\ufffd")
    assert found.count(seen) >= 40
    assert "".join(harmless.text).replace("harmless", "").split() == found.replace(seen, "").split()


def test_a_page_fetches_nothing_and_runs_nothing(tmp_path):
    text = page_with("word", tmp_path / "run")
    tags = Skeleton(text).tags
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {
        t[0] for t in tags
    }
    names = {name for tag in tags if tag[0] not in ("/", "!") for name, _ in tag[1:]}
    assert not {name for name in names if name.startswith("on") or name in ("src", "href")}
    assert "default-src 'none'" in text


MATHTEXT = ["$\\frac{", "a$b$c", "$", "$$", "_x", "\\", "$\\notacommand$"]


@pytest.mark.parametrize("name", MATHTEXT)
def test_a_dollar_in_a_name_is_no_formula(name):
    from matplotlib.figure import Figure

    log = [{"epoch": 1, "loss": 1.0, f"loss/{name}": 1.0}]
    assert figures.loss_png(charts.curve(log)).startswith(b"\x89PNG")
    figure = Figure()
    cells = pd.DataFrame([[1.0, 2.0]], index=[name], columns=[name, f"{name} again"])
    corpus_tables.heatmap(figure.subplots(), cells)
    figure.savefig(io.BytesIO())

"""The page of `serve` in Chromium."""

import codecs
import io
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from doubles.served import shares, sound

from constants import EMOTIONS

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
WAIT = 30_000  # ms that a slow machine may need for one turn


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Visitor:
    """One who has the page open, and what went wrong in his browser."""

    def __init__(self, context, url: str, width: int = 1280):
        self.page = context.new_page()
        self.page.set_viewport_size({"width": width, "height": 900})
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page.set_default_timeout(WAIT)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else 0)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda r: self.hosts.add(urlsplit(r.url).netloc))
        self.page.on("dialog", lambda d: self.errors.append(f"dialog: {d.message}"))
        self.page.goto(url)
        self.page.wait_for_selector("#add")

    def choose(self, path: Path) -> None:
        with self.page.expect_response(lambda r: "/upload" in r.url):
            self.page.set_input_files("#sound input[type=file]", path)
        self.page.wait_for_selector("#sound input[type=file]", state="detached")

    def press(self, button: str = "add") -> None:
        self.page.click(f"#{button}")

    def say(self, path: Path, line: str) -> None:
        self.choose(path)
        self.page.fill("#line textarea", line)
        self.press()

    def turns(self, count: int) -> None:
        """Wait for so many turns in the table."""
        self.page.wait_for_function(
            "n => document.querySelectorAll('#dialogue tbody tr').length == n", arg=count
        )

    def shares(self) -> np.ndarray:
        found = self.page.eval_on_selector_all(".bars li", "all => all.map(e => e.dataset.p)")
        return np.array(found, float)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)


@pytest.fixture
def visit(browser, server):
    there: list[Visitor] = []

    def come(apart: bool = False, **how) -> Visitor:
        """In a window of the one browser that loads the page but once, or `apart`."""
        shared = (browser.contexts or [browser.new_context()])[0]
        there.append(Visitor(browser.new_context() if apart else shared, server.url, **how))
        return there[-1]

    yield come
    for visitor in there:
        visitor.page.close()


def test_a_dialogue_in_a_browser_is_judged_as_predict_judges_it(visit, server, predicted, lines):
    visitor, wanted = visit(), predicted(0, 1)
    for n, said in enumerate(lines[:2]):
        visitor.say(*said)
        visitor.turns(n + 1)
        assert np.allclose(visitor.shares(), shares(wanted)[n], atol=1e-5)
        assert wanted["emotion"][n] in visitor.text("#emotion")
        assert visitor.page.input_value("#line textarea") == ""
        visitor.page.wait_for_selector("#sound input[type=file]", state="attached")
    assert {"plane", "mel", "timeline"} <= pictures(visitor, "#dialogue")
    assert_saved(visitor, wanted)
    visitor.press("why")
    visitor.page.wait_for_selector("#effects img")
    visitor.press("undo")
    visitor.turns(1)
    assert not visitor.page.is_visible("#effects")
    visitor.press("new")
    visitor.turns(0)
    assert visitor.page.is_disabled("#undo") and visitor.page.is_disabled("#why")
    assert visitor.errors == []
    assert visitor.hosts <= {urlsplit(server.url).netloc, ""}


def assert_saved(visitor: Visitor, wanted: pd.DataFrame) -> None:
    """What is downloaded are the turns as `predict` writes them."""
    got = {}
    for name in ("csv", "jsonl"):
        with visitor.page.expect_download() as download:
            visitor.page.click(f"#{name}")
        assert download.value.suggested_filename == f"dialogue.{name}"
        got[name] = Path(download.value.path()).read_bytes()
    records = [json.loads(line) for line in got["jsonl"].decode().splitlines()]
    table = pd.read_csv(io.BytesIO(got["csv"]))
    assert [record["emotion"] for record in records] == list(table["emotion"])
    assert list(table["emotion"]) == list(wanted["emotion"])
    assert list(table["text"]) == list(wanted["text"])
    assert np.allclose(table[list(EMOTIONS)], wanted[list(EMOTIONS)], atol=1e-5)
    assert abs(records[-1]["probabilities"]["sad"] - wanted["sad"].iloc[-1]) < 1e-5
    assert got["csv"].startswith(codecs.BOM_UTF8)  # by which Excel knows


def pictures(visitor: Visitor, within: str) -> set[str]:
    """The parts whose picture the browser could draw."""
    return set(
        visitor.page.eval_on_selector_all(
            f"{within} .part img",
            "all => all.filter(e => e.complete && e.naturalWidth > 99)"
            ".map(e => e.closest('.part').classList[1])",
        )
    )


def test_a_bad_file_is_told_of_and_the_dialogue_stays(visit, lines, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"this is no sound")
    visitor = visit()
    visitor.say(*lines[0])
    visitor.turns(1)
    before = visitor.shares()
    visitor.page.wait_for_selector("#sound input[type=file]", state="attached")
    visitor.say(tmp_path / "bad.wav", "안녕")
    visitor.page.wait_for_selector("#notice .notice")
    assert "소리 파일로 읽을 수 없습니다" in visitor.text("#notice")
    assert visitor.page.get_attribute("#notice .notice", "role") == "alert"
    assert np.array_equal(visitor.shares(), before)
    assert visitor.page.input_value("#line textarea") == "안녕"
    visitor.press("undo")
    visitor.turns(0)
    assert not visitor.page.is_visible("#notice .notice")


def test_two_browsers_at_once_are_not_mixed(visit, predicted, lines):
    visitors = [visit(), visit(apart=True)]
    for visitor, (wav, line) in zip(visitors, lines[:2], strict=True):
        visitor.choose(wav)
        visitor.page.fill("#line textarea", line)
    for visitor in visitors:
        visitor.press()
    for n, visitor in enumerate(visitors):
        visitor.turns(1)
        assert np.allclose(visitor.shares(), shares(predicted(n))[0], atol=1e-5)
        assert predicted(n)["text"].item() in visitor.text("#dialogue")


def test_both_languages_say_the_same_and_typed_text_stays_text(visit, lines):
    visitor = visit()
    typed = "안녕 <img src=x onerror=alert`1`> {{7*7}} ${7*7}"
    visitor.say(lines[0][0], typed)
    visitor.turns(1)
    assert "합성 말뭉치" in visitor.text("#head") and "발화 추가" in visitor.text("#add")
    before = visitor.shares()
    visitor.page.click("#language label:has-text('English')")
    visitor.page.wait_for_selector("#add:has-text('Add turn')")
    body = visitor.text(".gradio-container")
    hangul = re.findall("[가-힣]+", body.replace("한국어", ""))
    allowed = {"안녕", "오늘", "정말", "고마웠어", *"혐오 분노 슬픔 공포 놀람 중립 기쁨".split()}
    assert set(hangul) <= allowed
    assert visitor.page.evaluate("document.documentElement.lang") == "en"
    assert np.array_equal(visitor.shares(), before)
    assert "<img src=x onerror=alert" in body and "{{7 7}} ${7 7}" in body.replace("*", " ")
    assert visitor.page.query_selector("img[src=x]") is None
    assert visitor.errors == []


def test_on_a_phone_nothing_is_wider_than_the_screen(visit, lines):
    visitor = visit(width=390)
    wide = "document.documentElement.scrollWidth"
    assert visitor.page.evaluate(wide) <= 390
    visitor.say(lines[0][0], "가" * 200)
    visitor.turns(1)
    visitor.press("why")
    visitor.page.wait_for_selector("#effects img")
    assert visitor.page.evaluate(wide) <= 390
    small = visitor.page.eval_on_selector_all(
        "button:not([disabled])",
        "all => all.filter(e => e.offsetParent && e.offsetHeight < 24)"
        ".map(e => e.ariaLabel || e.innerText)",
    )
    assert not set(small) & {"Add", "Undo"}
    assert visitor.errors == []


def test_a_file_that_is_too_large_is_told_of_before_it_is_sent(visit, lines, tmp_path):
    visitor, heavy = visit(), sound(tmp_path / "heavy.wav", 40)
    sent: list[str] = []
    visitor.page.on("request", lambda request: sent.append(request.url))
    visitor.page.set_input_files("#sound input[type=file]", heavy)
    visitor.page.wait_for_selector("#large .notice")
    assert "1 MB까지" in visitor.text("#large") and not any("/upload" in url for url in sent)
    visitor.choose(lines[0][0])
    assert not visitor.page.is_visible("#large .notice")
    assert visitor.page.evaluate("document.documentElement.lang") == "ko"
    assert visitor.errors == []


def test_without_text_the_page_says_what_is_missing(visit, lines):
    visitor = visit()
    visitor.choose(lines[0][0])
    visitor.press()
    visitor.page.wait_for_selector("#notice .notice")
    assert "글 없는 발화를 배운 적이 없습니다" in visitor.text("#notice")


def test_the_microphone_works(visit):
    visitor = visit()
    visitor.page.click("#sound button[aria-label='Record audio']")
    visitor.page.click("#sound .record-button")
    visitor.page.wait_for_timeout(1200)
    with visitor.page.expect_response(lambda r: "/upload" in r.url):
        visitor.page.click("#sound .stop-button")
    visitor.page.fill("#line textarea", "안녕")
    visitor.press()
    visitor.turns(1)
    assert visitor.errors == []

"""The page of `serve`: dialogues, what is refused, the real thing over HTTP and in Chromium."""

import asyncio
import codecs
import contextlib
import csv
import functools
import http.client
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import soundfile
from doubles.settings import settings_with

import main
from constants import EMOTIONS
from features import store
from features.store import extraction
from inference import predictor, recordings, trained
from inference.web import address
from inference.web import dialogue as web_dialogue
from inference.web import gate as web_gate
from inference.web import view as web_view
from inference.web import words as web_words
from inference.web.dialogue import Dialogue, Limits, Refused, Said
from media import listening
from utils import ROOT

CHROMIUM = "/usr/bin/chromium"
LIMITS = Limits(mb=1.0, seconds=30.0, turns=6)
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
CSV_BAD = b"wav,text\n/etc/passwd,a\n"


# --- a model, and utterances for it --------------------------------------------------------------


@pytest.fixture(scope="module")
def judge(run_folder) -> predictor.Predictor:
    judge = trained.of_run(run_folder)
    web_dialogue.warm(judge)
    return judge


@pytest.fixture(scope="module")
def lines(workplace) -> list[tuple[Path, str]]:
    """Sound files of one dialogue of the corpus, and what is said in them."""
    found = sorted((workplace / "corpus" / "wav").rglob("*.wav"))[:4]
    return [(wav, wav.with_suffix(".txt").read_text("utf-8").strip()) for wav in found]


@pytest.fixture(scope="module")
def predicted(judge, lines, tmp_path_factory):
    """What `predict` says of a table of the lines of these numbers, as one dialogue."""

    @functools.cache
    def predict(*numbers: int) -> pd.DataFrame:
        path = tmp_path_factory.mktemp("table") / "dialogue.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("wav", "text"), *[lines[n] for n in numbers]])
        rows = recordings.utterances([path], progress=False)
        return pd.concat([table for table, _ in judge.stream(rows)], ignore_index=True)

    return predict


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


def shares(table: pd.DataFrame) -> np.ndarray:
    return table[list(EMOTIONS)].to_numpy(float)


def sound(path: Path, seconds: float, rate: int = 16_000, **how) -> Path:
    wave = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, wave, rate, **how)
    return path


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


# --- the gate ------------------------------------------------------------------------------------


UPLOADS = Path("/tmp/serve-x/uploads")
OWN = f"{UPLOADS}/{'0a' * 32}/a.wav"


def ask(method: str, path: str, body: bytes = b"", most: int = 1000, **head: str) -> int:
    """The status that Gate gives; 299: it let the request through."""
    sent: list[dict] = []

    async def app(scope, receive, send):
        got = b""
        while method == "POST":
            message = await receive()
            got += message.get("body", b"")
            if not message.get("more_body"):
                break
        assert got == body
        await send({"type": "http.response.start", "status": 299, "headers": []})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    given = {"host": "127.0.0.1:7860"} | ({"content-length": str(len(body))} if body else {})
    pairs = [(k.encode(), v.encode()) for k, v in (given | head).items() if v is not None]
    scope = {"type": "http", "method": method, "path": path, "headers": pairs}
    gate = web_gate.Gate(app, UPLOADS, most, web_gate.LOCAL)
    asyncio.run(gate(scope, receive, send))
    names = {name for name, _ in sent[0]["headers"]}
    assert b"content-security-policy" in names
    return sent[0]["status"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/assets/index-a_B.js",
        "/static/fonts/A/a.woff2",
        "/theme.css",
        "/gradio_api/queue/data",
        "/gradio_api/heartbeat/abc",
        f"/gradio_api/file={OWN}",
    ],
)
def test_the_page_and_its_parts_pass_the_gate(path):
    assert ask("GET", path) == 299


@pytest.mark.parametrize(
    "path",
    [
        "/config",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/docs",
        "/monitoring",
        "/gradio_api/proxy=http://127.0.0.1",
        "/gradio_api/deep_link",
        "/gradio_api/vibe-code",
        "/gradio_api/component_server",
        "/gradio_api/run/add",
        "/gradio_api/call/add",
        "/login",
        "/gradio_api/run-history/buckets",
        "/gradio_api/custom_component/a/client/b/c",
        "/static/../../etc/passwd",
        "/assets//../x",
        "/svelte/x",
        "/gradio_api/process_recording",
    ],
)
def test_nothing_else_passes(path):
    assert ask("GET", path) == 404 and ask("POST", path, b"{}") == 404
    assert ask("DELETE", "/") == 404 and ask("PUT", "/gradio_api/upload") == 404


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "http://example.com/a.wav",
        str(UPLOADS),
        f"{UPLOADS}/{'0a' * 32}",
        f"{UPLOADS}/examples/a.wav",
        f"{UPLOADS}/{'0a' * 31}/a.wav",
        f"{OWN}/../../a",
        "a.wav",
    ],
)
def test_no_file_but_an_upload_is_served_or_read(path):
    assert ask("GET", f"/gradio_api/file={path}") in (403, 404)
    for data in ([{"path": path}], [{"a": [{"path": path}]}], {"path": path}, [{"path": [path]}]):
        event = json.dumps({"data": data, "session_hash": "a"}).encode()
        assert ask("POST", "/gradio_api/queue/join", event) == 403
        assert ask("POST", "/gradio_api/queue/join/", event) in (403, 404)


def test_an_event_with_an_upload_passes_whole():
    event = json.dumps({"data": [None, {"path": OWN}]}).encode()
    assert ask("POST", "/gradio_api/queue/join", event) == 299
    for bad in (b"{", b"[" * 100_000, b"\xff"):
        assert ask("POST", "/gradio_api/queue/join", bad) == 403


def test_what_is_too_large_or_of_unknown_length_is_refused_by_its_head():
    assert ask("POST", "/gradio_api/upload", b"a" * 900) == 299
    assert ask("POST", "/gradio_api/upload", b"a", **{"content-length": "99999"}) == 413
    assert ask("POST", "/gradio_api/upload", b"a", **{"content-length": "-1"}) == 411
    assert ask("POST", "/gradio_api/upload", b"a", **{"content-length": None}) == 411
    assert ask("POST", "/gradio_api/queue/join", b"a", **{"content-length": "9999999"}) == 413
    assert ask("POST", "/gradio_api/queue/join", b"a", **{"transfer-encoding": "chunked"}) == 411


def test_a_page_elsewhere_cannot_speak_to_this_one():
    assert ask("GET", "/", host="evil.example:7860") == 403
    assert ask("GET", "/", host="") == 403
    assert ask("GET", "/", origin="http://evil.example") == 403
    assert ask("POST", "/gradio_api/upload", b"a", origin="null") == 403
    assert ask("GET", "/", host="localhost:1", origin="http://localhost:1") == 299
    assert ask("GET", "/", host="[::1]:1") == 299


# --- the subcommand ------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said_in_one_line(run_folder, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code = main.main(["serve", str(run_folder), "--port", str(port)])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1
    assert f"port {port} of 127.0.0.1" in said and "taken" in said


def test_without_gradio_the_verb_says_what_to_install(run_folder, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main.main(["serve", str(run_folder)]) == 2
    assert "pip install gradio==" in capsys.readouterr().err


def test_only_flags_open_the_server(monkeypatch, tmp_path):
    for name in list(os.environ):
        monkeypatch.setenv(name, os.environ[name])  # all is as it was, afterwards
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    with contextlib.ExitStack() as stack:
        stack.callback(os.environ.update, dict(os.environ))
        stack.callback(os.environ.clear)
        address.settle(tmp_path, "127.0.0.1")
        opened = {name for name in os.environ if name.startswith("GRADIO_")}
        assert opened == {"GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "GRADIO_ANALYTICS_ENABLED"}
    assert [address.is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert not any(map(address.is_loopback, ("0.0.0.0", "192.168.0.1", "example.com", "::")))


class Server:
    """The real subcommand in a process of its own."""

    def __init__(self, run: Path, folder: Path, *flags: str):
        self.log = folder / "serve.log"
        command = [sys.executable, str(ROOT / "main.py"), "serve", str(run), "--port", "0", *flags]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while "Ctrl-C" not in self.said:
            assert self.process.poll() is None and time.monotonic() < end, self.said
            time.sleep(0.1)
        self.url = re.search(r"http://\S+/", self.said)[0]
        self.uploads: set[Path] = set()

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(90)
        finally:
            self.process.kill()
            self.process.wait()

    def ask(self, method: str, path: str, body: bytes = b"", **head: str) -> tuple[int, bytes]:
        """The path goes out as it is: no client tidies it."""
        link = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        with contextlib.closing(link):
            link.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (head | ({"content-length": len(body)} if body else {})).items():
                link.putheader(name, value)
            link.endheaders(body or None)
            answer = link.getresponse()
            return answer.status, answer.read()

    def upload(self, path: Path, name: str = "") -> str:
        """Where gradio put it."""
        edge = "edge0f1e2d"
        head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="'
        head += f'{name or path.name}"\r\nContent-Type: audio/wav\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        kind = f"multipart/form-data; boundary={edge}"
        code, answer = self.ask("POST", "/gradio_api/upload", body, **{"content-type": kind})
        assert code == 200, answer
        [place] = json.loads(answer)
        self.uploads.add(Path(place))
        return place

    def event(self, session: str, name: str, data: list) -> tuple[int, dict | None]:
        """Status of an event sent by hand, and what came of it."""
        page = self.ask("GET", "/")[1].decode()
        config = json.loads(re.search(r"window.gradio_config = (.+?);</script>", page)[1])
        ids = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
        [call] = [d["id"] for d in config["dependencies"] if [ids[name], "click"] in d["targets"]]
        event = {"data": data, "fn_index": call, "session_hash": session}
        code, answer = self.ask(
            "POST",
            "/gradio_api/queue/join",
            json.dumps(event).encode(),
            **{"content-type": "application/json"},
        )
        if code != 200:
            return code, None
        answer = self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")[1].decode()
        told = [json.loads(line[5:]) for line in answer.splitlines() if line.startswith("data:")]
        return code, next(m for m in told if m["msg"] == "process_completed")


@pytest.fixture(scope="module")
def server(run_folder, workplace):
    pytest.importorskip("gradio", reason="the page needs gradio, see requirements/extra.txt")
    flags = ("--max_mb", "1", "--max_seconds", "30", "--max_turns", "6")
    server = Server(run_folder, workplace, *flags)
    try:
        yield server
    finally:
        code = server.stop()
    assert code == 0 and server.said.rstrip().endswith("ended"), server.said
    assert "Traceback" not in server.said, server.said
    assert not any(path.parents[1].exists() for path in server.uploads)


def file_of(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_no_file_of_the_server_can_be_read(server, run_folder, lines):
    place = server.upload(lines[0][0])
    assert server.ask("GET", f"/gradio_api/file={place}") == (200, lines[0][0].read_bytes())
    uploads = Path(place).parents[1]
    wanted = [
        "/etc/passwd",
        run_folder / "model.pth",
        run_folder / "configuration.json",
        ROOT / "main.py",
        ROOT / ".git" / "config",
        uploads,
        Path(place).parent,
        server.log,
        lines[0][0],
        f"{uploads}/../../../etc/passwd",
        f"{uploads}/{'0' * 64}/{lines[0][0].name}",
    ]
    for path in map(str, wanted):
        for form in (
            f"/gradio_api/file={path}",
            f"/file={path}",
            f"/gradio_api/file/{path}",
            f"/gradio_api/file={path.replace('/', '%2F')}",
            f"/gradio_api/file={path.replace('/', '%252F')}",
            f"/static/{path}",
            f"/static/../../../../../../../..{path}",
            f"/assets/..%2f..%2f..%2f..{path}",
            f"/svelte/{path}",
            f"/gradio_api/proxy=file://{path}",
            f"/gradio_api/stream/{path}",
        ):
            code, answer = server.ask("GET", form)
            assert code in (403, 404) and len(answer) < 200, form


def test_a_path_sent_by_hand_is_refused_and_not_read(server, run_folder, lines):
    for path in (
        "/etc/passwd",
        str(run_folder / "model.pth"),
        str(lines[0][0]),
        "http://127.0.0.1:1/a.wav",
    ):
        data = [None, "en", "", file_of(path), "안녕", True]
        assert server.event("byhand", "add", data) == (403, None)


def test_a_table_that_names_files_is_not_read_as_one(server, tmp_path):
    (tmp_path / "t.csv").write_bytes(CSV_BAD)
    data = [None, "en", "", file_of(server.upload(tmp_path / "t.csv")), "", True]
    told = server.event("table", "add", data)[1]
    assert told["success"] and "no name of a sound file" in json.dumps(told["output"])


def test_a_line_that_is_too_long_is_refused_by_the_server_too(server):
    told = server.event("long", "add", [None, "en", "", None, "가" * 1001, True])[1]
    assert "1000 characters" in json.dumps(told, ensure_ascii=False)


def test_what_is_too_large_is_not_taken(server):
    code, _ = server.ask(
        "POST",
        "/gradio_api/upload",
        b"a" * (2 << 20),
        **{"content-type": "multipart/form-data; boundary=a"},
    )
    assert code == 413


def test_two_at_once_are_answered_each_for_himself(server, predicted, lines):
    """Two visitors, by hand and at the same time, with one recording and the other."""
    wanted = [shares(predicted(n))[0] for n in range(2)]
    places = [server.upload(wav) for wav, _ in lines[:2]]
    found: dict[int, np.ndarray] = {}

    def visit(n: int) -> None:
        data = [None, "en", "", file_of(places[n % 2]), lines[n % 2][1], True]
        told = server.event(f"visitor{n}", "add", data)[1]
        shown = json.dumps(told["output"]["data"])
        found[n] = np.array([float(p) for p in re.findall(r'data-p=\\"([\d.]+)', shown)])

    threads = [threading.Thread(target=visit, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert all(np.allclose(found[n], wanted[n % 2], atol=1e-5) for n in found)


# --- in a browser --------------------------------------------------------------------------------


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

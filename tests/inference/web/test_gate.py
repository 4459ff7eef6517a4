"""The gate before the page: what passes and what does not."""

import asyncio
import json
from pathlib import Path

import pytest

from inference.web import gate as web_gate

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

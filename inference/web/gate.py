"""What a visitor of the page may ask the server for: the page itself and its own events, no more.

gradio answers many routes that this page has no use for (files by URL, proxies, editors, video
tools); here everything is refused that is not in ROUTES. An ASGI middleware around gradio's app.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

API = "/gradio_api"
READ = re.compile(
    r"/|/(assets|static)/[\w./-]+|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|"
    rf"{API}/(startup-events|heartbeat/\w+|queue/data|upload_progress|file=.+)"
)
WRITE = re.compile(rf"{API}/(upload|queue/join|cancel|reset)")
EVENT = 1 << 18  # bytes of an event: a line of text, and the names of a few files
FORM = 1 << 14  # bytes of a form around the file that it holds
LOCAL = frozenset(["127.0.0.1", "localhost", "::1"])
# nothing is loaded from elsewhere; gradio's page makes functions of its templates ("unsafe-eval")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gate:
    """Answers 4xx, one line, in place of `app`, to what is none of the page's business.

    `uploads`: where gradio puts what visitors send; `most`: bytes of a file; `hosts`: the names
    that the server goes by, None: any. A page elsewhere whose name was made to lead here
    ("DNS rebinding") asks under its own name.
    """

    def __init__(self, app: Callable, uploads: Path, most: int, hosts: frozenset[str] | None):
        self.app, self.uploads, self.most, self.hosts = app, Path(uploads), most, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no websocket is spoken here
        code, why = self._fault(scope)
        if not code and scope["path"].rstrip("/") == f"{API}/queue/join":
            body = await _body(receive)
            code, why = (0, "") if self._is_clean(body) else (403, "no such upload")
            receive = _again(body, receive)
        if code:
            return await _answer(send, code, why)
        return await self.app(scope, receive, _guarded(send))

    def _fault(self, scope: Message) -> tuple[int, str]:
        """(status, reason) of a request that is refused by its head; 0 of one that is not."""
        method, path = scope["method"], scope["path"]
        head = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts is not None:
            named = {_host(f"//{head.get('host', '')}"), _host(head.get("origin", ""))} - {None}
            if not named <= self.hosts:
                return 403, "this page is served under another name"
        allowed = {"GET": READ, "HEAD": READ, "POST": WRITE}.get(method)
        if not allowed or not allowed.fullmatch(path) or ".." in path:
            return 404, "nothing here"
        if path.startswith(f"{API}/file=") and not self._is_upload(path.partition("=")[2]):
            return 403, "no such upload"
        if method != "POST":
            return 0, ""
        if "transfer-encoding" in head:  # in pieces, whose sum nobody has said
            return 411, "the length is not said"
        size = head.get("content-length", "")
        most = self.most + FORM if path == f"{API}/upload" else EVENT
        if not size.isdecimal():
            return 411, "the length is not said"
        return (413, f"more than {most} bytes") if int(size) > most else (0, "")

    def _is_upload(self, path: str) -> bool:
        """Whether gradio could have given that path to a visitor: DIR/<64 hex>/NAME."""
        folder = Path(path).parent
        return folder.parent == self.uploads and bool(re.fullmatch("[0-9a-f]{64}", folder.name))

    def _is_clean(self, body: bytes) -> bool:
        """Whether an event is JSON, and every file in it one that was uploaded."""
        try:
            event = json.loads(body)
            return all(
                isinstance(path, str) and ".." not in path and self._is_upload(path)
                for path in _paths(event)
            )
        except (ValueError, RecursionError):
            return False


def _paths(value: Any) -> Iterator[Any]:
    """What stands at "path" in nested JSON."""
    if isinstance(value, dict):
        yield from (value["path"],) if "path" in value else ()
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for item in inner:
            yield from _paths(item)


def _host(address: str) -> str | None:
    """The name alone; what is no address ("null") as it is; None of nothing."""
    try:
        return urlsplit(address).hostname or address or None
    except ValueError:
        return address


async def _body(receive: Receive) -> bytes:
    """What was sent, its length was checked; as much as came where the sender has gone."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives `body` once more, then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return first.pop() if first else await receive()

    return give


def _guarded(send: Send) -> Send:
    async def give(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return give


async def _answer(send: Send, code: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})

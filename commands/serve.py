"""A web page on which anybody can try a trained run: record or upload, type the line, see.

    python main.py serve RUN                     http://127.0.0.1:7860, for this computer alone
    python main.py serve exp/RUN/onnx --onnx     the same with onnxruntime alone
    python main.py serve RUN --host 0.0.0.0      for all who can reach this computer
    python main.py serve RUN --share             for everybody who knows the address

Ctrl-C ends it. In inference/web/: what a visitor may ask the server for is in gate.py, what is said
in a dialogue in dialogue.py, the page in page.py.
"""

import importlib.util
import os
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Subcommand
from inference import opening, predictor
from inference.web import address as web_address
from inference.web import dialogue, view
from inference.web import gate as web_gate
from utils import UserError, setting

NEEDED = "gradio==6.31.0"
QUEUE = 20  # requests that wait at most
SESSIONS = 100  # dialogues kept in memory at most; the oldest goes first
GRACE = 5.0  # s that connections and threads have to end


@dataclass(frozen=True)
class Settings(opening.OpenSettings):
    """The run, who can see the page, and what a visitor may send."""

    language: str = setting("ko", "of the page at first", choices=("ko", "en"))
    host: str = setting(
        "127.0.0.1", "where to listen; 0.0.0.0: others can reach it", metavar="ADDRESS"
    )
    port: int = setting(7860, "0: any that is free", least=0, most=65535, metavar="N")
    share: bool = setting(False, "a public address, through gradio's own servers")
    max_mb: float = setting(20.0, "of a recording at most", least=0.01, most=1000, metavar="MB")
    max_seconds: float = setting(300.0, "the same in seconds", least=1, most=600, metavar="S")
    max_turns: int = setting(100, "of a dialogue at most", least=1, most=1000, metavar="N")
    force: bool = setting(False, "without text, by a run that never missed it")


class Command(Subcommand):
    """Show a model as a page."""

    Settings = Settings

    @staticmethod
    def main(settings: Settings) -> None:
        """Open the model, listen, and wait for Ctrl-C."""
        if importlib.util.find_spec("gradio") is None:
            raise UserError(f"the page needs gradio: pip install {NEEDED}")
        folder = opening.found(settings.run, settings.save_path, settings.onnx or settings.int8)
        port = web_address.port(settings.host, settings.port)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing stays on disk
        judge = _opened(folder, settings)
        with tempfile.TemporaryDirectory(prefix="serve-") as name:
            uploads = Path(name).resolve() / "uploads"
            web_address.settle(uploads, settings.host)
            page = _launched(judge, settings, port, uploads)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                closing = threading.Thread(
                    target=page.close, kwargs={"verbose": False}, daemon=True
                )
                closing.start()
                closing.join(GRACE)
        print("ended", flush=True)
        # a connection that never ends must not hold it
        late = threading.Timer(GRACE, os._exit, (0,))
        late.daemon = True
        late.start()


def _opened(folder: Path, settings: Settings) -> predictor.Predictor:
    """The model, after its first answer: what it lacks is missed now, not by the first visitor."""
    judge = opening.opened(folder, settings)
    dialogue.warm(judge)
    return judge


def _launched(judge: predictor.Predictor, settings: Settings, port: int, uploads: Path) -> Any:
    """The page, being served; says where."""
    from starlette.middleware import Middleware

    from inference.web import page as web_page  # gradio, which is optional

    loopback = web_address.is_loopback(settings.host)
    limits = dialogue.Limits(settings.max_mb, settings.max_seconds, settings.max_turns)
    about = _about(judge, settings, loopback)
    page = web_page.Page(judge, about, limits, settings.language, settings.force).blocks()
    page.queue(api_open=False, max_size=QUEUE)
    most = round(settings.max_mb * 2**20)
    hosts = web_gate.LOCAL | {settings.host} if loopback and not settings.share else None
    gate = Middleware(web_gate.Gate, uploads=uploads, most=most, hosts=hosts)
    closed = dict.fromkeys(("docs_url", "redoc_url", "openapi_url"))
    try:
        _, address, public = page.launch(
            server_name=f"[{settings.host}]" if ":" in settings.host else settings.host,
            server_port=port,
            share=settings.share,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=most,
            state_session_capacity=SESSIONS,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            pwa=False,
            inbrowser=False,
            app_kwargs={"middleware": [gate], **closed},
            **web_page.look(limits, settings.language),
        )
    except OSError as error:
        raise UserError(f"cannot listen on port {port} of {settings.host}: {error}") from error
    _say(judge, settings, address, public, loopback)
    return page


def _about(judge: predictor.Predictor, settings: Settings, loopback: bool) -> view.About:
    """What the page says of the run, and who can see the page."""
    seen = "" if loopback else "reachable"
    if settings.share:
        seen = "shared"
    return view.About(
        judge.name,
        judge.settings.SorL,
        judge.ws,
        predictor.synthetic(judge.configuration),
        judge.temperature is not None,
        seen=seen,
    )


def _say(judge, settings, address: str, public: str | None, loopback: bool) -> None:
    print(f"{judge.name}: {address}", flush=True)
    if not loopback:
        print(
            "everybody who can reach this computer can use the page; without https, browsers let "
            "only this computer record"
        )
    if public:
        print(
            f"public: {public}  everybody who knows this address can use the page; what they "
            f"send passes through gradio's servers"
        )
    elif settings.share:
        print("warning: no public address could be had", file=sys.stderr)
    print("Ctrl-C ends it", flush=True)

"""The page served by a process of its own, and who talks to it."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import soundfile

from constants import EMOTIONS
from utils import ROOT

CSV_BAD = b"wav,text\n/etc/passwd,a\n"


def shares(table: pd.DataFrame) -> np.ndarray:
    return table[list(EMOTIONS)].to_numpy(float)


def sound(path: Path, seconds: float, rate: int = 16_000, **how) -> Path:
    wave = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, wave, rate, **how)
    return path


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

"""`serve`: what opens the server, and the real thing over HTTP."""

import contextlib
import importlib.util
import json
import os
import re
import socket
import threading
from pathlib import Path

import numpy as np
from doubles.served import CSV_BAD, shares

import main
from inference.web import address
from utils import ROOT


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

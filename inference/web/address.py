"""Where the page of `serve` is listened for, and what gradio may take from its surroundings."""

import errno
import ipaddress
import os
import socket
from pathlib import Path

from utils import UserError


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port(host: str, wanted: int) -> int:
    """The port, or a free one for 0. A UserError where nothing can listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            return listener.getsockname()[1]
    except OSError as error:
        how = {
            errno.EADDRINUSE: "it is taken; choose another with --port, or 0: any that is free",
            errno.EACCES: "it is reserved; choose one above 1023 with --port",
        }
        why = how.get(error.errno or 0, error.strerror or str(error))
        raise UserError(f"cannot listen on port {wanted} of {host}: {why}") from error


def settle(uploads: Path, host: str) -> None:
    """What gradio reads from the environment: the flags alone say how far the server is open."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {
        "GRADIO_TEMP_DIR": str(uploads),
        "GRADIO_EXAMPLES_CACHE": str(uploads / "examples"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    # it asks itself whether it is up, which no proxy can answer
    for name in ("no_proxy", "NO_PROXY"):
        known = [os.environ.get(name, ""), "127.0.0.1", "localhost", host]
        os.environ[name] = ",".join(filter(None, known))

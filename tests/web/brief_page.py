"""Serve the page with settings that take seconds; the port is free and printed."""

import socket
import sys
from pathlib import Path

from zero123.web.server import serve

sys.path.insert(0, str(Path(__file__).parents[1] / "reconstruct"))
import brief

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
serve(
    brief.pipeline(),
    "mini",
    port=port,
    mesh=brief.VIEWS,
    started=lambda url: print(url, flush=True),  # noqa: T201 - the tests read it
)

"""The command that serves the page."""

import signal
import sys
from dataclasses import dataclass

from zero123.app.opening import Opening


@dataclass(frozen=True)
class App:
    """Serve a page for the browser: drop a photo, drag a camera; views, a film, an object.

    Nothing is loaded from outside this machine, and nothing leaves it. Ctrl-C ends it.
    """

    model: str = "mini"
    """Bundled name, folder, .ckpt or .safetensors file, or hub id (see `zero123 models`)."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in, without a password."""
    port: int = 7860
    """Port to listen at."""

    def run(self) -> None:
        """Open the model, say where the page is, and serve it."""
        from zero123.web.server import serve

        if not 1 <= self.port <= 65535:
            raise ValueError(f"--port must be in 1 to 65535, got {self.port}")
        # so that the visitors' files go when a service or a container is stopped
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        pipe, _ = Opening(model=self.model).open([], False)
        serve(pipe, self.model, self.host, self.port, started=_say)


def _say(url: str) -> None:
    print(f"zero123: the page is at {url}", flush=True)

"""Serve the page on this machine, with nothing from outside."""

import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from zero123.pipeline import Zero123Pipeline
from zero123.reconstruct import Settings

if find_spec("gradio") is None:  # imported later, once it is told where its files lie
    raise ModuleNotFoundError("the page needs gradio: pip install 'zero123[web]'")

_LONGEST_QUEUE = 16
"""Whoever comes when so many wait is told that it is full."""


def serve(
    pipe: Zero123Pipeline,
    model: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    mesh: Settings | None = None,
    started: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the page until the process is told to end.

    All files of all visitors lie in one folder that goes with the process.

    Args:
        pipe: the model.
        model: its name, for the page.
        host: address to listen at; one of this machine alone also refuses foreign host names.
        port: to listen at.
        mesh: how objects are made; quickly if left out.
        started: told the page's address once it answers.

    Raises:
        OSError: if there cannot be listened.
    """
    with tempfile.TemporaryDirectory(prefix="zero123-page-") as name:
        folder = Path(name)
        uploads = folder / "uploads"
        uploads.mkdir()
        # Gradio reads these when it is imported and when parts are made
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        from starlette.middleware import Middleware

        from zero123.web.answers import Answers
        from zero123.web.guard import THIS_MACHINE, Guard
        from zero123.web.page import THEME, build_page, text_beside
        from zero123.web.placing import LIMITS
        from zero123.web.studio import Studio
        from zero123.web.visitor import Visitors

        pipe.set_progress_bar_config(disable=True)
        studio = Studio(pipe)
        visitors = Visitors(studio, folder, mesh)
        page = build_page(Answers(visitors, model), model)
        page.queue(max_size=_LONGEST_QUEUE, api_open=False)
        guard = Middleware(
            Guard, files=uploads, local=host in THIS_MACHINE, largest=LIMITS.file_bytes
        )
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                max_file_size=LIMITS.file_bytes,
                app_kwargs={"middleware": [guard]},
                theme=THEME,
                css=text_beside("page.css"),
                footer_links=["api"],
                share=False,
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise OSError(
                f"{host}:{port} cannot be listened at, perhaps another program does: name "
                "another --port"
            ) from error
        try:
            started(url)
            page.block_thread()
        finally:
            visitors.close()  # or the process would wait for the work that goes on
            studio.close()
            page.close(verbose=False)

"""What may reach the page's server: known paths, small bodies, files that were uploaded here."""

import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PAGES = (
    "/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt",
)  # fmt: skip
_PARTS = ("/assets/", "/static/", "/svelte/", "/pwa_icon")
_API = "/gradio_api/"
_CALLS = (
    "app_id", "call/", "cancel", "heartbeat/", "info", "openapi.json", "queue/", "reset", "run/",
    "startup-events", "theme.css", "upload",
)  # fmt: skip
_FILE = f"{_API}file="
_LARGEST_CALL = 1_000_000  # bytes of JSON
_ENVELOPE = 100_000  # bytes around an uploaded file
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
"""Hosts that nobody else reaches."""


class Refused(Exception):  # noqa: N818 - said in one sentence, as an answer
    """A request is not let in."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """Lets in what the page itself sends, and nothing else that Gradio would answer to.

    Gradio fetches URLs that stand in place of files, answers as a proxy, and hands out files by
    their path; none of it is wanted here. A server for this machine alone also refuses other host
    names, which a foreign page could have pointed here.
    """

    def __init__(self, app: App, files: Path, local: bool, largest: int) -> None:
        """Stand before an app.

        Args:
            app: what is guarded.
            files: folder that uploads lie in.
            local: whether only this machine is served.
            largest: size of an upload, bytes.
        """
        self._app, self._files, self._local, self._largest = app, files.resolve(), local, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            self._check_host(request)
            self._check_path(scope["path"])
            receive = await self._checked_body(request, receive)
        except Refused as refused:
            answer = JSONResponse({"detail": str(refused)}, refused.status)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, request: Request) -> None:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if self._local and host not in THIS_MACHINE:
            raise Refused(403, f"this page is for this machine alone, not for {host}")

    def _check_path(self, path: str) -> None:
        if path.startswith(_FILE):
            self._check_file(path.removeprefix(_FILE))
        elif path.startswith(_API):
            if not path.removeprefix(_API).startswith(_CALLS):
                raise Refused(404, "there is no such thing here")
        elif path not in _PAGES and not path.startswith(_PARTS):
            raise Refused(404, "there is no such thing here")

    def _check_file(self, name: str) -> None:
        file = Path(name)
        if "\0" in name or not file.is_absolute() or not self._is_inside(file):
            raise Refused(403, "only files of this page's own folder are given or taken")

    def _is_inside(self, file: Path) -> bool:
        return file.resolve().is_relative_to(self._files)

    async def _checked_body(self, request: Request, receive: Receive) -> Receive:
        if request.method != "POST":
            return receive
        is_upload = request.scope["path"].rstrip("/") == f"{_API}upload"
        most = self._largest + _ENVELOPE if is_upload else _LARGEST_CALL
        told = request.headers.get("content-length", "")
        if told.isdigit() and int(told) > most:
            raise Refused(413, f"more than the {most / 1e6:.0f} MB that are taken: save it smaller")
        if is_upload:
            return _counted(receive, most)
        body = await _read(receive, most)
        for path in _paths(body):
            self._check_file(path)
        return _again(body, receive)


def _paths(body: bytes) -> Iterator[str]:
    """All that stands where Gradio expects the path of a file."""
    try:
        waiting = [json.loads(body or b"null")]
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the request is no JSON") from error
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            path = part.get("path")
            if isinstance(path, str):
                yield path
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


async def _read(receive: Receive, most: int) -> bytes:
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > most:
            raise Refused(413, f"more than the {most / 1e6:.0f} MB that are taken")
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read already; then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _counted(receive: Receive, most: int) -> Receive:
    """Pass a body on, up to a size; what is longer ends as if the sender had gone."""
    left = most

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return counted

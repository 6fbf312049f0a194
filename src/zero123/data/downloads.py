"""Files over HTTP: a broken download goes on where it stopped, and what arrives is checked."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from zero123.data.report import Skipped

_ATTEMPTS = 4
_PATIENCE = 30.0
"""Seconds without a byte after which a connection is given up."""
_PAUSE = 0.5
"""Seconds before the second attempt; each next waits twice as long."""
_CHUNK = 1 << 20
_AGENT = "zero123 (https://pypi.org/project/zero123)"


def download(url: str, path: Path, sha256: str | None = None, largest: int | None = None) -> Path:
    """Bring a file here, unless it is here already.

    Bytes gather beside it in ``NAME.part``, which the next attempt, or the next run, continues.

    Args:
        url: http or https.
        path: where to; only a whole and checked file ever has this name.
        sha256: hex digest that it must have; None where none is known.
        largest: bytes beyond which it is not downloaded.

    Raises:
        Skipped: if it is too large, cannot be had, or is another file than expected.
        OSError: if it cannot be written.
    """
    if path.is_file():
        return path
    if not url.startswith(("http://", "https://")):
        raise Skipped("not downloaded", f"{url}: only http and https are fetched")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            _continue(url, part, largest)
            break
        except urllib.error.HTTPError as refused:
            if refused.code < 500 and refused.code not in (408, 429):
                raise Skipped("not downloaded", f"{url}: {refused.code} {refused.msg}") from refused
            problem: Exception = refused
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as e:
            problem = e
    else:
        raise Skipped("not downloaded", f"{url}: {problem} ({_ATTEMPTS} attempts)") from problem
    if sha256 is not None:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            part.unlink()
            raise Skipped("not downloaded", f"{url} has sha256 {found}, expected {sha256}")
    part.replace(path)
    return path


def _continue(url: str, part: Path, largest: int | None) -> None:
    """Append what is missing.

    Raises:
        ConnectionError: if the connection ends early.
    """
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as refused:
        refused.close()
        if refused.code != 416:
            raise
        # nothing is missing, or the part is of another file: its size tells
        total = refused.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):
            return
        part.unlink()
        raise ConnectionError("what was there did not fit") from refused
    with answer:
        continued = answer.status == 206
        if continued and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise ConnectionError("it went on elsewhere than asked")
        length = answer.headers.get("Content-Length")
        total_size = None if length is None else int(length) + (have if continued else 0)
        if largest is not None and (total_size or 0) > largest:
            raise Skipped("too big", _too_big(url, total_size or 0, largest))
        with part.open("ab" if continued else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                if largest is not None and file.tell() > largest:
                    raise Skipped("too big", _too_big(url, file.tell(), largest))
            size = file.tell()
        if total_size is not None and size < total_size:
            raise ConnectionError(f"it ended after {size} of {total_size} bytes")


def _too_big(what: str, size: int, largest: int) -> str:
    return f"{what} has {size / 1e6:.0f} MB or more, the bound is {largest / 1e6:.0f} MB"

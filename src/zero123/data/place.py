"""Where a data set lies: on a disk, or on a server that speaks HTTP."""

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Place:
    """A file or a folder."""

    address: str
    """A path, or a URL that starts with http:// or https://."""

    def __str__(self) -> str:
        return self.address

    @property
    def is_remote(self) -> bool:
        """Whether it lies on a server."""
        return self.address.startswith(("http://", "https://"))

    @property
    def path(self) -> Path:
        """A place on a disk as a path."""
        assert not self.is_remote, self.address
        return Path(self.address)

    @property
    def name(self) -> str:
        """Last part of the address."""
        return PurePosixPath(urlsplit(self.address).path if self.is_remote else self.address).name

    def __truediv__(self, file: str) -> "Place":
        if self.is_remote:
            return Place(f"{self.address.rstrip('/')}/{file}")
        return Place(str(self.path / file))

    def stream(self) -> BufferedIOBase:
        """Open the file from its start.

        Raises:
            OSError: there is no such file, or the server does not answer.
        """
        return self._asked({}) if self.is_remote else self.path.open("rb")

    def read(self, start: int, length: int) -> bytes:
        """Some bytes of the file; fewer if it ends before.

        Raises:
            OSError: there is no such file, or the server does not answer.
        """
        if not self.is_remote:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        with self._asked({"Range": f"bytes={start}-{start + length - 1}"}) as answer:
            # a server that knows no ranges sends the whole file
            to_skip = 0 if getattr(answer, "status", None) == 206 else start
            while to_skip and (skipped := answer.read(min(to_skip, 1 << 20))):
                to_skip -= len(skipped)
            try:
                return answer.read(length)
            except http.client.IncompleteRead as cut:  # newer Pythons
                return cut.partial

    def _asked(self, headers: dict[str, str]) -> BufferedIOBase:
        request = urllib.request.Request(self.address, headers=headers)
        try:
            answer: BufferedIOBase = urllib.request.urlopen(request, timeout=_TIMEOUT)
        except urllib.error.URLError as problem:
            raise OSError(
                f"{self.address} cannot be read ({problem.reason}): download it by hand, "
                "then name the file or folder"
            ) from problem
        return answer

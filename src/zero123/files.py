"""Files and folders that are whole or not there: made in a hidden place, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = ".partial"


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Lend a place to make a file or folder; it comes to ``target`` once the block is through.

    By then it is on the disk, not only on its way there. If the block fails, or the process dies,
    whatever was at ``target`` stays. The place has the name, and so the suffix, of ``target``.

    Raises:
        OSError: the disk is full or refuses; nothing is left behind.
    """
    bench: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        bench = Path(tempfile.mkdtemp(_PARTIAL, f".{target.name}.", target.parent))
        made, before = bench / target.name, bench / "before"
        yield made
        for path in (made, *made.rglob("*")) if made.is_dir() else (made,):
            _flush(path)
        if made.is_dir() and target.is_dir():  # it cannot be renamed over one that holds something
            target.rename(before)
        try:
            made.replace(target)
        finally:
            if before.exists() and not target.exists():
                before.rename(target)
        _flush(target.parent)
    except OSError as failure:
        reason = failure.strerror or failure
        raise OSError(f"{target}: not written, and nothing left behind: {reason}") from failure
    finally:
        if bench:
            shutil.rmtree(bench, ignore_errors=True)


def remove_partials(folder: Path) -> None:
    """Remove what killed writers left; nobody may be writing into the folder now."""
    for left in folder.glob(f".*{_PARTIAL}"):
        shutil.rmtree(left)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

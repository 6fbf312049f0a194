"""What became of each object: done, or skipped for a reason."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from zero123.images import write_text

Reason = Literal[
    "unreadable",
    "empty",
    "all white",
    "no colour",
    "too big",
    "unsafe",
    "not downloaded",
    "timed out",
    "out of memory",
    "crashed",
]
_REASONS = get_args(Reason)
REPORT_FILE = "report.csv"


class Skipped(Exception):  # noqa: N818 - an object that is left out is no error of the run
    """An object is left out, and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # as given: the exception travels between processes
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Row:
    """What became of one object."""

    name: str
    """In the data set."""
    source: str
    """The argument that named it, and where in there it is."""
    licence: str
    """As its source states it; empty where it does not."""
    status: Literal["done", "skipped"]
    reason: Reason | Literal[""]
    """Empty when done."""
    detail: str
    """The reason in a sentence; a remark on what is done."""
    renderer: str
    """What drew it, with its version."""

    @classmethod
    def parse(cls, told: Mapping[str, str]) -> "Row":
        """Read a row by its columns.

        Raises:
            ValueError: if it is none of ours.
        """
        if told["status"] not in ("done", "skipped") or told["reason"] not in ("", *_REASONS):
            raise ValueError(f"{told['name']} is {told['status']!r} ({told['reason']!r}): no such")
        return cls(**cast(Any, told))


@dataclass(frozen=True)
class Report:
    """A row an object, sorted by name. It holds no times: the same work gives the same bytes."""

    rows: tuple[Row, ...]

    @classmethod
    def read(cls, dest: Path) -> "Report":
        """Read a data set's report; one that has none yet has no rows.

        Raises:
            ValueError: if the file is no report.
        """
        path = dest / REPORT_FILE
        if not path.is_file():
            return cls(())
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if table.fieldnames != _COLUMNS:
                raise ValueError(f"{path} is no report of ours: it has columns {table.fieldnames}")
            return cls(tuple(Row.parse(row) for row in table))

    @property
    def done(self) -> list[str]:
        """Names of the objects that are in the data set."""
        return [row.name for row in self.rows if row.status == "done"]

    @property
    def skipped(self) -> list[Row]:
        """Objects that are not."""
        return [row for row in self.rows if row.status == "skipped"]

    def write(self, dest: Path) -> None:
        """Write ``report.csv`` into the data set.

        Raises:
            OSError: if it cannot be written.
        """
        text = io.StringIO()
        table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in self.rows)
        write_text(text.getvalue(), dest / REPORT_FILE)

    def __str__(self) -> str:
        counts = Counter(row.reason for row in self.skipped)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        return f"{len(self.done)} done, {len(self.skipped)} skipped" + (
            f" ({reasons})" if reasons else ""
        )


def sorted_report(rows: Sequence[Row]) -> Report:
    """Make a report of rows in any order."""
    return Report(tuple(sorted(rows, key=lambda row: row.name)))


_COLUMNS = [field.name for field in fields(Row)]


def one_line(text: str) -> str:
    r"""Make any text, a stranger's file name or error message too, fit a field of the report.

    >>> one_line("two\nlines")
    'two lines'
    """
    return " ".join(text.encode(errors="backslashreplace").decode().split())

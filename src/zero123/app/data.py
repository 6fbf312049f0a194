"""Make a data set, and tell how it goes."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from zero123.data.bench import RenderJob
from zero123.data.jobs import Engine, Format, run_job
from zero123.data.report import REPORT_FILE, Report, Row
from zero123.data.sources import find_items

_MOST_REASONS = 10


def render(
    sources: Sequence[str],
    limit: int | None,
    job: RenderJob,
    dest: Path,
    data_format: Format,
    engine: Engine,
    workers: int | None,
) -> Report:
    """Render what is named into a data set, with a bar on the terminal; words go to stderr.

    Raises:
        ValueError, ModuleNotFoundError, OSError: as ``find_items`` and ``run_job`` do.
    """
    if not sources:
        raise ValueError("no source was given: name files, folders, or procedural:100")
    drawn_by = job.drawn_by()
    items = find_items(sources, limit)
    _say(f"{len(items)} objects, {job.views} views each, drawn by {drawn_by}")
    count = len(os.sched_getaffinity(0)) if workers is None else workers
    rendered, started = 0, time.monotonic()
    with tqdm(unit="object", disable=not sys.stderr.isatty()) as bar:

        def told(row: Row, left: int) -> None:
            nonlocal rendered
            rendered += row.status == "done"
            bar.total = bar.n + 1 + left
            bar.update()

        report = run_job(items, job, dest, data_format, engine, count, told)
    seconds = time.monotonic() - started
    for row in report.skipped[:_MOST_REASONS]:
        _say(f"skipped {row.name}: {row.reason}: {row.detail}")
    if len(report.skipped) > _MOST_REASONS:
        _say(f"... and {len(report.skipped) - _MOST_REASONS} more: see {dest / REPORT_FILE}")
    _say(
        f"{rendered} objects in {seconds:.1f} s ({rendered / seconds:.2f} objects/s, "
        f"{rendered * job.views / seconds:.1f} views/s); the data set: {report}"
    )
    return report


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)

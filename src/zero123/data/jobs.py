"""From items to a data set: each object rendered once, whatever dies meanwhile."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from zero123.data.bench import Bench, RenderJob, row_of
from zero123.data.check import show
from zero123.data.items import Item
from zero123.data.layouts import finish_views, write_views
from zero123.data.place import Place
from zero123.data.report import Report, Row, Skipped, sorted_report
from zero123.data.shards import INDEX, Shards, pack_shards
from zero123.data.workers import TRIES, Bounds, Finished, Workers
from zero123.files import remove_partials, written_whole
from zero123.images import save_picture

Engine = Literal["local", "ray"]
Format = Literal["views", "shards"]
JOB_FILE = "render.json"
LOG_FILE = "render.log"
SHEET_FILE = "sheet.png"
_WORK = ".render"
"""Folder in a data set that is not finished: what is known of it so far."""
_OBJECTS_ON_SHEET = 24


def run_job(
    items: Sequence[Item],
    job: RenderJob,
    dest: Path,
    data_format: Format = "views",
    engine: Engine = "local",
    workers: int = 1,
    told: Callable[[Row, int], None] = lambda row, left: None,
) -> Report:
    """Render objects into a data set; what an earlier run has finished is kept.

    A run that died is continued by the same call: objects that were done or skipped stay so, and
    the result has the same bytes as that of a run left in peace. In a finished data set, objects
    that were skipped are tried again, and new ones are added.

    Args:
        items: what to render; objects that are there already need not be among them.
        job: how.
        dest: folder of the data set.
        data_format: a folder an object (``views_release``), or WebDataset shards.
        engine: processes of this machine, or of a Ray cluster: of the one that ``RAY_ADDRESS``
            names, whose machines must share all folders, else of one that is started here.
        workers: objects at once on this machine.
        told: called as each object ends, with what became of it and how many are left.

    Returns:
        What became of each object, as in ``report.csv``.

    Raises:
        ValueError: if ``dest`` is something else, or a data set made in another way.
        ModuleNotFoundError: if Blender or Ray is needed, and there is none.
        OSError: if the disk is full; what is finished stays whole.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    drawn_by = job.drawn_by()
    work = dest / _WORK
    views = dest if data_format == "views" else work / "views"
    _claim(dest, _config(job, data_format, drawn_by))
    views.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    remove_partials(views)
    shutil.rmtree(work / "scratch", ignore_errors=True)

    rows = _known(dest)
    _refuse_namesakes(items, rows)
    missing = [item for item in items if item.name not in rows]
    open_bench = partial(Bench, job, drawn_by, views, work / "scratch")
    with (
        (work / "journal").open("a", encoding="utf-8") as journal,
        (dest / LOG_FILE).open("a", encoding="utf-8") as log,
    ):
        _log(log, f"{drawn_by}: {len(missing)} objects to render, {len(rows)} known, {workers=}")
        started = time.monotonic()
        outcomes = _ENGINES[engine](open_bench, missing, workers, job.bounds)
        for left, finished in zip(range(len(missing) - 1, -1, -1), outcomes, strict=True):
            row = finished.result
            if isinstance(row, Skipped):
                row = row_of(finished.task, drawn_by, row)
            rows[row.name] = row
            # only whole lines are read again
            journal.write(json.dumps(asdict(row)) + "\n")
            journal.flush()
            why = f" ({row.reason}: {row.detail})" if row.reason else ""
            _log(log, f"{row.name}: {row.status}{why}, {finished.seconds:.2f} s")
            told(row, left)
        seconds = time.monotonic() - started
        _log(log, f"{len(missing) / seconds:.3f} objects/s, {seconds:.1f} s")
    report = sorted_report(list(rows.values()))
    _finish(dest, data_format, views, report)
    shutil.rmtree(work)
    return report


def _config(job: RenderJob, data_format: Format, drawn_by: str) -> dict[str, Any]:
    """What all pictures of a data set have in common; bounds only decide which there are."""
    return {
        "format": data_format,
        "views": job.views,
        "size": job.size,
        "renderer": job.renderer,
        "drawn_by": drawn_by,
        "seed": job.seed,
        "keep_grey": job.keep_grey,
    }


def _claim(dest: Path, config: Mapping[str, Any]) -> None:
    """Note how a data set is made, or refuse to mix it with another."""
    noted = dest / JOB_FILE
    if noted.is_file():
        before = json.loads(noted.read_text(encoding="utf-8"))
        for key, value in config.items():
            if before.get(key) != value:
                raise ValueError(
                    f"{dest} was rendered with {key} {before.get(key)}, not {value}: "
                    "name another folder"
                )
    elif dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise ValueError(f"{dest} is there and no data set of ours: name a new folder")
    else:
        with written_whole(noted) as part:
            part.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _known(dest: Path) -> dict[str, Row]:
    """What earlier runs say became of objects: finished ones of what is done, a dead one of all."""
    rows = {row.name: row for row in Report.read(dest).rows if row.status == "done"}
    journal = dest / _WORK / "journal"
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                row = Row.parse(json.loads(line))
                rows[row.name] = row
    return rows


def _refuse_namesakes(items: Sequence[Item], rows: Mapping[str, Row]) -> None:
    for item in items:
        there = rows.get(item.name)
        if there is not None and there.source != row_of(item, "").source:
            raise ValueError(
                f"the data set has {item.name} from {there.source}, not from {item.source}: "
                "name another folder"
            )


def _log(log: IO[str], line: str) -> None:
    log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
    log.flush()


def _finish(dest: Path, data_format: Format, views: Path, report: Report) -> None:
    """Write what says something of all objects."""
    if data_format == "views":
        finish_views(dest)
    else:
        _pack(dest, views, report.done)
    if report.done:
        save_picture(show(dest, _OBJECTS_ON_SHEET), dest / SHEET_FILE)
    report.write(dest)


def _pack(dest: Path, views: Path, names: Sequence[str]) -> None:
    if (dest / INDEX).is_file():
        shards = Shards.open(Place(str(dest)))
        if shards.names != tuple(names):
            for name in shards.names:  # shards of other objects take them in
                if not (views / name).is_dir():
                    write_views(views, shards[name].decoded())
    pack_shards(views, names, dest)


OpenBench = Callable[[], Bench]


def _on_this_machine(
    open_bench: OpenBench, items: Sequence[Item], workers: int, bounds: Bounds
) -> Iterator[Finished[Item, Row]]:
    with Workers[Item, Row](open_bench, min(workers, len(items)), bounds) as processes:
        yield from processes.run(items)


def _on_ray(
    open_bench: OpenBench, items: Sequence[Item], workers: int, bounds: Bounds
) -> Iterator[Finished[Item, Row]]:
    with _ray(workers) as ray:
        # a worker that is killed takes its task with it
        task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_in_ray_worker)
        waiting = iter(items)
        at_once = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: dict[Any, Item] = {}
        while True:
            for item in islice(waiting, at_once - len(running)):
                running[task.remote(open_bench, bounds, item)] = item
            if not running:
                return
            (ended,), _ = ray.wait(list(running), num_returns=1)
            item = running.pop(ended)
            try:
                yield ray.get(ended)
            except ray.exceptions.WorkerCrashedError:
                yield Finished(item, Skipped("crashed", f"its process died {TRIES} times"), 0.0)


_ENGINES = {"local": _on_this_machine, "ray": _on_ray}


@contextmanager
def _ray(workers: int) -> Iterator[Any]:
    """Join the cluster that is joined already or named, or start one for this machine alone."""
    alone = "RAY_ADDRESS" not in os.environ
    if alone:
        # who else is on this machine must not run code in it; Ray reads this at its import
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # no cluster of several machines, so all of it listens on loopback alone, on Linux too
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("--engine ray needs Ray: pip install 'zero123[ray]'") from missing
    if ray.is_initialized():
        yield ray
        return
    if alone:
        ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False)
    else:
        ray.init(log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


def _in_ray_worker(open_bench: OpenBench, bounds: Bounds, item: Item) -> Finished[Item, Row]:
    """Do one task in a bounded process that stays for the next."""
    return next(iter(_workers_here(open_bench, bounds).run([item])))


@cache
def _workers_here(open_bench: OpenBench, bounds: Bounds) -> Workers[Item, Row]:
    return Workers(open_bench, 1, bounds)

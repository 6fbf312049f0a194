"""Data sets come out the same, whatever dies while they are made."""

import hashlib
import ipaddress
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from zero123.data.bench import RenderJob
from zero123.data.check import check
from zero123.data.items import Item, Refused
from zero123.data.jobs import LOG_FILE, Format, run_job
from zero123.data.pairs import open_data
from zero123.data.report import Report, Row, Skipped
from zero123.data.sources import find_items
from zero123.data.workers import Bounds, Finished, Workers

JOB = RenderJob(views=3, size=32, renderer="fast", keep_grey=True)
COUNT = 6
ITEMS = find_items([f"procedural:{COUNT}"])
BAD = Item("bad", "nowhere", Refused("unreadable", "it is bad"))
FORMATS: list[Format] = ["views", "shards"]


def contents(folder: Path) -> dict[str, str]:
    """Every file by its hash; the log alone may differ from run to run."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOG_FILE
    }


class Stop(Exception):  # noqa: N818
    pass


@pytest.fixture(scope="module", params=FORMATS)
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Format, Path]:
    dest = tmp_path_factory.mktemp("data") / "undisturbed"
    run_job([*ITEMS, BAD], JOB, dest, request.param)
    return request.param, dest


def test_a_data_set_is_whole_and_says_how_it_was_made(undisturbed: tuple[Format, Path]) -> None:
    dest = undisturbed[1]
    assert check(dest) == []
    assert sorted(open_data(dest).names) == [item.name for item in ITEMS]
    assert json.loads((dest / "render.json").read_text())["views"] == JOB.views
    report = Report.read(dest)
    assert report.done == [item.name for item in ITEMS]
    assert report.skipped == [
        Row("bad", "nowhere", "", "skipped", "unreadable", "it is bad", "fast")
    ]
    assert str(report) == f"{COUNT} done, 1 skipped (1 unreadable)"
    assert (dest / "sheet.png").is_file()
    assert not [path for path in dest.iterdir() if path.name.startswith(".")]
    assert "objects/s" in (dest / LOG_FILE).read_text()


def test_pictures_and_cameras_are_those_of_the_name_and_seed(
    undisturbed: tuple[Format, Path],
) -> None:
    obj = open_data(undisturbed[1])[ITEMS[2].name].decoded()
    orbits, _ = JOB.seats(ITEMS[2].name)
    for camera, orbit in zip(obj.cameras, orbits, strict=True):
        np.testing.assert_allclose(camera.matrix, orbit.camera_from_world.matrix, atol=1e-12)
    assert replace(JOB, seed=1).seats("a")[0] != JOB.seats("a")[0] != JOB.seats("b")[0]


def test_several_workers_make_the_same(undisturbed: tuple[Format, Path], tmp_path: Path) -> None:
    data_format, dest = undisturbed
    run_job([BAD, *ITEMS[::-1]], JOB, tmp_path / "other", data_format, workers=2)
    assert contents(tmp_path / "other") == contents(dest)


def test_a_finished_data_set_stays_as_it_is(
    undisturbed: tuple[Format, Path], tmp_path: Path
) -> None:
    data_format, dest = undisturbed
    before = contents(dest)
    told: list[Row] = []
    run_job([*ITEMS, BAD], JOB, dest, data_format, told=lambda row, left: told.append(row))
    assert [row.name for row in told] == ["bad"]  # what was skipped may be better now
    assert contents(dest) == before


@pytest.mark.parametrize("ended", [1, COUNT // 2, COUNT])
def test_a_stopped_run_goes_on(
    undisturbed: tuple[Format, Path], tmp_path: Path, ended: int
) -> None:
    data_format, dest = undisturbed
    other = tmp_path / "other"

    def stop(row: Row, left: int) -> None:
        if left == COUNT - ended:
            raise Stop

    with pytest.raises(Stop):
        run_job([BAD, *ITEMS], JOB, other, data_format, told=stop)
    # what a kill leaves besides
    with (other / ".render" / "journal").open("a") as journal:
        journal.write('{"name": "proc')
    (other / ".procedural_000005.xyz.partial").mkdir()
    told: list[str] = []
    run_job([BAD, *ITEMS], JOB, other, data_format, told=lambda row, left: told.append(row.name))
    assert len(told) == COUNT - ended  # nothing is done twice
    assert contents(other) == contents(dest)


def test_objects_join_a_finished_data_set(undisturbed: tuple[Format, Path], tmp_path: Path) -> None:
    data_format, dest = undisturbed
    other = tmp_path / "other"
    run_job(ITEMS[1::2], JOB, other, data_format)
    run_job([*ITEMS[::2], BAD], JOB, other, data_format)
    assert contents(other) == contents(dest)


def test_another_way_of_rendering_is_not_mixed_in(undisturbed: tuple[Format, Path]) -> None:
    data_format, dest = undisturbed
    before = contents(dest)
    with pytest.raises(ValueError, match="was rendered with views 3, not 4: name another folder"):
        run_job(ITEMS, replace(JOB, views=4), dest, data_format)
    with pytest.raises(ValueError, match="has procedural_000001 from procedural:1, not from else"):
        run_job([replace(ITEMS[1], source="else")], JOB, dest, data_format)
    assert contents(dest) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ValueError, match="no data set of ours"):
            run_job(ITEMS, JOB, place)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_but_bad_objects_is_a_report_too(tmp_path: Path) -> None:
    assert not run_job([BAD], JOB, tmp_path / "data").done
    assert len(Report.read(tmp_path / "data").skipped) == 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"views": 0}, "views must be 1 to 1000, got 0"),
        ({"size": 5000}, "size must be 8 to 4096 pixels, got 5000"),
        ({"seed": -1}, "seed must not be negative"),
        ({"seconds": 0.0}, "seconds must be positive"),
        ({"gigabytes": float("nan")}, "gigabytes must be positive"),
    ],
)
def test_a_job_that_cannot_be_is_refused(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(JOB, **wrong)


# the processes


def work(task: str) -> str:
    if task == "hang":
        time.sleep(60)
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "eat":
        eaten = [np.ones(2**24) for _ in range(16)]  # 2 GiB
        time.sleep(60 * len(eaten))
    if task == "spawn":  # what it started is its own to answer for
        subprocess.run([sys.executable, "-c", "bytearray(b'x') * 2**31; input()"], check=False)
    if task == "full":
        raise OSError(28, "No space left on device")
    return task.upper()


@contextmanager
def opened() -> Iterator[object]:
    yield work


def outcomes(*tasks: str, seconds: float = 30.0) -> dict[str, str]:
    with Workers[str, str](opened, 2, Bounds(seconds, 1.5)) as workers:  # type: ignore[arg-type]
        ended: list[Finished[str, str]] = list(workers.run(tasks))
    return {
        one.task: one.result.reason if isinstance(one.result, Skipped) else one.result
        for one in ended
    }


def test_a_process_that_breaks_a_bound_harms_no_other() -> None:
    assert outcomes("a", "hang", "b", "die", "c", seconds=1.0) == {
        "a": "A",
        "hang": "timed out",
        "b": "B",
        "die": "crashed",
        "c": "C",
    }


def test_memory_is_bound_with_what_a_task_starts() -> None:
    assert outcomes("eat", "a", "spawn") == {
        "eat": "out of memory",
        "a": "A",
        "spawn": "out of memory",
    }
    assert not [
        child for child in psutil.Process().children(recursive=True) if "input()" in child.cmdline()
    ]


def test_an_error_that_concerns_all_ends_the_run() -> None:
    with pytest.raises(OSError, match="No space left"):
        outcomes("a", "full", "hang")


def renderers() -> list[psutil.Process]:
    """Processes that a forkserver of ours forked."""
    return [
        process
        for server in psutil.Process().children()
        for process in server.children()
        if "forkserver" in " ".join(server.cmdline())
    ]


def test_killed_workers_lose_nothing(tmp_path: Path, undisturbed: tuple[Format, Path]) -> None:
    data_format, dest = undisturbed
    killed = 0

    def kill_one(row: Row, left: int) -> None:
        nonlocal killed
        for process in renderers()[:1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                killed += 1

    run_job([BAD, *ITEMS], JOB, tmp_path / "other", data_format, workers=2, told=kill_one)
    assert killed >= COUNT
    assert contents(tmp_path / "other") == contents(dest)


# the whole program

RENDER = [sys.executable, "-m", "zero123", "render", "--renderer", "fast", "--views", "6"]
RENDER += ["--size", "128", "--keep-grey", "--workers", "2", "procedural:60"]


@pytest.mark.slow
@pytest.mark.parametrize("data_format", FORMATS)
def test_five_kills_at_any_moment_lose_nothing(tmp_path: Path, data_format: Format) -> None:
    command = [*RENDER, "--format", data_format, "--out"]
    subprocess.run([*command, tmp_path / "undisturbed"], check=True, capture_output=True)
    other = tmp_path / "other"
    staged = other if data_format == "views" else other / ".render" / "views"
    rng = random.Random(0)
    for kill in range(1, 6):
        with subprocess.Popen(
            [*command, other], start_new_session=True, stderr=subprocess.DEVNULL
        ) as run:
            while run.poll() is None and len(list(staged.glob("proc*"))) < 11 * kill:
                time.sleep(0.01)
            time.sleep(rng.random() / 5)
            assert run.poll() is None, "it was through before it could be killed"
            os.killpg(run.pid, signal.SIGKILL)
    subprocess.run([*command, other], check=True, capture_output=True)
    assert contents(other) == contents(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning:ray", "ignore::FutureWarning:ray")
def test_a_ray_cluster_makes_the_same_though_a_worker_is_killed(
    undisturbed: tuple[Format, Path], tmp_path: Path
) -> None:
    data_format, dest = undisturbed
    killed: list[int] = []
    heard_at: set[str] = set()

    def kill_one(row: Row, left: int) -> None:
        workers = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "ray::_in_ray_worker" in " ".join(process.cmdline()):
                    workers.append(process)
                lines = process.net_connections("inet")
                heard_at.update(line.laddr.ip for line in lines if line.status == "LISTEN")
        for process in workers[: left % 2]:
            process.kill()
            killed.append(process.pid)

    other = tmp_path / "other"
    run_job([BAD, *ITEMS], JOB, other, data_format, engine="ray", workers=2, told=kill_one)
    assert killed
    assert heard_at
    assert all(
        ipaddress.ip_address(heard.removeprefix("::ffff:")).is_loopback for heard in heard_at
    )
    assert contents(other) == contents(dest)

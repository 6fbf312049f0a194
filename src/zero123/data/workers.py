"""Processes that do task after task within bounds of time and memory, and may die at any time."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

import psutil

from zero123.data.report import Skipped

T = TypeVar("T")
R = TypeVar("R")
OpenWork = Callable[[], AbstractContextManager[Callable[[T], R]]]
"""Called once in each process, gives what does a task; must pickle, as tasks and results must."""

TRIES = 4
"""A task whose process dies is done again, three times at most."""
_LOOK_EVERY = 0.25
"""Seconds between looks at the memory of a process."""
_TO_START = 300.0
"""Seconds that a process may take until a task begins in it."""
_TO_STOP = 10.0
"""Seconds that an idle process may take to close what it holds."""


@dataclass(frozen=True)
class Bounds:
    """What a task may take."""

    seconds: float
    """Wall clock."""
    gigabytes: float
    """Resident memory of its process and all that this started, GiB."""


@dataclass(frozen=True)
class Finished(Generic[T, R]):
    """A task, and what came of it."""

    task: T
    result: R | Skipped
    """`Skipped` if it broke a bound, or its process died every time."""
    seconds: float
    """In the process that finished it, wall clock."""


class Workers(Generic[T, R]):
    """Some processes, used as a context manager.

    Each has a pipe of its own and shares no lock: the death of one, at whatever moment, is seen,
    and harms no other.
    """

    def __init__(self, open_work: OpenWork[T, R], count: int, bounds: Bounds) -> None:
        self._open_work = open_work
        self._count = count
        self._bounds = bounds
        self._idle: list[_Process] = []
        self._busy: dict[_Process, tuple[T, int]] = {}

    def __enter__(self) -> "Workers[T, R]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._busy:
            process.kill()
        for process in self._idle:
            process.connection.close()  # which tells it to end
        for process in self._idle:
            process.end()

    def run(self, tasks: Iterable[T]) -> Iterator[Finished[T, R]]:
        """Do tasks, and give them in the order in which they end.

        Raises:
            OSError, ValueError: as a task raised it.
        """
        waiting = iter(tasks)
        again: list[tuple[T, int]] = []
        while True:
            while len(self._busy) < self._count:
                task = again.pop() if again else next(((task, 1) for task in waiting), None)
                if task is None:
                    break
                self._hand_out(*task)
            if not self._busy:
                return
            wait([process.connection for process in self._busy], timeout=_LOOK_EVERY)
            for process, (value, tries) in list(self._busy.items()):
                try:
                    result = process.result(self._bounds)
                except _Died:
                    result = Skipped("crashed", f"its process died {TRIES} times")
                    if tries < TRIES:
                        del self._busy[process]
                        again.append((value, tries + 1))
                        continue
                except _Failed as failed:
                    raise failed.error from failed
                if result is None:
                    continue
                del self._busy[process]
                if not process.killed:
                    self._idle.append(process)
                yield Finished(value, result, time.monotonic() - process.since)

    def _hand_out(self, task: T, tries: int) -> None:
        process = self._idle.pop() if self._idle else _Process(self._open_work)
        while not process.takes(task):  # it died idle
            process = _Process(self._open_work)
        self._busy[process] = (task, tries)


class _Died(Exception):  # noqa: N818
    """A process is gone, its task with it."""


class _Failed(Exception):  # noqa: N818
    """A task raised an error that concerns all."""

    def __init__(self, error: OSError | ValueError) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True)
class _Message:
    """From a process: of its task, that it begins, or what came of it."""

    result: Any = None
    begins: bool = False


class _Process:
    """One process, seen from outside."""

    def __init__(self, open_work: OpenWork[Any, Any]) -> None:
        # forked from a process that has all modules loaded and nothing running
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        context.set_forkserver_preload(["__main__", __name__, "zero123.data.jobs"])
        self.connection, theirs = context.Pipe()
        self.killed = False
        self.since = 0.0
        """When its task was handed out, then when it began."""
        self._begun = False
        self._next_look = 0.0
        self._process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(open_work, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def takes(self, task: Any) -> bool:
        """Hand a task out; False if the process is dead."""
        try:
            self.connection.send(task)
        except (BrokenPipeError, ConnectionError):
            self.kill()
            return False
        self.since, self._begun = time.monotonic(), False
        return True

    def result(self, bounds: Bounds) -> Any:
        """What came of its task; None while it is at it."""
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, _Failed):
                    raise message
                if not message.begins:
                    return message.result
                self.since, self._begun = time.monotonic(), True
        except (EOFError, ConnectionError) as end:
            self.kill()
            raise _Died from end
        now = time.monotonic()
        if now - self.since > (bounds.seconds if self._begun else _TO_START):
            self.kill()
            if not self._begun:
                raise _Died
            return Skipped("timed out", f"took longer than {bounds.seconds:g} s")
        if now > self._next_look:
            self._next_look = now + _LOOK_EVERY
            if self._resident() > bounds.gigabytes * 2**30:
                self.kill()
                return Skipped("out of memory", f"took more than {bounds.gigabytes:g} GiB")
        return None

    def kill(self) -> None:
        """End it at once, with all that it started."""
        self.killed = True
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.end()

    def end(self) -> None:
        """Wait until it is gone."""
        self.connection.close()
        self._process.join(_TO_STOP)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _family(self) -> list[psutil.Process]:
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _resident(self) -> int:
        total = 0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total


def _serve(open_work: OpenWork[Any, Any], connection: Connection) -> None:
    """Do tasks until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started us hears it
    with open_work() as work:
        while True:
            try:
                task = connection.recv()
                connection.send(_Message(begins=True))
                try:
                    answer: _Message | _Failed = _Message(work(task))
                except (OSError, ValueError) as error:
                    answer = _Failed(error)
                connection.send(answer)
            except (EOFError, ConnectionError):
                return

"""One model for everybody: long work one after the other, quick work between its steps."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition, Event
from typing import Generic, TypeVar

from PIL import Image

from zero123.pipeline import Zero123Pipeline

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Whoever asked for the work does not want it any more."""


@dataclass(frozen=True)
class Step:
    """How far long work is."""

    said: str
    fraction: float
    """Of the work, in [0, 1]."""
    preview: Image.Image | None = None
    """What there is so far."""


Tell = Callable[[Step], None]
"""Called by long work as often as it can; raises `Stopped` when it is to end."""
Job = Callable[[Zero123Pipeline, Tell], T]


class Work(Generic[T]):
    """Long work that goes on by itself; iterating over it tells how far it is.

    Whoever stops iterating stops the work.
    """

    def __init__(
        self, bench: "_Bench", thread: ThreadPoolExecutor, pipe: Zero123Pipeline, job: Job[T]
    ) -> None:
        self._bench = bench
        self._stopped = Event()
        self._told: SimpleQueue[Step | None] = SimpleQueue()

        def run() -> T:
            with bench.slowly():
                return job(pipe, self._tell)

        self._future = thread.submit(run)
        self._future.add_done_callback(lambda _: self._told.put(None))

    def _tell(self, step: Step) -> None:
        self._bench.pause()
        if self._stopped.is_set():
            raise Stopped
        self._told.put(step)

    def stop(self) -> None:
        """End it at its next step, or before it begins."""
        self._stopped.set()
        self._future.cancel()

    def __iter__(self) -> Iterator[Step]:
        try:
            while (step := self._told.get()) is not None:
                yield step
        finally:
            self.stop()

    def result(self) -> T:
        """What came of it, once nothing more is told.

        Raises:
            Stopped: if it was stopped; and whatever the work raised.
        """
        if self._future.cancelled():
            raise Stopped
        return self._future.result()


class Studio:
    """The one model of the page."""

    def __init__(self, pipe: Zero123Pipeline) -> None:
        self.pipe = pipe
        self._bench = _Bench()
        self._thread = ThreadPoolExecutor(1, "studio")

    @contextmanager
    def borrowed(self) -> Iterator[Zero123Pipeline]:
        """Lend the model for less than a second of work, between two steps of what goes on."""
        with self._bench.quickly():
            yield self.pipe

    def begin(self, job: Job[T]) -> Work[T]:
        """Have long work done as soon as what was asked for before is done or stopped."""
        return Work(self._bench, self._thread, self.pipe, job)

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class _Bench:
    """A lock that quick work gets first, and that long work lends it between two steps."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = False
        self._quick = 0

    @contextmanager
    def quickly(self) -> Iterator[None]:
        with self._changed:
            self._quick += 1
            self._changed.wait_for(lambda: not self._taken)
            self._quick -= 1
            self._taken = True
        try:
            yield
        finally:
            self._give()

    @contextmanager
    def slowly(self) -> Iterator[None]:
        self._take()
        try:
            yield
        finally:
            self._give()

    def pause(self) -> None:
        self._give()
        self._take()

    def _take(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken and not self._quick)
            self._taken = True

    def _give(self) -> None:
        with self._changed:
            self._taken = False
            self._changed.notify_all()

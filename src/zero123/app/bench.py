"""The command that measures speed, memory, and what they cost in pictures."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zero123.pipeline import Zero123Pipeline


@dataclass(frozen=True)
class Bench:
    """Measure ways to run a model: seconds, memory, and how far the picture moves.

    Each rung is measured in turn with the plain float32 pipeline, one view a call.
    """

    model: str = "mini"
    """Bundled name, folder, .ckpt, .safetensors or hub id; full-random: the published size with
    drawn weights, tiny-random: the same parts in a blink."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""
    steps: int | None = None
    """Steps of the sampler; the model's own number if left out."""
    guidance: float | None = None
    """Classifier-free guidance, which doubles the work where it is not 1; the model's own if left
    out."""
    rungs: tuple[str, ...] = ()
    """Which, by name; left out: all, or for --quality exact, fast and turbo; compiling takes
    minutes."""
    repeats: int = 5
    """Pairs of calls to a rung; the first call of each, where things compile, is not counted."""
    peer: Path | None = None
    """A checkout of the authors' code (github.com/cvlab-columbia/zero123) to measure too, with
    drawn weights; for --model full-random, or another of its size."""
    peer_python: str = sys.executable
    """For --peer: a Python, 3.9 or later, that has their packages."""
    tiny_decoder: Path | None = None
    """A folder with a small autoencoder for the model's latents: one more rung."""
    quality: bool = False
    """Instead: what rungs lose against the truth, dB, object by object of --data."""
    data: str = "gso30"
    """For --quality: a protocol, or a folder of rendered objects (see `zero123 evaluate`)."""
    meshes: Path | None = None
    """For --quality on a protocol: the folder of its meshes."""
    limit: int | None = None
    """For --quality: only so many objects, the first."""
    out: Path = Path("benchmarks/results")
    """A folder for the table, the JSON beside it, and a plot."""

    def run(self) -> None:
        """Measure, print and write."""
        if self.repeats < 1:
            raise ValueError(f"--repeats must be at least 1, got {self.repeats}")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"--steps must be in 1 to 1000, got {self.steps}")
        if self.guidance is not None and not 1 <= self.guidance < math.inf:
            raise ValueError(f"--guidance must be at least 1, got {self.guidance:g}")
        if self.guidance is not None and self.peer is not None:
            raise ValueError("--peer is guided as its demo is: leave --guidance out")
        if self.quality and self.peer is not None:
            raise ValueError("--peer has drawn weights, of which --quality could not tell anything")
        if self.quality:
            self._lose()
        else:
            self._climb()

    def _climb(self) -> None:
        from zero123.speed.ladder import beside, climb, ladder
        from zero123.speed.peer import peer_at
        from zero123.speed.report import write_ladder

        plans = ladder(self.rungs, self.device.partition(":")[0], self.tiny_decoder)
        pipe = self._open()
        steps, rungs, table = pipe.settings.steps, [], ""
        title = f"{Path(self.model).name} on {self.device}, {self._sampler(pipe)}"
        count = len(plans) + (self.peer is not None)
        with _bar(count * (2 * self.repeats + 1), "call") as done:
            if self.peer is not None:
                with peer_at(self.peer, self.peer_python, pipe.device, steps) as peer:
                    rungs.append(beside(pipe, peer, steps, self.repeats, done))
            for rung in climb(pipe, plans, steps, self.repeats, done):
                rungs.append(rung)
                table = write_ladder(rungs, title, pipe.device, self._file("speed"))
        print(table)

    def _lose(self) -> None:
        from dataclasses import replace

        from zero123.app.evaluate import Evaluate
        from zero123.speed.ladder import ladder
        from zero123.speed.quality import losses
        from zero123.speed.report import write_losses

        names = self.rungs or ("exact", "fast", "turbo")
        chosen = ladder(names, self.device.partition(":")[0], self.tiny_decoder)
        # compiling takes minutes and moves no picture
        plans = {name: replace(plan, engine="eager") for name, plan in chosen.items()}
        trial = Evaluate(self.data, meshes=self.meshes, limit=self.limit).trial()
        pipe = self._open()
        title = f"{Path(self.model).name} on {self.device}, {self._sampler(pipe)}, "
        measured, table = [], ""
        with _bar((1 + len(plans)) * len(trial.names), "object") as done:
            for loss in losses(pipe, plans, trial, done):
                measured.append(loss)
                table = write_losses(
                    measured, title + trial.title, pipe.device, self._file("quality")
                )
        print(table)

    @staticmethod
    def _sampler(pipe: "Zero123Pipeline") -> str:
        return f"{pipe.settings.steps} steps, guidance {pipe.settings.guidance:g}"

    def _file(self, kind: str) -> Path:
        """Where the results go, without an ending."""
        return self.out / f"{kind}-{self.device.replace(':', '')}-{Path(self.model).name}"

    def _open(self) -> "Zero123Pipeline":
        from dataclasses import replace

        from zero123.pipeline import Zero123Pipeline
        from zero123.speed.drawn import FULL, TINY, drawn_pipeline

        drawn = {"full-random": FULL, "tiny-random": TINY}
        if self.model in drawn:
            pipe = drawn_pipeline(drawn[self.model])
        else:
            pipe = Zero123Pipeline.from_pretrained(self.model)
        own = pipe.settings
        steps = own.steps if self.steps is None else self.steps
        guidance = own.guidance if self.guidance is None else self.guidance
        pipe.settings = replace(own, steps=steps, guidance=guidance)
        return pipe.to(self.device)


@contextmanager
def _bar(total: int, unit: str) -> Iterator[Callable[[str], None]]:
    """A bar on the terminal; what it lends is told of each unit that is done."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, disable=not sys.stderr.isatty()) as bar:

        def done(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        yield done

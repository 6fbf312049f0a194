"""The command that measures speed, memory, and what they cost in pictures."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zero123.pipeline import Zero123Pipeline

_OBJECTS = 12


@dataclass(frozen=True)
class Bench:
    """Measure ways to run a model: seconds, memory, and how far the picture moves.

    Each rung is measured in turn with the plain float32 pipeline, one guided view a call.
    """

    model: str = "mini"
    """Bundled name, folder, .ckpt, .safetensors or hub id; full-random: the published size with
    drawn weights, tiny-random: the same parts in a blink."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""
    steps: int | None = None
    """Steps of the sampler; the model's own number if left out."""
    rungs: tuple[str, ...] = ()
    """Which, by name; left out: all; compiling takes minutes."""
    repeats: int = 5
    """Pairs of calls to a rung; the first call of each, where things compile, is not counted."""
    quality: bool = False
    """Instead: the presets on 12 made-up objects never trained on: dB lost, and seconds."""
    out: Path = Path("benchmarks/results")
    """A folder for the table, the JSON beside it, and a plot."""

    def run(self) -> None:
        """Measure, print and write."""
        if self.repeats < 1:
            raise ValueError(f"--repeats must be at least 1, got {self.repeats}")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"--steps must be in 1 to 1000, got {self.steps}")
        if self.quality:
            self._lose()
        else:
            self._climb()

    def _climb(self) -> None:
        from zero123.speed.ladder import climb, ladder
        from zero123.speed.report import write_ladder

        plans = ladder(self.rungs, self.device.partition(":")[0])
        pipe = self._open()
        steps = self.steps or pipe.settings.steps
        model, rungs, table = Path(self.model).name, [], ""
        title = f"{model} on {self.device}, {steps} steps"
        name = f"speed-{self.device.replace(':', '')}-{model}"
        with _bar(len(plans) * (2 * self.repeats + 1), "call") as done:
            for rung in climb(pipe, plans, steps, self.repeats, done):
                rungs.append(rung)
                table = write_ladder(rungs, title, pipe.device, self.out, name)
        print(table)

    def _lose(self) -> None:
        from zero123.speed import PRESETS, Plan, preset
        from zero123.speed.quality import losses

        pipe = self._open()
        plans = {"plain": Plan()} | {name: preset(name, pipe.device.type) for name in PRESETS}
        print("| preset | PSNR, dB | lost to plain, dB | from plain, dB | CPU-s a view |")
        print("|---|---|---|---|---|")
        with _bar(len(plans) * _OBJECTS, "object") as done:
            for loss in losses(pipe, plans, _OBJECTS, done):
                own, lost = loss.psnr, loss.lost
                print(
                    f"| {loss.name} | {own.mean:.2f} [{own.low:.2f}, {own.high:.2f}] "
                    f"| {lost.mean:.2f} [{lost.low:.2f}, {lost.high:.2f}] "
                    f"| {loss.moved:.1f} | {loss.cpu_seconds:.3f} |"
                )

    def _open(self) -> "Zero123Pipeline":
        from zero123.pipeline import Zero123Pipeline
        from zero123.speed.drawn import FULL, TINY, drawn_pipeline

        drawn = {"full-random": FULL, "tiny-random": TINY}
        if self.model in drawn:
            return drawn_pipeline(drawn[self.model]).to(self.device)
        return Zero123Pipeline.from_pretrained(self.model).to(self.device)


@contextmanager
def _bar(total: int, unit: str) -> Iterator[Callable[[str], None]]:
    """A bar on the terminal; what it lends is told of each unit that is done."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, disable=not sys.stderr.isatty()) as bar:

        def done(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        yield done

"""The command that trains."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from zero123.training.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from zero123.training.dataset import Dataset
    from zero123.training.loop import Share
    from zero123.training.student import Student
    from zero123.weights import Components

_ABOUT = {
    "debug": "Seconds on two CPU cores: whether everything works.",
    "mini": "The bundled small model, as it was made last; hours on two CPU cores.",
    "mini-pictures": "What followed it: answers are decoded and compared as pictures too.",
    "mini-continue": "Go on from the bundled model with other objects; minutes on two CPU cores.",
    "mini-lora": "The same with adapters, a twentieth of the weights.",
    "finetune": "Go on from a published model on one GPU.",
    "lora": "The same with adapters, for a GPU of 8 GB.",
    "paper": "The original's recipe to the letter, for eight large GPUs.",
}


@dataclass(frozen=True)
class Training:
    """A run: what it starts from, what it learns from, and where it lies."""

    out: Path
    """Folder of the run: features, checkpoints, log, pictures, and in the end the model."""
    data: tuple[str, ...] = ("procedural:64",)
    """Rendered objects (`zero123 render`): folders of views or shards, archives, URLs; or
    procedural:N, made-up ones."""
    weight: tuple[float, ...] = (1.0,)
    """How often each of them is drawn from, compared with the others; one for all."""
    held_out: str | None = None
    """Rendered objects to look at meanwhile and never train on; left out: the last sixth of the
    views of each object of the first data set."""
    watched: int = 8
    """Objects to look at."""
    init: str = "mini"
    """Model to start from: bundled name, folder, .ckpt or .safetensors file, or hub id; or scratch:
    the small model with fresh weights around the bundled one's autoencoder."""
    workers: int = 0
    """Processes that draw batches ahead: 4 or more pay where a GPU takes them fast. Nothing else
    changes."""
    fit_memory: bool = False
    """Find the fewest --micro-batches that hold in memory; the steps stay the same."""
    resume: bool = False
    """Go on from the newest checkpoint in the folder; exact on a CPU with as many threads."""
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=lambda: PRESETS["debug"])

    def run(self) -> Path | None:
        """Prepare the data, train, and write the model; only the first process names it."""
        import torch
        from accelerate import PartialState
        from tqdm import tqdm

        from zero123.pipeline import Zero123Pipeline
        from zero123.training.diary import Diary
        from zero123.training.loop import Row, Share, train
        from zero123.training.start import starting_parts, write_model
        from zero123.training.student import Student
        from zero123.training.watch import look, questions

        weights = self._weights()
        parts = starting_parts(self.init, self.config.seed)
        student = Student(parts, self.config)
        state = PartialState(cpu=not torch.accelerator.is_available())
        with state.main_process_first():  # the others find it done
            sets = self._sets(parts)
        shares = [
            Share(each.trained, weight)
            for each, weight in zip(sets[: len(weights)], weights, strict=True)
        ]
        watched = sets[-1]
        asked = questions(watched.features, self.watched, watched.held_views)

        if self.fit_memory:
            student.config = self._fitted(student.to(state.device), shares, state.num_processes)
        pipe = Zero123Pipeline.of_parts(parts).to(state.device)
        pipe.set_progress_bar_config(disable=True)
        diary = Diary(self.out) if state.is_main_process else None
        with tqdm(
            total=self.config.steps, unit="step", disable=not (diary and sys.stderr.isatty())
        ) as bar:

            def report(row: Row) -> None:
                assert diary is not None
                diary.step(row)
                bar.update(int(row["step"]) - bar.n)
                bar.set_postfix_str(f"loss {row['loss']:.3f}, {row['samples/s']:.1f} samples/s")

            def watch(step: int) -> None:
                assert diary is not None
                figures, sheet = look(pipe, asked)
                diary.watched(step, figures, sheet)
                _say(f"step {step}: {figures}")

            train(
                student,
                parts.vae.config.scaling_factor,
                shares,
                self.out,
                resume=self.resume,
                workers=self.workers,
                report=report,
                watch=watch,
                say=_say,
            )
        if diary is None:
            return None
        diary.close()
        return write_model(self.init, student.config, self.out)

    def _fitted(self, student: "Student", shares: "list[Share]", processes: int) -> TrainConfig:
        """The configuration with as many micro-batches as it takes here, or took before."""
        from zero123.training.fit import fitting_micro_batches
        from zero123.training.loop import noted_config

        before = noted_config(self.out) if self.resume else None
        if before is not None:
            return replace(self.config, micro_batches=before.micro_batches)
        found = fitting_micro_batches(student, shares, processes=processes)
        _say(f"--micro-batches {found}")
        return replace(self.config, micro_batches=found)

    def _weights(self) -> Sequence[float]:
        if not self.data:
            raise ValueError("no data was given: name rendered objects, or procedural:64")
        if len(self.weight) not in (1, len(self.data)) or min(self.weight) <= 0:
            raise ValueError(
                f"--weight must be one positive number for all or one for each of {len(self.data)} "
                f"data sets, got {list(self.weight)}"
            )
        return self.weight * len(self.data) if len(self.weight) == 1 else self.weight

    def _sets(self, parts: "Components") -> "list[Dataset]":
        """Data sets in the order of ``data``; last the one that is looked at."""
        from zero123.pipeline import Zero123Pipeline
        from zero123.training.dataset import Dataset, held_out, open_dataset

        size = Zero123Pipeline.of_parts(parts).image_size
        embedded = not (self.config.trains_image_encoder or self.config.augment)
        features = self.out / "features"

        def opened(source: str, name: str) -> "Dataset":
            return Dataset(open_dataset(source, features, name, parts, size, embedded, _say))

        sets = [opened(source, f"data-{number}") for number, source in enumerate(self.data)]
        if self.held_out is not None:
            return [*sets, opened(self.held_out, "held-out")]
        sets[0] = held_out(sets[0].features)
        return [*sets, sets[0]]


def _say(sentence: str) -> None:
    from tqdm import tqdm

    tqdm.write(sentence, file=sys.stderr)


_Preset: Any = tyro.extras.subcommand_type_from_defaults(
    {name: Training(out=Path("runs") / name, config=config) for name, config in PRESETS.items()},
    _ABOUT,
    prefix_names=False,
)


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training one, on rendered objects."""

    preset: tyro.conf.OmitSubcommandPrefixes[tyro.conf.OmitArgPrefixes[_Preset]]
    """What kind of run; every choice of it may be overridden."""

    def run(self) -> Path | None:
        """Do which was asked."""
        written: Path | None = self.preset.run()
        return written

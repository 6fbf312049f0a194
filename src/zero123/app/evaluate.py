"""The command that puts figures on models."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from zero123.evaluation.candidates import Candidate
    from zero123.evaluation.scenes import Trial
    from zero123.pipeline import Zero123Pipeline


@dataclass(frozen=True)
class Evaluate:
    """Compare models with the truth and with guesses, on a fixed protocol, as one table."""

    data: str
    """A protocol (gso30), or a folder of rendered objects: views_release, shards, EscherNet."""
    model: tuple[str, ...] = ("mini",)
    """Models side by side: bundled name, folder, .ckpt or .safetensors file, or hub id."""
    meshes: Path | None = None
    """For a protocol: the folder of its meshes."""
    out: Path = Path("report")
    """A folder for report.md, report.html, report.json, run.json and the answers."""
    resume: bool = False
    """Go on with the answers that are in the folder already."""
    limit: int | None = None
    """Only so many objects, the first: a trial run, and the report says so."""
    samples: int | None = None
    """Answers for each view; left out: the protocol's, 1 for a folder."""
    sampler: Literal["default", "original"] | None = None
    """original: the authors' sampler; left out: the protocol's, the model's own for a folder."""
    backbones: Path | None = None
    """A folder with weights for LPIPS, FID and others, by their published names."""
    download: bool = False
    """Fetch weights that are missing there, once, 0.9 GB."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps ..."""
    reconstruction: bool = False
    """Make the objects of a protocol's photos, and compare their surfaces with the true ones."""

    def run(self) -> Path:
        """Ask, compare and write the report; prints the figures."""
        if self.reconstruction:
            return self._reconstructed()
        from zero123.evaluation.candidates import baselines
        from zero123.evaluation.record import write_record
        from zero123.evaluation.report import write_report
        from zero123.evaluation.run import check_place, evaluate
        from zero123.evaluation.toolbox import collect_tools

        # whatever would fail at the end is told before the work
        check_place(self.out, self.resume)
        trial = self.trial()
        tools = collect_tools(self.backbones, self.download)
        models = self._models(trial)
        evaluation = evaluate(trial, [*models, *baselines()], self.out, tools, self.resume)
        print(write_report(evaluation, self.out))
        for result in evaluation.results[: len(models)]:
            print(f"{result.candidate.name}: {result.seconds_per_view:.3f} seconds per view")
        write_record(evaluation, self.out)
        return self.out

    def _reconstructed(self) -> Path:
        from zero123.evaluation.protocol import Protocol
        from zero123.images import write_text
        from zero123.reconstruct import preset
        from zero123.reconstruct.scores import (
            guess_makers,
            pipeline_maker,
            score_objects,
            scores_table,
        )

        self.trial()  # whatever is wrong with the call is told here
        if self.meshes is None:
            raise ValueError("--reconstruction needs a protocol, whose meshes are the truth")
        protocol, settings = Protocol.named(self.data), preset("views", "quick")
        makers = {
            name: pipeline_maker(pipe, settings) for name, pipe in self._pipelines().items()
        } | guess_makers(protocol, settings)
        scores = score_objects(protocol, self.meshes, makers, self.out, self.limit, self.resume)
        table = scores_table(scores)
        write_text(f"{table}\n", self.out / "reconstruction.md")
        print(table)
        return self.out

    def trial(self) -> "Trial":
        """What is asked.

        Raises:
            ValueError: if there is no such data, or a number is out of range.
        """
        from dataclasses import replace

        from zero123.evaluation.folders import folder_trial
        from zero123.evaluation.protocol import Protocol, protocol_names

        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be at least 1, got {self.limit}")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"--samples must be at least 1, got {self.samples}")
        if self.data in protocol_names():
            if self.meshes is None:
                raise ValueError(f"--data {self.data} needs --meshes: the folder of its meshes")
            trial = Protocol.named(self.data).trial(self.meshes, self.limit)
        elif Path(self.data).is_dir():
            trial = folder_trial(Path(self.data), self.limit)
        else:
            listed = ", ".join(protocol_names())
            raise ValueError(f"--data {self.data} is no folder, and no protocol such as {listed}")
        samples, sampler = self.samples or trial.samples, self.sampler or trial.sampler
        changes = "".join(
            f", with {name} {wanted}"
            for name, wanted, frozen in (
                ("samples", samples, trial.samples),
                ("sampler", sampler, trial.sampler),
            )
            if wanted != frozen
        )
        return replace(trial, title=trial.title + changes, samples=samples, sampler=sampler)

    def _models(self, trial: "Trial") -> "list[Candidate]":
        from zero123.evaluation.candidates import from_pipeline

        return [
            from_pipeline(name, pipe, trial.sampler) for name, pipe in self._pipelines().items()
        ]

    def _pipelines(self) -> "dict[str, Zero123Pipeline]":
        import torch

        from zero123.evaluation.candidates import baselines, safe_name
        from zero123.pipeline import Zero123Pipeline

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        opened: dict[str, Zero123Pipeline] = {}
        for source in self.model:
            taken = [*(each.name for each in baselines()), *opened]
            pipe = Zero123Pipeline.from_pretrained(source).to(device)
            opened[safe_name(source, taken)] = pipe
        return opened

"""The loop: pairs in, a better model out; it may be stopped at any moment and started again."""

import collections
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zero123.data.augment import augmented
from zero123.data.views import Leaning, draw_pairs
from zero123.geometry import UNTOLD
from zero123.images import write_text
from zero123.training.checkpoints import (
    CheckpointError,
    checkpoints,
    load_checkpoint,
    piece,
    save_checkpoint,
    whole,
)
from zero123.training.config import TrainConfig
from zero123.training.features import FeatureViews
from zero123.training.muon import FilterMuon
from zero123.training.objective import Draws
from zero123.training.student import Batch, Student

CONFIG = "config.json"
"""File in a run's folder."""
MAX_SKIPS = 10
"""So many bad steps in a row, and the run goes back to its last good state."""
MAX_ROLLBACKS = 3
"""The run stops instead of going back for this time."""
_EXPLODED = 20.0
"""A loss so many times the usual one is as bad as none."""


Row: TypeAlias = dict[str, int | float]
"""Figures of a step by name."""


class TrainingError(ValueError):
    """A run that cannot go on; the sentence says why and what is kept."""


@dataclass(frozen=True)
class Share:
    """A data set and how often it is drawn from."""

    data: FeatureViews
    weight: float = 1.0


@dataclass
class Health:
    """What went wrong so far, and how large losses usually are."""

    skipped: int = 0
    in_a_row: int = 0
    rollbacks: int = 0
    usual: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=200))

    def is_good(self, loss: float, norm: float) -> bool:
        """Judge a step, and count it."""
        good = math.isfinite(loss) and math.isfinite(norm)
        if good and len(self.usual) >= 20:
            good = loss < _EXPLODED * float(np.median(self.usual))
        if good:
            self.usual.append(loss)
            self.in_a_row = 0
        else:
            self.skipped += 1
            self.in_a_row += 1
        return good


def noted_config(out: Path) -> TrainConfig | None:
    """The configuration of the run in a folder; None if there is none.

    Raises:
        TrainingError: if it is no configuration, or one of another version.
    """
    noted = out / CONFIG
    if not noted.exists():
        return None
    try:
        return TrainConfig(**json.loads(noted.read_text()))
    except (TypeError, ValueError) as problem:
        raise TrainingError(
            f"{noted} is no configuration that is known here ({problem})"
        ) from problem


def rate_factor(config: TrainConfig, step: int) -> float:
    """Learning rate of a step as a share of the full one: warm-up, flat, cosine to zero."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    left = (config.steps - step) / max(1e-9, config.cooldown * config.steps)
    return rise * (1.0 if left >= 1 else 0.5 - 0.5 * math.cos(math.pi * left))


def batch_of(
    shares: list[Share],
    student: Student,
    scale: float,
    key: tuple[int, int, int],
    photos: range,
) -> Batch:
    """Draw a part of a step's batch.

    Every photo has its own generator, so that a batch is the same in however many parts and
    processes it is drawn.

    Args:
        shares: data sets.
        student: says how it is trained.
        scale: latents of targets are multiplied by it.
        key: seed, number of roll-backs and step.
        photos: which photos of the step.
    """
    config, rows = student.config, []
    leaning = Leaning(config.near, config.level)
    weights = np.array([share.weight for share in shares])
    of_step = np.random.default_rng(key)  # one set a step: sets may differ in size
    data = shares[of_step.choice(len(shares), p=weights / weights.sum())].data
    for photo in photos:
        rng = np.random.default_rng((*key, photo))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        encoding = student.pose_encoding
        pair = draw_pairs(data.views, rng, 1, config.targets, leaning, encoding)
        if encoding == "zero123-polar" and rng.random() < config.untold:
            pair.pose[:, -1] = UNTOLD
        item = np.repeat(pair.item, config.targets)
        seen = pair.target_view[0]
        latents = data.sampled_latents_of(item, seen, generator) * scale
        num_steps = student.scheduler.config.num_train_timesteps
        draws = Draws.of(config, latents.shape, generator, num_steps)
        is_known = not config.augment
        is_embedded = is_known and not config.trains_image_encoder
        at = pair.item, pair.photo_view
        rows.append(
            Batch(
                targets=latents,
                pictures=data.pixels(item, seen) if config.pictures else None,
                pose=pair.pose,
                photo_latents=data.latents_of(*at) if is_known else None,
                photos=None if is_embedded else _photo(data.pixels(*at), config.augment, rng),
                embeddings=data.embeddings_of(*at) if is_embedded else None,
                draws=draws,
            )
        )
    return Batch.joined(rows)


def _photo(
    seen: UInt8[Tensor, "1 3 H W"], share: float, rng: np.random.Generator
) -> Float[Tensor, "1 3 H W"]:
    if rng.random() < share:
        made = augmented(seen[0].permute(1, 2, 0).numpy(), rng)
        seen = torch.from_numpy(made).permute(2, 0, 1)[None]
    return seen.float() / 255


@dataclass(frozen=True)
class _Batches(Dataset[Batch]):
    """What one process draws in a run, by number: of each step as many as it has micro-batches."""

    shares: list[Share]
    student: Student
    scale: float
    mine: list[range]
    rollbacks: int
    """Draws are other ones after each."""

    def __getitem__(self, number: int) -> Batch:
        step, part = divmod(number, len(self.mine))
        key = self.student.config.seed, self.rollbacks, step
        return batch_of(self.shares, self.student, self.scale, key, self.mine[part])

    def drawn_from(self, step: int, workers: int) -> Iterator[Batch]:
        """The batches of a step and of all that follow, drawn ahead by so many processes."""
        each = len(self.mine)
        return iter(
            DataLoader(
                self,
                batch_size=None,
                sampler=range(step * each, self.student.config.steps * each),
                num_workers=workers,
                multiprocessing_context="fork" if workers else None,  # memory maps are shared
                generator=torch.Generator(),  # it would take a number of everybody's else
            )
        )


def train(
    student: Student,
    scale: float,
    shares: list[Share],
    out: Path,
    resume: bool = False,
    workers: int = 0,
    report: Callable[[Row], None] = lambda row: None,
    watch: Callable[[int], None] = lambda step: None,
    say: Callable[[str], None] = print,
) -> dict[str, Tensor]:
    """Train ``student`` in place; under ``torchrun`` or ``accelerate launch`` on many devices.

    Args:
        student: networks and configuration.
        scale: the autoencoder's scaling factor.
        shares: data.
        out: folder of configuration and checkpoints.
        resume: go on from the newest checkpoint in ``out``; on a CPU the result is the same to
            the byte as if the run had not been stopped.
        workers: processes that draw batches ahead, which changes nothing but the time.
        report: called after each step by the first process.
        watch: called by the first process before the first step, each ``watch_every`` steps and at
            the end, with the number of steps done; meanwhile the networks hold the running average.
        say: called with a sentence when something is out of order.

    Returns:
        The running average of what was trained, by parameter name.

    Raises:
        TrainingError: after too many bad steps, or if ``out`` holds another run.
        CheckpointError: if there is nothing to resume from, or it is damaged.
        OSError: if a checkpoint cannot be written; the older ones are still there.
    """
    config = student.config
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # under torchrun it looks for a GPU else
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.micro_batches,
    )
    if accelerator.device.type == "cpu":
        student.attend_plainly()
    mine = _my_photos(config, accelerator.process_index, accelerator.num_processes)
    if _is_sharded(accelerator):  # pieces can only be cut from the usual layout
        for p in student.parameters():
            p.data = p.data.contiguous()
        if accelerator.is_main_process:
            say("weights are sharded: nothing is looked at on the way, evaluate the model after")
    model, optimiser = accelerator.prepare(
        student, torch.optim.AdamW(student.groups(), weight_decay=config.weight_decay, fused=True)
    )
    optimisers = [optimiser]
    if hidden := student.hidden():
        if _is_sharded(accelerator):
            raise TrainingError("muon takes whole weights, and these are sharded: leave it out")
        optimisers.append(FilterMuon(hidden, config.weight_decay))
    average = {name: p.detach().clone() for name, p in student.averaged().items()}
    run = _Run(student, optimisers, average, out)
    step = run.begin(resume, accelerator)
    if step == 0:
        run.look(step, accelerator, watch)
    drawn = run.batches(shares, scale, mine).drawn_from(step, workers)
    first, started = step, time.monotonic()
    while step < config.steps:
        _set_rates(optimisers, config, step)
        losses = []
        for _ in mine:
            with accelerator.accumulate(model):
                batch = next(drawn).to(accelerator.device)
                with accelerator.autocast():
                    loss = model(batch)
                accelerator.backward(loss)
                losses.append(loss.detach())
        norm = accelerator.clip_grad_norm_(student.trained().values(), config.clip or math.inf)
        norm = whole(norm)
        loss = float(accelerator.reduce(torch.stack(losses).mean(), "mean"))
        is_good = run.health.is_good(loss, float(norm))
        if is_good:
            for each in optimisers:
                each.step()
            run.follow(step)
        for each in optimisers:
            each.zero_grad()
        step += 1
        if not is_good:
            going_on, step = step, run.recover(step, loss, accelerator, say)
            if step != going_on:
                drawn = run.batches(shares, scale, mine).drawn_from(step, workers)
        if step == config.steps or (is_good and step % config.save_every == 0):
            run.save(step, accelerator)
        seconds = (time.monotonic() - started) / max(1, step - first)
        if accelerator.is_main_process:
            report(
                {
                    "step": step,
                    "loss": loss,
                    "norm": float(norm),
                    "samples/s": config.photos * config.targets / seconds,
                    "hours left": seconds * (config.steps - step) / 3600,
                    "skipped": run.health.skipped,
                }
            )
        if step == config.steps or (is_good and step % config.watch_every == 0):
            run.look(step, accelerator, watch)
    average = whole(run.average)  # gathered from all processes, while they are connected
    accelerator.end_training()
    return average


@torch.no_grad()
def take_average(student: Student, checkpoint: dict[str, Any]) -> None:
    """Put a checkpoint's running average, and what has none, into the networks."""
    for name, p in student.trained().items():
        p.copy_(checkpoint["average"].get(name, checkpoint["student"][name]))


def _my_photos(config: TrainConfig, process: int, processes: int) -> list[range]:
    """Which photos of each step this process takes, a range a micro-batch."""
    parts = processes * config.micro_batches
    if config.photos % parts:
        raise ValueError(
            f"photos must be a multiple of processes × micro_batches = {parts}, got {config.photos}"
        )
    each = config.photos // parts
    starts = [each * (process * config.micro_batches + m) for m in range(config.micro_batches)]
    return [range(start, start + each) for start in starts]


def _is_sharded(accelerator: Accelerator) -> bool:
    """Whether each process holds a piece of the weights only."""
    return accelerator.distributed_type is DistributedType.FSDP


def _set_rates(optimisers: list[Any], config: TrainConfig, step: int) -> None:
    full = (config.learning_rate, config.projection_rate, config.learning_rate)
    groups = [group for each in optimisers for group in each.param_groups]
    for group, rate in zip(groups, full, strict=False):  # Muon's is last, where there is one
        group["lr"] = rate * rate_factor(config, step)


@dataclass
class _Run:
    """The state of a run, and its way onto the disk and back."""

    student: Student
    optimisers: list[Any]
    average: dict[str, Tensor]
    out: Path
    health: Health = field(default_factory=Health)

    def batches(self, shares: list[Share], scale: float, mine: list[range]) -> _Batches:
        """What is drawn until the next roll-back."""
        return _Batches(shares, self.student, scale, mine, self.health.rollbacks)

    def begin(self, resume: bool, accelerator: Accelerator) -> int:
        """Find where to go on, or open the folder; a run begins with a checkpoint to return to."""
        wanted = self.student.config
        found = checkpoints(self.out)
        if not resume:
            if found:
                raise TrainingError(f"{self.out} holds a run: resume it, or choose another folder")
            if accelerator.is_main_process:
                write_text(json.dumps(asdict(wanted), indent=2), self.out / CONFIG)
            self.save(0, accelerator)
            return 0
        if not found:
            raise CheckpointError(f"there is no checkpoint to resume from in {self.out}")
        noted = noted_config(self.out)
        if noted is not None and noted != wanted:
            differ = [
                f"{name} {was}, not {now}"
                for (name, was), now in zip(
                    asdict(noted).items(), asdict(wanted).values(), strict=True
                )
                if was != now
            ]
            raise TrainingError(
                f"{self.out} was trained with {', '.join(differ)}: resume with the same"
            )
        return self._load(found[-1])

    def save(self, step: int, accelerator: Accelerator) -> None:
        """Write a checkpoint; a failure of the first process ends them all."""
        state = {
            "step": step,
            "student": whole({n: p.detach() for n, p in self.student.trained().items()}),
            "average": whole(self.average),
            "optimiser": [whole(each.state_dict()) for each in self.optimisers],
            "rollbacks": self.health.rollbacks,
            "skipped": self.health.skipped,
            "usual": list(self.health.usual),
        }
        if accelerator.is_main_process:
            save_checkpoint(self.out, step, state, self.student.config.keep)
        accelerator.wait_for_everyone()

    def follow(self, step: int) -> None:
        """Let the running average follow."""
        decay = min(self.student.config.ema_decay, (1 + step) / (10 + step))
        now = self.student.averaged()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.values()), [now[name] for name in self.average], 1 - decay
            )

    def look(self, step: int, accelerator: Accelerator, watch: Callable[[int], None]) -> None:
        """Let the first process look at the running average; the others wait.

        Where each process holds a piece of the weights, none can look alone: nothing is done.
        """
        if _is_sharded(accelerator):
            return
        if accelerator.is_main_process:
            self._swap()
            try:
                with torch.compiler.set_stance("force_eager"):  # batches of other sizes
                    watch(step)
            finally:
                self._swap()
        accelerator.wait_for_everyone()

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the weights and their running average."""
        now = self.student.averaged()
        for name, mean in self.average.items():
            kept = mean.clone()
            mean.copy_(now[name])
            now[name].copy_(kept)

    def recover(
        self, step: int, loss: float, accelerator: Accelerator, say: Callable[[str], None]
    ) -> int:
        """Skip a bad step; after too many go back to the last checkpoint. Says so.

        Returns:
            The step to go on with.
        """
        health = self.health
        if accelerator.is_main_process:
            say(f"step {step - 1} was skipped: its loss is {loss:g} ({health.in_a_row} in a row)")
        if health.in_a_row < MAX_SKIPS:
            return step
        if health.rollbacks + 1 == MAX_ROLLBACKS:
            raise TrainingError(
                f"{MAX_SKIPS} bad steps in a row for the {MAX_ROLLBACKS}rd time, the last at step "
                f"{step - 1}: training stops; {checkpoints(self.out)[-1]} is the last good state"
            )
        rollbacks, skipped = health.rollbacks + 1, health.skipped
        last = checkpoints(self.out)[-1]
        back = self._load(last)
        self.health.rollbacks, self.health.skipped = rollbacks, skipped
        if accelerator.is_main_process:
            say(f"{MAX_SKIPS} bad steps in a row: back to {last.name}, to go on with other draws")
        return back

    def _load(self, path: Path) -> int:
        state, trained = load_checkpoint(path), self.student.trained()
        sizes = [{n: t.shape for n, t in some.items()} for some in (state["student"], trained)]
        if sizes[0] != sizes[1] or state["average"].keys() != self.average.keys():
            raise CheckpointError(f"{path} is of another model, or of other parts of it, than this")
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(piece(state["student"][name], p))
            for name, mean in self.average.items():
                mean.copy_(piece(state["average"][name], mean))
        for optimiser, noted in zip(self.optimisers, state["optimiser"], strict=True):
            ours = [p for group in optimiser.param_groups for p in group["params"]]
            for number, moments in noted["state"].items():
                moments |= {name: piece(value, ours[number]) for name, value in moments.items()}
            optimiser.load_state_dict(noted)
        usual = collections.deque(state["usual"], maxlen=self.health.usual.maxlen)
        self.health = Health(state["skipped"], 0, state["rollbacks"], usual)
        return int(state["step"])

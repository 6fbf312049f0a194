"""Train the small model on a borrowed GPU machine without a network, thirty minutes in all.

At home, in the checkout; what does not fit into the limit stays at home:

    python recipes/mini_h200.py pack --meshes FOLDER

There, with runs/h200-pack beside the checkout, three times at once, nine minutes each:

    S=runs/h200-site
    python3 -m pip install -q --no-index --no-deps --upgrade --target $S runs/h200-pack/*.whl
    PYTHONPATH=$S:src python3 recipes/mini_h200.py train --out RESULTS

At home again: the model, as it ships, in a folder named model.

    cat RESULTS/model.tar.* | tar x

Everything else is kept under runs/h200, from which the next command goes on. The encoder is the
bundled model's; its latents are made while training goes on.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch
from stages import run_stage, stage

from zero123.data import Lighting, Mesh, MeshError, load_mesh, render, sample_orbits
from zero123.data.compact import compact, decimated, expanded
from zero123.data.views import ViewSet
from zero123.evaluation.metrics import psnr
from zero123.images import save_picture, write_text
from zero123.pipeline import Zero123Pipeline
from zero123.training import loop
from zero123.training.checkpoints import checkpoints, load_checkpoint
from zero123.training.config import PRESETS, TrainConfig
from zero123.training.diary import Diary
from zero123.training.features import FeatureViews, write_features
from zero123.training.mini import IMAGE_SIZE, WIDTHS, mini_unet
from zero123.training.sets import COMPACT, SHARES, VIEWS, is_held, make_views, mirror, painters
from zero123.training.start import SCRATCH, starting_parts
from zero123.training.student import Student
from zero123.training.watch import look, questions
from zero123.weights import Components, open_model, save_model

PACK, RUN = Path("runs/h200-pack"), Path("runs/h200")
SETS, DENOISER = RUN / "sets", RUN / "denoiser"
WHEELS = ("diffusers", "torchmetrics", "lightning-utilities")
"""What such a machine lacks beside PyTorch, transformers, accelerate, numba and scikit-image."""
MAX_FACES = 3000
ALIKE = 30.0
"""PSNR that pictures of a packed mesh must have with those of its file, dB."""
FIRST, MORE = 200, 4000
"""Objects of each kind that training waits for, and that each later set has."""
FIRST_STEPS, SETTLED = 40, 10
"""Steps after which the run is first sized, and how many of them tell nothing of the speed."""
SAVE_EVERY = 30.0
"""Seconds between checkpoints, and so how much a kill costs at most."""
OPENING, CLOSING = 45.0, 25.0
"""Seconds of a command before its first step, where all is compiled, and after its last one."""
PIECE = 15 * 2**20
"""Bytes of the pieces in which the model comes back."""


def pack(meshes: Path, limit: float) -> None:
    """Put what has to travel into a folder: wheels, and meshes while there is room.

    Args:
        meshes: folder of training meshes; those of the smallest files first.
        limit: MiB that checkout and folder may weigh together.
    """
    files = sorted(meshes.rglob("*.glb"), key=lambda file: file.stat().st_size)
    if any("eval_meshes" in file.parts for file in files):
        raise SystemExit(f"{meshes} holds eval_meshes, which are never trained on")
    shutil.rmtree(PACK, ignore_errors=True)  # two versions of a wheel could not be installed
    PACK.mkdir(parents=True)
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    wheels = [f"{name}=={version(name)}" for name in WHEELS]
    subprocess.run([*fetch, "-d", str(PACK), *wheels], check=True)
    room = int(limit * 2**20) - travelling() - sum(w.stat().st_size for w in PACK.glob("*.whl"))
    packed = 0
    with zipfile.ZipFile(PACK / "meshes.zip", "w") as archive:
        for number, file in enumerate(files):
            name = f"{file.parent.name}/{file.stem}{COMPACT}"
            try:
                data = in_few_bytes(load_mesh(file))
            except MeshError as problem:
                print(f"{name} is left out: {problem}", flush=True)
                continue
            room -= len(data) + 2 * len(name.encode()) + 100  # the archive's own words
            if room < 0:
                print(f"no room for {len(files) - number} larger meshes")
                break
            archive.writestr(name, data)
            packed += 1
    print(f"{packed} meshes in {(PACK / 'meshes.zip').stat().st_size / 2**20:.1f} MiB")


def travelling() -> int:
    """Bytes of the checkout: what git knows or does not ignore, as far as it is there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    files = [Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]
    return sum(file.lstat().st_size for file in files if file.is_file())


def in_few_bytes(mesh: Mesh) -> bytes:
    """Pack a mesh in the first of ever more costly ways in which it still looks like itself.

    Raises:
        MeshError: not even all of its faces and colours do.
    """
    for tried, lossless in itertools.product((decimated(mesh, MAX_FACES), mesh), (False, True)):
        data = compact(tried, lossless)
        if likeness(mesh, expanded(data)) >= ALIKE:
            return data
    raise MeshError("its pictures change when it is packed")


def likeness(first: Mesh, second: Mesh) -> float:
    """PSNR of the views that differ most, of four from all sides, dB."""
    seats = sample_orbits(np.random.default_rng(0), 4)
    pictures = [ViewSet.on_white(render(m, seats, IMAGE_SIZE, Lighting())) for m in (first, second)]
    return min(psnr(one, other) for one, other in zip(*pictures, strict=True))


def planned(files: list[Path], procedural: int) -> Iterator[tuple[str, list[str]]]:
    """Sets, by name, and what they show: first small ones, for training to begin on."""
    mixed = sorted(files, key=lambda file: zlib.crc32(file.stem.encode()))
    yield "validation", [str(file) for file in mixed if is_held(file)]
    sources = {
        "meshes": [str(file) for file in mixed if not is_held(file)],
        "procedural": [f"procedural:{seed}" for seed in range(procedural)],
    }
    edges = [0, *range(FIRST, max(map(len, sources.values())) + MORE, MORE)]
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        for kind, names in sources.items():
            if names[begin:end]:
                yield f"{kind}-{number}", names[begin:end]


def draw(procedural: int, processes: int) -> None:
    """Draw and encode all sets, one after the other; ``train`` lets this run beside itself.

    Args:
        procedural: how many objects to make up.
        processes: that draw.
    """
    os.nice(10)  # whatever feeds the training comes first
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    parts = open_model("mini")
    parts.vae.to(_device())
    files = sorted((RUN / "meshes").rglob(f"*{COMPACT}"))
    with painters(processes) as pool:
        for name, sources in planned(files, procedural):
            kind, _, number = name.partition("-")
            made = [name]
            make_views(pool, SETS, name, sources, VIEWS[kind])
            if kind == "meshes":
                made.append(f"mirrored-{number}")
                mirror(SETS, name, made[1])
            for each in made:
                if each not in encoded():
                    write_features(ViewSet.open(SETS, each), SETS, each, parts, False)
                    print(f"{each}: {len(sources)} objects", flush=True)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # comes back when nobody holds the other end any more
    os.killpg(os.getpgrp(), signal.SIGKILL)


def encoded() -> set[str]:
    """Names of the sets that may be trained on."""
    return {file.name.partition(".")[0] for file in SETS.glob("*.latents.npy")}


def shares_of(names: set[str]) -> list[loop.Share]:
    """Sets to draw from: each kind as often as planned, its objects alike."""
    found = {name: FeatureViews.open(SETS, name) for name in sorted(names - {"validation"})}
    objects: Counter[str] = Counter()
    for name, data in found.items():
        objects[name.partition("-")[0]] += len(data.views)
    return [
        loop.Share(data, SHARES[kind] * len(data.views) / objects[kind])
        for name, data in found.items()
        for kind in [name.partition("-")[0]]
    ]


@dataclass
class Clock:
    """The time of a run that goes on through several commands, seconds."""

    total: float
    """Of the run."""
    command: float
    """Of each command."""
    earlier: float = 0.0
    """Used up by commands before this one."""
    speed: float = 0.0
    """Steps a second, as last measured."""

    @property
    def of_command(self) -> float:
        """Since this command began."""
        return time.time() - psutil.Process().create_time()

    @property
    def left(self) -> float:
        """Until this command must close."""
        return min(self.command, self.total - self.earlier) - self.of_command - CLOSING

    def to_train(self) -> float:
        """What is left of the run for steps, in this command and in those that follow."""
        others = max(0, round((self.total - self.earlier) / self.command) - 1)
        lost = CLOSING + others * (OPENING + CLOSING + SAVE_EVERY / 2)
        return max(0.0, self.total - self.earlier - self.of_command - lost)

    def note(self) -> None:
        """Keep what is used up, for the next command."""
        told = {"seconds": self.earlier + self.of_command, "steps per second": self.speed}
        write_text(json.dumps(told), RUN / "clock.json")

    @classmethod
    def resumed(cls, minutes: float, command: float) -> "Clock":
        """Go on from what earlier commands noted."""
        noted = RUN / "clock.json"
        told = json.loads(noted.read_text()) if noted.exists() else {}
        used, speed = told.get("seconds", 0.0), told.get("steps per second", 0.0)
        return cls(60 * minutes, 60 * command, used, speed)


def sized(config: TrainConfig, step: int, speed: float, seconds: float) -> TrainConfig:
    """The run with the steps that fit into the time left; once it cools down it stays as it is.

    Args:
        config: as it was.
        step: where it is.
        speed: steps a second.
        seconds: left for steps.
    """
    if step >= (1 - config.cooldown) * config.steps:
        return config
    return replace(
        config,
        steps=step + max(1, int(speed * seconds)),
        save_every=max(1, round(speed * SAVE_EVERY)),
    )


class Pause(Exception):  # noqa: N818 -- nothing is wrong
    """Leaves the loop at a checkpoint."""


def train(
    minutes: float,
    command: float,
    out: Path,
    init: str,
    widths: str,
    photos: int,
    procedural: int,
    asked: int,
) -> None:
    """Train for one command, from where the last one stopped, and bring out what there is.

    Args:
        minutes: of the run, over all commands.
        command: minutes of this one.
        out: folder for what goes home: the model in pieces, figures, pictures.
        init: model to start from, or scratch.
        widths: channels of the UNet, of a model from scratch.
        photos: of a step.
        procedural: how many objects to make up.
        asked: objects of the sheet, never trained on.
    """
    clock = Clock.resumed(minutes, command)
    if not (RUN / "meshes").exists():
        shutil.unpack_archive(PACK / "meshes.zip", RUN / "meshes.partial")
        (RUN / "meshes.partial").rename(RUN / "meshes")
    parts, on_gpu = new_parts(init, widths), torch.cuda.is_available()
    torch.set_float32_matmul_precision("high")
    config = loop.noted_config(DENOISER) or replace(
        PRESETS["mini"],
        steps=10**9,  # until it is sized
        save_every=FIRST_STEPS,
        photos=photos,
        targets=2,
        pictures=1,
        st_lpips=False,  # its weights would have to travel
        precision="bf16" if on_gpu else "no",
        compiled=on_gpu,
    )
    student, diary = Student(parts, config), Diary(RUN)
    with _drawing(procedural) as drawer:
        _wait_for(drawer, clock)
        while train_on(encoded(), student, parts, clock, diary):
            print(f"step {_step()} of {student.config.steps}: more sets, or sized", flush=True)
    clock.note()
    if _step() < student.config.steps:
        print(f"stopped at step {_step()} of {student.config.steps}: go on with the same command")
    export(student.config, init, widths, out)
    tell(out, diary, asked)
    clock.note()


def train_on(
    names: set[str], student: Student, parts: Components, clock: Clock, diary: Diary
) -> bool:
    """Train on some sets until there are more, the run is first sized, or time is up.

    Returns:
        Whether to go on at once.
    """
    begun = checkpoints(DENOISER)
    if begun and clock.speed:
        student.config = sized(student.config, _step(), clock.speed, clock.to_train())
        write_text(json.dumps(asdict(student.config), indent=2), DENOISER / loop.CONFIG)
    first = _step() if begun else 0
    settled = time.monotonic()

    def report(row: loop.Row) -> None:
        nonlocal settled
        step = int(row["step"])
        if step == first + SETTLED:
            settled = time.monotonic()
        diary.step(row)
        if step % student.config.save_every or step == student.config.steps:
            return
        if step >= first + 2 * SETTLED:
            clock.speed = (step - first - SETTLED) / (time.monotonic() - settled)
        clock.note()
        was_sized = student.config.steps < 10**9
        if not was_sized or clock.left < SAVE_EVERY or encoded() != names:
            raise Pause

    try:
        loop.train(
            student,
            parts.vae.config.scaling_factor,
            shares_of(names),
            DENOISER,
            resume=bool(begun),
            workers=max(1, 3 * _cores() // 4),
            report=report,
        )
    except Pause:
        return clock.left >= SAVE_EVERY
    return False


def _step() -> int:
    return int(checkpoints(DENOISER)[-1].stem.partition("-")[2])


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def _drawing(procedural: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Let another process draw the sets meanwhile, with processes of its own."""
    options = ["--procedural", str(procedural), "--processes", str(max(1, _cores() // 2))]
    with (
        (RUN / "draw.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, __file__, "draw", *options],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            process_group=0,
        ) as drawer,
    ):
        try:
            yield drawer
        finally:
            if drawer.poll() is None:
                os.killpg(drawer.pid, signal.SIGKILL)  # sets are whole or not there


def _wait_for(drawer: "subprocess.Popen[bytes]", clock: Clock) -> None:
    """Wait for something of each kind to train on."""
    while not {"validation", *(f"{kind}-0" for kind in SHARES)} <= encoded():
        if drawer.poll() is not None or clock.left < 0:
            raise SystemExit(f"there is nothing to train on:\n{(RUN / 'draw.log').read_text()}")
        time.sleep(0.5)


def new_parts(init: str, widths: str) -> Components:
    """The model that the run starts from."""
    parts = starting_parts(init, seed=0)
    wanted = tuple(int(width) for width in widths.split(","))
    if wanted == WIDTHS:
        return parts
    if init != SCRATCH:
        raise SystemExit(f"--widths {widths} needs --init {SCRATCH}: {init} has its own")
    return replace(parts, unet=mini_unet(block_out_channels=wanted))


def export(config: TrainConfig, init: str, widths: str, out: Path) -> None:
    """Write the newest running average as it ships, in half precision, in pieces into ``out``."""
    parts = new_parts(init, widths)
    student = Student(parts, replace(config, compiled=False))
    loop.take_average(student, load_checkpoint(checkpoints(DENOISER)[-1]))
    save_model(parts, RUN / "model", dtype=torch.float16)
    in_pieces(RUN / "model", out)


def in_pieces(folder: Path, out: Path, size: int = PIECE) -> list[Path]:
    """Pack a folder into files of at most ``size`` bytes; ``cat NAME.tar.* | tar x`` undoes it."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{folder.name}.tar.*"):
        old.unlink()
    whole = folder.with_suffix(".tar")
    with tarfile.open(whole, "w") as archive:
        archive.add(folder, folder.name)
    pieces = []
    with whole.open("rb") as file:
        while piece := file.read(size):
            pieces.append(out / f"{whole.name}.{len(pieces):02d}")
            pieces[-1].write_bytes(piece)
    whole.unlink()
    return pieces


def tell(out: Path, diary: Diary, asked: int) -> None:
    """Ask for views of validation objects; figures, sheet and log go to ``out``."""
    pipe = Zero123Pipeline.from_pretrained(RUN / "model").to(_device())
    pipe.set_progress_bar_config(disable=True)
    figures, sheet = look(pipe, questions(FeatureViews.open(SETS, "validation"), asked, 0))
    print(f"step {_step()}: {figures}", flush=True)
    diary.watched(_step(), figures, sheet)
    diary.close()
    save_picture(sheet, out / "sheet.png")
    for name in ("log.jsonl", "losses.png", "draw.log"):
        shutil.copy(RUN / name, out)
    write_text(json.dumps(asdict(figures), indent=2), out / "figures.json")


if __name__ == "__main__":
    run_stage(
        __doc__,
        stage(pack, meshes=Path, limit=62.0),
        stage(
            train,
            minutes=25.5,
            command=8.5,
            out=Path,
            init="mini",
            widths=",".join(map(str, WIDTHS)),
            photos=256,
            procedural=40_000,
            asked=24,
        ),
        stage(draw, procedural=40_000, processes=1),
    )

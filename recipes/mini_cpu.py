"""Train the bundled small model on two CPU cores, in stages that survive any interruption.

    python recipes/mini_cpu.py views --meshes FOLDER     # pictures of meshes and of made-up objects
    python recipes/mini_cpu.py autoencoder               # then latents of all views
    torchrun --nproc-per-node 2 recipes/mini_cpu.py denoiser --steps 7500
    python recipes/mini_cpu.py export                    # to runs/mini/denoiser-model
    torchrun --nproc-per-node 2 recipes/mini_cpu.py pictures --steps 1100    # goes on from there
    python recipes/mini_cpu.py export --name pictures --kept 0.5    # as it ships
    python recipes/mini_cpu.py choose                    # how to sample
    python recipes/mini_cpu.py sheet                     # figures and pictures on unseen objects

Everything is kept under ``runs/mini``; a stage that is done is not done again. To go on from the
bundled model, ``encode`` takes the place of ``autoencoder``, and ``denoiser`` is told ``--init
mini``; ``--grow attention`` gives a denoiser attention at 16×16 first, which the bundled one has.
On processors with matrix units, ``--precision bf16`` trains twice as fast, and with ``--compiled
1`` a little faster still.
"""

import collections
import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from grow import grown
from PIL import Image
from stages import run_stage, stage
from torch import nn

from zero123.data.augment import augmented
from zero123.data.views import PHOTO_POLAR, ViewSet
from zero123.evaluation.candidates import Question, baselines, from_pipeline
from zero123.evaluation.scenes import Scene
from zero123.evaluation.toolbox import collect_tools
from zero123.images import contact_sheet
from zero123.models import decode_latents, encode_latents
from zero123.pipeline import Zero123Output, Zero123Pipeline
from zero123.training.autoencoder import (
    LATENT_SCALE,
    PatchEncoder,
    crops,
    start_decoder,
    train_autoencoder,
    write_encoder,
)
from zero123.training.checkpoints import checkpoints, load_checkpoint
from zero123.training.config import PRESETS, TrainConfig
from zero123.training.features import FeatureViews
from zero123.training.loop import Row, Share, noted_config, take_average, train
from zero123.training.mini import (
    IMAGE_SIZE,
    LATENT_CHANNELS,
    mini_autoencoder,
    mini_image_encoder,
    mini_projection,
    mini_scheduler,
    mini_unet,
)
from zero123.training.sets import SHARES, VIEWS, is_held, make_views, mirror, painters
from zero123.training.student import Student
from zero123.weights import Components, Settings, open_model, save_model

RUN = Path("runs/mini")
ATTENTION = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
}
"""Attention at 16×16 too."""
LARGER = ATTENTION | {"layers_per_block": 2, "transformer_layers_per_block": (1, 2, 2)}
"""A denoiser of 23 M parameters, of mini's widths."""
GROWN = {"attention": ATTENTION, "larger": LARGER}
"""What a denoiser that has learnt can be given room for."""
Precision: TypeAlias = Literal["no", "bf16"]


def views(meshes: Path, procedural: int, first: int) -> None:
    """Render the sets: meshes to train on, also mirrored, made-up objects, validation meshes.

    The made-up objects are those from number ``first`` on.
    """
    files = sorted(meshes.rglob("*.glb"))
    sources = {
        "validation": [str(file) for file in files if is_held(file)],
        "meshes": [str(file) for file in files if not is_held(file)],
        "procedural": [f"procedural:{first + seed}" for seed in range(procedural)],
    }
    with painters(2) as pool:
        for name, names in sources.items():
            make_views(pool, RUN, name, names, VIEWS[name])
    mirror(RUN, "meshes", "mirrored")


def autoencoder(steps: int) -> None:
    """Compute the encoder, encode all views, train the decoder."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sets = [ViewSet.open(RUN, name) for name in ("meshes", "procedural")]
    if not (RUN / "vae").exists():
        vae = mini_autoencoder()
        pictures = next(crops(sets, seed=1, batch=3000, size=IMAGE_SIZE))
        encoder = PatchEncoder.fit(pictures, LATENT_CHANNELS)
        for name in ("validation", *SHARES):
            write_latents(encoder, name)
        write_encoder(vae, encoder)
        start_decoder(vae, encoder)
        _keep(vae, "vae")
    if (RUN / "vae-final").exists():
        return
    vae = AutoencoderTiny.from_pretrained(RUN / "vae").to(memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    held = next(crops([ViewSet.open(RUN, "validation")], seed=9, batch=32, size=IMAGE_SIZE))
    started = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 100 == 99:
            again = decode_latents(vae, encode_latents(vae, held) * vae.config.scaling_factor)
            psnr = -10 * torch.log10((again - held).square().mean())
            seconds = time.monotonic() - started
            print(f"step {step + 1} loss {loss:.4f} PSNR {psnr:.2f} {seconds:.0f} s", flush=True)

    drawn = crops(sets, seed=7, batch=16, size=64)
    batches = (b.contiguous(memory_format=torch.channels_last) for b in drawn)
    train_autoencoder(vae, batches, steps, report)
    _keep(vae, "vae-final")


def encode(model: str) -> None:
    """Encode all views as the autoencoder of a model does, for training to go on from it."""
    vae = open_model(model).vae
    encoder = PatchEncoder.read(vae)
    for name in ("validation", *SHARES):
        write_latents(encoder, name)
    _keep(vae, "vae-final")


def _keep(vae: AutoencoderTiny, name: str) -> None:
    vae.save_pretrained(RUN / f"{name}.partial")
    (RUN / f"{name}.partial").rename(RUN / name)  # whole or not at all


def write_latents(encoder: PatchEncoder, name: str) -> None:
    """Encode every view of a set."""
    made = []
    for pictures in ViewSet.open(RUN, name).images:
        seen = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255
        made.append(encoder.encode(seen).numpy().astype(np.float16))
    np.save(RUN / f"{name}.latents.npy", np.stack(made))


def new_parts(vae: AutoencoderTiny) -> Components:
    """A model with fresh weights around an autoencoder."""
    vae.register_to_config(scaling_factor=LATENT_SCALE)
    return Components(
        unet=mini_unet(),
        vae=vae,
        image_encoder=mini_image_encoder(),
        projection=mini_projection(),
        scheduler=mini_scheduler(),
        settings=Settings("zero123-polar", 1, guidance=1.0, eta=0.0, name="mini", licence="MIT"),
    )


def denoiser(
    steps: int,
    init: str,
    grow: str,
    photos: int,
    targets: int,
    rate: float,
    precision: Precision,
    compiled: int,
) -> None:
    """Train the denoiser, the image encoder and the projection; ``grow`` enlarges it first."""
    if grow and grow not in GROWN:
        raise SystemExit(f"--grow {grow}: it can be {' or '.join(GROWN)}")
    torch.manual_seed(0)
    if init == "scratch":
        parts = new_parts(AutoencoderTiny.from_pretrained(RUN / "vae-final"))
    else:
        parts = open_model(init)
    if grow:
        parts = replace(parts, unet=grown(parts.unet, mini_unet(**GROWN[grow])))
    rows = replace(PRESETS["mini"], photos=photos, targets=targets, learning_rate=rate)
    _train(parts, _sized(rows, steps, precision, compiled), "denoiser")


def pictures(steps: int, init: str, precision: Precision, compiled: int) -> None:
    """Go on, with answers also decoded and compared as pictures; the decoder learns too."""
    config = _sized(PRESETS["mini-pictures"], steps, precision, compiled)
    _train(open_model(init), config, "pictures")


def _sized(config: TrainConfig, steps: int, precision: Precision, compiled: int) -> TrainConfig:
    return replace(config, steps=steps, precision=precision, compiled=bool(compiled))


def _train(parts: Components, config: TrainConfig, name: str) -> None:
    torch.set_num_threads(1)
    parts.unet.save_config(RUN / f"{name}-unet")
    student = Student(parts, config)
    shares = [Share(FeatureViews.open(RUN, name), weight) for name, weight in SHARES.items()]
    log = (RUN / f"{name}.jsonl").open("a", buffering=1)
    recent: collections.deque[float] = collections.deque(maxlen=200)

    def report(row: Row) -> None:
        recent.append(row["loss"])
        if row["step"] % 20 == 0:
            log.write(json.dumps({**row, "mean loss": float(np.mean(recent))}) + "\n")

    run = RUN / name
    train(student, LATENT_SCALE, shares, run, resume=bool(checkpoints(run)), report=report)


def export(name: str, start: str, kept: float) -> None:
    """Write a run's average as it ships: half precision, hashes, its own settings.

    ``kept`` of it stays as in the model ``start``: between the two lies every compromise of blur,
    which squared errors ask for, and sharpness.
    """
    config = noted_config(RUN / name)
    if config is None:
        raise SystemExit(f"{RUN / name} holds no run: train it first")
    size = UNet2DConditionModel.load_config(RUN / f"{name}-unet")
    parts = new_parts(AutoencoderTiny.from_pretrained(RUN / "vae-final"))
    parts = replace(parts, unet=UNet2DConditionModel.from_config(size))
    student = Student(parts, replace(config, compiled=False))
    take_average(student, load_checkpoint(checkpoints(RUN / name)[-1]))
    if kept:
        with torch.no_grad():
            for p, old in zip(parameters(parts), parameters(open_model(start)), strict=True):
                p.lerp_(old.to(p.dtype), kept)
    save_model(parts, RUN / f"{name}-model", dtype=torch.float16)


def parameters(parts: Components) -> list[nn.Parameter]:
    """All that training may change, always in the same order."""
    networks = (parts.unet, parts.vae, parts.image_encoder, parts.projection)
    return [p for network in networks for p in network.parameters()]


def _first_views(
    view: Callable[..., Zero123Output], turns: np.ndarray, steps: int, guidance: float
) -> np.ndarray:
    seeded = torch.Generator().manual_seed(0)
    made = view(azimuth=turns, num_inference_steps=steps, guidance_scale=guidance, generator=seeded)
    return made.images[0, :, 0]


def sheet(model: str, objects: int, steps: int, guidance: float) -> None:
    """Print PSNR on unseen validation objects beside baselines, and draw the pictures."""
    pipe = Zero123Pipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    data, rng = ViewSet.open(RUN, "validation"), np.random.default_rng(5)
    scores: dict[str, list[float]] = {}
    pictures: list[Image.Image] = []
    for item in rng.permutation(len(data))[:objects].tolist():
        cond = data.orbit(item, 0)
        near = [v for v in range(1, 12) if abs(data.orbit(item, v).polar - cond.polar) < 1.5][:4]
        seats = [data.orbit(item, view) for view in near]
        photo = np.array(data.images[item, 0])
        truth = np.array(data.images[item, near]) / 255
        view = functools.partial(
            pipe,
            photo,
            elevation=[math.degrees(s.elevation - cond.elevation) for s in seats],
            distance=[s.radius - cond.radius for s in seats],
            output_type="np",
        )
        turns = np.array([math.degrees(s.azimuth - cond.azimuth) for s in seats])

        made = {
            "white": np.ones_like(truth),
            "copy": np.broadcast_to(photo / 255, truth.shape),
            "one step": _first_views(view, turns, 1, 1.0),
            "one step, turned wrongly": _first_views(view, turns + 120, 1, 1.0),
            f"{steps} steps": _first_views(view, turns, steps, guidance),
        }
        for name, views in made.items():
            psnr = -10 * np.log10(np.mean((views - truth) ** 2, axis=(1, 2, 3)))
            scores.setdefault(name, []).append(float(psnr.mean()))
        shown = [made["copy"], truth, made["one step"], made[f"{steps} steps"]]
        for views in zip(*shown, strict=True):
            pictures += [Image.fromarray((255 * v).astype(np.uint8)) for v in views]
    for name, values in scores.items():
        print(f"{name:26s} PSNR {np.mean(values):.2f}")
    captions = ["photo", "truth", "one step", f"{steps} steps"] * (len(pictures) // 4)
    contact_sheet(pictures, captions, columns=8).save(RUN / "sheet.png")
    print(RUN / "sheet.png")


SETTINGS = ((1, 1.0), (1, 1.5), (2, 1.0), (2, 1.5), (4, 1.5), (4, 2.0), (10, 2.0))
"""Steps and guidance to choose from."""


def choose(model: str, objects: int, augment: float) -> None:
    """Print figures of ways to sample on unseen validation objects, after those of guesses.

    A share of their photos, ``augment``, is made to look as people's do.
    """
    parts = open_model(model)
    ways = {
        f"{steps} steps, guidance {by}": replace(
            parts, settings=replace(parts.settings, steps=steps, guidance=by)
        )
        for steps, by in SETTINGS
    }
    compare(ways, ViewSet.open(RUN, "validation"), objects, augment)


def compare(
    models: dict[str, Components], data: ViewSet, objects: int, augment: float = 0.0
) -> None:
    """Print figures of models on objects of a set, after those of guesses, as Markdown."""
    candidates = baselines() + [
        from_pipeline(name, Zero123Pipeline.of_parts(parts), "default")
        for name, parts in models.items()
    ]
    chosen = np.random.default_rng(0).permutation(len(data))[:objects].tolist()
    scenes = [_scene(data, item, augment) for item in chosen]
    judges = collect_tools(download=True).judges
    scorers = [[judge.look_at(scene) for judge in judges] for scene in scenes]
    titles = [metric.title for judge in judges for metric in judge.metrics]
    print("| way | " + " | ".join(titles) + " |\n" + "| --- " * (1 + len(titles)) + "|")
    for candidate in candidates:
        figures = []
        for scene, of_scene in zip(scenes, scorers, strict=True):
            views = candidate.answer(Question(scene.photo, scene.seat, scene.seats))[:, 0]
            figures.append(np.concatenate([score(views).mean(axis=1) for score in of_scene]))
        cells = " | ".join(f"{figure:.3f}" for figure in np.mean(figures, axis=0))
        print(f"| {candidate.name} | {cells} |", flush=True)


def _scene(data: ViewSet, item: int, augment: float) -> Scene:
    """A photo from a usual height, and all views to which the camera may climb from there."""
    seats = [data.orbit(item, view) for view in range(data.images.shape[1])]
    low, high = PHOTO_POLAR
    photo = next((view for view, seat in enumerate(seats) if low <= seat.polar <= high), 0)
    asked = [
        view
        for view, seat in enumerate(seats)
        if view != photo and abs(seat.polar - seats[photo].polar) < math.pi / 2
    ]
    views, rng = np.array(data.images[item]), np.random.default_rng(item)
    alpha = 255 * (views.min(axis=-1, keepdims=True) < 250).astype(np.uint8)
    return Scene(
        name=str(item),
        photo=augmented(views[photo], rng) if rng.random() < augment else views[photo],
        seat=seats[photo],
        truths=np.concatenate([views, alpha], axis=-1)[asked],
        seats=tuple(seats[view] for view in asked),
    )


if __name__ == "__main__":
    run_stage(
        __doc__,
        stage(views, meshes=Path, procedural=21500, first=0),
        stage(autoencoder, steps=1700),
        stage(encode, model="mini"),
        stage(
            denoiser,
            steps=PRESETS["mini"].steps,
            init="scratch",
            grow="",
            photos=PRESETS["mini"].photos,
            targets=PRESETS["mini"].targets,
            rate=PRESETS["mini"].learning_rate,
            precision="no",
            compiled=0,
        ),
        stage(
            pictures,
            steps=1100,
            init=str(RUN / "denoiser-model"),
            precision="no",
            compiled=0,
        ),
        stage(export, name="denoiser", start=str(RUN / "denoiser-model"), kept=0.0),
        stage(choose, model=str(RUN / "pictures-model"), objects=20, augment=0.0),
        stage(sheet, model=str(RUN / "pictures-model"), objects=16, steps=4, guidance=2.0),
    )

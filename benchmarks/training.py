"""Compare training steps, side by side: ``python benchmarks/training.py``.

Our step reads the latents and embeddings that were computed once; a plain step encodes the photo
and the target every time, with the autoencoder both and with CLIP the photo. The same networks,
batch and optimiser, one thread, taking turns. Processor seconds count, not the clock's. The table
goes to ``benchmarks/results/training.md``.
"""

import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import torch
import tyro
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.data import procedural_mesh, render, sample_lighting, sample_orbits
from zero123.data.views import Leaning, ViewSet, draw_pairs
from zero123.models import PoseProjection, embed_photos, encode_latents
from zero123.training.config import FINETUNE, PRESETS, TrainConfig
from zero123.training.features import FeatureViews, write_features
from zero123.training.loop import Share, batch_of
from zero123.training.objective import Draws
from zero123.training.student import Batch, Student
from zero123.weights import Components, Settings, open_model

OBJECTS, VIEWS = 8, 4


@dataclass(frozen=True)
class Bench:
    """A model, what it learns from, and how."""

    name: str
    parts: Components
    size: int
    """Of the pictures, pixels."""
    config: TrainConfig


def fifth() -> Components:
    """The published model's networks at a fourth to a fifth of their widths, all layers."""
    torch.manual_seed(0)
    return Components(
        unet=UNet2DConditionModel(
            sample_size=32,
            in_channels=8,
            out_channels=4,
            block_out_channels=(64, 128, 256, 256),
            cross_attention_dim=160,
            attention_head_dim=8,
        ),
        vae=AutoencoderKL(
            block_out_channels=(32, 64, 128, 128),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        ).eval(),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=192,
                intermediate_size=768,
                num_hidden_layers=24,
                num_attention_heads=16,
                image_size=224,
                patch_size=14,
                projection_dim=160,
            )
        ).eval(),
        projection=PoseProjection(160, 160),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear"),
        settings=Settings(),
    )


def benches(photos: int) -> list[Bench]:
    """The bundled model with its image encoder frozen, and a larger one; a target a photo."""
    mini = replace(
        PRESETS["mini-continue"],
        photos=photos,
        targets=1,
        trains_image_encoder=False,
        level=0.0,
        pictures=0,
    )
    large = replace(
        FINETUNE, photos=photos, targets=1, precision="no", gradient_checkpointing=False
    )
    return [
        Bench("mini", open_model("mini"), 128, mini),
        Bench("published networks at 1/5 width, random", fifth(), 256, large),
    ]


def features(bench: Bench, folder: Path) -> FeatureViews:
    """Made-up objects and what the frozen networks say about them."""
    rng = np.random.default_rng(0)
    pictures, seats = [], []
    for number in range(OBJECTS):
        orbits = sample_orbits(rng, VIEWS)
        seen = render(procedural_mesh(number), orbits, bench.size, sample_lighting(rng))
        pictures.append(ViewSet.on_white(seen))
        seats.append([[orbit.polar, orbit.azimuth, orbit.radius] for orbit in orbits])
    views = ViewSet(np.stack(pictures), np.array(seats, dtype=np.float32))
    np.save(folder / "made.images.npy", views.images)
    np.save(folder / "made.orbits.npy", views.orbits)
    (folder / "made.json").write_text("[]")
    return write_features(views, folder, "made", bench.parts, with_embeddings=True)


@torch.no_grad()
def encoded_batch(bench: Bench, student: Student, data: FeatureViews, step: int) -> Batch:
    """A step's batch as trainers usually make it: every picture goes through the encoders."""
    config, parts = bench.config, bench.parts
    generator = torch.Generator().manual_seed(step)
    pair = draw_pairs(
        data.views, np.random.default_rng(step), config.photos, config.targets, Leaning()
    )
    photos = data.pixels(pair.item, pair.photo_view).float() / 255
    items = np.repeat(pair.item, config.targets)
    targets = data.pixels(items, pair.target_view.reshape(-1)).float() / 255
    if isinstance(parts.vae, AutoencoderKL):
        wanted = parts.vae.encode(2 * targets - 1).latent_dist.sample(generator)
    else:
        wanted = encode_latents(parts.vae, targets)
    latents = wanted * parts.vae.config.scaling_factor
    num_steps = parts.scheduler.config.num_train_timesteps
    return Batch(
        targets=latents,
        pose=pair.pose,
        photo_latents=encode_latents(parts.vae, photos),
        photos=None,
        embeddings=embed_photos(parts.image_encoder, photos),
        draws=Draws.of(student.config, latents.shape, generator, num_steps),
    )


def furthest(bench: Bench, data: FeatureViews) -> float:
    """The largest difference between what is kept and what the networks say now."""
    item, view = np.arange(OBJECTS), np.zeros(OBJECTS, dtype=np.int64)
    photos = data.pixels(item, view).float() / 255

    def off(kept: Tensor, now: Tensor) -> float:
        return float((kept - now).abs().max() / now.abs().max())

    return max(
        off(data.latents_of(item, view), encode_latents(bench.parts.vae, photos)),
        off(data.embeddings_of(item, view), embed_photos(bench.parts.image_encoder, photos)),
    )


def compare(bench: Bench, rounds: int, folder: Path) -> tuple[list[float], list[float], float]:
    """Processor seconds of our steps and of plain ones, and how far the kept features are off."""
    data = features(bench, folder)
    student = Student(bench.parts, bench.config)
    optimiser = torch.optim.AdamW(student.groups(), fused=True)
    scale, shares = bench.parts.vae.config.scaling_factor, [Share(data)]

    def kept(step: int) -> Batch:
        return batch_of(shares, student, scale, (0, 0, step), range(bench.config.photos))

    def encoded(step: int) -> Batch:
        return encoded_batch(bench, student, data, step)

    def seconds(make: Callable[[int], Batch], step: int) -> float:
        started = time.process_time()
        loss = student(make(step))
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        return time.process_time() - started

    ours, plain = [], []
    for step in range(rounds + 1):
        ours.append(seconds(kept, step))
        plain.append(seconds(encoded, step))
    return ours[1:], plain[1:], furthest(bench, data)  # the first step fills memory


def main(rounds: int = 5, photos: int = 4) -> None:
    """Train a few steps either way and write the table.

    Args:
        rounds: steps of each kind that count.
        photos: in a step, each with one target.
    """
    torch.set_num_threads(1)
    lines = []
    for bench in benches(photos):
        with tempfile.TemporaryDirectory() as folder:
            ours, plain, off = compare(bench, rounds, Path(folder))
        each = [p / o for p, o in zip(plain, ours, strict=True)]
        lines.append(
            f"| {bench.name} | {photos / np.median(plain):.2f} | {photos / np.median(ours):.2f} | "
            f"×{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f}) | {off:.1e} |"
        )
        print(lines[-1])
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    text = f"""# Training: latents and embeddings kept, or encoded in every step

{datetime.now(UTC):%Y-%m-%d}, {platform.system()} on {platform.machine()}, {cores} cores, \
{memory:.0f} GiB, of which one thread is used, torch {torch.__version__}.
`python benchmarks/training.py --rounds {rounds} --photos {photos}`: steps of {photos} photos with \
one target each, float32, taking turns; samples per processor second, medians.

| model | plain, samples/s | ours, samples/s | ratio (lowest to highest) | kept features off by |
|---|---|---|---|---|
{chr(10).join(lines)}

Off by: the largest difference between kept and fresh latents and embeddings, as a share of the
largest value; latents are kept in half precision.
"""
    (Path(__file__).parent / "results" / "training.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)

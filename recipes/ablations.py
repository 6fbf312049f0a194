"""What each choice in the small model's recipe gives: short runs that differ in one thing.

    python recipes/ablations.py run --name base    # or another of CHOICES
    python recipes/ablations.py table              # of all that have run, as Markdown
    python recipes/ablations.py seen               # is the bundled model better where it learnt?
    python recipes/ablations.py where              # what does it miss, near and far?
    python recipes/ablations.py resolution --meshes FOLDER    # 128 pixels or 256?

Run ``views`` and ``autoencoder`` of ``mini_cpu.py`` before. Every run starts from fresh weights, on
one core, draws the same photos and views in the same order, and is asked the same questions about
the validation meshes.
"""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from jaxtyping import Float
from mini_cpu import ATTENTION, LARGER, RUN, Precision, compare, new_parts, write_latents
from stages import run_stage, stage
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.modeling_clip import CLIPVisionModelOutput

from zero123.data.views import ViewSet
from zero123.evaluation.backbones import EFFICIENTNET_LITE0, Backbones
from zero123.evaluation.features import efficientnet_lite0
from zero123.geometry import FIELD_OF_VIEW
from zero123.images import write_text
from zero123.models import PhotoFeatures, PoseProjection, condition, embed_photos, sweep_channels
from zero123.models.condition import CLIP_MEAN, CLIP_STD
from zero123.models.sweeping import DISTANCE
from zero123.pipeline import Zero123Pipeline
from zero123.training.autoencoder import PatchEncoder
from zero123.training.checkpoints import checkpoints, load_checkpoint
from zero123.training.config import PRESETS
from zero123.training.features import FeatureViews
from zero123.training.loop import Share, batch_of, take_average, train
from zero123.training.mini import IMAGE_SIZE, LATENT_CHANNELS, mini_projection, mini_unet
from zero123.training.objective import answer_views
from zero123.training.sets import SHARES, VIEWS, is_held, make_views, painters
from zero123.training.student import Student
from zero123.training.watch import look, questions
from zero123.weights import Components, open_model

OUT = Path("runs/ablations")
BASE = replace(
    PRESETS["mini"], photos=6, targets=4, last=0.5, muon=False, learning_rate=6e-4, untold=0.0
)


@dataclass(frozen=True)
class Choice:
    """A run, by what it changes."""

    about: str
    parts: Callable[[Components], Components] = lambda parts: parts
    phases: tuple[dict[str, Any], ...] = ({},)
    """Changes of the configuration, for equal shares of the steps."""
    shares: dict[str, float] = field(default_factory=lambda: SHARES)


def _unet(**changes: object) -> Callable[[Components], Components]:
    return lambda parts: replace(parts, unet=mini_unet(**changes))


def without_sweep(parts: Components) -> Components:
    """The two streams of the paper and nothing else."""
    projection = mini_projection()
    projection.register_to_config(sweeps=False)
    return replace(parts, unet=mini_unet(in_channels=2 * LATENT_CHANNELS), projection=projection)


def told_rays(parts: Components) -> Components:
    """The wanted camera's rays where the sweep would be."""
    condition.sweep = rays
    return parts


def rays(
    latent: Float[Tensor, "b c h w"], pose: Float[Tensor, "b 4"]
) -> Float[Tensor, "b channels h w"]:
    """Plücker rays of the wanted camera, as if the photo had been taken from eye level.

    Returns:
        Moments and directions in the first six channels, zeros in those that a sweep would have.
    """
    (_, c, h, w), half = latent.shape, np.tan(FIELD_OF_VIEW / 2)
    polar, turn = np.pi / 2 + pose[:, 0], torch.atan2(pose[:, 1], pose[:, 2])
    flat, high = polar.sin(), polar.cos()
    back = torch.stack([flat * turn.cos(), flat * turn.sin(), high], -1)
    right = torch.stack([-turn.sin(), turn.cos(), torch.zeros_like(turn)], -1)
    up = torch.linalg.cross(back, right)
    x, y = (((torch.arange(n) + 0.5) / n * 2 - 1) * half for n in (w, h))
    across, climb = x.expand(h, w).flatten()[:, None], -y[:, None].expand(h, w).flatten()[:, None]
    way = across * right[:, None] + climb * up[:, None] - back[:, None]
    way = torch.nn.functional.normalize(way, dim=-1)
    origin = ((DISTANCE + pose[:, 3:4]) * back)[:, None].expand_as(way)
    lines = (
        torch.cat([torch.linalg.cross(origin, way), way], -1).movedim(-1, 1).unflatten(2, (h, w))
    )
    silent = lines.new_zeros(len(pose), sweep_channels(c) - 6, h, w)
    return torch.cat([lines, silent], 1)


def deeper_encoder(parts: Components) -> Components:
    """Twice as many layers for the photo's embedding."""
    config = parts.image_encoder.config.to_dict() | {"num_hidden_layers": 8}
    encoder = CLIPVisionModelWithProjection(type(parts.image_encoder.config)(**config))
    return replace(parts, image_encoder=encoder)


class ReadyFeatures(CLIPVisionModelWithProjection):  # type: ignore[misc]
    """EfficientNet-lite0's 1280 features, which stay, and a linear layer that learns."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self.vision_model = nn.Identity()
        self.visual_projection = nn.Linear(1280, config.projection_dim)
        self.weights = Backbones(download=True).load(EFFICIENTNET_LITE0)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> CLIPVisionModelOutput:
        """Embed pictures that ``clip_pixels`` prepared."""
        std, mean = (pixels.new_tensor(v)[:, None, None] for v in (CLIP_STD, CLIP_MEAN))
        features = efficientnet_lite0(255 * (pixels * std + mean), self.weights)["1280"]
        return CLIPVisionModelOutput(image_embeds=self.visual_projection(features))


def ready_features(parts: Components) -> Components:
    """A network trained on ImageNet embeds the photo."""
    config = parts.image_encoder.config.to_dict() | {"image_size": IMAGE_SIZE}
    return replace(parts, image_encoder=ReadyFeatures(CLIPVisionConfig(**config)))


class PatchesToo(CLIPVisionModelWithProjection):  # type: ignore[misc]
    """The photo's embedding, and behind it one token for each of its patches."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self.patch_projection = nn.Linear(config.hidden_size, config.projection_dim)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> CLIPVisionModelOutput:
        """Embed pictures that ``clip_pixels`` prepared."""
        seen = self.vision_model(pixels)
        patches = self.patch_projection(seen.last_hidden_state[:, 1:])
        embedding = self.visual_projection(seen.pooler_output)
        return CLIPVisionModelOutput(image_embeds=torch.cat([embedding, patches.flatten(1)], 1))


class PosedBeforePatches(PoseProjection):  # type: ignore[misc]
    """The posed embedding, and behind it the patches' tokens as they are, all in one row."""

    def forward(
        self, embedding: Float[Tensor, "b d"], pose: Float[Tensor, "b 4"]
    ) -> Float[Tensor, "b 1 context"]:
        """Pose what ``PatchesToo`` gives."""
        whole, patches = embedding.tensor_split([self.config.embed_dim], 1)
        return torch.cat([super().forward(whole, pose), patches[:, None]], -1)


class AttendingUNet(UNet2DConditionModel):  # type: ignore[misc]
    """Cuts that row into tokens; the posed one alone joins the time embedding."""

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **options: Any
    ) -> Any:
        """Attend them all."""
        tokens = encoder_hidden_states.unflatten(2, (-1, self.config.cross_attention_dim))
        return super().forward(sample, timestep, tokens.flatten(1, 2), **options)

    def get_aug_embed(
        self, emb: Tensor, encoder_hidden_states: Tensor, added_cond_kwargs: dict[str, Any]
    ) -> Tensor:
        """What joins the time embedding."""
        posed = encoder_hidden_states[:, :1]
        joined: Tensor = super().get_aug_embed(emb, posed, added_cond_kwargs)
        return joined


def attending_patches(parts: Components) -> Components:
    """The denoiser attends the photo's patches beside the posed token."""
    projection = PosedBeforePatches.from_config(parts.projection.config)
    unet = AttendingUNet.from_config(parts.unet.config)
    for new, old in ((projection, parts.projection), (unet, parts.unet)):
        new.load_state_dict(old.state_dict())
    encoder = PatchesToo(parts.image_encoder.config)
    return replace(parts, unet=unet, image_encoder=encoder, projection=projection)


class StraightScheduler(DDIMScheduler):  # type: ignore[misc]
    """Noise comes in on a straight line, and the network says the line's direction.

    One step only, from pure noise. Source: Lipman et al., "Flow Matching for Generative Modeling",
    2023.
    """

    def add_noise(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Go so far along the line."""
        share = ((timesteps + 1) / self.config.num_train_timesteps)[:, None, None, None]
        return (1 - share) * original + share * noise

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The line's direction."""
        return noise - sample

    def step(
        self, direction: Tensor, timestep: int, sample: Tensor, *_: object, **__: object
    ) -> DDIMSchedulerOutput:
        """Go back all the way."""
        return DDIMSchedulerOutput(prev_sample=sample - direction)


def straight(parts: Components) -> Components:
    """Flow matching."""
    return replace(parts, scheduler=StraightScheduler.from_config(parts.scheduler.config))


CHOICES = {
    "base": Choice("the recipe"),
    "another seed": Choice("the recipe, another seed", phases=({"seed": 1},)),
    "height untold": Choice(
        "not told from how high the photo was taken", phases=({"untold": 1.0},)
    ),
    "no sweep": Choice("without the sweep", without_sweep),
    "rays": Choice("Plücker rays in place of the sweep", told_rays),
    "token alone": Choice(
        "the posed token in the cross-attention alone",
        _unet(addition_embed_type=None),
    ),
    "attention at 16": Choice("attention at 16×16 too", _unet(**ATTENTION)),
    "wider below": Choice("384 channels at 4×4", _unet(block_out_channels=(64, 128, 384))),
    "larger": Choice(
        "twice the denoiser: two layers a block, attention at 16×16, two in each from 8×8 down",
        _unet(**LARGER),
    ),
    "deeper encoder": Choice("8 layers in the image encoder, not 4", deeper_encoder),
    "no pure noise": Choice("no rows at pure noise beyond the draw's", phases=({"last": 0.0},)),
    "pure noise first": Choice(
        "the first half at pure noise alone (a regression), then the recipe",
        phases=({"last": 1.0, "cooldown": 0.0}, {}),
    ),
    "any targets": Choice("targets from anywhere", phases=({"near": 0.0, "level": 0.0},)),
    "one target": Choice("24 photos with one target", phases=({"photos": 24, "targets": 1},)),
    "pictures": Choice(
        "the second half also compared as decoded pictures",
        phases=({"cooldown": 0.0}, {"pictures": 1}),
    ),
    "augment": Choice("two of five photos look as people's do", phases=({"augment": 0.4},)),
    "ready features": Choice("EfficientNet-lite0 in the image encoder's place", ready_features),
    "patches": Choice(
        "attention to the photo's 64 patches beside the posed token", attending_patches
    ),
    "flow matching": Choice("flow matching", straight),
    "meshes alone": Choice("meshes alone", shares={"meshes": 0.6, "mirrored": 0.4}),
    "made-up alone": Choice("made-up objects alone", shares={"procedural": 1.0}),
    "muon": Choice(
        "Muon in AdamW's place, at three times the rate",
        phases=({"muon": True, "learning_rate": 1.8e-3},),
    ),
    "half the rate": Choice("learning rate 3e-4", phases=({"learning_rate": 3e-4},)),
    "twice the rate": Choice("learning rate 1.2e-3", phases=({"learning_rate": 1.2e-3},)),
}


def run(name: str, steps: int) -> None:
    """Train one choice and ask it."""
    if name not in CHOICES:
        raise SystemExit(f"no choice {name!r}: one of {', '.join(CHOICES)}")
    torch.set_num_threads(1)
    choice, folder = CHOICES[name], OUT / name.replace(" ", "-")
    configs = [
        replace(BASE, steps=steps // len(choice.phases), **changes) for changes in choice.phases
    ]
    torch.manual_seed(configs[0].seed)
    parts = choice.parts(new_parts(AutoencoderTiny.from_pretrained(RUN / "vae-final")))
    shares = [Share(FeatureViews.open(RUN, kind), part) for kind, part in choice.shares.items()]
    scale: float = parts.vae.config.scaling_factor
    started = time.process_time()
    for number, config in enumerate(configs):
        student = Student(parts, config)
        train(student, scale, shares, folder / f"phase-{number}")
    told = {"about": choice.about, "steps": steps, "minutes": (time.process_time() - started) / 60}
    told |= {f"{key}, last weights": value for key, value in asked(parts).items()}
    take_average(student, load_checkpoint(checkpoints(folder / f"phase-{number}")[-1]))
    write_text(json.dumps(told | asked(parts), indent=2), folder / "figures.json")


def asked(parts: Components) -> dict[str, float]:
    """One step's views of validation meshes; and what the answer from pure noise is off."""
    data = FeatureViews.open(RUN, "validation")
    pipe = Zero123Pipeline.of_parts(parts)
    pipe.set_progress_bar_config(disable=True)
    figures, _ = look(pipe, questions(data, len(data.views), 0))
    told, turned, _ = off(parts, data)
    return {
        "PSNR": figures.psnr,
        "SSIM": figures.ssim,
        "found": figures.found,
        "off": told,
        "off, mirrored": turned,
    }


def off(parts: Components, data: FeatureViews) -> tuple[float, float, float]:
    """Ask for 1,280 views from pure noise, of all objects alike.

    Returns:
        Mean squared error of the answers, that for mirrored azimuths, and the mean square of what
        was asked for.
    """
    noise = replace(BASE, near=0.0, level=1.0, last=1.0, drop_share=0.0, targets=4, seed=0)
    student, scale = Student(parts, noise), parts.vae.config.scaling_factor
    alike, figures = replace(data, views=replace(data.views, weights=None)), []
    for number in range(40):
        batch = batch_of([Share(alike)], student, scale, (0, 0, number), range(8))
        other_way = torch.ones_like(batch.pose)
        other_way[:, 1] = -1
        mirrored = replace(batch, pose=batch.pose * other_way)
        with torch.no_grad():
            losses = float(student(batch)), float(student(mirrored))
        figures.append((*losses, float(batch.targets.square().mean())))
    told, turned, size = np.mean(figures, axis=0).tolist()
    return told, turned, size


def seen(model: str) -> None:
    """Print how far off a model is on what it was trained on, beside the validation meshes."""
    torch.set_num_threads(1)
    parts = open_model(model)
    print("| set | off | off, mirrored | of what was asked for, missed |\n" + "| --- " * 4 + "|")
    for name in ("validation", *SHARES):
        told, turned, size = off(parts, FeatureViews.open(RUN, name))
        print(f"| {name} | {told:.4f} | {turned:.4f} | {told / size:.1%} |", flush=True)


TURNS, CLIMBS = (0, 15, 45, 90, 181), (0, 5, 20, 181)
"""Degrees between which ``where`` counts."""
FLAT = 3
"""So many first numbers of a latent are the patch's mean colour, see ``PatchEncoder.fit``."""


@torch.no_grad()
def where(model: str, batches: int) -> None:
    """Print what a model misses of the validation meshes, by how far the camera goes."""
    torch.set_num_threads(1)
    parts, data = open_model(model), FeatureViews.open(RUN, "validation")
    alike = replace(data, views=replace(data.views, weights=None))
    asks = replace(BASE, near=0.5, level=0.4, last=1.0, drop_share=0.0, targets=4, seed=0)
    student, scale = Student(parts, asks), parts.vae.config.scaling_factor
    missed, size, moves = [], [], []
    for number in range(batches):
        batch = batch_of([Share(alike)], student, scale, (0, 0, number), range(8))
        embedding = embed_photos(parts.image_encoder, batch.photos).repeat_interleave(4, 0)
        photos = PhotoFeatures(embedding, batch.photo_latents.repeat_interleave(4, 0))
        answer = answer_views(
            parts.unet,
            parts.projection,
            parts.scheduler,
            batch.targets,
            photos,
            batch.pose,
            batch.draws,
        )
        missed.append((answer.latents - batch.targets).square().sum((2, 3)))
        size.append(batch.targets.square().sum((2, 3)))
        turn = torch.atan2(batch.pose[:, 1], batch.pose[:, 2])
        moves.append(torch.stack([turn, batch.pose[:, 0]], 1).rad2deg().abs())
    off, of, (turns, climbs) = torch.cat(missed), torch.cat(size), torch.cat(moves).T
    print("| turn | climb | views | mean colours | what is finer |\n" + "| --- " * 5 + "|")
    for (left, right), (low, high) in itertools.product(pairwise(TURNS), pairwise(CLIMBS)):
        here = (turns >= left) & (turns < right) & (climbs >= low) & (climbs < high)
        shares = [
            f"{float(off[here][:, part].sum() / of[here][:, part].sum()):.0%}"
            for part in (slice(FLAT), slice(FLAT, None))
        ]
        ways = f"{left}–{right}° | {low}–{high}° | {int(here.sum())}"
        print(f"| {ways} | " + " | ".join(shares) + " |")


def resolution(meshes: Path, objects: int, steps: int, precision: Precision) -> None:
    """Train at 128 and at 256 pixels on the same views of some meshes; print figures at 256.

    Four times the pixels take four times as long: so at 128 also with four times the steps.
    """
    torch.set_num_threads(1)
    files = sorted(meshes.rglob("*.glb"))
    kept = [str(file) for file in files if not is_held(file)]
    some = np.random.default_rng(0).permutation(kept)[:objects].tolist()
    held = [str(file) for file in files if is_held(file)]
    encoder = PatchEncoder.read(open_model("mini").vae)
    with painters(1) as pool:
        for size in (IMAGE_SIZE, 2 * IMAGE_SIZE):
            for kind, sources in (("meshes", some), ("validation", held)):
                make_views(pool, RUN, f"{kind}-{size}", sources, VIEWS[kind], size=size)
                write_latents(encoder, f"{kind}-{size}")
    models = {}
    for size, times in ((IMAGE_SIZE, 1), (2 * IMAGE_SIZE, 1), (IMAGE_SIZE, 4)):
        name = f"{size} px, {times * steps} steps"
        config = replace(BASE, steps=times * steps, precision=precision)
        torch.manual_seed(config.seed)
        parts = new_parts(open_model("mini").vae)
        parts = replace(parts, unet=mini_unet(sample_size=size // 8))
        student, started = Student(parts, config), time.process_time()
        shares = [Share(FeatureViews.open(RUN, f"meshes-{size}"))]
        train(student, parts.vae.config.scaling_factor, shares, OUT / name)
        take_average(student, load_checkpoint(checkpoints(OUT / name)[-1]))
        minutes = (time.process_time() - started) / 60
        models[f"{name}, {minutes:.0f} CPU-min"] = parts
    compare(models, ViewSet.open(RUN, f"validation-{2 * IMAGE_SIZE}"), len(held))


def table() -> None:
    """Print what has run."""
    print(
        "| choice | PSNR, dB | SSIM | found | off | off, mirrored | CPU-min |\n"
        + "| --- " * 7
        + "|"
    )
    for name in CHOICES:
        file = OUT / name.replace(" ", "-") / "figures.json"
        if file.exists():
            told = json.loads(file.read_text())
            cells = [f"{told['PSNR']:.2f}", f"{told['SSIM']:.3f}", f"{told['found']:.0%}"]
            cells += [f"{told[key]:.4f}" for key in ("off", "off, mirrored")]
            print("| " + " | ".join([told["about"], *cells, f"{told['minutes']:.0f}"]) + " |")


if __name__ == "__main__":
    run_stage(
        __doc__,
        stage(run, name=str, steps=600),
        stage(table),
        stage(seen, model="mini"),
        stage(where, model="mini", batches=160),
        stage(resolution, meshes=Path, objects=600, steps=300, precision="bf16"),
    )

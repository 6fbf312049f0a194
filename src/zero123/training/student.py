"""What is trained, together, and what one row of training holds."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from zero123.models import PhotoFeatures, clip_pixels, encode_latents
from zero123.training.config import TrainConfig
from zero123.training.doubling import double_by_repeating
from zero123.training.muon import is_hidden
from zero123.training.objective import Draws, answer_views
from zero123.training.pictures import PictureLoss
from zero123.weights import Components, add_lora


@dataclass(frozen=True)
class Batch:
    """Some photos and the wanted views of each; a photo's targets are rows that follow another."""

    targets: Float[Tensor, "rows c h w"]
    """Latents, scaled."""
    pictures: UInt8[Tensor, "rows 3 H W"] | None
    """Of the targets; None where answers are not compared as pictures."""
    pose: Float[Tensor, "rows numbers"]
    photo_latents: Float[Tensor, "photos c h w"] | None
    """Modes, not scaled; None where they are not known beforehand."""
    photos: Float[Tensor, "photos 3 H W"] | None
    """In [0, 1]; None where all is known of them."""
    embeddings: Float[Tensor, "photos d"] | None
    """None where they are not known beforehand."""
    draws: Draws

    @classmethod
    def joined(cls, parts: "list[Batch]") -> "Batch":
        """Put batches one after the other."""

        def all_of(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else torch.cat(values)

        names = [f.name for f in fields(cls) if f.name != "draws"]
        draws = Draws.joined([part.draws for part in parts])
        return cls(**{name: all_of(name) for name in names}, draws=draws)

    def to(self, device: torch.device) -> "Batch":
        """Move to a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {n: v if v is None else v.to(device) for n, v in values.items()}
        return Batch(**moved)


class _OneToken:
    """Attention to a single token: whatever the queries, all of it."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "b n c"],
        encoder_hidden_states: Float[Tensor, "b 1 d"],
        attention_mask: None = None,
    ) -> Float[Tensor, "b n c"]:
        value = attn.to_v(encoder_hidden_states)
        for layer in attn.to_out:
            value = layer(value)
        answer: Tensor = value.expand(-1, hidden_states.shape[1], -1)
        return answer


def _blocks(unet: UNet2DConditionModel) -> list[BasicTransformerBlock]:
    return [m for m in unet.modules() if isinstance(m, BasicTransformerBlock)]


class Student(nn.Module):
    """Denoiser, pose projection and image encoder; its forward pass is the loss of a batch.

    Where answers are compared as pictures, the decoder too. Queries and keys of the cross-attention
    do not learn: a softmax over the single token is 1, so nothing tells them how.
    """

    def __init__(self, parts: Components, config: TrainConfig) -> None:
        super().__init__()
        if not isinstance(parts.scheduler, DDIMScheduler):
            raise ValueError(
                f"training needs a DDIM scheduler, got {type(parts.scheduler).__name__}"
            )
        self.unet = parts.unet.to(memory_format=torch.channels_last)
        self.image_encoder = parts.image_encoder
        self.projection = parts.projection
        self.scheduler = parts.scheduler
        self.pose_encoding = parts.settings.pose_encoding
        self.config = config
        self.unet.requires_grad_(config.lora_rank == 0)
        self.image_encoder.requires_grad_(config.trains_image_encoder)
        self.projection.requires_grad_(True)
        for block in _blocks(self.unet):
            for idle in (block.norm2, block.attn2.to_q, block.attn2.to_k):
                idle.requires_grad_(False)
        if config.pictures and parts.scheduler.config.prediction_type != "v_prediction":
            raise ValueError(
                "comparing pictures takes a model that predicts velocity: set pictures to 0"
            )
        self.picture_loss = (
            PictureLoss(parts.vae, config.st_lpips, config.compiled) if config.pictures else None
        )
        self.vae = parts.vae.requires_grad_(False) if config.augment else None
        if self.picture_loss is not None:
            self.picture_loss.decoder.requires_grad_(config.lora_rank == 0)
        if config.lora_rank:
            add_lora(self.unet, config.lora_rank)
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if config.compiled:
            double_by_repeating(self.unet)
            self.unet.compile()
            self.image_encoder.compile()

    def attend_plainly(self) -> None:
        """Attention as products and a softmax: what is fused takes longer on the way back on CPUs.

        In bf16, a fifth of a step of the small model.
        """
        self.unet.set_attn_processor(AttnProcessor())
        for block in _blocks(self.unet):
            block.attn2.set_processor(_OneToken())
        self.image_encoder.set_attn_implementation("eager")

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def averaged(self) -> dict[str, nn.Parameter]:
        """Parameters that the running average covers."""
        everything = self.config.averaged == "all"
        return {n: p for n, p in self.trained().items() if everything or n.startswith("unet.")}

    def hidden(self) -> list[nn.Parameter]:
        """What Muon is to take: filters and matrices that neither read nor give pictures."""
        return [
            p
            for name, p in self.trained().items()
            if self.config.muon
            and is_hidden(p)
            and not any(part in name for part in ("conv_in", "embeddings", "projection."))
        ]

    def groups(self) -> list[dict[str, object]]:
        """All other parameters with their learning rates, as AdamW takes them."""
        projection = list(self.projection.parameters())
        ours = {id(p) for p in (*projection, *self.hidden())}
        others = [p for p in self.trained().values() if id(p) not in ours]
        return [
            {"params": others, "lr": self.config.learning_rate},
            {"params": projection, "lr": self.config.projection_rate},
        ]

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Loss of a batch."""
        photos = self._seen(batch)
        each = len(batch.targets) // len(photos.latent)
        rows = PhotoFeatures(
            photos.embedding.repeat_interleave(each, 0), photos.latent.repeat_interleave(each, 0)
        )
        answer = answer_views(
            self.unet,
            self.projection,
            self.scheduler,
            batch.targets,
            rows,
            batch.pose,
            batch.draws,
            self.config.min_snr,
        )
        if self.picture_loss is None:
            return answer.loss
        assert batch.pictures is not None
        assert answer.latents is not None
        told = batch.draws.timestep * batch.draws.latent * batch.draws.token
        noisiest = told.view(-1, each).topk(min(self.config.pictures, each)).indices
        first = torch.arange(0, len(told), each, device=told.device)[:, None]
        judged = (first + noisiest).flatten()
        seen: Tensor = self.picture_loss(
            answer.latents[judged], batch.pictures[judged].float() / 255
        )
        return answer.loss + seen

    def _seen(self, batch: Batch) -> PhotoFeatures:
        """What is known of a batch's photos, or what the networks say of them."""
        embeddings, latents = batch.embeddings, batch.photo_latents
        if embeddings is None:
            assert batch.photos is not None
            clip = clip_pixels(batch.photos, self.image_encoder.config.image_size)
            embeddings = self.image_encoder(clip).image_embeds
        if latents is None:
            assert batch.photos is not None
            assert self.vae is not None
            with torch.autocast(batch.photos.device.type, enabled=False):  # as beforehand
                latents = encode_latents(self.vae, batch.photos)
        return PhotoFeatures(embeddings, latents)

"""The two conditioning streams: the photo's CLIP embedding joined with the pose, and its latent."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from zero123.models.sweeping import sweep

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Condition:
    """What the denoiser is told, one row a view."""

    token: Float[Tensor, "b 1 d"]
    """The posed CLIP embedding: the whole cross-attention context."""
    latent: Float[Tensor, "b c h w"]
    """The photo's latent, joined to the noisy one channel by channel; not scaled. Behind it, where
    the model reads one, its sweep."""

    def __getitem__(self, rows: slice) -> "Condition":
        return Condition(self.token[rows], self.latent[rows])

    @property
    def unconditional(self) -> "Condition":
        """What classifier-free guidance steers away from: both streams zero."""
        return Condition(torch.zeros_like(self.token), torch.zeros_like(self.latent))


class PoseProjection(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Join the CLIP embedding with four or five pose numbers: one linear layer, first the identity.

    Known as ``cc_projection`` in the original and ``clip_camera_projection`` in some ports.

    Args:
        embed_dim: numbers of the embedding.
        context_dim: numbers of the token.
        pose_dim: numbers of the pose.
        sweeps: whether the model also reads :func:`zero123.models.sweep` of the photo's
            latent; no published one does.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        embed_dim: int = 768,
        context_dim: int = 768,
        pose_dim: int = 4,
        sweeps: bool = False,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(embed_dim + pose_dim, context_dim)
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(
        self, embedding: Float[Tensor, "b d"], pose: Float[Tensor, "b numbers"]
    ) -> Float[Tensor, "b 1 context"]:
        """Pose an embedding; kept in float32, for bf16 resolves an azimuth to 0.4 degrees."""
        joined = torch.cat([embedding.float(), pose.float()], dim=-1)
        posed: Tensor = self.projection(joined)[:, None]
        return posed


@dataclass(frozen=True)
class PhotoFeatures:
    """All that the networks need of a photo, computed once, whatever the number of views."""

    embedding: Float[Tensor, "b d"]
    """CLIP image embedding, not normalised."""
    latent: Float[Tensor, "b c h w"]
    """Mode of the autoencoder's latent, not scaled."""

    def seen_from(
        self, pose: Float[Tensor, "b numbers"], photo: list[int], projection: PoseProjection
    ) -> Condition:
        """Condition a view a row: of photo number ``photo[row]``, after the move ``pose[row]``."""
        pose, latent = pose.to(self.embedding.device), self.latent[photo]
        if projection.config.sweeps:
            latent = torch.cat([latent, sweep(latent, pose)], dim=1)
        return Condition(projection(self.embedding[photo], pose), latent)


@torch.no_grad()
def embed_photos(
    image_encoder: CLIPVisionModelWithProjection, photos: Float[Tensor, "b 3 H W"]
) -> Float[Tensor, "b d"]:
    """Embed framed photos in [0, 1]; not normalised."""
    pixels = clip_pixels(photos, image_encoder.config.image_size)
    embedding: Tensor = image_encoder(pixels.to(image_encoder.dtype)).image_embeds
    return embedding


def clip_pixels(photos: Float[Tensor, "b 3 H W"], size: int) -> Float[Tensor, "b 3 size size"]:
    """Prepare photos in [0, 1] for the CLIP tower exactly as the original does.

    Bicubic with aligned corners and neither antialiasing nor a clamp of the overshoot; Hugging
    Face's image processor antialiases and is 2.7 % off, which trained weights notice.

    Source: ``FrozenCLIPImageEmbedder.preprocess`` of the original (through kornia).
    """
    resized = F.interpolate(
        photos.float(), size=(size, size), mode="bicubic", align_corners=True, antialias=False
    )
    mean = torch.tensor(CLIP_MEAN, device=photos.device)[:, None, None]
    std = torch.tensor(CLIP_STD, device=photos.device)[:, None, None]
    return (resized - mean) / std

"""What the frozen networks say about every view, computed once and kept beside the pictures."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Float16, Float32, UInt8
from torch import Tensor

from zero123.data.views import ViewSet
from zero123.models import Autoencoder, embed_photos, encode_latents
from zero123.weights import Components

_AT_ONCE = 16


@dataclass(frozen=True)
class FeatureViews:
    """Views of objects, with their latents and embeddings. All arrays may be memory maps."""

    views: ViewSet
    latents: Float16[np.ndarray, "objects views c h w"]
    """Mode of each latent, not scaled."""
    log_variance: Float16[np.ndarray, "objects views c h w"] | None = None
    """Of each latent; None: the autoencoder is deterministic."""
    embeddings: Float32[np.ndarray, "objects views d"] | None = None
    """CLIP embeddings; None: photos are embedded in every step."""

    @classmethod
    def open(cls, folder: Path, name: str) -> "FeatureViews":
        """Map a stored set with its features into memory."""

        def stored(kind: str) -> np.ndarray | None:
            path = folder / f"{name}.{kind}.npy"
            return np.load(path, mmap_mode="r") if path.exists() else None

        latents = stored("latents")
        if latents is None:
            raise FileNotFoundError(
                f"{folder / name}.latents.npy is missing: encode the views first"
            )
        views = ViewSet.open(folder, name)
        return cls(views, latents, stored("log_variance"), stored("embeddings"))

    @property
    def num_views(self) -> int:
        """Views of each object."""
        return len(self.views.orbits[0])

    def first_views(self, count: int) -> "FeatureViews":
        """The same objects with their first views only."""
        first = slice(0, count)
        views = replace(
            self.views, images=self.views.images[:, first], orbits=self.views.orbits[:, first]
        )
        rest = {
            name: None if array is None else array[:, first]
            for name, array in (
                ("log_variance", self.log_variance),
                ("embeddings", self.embeddings),
            )
        }
        return FeatureViews(views, self.latents[:, first], **rest)

    def pixels(self, item: np.ndarray, view: np.ndarray) -> UInt8[Tensor, "b 3 H W"]:
        """Pictures as they are stored."""
        return torch.from_numpy(np.array(self.views.images[item, view])).permute(0, 3, 1, 2)

    def latents_of(self, item: np.ndarray, view: np.ndarray) -> Float[Tensor, "b c h w"]:
        """Modes, not scaled."""
        return torch.from_numpy(np.array(self.latents[item, view])).float()

    def embeddings_of(self, item: np.ndarray, view: np.ndarray) -> Float[Tensor, "b d"]:
        """CLIP embeddings, not normalised.

        Raises:
            ValueError: if they were not computed.
        """
        if self.embeddings is None:
            raise ValueError("a frozen image encoder's embeddings were not written: encode again")
        return torch.from_numpy(np.array(self.embeddings[item, view]))

    def sampled_latents_of(
        self, item: np.ndarray, view: np.ndarray, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Samples as the autoencoder would draw them, not scaled; modes if it is deterministic."""
        mode = self.latents_of(item, view)
        if self.log_variance is None:
            return mode
        log_variance = torch.from_numpy(np.array(self.log_variance[item, view])).float()
        return mode + (log_variance / 2).exp() * torch.randn(mode.shape, generator=generator)


def write_features(
    views: ViewSet, folder: Path, name: str, parts: Components, with_embeddings: bool
) -> FeatureViews:
    """Encode every view once and keep what comes out as ``NAME.*.npy`` beside the pictures.

    Args:
        views: the stored set ``NAME`` of ``folder``.
        folder: where the set lies.
        name: of the set.
        parts: its autoencoder and image encoder are asked, on the device where they are.
        with_embeddings: False if photos are embedded in every step, as where the image encoder is
            trained.
    """
    made: dict[str, list[np.ndarray]] = {"latents": [], "log_variance": [], "embeddings": []}
    flat = views.images.reshape(-1, *views.images.shape[2:])
    for first in range(0, len(flat), _AT_ONCE):
        pixels = torch.from_numpy(np.array(flat[first : first + _AT_ONCE]))
        pictures = pixels.permute(0, 3, 1, 2).float().to(parts.vae.device) / 255
        for kind, values in _encoded(parts.vae, pictures).items():
            made[kind].append(values.float().cpu().numpy().astype(np.float16))
        if with_embeddings:
            made["embeddings"].append(
                embed_photos(parts.image_encoder, pictures).float().cpu().numpy()
            )
    for kind, chunks in made.items():
        if chunks:
            rows = np.concatenate(chunks)
            shaped = rows.reshape(*views.images.shape[:2], *rows.shape[1:])
            partial = folder / f"{name}.{kind}.partial.npy"
            np.save(partial, shaped)
            partial.rename(folder / f"{name}.{kind}.npy")
    return FeatureViews.open(folder, name)


@torch.no_grad()
def _encoded(vae: Autoencoder, pictures: Float[Tensor, "b 3 H W"]) -> dict[str, Tensor]:
    if not isinstance(vae, AutoencoderKL):
        return {"latents": encode_latents(vae, pictures)}
    distribution = vae.encode((2 * pictures - 1).to(vae.dtype)).latent_dist
    return {"latents": distribution.mode(), "log_variance": distribution.logvar}

"""Score Jacobian Chaining: a field whose every render the model takes for a view of the photo."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from zero123.geometry import Camera, Orbit
from zero123.images import FramedPhoto
from zero123.reconstruct.carving import silhouette_shares
from zero123.reconstruct.descent import Bench, Losses
from zero123.reconstruct.field import Medium, VoxelField
from zero123.reconstruct.losses import depth_smoothness, input_view, near_view
from zero123.reconstruct.score import paas_gradient
from zero123.reconstruct.views import photo_view
from zero123.reconstruct.volume import Rays, Rendered, render_rays

_HIGHEST = 2.2
"""No camera is higher, scene units. Source: ``train_eye_with_prompts`` of the original."""


@dataclass(frozen=True)
class SjcSettings:
    """How a field is bent by scores. Unless said otherwise, values are the original's."""

    medium: Medium = "latent"
    """latent: the field shows latents, a render has the size of the model's; rgb: colours."""
    size: int = 32
    """Side of the renders, pixels; for "latent" that of the model's latents counts."""
    resolution: int = 100
    half: float = 1.0
    """Half the side of the field's cube, scene units."""
    density_scale: float = 1.0
    steps_per_voxel: float = 2.0
    start: Literal["noise", "silhouette"] = "noise"
    """noise: even density and random features; silhouette: a ball cut to the photo's outline."""
    steps: int = 10_000
    optimiser: Literal["adamax", "adam"] = "adamax"
    rate: float = 0.05
    cooldown: float = 1.0
    """Learning rates fall to this share."""
    guidance: tuple[float, float] = (100.0, 100.0)
    """At the start and at the end."""
    noisiest: tuple[int, int] = (969, 969)
    """Noisiest timestep that is drawn, at the start and at the end."""
    cleanest: int = 10
    photo: float = 1e4
    """Weight of the photo's own view, every step."""
    mask: float = 0.0
    """Weight of the opacity in the photo's own view."""
    depth: float = 1e4
    """Weight of smooth depth on random views, from ``depth_from`` on."""
    depth_from: float = 0.5
    """Share of the steps."""
    photo_depth: float = 0.1
    """The same on the photo's own view, as a share of it, always."""
    near: float = 1e4
    """Weight of the likeness of two near views."""
    near_step: float = 0.05
    """How far apart they are, scene units."""
    radii: tuple[float, float] = (1.8, 2.2)
    """Of random cameras."""
    lowest: float = -0.5
    """Height below which there are none, scene units."""
    photo_radius: float = 2.0
    """Distance at which the photo counts as taken, scene units."""


@runtime_checkable
class Looking(Protocol):
    """What the method needs of a model; `Scorer` is one."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of latents."""

    @property
    def image_size(self) -> int:
        """Side of the pictures that the model sees, pixels."""

    def sigma(self, timestep: int) -> float:
        """Noise over signal at a timestep."""

    def denoise(
        self, noisy: Float[Tensor, "1 c h w"], timestep: int, seat: Orbit, guidance: float
    ) -> Float[Tensor, "1 c h w"]:
        """From latents ``x + sigma * noise`` seen from a seat to ``x``."""

    def encode(self, picture: Float[Tensor, "3 S S"]) -> Float[Tensor, "1 c h w"]:
        """Scaled latents of a picture in [0, 1], without gradient."""

    def picture(self, latents: Float[Tensor, "1 c h w"]) -> Float[Tensor, "3 S S"]:
        """A picture in [0, 1] from scaled latents, without gradient."""

    def decode(self, latents: Float[Tensor, "1 c h w"]) -> Float[Tensor, "3 S S"]:
        """The same with gradient, without bounds."""


def sjc_field(
    photo: FramedPhoto, seat: Orbit, latent_channels: int, settings: SjcSettings, seed: int
) -> VoxelField:
    """The field that the method starts from."""
    latent = settings.medium == "latent"
    field = VoxelField(
        settings.resolution,
        settings.half,
        latent_channels if latent else 3,
        settings.medium,
        settings.density_scale,
    )
    if settings.start == "noise":
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            field.raw_features.normal_(generator=generator)
        return field
    points = field.centres()
    inside = silhouette_shares(
        photo_view(photo, photo.image.shape[-1], seat, 1.0), points.reshape(-1, 3)
    )[0].reshape(points.shape[:3])
    ball = (1 - points.norm(dim=-1) / 0.6).clamp(min=0)
    colors = torch.full_like(points, 0.5)
    field.start_from(settings.density_scale * 4 * ball * inside, colors)
    return field


def sjc_bench(field: VoxelField, settings: SjcSettings) -> Bench:
    """The optimiser of the method, for a field of this kind."""
    if settings.optimiser == "adamax":
        return Bench(field, torch.optim.Adamax(field.parameters(), lr=settings.rate))
    parameters = [field.raw_density, field.raw_features]
    return Bench(field, torch.optim.Adam(parameters, lr=settings.rate, fused=True))


class SjcLoss:
    """The loss of a step, whose gradient is the method's."""

    def __init__(
        self,
        field: VoxelField,
        photo: FramedPhoto,
        seat: Orbit,
        model: Looking,
        settings: SjcSettings,
    ) -> None:
        self._field, self._model, self._settings = field, model, settings
        self._device = field.raw_density.device
        self._size = model.latent_shape[1] if settings.medium == "latent" else settings.size
        self._seat = seat
        self._photo = photo.image.to(self._device)
        small = photo_view(photo, self._size, self._seat, 1.0)
        self._small, self._alpha = small.pictures[0].to(self._device), small.alphas[0].reshape(-1)
        self._alpha = self._alpha.to(self._device)
        white = torch.ones_like(self._photo)
        if settings.medium == "latent":
            (latents,) = model.encode(_sized(white, model.image_size))
            self._ground = rearrange(latents, "c h w -> (h w) c")
        else:
            self._ground = torch.ones(self._size**2, 3, device=self._device)

    def __call__(self, step: int, generator: torch.Generator) -> Losses:
        """Losses of the photo's own view, a random one and one beside it, by name."""
        settings = self._settings
        share = step / settings.steps
        losses = self._own_view(generator)

        seat = sample_seat(generator, settings.radii, settings.lowest)
        seen = self._render(seat, generator)
        made = seen.on(self._ground)
        timestep, guidance = self._drawn(share, generator)
        gradient = self._gradient(made.detach(), seat, timestep, guidance, generator)
        # the number means nothing; its gradient is the score
        losses["score"] = -(gradient * made).sum()

        beside = self._render(_beside(seat, settings.near_step, generator), generator)
        losses["near"] = settings.near * near_view(
            made, beside.on(self._ground), seen.depth, beside.depth
        )
        if share >= settings.depth_from:
            losses["depth"] = settings.depth * depth_smoothness(self._as_map(seen.depth))
        return losses

    def _own_view(self, generator: torch.Generator) -> dict[str, Tensor]:
        settings = self._settings
        seen = self._render(self._seat, generator)
        made = self._as_picture(seen.on(self._ground))
        if settings.medium == "latent":
            made = self._model.decode(made[None])
            photo = _sized(self._photo, made.shape[-1])
        else:
            photo = self._small
        smooth = depth_smoothness(self._as_map(seen.depth))
        losses = {
            "photo": settings.photo * input_view(made, photo),
            "photo depth": settings.photo_depth * settings.depth * smooth,
        }
        if settings.mask:
            losses["mask"] = settings.mask * (seen.opacity - self._alpha).square().mean()
        return losses

    def _drawn(self, share: float, generator: torch.Generator) -> tuple[int, float]:
        """Timestep and guidance of a step; both anneal."""
        settings = self._settings
        first, last = settings.noisiest
        noisiest = round(first + share * (last - first))
        span = noisiest - settings.cleanest + 1
        timestep = settings.cleanest + int(torch.randint(span, (), generator=generator))
        begin, end = settings.guidance
        return timestep, begin + share * (end - begin)

    def _gradient(
        self,
        made: Float[Tensor, "n c"],
        seat: Orbit,
        timestep: int,
        guidance: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "n c"]:
        """Score of a render: of its latents; or of its colours, through the autoencoder."""
        sigma = self._model.sigma(timestep)
        picture = self._as_picture(made)
        if self._settings.medium == "latent":
            latents = picture[None]
        else:
            latents = self._model.encode(_sized(picture, self._model.image_size))
        noise = torch.randn(latents.shape, generator=generator).to(latents)

        def denoise(noisy: Tensor) -> Tensor:
            clean = self._model.denoise(noisy, timestep, seat, guidance)
            assert clean.shape == noisy.shape
            return clean

        gradient = paas_gradient(denoise, latents, sigma, noise)
        if self._settings.medium == "rgb":
            target = _sized(self._model.picture(latents + sigma * gradient), self._size)
            gradient = ((target - picture) / max(sigma, 1.0))[None]
        return rearrange(gradient[0], "c h w -> (h w) c")

    def _render(self, seat: Orbit, generator: torch.Generator) -> Rendered:
        rays = Rays.of(Camera(seat.camera_from_world, self._size)).to(self._device)
        return render_rays(self._field, rays, generator, self._settings.steps_per_voxel)

    def _as_picture(self, rows: Float[Tensor, "n c"]) -> Float[Tensor, "c S S"]:
        return rearrange(rows, "(H W) c -> c H W", H=self._size)

    def _as_map(self, values: Float[Tensor, " n"]) -> Float[Tensor, "S S"]:
        return values.reshape(self._size, self._size)


def sample_seat(generator: torch.Generator, radii: tuple[float, float], lowest: float) -> Orbit:
    """Draw a random camera as the original does.

    A point of a cube, normalised, at a uniform radius; none below ``lowest``.
    """
    while True:
        direction = torch.rand(3, generator=generator, dtype=torch.float64) * 2 - 1
        share = float(torch.rand((), generator=generator))
        radius = radii[0] + share * (radii[1] - radii[0])
        position = direction / direction.norm() * radius
        if lowest < float(position[2]) < _HIGHEST:
            return Orbit.from_position(position)


def _beside(seat: Orbit, step: float, generator: torch.Generator) -> Orbit:
    way = torch.randn(3, generator=generator, dtype=torch.float64)
    return Orbit.from_position(seat.position + step * way / way.norm())


def _sized(picture: Float[Tensor, "3 S S"], size: int) -> Float[Tensor, "3 size size"]:
    if picture.shape[-1] == size:
        return picture
    shrinks = size < picture.shape[-1]
    return F.interpolate(picture[None], (size, size), mode="bilinear", antialias=shrinks)[0]

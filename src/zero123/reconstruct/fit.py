"""A field that looks like given views."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from einops import rearrange
from jaxtyping import Bool, Int64
from torch import Tensor

from zero123.geometry import Camera
from zero123.reconstruct.carving import visual_hull
from zero123.reconstruct.descent import Bench, Losses
from zero123.reconstruct.field import VoxelField
from zero123.reconstruct.losses import block_smoothness, robust, total_variation
from zero123.reconstruct.views import Views
from zero123.reconstruct.volume import Rays, render_rays

_SOLID = 0.9
"""Share of light that a voxel of the starting hull stops."""
_SEED = 1e-3
"""Share of the density scale outside of the starting hull."""
_SLABS = 8
"""Total variation is taken of one such part of the field in a step."""


@dataclass(frozen=True)
class FitSettings:
    """How a field is fitted to views."""

    size: int = 128
    """Side of the views that it is fitted to, pixels."""
    resolution: int = 96
    """Voxels along each axis."""
    steps: int = 200
    blocks: int = 1024
    """Blocks of 2×2 rays in a step."""
    rate: float = 0.1
    """Adam's, at the start; it falls to a tenth."""
    tolerance: float = 0.15
    """Share of the views, by trust, that may see ground where the starting hull is."""
    mask: float = 0.5
    """Weight of the opacity, beside 1 for colours."""
    depth: float = 0.1
    """Weight of the steps of depth within a block."""
    variation: float = 2e-3
    """Weight of total variation, of raw densities and of raw colours."""


def started_field(views: Views, settings: FitSettings) -> VoxelField:
    """The hull of the views' outlines, in their mean colours.

    Raises:
        ReconstructionError: if the outlines have nothing in common.
    """
    hull = visual_hull(views, settings.resolution, settings.tolerance)
    voxel = 2 * hull.half / settings.resolution
    field = VoxelField(settings.resolution, hull.half, density_scale=0.5 / voxel)
    solid = -torch.log(torch.tensor(1 - _SOLID)) / voxel
    # half-filled at its skin, so that the skin can move both ways
    soft = F.avg_pool3d(hull.inside[None, None].float(), 3, stride=1, padding=1)[0, 0]
    # never quite empty: what has no density at all has no gradient either
    density = (solid * soft).clamp(min=_SEED * field.density_scale)
    field.start_from(density, hull.colors)
    field.look_where_dense()
    return field


class ViewsLoss:
    """What it takes for a field to look like views: the loss of a step."""

    def __init__(self, field: VoxelField, views: Views, settings: FitSettings) -> None:
        self._field, self._settings = field, settings
        device = field.raw_density.device
        views = views.resized(settings.size)
        self._rays = Rays.seen_from(views.seats, views.size).to(device)
        self._colors = rearrange(views.pictures, "v c H W -> (v H W) c").to(device)
        self._alphas = views.alphas.reshape(-1).to(device)
        self._trust = views.trust.repeat_interleave(views.size**2).to(device)
        pixels = torch.arange(len(self._rays)).reshape(len(views), views.size, views.size)
        blocks = rearrange(pixels, "v (h y) (w x) -> (v h w) (y x)", y=2, x=2)
        # what never meets anything has no gradient
        alive = torch.cat(list(_shadows(field, views))).reshape(-1)
        self._blocks: Int64[Tensor, "b 4"] = blocks[alive[blocks].any(dim=1)]

    def __call__(self, step: int, generator: torch.Generator) -> Losses:
        """Losses of rays drawn from all views, by name."""
        settings, field = self._settings, self._field
        drawn = torch.randint(len(self._blocks), (settings.blocks,), generator=generator)
        rows = self._blocks[drawn].reshape(-1).to(self._alphas.device)
        seen = render_rays(field, self._rays[rows], generator)
        made, trust = seen.on(torch.ones_like(self._colors[rows])), self._trust[rows]
        opacity, alpha = seen.opacity[:, None], self._alphas[rows, None]
        thick = max(2, field.resolution // _SLABS)
        first = int(torch.randint(field.resolution - thick + 1, (), generator=generator))
        slab = slice(first, first + thick)  # all of it would take more time than all the rest
        variation = total_variation(field.raw_density[:, :, slab]) + total_variation(
            field.raw_features[:, :, slab]
        )
        return {
            "color": robust(made, self._colors[rows], trust),
            "mask": settings.mask * robust(opacity, alpha, trust),
            "depth": settings.depth
            * block_smoothness(seen.depth.reshape(-1, 4), seen.opacity.reshape(-1, 4)),
            "variation": settings.variation * variation,
        }


def fit_bench(field: VoxelField, settings: FitSettings) -> Bench:
    """An optimiser for a field of this kind."""
    parameters = [field.raw_density, field.raw_features]
    return Bench(field, torch.optim.Adam(parameters, lr=settings.rate, fused=True))


def _shadows(field: VoxelField, views: Views) -> Iterator[Bool[Tensor, "S S"]]:
    """Where on each view something of the field may be, a little more rather than less."""
    points = field.centres()[field.occupied].cpu().double()
    for seat in views.seats:
        camera = Camera(seat.camera_from_world, views.size)
        pixels, depth = camera.project(points)
        at = pixels.long().clamp(0, views.size - 1)
        shadow = torch.zeros(1, views.size, views.size)
        shadow[0, at[:, 1], at[:, 0]] = 1
        reach = 1 + int(camera.focal * field.voxel / float(depth.min()))
        yield F.max_pool2d(shadow, 2 * reach + 1, stride=1, padding=reach)[0] > 0

"""What fills the space around the origin: a grid of densities and colours."""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Bool, Float
from torch import Tensor, nn

Medium = Literal["rgb", "latent"]
"""What a field shows: colours in [0, 1], or latents of an autoencoder, which have no bounds."""

_DENSITY_SHIFT = -1.0
_EMPTY = 1e-2
"""Voxels that stop less light than this, and whose neighbours do, are not looked into."""


class VoxelField(nn.Module):
    """Densities and features at the centres of n × n × n voxels, linear between them.

    The cube is centred at the origin of the world, z up. A density is the share of light that is
    stopped per scene unit; it is ``density_scale * softplus(gain * raw - 1)``.

    Source: the voxel field of Score Jacobian Chaining, whose ``density_scale`` is 1.
    """

    raw_density: Float[Tensor, "1 1 n n n"]
    raw_features: Float[Tensor, "1 c n n n"]
    log_gain: Float[Tensor, ""]
    occupied: Bool[Tensor, "n n n"]
    """Where rays look; elsewhere the field counts as empty."""

    def __init__(
        self,
        resolution: int,
        half: float,
        channels: int = 3,
        medium: Medium = "rgb",
        density_scale: float = 1.0,
    ) -> None:
        """Make a field of zeros, all of it looked into.

        Args:
            resolution: voxels along each axis.
            half: half the side of the cube, scene units.
            channels: of the features.
            medium: whether the features are colours.
            density_scale: 1 / scene units.
        """
        super().__init__()
        cube = (resolution,) * 3
        self.half_side = half
        self.medium: Medium = medium
        self.density_scale = density_scale
        self.raw_density = nn.Parameter(torch.zeros(1, 1, *cube))
        self.raw_features = nn.Parameter(torch.zeros(1, channels, *cube))
        self.log_gain = nn.Parameter(torch.zeros(()))
        self.register_buffer("occupied", torch.ones(cube, dtype=torch.bool))

    @property
    def resolution(self) -> int:
        """Voxels along each axis."""
        return len(self.occupied)

    @property
    def voxel(self) -> float:
        """Side of a voxel, scene units."""
        return 2 * self.half_side / self.resolution

    @property
    def channels(self) -> int:
        """Of the features."""
        return self.raw_features.shape[1]

    def density(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """Density at places of the world, 1 / scene units."""
        return self._density_of(self._between(self.raw_density, points)[0])

    def features(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m c"]:
        """Colours in [0, 1], or latents, at places of the world."""
        raw = self._between(self.raw_features, points).T
        return torch.sigmoid(raw) if self.medium == "rgb" else raw

    def densities(self) -> Float[Tensor, "n n n"]:
        """Density of each voxel, 1 / scene units; 0 where rays do not look."""
        return self._density_of(self.raw_density[0, 0]) * self.occupied

    def centres(self) -> Float[Tensor, "n n n 3"]:
        """Where the voxels are in the world."""
        return voxel_centres(self.resolution, self.half_side).to(self.raw_density.device)

    @torch.no_grad()
    def start_from(
        self, density: Float[Tensor, "n n n"], colors: Float[Tensor, "n n n 3"] | None = None
    ) -> None:
        """Set all voxels, the gain being 1: densities (at least 1e-6 of the scale), and colours."""
        share = (density / self.density_scale).clamp(min=1e-6)
        self.raw_density[0, 0] = share + torch.log(-torch.expm1(-share)) - _DENSITY_SHIFT
        if colors is not None:
            self.raw_features[0] = torch.logit(colors, eps=1e-2).movedim(-1, 0)

    @torch.no_grad()
    def look_where_dense(self) -> None:
        """Skip what has become empty; a rim around the rest stays, so that it can grow."""
        stopped = 1 - torch.exp(-self.densities() * self.voxel)
        around = F.max_pool3d(stopped[None, None], 3, stride=1, padding=1)[0, 0]
        self.occupied &= around > _EMPTY

    def _density_of(self, raw: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.density_scale * F.softplus(self.log_gain.exp() * raw + _DENSITY_SHIFT)

    def _between(
        self, grid: Float[Tensor, "1 c n n n"], points: Float[Tensor, "m 3"]
    ) -> Float[Tensor, "c m"]:
        # grid_sample counts the last axis of the grid first
        at = (points / self.half_side).flip(-1)[None, None, None].to(grid.dtype)
        found = F.grid_sample(grid, at, padding_mode="border", align_corners=False)
        return found[0, :, 0, 0]


def voxel_centres(resolution: int, half: float) -> Float[Tensor, "n n n 3"]:
    """Centres of n × n × n voxels of a cube around the origin, float32."""
    steps = ((torch.arange(resolution) + 0.5) / resolution * 2 - 1) * half
    return torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1)

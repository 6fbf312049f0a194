"""What silhouettes leave of space."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Bool, Float
from torch import Tensor

from zero123.geometry import Camera
from zero123.reconstruct.errors import ReconstructionError
from zero123.reconstruct.field import voxel_centres
from zero123.reconstruct.views import Views

_REACH = 0.8
"""Half the side of the cube in which an object is looked for: what a framed photo can show."""
_MARGIN = 0.04
"""Room around the hull, scene units."""
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Hull:
    """A body that most silhouettes agree with."""

    inside: Bool[Tensor, "n n n"]
    colors: Float[Tensor, "n n n 3"]
    """Mean of what the views show at each voxel, whatever is in front of it."""
    half: float
    """Half the side of the cube, scene units."""


def visual_hull(views: Views, resolution: int, tolerance: float) -> Hull:
    """Keep what lies in the silhouettes of all views but a share, in a cube that just holds it.

    Args:
        views: silhouettes; a view counts by its trust.
        resolution: voxels along each axis of the result.
        tolerance: share of the views, by trust, that may see ground where the object is.

    Raises:
        ReconstructionError: if nothing is left.
    """
    least = 1 - tolerance - _ROUNDING
    coarse = voxel_centres(48, _REACH)[_shares(views, 48, _REACH) >= least]
    half = _REACH
    if len(coarse):  # else it is too thin for coarse voxels, or not there
        half = min(_REACH, float(coarse.abs().max()) + _REACH / 48 + _MARGIN)
    inside = _shares(views, resolution, half) >= least
    if not bool(inside.any()):
        raise ReconstructionError(
            "the views' outlines have no body in common: the model's views contradict each other, "
            "or the elevation is wrong: give --elevation"
        )
    return Hull(inside, _mean_colors(views, resolution, half), half)


def silhouette_shares(views: Views, points: Float[Tensor, "n 3"]) -> Float[Tensor, "v n"]:
    """What each view shows at each point: 1 the object, 0 ground."""
    return _looked_up(views, points, views.alphas[:, None])[:, 0]


def _shares(views: Views, resolution: int, half: float) -> Float[Tensor, "n n n"]:
    points = voxel_centres(resolution, half)
    seen = silhouette_shares(views, points.reshape(-1, 3)) > 0.5
    trust = views.trust / views.trust.sum()
    return (seen.float() * trust[:, None]).sum(dim=0).reshape(points.shape[:3])


def _mean_colors(views: Views, resolution: int, half: float) -> Float[Tensor, "n n n 3"]:
    points = voxel_centres(resolution, half)
    seen = _looked_up(
        views, points.reshape(-1, 3), torch.cat([views.pictures, views.alphas[:, None]], dim=1)
    )
    weight = (seen[:, 3:] * views.trust[:, None, None]).clamp(min=1e-6)
    mean = (seen[:, :3] * weight).sum(dim=0) / weight.sum(dim=0)
    return mean.T.reshape(points.shape)


def _looked_up(
    views: Views, points: Float[Tensor, "n 3"], pictures: Float[Tensor, "v c S S"]
) -> Float[Tensor, "v c n"]:
    found = []
    for seat, picture in zip(views.seats, pictures, strict=True):
        pixels, _ = Camera(seat.camera_from_world, views.size).project(points.double())
        at = (pixels / views.size * 2 - 1).float()[None, None]
        found.append(F.grid_sample(picture[None], at, align_corners=False)[0, :, 0])
    return torch.stack(found)

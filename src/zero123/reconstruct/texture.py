"""A surface unwrapped onto a picture, and painted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float, Float32, Int32, UInt8
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from zero123.data.compiled import compiled
from zero123.geometry import Camera
from zero123.images import to_u8
from zero123.reconstruct.field import VoxelField
from zero123.reconstruct.views import Views
from zero123.reconstruct.volume import BACKGROUND_DEPTH, Rays, render_rays

try:
    import xatlas
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "painting meshes needs xatlas: pip install 'zero123[mesh]'"
    ) from missing

Paint = Callable[
    [Float[Tensor, "n 3"], Float[Tensor, "n 3"]],
    tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]],
]
"""From places on a surface and its normals there to colours in [0, 1], and how much of each
is laid over what is there."""

_GAP = 2
"""Texels between charts."""
_GRAZING, _FACING = 0.2, 0.6
"""Cosines between which a picture's paint thickens: a grazing look smears."""
_BEHIND = 3.0
"""Voxels behind the first surface from which on a place is hidden."""


@dataclass(frozen=True)
class TexturedMesh:
    """A painted surface in the world, z up; corners that lie on a seam are there twice."""

    vertices: Float32[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    """Counter-clockwise seen from outside."""
    normals: Float32[np.ndarray, "V 3"]
    uv: Float32[np.ndarray, "V 2"]
    """(0, 0) is the top left of the texture."""
    texture: UInt8[np.ndarray, "S S 3"]
    """sRGB; the light of the photo is in it."""


def paint_surface(
    vertices: Float32[np.ndarray, "V 3"],
    faces: Int32[np.ndarray, "F 3"],
    paints: list[Paint],
    size: int,
) -> TexturedMesh:
    """Unwrap a closed surface onto a square texture, and lay paints over each other.

    Args:
        vertices: in the world.
        faces: counter-clockwise seen from outside.
        paints: the first covers all.
        size: side of the texture, texels.
    """
    normals = _vertex_normals(vertices, faces)
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices, faces.astype(np.uint32), normals)
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, _GAP, True
    atlas.generate(pack_options=packing)
    source, charted, uv = atlas[0]
    # a crowded atlas may come out larger than asked: its coordinates are shares in any case
    mesh = TexturedMesh(
        vertices[source],
        charted.astype(np.int32),
        normals[source],
        uv.astype(np.float32),
        np.zeros((size, size, 3), np.uint8),
    )
    face, shares = _texels(mesh.uv, mesh.faces, size)
    covered = face >= 0
    corners = mesh.faces[face[covered]]
    weights = shares[covered][:, :, None]
    places = torch.from_numpy((mesh.vertices[corners] * weights).sum(axis=1))
    facing = F.normalize(torch.from_numpy((mesh.normals[corners] * weights).sum(axis=1)), dim=1)
    colors = torch.zeros_like(places)
    for paint in paints:
        color, share = paint(places, facing)
        colors = torch.lerp(colors, color.cpu().float(), share.cpu().float()[:, None])
    mesh.texture[covered] = to_u8(colors).numpy()
    nearest = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    mesh.texture[:] = mesh.texture[tuple(nearest)]  # seams blend with what lies beside them
    return mesh


def field_paint(field: VoxelField) -> Paint:
    """The colours of a field."""

    @torch.no_grad()
    def paint(
        places: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        found = field.features(places.to(field.raw_features.device))
        return found, torch.ones(len(places))

    return paint


def views_paint(field: VoxelField, views: Views, full: bool = False) -> Paint:
    """What pictures show of the surface, as far as it faces them and nothing is in front.

    Args:
        field: says what is in front.
        views: by trust and by how straight they look, blended.
        full: cover all that any of them sees, instead of thinning out toward grazing looks.
    """

    @torch.no_grad()
    def paint(
        places: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        total, color = torch.zeros(len(places)), torch.zeros(len(places), 3)
        for index in range(len(views)):
            weight, seen = _seen(field, views, index, places, normals)
            total, color = total + weight, color + seen * weight[:, None]
        color = color / total.clamp(min=1e-6)[:, None]
        return color, (total > 1e-6).float() if full else total.clamp(max=1)

    return paint


def _seen(
    field: VoxelField,
    views: Views,
    index: int,
    places: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
    """How well a view shows each place, in [0, 1], and as what colour."""
    camera = Camera(views.seats[index].camera_from_world, views.size)
    rays = Rays.of(camera).to(field.raw_density.device)
    seen = render_rays(field, rays)
    first = (seen.depth - (1 - seen.opacity) * BACKGROUND_DEPTH) / seen.opacity.clamp(min=1e-3)
    channels = torch.cat(
        [
            views.pictures[index].reshape(3, -1),
            views.alphas[index].reshape(1, -1),
            torch.where(seen.opacity > 0.5, first, 0.0)[None].cpu(),
        ]
    ).reshape(1, 5, views.size, views.size)
    pixels, _ = camera.project(places.double())
    at = (pixels / views.size * 2 - 1).float()[None, None]
    found = F.grid_sample(channels, at, align_corners=False)[0, :, 0]
    look = camera.centre.float() - places
    distance = look.norm(dim=1)
    straight = (normals * look).sum(dim=1) / distance
    open_to = (distance < found[4] + _BEHIND * field.voxel).float()
    thickness = ((straight - _GRAZING) / (_FACING - _GRAZING)).clamp(0, 1)
    # within the outline, so that no ground is painted on
    inside = ((found[3] - 0.5) * 2).clamp(0, 1)
    trust = min(1.0, float(views.trust[index]))
    return trust * thickness.square() * open_to * inside, found[:3].T


def _vertex_normals(
    vertices: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"]
) -> Float32[np.ndarray, "V 3"]:
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], area)
    length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    unit: Float32[np.ndarray, "V 3"] = normals / length
    return unit


@compiled
def _texels(
    uv: Float32[np.ndarray, "V 2"], faces: Int32[np.ndarray, "F 3"], size: int
) -> tuple[Int32[np.ndarray, "S S"], Float32[np.ndarray, "S S 3"]]:
    """Which face lies on each texel, −1 for none, and the shares of its corners there.

    Texels whose middle is a little outside of a face belong to it if no other face claims them:
    blending between texels reaches there.
    """
    owner = np.full((size, size), -1, np.int32)
    shares = np.zeros((size, size, 3), np.float32)
    best = np.full((size, size), np.float32(-1.0))
    for f in range(len(faces)):
        a, b, c = uv[faces[f, 0]] * size, uv[faces[f, 1]] * size, uv[faces[f, 2]] * size
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0:
            continue
        left = max(int(min(a[0], b[0], c[0]) - 1), 0)
        right = min(int(max(a[0], b[0], c[0]) + 1), size - 1)
        top = max(int(min(a[1], b[1], c[1]) - 1), 0)
        bottom = min(int(max(a[1], b[1], c[1]) + 1), size - 1)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y = column + 0.5, row + 0.5
                at_a = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                at_b = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                at_c = 1 - at_a - at_b
                lowest = min(at_a, at_b, at_c)
                outside = max(0.0, -lowest) * np.sqrt(abs(area))  # texels, about
                if lowest > best[row, column] and outside < 0.75:
                    best[row, column] = lowest
                    owner[row, column] = f
                    shares[row, column, 0] = at_a
                    shares[row, column, 1] = at_b
                    shares[row, column, 2] = at_c
    return owner, shares

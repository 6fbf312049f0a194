"""The surface of a field: closed, in one piece, of a bounded number of faces."""

import numpy as np
import torch
from jaxtyping import Float32, Int32

from zero123.reconstruct.errors import ReconstructionError
from zero123.reconstruct.field import VoxelField

try:
    import fast_simplification
    import trimesh
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu
    from skimage.measure import marching_cubes
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "making meshes needs scikit-image, xatlas and more: pip install 'zero123[mesh]'"
    ) from missing

_FAINT = 0.02
"""A field whose densest voxel stops less light than this holds nothing."""
_SMOOTH = 0.5
"""Blur before the surface is taken, voxels: without it the voxels' steps show."""


def extract_surface(
    field: VoxelField, faces: int
) -> tuple[Float32[np.ndarray, "V 3"], Int32[np.ndarray, "F 3"]]:
    """Take the surface around what is dense; what hides inside or floats beside it is left out.

    The level lies between the two kinds of voxels that the field has, empty and solid (Otsu's
    threshold on the share of light that each stops).

    Args:
        field: of any density scale.
        faces: no more than about so many.

    Returns:
        Vertices in the world, z up, and faces, counter-clockwise seen from outside.

    Raises:
        ReconstructionError: if the field holds nothing.
    """
    with torch.no_grad():
        stopped = (1 - torch.exp(-field.densities() * field.voxel)).cpu().numpy()
    if stopped.max() < _FAINT:
        raise ReconstructionError(
            "there is no surface: nothing in the field is dense enough to be seen; is the photo "
            "white on white, or was the wrong part cut out?"
        )
    level = float(threshold_otsu(stopped))
    body = gaussian_filter(np.pad(np.clip(stopped / (2 * level), 0, 1), 2), _SMOOTH)
    if body.max() <= 0.5:
        raise ReconstructionError(
            "there is no surface: all that the field holds is thinner than a voxel; try another "
            "seed or --elevation"
        )
    corners, triangles, _, _ = marching_cubes(body, 0.5, gradient_direction="descent")
    vertices = (corners - 2 + 0.5) * field.voxel - field.half_side
    vertices, triangles = _largest(vertices, triangles)
    if len(triangles) > faces:
        vertices, triangles = fast_simplification.simplify(
            vertices.astype(np.float32), triangles.astype(np.int32), target_count=faces
        )
        vertices, triangles = _largest(vertices, triangles)
    return vertices.astype(np.float32), triangles.astype(np.int32)


def _largest(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the piece that encloses most, its faces turned outward."""
    shell = trimesh.Trimesh(vertices, triangles, process=False)
    piece = trimesh.graph.connected_component_labels(shell.face_adjacency, len(triangles))
    first, second, third = np.moveaxis(shell.triangles, 1, 0)
    volumes = np.bincount(piece, (first * np.cross(second, third)).sum(axis=1)) / 6
    largest = int(np.abs(volumes).argmax())
    kept = triangles[piece == largest]
    used, faces = np.unique(kept, return_inverse=True)
    faces = faces.reshape(-1, 3)
    return vertices[used], faces if volumes[largest] > 0 else faces[:, ::-1]

"""Cameras as other programs read them: nerfstudio's ``transforms.json``, COLMAP's text model."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from zero123.geometry.camera import Camera
from zero123.geometry.frames import opencv_from_opengl


def nerfstudio_transforms(cameras: Sequence[Camera], files: Sequence[str]) -> dict[str, object]:
    """Lay out cameras and the pictures they took, ready for ``json.dump``.

    Each ``transform_matrix`` is world_from_camera with OpenGL camera axes in our z-up world, which
    is what nerfstudio expects. One picture size and one focal length for all.

    Source: nerfstudio's data conventions, ``transforms.json``.
    """
    first = cameras[0]
    return {
        "camera_model": "OPENCV",
        "w": first.size,
        "h": first.size,
        "fl_x": first.focal,
        "fl_y": first.focal,
        "cx": first.size / 2,
        "cy": first.size / 2,
        "frames": [
            {
                "file_path": file,
                "transform_matrix": [
                    *camera.camera_from_world.inverse.matrix.tolist(),
                    [0.0, 0.0, 0.0, 1.0],
                ],
            }
            for camera, file in zip(cameras, files, strict=True)
        ],
    }


def colmap_model(cameras: Sequence[Camera], files: Sequence[str]) -> dict[str, str]:
    """Lay out cameras and the pictures they took as the three texts of a COLMAP model.

    Each line of ``images.txt`` holds camera_from_world with OpenCV camera axes, in our z-up world.
    One picture size and one focal length for all; no points, which a model of views does not have.

    Returns:
        Texts by file name, for one folder.

    Source: COLMAP's output format, text files.
    """
    size, focal = cameras[0].size, cameras[0].focal
    images = []
    for number, (camera, file) in enumerate(zip(cameras, files, strict=True), 1):
        seen = opencv_from_opengl(camera.camera_from_world)
        numbers = (*_quaternion(seen.rotation).tolist(), *seen.translation.tolist())
        # the second line of each picture is for its points
        images.append(f"{number} {' '.join(map(repr, numbers))} 1 {file}\n\n")
    return {
        "cameras.txt": f"1 SIMPLE_PINHOLE {size} {size} {focal!r} {size / 2} {size / 2}\n",
        "images.txt": "".join(images),
        "points3D.txt": "",
    }


def _quaternion(rotation: Float64[Tensor, "3 3"]) -> Float64[Tensor, "4"]:
    """Name a rotation by its unit quaternion (w, x, y, z).

    Source: Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix", 2000:
    no case is singular.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    symmetric = torch.tensor(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ],
        dtype=torch.float64,
    )
    eigenvectors: Tensor = torch.linalg.eigh(symmetric).eigenvectors
    return eigenvectors[:, -1]

"""Cameras as nerfstudio reads them: ``transforms.json``."""

from collections.abc import Sequence

from zero123.geometry.camera import Camera


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

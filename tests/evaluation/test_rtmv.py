import json
import math

import numpy as np
import OpenEXR
import pytest
import torch

from zero123.data import Lighting, procedural_mesh, render
from zero123.data.color import linear_from_srgb
from zero123.data.stored import DataError
from zero123.evaluation.folders import folder_trial
from zero123.evaluation.rtmv import SIZE, read_rtmv
from zero123.geometry import Orbit, Rigid, pose_token, y_up_from_z_up

SEATS = tuple(
    Orbit(math.radians(p), a, r) for p, a, r in ((70, 0.3, 1.8), (60, 2.0, 1.6), (80, -1.0, 2.0))
)
SCALE, MIDDLE = 3.0, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return render(procedural_mesh(3), SEATS, SIZE, Lighting())


def write_scene(folder, pictures, by_rows: bool = True, y_up: bool = True):
    """A scene in a world of another scale and place, as NViSII would have written it."""
    folder.mkdir(parents=True)
    for view, (seat, picture) in enumerate(zip(SEATS, pictures, strict=True)):
        camera = seat.camera_from_world
        world_from_camera = (y_up_from_z_up(camera) if y_up else camera).inverse
        moved = Rigid(world_from_camera.rotation, world_from_camera.translation * SCALE + MIDDLE)
        matrix = np.eye(4)
        matrix[:3] = moved.matrix.numpy()
        half = torch.full((3,), SCALE / 2, dtype=torch.float64)
        told = {
            "cam2world": (matrix.T if by_rows else matrix).tolist(),
            "scene_min_3d_box": (MIDDLE - half).tolist(),
            "scene_max_3d_box": (MIDDLE + half).tolist(),
        }
        (folder / f"{view:05d}.json").write_text(json.dumps({"camera_data": told}))
        linear = picture.astype(np.float32) / 255
        linear[..., :3] = linear_from_srgb(linear[..., :3])
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"RGBA": linear}).write(str(folder / f"{view:05d}.exr"))


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("y_up", [True, False])
def test_moves_between_views_are_those_of_the_scene(tmp_path, pictures, by_rows, y_up):
    write_scene(tmp_path / "scene", pictures, by_rows, y_up)
    read = [Orbit.from_camera(camera) for camera in read_rtmv(tmp_path / "scene").cameras]
    for one, true_one in zip(read, SEATS, strict=True):
        for other, true_other in zip(read, SEATS, strict=True):
            torch.testing.assert_close(pose_token(one, other), pose_token(true_one, true_other))


def test_pictures_come_back_in_srgb(tmp_path, pictures):
    write_scene(tmp_path / "scene", pictures)
    read = read_rtmv(tmp_path / "scene").pictures
    assert (read[..., 3] == pictures[..., 3]).all()
    seen = pictures[..., 3] == 255
    assert np.abs(read[seen].astype(int) - pictures[seen]).max() <= 1


def test_a_folder_of_scenes_is_a_trial_that_says_what_differs(tmp_path, pictures):
    write_scene(tmp_path / "set" / "one", pictures)
    trial = folder_trial(tmp_path / "set")
    assert trial.names == ("one",)
    assert "field of view" in trial.about[0]
    assert len(trial.open("one").seats) == 2


def test_a_damaged_view_is_named(tmp_path, pictures):
    write_scene(tmp_path / "scene", pictures)
    (tmp_path / "scene" / "00001.exr").write_bytes(b"not this")
    with pytest.raises(DataError, match="view 1: picture"):
        read_rtmv(tmp_path / "scene")
    (tmp_path / "scene" / "00002.json").write_text("{}")
    with pytest.raises(DataError, match="view 2: camera"):
        read_rtmv(tmp_path / "scene")

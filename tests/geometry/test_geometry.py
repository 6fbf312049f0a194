import math
from typing import Any, get_args

import numpy as np
import pycolmap  # COLMAP's own reader
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zero123.geometry import (
    FIELD_OF_VIEW,
    PORT_SIGNS,
    Camera,
    Orbit,
    PoseEncoding,
    Rigid,
    colmap_model,
    move_token,
    nerfstudio_transforms,
    opencv_from_opengl,
    opengl_from_opencv,
    pose_token,
    y_up_from_z_up,
    z_up_from_y_up,
)

angles = st.floats(-math.pi, math.pi)
orbits = st.builds(Orbit, st.floats(0.05, math.pi - 0.05), angles, st.floats(0.5, 4.0))
laws = settings(deadline=None, max_examples=50)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-9) -> bool:
    return bool((a - b).abs().max() < tolerance)


def test_pose_numbers_equal_the_originals(golden):
    data = np.load(golden / "get_T.npz")
    ours = [
        pose_token(
            Orbit.from_camera(Rigid.from_matrix(torch.from_numpy(cond))),
            Orbit.from_camera(Rigid.from_matrix(torch.from_numpy(target))),
        )
        for cond, target in zip(data["cond_RT"], data["target_RT"], strict=True)
    ]
    assert np.abs(torch.stack(ours).numpy() - data["T"]).max() <= 1e-6


def test_move_numbers_equal_the_originals(golden):
    data = np.load(golden / "clip_pose.npz")
    for (polar, azimuth, radius), expected in zip(data["pose_deg"], data["pose_T"], strict=True):
        ours = move_token(*(float(v) for v in (math.radians(polar), math.radians(azimuth), radius)))
        assert np.abs(ours.numpy() - expected).max() <= 1e-6


@laws
@given(orbits, orbits)
def test_the_inverse_undoes(a, b):
    b_from_a = b.camera_from_world @ a.camera_from_world.inverse
    assert close((b_from_a @ b_from_a.inverse).rotation, torch.eye(3, dtype=torch.float64))
    assert close((b_from_a.inverse @ b.camera_from_world).matrix, a.camera_from_world.matrix)


@laws
@given(orbits)
def test_a_seat_is_read_back_from_its_camera(orbit):
    again = Orbit.from_camera(orbit.camera_from_world)
    assert close(again.position, orbit.position)
    assert pose_token(again, orbit).numpy() == pytest.approx([0, 0, 1, 0], abs=1e-6)


@laws
@given(orbits)
def test_every_camera_looks_at_the_origin_without_roll(orbit):
    camera = Camera(orbit.camera_from_world, 256)
    pixel, depth = camera.project(torch.zeros(3, dtype=torch.float64))
    assert close(pixel, torch.full((2,), 128.0, dtype=torch.float64), 1e-6)
    assert float(depth) == pytest.approx(orbit.radius)
    above, _ = camera.project(torch.tensor([0.0, 0.0, 0.01], dtype=torch.float64))
    assert float(above[0]) == pytest.approx(128, abs=1e-6)
    assert float(above[1]) < 128  # up in the world is up in the picture


@laws
@given(orbits)
def test_a_full_turn_changes_nothing(orbit):
    moved = orbit.moved(0.0, 2 * math.pi)
    assert close(moved.position, orbit.position)
    assert close(pose_token(orbit, moved), torch.tensor([0.0, 0.0, 1.0, 0.0]), 1e-6)


@laws
@given(orbits, st.floats(-1, 1), angles, st.floats(-0.3, 0.3))
def test_a_move_has_the_numbers_of_its_two_seats(orbit, up, turn, out):
    polar = orbit.polar - up
    if 0 <= polar <= math.pi:
        told = move_token(-up, turn, out)
        assert close(pose_token(orbit, orbit.moved(up, turn, out)), told, 1e-5)


def test_a_move_over_the_pole_comes_down_on_the_other_side():
    moved = Orbit(0.2, 0.0, 1.5).moved(0.5, 0.0)
    assert moved.polar == pytest.approx(0.3)
    assert abs(moved.azimuth) == pytest.approx(math.pi)


def test_positive_azimuth_moves_the_camera_to_its_own_right():
    seat = Orbit(math.pi / 2, 0.0, 1.5)
    local = seat.camera_from_world.apply(seat.moved(0.0, 0.1).position)
    assert float(local[0]) > 0


def test_from_above_is_a_negative_polar_number():
    seat = Orbit(math.pi / 2, 0.0, 1.5)
    assert float(pose_token(seat, seat.moved(0.3, 0.0))[0]) == pytest.approx(-0.3)


def test_models_are_told_the_photos_polar_angle_instead_of_the_distance_or_too():
    photo, wanted = Orbit(1.2, 0.3, 1.8), Orbit(0.9, 0.3, 1.6)
    told = {encoding: pose_token(photo, wanted, encoding) for encoding in get_args(PoseEncoding)}
    alike = torch.tensor([-0.3, 0.0, 1.0])
    assert close(told["zero123"], torch.cat([alike, torch.tensor([-0.2])]), 1e-6)
    assert close(told["stable-zero123"], torch.cat([alike, torch.tensor([1.2])]), 1e-6)
    assert close(told["zero123-polar"], torch.cat([alike, torch.tensor([-0.2, 1.2])]), 1e-6)


def test_the_lens_has_the_published_focal_lengths():
    seat = Orbit(1.0, 0.0, 1.5).camera_from_world
    assert Camera(seat, 512).focal == pytest.approx(560)
    assert Camera(seat, 256).focal == pytest.approx(280)
    assert math.degrees(FIELD_OF_VIEW) == pytest.approx(49.134, abs=1e-3)


@laws
@given(orbits, st.integers(0, 15), st.integers(0, 15))
def test_a_ray_projects_to_its_own_pixel(orbit, row, column):
    camera = Camera(orbit.camera_from_world, 16)
    origin, directions = camera.rays()
    pixel, depth = camera.project(origin + 1.7 * directions[row, column])
    assert float(depth) > 0
    assert pixel.tolist() == pytest.approx([column + 0.5, row + 0.5])


@laws
@given(orbits)
def test_frames_come_back_after_the_round_trip(orbit):
    pose = orbit.camera_from_world
    assert close(opengl_from_opencv(opencv_from_opengl(pose)).matrix, pose.matrix)
    assert close(z_up_from_y_up(y_up_from_z_up(pose)).matrix, pose.matrix)
    assert close(
        opencv_from_opengl(pose).apply(torch.zeros(3, dtype=torch.float64))[2:],
        torch.tensor([orbit.radius], dtype=torch.float64),
    )


def test_up_is_y_in_a_y_up_world():
    pose = y_up_from_z_up(Orbit(math.pi / 2, 0.0, 1.5).camera_from_world)
    up = pose.rotation @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert up.tolist() == pytest.approx([0, 1, 0])


@pytest.mark.parametrize("port", PORT_SIGNS)
def test_a_ports_signs_are_their_own_inverse(port):
    signs = PORT_SIGNS[port]
    assert signs.from_ours(*signs.to_ours(30.0, 20.0)) == (30, 20)


def test_the_authors_preset_above_is_our_climb():
    assert PORT_SIGNS["zero123"].to_ours(0.0, -90.0) == (0, 90)


def test_transforms_hold_world_from_camera():
    seat = Orbit(1.2, 0.4, 1.8)
    told = nerfstudio_transforms([Camera(seat.camera_from_world, 128)], ["a.png"])
    matrix = np.array(told["frames"][0]["transform_matrix"])
    assert matrix[:3, 3] == pytest.approx(seat.position.numpy())
    assert -matrix[:3, 2] * 1.8 == pytest.approx(-seat.position.numpy())  # looks along −z


def read_by_nerfstudio(told: dict[str, Any], points: np.ndarray) -> list[np.ndarray]:
    """Pixels of points in each frame, by nerfstudio's documented data conventions alone."""
    seen = []
    for frame in told["frames"]:
        camera_from_world = np.linalg.inv(np.array(frame["transform_matrix"]))
        x, y, z = camera_from_world[:3, :3] @ points.T + camera_from_world[:3, 3:]
        seen.append(
            np.stack([told["cx"] + told["fl_x"] * x / -z, told["cy"] - told["fl_y"] * y / -z], 1)
        )
    return seen


def test_nerfstudio_and_colmap_see_points_where_we_do(tmp_path):
    seats = [Orbit(0.9, 0.3, 1.85), Orbit(math.pi / 2, math.pi, 2.1), Orbit(0.0, 0.0, 1.5)]
    seats += [Orbit(math.pi, 1.0, 1.5), Orbit(2.0, -2.5, 1.7)]
    cameras = [Camera(seat.camera_from_world, 128) for seat in seats]
    files = [f"view_{number:03d}.png" for number in range(len(cameras))]
    points = torch.rand(100, 3, dtype=torch.float64) - 0.5
    ours = [camera.project(points)[0].numpy() for camera in cameras]
    for pixels, ours_here in zip(
        read_by_nerfstudio(nerfstudio_transforms(cameras, files), points.numpy()), ours, strict=True
    ):
        assert np.abs(pixels - ours_here).max() < 1e-6
    for name, text in colmap_model(cameras, files).items():
        (tmp_path / name).write_text(text)
    model = pycolmap.Reconstruction(str(tmp_path))
    images = sorted(model.images.values(), key=lambda image: image.name)
    assert [image.name for image in images] == files
    for image, ours_here in zip(images, ours, strict=True):
        pixels = np.stack([image.project_point(point) for point in points.numpy()])
        assert np.abs(pixels - ours_here).max() < 1e-6


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((60, 0, 1.5), r"polar must be in \[0, pi\] radians, got 60; degrees\?"),
        ((float("nan"), 0, 1.5), "polar must be finite, got nan"),
        ((1.0, float("inf"), 1.5), "azimuth must be finite"),
        ((1.0, 0, 0.0), "radius must be positive, got 0"),
    ],
)
def test_impossible_seats_are_refused_with_a_hint(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Orbit(*(float(v) for v in values))


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (2 * torch.eye(4), "not a rotation.*scaled"),
        (torch.diag(torch.tensor([1.0, 1, -1, 1])), "det R = -1"),
        (torch.full((3, 4), float("nan")), "NaN or infinity"),
        (torch.eye(4)[:2], "3x4 or 4x4"),
    ],
)
def test_what_is_no_pose_is_refused(matrix, sentence):
    with pytest.raises(ValueError, match=sentence):
        Rigid.from_matrix(matrix.double())

import math

import numpy as np
import pytest
import trimesh

from zero123.evaluation.shapes import Surface, chamfer, compare, volume_iou


def surface(mesh):
    return Surface(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64))


def ball(radius=1.0, move=(0.0, 0.0, 0.0)):
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return surface(mesh.apply_translation(move))


def box(sides=(1.0, 1.0, 1.0), move=(0.0, 0.0, 0.0)):
    return surface(trimesh.creation.box(sides).apply_translation(move))


def test_two_balls_in_each_other():
    assert volume_iou(ball(1.0), ball(0.8)) == pytest.approx(0.8**3, abs=0.01)
    assert chamfer(ball(1.0), ball(0.8)) == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("shift", [0.1, 0.25, 0.5])
def test_shifted_cubes(shift):
    expected = (1 - shift) / (1 + shift)
    assert volume_iou(box(), box(move=(shift, 0, 0))) == pytest.approx(expected, abs=0.015)


def test_shifted_balls():
    # two spherical caps of height r - d / 2
    height = 1 - 0.25
    shared = 2 * math.pi * height**2 * (3 - height) / 3
    expected = shared / (2 * 4 / 3 * math.pi - shared)
    assert volume_iou(ball(), ball(move=(0, 0.5, 0))) == pytest.approx(expected, abs=0.01)


def test_equal_surfaces_are_as_near_as_the_sampling_says():
    area = 4 * math.pi
    assert chamfer(ball(), ball()) == pytest.approx(0.5 * math.sqrt(area / 30_000), rel=0.1)
    assert volume_iou(ball(), ball()) == 1


def test_overlapping_parts_do_no_harm():
    two = trimesh.util.concatenate(
        [trimesh.creation.box((1, 1, 1)), trimesh.creation.box((0.5, 0.5, 0.5))]
    )
    assert volume_iou(surface(two), box()) == 1


def test_apart_bodies_share_nothing():
    assert volume_iou(box(), box(move=(3, 0, 0))) == 0


def test_the_box_alignment_undoes_place_and_size_and_nothing_else():
    moved = box((2.0, 4.0, 6.0), (5, 5, 5))
    aligned = compare(moved, box((1.0, 2.0, 3.0)), "box")
    assert aligned.volume_iou == 1
    assert aligned.chamfer < 0.01
    assert aligned.alignment == "box"
    assert compare(moved, box((1.0, 2.0, 3.0)), "none").volume_iou == 0
    assert compare(box((3.0, 2.0, 1.0)), box((1.0, 2.0, 3.0))).volume_iou < 0.5


def test_a_file_is_read(tmp_path):
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "box.ply")
    assert compare(Surface.read(tmp_path / "box.ply"), box(), "none").volume_iou == 1


def test_what_has_no_volume_is_refused():
    sheet = Surface(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match="enclose"):
        volume_iou(sheet, sheet)
    with pytest.raises(ValueError, match="faces"):
        Surface(np.zeros((3, 3)), np.zeros((0, 3), np.int64))

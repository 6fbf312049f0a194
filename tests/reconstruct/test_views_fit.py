import math

import numpy as np
import pytest
import torch
from scenes import SEED, mesh_views, rendered

from zero123.data import procedural_mesh
from zero123.evaluation.shapes import Surface, compare
from zero123.geometry import Orbit
from zero123.images import FramedPhoto
from zero123.reconstruct import ReconstructionError, Views
from zero123.reconstruct.carving import visual_hull
from zero123.reconstruct.elevation import SCOUTS, estimate_elevation
from zero123.reconstruct.views import Move, alpha_on_white

HELD_OUT = tuple(
    Orbit(math.radians(90 - up), math.radians(turn), radius)
    for up, turn, radius in ((0, 7, 1.7), (30, 77, 2.0), (-10, 147, 1.9), (45, 217, 1.8))
)


def test_true_views_give_the_true_object(made):
    mesh = procedural_mesh(SEED)
    truth = rendered(mesh, HELD_OUT, 64)
    errors = [
        float((made.see(seat, 64) - picture).square().mean())
        for seat, picture in zip(truth.seats, truth.pictures, strict=True)
    ]
    assert np.mean([-10 * math.log10(error) for error in errors]) >= 25
    shape = compare(
        Surface(made.mesh.vertices.astype(np.float64), made.mesh.faces.astype(np.int64)),
        Surface(mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64)),
        "none",
    )
    assert shape.volume_iou >= 0.8
    assert shape.chamfer < 0.02


def test_the_object_looks_like_the_photo_from_the_photos_side(made):
    views = mesh_views(SEED)
    psnr, overlap = made.likeness(FramedPhoto(views.pictures[0], views.alphas[:1]))
    assert psnr > 25
    assert overlap > 0.9


def test_a_hull_holds_the_object_and_forgives_as_told():
    views = mesh_views(SEED)
    hull = visual_hull(views, 32, 0.0)
    ball_like = hull.inside.float().mean()
    assert 0.01 < float(ball_like) < 0.6
    wrong = views.alphas.clone()
    wrong[3] = 0
    spoilt = Views(views.pictures, wrong, views.seats, views.trust)
    with pytest.raises(ReconstructionError, match="no body in common"):
        visual_hull(spoilt, 32, 0.0)
    forgiven = visual_hull(spoilt, 32, 0.1)
    assert bool(forgiven.inside.any())


@pytest.mark.parametrize("true", [0.0, 30.0])
def test_the_elevation_is_found_from_true_outlines(true):
    moves = (Move(0.0, 0.0), *(move for move in SCOUTS if move != Move(0.0, 0.0)))
    views = mesh_views(SEED, 48, true, moves)
    found = estimate_elevation(views.alphas, moves)
    assert abs(found.degrees - true) <= 10
    assert found.confidence >= 0.8
    assert found.agreement[int(found.degrees)] == max(found.agreement.values())


def test_outlines_that_say_nothing_are_no_sure_estimate():
    generator = torch.Generator().manual_seed(0)
    moves = (Move(0.0, 0.0), *(move for move in SCOUTS if move != Move(0.0, 0.0)))
    blobs = torch.zeros(len(moves), 48, 48)
    for blob in blobs:
        x, y = torch.randint(10, 26, (2,), generator=generator).tolist()
        blob[y : y + 12, x : x + 12] = 1
    found = estimate_elevation(blobs, moves)
    assert found.confidence < 0.7
    nothing = estimate_elevation(torch.zeros_like(blobs), moves)
    assert (nothing.degrees, nothing.confidence) == (15, 0)


def test_the_object_is_told_from_the_white_ground():
    views = mesh_views(SEED)
    for picture, alpha in zip(views.pictures[:3], views.alphas[:3], strict=True):
        found, true = alpha_on_white(picture) > 0.5, alpha > 0.5
        assert float((found & true).sum() / (found | true).sum()) > 0.9
    assert not alpha_on_white(torch.ones(3, 32, 32)).any()

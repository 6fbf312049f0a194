import json
import math
from dataclasses import replace

import pytest
from brief import VIEWS, pipeline
from scenes import SMALL

from zero123.data import procedural_mesh
from zero123.data.mesh_files import write_glb
from zero123.evaluation.protocol import FrozenObject, Protocol, even_targets
from zero123.reconstruct import ReconstructionError
from zero123.reconstruct.scores import guess_makers, pipeline_maker, score_objects, scores_table

BRIEF = replace(SMALL, fit=replace(SMALL.fit, resolution=40, steps=25, tolerance=0.15), texture=128)


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    meshes = tmp_path_factory.mktemp("meshes")
    write_glb(procedural_mesh(11), meshes / "one.glb")
    protocol = replace(
        Protocol.named("gso30"),
        name="little",
        size=64,
        targets=even_targets(4, (20.0, -60.0, 1.85)),
        objects=(FrozenObject("one", "one.glb"),),
    )
    return protocol.frozen(meshes), meshes


def test_true_views_come_nearest_and_scores_are_kept(little, tmp_path):
    protocol, meshes = little
    makers = guess_makers(protocol, BRIEF)
    makers["mini"] = pipeline_maker(pipeline(), VIEWS)
    lines = []
    scores = score_objects(protocol, meshes, makers, tmp_path, say=lines.append)
    by_maker = {row.maker: row for row in scores}
    true, copied = by_maker["true views"], by_maker["photo copied around"]
    assert true.volume_iou > 0.7
    assert true.psnr > 20
    assert true.volume_iou > copied.volume_iou
    assert true.chamfer < copied.chamfer
    assert len(lines) == 3
    table = scores_table(scores)
    assert "| true views | 1 of 1 |" in table
    assert len(json.loads((tmp_path / "reconstruction.json").read_text())) == 3
    with pytest.raises(ValueError, match="--resume"):
        score_objects(protocol, meshes, makers, tmp_path)
    assert score_objects(protocol, meshes, makers, tmp_path, resume=True) == scores


def test_what_fails_is_told_and_not_counted(little, tmp_path):
    protocol, meshes = little

    def fails(scene, mesh):
        raise ReconstructionError("nothing came of it")

    (row,) = score_objects(protocol, meshes, {"bad": fails}, tmp_path, say=lambda line: None)
    assert row.failed == "nothing came of it"
    assert math.isnan(row.psnr)
    assert "| bad | 0 of 1 | none |" in scores_table([row])

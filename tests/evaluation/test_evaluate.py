"""From questions to the report: what is kept, what is refused, what a reader is told."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from toy import NAMES, PHOTO, SIZE, TARGETS, drawn, oracle, scene, trial

from zero123.app.evaluate import Evaluate
from zero123.data.layouts import finish_views, write_views
from zero123.data.rendered import RenderedObject
from zero123.evaluation.candidates import (
    Candidate,
    Question,
    baselines,
    from_pipeline,
    safe_name,
)
from zero123.evaluation.folders import folder_trial
from zero123.evaluation.protocol import FrozenObject, Protocol, even_targets, protocol_names
from zero123.evaluation.report import (
    Heading,
    Items,
    Table,
    as_html,
    as_markdown,
    error_map,
    summary,
    write_report,
)
from zero123.evaluation.run import Toolbox, evaluate
from zero123.evaluation.scenes import SceneError
from zero123.evaluation.statistics import AZIMUTH_BINS, ELEVATION_BINS, binned, over_objects
from zero123.geometry import Orbit
from zero123.pipeline import Zero123Output, Zero123Pipeline

TOOLS = Toolbox()
REPORTS = ("report.md", "report.html", "report.json")


def figures(evaluation, candidate):
    result = next(r for r in evaluation.results if r.candidate.name == candidate)
    return {
        metric.title: summary(result, metric, number)[0]
        for number, metric in enumerate(TOOLS.metrics)
    }


def test_the_truth_is_perfect_and_the_baselines_stand_beside_it(tmp_path):
    found = evaluate(trial(), [oracle(), *baselines()], tmp_path, TOOLS, quiet=True)
    perfect = figures(found, "oracle")
    for metric in TOOLS.metrics:
        assert perfect[metric.title].mean == pytest.approx(metric.perfect), metric.title
    assert figures(found, "white")["mask IoU"].mean == 0
    blind = figures(found, "input copied")["camera obedience (rate)"].mean
    assert blind == pytest.approx(1 / len(TARGETS))
    markdown = write_report(found, tmp_path)
    for row in (*(m.title for m in TOOLS.metrics), "input copied", "white", "billboard"):
        assert row in markdown
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 4 * 3
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    views = told["candidates"][0]["views"]["one"]["PSNR (dB)"]
    assert np.shape(views) == (len(TARGETS), 1)


def test_a_billboard_seen_from_the_photos_seat_is_the_photo():
    one = scene("one")
    billboard = baselines()[2]
    seen = billboard.answer(Question(one.photo, PHOTO, (PHOTO,)))[0, 0]
    assert np.abs(seen.astype(int) - one.photo).max() <= 1
    behind = Orbit(math.pi - PHOTO.polar, PHOTO.azimuth + math.pi, PHOTO.radius)
    back = billboard.answer(Question(one.photo, PHOTO, (behind,)))[0, 0]
    assert np.abs(back.astype(int) - one.photo[:, ::-1]).mean() < 1


def test_resumed_after_a_stop_the_report_has_the_same_bytes(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    write_report(evaluate(trial(), [oracle()], whole, TOOLS, quiet=True), whole)

    answer = oracle().answer
    left = iter([True])

    def dies(question):
        if not next(left, False):
            raise KeyboardInterrupt
        return answer(question)

    with pytest.raises(KeyboardInterrupt):
        evaluate(trial(), [Candidate("oracle", "oracle", dies)], stopped, TOOLS, quiet=True)
    assert len(list(stopped.rglob("*.npz"))) == 1
    with pytest.raises(ValueError, match="--resume"):
        evaluate(trial(), [oracle()], stopped, TOOLS, quiet=True)
    calls: list[str] = []
    again = evaluate(trial(), [oracle(calls=calls)], stopped, TOOLS, resume=True, quiet=True)
    write_report(again, stopped)
    assert calls == list(NAMES[1:])
    for name in REPORTS:
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name


def test_answers_of_another_model_or_damaged_ones_are_not_taken(tmp_path):
    evaluate(trial(), [oracle()], tmp_path, TOOLS, quiet=True)
    other = Candidate("oracle", "retrained", oracle().answer)
    with pytest.raises(ValueError, match="another model"):
        evaluate(trial(), [other], tmp_path, TOOLS, resume=True, quiet=True)
    with pytest.raises(ValueError, match="another question"):
        evaluate(trial(samples=2), [oracle()], tmp_path, TOOLS, resume=True, quiet=True)
    (tmp_path / "answers" / "oracle" / "two.npz").write_bytes(b"cut")
    with pytest.raises(ValueError, match="damaged"):
        evaluate(trial(), [oracle()], tmp_path, TOOLS, resume=True, quiet=True)


def test_a_crash_and_a_bad_object_are_told_and_the_rest_is_kept(tmp_path):
    answer = oracle().answer

    def crashes(question):
        if question.photo.tobytes() == scene("two").photo.tobytes():
            raise RuntimeError("out of everything")
        return answer(question)

    asked = trial(broken=("three",))
    found = evaluate(
        asked, [Candidate("fragile", "1", crashes), *baselines()[:1]], tmp_path, TOOLS, quiet=True
    )
    told = {(f.candidate, f.name): f.reason for f in found.failures}
    assert told == {
        ("fragile", "two"): "RuntimeError: out of everything",
        ("all", "three"): "three is not what it was",
    }
    markdown = write_report(found, tmp_path)
    assert "| objects in the figures | 1 of 3 | 2 of 3 |" in markdown
    for place in (markdown, (tmp_path / "report.html").read_text(encoding="utf-8")):
        assert "out of everything" in place
        assert "three is not what it was" in place


def test_a_candidate_without_any_answer_still_has_its_column(tmp_path):
    def never(question):
        raise ValueError("no")

    found = evaluate(
        trial(), [Candidate("dead", "1", never), oracle()], tmp_path, TOOLS, quiet=True
    )
    assert "0 of 3" in write_report(found, tmp_path)


def test_nothing_to_evaluate_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no object can be used"):
        evaluate(trial(broken=NAMES), [oracle()], tmp_path, TOOLS, quiet=True)
    with pytest.raises(ValueError, match="no objects"):
        trial(names=())


def test_best_of_samples_stands_apart_from_their_mean(tmp_path):
    truth = oracle().answer

    def half_right(question):
        views = truth(question)
        views[:, 1] = 255
        return views

    found = evaluate(
        trial(samples=2), [Candidate("half", "1", half_right)], tmp_path, TOOLS, quiet=True
    )
    (result,) = found.results
    metric, rank = TOOLS.metrics[4], TOOLS.metrics[6]
    assert (metric.title, rank.better) == ("mask IoU", "lower")
    assert summary(result, metric, 4)[0].mean == pytest.approx(0.5)
    assert summary(result, metric, 4, best=True)[0].mean == pytest.approx(1)
    assert summary(result, rank, 6, best=True)[0].mean == pytest.approx(1)
    assert summary(result, rank, 6)[0].mean > 1
    assert "the best of 2 samples" in write_report(found, tmp_path)


def test_intervals_hold_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    drawn_means = [over_objects(rng.normal(3, 1, 30)) for _ in range(200)]
    held = np.mean([e.low <= 3 <= e.high for e in drawn_means])
    assert 0.88 <= held <= 0.99
    alone = over_objects(np.array([2.0]))
    assert (alone.low, alone.mean, alone.high) == (2, 2, 2)


def test_every_view_falls_into_one_bin_of_each_kind():
    inside = binned(PHOTO, TARGETS)
    for kind in (AZIMUTH_BINS, ELEVATION_BINS):
        assert (np.sum([inside[each] for each in kind], axis=0) == 1).all()
    assert inside[AZIMUTH_BINS[0]].tolist() == [True, False, False, False, False, False]
    assert inside[AZIMUTH_BINS[3]].tolist() == [False, False, False, True, False, False]


@pytest.fixture
def little(tmp_path):
    """A protocol of two meshes, and their folder."""
    trimesh = pytest.importorskip("trimesh")
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    for name, sides in (("brick", (1, 2, 3)), ("tile", (3, 3, 1))):
        trimesh.creation.box(sides).export(meshes / f"{name}.ply")
    protocol = replace(
        Protocol.named("gso30"),
        name="little",
        size=32,
        targets=even_targets(5, (20.0, -60.0, 1.85)),
        objects=(FrozenObject("brick", "brick.ply"), FrozenObject("tile", "tile.ply")),
    )
    return protocol.frozen(meshes), meshes


def test_a_protocol_comes_back_from_its_file(little):
    protocol, _ = little
    assert Protocol.from_json(protocol.to_json()) == protocol
    assert protocol_names() == ["gso30"]
    with pytest.raises(ValueError, match="gso30"):
        Protocol.named("gso3O")


def test_the_published_protocol_is_what_it_says():
    gso = Protocol.named("gso30")
    assert len(gso.objects) == 30
    assert (len(gso.targets), gso.size, gso.samples) == (24, 256, 1)
    assert len({one.sha256 for one in gso.objects}) == 30
    assert gso.targets == even_targets(24, gso.photo)
    assert all(-20 <= elevation <= 60 and 1.5 <= far <= 2.2 for elevation, _, far in gso.targets)


def test_an_altered_mesh_is_refused_and_the_other_kept(little):
    protocol, meshes = little
    asked = protocol.trial(meshes)
    assert asked.open("brick").notes == ()
    text = (meshes / "brick.ply").read_bytes()
    (meshes / "brick.ply").write_bytes(text + b"\n")
    with pytest.raises(SceneError, match="is not the mesh of little"):
        asked.open("brick")
    asked.open("tile")
    (meshes / "tile.ply").unlink()
    with pytest.raises(SceneError, match="cannot be read"):
        asked.open("tile")
    with pytest.raises(ValueError, match="holds none"):
        protocol.trial(meshes.parent)


def test_another_rounding_is_noted_and_another_picture_refused(little):
    protocol, meshes = little
    brick = protocol.objects[0]
    rounded = replace(brick, views_sha256="0" * 64)
    other = replace(rounded, levels=tuple(level + 1 for level in brick.levels))
    (note,) = replace(protocol, objects=(rounded,)).trial(meshes).open("brick").notes
    assert "rounds differently" in note
    with pytest.raises(SceneError, match="another version of the renderer"):
        replace(protocol, objects=(other,)).trial(meshes).open("brick")


def test_fewer_objects_are_told_in_the_title(little):
    protocol, meshes = little
    assert "only 1 of 2" in protocol.trial(meshes, limit=1).title
    assert "only" not in protocol.trial(meshes, limit=2).title


def stored(folder, seats=(PHOTO, *TARGETS)):
    for name in NAMES:
        cameras = tuple(seat.camera_from_world for seat in seats)
        write_views(folder, RenderedObject(name, drawn(name, seats), cameras))
    finish_views(folder)
    return folder


def test_a_rendered_folder_asks_the_same_as_its_objects(tmp_path):
    asked = folder_trial(stored(tmp_path / "views"))
    assert asked.names == tuple(sorted(NAMES))
    read, made = asked.open("two"), scene("two")
    assert np.array_equal(read.photo, made.photo)
    assert np.array_equal(read.truths, made.truths)
    for a, b in zip(read.seats, made.seats, strict=True):
        assert (a.polar, a.radius) == pytest.approx((b.polar, b.radius))
    assert "only 2 of 3" in folder_trial(tmp_path / "views", limit=2).title


def test_eschernets_folders_are_read(tmp_path):
    views = stored(tmp_path / "views")
    for name in NAMES:
        inside = tmp_path / "eschernet" / name / "render_mvs_25" / "model"
        shutil.copytree(views / name, inside)
    asked = folder_trial(tmp_path / "eschernet")
    assert asked.names == tuple(sorted(NAMES))
    assert np.array_equal(asked.open("one").truths, scene("one").truths)
    assert asked.open("one").name == "one"


def test_a_missing_view_is_told_and_the_rest_kept(tmp_path):
    folder = stored(tmp_path / "views")
    (folder / "one" / "003.png").unlink()
    found = evaluate(folder_trial(folder), baselines()[:1], tmp_path / "report", TOOLS, quiet=True)
    (failure,) = found.failures
    assert (failure.candidate, failure.name) == ("all", "one")
    assert "view 3" in failure.reason
    assert len(found.results[0].scores) == 2


def test_targets_beyond_a_right_angle_are_left_out_and_told(tmp_path):
    low = Orbit(math.radians(175), 1.0, 1.85)
    folder = stored(tmp_path / "views", (PHOTO, *TARGETS[:2], low))
    opened = folder_trial(folder).open("one")
    assert len(opened.seats) == 2
    assert "1 target view(s)" in opened.notes[0]


def test_a_target_that_shows_nothing_is_refused():
    one = scene("one")
    empty = one.truths.copy()
    empty[2] = (255, 255, 255, 0)
    with pytest.raises(SceneError, match="target view 2 shows nothing"):
        replace(one, truths=empty)


def test_a_pipeline_is_asked_in_its_own_words(monkeypatch):
    pipe, one = Zero123Pipeline.from_pretrained("mini"), scene("one")
    told = {}

    def called(self, image, **asked):
        told.update(asked)
        views = torch.rand(1, len(asked["azimuth"]), asked["num_images_per_pose"], 3, 16, 16)
        return Zero123Output(images=views)

    monkeypatch.setattr(Zero123Pipeline, "__call__", called)
    model = from_pipeline("tiny", pipe, "default")
    answers = model.answer(Question(one.photo, one.seat, one.seats, samples=2, seed=5))
    assert answers.shape == (6, 2, SIZE, SIZE, 3)
    assert told["azimuth"] == pytest.approx([30, 75, 130, 180, -130, -70], abs=1e-6)
    assert told["elevation"] == pytest.approx([10, -15, 20, -5, -25, 5])
    assert told["distance"] == pytest.approx([0, -0.25, 0.25, 0, -0.15, 0.15])
    assert told["image_elevation"] == pytest.approx(20)
    with torch.no_grad():
        pipe.cc_projection.projection.bias[0] += 1
    assert from_pipeline("tiny", pipe, "default").fingerprint != model.fingerprint


def test_names_of_candidates_are_safe_and_differ():
    assert safe_name("models/mine/", []) == "mine"
    assert safe_name("kxic/zero123-xl", ["zero123-xl"]) == "zero123-xl_2"
    assert safe_name("../..", []) == "model"


def test_error_maps_go_from_black_to_white():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert not error_map(black, black).any()
    assert (error_map(black, white) == 255).all()
    assert error_map(black, np.full_like(black, 32)).tolist()[0][0] == [191, 0, 0]


def test_what_others_named_is_no_markup():
    blocks = [
        Heading("<b>"),
        Items(("<script>x</script>",)),
        Table(("a|b",), (("<i>",),)),
    ]
    assert "<script>" not in as_html(blocks)
    assert "<i>" not in as_html(blocks)
    assert "a\\|b" in as_markdown(blocks)


def test_the_command_ends_in_a_report(tmp_path, capsys):
    folder = stored(tmp_path / "views", (PHOTO, *TARGETS[:2]))
    command = Evaluate(
        data=str(folder), out=tmp_path / "report", limit=1, backbones=tmp_path / "none"
    )
    assert command.run() == tmp_path / "report"
    printed = capsys.readouterr().out
    assert "| figure | mini | input copied | white | billboard |" in printed
    assert "only 1 of 3 objects" in printed
    assert "| LPIPS (alex) | not computed |" in printed
    told = json.loads((tmp_path / "report" / "run.json").read_text(encoding="utf-8"))
    assert told["seconds_per_view"]["mini"] > 0
    assert {"date", "command", "machine", "versions"} <= set(told)
    before = {name: (tmp_path / "report" / name).read_bytes() for name in REPORTS}
    replace(command, resume=True).run()
    assert {name: (tmp_path / "report" / name).read_bytes() for name in REPORTS} == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": "gso30"}, "--meshes"),
        ({"data": "gso31"}, "no folder, and no protocol"),
        ({"limit": 0}, "--limit"),
        ({"samples": 0}, "--samples"),
    ],
)
def test_a_wrong_call_is_told_before_the_work(tmp_path, changes, told):
    command = Evaluate(**{"data": str(tmp_path), "out": tmp_path / "report"} | changes)
    with pytest.raises(ValueError, match=told):
        command.run()


def test_the_first_picture_of_a_report_can_be_opened(tmp_path):
    import base64
    import io

    found = evaluate(trial(), [oracle()], tmp_path, TOOLS, quiet=True)
    write_report(found, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    data = re.search(r"base64,([^\"]+)", page)
    assert data is not None
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as picture:
        assert picture.width > 4 * 160

import json
import math
import zipfile

import pytest
import torch
from PIL import Image

from zero123.images import ImageError
from zero123.web.bundle import write_bundle
from zero123.web.placing import Placement
from zero123.web.studio import Stopped, Studio
from zero123.web.visitor import Drawing, Visitors


@pytest.fixture
def studio(pipe):
    made = Studio(pipe)
    yield made
    made.close()


@pytest.fixture
def visitors(studio, tmp_path):
    return Visitors(studio, tmp_path, most=3)


@pytest.fixture
def anna(visitors, coffee):
    visitor = visitors.of("anna")
    visitor.take(coffee, Placement())
    return visitor


def finished(steps):
    """Walk to the end, and give the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_view_is_what_the_pipeline_makes(anna, pipe):
    seen = finished(anna.see((60.0, 10.0, 0.1), Drawing(samples=2, seed=5)))
    alone = pipe(
        anna.shown.photo.image, azimuth=60, elevation=10, distance=0.1, num_images_per_pose=2,
        generator=torch.Generator().manual_seed(5), output_type="pt",
    ).images  # fmt: skip
    assert torch.equal(seen.pictures, alone[0, 0])
    assert anna.seen == [seen]


def test_a_view_tells_its_steps(anna):
    told = list(anna.see((60.0, 0.0, 0.0), Drawing(steps=3)))
    assert [step.said for step in told] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]
    assert told[-1].fraction == 1


def test_a_film_is_the_same_however_it_is_cut_into_calls(anna, pipe):
    film = finished(anna.go_round(6, 0.0, Drawing(seed=3)))
    alone = pipe(
        anna.shown.photo.image, azimuth=[60 * frame for frame in range(6)],
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images[0, :, 0]  # fmt: skip
    assert torch.allclose(film.pictures, alone, atol=1e-5)
    with Image.open(film.file) as opened:
        assert opened.n_frames == 6


def test_a_preview_does_not_disturb_a_view(anna):
    plain = finished(anna.see((60.0, 0.0, 0.0), Drawing(steps=4)))
    steps = anna.see((60.0, 0.0, 0.0), Drawing(steps=4))
    next(steps)
    anna.preview((-90.0, 0.0, 0.0))
    assert torch.equal(finished(steps).pictures, plain.pictures)


def test_a_new_photo_stops_and_forgets(anna, coffee):
    finished(anna.see((60.0, 0.0, 0.0), Drawing()))
    steps = anna.see((90.0, 0.0, 0.0), Drawing(steps=50))
    next(steps)
    anna.take(coffee, Placement(fill=0.5))
    assert anna.seen == []
    with pytest.raises(Stopped):
        finished(steps)
    assert anna.seen == []


def test_stopped_work_frees_the_model(anna, studio):
    steps = anna.see((60.0, 0.0, 0.0), Drawing(steps=200))
    next(steps)
    anna.stop()
    assert list(studio.begin(lambda pipe, tell: None)) == []
    with pytest.raises(Stopped):
        finished(steps)


def test_what_is_no_photo_leaves_none(anna, tmp_path):
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(ImageError, match=r"^page.html is text"):
        anna.take(tmp_path / "page.html", Placement())
    with pytest.raises(ValueError, match="no photo yet"):
        anna.preview((0.0, 0.0, 0.0))


def test_two_people_do_not_mix(visitors, anna, coffee):
    ben = visitors.of("ben")
    with pytest.raises(ValueError, match="no photo yet"):
        ben.preview((0.0, 0.0, 0.0))
    ben.take(coffee, Placement(fill=0.4))
    assert not torch.equal(anna.shown.photo.image, ben.shown.photo.image)
    assert visitors.of("anna") is anna
    assert anna.folder != ben.folder


def test_the_longest_silent_makes_room(visitors, anna):
    for name in ("ben", "cleo", "anna", "dora"):
        visitors.of(name)
    assert visitors.of("anna") is anna
    assert anna.folder.is_dir()
    assert len([*anna.folder.parent.glob("visitor-*")]) == 3


def test_who_leaves_leaves_no_files(visitors, anna):
    finished(anna.go_round(4, 0.0, Drawing(steps=1)))
    visitors.leave("anna")
    assert not anna.folder.exists()
    visitors.leave("nobody")
    visitors.leave(None)


def test_closing_stops_everybody(visitors, anna, coffee):
    ben = visitors.of("ben")
    ben.take(coffee, Placement())
    steps = ben.see((60.0, 0.0, 0.0), Drawing(steps=200))
    next(steps)
    visitors.close()
    with pytest.raises(Stopped):
        finished(steps)
    assert not anna.folder.exists()
    assert not ben.folder.exists()


def test_somebody_must_ask(visitors):
    with pytest.raises(ValueError, match="send a session_hash"):
        visitors.of(None)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda who: who.preview((math.nan, 0.0, 0.0)), "azimuth must be finite"),
        (lambda who: who.preview((0.0, 91.0, 0.0)), r"elevation must be in \[-90, 90\]"),
        (lambda who: who.preview((1.5707963, 0.0, 0.0)), "write 90"),
        (lambda who: next(who.see((0.0, 0.0, -2.0), Drawing())), "distance must be above"),
        (lambda who: next(who.go_round(3, 0.0, Drawing())), "4 to 72 frames, got 3"),
        (lambda who: next(who.go_round(10**9, 0.0, Drawing())), "4 to 72 frames"),
        (lambda who: next(who.go_round(4, math.inf, Drawing())), "elevation must be finite"),
        (lambda who: next(who.build(Drawing(image_elevation=91.0))), "elevation"),
    ],
)
def test_impossible_wishes_are_refused_before_any_work(anna, ask, sentence):
    with pytest.raises(ValueError, match=sentence):
        ask(anna)


@pytest.mark.parametrize(
    "wrong", [{"samples": 0}, {"samples": 9}, {"seed": -1}, {"seed": 2**53}, {"steps": 0},
              {"steps": 201}]
)  # fmt: skip
def test_an_impossible_drawing_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be in"):
        Drawing(**wrong)


def test_everything_is_in_the_bundle(anna):
    finished(anna.see((60.0, 0.0, 0.0), Drawing(samples=2)))
    finished(anna.see((-90.0, 20.0, 0.0), Drawing(samples=2)))
    finished(anna.see((0.0, 0.0, 0.0), Drawing(seed=1)))
    finished(anna.go_round(4, 0.0, Drawing(steps=1)))
    with zipfile.ZipFile(write_bundle(anna, "mini")) as packed:
        names = set(packed.namelist())
        assert {
            "photo.png", "settings.json", "views/view_000_0.png", "views/view_001_1.png",
            "views/transforms.json", "views/sheet.png", "views_1/view_000.png",
            "orbit/orbit.webp", "orbit/orbit.mp4", "orbit/transforms.json", "orbit/view_003.png",
        } <= names  # fmt: skip
        told = json.loads(packed.read("settings.json"))
        frames = json.loads(packed.read("views/transforms.json"))["frames"]
    assert told["model"] == "mini"
    assert told["views"][0]["poses"] == [[60, 0, 0], [-90, 20, 0]]
    assert told["views"][1]["drawing"]["seed"] == 1
    assert told["orbit"]["poses"][1] == [90, 0, 0]
    assert "object" not in told
    assert [frame["file_path"] for frame in frames][:2] == ["view_000_0.png", "view_000_1.png"]

"""Which views are wanted: files of poses, and their faults told with the row."""

import json
import math
from pathlib import Path

import pytest

from zero123.app.moves import Moves, calls, moves_of_file

PHOTOS = [Path("shop/cup.png"), Path("shop/duck.png")]


def moves(*azimuth: float) -> Moves:
    return Moves.spread(azimuth, [0.0], [0.0], 0.0)


def test_a_table_and_a_list_say_the_same(tmp_path):
    table, listed = tmp_path / "poses.csv", tmp_path / "poses.json"
    table.write_text("azimuth,elevation\n60,20\n-90,0\n")
    listed.write_text('[{"azimuth": 60, "elevation": 20}, {"azimuth": -90}]')
    read = moves_of_file(table, PHOTOS, 10.0)
    assert read == moves_of_file(listed, PHOTOS, 10.0)
    wanted = Moves((60.0, -90.0), (20.0, 0.0), (0.0, 0.0), 10.0)
    assert read == [(photo, wanted) for photo in PHOTOS]


def test_a_spreadsheets_mark_spaces_and_blank_lines_do_no_harm(tmp_path):
    file = tmp_path / "poses.csv"
    file.write_bytes("\ufeffdistance, azimuth ,image\r\n0.2, 60,\r\n\r\n".encode())
    ((_, first), (_, second)) = moves_of_file(file, PHOTOS, 0.0)
    assert first == second == Moves((60.0,), (0.0,), (0.2,), 0.0)


def test_a_row_with_a_name_is_for_that_photo_alone(tmp_path):
    file = tmp_path / "poses.json"
    rows = [{"azimuth": 1}, {"azimuth": 2, "image": "duck.png"}, {"azimuth": 3, "image": None}]
    file.write_text(json.dumps(rows))
    cup, duck = PHOTOS
    both = [(cup, moves(1.0, 3.0)), (duck, moves(1.0, 2.0, 3.0))]
    assert moves_of_file(file, PHOTOS, 0.0) == both
    file.write_text(json.dumps(rows[1:2]))
    assert moves_of_file(file, PHOTOS, 0.0) == [(duck, moves(2.0))]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", "azimuth\n60\nsixty\n", "row 2: azimuth must be a number, got 'sixty'"),
        ("a.csv", "azimuth\n60\n\n1.5707963\n", "row 2: .*which is 90 degrees in radians"),
        ("a.csv", "azimuth,elevation\n60,nan\n", "row 1: elevation must be finite"),
        ("a.csv", "azimuth,elevation\n60,91\n", r"row 1: elevation must be in \[-90, 90\] degrees"),
        ("a.csv", "azimuth,distance\n60,-2\n", "row 1: distance must be above -1.85, got -2"),
        ("a.csv", "azimuth,distance\n60,inf\n", "row 1: distance must be finite"),
        ("a.csv", "azimuth,elevation\n60\n", "row 1 has 1 cells where the head has 2"),
        ("a.csv", "azimuth,yaw\n60,1\n", "unknown column 'yaw': the columns are azimuth, elev"),
        ("a.csv", "azimuth;elevation\n60;1\n", "unknown column 'azimuth;elevation'"),
        ("a.csv", "60,20\n", "unknown column '60'"),
        ("a.csv", "azimuth,azimuth\n1,2\n", "column azimuth is there twice"),
        ("a.csv", "image\ncup.png\n", "row 1: none of azimuth, elevation, distance is given"),
        ("a.csv", "azimuth,image\n60,cat.png\n", "row 1: none of the photos is cat.png"),
        ("a.csv", "azimuth\n", "holds no poses"),
        ("a.csv", "", "holds no poses"),
        ("a.csv", 'azimuth\n"60\n', "a.csv: unexpected end of data"),
        ("a.json", "[]", "holds no poses"),
        ("a.json", "[60, 20]", "poses are a list of objects such as"),
        ("a.json", '{"azimuth": 60}', "poses are a list of objects such as"),
        ("a.json", "azimuth: 60", "a.json: Expecting value"),
        ("a.json", "[" * 100_000, "a.json: .*recursion"),
        ("a.json", '[{"azimuth": NaN}]', "row 1: azimuth must be finite"),
        ("a.json", '[{"azimuth": true}]', "row 1: azimuth must be a number, got True"),
        ("a.json", f'[{{"azimuth": 1{"0" * 400}}}]', "row 1: azimuth must be a number"),
        ("a.json", '[{"azimuth": 1, "image": 7}]', "row 1: image must be the name of a photo"),
        ("a.json", '[{"azimuth": 1}, {"roll": 1}]', "row 2: unknown column 'roll'"),
        ("a.txt", "60", "poses are read from .csv or .json"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_row(tmp_path, name, text, sentence):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence) as told:
        moves_of_file(file, PHOTOS, 0.0)
    assert str(file) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_name_that_fits_several_photos_is_refused(tmp_path):
    file = tmp_path / "poses.csv"
    file.write_text("azimuth,image\n60,cup.png\n")
    photos = [Path("a/cup.png"), Path("b/cup.png")]
    with pytest.raises(ValueError, match=r"row 1: several of the photos are cup\.png"):
        moves_of_file(file, photos, 0.0)
    file.write_text("azimuth,image\n60,b/cup.png\n")
    assert moves_of_file(file, photos, 0.0) == [(photos[1], moves(60.0))]


def test_what_is_no_text_is_told(tmp_path):
    file = tmp_path / "poses.csv"
    file.write_bytes(b"azimuth\n\xff\xfe\n")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        moves_of_file(file, PHOTOS, 0.0)
    with pytest.raises(FileNotFoundError):
        moves_of_file(tmp_path / "none.csv", PHOTOS, 0.0)


def test_the_photos_own_elevation_is_no_rows_fault(tmp_path):
    file = tmp_path / "poses.csv"
    file.write_text("azimuth\n60\n")
    with pytest.raises(ValueError, match=r"^image_elevation must"):
        moves_of_file(file, PHOTOS, 95.0)


def test_moves_lead_away_from_the_photo():
    lead = Moves.spread([90.0], [30.0], [0.2], image_elevation=10.0)
    (seat,) = lead.seats
    assert math.degrees(seat.azimuth - lead.photo_seat.azimuth) == pytest.approx(90)
    assert math.degrees(seat.elevation) == pytest.approx(40)
    assert seat.radius - lead.photo_seat.radius == pytest.approx(0.2)
    assert lead.captions == ["azimuth +90°, elevation +30°, distance +0.2"]


def test_photos_of_the_same_moves_share_a_call_up_to_a_bound():
    a, b = moves(1.0, 2.0), moves(3.0)
    assert list(calls([a, a, b, a], samples=1)) == [(a, 2), (b, 1), (a, 1)]
    assert list(calls([a] * 5, samples=64)) == [(a, 2), (a, 2), (a, 1)]
    assert list(calls([a] * 2, samples=1000)) == [(a, 1), (a, 1)]

import pytest
import torch
from PIL import Image

from zero123.images import ImageError, frame, matte, read_image
from zero123.web.placing import LIMITS, Placement, cut_out, place, read_upload

CENTRED = Placement()


def placed(coffee, placement=CENTRED):
    return place(cut_out(read_upload(coffee), placement.cut), placement, 128)


def middle(alpha):
    rows, columns = (alpha[0] > 0.5).nonzero().double().mean(dim=0).tolist()
    return columns, rows


def test_the_page_sees_what_the_command_line_sees(coffee):
    photo, remarks = placed(coffee)
    assert torch.equal(photo.image, frame(matte(read_image(coffee)), 128).image)
    assert remarks == ()


def test_a_placement_moves_the_object(coffee):
    before, _ = placed(coffee)
    after, _ = placed(coffee, Placement(right=0.125, down=-0.0625))
    assert middle(after.alpha)[0] - middle(before.alpha)[0] == pytest.approx(16, abs=0.01)
    assert middle(after.alpha)[1] - middle(before.alpha)[1] == pytest.approx(-8, abs=0.01)
    assert float(after.image[:, :, :16].min()) > 0.9  # white comes in from the left


def test_a_placement_sizes_the_object(coffee):
    def width(fill):
        return (placed(coffee, Placement(fill=fill))[0].alpha[0] > 0.5).any(0).sum()

    assert width(0.4) == pytest.approx(0.4 * 128, abs=2)
    assert width(0.8) == pytest.approx(0.8 * 128, abs=2)


def test_as_is_keeps_the_whole_picture(coffee):
    photo, _ = placed(coffee, Placement("as is"))
    assert torch.equal(photo.image, frame(read_image(coffee).rgba, 128, "none").image)


def test_remarks_are_sentences(tmp_path, coffee):
    with Image.open(coffee) as whole:
        whole.crop((100, 0, 418, 360)).save(tmp_path / "cut.png")
    _, remarks = placed(tmp_path / "cut.png")
    assert any("touches the left edge" in remark for remark in remarks)


def test_large_photos_are_shrunk(tmp_path):
    Image.new("RGBA", (3000, 1500), (200, 20, 20, 255)).save(tmp_path / "large.png")
    photo = read_upload(tmp_path / "large.png")
    assert photo.rgba.shape == (4, 512, 1024)
    assert photo.rgba[:, 100, 100].tolist() == pytest.approx([200 / 255, 20 / 255, 20 / 255, 1])


def test_hidden_colours_do_not_bleed_out_of_a_shrunk_photo(tmp_path):
    picture = Image.new("RGBA", (2048, 2048), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (500, 500, 1501, 1501))
    picture.save(tmp_path / "red.png")
    rgba = read_upload(tmp_path / "red.png").rgba
    assert float(rgba[1][rgba[3] > 0.01].max()) < 0.01


def test_an_upload_is_bound_tighter_than_a_file(tmp_path):
    assert LIMITS.pixels == 25_000_000
    Image.new("1", (6000, 5000)).save(tmp_path / "wide.png")
    with pytest.raises(ImageError, match=r"^wide.png is 6000×5000 pixels"):
        read_upload(tmp_path / "wide.png")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"fill": 0.0}, "fill must be in"),
        ({"fill": float("nan")}, "fill must be in"),
        ({"right": 0.7}, "right must be in"),
        ({"down": float("nan")}, "down must be in"),
    ],
)
def test_an_impossible_placement_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Placement(**wrong)

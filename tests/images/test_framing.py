import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from zero123.images import FramedPhoto, Framing, FramingWarning, ImageError, frame, to_u8


def _canvas(height: int = 90, width: int = 120) -> Float[Tensor, "4 H W"]:
    """Nothing, over a colour that must never show."""
    canvas = torch.zeros(4, height, width)
    canvas[1] = 1.0
    return canvas


def _blot(height: int, width: int, seed: int = 0) -> Float[Tensor, "4 h w"]:
    """An opaque box with smooth colours of which no side looks like another."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 3, 3, generator=generator)
    colours = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return torch.cat([colours, torch.ones(1, height, width)])


def _photo(top: int = 20, left: int = 30, height: int = 48, width: int = 60) -> Tensor:
    photo = _canvas()
    photo[:, top : top + height, left : left + width] = _blot(height, width)
    return photo


def _sides(framed: FramedPhoto) -> tuple[int, int]:
    rows, columns = ((framed.alpha[0] > 0.5).any(dim).sum() for dim in (1, 0))
    return int(rows), int(columns)


# --- the original ---------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(3))
@pytest.mark.filterwarnings("ignore::zero123.images.FramingWarning")
def test_the_originals_framings_are_reproduced(index: int, golden: Path) -> None:
    numbers = np.load(golden / "preprocess.npz")
    stacked = np.dstack([numbers[f"{index}_rgb"], numbers[f"{index}_alpha"]])
    rgba = torch.from_numpy(stacked).permute(2, 0, 1).float() / 255
    cut_out = to_u8(frame(rgba, framing="original").image).permute(1, 2, 0).numpy()
    assert np.array_equal(cut_out, numbers[f"{index}_segmented_u8"])
    squeezed = frame(rgba, framing="none").image.permute(1, 2, 0).numpy()
    expected = numbers[f"{index}_plain_float_crop"]
    np.testing.assert_allclose(squeezed[96:128, 96:128], expected, rtol=0, atol=1e-6)


def test_the_originals_framing_keeps_its_proportions_at_other_sizes() -> None:
    rgba = _canvas(600, 700)
    rgba[:, 50:550, 60:460] = _blot(500, 400)
    for size in (64, 128, 256, 512):
        assert _sides(frame(rgba, size, "original"))[0] == size * 200 // 256


def test_the_originals_framing_never_enlarges() -> None:
    framed = frame(_photo(height=30, width=80), 256, "original")
    assert _sides(framed) == (30, 80)


def test_without_framing_a_square_picture_of_the_right_size_stays_as_it_is() -> None:
    pixels = torch.randint(0, 256, (4, 64, 64), generator=torch.Generator().manual_seed(0)) / 255
    pixels[3] = 1
    framed = frame(pixels, 64, "none")
    assert torch.allclose(framed.image, pixels[:3], atol=1e-7)
    assert (framed.alpha == 1).all()


# --- the training framing -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the object has only")
@given(
    height=st.integers(24, 80),
    width=st.integers(24, 100),
    size=st.sampled_from([32, 64, 100]),
    fill=st.floats(0.3, 0.95),
)
def test_the_longer_side_fills_what_was_asked_for(
    height: int, width: int, size: int, fill: float
) -> None:
    rgba = _canvas()
    rgba[:, 4 : 4 + height, 6 : 6 + width] = _blot(height, width)
    sides = _sides(frame(rgba, size, fill=fill))
    assert max(sides) == pytest.approx(fill * size, abs=2)
    assert sides[0] / sides[1] == pytest.approx(height / width, rel=3 / min(sides))


def test_by_default_the_object_fills_two_thirds_as_the_training_renders_do() -> None:
    assert max(_sides(frame(_photo()))) == pytest.approx(0.66 * 256, abs=1.1)


@given(top=st.integers(1, 41), left=st.integers(1, 59))
def test_where_the_object_stood_does_not_show(top: int, left: int) -> None:
    here, there = frame(_photo(), 64), frame(_photo(top, left), 64)
    assert torch.allclose(here.image, there.image, atol=1e-5)
    assert torch.allclose(here.alpha, there.alpha, atol=1e-5)


@given(seed=st.integers(0, 9), height=st.integers(20, 60), width=st.integers(20, 60))
def test_a_mirrored_photo_gives_the_mirrored_frame(seed: int, height: int, width: int) -> None:
    rgba = _canvas()
    rgba[:, 9 : 9 + height, 17 : 17 + width] = _blot(height, width, seed)
    framed, mirrored = frame(rgba, 64), frame(rgba.flip(2), 64)
    assert torch.allclose(framed.image.flip(2), mirrored.image, atol=1e-5)
    assert torch.allclose(framed.alpha.flip(2), mirrored.alpha, atol=1e-5)


def test_what_is_framed_already_is_hardly_changed_by_framing() -> None:
    once = frame(_photo(), 128)
    # straight colours: the frame shows them on white
    straight = (once.image - 1 + once.alpha) / once.alpha.clamp(min=1e-3)
    twice = frame(torch.cat([straight.clamp(0, 1), once.alpha]), 128)
    assert (once.image - twice.image).abs().mean() < 0.01


@pytest.mark.parametrize("scale", [0.2, 1.0, 1.7])
def test_one_colour_stays_that_colour_at_any_scale(scale: float) -> None:
    side = math.ceil(0.66 * 64 / scale)
    rgba = torch.zeros(4, 2 * side, 2 * side)
    rgba[:, side // 2 : side // 2 + side, side // 2 : side // 2 + side] = 1
    rgba[0] *= 0.3
    framed = frame(rgba, 64)
    inside = framed.image[:, 28:36, 28:36]
    assert torch.allclose(
        inside, torch.tensor([0.3, 1, 1])[:, None, None].expand(3, 8, 8), atol=1e-3
    )
    assert (framed.image[:, :6] == 1).all()


def test_the_colour_under_transparent_pixels_never_shows() -> None:
    rgba = _photo()
    other = torch.where(
        rgba[3:] > 0, rgba, torch.rand_like(rgba) * torch.tensor([1, 1, 1, 0.0])[:, None, None]
    )
    for framing in ("training", "original"):
        assert torch.equal(frame(rgba, 64, framing).image, frame(other, 64, framing).image)


def test_half_transparent_pixels_are_half_white() -> None:
    rgba = _photo()
    rgba[:3] = 0
    rgba[3, 40:50, 50:70] = 0.6
    framed = frame(rgba, 256)
    assert float(framed.image.amax(0)[framed.alpha[0] == framed.alpha[0, 128, 128]].max()) < 0.5
    assert framed.image[:, 128, 128].tolist() == pytest.approx([0.4] * 3, abs=0.05)


@pytest.mark.filterwarnings("ignore:the object has only")
def test_enlarging_draws_no_outline_on_the_white() -> None:
    framed = frame(_photo(height=7, width=9), 64)
    beside = framed.image[:, framed.alpha[0] == 0]
    assert beside.numel() > 3000
    assert (beside == 1).all()


def test_shrinking_does_not_alias() -> None:
    stripes = _canvas(800, 800)
    stripes[:, 100:700, 100:700] = 1
    stripes[:3, 100:700, 100:700:2] = 0  # black and white, one pixel each: grey from afar
    inside = frame(stripes, 64).image[:, 24:40, 24:40]
    assert torch.allclose(inside, torch.full_like(inside, 0.5), atol=0.02)


# --- what is wrong with a photo -------------------------------------------------------------


def test_a_transparent_picture_is_refused() -> None:
    for framing in ("training", "original"):
        with pytest.raises(ImageError, match="there is no object"):
            frame(torch.zeros(4, 50, 50), 64, framing)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="the picture is empty"):
        frame(torch.zeros(4, 0, 9))


@pytest.mark.parametrize("framing", ["training", "original"])
def test_an_object_at_the_edge_is_framed_with_a_warning(framing: Framing) -> None:
    with pytest.warns(FramingWarning, match="touches the left and bottom edge of the picture"):
        framed = frame(_photo(top=42, left=0), 64, framing)
    assert framed.image.shape == (3, 64, 64)


def test_a_photo_that_was_not_cut_out_is_framed_with_a_warning() -> None:
    with pytest.warns(FramingWarning, match="nothing was cut out"):
        frame(_blot(40, 60), 64)


@pytest.mark.parametrize("framing", ["training", "original"])
def test_an_object_of_few_pixels_is_framed_with_a_warning(framing: Framing) -> None:
    with pytest.warns(FramingWarning, match="has only 5×5 pixels where"):
        framed = frame(_photo(height=5, width=5), 256, framing)
    assert _sides(framed)[0] == pytest.approx(169 if framing == "training" else 5, abs=3)


@pytest.mark.filterwarnings("ignore:nothing was cut out")
def test_a_single_pixel_is_framed_with_a_warning() -> None:
    with pytest.warns(FramingWarning, match="has only 1×1 pixels"):
        framed = frame(torch.ones(4, 1, 1), 64)
    assert torch.isfinite(framed.image).all()


@pytest.mark.parametrize("framing", ["training", "original"])
def test_a_line_is_refused(framing: Framing) -> None:
    for line in (torch.ones(4, 1, 5000), torch.ones(4, 5000, 1)):
        with pytest.raises(ImageError, match="too thin to be seen"):
            frame(line, 256, framing)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 255.0])
def test_values_that_are_no_pixels_are_refused(value: float) -> None:
    rgba = _photo()
    rgba[1, 30, 40] = value
    with pytest.raises(ImageError, match=r"pixels must be in \[0, 1\]"):
        frame(rgba)


def test_a_fill_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fill must be in \(0, 1\], .*, got 200; pixels\?"):
        frame(_photo(), fill=200.0)
    with pytest.raises(ValueError, match="keeps the picture's own layout"):
        frame(_photo(), framing="none", fill=0.5)
    with pytest.raises(ValueError, match="size must be at least one pixel, got 0"):
        frame(_photo(), 0)

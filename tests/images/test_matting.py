import importlib.util
import socket
import time

import pytest
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zero123.images import ImageError, MatteWarning, Photo, frame, matte, matting

SIDE = 160


def _disc(radius: float, row: float = 80, column: float = 70) -> Float[Tensor, "H W"]:
    """Coverage of a disc, with a soft edge of one pixel."""
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    return (radius + 0.5 - ((y - row) ** 2 + (x - column) ** 2).sqrt()).clamp(0, 1)


def _shot(
    coverage: Float[Tensor, "H W"], backdrop: Float[Tensor, "3 #H #W"], seed: int = 0
) -> Float[Tensor, "3 H W"]:
    """A red and blue object before a backdrop, with some noise of the camera."""
    thing = torch.zeros(3, *coverage.shape)
    thing[0] = torch.linspace(0.7, 0.3, coverage.shape[1])
    thing[2] = torch.linspace(0.0, 0.6, coverage.shape[0])[:, None]
    noise = 0.004 * torch.randn(3, *coverage.shape, generator=torch.Generator().manual_seed(seed))
    return (coverage * thing + (1 - coverage) * backdrop + noise).clamp(0, 1)


def _flat(*colour: float) -> Float[Tensor, "3 1 1"]:
    return torch.tensor(colour)[:, None, None]


def _vignette() -> Float[Tensor, "3 H W"]:
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    return (0.9 - 0.09 * (x * x + y * y) + 0.04 * x) * _flat(1, 0.98, 0.94)


def _overlap(a: Bool[Tensor, "H W"], b: Bool[Tensor, "H W"]) -> float:
    return float((a & b).sum() / (a | b).sum())


BACKDROPS = {
    "white": _flat(1, 1, 1),
    "grey": _flat(0.6, 0.6, 0.6),
    "black": _flat(0, 0, 0),
    "green": _flat(0.1, 0.7, 0.2),
    "lit unevenly": _vignette(),
}


@pytest.mark.parametrize("backdrop", BACKDROPS)
def test_a_plain_backdrop_is_removed_with_its_tint(backdrop: str) -> None:
    coverage, ground = _disc(45), BACKDROPS[backdrop]
    shot = _shot(coverage, ground)
    cut = matte(Photo.opaque(shot), "plain")
    assert _overlap(cut[3] > 0.5, coverage > 0.5) > 0.97
    assert (cut[3] - coverage).abs().mean() < 0.01
    on_white = cut[:3] * cut[3] + 1 - cut[3]
    wanted = _shot(coverage, torch.ones(3, 1, 1))
    assert (on_white - wanted).abs().mean() < 0.01


def test_a_hole_stays_a_hole_and_a_highlight_a_highlight() -> None:
    coverage = _disc(60) - _disc(20, 90, 60) - _disc(1.5, 50, 70)
    cut = matte(Photo.opaque(_shot(coverage, _flat(0.9, 0.9, 0.9))), "plain")
    assert float(cut[3, 90, 60]) == 0
    assert float(cut[3, 50, 70]) == 1


def test_dust_on_the_backdrop_does_not_count_as_object() -> None:
    dusty = (_disc(30) + _disc(1, 10, 150) + _disc(0.7, 150, 10)).clamp(0, 1)
    cut = matte(Photo.opaque(_shot(dusty, _flat(1, 1, 1))), "plain")
    assert _overlap(cut[3] > 0.5, _disc(30) > 0.5) > 0.97


def test_an_object_of_five_pixels_is_found() -> None:
    coverage = torch.zeros(SIDE, SIDE)
    coverage[40:45, 60:65] = 1
    cut = matte(Photo.opaque(_shot(coverage, _flat(1, 1, 1))), "plain")
    assert _overlap(cut[3] > 0.5, coverage > 0.5) > 0.9


def test_an_object_cut_off_by_the_edge_is_found() -> None:
    coverage = _disc(40, row=150)
    cut = matte(Photo.opaque(_shot(coverage, _flat(0.8, 0.8, 0.9))), "plain")
    assert _overlap(cut[3] > 0.5, coverage > 0.5) > 0.97


def test_a_large_picture_is_cut_out_like_a_small_one() -> None:
    small = _shot(_disc(45), _flat(0.9, 0.9, 0.9))
    large = small.repeat_interleave(12, 1).repeat_interleave(12, 2)
    cut = matte(Photo.opaque(large), "plain")
    assert cut.shape == (4, 12 * SIDE, 12 * SIDE)
    assert _overlap(cut[3, ::12, ::12] > 0.5, _disc(45) > 0.5) > 0.95


def test_a_busy_background_is_refused_with_the_remedy() -> None:
    busy = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ImageError, match=r"not plain: cut the object out, .*zero123\[matte\]"):
        matte(Photo.opaque(busy), "plain")


def _grainy(strength: float) -> Photo:
    grain = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    shot = _shot(_disc(45), _flat(0.6, 0.6, 0.6)) + strength * grain
    return Photo.opaque(shot.clamp(0, 1))


@pytest.mark.parametrize("strength", [0.01, 0.02])
def test_grain_does_not_hinder(strength: float) -> None:
    assert _overlap(matte(_grainy(strength), "plain")[3] > 0.5, _disc(45) > 0.5) > 0.97


@pytest.mark.parametrize("strength", [0.08, 0.16, 0.5])
def test_too_much_grain_is_refused(strength: float) -> None:
    with pytest.raises(ImageError, match="not plain"):
        matte(_grainy(strength), "plain")


def test_an_object_over_half_of_the_border_is_refused() -> None:
    shot = torch.ones(3, SIDE, SIDE)
    shot[:, : SIDE // 2] = 0.2
    with pytest.raises(ImageError, match="not plain"):
        matte(Photo.opaque(shot), "plain")


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (64, 64)])
def test_an_empty_picture_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="nothing stands out"):
        matte(Photo.opaque(torch.full((3, *shape), 0.8)), "plain")


def test_the_files_own_transparency_is_kept() -> None:
    rgba = torch.rand(4, 20, 20)
    rgba[3, :5] = 0
    photo = Photo(rgba, has_alpha=True)
    assert torch.equal(matte(photo), rgba)
    assert torch.equal(matte(photo, "alpha"), rgba)


def test_an_alpha_channel_that_hides_nothing_cuts_nothing_out() -> None:
    with pytest.raises(ImageError, match="has no transparent background"):
        matte(Photo(torch.ones(4, 20, 20), has_alpha=True), "alpha")


def test_a_cut_out_photo_can_be_framed_at_once() -> None:
    framed = frame(matte(Photo.opaque(_shot(_disc(45), _flat(0.2, 0.7, 0.3))), "plain"), 64)
    corner = framed.image[:, :8, :8]
    assert torch.equal(corner, torch.ones_like(corner))


# --- the background remover -----------------------------------------------------------------

NO_REMOVER = importlib.util.find_spec("rembg") is None


@pytest.mark.skipif(not NO_REMOVER, reason="the extra is installed here")
def test_without_the_remover_its_method_says_how_to_get_it() -> None:
    with pytest.raises(ImageError, match=r"needs rembg: pip install 'zero123\[matte\]'"):
        matte(Photo.opaque(_shot(_disc(45), _flat(1, 1, 1))), "rembg")


@pytest.mark.skipif(not NO_REMOVER, reason="the extra is installed here")
def test_without_the_remover_auto_takes_the_plain_background() -> None:
    photo = Photo.opaque(_shot(_disc(45), _flat(1, 1, 1)))
    assert torch.equal(matte(photo), matte(photo, "plain"))


def test_a_network_that_does_not_answer_is_given_up_after_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> socket.socket:
        time.sleep(1)
        return socket.socket()

    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    start = time.perf_counter()
    assert not matting._is_online()
    assert time.perf_counter() - start < 1

    monkeypatch.setattr(matting, "_PATIENCE", 0.2)
    monkeypatch.setattr(matting.socket, "create_connection", never)
    start = time.perf_counter()
    assert not matting._is_online()
    assert time.perf_counter() - start < 0.9


def test_a_remover_without_its_model_leaves_auto_the_plain_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_model(photo: Photo, model: str) -> Tensor:
        raise matting._RemoverMissingError(f"no {model}")

    monkeypatch.setattr(matting, "_is_remover_installed", lambda: True)
    monkeypatch.setattr(matting, "_by_rembg", no_model)
    photo = Photo.opaque(_shot(_disc(45), _flat(1, 1, 1)))
    with pytest.warns(MatteWarning, match="no isnet-general-use; for now"):
        cut = matte(photo)
    assert torch.equal(cut, matte(photo, "plain"))


@pytest.mark.slow
@pytest.mark.skipif(NO_REMOVER, reason="needs the extra matte, and the model u2netp on this disk")
def test_the_remover_finds_an_object_before_a_busy_background() -> None:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    busy = torch.stack([(x * 0.11).sin(), (y * 0.07).cos(), (x * 0.05 + y * 0.09).sin()]) / 4 + 0.6
    cut = matte(Photo.opaque(_shot(_disc(45), busy)), "rembg", model="u2netp")
    assert _overlap(cut[3] > 0.5, _disc(45) > 0.5) > 0.8

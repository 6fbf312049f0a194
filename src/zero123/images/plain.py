"""Cutting an object out of a plain background: a studio shot, a render, a sheet of paper."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from zero123.images.errors import ImageError

# Distances between colours are CIELAB's: 2 is just noticed side by side, black to white is 100.
_SAME_BACKDROP = 10.0
_PLAIN_SHARE = 0.75  # of the border; the rest may be an object that is cut off
_LOOKS = 3  # at the backdrop: first along the border, then wherever it was found
_WORKING_SIDE = 768  # pixels; larger pictures are searched in a reduced copy
_EDGE = 3  # pixels; how far the object's colour is looked for from its soft edge


@dataclass(frozen=True)
class _Backdrop:
    """A colour that changes smoothly over the picture, as light from one side makes it."""

    from_place: Float[Tensor, "6 6"]
    """CIELAB, then sRGB in [0, 1]: sums of `_terms`."""
    noise: float
    """How far its own pixels lie from it in CIELAB, root mean square."""


def key_plain_background(rgb: Float[Tensor, "3 H W"]) -> Float[Tensor, "4 H W"]:
    """Make a plain background transparent, with a soft edge and without its tint on that edge.

    The background is what has the colour of the border and is connected with it. A patch of that
    colour inside the object is a hole (a cup's handle) if it is wider than 2 % of the picture,
    else a highlight. A cast shadow counts as object.

    Args:
        rgb: pixels in [0, 1].

    Returns:
        Straight-alpha pixels in [0, 1].

    Raises:
        ImageError: if the border is not of one colour, or nothing differs from it.
    """
    height, width = rgb.shape[1:]
    shrink = min(1.0, _WORKING_SIDE / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    small = rgb if shrink == 1 else _resized(rgb, size)
    seen = torch.cat([_lab(small), small])
    places = _terms(torch.ones(size).nonzero(), size).reshape(-1, *size)
    background = _border(*size)
    expected = seen[:, background].median(dim=1).values[:, None, None].expand_as(seen)
    for _ in range(_LOOKS):
        backdrop = _fit_backdrop(seen, places, background, expected)
        expected = torch.einsum("ck,khw->chw", backdrop.from_place, places)
        distance = (seen[:3] - expected[:3]).square().sum(0).sqrt()
        background = _find_background(distance, backdrop.noise)
    alpha = _soft_alpha(distance, _without_specks(~background), backdrop.noise)
    if shrink < 1:
        alpha = _resized(alpha[None], (height, width))[0]
    rgba = torch.cat([rgb, alpha[None]])
    edge = (alpha > 0) & (alpha < 1)
    # a pixel here is alpha * object + (1 - alpha) * backdrop: solve for the object
    behind = backdrop.from_place[3:] @ _terms(edge.nonzero(), (height, width))
    rgba[:3, edge] = behind + (rgb[:, edge] - behind) / alpha[edge].clamp(min=0.05)
    return rgba.clamp_(0, 1)


def _fit_backdrop(
    seen: Float[Tensor, "6 H W"],
    places: Float[Tensor, "6 H W"],
    where: Bool[Tensor, "H W"],
    expected: Float[Tensor, "6 H W"],
) -> _Backdrop:
    """Fit a smooth colour to some pixels, most of which must be near what is expected."""
    colours, terms, fitted = seen[:, where], places[:, where], expected[:, where]
    tolerance = 2 * _SAME_BACKDROP  # more at first, for a backdrop that is lit from one side
    for _ in range(3):
        alike = (colours[:3] - fitted[:3]).square().sum(0).sqrt() < tolerance
        if not alike.float().mean() >= _PLAIN_SHARE:  # also if there are none to look at
            raise ImageError(
                "the background is not plain: cut the object out, "
                "or install a background remover: pip install 'zero123[matte]'"
            )
        kept = (terms * alike).double()
        # the pseudo-inverse, because a single row of pixels has no slope across it
        inverse = torch.linalg.pinv(kept @ kept.T)
        from_place = (colours.double() @ kept.T @ inverse).float()
        fitted = from_place @ terms
        tolerance = _SAME_BACKDROP
    residual = (colours[:3] - fitted[:3])[:, alike]
    return _Backdrop(from_place, float(residual.square().sum(0).mean().sqrt()))


def _border(height: int, width: int) -> Bool[Tensor, "H W"]:
    depth = max(1, max(height, width) // 100)
    border = torch.ones(height, width, dtype=torch.bool)
    border[depth:-depth, depth:-depth] = False
    return border


def _find_background(distance: Float[Tensor, "H W"], noise: float) -> Bool[Tensor, "H W"]:
    alike = distance < min(max(3 * noise + 1, 3.0), _SAME_BACKDROP)
    open_ = ~_grown(~alike, 1)  # a chink in the outline is too narrow to enter the object by
    start = ~_grown(~alike, _hole_radius(distance))
    start[[0, -1], :] = True
    start[:, [0, -1]] = True
    return _grown(_reached(start & open_, open_), 2) & alike


def _without_specks(mask: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Keep the parts as wide as a hole must be; if there are none, the widest ones."""
    radius = _hole_radius(mask)
    while radius > 0:
        cores = ~_grown(~mask, radius)
        if cores.any():
            return _reached(cores, mask)
        radius //= 2
    if not mask.any():
        raise ImageError("nothing stands out from the plain background: is the picture empty?")
    return mask


def _soft_alpha(
    distance: Float[Tensor, "H W"], mask: Bool[Tensor, "H W"], noise: float
) -> Float[Tensor, "H W"]:
    """Along the edge, how far a pixel is on its way from the backdrop to the colour inside."""
    solid = _grown(~_grown(~mask, 1), 1)
    inside = functional.max_pool2d((distance * solid)[None], 2 * _EDGE + 1, 1, _EDGE)[0]
    way = torch.maximum(inside, distance) - noise
    share = ((distance - noise) / way.clamp(min=1e-3)).clamp(0, 1)
    near_edge = _grown(~mask, _EDGE)
    return torch.where(near_edge, share, torch.ones_like(share)) * mask


def _hole_radius(picture: Tensor) -> int:
    """Half of 2 % of the longer side, pixels."""
    return max(1, max(picture.shape) // 100)


def _reached(start: Bool[Tensor, "H W"], open_: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Flood from some pixels through the open ones, by sides but not by corners."""
    reached, count = start & open_, -1
    while count != (count := int(reached.sum())):
        reached = _filled_rows(_filled_rows(reached, open_).T, open_.T).T
    return reached


def _filled_rows(start: Bool[Tensor, "H W"], open_: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Fill every horizontal run of open pixels that holds a start."""
    before = functional.pad(open_[:, :-1], (1, 0))
    run = (open_ & ~before).flatten().cumsum(0).reshape(open_.shape)  # numbered, row by row
    hit = torch.zeros(int(run[-1, -1]) + 1, dtype=torch.bool)
    hit[run[start & open_]] = True
    return hit[run] & open_


def _grown(mask: Bool[Tensor, "H W"], radius: int) -> Bool[Tensor, "H W"]:
    """Every pixel with a true one in the square of ``2 radius + 1`` around it."""
    side = 2 * radius + 1
    across = functional.max_pool2d(mask[None].float(), (1, side), 1, (0, radius))
    return functional.max_pool2d(across, (side, 1), 1, (radius, 0))[0] > 0


def _terms(pixels: Int[Tensor, "n 2"], size: tuple[int, int]) -> Float[Tensor, "6 n"]:
    """``(1, x, y, x², xy, y²)`` at (row, column); x and y run over (-1, 1)."""
    y, x = (2 * pixels.T + 1) / torch.tensor(size)[:, None] - 1
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])


def _resized(image: Float[Tensor, "c H W"], size: tuple[int, int]) -> Float[Tensor, "c h w"]:
    return functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def _lab(rgb: Float[Tensor, "3 ..."]) -> Float[Tensor, "3 ..."]:
    """CIELAB (D65) of sRGB in [0, 1]. Source: IEC 61966-2-1, CIE 15."""
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz_from_rgb = torch.tensor(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz_from_rgb = xyz_from_rgb / xyz_from_rgb.sum(dim=1, keepdim=True)  # white becomes (1, 1, 1)
    xyz = torch.einsum("ij,j...->i...", xyz_from_rgb, linear)
    x, y, z = torch.where(xyz > (6 / 29) ** 3, xyz ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])

"""Figures of single views: PSNR, SSIM, both inside the object, mask IoU, camera obedience, FLIP."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from zero123.evaluation.scenes import Scene

try:
    from scipy.ndimage import binary_fill_holes
    from skimage.metrics import mean_squared_error, structural_similarity
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "evaluating needs scikit-image: pip install 'zero123[eval]'"
    ) from missing

BEST_PSNR = 100.0
"""PSNR of identical pictures, dB: where others write infinity, which spoils every mean."""
_SSIM_BORDER = 5
"""Pixels at each edge without a whole 11×11 window."""
_WHITE = 242
"""A pixel with a channel below this level, 0.95 of 255, is no ground."""


@dataclass(frozen=True)
class Metric:
    """What a figure is called, and what exactly it means."""

    title: str
    definition: str
    better: Literal["higher", "lower"]
    perfect: float
    """The figure of the truth itself."""
    digits: int
    """Decimals in tables."""
    chance: Callable[[int], float] | None = None
    """The figure of a view that takes no notice of the seat, by number of targets."""


Scorer = Callable[[UInt8[np.ndarray, "targets H W 3"]], Float64[np.ndarray, "metrics targets"]]
"""Compares views of one scene with the truth."""


@dataclass(frozen=True)
class Judge:
    """Compares views with the truth, in one or more figures."""

    metrics: tuple[Metric, ...]
    look_at: Callable[[Scene], Scorer]
    """Looks at the truth of a scene, once for all who are compared with it."""


def psnr(made: UInt8[np.ndarray, "*shape"], truth: UInt8[np.ndarray, "*shape"]) -> float:
    """Peak signal-to-noise ratio of 8-bit levels, dB; 100 for equal ones, and never more."""
    error = float(mean_squared_error(made, truth))
    return BEST_PSNR if error == 0 else min(BEST_PSNR, 10 * float(np.log10(255**2 / error)))


def ssim_map(
    made: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"]
) -> Float64[np.ndarray, "H W"]:
    """Structural similarity at each pixel, the mean of the three channels.

    Source: Wang et al. 2004: 11×11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, data range 255.
    """
    _, similarity = structural_similarity(
        truth,
        made,
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    mean: Float64[np.ndarray, "H W"] = similarity.mean(axis=-1)
    return mean


def mean_ssim(similar: Float64[np.ndarray, "H W"]) -> float:
    """The figure that Wang et al. give for a whole picture: without the windows cut by its edge."""
    rim = slice(_SSIM_BORDER, -_SSIM_BORDER)
    return float(similar[rim, rim].mean())


def object_mask(picture: UInt8[np.ndarray, "H W 3"]) -> Bool[np.ndarray, "H W"]:
    """What of a picture on white is not ground, holes filled."""
    mask: Bool[np.ndarray, "H W"] = binary_fill_holes(picture.min(axis=-1) < _WHITE)
    return mask


def mask_iou(made: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """Share of the union that both cover; 1 if both are empty."""
    union = int((made | truth).sum())
    return 1.0 if union == 0 else float((made & truth).sum() / union)


def ranks(
    made: UInt8[np.ndarray, "targets H W 3"], truths: UInt8[np.ndarray, "targets H W 3"]
) -> tuple[Float64[np.ndarray, " targets"], Float64[np.ndarray, " targets"]]:
    """Ask of each view which of all true views is nearest to it in mean squared error.

    Returns:
        Whether it is the true one of its own seat (a tie counts as its share), and the rank of
        that one, 1 for the nearest (ties take their middle).
    """
    count = len(truths)
    flat_made, flat_true = (p.reshape(count, -1).astype(np.float64) for p in (made, truths))
    # levels are whole numbers: products stay exact, equal distances stay equal
    distance = (
        (flat_made**2).sum(axis=1)[:, None]
        - 2 * flat_made @ flat_true.T
        + (flat_true**2).sum(axis=1)[None]
    )
    own = np.diagonal(distance)[:, None]
    nearer, as_near = (distance < own).sum(axis=1), (distance == own).sum(axis=1)
    return np.where(nearer == 0, 1 / as_near, 0.0), nearer + (as_near + 1) / 2


def _pixels_of(scene: Scene) -> Scorer:
    truths, masks = scene.on_white, scene.masks

    def score(
        made: UInt8[np.ndarray, "targets H W 3"],
    ) -> Float64[np.ndarray, "metrics targets"]:
        rows = []
        for view, truth, mask in zip(made, truths, masks, strict=True):
            similar = ssim_map(view, truth)
            rows.append(
                (
                    psnr(view, truth),
                    mean_ssim(similar),
                    psnr(view[mask], truth[mask]),
                    float(similar[mask].mean()),
                    mask_iou(object_mask(view), object_mask(truth)),
                )
            )
        return np.array(rows, np.float64).T

    return score


def _obedience_of(scene: Scene) -> Scorer:
    truths = scene.on_white
    return lambda made: np.stack(ranks(made, truths))


PIXELS = Judge(
    (
        Metric(
            "PSNR (dB)",
            "whole picture on white, 8-bit RGB, per view; 100 for identical pictures; "
            "scikit-image's mean_squared_error",
            "higher",
            BEST_PSNR,
            2,
        ),
        Metric(
            "SSIM",
            "whole picture on white, Wang et al. 2004: Gaussian 11x11 window, sigma 1.5, data "
            "range 255, each RGB channel, without 5 px of border; scikit-image's "
            "structural_similarity",
            "higher",
            1.0,
            3,
        ),
        Metric(
            "PSNR inside (dB)",
            "PSNR over the pixels that the truth's alpha (above 127) says are the object",
            "higher",
            BEST_PSNR,
            2,
        ),
        Metric(
            "SSIM inside",
            "mean over the same pixels of the same SSIM's map",
            "higher",
            1.0,
            3,
        ),
        Metric(
            "mask IoU",
            "of the pixels with a channel below 242, holes filled, in both pictures: a white "
            "object's white parts count for neither",
            "higher",
            1.0,
            3,
        ),
    ),
    _pixels_of,
)
OBEDIENCE = Judge(
    (
        Metric(
            "camera obedience (rate)",
            "share of views to which, of all target views of the object, that of the asked seat is "
            "the nearest in mean squared error on white; ties count as their share",
            "higher",
            1.0,
            3,
            lambda targets: 1 / targets,
        ),
        Metric(
            "camera obedience (mean rank)",
            "place of the asked seat's view among all target views of the object, by the same "
            "distance, 1 for the nearest; ties take their middle",
            "lower",
            1.0,
            2,
            lambda targets: (targets + 1) / 2,
        ),
    ),
    _obedience_of,
)


def flip() -> Judge:
    """Perceived difference when two pictures are flipped back and forth.

    Source: Andersson et al., "FLIP: A Difference Evaluator for Alternating Images", 2020.

    Raises:
        ModuleNotFoundError: without the package ``flip-evaluator``.
    """
    if importlib.util.find_spec("flip_evaluator") is None:
        raise ModuleNotFoundError("needs flip-evaluator: pip install flip-evaluator")
    flip_evaluator = importlib.import_module("flip_evaluator")

    def look_at(scene: Scene) -> Scorer:
        truths = scene.on_white.astype(np.float32) / 255

        def one(view: Float[np.ndarray, "H W 3"], truth: Float[np.ndarray, "H W 3"]) -> float:
            return float(flip_evaluator.evaluate(truth, view, "LDR", applyMagma=False)[1])

        def score(
            made: UInt8[np.ndarray, "targets H W 3"],
        ) -> Float64[np.ndarray, "metrics targets"]:
            views = made.astype(np.float32) / 255
            return np.array(
                [[one(view, truth) for view, truth in zip(views, truths, strict=True)]], np.float64
            )

        return score

    metric = Metric(
        "LDR-FLIP",
        "mean of the error map, 67 pixels per degree, whole picture on white; flip-evaluator",
        "lower",
        0.0,
        3,
    )
    return Judge((metric,), look_at)

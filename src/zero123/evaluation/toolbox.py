"""Everything there is to measure with on this machine, and what is missing for the rest."""

from collections.abc import Callable
from pathlib import Path

from zero123.evaluation.backbones import BackboneMissing, Backbones
from zero123.evaluation.features import efficientnet_features, inception_features
from zero123.evaluation.metrics import OBEDIENCE, PIXELS, Judge, flip
from zero123.evaluation.perceptual import lpips, stlpips
from zero123.evaluation.run import FeatureNet, Missing, Toolbox


def collect_tools(folder: Path | None = None, download: bool = False) -> Toolbox:
    """Take every figure whose weights are here; name the others with the reason.

    Args:
        folder: holds weights by their published names, and takes what is downloaded; None for the
            user's cache.
        download: fetch weights that are missing and can be fetched.

    Raises:
        ValueError: if a file of weights is there but altered.
    """
    backbones = Backbones(folder, download)
    judges: dict[tuple[str, ...], Callable[[], Judge]] = {
        ("LPIPS (alex)",): lambda: lpips("alex", backbones),
        ("LPIPS (vgg)",): lambda: lpips("vgg", backbones),
        ("ST-LPIPS (alex)",): lambda: stlpips(backbones),
        ("LDR-FLIP",): flip,
    }
    nets: dict[tuple[str, ...], Callable[[], FeatureNet]] = {
        ("FID (64)", "FID (2048)", "KID (2048)"): lambda: inception_features(backbones),
        ("Fréchet distance, EfficientNet-lite0", "kernel distance, EfficientNet-lite0"): (
            lambda: efficientnet_features(backbones)
        ),
    }
    found_judges, found_nets, missing = [PIXELS, OBEDIENCE], [], []
    for titles, make_judge in judges.items():
        try:
            found_judges.append(make_judge())
        except (BackboneMissing, ModuleNotFoundError) as reason:
            missing += [Missing(title, str(reason)) for title in titles]
    for titles, make_net in nets.items():
        try:
            found_nets.append(make_net())
        except (BackboneMissing, ModuleNotFoundError) as reason:
            missing += [Missing(title, str(reason)) for title in titles]
    return Toolbox(tuple(found_judges), tuple(found_nets), tuple(missing))

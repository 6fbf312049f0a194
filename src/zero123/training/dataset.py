"""From rendered objects, or none at all, to features that training reads."""

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zero123.data.bench import RenderJob
from zero123.data.jobs import run_job
from zero123.data.pairs import SkippedWarning, pack_views
from zero123.data.sources import find_items
from zero123.images import write_text
from zero123.training.features import FeatureViews, write_features
from zero123.weights import Components

MADE_UP = "procedural:"
"""What begins so is drawn on the way, by the fast renderer."""
MADE_UP_VIEWS = 24
"""Views of each made-up object."""
MOST_DAMAGED = 0.1
"""Training does not start on a data set of which a greater share cannot be read."""
_HELD_SHARE = 6


class DatasetError(ValueError):
    """Data that training cannot start on; the sentence says why."""


@dataclass(frozen=True)
class Dataset:
    """Features of a data set, of which the last views of each object may be held out."""

    features: FeatureViews
    held_views: int = 0
    """So many last views of each object are not trained on."""

    @property
    def trained(self) -> FeatureViews:
        """What may be trained on."""
        return self.features.first_views(self.features.num_views - self.held_views)


def open_dataset(
    source: str,
    folder: Path,
    name: str,
    parts: Components,
    image_size: int,
    with_embeddings: bool,
    say: Callable[[str], None] = print,
) -> FeatureViews:
    """Bring a source into the form that training reads; what is there already is not made again.

    Args:
        source: rendered objects (a folder of views or of shards, an archive, a URL), or
            ``procedural:N``.
        folder: where to keep it.
        name: of the set in there.
        parts: whose autoencoder and image encoder look at the views.
        image_size: of the model, pixels.
        with_embeddings: False if photos are embedded in every step.
        say: called with a sentence for what could not be read.

    Raises:
        DatasetError: if the folder holds another set, or too much of the source is damaged.
        ValueError, OSError: as ``open_data`` and ``find_items`` do.
    """
    made_from = {"source": source, "image_size": image_size, "embeddings": with_embeddings}
    noted = folder / f"{name}.source.json"
    if noted.exists():
        if json.loads(noted.read_text(encoding="utf-8")) != made_from:
            raise DatasetError(f"{noted} tells of other data: name another folder for this run")
        return FeatureViews.open(folder, name)
    folder.mkdir(parents=True, exist_ok=True)
    rendered = source
    if source.startswith(MADE_UP):
        rendered = str(folder / f"{name}.rendered")
        job = RenderJob(views=MADE_UP_VIEWS, size=image_size, renderer="fast")
        run_job(find_items([source]), job, Path(rendered), workers=len(os.sched_getaffinity(0)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SkippedWarning)
        views = pack_views(rendered, folder, name, image_size, damaged="skip")
    skipped = [str(w.message) for w in caught if issubclass(w.category, SkippedWarning)]
    for sentence in skipped:
        say(sentence)
    if len(skipped) > MOST_DAMAGED * (len(skipped) + len(views)):
        raise DatasetError(
            f"{len(skipped)} of {len(skipped) + len(views)} objects of {source} are damaged, more "
            f"than {MOST_DAMAGED:.0%}: see zero123 data check"
        )
    features = write_features(views, folder, name, parts, with_embeddings)
    write_text(json.dumps(made_from), noted)
    return features


def held_out(features: FeatureViews) -> Dataset:
    """Hold a sixth of each object's views out of training, one at least.

    Raises:
        DatasetError: if objects have too few views.
    """
    if features.num_views < 4:
        raise DatasetError(
            f"objects have {features.num_views} views: training on them and holding one out takes 4"
        )
    return Dataset(features, max(1, features.num_views // _HELD_SHARE))

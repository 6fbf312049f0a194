"""What a run says of itself while it goes: figures a line, TensorBoard, pictures."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from PIL import Image

from zero123.images import save_picture
from zero123.training.loop import Row
from zero123.training.watch import Figures

EVERY = 10
"""Steps between lines."""


class Diary:
    """Writes ``log.jsonl``, ``watched-STEP.png``, and TensorBoard's files under ``tensorboard/``.

    Weights & Biases gets the same, where it is installed and set up (``WANDB_API_KEY`` or
    ``WANDB_MODE``); its project is zero123.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self._trackers: dict[GeneralTracker, dict[str, str]] = {}  # and how to give it pictures
        if importlib.util.find_spec("tensorboard") is not None:
            tensorboard = TensorBoardTracker("tensorboard", logging_dir=out)
            self._trackers[tensorboard] = {"dataformats": "NHWC"}
        is_set_up = bool({"WANDB_API_KEY", "WANDB_MODE"} & set(os.environ))
        if is_set_up and importlib.util.find_spec("wandb") is not None:
            self._trackers[WandBTracker("zero123", name=out.name, dir=str(out))] = {}
        for tracker in self._trackers:
            tracker.start()

    def step(self, row: Row) -> None:
        """Note a step's figures; only some steps are kept."""
        if row["step"] % EVERY == 0:
            self._note(row)

    def watched(self, step: int, figures: Figures, sheet: Image.Image) -> None:
        """Note a look at held-out objects."""
        told = {"PSNR": figures.psnr, "SSIM": figures.ssim, "obedience": figures.found}
        self._note({"step": step, **told, "angle": figures.angle, "chance": figures.chance})
        save_picture(sheet, self.out / f"watched-{step:06d}.png")
        for tracker, options in self._trackers.items():
            tracker.log_images({"watched": np.array(sheet)[None]}, step=step, **options)

    def close(self) -> None:
        """Bring everything onto the disk."""
        for tracker in self._trackers:
            tracker.finish()

    def _note(self, row: Row) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        figures = {name: value for name, value in row.items() if name != "step"}
        for tracker in self._trackers:
            tracker.log(figures, step=int(row["step"]))

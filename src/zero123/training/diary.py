"""What a run says of itself: figures a line, TensorBoard, pictures, at the end its losses."""

import importlib.util
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from PIL import Image

from zero123.images import plot_losses, save_picture
from zero123.training.loop import Row
from zero123.training.watch import Figures

EVERY = 10
"""Steps between lines."""


class Diary:
    """Writes ``log.jsonl``, ``watched-STEP.png``, ``losses.png``, and TensorBoard's files.

    Weights & Biases gets the same, where it is installed and set up (``WANDB_API_KEY`` or
    ``WANDB_MODE``); its project is zero123.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self._log = out / "log.jsonl"
        self._log.touch()
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
        """Draw the losses, and bring everything onto the disk."""
        losses: dict[int, float] = {}  # a run that was resumed, or rolled back, tells steps twice
        for line in self._log.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError):  # a line cut short by a kill; one of a look
                row = json.loads(line)
                losses[row["step"]] = row["loss"]
        if losses:
            history = {"loss": [losses[step] for step in sorted(losses)]}
            save_picture(plot_losses(history, max(losses), EVERY), self.out / "losses.png")
        for tracker in self._trackers:
            tracker.finish()

    def _note(self, row: Row) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        figures = {name: value for name, value in row.items() if name != "step"}
        for tracker in self._trackers:
            tracker.log(figures, step=int(row["step"]))

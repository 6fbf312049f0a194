"""How a photo and a model are opened, for every command that needs both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from zero123.images import FramedPhoto
    from zero123.pipeline import Zero123Pipeline


@dataclass(frozen=True)
class Opening:
    """How a photo and a model are opened."""

    model: str = "mini"
    """Bundled name, folder, .ckpt or .safetensors file, or hub id (see `zero123 models`)."""
    lora: Path | None = None
    """An adapter trained on this model, a .safetensors file, to be added to it."""
    matte: Literal["auto", "alpha", "rembg", "plain"] = "auto"
    """How the object is cut out: auto takes the photo's alpha, else rembg, else a plain ground."""
    framing: Literal["training", "original", "none"] = "training"
    """How the object is placed: as in training pictures, as the authors' demo does, or as is."""
    pose_encoding: Literal["zero123", "stable-zero123"] | None = None
    """Says what kind of model it is, where its files do not."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps ..."""
    speed: Literal["exact", "fast", "turbo", "low-memory"] | None = None
    """exact: the same picture sooner, for memory; fast: near it, compiles for minutes; turbo: fewer
    steps too; low-memory: slower. Left out: what is exact and costs nothing."""
    tiny_decoder: Path | None = None
    """A folder with a small autoencoder for the model's latents (AutoencoderTiny, as TAESD is
    published), which decodes views in place of the model's own: for previews."""

    def open(
        self, paths: Sequence[Path], exact: bool, smallest: int = 0
    ) -> "tuple[Zero123Pipeline, Iterator[FramedPhoto]]":
        """Open the model where it runs best, and the photos as it wants them.

        Photos are read first: a mistyped name is told before gigabytes are. Each is read again when
        its turn comes, for a folder of them may not fit in memory.

        Args:
            paths: of the photos.
            exact: never in half precision.
            smallest: side that the framed photos have at least, pixels; else the model's.
        """
        import torch

        from zero123.images import frame, matte, read_image
        from zero123.pipeline import Zero123Pipeline
        from zero123.speed import ALWAYS, accelerate, preset

        @lru_cache(maxsize=1)  # one alone is read once
        def cut_out(path: Path) -> "Tensor":
            return matte(read_image(path), self.matte)

        for path in paths:
            cut_out(path)
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.zeros(1, device=device).item()
        except (
            RuntimeError,
            AssertionError,
            NotImplementedError,
        ) as error:  # torch asserts that it was built for CUDA
            first_line = str(error).splitlines()[0]
            raise ValueError(f"--device {device} cannot be used here: {first_line}") from error
        half = device.startswith("cuda") and not exact
        pipe: Zero123Pipeline = Zero123Pipeline.from_pretrained(
            self.model,
            torch_dtype=torch.float16 if half else torch.float32,
            pose_encoding=self.pose_encoding,
            lora=self.lora,
        ).to(device)
        plan = preset(self.speed, pipe.device.type) if self.speed else ALWAYS
        accelerate(pipe, replace(plan, tiny_decoder=self.tiny_decoder))
        size = max(pipe.image_size, smallest)
        return pipe, (frame(cut_out(path), size, self.framing) for path in paths)

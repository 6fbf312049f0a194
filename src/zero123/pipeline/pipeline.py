"""From a framed photo and a camera move to the object from there."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.utils import BaseOutput
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from zero123.geometry import PoseEncoding
from zero123.images import Picture, square_picture, to_pil
from zero123.models import (
    Autoencoder,
    Condition,
    PhotoFeatures,
    PoseProjection,
    Tell,
    decode_latents,
    embed_photos,
    encode_latents,
    tell,
)
from zero123.pipeline.asked import (
    Number,
    Numbers,
    read_noise,
    read_pictures,
    read_poses,
    read_seeds,
)
from zero123.pipeline.precision import finite_or_wider
from zero123.pipeline.sampling import Preset, Sampling
from zero123.weights import Components, Settings, apply_lora, open_model, save_model


@dataclass
class Zero123Output(BaseOutput):  # type: ignore[misc]
    """The views of one call."""

    images: Any
    """Image by image, pose by pose, sample by sample: nested lists of PIL pictures; for "np" an
    array (images, poses, samples, H, W, 3) in [0, 1]; for "pt" a tensor (images, poses, samples,
    3, H, W) in [0, 1]; for "latent" a tensor of scaled latents."""


@dataclass(frozen=True)
class _Row:
    """One view to make."""

    photo: int
    pose: Float[Tensor, " numbers"]
    seed: int
    """All noise of this view comes from it, so that the view does not depend on its batch."""


class Zero123Pipeline(DiffusionPipeline):  # type: ignore[misc]
    """See an object from another side.

    Source: Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023.
    """

    model_cpu_offload_seq = "image_encoder->cc_projection->unet->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        vae: Autoencoder,
        image_encoder: CLIPVisionModelWithProjection,
        unet: UNet2DConditionModel,
        cc_projection: PoseProjection,
        scheduler: SchedulerMixin,
        pose_encoding: PoseEncoding = "zero123",
        steps: int = 50,
        guidance: float = 3.0,
        eta: float = 1.0,
        name: str | None = None,
        licence: str | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            image_encoder=image_encoder,
            unet=unet,
            cc_projection=cc_projection,
            scheduler=scheduler,
        )
        self.settings = Settings(
            pose_encoding=pose_encoding,
            steps=steps,
            guidance=guidance,
            eta=eta,
            name=name,
            licence=licence,
        )
        self.register_to_config(**asdict(self.settings))
        self.memory_bound = 2.0
        """GiB that the activations of one batch may take, about."""
        self.tell: Tell = tell
        """How the denoiser is told what to see; ``zero123.speed`` puts faster ways here."""
        self._interrupt = False

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        torch_dtype: torch.dtype = torch.float32,
        weights: Literal["ema", "raw"] = "ema",
        pose_encoding: PoseEncoding | None = None,
        lora: str | Path | None = None,
    ) -> "Zero123Pipeline":
        """Open a model.

        Args:
            source: a bundled model's name ("mini"), a folder in any published layout, a raw
                ``.ckpt`` or ``.safetensors`` file, or a hub id.
            torch_dtype: of the networks; the pose projection stays in float32.
            weights: which weights of the denoiser to take from a file that holds both. The
                original samples with the running average, "ema".
            pose_encoding: says what the pose numbers mean where the source does not.
            lora: an adapter that was trained on this model, to be added to its weights.

        Raises:
            ValueError: if the source is unknown, damaged or something else; it says what.
        """
        parts = open_model(source, dtype=torch_dtype, weights=weights, pose_encoding=pose_encoding)
        if lora is not None:
            apply_lora(parts, Path(lora))
        return cls.of_parts(parts)

    @classmethod
    def of_parts(cls, parts: Components) -> "Zero123Pipeline":
        """Ask a model that is open already; its networks are shared, not copied."""
        return cls(
            vae=parts.vae,
            image_encoder=parts.image_encoder,
            unet=parts.unet,
            cc_projection=parts.projection,
            scheduler=parts.scheduler,
            **asdict(parts.settings),
        )

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the model as a folder of safetensors with a hash manifest.

        Raises:
            ValueError: if the networks are switched to another way of computing.
        """
        if self.tell is not tell:
            raise ValueError("an accelerated model is not saved: zero123.speed.restore(pipe) first")
        parts = Components(
            unet=self.unet,
            vae=self.vae,
            image_encoder=self.image_encoder,
            projection=self.cc_projection,
            scheduler=self.scheduler,
            settings=self.settings,
        )
        save_model(parts, Path(save_directory))

    def to(self, *args: Any, **kwargs: Any) -> "Zero123Pipeline":
        """Move or convert the networks; the pose projection stays in float32."""
        super().to(*args, **kwargs)
        self.cc_projection.float()
        return self

    @property
    def image_size(self) -> int:
        """Side of the pictures that the model was trained on, pixels."""
        return int(self.unet.config.sample_size * self._scale)

    @property
    def interrupt(self) -> bool:
        """Whether a callback has asked to stop, by ``pipe._interrupt = True``."""
        return self._interrupt

    @property
    def _scale(self) -> int:
        """Pixels a latent, along each axis."""
        return int(2 ** (len(self._vae_widths) - 1))

    @property
    def _vae_widths(self) -> Sequence[int]:
        """Channels of the autoencoder at each resolution, the finest first."""
        config = self.vae.config
        widths: Sequence[int] = (
            config.get("encoder_block_out_channels") or config.block_out_channels
        )
        return widths

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | Sequence[Picture],
        azimuth: Numbers = 0.0,
        elevation: Numbers = 0.0,
        distance: Numbers = 0.0,
        num_images_per_pose: int = 1,
        num_inference_steps: Number | None = None,
        guidance_scale: Number | None = None,
        eta: Number | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        preset: Preset | None = None,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        image_elevation: Number | None = None,
        callback_on_step_end: Callable[..., dict[str, Tensor] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Zero123Output:
        """Make every wanted view of every photo.

        Args:
            image: one framed square picture or several; alpha is composited on white, another
                size is resized, nothing is cropped or moved.
            azimuth: turn of the camera, degrees, positive counter-clockwise seen from above
                (the camera moves to its own right). One number or one a pose.
            elevation: climb of the camera, degrees in [-90, 90], up positive. Likewise.
            distance: change of distance, in units of the object's longest side; the models
                learned -0.7 to 0.7. Likewise.
            num_images_per_pose: samples of each view.
            num_inference_steps: steps of the sampler; None for the preset's.
            guidance_scale: 1 follows the photo as learned, more follows it harder; None for the
                preset's.
            eta: noise that DDIM adds back, 0 to 1; None for the preset's.
            generator: one, or one a view in the order of the result, flattened. From one, sample
                number k takes the same noise for every image and pose. Either way a view never
                depends on what else is made in the call.
            latents: starting noise instead, (views, c, h, w) or (images, poses, samples, c, h, w).
                Its size decides that of the pictures.
            preset: "default", the model's own steps, guidance and eta with ``self.scheduler``; or
                "original", the authors' sampler to the number.
            output_type: see ``Zero123Output``.
            image_elevation: elevation of the photo itself, degrees, up positive. Stable-Zero123
                needs it, to "mini" it is a help; other models take no notice.
            callback_on_step_end: called as ``f(pipe, step, timestep, {"latents": ...})`` after
                each step, counted through all batches; may return changed latents. A batch that
                overflows half precision is walked, and told, once more. If it sets
                ``pipe._interrupt = True``, no further step is made; what is there is decoded.
            callback_on_step_end_tensor_inputs: may only name "latents".

        Raises:
            ValueError: for numbers that are not finite, out of range, or radians by mistake, and
                for pictures that are not square or hold NaN; before anything is computed.
            FloatingPointError: if the network overflows even in float32.
        """
        # 1. Check everything before computing anything
        encoding = self.settings.pose_encoding
        poses = read_poses(azimuth, elevation, distance, image_elevation, encoding)
        sampling = Sampling.chosen(
            preset, num_inference_steps, guidance_scale, eta, self.settings, self.scheduler
        )
        if num_images_per_pose < 1:
            raise ValueError(f"num_images_per_pose must be at least 1, got {num_images_per_pose}")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f'output_type must be "pil", "np", "pt" or "latent": {output_type!r}')
        if set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError('callback_on_step_end_tensor_inputs may only name "latents"')

        pictures = read_pictures(image)
        shape = (len(pictures), len(poses), num_images_per_pose)
        channels = int(self.unet.config.out_channels)
        start = None if latents is None else read_noise(latents, math.prod(shape), channels)
        size = self.image_size if start is None else self._scale * start.shape[-1]
        self._interrupt = False

        # 2. Photos: one batch of squares in [0, 1]
        photos = torch.stack([square_picture(picture, size) for picture in pictures])

        # 3. A row a view: image, pose, sample
        seeds = read_seeds(generator, shape)
        rows = [
            _Row(photo, poses[at], seed)
            for (photo, at, _), seed in zip(np.ndindex(shape), seeds, strict=True)
        ]

        # 4. Encode each photo once
        device = self._execution_device
        features = self._encode(photos.to(device), size)
        condition = features.seen_from(
            torch.stack([row.pose for row in rows]).to(device),
            [row.photo for row in rows],
            self.cc_projection,
        )

        # 5. Denoise in batches under the memory bound
        batches = list(self._batches(len(rows), size))
        done: list[Tensor] = []
        _, timesteps = sampling.start()
        with self.progress_bar(total=len(timesteps) * len(batches)) as bar:
            for number, batch in enumerate(batches):

                def after_step(
                    step: int, timestep: Tensor, current: Tensor, number: int = number
                ) -> Tensor:
                    bar.update()
                    if callback_on_step_end is None:
                        return current
                    step += number * len(timesteps)
                    changed = callback_on_step_end(self, step, timestep, {"latents": current})
                    return (changed or {}).get("latents", current)

                noise = None if start is None else start[batch]
                done.append(
                    self._denoise(rows[batch], noise, condition[batch], sampling, after_step)
                )
        made = torch.cat(done)

        # 6. Decode
        if output_type != "latent":
            made = torch.cat([self._decode(made[at]) for at in self._batches(len(made), size)])
        self.maybe_free_model_hooks()

        # 7. Shape the result as images, poses, samples
        return Zero123Output(images=_shaped(made.cpu(), shape, output_type, sampling.original))

    def _batches(self, rows: int, size: int) -> Iterator[slice]:
        """Cut rows into batches whose activations stay under the memory bound."""
        # Measured on two model sizes, with a margin: a guided UNet pass peaks at 60 times its first
        # feature map, a decoding pass at 5 times its last, both in float32.
        unet = 100 * self.unet.config.block_out_channels[0] * (size // self._scale) ** 2
        vae = 6 * self._vae_widths[0] * size**2
        per_row = 4 * max(unet, vae)
        most = max(1, int(self.memory_bound * 2**30 / per_row))
        for first in range(0, rows, most):
            yield slice(first, first + most)

    def _denoise(
        self,
        rows: list[_Row],
        start: Float[Tensor, "b c h w"] | None,
        condition: Condition,
        sampling: Sampling,
        after_step: Callable[[int, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "b c h w"]:
        """Walk from noise to latents; again in float32 if half precision overflows."""

        def walk() -> Tensor:
            generators = [torch.Generator().manual_seed(row.seed) for row in rows]
            options = sampling.options(generators)
            scheduler, timesteps = sampling.start()
            noise = start
            if noise is None:
                shape = (self.unet.config.out_channels, *condition.latent.shape[-2:])
                noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
            current: Tensor = noise.float().to(condition.latent.device)
            current = current * scheduler.init_noise_sigma
            denoise = self.tell(self.unet, condition, timesteps, sampling.guidance)
            for step, timestep in enumerate(timesteps):
                if self.interrupt:
                    break
                answer = denoise(scheduler.scale_model_input(current, timestep), step)
                current = scheduler.step(answer, timestep, current, return_dict=False, **options)[0]
                current = after_step(step, timestep, current)
            return current

        return finite_or_wider(walk, self.unet)

    def _encode(self, photos: Float[Tensor, "b 3 H W"], size: int) -> PhotoFeatures:
        parts = [photos[at] for at in self._batches(len(photos), size)]
        embed, encode = partial(embed_photos, self.image_encoder), partial(encode_latents, self.vae)
        return PhotoFeatures(
            torch.cat([finite_or_wider(partial(embed, p), self.image_encoder) for p in parts]),
            torch.cat([finite_or_wider(partial(encode, p), self.vae) for p in parts]),
        )

    def _decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return finite_or_wider(partial(decode_latents, self.vae, latents), self.vae)


def _shaped(
    views: Tensor, shape: tuple[int, int, int], output_type: str, truncated: bool
) -> list[list[list[Image.Image]]] | np.ndarray | Tensor:
    nested = views.reshape(*shape, *views.shape[1:])
    if output_type in ("pt", "latent"):
        return nested
    if output_type == "np":
        array: np.ndarray = nested.movedim(3, -1).numpy()
        return array
    return [
        [[to_pil(view, truncated=truncated) for view in samples] for samples in poses]
        for poses in nested
    ]

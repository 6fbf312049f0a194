"""From a framed photo and a camera move to the object from there."""

import copy
import inspect
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    SchedulerMixin,
    UNet2DConditionModel,
)
from diffusers.utils import BaseOutput
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from zero123.geometry import PoseEncoding, move_token
from zero123.images import Picture, square_picture, to_pil
from zero123.models import (
    Autoencoder,
    Condition,
    PhotoFeatures,
    PoseProjection,
    decode_latents,
    embed_photos,
    encode_latents,
    predict,
)
from zero123.weights import Components, Settings, open_model, save_model

logger = logging.getLogger(__name__)

Number: TypeAlias = float | int | np.number
Numbers: TypeAlias = Number | Sequence[Number] | np.ndarray | Tensor
Preset: TypeAlias = Literal["default", "original"]
PRESETS: tuple[Preset, ...] = ("default", "original")

_TRAINED_DISTANCE = 0.7
_RADIAN_TOLERANCE = 4e-5  # degrees; float32 radians are caught, other numbers hardly ever


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
    pose: Float[Tensor, "4"]
    seed: int
    """All noise of this view comes from it, so that the view does not depend on its batch."""


@dataclass(frozen=True)
class _Sampling:
    """How to walk from noise to the view."""

    scheduler: SchedulerMixin
    steps: int
    guidance: float
    step_options: dict[str, float]
    original: bool

    def start(self, device: torch.device) -> tuple[SchedulerMixin, Tensor]:
        """A scheduler of our own at its first step, and its timesteps."""
        scheduler = copy.deepcopy(self.scheduler)  # holds state: calls must not share it
        scheduler.set_timesteps(self.steps, device=device)
        if self.original:
            scheduler.timesteps = original_timesteps(self.steps).to(device)
        return scheduler, scheduler.timesteps


def original_timesteps(steps: int) -> Tensor:
    """List the timesteps at which the original evaluates its network.

    A stride of ``1000 // steps``, one above its multiples, and the noisiest left out: "50 steps"
    are 49 evaluations from 961, "75 steps" are 76 from 976.

    Source: ``make_ddim_timesteps`` and ``DDIMSampler.ddim_sampling`` of the original.

    >>> original_timesteps(4)
    tensor([501, 251,   1])
    """
    if not 2 <= steps <= 1000:
        raise ValueError(f"the original's sampler takes 2 to 1000 steps, got {steps}")
    return torch.arange(1, 1001, 1000 // steps)[:-1].flip(0)


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

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        torch_dtype: torch.dtype = torch.float32,
        weights: Literal["ema", "raw"] = "ema",
        pose_encoding: PoseEncoding | None = None,
    ) -> "Zero123Pipeline":
        """Open a model.

        Args:
            source: a bundled model's name ("mini"), a folder in any published layout, a raw
                ``.ckpt`` or ``.safetensors`` file, or a hub id.
            torch_dtype: of the networks; the pose projection stays in float32.
            weights: which weights of the denoiser to take from a file that holds both. The
                original samples with the running average, "ema".
            pose_encoding: says what the fourth pose number means where the source does not.

        Raises:
            ValueError: if the source is unknown, damaged or something else; it says what.
        """
        parts = open_model(source, dtype=torch_dtype, weights=weights, pose_encoding=pose_encoding)
        return cls(
            vae=parts.vae,
            image_encoder=parts.image_encoder,
            unet=parts.unet,
            cc_projection=parts.projection,
            scheduler=parts.scheduler,
            **asdict(parts.settings),
        )

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the model as a folder of safetensors with a hash manifest."""
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
                needs it; other models take no notice.
            callback_on_step_end: called as ``f(pipe, step, timestep, {"latents": ...})`` after
                each step, counted through all batches; may return changed latents. A batch that
                overflows half precision is walked, and told, once more.
            callback_on_step_end_tensor_inputs: may only name "latents".

        Raises:
            ValueError: for numbers that are not finite, out of range, or radians by mistake, and
                for pictures that are not square or hold NaN; before anything is computed.
            FloatingPointError: if the network overflows even in float32.
        """
        # 1. Check everything before computing anything
        poses = self._poses(azimuth, elevation, distance, image_elevation)
        sampling = self._sampling(preset, num_inference_steps, guidance_scale, eta)
        if num_images_per_pose < 1:
            raise ValueError(f"num_images_per_pose must be at least 1, got {num_images_per_pose}")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f'output_type must be "pil", "np", "pt" or "latent": {output_type!r}')
        if set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError('callback_on_step_end_tensor_inputs may only name "latents"')

        pictures = _listed(image)
        shape = (len(pictures), len(poses), num_images_per_pose)
        start = None if latents is None else self._starting_noise(latents, math.prod(shape))
        size = self.image_size if start is None else self._scale * start.shape[-1]

        # 2. Photos: one batch of squares in [0, 1]
        photos = torch.stack([square_picture(picture, size) for picture in pictures])

        # 3. A row a view: image, pose, sample
        seeds = _seeds(generator, shape)
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
        _, timesteps = sampling.start(device)
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

    def _poses(
        self,
        azimuth: Numbers,
        elevation: Numbers,
        distance: Numbers,
        image_elevation: Number | None,
    ) -> list[Float[Tensor, "4"]]:
        """Turn degrees into pose numbers."""
        given = {
            "azimuth": _degrees("azimuth", azimuth),
            "elevation": _degrees("elevation", elevation),
            "distance": _finite("distance", distance),
        }
        count = max(len(values) for values in given.values())
        for name, values in given.items():
            if len(values) not in (1, count):
                raise ValueError(f"{name} has {len(values)} values where others have {count}")
        wide = {name: values * (count if len(values) == 1 else 1) for name, values in given.items()}
        for value in wide["elevation"]:
            if abs(value) > 90:
                raise ValueError(f"elevation must be in [-90, 90] degrees, got {value:g}")
        if image_elevation is not None:
            (seen_from,) = _degrees("image_elevation", image_elevation)
            if abs(seen_from) > 90:
                raise ValueError(f"image_elevation must be in [-90, 90] degrees: {seen_from:g}")
        if self.settings.pose_encoding == "stable-zero123":
            return self._stable_poses(wide, image_elevation)
        for value in wide["distance"]:
            if abs(value) > _TRAINED_DISTANCE:
                logger.warning("distance %g is outside of the -0.7 to 0.7 that models learn", value)
        return [
            move_token(-math.radians(up), math.radians(turn), out)
            for turn, up, out in zip(
                wide["azimuth"], wide["elevation"], wide["distance"], strict=True
            )
        ]

    def _stable_poses(
        self, wide: dict[str, list[float]], image_elevation: Number | None
    ) -> list[Float[Tensor, "4"]]:
        if any(wide["distance"]):
            raise ValueError("Stable-Zero123 cannot change the distance: leave it 0")
        if image_elevation is None:
            raise ValueError(
                "Stable-Zero123 needs the elevation that the photo was taken from: give "
                "image_elevation in degrees, 0 at eye level, up positive"
            )
        own_polar = math.radians(90 - float(image_elevation))
        return [
            move_token(-math.radians(up), math.radians(turn), own_polar)
            for turn, up in zip(wide["azimuth"], wide["elevation"], strict=True)
        ]

    def _sampling(
        self,
        preset: Preset | None,
        steps: Number | None,
        guidance: Number | None,
        eta: Number | None,
    ) -> _Sampling:
        """Merge what the caller says with the preset."""
        if preset not in (None, *PRESETS):
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        original = preset == "original"
        learned = int(self.scheduler.config.num_train_timesteps)
        if original and learned != 1000:
            raise ValueError(
                f"the original's sampler takes 1000 timesteps, the model has {learned}"
            )
        own = Settings(steps=50, guidance=3.0, eta=1.0) if original else self.settings
        steps = own.steps if steps is None else steps
        guidance = own.guidance if guidance is None else guidance
        if not 1 <= steps <= 1000 or steps != int(steps):
            raise ValueError(f"num_inference_steps must be a whole number in 1 to 1000: {steps}")
        if not math.isfinite(guidance):
            raise ValueError(f"guidance_scale must be finite, got {guidance}")
        scheduler = self.scheduler
        if original:
            original_timesteps(int(steps))
            scheduler = DDIMScheduler.from_config(
                self.scheduler.config,
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
                timestep_spacing="leading",
            )
        takes_eta = "eta" in inspect.signature(scheduler.step).parameters
        if eta is not None and not takes_eta:
            raise ValueError(f"{type(scheduler).__name__} takes no eta")
        eta = own.eta if eta is None else eta
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must be in [0, 1], got {eta}")
        options = {"eta": float(eta)} if takes_eta else {}
        return _Sampling(scheduler, int(steps), float(guidance), options, original)

    def _starting_noise(self, latents: Tensor, rows: int) -> Float[Tensor, "b c s s"]:
        """Lay out the caller's noise a row a view."""
        channels = int(self.unet.config.out_channels)
        shape = tuple(latents.shape)
        fits = len(shape) in (4, 6) and shape[-3] == channels and shape[-1] == shape[-2] > 0
        if not fits or math.prod(shape[:-3]) != rows:
            raise ValueError(f"latents must be {rows} of ({channels}, n, n), got {shape}")
        flat = latents.reshape(rows, *shape[-3:])
        if not bool(torch.isfinite(flat).all()):
            raise ValueError("latents hold NaN or infinity")
        return flat

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
        sampling: _Sampling,
        after_step: Callable[[int, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "b c h w"]:
        """Walk from noise to latents; again in float32 if half precision overflows."""

        def walk() -> Tensor:
            generators = [torch.Generator().manual_seed(row.seed) for row in rows]
            scheduler, timesteps = sampling.start(condition.latent.device)
            options: dict[str, Any] = dict(sampling.step_options)
            if "generator" in inspect.signature(scheduler.step).parameters:
                options["generator"] = generators
            noise = start
            if noise is None:
                shape = (self.unet.config.out_channels, *condition.latent.shape[-2:])
                noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
            current: Tensor = noise.float().to(condition.latent.device)
            current = current * scheduler.init_noise_sigma
            for step, timestep in enumerate(timesteps):
                scaled = scheduler.scale_model_input(current, timestep)
                answer = predict(self.unet, scaled, timestep, condition, sampling.guidance)
                current = scheduler.step(answer, timestep, current, return_dict=False, **options)[0]
                current = after_step(step, timestep, current)
            return current

        return _finite_or_wider(walk, self.unet)

    def _encode(self, photos: Float[Tensor, "b 3 H W"], size: int) -> PhotoFeatures:
        parts = [photos[at] for at in self._batches(len(photos), size)]
        embed, encode = partial(embed_photos, self.image_encoder), partial(encode_latents, self.vae)
        return PhotoFeatures(
            torch.cat([_finite_or_wider(partial(embed, p), self.image_encoder) for p in parts]),
            torch.cat([_finite_or_wider(partial(encode, p), self.vae) for p in parts]),
        )

    def _decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        return _finite_or_wider(partial(decode_latents, self.vae, latents), self.vae)


def _listed(image: Picture | Sequence[Picture]) -> list[Picture]:
    pictures: list[Any]
    if isinstance(image, Image.Image) or getattr(image, "ndim", 4) != 4:
        pictures = [image]
    else:
        pictures = list(image)  # several, or a batch
    for picture in pictures:
        if not isinstance(picture, Image.Image | np.ndarray | Tensor):
            raise ValueError(
                f"a photo is a PIL picture, an array or a tensor, not {type(picture).__name__}; "
                "zero123.images.read_image opens a file"
            )
    if not pictures:
        raise ValueError("no photo was given")
    return pictures


def _finite_or_wider(compute: Callable[[], Tensor], network: torch.nn.Module) -> Tensor:
    """Compute; if half precision overflows, compute again in float32; never return NaN."""
    result = compute()
    if bool(torch.isfinite(result).all()):
        return result
    narrow = next(network.parameters()).dtype
    if narrow != torch.float32:
        logger.warning("%s overflowed: once more in float32", narrow)
        with _widened(network, narrow):
            result = compute()
    if not bool(torch.isfinite(result).all()):
        raise FloatingPointError(
            f"{type(network).__name__} gave NaN or infinity in float32: damaged weights, or a "
            "guidance_scale far too high?"
        )
    return result


@contextmanager
def _widened(network: torch.nn.Module, narrow: torch.dtype) -> Iterator[None]:
    network.float()
    try:
        yield
    finally:
        network.to(narrow)


def _seeds(
    generator: torch.Generator | Sequence[torch.Generator] | None, shape: tuple[int, int, int]
) -> list[int]:
    """One seed a view. From one generator they depend on the number of the sample alone."""
    images, poses, samples = shape
    if isinstance(generator, torch.Generator) or generator is None:
        return [_seed(generator) for _ in range(samples)] * (images * poses)
    if len(generator) != images * poses * samples:
        raise ValueError(
            f"{len(generator)} generators for {images} x {poses} x {samples} views: give one, or "
            "one a view"
        )
    return [_seed(each) for each in generator]


def _seed(generator: torch.Generator | None) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**62, (), generator=generator, device=device))


def _finite(name: str, given: Numbers) -> list[float]:
    try:
        if isinstance(given, Tensor):
            given = given.detach().double().cpu().numpy()
        values = np.asarray(given, dtype=np.float64).reshape(-1).tolist()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be a number or a list of numbers, got {given!r}") from error
    if not values:
        raise ValueError(f"{name} is empty")
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    return values


def _degrees(name: str, given: Numbers) -> list[float]:
    """Read angles in degrees; refuse numbers that can only be radians."""
    values = _finite(name, given)
    for value in values:
        degrees = math.degrees(value)
        whole = 5 * round(degrees / 5)
        if whole and abs(value) < 6.29 and abs(degrees - whole) < _RADIAN_TOLERANCE:
            raise ValueError(
                f"{name} is in degrees, got {value:.6g}, which is {whole} degrees in radians: "
                f"write {whole}"
            )
    return values


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

import math
import time

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123 import Zero123Pipeline
from zero123.geometry import UNTOLD
from zero123.models import Condition, PoseProjection, clip_pixels, predict
from zero123.pipeline import original_timesteps
from zero123.pipeline.asked import read_poses
from zero123.pipeline.sampling import Sampling
from zero123.training.mini import mini_scheduler
from zero123.weights import Settings, WeightsError

SIZE = 32


@pytest.fixture(scope="module")
def tiny() -> Zero123Pipeline:
    """All parts of a real model, 32 px, random weights."""
    torch.manual_seed(0)
    pipe = Zero123Pipeline(
        vae=AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        ).eval(),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=16,
                patch_size=8,
                projection_dim=16,
            )
        ).eval(),
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=4,
            block_out_channels=(32, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=2,
        ).eval(),
        cc_projection=PoseProjection(embed_dim=16, context_dim=16).eval(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        steps=3,
        guidance=2.0,
        eta=0.5,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def original(golden) -> Zero123Pipeline:
    pipe = Zero123Pipeline.from_pretrained(golden / "model.ckpt", pose_encoding="zero123")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def photo(seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random((size, size, 3)).astype(np.float32)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_from_no_signal_all_of_eta_leaves_numbers():
    sample = torch.ones(1, 4, 2, 2)
    for steps in range(1, 101):
        sampling = Sampling.chosen(None, steps, 1.0, 1.0, Settings(), mini_scheduler())
        scheduler, timesteps = sampling.start()
        options = sampling.options([torch.Generator()])
        for timestep in timesteps[:2]:
            made = scheduler.step(sample, timestep, sample, **options).prev_sample
            assert made.isfinite().all(), f"{steps} steps, at {timestep}"


class TestEqualsTheOriginal:
    @pytest.mark.parametrize("steps", [10, 20, 25, 50, 75, 76, 100, 200])
    def test_timesteps_for_any_number_of_steps(self, golden, steps):
        expected = np.load(golden / "schedule.npz")[f"S{steps}_timesteps_run"]
        assert original_timesteps(steps).tolist() == expected.tolist()

    def test_pixels_that_clip_sees(self, golden):
        data = np.load(golden / "clip_pose.npz")
        pixels = clip_pixels(torch.from_numpy(data["image_u8"]).permute(0, 3, 1, 2) / 255, 224)
        crop = pixels[:, :, 60:124, 60:124].numpy()
        assert np.abs(crop - data["clip_pixels_crop"]).max() <= 1e-5

    @pytest.mark.parametrize("eta", [0, 1])
    @pytest.mark.parametrize("weights", ["raw", "ema"])
    @torch.no_grad()
    def test_guided_trajectory(self, golden, monkeypatch, weights, eta):
        pipe = Zero123Pipeline.from_pretrained(
            golden / "model.ckpt", weights=weights, pose_encoding="zero123"
        )
        data = np.load(golden / "ddim.npz")
        condition = Condition(
            torch.from_numpy(data["context"]),
            torch.from_numpy(data["cond_latent"]).repeat(2, 1, 1, 1),
        )
        noise = iter(torch.from_numpy(data["noise_eta1"]))
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddim.randn_tensor", lambda *_, **__: next(noise)
        )
        sampling = Sampling.chosen("original", 10, 3.0, eta, pipe.settings, pipe.scheduler)
        scheduler, timesteps = sampling.start()
        assert timesteps.tolist() == data["timesteps"].tolist()
        current = torch.from_numpy(data["x_T"])
        for step, timestep in enumerate(timesteps):
            answer = predict(pipe.unet, current, timestep, condition, sampling.guidance)
            current = scheduler.step(answer, timestep, current, eta=eta).prev_sample
            expected = data[f"{weights}_eta{eta}_x"][step]
            # random weights: latents grow, so compare relatively
            assert np.abs(current.numpy() - expected).max() <= 1e-3 * np.abs(expected).max()

    @pytest.mark.parametrize("case", [0, 1])
    def test_from_photo_to_picture(self, original, golden, monkeypatch, case):
        data = {k[2:]: v for k, v in np.load(golden / "e2e.npz").items() if k[0] == str(case)}
        if "noise" in data:
            noise = iter(torch.from_numpy(data["noise"]))
            monkeypatch.setattr(
                "diffusers.schedulers.scheduling_ddim.randn_tensor", lambda *_, **__: next(noise)
            )
        polar, azimuth, radius = (float(v) for v in data["pose_deg"])
        views = original(
            data["input_u8"],
            azimuth=azimuth,
            elevation=-polar,
            distance=radius,
            num_images_per_pose=len(data["x_T"]),
            num_inference_steps=10,
            eta=float(data["eta"]),
            latents=torch.from_numpy(data["x_T"]),
            preset="original",
        ).images[0][0]
        off = np.abs(np.stack([np.array(v) for v in views]).astype(int) - data["out_u8"])
        assert off.max() <= 1
        assert (off > 0).mean() < 0.005


class TestAViewDoesNotDependOnItsBatch:
    def test_one_call_equals_one_call_a_view(self, tiny):
        photos = [photo(seed) for seed in range(5)]
        azimuth, elevation = np.linspace(-170, 170, 8), np.linspace(-80, 80, 8)
        generators = [seeded(seed) for seed in range(80)]
        together = tiny(
            photos, azimuth, elevation, 0.1, 2, generator=generators, output_type="np"
        ).images
        assert together.shape == (5, 8, 2, SIZE, SIZE, 3)
        for number, (i, p, s) in enumerate(np.ndindex(5, 8, 2)):
            alone = tiny(
                photos[i],
                float(azimuth[p]),
                float(elevation[p]),
                0.1,
                generator=seeded(number),
                output_type="np",
            ).images[0, 0, 0]
            assert np.abs(alone - together[i, p, s]).max() < 1e-5

    def test_one_generator_gives_sample_k_the_same_noise_everywhere(self, tiny):
        both = tiny(
            [photo(1), photo(2)],
            [30, 60],
            num_images_per_pose=2,
            generator=seeded(),
            output_type="np",
        ).images
        alone = tiny(
            photo(2), 60, num_images_per_pose=2, generator=seeded(), output_type="np"
        ).images
        assert np.abs(both[1, 1] - alone[0, 0]).max() < 1e-5
        assert np.abs(alone[0, 0, 0] - alone[0, 0, 1]).max() > 1e-3

    def test_the_memory_bound_changes_batches_and_not_pictures(self, tiny, monkeypatch):
        wide = tiny(photo(), range(0, 360, 40), generator=seeded(), output_type="np").images
        assert len(list(tiny._batches(9, SIZE))) == 1
        monkeypatch.setattr(tiny, "memory_bound", 0.001)
        assert len(list(tiny._batches(9, SIZE))) > 1
        narrow = tiny(photo(), range(0, 360, 40), generator=seeded(), output_type="np").images
        assert np.abs(wide - narrow).max() < 1e-5

    def test_a_photo_is_encoded_once_for_all_its_poses(self, tiny, monkeypatch):
        encoded = []
        encode = tiny.image_encoder.forward
        monkeypatch.setattr(
            tiny.image_encoder, "forward", lambda x, **k: encoded.append(len(x)) or encode(x, **k)
        )
        tiny([photo(0), photo(1)], [0, 90, 180], num_images_per_pose=2)
        assert sum(encoded) == 2


class TestOptions:
    @pytest.mark.parametrize(
        "scheduler",
        [
            DPMSolverMultistepScheduler,
            UniPCMultistepScheduler,
            EulerDiscreteScheduler,
            EulerAncestralDiscreteScheduler,
        ],
    )
    def test_any_scheduler_serves(self, tiny, monkeypatch, scheduler):
        monkeypatch.setattr(tiny, "scheduler", scheduler.from_config(tiny.scheduler.config))
        views = [
            tiny(photo(), azimuth, generator=seeded(), output_type="np").images
            for azimuth in ([60, 90], 90)
        ]
        assert np.isfinite(views[0]).all()
        assert np.abs(views[0][0, 1] - views[1][0, 0]).max() < 1e-4

    def test_an_eta_that_the_scheduler_cannot_use_is_refused(self, tiny, monkeypatch):
        other = EulerDiscreteScheduler.from_config(tiny.scheduler.config)
        monkeypatch.setattr(tiny, "scheduler", other)
        with pytest.raises(ValueError, match="EulerDiscreteScheduler takes no eta"):
            tiny(photo(), 30, eta=1.0)

    def test_a_callback_sees_every_step_and_may_change_the_latents(self, tiny):
        seen = []

        def watch(pipe, step, timestep, tensors):
            seen.append((step, int(timestep)))
            return {"latents": torch.zeros_like(tensors["latents"])}

        made = tiny(photo(), 30, callback_on_step_end=watch, output_type="latent").images
        assert [step for step, _ in seen] == [0, 1, 2]
        assert not made.any()

    def test_a_callback_may_stop_the_walk(self, tiny):
        def stop_after(last):
            seen = []

            def watch(pipe, step, timestep, tensors):
                seen.append(tensors["latents"])
                pipe._interrupt = step == last

            return seen, watch

        seen, watch = stop_after(1)
        made = tiny(
            photo(), 30, generator=seeded(), callback_on_step_end=watch, output_type="latent"
        ).images
        assert len(seen) == 2
        assert torch.equal(made[0, 0], seen[-1])
        again, watch = stop_after(None)  # the next call starts afresh
        tiny(photo(), 30, generator=seeded(), callback_on_step_end=watch)
        assert len(again) == 3
        assert torch.equal(again[1], seen[1])

    def test_numbers_of_any_kind_are_taken(self, tiny):
        kinds = [
            [30, 60],
            (30.0, 60),
            np.array([30, 60]),
            np.float32([30, 60]),
            torch.tensor([30.0, 60.0], requires_grad=True),
            torch.tensor([30, 60], dtype=torch.bfloat16),
            range(30, 90, 30),
        ]
        views = [tiny(photo(), k, generator=seeded(), output_type="np").images for k in kinds]
        assert all(np.array_equal(view, views[0]) for view in views)
        one = tiny(photo(), np.float32(30), generator=seeded(), output_type="np").images
        assert np.abs(one[0, 0] - views[0][0, 0]).max() < 1e-5

    def test_output_types_show_the_same_view(self, tiny):
        shown = {
            kind: tiny(photo(), 30, generator=seeded(), output_type=kind).images
            for kind in ("pil", "np", "pt")
        }
        assert isinstance(shown["pil"][0][0][0], Image.Image)
        assert shown["pt"].shape == (1, 1, 1, 3, SIZE, SIZE)
        assert np.array_equal(shown["pt"][0, 0, 0].permute(1, 2, 0).numpy(), shown["np"][0, 0, 0])
        off = np.array(shown["pil"][0][0][0]) / 255 - shown["np"][0, 0, 0]
        assert np.abs(off).max() <= 0.5 / 255 + 1e-6

    def test_alpha_is_composited_on_white(self, tiny):
        clear = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0))
        white = Image.new("RGB", (SIZE, SIZE), "white")
        a, b = (tiny(p, 30, generator=seeded(), output_type="np").images for p in (clear, white))
        assert np.array_equal(a, b)

    def test_pictures_of_all_kinds_give_the_same_view(self, tiny):
        bytes_ = (255 * photo()).astype(np.uint8)
        given = [
            Image.fromarray(bytes_),
            bytes_,
            bytes_ / 255,
            torch.from_numpy(bytes_).permute(2, 0, 1) / 255,
        ]
        views = [tiny(p, 30, generator=seeded(), output_type="np").images for p in given]
        assert all(np.abs(view - views[0]).max() < 1e-5 for view in views)

    def test_the_model_comes_back_from_its_folder(self, tiny, tmp_path):
        tiny.save_pretrained(tmp_path / "model")
        again = Zero123Pipeline.from_pretrained(tmp_path / "model")
        again.set_progress_bar_config(disable=True)
        assert again.settings == tiny.settings
        a, b = (p(photo(), 30, generator=seeded(), output_type="np").images for p in (tiny, again))
        assert np.array_equal(a, b)

    def test_a_batch_is_a_list(self, tiny):
        batch = torch.rand(2, 3, SIZE, SIZE)
        a, b = (
            tiny(given, 30, generator=seeded(), output_type="np").images
            for given in (batch, list(batch))
        )
        assert np.array_equal(a, b)

    def test_offloading_changes_nothing(self, tiny, tmp_path):
        tiny.save_pretrained(tmp_path / "model")
        moved = Zero123Pipeline.from_pretrained(tmp_path / "model")
        moved.set_progress_bar_config(disable=True)
        moved.enable_model_cpu_offload(device="cpu")  # real hooks; a GPU differs in the device only
        a, b = (p(photo(), 30, generator=seeded(), output_type="np").images for p in (tiny, moved))
        assert np.array_equal(a, b)

    def test_no_argument_is_written_into(self, tiny):
        given, noise = photo(), torch.randn(1, 4, 8, 8)
        before = given.copy(), noise.clone()
        tiny(given, 30, latents=noise)
        assert np.array_equal(given, before[0])
        assert torch.equal(noise, before[1])


class TestHalfPrecision:
    def test_bfloat16_shows_the_same_view(self, tiny, tmp_path):
        tiny.save_pretrained(tmp_path / "model")
        half = Zero123Pipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.bfloat16)
        half.set_progress_bar_config(disable=True)
        a, b = (p(photo(), 30, generator=seeded(), output_type="np").images for p in (tiny, half))
        assert half.unet.dtype == half.vae.dtype == torch.bfloat16
        assert half.to(torch.float16).cc_projection.dtype == torch.float32
        half.to(torch.bfloat16)
        assert np.abs(a - b).mean() < 0.02

    def test_an_overflow_is_computed_again_in_float32(self, tiny, tmp_path, caplog):
        tiny.save_pretrained(tmp_path / "model")
        half = Zero123Pipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float16)
        half.set_progress_bar_config(disable=True)
        assert half.cc_projection.projection.weight.dtype == torch.float32
        half.unet.conv_out.weight.data.fill_(6e4)
        made = half(photo(), 30, output_type="latent").images
        assert torch.isfinite(made).all()
        assert "once more in float32" in caplog.text
        assert half.unet.dtype == torch.float16

    def test_nan_is_an_error_and_never_a_black_picture(self, tiny, monkeypatch):
        bias = tiny.unet.conv_out.bias
        monkeypatch.setattr(bias, "data", torch.full_like(bias, math.nan))
        with pytest.raises(FloatingPointError, match="NaN or infinity in float32: damaged weights"):
            tiny(photo(), 30)


class TestStableZero123:
    @pytest.fixture
    def stable(self, tiny, tmp_path) -> Zero123Pipeline:
        tiny.save_pretrained(tmp_path / "model")
        pipe = Zero123Pipeline.from_pretrained(tmp_path / "model", pose_encoding="stable-zero123")
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def test_its_fourth_number_is_the_photos_polar_angle(self):
        (pose,) = read_poses(90, 10, 0.0, image_elevation=20, encoding="stable-zero123")
        expected = [-math.radians(10), 1, 0, math.radians(70)]
        assert pose.tolist() == pytest.approx(expected, abs=1e-6)

    def test_it_is_never_guessed(self, stable):
        with pytest.raises(ValueError, match="needs the elevation that the photo was taken from"):
            stable(photo(), 30)

    def test_a_distance_is_refused(self, stable):
        with pytest.raises(ValueError, match="cannot change the distance"):
            stable(photo(), 30, distance=0.1, image_elevation=0)


class TestAModelThatTakesTheHeight:
    """Distance and the photo's own polar angle, as mini."""

    @pytest.fixture
    def told(self, tiny, tmp_path) -> Zero123Pipeline:
        parts = {name: getattr(tiny, name) for name in ("vae", "image_encoder", "unet")}
        projection = PoseProjection(embed_dim=16, context_dim=16, pose_dim=5).eval()
        torch.nn.init.normal_(projection.projection.weight, generator=torch.manual_seed(0))
        Zero123Pipeline(
            **parts,
            cc_projection=projection,
            scheduler=tiny.scheduler,
            pose_encoding="zero123-polar",
            steps=2,
        ).save_pretrained(tmp_path / "told")
        pipe = Zero123Pipeline.from_pretrained(tmp_path / "told")
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def test_it_is_a_fifth_number_and_need_not_be_said(self):
        (pose,) = read_poses(90, 10, 0.2, image_elevation=20, encoding="zero123-polar")
        expected = [-math.radians(10), 1, 0, 0.2, math.radians(70)]
        assert pose.tolist() == pytest.approx(expected, abs=1e-6)
        (pose,) = read_poses(90, 10, 0.2, image_elevation=None, encoding="zero123-polar")
        assert pose.tolist() == pytest.approx([*expected[:4], UNTOLD], abs=1e-6)

    def test_it_changes_the_view_beside_a_distance(self, told):
        def view(**said) -> np.ndarray:
            noise = torch.Generator().manual_seed(0)
            return told(photo(), 30, distance=0.1, generator=noise, output_type="np", **said).images

        untold, *heights = view(), view(image_elevation=0), view(image_elevation=40)
        assert np.array_equal(untold, view())
        assert all(np.abs(height - untold).max() > 1e-3 for height in heights)
        assert np.abs(heights[0] - heights[1]).max() > 1e-3

    def test_other_numbers_than_the_projection_takes_are_refused(self, told, tmp_path):
        with pytest.raises(WeightsError, match="takes 5 pose numbers, but zero123 gives 4"):
            Zero123Pipeline.from_pretrained(tmp_path / "told", pose_encoding="zero123")


BAD_CALLS = {
    "NaN": ({"azimuth": math.nan}, "azimuth must be finite, got nan"),
    "infinite": ({"distance": math.inf}, "distance must be finite, got inf"),
    "too high": ({"elevation": 91}, r"elevation must be in \[-90, 90\] degrees, got 91"),
    "radians": ({"azimuth": math.pi / 2}, "azimuth is in degrees, got 1.5708.*write 90"),
    "float32 radians": ({"elevation": np.float32([math.pi / 6])}, "write 30"),
    "radians of 60": ({"azimuth": [0, math.radians(60)]}, "write 60"),
    "image elevation": ({"image_elevation": math.nan}, "image_elevation must be finite"),
    "a full turn in float32 radians": ({"azimuth": np.float32(2 * math.pi)}, "write 360"),
    "half steps": ({"num_inference_steps": np.float64(2.5)}, "a whole number in 1 to 1000"),
    "flat latents": ({"latents": torch.zeros(8)}, "latents must be 1 of"),
    "counts": ({"azimuth": [1, 2, 3], "elevation": [1, 2]}, "elevation has 2 values where others"),
    "no pose": ({"azimuth": []}, "azimuth is empty"),
    "steps": (
        {"num_inference_steps": 0},
        "num_inference_steps must be a whole number in 1 to 1000: 0",
    ),
    "one original step": ({"preset": "original", "num_inference_steps": 1}, "2 to 1000 steps"),
    "guidance": ({"guidance_scale": math.nan}, "guidance_scale must be finite"),
    "eta": ({"eta": 2.0}, r"eta must be in \[0, 1\], got 2"),
    "samples": ({"num_images_per_pose": 0}, "num_images_per_pose must be at least 1"),
    "generators": ({"generator": [torch.Generator()] * 2}, "2 generators for 1 x 1 x 1 views"),
    "latents": ({"latents": torch.zeros(1, 3, 8, 8)}, r"latents must be 1 of \(4, n, n\)"),
    "NaN latents": ({"latents": torch.full((1, 4, 8, 8), math.nan)}, "latents hold NaN"),
    "oblong": ({"image": np.zeros((32, 40, 3), np.float32)}, "must be square, got 40×32"),
    "NaN picture": ({"image": np.full((32, 32, 3), np.nan, np.float32)}, r"must be in \[0, 1\]"),
    "8 bits as floats": ({"image": np.full((32, 32, 3), 255.0)}, "8-bit values"),
    "no pixels": ({"image": np.zeros((0, 0, 3), np.float32)}, "empty|no pixels"),
    "no photo": ({"image": []}, "no photo"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_numbers_are_refused_before_any_compute(tiny, monkeypatch, case):
    def computed(*_: object, **__: object) -> None:
        raise AssertionError("computed before checking")

    monkeypatch.setattr(tiny.image_encoder, "forward", computed)
    given, sentence = BAD_CALLS[case]
    started = time.perf_counter()
    with pytest.raises(ValueError, match=sentence):
        tiny(**({"image": photo(), "azimuth": 30} | given))
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize("name", ["preset", "output_type"])
def test_unknown_words_are_refused(tiny, name):
    with pytest.raises((ValueError, TypeError)):
        tiny(photo(), 30, **{name: "best"})

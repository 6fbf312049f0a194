import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderTiny
from torch import Tensor

from zero123.models import PhotoFeatures, embed_photos, encode_latents
from zero123.weights import (
    WeightsError,
    open_model,
    read_checkpoint,
    save_original,
)

NEEDED = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.model.visual.",
    "cc_projection.",
)


def arrays(original: Path, name: str) -> dict[str, Tensor]:
    with np.load(original.with_name(name)) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return float((ours - theirs).abs().max() / theirs.abs().max()) <= tolerance


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": tensors}, path)
    return path


@torch.no_grad()
@pytest.mark.parametrize("weights", ["raw", "ema"])
@pytest.mark.parametrize("shape", ["sq", "rect"])
def test_both_unets_predict_what_the_original_predicts(original, weights, shape):
    unet = open_model(original, weights=weights, pose_encoding="zero123").unet
    theirs = arrays(original, "unet.npz")
    x, t, context = (theirs[f"{shape}_{name}"] for name in ("x", "t", "context"))
    assert close(unet(x, t, context).sample, theirs[f"{shape}_eps_{weights}"], 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("shape", ["sq", "rect"])
def test_the_vae_encodes_and_decodes_like_the_original(model, original, shape):
    theirs = arrays(original, "vae.npz")
    pixels = theirs[f"{shape}_image_u8"] / 127.5 - 1
    assert close(model.vae.encode(pixels).latent_dist.mode(), theirs[f"{shape}_mode"], 1e-4)
    decoded = model.vae.decode(theirs[f"{shape}_dec_in"] / model.vae.config.scaling_factor).sample
    assert close(decoded, theirs[f"{shape}_dec_out"], 1e-4)


@torch.no_grad()
def test_the_posed_token_is_that_of_the_original(model, original):
    theirs = arrays(original, "clip_pose.npz")
    photos = theirs["image_u8"].permute(0, 3, 1, 2) / 255
    embedding = embed_photos(model.image_encoder, photos)
    features = PhotoFeatures(embedding, encode_latents(model.vae, photos))
    assert close(features.embedding, theirs["clip_embed"][:, 0], 1e-5)
    poses = theirs["pose_T"]
    tokens = features.seen_from(poses, [0] * len(poses), model.projection).token
    assert close(tokens, theirs["context"], 1e-5)


def test_the_noise_schedule_is_that_of_the_original(model, original):
    theirs = arrays(original, "schedule.npz")
    assert torch.allclose(model.scheduler.betas.double(), theirs["betas"].double(), atol=1e-8)
    alphas = theirs["alphas_cumprod"].double()
    assert torch.allclose(model.scheduler.alphas_cumprod.double(), alphas, atol=1e-6)


def test_without_a_yaml_the_schedule_and_heads_are_those_of_the_published_trainings(
    original, tmp_path
):
    alone = shutil.copy(original, tmp_path / "105000.ckpt")
    model = open_model(alone)
    config = model.scheduler.config
    assert (config.beta_start, config.beta_end) == (0.00085, 0.012)
    assert config.beta_schedule == "scaled_linear"
    assert (config.clip_sample, config.set_alpha_to_one, config.steps_offset) == (False, False, 1)
    assert (config.prediction_type, config.timestep_spacing) == ("epsilon", "leading")
    assert (model.unet.config.attention_head_dim, model.vae.config.scaling_factor) == (8, 0.18215)


def test_the_only_yaml_of_a_folder_is_read_unless_it_is_another_program_s(original, tmp_path):
    shutil.copy(original, tmp_path / "105000.ckpt")
    shutil.copy(original.with_suffix(".yaml"), tmp_path / "training.yaml")
    assert open_model(tmp_path / "105000.ckpt").unet.config.attention_head_dim == 4
    (tmp_path / "training.yaml").write_text("services: {web: {image: nginx}}")
    assert open_model(tmp_path / "105000.ckpt").unet.config.attention_head_dim == 8


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1", "while parsing"),
        ("a: 1", "no unet_config"),
        ("!!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("model: {params: {unet_config: {params: {num_heads: many}}}}", "num_heads is no number"),
        ("model: {params: {unet_config: {params: {num_heads: 5}}}}", "heads do not divide"),
    ],
)
def test_a_yaml_of_the_same_name_must_make_sense(original, tmp_path, text, reason):
    shutil.copy(original, tmp_path / "zero123.ckpt")
    (tmp_path / "zero123.yaml").write_text(text)
    with pytest.raises(WeightsError, match=reason):
        open_model(tmp_path / "zero123.ckpt")


def test_the_average_is_what_a_checkpoint_gives_if_it_has_one(state, tmp_path):
    both = write(tmp_path / "zero123-both.ckpt", state)
    last = write(
        tmp_path / "zero123.ckpt",
        {name: t for name, t in state.items() if not name.startswith("model_ema.")},
    )
    out = "model.diffusion_model.out.2.bias"
    average = state["model_ema.diffusion_modelout2bias"]
    assert torch.equal(open_model(both).unet.conv_out.bias, average)
    assert torch.equal(open_model(last).unet.conv_out.bias, state[out])


def test_a_half_precision_checkpoint_opens_in_full(state, tmp_path):
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    model = open_model(write(tmp_path / "zero123-pruned.ckpt", halves))
    assert {p.dtype for p in model.unet.parameters()} == {torch.float32}
    assert model.projection.projection.weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_projection_stays_in_full_precision(original, dtype):
    model = open_model(original, dtype=dtype, pose_encoding="zero123")
    assert (model.unet.dtype, model.vae.dtype, model.image_encoder.dtype) == (dtype,) * 3
    assert model.projection.dtype == torch.float32


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_checkpoint_comes_back_with_the_same_bytes(original, tmp_path, suffix):
    state = read_checkpoint(original).tensors
    raw, average = (
        open_model(original, weights=which, pose_encoding="zero123") for which in ("raw", "ema")
    )
    path = tmp_path / f"again{suffix}"
    save_original(raw, path, average=average.unet)
    again = read_checkpoint(path)
    kept = {name for name in state if name.startswith((*NEEDED, "model_ema.diffusion_model"))}
    assert set(again.tensors) == kept
    for name in kept:
        ours, theirs = again.tensors[name], state[name]
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
        assert ours.numpy().tobytes() == theirs.numpy().tobytes(), name
    assert open_model(path, pose_encoding="zero123").unet.config == average.unet.config


def test_the_written_yaml_says_what_the_original_s_said(model, original, tmp_path):
    save_original(model, tmp_path / "again.ckpt")
    ours = yaml.safe_load((tmp_path / "again.yaml").read_text())["model"]["params"]
    theirs = yaml.safe_load(original.with_suffix(".yaml").read_text())["model"]["params"]
    for name in ("linear_start", "linear_end", "timesteps", "scale_factor", "conditioning_key"):
        assert ours[name] == theirs[name]
    for part in ("unet_config", "first_stage_config"):
        read, wanted = ours[part]["params"], theirs[part]["params"]
        same = {
            name: read[name] for name in wanted if name in read and name != "attention_resolutions"
        }
        assert same == {name: wanted[name] for name in same}
    resolutions = ours["unet_config"]["params"]["attention_resolutions"]
    assert set(resolutions) == set(theirs["unet_config"]["params"]["attention_resolutions"])


def test_what_was_never_an_original_comes_back_too(state, tmp_path):
    small = open_model(write(tmp_path / "zero123.ckpt", state))
    small.unet.register_to_config(sample_size=None)
    save_original(small, tmp_path / "zero123-again.ckpt")
    again = open_model(tmp_path / "zero123-again.ckpt")
    assert again.unet.config.attention_head_dim == small.unet.config.attention_head_dim
    assert again.unet.config.sample_size == 32


def test_a_tiny_autoencoder_has_no_place_in_the_original(model, tmp_path):
    from dataclasses import replace

    tiny = replace(
        model,
        vae=AutoencoderTiny(
            encoder_block_out_channels=(8,),
            num_encoder_blocks=(1,),
            decoder_block_out_channels=(8,),
            num_decoder_blocks=(1,),
        ),
    )
    with pytest.raises(WeightsError, match=r"no place for an? AutoencoderTiny"):
        save_original(tiny, tmp_path / "tiny.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("model.diffusion_model.out.2.bias", "model.diffusion_model.out.2.bias missing"),
        ("first_stage_model.quant_conv.bias", "first_stage_model.quant_conv.bias missing"),
        ("cond_stage_model.model.visual.proj", "visual.proj missing"),
        ("cc_projection.bias", "cc_projection.bias missing"),
        ("model.diffusion_model.middle_block.1.norm.weight", "middle_block.1.norm.weight missing"),
        ("model_ema.diffusion_modelout2bias", "model_ema.diffusion_modelout2bias missing"),
    ],
)
def test_a_missing_tensor_is_named(state, tmp_path, gone, said):
    weights = "ema" if gone.startswith("model_ema") else "raw"
    path = write(tmp_path / "zero123.ckpt", {k: v for k, v in state.items() if k != gone})
    with pytest.raises(WeightsError, match=said):
        open_model(path, weights=weights)


def test_an_unknown_tensor_inside_a_network_is_named(state, tmp_path):
    more = state | {"model.diffusion_model.out.7.gate": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"model\.diffusion_model\.out\.7\.gate unknown"):
        open_model(write(tmp_path / "zero123.ckpt", more))


def test_an_unknown_tensor_outside_the_networks_is_left_out_aloud(state, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        open_model(write(tmp_path / "zero123.ckpt", state | {"discriminator.0": torch.zeros(3)}))
    assert "discriminator.0" in caplog.text


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.diffusion_model.out.2.bias", (5,)),
        ("model.diffusion_model.time_embed.0.weight", (7, 7)),
        ("first_stage_model.encoder.mid.attn_1.q.weight", (64,)),
        ("cond_stage_model.model.visual.proj", (64,)),
        ("cond_stage_model.model.visual.transformer.resblocks.0.attn.in_proj_bias", (7,)),
        ("cond_stage_model.model.visual.conv1.weight", (0, 0, 0, 0)),
        ("cc_projection.weight", ()),
    ],
)
def test_a_tensor_of_another_shape_is_refused(state, tmp_path, name, shape):
    path = write(tmp_path / "zero123.ckpt", state | {name: torch.zeros(shape)})
    with pytest.raises(WeightsError, match=r"zero123\.ckpt"):
        open_model(path, weights="raw")


@pytest.mark.parametrize("odd", [torch.zeros(4, dtype=torch.int64), torch.zeros(4).to_sparse()])
def test_a_tensor_without_plain_numbers_is_refused(state, tmp_path, odd):
    path = write(tmp_path / "zero123.ckpt", state | {"model.diffusion_model.out.2.bias": odd})
    with pytest.raises(WeightsError, match=r"conv_out\.bias without plain numbers"):
        open_model(path, weights="raw")


def stable_diffusion(state: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    first = "model.diffusion_model.input_blocks.0.0.weight"
    return state | {first: torch.zeros(32, channels, 3, 3)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: stable_diffusion(s, 4), "this is Stable Diffusion, whose UNet reads 4"),
        (lambda s: stable_diffusion(s, 9), "this is Stable Diffusion inpainting"),
        (lambda s: {k: v for k, v in s.items() if "cc_proj" not in k}, "no cc_projection"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("first")}, "not a Zero-1-to-3"),
        (lambda s: {"down_blocks.0.resnets.0.conv1.weight": s["betas"]}, "give the folder"),
        (lambda s: {"layer1.0.conv1.weight": s["betas"]}, r"it holds layer1\.0\.conv1\.weight"),
        (lambda s: {}, "no tensors by name"),
    ],
)
def test_a_checkpoint_of_another_model_is_recognised(state, tmp_path, change, said):
    with pytest.raises(WeightsError, match=said) as refusal:
        open_model(write(tmp_path / "zero123.ckpt", change(state)))
    assert "\n" not in str(refusal.value)


def test_components_that_do_not_fit_each_other_are_refused(model):
    from dataclasses import replace

    from zero123.models import PoseProjection

    with pytest.raises(WeightsError, match="takes 96"):
        replace(model, projection=PoseProjection(embed_dim=96, context_dim=64))

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.models import PoseProjection
from zero123.weights import RawCheckpoint
from zero123.weights.keys import PREFIXES, ema_name, join_original, pair_names, split_original
from zero123.weights.original_config import Sizes, image_encoder_config, unet_config, vae_config

FULL = {
    "unet": lambda: UNet2DConditionModel(in_channels=8, cross_attention_dim=768),
    "vae": lambda: AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    ),
    "image_encoder": lambda: CLIPVisionModelWithProjection(
        CLIPVisionConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16)
    ),
    "cc_projection": lambda: PoseProjection(),
}


def full_size_names(part):
    with torch.device("meta"):
        return tuple(FULL[part]().state_dict())


@pytest.mark.parametrize(("part", "count"), [("unet", 686), ("vae", 248), ("image_encoder", 392)])
def test_every_tensor_of_the_published_size_has_a_place_of_its_own(part, count):
    names = full_size_names(part)
    pairs = pair_names(part, names)
    assert len(names) == count
    assert sorted(name for pair in pairs for name in pair.diffusers) == sorted(names)
    assert len({pair.original for pair in pairs}) == len(pairs)


def test_the_average_s_odd_names_do_not_collide():
    pairs = pair_names("unet", full_size_names("unet"))
    assert len({ema_name(pair.original) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("part", "original", "diffusers"),
    [
        ("unet", "input_blocks.0.0.weight", "conv_in.weight"),
        ("unet", "time_embed.2.bias", "time_embedding.linear_2.bias"),
        (
            "unet",
            "input_blocks.4.0.in_layers.2.weight",
            "down_blocks.1.resnets.0.conv1.weight",
        ),
        ("unet", "input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
        (
            "unet",
            "input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight",
            "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight",
        ),
        ("unet", "middle_block.2.out_layers.3.bias", "mid_block.resnets.1.conv2.bias"),
        ("unet", "output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ("unet", "output_blocks.5.2.conv.weight", "up_blocks.1.upsamplers.0.conv.weight"),
        (
            "unet",
            "output_blocks.11.0.skip_connection.bias",
            "up_blocks.3.resnets.2.conv_shortcut.bias",
        ),
        ("unet", "out.0.weight", "conv_norm_out.weight"),
        (
            "vae",
            "decoder.up.3.block.0.conv1.weight",
            "decoder.up_blocks.0.resnets.0.conv1.weight",
        ),
        (
            "vae",
            "encoder.down.1.block.0.nin_shortcut.weight",
            "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
        ),
        (
            "vae",
            "encoder.mid.attn_1.proj_out.bias",
            "encoder.mid_block.attentions.0.to_out.0.bias",
        ),
        ("vae", "encoder.norm_out.bias", "encoder.conv_norm_out.bias"),
        ("image_encoder", "ln_pre.weight", "vision_model.pre_layrnorm.weight"),
        ("image_encoder", "proj", "visual_projection.weight"),
        (
            "image_encoder",
            "transformer.resblocks.23.mlp.c_proj.weight",
            "vision_model.encoder.layers.23.mlp.fc2.weight",
        ),
        ("cc_projection", "bias", "projection.bias"),
    ],
)
def test_well_known_names_meet(part, original, diffusers):
    pairs = pair_names(part, full_size_names(part))
    assert (PREFIXES[part] + original, (diffusers,)) in [(p.original, p.diffusers) for p in pairs]


def test_query_key_and_value_are_fused_in_this_order():
    fused = PREFIXES["image_encoder"] + "transformer.resblocks.0.attn.in_proj_weight"
    pairs = pair_names("image_encoder", full_size_names("image_encoder"))
    (pair,) = [pair for pair in pairs if pair.original == fused]
    assert [name.split(".")[-2] for name in pair.diffusers] == ["q_proj", "k_proj", "v_proj"]


def check_round_trip(part, network, find_config, config):
    """There and back no number has changed, and the sizes were read off the shapes."""
    tensors = {name: torch.randn(t.shape) for name, t in network.state_dict().items()}
    pairs = pair_names(part, tensors)
    original = join_original(pairs, tensors)
    again = split_original(pairs, original, "here")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    found = find_config(Sizes(RawCheckpoint(Path("zero123.ckpt"), original, {}), part))
    assert {name: found[name] for name in config} == config


LEVELS = st.lists(st.tuples(st.sampled_from([32, 64]), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(LEVELS, st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_a_unet_of_any_size_goes_there_and_back(levels, layers, depth, linear):
    config = {
        "in_channels": 8,
        "block_out_channels": [width for width, _ in levels],
        "down_block_types": [f"{'CrossAttn' * here}DownBlock2D" for _, here in levels],
        "up_block_types": [f"{'CrossAttn' * here}UpBlock2D" for _, here in reversed(levels)],
        "layers_per_block": layers,
        "transformer_layers_per_block": depth,
        "use_linear_projection": linear,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
    }
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    check_round_trip("unet", unet, unet_config, config)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([32, 64]), min_size=1, max_size=4), st.integers(1, 3))
def test_a_vae_of_any_size_goes_there_and_back(widths, layers):
    config = {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": layers,
    }
    with torch.device("meta"):
        vae = AutoencoderKL(**config)
    check_round_trip("vae", vae, vae_config, config)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 12), st.sampled_from([(8, 32), (14, 224), (16, 64)]))
def test_a_clip_tower_of_any_size_goes_there_and_back(heads, layers, sizes):
    patch, image = sizes
    config = {
        "hidden_size": 64 * heads,
        "intermediate_size": 96,
        "projection_dim": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image,
        "patch_size": patch,
    }
    with torch.device("meta"):
        tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    check_round_trip("image_encoder", tower, image_encoder_config, config)

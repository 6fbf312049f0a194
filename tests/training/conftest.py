import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.data.views import ViewSet
from zero123.models import PoseProjection
from zero123.training.config import TrainConfig
from zero123.training.features import FeatureViews
from zero123.training.mini import mini_scheduler
from zero123.training.student import Student
from zero123.weights import Components, Settings


def tiny_parts() -> Components:
    """A whole model of the published classes that trains in milliseconds."""
    torch.manual_seed(0)
    return Components(
        unet=UNet2DConditionModel(
            sample_size=4,
            in_channels=8,
            out_channels=4,
            block_out_channels=(32, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=8,
            norm_num_groups=8,  # groups of one channel would give biases no gradient but noise
            attention_head_dim=2,
        ),
        vae=AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)
        ),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=16,
                patch_size=8,
                projection_dim=8,
            )
        ),
        projection=PoseProjection(embed_dim=8, context_dim=8),
        scheduler=mini_scheduler(),
        settings=Settings(),
    )


def tiny_data() -> FeatureViews:
    """Five objects of noise, six views each."""
    rng = np.random.default_rng(0)
    return FeatureViews(
        views=ViewSet(
            images=rng.integers(0, 256, (5, 6, 32, 32, 3), dtype=np.uint8),
            orbits=rng.uniform([0.2, -3, 1.5], [2.9, 3, 2.2], (5, 6, 3)).astype(np.float32),
        ),
        latents=rng.normal(size=(5, 6, 4, 4, 4)).astype(np.float16),
        embeddings=rng.normal(size=(5, 6, 8)).astype(np.float32),
    )


TINY = TrainConfig(
    steps=4,
    photos=4,
    targets=2,
    warmup=1,
    learning_rate=1e-3,
    timesteps="noisy",
    last=0.3,
    trains_image_encoder=True,
    pictures=1,
    st_lpips=False,
    save_every=2,
)


@pytest.fixture
def student() -> Student:
    return Student(tiny_parts(), TINY)

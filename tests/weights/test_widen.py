import json
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from torch import Tensor

from zero123.weights import Components, WeightsError, save_model, to_original
from zero123.weights.components import blank
from zero123.weights.keys import PREFIXES, ema_name
from zero123.weights.widen import open_or_widen

FIRST = "model.diffusion_model.input_blocks.0.0.weight"


def narrowed(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same UNet without the channels of the photo."""
    half = unet.config.in_channels // 2
    narrow = blank(lambda: UNet2DConditionModel.from_config(unet.config, in_channels=half), "it")
    tensors = unet.state_dict()
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, :half].contiguous()
    narrow.load_state_dict(tensors, assign=True)
    return narrow.eval()


def variations(model: Components, folder: Path) -> Path:
    """A folder of the layout of lambdalabs/sd-image-variations-diffusers."""
    narrow = narrowed(model.unet)
    narrow.save_pretrained(folder / "unet")
    model.vae.save_pretrained(folder / "vae")
    model.image_encoder.save_pretrained(folder / "image_encoder")
    PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionImageVariationPipeline",
        "_diffusers_version": "0.9.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def checkpoint(state: dict[str, Tensor], path: Path, **changed: Tensor | None) -> Path:
    """A file like sd-image-conditioned-v2.ckpt."""
    narrow = state | {n: state[n][:, :4].clone() for n in (FIRST, ema_name(FIRST))}
    narrow |= {name: tensor for name, tensor in changed.items() if tensor is not None}
    gone = ("cc_projection.", *(name for name, tensor in changed.items() if tensor is None))
    kept = {name: tensor for name, tensor in narrow.items() if not name.startswith(gone)}
    torch.save({"state_dict": kept}, path)
    return path


@torch.no_grad()
def answer(unet: UNet2DConditionModel, photo: float | None, context: int) -> Tensor:
    noise = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, 16, 16, generator=noise)
    token = torch.randn(2, 1, context, generator=noise)
    if photo is not None:
        latent = photo * torch.randn(2, 4, 16, 16, generator=noise)
        noisy = torch.cat([noisy, latent], dim=1)
    said: Tensor = unet(noisy, torch.tensor(300), token).sample
    return said


@pytest.mark.parametrize("photo", [0.0, 1.0, 100.0])
def test_the_widened_model_says_what_the_narrow_one_says(model, tmp_path, photo):
    widened = open_or_widen(variations(model, tmp_path))
    context = widened.unet.config.cross_attention_dim
    alone = answer(narrowed(model.unet), None, context)
    assert torch.equal(answer(widened.unet, photo, context), alone)
    embedding, pose = torch.randn(3, context), torch.randn(3, 4)
    assert torch.equal(widened.projection(embedding, pose)[:, 0], embedding)


def test_it_comes_ready_to_train(model, tmp_path):
    widened = open_or_widen(variations(model, tmp_path / "variations"))
    assert type(widened.scheduler) is DDIMScheduler
    assert torch.equal(widened.scheduler.alphas_cumprod, model.scheduler.alphas_cumprod)
    assert widened.scheduler.config.prediction_type == "epsilon"
    assert not widened.scheduler.config.clip_sample
    assert widened.settings.name == "variations, widened"
    assert widened.settings.pose_encoding == "zero123"
    save_model(widened, tmp_path / "wide")
    again = open_or_widen(tmp_path / "wide")
    assert torch.equal(again.unet.conv_in.weight, widened.unet.conv_in.weight)


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_a_raw_checkpoint_is_widened_alike(state, tmp_path, weights):
    widened = open_or_widen(checkpoint(state, tmp_path / "variations.ckpt"), weights=weights)
    name = FIRST if weights == "raw" else ema_name(FIRST)
    assert torch.equal(widened.unet.conv_in.weight[:, :4], state[name][:, :4])
    assert not widened.unet.conv_in.weight[:, 4:].any()
    original = to_original(widened)
    assert torch.equal(original["cc_projection.weight"], torch.eye(64, 68))
    assert not original["cc_projection.bias"].any()
    left = [n for n in original if n.startswith((PREFIXES["vae"], PREFIXES["image_encoder"]))]
    assert all(torch.equal(original[name], state[name]) for name in left)


def test_a_zero_1_to_3_is_opened_as_it_is(original, mini, tmp_path):
    trained = open_or_widen(original)
    assert trained.unet.conv_in.weight[:, 4:].any()
    save_model(mini, tmp_path / "mini")
    assert open_or_widen(tmp_path / "mini").settings == mini.settings


def test_other_stable_diffusions_are_refused_in_a_sentence(model, state, tmp_path):
    folder = variations(model, tmp_path / "variations")
    words = tmp_path / "words.ckpt"
    checkpoint(state, words, **{"cond_stage_model.model.visual.": None})
    with pytest.raises(WeightsError, match=r"words\.ckpt: this model is told .* by words"):
        open_or_widen(words)
    wider = narrowed(model.unet)
    UNet2DConditionModel(**wider.config | {"cross_attention_dim": 96}).save_pretrained(
        folder / "unet"
    )
    with pytest.raises(WeightsError, match="takes 96 numbers, but its image encoder gives 64"):
        open_or_widen(folder)
    index = json.loads((folder / "model_index.json").read_text())
    del index["image_encoder"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"variations: this model is told .* by words"):
        open_or_widen(folder)


def test_inpainting_and_damage_are_refused(model, state, tmp_path):
    nine = checkpoint(state, tmp_path / "nine.ckpt", **{FIRST: torch.zeros(32, 9, 3, 3)})
    with pytest.raises(WeightsError, match="inpainting"):
        open_or_widen(nine)
    folder = variations(model, tmp_path / "variations")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="damaged safetensors file"):
        open_or_widen(folder)
    with pytest.raises(WeightsError, match="no such file or folder"):
        open_or_widen(tmp_path / "nothing")


def test_diffusers_agrees_on_the_layout(model, tmp_path):
    """What our tests call that layout is one that its own pipeline class opens."""
    folder = variations(model, tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    pipe = diffusers.StableDiffusionImageVariationPipeline.from_pretrained(
        folder, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    assert pipe.unet.config.in_channels == 4

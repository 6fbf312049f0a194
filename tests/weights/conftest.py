import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.models import PoseProjection
from zero123.weights import Components, Settings, open_model, save_model, to_original

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def original() -> Path:
    """The original's checkpoint, with its YAML beside it."""
    return GOLDEN / "model.ckpt"


@pytest.fixture(scope="session")
def model(original: Path) -> Components:
    return open_model(original, pose_encoding="zero123")


@pytest.fixture(scope="session")
def mini() -> Components:
    """A model of the bundled one's kind: no KL autoencoder, v-prediction, 8 latent channels."""
    return Components(
        unet=UNet2DConditionModel(
            sample_size=16,
            in_channels=16,
            out_channels=8,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=32,
        ).eval(),
        vae=AutoencoderTiny(
            latent_channels=8,
            encoder_block_out_channels=(16, 16),
            num_encoder_blocks=(1, 1),
            decoder_block_out_channels=(16, 16),
            num_decoder_blocks=(1, 1),
        ).eval(),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=64,
                patch_size=8,
                projection_dim=32,
            )
        ).eval(),
        projection=PoseProjection(32, 32),
        scheduler=DDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
        settings=Settings(steps=10, guidance=2.0, eta=0.0, name="mini", licence="CC0-1.0"),
    )


@pytest.fixture(scope="session")
def state() -> dict[str, Tensor]:
    """A small model's tensors as the original names them, with average and training's rest."""
    small = Components(
        unet=UNet2DConditionModel(
            in_channels=8,
            block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=64,
        ),
        vae=AutoencoderKL(
            block_out_channels=(32, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=64,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=1,
                image_size=64,
                patch_size=16,
                projection_dim=64,
            )
        ),
        projection=PoseProjection(64, 64),
        scheduler=DDIMScheduler(),
        settings=Settings(),
    )
    extra = {
        "betas": torch.linspace(0.001, 0.01, 1000),
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(7, dtype=torch.int32),
        "cond_stage_model.model.text_projection": torch.zeros(4, 4),
        "scale_factor": torch.tensor(0.18215),
    }
    return to_original(small, average=UNet2DConditionModel(**small.unet.config)) | extra


@pytest.fixture
def ours(mini: Components, tmp_path: Path) -> Path:
    """A folder in our own layout."""
    save_model(mini, tmp_path / "ours")
    return tmp_path / "ours"


@dataclass(frozen=True)
class Rewrite:
    """Changes a model folder as others would have written it."""

    folder: Path

    def weights(self, part: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        file = self.weight_file(part)
        safetensors.torch.save_file(change(self.tensors(part)), file)

    def tensors(self, part: str) -> dict[str, Tensor]:
        # cloned, for the file that they are mapped from is about to be written over
        loaded = safetensors.torch.load_file(self.weight_file(part))
        return {name: tensor.clone() for name, tensor in loaded.items()}

    def weight_file(self, part: str) -> Path:
        return next((self.folder / part).glob("*.safetensors"))

    def json(self, file: str, **values: object) -> None:
        path = self.folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def as_pickle(self, part: str) -> None:
        names = {
            "diffusion_pytorch_model": "diffusion_pytorch_model.bin",
            "model": "pytorch_model.bin",
        }
        file = self.weight_file(part)
        torch.save(self.tensors(part), file.with_name(names[file.stem]))
        file.unlink()


@pytest.fixture
def rewrite(ours: Path) -> Rewrite:
    (ours / "manifest.json").unlink()
    return Rewrite(ours)


@pytest.fixture
def large(model: Components, tmp_path: Path) -> Rewrite:
    """A folder of the golden model."""
    save_model(model, tmp_path / "large")
    (tmp_path / "large" / "manifest.json").unlink()
    return Rewrite(tmp_path / "large")


@pytest.fixture(params=["ours", "kxic", "bennyguo", "bennyguo fp16", "sharded", "variant"])
def layout(request: pytest.FixtureRequest, large: Rewrite) -> Path:
    """One of the published layouts, made from the golden model."""
    folder, kind = large.folder, request.param
    if kind == "kxic":
        make_kxic(large)
    if kind.startswith("bennyguo"):
        make_bennyguo(large, torch.float16 if kind.endswith("fp16") else torch.float32)
    if kind == "sharded":
        shard(large)
    if kind == "variant":
        for file in list(folder.rglob("*.safetensors")):
            file.rename(file.with_name(file.stem + ".fp16.safetensors"))
    return folder


@pytest.fixture
def kxic(large: Rewrite) -> Path:
    make_kxic(large)
    return large.folder


def make_kxic(rewrite: Rewrite) -> None:
    """Pickles, an empty projection config, the attention names of an early diffusers, extras."""
    folder = rewrite.folder
    early = {
        ".to_q.": ".query.",
        ".to_k.": ".key.",
        ".to_v.": ".value.",
        ".to_out.0.": ".proj_attn.",
    }

    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for today, before in early.items():
            tensors = {name.replace(today, before): t for name, t in tensors.items()}
        return tensors

    rewrite.weights("vae", rename)
    rewrite.weights(
        "image_encoder",
        lambda tensors: tensors | {"vision_model.embeddings.position_ids": torch.arange(257)[None]},
    )
    for part in ("unet", "vae", "image_encoder", "cc_projection"):
        rewrite.as_pickle(part)
    (folder / "cc_projection" / "config.json").write_text('{"_class_name": "CCProjection"}')
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "pytorch_model.bin").write_bytes(b"not looked at")
    index = {
        "_class_name": "Zero1to3StableDiffusionPipeline",
        "_diffusers_version": "0.15.0.dev0",
        "cc_projection": ["pipeline_zero1to3", "CCProjection"],
        "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "requires_safety_checker": True,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def make_bennyguo(rewrite: Rewrite, dtype: torch.dtype) -> None:
    """The projection under another name, all safetensors, usually in half precision."""
    folder = rewrite.folder
    (folder / "cc_projection").rename(folder / "clip_camera_projection")
    rewrite.weights(
        "clip_camera_projection",
        lambda tensors: {name.replace("projection.", "proj."): t for name, t in tensors.items()},
    )
    for part in ("unet", "vae", "image_encoder", "clip_camera_projection"):
        rewrite.weights(part, lambda tensors: {name: t.to(dtype) for name, t in tensors.items()})
    config = {"_class_name": "CLIPCameraProjection", "additional_embeddings": 4}
    (folder / "clip_camera_projection" / "config.json").write_text(json.dumps(config))
    index = {
        "_class_name": "Zero123Pipeline",
        "_diffusers_version": "0.19.0.dev0",
        "clip_camera_projection": ["zero123", "CLIPCameraProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def shard(rewrite: Rewrite) -> None:
    """The UNet cut into two files and an index, as large models are."""
    tensors, stem = rewrite.tensors("unet"), "diffusion_pytorch_model"
    rewrite.weight_file("unet").unlink()
    halves = [f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    home = {name: halves[i % 2] for i, name in enumerate(tensors)}
    for half in halves:
        mine = {name: t for name, t in tensors.items() if home[name] == half}
        safetensors.torch.save_file(mine, rewrite.folder / "unet" / half)
    index = rewrite.folder / "unet" / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": home}))

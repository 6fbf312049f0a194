import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from tests.training.conftest import TINY, tiny_data, tiny_parts

from zero123.app import cli
from zero123.models import Condition, predict
from zero123.pipeline import Zero123Pipeline
from zero123.training.config import PRESETS
from zero123.training.loop import Share, batch_of, train
from zero123.training.student import Student
from zero123.weights import (
    Components,
    WeightsError,
    apply_lora,
    open_model,
    save_lora,
    save_model,
)

CONFIG = replace(TINY, lora_rank=2, trains_image_encoder=False, learning_rate=1e-2)


@pytest.fixture
def taught(tmp_path) -> Components:
    """A model with adapters that have learnt something."""
    parts = tiny_parts()
    train(Student(parts, CONFIG), 1.0, [Share(tiny_data())], tmp_path / "run")
    return parts


@pytest.fixture
def adapter(taught, tmp_path):
    save_lora(taught, tmp_path / "lora.safetensors")
    return tmp_path / "lora.safetensors"


@torch.no_grad()
def answer(parts: Components) -> torch.Tensor:
    noise = torch.Generator().manual_seed(0)
    embedding, pose = torch.randn(3, 8, generator=noise), torch.randn(3, 4, generator=noise)
    latent, noisy = torch.randn(2, 3, 4, 4, 4, generator=noise)
    shown = Condition(parts.projection(embedding, pose), latent)
    return predict(parts.unet, noisy, torch.tensor(500), shown)


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).detach().abs().max())


def test_a_loaded_adapter_says_what_the_student_says(taught, adapter):
    fresh = tiny_parts()
    assert off(answer(fresh), answer(taught)) > 1e-2
    apply_lora(fresh, adapter)
    assert off(answer(fresh), answer(taught)) < 1e-5
    batch = batch_of([Share(tiny_data())], Student(taught, TINY), 1.0, (0, 0, 0), range(4))
    losses = [Student(parts, TINY)(batch) for parts in (fresh, taught)]
    assert off(*losses) < 1e-5


def test_diffusers_reads_the_same_file(adapter):
    merged, loaded = tiny_parts(), tiny_parts()
    apply_lora(merged, adapter)
    loaded.unet.load_lora_adapter(adapter, prefix="unet")
    loaded.projection.load_state_dict(merged.projection.state_dict())
    assert any("lora" in name for name in loaded.unet.state_dict())
    assert off(answer(merged), answer(loaded)) < 1e-5


def test_an_adapter_that_learnt_nothing_changes_nothing(tmp_path):
    parts, fresh = tiny_parts(), tiny_parts()
    Student(parts, CONFIG)
    assert off(answer(parts), answer(fresh)) < 1e-6  # its memory is laid out otherwise
    save_lora(parts, tmp_path / "lora.safetensors")
    apply_lora(fresh, tmp_path / "lora.safetensors")
    assert torch.equal(answer(fresh), answer(tiny_parts()))


def test_the_pipeline_and_the_command_line_take_it(taught, adapter, tmp_path):
    save_model(tiny_parts(), tmp_path / "base")
    pipe = Zero123Pipeline.from_pretrained(tmp_path / "base", lora=adapter)
    cli.main(["convert", str(tmp_path / "base"), str(tmp_path / "merged"), "--lora", str(adapter)])
    merged = open_model(tmp_path / "merged")
    for parts in (replace(merged, unet=pipe.unet, projection=pipe.cc_projection), merged):
        assert off(answer(parts), answer(taught)) < 1e-5


def test_half_precision_takes_the_same_adapter(taught, adapter, tmp_path):
    save_model(tiny_parts(), tmp_path / "base")
    half = open_model(tmp_path / "base", dtype=torch.bfloat16)
    apply_lora(half, adapter)
    assert half.unet.dtype == torch.bfloat16
    assert off(answer(half), answer(taught)) < 0.05


def test_the_small_preset_trains_few_parameters():
    parts = open_model("mini")
    whole = sum(p.numel() for network in parts.networks.values() for p in network.parameters())
    trained = sum(p.numel() for p in Student(parts, PRESETS["mini-lora"]).trained().values())
    assert 0.005 < trained / whole < 0.05


def test_every_adapted_weight_learns(taught):
    """None of them multiplies into a softmax over one token."""
    ups = {n: p for n, p in taught.unet.named_parameters() if "lora_B" in n}
    assert ups
    assert all(p.any() for p in ups.values()), [n for n, p in ups.items() if not p.any()]


def rewritten(adapter, change) -> None:
    tensors = {name: t.clone() for name, t in safetensors.torch.load_file(adapter).items()}
    safetensors.torch.save_file(change(tensors), adapter, {"base_model": "mini"})


def without(name: str):
    return lambda tensors: {n: t for n, t in tensors.items() if not n.startswith(name)}


FAULTS = {
    "another model": (
        lambda t: t | {"base": t["base"] * 1.1},
        "trained on another model, 'mini', and",
    ),
    "another size": (lambda t: t | {"base": t["base"][:1]}, "trained on another model"),
    "of diffusers": (without("base"), "an adapter, but of another kind of model"),
    "a model": (lambda _: {"conv_in.weight": torch.zeros(1)}, r"it holds conv_in\.weight"),
    "no projection": (without("cc_"), r"projection\.weight, projection\.bias missing"),
    "one half": (
        without("unet.mid_block.attentions.0.proj_in.lora_B"),
        r"mid_block\.attentions\.0\.proj_in without its other half",
    ),
    "unknown layer": (
        lambda t: {n.replace("proj_in", "proj_up"): v for n, v in t.items()},
        r"proj_up unknown|proj_up, .* unknown",
    ),
    "misshapen": (
        lambda t: {n: v[:1] if "to_v.lora_A" in n else v for n, v in t.items()},
        "to_v misshapen|to_v, .* misshapen",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_does_not_fit_is_one_sentence_and_changes_nothing(adapter, fault):
    change, sentence = FAULTS[fault]
    rewritten(adapter, change)
    parts = tiny_parts()
    with pytest.raises(WeightsError, match=sentence):
        apply_lora(parts, adapter)
    assert torch.equal(answer(parts), answer(tiny_parts()))


@pytest.mark.parametrize("cut", [0, 4, 100, 2000, -1])
def test_a_damaged_file_is_one_sentence(adapter, cut):
    adapter.write_bytes(adapter.read_bytes()[:cut])
    with pytest.raises(WeightsError, match=r"lora\.safetensors: "):
        apply_lora(tiny_parts(), adapter)


def test_a_model_without_adapters_has_none_to_save(tmp_path):
    with pytest.raises(WeightsError, match="has no adapters"):
        save_lora(tiny_parts(), tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=r"is a \.safetensors file"):
        save_lora(tiny_parts(), tmp_path / "lora.ckpt")
    assert not list(tmp_path.iterdir())


def test_the_file_says_what_it_is(adapter):
    with safetensors.safe_open(adapter, "pt") as file:
        notes = json.loads(file.metadata()["lora_adapter_metadata"])
        names = set(file.keys())
    assert (notes["unet.r"], notes["unet.lora_alpha"]) == (2, 2)
    assert "unet.mid_block.attentions.0.proj_in.lora_A.weight" in names
    assert {"cc_projection.projection.weight", "cc_projection.projection.bias"} < names

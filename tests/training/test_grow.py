"""A larger denoiser says what the smaller one says, and can learn to say more."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

RECIPES = Path(__file__).parents[2] / "recipes"

SMALL = {
    "sample_size": 8,
    "in_channels": 5,
    "out_channels": 3,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 6,
    "attention_head_dim": 4,
}
LARGER = {
    "a layer more": {"layers_per_block": 2},
    "two layers more": {"layers_per_block": 3},
    "more attention in a layer": {"transformer_layers_per_block": (1, 2)},
    "attention everywhere": {
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    },
}
UNASKED = re.compile(r"transformer_blocks\.\d+\.(attn2\.to_[qk]|norm2)\.")
LARGER["all of it"] = {name: value for more in LARGER.values() for name, value in more.items()}


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., UNet2DConditionModel]:
    monkeypatch.syspath_prepend(RECIPES)
    by: Callable[..., UNet2DConditionModel] = importlib.import_module("grow").grown
    return by


def drawn(**changes: object) -> UNet2DConditionModel:
    """A network in which no weight is zero."""
    unet = UNet2DConditionModel(**(SMALL | changes))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return unet


def said(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    sample, token = (torch.randn(shape, generator=generator) for shape in ((2, 5, 8, 8), (2, 1, 6)))
    answer: torch.Tensor = unet(sample, torch.tensor([999, 3]), token).sample
    return answer


@pytest.mark.parametrize("changes", LARGER.values(), ids=LARGER)
def test_a_larger_one_says_the_same_and_learns_in_all_that_is_new(grown, changes):
    torch.manual_seed(0)
    small = drawn()
    large = grown(small, drawn(**changes))
    torch.testing.assert_close(said(large), said(small), atol=1e-5, rtol=0)
    assert sum(p.numel() for p in large.parameters()) > sum(p.numel() for p in small.parameters())

    rate = torch.optim.SGD(large.parameters(), lr=0.01)
    for _ in range(2):  # the first step wakes what was silent
        large.zero_grad()
        torch.autograd.backward(said(large).square().mean())
        rate.step()
    idle = [name for name, p in large.named_parameters() if not p.grad.any()]
    # a single token is attended wholly, whatever is asked of it
    assert [name for name in idle if not UNASKED.search(name)] == []


def test_one_of_the_same_size_is_copied(grown):
    small = drawn()
    assert torch.equal(said(grown(small, drawn())), said(small))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"block_out_channels": (32, 96)}, "no place for down_blocks"),
        ({"cross_attention_dim": 7}, "no place for .*attn2.to_k.weight"),
        ({"down_block_types": ("DownBlock2D",) * 2}, "no place for down_blocks.1.attentions.0"),
    ],
)
def test_what_has_no_place_is_said(grown, changes, what):
    with pytest.raises(ValueError, match=what):
        grown(drawn(), drawn(**changes))


def test_fewer_layers_are_refused(grown):
    with pytest.raises(ValueError, match="no place for"):
        grown(drawn(layers_per_block=2), drawn())


def test_the_recipe_names_what_a_denoiser_can_be_given(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    recipe = importlib.import_module("mini_cpu")
    with pytest.raises(SystemExit, match="attention or larger"):
        recipe.denoiser(1, "mini", "huge", 1, 1, 1e-3, "no", 0)
    small = recipe.mini_unet()
    for changes in recipe.GROWN.values():
        large = recipe.grown(small, recipe.mini_unet(**changes))
        assert large.num_parameters() > small.num_parameters()

"""Maps doubled by repeating: the same views, and gradients that survive being compiled."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers.models.unets.unet_2d_blocks import UpBlock2D
from tests.training.conftest import TINY, tiny_data, tiny_parts
from torch import Tensor, nn

from zero123.training.doubling import double_by_repeating, doubled
from zero123.training.loop import Share, batch_of
from zero123.training.student import Student


def block() -> UpBlock2D:
    torch.manual_seed(0)
    return UpBlock2D(64, 64, 64, 128, num_layers=1, add_upsample=True)


def said(network: UpBlock2D, maps: Tensor) -> Tensor:
    answer: Tensor = network(maps, (maps,), torch.ones(len(maps), 128))
    return answer


def test_numbers_are_those_of_interpolation():
    maps = torch.randn(2, 3, 4, 5)
    wanted = nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")
    assert torch.equal(doubled(maps), wanted)


def test_a_network_says_what_it_said():
    maps, network = torch.randn(2, 64, 4, 4), block()
    before, names = said(network, maps), network.state_dict().keys()
    double_by_repeating(network)
    assert torch.equal(said(network, maps), before)
    assert network.state_dict().keys() == names


@pytest.mark.usefixtures("untyped")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_gradients_pass_a_compiled_block():
    """Of interpolation PyTorch 2.13 makes one that gives none to what lies below, on a CPU."""
    network = block()
    double_by_repeating(network)
    maps = torch.randn(4, 64, 8, 8)
    found = []
    for each in (copy.deepcopy(network), network):
        if each is network:
            each.compile()
        given = maps.clone().requires_grad_()
        torch.autograd.backward(said(each, given).square().mean())
        found.append((given.grad, *(p.grad for p in each.parameters())))
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-3)
    assert found[1][0].norm() > 0


@pytest.mark.slow
@pytest.mark.usefixtures("untyped")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_a_compiled_student_learns_as_a_plain_one():
    found = []
    for compiled in (False, True):
        student = Student(tiny_parts(), replace(TINY, compiled=compiled))
        student.attend_plainly()
        batch = batch_of([Share(tiny_data())], student, 1.0, (0, 0, 0), range(4))
        torch.autograd.backward(student(batch))
        found.append({name: p.grad for name, p in student.trained().items()})
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, atol=1e-5, rtol=1e-2, msg=name)

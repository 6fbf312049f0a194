import pytest
import torch

from zero123.reconstruct.losses import (
    block_smoothness,
    depth_smoothness,
    input_view,
    near_view,
    robust,
    total_variation,
)


def test_each_loss_is_zero_where_it_should_be():
    colors, depth = torch.rand(8, 3), torch.rand(8)
    assert float(robust(colors, colors, torch.ones(8))) == 0
    assert float(input_view(colors.T[..., None], colors.T[..., None])) == 0
    assert float(near_view(colors, colors, depth, depth)) == 0
    assert float(depth_smoothness(torch.full((4, 4), 1.7))) == 0
    assert float(total_variation(torch.full((1, 2, 4, 4, 4), 0.3))) == 0
    assert float(block_smoothness(torch.full((3, 4), 1.7), torch.ones(3, 4))) == 0
    # a step of depth at the object's edge is none of the object's
    edge = torch.tensor([[1.0, 10.0, 1.0, 10.0]])
    assert float(block_smoothness(edge, torch.tensor([[1.0, 0.0, 1.0, 0.0]]))) == 0


def test_losses_are_the_formulas():
    ramp = torch.arange(4.0)[None].expand(4, 4) * 2 + torch.arange(4.0)[:, None]
    assert float(depth_smoothness(ramp)) == pytest.approx((2 + 1) / 2)
    made, photo = torch.zeros(3, 2, 2), torch.full((3, 2, 2), 0.5)
    assert float(input_view(made, photo)) == pytest.approx(1.0)  # one apart in [-1, 1]
    ones, zeros = torch.ones(4, 2), torch.zeros(4, 2)
    assert float(near_view(ones, zeros, torch.full((4,), 3.0), torch.ones(4))) == pytest.approx(3)
    far = robust(ones, zeros, torch.ones(4))
    assert float(far) == pytest.approx(0.98, abs=1e-3)
    trusted = torch.tensor([1.0, 0.0, 0.0, 0.0])
    mixed = torch.cat([zeros[:1], ones[1:]])
    assert float(robust(mixed, zeros, trusted)) == 0

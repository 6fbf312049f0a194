"""Muon on filters: what it does to a matrix, whatever the filter's place in memory."""

from dataclasses import replace

import pytest
import torch
from tests.training.conftest import TINY, tiny_parts
from tests.training.test_loop import run, same
from torch import nn

from zero123.training.config import PRESETS
from zero123.training.muon import LEAST, FilterMuon, is_hidden
from zero123.training.student import Student


def stepped(weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """A weight after a step by each gradient."""
    learning = nn.Parameter(weight.clone(memory_format=torch.preserve_format))
    optimiser = FilterMuon([learning], 0.01)
    optimiser.param_groups[0]["lr"] = 0.1
    for gradient in gradients:
        learning.grad = gradient.clone(memory_format=torch.preserve_format)
        optimiser.step()
        optimiser.zero_grad()
        assert learning.grad is None
    return learning.detach()


def test_a_filter_goes_as_the_matrix_of_its_rows_wherever_it_lies():
    generator = torch.Generator().manual_seed(0)
    weight, *gradients = torch.randn(4, 8, 6, 3, 3, generator=generator)
    matrix = nn.Parameter(weight.flatten(1).clone())
    theirs = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        matrix.grad = gradient.flatten(1)
        theirs.step()
    assert torch.equal(stepped(weight, gradients).flatten(1), matrix.detach())
    assert (matrix - weight.flatten(1)).abs().mean() > 0.01

    def last(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous(memory_format=torch.channels_last)

    # columns in another order: the same but for the order of sums in bf16
    elsewhere = stepped(last(weight), [last(g) for g in gradients])
    assert elsewhere.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(elsewhere.flatten(1), matrix.detach(), atol=0.01, rtol=0)


def test_what_is_hidden_and_large_learns_by_it_and_all_else_by_adamw():
    student = Student(tiny_parts(), replace(TINY, muon=True))
    assert all(min(len(p), p[0].numel()) >= LEAST for p in student.hidden())
    assert not is_hidden(nn.Parameter(torch.zeros(47, 500)))
    assert is_hidden(nn.Parameter(torch.zeros(48, 6, 3, 3)))
    assert not is_hidden(nn.Parameter(torch.zeros(500)))


@pytest.mark.parametrize("muon", [False, True])
def test_every_parameter_has_one_optimiser(monkeypatch, muon):
    monkeypatch.setattr("zero123.training.muon.LEAST", 8)
    student = Student(tiny_parts(), replace(TINY, muon=muon))
    names = {id(p): name for name, p in student.trained().items()}
    hidden = [names[id(p)] for p in student.hidden()]
    others = [names[id(p)] for group in student.groups() for p in group["params"]]
    assert sorted(hidden + others) == sorted(names.values())
    assert bool(hidden) == muon
    assert not any("conv_in" in name or "projection." in name for name in hidden)


def test_training_by_it_goes_another_way_and_resumes_to_the_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("zero123.training.muon.LEAST", 8)
    config = replace(TINY, muon=True)

    def stop(row):
        if row["step"] == 2:
            raise KeyboardInterrupt

    straight = run(tmp_path / "straight", config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", config, report=stop)
    assert same(straight, run(tmp_path / "stopped", config, resume=True))
    assert not same(straight, run(tmp_path / "adamw"), atol=1e-4)


def test_the_small_model_is_made_by_it():
    assert PRESETS["mini"].muon
    assert not PRESETS["paper"].muon

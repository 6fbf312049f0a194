"""What stays the same over the steps of a walk is computed once, before it. Exact.

A UNet that is switched so takes its constants through the arguments it has anyway: the flat row of
all time projections as ``timestep``, the flat row of all cross-attentions as
``encoder_hidden_states``, the photo's share of the first convolution behind the noisy channels. No
state hides in the modules, so that traced and compiled networks see plain inputs.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from zero123.speed.put import put


class Part(nn.Module):
    """Reads its own part of a row that was computed before the walk."""

    def __init__(self, plain: nn.Module, first: int, width: int) -> None:
        super().__init__()
        self.plain = plain
        self.first, self.last = first, first + width


class AttentionPart(Part):
    """The answer of a cross-attention to its only token."""

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: object) -> Tensor:
        """(b, n, c) and the row (b, 1, all) -> (b, 1, c), the same at every place."""
        return encoder_hidden_states[..., self.first : self.last]


class TokenPart(Part):
    """What the token adds to the time embedding."""

    def forward(self, row: Tensor) -> Tensor:
        """(b, 1, all) -> (b, c)."""
        return row[:, 0, self.first : self.last]


class TimePart(Part):
    """The time projection of a residual block."""

    def forward(self, row: Tensor) -> Tensor:
        """(b, all) -> (b, c)."""
        return row[:, self.first : self.last]


class TimeRow(nn.Module):
    """The whole row of time projections, computed before."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, row: Tensor, condition: None = None) -> Tensor:
        """(b, all), as it came."""
        return row


class PhotoConvolution(nn.Module):
    """The first convolution, whose share of the photo's latent comes with the input."""

    def __init__(self, plain: nn.Conv2d, noisy: int) -> None:
        super().__init__()
        self.plain, self.noisy = plain, noisy

    def forward(self, joined: Tensor) -> Tensor:
        """(b, noisy + c, h, w) -> (b, c, h, w)."""
        plain = self.plain
        weight = plain.weight[:, : self.noisy]
        own = F.conv2d(joined[:, : self.noisy], weight, padding=plain.padding)
        return own + joined[:, self.noisy :]

    def share(self, latent: Tensor) -> Tensor:
        """What the photo's latent adds, with the bias."""
        plain = self.plain
        return F.conv2d(latent, plain.weight[:, self.noisy :], plain.bias, padding=plain.padding)


@contextmanager
def constant_attention(unet: UNet2DConditionModel) -> Iterator[None]:
    """Cross-attentions become ``to_out(to_v(token))``.

    The softmax over a single key is 1: queries, keys and the norm before them have no effect.
    """
    first = 0
    with ExitStack() as undo:
        for block in _found(unet, BasicTransformerBlock):
            width = block.attn2.to_out[0].out_features
            undo.enter_context(put(block, "attn2", AttentionPart(block.attn2, first, width)))
            undo.enter_context(put(block, "norm2", nn.Identity()))
            first += width
        if token_joins_time(unet):
            width = unet.add_embedding.proj.out_features
            part = TokenPart(unet.add_embedding, first, width)
            undo.enter_context(put(unet, "add_embedding", part))
        yield


@contextmanager
def constant_times(unet: UNet2DConditionModel) -> Iterator[None]:
    """The time embedding and its projections into all blocks are looked up.

    Where the token joins the time embedding, the projections depend on both and stay.
    """
    first = 0
    with ExitStack() as undo:
        for block in [] if token_joins_time(unet) else _found(unet, ResnetBlock2D):
            width = block.time_emb_proj.out_features
            part = TimePart(block.time_emb_proj, first, width)
            undo.enter_context(put(block, "time_emb_proj", part))
            undo.enter_context(put(block, "skip_time_act", True))
            first += width
        undo.enter_context(put(unet, "time_embedding", TimeRow(unet.time_embedding)))
        undo.enter_context(put(unet, "get_time_embed", _every_row))
        yield


@contextmanager
def constant_photo(unet: UNet2DConditionModel) -> Iterator[None]:
    """The first convolution is linear: the photo's share of it is added, not computed."""
    noisy = unet.config.out_channels
    with put(unet, "conv_in", PhotoConvolution(unet.conv_in, noisy)):
        yield


def context_for(unet: UNet2DConditionModel, token: Tensor) -> Tensor:
    """What the network takes as context: the token (b, 1, d), or the row of all its effects."""
    parts = _found(unet, AttentionPart)
    if not parts:
        return token
    answers = [part.plain.to_out[0](part.plain.to_v(token)) for part in parts]
    if token_joins_time(unet):
        answers.append(unet.add_embedding.plain(token)[:, None])
    return torch.cat(answers, dim=-1)


def times_for(unet: UNet2DConditionModel, timesteps: Tensor) -> Tensor:
    """What the network takes as timestep at each step: (steps, 1), or rows (steps, 1, all)."""
    on_device = timesteps.to(unet.device)
    row = unet.time_embedding
    if not isinstance(row, TimeRow):
        return on_device[:, None]
    embedded: Tensor = row.plain(unet.time_proj(on_device).to(unet.dtype))
    blocks = [b for b in _found(unet, ResnetBlock2D) if isinstance(b.time_emb_proj, TimePart)]
    if not blocks:
        return embedded[:, None]
    shares = [block.time_emb_proj.plain(block.nonlinearity(embedded)) for block in blocks]
    return torch.cat(shares, dim=-1)[:, None]


def photo_for(unet: UNet2DConditionModel, latent: Tensor) -> Tensor:
    """What the network takes behind the noisy channels: the latent, or its share of conv_in."""
    first = unet.conv_in
    return first.share(latent) if isinstance(first, PhotoConvolution) else latent


def token_joins_time(unet: UNet2DConditionModel) -> bool:
    """Whether the token speaks to the blocks through the time embedding too, as in ``mini``."""
    return bool(unet.config.addition_embed_type == "text")


def _every_row(sample: Tensor, timestep: Tensor) -> Tensor:
    return timestep.expand(sample.shape[0], -1)


def _found(unet: UNet2DConditionModel, kind: type) -> list[Any]:
    return [module for module in unet.modules() if isinstance(module, kind)]

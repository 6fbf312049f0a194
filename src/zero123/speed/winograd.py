"""3×3 convolutions in fewer products, for processors. Exact to rounding.

Four neighbouring places of the answer need 36 products and channel; written as polynomials they
need 16. Besides, the products become plain matrix products with weights that are in order already:
PyTorch's own way puts the weights of a convolution in another order at each call, which at few
pixels and many channels takes longer than the products.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016: F(2×2, 3×3).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from einops import rearrange
from torch import Tensor, nn

from zero123.speed.put import put

_INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_WEIGHT = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))

_FEWEST_CHANNELS = 256
_MOST_PIXELS = 32 * 32
"""Of a picture. With fewer channels or more pixels, turning tiles over costs what it saves."""


class Winograd(nn.Module):
    """A 3×3 convolution of stride 1, tile by tile of 2×2."""

    into: Tensor
    out: Tensor

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.plain = plain
        weight = plain.weight.detach()
        taps, into, out = (weight.new_tensor(matrix) for matrix in (_WEIGHT, _INPUT, _OUTPUT))
        spread = torch.einsum("ay,bx,oiyx->abio", taps, taps, weight)
        self.weight = nn.Parameter(spread.flatten(0, 1).contiguous(), requires_grad=False)
        self.register_buffer("into", torch.kron(into, into))
        self.register_buffer("out", torch.kron(out, out))

    def forward(self, picture: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, o, h, w); odd sizes and large ones are left to the plain way."""
        b, c, h, w = picture.shape
        if h % 2 or w % 2 or h * w > _MOST_PIXELS:
            return self.plain(picture)  # type: ignore[no-any-return]
        padded = F.pad(picture, (1, 1, 1, 1)).permute(0, 2, 3, 1)
        tiles = padded.unfold(1, 4, 2).unfold(2, 4, 2)
        flat = rearrange(tiles, "b y x c i j -> (i j) (b y x c)")
        places = (self.into @ flat).view(16, -1, c)
        products = torch.bmm(places, self.weight).flatten(1)
        answer = rearrange(
            self.out @ products,
            "(i j) (b y x o) -> b o (y i) (x j)",
            i=2, b=b, y=h // 2, x=w // 2,
        )  # fmt: skip
        bias = self.plain.bias
        return answer if bias is None else answer + bias[:, None, None]


@contextmanager
def winograd(network: nn.Module) -> Iterator[None]:
    """Every 3×3 convolution of stride 1 between many channels is done so."""
    with ExitStack() as undo:
        for path, owner in list(network.named_modules()):
            for name, module in list(owner.named_children()):
                aside = "plain" in (*path.split("."), name)  # another switch took its place
                if isinstance(module, nn.Conv2d) and _suits(module) and not aside:
                    undo.enter_context(put(owner, name, Winograd(module)))
        yield


def _suits(plain: nn.Conv2d) -> bool:
    return (
        (plain.kernel_size, plain.stride, plain.padding) == ((3, 3), (1, 1), (1, 1))
        and (plain.dilation, plain.groups) == ((1, 1), 1)
        and min(plain.in_channels, plain.out_channels) >= _FEWEST_CHANNELS
    )

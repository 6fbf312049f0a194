"""How a network is run: as it is, traced, compiled, or by OpenVINO. Exact."""

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from zero123.speed.constants import token_joins_time
from zero123.speed.plan import Engine
from zero123.speed.put import put

Run: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
"""Joined channels (b, c, h, w), times and context of a step -> the answer (b, c, h, w)."""

_COMPILERS = ("g++", "clang++", "cl")
_MOST_SHAPES = 64
"""Compiled variants: guided or not, each size of a batch."""


class Whole(nn.Module):
    """The UNet with plain inputs and outputs."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, joined: Tensor, times: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Answer."""
        answer: tuple[Tensor, ...] = self.unet(joined, times, context, return_dict=False)
        return answer


class Deep(Whole):
    """The UNet, which also says what its last layer heard from the others."""

    def forward(self, joined: Tensor, times: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Answer, and what was heard (b, c, h, w)."""
        (answer,) = super().forward(joined, times, context)
        return answer, self.unet.up_blocks[-1].resnets[-1].heard


class Shallow(Whole):
    """The last layer of the UNet alone, with what it heard earlier.

    Source: Ma et al., "DeepCache: Accelerating Diffusion Models for Free", 2024.
    """

    def forward(  # type: ignore[override]
        self, joined: Tensor, times: Tensor, context: Tensor, heard: Tensor
    ) -> tuple[Tensor, ...]:
        """Answer."""
        unet, last = self.unet, self.unet.up_blocks[-1]
        row = unet.time_embedding(unet.get_time_embed(joined, times))
        if token_joins_time(unet):
            row = row + unet.add_embedding(context)
        inner = last.resnets[-1](torch.cat([heard, unet.conv_in(joined)], dim=1), row)
        if hasattr(last, "attentions"):
            inner = last.attentions[-1](inner, context, return_dict=False)[0]
        return (unet.conv_out(unet.conv_act(unet.conv_norm_out(inner))),)


class Tap(nn.Module):
    """A residual block that keeps what came from the layers before it."""

    heard: Tensor

    def __init__(self, plain: nn.Module, skipped: int) -> None:
        super().__init__()
        self.plain, self.skipped = plain, skipped

    def forward(self, joined: Tensor, row: Tensor) -> Tensor:
        """As the plain block."""
        self.heard = joined[:, : -self.skipped]
        answer: Tensor = self.plain(joined, row)
        return answer


@contextmanager
def tapped(unet: UNet2DConditionModel) -> Iterator[None]:
    """The last residual block keeps what it heard."""
    blocks = unet.up_blocks[-1].resnets
    tap = Tap(blocks[-1], unet.config.block_out_channels[0])
    with put(blocks, str(len(blocks) - 1), tap):
        yield


class Traced:
    """A network traced once for each kind of inputs.

    Deprecated in torch in favour of compiling; here because the published table has it.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.traces: dict[tuple[object, ...], Any] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Answer as the network does."""
        kind = tuple((each.shape, each.dtype, each.device) for each in inputs)
        if kind not in self.traces:
            self.traces[kind] = _traced(self.network, inputs)
        answer: tuple[Tensor, ...] = self.traces[kind](*inputs)
        return answer


def _traced(network: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Trace for inputs of this kind; that their sizes become constants is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)  # torch compiles instead
        return torch.jit.trace(network, inputs, check_trace=False)  # type: ignore[no-untyped-call]


class Compiled:
    """A network compiled into one graph without breaks; on CUDA it is replayed as a CUDA graph."""

    def __init__(self, network: nn.Module) -> None:
        """Nothing is compiled before the first call.

        Raises:
            ValueError: if the machine lacks what compiling needs.
        """
        if not any(map(shutil.which, (os.environ.get("CXX", "c++"), *_COMPILERS))):
            raise ValueError(
                f"compiling needs a C++ compiler, and there is none ({', '.join(_COMPILERS)}): "
                "install one, or take what runs at once, exact or low-memory"
            )
        on_cuda = next(network.parameters()).is_cuda
        mode = "reduce-overhead" if on_cuda else None
        self.run = torch.compile(network, fullgraph=True, dynamic=False, mode=mode)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Answer as the network does."""
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # a graph writes its answers to the same place each time
        return tuple(answer.clone() for answer in self.run(*inputs))


class Converted:
    """A network converted for OpenVINO, once for each kind of inputs; for processors.

    Source: OpenVINO, whose convolutions keep their weights in the order that they need.
    """

    def __init__(self, network: nn.Module) -> None:
        """Nothing is converted before the first call.

        Raises:
            ModuleNotFoundError: without openvino.
            ValueError: if the network is not on the CPU.
        """
        if next(network.parameters()).device.type != "cpu":
            raise ValueError("OpenVINO works on processors here: move the pipeline to the CPU")
        self.network, self.openvino = network, _silent_openvino()
        self.converted: dict[tuple[object, ...], Any] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Answer as the network does, in float32."""
        kind = tuple((each.shape, each.dtype) for each in inputs)
        if kind not in self.converted:
            self.converted[kind] = self._convert(inputs)
        answers = self.converted[kind]([Widened.widen(each).numpy() for each in inputs])
        return tuple(torch.from_numpy(answers[at]) for at in range(len(answers)))

    def _convert(self, inputs: tuple[Tensor, ...]) -> Any:
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        wide, dtype = tuple(map(Widened.widen, inputs)), inputs[0].dtype
        reader = self.openvino.frontend.FrontEndManager().load_by_framework("pytorch")
        trace = _traced(Widened(self.network, dtype), wide)
        decoder = TorchScriptPythonDecoder(trace)  # must outlive the reading
        model = reader.convert(reader.load(decoder))
        model.reshape({at: tuple(each.shape) for at, each in enumerate(wide)})
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else int8 weights round what they meet, too
        }
        return self.openvino.compile_model(model, "CPU", options)


class Widened(nn.Module):
    """A network that takes and gives float32, whatever its own numbers are."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Answer."""
        narrow = (each.to(self.dtype) if each.is_floating_point() else each for each in inputs)
        return tuple(answer.float() for answer in self.network(*narrow))

    @staticmethod
    def widen(given: Tensor) -> Tensor:
        """Whole numbers stay."""
        return given.float() if given.is_floating_point() else given


def _silent_openvino() -> ModuleType:
    """Import it so that nothing leaves the machine.

    It tells its makers of every import, unless the package that would do so is missing.
    """
    with ExitStack() as undo:
        if "openvino_telemetry" not in sys.modules:
            sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
            undo.callback(sys.modules.pop, "openvino_telemetry")
        try:
            return import_module("openvino")
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                "this needs OpenVINO: pip install 'zero123[openvino]'"
            ) from missing


def engine_for(network: nn.Module, engine: Engine) -> Callable[..., tuple[Tensor, ...]]:
    """Run a network by an engine."""
    kinds: dict[Engine, Callable[[nn.Module], Callable[..., tuple[Tensor, ...]]]] = {
        "eager": lambda same: same,
        "traced": Traced,
        "compiled": Compiled,
        "openvino": Converted,
    }
    return kinds[engine](network)


@contextmanager
def many_shapes() -> Iterator[None]:
    """Torch gives up after eight shapes, and keeps what it compiled for ever."""
    with torch._dynamo.config.patch(recompile_limit=_MOST_SHAPES):
        yield
    torch.compiler.reset()

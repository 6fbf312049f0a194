"""Where a step of the full-size denoiser goes on a processor: ``python benchmarks/step.py``.

One thread. Prints the machine's peak and with it the floor, single convolutions both ways, a guided
step by switches, and PyTorch's profile of the plain and of the exact one. Processor seconds count,
not the clock's: other programs may run.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.profiler import profile

from zero123.models import Condition
from zero123.pipeline import Zero123Pipeline
from zero123.speed import Plan, accelerate, preset, restore
from zero123.speed.drawn import FULL, drawn_pipeline
from zero123.speed.plan import in_bfloat16
from zero123.speed.winograd import Winograd

STEP_GFLOP = 2 * 176.3  # both halves of a guided step, counted in the graph
SWITCHES = {
    "constant attention": Plan(constant_attention=True),
    "sub-pixel": Plan(sub_pixel=True),
    "winograd": Plan(winograd=True),
    "channels-last": Plan(channels_last=True),
    "bfloat16": Plan(dtype="bfloat16"),
    "bfloat16, channels-last": Plan(dtype="bfloat16", channels_last=True),
    "int8 weights": Plan(rounded=True),
    "exact": preset("exact", "cpu"),
    "exact, bfloat16": in_bfloat16(preset("exact", "cpu")),
}


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """Of the processor, the median after a first call."""
    call()
    spent = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        spent.append(time.process_time() - begin)
    return statistics.median(spent)


def peaks() -> None:
    """Print the rate of a large matrix product by type, and what a step takes at that rate."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        left, right = torch.randn(2048, 1280).to(dtype), torch.randn(1280, 1280).to(dtype)
        rates[dtype] = 2 * 2048 * 1280**2 / seconds(partial(torch.matmul, left, right), 9) / 1e9
        print(f"{dtype}: {rates[dtype]:.0f} GFLOP/s")
    print(f"floor of a plain float32 step: {STEP_GFLOP / rates[torch.float32]:.2f} s")


def convolutions() -> None:
    """Print a table of layers as the denoiser has them, two rows each for guidance."""
    print("| layer | PyTorch, ms | Winograd, ms |\n|---|---|---|")
    layers = ((320, 320, 32), (640, 640, 16), (1280, 1280, 8), (2560, 1280, 8), (1280, 1280, 4))
    for inputs, outputs, side in layers:
        plain = nn.Conv2d(inputs, outputs, 3, padding=1)
        picture = torch.randn(2, inputs, side, side)
        ours = Winograd(plain)
        spent = [1000 * seconds(partial(way, picture), 5) for way in (plain, ours)]
        print(f"| {inputs} to {outputs} at {side}² | {spent[0]:.1f} | {spent[1]:.1f} |")


def step(pipe: Zero123Pipeline) -> Callable[[], object]:
    """A guided step; what a walk prepares is not in it."""
    condition = Condition(torch.randn(1, 1, 768), torch.randn(1, 4, 32, 32))
    denoise = pipe.tell(pipe.unet, condition, torch.tensor([500]), 3.0)
    noisy = torch.randn(1, 4, 32, 32)
    return lambda: denoise(noisy, 0)


@torch.no_grad()
def main() -> None:
    """Print all."""
    torch.set_num_threads(1)
    peaks()
    convolutions()
    pipe = drawn_pipeline(FULL)
    print("| switch | plain, CPU-s a step | switched | × |\n|---|---|---|---|")
    for name, plan in SWITCHES.items():
        plain = seconds(step(restore(pipe)))
        switched = seconds(step(accelerate(pipe, plan)))
        print(f"| {name} | {plain:.2f} | {switched:.2f} | {plain / switched:.2f} |", flush=True)
    for plan in (Plan(), SWITCHES["exact"]):
        run = step(accelerate(pipe, plan))
        with profile() as seen:
            run()
        print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=8))


if __name__ == "__main__":
    main()

"""The authors' code beside ours: a checkout of it, in a process and a Python of its own."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any

import psutil
import torch

from zero123.speed.measure import Cost, resident

_CODE = Path("zero123/ldm/util.py")
_CONFIG = Path("zero123/configs/sd-objaverse-finetune-c_concat-256.yaml")


@dataclass(frozen=True)
class Peer:
    """A process that has built the authors' model with drawn weights."""

    checkout: Path
    process: "subprocess.Popen[str]"
    complaints: IO[str]
    """What it said otherwise than by its answers."""
    denoiser_weights: int
    weights_mib: float

    def view(self) -> Cost:
        """Make one guided view.

        Raises:
            ValueError: if their code fails; its own last line is told.
        """
        with resident(psutil.Process(self.process.pid)) as rise:
            told = _answer(self.checkout, self.process, self.complaints, "view")
        in_use = rise() if told["rise_bytes"] is None else told["rise_bytes"]
        return Cost(told["seconds"], told["cpu_seconds"], told["step_cpu_seconds"], in_use / 2**20)


@contextmanager
def peer_at(checkout: Path, python: str, device: torch.device, steps: int) -> Iterator[Peer]:
    """Start the authors' code; it ends with the context.

    Args:
        checkout: of github.com/cvlab-columbia/zero123.
        python: a program with their packages, 3.9 or later.
        device: where the work is to be done.
        steps: of their sampler, which leaves the noisiest out.

    Raises:
        ValueError: if there is no such code or program, or it does not run; which import failed is
            told.
    """
    for file in (_CODE, _CONFIG):
        if not (checkout / file).is_file():
            raise ValueError(f"{checkout} is no checkout of the original code: it has no {file}")
    program = shutil.which(python)
    if program is None:
        raise ValueError(f"there is no program {python}")
    source = resources.files("zero123.speed").joinpath("peer_process.py").read_text("utf-8")
    # as text: from its file it would see this folder's modules, one of which is named numbers
    # unbuffered: what they print must not come after what fails
    words = [str(_CONFIG.relative_to("zero123")), str(device), steps, torch.get_num_threads()]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        process = subprocess.Popen(
            [Path(program).absolute(), "-u", "-c", source, *map(str, words)],
            cwd=checkout / "zero123",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            encoding="utf-8",
        )
        with process:
            try:
                told = _answer(checkout, process, complaints)
                yield Peer(
                    checkout,
                    process,
                    complaints,
                    told["denoiser_weights"],
                    told["bytes"] / 2**20,
                )
            finally:
                process.kill()


def _answer(
    checkout: Path, process: "subprocess.Popen[str]", complaints: IO[str], *asked: str
) -> dict[str, Any]:
    """What the process says next, asked a line or nothing."""
    assert process.stdin is not None
    assert process.stdout is not None
    for line in asked:
        print(line, file=process.stdin, flush=True)
    answer = process.stdout.readline()
    if not answer:
        code = process.wait()
        complaints.seek(0)
        last = (complaints.read().strip() or f"exit code {code}").splitlines()[-1]
        reason = f"killed by signal {-code}" if code < 0 else last
        raise ValueError(f"the original code at {checkout} does not run: {reason}")
    told: dict[str, Any] = json.loads(answer)
    return told

"""Sharded weights on two processes of a CPU.

accelerate turns FSDP on for accelerators alone: on a CPU it takes no notice of its plugin. What the
loop sees is the same, sharded parameters, so the test turns it on by hand.
"""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from zero123.training.checkpoints import checkpoints, load_checkpoint

SCRIPT = textwrap.dedent(
    """
    import sys
    from dataclasses import replace
    from pathlib import Path
    import torch
    from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
    from tests.training.conftest import TINY, tiny_data, tiny_parts
    from torch.distributed.tensor import DTensor
    from zero123.training import loop
    from zero123.training.student import Student

    class Sharded(Accelerator):
        def __init__(self, **options):
            plugin = FullyShardedDataParallelPlugin(
                fsdp_version=2, reshard_after_forward=True, cpu_ram_efficient_loading=False,
                auto_wrap_policy="transformer_based_wrap",
                transformer_cls_names_to_wrap=["ResnetBlock2D", "BasicTransformerBlock"],
            )
            super().__init__(fsdp_plugin=plugin, **options)
            self.state.distributed_type = DistributedType.FSDP
            self.state.fsdp_plugin = plugin

    torch.set_num_threads(1)
    folder, steps, micro, sharded, resume = sys.argv[1:]
    if sharded == "sharded":
        loop.Accelerator = Sharded
    config = replace(
        TINY, steps=int(steps), micro_batches=int(micro), photos=8, save_every=5,
        learning_rate=1e-4, projection_rate=1e-4, augment=0.5,
    )
    student = Student(tiny_parts(), config).to(memory_format=torch.contiguous_format)
    data = [loop.Share(tiny_data())]
    loop.train(student, 1.0, data, Path(folder), resume == "resume")
    are_pieces = {isinstance(p, DTensor) for p in student.trained().values()}
    assert are_pieces == {sharded == "sharded"}, are_pieces
    """
)


def launched(folder, steps: int, micro: int = 1, processes: int = 1, sharded="", resume=""):
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    arguments = [str(a) for a in (folder, steps, micro, sharded, resume)]
    subprocess.run(
        [sys.executable, *(many if processes > 1 else []), str(script), *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=600,
    )
    return load_checkpoint(checkpoints(folder)[-1])


def furthest(one, other) -> float:
    return max(
        float((one[kind][name] - other[kind][name]).abs().max())
        for kind in ("student", "average")
        for name in one[kind]
    )


@pytest.mark.slow
def test_sharded_is_the_same_training_and_its_checkpoints_are_whole(tmp_path):
    whole = launched(tmp_path / "whole", 10)
    sharded = launched(tmp_path / "sharded", 10, processes=2, sharded="sharded")
    assert furthest(whole, sharded) < 1e-5
    parts = launched(tmp_path / "parts", 5, micro=2, processes=2, sharded="sharded")
    (tmp_path / "parts" / "config.json").unlink()  # it goes on longer, and in one process
    resumed = launched(tmp_path / "parts", 10, resume="resume")
    assert furthest(whole, resumed) < 1e-5
    (tmp_path / "whole" / "step-00000010.pt").unlink()
    (tmp_path / "whole" / "config.json").unlink()
    again = launched(tmp_path / "whole", 10, processes=2, sharded="sharded", resume="resume")
    assert furthest(whole, again) < 1e-5
    assert parts["step"] == 5
    assert all(type(p) is torch.Tensor for p in sharded["student"].values())

import json
import os
import pickle
import random
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from zero123.weights import WeightsError, open_model, read_checkpoint
from zero123.weights.checkpoint import HARMLESS, read_tensors


def test_a_lightning_checkpoint_opens_without_lightning_and_changes_nothing(original):
    checkpoint = read_checkpoint(original)
    assert len(checkpoint.tensors) == 1666
    assert not {"lightning", "pytorch_lightning"} & set(sys.modules)
    assert not set(HARMLESS) & set(torch.serialization.get_safe_globals())


def test_the_numbers_that_lightning_logs_open_too(tmp_path):
    logged = {"loss": np.float64(0.5), "low": np.float32(0.25), "step": np.int64(7)}
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": logged}, tmp_path / "a.ckpt")
    assert list(read_tensors(tmp_path / "a.ckpt")) == ["a"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda t: {"state_dict": t}, OrderedDict, dict])
def test_files_of_old_and_new_torch_with_and_without_extras_open(tmp_path, zipped, wrap):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}
    path = tmp_path / "weights.pth"
    torch.save(wrap(tensors), path, _use_new_zipfile_serialization=zipped)
    again = read_tensors(path)
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function, *values):
        self.call = (function, values)

    def __reduce__(self):
        return self.call


class Custom(torch.nn.Module):
    """A class of the file's author."""


def traps(canary: Path):
    command = f"touch {canary}"
    return {
        "os.system": Call(os.system, command),
        "exec": Call(exec, f"open({str(canary)!r}, 'w')"),
        "eval": Call(eval, f"open({str(canary)!r}, 'w')"),
        "open": Call(open, str(canary), "w"),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "torch.load": Call(torch.load, str(canary)),
        "custom class": Custom(),
        "pathlib": Call(Path.touch, canary),
    }


PLACES = {
    "alone": lambda trap: trap,
    "among the tensors": lambda trap: {"state_dict": {"a": torch.ones(1), "b": trap}},
    "in callbacks": lambda trap: {"state_dict": {"a": torch.ones(1)}, "callbacks": {"c": trap}},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("kind", list(traps(Path("canary"))))
def test_a_pickle_that_calls_something_is_refused_and_nothing_runs(tmp_path, kind, place, zipped):
    canary, path = tmp_path / "canary", tmp_path / "zero123.ckpt"
    content = PLACES[place](traps(canary)[kind])
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=r"refused, and nothing was run: .* asks for '.+'"):
        open_model(path)
    assert time.perf_counter() - start < 1
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_is_refused_by_the_name_of_what_it_calls(tmp_path, protocol):
    path = tmp_path / "weights.bin"
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {tmp_path / 'canary'}"), protocol))
    with pytest.raises(WeightsError, match=r"asks for 'posix\.system'"):
        read_tensors(path)
    assert not (tmp_path / "canary").exists()


def test_a_checkpoint_s_class_has_no_power_even_when_called(tmp_path, monkeypatch):
    class ModelCheckpoint(Call):
        pass

    path = tmp_path / "a.ckpt"
    name = "pytorch_lightning.callbacks.model_checkpoint"
    stream = (
        b"\x80\x02c" + name.encode() + b"\nModelCheckpoint\n"
        b"X\x04\x00\x00\x00evil\x85R}X\x04\x00\x00\x00pathX\x04\x00\x00\x00/etcsb."
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", stream)
        archive.writestr("a/version", "3\n")
    with pytest.raises(WeightsError, match="holds a _Inert, not tensors"):
        read_tensors(path)


def lengths(size: int) -> list[int]:
    draw = random.Random(0)
    return sorted(
        {1, 2, 7, 8, 9, 100, 511, 512, size - 1, size - 22, *draw.sample(range(size), 40)}
    )


@pytest.fixture(params=["zip", "old", "safetensors"])
def small(request, tmp_path):
    path = tmp_path / f"small.{'safetensors' if request.param == 'safetensors' else 'ckpt'}"
    tensors = {f"model.{i}": torch.randn(20 + i, 7) for i in range(10)}
    if request.param == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=request.param == "zip")
    return path


def test_a_file_cut_short_anywhere_is_one_sentence(small):
    content = small.read_bytes()
    for length in lengths(len(content)):
        small.write_bytes(content[:length])
        with pytest.raises(WeightsError, match="small") as refusal:
            read_tensors(small)
        assert "\n" not in str(refusal.value)


def test_a_file_with_changed_bytes_opens_or_is_refused(small):
    content, draw = small.read_bytes(), random.Random(0)
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 1, 4])):
            changed[draw.randrange(min(len(changed), 3000))] = draw.randrange(256)
        small.write_bytes(changed)
        with suppress(WeightsError):
            read_tensors(small)


def safetensors_file(header: dict | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


CORRUPTIONS = {
    "header longer than the file": safetensors_file({"a": entry(0, 4, [1])}, b"1234", length=999),
    "header of 2^63 bytes": safetensors_file({"a": entry(0, 4, [1])}, b"1234", length=2**63),
    "header cut": safetensors_file({"a": entry(0, 4, [1])}, b"1234")[:20],
    "header not JSON": safetensors_file(b'{"a": nonsense}', b"1234"),
    "header not UTF-8": safetensors_file(b'{"\xff\xfe": {}}', b"1234"),
    "data cut": safetensors_file({"a": entry(0, 4, [1])}, b"12"),
    "data left over": safetensors_file({"a": entry(0, 4, [1])}, b"12345678"),
    "tensors overlap": safetensors_file(
        {"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"123456789012"
    ),
    "a hole between tensors": safetensors_file(
        {"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, b"123456789012"
    ),
    "shape and bytes disagree": safetensors_file({"a": entry(0, 4, [3])}, b"1234"),
    "unknown kind of number": safetensors_file({"a": entry(0, 4, [1], "F33")}, b"1234"),
    "the end before the start": safetensors_file({"a": entry(4, 0, [1])}, b"1234"),
    "a shape that overflows": safetensors_file({"a": entry(0, 4, [2**62, 2**62])}, b"1234"),
}


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_a_malformed_safetensors_file_is_one_sentence(tmp_path, kind):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(CORRUPTIONS[kind])
    with pytest.raises(WeightsError, match=r"weights\.safetensors: ") as refusal:
        read_tensors(path)
    assert "\n" not in str(refusal.value)


def archive(path: Path, names: list[str], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name in names:
            file.writestr(name, b"0" * 100)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"hello, world\n" * 30, "neither a safetensors nor a torch.save file; it is a text"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page, perhaps of a failed download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 600, "neither .* damaged?"),
        (b"\0" * 2000, "neither .* damaged?"),
    ],
)
def test_a_file_of_another_kind_is_recognised(tmp_path, content, said):
    path = tmp_path / "105000.ckpt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        open_model(path)


def test_archives_that_torch_save_did_not_write_are_recognised(tmp_path):
    path = tmp_path / "105000.ckpt"
    archive(path, ["word/document.xml"])
    with pytest.raises(WeightsError, match="another zip archive"):
        open_model(path)
    archive(path, ["m/data.pkl", "m/constants.pkl"])
    with pytest.raises(WeightsError, match="a TorchScript program"):
        open_model(path)
    archive(path, ["m/data.pkl"], zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed"):
        open_model(path)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {"state_dict": 3}, {}])
def test_a_file_without_tensors_by_name_is_recognised(tmp_path, content):
    torch.save(content, tmp_path / "105000.ckpt")
    with pytest.raises(WeightsError, match=r"(not|no) tensors by name"):
        open_model(tmp_path / "105000.ckpt")


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(WeightsError, match=r"105000\.ckpt: No such file"):
        read_checkpoint(tmp_path / "105000.ckpt")

import random
import shutil
from pathlib import Path

import pytest

from zero123.weights import (
    WeightsError,
    bundled_models,
    open_model,
    sources,
    verify,
    write_manifest,
)


def test_every_flipped_byte_of_the_weights_is_caught(ours):
    file, draw = ours / "unet" / "diffusion_pytorch_model.safetensors", random.Random(0)
    size = file.stat().st_size
    with file.open("r+b") as content:
        for _ in range(200):
            place, bit = draw.randrange(size), 1 << draw.randrange(8)
            content.seek(place)
            byte = content.read(1)
            for value in (bytes([byte[0] ^ bit]), byte):
                content.seek(place)
                content.write(value)
                content.flush()
                if value != byte:
                    with pytest.raises(WeightsError, match=r"unet/diffusion.*: altered"):
                        verify(ours)
    verify(ours)


def test_a_flip_that_safetensors_does_not_see_stops_the_model(ours):
    file = ours / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"altered.*; copy or download it again"):
        open_model(ours)


@pytest.mark.parametrize("name", ["unet/config.json", "model_index.json"])
def test_a_missing_file_is_named(ours, name):
    (ours / name).unlink()
    with pytest.raises(WeightsError, match=f"{name}: missing"):
        open_model(ours)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"a": 3}}',
        '{"files": {"a": {"bytes": "x", "sha256": ""}}}',
    ],
)
def test_a_damaged_manifest_is_refused(ours, text):
    (ours / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=r"manifest\.json: missing or damaged"):
        open_model(ours)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_a_manifest_reaches_nothing_outside_of_its_folder(ours, name):
    note = '{"bytes": 1, "sha256": ""}'
    (ours / "manifest.json").write_text('{"files": {"' + name + '": ' + note + "}}")
    with pytest.raises(WeightsError, match="outside of its folder"):
        open_model(ours)


@pytest.fixture
def bundled(ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as if it came with the package."""
    monkeypatch.setattr(sources, "BUNDLED", tmp_path / "bundled")
    (tmp_path / "bundled" / "__pycache__").mkdir(parents=True)
    return Path(shutil.move(ours, tmp_path / "bundled" / "tiny"))


def test_a_bundled_model_opens_by_its_name(bundled):
    assert open_model("tiny").settings.pose_encoding == "zero123"
    (listed,) = bundled_models()
    assert (listed.name, listed.licence) == ("tiny", "CC0-1.0")
    assert listed.num_bytes == sum(f.stat().st_size for f in bundled.rglob("*") if f.is_file())


@pytest.mark.parametrize("damage", ["flip", "lost file", "lost index", "lost manifest"])
def test_a_damaged_bundled_model_says_how_to_reinstall(bundled, damage):
    if damage == "flip":
        file = bundled / "image_encoder" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    else:
        lost = {"lost file": "unet/config.json", "lost index": "model_index.json"}
        (bundled / lost.get(damage, "manifest.json")).unlink()
    with pytest.raises(WeightsError, match="pip install --force-reinstall"):
        open_model("tiny")


def test_a_folder_without_a_manifest_opens(ours):
    (ours / "manifest.json").unlink()
    open_model(ours)
    write_manifest(ours)
    open_model(ours)

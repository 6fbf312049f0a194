"""The authors' code beside ours: here a stand-in with its layout, its names and its habits."""

import ast
import json
from importlib import resources
from pathlib import Path

import pytest

from zero123.app.cli import main

STAND_IN = {
    "configs/sd-objaverse-finetune-c_concat-256.yaml": """
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params: {image_size: 8, timesteps: 1000}
""",
    "omegaconf.py": """
import types, yaml
class OmegaConf:
    @staticmethod
    def load(path):
        return types.SimpleNamespace(**yaml.safe_load(open(path)))
""",
    "clip/__init__.py": """
def load(name, device, jit):
    raise ConnectionError("weights would be fetched")
""",
    "clip/model.py": """
import torch
class CLIP(torch.nn.Module):
    def __init__(self, embed_dim, image_resolution, vision_layers, vision_width, patch, length,
                 words, width, heads, layers):
        super().__init__()
        self.visual = torch.nn.Linear(3, embed_dim)
        self.transformer = torch.nn.Linear(width, width)
    def encode_image(self, x):
        return self.visual(x.mean((2, 3)))
""",
    "ldm/util.py": """
import importlib
print("their code talks when it is imported")
def instantiate_from_config(config):
    module, name = config["target"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**config["params"])
""",
    "ldm/models/diffusion/ddpm.py": """
import contextlib
import clip, torch
from zero123.speed.drawn import TINY, drawn_pipeline
class Mode:
    def __init__(self, latents):
        self.latents = latents
    def mode(self):
        return self.latents
class LatentDiffusion(torch.nn.Module):
    def __init__(self, image_size, timesteps):
        super().__init__()
        drawn = drawn_pipeline(TINY)
        self.image_size, self.num_timesteps, self.vae = image_size, timesteps, drawn.vae
        self.model = torch.nn.Module()
        self.model.diffusion_model = drawn.unet
        self.register_buffer("average", torch.zeros(2**18))
        self.cond_stage_model, _ = clip.load(name="ViT-L/14", device="cpu", jit=False)
        del self.cond_stage_model.transformer
        self.cc_projection = torch.nn.Linear(772, 16)
        self.averaged = False
    @contextlib.contextmanager
    def ema_scope(self, context=None):
        self.averaged = True
        yield
        self.averaged = False
    def get_learned_conditioning(self, c):
        return self.cond_stage_model.encode_image(c).unsqueeze(1)
    def encode_first_stage(self, x):
        return Mode(self.vae.encode(x).latent_dist.mode())
    def decode_first_stage(self, z):
        return self.vae.decode(z / 0.18215).sample
    def apply_model(self, x, t, cond):
        assert self.averaged
        joined = torch.cat([x, *cond["c_concat"]], dim=1)
        return self.model.diffusion_model(joined, t, torch.cat(cond["c_crossattn"], dim=1)).sample
""",
    "ldm/models/diffusion/ddim.py": """
import torch
class DDIMSampler:
    def __init__(self, model, schedule="linear", **kwargs):
        self.model = model
    def register_buffer(self, name, attr):
        setattr(self, name, attr.to(torch.device("cuda")))
    @torch.no_grad()
    def sample(self, S, batch_size, shape, conditioning=None, img_callback=None, eta=0.,
               verbose=True, x_T=None, unconditional_guidance_scale=1.,
               unconditional_conditioning=None, **kwargs):
        self.register_buffer("steps", torch.arange(0, 1000, 1000 // S) + 1)
        print("Data shape for DDIM sampling is", shape, "eta", eta)
        assert (eta, unconditional_guidance_scale, verbose) == (1., 3., False)
        both = {k: [torch.cat([unconditional_conditioning[k][0], c[0]])]
                for k, c in conditioning.items()}
        x = torch.randn(batch_size, *shape)
        for i, t in enumerate(reversed(self.steps[:-1])):
            null, seen = self.model.apply_model(torch.cat([x, x]), t.expand(2), both).chunk(2)
            x = x - 0.1 * (null + 3 * (seen - null))
            img_callback(x, i)
        return x, {}
""",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in STAND_IN.items():
        file = tmp_path / "their code" / "zero123" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "their code"


def test_the_original_is_a_row_of_the_table(checkout, tmp_path, capsys):
    words = "--model tiny-random --steps 4 --repeats 2 --rungs plain"
    main(["bench", *words.split(), "--peer", str(checkout), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "| original code |" in said
    assert "the plain pipeline walks its timesteps" in said
    told = json.loads((tmp_path / "speed-cpu-tiny-random.json").read_text())
    theirs, plain = told["rungs"]
    assert theirs["name"] == "original code"
    assert theirs["sameness"] is None  # other weights
    assert len(theirs["costs"]) == len(theirs["plain"]) == 2
    # its running average besides, as in theirs
    assert theirs["weights_mib"] > 1 + plain["weights_mib"] * 0.9
    for cost in theirs["costs"]:
        assert cost["cpu_seconds"] > 3 * cost["step_cpu_seconds"] > 0
        assert 0 <= cost["rise_mib"] < 500


def test_their_python_may_be_3_9_and_lack_this_package():
    source = resources.files("zero123.speed").joinpath("peer_process.py").read_text("utf-8")
    ast.parse(source, feature_version=(3, 9))
    assert "zero123" not in source


def test_what_is_no_checkout_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--model", "tiny-random", "--rungs", "plain", "--peer", str(tmp_path)])
    said = capsys.readouterr().err
    assert said == (
        f"zero123: {tmp_path} is no checkout of the original code: it has no zero123/ldm/util.py\n"
    )


def test_an_import_that_fails_is_named(checkout, capsys):
    (checkout / "zero123" / "omegaconf.py").write_text("import no_such_package\n")
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--model", "tiny-random", "--rungs", "plain", "--peer", str(checkout)])
    assert capsys.readouterr().err == (
        f"zero123: the original code at {checkout} does not run: "
        "ModuleNotFoundError: No module named 'no_such_package'\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "mini"], "compare it with --model full-random"),
        (["--model", "tiny-random", "--peer-python", "no-such"], "there is no program no-such"),
        (["--quality"], "--peer has drawn weights"),
    ],
)
def test_what_cannot_stand_beside_the_original_is_told(checkout, capsys, words, sentence):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *words, "--rungs", "plain", "--peer", str(checkout)])
    assert sentence in capsys.readouterr().err

import json
import resource
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, SchedulerMixin
from transformers import CLIPVisionModelWithProjection

import zero123
from zero123.models import PoseProjection
from zero123.weights import Components, Settings, WeightsError, open_model, save_model
from zero123.weights.folders import needed_files


def same_weights(ours: Components, theirs: Components, tolerance: float = 0) -> bool:
    for name, network in theirs.networks.items():
        mine, wanted = ours.networks[name].state_dict(), network.state_dict()
        if mine.keys() != wanted.keys() or any(
            not torch.allclose(mine[k], wanted[k], rtol=tolerance, atol=tolerance) for k in wanted
        ):
            return False
    return True


def same_settings(ours: SchedulerMixin, theirs: SchedulerMixin) -> bool:
    mine, wanted = (
        {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
        for scheduler in (ours, theirs)
    )
    return type(ours) is type(theirs) and mine == wanted


@torch.no_grad()
def answers(model: Components) -> list[torch.Tensor]:
    """What every network of the golden model says to the same question.

    Of weights that lie in a file at odd addresses, some processors sum in another order.
    """
    for network in model.networks.values():
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()
    noise = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 8, 16, 16, generator=noise)
    context = torch.randn(1, 1, 64, generator=noise)
    picture = torch.randn(1, 3, 224, 224, generator=noise)
    embedding = model.image_encoder(picture).image_embeds
    return [
        model.unet(latent, torch.tensor([500]), context).sample,
        model.vae.encode(picture[..., :64, :64]).latent_dist.mode(),
        model.vae.decode(latent[:, :4]).sample,
        embedding,
        model.projection(embedding, torch.tensor([[0.1, 0.2, 0.3, 0.4]])),
    ]


def test_every_published_layout_gives_the_same_answers_without_noise(layout, model, request, capfd):
    loaded = open_model(layout, pose_encoding="zero123")
    assert capfd.readouterr() == ("", "")
    if "fp16" in request.node.callspec.params["layout"]:
        assert same_weights(loaded, model, tolerance=1e-3)
    else:
        assert same_weights(loaded, model)
        assert all(map(torch.equal, answers(loaded), answers(model)))
    assert same_settings(loaded.scheduler, model.scheduler)
    assert not any(network.training for network in loaded.networks.values())
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.float32}


def test_saving_says_nothing(model, tmp_path, capfd):
    save_model(model, tmp_path / "ours")
    assert capfd.readouterr() == ("", "")


def test_a_model_of_the_bundled_kind_comes_back(mini, tmp_path):
    save_model(mini, tmp_path / "mini")
    again = open_model(tmp_path / "mini")
    assert same_weights(again, mini)
    assert again.settings == mini.settings
    assert same_settings(again.scheduler, mini.scheduler)
    assert type(again.vae) is AutoencoderTiny


def test_files_may_be_in_half_precision_and_the_projection_is_not(mini, tmp_path):
    save_model(mini, tmp_path / "mini", dtype=torch.float16)
    half = open_model(tmp_path / "mini", dtype=torch.float16)
    assert half.unet.dtype == half.vae.dtype == half.image_encoder.dtype == torch.float16
    assert torch.equal(half.projection.projection.weight, mini.projection.projection.weight)
    assert open_model(tmp_path / "mini").unet.dtype == torch.float32
    assert mini.unet.dtype == torch.float32


def test_the_libraries_themselves_read_what_we_write(large, model):
    ours = large.folder
    unet = diffusers.UNet2DConditionModel.from_pretrained(ours / "unet")
    vae = diffusers.AutoencoderKL.from_pretrained(ours / "vae")
    tower = CLIPVisionModelWithProjection.from_pretrained(ours / "image_encoder")
    projection = PoseProjection.from_pretrained(ours / "cc_projection")
    scheduler = DDIMScheduler.from_pretrained(ours / "scheduler")
    assert same_weights(Components(unet, vae, tower, projection, scheduler, Settings()), model)
    index = json.loads((ours / "model_index.json").read_text())
    assert index["_class_name"] == "Zero123Pipeline"
    assert index["cc_projection"] == ["zero123.models", "PoseProjection"]


@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_folder_may_have_any_scheduler_of_diffusers(rewrite, kind):
    other = getattr(diffusers, kind)(beta_start=0.001, prediction_type="v_prediction")
    other.save_config(rewrite.folder / "scheduler")
    assert same_settings(open_model(rewrite.folder).scheduler, other)


@pytest.mark.parametrize("name", ["UNet2DConditionModel", "EvilScheduler", "os.Scheduler", None])
def test_what_is_no_scheduler_is_refused(rewrite, name):
    rewrite.json("scheduler/scheduler_config.json", _class_name=name)
    with pytest.raises(WeightsError, match=f"{name} is no scheduler of diffusers"):
        open_model(rewrite.folder)


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("name", ["UNet2DModel", "Transformer2DModel", "Evil", None])
def test_a_network_of_another_class_is_refused(rewrite, part, name):
    rewrite.json(f"{part}/config.json", _class_name=name)
    with pytest.raises(WeightsError, match=f"config.json: {name} is not among"):
        open_model(rewrite.folder)


def test_code_in_a_folder_is_never_run(kxic, tmp_path):
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'w')\nclass CCProjection: pass\nclass UNet2DConditionModel: pass"
    for place in (".", "unet", "vae", "cc_projection", "image_encoder", "scheduler"):
        for name in ("pipeline_zero1to3.py", "modeling.py", "__init__.py"):
            (kxic / place / name).write_text(code)
    config = json.loads((kxic / "image_encoder" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling.CCProjection"}
    (kxic / "image_encoder" / "config.json").write_text(json.dumps(config))
    open_model(kxic, pose_encoding="zero123")
    assert not canary.exists()


def test_remote_code_is_never_trusted():
    sources = Path(zero123.__file__).parent.rglob("*.py")
    assert [path for path in sources if "trust_remote" + "_code" in path.read_text()] == []


@pytest.mark.parametrize(
    "file",
    [
        "unet/config.json",
        "vae/config.json",
        "image_encoder/config.json",
        "scheduler/scheduler_config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "image_encoder/model.safetensors",
        "cc_projection/diffusion_pytorch_model.safetensors",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "empty", "text"])
def test_a_missing_or_damaged_file_is_named(rewrite, file, damage):
    path = rewrite.folder / file
    path.unlink()
    if damage != "missing":
        path.write_text("" if damage == "empty" else "hello, world")
    with pytest.raises(WeightsError, match=Path(file).parent.name) as refusal:
        open_model(rewrite.folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "conv_in.weight"),
        ("vae", "decoder.layers.0.bias"),
        ("image_encoder", "visual_projection.weight"),
        ("cc_projection", "projection.bias"),
    ],
)
def test_a_missing_unknown_or_misshapen_tensor_is_named_and_never_made_up(rewrite, part, name):
    whole = rewrite.tensors(part)
    rewrite.weights(part, lambda tensors: {k: v for k, v in tensors.items() if k != name})
    with pytest.raises(WeightsError, match=f"{part}: {name} missing"):
        open_model(rewrite.folder)
    rewrite.weights(part, lambda tensors: whole | {"gate.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"gate\.weight unknown"):
        open_model(rewrite.folder)
    rewrite.weights(part, lambda tensors: whole | {name: torch.zeros(7)})
    with pytest.raises(WeightsError, match=rf"{name} \(7, not "):
        open_model(rewrite.folder)


def test_a_long_list_of_faults_stays_one_sentence(rewrite):
    rewrite.weights("unet", lambda tensors: {"conv_in.weight": tensors["conv_in.weight"]})
    with pytest.raises(WeightsError, match=r"and \d+ more missing") as refusal:
        open_model(rewrite.folder)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("unet/config.json", {"block_out_channels": "wide"}, "describes no network"),
        ("unet/config.json", {"block_out_channels": [33, 33]}, "describes no network"),
        ("unet/config.json", {"down_block_types": ["Evil"] * 2}, "describes no network"),
        ("unet/config.json", {"in_channels": 4}, r"conv_in\.weight"),
        ("image_encoder/config.json", {"hidden_size": "wide"}, "describes no network"),
        ("image_encoder/config.json", {"hidden_act": "evil"}, "describes no network"),
        ("image_encoder/config.json", {"model_type": "bert"}, "not a CLIP image encoder"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "evil"}, "not a configuration"),
        ("model_index.json", {"steps": "many"}, "settings of the wrong kind"),
        ("model_index.json", {"steps": 0}, "steps must be in 1 to 1000"),
        ("model_index.json", {"guidance": -1}, "guidance must be 0 or more"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(rewrite, file, values, said):
    rewrite.json(file, **values)
    with pytest.raises(WeightsError, match=said):
        open_model(rewrite.folder)


def test_a_setting_that_diffusers_does_not_know_is_left_out_aloud(rewrite, caplog):
    open_model(rewrite.folder)
    assert caplog.text == ""
    rewrite.json("unet/config.json", gates=3)
    open_model(rewrite.folder)
    assert "left out what this diffusers does not know: ['gates']" in caplog.text


@pytest.mark.parametrize("layout", ["sharded"], indirect=True)
def test_a_lost_shard_is_named(layout):
    next((layout / "unet").glob("*-00002-of-00002.safetensors")).unlink()
    with pytest.raises(WeightsError, match=r"00002-of-00002\.safetensors missing"):
        open_model(layout)


def test_a_folder_of_another_pipeline_is_recognised(rewrite):
    index = rewrite.folder / "model_index.json"
    index.write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(WeightsError, match="this is a StableDiffusionPipeline, not Zero-1-to-3"):
        open_model(rewrite.folder)


def test_a_folder_without_an_index_points_to_the_checkpoint_in_it(tmp_path):
    (tmp_path / "105000.ckpt").touch()
    with pytest.raises(WeightsError, match=r"has no model_index\.json; .* give the file: .*105000"):
        open_model(tmp_path)


def test_full_precision_comes_before_variants_and_safetensors_before_pickles():
    stem = "unet/diffusion_pytorch_model"
    names = [
        "model_index.json",
        "unet/config.json",
        f"{stem}.bin",
        f"{stem}.fp16.safetensors",
        f"{stem}.safetensors",
        "unet/modeling.py",
        "safety_checker/model.safetensors",
        "image_encoder/pytorch_model.bin",
        "image_encoder/model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "README.md",
    ]
    assert set(needed_files(names)) == {
        "model_index.json",
        "unet/config.json",
        f"{stem}.safetensors",
        "image_encoder/pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }


@pytest.mark.parametrize(
    "index",
    [
        "model.safetensors.index.json",
        "model.safetensors.index.fp16.json",
        "model.fp16.safetensors.index.json",
    ],
)
def test_an_index_brings_its_own_shards(index):
    fp16 = ".fp16" * ("fp16" in index)
    shards = [f"image_encoder/model{fp16}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    others = ["image_encoder/model.bf16-00001-of-00001.safetensors", "image_encoder/notes.txt"]
    names = [f"image_encoder/{index}", *shards, *others]
    assert sorted(needed_files(names)) == sorted([f"image_encoder/{index}", *shards])


def test_saving_again_replaces_our_own_folder_only(mini, tmp_path):
    folder = tmp_path / "mini"
    save_model(mini, folder)
    save_model(replace(mini, settings=Settings(steps=7)), folder)
    assert open_model(folder).settings.steps == 7
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(WeightsError, match="something else than a model"):
        save_model(mini, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


@pytest.fixture
def small_disk():
    """Files end at 100 kB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_keeps_the_old_model_and_leaves_nothing_behind(mini, model, tmp_path):
    from zero123.weights import save_original

    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(OSError, match="not written, and nothing left behind"):
        save_model(mini, folder)
    for suffix in (".ckpt", ".safetensors"):
        with pytest.raises(OSError, match="not written, and nothing left behind"):
            save_original(model, tmp_path / f"model{suffix}")
    assert [path.name for path in tmp_path.rglob("*")] == ["model"]


def test_an_interrupted_save_leaves_the_old_model(mini, tmp_path, monkeypatch):
    folder = tmp_path / "mini"
    save_model(mini, folder)

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zero123.weights.folders.write_manifest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(mini, folder)
    assert open_model(folder).settings == mini.settings
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]

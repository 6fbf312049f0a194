"""Every switch shows what the plain pipeline shows, and leaves no trace when it is taken back."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from torch import nn

from zero123 import Zero123Pipeline
from zero123.models import Condition
from zero123.speed import PRESETS, Plan, accelerate, preset, restore
from zero123.speed.constants import context_for, photo_for, times_for
from zero123.speed.drawn import FULL, TINY, drawn_pipeline
from zero123.speed.engines import Deep, Shallow, Whole, engine_for, tapped
from zero123.speed.numbers import half_for
from zero123.speed.plan import EXACT
from zero123.speed.rounded import rounded
from zero123.speed.upsampling import SubPixel
from zero123.speed.winograd import Winograd, winograd

View = Callable[..., np.ndarray]
EXACT_SWITCHES = {
    "constant attention": Plan(constant_attention=True),
    "constant times": Plan(constant_times=True),
    "constant photo": Plan(constant_photo=True),
    "sub-pixel": Plan(sub_pixel=True),
    "winograd": Plan(winograd=True),
    "fused qkv": Plan(fused_qkv=True),
    "channels last": Plan(channels_last=True),
    "written-out attention": Plan(written_out_attention=True),
    "guided from end to end": Plan(guided=(0.0, 1.0)),
    "all of them": replace(EXACT, winograd=True, fused_qkv=True, channels_last=True),
    "exact": preset("exact", "cpu"),
    "exact on an accelerator": preset("exact", "cuda"),
}


@pytest.mark.parametrize("name", EXACT_SWITCHES)
def test_an_exact_switch_shows_the_same_view(
    pipe: Zero123Pipeline, view: View, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zero123.speed.winograd._FEWEST_CHANNELS", 1)
    before = view(pipe)
    assert np.abs(view(accelerate(pipe, EXACT_SWITCHES[name])) - before).max() <= 1e-4
    assert np.array_equal(view(restore(pipe)), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_numbers_stay_near_and_the_wide_ones_come_back(
    pipe: Zero123Pipeline, view: View, dtype: str
) -> None:
    before = view(pipe)
    off = np.abs(view(accelerate(pipe, replace(EXACT, dtype=dtype))) - before)
    assert 0 < off.mean() < 0.02
    assert np.array_equal(view(restore(pipe)), before)


def test_strides_come_back_too(pipe: Zero123Pipeline) -> None:
    strides = [w.stride() for w in pipe.unet.parameters()]
    accelerate(pipe, Plan(channels_last=True))
    assert [w.stride() for w in pipe.unet.parameters()] != strides
    restore(pipe)
    assert [w.stride() for w in pipe.unet.parameters()] == strides


def test_nothing_outside_the_pipeline_is_touched(mini: Zero123Pipeline) -> None:
    accelerate(mini, EXACT_SWITCHES["all of them"])
    assert torch.is_grad_enabled()
    restore(mini)


def test_one_plan_takes_the_place_of_another(mini: Zero123Pipeline, view: View) -> None:
    before, modules = view(mini), dict(mini.unet.named_modules())
    for plan in (EXACT, Plan(dtype="bfloat16"), "exact", replace(EXACT, deep_every=2)):
        accelerate(mini, plan)
    assert np.array_equal(view(restore(restore(mini))), before)
    assert dict(mini.unet.named_modules()) == modules


def test_a_switch_that_fails_leaves_nothing_behind(mini: Zero123Pipeline, view: View) -> None:
    before = view(mini)
    with pytest.raises(ValueError, match="offloading needs an accelerator"):
        accelerate(mini, Plan(dtype="bfloat16", offloaded=True))
    assert np.array_equal(view(mini), before)


@contextmanager
def counted(network: nn.Module, inside: str, name: str) -> Iterator[list[int]]:
    """How often the parts of this name, anywhere inside of others of that name, are asked."""
    calls: list[int] = []
    parts = [m for n, m in network.named_modules() if inside in n and n.endswith(name)]
    assert parts
    hooks = [part.register_forward_hook(lambda *_: calls.append(1)) for part in parts]
    yield calls
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ("inside", "name", "switch"),
    [
        ("attn2", "to_q", "constant attention"),
        ("attn2", "to_v", "constant attention"),
        ("time_embedding", "linear_1", "constant times"),
        ("attn1", "to_q", "fused qkv"),
    ],
)
def test_what_a_switch_saves_is_not_computed(
    mini: Zero123Pipeline, view: View, inside: str, name: str, switch: str
) -> None:
    with counted(mini.unet, inside, name) as plain:
        view(mini)
    accelerate(mini, EXACT_SWITCHES[switch])
    with counted(mini.unet, inside, name) as fewer:
        view(mini)
    restore(mini)
    assert len(fewer) <= len(plain) / 3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_sub_pixel_equals_doubling_and_convolving(layout: torch.memory_format) -> None:
    plain = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(3, 5, 3, padding=1))
    small = torch.randn(2, 3, 6, 7).contiguous(memory_format=layout)
    off = SubPixel(plain, plain[1])(small) - plain(small)
    assert off.abs().max() < 1e-6


def asked(pipe: Zero123Pipeline) -> tuple[torch.Tensor, ...]:
    """Inputs of a step."""
    c = int(pipe.unet.config.out_channels)
    side = int(pipe.unet.config.sample_size)
    token = torch.randn(2, 1, pipe.unet.config.cross_attention_dim)
    noisy = torch.randn(2, c, side, side)
    latent = torch.randn(2, int(pipe.unet.config.in_channels) - c, side, side)
    joined = torch.cat([noisy, photo_for(pipe.unet, latent)], dim=1)
    return joined, times_for(pipe.unet, torch.tensor([500]))[0], context_for(pipe.unet, token)


@pytest.mark.parametrize("plan", [Plan(), EXACT])
@torch.no_grad()
def test_the_last_layer_alone_says_the_same_of_what_it_just_heard(
    pipe: Zero123Pipeline, plan: Plan
) -> None:
    accelerate(pipe, plan)
    with tapped(pipe.unet):
        inputs = asked(pipe)
        answer, heard = Deep(pipe.unet)(*inputs)
        (again,) = Shallow(pipe.unet)(*inputs, heard)
    assert torch.equal(again, answer)
    assert torch.equal(Whole(pipe.unet)(*inputs)[0], answer)


def test_the_whole_network_is_asked_every_so_many_steps(mini: Zero123Pipeline, view: View) -> None:
    accelerate(mini, Plan(deep_every=3))
    with counted(mini.unet, "mid_block", "attn1") as deep:
        view(mini, num_inference_steps=7)
    restore(mini)
    assert len(deep) == 3  # steps 0, 3 and 6


def test_a_walk_guided_nowhere_is_the_walk_of_guidance_1(mini: Zero123Pipeline, view: View) -> None:
    unguided = view(mini, guidance_scale=1)
    assert np.abs(unguided - view(mini)).max() > 1e-2
    assert np.abs(view(accelerate(mini, Plan(guided=(0.0, 0.0)))) - unguided).max() <= 1e-5
    halfway = view(accelerate(mini, Plan(guided=(0.0, 0.5))))
    restore(mini)
    assert np.abs(halfway - unguided).max() > 1e-2


def test_guidance_may_stop_between_two_deep_steps(mini: Zero123Pipeline, view: View) -> None:
    plan = Plan(guided=(0.0, 0.5), deep_every=3)
    assert np.isfinite(view(accelerate(mini, plan), num_inference_steps=6)).all()
    restore(mini)


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_a_solver_brings_its_steps_and_leaves_with_them(mini: Zero123Pipeline, solver: str) -> None:
    seen: list[int] = []
    photo = np.ones((64, 64, 3), np.float32)
    before = type(mini.scheduler)

    def count(*_: object) -> None:
        seen.append(1)

    accelerate(mini, Plan(solver=solver, most_steps=4))  # type: ignore[arg-type]
    mini(photo, 60, callback_on_step_end=count)
    assert len(seen) == 4
    assert type(mini.scheduler) is not before
    original = mini(photo, 60, preset="original", num_inference_steps=4, output_type="np")
    restore(mini)
    assert type(mini.scheduler) is before
    again = mini(photo, 60, preset="original", num_inference_steps=4, output_type="np")
    assert original.images.shape == again.images.shape


def test_turbo_needs_fewer_evaluations(mini: Zero123Pipeline, view: View) -> None:
    plan = replace(preset("turbo", "cpu"), engine="eager")
    assert np.isfinite(view(accelerate(mini, plan))).all()
    assert mini.settings.steps <= 20
    restore(mini)


def test_a_traced_network_shows_the_same_view(published: Zero123Pipeline, view: View) -> None:
    before = view(published)
    plan = replace(EXACT, engine="traced")
    assert np.abs(view(accelerate(published, plan)) - before).max() <= 1e-4
    deep = view(accelerate(published, replace(EXACT, deep_every=2)))
    both = view(accelerate(published, replace(plan, deep_every=2)))
    assert np.abs(both - deep).max() <= 1e-4
    assert np.array_equal(view(restore(published)), before)


@pytest.mark.usefixtures("untyped")
@torch.no_grad()
def test_the_switched_network_is_one_graph_without_breaks(published: Zero123Pipeline) -> None:
    accelerate(published, replace(EXACT, fused_qkv=True))
    inputs = asked(published)
    whole = Whole(published.unet)
    graph = torch.compile(whole, fullgraph=True, dynamic=False, backend="eager")
    assert torch.equal(graph(*inputs)[0], whole(*inputs)[0])
    restore(published)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.usefixtures("untyped")
def test_a_compiled_network_shows_the_same_view(published: Zero123Pipeline, view: View) -> None:
    before = view(published)
    assert np.abs(view(accelerate(published, Plan(engine="compiled"))) - before).max() <= 1e-4
    plan = replace(EXACT, engine="compiled")
    assert np.abs(view(accelerate(published, plan)) - before).max() <= 1e-4
    assert np.array_equal(view(restore(published)), before)


@pytest.mark.slow
@torch.no_grad()
def test_at_full_size_the_exact_switches_answer_the_same() -> None:
    pipe = drawn_pipeline(FULL)
    weights = sum(w.numel() for w in pipe.unet.parameters())
    assert weights == 859_532_484  # as published
    generator = torch.Generator().manual_seed(0)
    condition = Condition(
        torch.randn(1, 1, 768, generator=generator), torch.randn(1, 4, 32, 32, generator=generator)
    )
    noisy, timesteps = torch.randn(1, 4, 32, 32, generator=generator), torch.tensor([981])
    plain = pipe.tell(pipe.unet, condition, timesteps, 3.0)(noisy, 0)
    decoded = pipe.vae.decode(noisy).sample
    for plan in EXACT_SWITCHES.values():
        accelerate(pipe, plan)
        answer = pipe.tell(pipe.unet, condition, timesteps, 3.0)(noisy, 0)
        assert (answer - plain).abs().max() <= 1e-4 * plain.abs().max()
    again = pipe.vae.decode(noisy).sample
    assert (again - decoded).abs().max() <= 1e-4 * decoded.abs().max()
    restore(pipe)
    assert torch.equal(pipe.tell(pipe.unet, condition, timesteps, 3.0)(noisy, 0), plain)


def test_without_compiling_what_asks_for_it_runs_uncompiled(
    mini: Zero123Pipeline, view: View, caplog: pytest.LogCaptureFixture
) -> None:
    plan = replace(EXACT, engine="compiled")
    with torch._dynamo.config.patch(disable=True):  # as TORCH_COMPILE_DISABLE=1 sets it
        hurried = view(accelerate(mini, plan))
    assert caplog.messages == ["TORCH_COMPILE_DISABLE is set: nothing is compiled"]
    assert np.array_equal(view(accelerate(mini, EXACT)), hurried)
    restore(mini)


@pytest.mark.parametrize(
    ("plan", "most"),
    [
        (Plan(), 1e-4),
        (replace(EXACT, winograd=True, deep_every=2, guided=(0.0, 0.7)), 1e-4),
        (Plan(constant_attention=True, rounded=True), 1e-4),
        (replace(EXACT, dtype="bfloat16"), 0.1),
    ],
)
def test_openvino_answers_as_torch_does(
    published: Zero123Pipeline, view: View, plan: Plan, most: float
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("needs zero123[openvino]")
    before = view(published)
    wanted = view(accelerate(published, plan))
    made = view(accelerate(published, replace(plan, engine="openvino")))
    assert np.abs(made - wanted).max() <= most
    assert np.array_equal(view(restore(published)), before)
    assert "openvino_telemetry" not in sys.modules


def test_where_openvino_cannot_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="move the pipeline to the CPU"):
        engine_for(nn.Linear(1, 1, device="meta"), "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError, match=r"zero123\[openvino\]"):
        engine_for(nn.Linear(1, 1), "openvino")


def tiny_autoencoder(folder: Path, channels: int = 4, scales: int = 4) -> Path:
    """Drawn weights in TAESD's layout, thin."""
    torch.manual_seed(0)
    AutoencoderTiny(
        latent_channels=channels,
        encoder_block_out_channels=(8,) * scales,
        decoder_block_out_channels=(8,) * scales,
        num_encoder_blocks=(1,) * scales,
        num_decoder_blocks=(1,) * scales,
    ).save_pretrained(folder)
    return folder


def test_a_tiny_decoder_takes_the_latents_in_its_own_scale(
    published: Zero123Pipeline, view: View, tmp_path: Path
) -> None:
    folder = tiny_autoencoder(tmp_path / "taesd")
    photo, seeded = np.full((64, 64, 3), 0.5, np.float32), torch.Generator().manual_seed(0)
    latents = published(
        photo, 60, num_inference_steps=2, generator=seeded, output_type="latent"
    ).images
    accelerate(published, Plan(tiny_decoder=folder))
    seen = published(
        photo, 60, num_inference_steps=2, generator=seeded.manual_seed(0), output_type="pt"
    ).images
    restore(published)
    with torch.no_grad():
        wanted = AutoencoderTiny.from_pretrained(folder).decode(latents[0, 0]).sample
    assert seen.std() > 0.01
    assert (seen[0, 0] - ((wanted + 1) / 2).clamp(0, 1)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("plan", "most"),
    [
        (preset("exact", "cpu"), 1e-4),
        (replace(preset("low-memory", "cpu"), rounded=False), 1e-4),
        (Plan(rounded=True), 0.1),
        (Plan(dtype="bfloat16", channels_last=True), 0.1),
    ],
)
def test_a_tiny_decoder_goes_with_the_other_switches(
    published: Zero123Pipeline, view: View, tmp_path: Path, plan: Plan, most: float
) -> None:
    folder, before = tiny_autoencoder(tmp_path / "taesd"), view(published)
    wanted = view(accelerate(published, Plan(tiny_decoder=folder)))
    made = view(accelerate(published, replace(plan, tiny_decoder=folder)))
    assert np.abs(made - wanted).max() <= most
    assert np.array_equal(view(restore(published)), before)


def test_a_tiny_decoder_may_stand_for_a_tiny_autoencoders(
    mini: Zero123Pipeline, view: View, tmp_path: Path
) -> None:
    """Its own decoder, from a folder, is the same decoder."""
    before = view(mini)
    mini.vae.save_pretrained(tmp_path / "own")
    made = view(accelerate(mini, Plan(tiny_decoder=tmp_path / "own")))
    restore(mini)
    assert np.abs(made - before).max() < 1e-5


@pytest.mark.parametrize(
    ("channels", "scales", "sentence"),
    [
        (8, 4, "decodes 8 channels to 8 times their size; this model's latents have 4"),
        (4, 3, "decodes 4 channels to 4 times their size; .* are 8 times as large"),
    ],
)
def test_a_decoder_of_other_latents_is_refused(
    published: Zero123Pipeline, tmp_path: Path, channels: int, scales: int, sentence: str
) -> None:
    folder = tiny_autoencoder(tmp_path / "other", channels, scales)
    with pytest.raises(ValueError, match=sentence):
        accelerate(published, Plan(tiny_decoder=folder))
    with pytest.raises(ValueError, match=r"config\.json"):
        accelerate(published, Plan(tiny_decoder=tmp_path / "none"))


@pytest.mark.gpu
def test_nothing_in_the_loop_waits_for_the_accelerator(view: View) -> None:
    pipe = accelerate(drawn_pipeline(TINY).to("cuda"), EXACT)

    def watch(_: object, step: int, *__: object) -> None:
        torch.cuda.set_sync_debug_mode("error" if step < 8 else "default")

    view(pipe, num_inference_steps=10, callback_on_step_end=watch)


@pytest.mark.gpu
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_run_on_an_accelerator(view: View, preset: str) -> None:
    plain = drawn_pipeline(TINY).to("cuda")
    before = view(plain)
    after = view(accelerate(plain, preset))
    assert np.isfinite(after).all()
    if preset == "exact":
        assert np.abs(after - before).max() < 1e-3
    assert np.array_equal(view(restore(plain)), before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(4, 4), (8, 6), (5, 6)])
@torch.no_grad()
def test_winograd_equals_the_convolution(
    layout: torch.memory_format, size: tuple[int, int]
) -> None:
    plain = nn.Conv2d(256, 300, 3, padding=1)
    picture = torch.randn(2, 256, *size).contiguous(memory_format=layout)
    owner = nn.Sequential(plain, nn.Conv2d(300, 300, 1), nn.Conv2d(300, 256, 3))
    wanted = plain(picture)
    with winograd(owner):
        assert [isinstance(layer, Winograd) for layer in owner] == [True, False, False]
        assert (owner[0](picture) - wanted).abs().max() < 1e-5
    assert owner[0] is plain


def kept_bytes(pipe: Zero123Pipeline) -> int:
    return sum(w.nbytes for part in (pipe.unet, pipe.vae) for w in part.parameters())


def test_low_memory_keeps_a_byte_a_weight(pipe: Zero123Pipeline, view: View) -> None:
    before, wide = view(pipe), kept_bytes(pipe)
    accelerate(pipe, "low-memory")
    assert pipe.memory_bound == 0.25
    assert kept_bytes(pipe) < 0.3 * wide
    assert 0 < np.abs(view(pipe) - before).mean() < 0.02
    restore(pipe)
    assert kept_bytes(pipe) == wide
    assert np.array_equal(view(pipe), before)


@torch.no_grad()
def test_rounding_is_off_by_half_a_scale_and_keeps_zero() -> None:
    layer = nn.Conv2d(3, 5, 3)
    layer.weight[2] = 0  # a silent row has no scale
    wide = layer.weight.clone()
    with rounded(layer):
        scale = wide.flatten(1).abs().amax(1)[:, None, None, None] / 127
        assert ((layer.weight - wide).abs() <= 0.51 * scale).all()
    assert torch.equal(layer.weight, wide)
    assert layer.weight.requires_grad


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"guided": (0.5, 0.2)}, "guided must be two shares"),
        ({"deep_every": 0}, "deep_every must be at least 1"),
        ({"most_steps": 0}, "most_steps must be at least 1"),
        ({"offloaded": True, "constant_times": True}, "can neither be compiled"),
    ],
)
def test_plans_that_make_no_sense_are_refused(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Plan(**given)  # type: ignore[arg-type]


def test_an_unknown_preset_is_named(mini: Zero123Pipeline) -> None:
    with pytest.raises(ValueError, match="no preset 'warp': one of exact, fast, turbo, low-memory"):
        accelerate(mini, "warp")


def test_an_accelerated_model_is_not_saved(mini: Zero123Pipeline, tmp_path: Path) -> None:
    accelerate(mini)
    with pytest.raises(ValueError, match="restore"):
        mini.save_pretrained(tmp_path / "model")
    restore(mini).save_pretrained(tmp_path / "model")


def test_half_is_measured_and_not_believed() -> None:
    assert half_for(torch.device("cpu")) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("faster", [torch.bfloat16, torch.float32])
def test_half_takes_what_this_machine_multiplies_faster(
    mini: Zero123Pipeline, monkeypatch: pytest.MonkeyPatch, faster: torch.dtype
) -> None:
    module = sys.modules[accelerate.__module__]  # the name in the package is the function
    monkeypatch.setattr(module, "half_for", lambda device: faster)
    accelerate(mini, Plan(winograd=True, dtype="half"))
    assert {network.dtype for network in (mini.unet, mini.vae, mini.image_encoder)} == {faster}
    plan = mini.tell.plan
    assert plan.winograd == (faster == torch.float32)
    assert plan.channels_last == (faster == torch.bfloat16)
    assert restore(mini).unet.dtype == torch.float32

"""One call switches a pipeline over, one call takes it back."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel, UniPCMultistepScheduler
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor, FusedAttnProcessor2_0

from zero123.pipeline import Zero123Pipeline
from zero123.speed.constants import constant_attention, constant_photo, constant_times
from zero123.speed.decoding import tiny_decoder
from zero123.speed.engines import many_shapes, tapped
from zero123.speed.numbers import channels_last, half_for, narrowed
from zero123.speed.plan import Plan, in_bfloat16, preset
from zero123.speed.put import put
from zero123.speed.rounded import rounded
from zero123.speed.telling import FastTell
from zero123.speed.upsampling import sub_pixel
from zero123.speed.winograd import winograd

logger = logging.getLogger(__name__)

_SOLVERS = {"dpm++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}


def accelerate(pipe: Zero123Pipeline, plan: str | Plan = "exact") -> Zero123Pipeline:
    """Switch a pipeline to a plan, from whatever plan it had.

    Args:
        pipe: where it will run already; changed in place.
        plan: one's own, or the name of one of ``PRESETS``.

    Returns:
        The same pipeline.

    Raises:
        ValueError: if there is no such preset, or the machine cannot do it.
        ModuleNotFoundError: if OpenVINO is wanted and not installed.
    """
    if isinstance(plan, str):
        plan = preset(plan, pipe.device.type)
    if plan.engine == "compiled" and torch._dynamo.config.disable:
        logger.warning("TORCH_COMPILE_DISABLE is set: nothing is compiled")
        plan = replace(plan, engine="eager")
    plan = settled(plan, pipe.device)
    restore(pipe)
    with ExitStack() as undo:
        for switch in _switches(pipe, plan):
            undo.enter_context(switch)
        tell = FastTell(pipe.unet, plan)
        undo.enter_context(put(pipe, "tell", tell))
        tell.undo = undo.pop_all()
    return pipe


def settled(plan: Plan, device: torch.device) -> Plan:
    """The plan with "half" replaced by what it is on this machine."""
    if plan.dtype != "half":
        return plan
    is_faster = half_for(device) == torch.bfloat16
    return in_bfloat16(plan) if is_faster else replace(plan, dtype=None)


def restore(pipe: Zero123Pipeline) -> Zero123Pipeline:
    """Take all switches back: the same bits come out as before."""
    if isinstance(pipe.tell, FastTell):
        pipe.tell.undo.close()
    return pipe


def _switches(pipe: Zero123Pipeline, plan: Plan) -> Iterator[AbstractContextManager[None]]:
    """In the order in which they can be combined: what is built, then its numbers."""
    unet, networks = pipe.unet, (pipe.unet, pipe.vae, pipe.image_encoder)
    if plan.constant_attention:
        yield constant_attention(unet)
    if plan.constant_times:
        yield constant_times(unet)
    if plan.constant_photo:
        yield constant_photo(unet)
    if plan.written_out_attention:
        yield _written_out_attention(unet)
    if plan.fused_qkv:
        yield _fused_qkv(unet)
    if plan.tiny_decoder is not None:
        yield tiny_decoder(pipe, plan.tiny_decoder)
    if plan.sub_pixel:
        yield sub_pixel(unet)
        yield sub_pixel(pipe.vae)
    if plan.winograd:
        yield winograd(unet)
    if plan.deep_every > 1:
        yield tapped(unet)
    if plan.dtype is not None and unet.dtype == torch.float32:
        for network in networks:
            yield narrowed(network, getattr(torch, plan.dtype))
    if plan.rounded:
        for network in networks:
            yield rounded(network)
    if plan.channels_last:
        for network in networks:
            yield channels_last(network)
    if plan.engine == "compiled":
        yield many_shapes()
    if plan.solver is not None:
        solver = _SOLVERS[plan.solver].from_config(pipe.scheduler.config)
        yield put(pipe, "scheduler", solver)
    if plan.most_steps is not None:
        steps = min(plan.most_steps, pipe.settings.steps)
        yield put(pipe, "settings", replace(pipe.settings, steps=steps))
    if plan.memory_bound is not None:
        yield put(pipe, "memory_bound", plan.memory_bound)
    if plan.offloaded:
        yield _offloaded(pipe)


@contextmanager
def _fused_qkv(unet: UNet2DConditionModel) -> Iterator[None]:
    with ExitStack() as undo:
        for block in unet.modules():
            if isinstance(block, BasicTransformerBlock):
                attention = block.attn1
                attention.fuse_projections()
                undo.callback(delattr, attention, "to_qkv")
                undo.callback(setattr, attention, "fused_projections", False)
                undo.enter_context(put(attention, "processor", FusedAttnProcessor2_0()))
        yield


@contextmanager
def _written_out_attention(unet: UNet2DConditionModel) -> Iterator[None]:
    before = unet.attn_processors
    unet.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        unet.set_attn_processor(before)


@contextmanager
def _offloaded(pipe: Zero123Pipeline) -> Iterator[None]:
    device = pipe.device
    if device.type == "cpu":
        raise ValueError("offloading needs an accelerator to keep free: move the pipeline there")
    pipe.enable_model_cpu_offload(device=device)
    try:
        yield
    finally:
        pipe.remove_all_hooks()
        pipe.to(device)

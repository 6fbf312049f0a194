"""One key table: the original's tensor names <-> those of diffusers and transformers.

The table is data, and is read both ways. It holds for every size of the networks: what depends
on the size stands in it as ``{fields}``, whose values :func:`_values` works out.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from zero123.weights.components import Part, WeightsError, complain


@dataclass(frozen=True)
class Change:
    """How the numbers of one original tensor lie in one or several diffusers tensors."""

    split: Callable[[Tensor], tuple[Tensor, ...]]
    """Original to diffusers."""
    join: Callable[[tuple[Tensor, ...]], Tensor]
    """Diffusers to original."""


SAME = Change(split=lambda whole: (whole,), join=lambda pieces: pieces[0])
TRANSPOSED = Change(split=lambda whole: (whole.mT,), join=lambda pieces: pieces[0].mT)
# a 1x1 convolution in the original, a linear layer in diffusers; biases are alike
CONVOLUTION = Change(
    split=lambda whole: (whole[:, :, 0, 0] if whole.shape[2:] == (1, 1) else whole,),
    join=lambda pieces: pieces[0][:, :, None, None] if pieces[0].ndim == 2 else pieces[0],
)
FUSED = Change(split=lambda whole: tuple(piece.clone() for piece in whole.chunk(3)), join=torch.cat)


@dataclass(frozen=True)
class Row:
    """A module's or tensor's name in both worlds."""

    original: str
    diffusers: str
    inside: tuple["Row", ...] = ()
    """Names further inside that differ too; all others are the same."""
    change: Change = SAME


UNET_RESNET = (
    Row("in_layers.0", "norm1"),
    Row("in_layers.2", "conv1"),
    Row("emb_layers.1", "time_emb_proj"),
    Row("out_layers.0", "norm2"),
    Row("out_layers.3", "conv2"),
    Row("skip_connection", "conv_shortcut"),
)
VAE_RESNET = (Row("nin_shortcut", "conv_shortcut"),)
VAE_ATTENTION = (
    Row("norm", "group_norm"),
    Row("q", "to_q", change=CONVOLUTION),
    Row("k", "to_k", change=CONVOLUTION),
    Row("v", "to_v", change=CONVOLUTION),
    Row("proj_out", "to_out.0", change=CONVOLUTION),
)
CLIP_LAYER = (
    Row("ln_1", "layer_norm1"),
    Row("ln_2", "layer_norm2"),
    Row("mlp.c_fc", "mlp.fc1"),
    Row("mlp.c_proj", "mlp.fc2"),
    Row("attn.out_proj", "self_attn.out_proj"),
    Row("attn.in_proj_{kind}", "self_attn.{qkv}_proj.{kind}", change=FUSED),
)
TABLE: dict[Part, tuple[Row, ...]] = {
    "unet": (
        Row("time_embed.0", "time_embedding.linear_1"),
        Row("time_embed.2", "time_embedding.linear_2"),
        Row("input_blocks.0.0", "conv_in"),
        Row("input_blocks.{down}.0", "down_blocks.{level}.resnets.{layer}", UNET_RESNET),
        Row("input_blocks.{down}.1", "down_blocks.{level}.attentions.{layer}"),
        Row("input_blocks.{halving}.0.op", "down_blocks.{level}.downsamplers.0.conv"),
        Row("middle_block.0", "mid_block.resnets.0", UNET_RESNET),
        Row("middle_block.1", "mid_block.attentions.0"),
        Row("middle_block.2", "mid_block.resnets.1", UNET_RESNET),
        Row("output_blocks.{up}.0", "up_blocks.{level}.resnets.{layer}", UNET_RESNET),
        Row("output_blocks.{up}.1", "up_blocks.{level}.attentions.{layer}"),
        Row("output_blocks.{doubling}.{last}.conv", "up_blocks.{level}.upsamplers.0.conv"),
        Row("out.0", "conv_norm_out"),
        Row("out.2", "conv_out"),
    ),
    "vae": (
        Row("{side}.conv_in", "{side}.conv_in"),
        Row(
            "encoder.down.{level}.block.{layer}",
            "encoder.down_blocks.{level}.resnets.{layer}",
            VAE_RESNET,
        ),
        Row("encoder.down.{level}.downsample", "encoder.down_blocks.{level}.downsamplers.0"),
        Row("{side}.mid.block_1", "{side}.mid_block.resnets.0", VAE_RESNET),
        Row("{side}.mid.attn_1", "{side}.mid_block.attentions.0", VAE_ATTENTION),
        Row("{side}.mid.block_2", "{side}.mid_block.resnets.1", VAE_RESNET),
        Row(
            "decoder.up.{height}.block.{layer}",
            "decoder.up_blocks.{level}.resnets.{layer}",
            VAE_RESNET,
        ),
        Row("decoder.up.{height}.upsample", "decoder.up_blocks.{level}.upsamplers.0"),
        Row("{side}.norm_out", "{side}.conv_norm_out"),
        Row("{side}.conv_out", "{side}.conv_out"),
        Row("quant_conv", "quant_conv"),
        Row("post_quant_conv", "post_quant_conv"),
    ),
    "image_encoder": (
        Row("class_embedding", "vision_model.embeddings.class_embedding"),
        Row("positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        Row("conv1", "vision_model.embeddings.patch_embedding"),
        Row("ln_pre", "vision_model.pre_layrnorm"),
        Row("transformer.resblocks.{layer}", "vision_model.encoder.layers.{layer}", CLIP_LAYER),
        Row("ln_post", "vision_model.post_layernorm"),
        Row("proj", "visual_projection.weight", change=TRANSPOSED),
    ),
    "cc_projection": (Row("{kind}", "projection.{kind}"),),
}

PREFIXES: dict[Part, str] = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "image_encoder": "cond_stage_model.model.visual.",
    "cc_projection": "cc_projection.",
}
"""Where each network sits in an original checkpoint."""

POSE_NUMBERS = 4
"""Columns of the projection that the pose comes in by, after those of the embedding."""

FIELDS = {
    "level": r"\d+",
    "layer": r"\d+",
    "side": "encoder|decoder",
    "kind": "weight|bias",
    "qkv": "[qkv]",
}


@dataclass(frozen=True)
class Pair:
    """One original tensor and what becomes of it."""

    original: str
    """Full name in the checkpoint."""
    diffusers: tuple[str, ...]
    """Names in the network; q, k, v in this order where the original fuses them."""
    change: Change


@dataclass(frozen=True)
class Size:
    """The counts that names depend on."""

    levels: int
    """Resolutions of a network."""
    layers: int
    """Residual layers a level on the way down; one more on the way up."""
    attended: frozenset[int]
    """Levels on the way up that have attention."""

    @classmethod
    def of(cls, names: tuple[str, ...]) -> "Size":
        """Count in the names of a network's tensors."""

        def numbers(pattern: str) -> frozenset[int]:
            return frozenset(int(m[1]) for name in names if (m := re.match(pattern, name)))

        return cls(
            levels=len(numbers(r"(?:encoder\.)?down_blocks\.(\d+)\.")),
            layers=len(numbers(r"(?:encoder\.)?down_blocks\.0\.resnets\.(\d+)\.")),
            attended=numbers(r"up_blocks\.(\d+)\.attentions\."),
        )

    def values(self, fields: Mapping[str, str]) -> dict[str, str | int]:
        """Work out the original's numbers: it counts blocks through, diffusers by level."""
        if "level" not in fields:
            return dict(fields)
        level, layer = int(fields["level"]), int(fields.get("layer", 0))
        return {
            **fields,
            "down": 1 + level * (self.layers + 1) + layer,
            "halving": (level + 1) * (self.layers + 1),
            "up": level * (self.layers + 1) + layer,
            "doubling": level * (self.layers + 1) + self.layers,
            "last": 2 if level in self.attended else 1,
            "height": self.levels - 1 - level,
        }


def pair_names(part: Part, names: Iterable[str]) -> tuple[Pair, ...]:
    """Find the original tensor behind every tensor of a network.

    Args:
        part: which network.
        names: of all its tensors, as diffusers or transformers call them.

    Raises:
        WeightsError: the original has no such tensor.
    """
    names = tuple(names)
    size = Size.of(names)
    found: dict[str, tuple[dict[str, str], Change]] = {}
    for name in names:
        match = _translate(TABLE[part], name)
        if match is None:
            raise WeightsError(f"the original format has no place for {name} of the {part}")
        template, fields, change = match
        original = PREFIXES[part] + template.format(**size.values(fields))
        found.setdefault(original, ({}, change))[0][fields.get("qkv", "")] = name
    return tuple(
        Pair(original, tuple(pieces[slot] for slot in sorted(pieces, key="qkv".find)), change)
        for original, (pieces, change) in found.items()
    )


def ema_name(original: str) -> str:
    """Where a checkpoint keeps the moving average of a UNet tensor.

    >>> ema_name("model.diffusion_model.out.2.bias")
    'model_ema.diffusion_modelout2bias'
    """
    return "model_ema." + original.removeprefix("model.").replace(".", "")


def split_original(
    pairs: Iterable[Pair], tensors: Mapping[str, Tensor], origin: str
) -> dict[str, Tensor]:
    """Rename and reshape a checkpoint's tensors for a network.

    Raises:
        WeightsError: names what ``origin``, the file, lacks.
    """
    pairs = tuple(pairs)
    lost = [pair.original for pair in pairs if pair.original not in tensors]
    complain(origin, {"missing": lost})
    renamed: dict[str, Tensor] = {}
    for pair in pairs:
        try:
            pieces = pair.change.split(tensors[pair.original])
        except RuntimeError:  # fewer dimensions than the change speaks of
            pieces = ()
        if len(pieces) != len(pair.diffusers):
            complain(origin, {"misshapen": [pair.original]})
        renamed.update(zip(pair.diffusers, pieces, strict=True))
    return renamed


def join_original(pairs: Iterable[Pair], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape a network's tensors for a checkpoint: the inverse of the above."""
    return {
        pair.original: pair.change.join(
            tuple(tensors[name] for name in pair.diffusers)
        ).contiguous()
        for pair in pairs
    }


def _translate(rows: tuple[Row, ...], name: str) -> tuple[str, dict[str, str], Change] | None:
    """Find the row of a name: the original's template, the fields' values, the change."""
    for row in rows:
        match = _pattern(row.diffusers).fullmatch(name)
        if match is None:
            continue
        fields = {key: value for key, value in match.groupdict().items() if key != "rest"}
        rest, change = match["rest"], row.change
        if rest is None:
            return row.original, fields, change
        deeper = _translate(row.inside, rest)
        if deeper is not None:
            rest, change = deeper[0], deeper[2]
            fields |= deeper[1]
        return f"{row.original}.{rest}", fields, change
    return None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    named = re.sub(r"\\{(\w+)\\}", lambda m: f"(?P<{m[1]}>{FIELDS[m[1]]})", re.escape(template))
    return re.compile(named + r"(?:\.(?P<rest>.+))?")

"""Folders as diffusers writes them <-> components, each part by its own class.

Three layouts load: ours, kxic's (``.bin`` files and an empty projection config), and the one of
bennyguo and ashawkey (the projection under another name). What else lies there, a safety checker
or a feature extractor, is not read; code is never taken from a folder.
"""

import inspect
import json
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, SchedulerMixin, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from zero123.files import written_whole
from zero123.models import PoseProjection
from zero123.weights.checkpoint import dig, read_tensors
from zero123.weights.components import (
    MISFITS,
    Components,
    Settings,
    WeightsError,
    blank,
    cast,
    fill,
)
from zero123.weights.keys import POSE_NUMBERS
from zero123.weights.manifest import MANIFEST, unnoted, write_manifest
from zero123.weights.writing import write_tensors

logger = logging.getLogger(__name__)

INDEX = "model_index.json"
SETTINGS: dict[str, Callable[[Any], object]] = {
    "pose_encoding": str,
    "steps": int,
    "guidance": float,
    "eta": float,
    "name": str,
    "licence": str,
}
PROJECTIONS = ("cc_projection", "clip_camera_projection")
PARTS = ("unet", "vae", "image_encoder", *PROJECTIONS)

CLIP_ARGUMENTS = {
    "hidden_size": int,
    "intermediate_size": int,
    "projection_dim": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "num_channels": int,
    "image_size": int,
    "patch_size": int,
    "hidden_act": str,
    "layer_norm_eps": float,
    "attention_dropout": float,
}
"""What of a CLIP config describes the network."""

RENAMED = {
    # attention of the VAE, as diffusers called it before 0.17
    r"(attentions\.\d+)\.query\.": r"\1.to_q.",
    r"(attentions\.\d+)\.key\.": r"\1.to_k.",
    r"(attentions\.\d+)\.value\.": r"\1.to_v.",
    r"(attentions\.\d+)\.proj_attn\.": r"\1.to_out.0.",
    # the pose projection of bennyguo and ashawkey
    r"^proj\.": "projection.",
}
DROPPED = {"vision_model.embeddings.position_ids"}
"""Counts patches: transformers before 4.31 stored it."""

_STEM = r"(?:diffusion_pytorch_model|pytorch_model|model)"
_WHOLE = re.compile(_STEM + r"(?P<variant>\.\w+)?\.(?P<kind>safetensors|bin)")
_SHARD = re.compile(_STEM + r"(?P<variant>\.\w+)?-\d+-of-\d+\.(?P<kind>safetensors|bin)")
_SHARDS = re.compile(
    _STEM + r"(?P<early>\.\w+)?\.(?P<kind>safetensors|bin)\.index(?P<late>\.\w+)?\.json"
)


def read_index(folder: Path) -> dict[str, Any]:
    """Read what a folder says it is.

    Raises:
        WeightsError: it is no diffusers folder, or not one of Zero-1-to-3.
    """
    if not (folder / INDEX).is_file():
        files = sorted(
            path.name for path in folder.iterdir() if path.suffix in (".ckpt", ".safetensors")
        )
        hint = f"; for a raw checkpoint give the file: {folder / files[0]}" if files else ""
        raise WeightsError(f"{folder}: no model, for it has no {INDEX}{hint}")
    index = read_json(folder / INDEX)
    if not any(name in index for name in PROJECTIONS):
        raise WeightsError(
            f"{folder}: this is a {index.get('_class_name')}, not Zero-1-to-3: no pose projection"
        )
    return index


def settings_in(folder: Path) -> dict[str, Any]:
    """The settings that a folder's index holds, as arguments of ``Settings``.

    Raises:
        WeightsError: it is no folder of Zero-1-to-3, or a setting is of the wrong kind.
    """
    index = read_index(folder)
    given = {name: index[name] for name in SETTINGS if index.get(name) is not None}
    try:
        return {name: SETTINGS[name](value) for name, value in given.items()}
    except (TypeError, ValueError) as odd:
        raise WeightsError(f"{folder / INDEX}: settings of the wrong kind ({odd})") from odd


def load_folder(folder: Path, settings: Settings, *, dtype: torch.dtype) -> Components:
    """Load every part of a model.

    Args:
        folder: as diffusers writes it.
        settings: carried along.
        dtype: of all networks but the projection, which stays float32.

    Raises:
        WeightsError: a file is missing or damaged, a class is not an allowed one, or tensors are
            missing, unknown or misshapen; they are named.
    """
    index = read_index(folder)
    projection = next(name for name in PROJECTIONS if name in index)
    return Components(
        unet=load_network(folder / "unet", dtype, UNet2DConditionModel),
        vae=load_network(folder / "vae", dtype, AutoencoderKL, AutoencoderTiny),
        image_encoder=load_image_encoder(folder / "image_encoder", dtype),
        projection=_load_projection(folder / projection),
        scheduler=load_scheduler(folder / "scheduler"),
        settings=settings,
    )


def save_model(components: Components, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a model in our own layout: safetensors, and a manifest of hashes.

    Args:
        components: what to write.
        folder: a new one, or one that :func:`save_model` wrote, which is then replaced.
        dtype: of the files; the networks' own when not given. The projection is float32 always.

    Raises:
        WeightsError: the folder holds other files.
        OSError: the disk is full or refuses; nothing has changed then.
    """
    if folder.exists() and (not folder.is_dir() or unnoted(folder)):
        raise WeightsError(f"{folder}: holds something else than a model; give a new folder")
    with written_whole(folder) as made:
        made.mkdir()
        for name, network in components.networks.items():
            if name == "image_encoder":
                network.config.save_pretrained(made / name)
                file = made / name / "model.safetensors"
            else:
                network.save_config(made / name)
                file = made / name / "diffusion_pytorch_model.safetensors"
            width = torch.float32 if name == "cc_projection" else dtype
            tensors = network.state_dict()
            write_tensors(file, {k: cast(v, width or v.dtype) for k, v in tensors.items()})
        components.scheduler.save_config(made / "scheduler")
        index = _make_index(components)
        (made / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        write_manifest(made)


def needed_files(names: Iterable[str]) -> list[str]:
    """Choose, from all files of a folder or repository, those that :func:`load_folder` reads.

    Full precision before variants such as ``fp16``, safetensors before pickles, one file before
    shards.
    """
    names = list(names)
    needed = [
        name for name in (INDEX, MANIFEST, "scheduler/scheduler_config.json") if name in names
    ]
    for part in PARTS:
        inside = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        chosen = _choose(inside)
        needed += [f"{part}/{name}" for name in inside if name == "config.json" or name in chosen]
    return needed


def _choose(names: Iterable[str]) -> list[str]:
    """Choose the weight files among a network's files: one, or an index and then its shards."""
    names = sorted(names)
    ranked: list[tuple[tuple[bool, bool, bool], str, str]] = []
    for name in names:
        if match := _WHOLE.fullmatch(name):
            variant, index = match["variant"] or "", False
        elif match := _SHARDS.fullmatch(name):
            variant, index = match["early"] or match["late"] or "", True
        else:
            continue
        ranked.append(
            ((bool(variant), match["kind"] == "bin", index), name, variant + match["kind"])
        )
    if not ranked:
        return []
    (_, _, index), name, sort = min(ranked)
    shards = [
        other
        for other in names
        if index and (m := _SHARD.fullmatch(other)) and (m["variant"] or "") + m["kind"] == sort
    ]
    return [name, *shards]


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a network's tensors under today's names."""
    chosen = _choose(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not chosen:
        raise WeightsError(f"{folder}: missing, or without weights (.safetensors or .bin)")
    shards = chosen
    if chosen[0].endswith(".json"):
        shards = chosen[1:]
        named = dig(read_json(folder / chosen[0]), "weight_map").values()
        if absent := {str(name) for name in named} - set(shards):
            raise WeightsError(f"{folder}: {', '.join(sorted(absent))} missing")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= read_tensors(folder / shard)
    return {_today(name): tensor for name, tensor in tensors.items() if name not in DROPPED}


def _today(name: str) -> str:
    for pattern, replacement in RENAMED.items():
        name = re.sub(pattern, replacement, name)
    return name


def load_network(folder: Path, dtype: torch.dtype, *kinds: type) -> Any:
    """Load a network of diffusers, of one of the given classes.

    Raises:
        WeightsError: it is of another class, damaged, or incomplete.
    """
    config = read_json(folder / "config.json")
    allowed = {kind.__name__: kind for kind in kinds}
    kind = allowed.get(str(config.get("_class_name")))
    if kind is None:
        raise WeightsError(
            f"{folder / 'config.json'}: {config.get('_class_name')} is not among {list(allowed)}"
        )
    given = {name: config[name] for name in inspect.signature(kind).parameters if name in config}
    network: Any = blank(lambda: kind(**given), str(folder))
    odd = [name for name in config if name not in network.config and not name.startswith("_")]
    if odd:
        logger.warning("%s: left out what this diffusers does not know: %s", folder, odd)
    fill(network, _read_weights(folder), dtype, str(folder))
    return network


def load_image_encoder(folder: Path, dtype: torch.dtype) -> CLIPVisionModelWithProjection:
    """Load the CLIP image tower.

    Raises:
        WeightsError: it is something else, damaged, or incomplete.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != "clip_vision_model":
        raise WeightsError(
            f"{folder / 'config.json'}: a {config.get('model_type')}, not a CLIP image encoder"
        )

    def make() -> CLIPVisionModelWithProjection:
        given = {k: kind(config[k]) for k, kind in CLIP_ARGUMENTS.items() if k in config}
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**given))

    network = blank(make, str(folder))
    fill(network, _read_weights(folder), dtype, str(folder))
    return network


def _load_projection(folder: Path) -> PoseProjection:
    tensors = _read_weights(folder)
    noted = folder / "config.json"  # in one layout an empty file: sizes tell, of ours the rest
    config = read_json(noted) if noted.exists() and noted.stat().st_size else {}
    weight = tensors.get("projection.weight")
    numbers = 5 if config.get("pose_dim") == 5 else POSE_NUMBERS
    if weight is None or weight.ndim != 2 or weight.shape[1] <= numbers:
        raise WeightsError(f"{folder}: projection.weight missing or misshapen")
    network: PoseProjection = blank(
        lambda: PoseProjection(
            weight.shape[1] - numbers,
            weight.shape[0],
            numbers,
            config.get("sweeps") is True,
        ),
        str(folder),
    )
    fill(network, tensors, torch.float32, str(folder))
    return network


def load_scheduler(folder: Path) -> SchedulerMixin:
    """Make the scheduler that a folder names, of whatever class of diffusers.

    Raises:
        WeightsError: there is no such class, or its configuration makes no sense.
    """
    config = read_json(folder / "scheduler_config.json")
    name = str(config.get("_class_name"))
    kind = getattr(diffusers, name, None) if re.fullmatch(r"\w+Scheduler", name) else None
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise WeightsError(f"{folder}: {name} is no scheduler of diffusers {diffusers.__version__}")
    known = inspect.signature(kind).parameters
    try:
        return kind(**{key: config[key] for key in known if key in config})
    except MISFITS as misfit:
        raise WeightsError(f"{folder}: not a configuration of {name} ({misfit})") from misfit


def _make_index(components: Components) -> dict[str, object]:
    homes = {"cc_projection": "zero123.models", "image_encoder": "transformers"}
    parts = [*components.networks.items(), ("scheduler", components.scheduler)]
    classes = {name: [homes.get(name, "diffusers"), type(part).__name__] for name, part in parts}
    told = {k: value for k, value in asdict(components.settings).items() if value is not None}
    about = {"_class_name": "Zero123Pipeline", "_diffusers_version": diffusers.__version__}
    return about | classes | told


def read_json(path: Path) -> dict[str, Any]:
    """Read a mapping.

    Raises:
        WeightsError: it is missing, damaged or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise WeightsError(f"{path}: missing") from missing
    except (OSError, RecursionError, ValueError) as damage:
        raise WeightsError(f"{path}: damaged ({damage})") from damage
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: damaged (not a mapping)")
    return content

"""Print how far this package is from the original's numbers: ``python benchmarks/parity.py``."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zero123 import Zero123Pipeline
from zero123.geometry import Orbit, Rigid, pose_token
from zero123.models import (
    Condition,
    clip_pixels,
    decode_latents,
    embed_photos,
    encode_latents,
    predict,
)
from zero123.pipeline import original_timesteps
from zero123.pipeline.sampling import Sampling

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def numbers(name: str) -> dict[str, Tensor]:
    """Arrays made by the original code."""
    return {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"{name}.npz").items()}


def say(what: str, ours: Tensor, theirs: Tensor, bar: float) -> None:
    """Print the largest difference, over the largest value if that is above 1."""
    off = float((ours - theirs).abs().max() / max(1.0, float(theirs.abs().max())))
    print(f"| {what} | {off:.1e} | {bar:g} |")
    assert off <= bar


@torch.no_grad()
def main() -> None:
    """Print a Markdown table."""
    pipe = Zero123Pipeline.from_pretrained(
        GOLDEN / "model.ckpt", weights="raw", pose_encoding="zero123"
    )
    print("| number | off by | bar |\n|---|---|---|")

    d = numbers("get_T")
    seats = {
        k: [Orbit.from_camera(Rigid.from_matrix(m)) for m in d[k]] for k in ("cond_RT", "target_RT")
    }
    ours = torch.stack([pose_token(c, t) for c, t in zip(*seats.values(), strict=True)])
    say("pose numbers, 64 pairs", ours, d["T"], 1e-6)

    d = numbers("clip_pose")
    photos = d["image_u8"].permute(0, 3, 1, 2) / 255
    say(
        "pixels that CLIP sees",
        clip_pixels(photos, 224)[:, :, 60:124, 60:124],
        d["clip_pixels_crop"],
        1e-5,
    )
    embedding = embed_photos(pipe.image_encoder, photos)
    say("CLIP embedding", embedding[:, None], d["clip_embed"], 1e-5)
    posed = pipe.cc_projection(embedding[:1].expand(len(d["pose_T"]), -1), d["pose_T"])
    say("posed token", posed, d["context"], 1e-5)

    d = numbers("vae")
    say("autoencoder's mode", encode_latents(pipe.vae, d["sq_image_u8"] / 255), d["sq_mode"], 1e-4)
    picture = ((d["sq_dec_out"] + 1) / 2).clamp(0, 1)
    say("decoded picture", decode_latents(pipe.vae, d["sq_dec_in"]), picture, 1e-4)

    d = numbers("unet")
    condition = Condition(d["sq_context"], d["sq_x"][:, 4:])
    answer = predict(pipe.unet, d["sq_x"][:, :4], d["sq_t"], condition)
    say("denoiser's answer", answer, d["sq_eps_raw"], 1e-4)

    d = numbers("ddim")
    condition = Condition(d["context"], d["cond_latent"].repeat(2, 1, 1, 1))
    sampling = Sampling.chosen("original", 10, 3.0, 0.0, pipe.settings, pipe.scheduler)
    scheduler, _ = sampling.start()
    current = d["x_T"]
    for timestep in original_timesteps(10):
        answer = predict(pipe.unet, current, timestep, condition, 3.0)
        current = scheduler.step(answer, timestep, current).prev_sample
    say("latents after 9 guided steps", current, d["raw_eta0_final"], 1e-3)

    pipe = Zero123Pipeline.from_pretrained(GOLDEN / "model.ckpt", pose_encoding="zero123")
    pipe.set_progress_bar_config(disable=True)
    d = numbers("e2e")
    polar, azimuth, radius = d["0_pose_deg"].tolist()
    (view,) = pipe(
        d["0_input_u8"].numpy(), azimuth, -polar, radius, num_inference_steps=10, eta=0.0,
        latents=d["0_x_T"], preset="original",
    ).images[0][0]  # fmt: skip
    off = np.abs(np.array(view).astype(int) - d["0_out_u8"][0].numpy())
    share = (off > 0).mean()
    print(f"| 8-bit picture from photo | {off.max()} level in {share:.3%} of values | 1 in 0.5% |")


if __name__ == "__main__":
    main()

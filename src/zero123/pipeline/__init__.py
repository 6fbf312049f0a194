"""Image -> frame -> condition -> denoise -> view."""

from zero123.pipeline.pipeline import Zero123Output, Zero123Pipeline
from zero123.pipeline.sampling import PRESETS, Preset, original_timesteps

__all__ = ["PRESETS", "Preset", "Zero123Output", "Zero123Pipeline", "original_timesteps"]

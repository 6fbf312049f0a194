"""The same views in less time and memory, and what each way costs."""

from zero123.speed.accelerate import accelerate, restore
from zero123.speed.plan import PRESETS, Plan, preset

__all__ = ["PRESETS", "Plan", "accelerate", "preset", "restore"]

"""The same views in less time and memory, and what each way costs."""

from zero123.speed.accelerate import accelerate, restore
from zero123.speed.plan import ALWAYS, PRESETS, Plan, preset

__all__ = ["ALWAYS", "PRESETS", "Plan", "accelerate", "preset", "restore"]

"""What runs the plans: policies in force, their slots, retention carried out, health."""

from .engine import Engine, machine_id
from .health import Health, PolicyHealth, problem
from .policies import Policies
from .prune import ClockGuard, Pruner, plan, plan_id
from .safety import SafetyKeeper

__all__ = [
    "ClockGuard",
    "Engine",
    "Health",
    "Policies",
    "PolicyHealth",
    "Pruner",
    "SafetyKeeper",
    "machine_id",
    "plan",
    "plan_id",
    "problem",
]

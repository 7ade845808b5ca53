"""What runs the plans: policies in force, their slots, retention carried out, health."""

from .clock import ClockGuard
from .engine import Engine
from .health import Health, PolicyHealth, problem
from .holds import Holds
from .policies import Policies
from .prune import Pruner, plan, plan_id
from .safety import SafetyKeeper
from .slots import machine_id

__all__ = [
    "ClockGuard",
    "Engine",
    "Health",
    "Holds",
    "Policies",
    "PolicyHealth",
    "Pruner",
    "SafetyKeeper",
    "machine_id",
    "plan",
    "plan_id",
    "problem",
]

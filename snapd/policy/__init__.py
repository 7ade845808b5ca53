"""What runs the plans: policies in force, their slots, retention carried out, health."""

from .by_hand import run_policy
from .chains import reasons
from .changes import PolicyChanges
from .clock import ClockGuard
from .coverage import Coverage
from .engine import Engine
from .health import Health, Look, PolicyHealth
from .holds import Holds
from .newcomers import Newcomers
from .policies import Policies
from .problems import problem
from .prune import Pruner, plan, plan_id
from .resting import Resting
from .safety import SafetyKeeper
from .slots import machine_id
from .telling import Telling

__all__ = [
    "ClockGuard",
    "Coverage",
    "Engine",
    "Health",
    "Holds",
    "Look",
    "Newcomers",
    "Policies",
    "PolicyChanges",
    "PolicyHealth",
    "Pruner",
    "Resting",
    "SafetyKeeper",
    "Telling",
    "machine_id",
    "plan",
    "plan_id",
    "problem",
    "reasons",
    "run_policy",
]

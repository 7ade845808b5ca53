"""Files -> Settings and Policy, strictly: a key or value that we do not know is an error.

values.py: reading tables and values; daemon.py: virtsnapd.toml; policies.py: policy definitions;
folders.py: policy files and the folders that hold them; zones.py: time zones of the host; keys.py:
every key for people.
"""

from .daemon import Settings, load_daemon
from .folders import FileError, Loaded, definition_to_toml, load_policies, load_policy
from .lint import fits_chain
from .policies import (
    Checked,
    check_definition,
    check_policy_name,
    matches,
    policy_from_definition,
    rules_of,
)
from .values import Fault
from .zones import load_zone, system_timezone

__all__ = [
    "Checked",
    "Fault",
    "FileError",
    "Loaded",
    "Settings",
    "check_definition",
    "check_policy_name",
    "definition_to_toml",
    "fits_chain",
    "load_daemon",
    "load_policies",
    "load_policy",
    "load_zone",
    "matches",
    "policy_from_definition",
    "rules_of",
    "system_timezone",
]

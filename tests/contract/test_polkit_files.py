"""What polkit and the system bus are told, compared with the contract."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from snapd.bus.contract import load
from snapd.bus.polkit import DETAILS
from snapd.wire.paths import NAME

DBUS = Path(__file__).parents[2] / "dbus"
SNAPD = DBUS.parent / "snapd"
PREFIX = "org.virtsnap.snapd1."
KEPT = {"create", "pin", "inspect"}
EVERY_TIME = {"revert", "delete", "policy", "manage"}
IMPLY = "org.freedesktop.policykit.imply"
OWNER = "org.freedesktop.policykit.owner"


def policy() -> dict[str, ET.Element]:
    root = ET.parse(DBUS / "org.virtsnap.snapd1.policy").getroot()
    actions = root.findall("action")
    found = {each.attrib["id"].removeprefix(PREFIX): each for each in actions}
    assert len(found) == len(actions)
    return found


def notes(action: ET.Element) -> dict[str, str | None]:
    return {each.attrib["key"]: each.text for each in action.findall("annotate")}


def test_actions_are_those_that_the_contract_and_the_code_ask_for() -> None:
    asked = {
        member.action
        for interface in load(DBUS).interfaces.values()
        for member in interface.methods.values()
        if member.action
    }
    code = "\n".join(path.read_text() for path in SNAPD.rglob("*.py"))
    asked |= set(re.findall(r'"(org\.virtsnap\.snapd1\.[a-z]+)"', code))
    assert asked == {PREFIX + name for name in policy()}


def test_defaults_ask_for_an_admin_and_remember_only_what_destroys_nothing() -> None:
    assert set(policy()) == KEPT | EVERY_TIME
    for name, action in policy().items():
        defaults = action.find("defaults")
        assert defaults is not None
        wanted = "auth_admin_keep" if name in KEPT else "auth_admin"
        assert {each.tag: each.text for each in defaults} == {
            "allow_any": wanted,
            "allow_inactive": wanted,
            "allow_active": wanted,
        }


def test_every_action_has_words_and_belongs_to_the_services_user() -> None:
    for name, action in policy().items():
        assert action.findtext("description"), name
        assert "required to" in action.findtext("message", ""), name
        assert notes(action)[OWNER] == "unix-user:virtsnapd"


def test_messages_name_only_details_that_are_told() -> None:
    text = {name: action.findtext("message", "") for name, action in policy().items()}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(text.values()))) <= set(DETAILS)
    for name in ("create", "revert", "delete", "pin", "inspect"):
        assert "$(domain)" in text[name]
    for name in ("revert", "delete", "pin"):
        assert "$(snapshot)" in text[name]
    assert "$(policy)" in text["policy"]


def test_policy_implies_create_and_delete_and_no_other_implies_anything() -> None:
    implied = {name: notes(action).get(IMPLY) for name, action in policy().items()}
    assert implied.pop("policy") == f"{PREFIX}create {PREFIX}delete"
    assert set(implied.values()) == {None}


def test_bus_lets_only_the_services_user_own_the_name_and_all_call_it_alone() -> None:
    root = ET.parse(DBUS / "org.virtsnap.Snapd1.conf").getroot()
    owns = [
        (section.attrib, rule.attrib["own"])
        for section in root.iter("policy")
        for rule in section.findall("allow")
        if "own" in rule.attrib
    ]
    assert owns == [({"user": "virtsnapd"}, NAME)]
    others = [rule.attrib for rule in root.iter("allow") if "own" not in rule.attrib]
    stats = {
        "send_destination": "org.freedesktop.DBus",
        "send_interface": "org.freedesktop.DBus.Debug.Stats",
        "send_member": "GetConnectionStats",
    }
    assert others == [stats, {"send_destination": NAME}]
    (service,) = root.findall("policy[@user]")
    assert stats in [rule.attrib for rule in service.iter("allow")]
    assert list(root.iter("deny")) == []


def test_rule_is_about_our_actions_and_the_group_of_libvirt() -> None:
    """What it does is shown by polkit itself, in tests/polkit."""
    lines = (DBUS / "org.virtsnap.snapd1.rules").read_text().splitlines()
    code = "\n".join(line for line in lines if not line.startswith("//"))
    assert code.count("polkit.addRule") == 1
    assert json.dumps(PREFIX) in code
    assert 'isInGroup("libvirt")' in code

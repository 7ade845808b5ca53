"""The slots of one domain are those that a look at all would find."""

from __future__ import annotations

import random

from snapd.policy.slots import SlotRows
from snapd.store import SlotRow


def test_rows_of_a_domain_after_any_changes_are_those_of_all_that_are_its() -> None:
    chance, rows = random.Random(7), SlotRows()
    for number in range(2000):
        key = (chance.choice("abc"), chance.choice("xyz"))
        match chance.randrange(4):
            case 0:
                rows.pop(key, None)
            case 1:
                rows.update({key: SlotRow(*key, number)})
            case _:
                rows[key] = SlotRow(*key, number)
        for domain in "wxyz":
            every = [row for (_policy, of), row in sorted(rows.items()) if of == domain]
            assert rows.of_domain(domain) == every

"""Options that may be given bare: argparse would take the VM after `--memory` for its value."""

from __future__ import annotations

MEMORY = ("auto", "yes", "no")
QUIESCE = ("try", "require", "no")

_BARE = {
    "--memory": (MEMORY, "--memory=yes"),
    "--quiesce": (QUIESCE, "--quiesce=require"),
}


def spell_out(arguments: list[str]) -> list[str]:
    """The arguments with bare `--memory` and `--quiesce` spelled out."""
    spelled: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*spelled, word, *rest]
        values, bare = _BARE.get(word, ((), word))
        if rest and rest[0] in values:
            spelled.append(f"{word}={rest.pop(0)}")
        else:
            spelled.append(bare)
    return spelled

"""Options that may be given bare: argparse would take the VM after `--memory` for its value."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import InvalidArgument

MEMORY = ("auto", "yes", "no")
QUIESCE = ("try", "require", "no")

_BARE = {
    "--memory": (MEMORY, "--memory=yes"),
    "--quiesce": (QUIESCE, "--quiesce=require"),
}
_VALUES = {*MEMORY, *QUIESCE}


def spell_out(arguments: list[str]) -> list[str]:
    """The arguments with bare `--memory` and `--quiesce` spelled out. Raises InvalidArgument for
    a slip in a value, which would become a name."""
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
            if values and rest and not rest[0].startswith("-"):
                _refuse_slip(word, rest[0], values, bare)
            spelled.append(bare)
    return spelled


def _refuse_slip(option: str, word: str, values: tuple[str, ...], bare: str) -> None:
    if word in _VALUES or any(_is_slip(word.lower(), one) for one in _VALUES):
        raise InvalidArgument(
            f"{option}: there is no {word!r}, only {', '.join(values)}; where it is the name of a "
            f"VM or snapshot: {bare} {word}"
        )


def _is_slip(word: str, meant: str) -> bool:
    """Whether they are the same but for one letter, or for their order. Pure."""
    if sorted(word) == sorted(meant):
        return True
    if abs(len(word) - len(meant)) == 1:
        short, long = sorted((word, meant), key=len)
        return short in _without_one(long)
    pairs = zip(word, meant, strict=False)
    return len(word) == len(meant) and sum(a != b for a, b in pairs) == 1


def _without_one(word: str) -> Iterable[str]:
    return (word[:n] + word[n + 1 :] for n in range(len(word)))

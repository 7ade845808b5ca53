"""As much of a terminal as a drawn line needs: what is seen on it after all that was written."""

from __future__ import annotations

import re

from wcwidth import wcwidth

_PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n])", re.DOTALL)


class Screen:
    """lines: what is seen; most: the most lines there ever were; hidden: is the cursor."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.cells: list[list[str]] = [[]]
        self.row = self.column = 0
        self.hidden = False
        self.most = 1

    @property
    def lines(self) -> list[str]:
        return ["".join(line).rstrip() for line in self.cells]

    def write(self, written: str) -> None:
        """AssertionError for anything that this terminal does not know."""
        end = 0
        for found in _PARTS.finditer(written):
            assert found.start() == end, repr(written[end : end + 20])
            end = found.end()
            arguments, sequence, control, letter = found.groups()
            if letter:
                self._put(letter)
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self._down()
            else:
                self._obey(arguments, sequence)
        assert end == len(written), repr(written[end : end + 20])

    def _put(self, letter: str) -> None:
        wide = wcwidth(letter)
        assert wide > 0, repr(letter)
        if self.column + wide > self.columns:
            self.column = 0
            self._down()
        line = self.cells[self.row]
        line += [" "] * (self.column + wide - len(line))
        line[self.column : self.column + wide] = [letter, *[""] * (wide - 1)]
        self.column += wide

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.cells):
            self.cells.append([])
        self.most = max(self.most, len(self.cells))

    def _obey(self, arguments: str, sequence: str) -> None:
        match sequence, arguments:
            case "K", "2":
                self.cells[self.row] = []
            case "K", ("" | "0"):
                del self.cells[self.row][self.column :]
            case "A", _:
                self.row -= int(arguments or "1")
                assert self.row >= 0
            case (("h" | "l"), "?25"):
                self.hidden = sequence == "l"
            case "m", _:
                pass
            case _:
                raise AssertionError(f"CSI {arguments} {sequence}")

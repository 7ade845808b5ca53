"""A job at work, drawn on one line of the terminal, which is wiped away afterwards.

Loaded only once something takes long: rich takes longer to load than most commands to run.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from . import colours, text

BAR = 20
"""Letters of a bar."""


class Line:
    """The line, on standard error: from the first show() to close()."""

    def __init__(self) -> None:
        paint = colours.wanted(sys.stderr)
        console = Console(
            file=sys.stderr, color_system="standard" if paint else None, no_color=not paint
        )
        self._progress = Progress(
            console=console,
            transient=True,
            auto_refresh=False,  # drawn by whoever calls, by no thread of its own
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=1.0, spent="")
        self._turning = (SpinnerColumn("line", style="cyan"), _About(), _SPENT)
        self._filling = (_About(), BarColumn(BAR, complete_style="cyan"), _SHARE, _SPENT)
        self._progress.columns = self._turning
        self._progress.start()
        console.show_cursor(True)  # a process that is killed would leave a terminal without one

    def show(self, about: str, share: float, spent: str) -> None:
        """Draw it anew. share: how much is done, 0..1; -1 = not known, and it only turns."""
        known = share >= 0
        self._progress.columns = self._filling if known else self._turning
        self._progress.update(
            self._task,
            # never finished: the spinner would stand still, and the end is told elsewhere
            completed=min(share, 0.999) if known else 0,
            description=text.safe(about),
            spent=text.safe(spent),
        )
        self._progress.refresh()

    def close(self) -> None:
        """Wipe it away."""
        self._progress.stop()


class _About(ProgressColumn):
    """What gives way where the terminal is narrow. Plain text: a VM may be called [red]."""

    def render(self, task: Task) -> Text:
        return Text(
            task.description, no_wrap=True, overflow="ellipsis" if text.can_print("…") else "crop"
        )


_SHARE = TextColumn("{task.percentage:.0f}%", markup=False)
_SPENT = TextColumn("{task.fields[spent]}", markup=False)

"""Progress: FiftyOne's bar, one for notebooks, a caller's function, or none."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fiftyone as fo
import fiftyone.core.context as focx

Progress = Callable[[int, int, str], None]
"""Called with the number of images done, their total, and the name of the phase."""

# Seconds between two drawings of a notebook's bar.
_REDRAW = 0.2


@contextmanager
def reporting(progress: bool | Progress | None) -> Iterator[Progress | None]:
    """Yield a function to report progress to, or None if there is no display."""
    if callable(progress):
        yield progress
        return
    if progress is None:
        progress = fo.config.show_progress_bars
    if not progress:
        yield None
        return
    if _in_notebook():
        yield _NotebookBar().report
        return
    bars = _Bars()
    try:
        yield bars.report
    finally:
        bars.close()


def _in_notebook() -> bool:
    """Return whether this process has a notebook to draw in.

    FiftyOne's context alone does not tell: commands that a notebook starts inherit it.
    """
    if not focx.is_notebook_context():
        return False
    from IPython import get_ipython

    return get_ipython() is not None


class _Bars:
    """One bar per phase, which starts with the first report of its phase."""

    def __init__(self) -> None:
        self._bar: fo.ProgressBar | None = None
        self._phase = ""

    def report(self, done: int, total: int, phase: str) -> None:
        if phase != self._phase:
            self.close()
            self._phase = phase
            self._bar = fo.ProgressBar(total=total, progress=True)
            self._bar.__enter__()
        assert self._bar is not None
        self._bar.set_iteration(done)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


class _NotebookBar:
    """One bar for all phases, which the notebook redraws in place.

    FiftyOne's prints each step over the last one, and a saved notebook keeps them all.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._phase = ""
        self._started = self._drawn = 0.0

    def report(self, done: int, total: int, phase: str) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._started = phase, now
        elif done < total and now - self._drawn < _REDRAW:
            return
        self._drawn = now
        text = f"{phase}: {done:,} of {total:,}"
        if 0 < done < total and now > self._started:
            left = (now - self._started) / done * (total - done)
            text += f", about {left:,.0f} s left"
        bar = f'<progress value="{done}" max="{total}"></progress> {html.escape(text)}'
        self._show({"text/plain": text, "text/html": bar})

    def _show(self, data: dict[str, str]) -> None:
        if self._handle is None:
            from IPython.display import display

            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

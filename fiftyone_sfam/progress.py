"""Progress of a run: FiftyOne's bar, a caller's function, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fiftyone as fo

Progress = Callable[[int, int, str], None]
"""Called with the number of images done, their total, and the name of the phase."""


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
    bars = _Bars()
    try:
        yield bars.report
    finally:
        bars.close()


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

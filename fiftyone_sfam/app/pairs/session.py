"""The newest state of each open panel, for events that were asked for before it.

The App sends with every event the panel's state as it is when the event is asked for.
It asks several times for ``on_load`` while a panel opens, and for ``on_change_...`` at
any time; what these answer may come after the answer to a click that was asked for
later, and would put the panel back to where it was. So events of one panel are answered
one after the other, and begin with the newest state.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

MOST_PANELS = 64
"""Panels that are remembered."""

RECENT_SECONDS = 30.0
"""How long an event can be under way. A panel that is opened later, by somebody else or
after a reload of the page, has a state of its own."""


@dataclass
class _Session:
    lock: threading.RLock = field(default_factory=threading.RLock)
    state: dict[str, Any] = field(default_factory=dict)
    step: int = -1
    time: float = 0.0


@lru_cache(maxsize=1)
def sessions() -> Sessions:
    """Return the sessions of this process.

    FiftyOne makes a new object of a panel's class for every event.
    """
    return Sessions()


class Sessions:
    """What was last answered to each of the panels that are open."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def in_turn(self, panel_id: str | None) -> Iterator[None]:
        """Wait for the other events of a panel."""
        with self._session(panel_id).lock:
            yield

    def newer(self, panel_id: str | None, step: int) -> dict[str, Any]:
        """Return the state that a panel has been given lately, if it is a newer one."""
        session = self._session(panel_id)
        recent = time.monotonic() - session.time < RECENT_SECONDS
        return dict(session.state) if recent and session.step > step else {}

    def keep(self, panel_id: str | None, step: int, state: dict[str, Any]) -> None:
        """Remember the state that a panel is given, by its paths."""
        session = self._session(panel_id)
        session.state, session.step = dict(state), step
        session.time = time.monotonic()

    def _session(self, panel_id: str | None) -> _Session:
        key = panel_id or ""
        with self._lock:
            session = self._sessions.setdefault(key, _Session())
            self._sessions.move_to_end(key)
            while len(self._sessions) > MOST_PANELS:
                self._sessions.popitem(last=False)
            return session

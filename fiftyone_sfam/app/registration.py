"""The operators and panels that the plugin offers to FiftyOne."""

from __future__ import annotations

OPERATORS: tuple[type, ...] = ()
PANELS: tuple[type, ...] = ()

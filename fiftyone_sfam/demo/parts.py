"""The parts of a person, and their values in a label image."""

from __future__ import annotations

PARTS = ("head", "upper", "lower", "shoes", "bag")
"""Names of the part labels 1, 2, ... in a label image; 0 is background."""

HEAD, UPPER, LOWER, SHOES, BAG = range(1, 6)

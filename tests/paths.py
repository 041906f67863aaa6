"""Folders of the project that the tests read and write."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
ARTIFACTS = TESTS / "artifacts"
"""Screenshots, for people to look at."""

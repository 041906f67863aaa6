"""Which bar shows progress."""

from __future__ import annotations

import fiftyone.core.context as focx
import pytest

from fiftyone_sfam.progress import reporting


def test_a_command_that_a_notebook_starts_prints_fiftyones_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What such a command inherits in the environment, where FiftyOne reads it once.
    monkeypatch.setattr(focx, "_context", "IPYTHON")
    with reporting(True) as report:
        report(10, 20, "embedding")
    printed = capsys.readouterr().out
    assert "| 10/20 [" in printed
    assert "progress" not in printed

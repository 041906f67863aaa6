"""What the oldest versions that are supported do not do."""

from __future__ import annotations

import pytest
import torch

needs_checkpoints = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6),
    reason="torch below 2.6 is given no checkpoints, see test_security",
)
"""For tests that read files of ``torch.save``."""

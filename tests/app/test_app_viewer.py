"""The component of the panel of pairs in the real App."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import fiftyone as fo
import pytest

from app_support import Console
from pairs_support import open_pairs

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_the_component_opens(
    crops: fo.Dataset, open_dataset: Callable[[fo.Dataset], Page]
) -> None:
    page = open_dataset(crops)
    console = Console(page)
    panel = open_pairs(page)
    panel.get_by_test_id("sfam-viewer").wait_for()
    assert not console.errors

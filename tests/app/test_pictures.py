"""The pictures of the docs: every step, on a small dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fiftyone as fo
import pytest
from PIL import Image

from app_support import Console
from fiftyone_sfam import Protocol, compare_runs, explain_retrieval
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.suspects.search import find_suspects
from fiftyone_sfam.runs.run import Run
from pictures import FRAMES, picture_audit, picture_compare, picture_pairs
from worlds import mislabel, small_crops, tiny_model

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with false matches, and with all that the pictures show of it."""
    dataset = small_crops(tmp_path_factory.mktemp("pictures"))
    mislabel(dataset, 5)
    protocol = Protocol(identity_field="identity", camera_field="camera")
    run = explain_retrieval(
        dataset, "demo", k=3, kinds=("sfam", "evidence"), protocol=protocol
    )
    evaluate_retrieval(run)
    build_ledger(run, "person")
    find_suspects(run)
    yield run
    dataset.delete()


def test_pictures_of_pairs(
    audited: Run,
    open_dataset: Callable[[fo.Dataset], Page],
    page: Page,
    tmp_path: Path,
) -> None:
    console = Console(page)
    picture_pairs(open_dataset(audited.dataset), tmp_path)
    assert Image.open(tmp_path / "app.png").size == (1400, 900)
    with Image.open(tmp_path / "hover.webp") as animation:
        # Frames that are alike are stored once.
        assert FRAMES // 2 < animation.n_frames <= FRAMES
    assert (tmp_path / "hover.webp").stat().st_size < 2_000_000
    assert console.errors == []


def test_pictures_of_the_audit(
    audited: Run,
    open_dataset: Callable[[fo.Dataset], Page],
    page: Page,
    tmp_path: Path,
) -> None:
    console = Console(page)
    picture_audit(open_dataset(audited.dataset), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{name}.png" for name in ("audit", "scores", "regions")} | {
        "suspects.png",
        "why.png",
    }
    assert console.errors == []


def test_the_picture_of_a_comparison(
    audited: Run,
    open_dataset: Callable[[fo.Dataset], Page],
    page: Page,
    tmp_path: Path,
) -> None:
    console = Console(page)
    other = explain_retrieval(
        audited.dataset,
        tiny_model(),
        key="tiny",
        k=3,
        protocol=Protocol(identity_field="identity", camera_field="camera"),
    )
    compare_runs(audited, other, resamples=50)
    picture_compare(open_dataset(audited.dataset), tmp_path)
    assert Image.open(tmp_path / "compare.png").size == (1400, 1500)
    assert console.errors == []

"""What the tests of operators and panels share: small runs, contexts, comparisons."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from fiftyone.operators.executor import Executor
from PIL import Image

from demo_frames import load_demo_frames
from fiftyone_sfam.demo.dataset import load_demo_dataset
from fiftyone_sfam.demo.world import DefectPlan
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.run import load_run
from fiftyone_sfam.runs.run_config import field_paths

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Error, Locator, Page

PLUGIN = "@fiftyone-sfam/sfam"
ARTIFACTS = Path(__file__).parent / "artifacts"

IDENTITIES, PER_IDENTITY = 6, 6
IMAGES = IDENTITIES * PER_IDENTITY


def small_crops(folder: Path, name: str = "sfam-crops") -> fo.Dataset:
    """36 crops of 6 identities."""
    return load_demo_dataset(
        f"{name}-{uuid.uuid4().hex[:8]}",
        3,
        folder,
        identities=IDENTITIES,
        images_per_identity=PER_IDENTITY,
        defects=DefectPlan.none(),
    )


def small_frames(folder: Path, frames: int = 4) -> fo.Dataset:
    """Frames of four people."""
    return load_demo_frames(
        f"sfam-frames-{uuid.uuid4().hex[:8]}", 3, folder, frames=frames, identities=4
    )


def context(
    dataset: fo.Dataset, params: dict[str, Any] | None = None, **request: Any
) -> foo.ExecutionContext:
    """The context that the App's server makes for a request."""
    return foo.ExecutionContext(
        request_params={
            "dataset_name": dataset.name,
            "params": dict(params or {}),
            **request,
        },
        executor=Executor(),
    )


def requests(ctx: foo.ExecutionContext) -> list[tuple[str, dict[str, Any]]]:
    """What the App was asked to do, in order."""
    asked = ctx.executor.to_json()["requests"]
    return [(one["operator_uri"], one["params"] or {}) for one in asked]


def stored_numbers(dataset: fo.Dataset, key: str) -> dict[str, Any]:
    """Everything that a run has stored, but its key and its time."""
    run = load_run(dataset, key)
    found: dict[str, Any] = {
        f"pairs.{one.name}": getattr(run.pairs, one.name) for one in fields(Pairs)
    }
    found["items.sample_ids"] = run.items.sample_ids
    found["items.identities"] = run.items.identities
    found["items.cameras"] = run.items.cameras
    found["remainders"] = run.remainders
    found["embeddings"] = run.embeddings()
    for side in ("query", "gallery"):
        sides = [getattr(one, side) for one in run.many_maps(range(len(run.pairs)))]
        for kind in run.config.kinds:
            found[f"{side}.{kind}"] = np.stack([one.maps[kind] for one in sides])
        found[f"{side}.score"] = np.array([one.score for one in sides])
    heatmap, score, outcome, neighbors = field_paths(dataset, key, None)
    found["field.heatmap"] = np.stack(
        [one.map for one in dataset.exists(heatmap).values(heatmap)]
    )
    for path in (score, outcome):
        found["field" + path.removeprefix(key)] = dataset.values(path)
    for name in ("label", "confidence", "rank", "outcome", "neighbor_id", "distance"):
        path = f"{neighbors}.classifications.{name}"
        found[f"field.{name}"] = dataset.values(path)
    return found


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that two runs have stored the same, bit for bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == other[name].dtype, name
            assert value.tobytes() == other[name].tobytes(), name
        else:
            assert value == other[name], name


# --------------------------------------------------------------------------------------
# The App in a browser
# --------------------------------------------------------------------------------------


FIFTYONE_RACES = (
    # Its router, when a dataset is reloaded while its page loads.
    "entry is loading",
    # Its grid, when masks are painted anew while they are on their way to a worker,
    # which happens when a dataset is reloaded beside a panel; they are painted later.
    "Cannot perform Construct on a detached ArrayBuffer",
    "An ArrayBuffer is detached and could not be cloned",
)
"""What is in exceptions of FiftyOne's own pages that leave no trace."""


class Console:
    """What went wrong in a page, apart from the internet that it may not have."""

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        page.on("console", self._message)
        page.on("pageerror", self._exception)

    def _exception(self, error: Error) -> None:
        self._add(str(error))

    def _message(self, message: ConsoleMessage) -> None:
        source = message.location.get("url", "")
        elsewhere = source.startswith("http") and "//127.0.0.1" not in source
        if message.type == "error" and not elsewhere:
            self._add(f"{message.text} {source}")

    def _add(self, text: str) -> None:
        if not any(race in text for race in FIFTYONE_RACES):
            self.errors.append(text)


def keep_screenshot(page: Page, name: str) -> None:
    """Keep a picture of the page for people to look at."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def form_field(page: Page, label: str) -> Locator:
    """The input below a label of an operator's form."""
    return page.locator(f'xpath=//p[text()="{label}"]/following::input[1]')


def choose(page: Page, label: str, value: str) -> None:
    """Choose from a drop-down list of an operator's form."""
    form_field(page, label).fill(value)
    page.get_by_role("option").filter(has_text=re.compile(f"^{value}( |$)")).click()


def open_operator(page: Page, label: str) -> None:
    """Open an operator's form from the operator browser."""
    page.keyboard.press("`")
    page.get_by_placeholder("Search operations by name...").fill(label)
    page.get_by_text(label, exact=True).click()


def until(page: Page, condition: Callable[[], bool], what: str) -> None:
    """Wait until the App has caught up."""
    for _ in range(300):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the App never showed that {what}")


def pixels_of(locator: Locator) -> np.ndarray:
    """What is drawn of an element, float64, shape (h, w, 3)."""
    shot = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return np.asarray(shot, np.float64)


def painted(page: Page, locator: Locator) -> np.ndarray:
    """What is drawn of an element once it shows a picture that stays the same."""
    found = pixels_of(locator)
    for _ in range(100):
        page.wait_for_timeout(300)
        previous, found = found, pixels_of(locator)
        if found.std() > 10 and np.array_equal(previous, found):
            return found
    raise AssertionError("the App never showed the picture")


def ticked(page: Page, field: str) -> bool:
    """Tell whether a field is active in the sidebar."""
    return page.locator(f'[data-cy="checkbox-{field}"] input').is_checked()


def select(page: Page, looker: Locator) -> None:
    """Select a sample of the grid, or take its selection back."""
    counter = page.locator('[data-cy="action-manage-selected"]')
    before = counter.all_inner_texts()
    for _ in range(10):
        looker.hover()
        box = looker.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 12, box["y"] + 12)
        for _ in range(50):
            if counter.all_inner_texts() != before:
                return
            page.wait_for_timeout(100)
        # A grid that is being drawn anew does not take clicks.
    raise AssertionError(f"the App never counted the selection anew: {before!r}")


def open_sample(page: Page, looker: Locator) -> None:
    """Open a sample of the grid in the modal."""
    from playwright.sync_api import TimeoutError as TooLate

    modal = page.locator('[data-cy="modal"]')
    for _ in range(5):
        box = looker.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        try:
            modal.wait_for(timeout=10_000)
        except TooLate:
            # A grid that is being drawn anew does not take clicks.
            continue
        return
    raise AssertionError("the App never opened the sample")

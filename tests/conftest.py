"""Isolation from the machine's own FiftyOne, and the fixtures that all rooms share.

The environment is set while pytest imports this file, before any test module imports
FiftyOne, which reads it once. Child processes inherit it. The database that it names is
started before the first test, unless all selected tests are quick: those need neither
the database nor the App.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

import pytest
from app_server import start_app, stop_app
from hypothesis import HealthCheck, settings

from find_chromium import find_chromium
from paths import ARTIFACTS, ROOT, TESTS
from services import start_mongod, start_postgres, stop_mongod, stop_postgres

if TYPE_CHECKING:
    import fiftyone as fo
    from playwright.sync_api import Browser, Page

ASSETS = Path(
    os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
).resolve()

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # /dev/shm is 64 MB in a container.
    "--disable-dev-shm-usage",
]

# Files that keep several processes busy: a browser and the App, a cluster, copies of a
# run. Where processes share the files, one of these at a time is enough for two cores.
_SLOW = (
    "test_ray_engine",
    "test_crashes",
    "test_app_audit",
    "test_app_compare",
    "test_app_operators",
    "test_crashes_services",
    "test_app_panels",
    "test_plugin_loading",
    "test_verdicts_runs",
    "test_packaging",
)

# Folders and files whose tests need neither the database nor the App. Of these,
# `--quick` leaves out the tests that need the real embedders.
_QUICK = (
    "attribution",
    "network",
    "app/test_panel_audit_figures.py",
    "app/test_settings.py",
    "app/test_viewer_bundle.py",
    "audit/test_coherence_benchmark.py",
    "audit/test_evaluation.py",
    "audit/test_evaluation_scores.py",
    "audit/test_faithfulness.py",
    "audit/test_faithfulness_benchmark.py",
    "audit/test_regions.py",
    "audit/test_slices.py",
    "audit/test_suspects.py",
    "audit/test_suspects_pixels.py",
    "audit/test_verification.py",
    "data/test_images.py",
    "data/test_pair_list.py",
    "demo/test_demo_world.py",
    "models/test_fuzz_registry.py",
    "models/test_models_dlib.py",
    "models/test_models_names.py",
    "models/test_models_registry.py",
    "models/test_models_weights.py",
    "retrieval/test_given.py",
    "retrieval/test_retrieval.py",
    "runs/test_arrays.py",
    "runs/test_records.py",
    "runs/test_selection.py",
    "test_imports.py",
)

_failed = pytest.StashKey[bool]()
_scratch = Path(tempfile.mkdtemp(prefix="fiftyone-sfam-tests-"))
_plugins = _scratch / "plugins"
# A worker of xdist inherits the environment that its controller has changed below.
_own_uri = os.environ.setdefault(
    "SFAM_TESTS_OWN_DATABASE", os.environ.get("FIFTYONE_DATABASE_URI", "")
)
_database_name = f"sfam-tests-{uuid.uuid4().hex[:12]}"


def _isolate() -> None:
    _plugins.mkdir()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Processes that share the cores are slowed down by threads that share them.
        os.environ["OMP_NUM_THREADS"] = "1"
    (_plugins / "sfam").symlink_to(ROOT, target_is_directory=True)
    for name in [name for name in os.environ if name.startswith("FIFTYONE_")]:
        # How much the tests are to do is all that is said from outside.
        if name not in ("FIFTYONE_SFAM_FUZZ", "FIFTYONE_SFAM_KILLS"):
            del os.environ[name]
    os.environ.update(
        FIFTYONE_CONFIG_PATH=str(_scratch / "config.json"),
        FIFTYONE_APP_CONFIG_PATH=str(_scratch / "app_config.json"),
        FIFTYONE_DATABASE_NAME=_database_name,
        FIFTYONE_DATABASE_DIR=str(_scratch / "database"),
        FIFTYONE_DEFAULT_DATASET_DIR=str(_scratch / "datasets"),
        FIFTYONE_DATASET_ZOO_DIR=str(_scratch / "dataset-zoo"),
        FIFTYONE_MODEL_ZOO_DIR=str(_scratch / "model-zoo"),
        FIFTYONE_PLUGINS_DIR=str(_plugins),
        FIFTYONE_DO_NOT_TRACK="true",
        FIFTYONE_SHOW_PROGRESS_BARS="false",
        FIFTYONE_SFAM_MODELS=str(_scratch / "models.json"),
        FIFTYONE_SFAM_ASSETS=str(ASSETS),
    )


_isolate()
# How fast examples are drawn says nothing on a machine that has other work.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
# Keeps the port until the database takes it; nothing listens there before.
_reserved = socket.socket()
_reserved.bind(("127.0.0.1", 0))
_port: int = _reserved.getsockname()[1]
_mongod: Popen[bytes] | None = None
os.environ["FIFTYONE_DATABASE_URI"] = _own_uri or f"mongodb://127.0.0.1:{_port}"


@atexit.register
def _clean_up() -> None:
    # Registered before FiftyOne's own exit handlers, which need the database, and so
    # called after them.
    if _mongod is not None:
        stop_mongod(_mongod)
    elif _own_uri:
        import pymongo

        with pymongo.MongoClient(_own_uri) as client:
            client.drop_database(_database_name)
    shutil.rmtree(_scratch, ignore_errors=True)


def _is_quick(path: Path) -> bool:
    name = path.relative_to(TESTS).as_posix()
    return name in _QUICK or name.partition("/")[0] in _QUICK


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="only the test files that need neither the database nor the App",
    )


def pytest_configure(config: pytest.Config) -> None:
    missing = [name for name in _QUICK if not (TESTS / name).exists()]
    if missing:
        raise pytest.UsageError(
            f"tests/conftest.py names {missing}, which do not exist"
        )
    if config.getoption("quick"):
        # Nothing listens there: a test that asks for the database fails at once.
        os.environ["FIFTYONE_DATABASE_URI"] = (
            f"mongodb://127.0.0.1:{_port}/?serverSelectionTimeoutMS=500"
        )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("quick") or not collection_path.is_file():
        return None
    return not _is_quick(collection_path) or None


@pytest.fixture(scope="session", autouse=True)
def _database(request: pytest.FixtureRequest) -> None:
    """Start the database, if any of the selected tests may need it."""
    global _mongod
    quick = all(_is_quick(item.path) for item in request.session.items)
    if not _own_uri and not quick:
        _reserved.close()
        _mongod, _ = start_mongod(_scratch / "database", _port)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Put other files between the slow ones; leave out what is not quick."""
    if config.getoption("quick"):
        left_out = [item for item in items if "assets_dir" in item.fixturenames]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    stems = list(dict.fromkeys(item.path.stem for item in items))
    slow = [stem for stem in _SLOW if stem in stems]
    others = [stem for stem in stems if stem not in _SLOW]
    places = {stem: place / max(1, len(slow)) for place, stem in enumerate(slow)}
    places |= {stem: place / len(others) for place, stem in enumerate(others)}
    items.sort(key=lambda item: places[item.path.stem])


@pytest.fixture(scope="session")
def assets_dir() -> Path:
    """The real faces, persons and weights, which are no part of the project."""
    if not ASSETS.is_dir():
        pytest.skip(f"needs the real embedders and images, which are not at {ASSETS}")
    return ASSETS


@pytest.fixture(scope="session")
def plugins_dir() -> Path:
    """FiftyOne's plugins folder of this test run; links to this checkout."""
    return _plugins


@pytest.fixture
def make_dataset() -> Iterator[Callable[..., fo.Dataset]]:
    """Make empty datasets of unique names, deleted when the test ends."""
    import fiftyone as fo

    names: list[str] = []

    def make(name: str = "sfam-test", **kwargs: object) -> fo.Dataset:
        names.append(f"{name}-{uuid.uuid4().hex[:8]}")
        return fo.Dataset(names[-1], **kwargs)

    yield make
    for name in names:
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


@pytest.fixture
def dataset(make_dataset: Callable[..., fo.Dataset]) -> fo.Dataset:
    """One empty dataset, deleted when the test ends."""
    return make_dataset()


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """36 crops of 6 identities, without a run; a module's own fixture may add one."""
    from worlds import small_crops

    dataset = small_crops(tmp_path_factory.mktemp("crops"))
    yield dataset
    dataset.delete()


@pytest.fixture
def world(dataset: fo.Dataset, tmp_path: Path) -> fo.Dataset:
    """Twelve tiny people: three shots of four identities, by three cameras."""
    from worlds import fill

    return fill(dataset, tmp_path)


@pytest.fixture
def frames(dataset: fo.Dataset, tmp_path: Path) -> fo.Dataset:
    """Four tiny frames with three people each, in ``people``."""
    from worlds import fill_frames

    return fill_frames(dataset, tmp_path)


@pytest.fixture(scope="session")
def chromium() -> str:
    path = find_chromium()
    if path is None:
        message = "Chromium was not found: install it, or name one with CHROMIUM."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL with pgvector, of this test run."""
    folder = Path(tempfile.mkdtemp(prefix="fiftyone-sfam-postgres-"))
    try:
        process, uri = start_postgres(folder / "server")
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield uri
    stop_postgres(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def app_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the real App, on the database and the plugins of this test run."""
    log = tmp_path_factory.mktemp("app") / "app.log"
    process, url = start_app(log)
    yield url
    stop_app(process)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium per test module.

    While it lives, Playwright keeps an event loop running in this thread, which changes
    what ``foo.execute_operator`` returns: keep tests of operators in other modules.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=CHROMIUM_ARGS
        )
        yield browser
        browser.close()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep whether a test failed, for the fixtures that end after it."""
    outcome = yield
    item.stash[_failed] = item.stash.get(_failed, False) or outcome.get_result().failed


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A new page in a fresh context, 1400 x 900; photographed if its test fails."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    # Two of these tests may share the two cores of a small machine.
    page.set_default_timeout(60_000)
    yield page
    if request.node.stash.get(_failed, False):
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / f"failed_{request.node.name}.png")
    context.close()


@pytest.fixture
def open_dataset(page: Page, app_server: str) -> Callable[[fo.Dataset], Page]:
    """Open a dataset in the App and wait until its grid shows samples."""

    def open_dataset(dataset: fo.Dataset) -> Page:
        page.goto(f"{app_server}/datasets/{dataset.name}")
        # FiftyOne's advertisement lies over the panels.
        page.get_by_role("button", name="Dismiss").click()
        # It remembers which panel another page had in front of the grid.
        page.locator('[data-cy="panel-tab-samples"]').first.click()
        page.locator('[data-cy="looker"]').first.wait_for()
        return page

    return open_dataset

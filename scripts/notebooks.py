"""Execute the notebooks of ``examples/``, and write their outputs into them.

Usage: ``make notebooks``, or ``python scripts/notebooks.py NAME ...``. Each notebook
runs in a kernel and a database of its own, as for somebody who opens it. Its outputs
are written without what differs from run to run. Plotly figures get a picture, for
viewers that do not draw them, such as GitHub's.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image
from traitlets.config import Config

from find_chromium import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PLOTLY = "application/vnd.plotly.v1+json"
TIMEOUT = 300
_SIZE = (760, 360)
# Notes that say when a result was computed.
_TIMES = re.compile(r"<li>[^<]*\d{4}-\d\d-\d\dT[^<]*</li>")
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main(names: list[str]) -> None:
    paths = [EXAMPLES / f"{name}.ipynb" for name in names] or sorted(
        EXAMPLES.glob("*.ipynb")
    )
    with plotly_page() as page:
        for path in paths:
            start = time.monotonic()
            notebook = nbformat.read(path, as_version=4)
            with tempfile.TemporaryDirectory() as name, kernel(Path(name)) as client:
                execute(client, notebook)
            add_pictures(notebook, page)
            notebook.metadata = NotebookNode(_METADATA)
            nbformat.write(notebook, path)
            size, seconds = path.stat().st_size, time.monotonic() - start
            print(f"{path.name}: {size:,} bytes, {seconds:.0f} s", flush=True)


@contextmanager
def kernel(folder: Path, **environment: str) -> Iterator[NotebookClient]:
    """Start a kernel with a database of its own; end both."""
    settings = {
        **os.environ,
        "FIFTYONE_DATABASE_NAME": f"sfam_notebooks_{os.getpid()}",
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder),
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "OMP_NUM_THREADS": "1",
        "PLOTLY_RENDERER": "plotly_mimetype",
        # Of tqdm, where there is no ipywidgets.
        "PYTHONWARNINGS": "ignore:IProgress",
        "TMPDIR": str(folder),
        **environment,
    }
    # Of the process that starts the kernel.
    settings.pop("FIFTYONE_CONTEXT", None)
    client = NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=TIMEOUT,
        record_timing=False,
        coalesce_streams=True,
        # Sockets, not ports of the machine.
        config=Config(
            {"KernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}}
        ),
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel(env=settings):
        try:
            yield client
        finally:
            drop = "from fiftyone.core.odm import drop_database\ndrop_database()"
            execute(client, nbformat.v4.new_notebook(cells=[new_code_cell(drop)]))


def execute(client: NotebookClient, notebook: NotebookNode) -> None:
    """Execute a notebook in a running kernel, and write its outputs into it."""
    client.nb = notebook
    client.execute(cleanup_kc=False)
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if len(data) > 1:
                # Nothing shows it beside the other forms; it holds whole columns.
                data.pop("text/plain", None)
            if "text/html" in data:
                data["text/html"] = _TIMES.sub("", data["text/html"])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells of a notebook that are executed."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@contextmanager
def plotly_page() -> Iterator[Page]:
    """Open a page that draws Plotly's figures."""
    from playwright.sync_api import sync_playwright
    from plotly.offline import get_plotlyjs

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.set_content("<body></body>")
        page.add_script_tag(content=get_plotlyjs())
        yield page
        browser.close()


def add_pictures(notebook: NotebookNode, page: Page) -> None:
    """Add a picture to each figure of Plotly's in the outputs."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if PLOTLY in data:
                data["image/png"] = _picture(data[PLOTLY], page)


def _picture(figure: dict[str, Any], page: Page) -> str:
    """Draw a figure; return the base64 code of a PNG of few colors."""
    width, height = _SIZE
    url = page.evaluate(
        "([figure, size]) => Plotly.toImage(figure, {format: 'png', ...size})",
        [figure, {"width": width, "height": height}],
    )
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        stream = io.BytesIO()
        image.convert("RGB").quantize(64).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


if __name__ == "__main__":
    main(sys.argv[1:])

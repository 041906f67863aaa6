"""The operator that writes the report of a run.

The owner of the server chooses where reports are written, not the form: each run has a
folder below ``FIFTYONE_SFAM_REPORTS``.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.forms import choices
from fiftyone_sfam.app.forms.parameters import RunParameters, Text
from fiftyone_sfam.app.operators.base import Context, Results, RunOperator
from fiftyone_sfam.audit.decisions import NAME as DECISIONS
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models import known_name
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

LARGE = 200_000
"""Pairs from which a report is delegated unless the user says otherwise."""

REPORTS = "FIFTYONE_SFAM_REPORTS"
"""Environment variable that names the folder of all reports."""

MAX_DOWNLOAD = 32 * 2**20
"""Most bytes of a page that is sent to the browser."""

_MAX_NAME = 40
"""Most characters of a name in the name of a folder."""

_PARTS = {
    "evaluation": "the evaluation (SFAM: evaluate retrieval)",
    "suspects": "suspects (SFAM: find suspects)",
    "regions": "regions (SFAM: region ledger)",
}


class ReportParameters(RunParameters):
    """What the report shows."""

    images: bool = False
    model: Text | None = None


class WriteReport(RunOperator[ReportParameters]):
    """Writes what is known about a run: a page, tables, and corrections of labels."""

    config = foo.OperatorConfig(
        name="write_report",
        label="SFAM: write report",
        description="A page about a run that opens anywhere, and its tables",
        dynamic=True,
        allow_delegated_execution=True,
    )
    parameters = ReportParameters
    form_title = "Write the report of a run"
    result_title = "Report written"

    def is_large(self, ctx: Context, params: ReportParameters) -> bool:
        """Return whether the run has many pairs."""
        run = self.chosen_run(ctx, params)
        return run is not None and run.config.counts["pairs"] >= LARGE

    def add_run_inputs(
        self, ctx: Context, params: ReportParameters, inputs: types.Object, run: Run
    ) -> None:
        """Add whether to show images, and what the report will contain."""
        inputs.bool(
            "images",
            label="Include images",
            description="Shows the images and maps of the findings. Otherwise the page "
            "contains identities and file names, but no images",
            default=False,
        )
        stored = run.results.names()
        if params.images and DECISIONS in stored and run.config.contributions is None:
            models, problem = choices.model_choices()
            choices.add_choice(
                inputs,
                "model",
                models,
                label="Model of the run",
                description="Explains the examples of decisions, which otherwise have "
                "the maps of the similarity",
                problem=problem,
            )
        missing = [text for name, text in _PARTS.items() if name not in stored]
        text = "Replaces an earlier report of this run."
        if missing:
            text += f" Left out, since not computed yet: {', '.join(missing)}."
        inputs.view("state", types.Notice(label=text))

    def perform_on(self, ctx: Context, params: ReportParameters, run: Run) -> Results:
        """Write; see :func:`fiftyone_sfam.audit.report.write.write_report`."""
        from fiftyone_sfam.audit.report.write import write_report

        folder = report_folder(run)
        model = None if params.model is None else known_name(params.model)
        try:
            files = write_report(
                run, folder, images=params.images, overwrite=True, model=model
            )
        except DataError as error:
            # Users of the App may not learn where the folder of all reports is.
            raise DataError(str(error).replace(str(folder), folder.name)) from None
        size = files.page.stat().st_size
        # A delegated operation has no browser to send the page to.
        download = not ctx.delegated and size <= MAX_DOWNLOAD
        if download:
            encoded = base64.b64encode(files.page.read_bytes()).decode()
            ctx.ops.browser_download(
                f"data:text/html;base64,{encoded}", filename=f"{folder.name}.html"
            )
        return {
            "key": run.key,
            "folder": folder.name,
            "files": ", ".join(path.name for path in files.paths()),
            "megabytes": round(size / 2**20, 1),
            "downloaded": download,
        }

    def add_outputs(self, outputs: types.Object, results: Results) -> None:
        """Add the names of the folder and its files."""
        outputs.str("key", label="Run")
        outputs.str("folder", label="Folder, in the server's folder of reports")
        outputs.str("files", label="Files")
        outputs.float("megabytes", label="Size of the page, in megabytes")
        outputs.bool("downloaded", label="The page was sent to this browser")

    def __call__(
        self,
        sample_collection: SampleCollection,
        key: str,
        *,
        images: bool = False,
        model: str | None = None,
        delegate: bool = False,
    ) -> Any:
        """Run the operator from Python."""
        params = {"key": key, "images": images, "model": model}
        return self.call(sample_collection, params, delegate)


def reports_folder() -> Path:
    """Return the folder of all reports that operators write."""
    folder = os.environ.get(REPORTS)
    if folder:
        return Path(folder).expanduser()
    return Path(fo.config.default_dataset_dir).expanduser() / "sfam-reports"


def report_folder(run: Run) -> Path:
    """Return the folder of the report of a run."""
    unique = f"{run.dataset._doc.id}/{run.key}"
    digest = hashlib.sha256(unique.encode()).hexdigest()[:8]
    parts = [_file_name(run.dataset.name), _file_name(run.key), digest]
    return reports_folder() / "-".join(parts)


def _file_name(name: str) -> str:
    """Keep the characters of a name that file names of every system allow."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:_MAX_NAME].strip("-") or "unnamed"
